"""A table of single changes that a target would refuse, clip or misread, and the rule that names why."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from calibrator.errors import ConstraintError
from calibrator.publish.adapters import (
    aave,
    brackets,
    compound,
    derive,
    drift,
    dydx,
    euler,
    gmx,
    hyperliquid,
    kamino,
    maker,
    marginfi,
    morpho,
    synthetix,
)
from calibrator.publish.adapters.base import State
from calibrator.publish.constraints.rules import simulate
from calibrator.publish.constraints.targets import TARGETS, target

AT = datetime(2025, 1, 10, tzinfo=UTC)


def a(number: int) -> str:
    return f"0x{number:040d}"


def collateral(
    ltv: int | None = None, threshold: int | None = None, bonus: int | None = None, **more: Any
) -> Any:
    limits = aave.Limits(ltv=ltv, liq_threshold=threshold, liq_bonus=bonus)
    return aave.Collateral(to=a(14), asset=a(12), limits=limits, **more)


def caps(supply: int) -> Any:
    return aave.Caps(to=a(14), asset=a(12), supply_cap=supply)


STEWARD = {"route": "steward-3.7"}
LATELY = {**STEWARD, "markets__WTI__changed": {"ltv": "2025-01-08T00:00:00Z"}}
TIER = {
    "name": "Equity-Index",
    "initial_margin_ppm": 100_000,
    "maintenance_fraction_ppm": 500_000,
    "impact_notional": 1,
    "open_interest_lower_cap": 0,
    "open_interest_upper_cap": 0,
}


def tier(id_: int = 7, **changes: Any) -> Any:
    return dydx.SetTier(id=id_, tier=dydx.Tier(**TIER | changes))


def comet(field: str, value: int) -> Any:
    return compound.Set(to=a(25), comet=a(24), asset=a(22), field=field, value=value)  # type: ignore[arg-type]


DEPLOY = compound.Deploy(to=a(26), configurator=a(25), comet=a(24))


def ltv(borrow: int, liquidation: int, ramp: int = 0) -> Any:
    return euler.SetLtv(
        vault=a(32), collateral=a(33), borrow_ltv=borrow, liquidation_ltv=liquidation, ramp=ramp
    )


def factor(key: str, value: int, **more: Any) -> Any:
    return gmx.SetUint(**{"to": a(42), "market": a(43), "key": key, "value": value} | more)


def snx(**changes: int) -> Any:
    fields = {
        "initial_margin_ratio": 107 * 10**16,
        "minimum_initial_margin_ratio": 10**17,
        "maintenance_margin_scalar": 5 * 10**17,
        "flag_reward_ratio": 3 * 10**14,
        "minimum_position_margin": 15 * 10**18,
    }
    parameters = synthetix.Liquidation(**fields | changes)
    return synthetix.SetLiquidation(to=a(52), market=9_000, parameters=parameters)


def weights(*values: int) -> Any:
    names = ("initial_asset", "maintenance_asset", "initial_liability", "maintenance_liability", "imf")
    return drift.SetWeights(market="D" * 43, **dict(zip(names, values, strict=True)))


def margin(initial: int, maintenance: int) -> Any:
    return drift.SetMargin(market="B" * 43, initial=initial, maintenance=maintenance)


def table(*rows: tuple[int, int]) -> Any:
    tiers = tuple(hyperliquid.Leverage(lower_bound=b, max_leverage=x) for b, x in rows)
    return hyperliquid.InsertTable(description="", tiers=tiers)


def bands(*rows: tuple[int, int, int, int]) -> Any:
    made = tuple(brackets.Bracket(floor=f, cap=c, leverage=x, maintenance_ppm=m) for f, c, x, m in rows)
    return brackets.SetBrackets(symbol="SPXUSD", brackets=made)


def cap(lltv: int, amount: int) -> Any:
    return morpho.SubmitCap(
        to=a(86), loan=a(82), collateral=a(83), oracle=a(84), irm=a(85), lltv=lltv, cap=amount
    )


def ilk(what: str, value: int, to: int) -> Any:
    return maker.FileIlk(to=a(to), ilk="WTI-A", what=what, value=value)  # type: ignore[arg-type]


def field(name: str, value: int) -> Any:
    return kamino.SetField(reserve="F" * 43, field=name, value=value)  # type: ignore[arg-type]


def bank(**changes: int) -> Any:
    return marginfi.Configure(bank="H" * 43, **changes)


PENDING = {"markets__WTI__submitted": {"860000000000000000": {"cap": 1, "valid_at": "2025-02-01T00:00:00Z"}}}
W = 2**48
CLOSING = "MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION"
BAD: list[tuple[str, str, list[Any], dict[str, Any]]] = [
    ("aave-v3", "aave.order", [collateral(7_100)], {}),
    ("aave-v3", "aave.product", [collateral(None, 9_524, 500)], {}),  # half up: the pool takes it
    ("aave-v3", "aave.zero", [collateral(None, 0)], {}),
    (
        "aave-v3",
        "aave.keep-bonus",
        [collateral(6_400)],
        {"markets__WTI__liq_bonus": 0} | {"markets__WTI__ltv": 1},
    ),
    ("aave-v3", "aave.keep", [collateral(6_400, liq_protocol_fee=0)], {}),
    ("aave-v3", "aave.frozen", [collateral(6_400)], {"markets__WTI__frozen": True}),
    ("aave-v3", "aave.executor", [collateral(6_400).model_copy(update={"to": a(99)})], {}),
    ("aave-v3", "aave.cap-zero", [caps(0)], {}),
    ("aave-v3", "aave.width", [caps(2**36)], {}),
    ("aave-v3", "aave.steward.step", [collateral(6_449)], STEWARD),
    ("aave-v3", "aave.steward.step", [collateral(6_551)], STEWARD),
    ("aave-v3", "aave.steward.step", [caps(2_000_001)], STEWARD),
    ("aave-v3", "aave.steward.delay", [collateral(6_450)], LATELY),
    ("aave-v3", "aave.steward.delay", [collateral(6_450), collateral(6_400)], STEWARD),
    ("aave-v3", "aave.steward.restricted", [collateral(6_450)], STEWARD | {"markets__WTI__restricted": True}),
    ("aave-v3", "aave.oracle.route", [collateral(6_450)], {"route": "oracle"}),
    ("compound-v3", "compound.order", [comet("borrowCollateralFactor", 7 * 10**17), DEPLOY], {}),
    ("compound-v3", "compound.liquidation-factor", [comet("liquidationFactor", 7 * 10**17), DEPLOY], {}),
    ("compound-v3", "compound.liquidation-factor", [comet("liquidationFactor", 2 * 10**18), DEPLOY], {}),
    ("compound-v3", "compound.precision", [comet("borrowCollateralFactor", 6 * 10**17 + 1), DEPLOY], {}),
    ("compound-v3", "compound.cap-whole", [comet("supplyCap", 1), DEPLOY], {}),
    ("compound-v3", "compound.deploy", [comet("borrowCollateralFactor", 6 * 10**17)], {}),
    ("euler-v2", "euler.order", [ltv(8_100, 8_000)], {}),
    ("euler-v2", "euler.ramp-up", [ltv(6_800, 8_000, 1)], {}),
    ("euler-v2", "euler.ramp-down", [ltv(6_800, 7_999)], {}),
    ("euler-v2", "euler.below-one", [ltv(6_800, 10_000)], {}),
    ("euler-v2", "euler.cap-zero", [euler.SetCaps(vault=a(33), supply_cap=0, borrow_cap=1)], {}),
    ("gmx-v2", "gmx.oracle.key", [factor("MIN_COLLATERAL_FACTOR", 10**28)], {}),
    ("gmx-v2", "gmx.ceiling", [factor("MIN_COLLATERAL_FACTOR", 51 * 10**27)], {"route": "keeper"}),
    (
        "gmx-v2",
        "gmx.ceiling",
        [factor(CLOSING, 11 * 10**27)],
        {"route": "keeper"},
    ),
    ("gmx-v2", "gmx.order", [factor("MIN_COLLATERAL_FACTOR", 4 * 10**27)], {"route": "keeper"}),
    ("gmx-v2", "gmx.zero", [factor("MAX_OPEN_INTEREST_LONG", 0)], {}),
    (
        "gmx-v2",
        "gmx.oracle.unconsumed",
        [factor("MAX_OPEN_INTEREST_LONG", 1)],
        {"unconsumed": [f"maxOpenInterestForLongs:{a(43)}"]},
    ),
    ("synthetix-v3", "synthetix.full-replace", [snx(flag_reward_ratio=0)], {}),
    ("synthetix-v3", "synthetix.order", [snx(maintenance_margin_scalar=10**18)], {}),
    ("synthetix-v3", "synthetix.initial-margin", [snx(minimum_initial_margin_ratio=0)], {}),
    ("synthetix-v3", "synthetix.cap-zero", [synthetix.SetMaxValue(to=a(52), market=9_000, value=0)], {}),
    ("drift-v2", "drift.margin", [margin(500, 500)], {}),
    ("drift-v2", "drift.margin", [margin(500, 124)], {}),
    ("drift-v2", "drift.liquidator-fee", [margin(1_000, 130)], {"markets__NASDAQ__liquidator_fee": 13_000}),
    ("drift-v2", "drift.max-spread", [margin(1_000, 500)], {"markets__NASDAQ__max_spread": 100_000}),
    (
        "drift-v2",
        "drift.high-leverage",
        [margin(1_000, 500)],
        {"markets__NASDAQ__high_leverage_initial": 900, "markets__NASDAQ__high_leverage_maintenance": 500},
    ),
    ("drift-v2", "drift.asset-weight", [weights(8_000, 7_500, 13_000, 12_000, 3_000)], {}),
    ("drift-v2", "drift.liability-weight", [weights(7_000, 7_500, 11_000, 12_000, 3_000)], {}),
    ("drift-v2", "drift.full-replace", [weights(7_000, 7_500, 13_000, 12_000, 0)], {}),
    ("drift-v2", "drift.quote", [weights(7_000, 7_500, 13_000, 12_000, 0)], {"markets__WTI__index": 0}),
    ("drift-v2", "drift.step-size", [drift.SetInterest(market="B" * 43, amount=100_001)], {}),
    ("drift-v2", "drift.cap-zero", [drift.SetInterest(market="B" * 43, amount=0)], {}),
    ("derive-v2", "derive.order", [derive.SetPerp(to=a(62), market=20, maintenance=10**17, initial=1)], {}),
    ("derive-v2", "derive.bounds", [derive.SetBase(to=a(62), market=30, factor=10**18 + 1, scale=1)], {}),
    ("dydx-v4", "dydx.initial-margin", [tier(initial_margin_ppm=0)], {}),
    ("dydx-v4", "dydx.initial-margin", [tier(initial_margin_ppm=1_000_001)], {}),
    ("dydx-v4", "dydx.maintenance-fraction", [tier(maintenance_fraction_ppm=1_000_001)], {}),
    ("dydx-v4", "dydx.maintenance-margin", [tier(initial_margin_ppm=1)], {}),
    ("dydx-v4", "dydx.impact-notional", [tier(impact_notional=0)], {}),
    ("dydx-v4", "dydx.caps", [tier(open_interest_lower_cap=2, open_interest_upper_cap=1)], {}),
    ("dydx-v4", "dydx.caps", [tier(open_interest_lower_cap=2)], {}),
    ("dydx-v4", "dydx.known-tier", [tier(9)], {}),
    ("dydx-v4", "dydx.name", [tier(name="other")], {}),
    ("hyperliquid", "hyperliquid.tiers", [table((0, 9), (1, 8), (2, 7), (3, 6))], {}),
    ("hyperliquid", "hyperliquid.order", [table((0, 9), (1, 9))], {}),
    ("hyperliquid", "hyperliquid.leverage", [table((0, 51))], {}),
    ("hyperliquid", "hyperliquid.leverage", [table((0, 0))], {}),
    ("hyperliquid", "hyperliquid.first", [table((1, 9))], {}),
    ("hyperliquid", "hyperliquid.table", [hyperliquid.SetTables(tables=(("cal:SPX", 52),))], {}),
    (
        "hyperliquid",
        "hyperliquid.sorted",
        [hyperliquid.SetTables(tables=(("cal:SPX", 51), ("cal:NASDAQ", 51)))],
        {},
    ),
    ("hyperliquid", "hyperliquid.cap-zero", [hyperliquid.SetCaps(caps=(("cal:SPX", 0),))], {}),
    ("leverage-brackets", "brackets.gap", [bands((0, 1, 9, 1), (2, 50_000_000, 8, 2))], {}),
    ("leverage-brackets", "brackets.order", [bands((0, 1, 8, 1), (1, 50_000_000, 9, 2))], {}),
    ("leverage-brackets", "brackets.maintenance", [bands((0, 50_000_000, 10, 100_001))], {}),
    ("leverage-brackets", "brackets.leverage", [bands((0, 50_000_000, 0, 1))], {}),
    ("leverage-brackets", "brackets.max-notional", [bands((0, 1, 9, 1))], {}),
    ("morpho-blue", "morpho.enabled", [cap(78 * 10**16, 1)], {}),
    ("morpho-blue", "morpho.already-set", [cap(77 * 10**16, 5_000_000_000_000)], {}),
    ("morpho-blue", "morpho.already-pending", [cap(86 * 10**16, 5)], PENDING),
    ("maker", "maker.mat", [ilk("mat", 9_999 * 10**23, 92)], {}),
    ("maker", "maker.precision", [ilk("mat", 15_000 * 10**23 + 1, 92)], {}),
    ("maker", "maker.chop", [ilk("chop", 10**17, 93)], {}),
    ("maker", "maker.product", [ilk("chop", 15 * 10**17, 93)], {}),
    ("maker", "maker.poke", [ilk("mat", 15_000 * 10**23, 92)], {}),
    ("maker", "maker.target", [ilk("mat", 15_000 * 10**23, 93)], {}),
    ("kamino", "kamino.order", [field("loan_to_value", 81)], {}),
    ("kamino", "kamino.order", [field("liquidation_threshold", 60), field("loan_to_value", 50)], {}),
    ("kamino", "kamino.bonus", [field("min_bonus", 601)], {}),
    ("kamino", "kamino.product", [field("liquidation_threshold", 95)], {}),
    ("marginfi-v2", "marginfi.asset-weight", [bank(asset_weight_init=W * 9 // 10)], {}),
    ("marginfi-v2", "marginfi.below-one", [bank(asset_weight_maint=W)], {}),
    ("marginfi-v2", "marginfi.liability-weight", [bank(liability_weight_maint=W - 1)], {}),
    ("marginfi-v2", "marginfi.isolated", [bank(deposit_limit=1)], {"markets__WTI__risk_tier": "Isolated"}),
    ("marginfi-v2", "marginfi.no-limit", [bank(deposit_limit=2**64 - 1)], {}),
]


@pytest.mark.parametrize(
    ("name", "rule", "actions", "changes"), BAD, ids=[f"{rule}-{i}" for i, (_, rule, _, _) in enumerate(BAD)]
)
def test_refused_with_its_rule(
    name: str, rule: str, actions: list[Any], changes: dict[str, Any], make_state: Callable[..., State]
) -> None:
    _, rules = target(name)
    with pytest.raises(ConstraintError, match=rf"\(rule {rule}\)"):
        simulate(rules, make_state(name, **changes), actions, at=AT)


def test_every_target_has_refusals() -> None:
    assert {name for name, _, _, _ in BAD} == set(TARGETS)


def test_what_the_pool_rounds_half_up_is_not_published(
    make_state: Callable[..., State],
) -> None:
    state = make_state("aave-v3")
    for threshold in (9_523, 9_524):
        assert (threshold * 10_500 + 5_000) // 10_000 <= 10_000  # the pool's percentMul
    simulate(target("aave-v3")[1], state, [collateral(None, 9_523, 500)], at=AT)
    with pytest.raises(ConstraintError, match=r"was 100\.0020 %"):
        simulate(target("aave-v3")[1], state, [collateral(None, 9_524, 500)], at=AT)
