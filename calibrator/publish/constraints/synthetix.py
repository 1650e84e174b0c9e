"""Synthetix v3's rules, all of them ours: the contract checks nothing and overwrites everything."""

from datetime import datetime
from fractions import Fraction
from typing import Final

from calibrator.publish.adapters.synthetix import (
    ONE,
    SetLiquidation,
    SetMaxValue,
    SynthetixMarket,
    SynthetixState,
    margins,
)
from calibrator.publish.constraints.rules import (
    INITIAL,
    MAINTENANCE,
    OPEN_INTEREST,
    UNLIMITED,
    Key,
    Rules,
    require,
)


def apply(state: SynthetixState, action: SetLiquidation | SetMaxValue, _: datetime) -> SynthetixState:
    """Return the state after one call."""
    require(action.to.lower() == state.proxy.lower(), "synthetix.proxy", f"must call {state.proxy}")
    found = [(s, m) for s, m in state.markets.items() if m.market == action.market]
    require(bool(found), "synthetix.known", f"market {action.market}: is not in the state file")
    symbol, market = found[0]
    if isinstance(action, SetMaxValue):
        require(action.value > 0, "synthetix.cap-zero", f"{symbol}: maxMarketValue 0 means no cap")
        require(action.value < 2**256, "synthetix.width", f"{symbol}: maxMarketValue does not fit 256 bits")
        new = market.model_copy(update={"max_market_value": action.value})
    else:
        _liquidation(action, market, symbol)
        new = market.model_copy(update={"liquidation": action.parameters})
    return state.model_copy(update={"markets": {**state.markets, symbol: new}})


def _liquidation(action: SetLiquidation, market: SynthetixMarket, symbol: str) -> None:
    new, old = action.parameters, market.liquidation
    for field in ("initial_margin_ratio", "flag_reward_ratio", "minimum_position_margin"):
        require(
            getattr(new, field) == getattr(old, field),
            "synthetix.full-replace",
            f"{symbol}: {field} must be written as it is ({getattr(old, field)}), was {getattr(new, field)}",
        )
    initial, maintenance = margins(new)
    require(
        0 < initial <= ONE,
        "synthetix.initial-margin",
        f"{symbol}: minimumInitialMarginRatio must lie in (0, 1], was {initial / ONE}",
    )
    require(
        0 < maintenance < initial,
        "synthetix.order",
        f"{symbol}: maintenance must lie between 0 and the initial margin, the scalar was "
        f"{new.maintenance_margin_scalar / ONE}",
    )


def effective(state: SynthetixState, _: datetime) -> dict[Key, Fraction]:
    """Return the margins without skew (it only adds to them) and the cap."""
    out: dict[Key, Fraction] = {}
    for symbol, market in state.markets.items():
        initial, maintenance = margins(market.liquidation)
        out[symbol, INITIAL, market.notional] = Fraction(initial, ONE)
        out[symbol, MAINTENANCE, market.notional] = Fraction(maintenance, ONE)
        cap = market.max_market_value
        out[symbol, OPEN_INTEREST, 0] = Fraction(-cap, ONE) if cap else UNLIMITED
    return out


RULES: Final = Rules(apply, effective)
