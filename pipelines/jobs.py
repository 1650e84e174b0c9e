"""What every job has in common: lock, row in the ledger, deadline, log, metrics, run in MLflow."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from calibrator.config import Config
from calibrator.config_jobs import JobsConfig
from calibrator.config_tracking import TrackingConfig
from calibrator.errors import CalibratorError, DeadlineError, PublishError
from calibrator.publish.storage import lock
from pipelines.forecasting import Progress
from pipelines.ledger import Identity, Ledger, Row, open_ledger
from pipelines.metrics import write_metrics
from pipelines.store import config_digest
from pipelines.tracking import PASSWORD, Run, tracked_run
from pipelines.walks import code_digest

Now = Callable[[], datetime]
Valid = Callable[[Row], bool]
LINKS: Final = ("document", "sequence")
"""What of a row is also a tag of the job's run in MLflow."""
_LOG = logging.getLogger("pipelines")


@dataclass(slots=True)
class Job:
    """One job under the home's lock.

    Attributes
    ----------
    name : str
    home : pathlib.Path
    ledger : Ledger
    token : int
        Its row, and its fencing token.
    now : callable
        The clock.
    deadline : datetime
        Afterwards it publishes nothing.
    lease : timedelta
        How long it may be silent.
    began : datetime
    as_of : datetime or None
        What the job is about, once that is known.
    facts : dict
        What it made, for the row.
    gauges : dict
        What it measured, for the metrics: name with labels to value.
    repeated : Row or None
        The row that has done the same before, once the job was identified.
    """

    name: str
    home: Path
    ledger: Ledger
    token: int
    now: Now
    deadline: datetime
    lease: timedelta
    began: datetime
    as_of: datetime | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    gauges: dict[str, float] = field(default_factory=dict)
    repeated: Row | None = None
    _beat: datetime | None = None

    def identify(
        self, config: Config | str, *, as_of: datetime, data: str, valid: Valid | None = None
    ) -> Row | None:
        """Say what the job works on; return the row of a job that did the same and whose files are there.

        Parameters
        ----------
        config : Config or str
            Settings, or their digest.
        as_of : datetime
        data : str
            Digest of the input.
        valid : callable, optional
            Whether what such a row made still holds; else it is done again.
        """
        self.as_of = as_of
        settings = config if isinstance(config, str) else config_digest(config)
        identity = Identity(self.name, as_of, settings, data, code_digest())
        found = self.ledger.identify(self.token, identity, now=self.now())
        if found is not None and not (_there(self.home, found) and (valid is None or valid(found))):
            self.ledger.lose(found.id)
            found = None
        self.repeated = found
        log(
            "identified",
            job=self.name,
            row=self.token,
            as_of=as_of,
            key=identity.key,
            repeats=found is not None,
        )
        return found

    @property
    def tags(self) -> dict[str, str]:
        """What links a run in MLflow with its row: ``job``, ``ledger_row`` and ``as_of``."""
        own = {"job": self.name, "ledger_row": str(self.token)}
        return own if self.as_of is None else own | {"as_of": self.as_of.isoformat()}

    @contextmanager
    def track(self, settings: TrackingConfig) -> Iterator[Run]:
        """Log what happens inside the block as the job's one parent run in MLflow.

        Enter it once the job is identified: what was done before logs nothing new. The run has the job's
        :attr:`tags`, at the end also the row's document and sequence, or the error; the row has its
        ``mlflow_run`` and where it was logged (unless that address holds a password).

        Parameters
        ----------
        settings : TrackingConfig
            ``enabled: false`` gives a run that ignores everything and imports nothing.
        """
        if settings.enabled and not PASSWORD.search(settings.uri or ""):
            self.facts["tracking"] = settings.model_dump(mode="json")
        name = f"{self.name} {self.as_of or self.now():%Y-%m-%d %H:%M}"
        tracked = Run()
        try:
            with tracked_run(self.home, settings, name, tags=self.tags, now=self.now) as tracked:
                try:
                    yield tracked
                except BaseException as error:
                    tracked.set_tags({"error": _said(error), "exit_code": _code(error)})
                    raise
                finally:
                    tracked.set_tags({k: self.facts[k] for k in LINKS if k in self.facts})
        finally:
            self.facts["mlflow_run"] = tracked.run_id

    def has_time(self) -> bool:
        """Whether less than half of the time until the deadline is gone: enough for what may wait."""
        return self.now() < self.began + (self.deadline - self.began) / 2

    def progress(self, report: Progress) -> Progress:
        """Return a progress callback that also renews the lease and watches the deadline."""

        def told(what: str, done: int, total: int) -> None:
            self.check()
            report(what, done, total)

        return told

    def check(self) -> None:
        """Renew the lease and watch the deadline; call it before anything is published.

        Raises
        ------
        DeadlineError
            The deadline has passed.
        LockError
            A later job took over.
        """
        now = self.now()
        if now > self.deadline:
            until = f"{self.deadline:%Y-%m-%d %H:%M:%S}"
            raise DeadlineError(f"{self.name}: not done by {until} (jobs.deadline): nothing published")
        if self._beat is None or now - self._beat > self.lease / 10:
            self.ledger.hold(self.token, now=now, lease=self.lease)
            self._beat = now

    def fence(self) -> None:
        """Check deadline and token at once: the last thing before a write that others see."""
        self._beat = None
        self.check()


@contextmanager
def job(
    name: str, config: Config | JobsConfig, *, home: Path, as_of: datetime | None, now: Now
) -> Iterator[Job]:
    """Run the block as one job of a home.

    Parameters
    ----------
    name : str
        The verb.
    config : Config or JobsConfig
        Lease and deadline.
    home : pathlib.Path
        Locked for as long as the block runs.
    as_of : datetime, optional
        Known before the data were read, or not.
    now : callable
        The clock.

    Raises
    ------
    LockError
        Another job runs in this home.
    PublishError
        The home cannot be written.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublishError(f"home {home}: cannot be created: {error.strerror}") from error
    settings = config.jobs if isinstance(config, Config) else config
    lease = timedelta(seconds=settings.lease)
    with lock(home / "run.lock"), open_ledger(home) as ledger:
        began = now()
        token = ledger.start(name, as_of, now=began, lease=lease)
        deadline = began + timedelta(seconds=settings.deadline)
        work = Job(name, home, ledger, token, now, deadline, lease, began, as_of)
        log("started", job=name, row=token, as_of=as_of)
        try:
            yield work
        except BaseException as error:
            _end(work, "failed", _code(error), _said(error))
            raise
        else:
            again = work.repeated
            text = f"same as job {again.id}" if again else ""
            _end(work, "repeated" if again else "done", 0, text)


def _end(work: Job, state: str, code: int, message: str) -> None:
    now = work.now()
    work.ledger.finish(work.token, state, now=now, exit_code=code, message=message, facts=work.facts)
    log("ended", job=work.name, row=work.token, state=state, exit_code=code, message=message)
    write_metrics(work.home, work.ledger, work.gauges, now=now)


def log(event: str, **fields: object) -> None:
    """Write one structured line to the log ``pipelines``."""
    _LOG.info(event, extra={"fields": fields})


def _code(error: BaseException) -> int:
    return error.exit_code if isinstance(error, CalibratorError) else CalibratorError.exit_code


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:500]


def _there(home: Path, row: Row) -> bool:
    """Whether what a row made is still there."""
    named = [home / path for path in row.facts.get("files", [])]
    published = not row.facts.get("published") or (home / "published").exists()
    return published and all(path.exists() for path in named)
