"""Derive v2: margin requirements of the standard manager, as a Safe batch of its owner.

Perpetuals: ``setPerpMarginRequirements``, maintenance **before** initial. Base collaterals:
``setBaseAssetMarginFactor``, where the initial value is ``factor * IMScale``.

References
----------
derivexyz/v2-core 7736900d: src/risk-managers/StandardManager.sol.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from calibrator.publish.adapters import evm, safe, text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Address,
    Listed,
    State,
    Step,
    Symbol,
    Update,
    listed,
)
from calibrator.publish.adapters.safe import Call
from calibrator.publish.adapters.units import down, ratio_down, up
from calibrator.publish.canonical import Amount

NAME: Final = "derive-v2"
ONE: Final = 10**18
_PERP: Final = "setPerpMarginRequirements(uint256,uint256,uint256)"
_BASE: Final = "setBaseAssetMarginFactor(uint256,uint256,uint256)"


class SetPerp(Action):
    """`setPerpMarginRequirements`, 1e18."""

    kind: Literal["perp"] = "perp"
    to: Address
    market: Amount
    maintenance: Amount
    initial: Amount


class SetBase(Action):
    """`setBaseAssetMarginFactor`, 1e18."""

    kind: Literal["base"] = "base"
    to: Address
    market: Amount
    factor: Amount
    scale: Amount


DeriveAction = Annotated[SetPerp | SetBase, Field(discriminator="kind")]


class Perp(Listed):
    """Margin requirements of a perpetual, 1e18."""

    kind: Literal["perp"] = "perp"
    market: Amount
    maintenance: Amount
    initial: Amount


class Base(Listed):
    """Margin factor of a base asset and the scale that makes its initial value, 1e18."""

    kind: Literal["base"] = "base"
    market: Amount
    factor: Amount
    scale: Amount


class DeriveState(State):
    """Markets of one standard manager."""

    protocol: Literal["derive-v2"]
    manager: Address
    markets: dict[Symbol, Annotated[Perp | Base, Field(discriminator="kind")]]
    pending: tuple[DeriveAction, ...] = ()


def propose(step: Step, state: DeriveState) -> tuple[SetPerp | SetBase, ...]:
    """Return what changes: perpetuals first, then base assets, in the order of the symbols."""
    out: list[SetPerp | SetBase] = []
    for terms in sorted(listed(step.perpetuals, state.markets, state), key=lambda t: t.symbol):
        market = state.markets[terms.symbol]
        tier = terms.at(market.notional)
        new = SetPerp(
            to=state.manager,
            market=market.market,
            maintenance=up(tier.maintenance_margin_ppm, ONE),
            initial=up(tier.initial_margin_ppm, ONE),
        )
        if not (
            isinstance(market, Perp)
            and (market.maintenance, market.initial) == (new.maintenance, new.initial)
        ):
            out.append(new)
    for loan in sorted(listed(step.loans, state.markets, state), key=lambda t: t.symbol):
        market = state.markets[loan.symbol]
        factor = down(loan.liquidation_threshold_ppm, ONE)
        scale = ratio_down(down(loan.loan_to_value_ppm, ONE), factor, ONE)
        if not (isinstance(market, Base) and (market.factor, market.scale) == (factor, scale)):
            out.append(SetBase(to=state.manager, market=market.market, factor=factor, scale=scale))
    return tuple(out)


def encode(update: Update[SetPerp | SetBase]) -> bytes:
    """Write the Safe batch.

    Raises
    ------
    PublishError
        If a value does not fit its field.
    """
    calls = tuple(Call(action.to, _data(action)) for action in update.actions)
    return safe.encode_batch("Derive v2 margin requirements", update.header, calls)


def _data(action: SetPerp | SetBase) -> str:
    if isinstance(action, SetPerp):
        return evm.call(_PERP, action.market, action.maintenance, action.initial)
    return evm.call(_BASE, action.market, action.factor, action.scale)


def decode(payload: bytes) -> Update[SetPerp | SetBase]:
    """Read a batch that `encode` wrote.

    Raises
    ------
    PublishError
        If it is not one.
    """
    _, header, calls = safe.decode_batch(payload)
    update = Update(header, tuple(_action(one) for one in calls))
    return text.same(update, payload, encode(update), what="Derive batch")


def _action(one: Call) -> SetPerp | SetBase:
    if one.data[2:10] == evm.selector(_PERP):
        market, maintenance, initial = evm.uncall(_PERP, one.data)
        return SetPerp(to=one.to, market=market, maintenance=maintenance, initial=initial)
    market, factor, scale = evm.uncall(_BASE, one.data)
    return SetBase(to=one.to, market=market, factor=factor, scale=scale)


ADAPTER: Final = Adapter(NAME, "both", DeriveState, propose, encode, decode)
