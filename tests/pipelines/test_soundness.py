"""Degraded input on the way through the whole composition: margins and haircuts hold or rise."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from pipelines.production import Production, produce
from pipelines.soundness import degraded

DAYS = 20
PRICES = ["open", "high", "low", "close"]
NO_QUOTES = pd.DataFrame(
    {
        "market": pd.Series(dtype="str"),
        "time": pd.Series(dtype="datetime64[us, UTC]"),
        "implied_volatility": pd.Series(dtype="float64"),
    }
)
RAW: dict[str, object] = {
    "data": {"source": "embedded", "bar": "1d", "stale_after": 5},
    "forecast": {
        "horizon": 1,
        "cadence": 1,
        "har_window": 250,
        "garch_window": 250,
        "learner_seeds": 1,
        "learner_refit": 200,
        "min_history": 200,
    },
    "regime": {"window": 200, "min_window": 100},
    "margin": {"close_out": 1, "tail_window": 150, "tail_min": 60, "floor_window": 100, "plan_steps": 2},
    "haircut": {"pairs": [{"collateral": "C", "debt": "A", "location": "x"}]},
    "markets": {"C": {"role": "collateral"}},
}


def stopped(bars: pd.DataFrame, market: str, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    """Repeat a market's last close before ``since`` up to ``until``."""
    own = (bars["market"] == market) & (bars["time"] > since) & (bars["time"] <= until)
    last = bars.loc[(bars["market"] == market) & (bars["time"] <= since), "close"].iloc[-1]
    out = bars.copy()
    out.loc[own, PRICES] = last
    return out


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    made = synthetic_bars(["A", "B", "C"], periods=520, bar="1d", seed=11)
    wild = made["time"] <= made["time"].max() - pd.Timedelta(days=DAYS)
    late = wild & (made["time"] > made["time"].max() - pd.Timedelta(days=DAYS + 30))
    factor = np.exp(
        np.random.default_rng(4).normal(0.0, 0.04, int(late.sum()))
    )  # margins would fall after it
    made.loc[late, PRICES] = made.loc[late, PRICES].mul(factor, axis=0)
    return made


@pytest.fixture(scope="module")
def frozen(bars: pd.DataFrame) -> Production:
    end = bars["time"].max()
    still = stopped(bars, "A", end - pd.Timedelta(days=DAYS), end - pd.Timedelta(days=4))
    return produce(still, NO_QUOTES, config=Config.model_validate(RAW), progress=lambda *_: None)


@pytest.mark.parametrize("entry", ["A", "C/A@x"])
def test_a_frozen_price_lowers_nothing_until_the_month_behind_it_is_whole(
    frozen: Production, entry: str
) -> None:
    d = frozen.decisions[entry]
    last = d.table.iloc[-DAYS:]
    assert not last["complete"].any()
    assert last["goal_long"].min() < 0.95 * last["goal_long"].iloc[0], "nothing to hold"
    sides = ["long"] if d.terms.role == "collateral" else ["long", "short"]
    for side in sides:
        margin = d.table[f"margin_{side}"].to_numpy()[-DAYS - 1 :]
        assert (np.diff(margin) >= 0).all()


def test_the_other_markets_go_on(frozen: Production) -> None:
    assert frozen.decisions["B"].table["complete"].iloc[-DAYS:].all()


def test_flags_are_those_that_were_known(bars: pd.DataFrame) -> None:
    config = Config.model_validate(RAW)
    end = bars["time"].max()
    still = stopped(bars, "A", end - pd.Timedelta(days=60), end - pd.Timedelta(days=50))
    decided = still[["market", "time"]]
    whole = degraded(decided, still, config=config)
    assert whole.groupby(decided["market"]).sum().to_dict() == {"A": 10 + 21, "B": 0, "C": 0}
    for days in (70, 55, 51, 40, 30):
        cut = decided["time"] <= end - pd.Timedelta(days=days)
        pd.testing.assert_series_equal(degraded(decided[cut], still[cut], config=config), whole[cut])


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "least"), [("binance_perp_1h", 20_000), ("binance_spot_1h", 100_000)])
def test_hourly_prices_of_a_liquid_venue_hardly_ever_stand_still(name: str, least: int) -> None:
    folder = os.environ.get("CALIBRATOR_DATA")
    if not folder:
        pytest.skip("CALIBRATOR_DATA names no folder of historical files")
    bars = pd.read_parquet(Path(folder) / "bars" / f"{name}.parquet").rename(columns={"symbol": "market"})
    bars = bars.sort_values(["market", "time"], kind="stable").reset_index(drop=True)
    decided = bars.loc[bars["time"].dt.hour == 23, ["market", "time"]]  # the bar that ends at midnight
    flags = degraded(decided, bars, config=Config.model_validate({"data": {"source": "embedded"}}))
    assert len(flags) > least
    assert flags.mean() < 1e-4
