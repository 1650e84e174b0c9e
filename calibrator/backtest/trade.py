"""Against an incumbent: the same bad debt with less margin, and the same margin with less bad debt."""

from dataclasses import dataclass
from typing import Self

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
    curve = _Falling.of(used, mine)
    equal_debt = curve.scale_for(debt)
    left = float(used.shortfall(mine * equal_cost).mean())
    boot = bootstrap or Bootstrap()
    margin_samples, debt_samples = _samples(used, curve, (mine, other, short), (equal_cost, equal_debt), boot)
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


@dataclass(frozen=True, slots=True)
class _Falling:
    """The mean shortfall as a function of one constant on our margins, largest loss to margin first.

    Attributes
    ----------
    ratio, loss, unit : numpy.ndarray, shape (losses above zero,)
        Loss over margin, falling; loss; margin.
    day : numpy.ndarray of int
        Day of each.
    size, days : int
        Losses in all, and days.
    """

    ratio: Array
    loss: Array
    unit: Array
    day: npt.NDArray[np.int64]
    size: int
    days: int

    @classmethod
    def of(cls, outcomes: Outcomes, margin: Array) -> Self:
        loss = outcomes.loss.ravel()
        unit = np.broadcast_to(margin[:, None], outcomes.loss.shape).ravel()
        day = np.repeat(outcomes.day, outcomes.loss.shape[1])
        ratio = loss / unit
        some = np.flatnonzero(ratio > 0)
        order = some[np.argsort(-ratio[some], kind="stable")]
        return cls(ratio[order], loss[order], unit[order], day[order], loss.size, int(outcomes.day.max()) + 1)

    @property
    def largest(self) -> float:
        """Constant from which on nothing is left uncovered."""
        return float(self.ratio[0]) if len(self.ratio) else 0.0

    def scale_for(self, debt: float) -> float:
        """Return the smallest constant at which the mean shortfall is at most ``debt``.

        Between two ratios the shortfall is a straight line, whose place and slope are running sums.
        """
        total, slope = np.cumsum(self.loss), np.cumsum(self.unit)
        at_ratio = (total - self.ratio * slope) / self.size
        n = int(np.searchsorted(at_ratio, debt, side="right"))
        return 0.0 if n == 0 else max(float((total[n - 1] - debt * self.size) / slope[n - 1]), 0.0)

    def per_day(self, scale: float) -> Array:
        """Sum of the shortfalls of each day at a constant."""
        n = int(np.searchsorted(-self.ratio, -scale, side="left"))
        beyond = self.loss[:n] - scale * self.unit[:n]
        return np.asarray(np.bincount(self.day[:n], weights=beyond, minlength=self.days), np.float64)


def _samples(
    outcomes: Outcomes,
    curve: _Falling,
    given: tuple[Array, Array, Array],
    scales: tuple[float, float],
    boot: Bootstrap,
) -> tuple[Array, Array]:
    """Both gains in every bootstrap sample of days."""
    least, most = min(scales) / 3, max(curve.largest, *scales) * 1.001
    grid = np.geomspace(max(least, 1e-9), most, POINTS)
    starts = outcomes.loss.shape[1]
    sums = np.column_stack(
        [
            per_day(np.column_stack(given), outcomes.day),
            np.stack([curve.per_day(c) / starts for c in grid], axis=1),
        ]
    )
    drawn = boot.weights(len(sums)) @ sums
    cost = drawn[:, 1] / drawn[:, 0]
    debt, curves = drawn[:, 2], drawn[:, 3:]
    scale = np.array([np.interp(-d, -c, grid) for d, c in zip(debt, curves, strict=True)])
    left = np.array([np.interp(x, grid, c) for x, c in zip(cost, curves, strict=True)])
    with np.errstate(divide="ignore", invalid="ignore"):
        avoided = np.where(debt > 0, 1 - left / debt, np.nan)
    return 1 - scale / cost, avoided
