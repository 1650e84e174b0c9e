"""Compound III's rules: checked when the Comet is deployed, not when a value is set.

The chain compares the two collateral factors only. That a liquidation pays more than the threshold, and that
the penalty is not negative, is ours.
"""

from datetime import datetime
from fractions import Fraction
from typing import Final

from calibrator.publish.adapters.compound import (
    FACTORS,
    STEP,
    Asset,
    CompoundState,
    Deploy,
    Set,
    deployed,
)
from calibrator.publish.constraints.rules import (
    LOAN_TO_VALUE,
    SUPPLY,
    THRESHOLD,
    Key,
    Rules,
    require,
    supply_level,
)

ONE: Final = 10**18


def apply(state: CompoundState, action: Set | Deploy, _: datetime) -> CompoundState:
    """Return the state after one call: a setter stages its value, the deployment checks and takes all."""
    require(
        action.comet.lower() == state.comet.lower(),
        "compound.comet",
        f"must change {state.comet}, was {action.comet}",
    )
    if isinstance(action, Deploy):
        require(
            (action.to.lower(), action.configurator.lower())
            == (state.proxy_admin.lower(), state.configurator.lower()),
            "compound.deploy",
            "the deployment must go through the proxy admin, with the configurator",
        )
        markets = {symbol: _deploy(symbol, asset) for symbol, asset in state.markets.items()}
        return state.model_copy(update={"markets": markets})
    require(
        action.to.lower() == state.configurator.lower(),
        "compound.configurator",
        f"a setter must call {state.configurator}, called {action.to}",
    )
    found = [(s, a) for s, a in state.markets.items() if a.asset.lower() == action.asset.lower()]
    require(bool(found), "compound.known", f"asset {action.asset}: is not in the state file")
    symbol, asset = found[0]
    if action.field == "supplyCap":
        require(action.value < 2**128, "compound.width", f"{symbol}: supplyCap does not fit 128 bits")
    else:
        require(action.value < 2**64, "compound.width", f"{symbol}: {action.field} does not fit 64 bits")
    staged = asset.model_copy(update={"staged": {**asset.staged, action.field: action.value}})
    return state.model_copy(update={"markets": {**state.markets, symbol: staged}})


def _deploy(symbol: str, asset: Asset) -> Asset:
    """Check and take over what is staged; nothing of it may be cut off."""
    new = deployed(asset) | dict(asset.staged)
    factors = {field: new[field] for field in new if field != "supplyCap"}
    for field, value in factors.items():
        require(
            value % STEP == 0,
            "compound.precision",
            f"{symbol}: {field} must be a multiple of 1e14, the rest of {value} would be cut off",
        )
    borrow, liquidate, liquidation = factors.values()
    require(
        0 < borrow < liquidate,
        "compound.order",
        f"{symbol}: must satisfy 0 < borrowCF < liquidateCF, were {borrow / ONE} and {liquidate / ONE}",
    )
    require(
        liquidate < liquidation <= ONE,
        "compound.liquidation-factor",
        f"{symbol}: must satisfy liquidateCF < liquidationFactor <= 1, were {liquidate / ONE} and "
        f"{liquidation / ONE} (the chain does not check it)",
    )
    whole, rest = divmod(new["supplyCap"], 10**asset.decimals)
    require(
        rest == 0,
        "compound.cap-whole",
        f"{symbol}: supplyCap must be whole tokens, the rest would be cut off",
    )
    require(whole < 2**64, "compound.width", f"{symbol}: supplyCap does not fit 64 bits of whole tokens")
    return asset.model_copy(
        update={
            "borrow_factor": borrow // STEP,
            "liquidate_factor": liquidate // STEP,
            "liquidation_factor": liquidation // STEP,
            "supply_cap": whole,
            "staged": {},
        }
    )


def effective(state: CompoundState, _: datetime) -> dict[Key, Fraction]:
    """Return what is deployed; staged values count for nothing."""
    out: dict[Key, Fraction] = {}
    for symbol, asset in state.markets.items():
        out[symbol, LOAN_TO_VALUE, 0] = 1 - Fraction(asset.borrow_factor, FACTORS)
        out[symbol, THRESHOLD, 0] = 1 - Fraction(asset.liquidate_factor, FACTORS)
        out[symbol, SUPPLY, 0] = supply_level(asset, asset.supply_cap)
    return out


def complete(state: CompoundState) -> None:
    """Refuse to stop between a setter and the deployment."""
    for symbol, asset in state.markets.items():
        require(
            not asset.staged,
            "compound.deploy",
            f"{symbol}: {', '.join(asset.staged)} set, but nothing changes before deployAndUpgradeTo",
        )


RULES: Final = Rules(apply, effective, complete=complete)
