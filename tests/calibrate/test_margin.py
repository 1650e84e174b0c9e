"""Margins, haircuts and the attribution of a change: monotone, on the safe side, exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.calibrate.haircut import LoanTerms, haircut_schedule
from calibrator.calibrate.margin import (
    Liquidity,
    as_schedule,
    initial_margin,
    margin_tiers,
    requirement,
    round_up,
)
from calibrator.calibrate.tail import Tail
from calibrator.calibrate.tiers import upper_borders
from calibrator.domain import HIGHEST, PPM, ChangeLimits, ppm_up
from calibrator.errors import InfeasibleScheduleError

FLOORS = (0, 100_000, 1_000_000, 50_000_000)
fractions = st.floats(1e-6, 2.0)
volatilities = st.floats(1e-5, 0.2)
turnovers = st.one_of(st.floats(1e-6, 1e12), st.just(float("nan")), st.just(0.0))

CASES = settings(max_examples=2_000, deadline=None)


def book(turnover: float, volatility: float, close_out: int = 24) -> Liquidity:
    return Liquidity(np.array([turnover]), np.array([volatility]), close_out, participation=0.1, impact=1.0)


def tiers_of(margin: float, liquidity: Liquidity) -> np.ndarray:
    return margin_tiers(np.array([margin]), floors=FLOORS, liquidity=liquidity, limits=ChangeLimits())[0]


def sized(loss: float, liquidity: Liquidity) -> np.ndarray:
    """Rates for a loss of no size in particular."""
    return tiers_of(min(float(liquidity.widen_first(np.array([loss]), FLOORS[1])[0]), 1.0), liquidity)


def asked(loss: float, liquidity: Liquidity) -> np.ndarray:
    """What a position of every border's size is asked."""
    rates = sized(loss, liquidity)
    schedule = as_schedule(FLOORS, rates, initial_margin(rates, 1.25))
    return np.array([requirement(schedule, border) / border for border in upper_borders(FLOORS)])


@CASES
@given(fractions, turnovers, volatilities, st.floats(1.01, 5))
def test_tiers_are_a_valid_schedule_on_the_safe_side(
    margin: float, turnover: float, volatility: float, multiple: float
) -> None:
    maintenance = tiers_of(margin, book(turnover, volatility))
    initial = initial_margin(maintenance, multiple)
    schedule = as_schedule(FLOORS, maintenance, initial)  # checks the order of notionals and of margins
    assert all(t.initial_margin_ppm > t.maintenance_margin_ppm for t in schedule.tiers)
    assert (np.diff(maintenance) >= 0).all()
    assert maintenance[0] == min(ppm_up(margin), HIGHEST)
    assert (initial >= np.minimum(maintenance * multiple - 1e-3, PPM)).all()


@CASES
@given(fractions, fractions, turnovers, volatilities, volatilities)
def test_margins_rise_with_the_level_and_with_volatility(
    a: float, b: float, turnover: float, v: float, w: float
) -> None:
    low, high = sorted((a, b))
    calm, wild = sorted((v, w))
    assert (sized(high, book(turnover, calm)) >= sized(low, book(turnover, calm))).all()
    assert (sized(low, book(turnover, wild)) >= sized(low, book(turnover, calm))).all()


@CASES
@given(st.floats(0.95, 0.9999), st.floats(0.95, 0.9999), volatilities, st.floats(1, 1e10))
def test_margins_rise_with_the_level_of_the_tail(
    a: float, b: float, volatility: float, turnover: float
) -> None:
    tail = Tail(threshold=1.8, shape=0.15, scale=0.6, share=0.05)
    low, high = (volatility * tail.quantile(level) for level in sorted((a, b)))
    liquidity = book(turnover, volatility)
    assert (sized(high, liquidity) >= sized(low, liquidity)).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.integers(1, 500), volatilities, turnovers)
def test_margins_rise_with_the_close_out(a: int, b: int, volatility: float, turnover: float) -> None:
    short, long = sorted((a, b))
    margins = [asked(2.5 * volatility * np.sqrt(n), book(turnover, volatility, n)) for n in (short, long)]
    assert (margins[1] >= margins[0] - 1).all()  # equal up to the last ppm where size alone sets the time


@settings(max_examples=60, deadline=None)
@given(fractions, st.floats(1, 1e10), st.floats(1, 1e10), volatilities)
def test_a_more_liquid_market_is_margined_less(margin: float, a: float, b: float, volatility: float) -> None:
    thin, deep = sorted((a, b))
    assert (sized(margin, book(deep, volatility)) <= sized(margin, book(thin, volatility))).all()


def test_an_unknown_turnover_doubles_what_positions_beyond_the_first_tier_need() -> None:
    made = tiers_of(0.05, book(float("nan"), 0.01))
    assert made.tolist() == [50_000, 105_556, 105_556, 105_556]  # (2 * 1m - 100k) / 900k of 5 %, and no less


def test_higher_tiers_move_no_faster_than_the_limits() -> None:
    margin = np.full(3, 0.05)
    liquidity = Liquidity(np.array([1e9, 1e3, 1e3]), np.full(3, 0.01), 24, participation=0.1, impact=1.0)
    tiers = margin_tiers(margin, floors=FLOORS, liquidity=liquidity, limits=ChangeLimits())
    assert (tiers[1:] <= tiers[:-1] * 1.2 + 1).all()
    assert (tiers[1:, 1:] > tiers[:-1, 1:]).all()
    assert (tiers[:, 0] == 50_000).all()


@CASES
@given(st.lists(st.floats(0, 5), min_size=1, max_size=20))
def test_rounding_up_is_the_domains(values: list[float]) -> None:
    assert round_up(np.array(values)).tolist() == [ppm_up(v) for v in values]


shares = st.floats(0.0, 1.0)


@CASES
@given(st.floats(0, 1.5), shares, shares, shares, shares)
def test_a_liquidation_is_always_paid_for_or_nothing_is_lent(
    haircut: float, borrow: float, penalty: float, slippage: float, interest: float
) -> None:
    terms = LoanTerms(penalty=penalty, slippage=slippage, interest=interest)
    try:
        schedule = haircut_schedule(haircut, borrow, terms=terms)
    except InfeasibleScheduleError as error:
        keep = (1 - haircut) * (1 - slippage) / ((1 + penalty) * (1 + interest))
        assert keep - borrow < 1e-5
        assert "leave nothing to lend" in str(error)  # noqa: PT017
        return
    paid = schedule.liquidation_threshold_ppm * (PPM + schedule.liquidation_penalty_ppm)
    assert paid + schedule.haircut_ppm * PPM <= PPM * PPM
    assert 0 < schedule.loan_to_value_ppm < schedule.liquidation_threshold_ppm < PPM
    assert schedule.haircut_ppm == ppm_up(haircut)
    exact = (1 - haircut) * (1 - slippage) / ((1 + penalty) * (1 + interest)) * PPM
    assert exact - 4 <= schedule.liquidation_threshold_ppm <= exact + 1e-3


@pytest.mark.parametrize("which", range(5))
def test_worse_terms_never_lend_more(which: int) -> None:
    base = [0.2, 0.05, 0.05, 0.005, 0.0005]
    worse = [v + 0.01 * (i == which) for i, v in enumerate(base)]
    lent = [
        haircut_schedule(h, b, terms=LoanTerms(penalty=p, slippage=s, interest=i)).loan_to_value_ppm
        for h, b, p, s, i in (base, worse)
    ]
    assert lent[1] < lent[0]


def test_a_pair_whose_price_never_moved_is_still_a_schedule() -> None:
    still = haircut_schedule(0.0, 0.0, terms=LoanTerms(penalty=0.0, slippage=0.0, interest=0.0))
    assert still.liquidation_threshold_ppm == PPM - 1
    assert still.loan_to_value_ppm == PPM - 2
