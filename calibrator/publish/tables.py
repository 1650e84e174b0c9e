"""A document, and the change between two, as tables that a risk committee can read in a terminal."""

from datetime import datetime
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from calibrator.domain import PPM
from calibrator.publish.changes import basis_points, changes, market_title, percent
from calibrator.publish.document import (
    CollateralParameters,
    MarketParameters,
    ParameterDocument,
    PerpetualParameters,
    PlannedMargin,
)
from calibrator.publish.parts import OFF_CHAIN
from calibrator.publish.portfolio_parameters import PortfolioParameters

REGIME_STYLE: Final = {"CALM": "green", "ELEVATED": "yellow", "STRESS": "bold red"}
EFFECT: Final = {True: ("tightens", "red"), False: ("loosens", "green"), None: ("", "")}
PLAN_LINES: Final = 3


def show_document(document: ParameterDocument, *, checked: str, now: datetime) -> None:
    """Print a document; ``checked`` says how far it was verified, ``now`` decides whether it is stale."""
    console = _console()
    stale = now >= document.expires_at
    console.print(
        Text(f"{_audience(document)}, sequence {document.sequence} ({checked})", style="bold"),
        Text(
            f"issued {document.issued_at:%Y-%m-%d %H:%M}, valid from {document.valid_from:%Y-%m-%d %H:%M} UTC"
        ),
        Text(
            f"{'STALE: expired' if stale else 'expires'} {document.expires_at:%Y-%m-%d %H:%M} UTC. "
            f"{document.consumer_rule}",
            style="bold red" if stale else "",
        ),
        sep="\n",
    )
    perpetuals = [market for market in document.markets if isinstance(market, PerpetualParameters)]
    collaterals = [market for market in document.markets if isinstance(market, CollateralParameters)]
    if perpetuals:
        console.print(_perpetuals(perpetuals))
    if collaterals:
        console.print(_collaterals(collaterals))
    if document.portfolio is not None:
        console.print(_portfolio(document.portfolio))
    for market in document.markets:
        name = Text(f"{market_title(market)}: ", style="bold")
        console.print(name.append_text(_why(market)).append_text(_plan(market)))


def show_changes(old: ParameterDocument, new: ParameterDocument) -> None:
    """Print what changes from ``old`` to ``new``, tightening in red, loosening in green."""
    console = _console()
    found = changes(old, new)
    if (old.protocol, old.chain) != (new.protocol, new.chain):
        warning = f"another audience: {_audience(old)} before, {_audience(new)} now"
        console.print(Text(warning, style="bold red"))
    title = (
        f"{_audience(new)}: sequence {old.sequence} to {new.sequence}, "
        f"in force from {new.valid_from:%Y-%m-%d %H:%M} UTC"
    )
    if not found:
        console.print(Text(f"{title}: no margin, haircut, threshold or cap changes"))
        return
    table = _table(title, ["Market", "What", "For whom"], ["Old", "New", "bps"], ["Effect"])
    for change in found:
        stated = change.old is not None and change.new is not None and change.unit == "ppm"
        moved = (change.new or 0) - (change.old or 0) if stated else None
        effect, style = EFFECT[change.tightens]
        table.add_row(
            Text(change.market),
            change.what,
            change.whom,
            _spelled(change.old, change.unit),
            _spelled(change.new, change.unit),
            Text("" if moved is None else basis_points(moved), style=style),
            Text(effect, style=style),
        )
    console.print(table)
    tighter, looser = (sum(change.tightens is which for change in found) for which in (True, False))
    console.print(Text(f"{len(found)} changes: {tighter} tighten, {looser} loosen"))


def _spelled(value: int | None, unit: str) -> str:
    if value is None:
        return "-"
    return percent(value) if unit == "ppm" else f"{value:,}"


def _audience(document: ParameterDocument) -> str:
    on = "" if document.chain == OFF_CHAIN else f" on {document.chain}"
    return f"{document.protocol}{on}"


def _portfolio(section: PortfolioParameters) -> Table:
    title = (
        f"Portfolio margin in {section.quote}: {len(section.scenarios)} scenarios, "
        f"{len(section.correlations)} offsets, {len(section.collateral)} collateral assets"
    )
    numbers = ["Fall", "Rise", "Vol up", "Vol down", "Basis", "Naked"]
    table = _table(title, ["Underlying"], numbers, [])
    full = [s.move for s in section.scenarios if s.weight_ppm == PPM]
    for u in section.underlyings:
        moves = [u.moves_ppm[i] for i in full]
        values = (-min(moves), max(moves), u.volatility_up_ppm, u.volatility_down_ppm)
        cells = [percent(v) for v in (*values, u.basis_ppm, u.naked_option_ppm)]
        table.add_row(Text(u.symbol), *cells)
    return table


def _perpetuals(markets: list[PerpetualParameters]) -> Table:
    table = _table("Perpetuals", ["Market", "Regime"], ["From notional", "Initial", "Maintenance"], [])
    for market in markets:
        rows = zip(
            *((f"{t.notional_floor:,}", percent(t.initial_margin_ppm), percent(t.maintenance_margin_ppm))
              for t in market.margins),
            strict=True,
        )  # fmt: skip
        table.add_row(
            Text(market_title(market)),
            _regime(market),
            *("\n".join(column) for column in rows),
        )
    return table


def _collaterals(markets: list[CollateralParameters]) -> Table:
    numbers = ["Haircut", "Loan-to-value", "Threshold", "Penalty"]
    table = _table("Collaterals", ["Market", "Regime"], numbers, [])
    for market in markets:
        haircut = market.haircut
        table.add_row(
            Text(market_title(market)),
            _regime(market),
            percent(haircut.haircut_ppm),
            percent(haircut.loan_to_value_ppm),
            percent(haircut.liquidation_threshold_ppm),
            percent(haircut.liquidation_penalty_ppm),
        )
    return table


def _regime(market: MarketParameters) -> Text:
    text = Text(market.regime, style=REGIME_STYLE[market.regime])
    return text.append(f"\np {percent(market.stress_probability_ppm)}", style="dim")


def _plan(market: MarketParameters) -> Text:
    """Say what is planned: maintenance margin of the first tier, or the liquidation threshold."""
    lines = [
        f"{change.effective_from:%m-%d %H:%M} "
        + percent(
            change.maintenance_margin_ppm
            if isinstance(change, PlannedMargin)
            else change.liquidation_threshold_ppm
        )
        for change in market.plan
    ]
    more = [f"and {len(lines) - PLAN_LINES} more"] if len(lines) > PLAN_LINES else []
    return Text("\n  plan: " + ", ".join(lines[:PLAN_LINES] + more)) if lines else Text()


def _why(market: MarketParameters) -> Text:
    """Say whether it is held, the reasons, then the change and its largest terms in basis points."""
    change = market.value_ppm - (market.previous_ppm or 0)
    terms = sorted(
        ((term, value) for term, value in market.attribution.items() if value), key=lambda t: -abs(t[1])
    )
    explained = ", ".join(f"{term} {basis_points(value)}" for term, value in terms[:PLAN_LINES])
    what = "new" if market.previous_ppm is None else f"{basis_points(change)} bps"
    text = Text("HELD ", style="bold yellow") if market.status == "held" else Text()
    for reason in market.reasons:
        text.append(f"\n  {reason}")
    return text.append(f"\n  {what}: {explained}" if explained else f"\n  {what}")


def _table(title: str, left: list[str], right: list[str], last: list[str]) -> Table:
    table = Table(title=Text(title), title_justify="left", show_lines=False)
    for header in left:
        table.add_column(header, overflow="fold")
    for header in right:
        table.add_column(header, justify="right", no_wrap=True)
    for header in last:
        table.add_column(header, overflow="fold")
    return table


def _console() -> Console:
    """Text from a document is never read as markup."""
    return Console(markup=False, highlight=False, emoji=False)
