"""An account: pool, equity, shares that add up, what-if, distance, and the file it is read from."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrator.errors import DataError
from calibrator.netting import PortfolioRules
from calibrator.portfolio.account import Account, Holding, Position, assess
from calibrator.portfolio.account_file import read_account
from calibrator.portfolio.attribution import contributions, distance_to_liquidation, what_if
from calibrator.portfolio.black76 import greeks, price
from calibrator.portfolio.contracts import Contract

MakeRules = Callable[..., PortfolioRules]
MakeContracts = Callable[[np.random.Generator, int], tuple[Contract, ...]]
USDC = Holding("USDC", "mainnet", 100_000.0, 1.0)
LONG_ETH = Position(Contract("ETH", "perpetual", 3_000.0), 10.0, entry=2_900.0)


def drawn(seed: int, make: MakeContracts) -> Account:
    rng = np.random.default_rng(seed)
    contracts = [c for c in make(rng, 8) if c.kind != "spot"]
    positions = tuple(Position(c, float(rng.normal(0, 2e6)) / c.price) for c in contracts)
    pool = (
        USDC,
        Holding("ETH", "arbitrum", float(rng.uniform(0, 50)), 3_000.0),
        Holding("ETH", "mainnet", -5.0, 3_000.0),
    )
    return Account("drawn", positions, pool)  # fmt: skip


def test_equity_is_collateral_after_haircuts_and_what_the_positions_made(make_rules: MakeRules) -> None:
    option = Contract("ETH", "call", 3_000.0, strike=3_300.0, years=0.1, volatility=0.7)
    pool = (USDC, Holding("ETH", "arbitrum", 2.0, 3_000.0), Holding("ETH", "mainnet", -1.0, 3_000.0))
    made = assess(Account("a", (LONG_ETH, Position(option, -3.0)), pool), make_rules())
    premium = float(price(3_000.0, 3_300.0, 0.7, 0.1, call=True))
    assert made.collateral == pytest.approx(100_000 * 0.99 + 2 * 3_000 * 0.85 - 3_000)
    assert made.equity == pytest.approx(made.collateral + 10 * 100.0 - 3 * premium)
    delta = made.sensitivities()["ETH"]
    assert float(delta.delta) == pytest.approx(
        10 + 1.7 - 1 - 3 * float(greeks(3_000.0, 3_300.0, 0.7, 0.1, call=True).delta)
    )
    assert float(delta.vega) < 0 < float(delta.theta)


def test_collateral_that_falls_with_the_position_asks_more_and_one_that_hedges_asks_less(
    make_rules: MakeRules,
) -> None:
    rules, eth = make_rules(), Holding("ETH", "arbitrum", 10.0, 3_000.0)
    bare = assess(Account("a", (LONG_ETH,), (USDC,)), rules).required
    same = assess(Account("a", (LONG_ETH,), (USDC, eth)), rules).required
    short = replace(LONG_ETH, quantity=-8.5)
    hedged = assess(Account("a", (short,), (USDC, eth)), rules)
    assert same == pytest.approx(bare + 0.12 * 8.5 * 3_000, rel=1e-9)
    assert hedged.required == pytest.approx((0.002 + 0.001) * 8.5 * 3_000)  # basis and funding only
    assert hedged.compression > 0.9


@given(seed=st.integers(0, 10**6), low=st.sampled_from([-200_000, 0, 400_000]))
def test_shares_add_up_to_the_requirement(
    make_rules: MakeRules, make_contracts: MakeContracts, seed: int, low: int
) -> None:
    made = assess(drawn(seed, make_contracts), make_rules(low_ppm=low))
    shares = contributions(made)
    assert sum(c.share for c in shares) == pytest.approx(made.required, rel=1e-9)
    assert [c.standalone for c in shares] == pytest.approx(made.alone.tolist())
    assert made.required <= made.required_initially


def test_a_marginal_contribution_is_what_leaving_the_position_out_saves(make_rules: MakeRules) -> None:
    hedge = Position(Contract("ETH", "future", 3_010.0, years=0.25), -4.0)
    account = Account("a", (LONG_ETH, hedge), (USDC,))
    first = contributions(assess(account, make_rules()))[0]
    tried = what_if(account, make_rules(), replace(LONG_ETH, quantity=-10.0))
    assert first.marginal == pytest.approx(-tried.change)
    assert first.standalone > first.marginal > 0


def test_what_if_says_whether_the_trade_may_be_done(make_rules: MakeRules) -> None:
    account = Account("a", (LONG_ETH,), (Holding("USDC", "mainnet", 5_000.0, 1.0),))
    more = what_if(account, make_rules(), replace(LONG_ETH, quantity=20.0, entry=None))
    less = what_if(account, make_rules(), replace(LONG_ETH, quantity=-5.0, entry=None))
    assert (more.allowed, less.allowed) == (False, True)
    assert less.change < 0 < more.change


def test_distance_is_where_equity_meets_the_requirement(make_rules: MakeRules) -> None:
    account, rules = Account("a", (LONG_ETH,), (Holding("USDC", "mainnet", 8_000.0, 1.0),)), make_rules()
    found = distance_to_liquidation(account, rules)
    assert found.fall is not None
    assert found.rise is None
    at = assess(account.moved(rules, {"ETH": found.fall}), rules)
    assert at.surplus == pytest.approx(0.0, abs=1e-6)
    only_btc = distance_to_liquidation(account, rules, underlyings=("BTC",))
    assert (only_btc.fall, only_btc.rise) == (None, None)
    short = replace(account, positions=(replace(LONG_ETH, quantity=-10.0),))
    assert distance_to_liquidation(short, rules).rise is not None
    poor = replace(account, pool=(Holding("USDC", "mainnet", 1.0, 1.0),))
    assert distance_to_liquidation(poor, rules).fall == 0.0


FILE: dict[str, Any] = {
    "account": "alice",
    "as_of": "2025-06-01T00:00:00Z",
    "positions": [
        {"underlying": "BTC", "kind": "perpetual", "quantity": "-2", "price": 60_000, "entry": 59_000},
        {
            "underlying": "BTC",
            "kind": "put",
            "quantity": 1,
            "price": 60_000,
            "strike": 55_000,
            "expiry": "2025-07-01T00:00:00Z",
            "volatility": 0.6,
            "coin": 60_000,
        },
    ],
    "collateral": [{"asset": "USDC", "location": "mainnet", "quantity": 50_000, "price": 1}],
}


def test_a_file_gives_the_account(make_rules: MakeRules) -> None:
    account, as_of = read_account(json.dumps(FILE).encode(), source="a.json")
    assert as_of == datetime.fromisoformat("2025-06-01T00:00:00+00:00")
    assert account.positions[0].quantity == -2.0
    assert account.positions[1].contract.years == pytest.approx(30 / 365)
    assert assess(account, make_rules()).required > 0


def changed(index: int, **changes: object) -> dict[str, Any]:
    positions = list(FILE["positions"])
    positions[index] = {k: v for k, v in (positions[index] | changes).items() if v is not ...}
    return FILE | {"positions": positions}


BAD: dict[str, tuple[object, str]] = {
    "no object": ([], "a.json: account: Input should be a valid dictionary"),
    "unknown key": (FILE | {"leverage": 5}, "a.json: leverage: Extra inputs are not permitted"),
    "naive time": (FILE | {"as_of": "2025-06-01T00:00:00"}, "a.json: as_of: Input should have timezone info"),
    "expired option": (changed(1, expiry="2025-05-01T00:00:00Z"), r"positions.1: .* positive \(expired\?\)"),
    "expires now": (changed(1, expiry="2025-06-01T00:00:00Z"), "positions.1: .* was 0.0"),
    "no strike": (changed(1, strike=...), "positions.1: BTC put: strike is missing"),
    "spot": (changed(0, kind="spot", entry=None), "spot is collateral, hold it in the pool"),
    "entry of an option": (changed(1, entry=5.0), "entry must be a positive price"),
    "empty": (FILE | {"positions": [], "collateral": []}, "the book is empty"),
    "zero price": (
        FILE | {"collateral": [{"asset": "USDC", "location": "m", "quantity": 1, "price": 0}]},
        "collateral.0: USDC at m: price must be positive, was 0.0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_place(name: str) -> None:
    value, message = BAD[name]
    with pytest.raises(DataError, match=message):
        read_account(json.dumps(value).encode(), source="a.json")


@pytest.mark.parametrize("payload", [b"{", b"\xff", b'{"account": NaN}', b"[" * 100_000])
def test_what_is_not_json_is_refused(payload: bytes) -> None:
    with pytest.raises(DataError, match=r"a\.json: "):
        read_account(payload, source="a.json")


def test_what_the_rules_do_not_know_is_refused(make_rules: MakeRules) -> None:
    doge = Account("a", (Position(Contract("DOGE", "perpetual", 0.1), 1.0),), ())
    with pytest.raises(DataError, match="unknown underlying 'DOGE'"):
        assess(doge, make_rules())
    with pytest.raises(DataError, match="ETH at solana: no haircut; the rules know ETH at arbitrum"):
        assess(Account("a", (), (Holding("ETH", "solana", 1.0, 3_000.0),)), make_rules())
