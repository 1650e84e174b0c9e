"""The frontier of margin policies: what each costs on average, covers and leaves uncovered, by level."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.backtest.kpis import BASIS_POINTS
from calibrator.backtest.losses import ROW
from calibrator.backtest.seen import Seen
from calibrator.errors import DataError

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
LEVELS: Final = (0.98, 0.985, 0.99, 0.995, 0.999)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Realized losses that policies are held against.

    Attributes
    ----------
    rows : pandas.DataFrame
        ``market, origin, side`` of every decision.
    loss : numpy.ndarray, shape (rows, starts)
        Fraction of notional; NaN where unknown.
    day : numpy.ndarray of int, shape (rows,)
        Number of the origin of each row, in time order.
    """

    rows: pd.DataFrame
    loss: Array
    day: Integers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "day", pd.factorize(self.rows["origin"], sort=True)[0])

    @classmethod
    def of(cls, seen: Seen) -> Self:
        """Take every row that policies saw; those without known losses are still among them."""
        return cls(seen.rows, seen.outcomes)

    def where(self, keep: Flags) -> Self:
        """Return some of the rows."""
        return type(self)(self.rows[keep].reset_index(drop=True), self.loss[keep])

    @property
    def known(self) -> Flags:
        """Rows whose losses are all known."""
        out: Flags = np.asarray(np.isfinite(self.loss).all(axis=1))
        return out

    @property
    def worst_day(self) -> Flags:
        """Rows of the origin with the largest mean worst loss."""
        worst = np.bincount(self.day, weights=self.loss.max(axis=1)) / np.bincount(self.day)
        out: Flags = self.day == int(worst.argmax())
        return out

    def shortfall(self, margin: Array) -> Array:
        """Mean over its starts of ``max(0, loss - margin)``, per row."""
        out: Array = np.maximum(self.loss - margin[:, None], 0.0).mean(axis=1)
        return out

    def breaches(self, margin: Array) -> Array:
        """Share of its starts that lost more than the margin, per row."""
        out: Array = (self.loss > margin[:, None]).mean(axis=1)
        return out


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Moving-block bootstrap of whole days: markets fall together, and bad days follow each other.

    Attributes
    ----------
    level : float
        Probability of an interval.
    block : int
        Consecutive days that stay together.
    draws, seed : int

    References
    ----------
    Künsch, H. (1989). The jackknife and the bootstrap for general stationary observations. Annals of
    Statistics 17.
    """

    level: float = 0.90
    block: int = 10
    draws: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.level < 1 or self.block < 1 or self.draws < 1:
            raise ValueError(
                f"level must be between 0 and 1, block and draws at least 1, were {self.level}, {self.block} "
                f"and {self.draws}"
            )

    def weights(self, days: int) -> Array:
        """Return how often each day is drawn, shape (draws, days).

        Examples
        --------
        >>> Bootstrap(block=2, draws=2).weights(4).sum(axis=1).tolist()
        [4.0, 4.0]
        """
        return _weights(self, days)

    def ends(self, samples: Array) -> tuple[Array, Array]:
        """Return both ends of the interval of samples (draws first)."""
        low, high = np.quantile(samples, [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return low, high


@lru_cache(maxsize=4)
def _weights(boot: Bootstrap, days: int) -> Array:
    block = min(boot.block, days)
    rng = np.random.default_rng(boot.seed)
    first = rng.integers(0, days - block + 1, (boot.draws, -(-days // block)))
    picked = (first[:, :, None] + np.arange(block)).reshape(boot.draws, -1)[:, :days]
    flat = (picked + np.arange(boot.draws)[:, None] * days).ravel()
    out: Array = np.bincount(flat, minlength=boot.draws * days).reshape(boot.draws, days).astype(float)
    out.setflags(write=False)
    return out


def per_day(values: Array, day: Integers) -> Array:
    """Sum rows (columns side by side) by day; shape (days, columns).

    Examples
    --------
    >>> per_day(np.array([[1.0], [2.0], [4.0]]), np.array([1, 0, 1])).tolist()
    [[2.0], [5.0]]
    """
    return np.stack([np.bincount(day, weights=column) for column in values.T], axis=1)


def frontier(
    outcomes: Outcomes, margins: Mapping[tuple[str, float], Array], *, bootstrap: Bootstrap | None = None
) -> pd.DataFrame:
    """Measure every policy at every level on the rows on which all of them have a margin.

    Parameters
    ----------
    outcomes : Outcomes
    margins : mapping of (str, float) to numpy.ndarray, shape (rows,)
        Margins (fractions) of a policy at a level.
    bootstrap : Bootstrap, optional

    Returns
    -------
    pandas.DataFrame
        Index ``policy, level``; ``rows``, ``average_margin``, ``coverage`` (share of starts),
        ``shortfall_bp`` (mean of ``max(0, loss - margin)`` in basis points of notional), both with ``_low``
        and ``_high`` ends of an interval by days, and ``shortfall_bp_without_worst_day``.

    Raises
    ------
    DataError
        No row on which every policy has a positive margin and all losses are known.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=2, tz="UTC").as_unit("us")
    >>> rows = pd.DataFrame({"market": "A", "origin": t, "side": "long"})
    >>> made = frontier(Outcomes(rows, np.array([[0.05], [0.20]])), {("flat", 0.99): np.array([0.1, 0.1])})
    >>> made[["average_margin", "coverage", "shortfall_bp"]].iloc[0].round(2).tolist()
    [0.1, 0.5, 500.0]
    """
    keep = comparable(outcomes, margins)
    used = outcomes.where(keep)
    columns = np.stack(
        [f(m[keep]) for m in margins.values() for f in (used.breaches, used.shortfall)], axis=1
    )
    sums = np.column_stack([per_day(columns, used.day), np.bincount(used.day)])
    boot = bootstrap or Bootstrap()
    drawn = boot.weights(len(sums)) @ sums
    low, high = boot.ends(drawn[:, :-1] / drawn[:, -1:])
    mean = columns.mean(axis=0)
    rest = columns[~used.worst_day]
    calm = rest.mean(axis=0) if len(rest) else np.full(columns.shape[1], np.nan)
    table = {}
    for i, (key, margin) in enumerate(margins.items()):
        b, s = 2 * i, 2 * i + 1
        table[key] = {
            "rows": float(keep.sum()),
            "average_margin": float(margin[keep].mean()),
            "coverage": 1 - mean[b],
            "coverage_low": 1 - high[b],
            "coverage_high": 1 - low[b],
            "shortfall_bp": mean[s] * BASIS_POINTS,
            "shortfall_bp_low": low[s] * BASIS_POINTS,
            "shortfall_bp_high": high[s] * BASIS_POINTS,
            "shortfall_bp_without_worst_day": calm[s] * BASIS_POINTS,
        }
    return pd.DataFrame(table).T.rename_axis(["policy", "level"]).astype({"rows": "int64"})


def comparable(outcomes: Outcomes, margins: Mapping[tuple[str, float], Array]) -> Flags:
    """Flag the rows on which all losses are known and every policy has a positive margin.

    Raises
    ------
    DataError
        There is none.
    """
    keep = outcomes.known
    for margin in margins.values():
        keep &= np.isfinite(margin) & (margin > 0)
    if not keep.any():
        raise DataError("frontier: there is no row with a positive margin of every policy and a known loss")
    return keep


def movement(outcomes: Outcomes, margin: Array) -> pd.DataFrame:
    """Lay one policy's margins out as ``frames.MARGINS``, for the procyclicality figures."""
    frame = outcomes.rows[ROW].assign(level=0.99, horizon=1, margin=margin, margin_unlimited=margin)
    return frame[np.isfinite(margin)].reset_index(drop=True)
