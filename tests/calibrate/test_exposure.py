"""Caps are the largest exposure that is absorbed and fall with everything that makes stress worse."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from calibrator.calibrate.exposure import LARGEST_CAP, Stress, exposure_cap
from calibrator.calibrate.liquidation import Depth, Liquidator, adverse_move

stresses = st.builds(
    Stress,
    margin=st.floats(0.0, 0.5),
    move=st.floats(0.0, 1.0),
    turnover=st.floats(1.0, 1e9),
    volatility=st.floats(1e-4, 0.2),
    close_out=st.integers(1, 200),
    participation=st.floats(0.01, 1.0),
    impact=st.floats(0.1, 3.0),
    defaulting=st.floats(0.01, 1.0),
)
funds = st.floats(0.0, 1e9)
WORSE = {
    "margin": 0.9, "move": 1.1, "turnover": 0.9, "volatility": 1.1,
    "participation": 0.9, "impact": 1.1, "defaulting": 1.1,
}  # fmt: skip


@settings(max_examples=150)
@given(stresses, funds)
def test_the_cap_is_the_largest_exposure_that_is_absorbed(stress: Stress, fund: float) -> None:
    cap = exposure_cap(stress, fund=fund)
    assert stress.loss(cap) <= fund
    assert cap == LARGEST_CAP or stress.loss(cap + 1) > fund


@settings(max_examples=150)
@given(stresses, funds, st.sampled_from(sorted(WORSE)))
def test_a_cap_never_rises_when_stress_gets_worse(stress: Stress, fund: float, name: str) -> None:
    value = getattr(stress, name) * WORSE[name]
    worse = replace(stress, **{name: min(value, 1.0) if name in {"participation", "defaulting"} else value})
    assert exposure_cap(worse, fund=fund) <= exposure_cap(stress, fund=fund)
    assert exposure_cap(stress, fund=fund / 2) <= exposure_cap(stress, fund=fund)


def test_small_caps_agree_with_counting_upwards() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        stress = Stress(
            margin=float(rng.uniform(0, 0.1)), move=float(rng.uniform(0.05, 0.3)), turnover=50.0,
            volatility=0.02, close_out=5, participation=0.1, impact=1.0, defaulting=0.5,
        )  # fmt: skip
        counted = 0
        while stress.loss(counted + 1) <= 20.0:
            counted += 1
        assert exposure_cap(stress, fund=20.0) == counted


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("turnover", 0.0, "turnover must be finite and positive, was 0.0"),
        ("turnover", float("nan"), "turnover must be finite and positive, was nan"),
        ("close_out", 0, "close_out must be finite and positive"),
        ("participation", 1.5, r"participation must lie in \(0, 1\], was 1.5"),
        ("defaulting", 0.0, "defaulting must lie in"),
        ("margin", -0.1, "margin must be finite and not negative, was -0.1"),
        ("volatility", float("inf"), "volatility must be finite and not negative, was inf"),
    ],
)
def test_a_stress_out_of_bounds_is_refused(name: str, value: float, text: str) -> None:
    fair = Stress(0.1, 0.2, 1e6, 0.01, 24, 0.1, 1.0, 0.2)
    with pytest.raises(ValueError, match=text):
        replace(fair, **{name: value})
    with pytest.raises(ValueError, match="fund must not be negative"):
        exposure_cap(fair, fund=-1.0)


@settings(max_examples=100)
@given(st.floats(1e3, 1e9), st.floats(1e-3, 0.2), st.floats(0.5, 2.0), st.floats(0.3, 0.95))
def test_the_bound_on_the_supply_is_the_minimum_over_all_manipulations(
    turnover: float, volatility: float, impact: float, loan: float
) -> None:
    depth = Depth(turnover, volatility, impact)
    least = 1 / loan - 1
    found = minimize_scalar(
        lambda x: depth.cost_of_moving(x) / (loan * (1 + x) - 1), bounds=(least * (1 + 1e-9), 20 * least),
        method="bounded", options={"xatol": 1e-10 * least},
    )  # fmt: skip
    assert depth.manipulation_bound(loan) == pytest.approx(found.fun, rel=1e-6)


@settings(max_examples=150)
@given(st.floats(1.0, 1e9), st.floats(1e-3, 0.2), st.floats(0.05, 0.9), st.floats(0.05, 0.9))
def test_the_more_is_lent_the_less_may_be_supplied(
    turnover: float, volatility: float, a: float, b: float
) -> None:
    low, high = sorted((a, b))
    depth = Depth(turnover, volatility, 1.0)
    assert depth.manipulation_bound(high) <= depth.manipulation_bound(low)
    thinner, wilder = Depth(turnover / 2, volatility, 1.0), Depth(turnover, 2 * volatility, 1.0)
    assert max(thinner.manipulation_bound(low), wilder.manipulation_bound(low)) <= depth.manipulation_bound(
        low
    )


costs = st.floats(0.0, 0.2)


@settings(max_examples=150)
@given(costs, st.floats(0.0, 1e3), costs, st.floats(1.0, 1e7), st.floats(0.0, 1.0))
def test_a_penalty_pays_at_every_size_above_the_dust(
    slippage: float, gas: float, move: float, size: float, penalty: float
) -> None:
    one = Liquidator(slippage, gas, move)
    if gas / size > 1e-9:  # below it the cost is lost in the rounding of a sum
        assert one.dust(one.least_penalty(size)) == pytest.approx(size, rel=1e-6)
    dust = one.dust(penalty)
    if 1e-290 < dust < 1e12:
        assert penalty == pytest.approx(one.least_penalty(dust), rel=1e-9)
        assert one.least_penalty(2 * dust) <= penalty * (1 + 1e-9)
    if dust == float("inf"):
        assert penalty <= slippage + move + 1e-300


@pytest.mark.parametrize("name", ["slippage", "gas", "move"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_cost_out_of_bounds_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be finite and not negative"):
        Liquidator(**({"slippage": 0.0, "gas": 0.0, "move": 0.0} | {name: value}))


@pytest.mark.parametrize("name", ["turnover", "volatility", "impact"])
def test_a_depth_out_of_bounds_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be finite and positive, was 0"):
        Depth(**({"turnover": 1.0, "volatility": 0.1, "impact": 1.0} | {name: 0.0}))
    with pytest.raises(ValueError, match="loan_to_value must lie between 0 and 1, was 1"):
        Depth(1.0, 0.1, 1.0).manipulation_bound(1.0)
    with pytest.raises(ValueError, match="size must be positive, was 0"):
        Liquidator(0.0, 1.0, 0.0).least_penalty(0.0)
    with pytest.raises(ValueError, match="auction must not be negative and bars positive"):
        adverse_move(0.1, auction=-1.0, bars=5)
