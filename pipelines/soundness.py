"""Which decisions rest on degraded input: a price that stands still, in a market or in a leg of a pair."""

from dataclasses import replace

import numpy as np
import pandas as pd

from calibrator.calibrate.soundness import Flags, frozen
from calibrator.config import Config
from calibrator.features import STEPS_LONG
from pipelines.forecasting import Forecasts

DEGRADED = "degraded"
"""Column of the features: the decision's input is degraded, its margins hold or rise."""


def degraded(decided: pd.DataFrame, bars: pd.DataFrame, *, config: Config) -> pd.Series:
    """Flag decisions whose input is degraded.

    Parameters
    ----------
    decided : pandas.DataFrame
        ``market, time`` of decisions.
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


def with_soundness(forecasts: Forecasts, flags: pd.Series) -> Forecasts:
    """Return forecasts whose features say which decisions rest on degraded input."""
    column = flags.reindex(forecasts.features.index, fill_value=False)
    return replace(forecasts, features=forecasts.features.assign(**{DEGRADED: column}))


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
