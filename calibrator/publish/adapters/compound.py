"""Compound III: governor actions on the Configurator, and the same values as a deployment configuration.

The setters check nothing and change nothing before ``deployAndUpgradeTo``, so that call always ends the list.
Factors are exact multiples of 1e14: what is finer is cut off when the Comet is deployed.

References
----------
compound-finance/comet d5a30b0a: Configurator.sol, AssetList.sol, src/deploy/NetworkConfiguration.ts.
"""

import math
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from calibrator.domain import PPM
from calibrator.errors import PublishError
from calibrator.publish.adapters import evm, text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Address,
    Header,
    Lent,
    LoanTerms,
    State,
    Step,
    Symbol,
    Update,
    listed,
)
from calibrator.publish.adapters.units import down
from calibrator.publish.canonical import Amount

NAME: Final = "compound-v3"
STEP: Final = 10**14
FACTORS: Final = 10_000
Field_ = Literal["borrowCollateralFactor", "liquidateCollateralFactor", "liquidationFactor", "supplyCap"]
SETTERS: Final[dict[str, str]] = {
    "borrowCollateralFactor": "updateAssetBorrowCollateralFactor(address,address,uint64)",
    "liquidateCollateralFactor": "updateAssetLiquidateCollateralFactor(address,address,uint64)",
    "liquidationFactor": "updateAssetLiquidationFactor(address,address,uint64)",
    "supplyCap": "updateAssetSupplyCap(address,address,uint128)",
}
DEPLOY: Final = "deployAndUpgradeTo(address,address)"


class Set(Action):
    """One setter of the Configurator: factors in 1e18, the cap in base units."""

    kind: Literal["set"] = "set"
    to: Address
    comet: Address
    asset: Address
    field: Field_
    value: Amount


class Deploy(Action):
    """`deployAndUpgradeTo`: what makes the setters count."""

    kind: Literal["deploy"] = "deploy"
    to: Address
    configurator: Address
    comet: Address


CompoundAction = Annotated[Set | Deploy, Field(discriminator="kind")]


class Asset(Lent):
    """One collateral of a Comet: factors in 1e-4, the cap in whole tokens; ``staged`` is not deployed yet."""

    asset: Address
    price_feed: Address
    decimals: Annotated[int, Field(ge=0, le=36)]
    borrow_factor: Annotated[int, Field(ge=0)]
    liquidate_factor: Annotated[int, Field(ge=0)]
    liquidation_factor: Annotated[int, Field(ge=0)]
    supply_cap: Amount
    staged: dict[Field_, Amount] = Field(default_factory=dict)


class CompoundState(State):
    """The collaterals of one Comet, and the contracts that change it."""

    protocol: Literal["compound-v3"]
    comet: Address
    configurator: Address
    proxy_admin: Address
    markets: dict[Symbol, Asset]
    pending: tuple[CompoundAction, ...] = ()


def deployed(asset: Asset) -> dict[str, int]:
    """Return what the asset holds in the units of the setters."""
    return {
        "borrowCollateralFactor": asset.borrow_factor * STEP,
        "liquidateCollateralFactor": asset.liquidate_factor * STEP,
        "liquidationFactor": asset.liquidation_factor * STEP,
        "supplyCap": asset.supply_cap * 10**asset.decimals,
    }


def propose(step: Step, state: CompoundState) -> tuple[Set | Deploy, ...]:
    """Return the setters of what changes, and the deployment."""
    out: list[Set | Deploy] = []
    for terms in sorted(listed(step.loans, state.markets, state), key=lambda t: t.symbol):
        asset = state.markets[terms.symbol]
        held = deployed(asset) | dict(asset.staged)
        out += [
            Set(to=state.configurator, comet=state.comet, asset=asset.asset, field=field, value=value)
            for field, value in _native(terms, asset).items()
            if held[field] != value
        ]
    if out:
        out.append(Deploy(to=state.proxy_admin, configurator=state.configurator, comet=state.comet))
    return tuple(out)


def _native(terms: LoanTerms, asset: Asset) -> dict[Any, int]:
    out = {
        "borrowCollateralFactor": down(terms.loan_to_value_ppm, FACTORS) * STEP,
        "liquidateCollateralFactor": down(terms.liquidation_threshold_ppm, FACTORS) * STEP,
        "liquidationFactor": down(PPM - terms.liquidation_penalty_ppm, FACTORS) * STEP,
    }
    if (supply := asset.tokens(terms.cap.supply)) is not None:
        out["supplyCap"] = supply * 10**asset.decimals
    return out


def loader_factor(units: int) -> float:
    """Return the JSON number that the deployment loader reads as exactly ``units`` of 1e-4.

    The loader takes ``floor(number * 1e18)`` of a double: 0.57 would become 0.5699. The next double is used
    where the plain decimal loses a unit.

    Examples
    --------
    >>> loader_factor(8250), loader_factor(5700)
    (0.825, 0.5700000000000001)
    """
    number = units / FACTORS
    while math.floor(number * 1e18) // STEP < units:
        number = math.nextafter(number, 1.0)
    return number


def encode(update: Update[Set | Deploy]) -> bytes:
    """Write the proposal: what it does in words, its calls, and the configuration to deploy the same.

    Raises
    ------
    PublishError
        If a value does not fit its field.
    """
    header = update.header
    return text.write(
        {
            "title": "Collateral factors and caps",
            "description": header.text(),
            "actions": [_row(action) for action in update.actions],
            "configuration": {"assets": _configuration(update.actions)},
        }
    )


def _row(action: Set | Deploy) -> dict[str, Any]:
    if isinstance(action, Deploy):
        signature, values = DEPLOY, (action.configurator, action.comet)
    else:
        signature, values = SETTERS[action.field], (action.comet, action.asset, action.value)  # type: ignore[assignment]
    return {
        "target": evm.mixed_case(action.to),
        "value": "0",
        "signature": signature,
        "calldata": evm.call(signature, *values),
    }


def _configuration(actions: tuple[Set | Deploy, ...]) -> dict[str, dict[str, object]]:
    names = {
        "borrowCollateralFactor": "borrowCF",
        "liquidateCollateralFactor": "liquidateCF",
        "liquidationFactor": "liquidationFactor",
    }
    out: dict[str, dict[str, object]] = {}
    for action in actions:
        if isinstance(action, Set):
            row = out.setdefault(evm.checksummed(action.asset), {})
            if action.field == "supplyCap":
                row["supplyCap"] = f"{action.value}e0"
            else:
                row[names[action.field]] = loader_factor(action.value // STEP)
    return out


def decode(payload: bytes) -> Update[Set | Deploy]:
    """Read a proposal that `encode` wrote.

    Raises
    ------
    PublishError
        If it is not one.
    """
    raw = text.read(payload, what="proposal")
    rows = raw.get("actions")
    actions = tuple(_action(row) for row in rows) if isinstance(rows, list) else ()
    update = Update(Header.read(str(raw.get("description"))), actions)
    return text.same(update, payload, encode(update), what="proposal")


def _action(row: Any) -> Set | Deploy:
    try:
        to, signature, data = row["target"], row["signature"], row["calldata"]
    except (KeyError, TypeError) as error:
        raise PublishError(f"proposal: an action has no {error}") from error
    if signature == DEPLOY:
        configurator, comet = (evm.checksummed(a) for a in evm.uncall(DEPLOY, data))
        return Deploy(to=to, configurator=configurator, comet=comet)
    for field, setter in SETTERS.items():
        if setter == signature:
            comet, asset, value = evm.uncall(setter, data)
            comet, asset = evm.checksummed(comet), evm.checksummed(asset)
            return Set(to=to, comet=comet, asset=asset, field=field, value=value)  # type: ignore[arg-type]
    raise PublishError(f"proposal: unknown function {signature!r:.80}")


ADAPTER: Final = Adapter(NAME, "loans", CompoundState, propose, encode, decode)
