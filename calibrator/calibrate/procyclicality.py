"""The anti-procyclical layer: a long-run floor, and limits on how fast a margin may move."""

import numba
import numpy as np
from numpy.typing import NDArray

from calibrator.domain import ChangeLimits

Array = NDArray[np.float64]
WEEK, FORTNIGHT, YEAR = 5, 10, 365


@numba.njit(cache=True)
def _limited(target: Array, floor: Array, limits: Array, out: Array, first: int) -> None:
    """Follow ``target`` from row ``first`` on, given the published rows before it; see :func:`limit`."""
    up, down, up5, up10, trough = limits
    for t in range(first, len(target)):
        goal = max(target[t], floor[t])
        if np.isnan(goal):
            goal = out[t - 1] if t else np.nan
        if t == 0 or np.isnan(out[t - 1]):
            out[t] = goal
            continue
        low5, low10, low_year, high_year = np.inf, np.inf, np.inf, 0.0
        for k in range(max(0, t - YEAR), t):
            value = out[k]
            if np.isnan(value):
                continue
            low_year, high_year = min(low_year, value), max(high_year, value)
            if k >= t - FORTNIGHT:
                low10 = min(low10, value)
            if k >= t - WEEK:
                low5 = min(low5, value)
        highest = min(out[t - 1] * (1 + up), low5 * (1 + up5), low10 * (1 + up10))
        highest = min(highest, low_year * (1 + trough))
        lowest = max(out[t - 1] * (1 - down), high_year / (1 + trough))
        out[t] = min(max(goal, lowest), highest)


def limit(target: Array, floor: Array, *, limits: ChangeLimits) -> Array:
    """Publish a margin that follows its target as fast as the limits allow, and never below its floor's pull.

    Parameters
    ----------
    target : numpy.ndarray, shape (decisions,)
        Margin before the anti-procyclical layer (fraction); NaN holds the last margin.
    floor : numpy.ndarray, shape (decisions,)
        Long-run floor (fraction); NaN = none.
    limits : ChangeLimits
        Increases over one, five and ten decisions are measured from the lowest margin in between, so that
        holding the last margin is always allowed; ``peak_to_trough`` binds over 366 decisions.

    Returns
    -------
    numpy.ndarray
        Published margin per decision.

    Examples
    --------
    >>> target = np.array([0.10, 0.30, 0.30, 0.05])
    >>> limit(target, np.zeros(4), limits=ChangeLimits()).round(4).tolist()
    [0.1, 0.12, 0.144, 0.1397]
    """
    out = np.full(len(target), np.nan)
    _limited(target, np.nan_to_num(floor, nan=0.0), as_array(limits), out, 0)
    return out


def limit_ahead(published: Array, path: Array, *, limits: ChangeLimits) -> Array:
    """Continue published margins along a path of future targets, from every decision.

    Parameters
    ----------
    published : numpy.ndarray, shape (decisions,)
        What was published up to and including each decision.
    path : numpy.ndarray, shape (decisions, steps)
        Targets of the next decisions as expected at each decision.

    Returns
    -------
    numpy.ndarray, shape (decisions, steps)
        The margins that the limits allow along the path.

    Examples
    --------
    >>> limit_ahead(np.array([0.10]), np.array([[0.2, 0.2]]), limits=ChangeLimits()).round(3).tolist()
    [[0.12, 0.144]]
    """
    out = np.empty_like(path)
    _ahead(published, path, as_array(limits), out)
    return out


@numba.njit(cache=True)
def _ahead(published: Array, path: Array, limits: Array, out: Array) -> None:
    rows, steps = path.shape
    for t in range(rows):
        begin = max(0, t + 1 - YEAR)
        past = t + 1 - begin
        line = np.full(past + steps, np.nan)
        line[:past] = published[begin : t + 1]
        goal = np.full(past + steps, np.nan)
        goal[past:] = path[t]
        _limited(goal, np.zeros(past + steps), limits, line, past)
        out[t] = line[past:]


def as_array(limits: ChangeLimits) -> Array:
    """Return the limits in the order that the kernels read them."""
    return np.array(
        [
            limits.max_increase,
            limits.max_decrease,
            limits.max_increase_5,
            limits.max_increase_10,
            limits.peak_to_trough,
        ]
    )


def long_run_floor(
    losses: Array, known: NDArray[np.int64], *, share: float, level: float, window: int, least: int
) -> Array:
    """Share of the historical-simulation quantile, from losses known at each decision.

    Parameters
    ----------
    losses : numpy.ndarray, shape (decisions, starts)
        Losses of one market and side; NaN where unknown.
    known : numpy.ndarray of int, shape (decisions,)
        Row of the first decision at which all losses of this one are known.
    share, level, window, least : float, float, int, int
        Share of the quantile kept; its level; decisions of history; fewest decisions.

    Returns
    -------
    numpy.ndarray, shape (decisions,)
        NaN where there is too little history.

    Examples
    --------
    >>> x = np.arange(6.0)[:, None]
    >>> long_run_floor(x, np.arange(1, 7), share=0.5, level=0.5, window=3, least=2).tolist()
    [nan, nan, 0.25, 0.5, 1.0, 1.5]
    """
    out = np.full(len(losses), np.nan)
    for t in range(1, len(losses)):
        rows = slice(max(0, t - window), t)
        past = losses[rows][known[rows] <= t]
        past = past[np.isfinite(past)]
        if len(past) >= least * losses.shape[1]:
            out[t] = share * np.quantile(past, level)
    return out
