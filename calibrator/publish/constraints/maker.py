"""Maker's rules: the helper library's bounds, exact basis points, and a ratio that only holds once poked."""

from datetime import datetime
from fractions import Fraction
from typing import Final

from calibrator.publish.adapters.maker import (
    BPS,
    RAD,
    RAY_BPS,
    WAD,
    WAD_BPS,
    Collateral,
    FileIlk,
    MakerState,
    Poke,
)
from calibrator.publish.constraints.rules import BORROW, LOAN_TO_VALUE, THRESHOLD, Key, Rules, require

ROLES: Final = {"mat": "spotter", "chop": "dog", "line": "vat"}


def apply(state: MakerState, action: FileIlk | Poke, _: datetime) -> MakerState:
    """Return the state after one action of the spell."""
    found = [(s, c) for s, c in state.markets.items() if c.ilk == action.ilk]
    require(bool(found), "maker.known", f"ilk {action.ilk}: is not in the state file")
    symbol, held = found[0]
    role = (
        "spotter"
        if isinstance(action, Poke)
        else {"mat": "spotter", "chop": "dog", "line": "vat"}[action.what]
    )
    require(
        action.to.lower() == getattr(state, role).lower(), "maker.target", f"{symbol}: must call the {role}"
    )
    if isinstance(action, Poke):
        new = held.model_copy(update={"poked": held.mat})
    else:
        new = _file(held, action, symbol)
    require(
        BPS * (BPS + new.chop) <= new.mat * BPS,
        "maker.product",
        f"{symbol}: a liquidation at {new.mat / BPS:.2%} must pay debt and penalty of {new.chop / BPS:.2%}",
    )
    return state.model_copy(update={"markets": {**state.markets, symbol: new}})


def _file(held: Collateral, action: FileIlk, symbol: str) -> Collateral:
    unit, base = {"mat": (RAY_BPS, 0), "chop": (WAD_BPS, WAD), "line": (RAD, 0)}[action.what]
    require(action.value >= base, "maker.chop", f"{symbol}: chop must be at least 1e18, was {action.value}")
    value, rest = divmod(action.value - base, unit)
    require(
        rest == 0,
        "maker.precision",
        f"{symbol}: {action.what} must be a whole number of units, was {action.value}",
    )
    if action.what == "mat":
        require(
            BPS <= value < 10 * BPS,
            "maker.mat",
            f"{symbol}: mat must lie in [10000, 100000) bps, was {value}",
        )
    elif action.what == "chop":
        require(value < BPS, "maker.chop", f"{symbol}: the penalty must be below 10000 bps, was {value}")
    else:
        require(value * RAD < 2**256, "maker.line", f"{symbol}: the ceiling does not fit")
    return held.model_copy(update={action.what: value})


def complete(state: MakerState) -> None:
    """Refuse to stop between a new ratio and its poke."""
    for symbol, held in state.markets.items():
        require(
            held.mat == held.poked,
            "maker.poke",
            f"{symbol}: the ratio {held.mat} bps is filed but holds only after poke (now {held.poked})",
        )


def effective(state: MakerState, _: datetime) -> dict[Key, Fraction]:
    """Return the poked ratio as a requirement, and the ceiling (0 lends nothing)."""
    out: dict[Key, Fraction] = {}
    for symbol, held in state.markets.items():
        value = 1 - Fraction(BPS, held.poked) if held.poked else Fraction(1)
        out[symbol, THRESHOLD, 0] = value
        if state.factor == "loan_to_value":
            out[symbol, LOAN_TO_VALUE, 0] = value
        out[symbol, BORROW, 0] = Fraction(-held.line)
    return out


RULES: Final = Rules(apply, effective, complete=complete)
