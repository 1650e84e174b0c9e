"""Estimates on a market's past decisions, in force until the next estimate; shared by the state models."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
Estimate = TypeVar("Estimate")


@dataclass(frozen=True, slots=True)
class Rolling:
    """When a model is estimated anew, and on what.

    Attributes
    ----------
    window : int
        Decisions in an estimation.
    start : int
        Decisions of a market before its first one.
    refit : int
        Decisions between estimations.
    """

    window: int = 1000
    start: int = 365
    refit: int = 60

    def __post_init__(self) -> None:
        if not 2 <= self.start <= self.window or self.refit < 1:
            raise ValueError(
                f"need 2 <= start <= window and refit >= 1, were {self.start}, {self.window} and {self.refit}"
            )


@dataclass(frozen=True, slots=True)
class Estimates(Generic[Estimate]):
    """What was estimated, and which estimate is in force at each row.

    Attributes
    ----------
    values : list
        In the order of estimation.
    which : numpy.ndarray of int, shape (rows,)
        Position in ``values``; -1 before the first.
    """

    values: list[Estimate]
    which: NDArray[np.int64]


def rolling_estimates(
    rows: pd.DataFrame, values: Array, *, estimate: Callable[[Array], Estimate | None], rolling: Rolling
) -> Estimates[Estimate]:
    """Estimate on one market's decisions (phase 0) at fixed positions; every phase uses the newest estimate.

    Parameters
    ----------
    rows : pandas.DataFrame
        ``time, phase`` of one market, in time order.
    values : numpy.ndarray, shape (rows, ...)
        What is estimated on; an estimate at a decision sees the ``window`` decisions that end with it.
    estimate : callable
        Returns an estimate, or None where it cannot: the last good one then stays in force.
    rolling : Rolling

    Examples
    --------
    >>> rows = pd.DataFrame({"time": pd.date_range("2024-01-01", periods=6), "phase": 0})
    >>> x = np.arange(6.0)
    >>> made = rolling_estimates(rows, x, estimate=np.mean, rolling=Rolling(window=3, start=2, refit=2))
    >>> [float(v) for v in made.values], made.which.tolist()
    ([0.5, 2.0, 4.0], [-1, 0, 0, 1, 1, 2])
    """
    decisions = np.flatnonzero(rows["phase"].to_numpy() == 0)
    times = rows["time"].to_numpy()
    found: list[Estimate] = []
    since = []
    for i in range(rolling.start - 1, len(decisions), rolling.refit):
        made = estimate(values[decisions[max(0, i + 1 - rolling.window) : i + 1]])
        if made is not None:
            found.append(made)
            since.append(times[decisions[i]])
    which = np.full(len(rows), -1, dtype=np.int64)
    if found:
        which = np.searchsorted(np.array(since), times, side="right") - 1
    return Estimates(found, which.astype(np.int64))


def chains(rows: pd.DataFrame) -> list[NDArray[np.int64]]:
    """Return the positions of each phase's rows: rows one cadence apart, in time order.

    Examples
    --------
    >>> [c.tolist() for c in chains(pd.DataFrame({"phase": [0, 1, 0, 1, 0]}))]
    [[0, 2, 4], [1, 3]]
    """
    phase = rows["phase"].to_numpy()
    return [np.flatnonzero(phase == p) for p in np.unique(phase)]
