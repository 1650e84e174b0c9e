"""Derive v2's rules of the standard manager."""

from datetime import datetime
from fractions import Fraction
from typing import Final

from calibrator.publish.adapters.derive import ONE, Base, DeriveState, Perp, SetBase, SetPerp
from calibrator.publish.constraints.rules import (
    INITIAL,
    LOAN_TO_VALUE,
    MAINTENANCE,
    THRESHOLD,
    Key,
    Rules,
    require,
)


def apply(state: DeriveState, action: SetPerp | SetBase, _: datetime) -> DeriveState:
    """Return the state after one call."""
    require(action.to.lower() == state.manager.lower(), "derive.manager", f"must call {state.manager}")
    found = [(s, m) for s, m in state.markets.items() if m.market == action.market and m.kind == action.kind]
    require(bool(found), "derive.known", f"{action.kind} {action.market}: is not in the state file")
    symbol, market = found[0]
    if isinstance(action, SetPerp):
        require(
            0 < action.maintenance <= action.initial < ONE,
            "derive.order",
            f"{symbol}: must satisfy 0 < maintenance <= initial < 1, were {action.maintenance / ONE} and "
            f"{action.initial / ONE} (the setter takes maintenance first)",
        )
        values = {"maintenance": action.maintenance, "initial": action.initial}
    else:
        require(
            0 < action.factor <= ONE and 0 < action.scale <= ONE,
            "derive.bounds",
            f"{symbol}: factor, scale must lie in (0, 1], were {action.factor / ONE}, {action.scale / ONE}",
        )
        values = {"factor": action.factor, "scale": action.scale}
    return state.model_copy(update={"markets": {**state.markets, symbol: market.model_copy(update=values)}})


def effective(state: DeriveState, _: datetime) -> dict[Key, Fraction]:
    """Return margins of perpetuals and values of base assets."""
    out: dict[Key, Fraction] = {}
    for symbol, market in state.markets.items():
        if isinstance(market, Perp):
            out[symbol, INITIAL, market.notional] = Fraction(market.initial, ONE)
            out[symbol, MAINTENANCE, market.notional] = Fraction(market.maintenance, ONE)
        elif isinstance(market, Base):
            out[symbol, THRESHOLD, 0] = 1 - Fraction(market.factor, ONE)
            out[symbol, LOAN_TO_VALUE, 0] = 1 - Fraction(market.factor * market.scale, ONE * ONE)
    return out


RULES: Final = Rules(apply, effective)
