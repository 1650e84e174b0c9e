"""The price of a pair: exact at open and close, a bound inside the bar, joint in every leg."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.calibrate.pairs import delayed_haircut, pair_bars
from calibrator.data.synthetic import synthetic_bars
from calibrator.errors import DataError

BARS = synthetic_bars(["C", "B", "D"], periods=300, seed=4, bar="1h")


def leg(market: str) -> pd.DataFrame:
    return BARS[BARS["market"] == market].reset_index(drop=True)


def test_open_and_close_are_the_ratio_and_the_product_of_the_legs() -> None:
    made = pair_bars("C/D", leg("C"), basis=leg("B"), debt=leg("D"))
    for name in ("open", "close"):
        expected = leg("C")[name] * leg("B")[name] / leg("D")[name]
        np.testing.assert_allclose(made[name], expected, rtol=1e-15)
    np.testing.assert_array_equal(made["volume"], leg("B")["volume"])


def test_no_path_inside_a_bar_leaves_the_bounds() -> None:
    rng = np.random.default_rng(3)
    made, c, d = pair_bars("C/D", leg("C"), debt=leg("D")), leg("C"), leg("D")
    for _ in range(50):
        inside = [x["low"] + rng.random(len(x)) * (x["high"] - x["low"]) for x in (c, d)]
        ratio = (inside[0] / inside[1]).to_numpy()
        assert (ratio <= made["high"].to_numpy() * (1 + 1e-12)).all()
        assert (ratio >= made["low"].to_numpy() * (1 - 1e-12)).all()


def test_a_pair_with_itself_never_moves_between_closes() -> None:
    made = pair_bars("C/C", leg("C"), debt=leg("C"))
    assert (made["close"] == 1.0).all()


def test_a_fall_of_the_collateral_and_a_rise_of_the_debt_are_one_loss() -> None:
    c, d = leg("C").iloc[:2].copy(), leg("D").iloc[:2].copy()
    for frame, closes in ((c, [100.0, 90.0]), (d, [1.0, 1.25])):
        for name in ("open", "high", "low", "close"):
            frame[name] = closes
    closes = pair_bars("C/D", c, debt=d)["close"].to_numpy()
    assert 1 - closes[1] / closes[0] == pytest.approx(1 - 0.9 / 1.25)


def test_bars_that_one_leg_misses_stay_missing() -> None:
    made = pair_bars("C/D", leg("C").drop(index=[5, 6]), debt=leg("D").drop(index=[9]))
    assert len(made) == 297
    assert not set(made["time"]) & set(leg("C")["time"].iloc[[5, 6, 9]])


def test_a_leg_without_a_range_leaves_closes_only() -> None:
    flat = leg("D")
    flat[["open", "high", "low"]] = np.column_stack([flat["close"]] * 3)
    made = pair_bars("C/D", leg("C"), debt=flat)
    assert (made["high"] == made["low"]).all()
    np.testing.assert_array_equal(made["open"], made["close"])


def test_legs_without_a_common_bar_are_refused() -> None:
    with pytest.raises(DataError, match="C/D: its legs must have bars at the same times"):
        pair_bars("C/D", leg("C").iloc[:100], debt=leg("D").iloc[100:])


@settings(max_examples=150)
@given(st.floats(0.0, 2.0), st.floats(1e-4, 0.9), st.integers(1, 500))
def test_a_capped_oracle_is_the_fixed_point_of_its_own_delay(haircut: float, cap: float, bars: int) -> None:
    wide = float(delayed_haircut(np.array([haircut]), cap=cap, bars=bars)[0])
    assert wide >= haircut
    assert wide == pytest.approx(haircut * np.sqrt(1 + wide / (cap * bars)), rel=1e-9, abs=1e-12)
    looser = float(delayed_haircut(np.array([haircut]), cap=min(2 * cap, 1.0), bars=bars)[0])
    assert looser <= wide * (1 + 1e-12)


@pytest.mark.parametrize(("cap", "bars"), [(0.0, 24), (-0.1, 24), (0.1, 0)])
def test_a_cap_or_close_out_that_is_not_positive_is_refused(cap: float, bars: int) -> None:
    with pytest.raises(ValueError, match="cap and bars must be positive"):
        delayed_haircut(np.array([0.1]), cap=cap, bars=bars)
