"""How the stress benchmark is shown: Markdown, JSON and figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import pandas as pd
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from calibrator.data.events import EVENTS
from pipelines.benchmarks.forecast_pages import machine, pipe_table, png_bytes
from pipelines.benchmarks.regimes_models import MODELS, OURS, RARER

COLOURS: Final = dict(zip(MODELS, ("#1f5fbf", "#c8690a", "#2f8f4e", "#8f73c9"), strict=True))
RED: Final = "#c4232e"
MUTED: Final = "#aab4bf"
AROUND: Final = pd.Timedelta("5D")
NAMED: Final = {
    "auroc": "AUROC",
    "precision": "average precision",
    "multiple": "/ base rate",
    "brier_skill": "Brier skill",
    "calibration_error": "calibration error",
}
TARGETS: Final = (
    ("AUROC, all rows", "all", "auroc", 0.89, 1),
    ("average precision / base rate, all rows", "all", "multiple", 10.0, 1),
    ("AUROC, onsets", "onsets", "auroc", 0.85, 1),
    ("average precision / base rate, onsets", "onsets", "multiple", 7.5, 1),
    ("Brier skill, all rows", "all", "brier_skill", 0.22, 1),
    ("calibration error, all rows", "all", "calibration_error", 0.015, -1),
)
EXPLAINED: Final = (
    "Stress: the realized variance of the horizon after a decision exceeds the market's own trailing",
    "quantile, known at the decision. Onsets: rows that are not stress already. Walk-forward: every",
    "probability uses only what was known at its origin; comparators become probabilities by a logistic",
    "regression on their score, fitted walk-forward on the same rows: `har` = log of the HAR forecast",
    "over the threshold, `markov_switching` = log of the variance expected from the filtered state over",
    "the threshold, `jump_model` = lead of the turbulent state, fed forward. Average precision is also",
    "given as a multiple of the base rate; Brier skill is against the base rate; calibration error is",
    "the mean gap of 15 equal-count bins. Brackets: 90 % interval by a moving-block bootstrap of days,",
    "markets together. All models are scored on common rows.",
)
EARLY: Final = (
    "Early warning on origins at every bar (features, thresholds and distances of that bar; models in",
    "force at the time). An event starts at the first bar at which the trailing variance exceeds the",
    "threshold; spells less than a day apart are one. The lead runs from the first alarm of the day",
    "before. A false alarm is a day with alarms after none of which an event starts within a day. The",
    "level is the lowest that caused at most 2 false alarms per market-month before the test window:",
    "counting every alarm day, or leaving out alarms while an event is running.",
)
LIQUIDATIONS: Final = (
    "Top-decile liquidation days, and how each quantity known before ranks them. Spearman correlation",
    "within markets, averaged; AUROC with quantities ranked within markets. `gap_har` is the HAR",
    "forecast over the threshold, `dvol_close` the implied-volatility index given, used for all",
    "markets; files without markets are compared with the mean over markets.",
)


@dataclass(frozen=True, slots=True)
class Early:
    """Early warning on origins at every bar.

    Attributes
    ----------
    table : pandas.DataFrame
        Outcome per (model, rule that fixed the level).
    curve : pandas.DataFrame
        Outcome per model and level in the test window.
    events : pandas.DataFrame
        What the alarm did around each catalogued event.
    rows : pandas.DataFrame
        ``market, time, running`` and the probabilities.
    level : float
        Level of the classifier's alarm.
    """

    table: pd.DataFrame
    curve: pd.DataFrame
    events: pd.DataFrame
    rows: pd.DataFrame
    level: float


@dataclass(frozen=True, slots=True)
class Part:
    """One horizon's results.

    Attributes
    ----------
    steps, bars, days : int
        Horizon in decisions and in bars; days scored.
    span : (pandas.Timestamp, pandas.Timestamp)
    table, markets : pandas.DataFrame
        Scores per (rows, model), and per (market, rows, model).
    curve : pandas.DataFrame
        Calibration curve per model.
    ablation, liquidations : pandas.DataFrame, optional
    early : Early, optional
    """

    steps: int
    bars: int
    days: int
    span: tuple[pd.Timestamp, pd.Timestamp]
    table: pd.DataFrame
    markets: pd.DataFrame
    curve: pd.DataFrame
    ablation: pd.DataFrame | None = None
    early: Early | None = None
    liquidations: pd.DataFrame | None = None


def markdown(parts: Sequence[Part], *, title: str, made_on: date) -> str:
    """Write the whole benchmark as one page."""
    lines = [f"# Stress benchmark: {title}", "", f"{made_on.isoformat()}; {machine()}.", "", *EXPLAINED]
    for number, part in enumerate(parts):
        lines += ["", *_horizon(part, first=number == 0)]
    return "\n".join(lines) + "\n"


def _horizon(part: Part, *, first: bool) -> list[str]:
    n, stress = part.table["n"].iloc[0], part.table["stress"]
    shares = f"stress {stress['all'].iloc[0]:.1%} of all rows, {stress['onsets'].iloc[0]:.1%} of onsets"
    lines = [
        f"## Horizon {part.steps} decisions ({part.bars} bars)",
        "",
        f"{n:.0f} rows, {part.days} days, {part.span[0]:%Y-%m-%d} to {part.span[1]:%Y-%m-%d}; {shares}.",
    ]
    if not first:
        lines.append(
            f"Learners and classifier are refitted {RARER} times more rarely than in the first table."
        )
    lines += ["", *pipe_table(spelled(part.table))]
    if part.steps == 1:
        lines += ["", "Targets:", "", *pipe_table(targets(part))]
    if part.early is not None:
        lines += ["", *_early(part.early)]
    if part.ablation is not None:
        said = (
            "Ablation. The members alone come from the released classifiers; reduced classifiers, and `all "
            f"regressors` to compare them with, are refitted {RARER} times more rarely:"
        )
        lines += ["", said, "", *pipe_table(spelled(part.ablation))]
    if part.liquidations is not None:
        lines += ["", *_liquidations(part.liquidations)]
    if first:
        lines += ["", "Per market, classifier and HAR score:", "", *pipe_table(_markets(part.markets))]
    return lines


def spelled(table: pd.DataFrame) -> pd.DataFrame:
    """Format scores with their intervals for people."""
    out = pd.DataFrame(index=table.index)
    for name, header in NAMED.items():
        digits = 1 if name == "multiple" else 3
        out[header] = [
            f"{row[name]:.{digits}f} [{row[f'{name}_low']:.{digits}f}, {row[f'{name}_high']:.{digits}f}]"
            for row in table.to_dict("records")
        ]
    return out


def targets(part: Part) -> pd.DataFrame:
    """Say which targets are reached by the classifier."""
    rows = {}
    for name, scope, score, wanted, sign in TARGETS:
        value = float(part.table.loc[(scope, OURS), score])
        reached = sign * value >= sign * wanted
        rows[name] = {
            "wanted": f"{wanted:g}",
            "measured": f"{value:.4f}",
            "reached": "yes" if reached else "no",
        }
    return pd.DataFrame(rows).T.rename_axis("target")


def _markets(table: pd.DataFrame) -> pd.DataFrame:
    wanted = table.loc[(slice(None), slice(None), [OURS, "har"]), :]
    shown = spelled(wanted)[["AUROC", "/ base rate", "Brier skill", "calibration error"]]
    return shown.assign(rows_scored=wanted["n"].map("{:.0f}".format))


def _early(early: Early) -> list[str]:
    table = pd.DataFrame(
        {
            "level": early.table["level"].map("{:.2f}".format),
            "events": early.table["events"].map("{:.0f}".format),
            "flagged >= 6 h before": early.table["flagged"].map("{:.1%}".format),
            "any alarm before": early.table["any_lead"].map("{:.1%}".format),
            "median lead, h": early.table["median_lead"].map("{:.0f}".format),
            "false alarms per market-month": early.table["false_alarms"].map("{:.2f}".format),
            "of them outside events": early.table["false_outside"].map("{:.2f}".format),
            "flagged before the test": early.table["flagged_before"].map("{:.1%}".format),
        },
        index=early.table.index,
    )
    lines = [*EARLY, "", *pipe_table(table)]
    if early.events.empty:
        return lines
    events = early.events
    shown = pd.DataFrame(
        {
            "event": events["event"],
            "from": events["start"],
            "kind": ["expected miss" if miss else "" for miss in events["expected_miss"]],
            "markets": events["markets"].astype(str),
            "markets in which stress began": events["began"].astype(str),
            "flagged >= 6 h before": events["early"].map(_share),
            "median lead, h": events["median_lead"].map(lambda v: "-" if math.isnan(v) else f"{v:.0f}"),
            "highest probability the day before": events["before"].map(_share),
        }
    ).set_index("event")
    head = (
        f"The classifier's alarm (level {early.level:.2f}) around the catalogue's events; an expected miss "
        "left no trace in earlier prices:"
    )
    return [*lines, "", head, "", *pipe_table(shown)]


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0%}"


def _liquidations(table: pd.DataFrame) -> list[str]:
    shown = pd.DataFrame(
        {
            "days": table["days"].map("{:.0f}".format),
            "markets": table["markets"].map("{:.0f}".format),
            "rank correlation": table["correlation"].map("{:.3f}".format),
            "AUROC of top-decile days": [
                f"{r['auroc']:.3f} [{r['low']:.3f}, {r['high']:.3f}]" for r in table.to_dict("records")
            ],
        },
        index=table.index,
    )
    return [*LIQUIDATIONS, "", *pipe_table(shown)]


def plain(parts: Sequence[Part]) -> dict[str, object]:
    """Return the results as JSON-ready values."""
    out: dict[str, object] = {}
    for part in parts:
        tables = {
            "scores": part.table,
            "markets": part.markets,
            "calibration": part.curve,
            "ablation": part.ablation,
            "liquidations": part.liquidations,
        }
        if part.early is not None:
            tables |= {
                "early_warning": part.early.table,
                "levels": part.early.curve,
                "events": part.early.events,
            }
        out[str(part.bars)] = {n: _records(t) for n, t in tables.items() if t is not None}
    return out


def _records(table: pd.DataFrame) -> list[dict[str, object]]:
    flat = table.reset_index()
    return [
        {str(k): None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        for row in flat.to_dict("records")
    ]


def figures(parts: Sequence[Part]) -> dict[str, bytes]:
    """Draw every figure as PNG: calibration per horizon, alarms against false alarms, each event."""
    out = {f"{part.bars}-calibration": calibration_figure(part) for part in parts}
    for part in parts:
        if part.early is not None:
            out[f"{part.bars}-early-warning"] = warning_figure(part.early)
            out |= event_figures(part.early)
    return out


def calibration_figure(part: Part) -> bytes:
    """Draw the share of stress against the probability, on logarithmic axes."""
    figure = Figure(figsize=(5.5, 5.0), layout="constrained")
    axes = figure.add_subplot()
    floor = 5e-4
    axes.plot([floor, 1], [floor, 1], color=MUTED, linewidth=1)
    for model, own in part.curve.groupby(level="model", sort=False):
        axes.plot(
            own["probability"], own["share"].clip(lower=floor), "o-", color=COLOURS[str(model)],
            label=str(model), markersize=3.5, linewidth=1,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("mean probability of the bin")
    axes.set_ylabel("share of stress that followed")
    axes.set_title(f"Calibration over {part.bars} bars: on the line is right", loc="left")
    axes.legend(frameon=False)
    return png_bytes(figure)


def warning_figure(early: Early) -> bytes:
    """Draw the share of events flagged early against the false alarms, over all levels."""
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for model, own in early.curve.groupby(level="model", sort=False):
        axes.plot(own["false_alarms"], own["flagged"], color=COLOURS[str(model)], label=str(model))
    axes.axvline(2.0, color=RED, linewidth=1)
    axes.axhline(0.6, color=RED, linewidth=1)
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 1)
    axes.set_xlabel("false alarms per market-month (every alarm day)")
    axes.set_ylabel("events flagged at least 6 h before")
    axes.set_title("Left and above is better; red: what is asked", loc="left")
    axes.legend(frameon=False)
    return png_bytes(figure)


def event_figures(early: Early) -> dict[str, bytes]:
    """Draw probability and share of markets in stress around each catalogued event."""
    listed = set(early.events["event"]) if len(early.events) else set()
    out = {}
    for event in [e for e in EVENTS if e.name in listed]:
        begin = pd.Timestamp(event.start, tz="UTC")
        end = pd.Timestamp(event.end, tz="UTC") + pd.Timedelta("1D")
        rows = early.rows[early.rows["time"].between(begin - AROUND, end + AROUND)]
        mean = rows.groupby("time")[["running", *MODELS]].mean()
        figure = Figure(figsize=(8.5, 3.4), layout="constrained")
        axes = figure.add_subplot()
        times = mean.index.tz_convert(None).to_numpy()
        axes.fill_between(times, mean["running"].to_numpy(float), color="#f2dca6", label="markets in stress")
        for model in MODELS:
            axes.plot(
                times, mean[model], color=COLOURS[model], linewidth=1.5 if model == OURS else 0.8, label=model
            )
        axes.axhline(early.level, color=RED, linewidth=0.8)
        axes.axvline(begin.tz_convert(None).to_numpy(), color="#1b1f24", linewidth=0.8)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))
        axes.set_ylim(0, 1)
        axes.set_ylabel("mean over markets")
        kind = " (expected miss)" if event.expected_miss else ""
        axes.set_title(f"{event.name}{kind}: probability of stress; black: first day", loc="left")
        axes.legend(frameon=False, ncols=3, fontsize=8)
        out[f"event-{event.start.isoformat()}"] = png_bytes(figure)
    return out
