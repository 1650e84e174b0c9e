"""Where independent pieces of a run are computed: here, in threads, in processes, or on a Dask cluster."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from calibrator.config_jobs import ComputeConfig
from calibrator.errors import ConfigError

T = TypeVar("T")
R = TypeVar("R")
PATIENCE: Final = 10
"""Seconds to wait for a scheduler."""


@dataclass(frozen=True, slots=True)
class Executor:
    """Maps a function over items; results come back in the order of the items, whatever computes them.

    Attributes
    ----------
    client : distributed.Client, optional
        Of a cluster; the rest does not matter then.
    workers : int
        How many items are computed at the same time.
    threads : bool
        In threads, which copy no frames: LightGBM and the compiled loops run side by side. Else in processes.

    Examples
    --------
    >>> list(SERIAL.map(str, [1, 2]))
    ['1', '2']
    """

    client: Any = None
    workers: int = 1
    threads: bool = False

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> Iterable[R]:
        """Apply ``function`` to every item; it and the items must not depend on each other."""
        if self.client is not None:
            return self._cluster(function, items)
        if self.workers > 1 and len(items) > 1:
            return self._threads(function, items) if self.threads else self._processes(function, items)
        return map(function, items)

    def _threads(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(function, items)

    def _processes(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        from joblib import Parallel, delayed  # noqa: PLC0415 - not needed by a serial run

        run = Parallel(n_jobs=self.workers, return_as="generator")
        yield from run(delayed(function)(item) for item in items)

    def _cluster(self, function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """Send the function (and the frames it holds) once, the items after it; lost tasks are done again."""
        held = self.client.scatter(function, broadcast=True, hash=False)
        futures = [self.client.submit(_call, held, item, pure=False, retries=3) for item in items]
        for future in futures:
            yield future.result()


SERIAL: Final = Executor()


def _call(function: Callable[[T], R], item: T) -> R:
    return function(item)


@contextmanager
def executor_of(config: ComputeConfig) -> Iterator[Executor]:
    """Yield the executor that a configuration asks for.

    Raises
    ------
    ConfigError
        Dask is asked for and not installed, or its scheduler does not answer.

    Examples
    --------
    >>> with executor_of(ComputeConfig(executor="serial")) as executor:
    ...     executor is SERIAL
    True
    """
    if config.executor == "serial":
        yield SERIAL
    elif config.executor in {"threads", "joblib"}:
        yield Executor(workers=config.workers, threads=config.executor == "threads")
    else:
        try:
            from distributed import Client  # noqa: PLC0415 - an optional dependency
        except ImportError as error:
            raise ConfigError("compute.executor: dask needs the extra `scale`") from error
        try:
            client = Client(config.scheduler, timeout=PATIENCE, set_as_default=False)  # type: ignore[no-untyped-call]
        except (OSError, TimeoutError) as error:
            raise ConfigError(f"compute.scheduler {config.scheduler}: does not answer: {error}") from error
        try:
            yield Executor(client=client)
        finally:
            client.close()  # type: ignore[no-untyped-call]
