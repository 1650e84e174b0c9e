"""Size, crowding and one depth stress: monotone, continuous, rounded up, never looser on degraded input."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.calibrate.gap import jump_add_on, oracle_lag
from calibrator.calibrate.haircut import Lent, LoanTerms, haircut_schedule
from calibrator.calibrate.margin import Liquidity, as_schedule, initial_margin, margin_tiers, requirement
from calibrator.calibrate.procyclicality import limit
from calibrator.calibrate.soundness import lost
from calibrator.calibrate.tiers import calibrated_to, upper_borders
from calibrator.domain import PPM, ChangeLimits, ppm_down, ppm_up
from calibrator.errors import InfeasibleScheduleError

FLOORS = (0, 100_000, 1_000_000, 50_000_000)
BORDERS = upper_borders(FLOORS)
LIMITS = ChangeLimits()
CASES = settings(max_examples=2000)
SOME = settings(max_examples=150)
margins = st.floats(1e-4, 0.8)
volatilities = st.floats(1e-5, 0.2)
turnovers = st.floats(1e-3, 1e12)
crowds = st.floats(0.0, 1e11)
STRESSES = ("depth_stress", "volatility_stress")
notionals = st.integers(0, 10**9)


def book(
    turnover: float, volatility: float, crowd: float = 0.0, close_out: int = 24, **stress: float
) -> Liquidity:
    return Liquidity(
        np.array([turnover]), np.array([volatility]), close_out, participation=0.1, impact=1.0,
        crowded=np.array([crowd]), **stress,
    )  # fmt: skip


def tiers(margin: float, liquidity: Liquidity, floors: tuple[int, ...] = FLOORS) -> np.ndarray:
    first = liquidity.widen_first(np.array([margin]), float(upper_borders(floors)[0]))
    return margin_tiers(np.minimum(first, 1.0), floors=floors, liquidity=liquidity, limits=LIMITS)[0]


def wide(margin: float, liquidity: Liquidity, notional: float) -> float:
    return float(liquidity.widen(np.array([margin]), notional)[0])


@CASES
@given(margins, turnovers, volatilities, crowds, st.floats(1.01, 3.0))
def test_a_schedule_is_ordered_and_rounded_up(
    margin: float, turnover: float, volatility: float, crowd: float, multiple: float
) -> None:
    maintenance = tiers(margin, book(turnover, volatility, crowd))
    initial = initial_margin(maintenance, multiple)
    schedule = as_schedule(FLOORS, maintenance, initial)
    assert all(0 < t.maintenance_margin_ppm < t.initial_margin_ppm <= PPM for t in schedule.tiers)
    needed = [min(wide(margin, book(turnover, volatility, crowd), b), 1.0) * PPM for b in BORDERS]
    assert (maintenance >= np.minimum(needed, PPM - 1) - 1e-3).all()  # the rate of the last unit, and more
    assert (np.diff(maintenance) >= 0).all()


@CASES
@given(
    st.fixed_dictionaries(
        {
            "margin": margins,
            "turnover": turnovers,
            "volatility": volatilities,
            "crowd": crowds,
            "notional": notionals,
        }
    ),
    st.sampled_from(["margin", "turnover", "volatility", "crowd", "notional", *STRESSES]),
    st.floats(1.0, 10.0),
)
def test_what_makes_a_close_out_worse_never_lowers_a_margin(
    base: dict[str, float], which: str, factor: float
) -> None:
    stress: dict[str, float] = {}
    worse = dict(base)
    if which in base:
        worse[which] = base[which] / factor if which == "turnover" else base[which] * factor
    else:
        stress[which] = factor
    low, high = (
        wide(v["margin"], book(v["turnover"], v["volatility"], v["crowd"], **s), v["notional"])
        for v, s in ((base, {}), (worse, stress))
    )
    assert high >= low * (1 - 1e-12)


@CASES
@given(volatilities, turnovers, st.integers(1, 300), st.integers(1, 300), notionals)
def test_margins_rise_with_the_close_out(
    volatility: float, turnover: float, a: int, b: int, notional: int
) -> None:
    low, high = (
        wide(2.5 * volatility * np.sqrt(n), book(turnover, volatility, close_out=n), notional)
        for n in sorted((a, b))
    )
    assert high >= low * (1 - 1e-12)


tables = st.lists(st.integers(1, 10**7), min_size=1, max_size=6, unique=True).map(
    lambda floors: (0, *sorted(floors))
)
liquid = st.builds(book, st.floats(7, 11).map(lambda x: 10**x), st.floats(1e-5, 0.02), st.floats(0.0, 1e8))


@CASES
@given(st.floats(1e-3, 0.3), liquid, tables, st.floats(0.0, 1.0), st.integers(0, 8))
def test_every_size_up_to_the_last_border_has_what_closing_it_needs(
    margin: float, liquidity: Liquidity, floors: tuple[int, ...], share: float, place: int
) -> None:
    maintenance = tiers(margin, liquidity, floors)
    schedule = as_schedule(floors, maintenance, initial_margin(maintenance, 1.25))
    largest = calibrated_to(schedule)
    borders = [b for b in upper_borders(floors) if b <= largest] or [0]
    top = borders[place % len(borders)]
    for notional in {int(share * largest), int(share * top), max(top - 1, 0), top}:
        asked, needed = requirement(schedule, notional), wide(margin, liquidity, notional) * notional
        assert asked >= needed * PPM * (1 - 1e-9)


def test_a_thin_market_asks_of_every_size_what_it_needs() -> None:
    floors, liquidity = (0, 1_000_000, 5_000_000, 20_000_000), book(1e6, 0.01)
    maintenance = tiers(0.05, liquidity, floors)
    schedule = as_schedule(floors, maintenance, initial_margin(maintenance, 1.25))
    assert maintenance[0] == 60_000  # 5 %, and 1 % of slippage for a million in a market that turns it over
    for notional in (999_999, 1_000_000, 4_999_999, 5_000_000, 19_999_999, 20_000_000, 40_000_000):
        ratio = requirement(schedule, notional) / notional / PPM
        needed = wide(0.05, liquidity, notional)
        assert needed - 1e-12 <= ratio < needed + 0.02
    assert wide(0.05, liquidity, 20_000_000) == pytest.approx(0.189, abs=1e-3)
    assert calibrated_to(schedule) == 40_000_000


def test_one_tier_is_margined_for_no_size_bit_by_bit() -> None:
    liquidity = Liquidity(
        np.array([1e6, np.nan, 2e6, 0.0]), np.full(4, 0.01), 24, participation=0.1, impact=1.0,
        crowded=np.array([0.0, 1e5, 1e7, np.nan]),
    )  # fmt: skip
    margin = np.array([0.05, 0.051, 0.049, 0.05])
    assert (liquidity.widen_first(margin, 0.0) == liquidity.widen(margin, 0.0)).all()
    made = margin_tiers(margin, floors=(0,), liquidity=liquidity, limits=LIMITS)
    assert made.ravel().tolist() == [50_000, 51_000, 49_000, 50_000]


@CASES
@given(margins, turnovers, volatilities, crowds, notionals, notionals)
def test_the_requirement_is_continuous_and_rises_with_notional(
    margin: float, turnover: float, volatility: float, crowd: float, a: int, b: int
) -> None:
    maintenance = tiers(margin, book(turnover, volatility, crowd))
    schedule = as_schedule(FLOORS, maintenance, initial_margin(maintenance, 1.25))
    low, high = sorted((a, b))
    assert requirement(schedule, low) <= requirement(schedule, high)
    for floor in FLOORS[1:]:
        below, at, above = (requirement(schedule, q) for q in (floor - 1, floor, floor + 1))
        assert 0 < at - below <= PPM
        assert 0 < above - at <= PPM
        assert above - at >= at - below  # a higher tier asks at least as much of the next unit


@SOME
@given(margins, turnovers, volatilities, crowds, notionals)
def test_what_covers_the_crowd_is_not_widened_for_it_again(
    margin: float, turnover: float, volatility: float, crowd: float, notional: int
) -> None:
    liquidity = book(turnover, volatility, crowd)
    first = liquidity.widen(np.array([margin]), 0.0)
    again = float(liquidity.widen_further(first, float(notional))[0])
    assert again == pytest.approx(wide(margin, liquidity, notional), rel=1e-6, abs=1e-12)
    if notional <= crowd:
        assert again == pytest.approx(float(first[0]), rel=1e-6)


FED = {"implied volatility": 1, "funding": 22, "open interest": 22, "liquidations": 22, "still price": 1}
"""Inputs that a forecast rests on, and the decisions that their windows span."""
DROPS = ("turnover", "crowd", "bars", "price", *FED)
SUBSETS = [set(c) for n in range(1, len(DROPS) + 1) for c in combinations(DROPS, n)]


@SOME
@given(
    st.lists(margins, min_size=3, max_size=6), st.lists(turnovers, min_size=6, max_size=6), volatilities,
    st.lists(crowds, min_size=6, max_size=6), st.lists(st.floats(0.0, 0.3), min_size=2, max_size=2),
    st.sampled_from(SUBSETS),
)  # fmt: skip
def test_degraded_input_never_loosens_whatever_is_dropped(
    raw: list[float],
    turnover: list[float],
    volatility: float,
    crowd: list[float],
    borrow: list[float],
    dropped: set[str],
) -> None:
    assert_never_looser(
        effect(dropped), np.array(raw), np.array(turnover), np.array(crowd), (volatility, *borrow)
    )


def test_degraded_input_never_loosens_in_two_thousand_cases_of_every_subset() -> None:
    rng = np.random.default_rng(5)
    subsets = {effect(dropped) for dropped in SUBSETS}  # an input acts through these flags
    assert len(subsets) == 11
    for gone in subsets:
        for _ in range(2000):
            n = int(rng.integers(3, 7))
            raw, turnover, crowd = (
                np.exp(rng.uniform(*bounds, n)) for bounds in ((-9, 0), (-7, 28), (-7, 25))
            )
            tuned = (float(np.exp(rng.uniform(-11, -2))), *rng.uniform(0.0, 0.3, 2).tolist())
            assert_never_looser(gone, np.minimum(raw, 0.8), turnover, crowd, tuned)


def effect(dropped: set[str]) -> tuple[bool, ...]:
    """Which arrays lose their last value, and whether the last decision is complete."""
    known = np.arange(3)
    flags = [lost(known < 3 - (name in dropped), rows) for name, rows in FED.items()]
    complete = not np.logical_or.reduce(flags)[-1] and not {"bars", "price"} & dropped
    return (*(name in dropped for name in ("turnover", "crowd", "price")), complete)


def assert_never_looser(
    gone: tuple[bool, ...],
    target: np.ndarray,
    turnover: np.ndarray,
    crowd: np.ndarray,
    tuned: tuple[float, ...],
) -> None:
    n, (volatility, *borrow) = len(target), tuned
    target, volume, together = target.copy(), turnover[:n].copy(), crowd[:n].copy()
    for values, is_gone in zip((volume, together, target), gone[:3], strict=True):
        values[-1] = np.nan if is_gone else values[-1]
    complete = np.append(np.ones(n - 1, bool), gone[3])
    liquidity = Liquidity(volume, np.full(n, volatility), 24, participation=0.1, impact=1.0, crowded=together)
    first = np.minimum(liquidity.widen_first(target, float(FLOORS[1])), 1.0)
    sound = complete & ~liquidity.lost
    published = limit(first, np.zeros(n), limits=LIMITS, complete=sound)
    found = margin_tiers(published, floors=FLOORS, liquidity=liquidity, limits=LIMITS, complete=complete)
    assert (found[-1] >= found[-2]).all()
    terms = LoanTerms(penalty=0.05, slippage=0.005, interest=0.001)
    before, after = published[-2:].tolist()
    try:
        was = haircut_schedule(before, borrow[0], terms=terms)
        free = bool(sound[-1])
        now = haircut_schedule(after, borrow[1], terms=terms, last=Lent(was.loan_to_value_ppm, may_rise=free))
    except InfeasibleScheduleError:
        return
    assert now.liquidation_threshold_ppm <= was.liquidation_threshold_ppm
    assert now.loan_to_value_ppm <= was.loan_to_value_ppm


shares = st.floats(0.0, 0.6)


@CASES
@given(st.floats(0.0, 0.9), st.floats(0.0, 0.3), shares, shares, shares)
def test_lending_parameters_are_ordered_and_on_the_safe_side(
    haircut: float, borrow: float, penalty: float, slippage: float, interest: float
) -> None:
    try:
        made = haircut_schedule(haircut, borrow, terms=LoanTerms(penalty, slippage, interest))
    except InfeasibleScheduleError:
        return
    assert 0 < made.loan_to_value_ppm < made.liquidation_threshold_ppm < PPM
    paid = made.liquidation_threshold_ppm * (PPM + made.liquidation_penalty_ppm) + made.haircut_ppm * PPM
    assert paid <= PPM * PPM
    assert made.haircut_ppm == ppm_up(haircut)
    assert made.liquidation_penalty_ppm == ppm_up(penalty)
    keep = (1 - haircut) * (1 - slippage) / ((1 + penalty) * (1 + interest))
    assert made.liquidation_threshold_ppm <= ppm_down(keep)
    assert made.loan_to_value_ppm <= (keep - borrow) * PPM + 1e-3


@pytest.mark.parametrize("stress", [{"depth_stress": 0.5}, {"depth_stress": 2.0, "volatility_stress": 1.1}])
def test_one_stress_at_a_time(stress: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="one of depth_stress and volatility_stress must be 1"):
        book(1e6, 0.01, **stress)


def test_depth_and_volatility_stress_act_where_they_should() -> None:
    plain, thin, wild = (
        book(1e6, 0.01, **s) for s in ({}, {"depth_stress": 4.0}, {"volatility_stress": 4.0})
    )
    assert wide(0.05, thin, 1e7) == pytest.approx(wide(0.05, book(0.25e6, 0.01), 1e7))
    slip = wide(0.05, plain, 1e6) - 0.05
    assert wide(0.05, wild, 1e6) == pytest.approx(0.05 + 4 * slip)


@SOME
@given(margins, st.integers(1, 200), st.floats(0, 500), st.floats(0, 500))
def test_an_older_oracle_price_adds_more(loss: float, close_out: int, a: float, b: float) -> None:
    low, high = (oracle_lag(np.array([loss]), close_out=close_out, delay=d)[0] for d in sorted((a, b)))
    assert 0 <= low <= high
    assert loss + high == pytest.approx(loss * np.sqrt((close_out + max(a, b)) / close_out))


def test_jumps_are_those_that_were_known() -> None:
    rng = np.random.default_rng(6)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 900)))
    opens = np.concatenate([[100.0], close[:-1] * np.exp(rng.normal(0, 0.005, 899))])
    time = pd.date_range("2024-01-01", periods=900, freq="1h", tz="UTC")
    bars = pd.DataFrame({"time": time, "open": opens, "close": close})
    at = [time[50], time[400], time[899]]
    found = jump_add_on(bars, at, level=0.99, window=300)
    gap = np.concatenate([[np.nan], opens[1:] / close[:-1] - 1])
    for place, row in ((1, 400), (2, 899)):
        seen = gap[row - 299 : row + 1]
        for side, loss in (("long", -seen), ("short", seen)):
            expected = np.quantile(np.maximum(loss, 0), 0.99, method="higher")
            assert found[side][place] == pytest.approx(expected)
    few = np.maximum(-gap[1:51], 0)
    assert found["long"][0] == np.quantile(few, 0.99, method="higher")
    changed = bars.copy()
    changed.loc[401:, "open"] *= 2
    assert (
        jump_add_on(changed, at[:2], level=0.99, window=300)["short"].tolist() == found["short"][:2].tolist()
    )


def test_a_newcomer_is_charged_its_peers_jumps_as_they_were_known() -> None:
    rng = np.random.default_rng(6)
    time = pd.date_range("2024-01-01", periods=500, freq="1h", tz="UTC")
    parts = []
    for market, size, rows in (("A", 0.01, 500), ("B", 0.03, 500), ("N", 0.001, 160)):
        opens = 100 * np.exp(rng.normal(0, size, rows))
        parts.append(pd.DataFrame({"market": market, "time": time[-rows:], "open": opens, "close": 100.0}))
    bars = pd.concat(parts, ignore_index=True)
    new = bars[bars["market"] == "N"]
    at = [time[300], time[400], time[438], time[439], time[499]]  # before it begins, 60 to 98 jumps, 99, 159
    found = jump_add_on(new, at, level=0.99, window=200, peers=bars)
    alone = jump_add_on(new, at, level=0.99, window=200)
    for side, sign in (("long", -1), ("short", 1)):
        for place, now in enumerate(at):
            known = [g[g["time"] <= now] for _, g in bars.groupby("market")]
            jumps = [(g["open"] / g["close"].shift() - 1).dropna().tail(200) for g in known]
            pooled = max(0.0, np.quantile(sign * np.concatenate(jumps), 0.99, method="higher"))
            own = place == 4  # 160 jumps of its own
            assert found[side][place] == (alone[side][place] if own else pytest.approx(pooled))
    assert (found["long"] >= alone["long"]).all()
    assert alone["long"][0] == 0.0
    later = bars.assign(open=bars["open"].where(bars["time"] <= time[400], 500.0))
    again = jump_add_on(later[later["market"] == "N"], at[:2], level=0.99, window=200, peers=later)
    assert again["short"].tolist() == found["short"][:2].tolist()


def test_wrong_arguments_of_the_add_ons_are_refused() -> None:
    with pytest.raises(ValueError, match="close_out must be positive and delay not negative"):
        oracle_lag(np.ones(1), close_out=0, delay=1.0)
    with pytest.raises(ValueError, match="level must lie between 0 and 1 and window be at least 100"):
        jump_add_on(pd.DataFrame(), [], level=0.99, window=10)
