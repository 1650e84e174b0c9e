"""Announced changes that people exploit: tables, and a figure of who is liquidated, hunted, and leaves."""

from typing import Final

import matplotlib as mpl
import pandas as pd
from matplotlib.ticker import PercentFormatter

from calibrator.backtest.exploits_table import LATE, NOTICE
from pipelines.announced import Announced
from pipelines.report.canvas import BLUE, MUTED, ORANGE, RED, SETTINGS, Drawing, plot
from pipelines.report.tables import Table
from pipelines.report.words import number, percent

PARTS: Final = (
    ("by_change", "by the change itself", RED),
    ("by_exit", "by the price impact of who left", BLUE),
    ("by_hunting", "by hunting", ORANGE),
)


def rows_table(rows: pd.DataFrame) -> Table:
    """Return every row of the simulation; a base row is set off."""
    cells, classes = [], []
    for name, r in rows.iterrows():
        hunts = f"{number(r['hunted'])} of {number(r['changes'])}" if " hunting " in str(name) else "-"
        money = [number(r[c]) for c in ("left", "shortfall", "revenue", "cost")]
        parts = [number(r[c]) for c, *_ in PARTS]
        cells.append([str(name), number(r["liquidated"]), *parts, percent(r["share"]), *money, hunts])
        classes.append("ours" if name == NOTICE else "")
    head = (
        "world", "liquidated", "by the change itself", "by the impact of who left", "by hunting",
        "share of these three", "left", "bad debt", "hunter's revenue", "hunter's cost",
        "changes at which it pays",
    )  # fmt: skip
    return Table(head, cells, classes)


def hunting_table(hunting: pd.DataFrame) -> Table:
    """Return hunting around every change by itself: without the change, without notice, with it."""
    cells = [
        [
            f"{100 * push:g} %",
            str(facing),
            number(r["changes"]),
            number(r["pays"]),
            percent(r["share"]),
            number(r["taken"]),
            number(r["revenue"]),
            number(r["cost"]),
            number(r["taken_at_effect"]),
        ]
        for (facing, push), r in hunting.sort_index(
            level="push", sort_remaining=False, kind="stable"
        ).iterrows()
    ]
    head = (
        "push", "the hunter faces", "changes", "pays at", "share", "taken where it pays", "revenue", "cost",
        "taken by a push at the effect, mean",
    )  # fmt: skip
    return Table(head, cells, text=2)


def announced_drawing(name: str, made: Announced) -> Drawing:
    """Draw, per world, what changes, exits and hunting liquidate, and what leaves, over all liquidated."""
    rows = made.rows
    whole = max(float(rows.loc[LATE, "liquidated"]), 1.0)
    with mpl.rc_context(SETTINGS):
        figure, axes = plot(0.19 * len(rows) + 0.3)
        box = axes.get_position()
        axes.set_position((0.25, box.y0, 0.7, box.height))
        at = range(len(rows))
        begin = pd.Series(0.0, rows.index)
        for column, label, colour in PARTS:
            width = rows[column] / whole
            axes.barh([a - 0.18 for a in at], width, 0.36, left=begin, color=colour, label=label)
            begin += width
        axes.barh(
            [a + 0.2 for a in at], rows["left"] / whole, 0.3, color=MUTED, label="left at announcements"
        )
        axes.set_yticks(list(at), [str(name) for name in rows.index])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("of the notional liquidated when the same changes are not announced")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.legend(loc="lower right")
    title = (
        f"{name.capitalize()}, changes announced {made.notice} ahead: what they, exits and "
        "hunting liquidate (colours), and what leaves (grey)"
    )
    return Drawing(drawing_name(name), title, f"{title}. {made.conclusion()}", figure)


def drawing_name(name: str) -> str:
    """Return the name of the figure of one group of accounts.

    Examples
    --------
    >>> drawing_name("simulated accounts")
    'announced-simulated-accounts'
    """
    return "announced-" + name.replace(",", "").replace(" ", "-")
