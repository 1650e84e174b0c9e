"""Shared by the tests of every stage: bars with the usual blemishes, and the check against looking ahead."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings

from calibrator.data.synthetic import synthetic_bars

# The same examples on every machine, however busy: a test that fails fails for everybody.
settings.register_profile("reproducible", derandomize=True, deadline=None, database=None)
settings.load_profile("reproducible")

PRICES = ["open", "high", "low", "close"]
Run = Callable[[pd.DataFrame], pd.DataFrame | pd.Series]
START = pd.Timestamp("2021-01-01", tz="UTC")


@pytest.fixture(scope="session")
def market_bars() -> pd.DataFrame:
    """Six-hourly bars of three markets: one begins late, one ends early, all miss a day and a half."""
    bars = synthetic_bars(["A", "B", "C"], periods=4 * 480, seed=5, bar="6h", gaps=[(1500, 6)])
    late = (bars["market"] == "B") & (bars["time"] < START + pd.Timedelta("90D"))
    ended = (bars["market"] == "C") & (bars["time"] > START + pd.Timedelta("440D"))
    return bars[~(late | ended)].reset_index(drop=True)


@pytest.fixture(scope="session")
def cuts() -> list[pd.Timestamp]:
    """Times at which the future is taken away: between decisions, in the gap, after a market's end."""
    return [START + pd.Timedelta(t) for t in ("340D6h", "375D18h", "462D")]


def another_future(bars: pd.DataFrame, cut: pd.Timestamp) -> pd.DataFrame:
    later = bars["time"] > cut
    factor = np.exp(np.random.default_rng(8).normal(0.0, 0.2, int(later.sum())))
    out = bars.copy()
    out.loc[later, PRICES] = out.loc[later, PRICES].mul(factor, axis=0)
    out.loc[later, "volume"] *= 3.0
    return out


def assert_blind_to_the_future(run: Run, bars: pd.DataFrame, cuts: list[pd.Timestamp]) -> None:
    """Bit for bit the same up to each cut when later bars are removed, and when they are different ones."""
    whole = run(bars)
    assert not whole.index.duplicated().any()
    for cut in cuts:
        expected = whole[whole.index.get_level_values("time") <= cut]
        assert np.isfinite(expected.to_numpy(float)).any()
        for world in (bars[bars["time"] <= cut].reset_index(drop=True), another_future(bars, cut)):
            seen = run(world)
            seen = seen[seen.index.get_level_values("time") <= cut]
            compare = pd.testing.assert_frame_equal if seen.ndim == 2 else pd.testing.assert_series_equal
            compare(seen, expected, check_exact=True, check_names=False)


@pytest.fixture(scope="session")
def assert_causal() -> Callable[[Run, pd.DataFrame, list[pd.Timestamp]], None]:
    return assert_blind_to_the_future
