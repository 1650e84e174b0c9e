"""The anti-procyclical layer: a long-run floor, and limits on how fast a margin may move."""

import numba
import numpy as np
from numpy.typing import NDArray

from calibrator.domain import HIGHEST, NOISE, PPM, ChangeLimits

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
WEEK, FORTNIGHT, YEAR = 5, 10, 365
ROOM = 2.0
"""ppm kept free at a limit, so that an initial margin rounded up from the maintenance margin obeys it too."""


@numba.njit(cache=True)
def _bounds(whole: Flags, out: Array, t: int) -> tuple[float, float, float, float, float]:
    """Lower of the last and the last whole margin before ``t``; lows of 5, 10, a year; high of a year."""
    last, low5, low10, low_year, high_year = np.inf, np.inf, np.inf, np.inf, out[t - 1]
    seen, k = 0, t - 1
    while k >= 0 and seen < YEAR:
        value = out[k]
        if not np.isnan(value):
            # A row counts by its place among the rows, and among the whole decisions if it is one.
            place = min(t - k, seen + 1) if whole[k] else t - k
            last = min(last, value) if place <= 1 else last
            low5 = min(low5, value) if place <= WEEK else low5
            low10 = min(low10, value) if place <= FORTNIGHT else low10
            low_year, high_year = min(low_year, value), max(high_year, value)
            seen += whole[k]
        k -= 1
    return last, low5, low10, low_year, high_year


@numba.njit(cache=True)
def _raised(value: float, share: float, base: float) -> float:
    """Return the most that a margin may rise to, see :meth:`calibrator.domain.ChangeLimits.raised`."""
    return max(value * (1 + share), value + share * base)


@numba.njit(cache=True)
def _next(
    target: Array, floor: Array, flags: tuple[Flags, Flags], limits: Array, out: Array, t: int
) -> float:
    """Return the margin of row ``t`` in whole ppm, given the rows before it; see :func:`limit`."""
    up, down, up5, up10, trough, base = limits
    whole, complete = flags
    goal = np.ceil(max(target[t], floor[t]) * PPM - NOISE)
    if np.isnan(goal):
        goal = out[t - 1] if t else np.nan
    if goal > HIGHEST:
        goal = float(HIGHEST)
    if t == 0 or np.isnan(out[t - 1]):
        return float(goal)
    goal = goal if complete[t] else max(goal, out[t - 1])
    last, low5, low10, low_year, high_year = _bounds(whole, out, t)
    highest = min(_raised(last, up, base), _raised(low5, up5, base), _raised(low10, up10, base))
    highest = min(highest, _raised(low_year, trough, base))
    highest = max(np.floor(highest - ROOM), out[t - 1])
    lowest = max(out[t - 1] * (1 - down), high_year / (1 + trough))
    lowest = min(np.ceil(lowest + ROOM), out[t - 1])
    return float(min(max(goal, lowest), highest))


@numba.njit(cache=True)
def _limited(
    target: Array, floor: Array, flags: tuple[Flags, Flags], limits: Array, out: Array, first: int
) -> None:
    """Follow ``target`` from row ``first`` on."""
    for t in range(first, len(target)):
        out[t] = _next(target, floor, flags, limits, out, t)


@numba.njit(cache=True)
def _unheld(
    target: Array, floor: Array, flags: tuple[Flags, Flags], limits: Array, out: Array, free: Array
) -> None:
    """Say what each row would have been after the rows that there are."""
    for t in range(len(target)):
        free[t] = _next(target, floor, flags, limits, out, t)


def limit(
    target: Array,
    floor: Array,
    *,
    limits: ChangeLimits,
    whole: Flags | None = None,
    complete: Flags | None = None,
) -> Array:
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
    whole : numpy.ndarray of bool, shape (decisions,), optional
        Decisions whose input, and the bars until the next decision, are complete; the others do not count as
        decisions, so that after a gap the margin moves by one decision's limit until the input is whole
        again; every limit holds from row to row as well. Entry ``k`` is used from decision ``k + 1`` on.
        Default: all.
    complete : numpy.ndarray of bool, shape (decisions,), optional
        Decisions whose own input is complete; at the others the margin holds or rises. Default: all.

    Returns
    -------
    numpy.ndarray
        Published margin per decision, a whole number of ppm below 1: rounded up, and down where a limit
        binds.

    Examples
    --------
    >>> target = np.array([0.10, 0.30, 0.30, 0.05])
    >>> limit(target, np.zeros(4), limits=ChangeLimits()).round(4).tolist()
    [0.1, 0.12, 0.144, 0.1296]
    """
    out = np.full(len(target), np.nan)
    every = np.ones(len(target), np.bool_)
    flags = (every if whole is None else whole, every if complete is None else complete)
    _limited(target, np.nan_to_num(floor, nan=0.0), flags, as_array(limits), out, 0)
    return out / PPM


def hold_adds(
    published: Array,
    target: Array,
    floor: Array,
    *,
    limits: ChangeLimits,
    flags: tuple[Flags, Flags],
    held: Flags,
) -> Array:
    """Say what a regime hold adds to each margin, given those before it: exactly what was applied.

    Parameters
    ----------
    published : numpy.ndarray, shape (decisions,)
        By :func:`limit` with ``complete & ~held``, everything else alike.
    target, floor, limits
        As there.
    flags : (numpy.ndarray, numpy.ndarray) of bool
        ``whole`` and ``complete`` as there.
    held : numpy.ndarray of bool, shape (decisions,)
        Decisions at which the regime keeps a margin from falling.

    Examples
    --------
    >>> target, none, every = np.array([0.10, 0.05, 0.05]), np.zeros(3), np.ones(3, np.bool_)
    >>> held, limits = np.array([False, True, False]), ChangeLimits()
    >>> published = limit(target, none, limits=limits, complete=~held)
    >>> hold_adds(published, target, none, limits=limits, flags=(every, every), held=held).round(4)
    array([0.  , 0.01, 0.  ])
    """
    if not held.any():
        return np.zeros(len(published))
    free, out = np.full(len(published), np.nan), np.round(published * PPM)
    none = np.nan_to_num(floor, nan=0.0)
    _unheld(target, none, flags, as_array(limits), out, free)
    return np.where(held, published - free / PPM, 0.0)


def limit_ahead(published: Array, path: Array, *, limits: ChangeLimits, whole: Flags | None = None) -> Array:
    """Continue published margins along a path of future targets, from every decision.

    Parameters
    ----------
    published : numpy.ndarray, shape (decisions,)
        What was published up to and including each decision.
    path : numpy.ndarray, shape (decisions, steps)
        Targets of the next decisions as expected at each decision.
    whole : numpy.ndarray of bool, shape (decisions,), optional
        As in :func:`limit`; the decision itself and those ahead count as whole.

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
    flags = np.ones(len(published), np.bool_) if whole is None else whole
    _ahead(np.round(published * PPM), path, flags, as_array(limits), out)
    return out / PPM


@numba.njit(cache=True)
def _ahead(published: Array, path: Array, whole: Flags, limits: Array, out: Array) -> None:
    rows, steps = path.shape
    for t in range(rows):
        begin = max(0, t + 1 - 2 * YEAR)
        past = t + 1 - begin
        flags = np.ones(past + steps, np.bool_)
        flags[: past - 1] = whole[begin:t]
        line = np.full(past + steps, np.nan)
        line[:past] = published[begin : t + 1]
        goal = np.full(past + steps, np.nan)
        goal[past:] = path[t]
        _limited(goal, np.zeros(past + steps), (flags, np.ones(past + steps, np.bool_)), limits, line, past)
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
            limits.min_base * PPM,
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
            out[t] = share * quantile(past, level)
    return out


def quantile(values: Array, level: float) -> float:
    """Return ``numpy.quantile(values, level)``, the same bits, without the time it takes to dispatch.

    Parameters
    ----------
    values : numpy.ndarray, shape (n,)
        Finite, at least one.
    level : float
        Between 0 and 1.

    Examples
    --------
    >>> quantile(np.array([4.0, 1.0, 3.0, 2.0]), 0.5)
    2.5
    """
    place = level * (len(values) - 1)
    below = int(place)
    above, share = min(below + 1, len(values) - 1), place - below
    ordered = np.partition(values, (below, above))
    low, high = float(ordered[below]), float(ordered[above])
    if share >= 0.5:
        return high - (high - low) * (1.0 - share)
    return low + (high - low) * share


def borrowed_floor(floor: Array, volatility: Array) -> Array:
    """Give a market without a long run of its own the floor of its peers, at its own volatility.

    ``volatility * median over the peers of (their floor / their volatility)``, decision by decision.

    Parameters
    ----------
    floor : numpy.ndarray, shape (decisions, markets, sides)
        Long-run floors (fraction); NaN = too little history.
    volatility : numpy.ndarray, shape (decisions, markets)
        Forecast over the close-out.

    Returns
    -------
    numpy.ndarray, shape (decisions, markets, sides)
        The same floors; NaN only where no peer has one or the volatility is unknown.

    Examples
    --------
    >>> floor = np.array([[[0.06], [0.10], [np.nan]]])
    >>> borrowed_floor(floor, np.array([[0.03, 0.04, 0.02]])).ravel().round(3).tolist()
    [0.06, 0.1, 0.045]
    """
    relative = floor / volatility[:, :, None]
    peers = np.full((len(floor), 1, floor.shape[2]), np.nan)
    some = np.isfinite(relative).any(axis=1)
    peers[:, 0, :][some] = np.nanmedian(np.moveaxis(relative, 1, 2)[some], axis=1)
    return np.where(np.isnan(floor), peers * volatility[:, :, None], floor)
