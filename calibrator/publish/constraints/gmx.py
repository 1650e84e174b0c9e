"""GMX v2's rules: on-chain ceilings, two roads that take different keys, and the order of two factors."""

from datetime import datetime
from fractions import Fraction
from typing import Final

from calibrator.publish.adapters.gmx import ONE, ORACLE_NAMES, GmxState, SetUint
from calibrator.publish.constraints.rules import (
    INITIAL,
    MAINTENANCE,
    OPEN_INTEREST,
    Key,
    Rules,
    require,
)

CEILINGS: Final = {
    "MIN_COLLATERAL_FACTOR": ONE * 5 // 100,
    "MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION": ONE // 100,
}


def apply(state: GmxState, action: SetUint, _: datetime) -> GmxState:
    """Return the state after one value is set."""
    found = [(s, m) for s, m in state.markets.items() if m.market.lower() == action.market.lower()]
    require(bool(found), "gmx.known", f"market {action.market}: is not in the state file")
    symbol, market = found[0]
    require(
        action.to.lower() == state.executor.lower(), "gmx.executor", f"{symbol}: must call {state.executor}"
    )
    _allowed(state, action, symbol)
    new = market.model_copy(update={action.key.lower(): action.value})
    opening, closing = new.min_collateral_factor, new.min_collateral_factor_for_liquidation
    require(
        action.key in ORACLE_NAMES or closing <= opening,
        "gmx.order",
        f"{symbol}: the factor for liquidation must not exceed the opening factor, "
        f"{closing / ONE} and {opening / ONE}",
    )
    return state.model_copy(update={"markets": {**state.markets, symbol: new}})


def _allowed(state: GmxState, action: SetUint, symbol: str) -> None:
    ceiling = CEILINGS.get(action.key)
    require(
        ceiling is None or action.value <= ceiling,
        "gmx.ceiling",
        f"{symbol}: {action.key} must not exceed {(ceiling or 0) / ONE:.0%}, was {action.value / ONE:.4%}",
    )
    require(action.value < 2**256, "gmx.width", f"{symbol}: {action.key} does not fit 256 bits")
    require(
        action.value > 0,
        "gmx.zero",
        f"{symbol}: {action.key} must not be 0: it asks nothing, closes the market, or is skipped by scripts",
    )
    if state.route == "oracle":
        require(
            action.key in ORACLE_NAMES,
            "gmx.oracle.key",
            f"{symbol}: the ConfigSyncer does not take {action.key}",
        )
        name = f"{ORACLE_NAMES[action.key]}:{action.market}".lower()
        require(
            name not in {item.lower() for item in state.unconsumed},
            "gmx.oracle.unconsumed",
            f"{symbol}: an earlier oracle update is not applied yet and would be hidden",
        )


def effective(state: GmxState, _: datetime) -> dict[Key, Fraction]:
    """Return the factors and the larger side's cap; through the oracle the caps alone are decided."""
    out: dict[Key, Fraction] = {}
    for symbol, market in state.markets.items():
        if state.route == "keeper":
            out[symbol, INITIAL, market.notional] = Fraction(market.min_collateral_factor, ONE)
            closing = Fraction(market.min_collateral_factor_for_liquidation, ONE)
            out[symbol, MAINTENANCE, market.notional] = closing
        cap = max(market.max_open_interest_long, market.max_open_interest_short)
        out[symbol, OPEN_INTEREST, 0] = Fraction(-cap, ONE)
    return out


RULES: Final = Rules(apply, effective)
