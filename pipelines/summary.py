"""What a run prints at its end: the backtest's verdict in a table, and where everything is."""

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from pipelines.run import Result

COLOURS = {"green": "green", "yellow": "yellow", "red": "bold red"}


def print_verdict(result: "Result", console: Console) -> None:
    """Print coverage per market and side, the verdict with its reasons, replay, findings and paths."""
    console.print(_coverage(result))
    verdict = result.backtest.summary["verdict"]
    if isinstance(verdict, dict):
        colour = "green" if verdict["status"] == "pass" else "yellow"
        console.print(f"Backtest verdict: [bold {colour}]{verdict['status']}[/]", highlight=False)
        for reason in verdict["reasons"]:
            console.print(f"  - {reason}", markup=False, highlight=False)
    if result.backtest.replays is not None:
        console.print(_replays(result))
    if not result.findings.empty:
        console.print(_findings(result))
    for what, path in result.files.items():
        console.print(f"{what:>18}  {path}", markup=False, highlight=False, soft_wrap=True)
    for warning in result.warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False, highlight=False)


def _coverage(result: "Result") -> Table:
    table = Table(title="Backtest: does the published margin cover the losses that followed?")
    for name in ("market", "side", "level", "decisions", "breaches", "coverage", "p (too many)", "zone"):
        table.add_column(name, justify="left" if name in {"market", "side", "zone"} else "right")
    rows = result.backtest.coverage.sort_values("coverage")
    for row in rows.head(12).itertuples():
        table.add_row(
            str(row.market),
            str(row.side),
            f"{row.level:.2%}",
            f"{row.observations:,}",
            f"{row.breaches:,}",
            f"{row.coverage:.2%}",
            f"{row.excess_p_value:.3f}",
            f"[{COLOURS.get(str(row.zone), 'white')}]{row.zone}[/]",
        )
    if len(rows) > 12:
        table.caption = f"the 12 lowest of {len(rows)}; all of them are in the report"
    return table


def _replays(result: "Result") -> Table:
    table = Table(title="SIMULATED accounts replayed on the real prices")
    for name in (
        "schedule",
        "accounts",
        "liquidations",
        "self-inflicted",
        "of notional",
        "shortfall",
        "average margin",
    ):
        table.add_column(name, justify="left" if name == "schedule" else "right")
    if result.backtest.replays is not None:
        for name, row in result.backtest.replays.iterrows():
            table.add_row(
                str(name),
                f"{row['replayed']:,.0f}",
                f"{row['liquidations']:,.0f}",
                f"{row['self_inflicted']:,.0f}",
                f"{row['self_inflicted_share']:.2%}",
                f"{row['shortfall']:,.0f}",
                f"{row['average_margin']:.2%}",
            )
    return table


def _findings(result: "Result") -> Table:
    table = Table(title="Data gate: what was found and what was done")
    for name in ("market", "rule", "count", "first", "last", "action"):
        table.add_column(name, justify="right" if name == "count" else "left")
    for row in result.findings.head(12).itertuples():
        first, last = (f"{t:%Y-%m-%d}" if t == t else "" for t in (row.first, row.last))  # noqa: PLR0124
        table.add_row(str(row.market), str(row.rule), f"{row.count:,}", first, last, str(row.action))
    if len(result.findings) > 12:
        table.caption = f"12 of {len(result.findings)}; all of them are in the report"
    return table
