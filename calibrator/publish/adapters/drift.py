"""Drift v2: admin instructions that set margin ratios, spot weights and open-interest caps.

Margin ratios and liability weights are rounded up, asset weights down, all to 1e-4. An open-interest cap is
in base units of the market and a multiple of its step size, so it is converted at the state's oracle price
and rounded down.

References
----------
drift-labs/protocol-v2 0ae3e3b1: programs/drift/src/{validation/margin.rs, instructions/admin.rs}.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from calibrator.errors import PublishError
from calibrator.publish.adapters import solana, text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Header,
    Listed,
    State,
    Step,
    Symbol,
    Update,
    listed,
)
from calibrator.publish.adapters.solana import Account
from calibrator.publish.adapters.units import down, up
from calibrator.publish.canonical import Amount

NAME: Final = "drift-v2"
ONE: Final = 10_000
BASE: Final = 10**9
QUOTE: Final = 10**6
Units = Annotated[int, Field(ge=0)]
_MARGIN: Final = ("update_perp_market_margin_ratio", ("u32", "u32"))
_WEIGHTS: Final = ("update_spot_market_margin_weights", ("u32",) * 5)
_INTEREST: Final = ("update_perp_market_max_open_interest", ("u128",))


class SetMargin(Action):
    """`updatePerpMarketMarginRatio`, 1e4."""

    kind: Literal["margin"] = "margin"
    market: Account
    initial: Units
    maintenance: Units


class SetWeights(Action):
    """`updateSpotMarketMarginWeights`, 1e4; imf 1e6."""

    kind: Literal["weights"] = "weights"
    market: Account
    initial_asset: Units
    maintenance_asset: Units
    initial_liability: Units
    maintenance_liability: Units
    imf: Units


class SetInterest(Action):
    """`updatePerpMarketMaxOpenInterest`, 1e9 base units."""

    kind: Literal["interest"] = "interest"
    market: Account
    amount: Amount


DriftAction = Annotated[SetMargin | SetWeights | SetInterest, Field(discriminator="kind")]
AnyAction = SetMargin | SetWeights | SetInterest


class PerpMarket(Listed):
    """A perpetual. Fees and spread are 1e6, ``price`` is quote (1e6) per base token."""

    kind: Literal["perp"] = "perp"
    market: Account
    initial: Units
    maintenance: Units
    liquidator_fee: Units
    max_spread: Units
    high_leverage_initial: Units = 0
    high_leverage_maintenance: Units = 0
    max_open_interest: Amount = 0
    step_size: Annotated[int, Field(ge=1)]
    price: Annotated[int, Field(ge=1)]


class SpotMarket(Listed):
    """A collateral; ``index`` 0 is the quote asset, whose weights are fixed."""

    kind: Literal["spot"] = "spot"
    market: Account
    index: Units
    initial_asset: Units
    maintenance_asset: Units
    initial_liability: Units
    maintenance_liability: Units
    imf: Units


class DriftState(State):
    """Markets of one deployment; ``sender`` is the admin."""

    protocol: Literal["drift-v2"]
    markets: dict[Symbol, Annotated[PerpMarket | SpotMarket, Field(discriminator="kind")]]
    pending: tuple[DriftAction, ...] = ()


def propose(step: Step, state: DriftState) -> tuple[AnyAction, ...]:
    """Return what changes, in the order of the symbols."""
    out: list[AnyAction] = []
    for terms in sorted(listed(step.perpetuals, state.markets, state), key=lambda t: t.symbol):
        market, tier = state.markets[terms.symbol], None
        tier = terms.at(market.notional)
        new = SetMargin(
            market=market.market,
            initial=up(tier.initial_margin_ppm, ONE),
            maintenance=up(tier.maintenance_margin_ppm, ONE),
        )
        if not isinstance(market, PerpMarket) or (market.initial, market.maintenance) != (
            new.initial,
            new.maintenance,
        ):
            out.append(new)
        if isinstance(market, PerpMarket) and terms.cap.open_interest is not None:
            amount = terms.cap.open_interest * QUOTE * BASE // market.price
            amount -= amount % market.step_size
            if amount != market.max_open_interest:
                out.append(SetInterest(market=market.market, amount=amount))
    for loan in sorted(listed(step.loans, state.markets, state), key=lambda t: t.symbol):
        spot = state.markets[loan.symbol]
        if not isinstance(spot, SpotMarket):
            raise PublishError(
                f"{loan.symbol}: is a collateral in the document, a perpetual in the state file"
            )
        weights = down(loan.loan_to_value_ppm, ONE), down(loan.liquidation_threshold_ppm, ONE)
        if weights != (spot.initial_asset, spot.maintenance_asset):
            out.append(
                SetWeights(
                    market=spot.market,
                    initial_asset=weights[0],
                    maintenance_asset=weights[1],
                    initial_liability=spot.initial_liability,
                    maintenance_liability=spot.maintenance_liability,
                    imf=spot.imf,
                )
            )
    return tuple(out)


def _parts(action: AnyAction) -> tuple[str, tuple[str, ...], tuple[int, ...]]:
    if isinstance(action, SetMargin):
        return *_MARGIN, (action.initial, action.maintenance)
    if isinstance(action, SetInterest):
        return *_INTEREST, (action.amount,)
    values = action.model_dump(exclude={"kind", "market"}).values()
    return *_WEIGHTS, tuple(values)


def encode(update: Update[AnyAction]) -> bytes:
    """Write the instructions for the admin's multisig.

    Raises
    ------
    PublishError
        If a value does not fit its type.
    """
    rows = []
    for action in update.actions:
        function, kinds, values = _parts(action)
        rows.append(
            {
                "function": function,
                "accounts": {"admin": update.header.sender, "market": action.market},
                "arguments": [str(value) for value in values],
                "data": solana.instruction(function, kinds, values),
            }
        )
    return text.write({"description": update.header.text(), "instructions": rows})


def decode(payload: bytes) -> Update[AnyAction]:
    """Read what `encode` wrote; the instruction data decide.

    Raises
    ------
    PublishError
        If it is not in that form.
    """
    raw = text.read(payload, what="instructions")
    rows = raw.get("instructions")
    actions = tuple(_action(row) for row in rows) if isinstance(rows, list) else ()
    update = Update(Header.read(str(raw.get("description"))), actions)
    return text.same(update, payload, encode(update), what="instructions")


def _action(row: Any) -> AnyAction:
    try:
        function, market, data = row["function"], row["accounts"]["market"], row["data"]
    except (KeyError, TypeError) as error:
        raise PublishError(f"instructions: a field is missing: {error}") from error
    if function == _MARGIN[0]:
        initial, maintenance = solana.arguments(*_MARGIN, data)
        return SetMargin(market=market, initial=initial, maintenance=maintenance)
    if function == _INTEREST[0]:
        return SetInterest(market=market, amount=solana.arguments(*_INTEREST, data)[0])
    if function != _WEIGHTS[0]:
        raise PublishError(f"instructions: unknown function {function!r:.80}")
    names = [name for name in SetWeights.model_fields if name not in {"kind", "market"}]
    fields: dict[str, Any] = dict(zip(names, solana.arguments(*_WEIGHTS, data), strict=True))
    return SetWeights(market=market, **fields)


ADAPTER: Final = Adapter(NAME, "both", DriftState, propose, encode, decode)
