"""Comparator policies: causal to the bit, equal to a slow oracle, and right on hand-made rows."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from calibrator.backtest.policies import (
    comparators,
    ewma_variance,
    filtered_historical_simulation,
    historical_simulation,
    static,
)
from calibrator.errors import DataError

Policy = Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]
LEVEL = 0.9
POLICIES: dict[str, Policy] = {
    "static": lambda x, _: static(x, level=LEVEL, min_decisions=50),
    "historical_simulation": lambda x, _: historical_simulation(x, level=LEVEL, window=60, min_decisions=40),
    "ewma_fhs": lambda x, v: filtered_historical_simulation(
        x, ewma_variance(v), level=LEVEL, window=90, min_decisions=40
    ),
    "given_fhs": lambda x, v: filtered_historical_simulation(
        x, v.rename(columns={"realized_variance": "variance"}), level=LEVEL, window=90, min_decisions=40
    ),
    "comparators": lambda x, v: comparators(x, v, level=LEVEL).rename(
        columns={"historical_simulation": "margin"}
    ),
}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("cut", [120, 377, 498])
def test_truncation_changes_nothing(
    name: str, cut: int, losses: pd.DataFrame, realized_variance: pd.DataFrame
) -> None:
    origins = losses["origin"].drop_duplicates().sort_values()
    now = origins.iloc[cut]
    past = losses[losses["origin"] <= now].copy()
    past["loss"] = past["loss"].where(past["known_at"] <= now)  # what nobody knows yet is not there
    full = POLICIES[name](losses, realized_variance)
    seen = POLICIES[name](past, realized_variance[realized_variance["origin"] <= now])
    expected = full[full["origin"] <= now].reset_index(drop=True)
    pd.testing.assert_frame_equal(seen, expected, check_exact=True)
    assert expected["margin"].notna().any() == (name != "comparators" or cut > 300)


def test_historical_simulation_equals_plain_loop(losses: pd.DataFrame) -> None:
    rng = np.random.default_rng(2)
    x = losses.assign(loss=losses["loss"].where(rng.random(len(losses)) > 0.02))
    got = historical_simulation(x, level=LEVEL, window=60, min_decisions=40)
    for i in rng.integers(0, len(got), 60):
        row = got.iloc[i]
        mine = x[(x["market"] == row["market"]) & (x["side"] == row["side"])]
        known = mine[mine["known_at"] <= row["origin"]].sort_values(["origin", "start"])["loss"].tail(180)
        enough = known.notna().sum() >= 120
        expected = np.nanquantile(known, LEVEL) if enough else np.nan
        assert row["margin"] == pytest.approx(expected, nan_ok=True)


def test_filtered_simulation_ignores_the_scale_of_the_variance(
    losses: pd.DataFrame, realized_variance: pd.DataFrame
) -> None:
    v = realized_variance.rename(columns={"realized_variance": "variance"})
    one, many = (
        filtered_historical_simulation(
            losses, v.assign(variance=v["variance"] * c), level=LEVEL, window=60, min_decisions=40
        )["margin"]
        for c in (1.0, 24.0)
    )
    np.testing.assert_allclose(one, many, rtol=1e-12)


def test_filtered_simulation_tracks_a_known_volatility(
    losses: pd.DataFrame, realized_variance: pd.DataFrame
) -> None:
    v = realized_variance.rename(columns={"realized_variance": "variance"})
    got = filtered_historical_simulation(losses, v, level=LEVEL, window=200, min_decisions=150).dropna()
    volatility = np.sqrt(got.merge(v, on=["market", "origin"])["variance"]).to_numpy()
    assert float((got["margin"] / volatility).mean()) == pytest.approx(1.645, abs=0.1)  # 90 % of |normal|
    assert float(np.corrcoef(got["margin"], volatility)[0, 1]) > 0.98


def test_static_changes_only_at_the_first_decision_of_a_year(losses: pd.DataFrame) -> None:
    got = static(losses, level=LEVEL, min_decisions=50)
    one = got[(got["market"] == "A") & (got["side"] == "long")].set_index("origin")["margin"].dropna()
    changes = one.index[one.ne(one.shift())]
    assert changes[1:].tolist() == [pd.Timestamp("2023-01-01", tz="UTC")]
    known = losses[
        (losses["market"] == "A") & (losses["side"] == "long") & (losses["known_at"] <= changes[1])
    ]
    assert one.iloc[-1] == pytest.approx(float(known["loss"].quantile(LEVEL)))


def test_missing_forecast_gives_no_margin(losses: pd.DataFrame, realized_variance: pd.DataFrame) -> None:
    v = realized_variance.rename(columns={"realized_variance": "variance"})
    none = filtered_historical_simulation(losses, v[v["market"] == "A"], level=LEVEL)
    assert none[none["market"] == "B"]["margin"].isna().all()
    zero = filtered_historical_simulation(
        losses, v.assign(variance=0.0), level=LEVEL, window=60, min_decisions=40
    )
    assert zero["margin"].isna().all()


def test_bad_input(losses: pd.DataFrame, realized_variance: pd.DataFrame) -> None:
    early = losses.assign(known_at=losses["origin"])
    with pytest.raises(DataError, match=r"known_at must be later than origin, is not for A at 2022-01-01"):
        historical_simulation(early, level=LEVEL)
    with pytest.raises(DataError, match="missing column 'known_at'"):
        static(losses.drop(columns="known_at"), level=LEVEL)
    with pytest.raises(DataError, match="at least one row"):
        static(losses.iloc[:0], level=LEVEL)
    with pytest.raises(DataError, match="column 'loss'"):
        static(losses.assign(loss=np.inf), level=LEVEL)
    with pytest.raises(ValueError, match="level must be between 0 and 1, was 99"):
        static(losses, level=99)
    with pytest.raises(ValueError, match="min_decisions must lie between 1 and window, were 70 and 60"):
        historical_simulation(losses, level=LEVEL, window=60, min_decisions=70)
    with pytest.raises(ValueError, match=r"decay must lie between 0 and 1, was 1.0"):
        ewma_variance(realized_variance, decay=1.0)
    double = pd.concat([realized_variance, realized_variance]).rename(
        columns={"realized_variance": "variance"}
    )
    with pytest.raises(DataError, match="one row per market and origin"):
        filtered_historical_simulation(losses, double, level=LEVEL)
