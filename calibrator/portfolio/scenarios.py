"""Scenario grids from forecasts: price quantiles, volatility's own uncertainty, dampened extended moves."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibrator.domain import PPM, ppm_up
from calibrator.netting import LARGEST_MOVE, STATES, Scenario

Array = NDArray[np.float64]
LEVELS: Final = (0.50, 0.80, 0.95)
"""Levels of the inner price moves, below the level of the margin itself."""
EXTENDED: Final = ((2.0, 0.35), (4.0, 0.20))
"""Multiples of the largest move, and the share of their loss that counts."""
LEAST: Final = 100
"""Fewest observations from which a shift or a quantile is estimated."""


def scenarios(
    inner: int = len(LEVELS) + 1, extended: Sequence[tuple[float, float]] = EXTENDED
) -> tuple[Scenario, ...]:
    """Return the scenarios that every underlying shares.

    Every inner move, and no move, with volatility up, unchanged and down; the extended moves with volatility
    up and a share of the loss. Where volatility falls, the close-out has passed as well: that is the worst
    case of whoever is long options. Elsewhere no time passes, the worst case of whoever is short.

    Parameters
    ----------
    inner : int
        Price moves each way, at least 1.
    extended : sequence of (float, float)
        Multiple (above 1, rising) and share (above 0, at most 1).

    Returns
    -------
    tuple of Scenario
        ``3 * (2 * inner + 1) + 2 * len(extended)``; moves are counted from the lowest.

    Examples
    --------
    >>> len(scenarios()), len(scenarios(extended=()))
    (31, 27)
    """
    if inner < 1:
        raise ValueError(f"inner must be at least 1, was {inner}")
    out = len(extended)
    middle = out + inner
    made = [
        Scenario(move, state, PPM if state == "down" else 0, PPM)
        for move in range(out, out + 2 * inner + 1)
        for state in STATES
    ]
    for i, (_, share) in enumerate(extended, start=1):
        weight = max(round(share * PPM), 1)
        made += [Scenario(middle - inner - i, "up", 0, weight), Scenario(middle + inner + i, "up", 0, weight)]
    return tuple(made)


def price_moves(
    falls: Sequence[float], rises: Sequence[float], *, extended: Sequence[tuple[float, float]] = EXTENDED
) -> tuple[int, ...]:
    """Return the price moves of one underlying in ppm, from the lowest to the highest.

    Parameters
    ----------
    falls, rises : sequence of float
        Loss quantiles of the long and of the short side, rising, of equal number (fractions); the last is
        the margin. Rounded outwards; a quantile that does not rise by a ppm is moved up by one.
    extended : sequence of (float, float)
        As for :func:`scenarios`; a fall of ``r`` extended by ``m`` is ``1 - (1 - r) ** m``, a rise ``m r``:
        at a share below ``1 / m`` an extended move never binds a linear position.

    Raises
    ------
    ValueError
        Quantiles that do not rise, are not positive, or a fall of 100 %.

    Examples
    --------
    >>> price_moves([0.05, 0.10], [0.04, 0.12], extended=((2.0, 0.35),))
    (-190000, -100000, -50000, 0, 40000, 120000, 240000)
    """
    for side in (falls, rises):
        if not side or min(side) <= 0 or not np.isfinite(side).all() or any(np.diff(side) < 0):
            raise ValueError(f"quantiles must be positive and rise, were {list(side)}")
    if len(falls) != len(rises) or falls[-1] >= 1:
        raise ValueError(f"falls must be below 1 and as many as rises, were {list(falls)}, {list(rises)}")
    down = [*falls, *(1 - (1 - falls[-1]) ** m for m, _ in extended)]
    up = [*rises, *(m * rises[-1] for m, _ in extended)]
    lower, upper = _separate(down, PPM - 1), _separate(up, LARGEST_MOVE)
    return (*(-x for x in reversed(lower)), 0, *upper)


def _separate(values: Sequence[float], most: int) -> list[int]:
    """Round up to ppm and keep the values apart, none above ``most``."""
    out: list[int] = []
    for i, value in enumerate(values):
        ahead = len(values) - 1 - i
        out.append(min(max(ppm_up(value), out[-1] + 1 if out else 1), most - ahead))
    return out


def inner_shares(standardised: Array, level: float, levels: Sequence[float] = LEVELS) -> tuple[float, ...]:
    """Return how large the inner quantiles of standardised losses are, relative to the one at ``level``.

    Parameters
    ----------
    standardised : numpy.ndarray, shape (n,)
        Losses over forecast volatility; NaN is left out.
    level : float
        Of the margin, above all ``levels``.
    levels : sequence of float
        Rising.

    Returns
    -------
    tuple of float
        One per level, rising, within 0.02..0.98; even steps where fewer than ``LEAST`` losses are known.

    Examples
    --------
    >>> inner_shares(np.linspace(-1.0, 1.0, 1001), 0.995, (0.7475, 0.94625))
    (0.5, 0.901...)
    """
    if not all(0 < a < b for a, b in zip(levels, [*levels[1:], level], strict=True)):
        raise ValueError(f"levels must rise from above 0 to below {level}, were {list(levels)}")
    known = standardised[np.isfinite(standardised)]
    even = tuple((i + 1) / (len(levels) + 1) for i in range(len(levels)))
    if len(known) < LEAST:
        return even
    outer = float(np.quantile(known, level))
    if outer <= 0:
        return even
    inner = np.clip(np.quantile(known, levels) / outer, 0.02, 0.98)
    return tuple(float(x) for x in np.maximum.accumulate(inner))


def volatility_shifts(
    volatility: Array, steps: int, level: float, *, least: tuple[float, float] = (0.20, 0.15)
) -> tuple[float, float]:
    """Return how far a volatility forecast may rise and fall over the close-out, as relative shifts.

    Parameters
    ----------
    volatility : numpy.ndarray, shape (n,)
        Forecasts of one market at consecutive decisions.
    steps : int
        Decisions that a close-out spans.
    level : float
        Of the quantiles of the log changes.
    least : (float, float)
        Smallest shifts up and down.

    Returns
    -------
    up, down : float
        ``down`` at most 0.95. Where fewer than ``LEAST`` changes are known: 1.0 and 0.5.

    Examples
    --------
    >>> calm = np.exp(0.1 * np.sin(np.arange(500.0)))
    >>> [round(x, 3) for x in volatility_shifts(calm, 1, 0.99)]
    [0.2, 0.15]
    >>> volatility_shifts(calm[:50], 1, 0.99)
    (1.0, 0.5)
    """
    if steps < 1 or not 0.5 < level < 1:
        raise ValueError(f"steps must be at least 1 and level in 0.5..1, were {steps} and {level}")
    with np.errstate(invalid="ignore", divide="ignore"):
        change = np.log(volatility[steps:] / volatility[:-steps])
    known = change[np.isfinite(change)]
    if len(known) < LEAST:
        return 1.0, 0.5
    up = float(np.exp(np.quantile(known, level)) - 1)
    down = float(1 - np.exp(np.quantile(known, 1 - level)))
    return max(up, least[0]), min(max(down, least[1]), 0.95)


def forecast_correlations(returns: Array, decay: float) -> Array:
    """Return exponentially weighted correlations at the last row, shape (U, U).

    Parameters
    ----------
    returns : numpy.ndarray, shape (n, U)
        Log returns between decisions; NaN where a market did not trade: a pair uses the rows that both have.
    decay : float
        Weight of a return relative to the following one, in 0..1.

    Returns
    -------
    numpy.ndarray
        NaN for a pair with fewer than ``LEAST`` common rows.

    References
    ----------
    J.P. Morgan (1996). RiskMetrics technical document, 4th edition.

    Examples
    --------
    >>> x = np.random.default_rng(1).normal(size=(500, 1)) * [1.0, 2.0]
    >>> forecast_correlations(x, 0.97).round(6).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    if not 0 < decay < 1:
        raise ValueError(f"decay must lie in 0..1, was {decay}")
    weight = decay ** np.arange(len(returns) - 1, -1, -1.0)
    return _pairs(returns, weight)


def _pairs(returns: Array, weight: Array) -> Array:
    known = np.isfinite(returns)
    filled = np.where(known, returns, 0.0)
    both = known.T.astype(float) @ known.astype(float)
    cross = (filled * weight[:, None]).T @ filled
    square = (filled**2 * weight[:, None]).T @ known
    with np.errstate(invalid="ignore", divide="ignore"):
        out = cross / np.sqrt(square * square.T)
    np.fill_diagonal(out, 1.0)
    return np.where(both >= LEAST, np.clip(out, -1.0, 1.0), np.nan)


def stressed_correlations(returns: Array, window: int, level: float) -> Array:
    """Return the lowest correlations of the history: a low quantile over rolling windows, shape (U, U).

    Parameters
    ----------
    returns : numpy.ndarray, shape (n, U)
        As for :func:`forecast_correlations`.
    window : int
        Rows of a window, at least ``LEAST``.
    level : float
        Of the quantile, near 0.

    Returns
    -------
    numpy.ndarray
        NaN for a pair that never shares a whole window.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> a, b = rng.normal(size=(2, 1000))
    >>> mixed = np.column_stack([a, np.where(np.arange(1000) < 500, a, b)])
    >>> bool(stressed_correlations(mixed, 120, 0.01)[0, 1] < 0.1)
    True
    """
    if window < LEAST or not 0 <= level < 1:
        raise ValueError(f"window must be at least {LEAST} and level in 0..1, were {window} and {level}")
    ends = range(window, len(returns) + 1, max(1, window // 10))
    found = [_pairs(returns[end - window : end], np.ones(window)) for end in ends]
    if not found:
        return np.full((returns.shape[1],) * 2, np.nan)
    stacked = np.array(found)
    never = np.isnan(stacked).all(axis=0)
    out = np.nanquantile(np.where(never, 1.0, stacked), level, axis=0)
    return np.where(never, np.nan, out)
