"""Offsets between underlyings: the worse end of a correlation range, per pair and direction."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrator.domain import PPM
from calibrator.netting import CorrelationRange, PortfolioRules

Array = NDArray[np.float64]


def correlation_bounds(rules: PortfolioRules) -> tuple[Array, Array]:
    """Return the lower and upper correlations as matrices, shape (U, U) each.

    A pair without a range gets -1 and 1: its risks simply add up.

    Examples
    --------
    >>> from calibrator.portfolio.fixed_grids import span_16
    >>> correlation_bounds(span_16(("A", "B"), price_range=0.1, volatility_range=0.2))[0].tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    symbols = {u.symbol: i for i, u in enumerate(rules.underlyings)}
    low, high = np.full((len(symbols), len(symbols)), -1.0), np.ones((len(symbols), len(symbols)))
    for pair in rules.correlations:
        i, j = symbols[pair.first], symbols[pair.second]
        low[i, j] = low[j, i] = pair.low_ppm / PPM
        high[i, j] = high[j, i] = pair.high_ppm / PPM
    np.fill_diagonal(low, 1.0)
    return low, high


@dataclass(frozen=True, slots=True)
class Combined:
    """The core requirement of several underlyings together.

    Attributes
    ----------
    total : float
        Quote currency.
    up, down : numpy.ndarray, shape (U,)
        Derivative of the total by each underlying's loss when prices rise, and when they fall: the total is
        the sum of derivatives times losses.

    Examples
    --------
    >>> Combined(1.0, np.ones(1), np.zeros(1)).total
    1.0
    """

    total: float
    up: Array
    down: Array


def combine(up: Array, down: Array, low: Array, high: Array) -> Combined:
    r"""Combine the worst losses of several underlyings.

    What an underlying loses either way, ``min(up, down)``, is added in full. The rest has a direction,
    :math:`e_i = down_i - up_i`, and is combined as if the worse end of the correlation range held,

    .. math:: \sqrt{\textstyle\sum_{ij} e_i e_j \rho_{ij}}, \quad
              \rho_{ij} = high_{ij} \text{ if } e_i e_j > 0 \text{ else } low_{ij},

    and never below what the rising or the falling side asks alone: a hedge in another underlying does not
    take the requirement below its larger side.

    Parameters
    ----------
    up, down : numpy.ndarray, shape (U,)
        Worst loss of each underlying in the scenarios where its price rises (or stays), and where it falls
        (or stays); not negative.
    low, high : numpy.ndarray, shape (U, U)
        Correlation bounds.

    Returns
    -------
    Combined
        Never negative, never above the sum of the larger losses, equal to it for ranges of -1 to 1.

    Notes
    -----
    With ``low <= 0`` and ``high = 1`` (the published default) the total never falls when a loss grows.

    Examples
    --------
    >>> ones = np.ones((2, 2))
    >>> long, short = np.array([0.0, 3.0]), np.array([4.0, 0.0])
    >>> [combine(long, short, np.where(np.eye(2), 1.0, low), ones).total for low in (-1.0, 0.0, 0.9)]
    [7.0, 5.0, 4.0]
    """
    both, e = np.minimum(up, down), down - up
    falls, rises = np.maximum(e, 0.0), np.minimum(e, 0.0)
    candidates = [_root(x, low, high) for x in (e, falls, rises)]
    total, slope = max(candidates, key=lambda found: found[0])
    added = float(both.sum())
    # min(up, down) moves with the smaller of the two, the direction with both.
    on_down, on_up = (down <= up).astype(float) + slope, (down > up).astype(float) - slope
    return Combined(added + total, on_up, on_down)


def _root(e: Array, low: Array, high: Array) -> tuple[float, Array]:
    """Root of the quadratic form and its derivative by ``e``."""
    rho = np.where(np.outer(e, e) > 0, high, low)
    np.fill_diagonal(rho, 1.0)
    weighted = rho @ e
    square = float(e @ weighted)
    root = float(np.sqrt(max(square, 0.0)))
    return root, np.where(e != 0, weighted, 0.0) / root if root > 0 else np.zeros(len(e))


def correlation_ranges(
    forecast: dict[tuple[str, str], float],
    stressed: dict[tuple[str, str], float],
    *,
    hedge: float,
    diversification: float,
) -> tuple[CorrelationRange, ...]:
    """Return the published ranges: forecast correlations, widened to what stress may make of them.

    The lower end is the smallest of forecast, stressed and ``hedge``; the upper end the largest of forecast
    and ``diversification``. Rounded outwards.

    Parameters
    ----------
    forecast, stressed : dict of (str, str) to float
        Correlation of each pair (in alphabetical order) now, and the lowest it had in its history; a missing
        or NaN value leaves the pair out, so that nothing is offset.
    hedge : float
        No offset counts a higher correlation than this: what is left of a hedge when it is needed.
    diversification : float
        No diversification counts a lower correlation than this.

    Raises
    ------
    ValueError
        ``hedge`` above ``diversification``, or one of them outside -1 to 1.

    Examples
    --------
    >>> made = correlation_ranges({("A", "B"): 0.8}, {("A", "B"): 0.3}, hedge=0.0, diversification=1.0)
    >>> (made[0].low_ppm, made[0].high_ppm)
    (0, 1000000)
    """
    if not -1 <= hedge <= diversification <= 1:
        raise ValueError(f"-1 <= hedge <= diversification <= 1 must hold, were {hedge}, {diversification}")
    out = []
    for pair, value in sorted(forecast.items()):
        worst = stressed.get(pair, np.nan)
        if not (np.isfinite(value) and np.isfinite(worst)):
            continue
        low = max(min(value, worst, hedge), -1.0)
        high = min(max(value, diversification), 1.0)
        out.append(CorrelationRange(*pair, int(np.floor(low * PPM)), int(np.ceil(high * PPM))))
    return tuple(out)
