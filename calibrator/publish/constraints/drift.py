"""Drift v2's rules: the program's own validation of ratios and weights."""

from datetime import datetime
from fractions import Fraction
from typing import Final

from calibrator.publish.adapters.drift import (
    BASE,
    ONE,
    QUOTE,
    AnyAction,
    DriftState,
    PerpMarket,
    SetInterest,
    SetMargin,
    SetWeights,
    SpotMarket,
)
from calibrator.publish.constraints.rules import (
    INITIAL,
    LOAN_TO_VALUE,
    MAINTENANCE,
    OPEN_INTEREST,
    THRESHOLD,
    UNLIMITED,
    Key,
    Rules,
    require,
)

LOWEST: Final = 125  # 80 times leverage


def apply(state: DriftState, action: AnyAction, _: datetime) -> DriftState:
    """Return the program's state after one instruction."""
    found = [(s, m) for s, m in state.markets.items() if m.market == action.market]
    require(bool(found), "drift.known", f"market {action.market}: is not in the state file")
    symbol, market = found[0]
    new: PerpMarket | SpotMarket
    if isinstance(market, PerpMarket):
        require(not isinstance(action, SetWeights), "drift.kind", f"{symbol}: is a perpetual")
        new = (
            _margin(action, market, symbol)
            if isinstance(action, SetMargin)
            else _interest(action, market, symbol)
        )
    else:
        require(isinstance(action, SetWeights), "drift.kind", f"{symbol}: is a spot market")
        new = _weights(action, market, symbol)
    return state.model_copy(update={"markets": {**state.markets, symbol: new}})


def _margin(action: SetMargin, market: PerpMarket, symbol: str) -> PerpMarket:
    initial, maintenance = action.initial, action.maintenance
    require(
        LOWEST <= maintenance < initial <= ONE,
        "drift.margin",
        f"{symbol}: must satisfy {LOWEST} <= maintenance < initial <= {ONE}, were {maintenance}, {initial}",
    )
    require(
        maintenance * 100 > market.liquidator_fee,
        "drift.liquidator-fee",
        f"{symbol}: maintenance {maintenance} must exceed the liquidator's fee {market.liquidator_fee} (1e6)",
    )
    require(
        initial * 100 > market.max_spread,
        "drift.max-spread",
        f"{symbol}: initial {initial} must exceed the largest spread {market.max_spread} (1e6)",
    )
    require(
        market.high_leverage_initial == 0
        or (initial > market.high_leverage_initial and maintenance > market.high_leverage_maintenance),
        "drift.high-leverage",
        f"{symbol}: both ratios must exceed those of the high-leverage mode, "
        f"{market.high_leverage_initial} and {market.high_leverage_maintenance}",
    )
    return market.model_copy(update={"initial": initial, "maintenance": maintenance})


def _interest(action: AnyAction, market: PerpMarket, symbol: str) -> PerpMarket:
    amount = action.amount if isinstance(action, SetInterest) else 0
    require(amount > 0, "drift.cap-zero", f"{symbol}: an open-interest cap of 0 means no cap")
    require(amount < 2**64, "drift.width", f"{symbol}: the cap does not fit 64 bits")
    require(
        amount % market.step_size == 0,
        "drift.step-size",
        f"{symbol}: the cap must be a multiple of the step size {market.step_size}, was {amount}",
    )
    return market.model_copy(update={"max_open_interest": amount})


def _weights(action: AnyAction, market: SpotMarket, symbol: str) -> SpotMarket:
    values = {
        name: getattr(action, name) for name in SetWeights.model_fields if name not in {"kind", "market"}
    }
    initial, maintenance, initial_debt, maintenance_debt, imf = values.values()
    require(
        market.index != 0 or {initial, maintenance, initial_debt, maintenance_debt} == {ONE},
        "drift.quote",
        f"{symbol}: the weights of the quote asset are fixed",
    )
    require(
        initial <= maintenance and 0 < maintenance <= ONE,
        "drift.asset-weight",
        f"{symbol}: needs initial <= maintenance, 0 < maintenance <= {ONE}, were {initial}, {maintenance}",
    )
    require(
        initial_debt >= maintenance_debt >= ONE,
        "drift.liability-weight",
        f"{symbol}: must satisfy initial >= maintenance >= {ONE}, were {initial_debt} and {maintenance_debt}",
    )
    require(imf < QUOTE, "drift.imf", f"{symbol}: imf must be below 1000000, was {imf}")
    require(
        (initial_debt, maintenance_debt, imf)
        == (market.initial_liability, market.maintenance_liability, market.imf),
        "drift.full-replace",
        f"{symbol}: liability weights and imf must be written as they are",
    )
    return market.model_copy(update=values)


def effective(state: DriftState, _: datetime) -> dict[Key, Fraction]:
    """Return ratios and weights without size premium (it only adds), and the cap at the oracle price."""
    out: dict[Key, Fraction] = {}
    for symbol, market in state.markets.items():
        if isinstance(market, PerpMarket):
            out[symbol, INITIAL, market.notional] = Fraction(market.initial, ONE)
            out[symbol, MAINTENANCE, market.notional] = Fraction(market.maintenance, ONE)
            cap = Fraction(-market.max_open_interest * market.price, BASE * QUOTE)
            out[symbol, OPEN_INTEREST, 0] = cap if market.max_open_interest else UNLIMITED
        else:
            out[symbol, LOAN_TO_VALUE, 0] = 1 - Fraction(market.initial_asset, ONE)
            out[symbol, THRESHOLD, 0] = 1 - Fraction(market.maintenance_asset, ONE)
    return out


RULES: Final = Rules(apply, effective)
