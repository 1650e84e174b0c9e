"""The ledger of jobs: who did what on which input, once; who may publish now; which model was live when.

One SQLite file per home. A job is a row; at most one row is ``running``. The row's number only grows and is
the fencing token: whoever lost the lease to a later row is told so before it publishes. Times are handed in.
"""

import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from calibrator.errors import LockError, PublishError

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  job TEXT NOT NULL, as_of TEXT, key TEXT, config TEXT, data TEXT, code TEXT,
  state TEXT NOT NULL CHECK (state IN ('running', 'done', 'repeated', 'failed', 'abandoned', 'lost')),
  owner TEXT NOT NULL, started TEXT NOT NULL, lease_until TEXT NOT NULL, ended TEXT,
  exit_code INTEGER, message TEXT, facts TEXT NOT NULL DEFAULT '{}'
);
CREATE UNIQUE INDEX IF NOT EXISTS one_at_a_time ON jobs (state) WHERE state = 'running';
CREATE UNIQUE INDEX IF NOT EXISTS once ON jobs (key) WHERE state = 'done';
CREATE INDEX IF NOT EXISTS by_job ON jobs (job, state, as_of);
CREATE TABLE IF NOT EXISTS models (
  id INTEGER PRIMARY KEY AUTOINCREMENT, decided TEXT NOT NULL, model TEXT NOT NULL,
  action TEXT NOT NULL CHECK (action IN ('promote', 'rollback')), reason TEXT NOT NULL, row INTEGER
);
CREATE INDEX IF NOT EXISTS by_decision ON models (decided);
CREATE TABLE IF NOT EXISTS alarms (
  id INTEGER PRIMARY KEY AUTOINCREMENT, raised TEXT NOT NULL, kind TEXT NOT NULL, action TEXT NOT NULL,
  since TEXT NOT NULL, message TEXT NOT NULL, cleared TEXT, row INTEGER
);
CREATE TABLE IF NOT EXISTS orders (
  id INTEGER PRIMARY KEY AUTOINCREMENT, job TEXT NOT NULL, as_of TEXT NOT NULL, asked TEXT NOT NULL,
  reason TEXT NOT NULL, row INTEGER, served TEXT, served_by INTEGER
);
"""
PATIENCE: Final = 30.0
"""Seconds to wait for another process's transaction; each lasts milliseconds."""


@dataclass(frozen=True, slots=True)
class Row:
    """One job of the ledger.

    Attributes
    ----------
    id : int
        Its number, the fencing token.
    job, state : str
    as_of, started, ended : datetime or None
    key : str or None
        Idempotency key, known once the input was read.
    owner, message : str
    exit_code : int or None
    facts : dict
        What it made: document, sequence, files with digests, MLflow run.
    """

    id: int
    job: str
    state: str
    as_of: datetime | None
    key: str | None
    owner: str
    started: datetime
    ended: datetime | None
    exit_code: int | None
    message: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two jobs the same: name, as-of, and the digests of settings, input and code.

    Examples
    --------
    >>> one = Identity("run", datetime(2024, 1, 1, tzinfo=UTC), "c", "d", "e")
    >>> one.key == Identity("run", datetime(2024, 1, 1, tzinfo=UTC), "c", "d", "e").key
    True
    >>> one.key == Identity("run", datetime(2024, 1, 2, tzinfo=UTC), "c", "d", "e").key
    False
    """

    job: str
    as_of: datetime
    config: str
    data: str
    code: str

    @property
    def key(self) -> str:
        """Idempotency key."""
        parts = (self.job, _text(self.as_of), self.config, self.data, self.code)
        return sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(slots=True)
class Ledger:
    """The ledger of one home; open it with :func:`open_ledger`.

    Examples
    --------
    >>> import tempfile
    >>> now = datetime(2024, 1, 1, tzinfo=UTC)
    >>> with tempfile.TemporaryDirectory() as home, open_ledger(Path(home)) as ledger:
    ...     token = ledger.start("run", None, now=now, lease=timedelta(minutes=5))
    ...     ledger.finish(token, "done", now=now, facts={"sequence": 1})
    ...     row = ledger.row(token)
    ...     row.state, row.facts
    ('done', {'sequence': 1})
    """

    _database: sqlite3.Connection

    def start(self, job: str, as_of: datetime | None, *, now: datetime, lease: timedelta) -> int:
        """Enter a job and return its token.

        A running row is taken over when its lease has run out, or when its process on this machine is gone.

        Raises
        ------
        LockError
            Another job holds the lease; says which and until when.
        """
        with self._transaction():
            found = self._database.execute(
                "SELECT id, job, owner, lease_until FROM jobs WHERE state = 'running'"
            ).fetchone()
            if found is not None:
                number, other, owner, until = found
                if _time(until) > now and not _gone(owner):
                    raise LockError(f"job {number} ({other}) of {owner} holds the ledger until {until}")
                self._database.execute(
                    "UPDATE jobs SET state = 'abandoned', ended = ?, message = ? WHERE id = ?",
                    (_text(now), "ended without a word; its lease was taken over", number),
                )
            made = self._database.execute(
                "INSERT INTO jobs (job, as_of, state, owner, started, lease_until)"
                " VALUES (?, ?, 'running', ?, ?, ?)",
                (job, _text(as_of), _owner(), _text(now), _text(now + lease)),
            )
            return int(made.lastrowid or 0)

    def identify(self, token: int, identity: Identity, *, now: datetime) -> Row | None:
        """Write down what a job works on; return the row that has done the same already, if one has."""
        self.hold(token, now=now)
        with self._transaction():
            self._database.execute(
                "UPDATE jobs SET as_of = ?, key = ?, config = ?, data = ?, code = ? WHERE id = ?",
                (_text(identity.as_of), identity.key, identity.config, identity.data, identity.code, token),
            )
        found = self._select("key = ? AND state = 'done'", (identity.key,))
        return found[0] if found else None

    def hold(self, token: int, *, now: datetime, lease: timedelta | None = None) -> None:
        """Check that a job still holds the ledger, and renew its lease.

        Raises
        ------
        LockError
            A later job took over: this one must not publish (fencing).
        """
        with self._transaction():
            (state,) = self._database.execute("SELECT state FROM jobs WHERE id = ?", (token,)).fetchone()
            if state != "running":
                raise LockError(
                    f"job {token} lost the ledger to a later one (it is {state}): nothing written"
                )
            if lease is not None:
                self._database.execute(
                    "UPDATE jobs SET lease_until = ? WHERE id = ?", (_text(now + lease), token)
                )

    def finish(
        self,
        token: int,
        state: str,
        *,
        now: datetime,
        exit_code: int = 0,
        message: str = "",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Close a row; one that was taken over stays abandoned."""
        with self._transaction():
            self._database.execute(
                "UPDATE jobs SET state = ?, ended = ?, exit_code = ?, message = ?, facts = ?"
                " WHERE id = ? AND state = 'running'",
                (state, _text(now), exit_code, message, json.dumps(dict(facts or {})), token),
            )

    def lose(self, number: int) -> None:
        """Say that what a done row made is not there any more; it may be done again."""
        with self._transaction():
            self._database.execute("UPDATE jobs SET state = 'lost' WHERE id = ?", (number,))

    def row(self, number: int) -> Row:
        """Return one row."""
        return self._select("id = ?", (number,))[0]

    def rows(self, *, job: str | None = None, state: str | None = None, most: int = 1000) -> list[Row]:
        """Return rows, the newest first."""
        return self._select(
            "(?1 IS NULL OR job = ?1) AND (?2 IS NULL OR state = ?2)", (job, state), most=most
        )

    def last_done(self, job: str) -> datetime | None:
        """Return the latest as-of that a job was done for."""
        (found,) = self._database.execute(
            "SELECT max(as_of) FROM jobs WHERE job = ? AND state = 'done'", (job,)
        ).fetchone()
        return _time(found) if found else None

    def decide(self, model: str, action: str, *, now: datetime, reason: str, row: int | None = None) -> None:
        """Write down which model is live from now on."""
        with self._transaction():
            self._database.execute(
                "INSERT INTO models (decided, model, action, reason, row) VALUES (?, ?, ?, ?, ?)",
                (_text(now), model, action, reason, row),
            )

    def live(self, at: datetime) -> dict[str, str] | None:
        """Return the model that was live at a time: ``model, decided, action, reason``; None before any."""
        found = self._database.execute(
            "SELECT model, decided, action, reason FROM models WHERE decided <= ?"
            " ORDER BY decided DESC, id DESC LIMIT 1",
            (_text(at),),
        ).fetchone()
        return dict(zip(("model", "decided", "action", "reason"), found, strict=True)) if found else None

    def decisions(self) -> list[dict[str, str]]:
        """Return every promotion and rollback in order."""
        names = ("model", "decided", "action", "reason")
        rows = self._database.execute(f"SELECT {', '.join(names)} FROM models ORDER BY id")  # noqa: S608 - names
        return [dict(zip(names, r, strict=True)) for r in rows]

    def alarm(
        self, kind: str, action: str, *, since: datetime, now: datetime, message: str, row: int | None
    ) -> None:
        """Write an alarm down; one that stands already is not repeated."""
        with self._transaction():
            standing = self._database.execute(
                "SELECT 1 FROM alarms WHERE kind = ? AND action = ? AND cleared IS NULL", (kind, action)
            ).fetchone()
            if standing is None:
                self._database.execute(
                    "INSERT INTO alarms (raised, kind, action, since, message, row)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (_text(now), kind, action, _text(since), message, row),
                )

    def clear(self, *, now: datetime, kinds: list[str]) -> None:
        """Take alarms back."""
        with self._transaction():
            self._database.executemany(
                "UPDATE alarms SET cleared = ? WHERE kind = ? AND cleared IS NULL",
                [(_text(now), kind) for kind in kinds],
            )

    def standing(self) -> list[dict[str, str]]:
        """Return the alarms that nobody took back."""
        names = ("kind", "action", "since", "raised", "message")
        rows = self._database.execute(
            f"SELECT {', '.join(names)} FROM alarms WHERE cleared IS NULL ORDER BY id"  # noqa: S608 - names
        )
        return [dict(zip(names, r, strict=True)) for r in rows]

    def order(self, job: str, *, as_of: datetime, now: datetime, reason: str, row: int | None) -> None:
        """Ask for a job that has to be done soon."""
        with self._transaction():
            self._database.execute(
                "INSERT INTO orders (job, as_of, asked, reason, row) VALUES (?, ?, ?, ?, ?)",
                (job, _text(as_of), _text(now), reason, row),
            )

    def ordered(self, job: str) -> list[str]:
        """Return why a job was asked for and not done yet."""
        rows = self._database.execute("SELECT reason FROM orders WHERE job = ? AND served IS NULL", (job,))
        return [reason for (reason,) in rows]

    def last_order(self, job: str) -> datetime | None:
        """Return the as-of at which a job was last asked for."""
        query = "SELECT max(as_of) FROM orders WHERE job = ?"
        (found,) = self._database.execute(query, (job,)).fetchone()
        return _time(found) if found else None

    def serve(self, job: str, *, now: datetime, row: int) -> None:
        """Say that what was asked for has been done, and by which row."""
        with self._transaction():
            self._database.execute(
                "UPDATE orders SET served = ?, served_by = ? WHERE job = ? AND served IS NULL",
                (_text(now), row, job),
            )

    def _select(self, where: str, values: tuple[object, ...], *, most: int = 1000) -> list[Row]:
        names = "id, job, state, as_of, key, owner, started, ended, exit_code, message, facts"
        rows = self._database.execute(
            f"SELECT {names} FROM jobs WHERE {where} ORDER BY id DESC LIMIT {int(most)}",  # noqa: S608 - ours
            values,
        ).fetchall()
        return [
            Row(i, job, state, _time(as_of), key, owner, _time(began), _time(ended), code, text or "",
                json.loads(facts))
            for i, job, state, as_of, key, owner, began, ended, code, text, facts in rows
        ]  # fmt: skip

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make everything inside the block one transaction: all of it, or nothing."""
        with self._transaction():
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self._database.in_transaction:
            yield
            return
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


@contextmanager
def open_ledger(home: Path) -> Iterator[Ledger]:
    """Open (and create) ``home/ledger.db``.

    Raises
    ------
    PublishError
        It cannot be opened or is not a ledger.
    """
    path = home / "ledger.db"
    try:
        home.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise PublishError(f"ledger {path}: cannot be opened: {error}") from error
    try:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(SCHEMA)
        yield Ledger(database)
    except sqlite3.Error as error:
        raise PublishError(f"ledger {path}: cannot be used: {error}") from error
    finally:
        database.close()


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _gone(owner: str) -> bool:
    """Whether the process of an owner on this machine has ended; of another machine nothing is known."""
    host, _, process = owner.rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(process) == os.getpid()


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat(timespec="microseconds")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text) if text else None  # type: ignore[return-value]
