"""Leverage brackets as centralised venues publish them: notional bands, leverage, maintenance ratio, ``cum``.

``maintenance = notional * maintMarginRatio - cum``, so that the requirement is continuous where a bracket
begins. The leverage is the inverse of the initial margin, rounded down; ratios and ``cum`` are exact.

References
----------
Binance USD-M futures, ``GET /fapi/v1/leverageBracket``.
"""

import itertools
from decimal import Decimal
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from calibrator.domain import PPM
from calibrator.errors import PublishError
from calibrator.publish.adapters import text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Header,
    Listed,
    PerpetualTerms,
    State,
    Step,
    Symbol,
    Update,
    Wire,
    listed,
)
from calibrator.publish.canonical import Amount

NAME: Final = "leverage-brackets"
Units = Annotated[int, Field(ge=0)]


class Bracket(Wire):
    """One band of notional (quote units), the largest leverage and the maintenance ratio in it."""

    floor: Amount
    cap: Amount
    leverage: Units
    maintenance_ppm: Units


class SetBrackets(Action):
    """All brackets of one symbol; a venue replaces them together."""

    symbol: str
    brackets: tuple[Bracket, ...]


class Venue(Listed):
    """One symbol: its name there, its brackets and the largest position."""

    symbol: str
    brackets: tuple[Bracket, ...] = ()
    max_notional: Annotated[int, Field(ge=1)]


class BracketState(State):
    """Symbols of one venue."""

    protocol: Literal["leverage-brackets"]
    most_leverage: Annotated[int, Field(ge=1)] = 125
    markets: dict[Symbol, Venue]
    pending: tuple[SetBrackets, ...] = ()


def brackets_of(terms: PerpetualTerms, most_leverage: int, max_notional: int) -> tuple[Bracket, ...]:
    """Return the brackets up to ``max_notional`` that ask for at least the document's margins."""
    tiers = [tier for tier in terms.tiers if tier.notional_floor < max_notional]
    ends = [*(tier.notional_floor for tier in tiers[1:]), max_notional]
    return tuple(
        Bracket(
            floor=tier.notional_floor,
            cap=end,
            leverage=min(PPM // tier.initial_margin_ppm, most_leverage),
            maintenance_ppm=tier.maintenance_margin_ppm,
        )
        for tier, end in zip(tiers, ends, strict=True)
    )


def cumulative(brackets: tuple[Bracket, ...]) -> list[int]:
    """Return ``cum`` of every bracket, in millionths of a quote unit.

    Examples
    --------
    >>> rows = ((0, 50_000, 125, 4_000), (50_000, 600_000, 100, 5_000), (600_000, 3_000_000, 75, 6_500))
    >>> brackets = tuple(Bracket(floor=f, cap=c, leverage=x, maintenance_ppm=m) for f, c, x, m in rows)
    >>> [c / 1_000_000 for c in cumulative(brackets)]  # Binance BTCUSDT, October 2024
    [0.0, 50.0, 950.0]
    """
    out = [0]
    for before, after in itertools.pairwise(brackets):
        out.append(out[-1] + after.floor * (after.maintenance_ppm - before.maintenance_ppm))
    return out[: len(brackets)]


def propose(step: Step, state: BracketState) -> tuple[SetBrackets, ...]:
    """Return the symbols whose brackets change."""
    out = []
    for terms in sorted(listed(step.perpetuals, state.markets, state), key=lambda t: t.symbol):
        venue = state.markets[terms.symbol]
        new = brackets_of(terms, state.most_leverage, venue.max_notional)
        if new != venue.brackets:
            out.append(SetBrackets(symbol=venue.symbol, brackets=new))
    return tuple(out)


def _decimal(millionths: int) -> str:
    plain = format(Decimal(millionths).scaleb(-6), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def encode(update: Update[SetBrackets]) -> bytes:
    """Write the brackets in the layout of the venue's own query, decimals as text."""
    return text.write(
        {
            "description": update.header.text(),
            "leverageBrackets": [
                {"symbol": action.symbol, "brackets": _rows(action.brackets)} for action in update.actions
            ],
        }
    )


def _rows(brackets: tuple[Bracket, ...]) -> list[dict[str, Any]]:
    return [
        {
            "bracket": number,
            "initialLeverage": one.leverage,
            "notionalCap": one.cap,
            "notionalFloor": one.floor,
            "maintMarginRatio": _decimal(one.maintenance_ppm),
            "cum": _decimal(cum),
        }
        for number, (one, cum) in enumerate(zip(brackets, cumulative(brackets), strict=True), start=1)
    ]


def decode(payload: bytes) -> Update[SetBrackets]:
    """Read what `encode` wrote; ``cum`` must follow from the rest.

    Raises
    ------
    PublishError
        If it is not in that form.
    """
    raw = text.read(payload, what="brackets")
    rows = raw.get("leverageBrackets")
    actions = tuple(_action(row) for row in rows) if isinstance(rows, list) else ()
    update = Update(Header.read(str(raw.get("description"))), actions)
    return text.same(update, payload, encode(update), what="brackets")


def _action(row: Any) -> SetBrackets:
    try:
        brackets = tuple(
            Bracket(
                floor=one["notionalFloor"],
                cap=one["notionalCap"],
                leverage=one["initialLeverage"],
                maintenance_ppm=int(Decimal(one["maintMarginRatio"]).scaleb(6)),
            )
            for one in row["brackets"]
        )
        return SetBrackets(symbol=row["symbol"], brackets=brackets)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise PublishError(f"brackets: a row is not in the published form: {error}") from error


ADAPTER: Final = Adapter(NAME, "perpetuals", BracketState, propose, encode, decode)
