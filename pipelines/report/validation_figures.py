"""Figures of the validation pack: what each parameter moves, the worst that happened, what breaks it."""

from typing import Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipelines.report.canvas import AMBER, BLUE, GREEN, INK, MUTED, ORANGE, RED, SETTINGS, Drawing
from pipelines.sensitivity import Sensitivity
from pipelines.stress import Stress

PARAMETERS: Final = 14
"""Parameters that the tornado shows: those that move something most."""
WINDOWS: Final = 12
ENTRIES: Final = 40
SIDES: Final = ((-1, ORANGE, "moved down"), (1, BLUE, "moved up"))


def tornado(made: Sensitivity) -> Drawing | None:
    """Draw what each parameter, moved down and up, does to the average margin and to the shortfall."""
    rows = made.table[made.table["average_margin"].notna()]
    effect = rows.assign(
        margin=rows["average_margin"] / made.base["average_margin"] - 1,
        short=rows["shortfall_bp"] - made.base["shortfall_bp"],
    )
    scale = {c: max(float(effect[c].abs().max()), 1e-12) for c in ("margin", "short")}
    size = (effect["margin"].abs() / scale["margin"]).combine(effect["short"].abs() / scale["short"], max)
    order = size.groupby(effect["parameter"]).max().sort_values(kind="stable")
    names = [str(n) for n in order[order > 1e-6].tail(PARAMETERS).index]
    if not names:
        return None
    with mpl.rc_context(SETTINGS):
        figure, (left, right) = _two(0.24 * len(names) + 0.2)
        _bars(left, effect, names, "margin", "average margin")
        left.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        left.set_yticks(range(len(names)), [n.removeprefix("margin.") for n in names])
        _bars(right, effect, names, "short", "shortfall, basis points")
        right.set_yticks(range(len(names)), [])
        right.tick_params(left=False)
        left.legend(loc="lower right")
    where = f"{len(made.entries)} of {made.available} entries" if made.sampled else "all entries"
    title = f"What one move of each parameter does to average margin and shortfall ({where})"
    return Drawing("tornado", title, title + ".", figure)


def _two(height: float) -> tuple[Figure, tuple[Axes, Axes]]:
    whole = height + 0.66
    figure = Figure(figsize=(9.8, whole), dpi=100)
    left = figure.add_axes((0.2, 0.5 / whole, 0.36, height / whole))
    right = figure.add_axes((0.6, 0.5 / whole, 0.36, height / whole))
    return figure, (left, right)


def _bars(axes: Axes, effect: pd.DataFrame, names: list[str], column: str, label: str) -> None:
    place = {name: i for i, name in enumerate(names)}
    for direction, colour, words in SIDES:
        own = effect[(effect["direction"] == direction) & effect["parameter"].isin(names)]
        at = [place[p] + 0.2 * direction for p in own["parameter"]]
        axes.barh(at, own[column], height=0.38, color=colour, linewidth=0, label=words)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_xlabel(label)
    axes.set_ylim(-0.6, len(names) - 0.4)


def worst_windows_drawing(stress: Stress) -> Drawing | None:
    """Draw the windows that lie furthest beyond, or closest to, the margin of the day before."""
    own = stress.windows.assign(over=stress.windows["loss"] - stress.windows["margin_before"])
    own = own.sort_values(["over", "market"], ascending=[False, True], kind="stable").head(WINDOWS)[::-1]
    if own.empty:
        return None
    with mpl.rc_context(SETTINGS):
        figure, axes = _one(0.26 * len(own) + 0.2)
        at = np.arange(len(own))
        loss, before = own["loss"].to_numpy(float), own["margin_before"].to_numpy(float)
        axes.barh(at, np.minimum(loss, before), height=0.6, color=MUTED, linewidth=0, label="covered loss")
        beyond = np.maximum(loss - before, 0.0)
        axes.barh(at, beyond, left=before, height=0.6, color=RED, linewidth=0, label="beyond the margin")
        axes.plot(before, at, "|", color=INK, markersize=11, label="margin of the day before")
        axes.plot(own["highest"], at, "d", color=BLUE, markersize=4, label="highest margin afterwards")
        labels = [f"{r.market}, {r.side}, {r.origin:%Y-%m-%d}" for r in own.itertuples()]
        axes.set_yticks(at, labels)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.legend(loc="lower right")
    title = "The worst close-outs against the schedule in force the day before"
    return Drawing("worst-windows", title, title + ".", figure)


def breaking_drawing(stress: Stress) -> Drawing | None:
    """Draw up to which volatility each entry covers now, at the next decision and ten decisions on."""
    own = stress.volatility.sort_values(["covered", "market"], kind="stable").head(ENTRIES)[::-1]
    if own.empty:
        return None
    with mpl.rc_context(SETTINGS):
        figure, axes = _one(0.2 * len(own) + 0.25)
        at = np.arange(len(own))
        axes.hlines(at, own["covered"], own["last"], color=MUTED, linewidth=1.0)
        for column, colour, words in (
            ("covered", RED, "margin in force"),
            ("next", AMBER, "as fast as the limits let it: next decision"),
            ("last", GREEN, "ten decisions on"),
        ):
            axes.plot(own[column], at, "o", color=colour, markersize=4, label=words)
        axes.axvline(1.0, color=INK, linewidth=0.8)
        axes.set_yticks(at, own["market"])
        axes.set_xlabel("multiple of the forecast volatility up to which the asked quantile is covered")
        axes.legend(loc="lower right")
    title = "How far volatility may rise before the schedule stops covering"
    return Drawing("breaking-volatility", title, title + ".", figure)


def _one(height: float) -> tuple[Figure, Axes]:
    whole = height + 0.66
    figure = Figure(figsize=(9.8, whole), dpi=100)
    return figure, figure.add_axes((0.24, 0.5 / whole, 0.72, height / whole))
