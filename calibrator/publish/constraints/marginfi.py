"""MarginFi v2's rules of a bank's weights and risk tier."""

from datetime import datetime
from fractions import Fraction
from typing import Final

from calibrator.publish.adapters.marginfi import LIMITS, ONE, WEIGHTS, Bank, Configure, MarginfiState
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

NO_LIMIT: Final = 2**64 - 1


def apply(state: MarginfiState, action: Configure, _: datetime) -> MarginfiState:
    """Return the state after one configuration."""
    found = [(s, b) for s, b in state.markets.items() if b.bank == action.bank]
    require(bool(found), "marginfi.known", f"bank {action.bank}: is not in the state file")
    symbol, bank = found[0]
    given = {n: v for n in (*WEIGHTS, *LIMITS) if (v := getattr(action, n)) is not None}
    new = bank.model_copy(update=given)
    for name in LIMITS:
        value = getattr(new, name)
        require(
            name not in given or value < NO_LIMIT,
            "marginfi.no-limit",
            f"{symbol}: {name} {value} means no limit, or does not fit 64 bits",
        )
    _check(new, symbol)
    return state.model_copy(update={"markets": {**state.markets, symbol: new}})


def _check(new: Bank, symbol: str) -> None:
    initial, maintenance = new.asset_weight_init, new.asset_weight_maint
    require(
        new.risk_tier != "Isolated" or initial == maintenance == 0,
        "marginfi.isolated",
        f"{symbol}: an isolated bank must have asset weights of 0",
    )
    require(
        initial <= ONE and initial <= maintenance <= 2 * ONE,
        "marginfi.asset-weight",
        f"{symbol}: must satisfy init <= 1 and init <= maint <= 2, were {initial / ONE:.6f} and "
        f"{maintenance / ONE:.6f}",
    )
    require(
        new.liability_weight_init >= new.liability_weight_maint >= ONE,
        "marginfi.liability-weight",
        f"{symbol}: must satisfy init >= maint >= 1",
    )
    require(
        maintenance < ONE,
        "marginfi.below-one",
        f"{symbol}: a maintenance weight of 100 % leaves nothing for a liquidation (the program takes it)",
    )


def effective(state: MarginfiState, _: datetime) -> dict[Key, Fraction]:
    """Return the weights as requirements; liability weights above 1 only add to them."""
    out: dict[Key, Fraction] = {}
    for symbol, bank in state.markets.items():
        out[symbol, LOAN_TO_VALUE, 0] = 1 - Fraction(bank.asset_weight_init, ONE)
        out[symbol, THRESHOLD, 0] = 1 - Fraction(bank.asset_weight_maint, ONE)
        limit = supply_level(bank, bank.deposit_limit, decimals=bank.decimals)
        out[symbol, SUPPLY, 0] = UNLIMITED if bank.deposit_limit >= NO_LIMIT else limit
    return out


RULES: Final = Rules(apply, effective)
