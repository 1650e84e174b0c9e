"""What every adapter promises: safe side, one unit, exact bytes, nothing left to do, no foreign bytes."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibrator.errors import ConstraintError, PublishError
from calibrator.publish.adapters.base import (
    ExposureCap,
    Header,
    LoanTerms,
    PerpetualTerms,
    State,
    Step,
    Tier,
    Update,
)
from calibrator.publish.constraints import rules as r
from calibrator.publish.constraints.targets import TARGETS, target

AT = datetime(2025, 1, 1, tzinfo=UTC)
NAMES = sorted(TARGETS)
PPM = 1_000_000

# One unit of each target: what rounding may cost, as a fraction (or relative to the value).
FINE = Fraction(2, 10**18)
UNITS: dict[str, dict[str, Fraction]] = {
    "aave-v3": dict.fromkeys((r.LOAN_TO_VALUE, r.THRESHOLD), Fraction(1, 10_000)),
    "compound-v3": dict.fromkeys((r.LOAN_TO_VALUE, r.THRESHOLD), Fraction(1, 10_000)),
    "derive-v2": dict.fromkeys((r.LOAN_TO_VALUE, r.THRESHOLD, r.INITIAL, r.MAINTENANCE), FINE),
    "drift-v2": dict.fromkeys((r.LOAN_TO_VALUE, r.THRESHOLD, r.INITIAL, r.MAINTENANCE), Fraction(1, 10_000)),
    "dydx-v4": dict.fromkeys((r.INITIAL, r.MAINTENANCE), Fraction(2, PPM)),
    "euler-v2": dict.fromkeys((r.LOAN_TO_VALUE, r.THRESHOLD), Fraction(1, 10_000)),
    "gmx-v2": dict.fromkeys((r.INITIAL, r.MAINTENANCE), Fraction(1, 10**30)),
    "kamino": dict.fromkeys((r.LOAN_TO_VALUE, r.THRESHOLD), Fraction(1, 100)),
    "marginfi-v2": dict.fromkeys((r.LOAN_TO_VALUE, r.THRESHOLD), Fraction(1, 2**48)),
    "synthetix-v3": dict.fromkeys((r.INITIAL, r.MAINTENANCE), FINE),
}


def perpetual(symbol: str, maintenance: int, initial: int, *, cap: int | None = None) -> PerpetualTerms:
    tiers = tuple(
        Tier(notional_floor=f, initial_margin_ppm=initial + f // 1_000, maintenance_margin_ppm=maintenance)
        for f in (0, 1_000_000, 5_000_000)
    )
    return PerpetualTerms(symbol=symbol, tiers=tiers, cap=ExposureCap(open_interest=cap))


def loan(
    symbol: str, ltv: int, threshold: int, *, cap: int | None = None, penalty: int = 60_000
) -> LoanTerms:
    haircut = min(150_000, PPM - threshold * (PPM + penalty) // PPM - 1)
    return LoanTerms(
        symbol=symbol,
        haircut_ppm=haircut,
        loan_to_value_ppm=ltv,
        liquidation_threshold_ppm=threshold,
        liquidation_penalty_ppm=penalty,
        cap=ExposureCap(supply=cap, borrow=cap),
    )


def step(*, scale: int = 0, cap: int | None = None) -> Step:
    """Return terms of the demo's three markets."""
    return Step(
        at=AT,
        perpetuals=(
            perpetual("NASDAQ", 60_000 + scale, 80_001 + scale, cap=cap),
            perpetual("SPX", 40_000 + scale, 61_234 + scale, cap=cap),
        ),
        loans=(loan("WTI", 700_000 - scale, 777_777 - scale, cap=cap),),
    )


def header(name: str, state: State) -> Header:
    return Header(
        protocol=name,
        chain=state.chain,
        route=state.route,
        sender=state.sender,
        sequence=3,
        document="ab" * 32,
        issued_at=AT,
        valid_from=AT,
        expires_at=datetime(2025, 1, 8, tzinfo=UTC),
    )


@pytest.fixture
def prepared(make_state: Callable[..., State]) -> Callable[..., tuple[Any, Any, State, tuple[Any, ...]]]:
    def make(name: str, terms: Step) -> tuple[Any, Any, State, tuple[Any, ...]]:
        adapter, rules = target(name)
        state = make_state(name)
        return adapter, rules, state, adapter.propose(terms, state)

    return make


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_is_exact_and_deterministic(name: str, prepared: Callable[..., Any]) -> None:
    adapter, _, state, actions = prepared(name, step(cap=30_000_000))
    assert actions
    update = Update(header(name, state), actions)
    payload = adapter.encode(update)
    assert adapter.decode(payload) == update
    assert adapter.encode(adapter.decode(payload)) == payload


@pytest.mark.parametrize("name", NAMES)
@given(
    ltv=st.integers(300_000, 850_000), gap=st.integers(1, 100_000), maintenance=st.integers(13_000, 450_000)
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_the_target_holds_is_safe_and_within_one_unit(
    name: str, make_state: Callable[..., State], ltv: int, gap: int, maintenance: int
) -> None:
    adapter, rules = target(name)
    state = make_state(name, **({"route": "keeper"} if name == "gmx-v2" else {}))
    initial = maintenance + gap * 3
    terms = Step(
        at=AT,
        perpetuals=(perpetual("NASDAQ", maintenance, initial), perpetual("SPX", maintenance, initial)),
        loans=(loan("WTI", ltv, ltv + gap, penalty=40_000),),
    )
    actions = adapter.propose(terms, state)
    try:
        held = r.simulate(rules, state, actions, at=AT)
    except ConstraintError:
        return  # out of the target's bounds; which ones is the constraint tests' business
    level = rules.effective(held, AT)
    r._safe(rules, level, terms)
    for key, value in level.items():
        if (unit := UNITS.get(name, {}).get(key[1])) is not None:
            asked = r._asked({t.symbol: t for t in (*terms.perpetuals, *terms.loans)}[key[0]], key)
            assert asked is not None
            assert asked <= value < asked + unit, key
    assert adapter.propose(terms, held) == (), "a second update of the same terms has nothing to do"


def test_one_more_step_of_leverage_or_of_an_enabled_value_would_be_unsafe(
    make_state: Callable[..., State],
) -> None:
    terms = step()
    for name in ("hyperliquid", "leverage-brackets"):
        adapter, rules = target(name)
        state = make_state(name)
        held = r.simulate(rules, state, adapter.propose(terms, state), at=AT)
        value = rules.effective(held, AT)["SPX", r.INITIAL, 0]
        asked = [Fraction(61_234, PPM), Fraction(2 * 40_000, PPM)][name == "hyperliquid"]
        assert asked <= value
        assert Fraction(1, value.denominator + 1) < asked
    adapter, rules = target("morpho-blue")
    state = make_state("morpho-blue")
    held = r.simulate(rules, state, adapter.propose(terms, state), at=AT)
    assert rules.effective(held, AT)["WTI", r.THRESHOLD, 0] == 1 - Fraction(77, 100)


@pytest.mark.parametrize("name", NAMES)
def test_exposure_caps_travel_with_the_margins(name: str, prepared: Callable[..., Any]) -> None:
    if name in {"derive-v2", "leverage-brackets", "morpho-blue"}:
        pytest.skip("takes no cap, or a vault's own (see its tests)")
    _, rules, state, actions = prepared(name, step(cap=30_000_000))
    held = r.simulate(rules, state, actions, at=AT)
    kinds = {r.OPEN_INTEREST} if any(k[1] == r.OPEN_INTEREST for k in rules.effective(held, AT)) else {
        r.SUPPLY, r.BORROW}  # fmt: skip
    caps = {k: v for k, v in rules.effective(held, AT).items() if k[1] in kinds}
    assert caps
    for key, value in caps.items():
        assert -30_000_000 <= value < -29_900_000, key


@pytest.mark.parametrize("name", NAMES)
def test_markets_that_nobody_listed_are_refused(name: str, prepared: Callable[..., Any]) -> None:
    adapter, _, state, _ = prepared(name, step())
    unknown = Step(at=AT, perpetuals=(perpetual("DOGE", 1, 2),), loans=(loan("DOGE", 1, 2),))
    with pytest.raises(ConstraintError, match="DOGE: the state file neither lists nor ignores"):
        adapter.propose(unknown, state)
    assert adapter.propose(unknown, state.model_copy(update={"ignored": ("DOGE",)})) == ()


def _swap(payload: bytes, old: bytes, new: bytes) -> bytes:
    assert old in payload
    return payload.replace(old, new, 1)


BAD: dict[str, Callable[[bytes], bytes]] = {
    "not JSON": lambda p: p[:-3],
    "a list": lambda p: b"[" + p + b"]",
    "compact": lambda p: json.dumps(json.loads(p)).encode(),
    "an extra field": lambda p: _swap(p, b"{\n", b'{\n  "extra": 1,\n'),
    "a duplicate key": lambda p: _swap(p, b"{\n", b'{\n  "x": 1,\n  "x": 2,\n'),
    "another document": lambda p: _swap(p, b"ab" * 8, b"cd" * 8),
    "another header": lambda p: _swap(p, b"sequence 3", b"sequence three"),
    "NaN": lambda p: _swap(p, b"{\n", b'{\n  "extra": NaN,\n'),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", NAMES)
def test_bytes_that_encode_would_not_write_are_refused(
    name: str, bad: str, prepared: Callable[..., Any]
) -> None:
    adapter, _, state, actions = prepared(name, step(cap=30_000_000))
    payload = adapter.encode(Update(header(name, state), actions))
    try:
        again = adapter.decode(BAD[bad](payload))
    except PublishError:
        return
    assert bad == "another document", "only the digest may differ, and then it is another update"
    assert again.header.document != "ab" * 32


@pytest.mark.parametrize("name", NAMES)
def test_payloads_without_checksum_fail_on_any_changed_digit_or_change_the_update(
    name: str, prepared: Callable[..., Any]
) -> None:
    adapter, _, state, actions = prepared(name, step(cap=30_000_000))
    update = Update(header(name, state), actions)
    payload = adapter.encode(update)
    for place in range(0, len(payload), 37):
        if payload[place : place + 1].isdigit():
            changed = bytearray(payload)
            changed[place] = ord("1") if changed[place] != ord("1") else ord("2")
            try:
                assert adapter.decode(bytes(changed)) != update
            except PublishError:
                continue
