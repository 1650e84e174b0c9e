"""Vaults: books that add up, breaches that a loop over bars finds too, fates of real liquidations."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.backtest.vault_replay import FATES, replay_vaults
from calibrator.backtest.vaults import Books, Fees, Floors, Oracle, breaches, delayed, rebuild
from calibrator.errors import DataError

START = pd.Timestamp("2021-01-01", tz="UTC")
FEES = Fees(np.array(["2021-01-01", "2021-01-05"], "M8[us]"), np.array([0.5, 2.0]))


def rows(*values: tuple[str, float, float, float]) -> pd.DataFrame:
    """Vault, hours after the start, collateral, debt."""
    frame = pd.DataFrame(values, columns=["vault", "time", "collateral", "debt"])
    frame["time"] = (START + pd.to_timedelta(frame["time"].astype(float), unit="h")).astype(
        "datetime64[us, UTC]"
    )
    return frame.astype({"vault": "str", "collateral": "float64", "debt": "float64"})


def hours(count: int) -> np.ndarray:
    return np.datetime64("2021-01-01T00", "us") + np.arange(1, count + 1) * np.timedelta64(1, "h")


def drawn(seed: int, bars: int = 300) -> tuple[Books, Oracle, np.ndarray]:
    rng = np.random.default_rng(seed)
    price = 100 * np.exp(np.cumsum(0.02 * rng.standard_normal(bars)))
    values = []
    for vault in range(6):
        debt = 0.0
        for hour in np.sort(rng.uniform(0, bars, 8)):
            change = 1_000 * rng.standard_normal() if debt > 0 else 2_000.0
            debt += change
            values.append((str(vault), float(hour), float(10 * rng.random()), float(change)))
    lots = rows(*[(str(v), float(rng.uniform(0, bars)), 1.0, 500.0) for v in range(3)])
    books = rebuild(rows(*values), lots, fees=FEES, floors=Floors(FEES.time, np.array([50.0, 200.0])))
    ratio = 1.3 + 0.3 * rng.random(bars - 1)
    return books, delayed(hours(bars), price, delay=1), ratio


@given(st.integers(0, 10_000), st.sampled_from([None, 1.3]))
@settings(max_examples=20, deadline=None)
def test_breaches_are_those_of_a_loop_over_bars(seed: int, distance: float | None) -> None:
    books, oracle, ratio = drawn(seed)
    found = breaches(books, oracle, ratio, distance=distance)
    index, expected = FEES.index(oracle.time), []
    for vault, own in books.changes.groupby("vault", sort=False):
        for t, now in enumerate(oracle.time):
            before = own[own["time"] < now]
            if before.empty:
                continue
            last = before.iloc[-1]
            held = last["collateral"]
            if distance is not None:
                in_force = np.searchsorted(oracle.time, np.datetime64(last["time"]), side="right") - 1
                held = held * ratio[max(in_force, 0)] / distance
            if last["units"] > 0 and held * oracle.price[t] < ratio[t] * (last["units"] * index[t]):
                expected.append((vault, t))
    assert list(zip(found["vault"], found["bar"], strict=True)) == expected


def test_debts_grow_by_the_fee_from_their_own_time_on() -> None:
    books = rebuild(rows(("a", 0, 10, 100), ("a", 48, 0, 100)), rows(("z", 1, 1, 1)), fees=FEES)
    later = np.array(["2021-01-11"], "M8[us]")
    debt = books.changes["units"].iloc[-1] * FEES.index(later)[0]
    growth = 1.5 ** (4 / 365) * 3 ** (6 / 365), 1.5 ** (2 / 365) * 3 ** (6 / 365)
    assert debt == pytest.approx(100 * growth[0] + 100 * growth[1], rel=1e-12)


def test_remainders_of_rounding_are_closed_and_counted() -> None:
    floors = Floors(np.array(["2021-01-01"], "M8[us]"), np.array([100.0]))
    events = rows(("a", 0, 10, 1000), ("a", 5, 0, -990), ("b", 0, 5, 500), ("b", 6, -5, 0))
    lots = rows(("c", 3, 1, 1))
    books = rebuild(events, lots, fees=FEES, floors=floors)
    assert books.changes.groupby("vault")["units"].last().tolist() == [0.0, 0.0]
    assert books.counts == {
        "events": 4, "lots": 1, "repeated_events": 0, "repeated_lots": 0, "unknown_lots": 1,
        "closed_by_floor": 1, "negative": 0,
    }  # fmt: skip


def test_repeated_lots_are_lots() -> None:
    events = rows(("a", 0, 10, 1000))
    lots = rows(("a", 5, 4, 400), ("a", 5, 4, 400))
    books = rebuild(events, lots, fees=Fees(FEES.time[:0], np.array([])))
    assert books.changes[["collateral", "units"]].iloc[-1].tolist() == [2.0, 200.0]
    assert books.counts["repeated_lots"] == 1
    assert len(books.days()) == 1


PATHS = {
    "agreeing": (np.where(np.arange(400) < 55, 100.0, 70.0), 60),
    "earlier": (np.where(np.arange(400) < 10, 100.0, 70.0), 100),
    "later": (np.where(np.arange(400) < 120, 100.0, 70.0), 60),
    "avoided": (np.full(400, 100.0), 60),
}


@pytest.mark.parametrize("fate", FATES)
def test_every_fate(fate: str) -> None:
    price, struck = PATHS[fate]
    books = rebuild(
        rows(("a", 0, 10, 700)), rows(("a", struck, 10, 700)), fees=Fees(FEES.time[:0], np.array([]))
    )
    done = replay_vaults(books, delayed(hours(400), price, delay=1), np.full(399, 1.3), close_out=2)
    assert done.days["fate"].tolist() == [fate]
    assert done.summary()[fate] == 1
    assert done.summary()["caused"] == int(fate == "earlier")
    assert done.average_ratio == pytest.approx(1.3)


def test_shortfall_is_what_the_sale_leaves_unpaid() -> None:
    price = np.where(np.arange(400) < 50, 100.0, 90.0)
    price[53:] = 60.0
    books = rebuild(rows(("a", 0, 10, 700)), rows(("b", 3, 1, 1)), fees=Fees(FEES.time[:0], np.array([])))
    done = replay_vaults(books, delayed(hours(400), price, delay=1), np.full(399, 1.3), close_out=3)
    assert done.liquidations["shortfall"].tolist() == [100.0]
    wide = replay_vaults(books, delayed(hours(400), price, delay=1), np.full(399, 2.0), close_out=3)
    assert wide.liquidations["shortfall"].tolist() == [0.0]
    kept = replay_vaults(
        books, delayed(hours(400), price, delay=1), np.full(399, 2.0), close_out=3, distance=1.3
    )
    assert kept.liquidations["time"].iloc[0] > wide.liquidations["time"].iloc[0]


def test_a_rise_of_the_ratio_is_told_from_a_fall_of_the_price() -> None:
    flat = np.full(400, 100.0)
    fallen = np.where(np.arange(400) < 50, 100.0, 80.0)
    rising = np.where(np.arange(399) < 60, 1.3, 1.5)
    books = rebuild(
        rows(("a", 0, 10, 700), ("b", 0, 10, 500)),
        rows(("c", 3, 1, 1)),
        fees=Fees(FEES.time[:0], np.array([])),
    )
    for price, ratio, by_change in ((flat, rising, 1), (fallen, rising, 0)):
        done = replay_vaults(books, delayed(hours(400), price, delay=1), ratio, close_out=1)
        assert done.liquidations["vault"].tolist() == ["a"]
        assert done.summary()["by_change"] == by_change
        assert done.summary()["by_change_share"] == float(by_change)
    kept = replay_vaults(books, delayed(hours(400), flat, delay=1), np.full(399, 1.3), close_out=1)
    assert kept.summary()["by_change_share"] == 0.0


def test_bad_input() -> None:
    good, none = rows(("a", 0, 10, 100)), rows(("a", 3, 1, 1))
    with pytest.raises(DataError, match="there must be at least one row, there are 0"):
        rebuild(good.iloc[:0], none, fees=FEES)
    with pytest.raises(DataError, match="vault events: amounts must be finite, they are not in row 0"):
        rebuild(good.assign(debt=np.nan), none, fees=FEES)
    with pytest.raises(DataError, match="what a liquidation takes must not be negative"):
        rebuild(good, none.assign(debt=-1.0), fees=FEES)
    with pytest.raises(DataError, match="fees: times must rise"):
        Fees(FEES.time[::-1], FEES.annual)
    with pytest.raises(DataError, match="fees: must be finite annual fractions above -1"):
        Fees(FEES.time, np.array([0.1, -1.0]))
    with pytest.raises(ValueError, match=r"delay must lie in \[0, 3\) bars, was 3"):
        delayed(hours(3), np.ones(3), delay=3)
    books, oracle = rebuild(good, none, fees=FEES), delayed(hours(5), np.ones(5), delay=1)
    with pytest.raises(ValueError, match="ratio must be positive, one per price: 3 for 4"):
        replay_vaults(books, oracle, np.ones(3), close_out=1)
    with pytest.raises(ValueError, match="close_out and patience must not be negative, were -1 and 168"):
        replay_vaults(books, oracle, np.ones(4), close_out=-1)
