"""Long-run floors at several levels at once, from one ordered window that moves with the decisions."""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def long_run_floors_at(
    losses: Array, known: Integers, *, share: float, levels: Sequence[float], window: int, least: int
) -> Array:
    """Share of the historical-simulation quantile at each level, from losses known at each decision.

    Bit for bit what :func:`calibrator.calibrate.procyclicality.long_run_floor` gives level by level.

    Parameters
    ----------
    losses : numpy.ndarray, shape (decisions, starts)
        Losses of one market and side; NaN where unknown.
    known : numpy.ndarray of int, shape (decisions,)
        Row of the first decision at which all losses of this one are known.
    share, levels, window, least : float, sequence of float, int, int
        Share of the quantile kept; its levels; decisions of history; fewest decisions.

    Returns
    -------
    numpy.ndarray, shape (decisions, levels)
        NaN where there is too little history.

    Examples
    --------
    >>> x, known = np.arange(6.0)[:, None], np.arange(1, 7)
    >>> long_run_floors_at(x, known, share=0.5, levels=(0.5, 1.0), window=3, least=2)[:, 1].tolist()
    [nan, nan, 0.5, 1.0, 1.5, 2.0]
    """
    out = np.full((len(losses), len(levels)), np.nan)
    enters = np.maximum(known, np.arange(len(losses)) + 1)
    order = np.argsort(enters, kind="stable")
    options = (share, window, least * losses.shape[1])
    _move(np.ascontiguousarray(losses), (enters, order), np.asarray(levels, float), options, out)
    return out


@numba.njit(cache=True)
def _move(
    losses: Array,
    entering: tuple[Integers, Integers],
    levels: Array,
    options: tuple[float, int, int],
    out: Array,
) -> None:
    enters, order = entering
    share, window, least = options
    rows, starts = losses.shape
    ordered = np.empty(rows * starts)
    count, due = 0, 0
    for t in range(1, rows):
        while due < rows and enters[order[due]] <= t:
            if order[due] >= t - window:
                count = _change(ordered, count, losses[order[due]], True)  # noqa: FBT003 - compiled
            due += 1
        gone = t - window - 1
        if gone >= 0 and enters[gone] < t:
            count = _change(ordered, count, losses[gone], False)  # noqa: FBT003 - compiled
        if count >= max(least, 1):
            _read(ordered[:count], levels, share, out[t])


@numba.njit(cache=True)
def _change(ordered: Array, count: int, losses: Array, enter: bool) -> int:  # noqa: FBT001 - compiled
    for loss in losses:
        if np.isfinite(loss):
            count = _insert(ordered, count, loss) if enter else _remove(ordered, count, loss)
    return count


@numba.njit(cache=True)
def _read(ordered: Array, levels: Array, share: float, out: Array) -> None:
    for i in range(len(levels)):
        place = levels[i] * (len(ordered) - 1)
        below = int(place)
        above, rest = min(below + 1, len(ordered) - 1), place - below
        low, high = ordered[below], ordered[above]
        mixed = high - (high - low) * (1.0 - rest) if rest >= 0.5 else low + (high - low) * rest
        out[i] = share * mixed


@numba.njit(cache=True)
def _insert(ordered: Array, count: int, value: float) -> int:
    at = np.searchsorted(ordered[:count], value)
    for k in range(count, at, -1):
        ordered[k] = ordered[k - 1]
    ordered[at] = value
    return count + 1


@numba.njit(cache=True)
def _remove(ordered: Array, count: int, value: float) -> int:
    at = np.searchsorted(ordered[:count], value)
    for k in range(at, count - 1):
        ordered[k] = ordered[k + 1]
    return count - 1
