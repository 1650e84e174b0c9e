"""How the forecast benchmark is shown: Markdown, JSON and figures."""

import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from os import cpu_count
from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from pipelines.benchmarks.forecast_models import ABLATION_REFIT
from pipelines.benchmarks.forecast_table import REFERENCES, STRONG, Losses
from pipelines.forecasting import PUBLISHED

PACKAGES: Final = ("numpy", "pandas", "lightgbm", "arch", "numba", "scipy")
DRAWN: Final = ("garch_t", "ewma_94", "lightgbm", "equal_weights", PUBLISHED)
COLOURS: Final = ("#aab4bf", "#c8690a", "#2f8f4e", "#8f73c9", "#1f5fbf")
NOT_PRINTED: Final = ("90 % of / HAR", "top decile", "without worst day", "missing", "largest day")
SHOWN_MARKETS: Final = (*REFERENCES, "lightgbm", PUBLISHED)
HEADER: Final = {
    "qlike": "QLIKE",
    "ratio_garch_normal": "/ GARCH-n",
    "ratio_garch_t": "/ GARCH-t",
    "ratio_ewma_94": "/ EWMA-94",
    "ratio_har": "/ HAR",
    f"ratio_{STRONG}": "/ strong HAR",
    "interval": "90 % of / HAR",
    "interval_strong": "90 % of / strong HAR",
    "dm_p": "DM p",
    "markets": "markets better, worse",
    "mcs": "in MCS",
    "top": "top decile",
    "top_har": "top / HAR",
    "rest": "without worst day",
    "rest_har": "rest / HAR",
    "largest_day": "largest day",
    "missing": "missing",
}


EXPLAINED: Final = (
    "Walk-forward: every forecast uses only what was known at its origin. QLIKE (lower is better) of the",
    "variance over the horizon, on the rows that every model covers; `missing` counts rows with a known",
    "variance for which a model has no forecast. Ratios are geometric means over markets of the ratio of",
    "mean losses (below 1 is better than the reference). Intervals: pooled ratio, moving-block bootstrap",
    "of days, markets together. DM p: Diebold-Mariano with Harvey's correction on the daily mean loss",
    "against strong HAR, beside the number of markets where it rejects at 5 % in either direction. MCS:",
    "share of markets in whose 90 % model confidence set the model is. Top decile: days in the top tenth",
    "of their market's realized variance. Largest day: share of a model's total loss on its own worst day.",
    "`_strong` learners work relative to strong HAR. Losers are listed like everybody else.",
)


@dataclass(frozen=True, slots=True)
class Part:
    """One horizon's results.

    Attributes
    ----------
    steps, bars : int
        Horizon in decisions and in bars.
    losses : Losses
    table, markets : pandas.DataFrame
        Scores per model; QLIKE per market and model.
    ablation : pandas.DataFrame, optional
    """

    steps: int
    bars: int
    losses: Losses
    table: pd.DataFrame
    markets: pd.DataFrame
    ablation: pd.DataFrame | None = None


def machine() -> str:
    """Name the processor, its cores and the versions that computed the tables."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.machine()
    versions = ", ".join(f"{p} {version(p)}" for p in PACKAGES)
    return f"{cpu_count()} cores, {processor}; Python {platform.python_version()}, {versions}"


def markdown(parts: Sequence[Part], *, title: str, made_on: date) -> str:
    """Write the whole benchmark as one page."""
    lines = [
        f"# Forecast benchmark: {title}",
        "",
        f"{made_on.isoformat()}; {machine()}.",
        "",
        *EXPLAINED,
    ]
    for part in parts:
        lines += ["", *_horizon(part)]
    return "\n".join(lines) + "\n"


def _horizon(part: Part) -> list[str]:
    rows = part.losses.rows
    covered = (
        f"{len(rows)} rows, {rows['market'].nunique()} markets, {rows['time'].nunique()} days, "
        f"{rows['time'].min():%Y-%m-%d} to {rows['time'].max():%Y-%m-%d}; "
        f"worst day {part.losses.worst_day:%Y-%m-%d}."
    )
    lines = [
        f"## Horizon {part.steps} decisions ({part.bars} bars)",
        "",
        covered,
        "",
        *pipe_table(spelled(part.table)),
        "",
        "Mean QLIKE per market:",
        "",
    ]
    shown = [m for m in SHOWN_MARKETS if m in part.markets]
    lines += pipe_table(part.markets[shown].map("{:.3f}".format).rename_axis("market"))
    if part.ablation is not None:
        said = (
            f"Ablation (learners alone, one seed, refitted {ABLATION_REFIT} times more rarely than above; "
            "what is left out is held constant; ratios to the same learner with all regressors):"
        )
        lines += [
            "",
            said,
            "",
            *pipe_table(part.ablation.map("{:.3f}".format).rename_axis(["model", "regressors"])),
        ]
    return lines


def show(parts: Sequence[Part], console: Console) -> None:
    """Print the score tables (the columns that fit; the written page has all of them)."""
    for part in parts:
        columns = [c for c in spelled(part.table).columns if c not in NOT_PRINTED]
        table = Table("model", *columns, title=f"Variance over {part.bars} bars", title_justify="left")
        for model, row in spelled(part.table)[columns].iterrows():
            table.add_row(str(model), *row, style="bold" if model == PUBLISHED else None)
        console.print(table)


def spelled(table: pd.DataFrame) -> pd.DataFrame:
    """Format a score table for people."""
    out = pd.DataFrame(index=table.index)
    merged = table.assign(
        interval=_range(table, "low", "high"),
        interval_strong=_range(table, "low_strong", "high_strong"),
        markets=table["better"].astype(str) + ", " + table["worse"].astype(str),
    )
    for name, header in HEADER.items():
        if name not in merged:
            continue
        values = merged[name]
        if name in {"mcs", "largest_day"}:
            out[header] = values.map("{:.0%}".format)
        elif pd.api.types.is_float_dtype(values):
            out[header] = values.map("{:.3f}".format)
        else:
            out[header] = values.astype(str)
    return out


def _range(table: pd.DataFrame, low: str, high: str) -> pd.Series:
    return table[low].map("{:.3f}".format) + "-" + table[high].map("{:.3f}".format)


def pipe_table(table: pd.DataFrame) -> list[str]:
    """Write a table as Markdown lines, its index first."""
    frame = table.reset_index()
    head = [str(c) for c in frame.columns]
    rows = [[str(v) for v in row] for row in frame.itertuples(index=False)]
    return [_row(head), _row(["---"] * len(head)), *(_row(r) for r in rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def plain(parts: Sequence[Part]) -> dict[str, object]:
    """Return the results as JSON-ready values."""
    return {
        str(part.bars): {
            "steps": part.steps,
            "rows": len(part.losses.rows),
            "worst_day": part.losses.worst_day.isoformat(),
            "models": _records(part.table),
            "markets": _records(part.markets),
            "ablation": None if part.ablation is None else _cases(part.ablation),
        }
        for part in parts
    }


def _records(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    return {
        str(index): {str(k): float(v) for k, v in row.items()}
        for index, row in table.to_dict(orient="index").items()
    }


def _cases(table: pd.DataFrame) -> list[dict[str, object]]:
    flat = table.rename_axis(["model", "regressors"]).reset_index()
    return [{str(k): v for k, v in row.items()} for row in flat.to_dict(orient="records")]


def ratio_figure(part: Part) -> bytes:
    """Draw QLIKE relative to strong HAR, one bar per model, as PNG."""
    table = part.table.sort_values("qlike", ascending=False)
    ratio = table["qlike"] / table.loc[STRONG, "qlike"]
    low, high = (ratio - table["low_strong"]).clip(lower=0), (table["high_strong"] - ratio).clip(lower=0)
    figure = Figure(figsize=(8.5, 0.32 * len(table) + 1.1), layout="constrained")
    axes = figure.add_subplot()
    colours = ["#1f5fbf" if m == PUBLISHED else "#aab4bf" for m in table.index]
    axes.barh(list(table.index), ratio, color=colours, xerr=[low, high], ecolor="#1b1f24")
    axes.axvline(1.0, color="#c4232e", linewidth=1)
    axes.set_xlabel("QLIKE / strong HAR, pooled, with 90 % interval")
    axes.set_title(f"Forecasts of the variance over {part.bars} bars", loc="left")
    return png_bytes(figure)


def difference_figure(part: Part) -> bytes:
    """Draw the cumulative difference of the daily mean QLIKE to strong HAR, as PNG."""
    daily = part.losses.daily()
    figure = Figure(figsize=(8.5, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for model, colour in zip(DRAWN, COLOURS, strict=True):
        if model in daily:
            gap = (daily[model] - daily[STRONG]).cumsum()
            axes.plot(gap.index.tz_convert(None).to_numpy(), gap.to_numpy(), color=colour, label=model)
    axes.axhline(0.0, color="#c4232e", linewidth=1)
    axes.set_ylabel("cumulative QLIKE less strong HAR's")
    axes.set_title("Below the line: better than strong HAR so far", loc="left")
    axes.legend(frameon=False)
    return png_bytes(figure)


def png_bytes(figure: Figure) -> bytes:
    """Render a figure as PNG, without software or date in it."""
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out, metadata={"Software": None})
    return out.getvalue()
