"""dYdX v4's rules for a liquidity tier, and ours where the chain has none.

The chain checks a tier alone: no rate limit, no maintenance margin above zero, no look at the markets on it.
"""

from datetime import datetime
from fractions import Fraction
from typing import Final

from calibrator.domain import PPM
from calibrator.publish.adapters.dydx import QUANTUMS, DydxState, Move, SetTier, Tier, maintenance_ppm
from calibrator.publish.constraints.rules import (
    INITIAL,
    MAINTENANCE,
    OPEN_INTEREST,
    UNLIMITED,
    Key,
    Rules,
    require,
)

_UINT32: Final = 2**32
_UINT64: Final = 2**64


def apply(state: DydxState, action: SetTier | Move, _: datetime) -> DydxState:
    """Return the chain's state after one message of the proposal."""
    if isinstance(action, Move):
        return _move(state, action)
    tier, name = action.tier, f"tier {action.id}"
    known = state.tiers.get(str(action.id))
    require(known is not None, "dydx.known-tier", f"{name}: does not exist; an unknown id creates a new tier")
    require(
        known is None or tier.name == known.name, "dydx.name", f"{name}: its name must stay, was {tier.name}"
    )
    _check(tier, name)
    return state.model_copy(update={"tiers": {**state.tiers, str(action.id): tier}})


def _check(tier: Tier, name: str) -> None:
    initial, fraction = tier.initial_margin_ppm, tier.maintenance_fraction_ppm
    lower, upper = tier.open_interest_lower_cap, tier.open_interest_upper_cap
    require(
        0 < initial <= PPM,
        "dydx.initial-margin",
        f"{name}: initial_margin_ppm must lie in 1 to 1000000, was {initial} (the chain takes 0)",
    )
    require(
        0 < fraction <= PPM,
        "dydx.maintenance-fraction",
        f"{name}: maintenance_fraction_ppm must lie in 1 to 1000000 of the initial margin, was {fraction}",
    )
    require(
        maintenance_ppm(tier) > 0, "dydx.maintenance-margin", f"{name}: its maintenance margin rounds to 0"
    )
    require(tier.impact_notional != 0, "dydx.impact-notional", f"{name}: impact_notional must not be 0")
    require(lower <= upper or upper == 0, "dydx.caps", f"{name}: lower cap {lower} exceeds upper cap {upper}")
    require(
        not (upper == 0 and lower > 0),
        "dydx.caps",
        f"{name}: upper cap 0 with lower cap {lower} is refused; 0 means unlimited",
    )
    biggest = max(lower, upper, tier.impact_notional)
    require(biggest < _UINT64, "dydx.width", f"{name}: an amount does not fit 64 bits: {biggest}")


def _move(state: DydxState, action: Move) -> DydxState:
    new = action.perpetual
    found = [(symbol, old) for symbol, old in state.markets.items() if old.id == new.id]
    require(bool(found), "dydx.known-market", f"perpetual {new.id}: is not in the state file")
    symbol, old = found[0]
    same = old.model_copy(update={"liquidity_tier": new.liquidity_tier, "notional": new.notional})
    require(same == new, "dydx.full-replace", f"{symbol}: a move must write the other parameters as they are")
    require(
        str(new.liquidity_tier) in state.tiers,
        "dydx.known-tier",
        f"{symbol}: tier {new.liquidity_tier} does not exist",
    )
    kept = old.model_copy(update={"liquidity_tier": new.liquidity_tier})
    return state.model_copy(update={"markets": {**state.markets, symbol: kept}})


def effective(state: DydxState, _: datetime) -> dict[Key, Fraction]:
    """Return the margins of every market, from the tier it is on; the upper cap stops new positions."""
    out: dict[Key, Fraction] = {}
    for symbol, market in state.markets.items():
        tier = state.tiers[str(market.liquidity_tier)]
        out[symbol, INITIAL, market.notional] = Fraction(tier.initial_margin_ppm, PPM)
        out[symbol, MAINTENANCE, market.notional] = Fraction(maintenance_ppm(tier), PPM)
        upper = tier.open_interest_upper_cap
        out[symbol, OPEN_INTEREST, 0] = Fraction(-upper, QUANTUMS) if upper else UNLIMITED
    return out


RULES: Final = Rules(apply, effective)
