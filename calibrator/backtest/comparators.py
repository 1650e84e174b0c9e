"""Simple rules as policy objects: yearly quantile, historical simulation, filtered historical simulation.

A policy sets a margin for every decision from what was known at its origin, and never looks further:
removing later rows changes no earlier margin, bit for bit.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.backtest.losses import ROW
from calibrator.backtest.seen import Seen, Series
from calibrator.errors import DataError

Array = npt.NDArray[np.float64]


class Policy(Protocol):
    """A rule that sets margins; the same shape for all of them."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def margins(self, seen: Seen, *, level: float) -> Array:
        """Return one margin (fraction) per row of ``seen``; NaN where the rule has none."""


def recalled(policy: Policy, seen: Seen, *, level: float) -> Array:
    """Return a policy's margins, computed once for all policies that rest on it."""
    key = (policy, level)
    if key not in seen.memory:
        seen.memory[key] = policy.margins(seen, level=level)
    return seen.memory[key]


def checked_level(level: float) -> float:
    """Return a level that lies between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, was {level}")
    return level


@dataclass(frozen=True, slots=True)
class Static:
    """Once a year, the quantile of all history known then.

    Attributes
    ----------
    min_decisions : int
        Decisions with known losses before the first margin, which is set as soon as they are there.

    Examples
    --------
    >>> t = pd.date_range("2023-12-30", periods=4, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.1, 0.2, 0.3, 0.4],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> Static(min_decisions=1).margins(Seen.of(x), level=0.5).round(3).tolist()
    [nan, 0.1, 0.15, 0.15]
    """

    min_decisions: int = 365

    @property
    def name(self) -> str:
        """What tables call it."""
        return "static"

    def margins(self, seen: Seen, *, level: float) -> Array:
        """Return one margin (fraction) per row of ``seen``."""
        checked_level(level)

        def margin(one: Series) -> Array:
            all_history = one.at(one.loss.expanding(self.min_decisions * one.starts).quantile(level))
            year = pd.Series(one.origins.year)
            available = np.isfinite(all_history)
            anew = (year != year.shift()).to_numpy() & available
            anew[np.flatnonzero(available)[:1]] = True
            held: Array = pd.Series(all_history).where(anew).ffill().to_numpy()
            return held

        return seen.each(margin)


@dataclass(frozen=True, slots=True)
class HistoricalSimulation:
    """The quantile of the losses of the last ``window`` decisions known.

    Attributes
    ----------
    window, min_decisions : int
        Decisions in the window, and decisions with known losses needed in it.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.1, 0.2, 0.4, 0.9],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> policy = HistoricalSimulation(window=2, min_decisions=2)
    >>> policy.margins(Seen.of(x), level=0.5).round(3).tolist()
    [nan, nan, 0.15, 0.3]
    """

    window: int = 365
    min_decisions: int = 300

    @property
    def name(self) -> str:
        """What tables call it."""
        return "historical_simulation"

    def margins(self, seen: Seen, *, level: float) -> Array:
        """Return one margin (fraction) per row of ``seen``."""
        checked_level(level)
        options = {"window": self.window, "least": self.min_decisions}
        return seen.each(lambda one: one.rolling(one.loss, level=level, **options))


@dataclass(frozen=True, slots=True)
class Filtered:
    """Filtered historical simulation: past losses in units of their forecast volatility, times today's.

    ``margin_t = sqrt(v_t) * quantile(loss_s / sqrt(v_s))`` over the last ``window`` decisions known. With an
    option market's implied variance as ``v`` it is the implied-volatility-scaled margin.

    Attributes
    ----------
    model : str
        Of ``seen.variances``.
    window, min_decisions : int

    References
    ----------
    Barone-Adesi, G., Giannopoulos, K. and Vosper, L. (1999). VaR without correlations for portfolios of
    derivative securities. Journal of Futures Markets 19.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=3, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.1, 0.2, 0.4],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> v = pd.DataFrame({"market": "A", "origin": t, "variance": [0.01, 0.01, 0.04]})
    >>> policy = Filtered("har", window=2, min_decisions=2)
    >>> policy.name, policy.margins(Seen.of(x, {"har": v}), level=0.5).round(3).tolist()
    ('har_fhs', [nan, nan, 0.3])
    """

    model: str
    window: int = 730
    min_decisions: int = 300

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.model}_fhs"

    def margins(self, seen: Seen, *, level: float) -> Array:
        """Return one margin (fraction) per row of ``seen``."""
        checked_level(level)

        def margin(one: Series) -> Array:
            volatility = seen.volatility(self.model, one)
            units = one.loss / volatility[one.decision]
            options = {"window": self.window, "least": self.min_decisions}
            scaled: Array = volatility * one.rolling(units, level=level, **options)
            return scaled

        return seen.each(margin)


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Margins that were decided elsewhere, by level: the schedule that is challenged.

    Attributes
    ----------
    name : str
    by_level : mapping of float to pandas.DataFrame
        ``market, origin, side, margin``, one row per decision.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=2, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.1, 0.2],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> own = x.assign(margin=[0.3, 0.4])[["market", "origin", "side", "margin"]]
    >>> Given("ours", {0.99: own.iloc[1:]}).margins(Seen.of(x), level=0.99).tolist()
    [nan, 0.4]
    """

    name: str
    by_level: dict[float, pd.DataFrame]

    def margins(self, seen: Seen, *, level: float) -> Array:
        """Return one margin (fraction) per row of ``seen``; NaN at a level or row that is not given.

        Raises
        ------
        DataError
            Two margins for one row.
        """
        checked_level(level)
        if level not in self.by_level:
            return np.full(len(seen.rows), np.nan)
        own = self.by_level[level][[*ROW, "margin"]]
        if own.duplicated(ROW).any():
            raise DataError(f"{self.name}: one row per market, origin, side; some are duplicated")
        found: Array = seen.rows.merge(own, on=ROW, how="left")["margin"].to_numpy(float)
        return found
