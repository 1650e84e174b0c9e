"""Which starts a decision covers, and their losses: the bridge from bars to decisions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.config import Config, MarketConfig
from calibrator.domain import SIDES
from calibrator.features import Clock, future_losses

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Losses:
    """Losses of every start that each decision covers.

    Attributes
    ----------
    times : pandas.DatetimeIndex
        Union of the group's decisions.
    markets : list of str
        The group's markets.
    values : numpy.ndarray, shape (decisions, markets, sides, starts)
        Loss over the close-out (fraction), NaN where unknown.
    known : numpy.ndarray of int, shape (decisions, markets)
        Row of the first decision at which all losses of this one are known.
    known_at : numpy.ndarray of datetime64, shape (decisions, markets, starts)
        End of the bar at which each loss is known.
    """

    times: pd.DatetimeIndex
    markets: list[str]
    values: Array
    known: NDArray[np.int64]
    known_at: NDArray[np.datetime64]

    def of(self, markets: Sequence[str]) -> Self:
        """Return the losses of some of the markets, at the same decisions."""
        own = [self.markets.index(market) for market in markets]
        kept = (self.values[:, own], self.known[:, own], self.known_at[:, own])
        return replace(self, markets=list(markets), values=kept[0], known=kept[1], known_at=kept[2])


def closes_only(bars: pd.DataFrame) -> frozenset[str]:
    """Return the markets whose bars never have a range: price-only sources.

    Examples
    --------
    >>> bars = pd.DataFrame({"market": ["A", "B"], "high": [1.0, 2.0], "low": [1.0, 1.0]})
    >>> sorted(closes_only(bars))
    ['A']
    """
    ranged = (bars["high"] > bars["low"]).groupby(bars["market"]).any()
    return frozenset(ranged.index[~ranged])


def close_out(config: Config, terms: MarketConfig) -> int:
    """Bars over which a loss runs: the close-out, and for collateral settlement, bridge and oracle delay."""
    bars = terms.close_out or config.margin.close_out
    return bars + (terms.delay or 0) if terms.role == "collateral" else bars


def starts_per_decision(config: Config, bars: int) -> int:
    """Return 1 when only the origin is covered, else the bars until the next decision."""
    cadence = config.forecast.cadence
    wanted = config.margin.starts
    if wanted == "auto":
        wanted = "origin" if bars >= cadence else "cadence"
    return cadence if wanted == "cadence" else 1


def collect_losses(
    bars: pd.DataFrame, decisions: pd.DataFrame, *, config: Config, clock: Clock, terms: MarketConfig
) -> Losses:
    """Collect the losses of one group of markets at its decisions.

    Parameters
    ----------
    bars, decisions : pandas.DataFrame
        The group's ``Bars``, and ``market, time`` of its decisions.
    """
    length = close_out(config, terms)
    count, notice = starts_per_decision(config, length), config.margin.notice
    hourly = future_losses(bars, clock=clock, close_out=length, loss=terms.loss or config.margin.loss)
    times = pd.DatetimeIndex(np.sort(decisions["time"].unique()))
    markets = list(dict.fromkeys(decisions["market"]))
    values = np.full((len(times), len(markets), len(SIDES), count), np.nan)
    known_at = np.full((len(times), len(markets), count), np.datetime64("NaT"), dtype="datetime64[us]")
    for index, market in enumerate(markets):
        own = hourly[hourly["market"] == market]
        at = pd.DatetimeIndex(own["time"]).get_indexer(decisions.loc[decisions["market"] == market, "time"])
        rows = times.get_indexer(own["time"].iloc[at])
        for start in range(count):
            bar = at + notice + start
            inside = bar < len(own)
            clock_time = own["known_at"].dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
            known_at[rows[inside], index, start] = clock_time[bar[inside]]
            for side, name in enumerate(SIDES):
                values[rows[inside], index, side, start] = own[name].to_numpy()[bar[inside]]
    whole = np.where(np.isnat(known_at).any(axis=2), np.datetime64("9999-01-01"), known_at.max(axis=2))
    clock_times = times.tz_convert(None).to_numpy(dtype="datetime64[us]")
    return Losses(times, markets, values, np.searchsorted(clock_times, whole), known_at)


def loss_frame(losses: Losses, *, notice: int) -> pd.DataFrame:
    """Spell losses as rows ``market, origin, start, side, loss, known_at``; ``start`` counts bars."""
    decisions, markets, sides, starts = np.indices(losses.values.shape).reshape(4, -1)
    exists = ~np.isnat(losses.known_at[decisions, markets, starts])
    decisions, markets, sides, starts = (x[exists] for x in (decisions, markets, sides, starts))
    return pd.DataFrame(
        {
            "market": np.array(losses.markets, dtype=object)[markets],
            "origin": losses.times[decisions],
            "start": (starts + notice).astype(np.int64),
            "side": np.array(SIDES, dtype=object)[sides],
            "loss": losses.values[decisions, markets, sides, starts],
            "known_at": pd.DatetimeIndex(losses.known_at[decisions, markets, starts]).tz_localize("UTC"),
        }
    ).astype({"market": "str", "side": "str"})
