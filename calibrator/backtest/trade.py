"""Against an incumbent: the same bad debt with less margin, and the same margin with less bad debt."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibrator.backtest.frontier import Bootstrap, Outcomes, comparable, per_day
from calibrator.backtest.kpis import BASIS_POINTS

Array = npt.NDArray[np.float64]
POINTS = 160
"""Scales at which a bootstrap sample's shortfall is known; in between it is read off the line."""


@dataclass(frozen=True, slots=True)
class Trade:
    """What one pooled constant on our margins makes of an incumbent's cost and bad debt.

    Attributes
    ----------
    rows, markets : int
        Compared.
    average_margin, shortfall_bp, coverage : float
        The incumbent's.
    our_margin, our_shortfall_bp, our_coverage : float
        Ours as published, before any scaling.
    less_margin : float
        Share of the incumbent's average margin that is saved at the same mean ``max(0, loss - margin)``;
        negative = ours needs more.
    less_margin_ends : (float, float)
        Interval by blocks of days.
    less_bad_debt : float
        Share of the incumbent's bad debt that is avoided at the same average margin; negative = ours leaves
        more; NaN where the incumbent has none.
    less_bad_debt_ends : (float, float)
    """

    rows: int
    markets: int
    average_margin: float
    shortfall_bp: float
    coverage: float
    our_margin: float
    our_shortfall_bp: float
    our_coverage: float
    less_margin: float
    less_margin_ends: tuple[float, float]
    less_bad_debt: float
    less_bad_debt_ends: tuple[float, float]


def trade(outcomes: Outcomes, ours: Array, theirs: Array, *, bootstrap: Bootstrap | None = None) -> Trade:
    """Scale our margins by one constant to an incumbent's bad debt, and to its average margin.

    Parameters
    ----------
    outcomes : Outcomes
    ours, theirs : numpy.ndarray, shape (rows,)
        Margins (fractions); rows on which either is missing are left out.
    bootstrap : Bootstrap, optional

    Raises
    ------
    DataError
        No row that both have a margin for.

    Examples
    --------
    >>> import pandas as pd
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> rows = pd.DataFrame({"market": "A", "origin": t, "side": "long"})
    >>> calm_and_wild = Outcomes(rows, np.array([[0.02], [0.02], [0.10], [0.10]]))
    >>> made = trade(calm_and_wild, np.array([0.02, 0.02, 0.10, 0.10]), np.full(4, 0.08))
    >>> round(made.shortfall_bp), round(made.less_margin, 3), round(made.less_bad_debt, 3)
    (100, 0.375, 1.0)
    """
    keep = comparable(outcomes, {("ours", 0.0): ours, ("theirs", 0.0): theirs})
    used, mine, other = outcomes.where(keep), ours[keep], theirs[keep]
    short = used.shortfall(other)
    debt = float(short.mean())
    equal_cost = float(other.mean() / mine.mean())
    equal_debt = _scale_for(used, mine, debt)
    left = float(used.shortfall(mine * equal_cost).mean())
    boot = bootstrap or Bootstrap()
    margin_samples, debt_samples = _samples(used, (mine, other, short), (equal_cost, equal_debt), boot)
    low, high = boot.ends(margin_samples)
    known = debt_samples[np.isfinite(debt_samples)]
    ends = boot.ends(known) if len(known) else (np.nan, np.nan)
    return Trade(
        rows=int(keep.sum()),
        markets=int(used.rows["market"].nunique()),
        average_margin=float(other.mean()),
        shortfall_bp=debt * BASIS_POINTS,
        coverage=1 - float(used.breaches(other).mean()),
        our_margin=float(mine.mean()),
        our_shortfall_bp=float(used.shortfall(mine).mean()) * BASIS_POINTS,
        our_coverage=1 - float(used.breaches(mine).mean()),
        less_margin=1 - equal_debt / equal_cost,
        less_margin_ends=(float(low), float(high)),
        less_bad_debt=1 - left / debt if debt > 0 else float("nan"),
        less_bad_debt_ends=(float(ends[0]), float(ends[1])),
    )


def _scale_for(outcomes: Outcomes, margin: Array, debt: float) -> float:
    """Smallest constant at which the mean shortfall is at most ``debt``, by halving to full precision.

    The mean shortfall falls in the constant, from the mean loss at zero to nothing at the largest ratio of a
    loss to its margin.
    """
    ratio = outcomes.loss / margin[:, None]
    low, high = 0.0, max(float(ratio.max()), 0.0)
    size = outcomes.loss.size
    flat, unit = outcomes.loss.ravel(), np.broadcast_to(margin[:, None], outcomes.loss.shape).ravel()
    for _ in range(60):
        middle = (low + high) / 2
        beyond = flat - middle * unit
        now = float(beyond[beyond > 0].sum()) / size
        low, high = (middle, high) if now > debt else (low, middle)
    return high


def _samples(
    outcomes: Outcomes, given: tuple[Array, Array, Array], scales: tuple[float, float], boot: Bootstrap
) -> tuple[Array, Array]:
    """Both gains in every bootstrap sample of days."""
    mine, other, short = given
    least, most = min(scales) / 3, max(float((outcomes.loss / mine[:, None]).max()), *scales) * 1.001
    grid = np.geomspace(max(least, 1e-9), most, POINTS)
    curve = np.stack([outcomes.shortfall(mine * c) for c in grid], axis=1)
    sums = per_day(np.column_stack([mine, other, short, curve]), outcomes.rows["origin"])
    drawn = boot.weights(len(sums)) @ sums
    cost = drawn[:, 1] / drawn[:, 0]
    debt, curves = drawn[:, 2], drawn[:, 3:]
    scale = np.array([np.interp(-d, -c, grid) for d, c in zip(debt, curves, strict=True)])
    left = np.array([np.interp(x, grid, c) for x, c in zip(cost, curves, strict=True)])
    with np.errstate(divide="ignore", invalid="ignore"):
        avoided = np.where(debt > 0, 1 - left / debt, np.nan)
    return 1 - scale / cost, avoided
