"""`calibrator margin`: what an account must hold under a published document, as tables or as JSON.

The wires between the document (`publish`) and the engine (`portfolio`), which do not know each other; loaded
by that command alone, because it needs numpy.
"""

import json
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from calibrator.errors import PublishError
from calibrator.portfolio.account import Assessment, assess
from calibrator.portfolio.account_file import read_account
from calibrator.portfolio.attribution import Contribution, Distance, contributions, distance_to_liquidation
from calibrator.publish.document import ParameterDocument


def margin(payload: bytes, document: ParameterDocument, *, source: str, as_json: bool) -> None:
    """Print the requirement of the account in ``payload`` under ``document``.

    Raises
    ------
    DataError
        The account breaks a rule, or holds what the document does not know.
    PublishError
        The document has no portfolio section.
    """
    account, as_of = read_account(payload, source=source)
    if document.portfolio is None:
        raise PublishError(f"document {document.sequence} has no portfolio section")
    assessed = assess(account, document.portfolio.rules())
    shares = contributions(assessed)
    reach = distance_to_liquidation(account, assessed.rules)
    stale = _staleness(document, as_of)
    if as_json:
        print(json.dumps(_numbers(assessed, shares, reach, stale), indent=1, sort_keys=True))  # noqa: T201
    else:
        _show(assessed, shares, reach, document, stale)


def _staleness(document: ParameterDocument, as_of: datetime) -> str | None:
    if as_of >= document.expires_at:
        return f"the document expired at {document.expires_at:%Y-%m-%d %H:%M} UTC: stale, still not loosened"
    if as_of < document.valid_from:
        return f"the document applies from {document.valid_from:%Y-%m-%d %H:%M} UTC only"
    return None


def _numbers(
    assessed: Assessment, shares: tuple[Contribution, ...], reach: Distance, stale: str | None
) -> dict[str, Any]:
    """Return everything that the tables show, unrounded."""
    parts = _parts(assessed)
    return {
        "account": assessed.account.name,
        "quote": assessed.rules.quote,
        "equity": assessed.equity,
        "collateral_after_haircuts": assessed.collateral,
        "maintenance_requirement": assessed.required,
        "initial_requirement": assessed.required_initially,
        "covered": assessed.surplus >= 0,
        "sum_of_standalone": float(assessed.alone.sum()),
        "compression": assessed.compression,
        "parts": dict(parts),
        "binding": assessed.maintenance.binding() if assessed.maintenance else {},
        "contributions": [
            {"position": c.label, "share": c.share, "marginal": c.marginal, "standalone": c.standalone}
            for c in shares
        ],
        "greeks": {
            symbol: {name: float(getattr(g, name)) for name in g.__dataclass_fields__}
            for symbol, g in assessed.sensitivities().items()
        },
        "liquidated_if_all_prices_fall_by": None if reach.fall is None else -reach.fall,
        "liquidated_if_all_prices_rise_by": reach.rise,
        "warning": stale,
    }


def _parts(assessed: Assessment) -> list[tuple[str, float]]:
    made = assessed.maintenance
    if made is None:
        return []
    extra = made.add_ons
    return [
        ("scenarios", made.core),
        ("basis", float(extra.basis.sum())),
        ("funding", float(extra.funding.sum())),
        ("naked options", float(extra.naked.sum())),
        ("concentration", float(extra.concentration.sum())),
    ]


def _show(
    assessed: Assessment,
    shares: tuple[Contribution, ...],
    reach: Distance,
    document: ParameterDocument,
    stale: str | None,
) -> None:
    console = Console(highlight=False)
    quote = assessed.rules.quote
    table = Table(
        title=f"Account {escape(assessed.account.name)} under document {document.sequence}, in {quote}"
    )
    table.add_column("what")
    table.add_column("amount", justify="right")
    rows = [
        ("collateral after haircuts", assessed.collateral),
        ("equity", assessed.equity),
        ("maintenance requirement", assessed.required),
        *((f"  of it {name}", value) for name, value in _parts(assessed) if value),
        ("initial requirement", assessed.required_initially),
        ("sum of standalone requirements", float(assessed.alone.sum())),
    ]
    for name, value in rows:
        table.add_row(name, f"{value:,.2f}")
    table.add_row("compression", f"{assessed.compression:.1%}")
    console.print(table)
    console.print(_verdict(assessed, reach), markup=False)
    for scenario in (assessed.maintenance.binding() if assessed.maintenance else {}).values():
        console.print(f"binding: {scenario}", markup=False)
    if shares:
        console.print(_shares(shares))
    if stale:
        console.print(f"warning: {stale}", markup=False)


def _verdict(assessed: Assessment, reach: Distance) -> str:
    if assessed.surplus < 0:
        return f"NOT COVERED: equity is {-assessed.surplus:,.2f} below the maintenance requirement"
    fall = "no fall" if reach.fall is None else f"a fall of {-reach.fall:.1%}"
    rise = "no rise" if reach.rise is None else f"a rise of {reach.rise:.1%}"
    return f"covered; liquidated by {fall} and by {rise} of all underlyings together"


def _shares(shares: tuple[Contribution, ...]) -> Table:
    table = Table(title="Who needs the margin (the shares add up to the maintenance requirement)")
    table.add_column("position")
    for name in ("share", "marginal", "standalone"):
        table.add_column(name, justify="right")
    for c in shares:
        table.add_row(escape(c.label), f"{c.share:,.2f}", f"{c.marginal:,.2f}", f"{c.standalone:,.2f}")
    return table
