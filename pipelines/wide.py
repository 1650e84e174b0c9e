"""Values per decision row laid out as (decisions, markets), their floors, and which decisions are whole."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.floors import long_run_floors_at
from calibrator.config import Config
from calibrator.features import Clock
from pipelines.forecasting import Forecasts
from pipelines.soundness import DEGRADED
from pipelines.starts import Losses

Array = NDArray[np.float64]


def wide(forecasts: Forecasts, values: pd.Series, found: Losses) -> Array:
    """Lay values per decision row out as (decisions, markets)."""
    rows = forecasts.features.loc[forecasts.experts.index, ["market", "time"]]
    own = rows[rows["market"].isin(found.markets)]
    out = np.full((len(found.times), len(found.markets)), np.nan)
    columns = pd.Index(found.markets).get_indexer(own["market"])
    out[found.times.get_indexer(own["time"]), columns] = values.loc[own.index]
    return out


def whole_decisions(
    forecasts: Forecasts, found: Losses, clock: Clock
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Flag decisions with a complete month behind them: up to the next decision, and up to their own.

    Degraded input (see :mod:`pipelines.soundness`) makes a decision incomplete, so that its margins hold or
    rise; it still counts as a decision of the limits, which let them rise.
    """
    month = wide(forecasts, forecasts.features["har_month"], found)
    day = wide(forecasts, forecasts.features["realized_variance"], found)
    following = np.vstack([day[1:], np.ones((1, day.shape[1]))])
    until_next = found.times[1:] - found.times[:-1]
    gap = np.append(until_next > clock.cadence * clock.step, [False])
    late = gap[:, None] & (clock.calendar == "continuous")
    complete: NDArray[np.bool_] = np.isfinite(month)
    sound = wide(forecasts, forecasts.features[DEGRADED], found) == 0
    return complete & np.isfinite(following) & ~late, complete & sound


def long_run_floors(found: Losses, level: float, config: Config) -> Array:
    """Return the long-run quantile of each market's and side's own losses, (decisions, markets, sides)."""
    margin, out = config.margin, np.full(found.values.shape[:3], np.nan)
    window, least = margin.floor_window, margin.tail_min
    for market, side in np.ndindex(out.shape[1:]):
        own, known = found.values[:, market, side], found.known[:, market]
        floors = long_run_floors_at(own, known, share=1.0, levels=(level,), window=window, least=least)
        out[:, market, side] = floors[:, 0]
    return out
