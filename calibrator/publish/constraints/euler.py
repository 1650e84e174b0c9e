"""Euler v2's rules: ramps only downwards, and what a reduction without one would do."""

from datetime import datetime
from fractions import Fraction
from typing import Final

from calibrator.publish.adapters.euler import (
    ONE,
    EulerState,
    SetCaps,
    SetLtv,
    cap_amount,
    liquidation_ltv_at,
)
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


def apply(state: EulerState, action: SetLtv | SetCaps, at: datetime) -> EulerState:
    """Return the state after one call."""
    if isinstance(action, SetCaps):
        return _caps(state, action)
    found = [
        (symbol, pair)
        for symbol, pair in state.markets.items()
        if (pair.vault.lower(), pair.collateral.lower()) == (action.vault.lower(), action.collateral.lower())
    ]
    require(bool(found), "euler.known", f"pair {action.vault} {action.collateral}: is not in the state file")
    symbol, pair = found[0]
    _ordered(action, symbol)
    now = liquidation_ltv_at(pair, at)
    rising = action.liquidation_ltv >= now
    require(
        not (rising and action.ramp),
        "euler.ramp-up",
        f"{symbol}: a ramp is only for reductions: liquidation LTV {now} to {action.liquidation_ltv}",
    )
    require(
        rising or action.ramp > 0,
        "euler.ramp-down",
        f"{symbol}: liquidation LTV falls from {now} to {action.liquidation_ltv} without a ramp, which "
        "liquidates at once (the chain allows it)",
    )
    require(action.ramp < 2**32, "euler.width", f"{symbol}: the ramp does not fit 32 bits")
    new = pair.model_copy(
        update={
            "borrow_ltv": action.borrow_ltv,
            "liquidation_ltv": action.liquidation_ltv,
            "initial_ltv": now,
            "target_time": int(at.timestamp()) + action.ramp,
            "ramp": action.ramp,
        }
    )
    return state.model_copy(update={"markets": {**state.markets, symbol: new}})


def _ordered(action: SetLtv, symbol: str) -> None:
    require(
        action.vault.lower() != action.collateral.lower(),
        "euler.self",
        f"{symbol}: a vault cannot be its own collateral",
    )
    require(
        0 < action.borrow_ltv <= action.liquidation_ltv <= ONE,
        "euler.order",
        f"{symbol}: must satisfy 0 < borrow LTV <= liquidation LTV <= {ONE}, were {action.borrow_ltv} and "
        f"{action.liquidation_ltv}",
    )
    require(
        action.liquidation_ltv < ONE,
        "euler.below-one",
        f"{symbol}: a liquidation LTV of 100 % leaves nothing for a liquidation",
    )


def _caps(state: EulerState, action: SetCaps) -> EulerState:
    found = [(a, v) for a, v in state.vaults.items() if a.lower() == action.vault.lower()]
    require(bool(found), "euler.known", f"vault {action.vault}: is not in the state file")
    address, vault = found[0]
    for name, raw, old in (
        ("supply", action.supply_cap, vault.supply_cap),
        ("borrow", action.borrow_cap, vault.borrow_cap),
    ):
        require(raw < 2**16, "euler.width", f"vault {address}: the {name} cap does not fit 16 bits")
        require(
            raw != 0 or old == 0,
            "euler.cap-zero",
            f"vault {address}: a raw {name} cap of 0 means unlimited",
        )
        amount = cap_amount(raw)
        require(
            amount is None or amount < 2**112,
            "euler.cap-size",
            f"vault {address}: the {name} cap {amount} exceeds the largest amount of a vault",
        )
    new = vault.model_copy(update={"supply_cap": action.supply_cap, "borrow_cap": action.borrow_cap})
    return state.model_copy(update={"vaults": {**state.vaults, address: new}})


def effective(state: EulerState, _: datetime) -> dict[Key, Fraction]:
    """Return the limits at the end of their ramps, and the supply cap of the collateral's vault."""
    out: dict[Key, Fraction] = {}
    for symbol, pair in state.markets.items():
        out[symbol, LOAN_TO_VALUE, 0] = 1 - Fraction(pair.borrow_ltv, ONE)
        out[symbol, THRESHOLD, 0] = 1 - Fraction(pair.liquidation_ltv, ONE)
        if (vault := state.vaults.get(pair.collateral)) is not None:
            amount = cap_amount(vault.supply_cap)
            out[symbol, SUPPLY, 0] = (
                UNLIMITED if amount is None else supply_level(vault, amount, decimals=vault.decimals)
            )
    return out


RULES: Final = Rules(apply, effective)
