"""Pairs of historical prices: a depeg is in the pair's own loss, and gaps of the stablecoin stay gaps."""

import os
from pathlib import Path

import pandas as pd
import pytest

from calibrator.calibrate.pairs import pair_bars

DATA = os.environ.get("CALIBRATOR_DATA")
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif(not DATA, reason="CALIBRATOR_DATA does not name a folder with historical files"),
]


@pytest.fixture(scope="module")
def spot() -> dict[str, pd.DataFrame]:
    names = ["ETHUSDT", "USDCUSDT", "WBTCUSDT", "BTCUSDT"]
    path = Path(str(DATA)) / "bars" / "binance_spot_1h.parquet"
    frame = pd.read_parquet(
        path, filters=[("symbol", "in", names), ("time", ">=", pd.Timestamp("2022-09-01", tz="UTC"))]
    )
    frame["time"] = frame["time"].dt.as_unit("us") + pd.Timedelta("1h")
    return {name: own.rename(columns={"symbol": "market"}) for name, own in frame.groupby("symbol")}


def worst(bars: pd.DataFrame, start: str, end: str, hours: int) -> float:
    """Largest loss of a long position over ``hours`` from a close between two times."""
    close = bars.set_index("time")["close"].asfreq("h")
    low = bars.set_index("time")["low"].asfreq("h")
    ahead = low[::-1].rolling(hours, min_periods=1).min()[::-1].shift(-1)
    return float((1 - ahead / close).loc[start:end].max())


def test_lending_a_depegged_dollar_out_against_ether_is_a_loss_of_the_pair(
    spot: dict[str, pd.DataFrame],
) -> None:
    pair = pair_bars("ETH/USDC", spot["ETHUSDT"], debt=spot["USDCUSDT"])
    # On 11 March 2023 USDC came back from below 0.92: who owed it owed more dollars every hour.
    alone = worst(spot["ETHUSDT"], "2023-03-11 12:00", "2023-03-13 00:00", 24)
    joint = worst(pair, "2023-03-11 12:00", "2023-03-13 00:00", 24)
    assert joint > alone + 0.01
    gap = pair["time"].diff().max()
    assert gap > pd.Timedelta("100D")  # no bar of the stablecoin, no bar of the pair


def test_a_wrapped_coin_is_its_reference_times_the_basis(spot: dict[str, pd.DataFrame]) -> None:
    basis = pair_bars("WBTC/BTC", spot["WBTCUSDT"], debt=spot["BTCUSDT"])
    made = pair_bars("WBTC", spot["BTCUSDT"], basis=basis).set_index("time")
    own = spot["WBTCUSDT"].set_index("time").loc[made.index]
    assert ((made["close"] / own["close"] - 1).abs() < 1e-12).all()
    assert (made["low"] <= own["low"] * (1 + 1e-12)).all()
    assert (made["high"] >= own["high"] * (1 - 1e-12)).all()
    assert abs(basis["close"].median() - 1) < 0.01
