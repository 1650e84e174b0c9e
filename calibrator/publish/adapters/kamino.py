"""Kamino Lend: one `updateReserveConfig` instruction per field, in an order that is valid after each.

Loan-to-value and threshold are whole percents, rounded down; the bonus is in basis points, rounded up. What
lowers comes first from the inside out (loan-to-value, then threshold), what raises the other way round.

References
----------
Kamino-Finance/klend edd5ff50: UpdateConfigMode, ReserveConfig and its validation.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from calibrator.errors import PublishError
from calibrator.publish.adapters import text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Header,
    Lent,
    LoanTerms,
    State,
    Step,
    Symbol,
    Update,
    listed,
    read_model,
)
from calibrator.publish.adapters.solana import Account, discriminator
from calibrator.publish.adapters.units import down, up
from calibrator.publish.canonical import Amount

NAME: Final = "kamino"
PERCENT: Final = 100
BPS: Final = 10_000
Units = Annotated[int, Field(ge=0)]
Name = Literal[
    "loan_to_value", "max_bonus", "liquidation_threshold", "deposit_limit", "borrow_limit", "min_bonus"
]  # fmt: skip
MODES: Final[dict[str, tuple[int, int]]] = {
    "loan_to_value": (1, 1),
    "max_bonus": (2, 2),
    "liquidation_threshold": (3, 1),
    "deposit_limit": (9, 8),
    "borrow_limit": (10, 8),
    "min_bonus": (31, 2),
}
"""UpdateConfigMode and width in bytes of each field."""


class SetField(Action):
    """One field of one reserve."""

    reserve: Account
    field: Name
    value: Amount


class Reserve(Lent):
    """One reserve: percents, basis points, base units."""

    reserve: Account
    decimals: Annotated[int, Field(ge=0, le=18)]
    loan_to_value: Units
    liquidation_threshold: Units
    min_bonus: Units
    max_bonus: Units
    deposit_limit: Amount
    borrow_limit: Amount


class KaminoState(State):
    """Reserves of one lending market; ``sender`` is its owner."""

    protocol: Literal["kamino"]
    markets: dict[Symbol, Reserve]
    pending: tuple[SetField, ...] = ()


def propose(step: Step, state: KaminoState) -> tuple[SetField, ...]:
    """Return the fields that change, in an order that never crosses a rule on the way."""
    out = []
    for terms in sorted(listed(step.loans, state.markets, state), key=lambda t: t.symbol):
        held = state.markets[terms.symbol]
        for field, value in _ordered(terms, held):
            if value != getattr(held, field):
                out.append(SetField(reserve=held.reserve, field=field, value=value))  # type: ignore[arg-type]
    return tuple(out)


def _ordered(terms: LoanTerms, held: Reserve) -> list[tuple[str, int]]:
    ltv = ("loan_to_value", down(terms.loan_to_value_ppm, PERCENT))
    threshold = ("liquidation_threshold", down(terms.liquidation_threshold_ppm, PERCENT))
    bonus = up(terms.liquidation_penalty_ppm, BPS)
    bonuses = [("min_bonus", min(held.min_bonus, bonus)), ("max_bonus", bonus)]
    limits = [ltv, threshold] if ltv[1] <= held.loan_to_value else [threshold, ltv]
    supply = held.tokens(terms.cap.supply, decimals=held.decimals)
    caps = [] if supply is None else [("deposit_limit", supply)]
    fields = [*bonuses, *limits] if bonus <= held.max_bonus else [*limits, *bonuses]
    return [*fields, *caps]


def data(action: SetField) -> str:
    """Return the instruction data: function, mode, value as a byte vector, and that the check must run.

    Examples
    --------
    >>> data(SetField(reserve="1" * 32, field="loan_to_value", value=75))[16:]
    '01010000004b00'
    """
    mode, width = MODES[action.field]
    try:
        value = action.value.to_bytes(width, "little")
    except OverflowError as error:
        raise PublishError(f"{action.field}: {action.value} does not fit {width} bytes") from error
    body = bytes([mode]) + width.to_bytes(4, "little") + value + b"\x00"
    return (discriminator("update_reserve_config") + body).hex()


def encode(update: Update[SetField]) -> bytes:
    """Write the instructions for the market's owner.

    Raises
    ------
    PublishError
        If a value does not fit its field.
    """
    rows = [
        {
            "reserve": action.reserve,
            "mode": MODES[action.field][0],
            "field": action.field,
            "value": str(action.value),
            "data": data(action),
        }
        for action in update.actions
    ]
    return text.write({"description": update.header.text(), "update_reserve_config": rows})


def decode(payload: bytes) -> Update[SetField]:
    """Read what `encode` wrote.

    Raises
    ------
    PublishError
        If it is not in that form.
    """
    raw = text.read(payload, what="instructions")
    rows = raw.get("update_reserve_config")
    actions = tuple(_action(row) for row in rows) if isinstance(rows, list) else ()
    update = Update(Header.read(str(raw.get("description"))), actions)
    return text.same(update, payload, encode(update), what="instructions")


def _action(row: Any) -> SetField:
    fields = {name: row.get(name) for name in ("reserve", "field")} if isinstance(row, dict) else {}
    value = text.integer(row.get("value") if isinstance(row, dict) else None, what="value")
    return read_model(SetField, {**fields, "value": value}, what="instruction")


ADAPTER: Final = Adapter(NAME, "loans", KaminoState, propose, encode, decode)
