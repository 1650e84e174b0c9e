"""The backtest's window, and the variance known at each of its decisions."""

import pandas as pd

from calibrator.config import Config
from pipelines.forecasting import Forecasts


def in_window(frame: pd.DataFrame, config: Config, *, column: str = "origin") -> pd.DataFrame:
    """Keep the rows between the backtest's first and last origin, inclusive."""
    keep = pd.Series(data=True, index=frame.index)
    if config.backtest.start is not None:
        keep &= frame[column] >= pd.Timestamp(config.backtest.start)
    if config.backtest.end is not None:
        keep &= frame[column] <= pd.Timestamp(config.backtest.end)
    return frame[keep].reset_index(drop=True)


def realized_variance(forecasts: Forecasts) -> pd.DataFrame:
    """Return the trailing realized variance of every decision."""
    rows = forecasts.features.loc[forecasts.experts.index]
    return rows[["market", "time", "realized_variance"]].rename(columns={"time": "origin"})
