"""Cross-margined accounts: blocks of bars skip what cannot breach, and nothing else changes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.backtest.course import Course, frame_of, plain_course
from calibrator.backtest.cross import Courses, CrossAccounts, cross_replay
from calibrator.backtest.terms import Prices, Terms
from calibrator.backtest.transition import loop
from calibrator.backtest.venue import Rules
from calibrator.errors import DataError

FLOORS = np.array([0, 2_000])
RULES = st.builds(
    Rules,
    latency=st.integers(0, 3),
    penalty=st.sampled_from([0.0, 0.02]),
    fund_share=st.sampled_from([0.5, 1.0]),
    close_factor=st.sampled_from([0.3, 1.0]),
    full_below=st.sampled_from([0.0, 0.5]),
    dust=st.sampled_from([0.0, 300.0]),
)


def world(seed: int, *, bars: int, accounts: int = 12, assets: int = 3) -> tuple[Courses, CrossAccounts]:
    rng = np.random.default_rng(seed)
    time = pd.date_range("2024-01-01", periods=bars, freq="h").to_numpy()
    common, rate = rng.standard_t(3, bars), 0.001 * rng.random(bars)
    markets = []
    for _ in range(assets):
        close = 50 * np.exp(np.cumsum(0.03 * (common + rng.standard_t(3, bars)) / 2))
        margins = rng.integers(10_000, 80_000, bars) + np.array([[0], [20_000]])
        terms = Terms(FLOORS, margins, 2 * margins, 0)
        funding = close * 0.001 * rng.standard_normal(bars)
        prices = Prices(time, close, close, close)
        markets.append(Course(prices, terms, funding, rate, np.full(bars, np.inf)))
    held = rng.integers(1, assets + 1, accounts)
    asset = np.concatenate([rng.permutation(assets)[:n] for n in held])
    opened = rng.integers(0, bars - 1, accounts)
    price = np.array([m.prices.close for m in markets])[asset, np.repeat(opened, held)]
    notional = 1_000 * np.exp(rng.standard_normal(len(asset)))
    quantity = rng.choice([1, -1], len(asset)) * notional / price
    first = np.concatenate([[0], np.cumsum(held)])
    value, gross = (np.add.reduceat(v, first[:-1]) for v in (quantity * price, notional))
    cash = gross / (3 + 20 * rng.random(accounts)) - value
    closes = np.minimum(opened + rng.integers(0, bars, accounts), bars)
    return Courses(tuple(markets)), CrossAccounts(cash, opened, closes, first, asset, quantity)


@given(st.integers(0, 10_000), RULES, st.sampled_from([3, 30, 130]), st.sampled_from([0, 1, 3]))
@settings(max_examples=60, deadline=None)
def test_blocks_and_plain_loop_give_identical_events(seed: int, rules: Rules, bars: int, depth: int) -> None:
    courses, accounts = world(seed, bars=bars, accounts=8 if bars > 100 else 12)
    slow = loop(courses.state(accounts, fund=20.0), courses.moments(), rules=rules)
    fast = cross_replay(courses, accounts, rules=rules, fund=20.0, depth=depth)
    pd.testing.assert_frame_equal(fast.events, frame_of(slow.events), check_exact=True)
    assert fast.fund[-1] == slow.state.fund


def test_those_worlds_hold_every_kind_of_event() -> None:
    rules = Rules(close_factor=0.3, full_below=0.5, latency=1)
    done = [cross_replay(*world(s, bars=130), rules=rules) for s in range(20)]
    events = pd.concat([d.events for d in done])
    assert set(events["kind"]) == {0, 2}
    assert (events["shortfall"] > 0).any()
    assert (events["from_fund"] > 0).any()
    assert (events["uncovered"] > 0).any()
    assert events["self_inflicted"].any()
    assert any(d.events.groupby("account").size().max() > 1 for d in done)
    assert any((d.quantity != 0).any() for d in done)


def test_bad_input() -> None:
    courses, accounts = world(1, bars=10)
    fields = {n: getattr(accounts, n) for n in accounts.__slots__}
    beyond = CrossAccounts(**(fields | {"asset": accounts.asset + 1}))
    with pytest.raises(DataError, match="asset must be below 3, was 3"):
        cross_replay(courses, beyond, rules=Rules())
    for change, match in (
        ({"opened": accounts.opened[1:]}, "opened: must have 12 values, has 11"),
        ({"closes": accounts.opened - 1}, "account 0: must not close before it opens"),
        ({"first": np.zeros(13, "int64")}, "account 0: must hold something"),
        ({"quantity": accounts.quantity[1:]}, "quantity: must have"),
    ):
        with pytest.raises(DataError, match=match):
            CrossAccounts(**(fields | change))
    with pytest.raises(ValueError, match="backstop must be venue for cross-margined accounts"):
        cross_replay(courses, accounts, rules=Rules(backstop="deleverage"))
    with pytest.raises(ValueError, match=r"depth must lie in \[0, 6\], was 7"):
        cross_replay(courses, accounts, rules=Rules(), depth=7)
    other = world(2, bars=10)[0]
    with pytest.raises(DataError, match="must have the same interest"):
        Courses((courses.markets[0], other.markets[0]))
    longer = world(2, bars=11)[0]
    with pytest.raises(DataError, match="must have the same bars"):
        Courses((courses.markets[0], longer.markets[0]))
    one = courses.markets[0]
    with pytest.raises(DataError, match="need infinite depth"):
        Courses((plain_course(one.prices, one.terms, depth=np.ones(10)),))
