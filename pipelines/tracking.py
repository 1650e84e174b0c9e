"""MLflow behind one context manager: a run is logged if the server lets us, and never waits for it.

The only module that imports MLflow, and only when a run is tracked. All calls go through one background
thread in the order they were made; the job goes on meanwhile. Whatever goes wrong there (server down, slow,
refusing, disk full) becomes one sentence in :attr:`Run.problem` and a warning in the log, never an exception;
what was not sent is kept in ``home/unlogged/`` for :func:`sync`.
"""

import logging
import os
import queue
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from calibrator.config import Config
from calibrator.config_tracking import TrackingConfig
from calibrator.errors import ConfigError
from pipelines.journal import Entry, Journal, Kind, keep, kept, table_of
from pipelines.mlflow_client import Client, refused

PATIENCE: Final = 4.0
"""Seconds that a finished job waits for what is not logged yet."""
LOCAL_PATIENCE: Final = 30.0
"""The same for a file of this machine, which is no server: a busy machine takes its time."""
CREATION: Final = 20.0
"""Seconds allowed for creating a new SQLite file: work of this machine, not a server's silence."""
LONGEST_PARAMETER: Final = 500
NOT_IN_A_NAME: Final = re.compile(r"[^\w\-. /]")
PASSWORD: Final = re.compile(r"(?<=:)[^:/@]+(?=@)")
_LOG: Final = logging.getLogger(__name__)
Now = Callable[[], datetime]


@dataclass(slots=True)
class Run:
    """One tracked run; every method returns at once. A run that is not tracked ignores what it is given.

    Attributes
    ----------
    problem : str or None
        Why the run is not, or not completely, logged.

    Examples
    --------
    >>> run = Run()
    >>> run.log_metrics({"qlike": 0.34})
    >>> run.run_id, run.problem
    (None, None)
    """

    problem: str | None = None
    _name: str = ""
    _work: "_Work | None" = None

    @property
    def listens(self) -> bool:
        """Whether anything is logged: what is costly to make need not be made for nobody."""
        return self._work is not None

    @property
    def run_id(self) -> str | None:
        """MLflow's identifier once the run was created."""
        return self._work.journal.runs.get(self._name) if self._work is not None else None

    def child(self, name: str, *, tags: Mapping[str, str] | None = None) -> "Run":
        """Return a run below this one: a model, or a group of markets. It ends with its parent."""
        made = Run(_name=name, _work=self._work)
        made._put("start", {"name": name, "tags": dict(tags or {})})
        return made

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters; texts above 500 characters are cut."""
        self._put("params", {key: str(value)[:LONGEST_PARAMETER] for key, value in params.items()})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Tag the run."""
        self._put("tags", {key: str(value) for key, value in tags.items()})

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Log finite numbers at a step; missing and infinite ones are left out.

        Characters of a name that MLflow refuses become underscores.
        """
        self.log_series({key: {step: value} for key, value in metrics.items()})

    def log_series(self, series: Mapping[str, Mapping[int, float]]) -> None:
        """Log metrics at many steps at once; as :meth:`log_metrics` otherwise."""
        values = [
            [NOT_IN_A_NAME.sub("_", key), float(value), int(step)]
            for key, own in series.items()
            for step, value in own.items()
            if isfinite(float(value))
        ]
        self._put("metrics", {"values": values})

    def log_figures(self, figures: Mapping[str, bytes]) -> None:
        """Log PNG pictures as ``figures/<name>.png``."""
        self.log_artifacts({f"figures/{name}.png": content for name, content in figures.items()})

    def log_table(self, name: str, columns: Mapping[str, list[Any]]) -> None:
        """Log a table that MLflow shows in its pages, as ``tables/<name>.json``."""
        self._put("table", {"name": f"tables/{name}.json", "columns": table_of(columns)})

    def log_dataset(self, name: str, *, digest: str, source: str, profile: Mapping[str, object]) -> None:
        """Log what the run read, by digest."""
        content = {"name": name, "digest": digest[:36], "source": source}
        self._put("dataset", content | {"profile": {k: str(v) for k, v in profile.items()}})

    def log_texts(self, texts: Mapping[str, str]) -> None:
        """Log texts under their relative paths, UTF-8."""
        self.log_artifacts({path: text.encode() for path, text in texts.items()})

    def log_artifacts(self, artifacts: Mapping[str, bytes]) -> None:
        """Log contents under their relative paths, byte for byte.

        Raises
        ------
        ValueError
            A path is absolute or leaves the run's folder.
        """
        for path in artifacts:
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise ValueError(f"artifact path must stay inside the run, was {path!r}")
        self._put("artifacts", {}, dict(artifacts))

    def register(
        self, model: str, *, aliases: tuple[str, ...], tags: Mapping[str, str], path: str = "models"
    ) -> None:
        """Make the artifacts under ``path`` a version of a registered model, with aliases and tags."""
        self._put("version", {"model": model, "path": path, "aliases": list(aliases), "tags": dict(tags)})

    def _put(self, kind: Kind, content: dict[str, Any], files: dict[str, bytes] | None = None) -> None:
        if self._work is not None:
            self._work.put(Entry(self._name, kind, content, files or {}))


@dataclass(slots=True)
class _Work:
    """The journal, the queue to the background thread, and what both need."""

    journal: Journal
    uri: str
    home: Path
    now: Now | None
    opened: threading.Event = field(default_factory=threading.Event)
    queue: "queue.SimpleQueue[Entry | None]" = field(default_factory=queue.SimpleQueue)
    problem: str | None = None
    over: bool = False
    given_up: bool = False

    def put(self, entry: Entry) -> None:
        """Hand an entry over; one that comes after the end is ignored."""
        if self.over:
            return
        if self.now is not None:
            entry.content["at"] = int(self.now().timestamp() * 1000)
        self.journal.entries.append(entry)
        self.queue.put(entry)

    def attempt(self, call: Callable[[], object]) -> bool:
        """Call; the first failure becomes the problem."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - MLflow, SQLAlchemy, requests and the disk each raise their own
            reason = PASSWORD.sub("***", " ".join(str(error).split()))[:300]
            shown = PASSWORD.sub("***", self.uri)
            self.problem = self.problem or f"tracking: {shown} failed, the run is not fully logged: {reason}"
            return False
        return True


@contextmanager
def tracked_run(
    home: Path,
    config: TrackingConfig,
    name: str,
    *,
    tags: Mapping[str, str] | None = None,
    now: Now | None = None,
) -> Iterator[Run]:
    """Track what happens inside the block as one MLflow run.

    Parameters
    ----------
    home : pathlib.Path
        Holds ``mlflow.db`` and ``mlartifacts/`` unless ``config.uri`` names another store.
    config : TrackingConfig
        ``enabled: false`` gives a run that ignores everything and imports nothing.
    name : str
        Name of the run.
    tags : mapping of str to str, optional
    now : callable, optional
        The clock, for the times of what is logged; default: when the server gets it.

    Yields
    ------
    Run
        FINISHED after the block, FAILED if it raises (the exception goes on), RUNNING for ever if the process
        is killed. After the block ``Run.problem`` says what could not be logged. Leaving the block takes at
        most 5 seconds more than a new local database needs to be created.

    Examples
    --------
    >>> with tracked_run(Path("."), TrackingConfig(enabled=False), "demo") as run:
    ...     run.log_params({"level": 0.99})
    >>> run.problem is None
    True
    """
    if not config.enabled:
        yield Run()
        return
    local = f"sqlite:///{(home / 'mlflow.db').absolute()}"
    journal = Journal(config.uri or local, config.experiment, config.artifacts)
    work = _Work(journal, "", home, now)
    run = Run(_work=work)
    run._put("start", {"name": name, "tags": dict(tags or {})})  # noqa: SLF001 - the other half of this module
    worker = threading.Thread(target=_run, args=(work,), name="tracking", daemon=True)
    worker.start()
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    finally:
        _finish(run, work, worker, status, CREATION if config.uri is None else 0.0)


def secret(uri: str) -> str:
    """Fill in an address that is kept in the environment (``env:NAME``) or in a file (``secret:/path``).

    Raises
    ------
    ConfigError
        There is no such variable or file.

    Examples
    --------
    >>> secret("http://127.0.0.1:5000")
    'http://127.0.0.1:5000'
    """
    kind, _, where = uri.partition(":")
    try:
        if kind == "env":
            return os.environ[where]
        if kind == "secret":
            return Path(where).read_text(encoding="utf-8").strip()
    except (KeyError, OSError) as error:
        raise ConfigError(f"tracking.uri {uri}: there is no such secret") from error
    return uri


def flat_parameters(config: Config) -> dict[str, str]:
    """Return every setting of a run under its dotted key.

    Examples
    --------
    >>> flat_parameters(Config.model_validate({"data": {"source": "embedded"}}))["margin.limits.max_increase"]
    '0.2'
    """
    return dict(_flatten("", config.model_dump(mode="json", by_alias=True)))


def _flatten(prefix: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, str(value)


def sync(home: Path) -> list[str]:
    """Send what earlier jobs could not log; return one sentence per journal.

    A journal that is complete is removed. An entry that the server refuses is counted and dropped; a server
    that does not answer ends the attempt, and everything is kept.
    """
    out = []
    for path, journal in list(kept(home)):
        work = _Work(journal, journal.uri, home, None)
        client: list[Client] = []
        work.attempt(lambda work=work, client=client: client.append(_open(work)))  # type: ignore[misc]
        refusals = 0
        for entry in journal.waiting() if client else []:
            work.problem = None
            if not work.attempt(lambda entry=entry, client=client: _send(client[0], entry)):  # type: ignore[misc]
                refusals += 1
                if not client[0].refused:
                    break
            entry.done = True
        waiting = journal.waiting()
        if waiting:
            keep(home, path.name.removesuffix(".json"), journal)
            out.append(f"{path.name}: {len(waiting)} entries wait: {work.problem}")
        else:
            path.unlink()
            out.append(f"{path.name}: sent" + (f", {refusals} entries refused" if refusals else ""))
    return out


def _finish(run: Run, work: _Work, worker: threading.Thread, status: str, creation: float) -> None:
    """End the runs and wait for the calls that are left, but not longer than is promised."""
    for name in [e.run for e in work.journal.entries if e.kind == "start"][::-1]:
        work.put(Entry(name, "end", {"status": status}))
    work.queue.put(None)
    work.over = True  # a run that is over ignores what it is given
    work.opened.wait(creation)
    worker.join(LOCAL_PATIENCE if creation else PATIENCE)
    run.problem = work.problem
    if worker.is_alive():
        work.given_up = True  # what is kept for later must not be sent now as well
        run.problem = run.problem or f"tracking: not finished after {PATIENCE:g} s, the rest is left out"
    if run.problem is not None:
        _LOG.warning(run.problem)
        work.attempt(lambda: keep(work.home, _label(work.journal), work.journal))


def _label(journal: Journal) -> str:
    start = journal.entries[0].content
    name = re.sub(r"[^\w-]+", "-", str(start["name"]))
    return f"{start.get('at', 0):013d}-{name}-{os.getpid()}"


def _run(work: _Work) -> None:
    """Make the calls in their order; after one that fails only those which end runs."""
    client: list[Client] = []
    work.attempt(lambda: client.append(_open(work)))
    while (entry := work.queue.get()) is not None and not work.given_up:
        ends = entry.kind == "end" and entry.run in work.journal.runs
        if client and (work.problem is None or ends):
            item = entry
            entry.done = work.attempt(lambda item=item: _send(client[0], item))  # type: ignore[misc]
        if entry.kind == "start" and not entry.run:
            work.opened.set()
    work.opened.set()


def _open(work: _Work) -> Client:
    work.uri = secret(work.journal.uri)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    if not work.uri.startswith("http"):  # a database keeps no files, and MLflow would put them where it runs
        work.journal.artifacts = work.journal.artifacts or (work.home / "mlartifacts").absolute().as_uri()
    if work.uri.startswith("sqlite:"):
        work.home.mkdir(parents=True, exist_ok=True)
    return Client.open(work.uri, work.journal)


def _send(client: Client, entry: Entry) -> None:
    client.refused = False
    try:
        client.send(entry)
    except Exception as error:
        client.refused = refused(error)
        raise
