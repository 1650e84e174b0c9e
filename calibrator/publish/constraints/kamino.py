"""Kamino's rules, after every single field, and the product of threshold and bonus, which it skips."""

from datetime import datetime
from fractions import Fraction
from typing import Final

from calibrator.publish.adapters.kamino import BPS, MODES, PERCENT, KaminoState, Reserve, SetField
from calibrator.publish.constraints.rules import (
    LOAN_TO_VALUE,
    SUPPLY,
    THRESHOLD,
    Key,
    Rules,
    require,
    supply_level,
)


def apply(state: KaminoState, action: SetField, _: datetime) -> KaminoState:
    """Return the state after one instruction."""
    found = [(s, r) for s, r in state.markets.items() if r.reserve == action.reserve]
    require(bool(found), "kamino.known", f"reserve {action.reserve}: is not in the state file")
    symbol, held = found[0]
    require(
        action.value < 2 ** (8 * MODES[action.field][1]),
        "kamino.width",
        f"{symbol}: {action.field} {action.value} does not fit its field",
    )
    new = held.model_copy(update={action.field: action.value})
    _check(new, symbol)
    return state.model_copy(update={"markets": {**state.markets, symbol: new}})


def _check(new: Reserve, symbol: str) -> None:
    ltv, threshold = new.loan_to_value, new.liquidation_threshold
    require(
        0 < ltv <= threshold <= PERCENT and ltv < PERCENT,
        "kamino.order",
        f"{symbol}: must satisfy 0 < loan to value <= threshold <= 100 % after each instruction, were {ltv}, "
        f"{threshold}",
    )
    require(
        new.min_bonus <= new.max_bonus <= BPS,
        "kamino.bonus",
        f"{symbol}: must satisfy min bonus <= max bonus <= {BPS}, were {new.min_bonus} and {new.max_bonus}",
    )
    require(
        threshold * (BPS + new.max_bonus) <= PERCENT * BPS,
        "kamino.product",
        f"{symbol}: threshold * (1 + max bonus) must not exceed 100 % (the program does not check it), was "
        f"{threshold * (BPS + new.max_bonus) / BPS:.2f} %",
    )


def effective(state: KaminoState, _: datetime) -> dict[Key, Fraction]:
    """Return the limits, and the deposit limit."""
    out: dict[Key, Fraction] = {}
    for symbol, held in state.markets.items():
        out[symbol, LOAN_TO_VALUE, 0] = 1 - Fraction(held.loan_to_value, PERCENT)
        out[symbol, THRESHOLD, 0] = 1 - Fraction(held.liquidation_threshold, PERCENT)
        out[symbol, SUPPLY, 0] = supply_level(held, held.deposit_limit, decimals=held.decimals)
    return out


RULES: Final = Rules(apply, effective, atomic=False)
