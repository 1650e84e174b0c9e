"""Aave v3's rules: the pool's own, the config engine's, the risk steward's and the oracle injector's.

The pool multiplies threshold and bonus rounding half up, so it accepts products that exceed 100 % by a
little; what we publish stays below exactly.
"""

from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Final

from calibrator.publish.adapters.aave import (
    BPS,
    AaveState,
    AnyAction,
    Caps,
    Category,
    Collateral,
    Collateralised,
    Limits,
    OracleCap,
    PriceCap,
    Reserve,
)
from calibrator.publish.constraints import price_caps
from calibrator.publish.constraints.rules import (
    LOAN_TO_VALUE,
    SUPPLY,
    THRESHOLD,
    UNLIMITED,
    Key,
    Rules,
    require,
    supply_level,
)

MAX_CAP: Final = 2**36 - 1
FIELDS: Final = ("ltv", "liq_threshold", "liq_bonus")


def apply(state: AaveState, action: AnyAction, at: datetime) -> AaveState:
    """Return the pool's state after one call."""
    if isinstance(action, PriceCap):
        return price_caps.apply(state, action, at)
    require(
        action.to.lower() == state.executor.lower(),
        "aave.executor",
        f"{action.kind}: must call {state.executor}, called {action.to}",
    )
    if isinstance(action, Collateral):
        return _collateral(state, action, at)
    if isinstance(action, Category):
        return _category(state, action, at)
    return _caps(state, action, at)


def _collateral(state: AaveState, action: Collateral, at: datetime) -> AaveState:
    symbol, held = _reserve(state, action.asset)
    require(
        state.route != "oracle",
        "aave.oracle.route",
        f"{symbol}: the risk oracle cannot move a reserve's collateral",
    )
    require(
        held.category is None,
        "aave.category",
        f"{symbol}: borrows through e-mode {held.category}, its reserve values do not apply",
    )
    require(
        not held.frozen,
        "aave.frozen",
        f"{symbol}: the reserve is frozen, its ltv would be parked and stay 0",
    )
    require(
        action.liq_protocol_fee is None and action.debt_ceiling is None,
        "aave.keep",
        f"{symbol}: liqProtocolFee and debtCeiling must be KEEP_CURRENT",
    )
    new = _limited(state, held, action.limits, at, symbol, state.limits.reserve)
    return state.model_copy(update={"markets": {**state.markets, symbol: new}})


def _category(state: AaveState, action: Category, at: datetime) -> AaveState:
    name, number = f"e-mode {action.category}", str(action.category)
    require(number in state.categories, "aave.known", f"{name}: is not in the state file")
    held = state.categories[number]
    if state.route == "oracle":
        require(action.category <= 255, "aave.oracle.market", f"{name}: must not exceed 255")
        require(
            None not in _values(action.limits), "aave.oracle.complete", f"{name}: every field must be given"
        )
        _consumed(state, f"EModeCategoryUpdate:{action.category}", name)
    new = _limited(state, held, action.limits, at, name, state.limits.category)
    return state.model_copy(update={"categories": {**state.categories, number: new}})


def _values(limits: Limits) -> tuple[int | None, int | None, int | None]:
    return limits.ltv, limits.liq_threshold, limits.liq_bonus


def _limited(state: AaveState, held: Any, limits: Limits, at: datetime, name: str, most: Limits) -> Any:
    """Check the three collateral parameters of a reserve or category and return it with them."""
    _unrestricted(state, held, name)
    given = {f: v for f, v in zip(FIELDS, _values(limits), strict=True) if v is not None}
    for field, value in given.items():
        require(
            value != 0,
            "aave.zero",
            f"{name}: {field} must not be 0: the engine skips a zero threshold, the steward refuses zeros",
        )
        if not state.route.startswith("engine"):
            step = getattr(most, field)
            _steward(state, held, field, at, name=name, move=(getattr(held, field), value, step))
    require(
        limits.liq_bonus is not None or held.liq_bonus > 0,
        "aave.keep-bonus",
        f"{name}: KEEP_CURRENT of a bonus that is 0 reverts",
    )
    changed = held.changed if state.route.startswith("engine") else held.changed | dict.fromkeys(given, at)
    new = held.model_copy(update={**given, "changed": changed})
    _ordered(new, name)
    return new


def _ordered(new: Collateralised, name: str) -> None:
    ltv, threshold, bonus = new.ltv, new.liq_threshold, BPS + new.liq_bonus
    require(
        ltv <= threshold, "aave.order", f"{name}: ltv must not exceed the threshold {threshold}, was {ltv}"
    )
    require(bonus > BPS, "aave.bonus", f"{name}: the bonus must be positive")
    require(max(threshold, bonus) < 2**16, "aave.width", f"{name}: a value does not fit 16 bits")
    require(
        threshold * bonus <= BPS * BPS,
        "aave.product",
        f"{name}: threshold * (1 + bonus) must not exceed 100 %, was {threshold * bonus / BPS / 100:.4f} %",
    )


def _steward(
    state: AaveState, held: Collateralised, field: Any, at: datetime, *, name: str, move: tuple[int, int, int]
) -> None:
    """Check one parameter against the steward's (or the oracle injector's) delay and step."""
    delay, last = timedelta(seconds=state.limits.min_delay_seconds), held.changed.get(field)
    require(
        last is None or at - last >= delay,
        "aave.steward.delay",
        f"{name}: {field} changed at {last}, the next change is possible {delay} later, was asked at {at}",
    )
    old, new, most = move
    steps = -(-abs(new - old) // most) if most else 0
    require(
        abs(new - old) <= most,
        "aave.steward.step",
        f"{name}: {field} may move by {most}, {old} to {new} was asked; needs {steps} steps {delay} apart, "
        "or governance",
    )


def _unrestricted(state: AaveState, held: Collateralised, name: str) -> None:
    require(
        state.route.startswith("engine") or not held.restricted,
        "aave.steward.restricted",
        f"{name}: is restricted for the steward",
    )


def _reserve(state: AaveState, asset: str, *, by: str = "asset") -> tuple[str, Reserve]:
    for symbol, held in state.markets.items():
        if getattr(held, by).lower() == asset.lower():
            return symbol, held
    require(False, "aave.known", f"reserve {asset}: is not in the state file")  # noqa: FBT003
    raise AssertionError


def _caps(state: AaveState, action: Caps | OracleCap, at: datetime) -> AaveState:
    new: dict[str, int | None]
    if isinstance(action, OracleCap):
        require(state.route == "oracle", "aave.oracle.route", "an oracle update must go through the oracle")
        symbol, held = _reserve(state, action.a_token, by="a_token")
        _consumed(state, f"{action.parameter}:{action.a_token}", symbol)
        whole, rest = divmod(action.amount, 10**held.decimals)
        require(
            rest == 0, "aave.oracle.whole", f"{symbol}: a cap must be whole tokens, the rest would be cut off"
        )
        new = {"supply_cap" if action.parameter == "supplyCap" else "borrow_cap": whole}
    else:
        require(
            state.route != "oracle", "aave.oracle.route", "the oracle takes caps in base units, by aToken"
        )
        symbol, held = _reserve(state, action.asset)
        new = {"supply_cap": action.supply_cap, "borrow_cap": action.borrow_cap}
    given = {field: value for field, value in new.items() if value is not None}
    _unrestricted(state, held, symbol)
    for field, cap in given.items():
        require(cap > 0, "aave.cap-zero", f"{symbol}: {field} 0 means uncapped")
        require(cap <= MAX_CAP, "aave.width", f"{symbol}: {field} does not fit 36 bits: {cap}")
        if not state.route.startswith("engine"):
            old = getattr(held, field)
            most = state.limits.cap_bps * old // BPS
            _steward(state, held, field, at, name=symbol, move=(old, cap, most))
    changed = held.changed if state.route.startswith("engine") else held.changed | dict.fromkeys(given, at)
    kept = held.model_copy(update={**given, "changed": changed})
    return state.model_copy(update={"markets": {**state.markets, symbol: kept}})


def _consumed(state: AaveState, key: str, name: str) -> None:
    hidden = {item.lower() for item in state.unconsumed}
    require(
        key.lower() not in hidden,
        "aave.oracle.unconsumed",
        f"{name}: an earlier oracle update is not injected yet and would be hidden",
    )


def effective(state: AaveState, _: datetime) -> dict[Key, Fraction]:
    """Return what every reserve lends, through its category where it has one."""
    out: dict[Key, Fraction] = {}
    for symbol, market in state.markets.items():
        held: Collateralised = market if market.category is None else state.categories[str(market.category)]
        ltv = 0 if market.frozen else held.ltv
        out[symbol, LOAN_TO_VALUE, 0] = 1 - Fraction(ltv, BPS)
        out[symbol, THRESHOLD, 0] = 1 - Fraction(held.liq_threshold, BPS)
        out[symbol, SUPPLY, 0] = supply_level(market, market.supply_cap) if market.supply_cap else UNLIMITED
    return out


RULES: Final = Rules(apply, effective)
