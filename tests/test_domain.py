"""Invariants of the domain types: quantisation towards safety, ordering, and what is refused."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.domain import (
    PPM,
    ChangeLimits,
    HaircutSchedule,
    MarginSchedule,
    MarginTier,
    ppm_down,
    ppm_up,
)

NOISE = Fraction(1, 10**12)


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 10))
def test_quantising_errs_on_the_safe_side_by_less_than_a_ppm(fraction: float) -> None:
    exact = Fraction(fraction)
    up, down = Fraction(ppm_up(fraction), PPM), Fraction(ppm_down(fraction), PPM)
    assert exact - 2 * NOISE <= up < exact + Fraction(1, PPM)
    assert exact - Fraction(1, PPM) < down <= exact + 2 * NOISE


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10 * PPM))
def test_a_whole_number_of_ppm_stays_what_it_is(ppm: int) -> None:
    assert ppm_up(ppm / PPM) == ppm_down(ppm / PPM) == ppm


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 2), st.floats(0, 2))
def test_quantising_keeps_the_order(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert ppm_up(low) <= ppm_up(high)
    assert ppm_down(low) <= ppm_down(high)


@pytest.mark.parametrize("fraction", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_not_quantised(fraction: float) -> None:
    with pytest.raises((ValueError, OverflowError), match="cannot convert float"):
        ppm_up(fraction)


ODD_TIERS = {
    "negative floor": ((-1, 2, 1), "notional_floor must not be negative"),
    "no maintenance": ((0, 2, 0), "0 < maintenance < initial"),
    "equal margins": ((0, 2, 2), "0 < maintenance < initial"),
    "swapped margins": ((0, 2, 3), "0 < maintenance < initial"),
    "above the notional": ((0, PPM + 1, 3), "<= 1000000 ppm"),
}


@pytest.mark.parametrize(("values", "message"), ODD_TIERS.values(), ids=ODD_TIERS)
def test_odd_tiers_are_refused(values: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarginTier(*values)


LOW, HIGH = MarginTier(0, 100, 50), MarginTier(10, 200, 80)
ODD_SCHEDULES = {
    "empty": ((), "first tier with notional_floor 0"),
    "no first tier": ((HIGH,), "first tier with notional_floor 0"),
    "floors do not rise": ((LOW, HIGH, MarginTier(10, 300, 90)), "notional floors must rise, 10 follows 10"),
    "maintenance falls": ((LOW, MarginTier(10, 200, 49)), "margins must not fall with notional"),
    "initial falls": ((LOW, MarginTier(10, 99, 60)), "margins must not fall with notional"),
}


@pytest.mark.parametrize(("tiers", "message"), ODD_SCHEDULES.values(), ids=ODD_SCHEDULES)
def test_odd_schedules_are_refused(tiers: tuple[MarginTier, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MarginSchedule(tiers)


@pytest.mark.parametrize(("notional", "tier"), [(0, LOW), (9.99, LOW), (10, HIGH), (1e30, HIGH)])
def test_a_notional_falls_into_the_last_tier_it_reaches(notional: float, tier: MarginTier) -> None:
    assert MarginSchedule((LOW, HIGH)).tier_of(notional) is tier


def test_a_negative_notional_has_no_tier() -> None:
    with pytest.raises(ValueError, match="notional must not be negative, was -1"):
        MarginSchedule((LOW, HIGH)).tier_of(-1)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, PPM), st.integers(1, PPM), st.integers(0, PPM), st.integers(0, PPM))
def test_a_haircut_schedule_exists_exactly_when_the_liquidation_is_paid_for(
    haircut: int, loan: int, threshold: int, penalty: int
) -> None:
    paid = Fraction(threshold, PPM) * (1 + Fraction(penalty, PPM)) + Fraction(haircut, PPM) <= 1
    if loan < threshold < PPM and paid:
        assert HaircutSchedule(haircut, loan, threshold, penalty).loan_to_value_ppm == loan
    else:
        with pytest.raises(ValueError, match=r"0 < loan_to_value < threshold|must not exceed 1"):
            HaircutSchedule(haircut, loan, threshold, penalty)


def test_one_ppm_decides() -> None:
    assert HaircutSchedule(200_000, 1, 800_000, 0).haircut_ppm == 200_000
    with pytest.raises(ValueError, match=r"must not exceed 1, was 1\.000001"):
        HaircutSchedule(200_001, 1, 800_000, 0)
    with pytest.raises(ValueError, match="must not be negative"):
        HaircutSchedule(0, 1, 2, -1)


ODD_LIMITS = {
    "increase": ({"max_increase": 0.0}, "must be positive"),
    "increase over five": ({"max_increase_5": -0.1}, "must be positive"),
    "peak to trough": ({"peak_to_trough": 0.0}, "must be positive"),
    "no decrease": ({"max_decrease": 0.0}, "max_decrease must lie between 0 and 1, was 0.0"),
    "negative base": ({"min_base": -0.1}, "min_base must be at least 0 and below 1, was -0.1"),
    "base of everything": ({"min_base": 1.0}, "min_base must be at least 0 and below 1, was 1.0"),
    "all at once": ({"max_decrease": 1.0}, "max_decrease must lie between 0 and 1, was 1.0"),
}


@pytest.mark.parametrize(("values", "message"), ODD_LIMITS.values(), ids=ODD_LIMITS)
def test_odd_limits_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChangeLimits(**values)
