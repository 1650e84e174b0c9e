"""Aave v3: config-engine or risk-steward calls (3.6 and 3.7), or updates of the risk oracle, as a Safe batch.

Unchanged fields are KEEP_CURRENT, never zero. Loan-to-value and threshold are rounded down to basis points,
the bonus up. A market with a ``category`` is published as that e-mode category, which all its assets share.

References
----------
aave-dao/aave-v3-origin v3.6.0 and fd1fbd91 (3.7): IAaveV3ConfigEngine. aave-dao/aave-v3-risk-stewards
ab499683: RiskSteward.sol, AaveStewardInjector*.sol. ChaosLabsInc/risk-oracle be09f47d: RiskOracle.sol.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from calibrator.errors import PublishError
from calibrator.publish.adapters import evm, safe, text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Address,
    Lent,
    LoanTerms,
    State,
    Step,
    Symbol,
    Update,
    Wire,
    agreed,
    listed,
)
from calibrator.publish.adapters.safe import Call
from calibrator.publish.adapters.units import down, up
from calibrator.publish.canonical import Amount, Time

NAME: Final = "aave-v3"
BPS: Final = 10_000
KEEP: Final = 2**256 - 1 - 42
KEEP_TEXT: Final = "KEEP_CURRENT_STRING"
Route = Literal["steward-3.6", "steward-3.7", "engine-3.6", "engine-3.7", "oracle"]
Bps = Annotated[int, Field(ge=0)] | None
OracleName = Literal["supplyCap", "borrowCap"]
Parameter = Literal["ltv", "liq_threshold", "liq_bonus", "supply_cap", "borrow_cap"]

_COLLATERAL: Final = {
    "3.6": "updateCollateralSide((address,uint256,uint256,uint256,uint256,uint256)[])",
    "3.7": "updateCollateralSide((address,uint256,uint256,uint256,uint256)[])",
}
_EMODE: Final = {
    "3.6": "updateEModeCategories((uint8,uint256,uint256,uint256,string)[])",
    "3.7": "updateEModeCategories((uint8,uint256,uint256,uint256,string,uint256)[])",
}
_CAPS: Final = "updateCaps((address,uint256,uint256)[])"
_PUBLISH: Final = "publishRiskParameterUpdate(string,bytes,string,address,bytes)"
_PRICE_CAP: Final = "setCapParameters((uint104,uint48,uint16))"
_EMODE_TYPE: Final = "EModeCategoryUpdate"


class Limits(Wire):
    """Collateral parameters in basis points; ``liq_bonus`` is the bonus part only (500 = 5 %)."""

    ltv: Bps = None
    liq_threshold: Bps = None
    liq_bonus: Bps = None


class Collateral(Action):
    """`updateCollateralSide` of one reserve; None keeps a field."""

    kind: Literal["collateral"] = "collateral"
    to: Address
    asset: Address
    limits: Limits
    liq_protocol_fee: Bps = None
    debt_ceiling: Bps = None


class Category(Action):
    """`updateEModeCategories` of one category, or the oracle's ``EModeCategoryUpdate``."""

    kind: Literal["category"] = "category"
    to: Address
    category: Annotated[int, Field(ge=0)]
    limits: Limits


class Caps(Action):
    """`updateCaps` of one reserve, whole tokens; None keeps a field."""

    kind: Literal["caps"] = "caps"
    to: Address
    asset: Address
    supply_cap: Amount | None = None
    borrow_cap: Amount | None = None


class OracleCap(Action):
    """The oracle's ``supplyCap`` or ``borrowCap``, base units, addressed by the aToken."""

    kind: Literal["oracle-cap"] = "oracle-cap"
    to: Address
    a_token: Address
    parameter: OracleName
    amount: Amount


class PriceCap(Action):
    """`setCapParameters` of a price-cap adapter; growth in basis points a year."""

    kind: Literal["price-cap"] = "price-cap"
    to: Address
    snapshot_ratio: Amount
    snapshot_timestamp: Annotated[int, Field(ge=0)]
    growth: Annotated[int, Field(ge=0)]


AaveAction = Annotated[Collateral | Category | Caps | OracleCap | PriceCap, Field(discriminator="kind")]
AnyAction = Collateral | Category | Caps | OracleCap | PriceCap


class Collateralised(Wire):
    """What a reserve or a category holds, basis points; the bonus part only, as everywhere here."""

    ltv: Annotated[int, Field(ge=0)]
    liq_threshold: Annotated[int, Field(ge=0)]
    liq_bonus: Annotated[int, Field(ge=0)]
    restricted: bool = False
    changed: dict[Parameter, Time] = Field(default_factory=dict)


class Reserve(Lent, Collateralised):
    """One reserve; caps in whole tokens, 0 is uncapped; ``changed`` is the steward's clock."""

    asset: Address
    a_token: Address
    decimals: Annotated[int, Field(ge=0, le=36)]
    supply_cap: Amount
    borrow_cap: Amount
    frozen: bool = False
    category: Annotated[int, Field(ge=1, le=255)] | None = None


class PriceCapped(Wire):
    """A price-cap adapter: the stored snapshot, and the ratio that the market pays now.

    ``max_rise_bps`` per ``rise_seconds`` is what the snapshot ratio may rise by; None if unlimited.
    """

    snapshot_ratio: Amount
    snapshot_timestamp: Annotated[int, Field(ge=0)]
    growth: Annotated[int, Field(ge=0)]
    market_ratio: Amount
    minimum_delay: Annotated[int, Field(ge=0)] = 604_800
    max_rise_bps: Annotated[int, Field(ge=0)] | None = None
    rise_seconds: Annotated[int, Field(ge=1)] = 259_200


class StewardLimits(Wire):
    """Largest change per ``min_delay_seconds``: basis points absolute, caps relative."""

    min_delay_seconds: Annotated[int, Field(ge=0)] = 259_200
    reserve: Limits = Limits(ltv=50, liq_threshold=50, liq_bonus=50)
    category: Limits = Limits(ltv=50, liq_threshold=10, liq_bonus=50)
    cap_bps: Annotated[int, Field(ge=0)] = 10_000


class AaveState(State):
    """Reserves and e-mode categories of one pool, and who is called (``executor``).

    Attributes
    ----------
    executor : str
        Steward, engine or risk oracle, as ``route`` says. Engine calls belong into a governance payload.
    unconsumed : tuple of str
        Oracle updates not yet injected, ``<type>:<market>``; a second one would hide the first.
    """

    protocol: Literal["aave-v3"]
    route: Route = "steward-3.7"
    executor: Address
    markets: dict[Symbol, Reserve]
    categories: dict[str, Collateralised] = Field(default_factory=dict)
    others: dict[Symbol, int] = Field(default_factory=dict)
    price_caps: dict[Address, PriceCapped] = Field(default_factory=dict)
    limits: StewardLimits = StewardLimits()
    unconsumed: tuple[str, ...] = ()
    pending: tuple[AaveAction, ...] = ()


def propose(step: Step, state: AaveState) -> tuple[AnyAction, ...]:
    """Return the changes of reserves, categories and caps, in the order of their symbols."""
    out: list[AnyAction] = []
    grouped: dict[int, dict[str, tuple[int, ...]]] = {}
    for terms in sorted(listed(step.loans, state.markets, state), key=lambda t: t.symbol):
        market = state.markets[terms.symbol]
        if market.category is not None:
            grouped.setdefault(market.category, {})[terms.symbol] = _native(terms)
        elif (limits := _changed(_native(terms), market)) is not None:
            out.append(Collateral(to=state.executor, asset=market.asset, limits=limits))
        out += _caps(terms, market, state)
    for category, values in grouped.items():
        held = state.categories[str(category)]
        ltvs, thresholds, bonuses = zip(*values.values(), strict=True)
        limits = _changed((min(ltvs), min(thresholds), max(bonuses)), held)
        if limits is not None:
            members = {s for s, m in state.markets.items() if m.category == category}
            members |= {s for s, number in state.others.items() if number == category}
            agreed(values, state, what=f"e-mode {category}", others=members)
            if state.route == "oracle":  # has no word for "keep"
                limits = Limits(ltv=min(ltvs), liq_threshold=min(thresholds), liq_bonus=max(bonuses))
            out.append(Category(to=state.executor, category=category, limits=limits))
    return tuple(out)


def _native(terms: LoanTerms) -> tuple[int, int, int]:
    return (
        down(terms.loan_to_value_ppm, BPS),
        down(terms.liquidation_threshold_ppm, BPS),
        up(terms.liquidation_penalty_ppm, BPS),
    )


def _changed(new: tuple[int, ...], held: Collateralised) -> Limits | None:
    old = (held.ltv, held.liq_threshold, held.liq_bonus)
    ltv, threshold, bonus = (n if n != o else None for n, o in zip(new, old, strict=True))
    if new == old:
        return None
    return Limits(ltv=ltv, liq_threshold=threshold, liq_bonus=bonus)


def _caps(terms: LoanTerms, market: Reserve, state: AaveState) -> list[AnyAction]:
    supply = market.tokens(terms.cap.supply)
    if supply is None or supply == market.supply_cap:
        return []
    if state.route != "oracle":
        return [Caps(to=state.executor, asset=market.asset, supply_cap=supply)]
    amount = supply * 10**market.decimals
    return [OracleCap(to=state.executor, a_token=market.a_token, parameter="supplyCap", amount=amount)]


def _kept(value: int | None) -> int:
    return KEEP if value is None else value


def _keep(value: int) -> int | None:
    return None if value == KEEP else value


def _triple(limits: Limits) -> tuple[int, int, int]:
    return _kept(limits.ltv), _kept(limits.liq_threshold), _kept(limits.liq_bonus)


def _limits(ltv: int, threshold: int, bonus: int) -> Limits:
    return Limits(ltv=_keep(ltv), liq_threshold=_keep(threshold), liq_bonus=_keep(bonus))


def encode(update: Update[AnyAction]) -> bytes:
    """Write the Safe batch.

    Raises
    ------
    PublishError
        If a value does not fit its field, or the route has no call for an action.
    """
    header = update.header
    reference = f"{header.document[:16]}-{header.sequence}"
    calls = tuple(Call(a.to, _call(a, header.route, reference)) for a in update.actions)
    return safe.encode_batch(f"Aave v3 parameters ({header.route})", header, calls)


def _call(action: AnyAction, route: str, reference: str) -> str:
    if isinstance(action, PriceCap):
        return evm.call(_PRICE_CAP, (action.snapshot_ratio, action.snapshot_timestamp, action.growth))
    if route == "oracle":
        return _oracle_call(action, reference)
    if isinstance(action, OracleCap):
        raise PublishError(f"route {route} takes caps in whole tokens, not the oracle's base units")
    if isinstance(action, Caps):
        return evm.call(_CAPS, [(action.asset, _kept(action.supply_cap), _kept(action.borrow_cap))])
    version = route.rpartition("-")[2]
    if isinstance(action, Category):
        tail: tuple[Any, ...] = (KEEP_TEXT, KEEP) if version == "3.7" else (KEEP_TEXT,)
        return evm.call(_EMODE[version], [(action.category, *_triple(action.limits), *tail)])
    if version == "3.7" and action.debt_ceiling is not None:
        raise PublishError("Aave 3.7 has no debt ceiling")
    ceiling = () if version == "3.7" else (_kept(action.debt_ceiling),)
    row = (action.asset, *_triple(action.limits), *ceiling, _kept(action.liq_protocol_fee))
    return evm.call(_COLLATERAL[version], [row])


def _oracle_call(action: AnyAction, reference: str) -> str:
    if isinstance(action, OracleCap):
        value, market = action.amount.to_bytes(32, "big"), action.a_token
        kind: str = action.parameter
    elif isinstance(action, Category):
        value = evm.abi(["uint256"] * 3, _triple(action.limits))
        kind, market = _EMODE_TYPE, f"0x{action.category:040x}"
    else:
        raise PublishError(f"the risk oracle has no injector for {action.kind}: use a steward or governance")
    return evm.call(_PUBLISH, reference, value, kind, market, b"")


def decode(payload: bytes) -> Update[AnyAction]:
    """Read a batch that `encode` wrote.

    Raises
    ------
    PublishError
        If it is not one, or a call is of another function or version than its route says.
    """
    _, header, calls = safe.decode_batch(payload)
    update = Update(header, tuple(_action(one, header.route) for one in calls))
    return text.same(update, payload, encode(update), what="Aave batch")


def _action(one: Call, route: str) -> AnyAction:
    version = route.rpartition("-")[2]
    name = one.data[2:10]
    if name == evm.selector(_PRICE_CAP):
        ((ratio, timestamp, growth),) = evm.uncall(_PRICE_CAP, one.data)
        return PriceCap(to=one.to, snapshot_ratio=ratio, snapshot_timestamp=timestamp, growth=growth)
    if route == "oracle":
        return _oracle_action(one)
    if name == evm.selector(_CAPS):
        (((asset, supply, borrow),),) = evm.uncall(_CAPS, one.data)
        asset = evm.checksummed(asset)
        return Caps(to=one.to, asset=asset, supply_cap=_keep(supply), borrow_cap=_keep(borrow))
    if name == evm.selector(_EMODE.get(version, "")):
        (((category, ltv, threshold, bonus, *_),),) = evm.uncall(_EMODE[version], one.data)
        return Category(to=one.to, category=category, limits=_limits(ltv, threshold, bonus))
    (((asset, ltv, threshold, bonus, *more),),) = evm.uncall(_COLLATERAL.get(version, "none()"), one.data)
    *ceiling, fee = (_keep(value) for value in more)
    return Collateral(
        to=one.to,
        asset=evm.checksummed(asset),
        limits=_limits(ltv, threshold, bonus),
        liq_protocol_fee=fee,
        debt_ceiling=ceiling[0] if ceiling else None,
    )


def _oracle_action(one: Call) -> AnyAction:
    _, value, kind, market, _ = evm.uncall(_PUBLISH, one.data)
    if kind == _EMODE_TYPE:
        ltv, threshold, bonus = evm.unabi(["uint256"] * 3, value)
        return Category(to=one.to, category=int(market, 16), limits=_limits(ltv, threshold, bonus))
    if kind not in {"supplyCap", "borrowCap"}:
        raise PublishError(f"risk oracle: unknown update type {kind!r:.80}")
    amount = int.from_bytes(value, "big")
    return OracleCap(to=one.to, a_token=evm.checksummed(market), parameter=kind, amount=amount)


ADAPTER: Final = Adapter(NAME, "loans", AaveState, propose, encode, decode)
