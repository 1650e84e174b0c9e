"""The venue: one transition, a plain loop, heaps with identical events, and money that is conserved."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.backtest.course import Course, fast_replay, frame_of, plain_course
from calibrator.backtest.events import Positions
from calibrator.backtest.terms import Prices, Terms
from calibrator.backtest.transition import loop, step
from calibrator.backtest.venue import Account, Holding, Kind, Moment, Quote, Rules, State, equity_of
from calibrator.errors import DataError

FLOORS = np.array([0, 2_000, 20_000])

RULES = st.builds(
    Rules,
    latency=st.integers(0, 3),
    penalty=st.sampled_from([0.0, 0.01, 0.05]),
    fund_share=st.sampled_from([0.0, 0.5, 1.0]),
    close_factor=st.sampled_from([0.2, 0.5, 1.0]),
    full_below=st.sampled_from([0.0, 0.5]),
    dust=st.sampled_from([0.0, 300.0]),
    backstop=st.sampled_from(["venue", "deleverage"]),
    recovery=st.sampled_from([0.0, 0.3, 1.0]),
)


def world(
    seed: int, *, bars: int = 40, accounts: int = 25, depth: float = np.inf
) -> tuple[Course, Positions]:
    """A rough market with funding and interest, and accounts of high leverage on both sides."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.04 * rng.standard_t(3, bars) / np.sqrt(3)))
    start = np.concatenate([close[:1], close[:-1]])
    wick = np.exp(0.02 * np.abs(rng.standard_normal((2, bars))))
    prices = Prices(
        pd.date_range("2024-01-01", periods=bars, freq="h").to_numpy(),
        np.maximum(start, close) * wick[0],
        np.minimum(start, close) / wick[1],
        close,
    )
    margins = rng.integers(10_000, 80_000, bars) + np.array([[0], [10_000], [40_000]])
    course = Course(
        prices,
        Terms(FLOORS, margins, 2 * margins, 0),
        close * 0.002 * rng.standard_normal(bars),
        0.001 * rng.random(bars),
        np.where(rng.random(bars) < 0.8, depth, depth / 5),
    )
    opened = np.sort(rng.integers(0, bars - 1, accounts))
    notional = 1_000 * np.exp(1.5 * rng.standard_normal(accounts))
    quantity = notional / close[opened]
    closes = np.minimum(opened + rng.integers(0, bars, accounts), bars)
    leverage = 2 + 20 * rng.random(accounts)
    positions = Positions(
        rng.choice([1, -1], accounts),
        quantity,
        close[opened],
        notional / leverage,
        opened,
        closes,
    )
    return course, positions


@given(st.integers(0, 10_000), RULES, st.sampled_from([np.inf, 3e5, 3e4]), st.sampled_from([0.0, 50.0, 1e6]))
@settings(max_examples=120, deadline=None)
def test_heaps_and_plain_loop_give_identical_events(
    seed: int, rules: Rules, depth: float, fund: float
) -> None:
    course, positions = world(seed, depth=depth)
    slow = loop(course.state(positions, fund=fund), course.moments(), rules=rules)
    fast = fast_replay(course, positions, rules=rules, fund=fund)
    pd.testing.assert_frame_equal(fast.events, frame_of(slow.events), check_exact=True)
    assert fast.fund[-1] == slow.state.fund
    left = [a.holdings[0].quantity if a.holdings else 0.0 for a in slow.state.accounts]
    np.testing.assert_array_equal(fast.quantity, left)


def test_the_worlds_of_the_equivalence_test_hold_every_kind_of_event() -> None:
    rules = Rules(close_factor=0.5, full_below=0.5, backstop="deleverage")
    frames = [fast_replay(*world(s, depth=3e4), rules=rules).events for s in range(20)]
    events = pd.concat(frames)
    assert set(events["kind"]) == {int(k) for k in Kind}
    assert events["self_inflicted"].any()
    assert (events["given_up"] > 0).any()
    assert (events["uncovered"] > 0).any()
    assert events.groupby("account").size().max() > 1


@given(st.integers(0, 10_000), RULES, st.sampled_from([np.inf, 3e5, 3e4]), st.sampled_from([0.0, 50.0]))
@settings(max_examples=60, deadline=None)
def test_money_is_conserved_in_every_bar(seed: int, rules: Rules, depth: float, fund: float) -> None:
    """Owners, fund, venue, lenders and the outside market together neither gain nor lose a cent.

    The outside market is booked by hand: what it paid and received in trades, what it holds at the mark, and
    funding and interest by their recursion (not by the keys that the engines use).
    """
    course, positions = world(seed, depth=depth)
    state = course.state(positions, fund=fund)
    owed = positions.bankruptcy_price().copy()  # per unit, by b' = b (1 + rate) + funding
    held = positions.direction * positions.quantity
    cash = paid = venue = deposits = 0.0
    for moment in course.moments():
        t, begin = moment.bar, state
        for i in range(len(held)):
            if positions.opened[i] < t and begin.accounts[i].holdings:
                before = owed[i]
                owed[i] = owed[i] * (1 + course.rate[t]) + course.funding[t]
                cash += held[i] * (owed[i] - before)
            if positions.opened[i] == t:
                deposits += positions.collateral[i]
                cash += held[i] * positions.entry_price[i]
        done = step(state, moment, rules=rules)
        for event in done.events:
            cash -= event.quantity * event.price
            held[event.account] -= event.quantity
            paid += event.payout
            venue += event.penalty * (1 - rules.fund_share) - event.uncovered
        state = done.state
        x = state.displacement[0] / (1 - rules.recovery) if rules.recovery < 1 else 0.0
        mark = float(course.prices.close[t]) * (1 / (1 + x) if x >= 0 else 1 - x)
        equities, inventory = 0.0, 0.0
        for i, account in enumerate(state.accounts):
            if account.holdings and positions.opened[i] <= t:
                equities += equity_of(account, moment, (mark,))
                inventory -= account.holdings[0].quantity
                owed[i] = mark - equity_of(account, moment, (mark,)) / account.holdings[0].quantity
        total = equities + state.fund + paid + venue + cash + inventory * mark - deposits - fund
        scale = deposits + abs(cash) + abs(inventory * mark) + 1
        assert abs(total) / scale < 1e-9


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_keys_solve_the_recursion_of_funding_and_interest(seed: int) -> None:
    course, positions = world(seed)
    state, moments = course.state(positions), list(course.moments())
    for i, at in enumerate(positions.opened):
        owed = float(positions.bankruptcy_price()[i])
        for t in range(at + 1, len(moments)):
            owed = owed * (1 + course.rate[t]) + course.funding[t]
        key = state.accounts[i].key
        assert moments[-1].index * (moments[-1].quotes[0].carry + key) == pytest.approx(owed, rel=1e-11)


def test_step_leaves_its_argument_alone() -> None:
    course, positions = world(3, depth=1e4)
    state = course.state(positions)
    copy = State(state.accounts, state.fund, state.displacement)
    for moment in course.moments():
        step(state, moment, rules=Rules(backstop="deleverage"))
    assert state == copy


def quote(start: float, close: float, **more: object) -> Quote:
    return Quote(start, min(start, close), max(start, close), close, (50_000,), (50_000,), **more)  # type: ignore[arg-type]


def account(side: int, bankruptcy: float, quantity: float = 1.0, entry: float = 100.0) -> Account:
    return Account((Holding(0, side * quantity),), bankruptcy, entry, 0, 99)


def test_a_winner_is_deleveraged_at_the_bankruptcy_price() -> None:
    state = State((account(1, 90.0), account(-1, 150.0), account(-1, 120.0, 0.25)), 0.0, (0.0,))
    done = step(state, Moment(1, (quote(100, 80),)), rules=Rules(backstop="deleverage"))
    broke, first, second = done.events
    assert (broke.shortfall, broke.uncovered) == (10.0, 0.0)
    # The smaller one has the larger leverage: all of it goes first, then three quarters of the other.
    assert (first.account, first.quantity, first.given_up) == (2, -0.25, 2.5)
    assert first.payout == 0.25 * (120 - 90)
    assert (second.account, second.quantity, second.given_up) == (1, -0.75, 7.5)
    left = done.state.accounts[1]
    # 70 of equity, 7.5 given up: 62.5 on a quarter, less nothing else.
    assert equity_of(left, Moment(1, (quote(100, 80),)), (80.0,)) == pytest.approx(62.5)


def test_the_fund_pays_before_anybody_is_deleveraged() -> None:
    state = State((account(1, 90.0), account(-1, 150.0)), 4.0, (0.0,))
    done = step(state, Moment(1, (quote(100, 80),)), rules=Rules(backstop="deleverage"))
    assert [e.from_fund for e in done.events] == [4.0, 0.0]
    assert done.events[1].given_up == 6.0
    assert done.state.fund == 0.0
    alone = step(State((account(1, 90.0),), 4.0, (0.0,)), Moment(1, (quote(100, 80),)), rules=Rules())
    assert alone.events[0].uncovered == 6.0


def test_forced_sales_carry_others_away() -> None:
    # The first breaches at 94 and sells 10 units: one per cent of the depth, then an eighth of it.
    state = State((account(1, 90.0, 10.0), account(1, 84.0, 1.0)), 0.0, (0.0,))
    moment = Moment(1, (quote(100, 94, depth=94_000.0),))
    done = step(state, moment, rules=Rules())
    assert [e.account for e in done.events] == [0]
    thin = Moment(1, (quote(100, 94, depth=7_520.0),))
    carried = step(state, thin, rules=Rules())
    assert [e.account for e in carried.events] == [0, 1]
    assert carried.events[0].price == pytest.approx(94 / 1.125)
    assert carried.events[1].price < carried.events[0].price


def test_partial_liquidation_by_hand() -> None:
    state = State((account(1, 90.0, 2.0),), 0.0, (0.0,))
    moment = Moment(1, (quote(100, 94),))
    done = step(state, moment, rules=Rules(close_factor=0.5, penalty=0.02))
    event, left = done.events[0], done.state.accounts[0]
    assert (event.quantity, event.notional, event.payout) == (1.0, 94.0, 0.0)
    assert event.penalty == pytest.approx(1.88)
    assert equity_of(left, moment, (94.0,)) == pytest.approx(2 * (94 - 90) - 1.88)
    assert (left.touched, left.breached) == (1, -1)
    whole = step(state, moment, rules=Rules(close_factor=0.5, dust=95.0))
    assert whole.state.accounts[0].holdings == ()


def test_cross_margined_account_shares_its_equity() -> None:
    def at(a: float, b: float) -> Moment:
        return Moment(1, (quote(100, a), quote(50, b)))

    # Long 1 of the first, short 2 of the second, 10 of cash over the entry value of zero.
    hedged = Account((Holding(0, 1.0), Holding(1, -2.0)), 10.0, 1.0, 0, 99, cross=True)
    state = State((hedged,), 0.0, (0.0, 0.0))
    assert step(state, at(80, 40), rules=Rules()).events == ()  # falls together: hedged
    done = step(state, at(90, 50), rules=Rules(penalty=0.01))
    assert done.events[0].notional == 190.0
    assert done.events[0].payout == 0.0
    late = step(state, at(80, 50), rules=Rules())
    assert late.events[0].shortfall == 10.0
    half = step(state, at(96, 50), rules=Rules(close_factor=0.5, penalty=0.0)).state.accounts[0]
    assert [h.quantity for h in half.holdings] == [0.5, -1.0]
    assert equity_of(half, at(96, 50), (96.0, 50.0)) == pytest.approx(6.0)


BAD_RULES = [
    ({"latency": -1}, "latency must not be negative, was -1"),
    ({"penalty": 1.0}, r"penalty must lie in \[0, 1\), was 1.0"),
    ({"close_factor": 0.0}, r"close_factor must lie in \(0, 1\], was 0.0"),
    ({"fund_share": 1.5}, r"fund_share must lie in \[0, 1\], was 1.5"),
    ({"full_below": np.nan}, r"full_below must lie in \[0, 1\], was nan"),
    ({"recovery": -0.1}, r"recovery must lie in \[0, 1\], was -0.1"),
    ({"dust": np.inf}, "dust must be finite and not negative, was inf"),
    ({"backstop": "god"}, "backstop must be venue or deleverage, was 'god'"),
]


@pytest.mark.parametrize(("changes", "match"), BAD_RULES, ids=[next(iter(c)) for c, _ in BAD_RULES])
def test_bad_rules(changes: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Rules(**changes)  # type: ignore[arg-type]


def test_bad_course() -> None:
    course, positions = world(1)
    bars = len(course.prices.time)
    with pytest.raises(DataError, match="funding_rate: must have one value per bar, 3 for 40 bars"):
        plain_course(course.prices, course.terms, funding_rate=np.zeros(3))
    with pytest.raises(DataError, match="depth: is out of bounds in bar 2"):
        plain_course(course.prices, course.terms, depth=np.where(np.arange(bars) == 2, 0.0, 1.0))
    for change, match in (
        ({"opened": positions.opened + 40}, "position 0: must open in one of 40 bars, was"),
        ({"closes": positions.opened - 1}, "position 0: must not close before it opens"),
        ({"direction": 0 * positions.direction}, r"position 0: direction must be \+1 or -1, was 0"),
        ({"quantity": -positions.quantity}, "position 0: quantity must be positive"),
    ):
        with pytest.raises(DataError, match=match):
            fast_replay(course, replace(positions, **change), rules=Rules())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fund must be finite and not negative, was -1"):
        fast_replay(course, positions, rules=Rules(), fund=-1)
