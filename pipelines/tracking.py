"""MLflow behind one context manager: a run is logged if the server lets us, and never waits for it.

The only module that imports MLflow, and only when a run is tracked. All calls go through one background
thread in the order they were made; the job goes on meanwhile. Whatever goes wrong there (server down, slow,
refusing, disk full) becomes one sentence in :attr:`Run.problem` and a warning in the log, never an exception.
"""

import logging
import os
import queue
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pydantic import BaseModel

from calibrator.config import Config, TrackingConfig

PATIENCE: Final = 4.0
"""Seconds that a finished job waits for what is not logged yet."""
CREATION: Final = 20.0
"""Seconds allowed for creating a new SQLite file: work of this machine, not a server's silence."""
ENVIRONMENT: Final = {
    # With its defaults the client stalls for minutes when the server is down.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "2",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}
PARAMETERS_PER_CALL: Final = 100
METRICS_PER_CALL: Final = 1000
LONGEST_PARAMETER: Final = 500
NOT_IN_A_NAME: Final = re.compile(r"[^\w\-. /]")
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Call:
    """What to do with a client and a run; the call that ends the run is made even after a failure."""

    make: Callable[[Any, str], None]
    ends: bool = False


Calls = queue.SimpleQueue[_Call | None]


@dataclass(slots=True)
class Run:
    """One tracked run; every method returns at once. A run that is not tracked ignores what it is given.

    Attributes
    ----------
    run_id : str or None
        MLflow's identifier once the run was created.
    problem : str or None
        Why the run is not, or not completely, logged.

    Examples
    --------
    >>> run = Run()
    >>> run.log_metrics({"qlike": 0.34})
    >>> run.run_id, run.problem
    (None, None)
    """

    run_id: str | None = None
    problem: str | None = None
    _calls: Calls | None = None
    _opened: threading.Event = field(default_factory=threading.Event)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters; texts above 500 characters are cut."""
        items = [(key, str(value)[:LONGEST_PARAMETER]) for key, value in params.items()]

        def call(client: Any, run_id: str) -> None:
            from mlflow.entities import Param  # noqa: PLC0415 - MLflow is imported only when it is used

            for at in range(0, len(items), PARAMETERS_PER_CALL):
                part = [Param(key, value) for key, value in items[at : at + PARAMETERS_PER_CALL]]
                client.log_batch(run_id, params=part)

        self._put(call)

    def log_metrics(self, metrics: Mapping[str, float], *, step: int = 0) -> None:
        """Log finite numbers at a step; missing and infinite ones are left out.

        Characters of a name that MLflow refuses become underscores.
        """
        named = {NOT_IN_A_NAME.sub("_", key): float(value) for key, value in metrics.items()}
        items = [(key, value) for key, value in named.items() if isfinite(value)]

        def call(client: Any, run_id: str) -> None:
            from mlflow.entities import Metric  # noqa: PLC0415 - MLflow is imported only when it is used
            from mlflow.utils.time import get_current_time_millis  # noqa: PLC0415

            now = get_current_time_millis()
            for at in range(0, len(items), METRICS_PER_CALL):
                part = [Metric(key, value, now, step) for key, value in items[at : at + METRICS_PER_CALL]]
                client.log_batch(run_id, metrics=part)

        self._put(call)

    def log_figures(self, figures: Mapping[str, bytes]) -> None:
        """Log PNG pictures as ``figures/<name>.png``."""
        self.log_artifacts({f"figures/{name}.png": content for name, content in figures.items()})

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
        held = dict(artifacts)

        def call(client: Any, run_id: str) -> None:
            with TemporaryDirectory() as folder:
                for path, content in held.items():
                    file = Path(folder, path)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    file.write_bytes(content)
                client.log_artifacts(run_id, folder)

        self._put(call)

    def _put(self, call: Callable[[Any, str], None]) -> None:
        if self._calls is not None:
            self._calls.put(_Call(call))


@contextmanager
def tracked_run(
    home: Path, config: TrackingConfig, name: str, *, tags: Mapping[str, str] | None = None
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
    calls: Calls = queue.SimpleQueue()
    run = Run(_calls=calls)
    uri = config.uri or f"sqlite:///{(home / 'mlflow.db').absolute()}"
    remote = uri.startswith(("http://", "https://"))
    artifacts = None if config.uri else (home / "mlartifacts").absolute().as_uri()
    store = _Store(home, uri, config.experiment, artifacts, name, dict(tags or {}))
    worker = threading.Thread(target=_work, args=(run, store, calls), name="tracking", daemon=True)
    worker.start()
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    finally:
        _finish(run, worker, status, 0.0 if remote else CREATION)


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


@dataclass(frozen=True, slots=True)
class _Store:
    """Where a run goes, and what it is called."""

    home: Path
    uri: str
    experiment: str
    artifacts: str | None
    name: str
    tags: dict[str, str]


def _finish(run: Run, worker: threading.Thread, status: str, creation: float) -> None:
    """End the run and wait for the calls that are left, but not longer than is promised."""
    if run._calls is not None:  # noqa: SLF001 - the other half of this module
        run._calls.put(_Call(lambda client, run_id: client.set_terminated(run_id, status=status), ends=True))  # noqa: SLF001
        run._calls.put(None)  # noqa: SLF001
    run._opened.wait(creation)  # noqa: SLF001
    worker.join(PATIENCE)
    if worker.is_alive():
        run.problem = run.problem or f"tracking: not finished after {PATIENCE:g} s, the rest is left out"
    run._calls = None  # noqa: SLF001 - a run that is over ignores what it is given
    if run.problem is not None:
        _LOG.warning(run.problem)


def _work(run: Run, store: _Store, calls: Calls) -> None:
    """Make the calls in their order; after one that fails only the last, which ends the run."""
    opened: list[tuple[Any, str]] = []
    _attempt(run, store, lambda: opened.append(_open(store)))
    for client, run_id in opened:
        run.run_id = run_id
        run._opened.set()  # noqa: SLF001 - the other half of this module
        while (call := calls.get()) is not None:
            if run.problem is None or call.ends:
                _attempt(run, store, partial(call.make, client, run_id))
    run._opened.set()  # noqa: SLF001


def _attempt(run: Run, store: _Store, call: Callable[[], None]) -> None:
    """Call; the first failure becomes the run's problem."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - MLflow, SQLAlchemy, requests and the disk each raise their own
        reason = " ".join(str(error).split())[:300]
        run.problem = run.problem or f"tracking: {store.uri} failed, the run is not fully logged: {reason}"


def _open(store: _Store) -> tuple[Any, str]:
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    from mlflow.tracking import MlflowClient  # noqa: PLC0415 - takes seconds, and is not needed otherwise

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    store.home.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(tracking_uri=store.uri)
    found = client.get_experiment_by_name(store.experiment)
    experiment = (
        client.create_experiment(store.experiment, artifact_location=store.artifacts)
        if found is None
        else found.experiment_id
    )
    made = client.create_run(experiment, run_name=store.name, tags=store.tags)
    return client, str(made.info.run_id)
