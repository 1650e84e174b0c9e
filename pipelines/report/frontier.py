"""The frontier's figure and tables: cost against bad debt, policy by policy."""

from typing import Any, Final

import matplotlib as mpl
import pandas as pd
from matplotlib.ticker import PercentFormatter

from pipelines.frontier import OURS, UNLIMITED, Frontier
from pipelines.report.canvas import (
    AMBER,
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    RED,
    SETTINGS,
    Drawing,
    plot,
    slug,
)
from pipelines.report.tables import Table
from pipelines.report.words import MISSING, number, percent

NAMES: Final = {
    "static": "yearly quantile of all history",
    "historical_simulation": "historical simulation, 365 decisions",
    "ewma_fhs": "filtered simulation, EWMA",
    "garch_fhs": "filtered simulation, GARCH",
    "har_fhs": "filtered simulation, HAR",
    "implied_fhs": "filtered simulation, implied volatility",
    "ewma_fhs, buffer 25 %": "EWMA, buffer 25 % (EMIR a)",
    "ewma_fhs, stressed weight 25 %": "EWMA, stressed weight 25 % (EMIR b)",
    "ewma_fhs, long-run floor": "EWMA, ten-year floor (EMIR c)",
    "historical_simulation, our limits": "historical simulation within this proposal's limits",
    "har_fhs, our limits": "filtered simulation, HAR, within this proposal's limits",
    OURS: "this proposal",
    UNLIMITED: "this proposal, before floor and limits",
    "ours at the cost of historical_simulation": "this proposal at the cost of historical simulation",
}
STYLES: Final = {
    "static": (MUTED, "-"),
    "historical_simulation": (INK, "-"),
    "ewma_fhs": (ORANGE, "-"),
    "garch_fhs": (AMBER, "-"),
    "har_fhs": (GREEN, "-"),
    "implied_fhs": (RED, "-"),
    "ewma_fhs, buffer 25 %": (ORANGE, ":"),
    "ewma_fhs, stressed weight 25 %": (ORANGE, "--"),
    "ewma_fhs, long-run floor": (ORANGE, "-."),
    "har_fhs, our limits": (GREEN, ":"),
    OURS: (BLUE, "-"),
    UNLIMITED: (BLUE, ":"),
}
"""Colour and line of the policies that are drawn."""
LEAST: Final = 1e-3
"""Basis points below which a shortfall is drawn at the figure's lower edge."""


def frontier_name(made: Frontier) -> str:
    """Return the figure's name."""
    return f"frontier-{slug(made.label)}"


def frontier_drawing(made: Frontier) -> Drawing:
    """Draw average margin against mean shortfall, one line per policy over the levels, one mark per venue."""
    levels = sorted(made.table.index.get_level_values("level").unique())
    with mpl.rc_context(SETTINGS):
        figure, axes = plot(4.2)
        for name, (colour, line) in STYLES.items():
            if name not in made.table.index.get_level_values("policy"):
                continue
            own = made.table.loc[name].sort_index()
            cost, debt = own["average_margin"].to_numpy(float), own["shortfall_bp"].clip(lower=LEAST)
            width = 1.9 if name == OURS else 1.0
            axes.plot(
                cost, debt, line, color=colour, linewidth=width, marker="o", markersize=3, label=NAMES[name]
            )
            if name == OURS:
                low, high = (own[f"shortfall_bp_{x}"].clip(lower=LEAST) for x in ("low", "high"))
                axes.fill_between(cost, low, high, color=colour, alpha=0.15, linewidth=0)
        for name, row in _venues(made).iterrows():
            at = (float(row["average_margin"]), max(float(row["shortfall_bp"]), LEAST))
            axes.plot(*at, "D", color=RED, markersize=4)
            axes.annotate(str(name), at, (4, 3), textcoords="offset points", fontsize=7)
        axes.set_yscale("log")
        axes.set_xlabel("average margin")
        axes.set_ylabel("mean shortfall, bp of notional (log)")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.legend(loc="upper right", fontsize=7.5)
    spoken = f"{percent(levels[0], 1)} to {percent(levels[-1], 1)}"
    title = (
        f"{made.label}: average margin against mean shortfall at levels from {spoken}; lower left is better"
    )
    alt = title + "; the band is the 90 % interval of this proposal by blocks of days."
    return Drawing(frontier_name(made), title, alt, figure)


def _venues(made: Frontier) -> pd.DataFrame:
    return made.against[made.against["kind"] == "venue"] if len(made.against) else made.against


def levels_table(table: pd.DataFrame) -> Table:
    """Return cost, coverage and shortfall of every policy at every level."""
    levels = sorted(table.index.get_level_values("level").unique())
    rows, classes = [], []
    for name in table.index.get_level_values("policy").unique():
        own = table.loc[name]
        cells = [_cell(own.loc[x]) if x in own.index else MISSING for x in levels]
        rows.append([NAMES.get(name, name), *cells])
        classes.append("ours" if name == OURS else "")
    head = ("policy: average margin / covered / shortfall in bp", *(percent(x, 1) for x in levels))
    return Table(head, rows, classes)


def _cell(row: pd.Series) -> str:
    parts = (percent(row["average_margin"]), percent(row["coverage"]), number(row["shortfall_bp"], 2))
    return " / ".join(parts)


def interval_table(made: Frontier) -> Table:
    """Return the configured level with its intervals, without the worst day, and how far margins moved."""
    rows, classes = [], []
    for name, moved in made.kpis.iterrows():
        key = (str(name), made.level)
        if key not in made.table.index:
            continue
        row = made.table.loc[key]
        ends = [
            f"{percent(row['coverage_low'])} to {percent(row['coverage_high'])}",
            f"{number(row['shortfall_bp_low'], 2)} to {number(row['shortfall_bp_high'], 2)}",
        ]
        increases = [percent(moved[f"max_increase_{n}"], 0) for n in (1, 5, 10)]
        rows.append(
            [
                NAMES.get(str(name), str(name)),
                percent(row["average_margin"]),
                percent(row["coverage"]),
                ends[0],
                number(row["shortfall_bp"], 2),
                ends[1],
                number(row["shortfall_bp_without_worst_day"], 2),
                *increases,
                percent(moved["peak_to_trough"], 0),
                percent(moved["worst_loss_to_margin"], 0),
            ]
        )
        classes.append("ours" if name == OURS else "")
    head = (
        "policy", "average margin", "covered", "90 % interval", "shortfall, bp", "90 % interval",
        "without the worst day", "largest increase, 1 decision", "5 decisions", "10 decisions",
        "peak to trough, one year", "worst loss / margin",
    )  # fmt: skip
    return Table(head, rows, classes)


def against_table(against: pd.DataFrame) -> Table:
    """Return what one constant on our margins brings against each policy and venue."""
    rows, classes = [], []
    for name, r in against.iterrows():
        rows.append(
            [
                NAMES.get(str(name), str(name)),
                number(float(r["markets"])),
                number(float(r["rows"])),
                percent(r["average_margin"]),
                percent(r["coverage"]),
                number(r["shortfall_bp"], 2),
                percent(r["our_margin"]),
                number(r["our_shortfall_bp"], 2),
                percent(r["less_margin"], 1),
                _ends(r["less_margin_ends"]),
                percent(r["less_margin_without_worst_day"], 1),
                percent(r["less_bad_debt"], 1),
                _ends(r["less_bad_debt_ends"]),
                percent(r["less_bad_debt_without_worst_day"], 1),
            ]
        )
        classes.append("anchor" if r["kind"] == "venue" else "")
    head = (
        "against", "markets", "rows", "its average margin", "covered", "shortfall, bp", "our average margin",
        "our shortfall, bp", "same bad debt: less margin", "90 % interval", "without the worst day",
        "same margin: less bad debt", "90 % interval", "without the worst day",
    )  # fmt: skip
    return Table(head, rows, classes)


def _ends(ends: Any) -> str:
    low, high = ends
    return f"{percent(low, 1)} to {percent(high, 1)}"
