"""Losses and realized variances that the tests of the backtest share."""

import numpy as np
import pandas as pd
import pytest


def clock(count: int, *, step: str = "1D") -> pd.DatetimeIndex:
    return pd.date_range("2022-01-01", periods=count, freq=step, tz="UTC").as_unit("us")


@pytest.fixture
def losses() -> pd.DataFrame:
    """Two markets, both sides, 500 daily decisions with three starts each, matured a day later."""
    rng, frames = np.random.default_rng(11), []
    for market in ("A", "B"):
        volatility = 0.02 * np.exp(0.4 * np.sin(np.arange(500) / 30))
        for side in ("long", "short"):
            frames += [
                pd.DataFrame(
                    {
                        "market": market,
                        "origin": clock(500),
                        "start": start,
                        "side": side,
                        "loss": volatility * np.abs(rng.standard_normal(500)),
                        "known_at": clock(500) + pd.Timedelta(f"{start + 22}h"),
                    }
                )
                for start in (0, 1, 2)
            ]
    return pd.concat(frames, ignore_index=True)


@pytest.fixture
def realized_variance() -> pd.DataFrame:
    value = (0.02 * np.exp(0.4 * np.sin(np.arange(500) / 30))) ** 2
    return pd.concat(
        [pd.DataFrame({"market": m, "origin": clock(500), "realized_variance": value}) for m in ("A", "B")],
        ignore_index=True,
    )
