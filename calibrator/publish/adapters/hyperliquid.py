"""Hyperliquid (HIP-3): margin tables, their assignment and open-interest caps, as `perpDeploy` actions.

A table knows the largest leverage per tier only; the maintenance margin is half of its inverse. The leverage
is rounded down so that both margins of the document are met, and a table has at most three tiers: where the
document has more, neighbours are merged to the safer one.

References
----------
Hyperliquid documentation, trading/margin-tiers; nktkas/hyperliquid db80d598 (`perpDeploy` variants).
"""

from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

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
    read_model,
)

NAME: Final = "hyperliquid"
MOST_TIERS: Final = 3
IMPLICIT: Final = 50  # a table number below it is one tier of that leverage
Units = Annotated[int, Field(ge=0)]


class Leverage(Wire):
    """One tier: from this notional (USD) on, at most this leverage."""

    lower_bound: Units
    max_leverage: Units


Tiers = tuple[Leverage, ...]


class InsertTable(Action):
    """`insertMarginTable`; the exchange numbers it."""

    kind: Literal["insert"] = "insert"
    description: Annotated[str, StringConstraints(max_length=64)]
    tiers: Tiers


class SetTables(Action):
    """`setMarginTableIds`, sorted by coin."""

    kind: Literal["assign"] = "assign"
    tables: tuple[tuple[str, Units], ...]


class SetCaps(Action):
    """`setOpenInterestCaps` (USD notional), sorted by coin."""

    kind: Literal["caps"] = "caps"
    caps: tuple[tuple[str, Units], ...]


HyperliquidAction = Annotated[InsertTable | SetTables | SetCaps, Field(discriminator="kind")]
AnyAction = InsertTable | SetTables | SetCaps


class Coin(Listed):
    """One coin of the dex, its table and its cap (None: not known)."""

    coin: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9]{1,6}:[A-Za-z0-9]{1,16}$")]
    table: Units
    open_interest_cap: Units | None = None


class HyperliquidState(State):
    """Coins of one builder-deployed dex, its tables by number, and the number of the next."""

    protocol: Literal["hyperliquid"]
    markets: dict[Symbol, Coin]
    tables: dict[str, Tiers] = Field(default_factory=dict)
    next_table: Annotated[int, Field(ge=IMPLICIT)]
    pending: tuple[HyperliquidAction, ...] = ()


def tiers_of(table: int, state: HyperliquidState) -> Tiers:
    """Return the tiers of a table number; below 50 the number is the leverage.

    Raises
    ------
    PublishError
        If the table is not in the state file.
    """
    if 0 < table < IMPLICIT:
        return (Leverage(lower_bound=0, max_leverage=table),)
    if str(table) not in state.tables:
        raise PublishError(f"margin table {table}: is not in the state file")
    return state.tables[str(table)]


def table_of(terms: PerpetualTerms) -> Tiers:
    """Return the margin table that asks for at least the document's margins at every notional.

    Examples
    --------
    >>> from calibrator.publish.adapters.base import Tier
    >>> tiers = tuple(Tier(notional_floor=f, initial_margin_ppm=i, maintenance_margin_ppm=m)
    ...     for f, i, m in ((0, 25_000, 12_500), (150_000_000, 45_000, 25_000)))
    >>> [(t.lower_bound, t.max_leverage) for t in table_of(PerpetualTerms(symbol="BTC", tiers=tiers))]
    [(0, 40), (150000000, 20)]
    """
    out: list[tuple[int, int]] = []
    for tier in terms.tiers:
        most = min(PPM // tier.initial_margin_ppm, PPM // (2 * tier.maintenance_margin_ppm))
        if not out or most < out[-1][1]:
            out.append((tier.notional_floor, most))
    while len(out) > MOST_TIERS:
        ratios = [b[1] / a[1] for a, b in pairwise(out)]
        near = max(range(1, len(ratios)), key=ratios.__getitem__)  # never the first tier
        out[near : near + 2] = [(out[near][0], out[near + 1][1])]
    return tuple(Leverage(lower_bound=floor, max_leverage=most) for floor, most in out)


def propose(step: Step, state: HyperliquidState) -> tuple[AnyAction, ...]:
    """Return new tables, their assignment and the caps that change."""
    tables = {tiers: int(number) for number, tiers in state.tables.items()}
    out: list[AnyAction] = []
    assigned, caps, number = [], [], state.next_table
    for terms in sorted(listed(step.perpetuals, state.markets, state), key=lambda t: t.symbol):
        coin, wanted = state.markets[terms.symbol], table_of(terms)
        if wanted != tiers_of(coin.table, state):
            table = tables.get(wanted)
            if len(wanted) == 1 and 0 < wanted[0].max_leverage < IMPLICIT:
                table = wanted[0].max_leverage
            if table is None:
                out.append(InsertTable(description=f"{terms.symbol}"[:64], tiers=wanted))
                tables[wanted] = table = number
                number += 1
            assigned.append((coin.coin, table))
        if terms.cap.open_interest is not None and terms.cap.open_interest != coin.open_interest_cap:
            caps.append((coin.coin, terms.cap.open_interest))
    if assigned:
        out.append(SetTables(tables=tuple(sorted(assigned))))
    if caps:
        out.append(SetCaps(caps=tuple(sorted(caps))))
    return tuple(out)


def encode(update: Update[AnyAction]) -> bytes:
    """Write the actions for the deployer to sign."""
    rows = [{"type": "perpDeploy", **_variant(action)} for action in update.actions]
    return text.write({"description": update.header.text(), "actions": rows})


def _variant(action: AnyAction) -> dict[str, Any]:
    if isinstance(action, InsertTable):
        tiers = [{"lowerBound": t.lower_bound, "maxLeverage": t.max_leverage} for t in action.tiers]
        return {"insertMarginTable": {"description": action.description, "marginTiers": tiers}}
    if isinstance(action, SetTables):
        return {"setMarginTableIds": [list(row) for row in action.tables]}
    return {"setOpenInterestCaps": [list(row) for row in action.caps]}


def decode(payload: bytes) -> Update[AnyAction]:
    """Read what `encode` wrote.

    Raises
    ------
    PublishError
        If it is not in that form.
    """
    raw = text.read(payload, what="perpDeploy")
    rows = raw.get("actions")
    actions = tuple(_action(row) for row in rows) if isinstance(rows, list) else ()
    update = Update(Header.read(str(raw.get("description"))), actions)
    return text.same(update, payload, encode(update), what="perpDeploy")


def _action(row: Any) -> AnyAction:
    fields: dict[str, Any] = row if isinstance(row, dict) else {}
    if "setMarginTableIds" in fields:
        return read_model(SetTables, {"tables": fields["setMarginTableIds"]}, what="setMarginTableIds")
    if "setOpenInterestCaps" in fields:
        return read_model(SetCaps, {"caps": fields["setOpenInterestCaps"]}, what="setOpenInterestCaps")
    table: Any = fields.get("insertMarginTable")
    try:
        tiers = [
            {"lower_bound": t["lowerBound"], "max_leverage": t["maxLeverage"]} for t in table["marginTiers"]
        ]
        value = {"description": table["description"], "tiers": tiers}
    except (KeyError, TypeError) as error:
        raise PublishError(f"perpDeploy: unknown variant: {error}") from error
    return read_model(InsertTable, value, what="insertMarginTable")


ADAPTER: Final = Adapter(NAME, "perpetuals", HyperliquidState, propose, encode, decode)
