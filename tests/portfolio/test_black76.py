"""Black-76: 50 digits as the reference, identities, Greeks by finite difference, an inversion that ends."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from calibrator.errors import DataError
from calibrator.portfolio.black76 import Greeks, greeks, price
from calibrator.portfolio.black76_kernels import exponential, logarithm, mills
from calibrator.portfolio.implied import MOST_STEPS, Solution, implied_volatility

mpmath.mp.dps = 50
FORWARDS = st.floats(1e-4, 1e7)
MONEYNESS = st.floats(-4.0, 4.0)
VOLATILITIES = st.floats(0.01, 5.0)
TIMES = st.floats(1e-4, 10.0)


def exact(forward: float, strike: float, volatility: float, time: float, sign: int) -> mpmath.mpf:
    f, k, s = mpmath.mpf(forward), mpmath.mpf(strike), mpmath.mpf(volatility) * mpmath.sqrt(mpmath.mpf(time))
    d1 = mpmath.log(f / k) / s + s / 2
    return sign * (f * mpmath.ncdf(sign * d1) - k * mpmath.ncdf(sign * (d1 - s)))


@settings(max_examples=150)
@given(FORWARDS, MONEYNESS, VOLATILITIES, TIMES, st.sampled_from([1, -1]))
def test_a_price_is_within_1e_12_of_fifty_digits(
    forward: float, moneyness: float, volatility: float, time: float, sign: int
) -> None:
    strike = forward * float(np.exp(moneyness))
    got = float(price(forward, strike, volatility, time, call=sign > 0))
    reference = exact(forward, strike, volatility, time, sign)
    assert abs(got - reference) <= 1e-12 * max(forward, strike)
    if reference > 1e-9 * max(forward, strike) and volatility * np.sqrt(time) > 1e-2:
        assert abs(got - reference) <= 1e-12 * max(abs(reference), 1e-4 * max(forward, strike))


@pytest.mark.parametrize("x", [0.0, 1e-300, 1e-8, 0.5, 1.0, 5.0, 12.3, 36.9])
def test_the_written_out_functions_match_fifty_digits(x: float) -> None:
    exact_mills = mpmath.exp(mpmath.mpf(x) ** 2 / 2) * mpmath.ncdf(-mpmath.mpf(x))
    assert abs(mills(x) / exact_mills - 1) < 2e-15
    assert abs(exponential(-x) / mpmath.exp(-mpmath.mpf(x)) - 1) < 1e-15
    assert abs(logarithm(1.0 + x) - mpmath.log(1 + mpmath.mpf(x))) < 1e-15 * (1 + abs(mpmath.log1p(x)))


@given(FORWARDS, MONEYNESS, VOLATILITIES, TIMES, st.floats(0.5, 1.0))
def test_put_call_parity(
    forward: float, moneyness: float, volatility: float, time: float, discount: float
) -> None:
    strike = forward * float(np.exp(moneyness))
    call, put = price(forward, strike, volatility, time, call=[True, False], discount=discount)
    assert call - put == pytest.approx(discount * (forward - strike), abs=1e-12 * max(forward, strike))


@given(MONEYNESS, VOLATILITIES, TIMES, st.sampled_from([1, -1]))
def test_values_rise_with_volatility_and_stay_within_their_bounds(
    moneyness: float, volatility: float, time: float, sign: int
) -> None:
    strike = 100.0 * float(np.exp(moneyness))
    low, high = price(100.0, strike, [volatility, 1.1 * volatility], time, call=sign > 0)
    intrinsic = max((100.0 - strike) * sign, 0.0)
    assert intrinsic <= low <= high + 1e-13 * max(100.0, strike)
    assert high <= (100.0 if sign > 0 else strike)


@settings(max_examples=60)
@given(
    st.floats(-1.5, 1.5),
    st.floats(0.1, 2.0),
    st.floats(0.02, 2.0),
    st.sampled_from([1, -1]),
    st.floats(0.0, 0.1),
)
def test_greeks_are_finite_differences_of_the_value(
    moneyness: float, volatility: float, time: float, sign: int, rate: float
) -> None:
    f, k = 100.0, 100.0 * float(np.exp(moneyness))

    def value(forward: float, sigma: float, years: float) -> mpmath.mpf:
        return mpmath.exp(-mpmath.mpf(rate) * years) * exact(forward, k, sigma, years, sign)

    h = mpmath.mpf(10) ** -12
    v, t = mpmath.mpf(volatility), mpmath.mpf(time)
    sloped: dict[str, mpmath.mpf] = {
        "delta": (value(f + h, v, t) - value(f - h, v, t)) / (2 * h),
        "gamma": (value(f + h, v, t) - 2 * value(f, v, t) + value(f - h, v, t)) / h**2,
        "vega": (value(f, v + h, t) - value(f, v - h, t)) / (2 * h),
        "theta": -(value(f, v, t + h) - value(f, v, t - h)) / (2 * h),
        "vanna": (
            value(f + h, v + h, t) - value(f - h, v + h, t) - value(f + h, v - h, t) + value(f - h, v - h, t)
        )
        / (4 * h**2),
        "volga": (value(f, v + h, t) - 2 * value(f, v, t) + value(f, v - h, t)) / h**2,
    }
    found: Greeks = greeks(f, k, volatility, time, call=sign > 0, discount=float(np.exp(-rate * time)))
    for name, slope in sloped.items():
        assert float(getattr(found, name)) == pytest.approx(float(slope), rel=1e-8, abs=1e-8)


@settings(max_examples=150)
@given(MONEYNESS, VOLATILITIES, TIMES, st.sampled_from([1, -1]))
def test_inversion_gives_the_volatility_back_or_says_why_not(
    moneyness: float, volatility: float, time: float, sign: int
) -> None:
    strike = 100.0 * float(np.exp(moneyness))
    value = float(price(100.0, strike, volatility, time, call=sign > 0))
    found = implied_volatility(value, 100.0, strike, time, call=sign > 0)
    intrinsic = max((100.0 - strike) * sign, 0.0)
    assert found.steps <= MOST_STEPS
    if found.solved:
        again = float(price(100.0, strike, found.volatility, time, call=sign > 0))
        assert again == pytest.approx(value, rel=1e-10, abs=1e-13 * max(100.0, strike))
        otm = intrinsic == 0 and 1e-12 < value / 100.0 < 0.999 * min(100.0, strike) / 100.0
        if otm:
            assert float(found.volatility) == pytest.approx(volatility, rel=1e-9)
    else:
        lost = (value - intrinsic) / max(100.0, strike)
        assert lost <= 1e-15 or value - intrinsic >= min(100.0, strike) * (1 - 1e-12)


@given(st.floats(-0.3, 0.3), st.floats(0.3, 2.0), st.floats(0.2, 1.0))
def test_inversion_agrees_with_brent(moneyness: float, volatility: float, time: float) -> None:
    strike = 100.0 * float(np.exp(moneyness))
    value = float(price(100.0, strike, volatility, time, call=True))
    slow = brentq(lambda s: float(price(100.0, strike, s, time, call=True)) - value, 1e-3, 10.0, xtol=1e-13)
    found = implied_volatility(value, 100.0, strike, time, call=True)
    assert float(found.volatility) == pytest.approx(slow, rel=1e-7)


NO_SOLUTION = {
    "below intrinsic": (9.0, 110.0, 100.0, 1.0, Solution.BELOW_INTRINSIC),
    "negative": (-1.0, 100.0, 100.0, 1.0, Solution.BELOW_INTRINSIC),
    "no time value": (10.0, 110.0, 100.0, 1.0, Solution.NO_TIME_VALUE),
    "worth more than the forward": (110.0, 110.0, 100.0, 1.0, Solution.ABOVE_BOUND),
    "expired": (5.0, 100.0, 100.0, 0.0, Solution.EXPIRED),
    "missing": (np.nan, 100.0, 100.0, 1.0, Solution.NOT_A_NUMBER),
    "no forward": (5.0, 0.0, 100.0, 1.0, Solution.NOT_A_NUMBER),
    "infinite strike": (5.0, 100.0, np.inf, 1.0, Solution.NOT_A_NUMBER),
}


@pytest.mark.parametrize("name", NO_SOLUTION)
def test_a_quote_without_solution_is_named_and_never_a_number(name: str) -> None:
    value, forward, strike, time, expected = NO_SOLUTION[name]
    found = implied_volatility(value, forward, strike, time, call=True)
    assert (Solution(int(found.solution)), bool(np.isnan(found.volatility))) == (expected, True)


def test_inversion_ends_on_values_made_to_be_hard() -> None:
    rng = np.random.default_rng(4)
    n = 20_000
    forward, strike = np.exp(rng.uniform(-30, 30, n)), np.exp(rng.uniform(-30, 30, n))
    value = np.minimum(forward, strike) * np.exp(rng.uniform(-200, 0.1, n))
    found = implied_volatility(
        value, forward, strike, np.exp(rng.uniform(-12, 4, n)), call=rng.random(n) < 0.5
    )
    assert found.steps.max() <= MOST_STEPS
    assert (np.isfinite(found.volatility) == found.solved).all()


BAD = {
    "NaN volatility": ((100.0, 100.0, np.nan, 1.0), "option 0: volatility must be finite and not negative"),
    "negative volatility": (
        (100.0, 100.0, -0.1, 1.0),
        "volatility must be finite and not negative, was -0.1",
    ),
    "zero time": ((100.0, 100.0, 0.5, 0.0), "time must be positive and finite, was 0.0"),
    "expired": ((100.0, 100.0, 0.5, [1.0, -0.5]), "option 1: time must be positive"),
    "zero forward": ((0.0, 100.0, 0.5, 1.0), "forward must be positive"),
    "infinite strike": ((100.0, np.inf, 0.5, 1.0), "strike must be positive and finite, was inf"),
}


@pytest.mark.parametrize("function", [price, greeks])
@pytest.mark.parametrize("name", BAD)
def test_options_without_a_value_are_refused(function: object, name: str) -> None:
    values, message = BAD[name]
    with pytest.raises(DataError, match=message):
        function(*values, call=True)  # type: ignore[operator]


def test_a_discount_of_zero_and_greeks_without_volatility_are_refused() -> None:
    with pytest.raises(DataError, match="discount must be positive"):
        price(100.0, 100.0, 0.5, 1.0, call=True, discount=0.0)
    with pytest.raises(DataError, match="volatility must be positive for Greeks"):
        greeks(100.0, 100.0, 0.0, 1.0, call=True)
    assert price(100.0, 90.0, 0.0, 1.0, call=[True, False]).tolist() == [10.0, 0.0]
