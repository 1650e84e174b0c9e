"""The simulation itself: plans, delays, stale and partly applied states, overshoot, shared tiers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from calibrator.errors import ConstraintError
from calibrator.publish.adapters import dydx, euler, kamino
from calibrator.publish.adapters.base import (
    ExposureCap,
    Intent,
    LoanTerms,
    PerpetualTerms,
    State,
    Step,
    Tier,
)
from calibrator.publish.constraints.rules import simulate, simulate_plan
from calibrator.publish.constraints.targets import target

ISSUED = datetime(2019, 1, 4, tzinfo=UTC)
DAY = timedelta(days=1)


def loan(ltv: int, threshold: int, penalty: int = 60_000) -> LoanTerms:
    return LoanTerms(
        symbol="WTI",
        haircut_ppm=150_000,
        loan_to_value_ppm=ltv,
        liquidation_threshold_ppm=threshold,
        liquidation_penalty_ppm=penalty,
    )


def perpetual(symbol: str, initial: int, maintenance: int, cap: int | None = None) -> PerpetualTerms:
    tier = Tier(notional_floor=0, initial_margin_ppm=initial, maintenance_margin_ppm=maintenance)
    return PerpetualTerms(symbol=symbol, tiers=(tier,), cap=ExposureCap(open_interest=cap))


def intent(*loans: tuple[int, int], days: int = 1, expires: int = 14) -> Intent:
    steps = tuple(Step(at=ISSUED + n * days * DAY, loans=(loan(*terms),)) for n, terms in enumerate(loans))
    return Intent(
        sequence=2, document="0" * 64, issued_at=ISSUED, expires_at=ISSUED + expires * DAY, steps=steps
    )


def margins(*pairs: tuple[int, int]) -> Intent:
    steps = tuple(
        Step(at=ISSUED + n * DAY, perpetuals=(perpetual("SPX", *p), perpetual("NASDAQ", *p)))
        for n, p in enumerate(pairs)
    )
    return Intent(sequence=2, document="0" * 64, issued_at=ISSUED, expires_at=ISSUED + 14 * DAY, steps=steps)


MakeState = Callable[..., State]


def test_the_plan_is_simulated_and_its_step_is_named(make_state: MakeState) -> None:
    adapter, rules = target("aave-v3")
    state = make_state("aave-v3", route="steward-3.7")
    slow = intent((650_000, 700_000), (645_000, 695_000), (640_000, 690_000), days=3)
    assert simulate_plan(adapter, rules, state, slow) == ()
    fast = intent((645_000, 695_000), (640_000, 690_000))
    with pytest.raises(ConstraintError, match=r"^plan step 1 \(2019-01-05 .*rule aave\.steward\.delay"):
        simulate_plan(adapter, rules, state, fast)
    far = intent((645_000, 695_000), (620_000, 695_000), days=3)
    with pytest.raises(ConstraintError, match=r"^plan step 1 .*needs 5 steps 3 days.*aave\.steward\.step"):
        simulate_plan(adapter, rules, state, far)


def test_an_update_of_three_hundred_basis_points_needs_governance(make_state: MakeState) -> None:
    adapter, rules = target("aave-v3")
    down = intent((620_000, 670_000))
    assert simulate_plan(adapter, rules, make_state("aave-v3", route="engine-3.7"), down)
    with pytest.raises(ConstraintError, match="needs 6 steps 3 days, 0:00:00 apart, or governance"):
        simulate_plan(adapter, rules, make_state("aave-v3", route="steward-3.7"), down)


@pytest.mark.parametrize("hours", [-25, 25])
def test_a_stale_state_is_refused(hours: int, make_state: MakeState) -> None:
    adapter, rules = target("aave-v3")
    read = (ISSUED + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
    with pytest.raises(ConstraintError, match=r"rule state\.stale"):
        simulate_plan(adapter, rules, make_state("aave-v3", read_at=read), intent((650_000, 700_000)))


def test_an_update_that_governance_executes_after_the_expiry_is_refused(make_state: MakeState) -> None:
    adapter, rules = target("maker")
    terms = intent((640_000, 690_000), expires=2)
    assert simulate_plan(adapter, rules, make_state("maker", delay_seconds=86_400), terms)
    with pytest.raises(ConstraintError, match=r"has expired.*rule expiry"):
        simulate_plan(adapter, rules, make_state("maker", delay_seconds=2 * 86_400), terms)


def test_steps_that_pass_before_the_execution_are_not_simulated(make_state: MakeState) -> None:
    adapter, rules = target("aave-v3")
    delayed = make_state("aave-v3", route="steward-3.7", delay_seconds=3 * 86_400)
    fast = intent((645_000, 695_000), (640_000, 690_000), (645_000, 695_000), (645_000, 695_000))
    assert simulate_plan(adapter, rules, delayed, fast)


def test_pending_actions_are_simulated_applied_and_not_applied(make_state: MakeState) -> None:
    adapter, rules = target("aave-v3")
    pending = {
        "kind": "collateral",
        "to": f"0x{14:040d}",
        "asset": f"0x{12:040d}",
        "limits": {"ltv": 6_460},
    }
    terms = intent((645_000, 700_000))
    engine = make_state("aave-v3", pending=[pending])
    assert simulate_plan(adapter, rules, engine, terms), "governance has no clock"
    steward = make_state("aave-v3", route="steward-3.7", pending=[pending])
    with pytest.raises(ConstraintError, match=r"^after 1 of 1 pending actions: .*aave\.steward\.delay"):
        simulate_plan(adapter, rules, steward, terms)


def test_a_pending_loosening_that_our_update_does_not_undo_is_refused(make_state: MakeState) -> None:
    adapter, rules = target("aave-v3")
    loose = {
        "kind": "collateral",
        "to": f"0x{14:040d}",
        "asset": f"0x{12:040d}",
        "limits": {"liq_threshold": 7_500},
    }
    state = make_state("aave-v3", pending=[loose])
    with pytest.raises(ConstraintError, match=r"pending.*1 - liquidation threshold.*rule effective\.unsafe"):
        simulate_plan(adapter, rules, state, intent((640_000, 700_000)))


def test_a_frozen_reserve_is_refused_and_so_is_a_market_held_below_the_document(
    make_state: MakeState,
) -> None:
    adapter, rules = target("aave-v3")
    with pytest.raises(ConstraintError, match=r"rule aave\.frozen"):
        simulate_plan(adapter, rules, make_state("aave-v3", markets__WTI__frozen=True), intent((1, 2)))


def test_a_shared_tier_is_refused_unless_its_markets_agree(make_state: MakeState) -> None:
    adapter, rules = target("dydx-v4")
    same_tier = make_state("dydx-v4", markets__NASDAQ__liquidity_tier=7)
    assert simulate_plan(adapter, rules, same_tier, margins((90_000, 45_000)))
    step = Step(at=ISSUED, perpetuals=(perpetual("SPX", 90_000, 45_000), perpetual("NASDAQ", 95_000, 45_000)))
    differ = margins((1, 1)).model_copy(update={"steps": (step,)})
    with pytest.raises(ConstraintError, match="rule shared-tier: its markets ask for different values"):
        simulate_plan(adapter, rules, same_tier, differ)
    largest = same_tier.model_copy(update={"shared": "largest"})
    (action,) = simulate_plan(adapter, rules, largest, differ)
    assert isinstance(action, dydx.SetTier)
    assert action.tier.initial_margin_ppm == 95_000
    stranger = same_tier.model_copy(update={"others": {"DOGE-USD": 7}})
    with pytest.raises(ConstraintError, match="would also move DOGE-USD, which the document does not decide"):
        simulate_plan(adapter, rules, stranger, margins((90_000, 45_000)))


def test_a_market_moves_to_the_cheapest_tier_that_is_safe_enough(make_state: MakeState) -> None:
    adapter, rules = target("dydx-v4")
    state = make_state("dydx-v4", route="choice")
    (first, second) = simulate_plan(adapter, rules, state, margins((20_000, 12_000)))
    assert {first.perpetual.liquidity_tier, second.perpetual.liquidity_tier} == {0}
    with pytest.raises(ConstraintError, match=r"SPX: initial margin would be 0\.1.*rule effective\.unsafe"):
        simulate_plan(adapter, rules, state, margins((120_000, 12_000)))


def test_separate_instructions_must_not_overshoot_on_the_way(make_state: MakeState) -> None:
    _, rules = target("kamino")
    state = make_state("kamino")

    def field(value: int) -> Any:
        return kamino.SetField(reserve="F" * 43, field="loan_to_value", value=value)

    simulate(rules, state, [field(65), field(60)], at=ISSUED)
    with pytest.raises(ConstraintError, match=r"after 1 of 2 actions.*rule partial\.overshoot"):
        simulate(rules, state, [field(75), field(60)], at=ISSUED)


@pytest.mark.parametrize(("ltv", "threshold"), [(300_000, 350_000), (850_000, 890_000), (690_000, 900_000)])
def test_kamino_orders_its_instructions_so_that_each_is_valid(
    ltv: int, threshold: int, make_state: MakeState
) -> None:
    adapter, rules = target("kamino")
    terms = intent((ltv, threshold))
    actions = simulate_plan(adapter, rules, make_state("kamino"), terms)
    assert [a.field for a in actions].count("loan_to_value") == 1
    simulate(rules, make_state("kamino"), actions, at=ISSUED)


@pytest.mark.parametrize(("ltv", "threshold"), [(300_000, 350_000), (850_000, 890_000)])
def test_kamino_refuses_the_same_instructions_in_the_wrong_order(
    ltv: int, threshold: int, make_state: MakeState
) -> None:
    adapter, rules = target("kamino")
    actions = adapter.propose(Step(at=ISSUED, loans=(loan(ltv, threshold),)), make_state("kamino"))
    with pytest.raises(ConstraintError, match=r"rule kamino\.order"):
        simulate(rules, make_state("kamino"), actions[::-1], at=ISSUED)


def test_a_ramp_on_its_way_is_simulated_at_its_time(make_state: MakeState) -> None:
    adapter, rules = target("euler-v2")
    state = make_state("euler-v2")
    down = intent((600_000, 700_000), (600_000, 780_000), days=15)
    (action,) = simulate_plan(adapter, rules, state, down)
    assert action.ramp == 30 * 86_400
    held: Any = simulate(rules, state, (action,), at=ISSUED)
    assert euler.liquidation_ltv_at(held.markets["WTI"], ISSUED + 15 * DAY) == 7_500
