from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibrator.data.synthetic import synthetic_bars


def _returns(bars: pd.DataFrame) -> pd.DataFrame:
    wide = bars.pivot_table(index="time", columns="market", values="close")
    return np.log(wide).diff().dropna()


def test_the_same_seed_gives_the_same_bars_and_another_seed_others() -> None:
    first = synthetic_bars(["A", "B"], periods=50, seed=1)
    pd.testing.assert_frame_equal(first, synthetic_bars(["A", "B"], periods=50, seed=1))
    assert not first["close"].equals(synthetic_bars(["A", "B"], periods=50, seed=2)["close"])


@pytest.mark.parametrize("bar", ["10min", "1h", "1d"])
def test_volatility_is_of_the_asked_size_clusters_and_has_fat_tails(bar: str) -> None:
    returns = _returns(synthetic_bars(["A", "B"], periods=20_000, seed=3, bar=bar))
    days = pd.Timedelta(bar.replace("d", "D")) / pd.Timedelta("1D")
    daily = returns["A"].std() / np.sqrt(days)
    assert 0.02 < daily < 0.06
    assert returns["A"].abs().autocorr(1) > 0.1
    assert returns["A"].kurt() > 3
    assert 0.4 < returns["A"].corr(returns["B"]) < 0.7


def test_bars_join_up_and_markets_are_sorted() -> None:
    bars = synthetic_bars(["Z", "A"], periods=30, seed=4)
    assert bars["market"].unique().tolist() == ["A", "Z"]
    one = bars[bars["market"] == "Z"]
    np.testing.assert_array_equal(one["open"].to_numpy()[1:], one["close"].to_numpy()[:-1])
    assert one["time"].iloc[0] == pd.Timestamp("2021-01-01 01:00", tz="UTC")
    assert (one["high"] > one["low"]).all()


def test_gaps_are_cut_from_every_market_and_nothing_else_changes() -> None:
    full = synthetic_bars(["A", "B"], periods=40, seed=5)
    cut = synthetic_bars(["A", "B"], periods=40, seed=5, gaps=[(10, 3), (39, 5)])
    missing = full.merge(cut, how="left", indicator=True)["_merge"] == "left_only"
    assert full[missing].groupby("market").size().to_dict() == {"A": 4, "B": 4}


BAD = {
    "no market": ({"markets": [], "periods": 5}, "markets must be distinct"),
    "repeated market": ({"markets": ["A", "A"], "periods": 5}, "markets must be distinct"),
    "no period": ({"markets": ["A"], "periods": 0}, "periods must be at least 1, was 0"),
    "naive start": (
        {"markets": ["A"], "periods": 5, "start": pd.Timestamp("2021-01-01").to_pydatetime()},
        "start must be time zone aware",
    ),
}


@pytest.mark.parametrize(("arguments", "match"), BAD.values(), ids=BAD.keys())
def test_wrong_arguments_are_refused(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        synthetic_bars(**arguments, seed=1)
