"""The three anti-procyclical tools of EMIR on top of a policy, and a policy brought to another's cost.

Commission Delegated Regulation (EU) No 153/2013, article 28 (1), asks a clearing house for one of: a buffer
of 25 % that may be exhausted, 25 % weight on stressed observations, or a floor from ten years of history.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.backtest.comparators import HistoricalSimulation, Policy, recalled
from calibrator.backtest.seen import Seen, Series

Array = npt.NDArray[np.float64]
YEAR: Final = HistoricalSimulation()
DECADE: Final = HistoricalSimulation(window=3650, min_decisions=365)


@dataclass(frozen=True, slots=True)
class ExhaustibleBuffer:
    """Article 28 (1) (a): a buffer on top in calm times, which a rising margin uses up.

    ``max(m, (1 + share) min(m, mean m))`` with the mean over the last ``window`` decisions.

    Attributes
    ----------
    base : Policy
    share : float
        Of the margin; at least 0.25 by the article.
    window : int
        Decisions of the mean above which the buffer is drawn.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.10, 0.10, 0.14, 0.1],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> policy = ExhaustibleBuffer(HistoricalSimulation(window=1, min_decisions=1), window=2)
    >>> policy.name, policy.margins(Seen.of(x), level=0.5).round(3).tolist()
    ('historical_simulation, buffer 25 %', [nan, 0.125, 0.125, 0.15])
    """

    base: Policy
    share: float = 0.25
    window: int = 22

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.base.name}, buffer {100 * self.share:.0f} %"

    def margins(self, seen: Seen, *, level: float) -> Array:
        """Return one margin (fraction) per row of ``seen``."""
        m = recalled(self.base, seen, level=level)

        def margin(one: Series) -> Array:
            own = m[one.rows]
            mean = pd.Series(own).rolling(self.window, min_periods=1).mean().to_numpy()
            raised: Array = np.maximum(own, (1 + self.share) * np.minimum(own, mean))
            return raised

        return seen.each(margin)


@dataclass(frozen=True, slots=True)
class StressedWeight:
    """Article 28 (1) (b): a quarter of the margin comes from the most stressed year known.

    ``max(m, (1 - weight) m + weight s)`` where ``s`` is the largest quantile that any ``window`` decisions
    known so far have had.

    Attributes
    ----------
    base : Policy
    weight : float
        Of the stressed observations; at least 0.25 by the article.
    stressed : HistoricalSimulation
        Quantile of one stretch of history.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.3, 0.1, 0.1, 0.1],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> day = HistoricalSimulation(window=1, min_decisions=1)
    >>> StressedWeight(day, stressed=day).margins(Seen.of(x), level=0.5).round(3).tolist()
    [nan, 0.3, 0.15, 0.15]
    """

    base: Policy
    weight: float = 0.25
    stressed: HistoricalSimulation = YEAR

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.base.name}, stressed weight {100 * self.weight:.0f} %"

    def margins(self, seen: Seen, *, level: float) -> Array:
        """Return one margin (fraction) per row of ``seen``; the base alone before a stretch is known."""
        m, s = (recalled(p, seen, level=level) for p in (self.base, self.stressed))

        def margin(one: Series) -> Array:
            own = m[one.rows]
            worst = np.fmax.accumulate(s[one.rows])
            mixed = (1 - self.weight) * own + self.weight * worst
            raised: Array = np.where(np.isnan(mixed), own, np.maximum(own, mixed))
            return raised

        return seen.each(margin)


@dataclass(frozen=True, slots=True)
class LongRunFloor:
    """Article 28 (1) (c): never below what ten years of history ask.

    Attributes
    ----------
    base : Policy
    history : HistoricalSimulation
        Its quantile is the floor; a shorter history counts as a whole, from a year on.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.3, 0.1, 0.1, 0.1],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> day = HistoricalSimulation(window=1, min_decisions=1)
    >>> policy = LongRunFloor(day, HistoricalSimulation(window=9, min_decisions=2))
    >>> policy.margins(Seen.of(x), level=0.5).round(3).tolist()
    [nan, 0.3, 0.2, 0.1]
    """

    base: Policy
    history: HistoricalSimulation = DECADE

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.base.name}, long-run floor"

    def margins(self, seen: Seen, *, level: float) -> Array:
        """Return one margin (fraction) per row of ``seen``; the base alone before there is a floor."""
        m = recalled(self.base, seen, level=level)
        floored: Array = np.where(np.isnan(m), m, np.fmax(m, recalled(self.history, seen, level=level)))
        return floored


@dataclass(frozen=True, slots=True)
class EqualAverage:
    """A policy at another's cost, by a constant that was known at the time.

    Every margin is multiplied by the ratio of both policies' averages over the trailing year, today's margins
    included, all markets and sides together: the causal twin of scaling by one constant afterwards.

    Attributes
    ----------
    base : Policy
    reference : Policy
        Whose average is matched.
    trailing : str

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.3, 0.1, 0.1, 0.1],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> day, two = (HistoricalSimulation(window=n, min_decisions=n) for n in (1, 2))
    >>> EqualAverage(day, two).margins(Seen.of(x), level=0.5).round(3).tolist()
    [nan, nan, 0.2, 0.15]
    """

    base: Policy
    reference: Policy
    trailing: str = "365D"

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.base.name} at the cost of {self.reference.name}"

    def margins(self, seen: Seen, *, level: float) -> Array:
        """Return one margin (fraction) per row of ``seen``; NaN before both policies have one."""
        m, r = (recalled(p, seen, level=level) for p in (self.base, self.reference))
        both = np.isfinite(m) & np.isfinite(r)
        frame = pd.DataFrame({"m": m, "r": r, "origin": seen.rows["origin"]})[both]
        sums = frame.groupby("origin").sum().sort_index().rolling(self.trailing).sum()
        scale = (sums["r"] / sums["m"]).reindex(seen.rows["origin"]).to_numpy(float)
        scaled: Array = np.where(both, m * scale, np.nan)
        return scaled
