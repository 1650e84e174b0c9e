"""The ladder's replay: without rungs it is the replay; with rungs money is conserved."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.backtest.course import loop_events
from calibrator.backtest.events import Positions
from calibrator.backtest.partial import Rungs, replay_ladder
from calibrator.backtest.terms import Prices, Terms

TIMES = pd.date_range("2024-01-01", periods=60, freq="1h").to_numpy()


def world(seed: int, accounts: int = 40) -> tuple[Prices, Terms, Positions]:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, 60)))
    low, high = close * (1 - rng.uniform(0, 0.03, 60)), close * (1 + rng.uniform(0, 0.03, 60))
    maintenance = np.tile(rng.integers(30_000, 60_000, 60), (2, 1)) + np.array([[0], [20_000]])
    terms = Terms(np.array([0, 10_000]), maintenance, maintenance * 2, 0)
    opened = rng.integers(0, 59, accounts)
    entry = close[opened]
    notional = np.exp(rng.normal(8, 1.5, accounts))
    quantity = notional / entry
    closes = np.minimum(opened + rng.integers(0, 40, accounts), 60)
    positions = Positions(
        rng.choice([-1, 1], accounts), quantity, entry, notional * rng.uniform(0.08, 0.4, accounts), opened,
        closes,
    )  # fmt: skip
    return Prices(TIMES, high, low, close), terms, positions


def rungs_of(terms: Terms, count: int, fraction: int = 300_000) -> Rungs:
    room = terms.initial - terms.maintenance
    threshold = np.stack([terms.maintenance + room * k // (2 * count) for k in range(count, 0, -1)], axis=1)
    return Rungs(threshold, np.full_like(threshold, fraction))


def none(terms: Terms) -> Rungs:
    empty = np.zeros((terms.maintenance.shape[0], 0, terms.maintenance.shape[1]), "int64")
    return Rungs(empty, empty)


@settings(max_examples=80)
@given(st.integers(0, 100_000), st.sampled_from([0, 1, 3, 10]), st.sampled_from([0.0, 0.01, 0.2]))
def test_without_rungs_every_account_is_replayed_as_without_a_ladder(
    seed: int, latency: int, penalty: float
) -> None:
    prices, terms, positions = world(seed)
    found = replay_ladder(prices, terms, positions, none(terms), latency=latency, penalty=penalty)
    events = loop_events(prices, terms, positions, latency)
    np.testing.assert_array_equal(found["breached"], events.breached)
    np.testing.assert_array_equal(found["settled"], events.settled)
    gain = positions.direction * positions.quantity * (prices.close[events.settled] - positions.entry_price)
    equity = positions.collateral + gain
    np.testing.assert_allclose(found["pnl"], gain)
    np.testing.assert_allclose(found["shortfall"], np.maximum(-equity, 0), atol=1e-9)
    value = np.where(events.breached >= 0, positions.quantity * prices.close[events.settled], 0.0)
    np.testing.assert_allclose(found["liquidated_notional"], value)
    np.testing.assert_allclose(
        found["penalty"], np.minimum(np.maximum(equity, 0), penalty * value), atol=1e-9
    )


@settings(max_examples=80)
@given(st.integers(0, 100_000), st.integers(0, 8), st.integers(1, 4))
def test_money_is_conserved_and_a_breach_ends_the_position(seed: int, latency: int, count: int) -> None:
    prices, terms, positions = world(seed)
    found = replay_ladder(prices, terms, positions, rungs_of(terms, count), latency=latency, penalty=0.02)
    moved = found["payout"] + found["penalty"] - found["shortfall"] - found["pnl"]
    np.testing.assert_allclose(moved, positions.collateral, rtol=1e-9)
    assert (found[["penalty", "shortfall", "payout", "liquidated_notional"]] >= 0).all(axis=None)
    breached = found["breached"] >= 0
    due = np.minimum(found["breached"] + latency, 59)
    assert (found["settled"][breached] == due[breached]).all()
    quiet = (found["partial_closings"] == 0) & ~breached
    assert (found["liquidated_notional"][quiet] == 0).all()


def test_a_part_closed_in_time_saves_the_rest() -> None:
    close = np.array([100.0, 93.5, 93.5, 91.5, 91.5, 91.5])
    prices = Prices(TIMES[:6], close, close, close)
    flat = np.full((1, 6), 50_000)
    terms = Terms(np.array([0]), flat, 2 * flat, 0)
    one = Positions(
        *(np.array([v]) for v in (1, 1.0, 100.0, 12.0)),
        opened=np.array([0]),
        closes=np.array([6]),
    )
    alone = replay_ladder(prices, terms, one, none(terms), latency=2, penalty=0.0).iloc[0]
    assert alone["breached"] == 3  # 3.5 / 91.5 is below 5 %
    ladder = Rungs(np.full((1, 1, 6), 75_000), np.full((1, 1, 6), 500_000))
    helped = replay_ladder(prices, terms, one, ladder, latency=2, penalty=0.0).iloc[0]
    # 5.5 / 93.5 is below 7.5 %: half is closed one bar later at 93.5; then 4.5 / 45.75 is 9.8 %.
    assert (helped["breached"], helped["partial_closings"]) == (-1, 1)
    assert helped["liquidated_notional"] == pytest.approx(46.75)
    assert helped["payout"] == pytest.approx(12 - 0.5 * 6.5 - 0.5 * 8.5)


def test_a_rung_that_does_not_stand_is_no_rung() -> None:
    prices, terms, positions = world(3)
    absent = Rungs(np.zeros((2, 2, 60), "int64"), np.full((2, 2, 60), 500_000))
    pd.testing.assert_frame_equal(
        replay_ladder(prices, terms, positions, absent, latency=2, penalty=0.01),
        replay_ladder(prices, terms, positions, none(terms), latency=2, penalty=0.01),
    )


@pytest.mark.parametrize(
    ("latency", "penalty", "text"),
    [(-1, 0.0, "latency must not be negative, was -1"), (0, 1.0, r"penalty must lie in \[0, 1\), was 1.0")],
)
def test_wrong_arguments_are_refused(latency: int, penalty: float, text: str) -> None:
    prices, terms, positions = world(1)
    with pytest.raises(ValueError, match=text):
        replay_ladder(prices, terms, positions, none(terms), latency=latency, penalty=penalty)
