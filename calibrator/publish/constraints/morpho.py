"""Morpho's rules: enabled values, caps behind a timelock, and what a market's incentive leaves over."""

from datetime import datetime, timedelta
from fractions import Fraction
from typing import Final

from calibrator.publish.adapters.morpho import ONE, MorphoMarket, MorphoState, SubmitCap, Submitted, incentive
from calibrator.publish.constraints.rules import LOAN_TO_VALUE, THRESHOLD, Key, Rules, require


def accepted(market: MorphoMarket, at: datetime) -> MorphoMarket:
    """Return the market after every cap whose timelock has passed by ``at``; anybody may accept it."""
    due = {lltv: one.cap for lltv, one in market.submitted.items() if one.valid_at <= at}
    if not due:
        return market
    waiting = {lltv: one for lltv, one in market.submitted.items() if lltv not in due}
    return market.model_copy(update={"caps": {**market.caps, **due}, "submitted": waiting})


def apply(state: MorphoState, action: SubmitCap, at: datetime) -> MorphoState:
    """Return the vault's state after one `submitCap`: lower caps hold at once, higher ones later."""
    require(action.to.lower() == state.vault.lower(), "morpho.vault", f"must call {state.vault}")
    names = ("loan", "collateral", "oracle", "irm")
    asked = [getattr(action, name).lower() for name in names]
    found = [(s, m) for s, m in state.markets.items() if [getattr(m, n).lower() for n in names] == asked]
    require(bool(found), "morpho.known", f"market of {action.collateral}: is not in the state file")
    symbol, market = found[0][0], accepted(found[0][1], at)
    number, old = str(action.lltv), market.caps.get(str(action.lltv), 0)
    require(
        action.lltv in state.enabled,
        "morpho.enabled",
        f"{symbol}: a loan-to-value of {action.lltv / ONE} is not enabled",
    )
    require(
        action.lltv * incentive(action.lltv) <= ONE * ONE,
        "morpho.incentive",
        f"{symbol}: loan-to-value times incentive exceeds 100 %",
    )
    require(action.cap < 2**184, "morpho.width", f"{symbol}: the cap does not fit 184 bits")
    require(
        number not in market.submitted, "morpho.already-pending", f"{symbol}: a cap of {number} is pending"
    )
    require(action.cap != old, "morpho.already-set", f"{symbol}: the cap is {old} already")
    if action.cap < old or state.timelock_seconds == 0:
        new = market.model_copy(update={"caps": {**market.caps, number: action.cap}})
    else:
        wait = Submitted(cap=action.cap, valid_at=at + timedelta(seconds=state.timelock_seconds))
        new = market.model_copy(update={"submitted": {**market.submitted, number: wait}})
    return state.model_copy(update={"markets": {**state.markets, symbol: new}})


def effective(state: MorphoState, _: datetime) -> dict[Key, Fraction]:
    """Return the limit of the loosest market that lends or will lend."""
    out: dict[Key, Fraction] = {}
    for symbol, market in state.markets.items():
        open_ = [int(lltv) for lltv, cap in market.caps.items() if cap]
        open_ += [int(lltv) for lltv, one in market.submitted.items() if one.cap]
        value = 1 - Fraction(max(open_, default=0), ONE)
        out[symbol, THRESHOLD, 0] = value
        if state.factor == "loan_to_value":
            out[symbol, LOAN_TO_VALUE, 0] = value
    return out


RULES: Final = Rules(apply, effective)
