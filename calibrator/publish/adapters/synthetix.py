"""Synthetix v3 perps: `setLiquidationParameters` and `setMaxMarketValue`, as a Safe batch of the owner.

``minimumInitialMarginRatio`` is the leverage floor and carries the document's initial margin;
``initialMarginRatio`` is a slope per unit of skew impact and stays. The maintenance margin is a scalar of the
initial margin, rounded up. The setter overwrites all five values, so the others are written as they are.

References
----------
Synthetixio/synthetix-v3 23585f73: markets/perps-market/contracts, PerpsMarketConfiguration.sol.
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
    Wire,
    listed,
)
from calibrator.publish.adapters.safe import Call
from calibrator.publish.adapters.units import ratio_up, up
from calibrator.publish.canonical import Amount

NAME: Final = "synthetix-v3"
ONE: Final = 10**18
_SET: Final = "setLiquidationParameters(uint128,uint256,uint256,uint256,uint256,uint256)"
_CAP: Final = "setMaxMarketValue(uint128,uint256)"


class Liquidation(Wire):
    """The five liquidation parameters, 1e18, in the setter's order (the event has another)."""

    initial_margin_ratio: Amount
    minimum_initial_margin_ratio: Amount
    maintenance_margin_scalar: Amount
    flag_reward_ratio: Amount
    minimum_position_margin: Amount


class SetLiquidation(Action):
    """`setLiquidationParameters`."""

    kind: Literal["liquidation"] = "liquidation"
    to: Address
    market: Amount
    parameters: Liquidation


class SetMaxValue(Action):
    """`setMaxMarketValue`, USD in 1e18; 0 means no cap."""

    kind: Literal["max-value"] = "max-value"
    to: Address
    market: Amount
    value: Amount


SynthetixAction = Annotated[SetLiquidation | SetMaxValue, Field(discriminator="kind")]


class SynthetixMarket(Listed):
    """One market: its number, liquidation parameters and cap."""

    market: Amount
    liquidation: Liquidation
    max_market_value: Amount


class SynthetixState(State):
    """Markets behind one perps-market proxy."""

    protocol: Literal["synthetix-v3"]
    proxy: Address
    markets: dict[Symbol, SynthetixMarket]
    pending: tuple[SynthetixAction, ...] = ()


def margins(parameters: Liquidation, *, impact: int = 0) -> tuple[int, int]:
    """Return initial and maintenance margin ratio (1e18) at a skew impact ``|size| / skewScale`` (1e18).

    Examples
    --------
    >>> btc = Liquidation(initial_margin_ratio=107 * 10**16, minimum_initial_margin_ratio=2 * 10**16,
    ...     maintenance_margin_scalar=333 * 10**15, flag_reward_ratio=0, minimum_position_margin=0)
    >>> margins(btc, impact=10**18 * 100 // 35_000)
    (23057142857142856, 7678028571428571)
    """
    slope = impact * parameters.initial_margin_ratio // ONE
    initial = slope + parameters.minimum_initial_margin_ratio
    return initial, initial * parameters.maintenance_margin_scalar // ONE


def propose(step: Step, state: SynthetixState) -> tuple[SetLiquidation | SetMaxValue, ...]:
    """Return what changes, in the order of the symbols."""
    out: list[SetLiquidation | SetMaxValue] = []
    for terms in sorted(listed(step.perpetuals, state.markets, state), key=lambda t: t.symbol):
        market = state.markets[terms.symbol]
        tier = terms.at(market.notional)
        initial, maintenance = up(tier.initial_margin_ppm, ONE), up(tier.maintenance_margin_ppm, ONE)
        new = market.liquidation.model_copy(
            update={
                "minimum_initial_margin_ratio": initial,
                "maintenance_margin_scalar": ratio_up(maintenance, initial, ONE),
            }
        )
        if new != market.liquidation:
            out.append(SetLiquidation(to=state.proxy, market=market.market, parameters=new))
        cap = terms.cap.open_interest
        if cap is not None and cap * ONE != market.max_market_value:
            out.append(SetMaxValue(to=state.proxy, market=market.market, value=cap * ONE))
    return tuple(out)


def encode(update: Update[SetLiquidation | SetMaxValue]) -> bytes:
    """Write the Safe batch.

    Raises
    ------
    PublishError
        If a value does not fit its field.
    """
    calls = tuple(Call(action.to, _data(action)) for action in update.actions)
    return safe.encode_batch("Synthetix v3 liquidation parameters", update.header, calls)


def _data(action: SetLiquidation | SetMaxValue) -> str:
    if isinstance(action, SetMaxValue):
        return evm.call(_CAP, action.market, action.value)
    values = (getattr(action.parameters, name) for name in Liquidation.model_fields)
    return evm.call(_SET, action.market, *values)


def decode(payload: bytes) -> Update[SetLiquidation | SetMaxValue]:
    """Read a batch that `encode` wrote.

    Raises
    ------
    PublishError
        If it is not one.
    """
    _, header, calls = safe.decode_batch(payload)
    update = Update(header, tuple(_action(one) for one in calls))
    return text.same(update, payload, encode(update), what="Synthetix batch")


def _action(one: Call) -> SetLiquidation | SetMaxValue:
    if one.data[2:10] == evm.selector(_CAP):
        market, value = evm.uncall(_CAP, one.data)
        return SetMaxValue(to=one.to, market=market, value=value)
    market, *values = evm.uncall(_SET, one.data)
    fields = dict(zip(Liquidation.model_fields, values, strict=True))
    return SetLiquidation(to=one.to, market=market, parameters=Liquidation(**fields))


ADAPTER: Final = Adapter(NAME, "perpetuals", SynthetixState, propose, encode, decode)
