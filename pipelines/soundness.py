"""Which decisions rest on degraded input: a price that stands still, or a feed that was known and is lost.

Their margins hold or rise: what is calibrated on such input is not trusted to be lower.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from calibrator.calibrate.soundness import Flags, Integers, frozen, longest, lost, silent, usual, within
from calibrator.config import Config
from calibrator.features import STEPS_LONG
from calibrator.feeds import Feeds
from pipelines.forecasting import Forecasts

DEGRADED: Final = "degraded"
"""Column of the features: the decision's input is degraded, its margins hold or rise."""
POINTWISE: Final = ("implied", "turnover")
"""Features that are lost where they are missing, and back where they are not."""


def with_soundness(forecasts: Forecasts, bars: pd.DataFrame, feeds: Feeds, *, config: Config) -> Forecasts:
    """Return forecasts whose features say which decisions rest on degraded input.

    Parameters
    ----------
    forecasts : Forecasts
    bars : pandas.DataFrame
        ``Bars`` of all markets, and of the pairs' series.
    feeds : Feeds
        Funding, open interest and liquidations.
    config : Config
    """
    features = forecasts.features
    rows = features.loc[forecasts.experts.index, ["market", "time", *POINTWISE]]
    flags = standing(rows, bars, config=config) | missing(rows)
    if config.forecast.positioning:
        flags |= unheard(rows, feeds, config=config)
    column = flags.reindex(features.index, fill_value=False)
    return replace(forecasts, features=features.assign(**{DEGRADED: column}))


def standing(decided: pd.DataFrame, bars: pd.DataFrame, *, config: Config) -> pd.Series:
    """Flag decisions at which the price of a market, or of a leg of a pair, stands still.

    Parameters
    ----------
    decided : pandas.DataFrame
        ``market, time`` of decisions, sorted.
    bars : pandas.DataFrame
        ``Bars`` of all markets, and of the pairs' series.
    config : Config

    Returns
    -------
    pandas.Series of bool
        On the index of ``decided``; uses bars that ended at or before each decision.
    """
    still = {str(m): _frozen(own, config) for m, own in bars.groupby("market", sort=False)}
    legs = {pair.series: pair.legs for pair in config.haircut.pairs}
    out = pd.Series(data=False, index=decided.index)
    for market, rows in decided.groupby("market", sort=False):
        for source in {str(market)} | legs.get(str(market), frozenset()):
            if source in still:
                out.loc[rows.index] |= _at(still[source], rows["time"])
    return out


def missing(decided: pd.DataFrame) -> pd.Series:
    """Flag decisions without an implied volatility or a volume that the market had before.

    Parameters
    ----------
    decided : pandas.DataFrame
        ``market``, and the features :data:`POINTWISE` of decisions, in time order within a market.

    Examples
    --------
    >>> rows = pd.DataFrame({"market": "A", "implied": [np.nan, -8.0, np.nan, -8.0], "turnover": 1.0})
    >>> missing(rows).tolist()
    [False, False, True, False]
    """
    out = pd.Series(data=False, index=decided.index)
    for _, rows in decided.groupby("market", sort=False):
        for name in POINTWISE:
            out.loc[rows.index] |= lost(rows[name].notna().to_numpy(), 1)
    return out


def unheard(decided: pd.DataFrame, feeds: Feeds, *, config: Config) -> pd.Series:
    """Flag decisions for which funding, open interest or liquidations of a market, or of all, fell silent.

    Funding, open interest and totals of liquidations come at a steady pace: a window of the features without
    a row counts. Events are silent when nothing was liquidated for longer than ever before. The flag stays
    until the month that the features look back is whole again.

    Parameters
    ----------
    decided : pandas.DataFrame
        ``market, time`` of decisions, in time order within a market.
    feeds : Feeds
    config : Config
    """
    cadence = int(config.forecast.cadence * config.data.step / pd.Timedelta("1us"))
    out = pd.Series(data=False, index=decided.index)
    interest = feeds.open_interest
    held = interest[interest["open_interest"].fillna(interest["open_interest_notional"]) > 0]
    kinds = ((feeds.funding, cadence), (held, cadence), (feeds.liquidations, 2 * cadence))
    for feed, window in kinds:
        known = feed.sort_values("known_at", kind="stable")
        own = dict(list(known.groupby("market", sort=False)))
        for market, rows in decided.groupby("market", sort=False):
            times = _clock(rows["time"])
            quiet = _silent(known, times, window) | _silent(own.get(market, known.iloc[:0]), times, window)
            out.loc[rows.index] |= within(quiet, STEPS_LONG)
    return out


def _silent(feed: pd.DataFrame, decisions: Integers, window: int) -> Flags:
    known_at, first = np.unique(_clock(feed["known_at"]), return_index=True)
    patience = usual(known_at, window)
    if "liquidated_side" in feed:
        totals = (feed["notional"] == 0).cummax().to_numpy()[first]  # of events none is zero
        patience = np.where(totals, patience, longest(known_at))
    return silent(known_at, patience, decisions, window=window)


def _clock(times: pd.Series) -> Integers:
    clock: Integers = times.dt.tz_convert(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
    return clock


def _frozen(own: pd.DataFrame, config: Config) -> pd.Series:
    cadence = config.forecast.cadence
    high, low, close = (own[name].to_numpy(float) for name in ("high", "low", "close"))
    flags = frozen(
        (high, low, close), cadence=cadence, stuck=config.data.stuck_after, month=STEPS_LONG * cadence
    )
    return pd.Series(flags, pd.DatetimeIndex(own["time"]))


def _at(flags: pd.Series, times: pd.Series) -> Flags:
    """Return the flag of the last bar at or before each time; none before the first."""
    place = pd.DatetimeIndex(flags.index).searchsorted(pd.DatetimeIndex(times), side="right") - 1
    return np.asarray(flags.to_numpy()[np.maximum(place, 0)] & (place >= 0), dtype=np.bool_)
