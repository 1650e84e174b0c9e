"""A tier's margin applies to the part of the notional above its floor, in every replay, at every price."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.backtest.asked import average_margin
from calibrator.backtest.course import Course, fast_replay, frame_of, heap_events, loop_events, plain_course
from calibrator.backtest.cross import Courses, CrossAccounts, cross_replay
from calibrator.backtest.events import Positions, search_events
from calibrator.backtest.exploits import ENDS, Exploit, simulate
from calibrator.backtest.exploits_accounts import chosen, position_crowd, position_track
from calibrator.backtest.exploits_engine import CHANGE
from calibrator.backtest.exploits_track import Track
from calibrator.backtest.partial import Rungs, replay_ladder
from calibrator.backtest.population import simulate_accounts
from calibrator.backtest.terms import Prices, Terms, deductions
from calibrator.backtest.transition import loop
from calibrator.backtest.venue import Quote, Rules, tier_terms
from calibrator.calibrate.margin import as_schedule, initial_margin, requirement
from calibrator.config_backtest import AccountsConfig
from calibrator.domain import PPM
from calibrator.errors import DataError

floors_of = st.lists(st.integers(1, 5_000), min_size=1, max_size=6, unique=True).map(
    lambda floors: np.array([0, *sorted(floors)])
)


def terms_of(rng: np.random.Generator, floors: np.ndarray, bars: int, *, steep: int) -> Terms:
    """Margins that change every few bars and rise with the tier, some not at all."""
    first = np.repeat(rng.integers(10_000, 60_000, bars), 4)[:bars]
    rises = rng.integers(0, steep, (len(floors) - 1, bars)) * (rng.random((len(floors) - 1, 1)) < 0.8)
    maintenance = np.cumsum(np.vstack([first, np.repeat(rises, 4, axis=1)[:, :bars]]), axis=0)
    return Terms(floors, maintenance, maintenance * 2, 0)


def world(seed: int, floors: np.ndarray, *, bars: int = 40, accounts: int = 30) -> tuple[Course, Positions]:
    """A rough market on a grid of prices, and accounts whose notionals lie around and on the borders."""
    rng = np.random.default_rng(seed)
    close = np.maximum(np.round(50 * np.exp(np.cumsum(0.05 * rng.standard_normal(bars)))), 2.0)
    start = np.concatenate([close[:1], close[:-1]])
    low, high = np.minimum(start, close) - rng.integers(0, 2, bars), np.maximum(start, close) + 1
    prices = Prices(np.arange(bars).astype("M8[h]"), high, low, close)
    course = plain_course(prices, terms_of(rng, floors, bars, steep=60_000))
    opened = rng.integers(0, bars - 1, accounts)
    notional = rng.choice(floors[1:], accounts) * rng.choice([0.3, 0.8, 1.0, 1.0, 1.3, 3.0], accounts)
    positions = Positions(
        rng.choice([1, -1], accounts), notional / close[opened], close[opened],
        notional * rng.uniform(0.05, 0.4, accounts), opened,
        np.minimum(opened + rng.integers(1, bars, accounts), bars),
    )  # fmt: skip
    return course, positions


@given(st.integers(0, 10_000), floors_of, st.integers(0, 3), st.sampled_from([1.0, 0.4]))
@settings(max_examples=150, deadline=None)
def test_every_engine_agrees_with_the_plain_loop_across_borders(
    seed: int, floors: np.ndarray, latency: int, factor: float
) -> None:
    course, positions = world(seed, floors)
    prices, terms = course.prices, course.terms
    slow = loop_events(prices, terms, positions, latency)
    none = Rungs(*(np.zeros((len(floors), 0, len(prices.time)), "int64") for _ in range(2)))
    for engine in (search_events, heap_events):
        fast = engine(prices, terms, positions, latency)
        for name in ("breached", "settled", "self_inflicted"):
            np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name), err_msg=name)
    ladder = replay_ladder(prices, terms, positions, none, latency=latency, penalty=0.01)
    assert (ladder["breached"] == slow.breached).mean() > 0.9  # equal but for ties of another formula
    rules = Rules(latency=latency, close_factor=factor, full_below=0.3, backstop="deleverage")
    deep = replace(course, depth=np.full(len(prices.time), 50_000.0))
    plain = loop(deep.state(positions), deep.moments(), rules=rules)
    done = fast_replay(deep, positions, rules=rules)
    pd.testing.assert_frame_equal(done.events, frame_of(plain.events), check_exact=True)


@given(st.integers(0, 10_000), floors_of, st.sampled_from([0, 2]), st.sampled_from([1.0, 0.4]))
@settings(max_examples=100, deadline=None)
def test_blocks_agree_with_the_plain_loop_across_borders(
    seed: int, floors: np.ndarray, depth: int, factor: float
) -> None:
    courses = Courses(tuple(world(seed + i, floors, accounts=1)[0] for i in range(2)))
    rng = np.random.default_rng(seed)
    count = 10
    opened = rng.integers(0, 30, count)
    price = np.array([c.prices.close for c in courses.markets])[:, opened]
    notional = rng.choice(floors[1:], (2, count)) * rng.choice([0.5, 1.0, 1.4], (2, count))
    quantity = rng.choice([1, -1], (2, count)) * notional / price
    cash = notional.sum(axis=0) * rng.uniform(0.05, 0.4, count) - (quantity * price).sum(axis=0)
    accounts = CrossAccounts(
        cash, opened, np.full(count, 40), 2 * np.arange(count + 1), np.tile([0, 1], count),
        np.ascontiguousarray(quantity.T).ravel(),
    )  # fmt: skip
    rules = Rules(close_factor=factor, full_below=0.3, latency=1)
    slow = loop(courses.state(accounts), courses.moments(), rules=rules)
    fast = cross_replay(courses, accounts, rules=rules, depth=depth)
    pd.testing.assert_frame_equal(fast.events, frame_of(slow.events), check_exact=True)


def test_those_worlds_hold_breaches_in_every_tier() -> None:
    floors, seen = np.array([0, 500, 1_000]), set()
    for seed in range(40):
        course, positions = world(seed, floors)
        found = search_events(course.prices, course.terms, positions, 0)
        at = np.flatnonzero(found.breached >= 0)
        value = positions.quantity[at] * course.prices.close[found.breached[at]]
        tier = course.terms.tier(value)
        seen |= set(zip(tier.tolist(), found.self_inflicted[at].tolist(), strict=True))
    assert seen == {(k, forced) for k in range(3) for forced in (False, True)}


@given(st.lists(st.integers(1, 900_000), min_size=1, max_size=6).map(sorted), floors_of, st.floats(0, 20_000))
@settings(max_examples=2_000, deadline=None)
def test_the_replay_asks_what_the_schedule_requires(
    rates: list[int], floors: np.ndarray, notional: float
) -> None:
    count = min(len(rates), len(floors))
    maintenance, floors = np.array(rates[:count]), floors[:count]
    schedule = as_schedule(tuple(floors.tolist()), maintenance, initial_margin(maintenance, 1.1))
    quote = Quote(1.0, 1.0, 1.0, 1.0, (), tuple(maintenance.tolist()), tuple(floors.tolist()))
    for value in (int(notional), *floors.tolist(), max(int(floors[-1]) - 1, 0)):
        margin, spared = tier_terms(quote, float(value))
        assert value * margin - spared == pytest.approx(requirement(schedule, value) / PPM, abs=1e-6)
        tier = int(np.searchsorted(floors, value, side="right")) - 1
        assert spared * PPM == pytest.approx(int(deductions(floors, maintenance)[tier]))


def test_nothing_jumps_where_a_tier_begins() -> None:
    close = np.full(4, 100.0)
    prices = Prices(np.arange(4).astype("M8[h]"), close, close, close)
    rates = np.array([[50_000] * 4, [500_000] * 4])
    terms = Terms(np.array([0, 10_000]), rates, rates + 1, 0)
    notional = np.array([9_999.0, 10_000.0, 10_001.0, 20_000.0, 20_000.0])
    # 500 for the first 10,000, and half of the rest
    collateral = np.array([500.1, 500.1, 500.6, 5_499.0, 5_501.0])
    zero = np.zeros(5, "int64")
    positions = Positions(zero + 1, notional / 100, zero + 100.0, collateral, zero, zero + 4)
    for engine in (search_events, heap_events, loop_events):
        assert engine(prices, terms, positions, 0).breached.tolist() == [-1, -1, -1, 1, -1]
    events = search_events(prices, terms, positions, 0)
    asked = average_margin(prices, terms, positions, events) * notional
    assert asked.round(6).tolist() == [499.95, 500.0, 500.5, 5_500.0, 5_500.0]


def test_a_rising_price_carries_a_short_into_the_next_tier() -> None:
    close = np.array([100.0, 100.0, 120.0, 120.0])
    prices = Prices(np.arange(4).astype("M8[h]"), close, close, close)
    rates = np.array([[50_000] * 4, [400_000] * 4])
    terms, zero = Terms(np.array([0, 10_000]), rates, rates + 1, 0), np.zeros(2, "int64")
    # At 120 the notional is 10,800: 500 for the first 10,000 and 320 for the rest; equity is 819 and 821.
    short = Positions(zero - 1, zero + 90.0, zero + 100.0, np.array([2_619.0, 2_621.0]), zero, zero + 4)
    for engine in (search_events, heap_events, loop_events):
        assert engine(prices, terms, short, 0).breached.tolist() == [2, -1]


def test_accounts_open_with_the_initial_margin_of_every_part() -> None:
    time = pd.date_range("2024-01-01", periods=50, freq="1h", tz="UTC").as_unit("us")
    bars = pd.DataFrame(
        {"market": "A", "time": time, "open": 10.0, "high": 10.0, "low": 10.0, "close": 10.0, "volume": 1.0}
    )
    rows = {"market": "A", "effective_from": time[:1], "regime": 0}
    schedule = pd.concat(
        pd.DataFrame(rows | {"notional_floor": f, "initial_margin_ppm": 2 * m, "maintenance_margin_ppm": m})
        for f, m in ((0, 100_000), (10_000, 300_000))
    )
    config = AccountsConfig(count=500, seed=1, notional_median=10_000, leverage_median=50)
    a = simulate_accounts(bars, {"x": schedule}, config).accounts
    notional = a["quantity"] * a["entry_price"]
    asked = 0.2 * np.minimum(notional, 10_000) + 0.6 * np.maximum(notional - 10_000, 0)
    assert (a["collateral"] >= asked * (1 - 1e-12)).all()
    exactly = np.isclose(a["collateral"], asked, rtol=1e-12)
    assert exactly.mean() > 0.8
    assert (notional[exactly] > 10_000).mean() > 0.4


def test_margins_that_fall_with_notional_are_refused() -> None:
    rates = np.array([[50_000, 50_000], [50_000, 49_999]])
    with pytest.raises(DataError, match="margins must not fall with notional, they do at 10 in bar 1"):
        Terms(np.array([0, 10]), rates, 2 * rates, 0)


def test_owners_of_large_positions_leave_and_are_liquidated_by_what_the_whole_of_it_is_asked() -> None:
    close, rates = np.full(5, 100.0), np.array([[50_000] * 5, [100_000] * 3 + [400_000] * 2])
    prices = Prices(np.arange(5).astype("M8[h]"), close, close, close)
    terms, zero = Terms(np.array([0, 10_000]), rates, rates + 1, 0), np.zeros(3, "int64")
    # For 20,000: 500 and 1,000, from bar 3 on 500 and 4,000; near is 1.25 times that, 5,625.
    collateral = np.array([4_400.0, 5_600.0, 5_700.0])
    for side in (1, -1):
        held = Positions(zero + side, zero + 200.0, zero + 100.0, collateral, zero, zero + 5)
        crowd, _ = position_crowd(held, bars=5)
        track = position_track(prices, terms, np.full(5, 1e12), near=1.25)
        nobody, everybody = np.zeros(3, bool), np.ones(3, bool)
        alone, gone, added = (
            simulate(track, crowd, Exploit(1, *who))
            for who in ((nobody, nobody), (nobody, everybody), (everybody, nobody))
        )
        assert [ENDS[w] for w in alone.why] == ["change", "", ""]
        assert alone.bar.tolist() == search_events(prices, terms, held, 0).breached.tolist() == [3, -1, -1]
        assert [ENDS[w] for w in gone.why] == ["left", "left", ""]
        assert gone.bar.tolist() == [2, 2, -1]
        assert [ENDS[w] for w in added.why] == ["", "", ""]


def test_a_track_with_tiers_needs_their_deductions() -> None:
    one, rows = np.ones(3), np.full((4, 3), 0.9)
    sides = np.array([1, -1, 1, -1])
    with pytest.raises(ValueError, match=r"spared must have shape \(2, 3\), was \(\)"):
        Track(one, one, one, one, rows, rows, sides, one, floors=np.array([0.0, 10.0]))


@given(st.integers(0, 10_000), floors_of)
@settings(max_examples=40, deadline=None)
def test_announced_changes_are_the_plain_replay_and_liquidate_nobody_who_reacts(
    seed: int, floors: np.ndarray
) -> None:
    course, positions = world(seed, floors)
    prices, terms, bars = course.prices, course.terms, len(course.prices.time)
    crowd, which = position_crowd(positions, bars)
    track = position_track(prices, terms, np.full(bars, 1e12), near=1.25)
    nobody, everybody = np.zeros(crowd.accounts, bool), np.ones(crowd.accounts, bool)
    alone, added = (simulate(track, crowd, Exploit(1, who, nobody)) for who in (nobody, everybody))
    events = search_events(prices, terms, chosen(positions, which), 0)
    np.testing.assert_array_equal(alone.bar, events.breached)
    np.testing.assert_array_equal(alone.why == CHANGE, events.self_inflicted)
    assert not (added.why == CHANGE).any()
    assert added.liquidated.sum() <= alone.liquidated.sum()
