"""The replay: one rule, identical events from both engines, money conserved, bad input named."""

import itertools
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.backtest.course import heap_events, loop_events
from calibrator.backtest.events import Positions, search_events
from calibrator.backtest.population import simulate_accounts
from calibrator.backtest.replay import Replay, compare, replay
from calibrator.backtest.terms import prices_by_market, terms_by_market
from calibrator.config_backtest import AccountsConfig
from calibrator.errors import DataError

TIERS = (0, 30_000, 100_000)
CONFIG = AccountsConfig(count=120, seed=5, leverage_median=9, holding_median=30)


def clock(count: int, *, step: str = "1D") -> pd.DatetimeIndex:
    return pd.date_range("2022-01-01", periods=count, freq=step, tz="UTC").as_unit("us")


def make_bars(
    seed: int, count: int, *, markets: tuple[str, ...] = ("A",), sigma: float = 0.03
) -> pd.DataFrame:
    rng, frames = np.random.default_rng(seed), []
    for market in markets:
        close = 100 * np.exp(np.cumsum(sigma * rng.standard_t(4, count) / np.sqrt(2)))
        start = np.concatenate([[100.0], close[:-1]])
        wick = np.exp(sigma / 2 * np.abs(rng.standard_normal((2, count))))
        frames.append(
            pd.DataFrame(
                {
                    "market": market,
                    "time": clock(count, step="1h"),
                    "open": start,
                    "high": np.maximum(start, close) * wick[0],
                    "low": np.minimum(start, close) / wick[1],
                    "close": close,
                    "volume": 1.0,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def make_schedule(
    seed: int, bars: pd.DataFrame, *, every: int = 7, tiers: tuple[int, ...] = (0,)
) -> pd.DataFrame:
    rng, frames = np.random.default_rng(seed), []
    for market, one in bars.groupby("market"):
        times = pd.DatetimeIndex(one["time"])[::every] - pd.Timedelta("1h")
        base = rng.integers(20_000, 90_000, len(times))
        frames += [
            pd.DataFrame(
                {
                    "market": market,
                    "effective_from": times,
                    "notional_floor": floor,
                    "regime": 0,
                    "initial_margin_ppm": (base * 1.5).astype("int64") + 10_000 * k,
                    "maintenance_margin_ppm": base + 10_000 * k,
                }
            )
            for k, floor in enumerate(tiers)
        ]
    return pd.concat(frames, ignore_index=True)


@given(st.integers(0, 10_000), st.integers(0, 5), st.sampled_from([(0,), TIERS]), st.integers(3, 160))
@settings(max_examples=25, deadline=None)
def test_both_engines_give_identical_events(
    seed: int, latency: int, tiers: tuple[int, ...], count: int
) -> None:
    bars = make_bars(seed, count)
    schedule = make_schedule(seed + 1, bars, tiers=tiers)
    accounts = simulate_accounts(bars, {"x": schedule}, CONFIG).accounts
    fast = replay(bars, accounts, schedule, latency=latency)
    for engine in (loop_events, heap_events):
        slow = replay(bars, accounts, schedule, latency=latency, engine=engine)
        pd.testing.assert_frame_equal(fast.outcomes, slow.outcomes, check_exact=True)
    if count > 100:
        assert {"liquidated", "closed"} <= set(fast.outcomes["status"])


def test_engines_agree_at_exact_ties_and_bounds() -> None:
    # Prices on a grid, accounts whose bankruptcy price meets price * (1 - m) exactly.
    bars = make_bars(1, 12)
    bars[["open", "high", "low", "close"]] = 100.0
    bars.loc[6, "low"] = 80.0
    schedule = make_schedule(2, bars, every=100)
    schedule[["maintenance_margin_ppm", "initial_margin_ppm"]] = [50_000, 100_000]
    prices = prices_by_market(bars)["A"]
    terms = terms_by_market(schedule, {"A": prices})["A"]
    combinations = list(
        itertools.product((1, -1), (4.0, 5.0, 24.0, 24.0001), (0, 5, 6, 10, 11), (6, 7, 11, 12))
    )
    direction, collateral, opened, closes = (np.array(v) for v in zip(*combinations, strict=True))
    one = np.ones(len(direction))
    positions = Positions(direction, one, 100 * one, collateral, opened, np.maximum(closes, opened))
    for latency in (0, 1, 20):
        fast = search_events(prices, terms, positions, latency)
        for engine in (loop_events, heap_events):
            slow = engine(prices, terms, positions, latency)
            for name in ("breached", "settled", "self_inflicted"):
                np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name), err_msg=name)
    at_margin = (direction > 0) & (collateral == 5.0) & (opened == 0) & (closes == 6)
    assert search_events(prices, terms, positions, 0).breached[at_margin].tolist() == [6]
    equal = (direction > 0) & (collateral == 5.0) & (opened == 6) & (closes == 12)
    assert search_events(prices, terms, positions, 0).breached[equal].tolist() == [-1]  # equal is not below


@given(st.integers(0, 10_000), st.integers(0, 4), st.floats(0, 0.2))
@settings(max_examples=25, deadline=None)
def test_money_is_conserved(seed: int, latency: int, penalty: float) -> None:
    bars = make_bars(seed, 120, markets=("A", "B"), sigma=0.06)
    schedule = make_schedule(seed, bars, tiers=TIERS)
    accounts = simulate_accounts(bars, {"x": schedule}, CONFIG).accounts
    x = replay(bars, accounts, schedule, latency=latency, penalty=penalty).outcomes
    owner = x["payout"] - x["collateral"]
    venue = x["penalty"] - x["shortfall"]
    counterparty = -x["pnl"]
    scale = np.maximum(x["notional"], 1)
    assert float((np.abs(owner + venue + counterparty) / scale).max()) < 1e-9
    assert (x[["payout", "penalty", "shortfall"]] >= 0).all().all()
    assert ((x["shortfall"] == 0) | (x["payout"] == 0)).all()
    assert ((x["shortfall"] == 0) | (x["status"] == "liquidated")).all()


def crash(prices: list[float]) -> pd.DataFrame:
    bars = make_bars(0, len(prices))
    start = [prices[0], *prices[:-1]]
    return bars.assign(
        open=start, close=prices, high=np.maximum(start, prices), low=np.minimum(start, prices)
    )


def flat(bars: pd.DataFrame, ppm: list[int]) -> pd.DataFrame:
    """One change per bar: entry ``i`` is in force in bar ``i``."""
    return pd.DataFrame(
        {
            "market": "A",
            "effective_from": pd.DatetimeIndex(bars["time"]) - pd.Timedelta("1h"),
            "notional_floor": 0,
            "regime": 0,
            "initial_margin_ppm": [min(2 * p, 1_000_000) for p in ppm],
            "maintenance_margin_ppm": ppm,
        }
    )


def one_account(bars: pd.DataFrame, **changes: object) -> pd.DataFrame:
    row = {
        "account": "x", "market": "A", "side": "long", "quantity": 1.0, "entry_price": 100.0,
        "collateral": 10.0, "opened": bars["time"].iloc[0], "closed": pd.NaT,
    } | changes  # fmt: skip
    frame = pd.DataFrame([row])
    frame["closed"] = pd.to_datetime(frame["closed"], utc=True)
    return frame


def test_hand_computed_liquidation_with_bad_debt() -> None:
    bars = crash([100, 100, 93, 85, 120])
    x = replay(bars, one_account(bars), flat(bars, [50_000] * 5), latency=1, penalty=0.02).outcomes.iloc[0]
    assert (x["status"], x["price"], x["pnl"], x["shortfall"], x["payout"]) == ("liquidated", 85, -15, 5, 0)
    assert (x["breached_at"], x["settled_at"]) == (bars["time"][2], bars["time"][3])
    assert x["bars_held"] == 3
    assert x["average_margin"] == pytest.approx(0.05)
    prompt = replay(bars, one_account(bars), flat(bars, [50_000] * 5), latency=0, penalty=0.02).outcomes.iloc[
        0
    ]
    assert prompt["penalty"] == pytest.approx(1.86)
    assert prompt["payout"] == pytest.approx(1.14)


def test_hand_computed_short() -> None:
    bars = crash([100, 100, 108, 120])
    x = replay(bars, one_account(bars, side="short"), flat(bars, [50_000] * 4), latency=1).outcomes.iloc[0]
    assert (x["status"], x["shortfall"], x["payout"]) == ("liquidated", 10, 0)


def test_a_raised_margin_liquidates_by_itself() -> None:
    bars = crash([100, 100, 100, 100])
    x = replay(bars, one_account(bars), flat(bars, [50_000, 50_000, 120_000, 120_000]), latency=0).summary()
    assert (x["liquidations"], x["self_inflicted"]) == (1, 1)
    falls = crash([100, 100, 90, 90])
    y = replay(falls, one_account(falls), flat(falls, [50_000, 50_000, 60_000, 60_000]), latency=0).summary()
    assert (y["liquidations"], y["self_inflicted"]) == (1, 0)  # the price would have done it anyway


def test_owner_closes_first_unless_the_same_bar_breaches() -> None:
    bars = crash([100, 99, 98, 80, 80])
    schedule = flat(bars, [50_000] * 5)
    before = one_account(bars, closed=bars["time"][2])
    same = one_account(bars, closed=bars["time"][3])
    assert replay(bars, before, schedule, latency=0).outcomes["status"].tolist() == ["closed"]
    assert replay(bars, same, schedule, latency=0).outcomes["status"].tolist() == ["liquidated"]


def test_what_cannot_be_replayed_is_counted() -> None:
    bars = crash([100, 100, 100, 100])
    hour = pd.Timedelta("1h")
    accounts = pd.concat(
        [
            one_account(bars, account="fine"),
            one_account(bars, account="after the bars", opened=bars["time"].iloc[-1] + hour),
            one_account(bars, account="broke", entry_price=111.0),
            one_account(bars, account="exactly zero", entry_price=110.0),
            one_account(bars, account="at the last bar", opened=bars["time"].iloc[-1]),
        ]
    )
    done = replay(bars, accounts, flat(bars, [50_000] * 4), latency=0)
    x = done.summary()
    assert (x["accounts"], x["replayed"], x["not_covered"], x["insolvent_at_start"]) == (5, 2, 1, 2)
    assert done.outcomes["bars_held"].tolist() == [3, 0]
    late = flat(bars, [50_000] * 4).iloc[2:]
    y = replay(bars, one_account(bars), late, latency=0).summary()
    assert (y["replayed"], y["not_covered"], y["average_margin"], y["capital"]) == (0, 1, 0.0, 0.0)


def test_bars_that_end_before_the_settlement() -> None:
    bars = crash([100, 100, 93])
    x = replay(bars, one_account(bars), flat(bars, [50_000] * 3), latency=5)
    assert x.summary()["unfinished"] == 1
    assert x.outcomes["settled_at"][0] == bars["time"].iloc[-1]


BAD = [
    ({"market": "Z"}, {}, DataError, "market 'Z' of account 'x' has no bars"),
    ({"collateral": 0.0}, {}, DataError, "column 'collateral'"),
    ({"collateral": -1.0}, {}, DataError, "column 'collateral'"),
    ({"collateral": np.nan}, {}, DataError, "column 'collateral'"),
    ({"quantity": np.inf}, {}, DataError, "column 'quantity'"),
    ({"side": "both"}, {}, DataError, "column 'side'"),
    ({"closed": pd.Timestamp("2021-01-01", tz="UTC")}, {}, DataError, "closed must not precede opened"),
    ({}, {"latency": -1}, ValueError, "latency must not be negative, was -1"),
    ({}, {"penalty": 1.0}, ValueError, r"penalty must lie in \[0, 1\), was 1.0"),
    ({}, {"penalty": np.nan}, ValueError, r"penalty must lie in \[0, 1\), was nan"),
]


@pytest.mark.parametrize(("changes", "options", "error", "match"), BAD, ids=range(len(BAD)))
def test_bad_accounts_and_options(
    changes: dict[str, object], options: dict[str, float], error: type[Exception], match: str
) -> None:
    bars = crash([100, 100, 100])
    arguments = {"latency": 1} | options
    with pytest.raises(error, match=match):
        replay(bars, one_account(bars, **changes), flat(bars, [50_000] * 3), **arguments)


def test_bad_bars_and_schedules() -> None:
    bars = crash([100, 100, 100])
    schedule, account = flat(bars, [50_000] * 3), one_account(bars)
    with pytest.raises(DataError, match="Bars from backtest: column 'close'"):
        replay(bars.assign(close=[100, np.nan, 100]), account, schedule, latency=0)
    with pytest.raises(DataError, match="market 'A' of account 'x' has no schedule"):
        replay(bars, account, schedule.assign(market="B"), latency=0)
    with pytest.raises(DataError, match="first tier must start at notional 0, was 5"):
        replay(bars, account, schedule.assign(notional_floor=5), latency=0)
    ragged = pd.concat([schedule, schedule.iloc[1:].assign(notional_floor=9)])
    with pytest.raises(DataError, match="every change must name every tier"):
        replay(bars, account, ragged, latency=0)
    with pytest.raises(DataError, match="there must be at least one row"):
        replay(bars, account.iloc[:0], schedule, latency=0)


def test_compare_and_monotone_in_margin() -> None:
    bars = make_bars(3, 400, markets=("A", "B"), sigma=0.02)
    loose = flat(bars[bars["market"] == "A"], [20_000] * 400)
    loose = pd.concat([loose, loose.assign(market="B")])
    tight = loose.assign(maintenance_margin_ppm=60_000, initial_margin_ppm=120_000)
    accounts = simulate_accounts(bars, {"loose": loose, "tight": tight}, CONFIG).accounts
    table = compare(bars, accounts, {"loose": loose, "tight": tight}, latency=1)
    assert list(table.index) == ["loose", "tight"]
    assert table.loc["tight", "liquidations"] >= table.loc["loose", "liquidations"]
    assert table.loc["tight", "shortfall"] <= table.loc["loose", "shortfall"]
    assert table["average_margin"].round(9).tolist() == [0.02, 0.06]


def test_population_is_seeded_admissible_and_says_that_it_is_simulated() -> None:
    bars = make_bars(8, 200, markets=("A", "B"))
    schedule = make_schedule(9, bars, tiers=TIERS)
    first, again = (simulate_accounts(bars, {"x": schedule}, CONFIG) for _ in range(2))
    pd.testing.assert_frame_equal(first.accounts, again.accounts, check_exact=True)
    alone = bars[bars["market"] == "A"]
    only = simulate_accounts(alone, {"x": schedule}, CONFIG).accounts
    pd.testing.assert_frame_equal(only, first.accounts[first.accounts["market"] == "A"], check_exact=True)
    summary = first.summary()
    assert (summary["simulated"], summary["drawn"], summary["opened"]) == (True, 240, 240)
    assert summary["raised"] > 0
    other = simulate_accounts(bars, {"x": schedule}, CONFIG.model_copy(update={"seed": 6}))
    assert not first.accounts["quantity"].equals(other.accounts["quantity"])
    late = schedule[schedule["effective_from"] > bars["time"].iloc[100]]
    refused = simulate_accounts(bars, {"x": late}, CONFIG)
    assert refused.refused > 50
    assert refused.refused + len(refused.accounts) == 240


def test_population_follows_the_stated_distribution() -> None:
    bars = make_bars(8, 4000, sigma=0.002)
    schedule = flat(bars, [1_000] * 4000)
    config = AccountsConfig(count=8000, seed=1, leverage_median=6, leverage_spread=0.5, long_share=0.7)
    a = simulate_accounts(bars, {"x": schedule}, config).accounts
    notional = a["quantity"] * a["entry_price"]
    assert float((notional / a["collateral"]).median()) == pytest.approx(6, rel=0.04)
    assert float(notional.median()) == pytest.approx(20_000, rel=0.06)
    assert float((a["side"] == "long").mean()) == pytest.approx(0.7, abs=0.02)
    held = (a["closed"] - a["opened"]) / pd.Timedelta("1h")
    assert float(held.fillna(held.max()).median()) == pytest.approx(60, rel=0.06)


def test_population_needs_a_schedule_and_bars() -> None:
    bars = crash([100, 100])
    with pytest.raises(DataError, match="schedule 'x' does not know market 'A'"):
        simulate_accounts(bars, {"x": flat(bars, [1_000] * 2).assign(market="B")}, CONFIG)
    with pytest.raises(DataError, match="bars of A: at least two are needed"):
        simulate_accounts(bars.iloc[:1], {"x": flat(bars, [1_000] * 2)}, CONFIG)


def test_speed() -> None:
    bars = make_bars(4, 5000, markets=("A", "B", "C"), sigma=0.01)
    schedule = make_schedule(5, bars, every=24, tiers=TIERS)
    config = AccountsConfig(count=2000, holding_median=2000)
    accounts = simulate_accounts(bars, {"x": schedule}, config).accounts
    started = time.perf_counter()
    done = replay(bars, accounts, schedule, latency=1)
    assert len(done.outcomes) == 6000
    assert time.perf_counter() - started < 1.0


def test_the_share_of_notional_that_a_change_liquidates_counts_notional() -> None:
    columns = [
        "notional", "status", "self_inflicted", "unfinished", "liquidated_notional", "bars_held",
        "average_margin", "pnl", "penalty", "shortfall", "payout",
    ]  # fmt: skip
    rows = [
        [100.0, "liquidated", True, False, 90.0, 5, 0.1, 0.0, 0.0, 0.0, 0.0],
        [300.0, "liquidated", False, False, 270.0, 5, 0.1, 0.0, 0.0, 0.0, 0.0],
        [500.0, "open", False, False, 0.0, 5, 0.1, 0.0, 0.0, 0.0, 0.0],
    ]
    found = Replay(pd.DataFrame(rows, columns=columns), 3, 0, 0, 10).summary()
    assert found["self_inflicted_notional"] == 90.0
    assert found["self_inflicted_share"] == pytest.approx(90 / 360)
