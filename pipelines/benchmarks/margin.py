"""``benchmark margin``: what a margin costs, covers and leaves, beside simpler rules, tool by tool."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.backtest.kpis import equal_margin_shortfall, procyclicality
from calibrator.backtest.policies import comparators
from calibrator.calibrate.procyclicality import limit
from calibrator.config import Config
from calibrator.data.sources import load_bars, load_inputs
from calibrator.domain import SIDES
from calibrator.errors import DataError
from calibrator.scores import pinball
from pipelines.backtesting import in_both, in_window, realized_variance
from pipelines.benchmarks.forecast_pages import machine, pipe_table
from pipelines.benchmarks.margin_plan import plan_table
from pipelines.forecasting import Progress
from pipelines.production import Decisions, Production, produce
from pipelines.smoothing import calm, regime_hold
from pipelines.starts import close_out
from pipelines.store import save, save_json

Array = NDArray[np.float64]
ROW: Final = ["market", "origin", "side"]
OFF: Final = {"long_run_weight": 0.0, "buffer": 0.0, "stressed_weight": 0.0, "hold": "off"}
TOOLS: Final[Mapping[str, Mapping[str, object]]] = {
    "limits alone": {},
    "limits and floor": {},
    "limits and long-run pull": {"long_run_weight": 0.7},
    "limits and stressed weight 25 %": {"stressed_weight": 0.25},
    "limits and buffer 25 %": {"buffer": 0.25},
    "limits and regime hold": {"hold": "elevated"},
    "all tools": {"long_run_weight": 0.7, "stressed_weight": 0.25, "buffer": 0.25, "hold": "elevated"},
}
FLOORED: Final = ("limits and floor", "all tools")
HIGH: Final = 0.9

NOTE: Final = (
    "Every policy on the same rows. `shortfall / HS`: mean of `max(0, loss - margin)` with every policy",
    "scaled to the average of 365-day historical simulation (HS), relative to it; `after high",
    "variance`: coverage where the variance known at the decision is in its market's top tenth;",
    "increases: the largest over 1, 5 and 10 decisions; peak to trough: largest `max / min - 1` over",
    "365 decisions. `published` is what a run publishes, `unlimited` the forecast tail before the anti-",
    "procyclical layer; the rows below it are that layer's tools, each alone and all together. Losers",
    "are listed like everybody else.",
)
PLAN_NOTE: Final = (
    "Long side as a collateral against a dollar whose haircut may move by the configured step only.",
    "Every policy starts at the first day's unlimited value and is scaled to one average; `attained`:",
    "share of the reduction in mean `max(0, loss - haircut)` against a constant haircut that the",
    "unlimited haircuts reach, averaged over the possible days of the first move.",
)


@dataclass(frozen=True, slots=True)
class Part:
    """One group of markets that share role, close-out, level and kind of loss.

    Attributes
    ----------
    label : str
    rows, markets : int
    span : (pandas.Timestamp, pandas.Timestamp)
    table : pandas.DataFrame
        One row per policy.
    plan : pandas.DataFrame
        Long side under a target's step limit: constant, reactive, planned.
    """

    label: str
    rows: int
    markets: int
    span: tuple[pd.Timestamp, pd.Timestamp]
    table: pd.DataFrame
    plan: pd.DataFrame


def of_no_size(config: Config) -> Config:
    """Return a configuration with one tier: its margins are for no size in particular, as price losses are.

    Examples
    --------
    >>> of_no_size(Config.model_validate({"data": {"source": "embedded"}})).margin.tiers
    (0,)
    """
    return config.model_copy(update={"margin": config.margin.model_copy(update={"tiers": (0,)})})


def run(
    config: Config, *, as_of: datetime | None, progress: Progress, planned: tuple[str, ...] = ()
) -> list[Part]:
    """Run production once, and every policy on its rows; size is left out of all of them.

    Parameters
    ----------
    config : Config
    as_of : datetime, optional
    progress : callable
    planned : tuple of str
        Markets whose long side is put under a step limit as a collateral would be.

    Raises
    ------
    DataError
        No decision inside the backtest window.
    """
    config = of_no_size(config)
    bars, _ = load_bars(config, as_of=as_of)
    inputs = load_inputs(config, as_of=as_of)
    production = produce(
        bars, inputs.implied_volatility, config=config, progress=progress, feeds=inputs.feeds
    )
    groups: dict[object, list[str]] = {}
    for market, d in production.decisions.items():
        groups.setdefault(d.terms, []).append(market)
    return [_part(production, markets, planned, progress) for markets in groups.values()]


def _part(production: Production, markets: list[str], planned: tuple[str, ...], progress: Progress) -> Part:
    config, terms = production.config, production.decisions[markets[0]].terms
    level = float(terms.level or config.margin.level)
    sides = SIDES[:1] if terms.role == "collateral" else SIDES
    matured = production.losses
    matured = matured[matured["market"].isin(markets) & matured["side"].isin(sides)].reset_index(drop=True)
    variance = realized_variance(production.forecasts)
    variance = variance[variance["market"].isin(markets)].reset_index(drop=True)
    progress("policies", 0, 3)
    har = production.forecasts.experts["har"]
    named = production.forecasts.features.loc[har.index, ["market", "time"]].rename(
        columns={"time": "origin"}
    )
    forecasts = named.assign(variance=har).dropna().query("market in @markets").reset_index(drop=True)
    starts = int(matured["start"].nunique())
    table = comparators(
        matured, variance, level=level, forecasts={"har": forecasts}, tail_window=730 if starts == 1 else 365
    )
    table = table.merge(_ours(production, markets, sides), on=ROW).dropna().reset_index(drop=True)
    losses = in_window(matured.drop(columns="known_at"), config).dropna(subset="loss").reset_index(drop=True)
    table = in_both(table, losses)
    if table.empty:
        raise DataError("benchmark: no decision in the backtest window has every policy's margin")
    progress("policies", 1, 3)
    scores = _scores(table, losses, variance, level)
    progress("policies", 2, 3)
    plan = plan_table(production, [m for m in markets if m in planned], level=level)
    progress("policies", 3, 3)
    label = f"{terms.role}, close-out {close_out(config, terms)} bars, level {level:.4g}"
    span = table["origin"].min(), table["origin"].max()
    return Part(label, len(table), len(markets), span, scores, plan)


def _ours(production: Production, markets: list[str], sides: tuple[str, ...]) -> pd.DataFrame:
    """Margins of every variant of the anti-procyclical layer, row by row."""
    parts = []
    for market in markets:
        d = production.decisions[market]
        for side in sides:
            columns = {"published": d.table[f"margin_{side}"], "unlimited": d.table[f"unlimited_{side}"]}
            columns |= {name: variant(production.config, d, side, name) for name in TOOLS}
            own = pd.DataFrame(columns, index=d.table.index)
            parts.append(own.rename_axis("origin").reset_index().assign(market=market, side=side))
    return pd.concat(parts, ignore_index=True).astype({"market": "str", "side": "str"})


def variant(config: Config, d: Decisions, side: str, name: str) -> Array:
    """Publish one side again with other tools."""
    tools = config.margin.tools.model_copy(update=OFF | dict(TOOLS[name]))
    changed = config.model_copy(update={"margin": config.margin.model_copy(update={"tools": tools})})
    floor = d.table[f"floor_{side}"].to_numpy(float) * (name in FLOORED)
    return limit(
        calm(d.table[f"unlimited_{side}"].to_numpy(float), changed),
        floor,
        limits=config.margin.limits.to_domain(),
        whole=d.table["whole"].to_numpy(bool),
        complete=d.table["complete"].to_numpy(bool) & ~regime_hold(d.table["regime"], changed),
    )


def _scores(table: pd.DataFrame, losses: pd.DataFrame, variance: pd.DataFrame, level: float) -> pd.DataFrame:
    """One row per policy: cost, coverage, what is left uncovered, and how unsettling it is."""
    names = [c for c in table.columns if c not in ROW]
    equal = equal_margin_shortfall(table, losses)
    rows = losses.merge(table, on=ROW).merge(variance, on=["market", "origin"])
    rank = variance.set_index(["market", "origin"])["realized_variance"]
    inside = rank[rank.index.isin(pd.MultiIndex.from_frame(rows[["market", "origin"]]))]
    high = inside.groupby("market").rank(pct=True) > HIGH
    after_high = high.reindex(pd.MultiIndex.from_frame(rows[["market", "origin"]])).to_numpy(bool)
    loss, hs = rows["loss"].to_numpy(), table["historical_simulation"].mean()
    out = {}
    for name in names:
        held = rows[name].to_numpy()
        covered = loss <= held
        sides = {f"coverage {s}": float(x.mean()) for s, x in pd.Series(covered).groupby(rows["side"])}
        out[name] = {
            "average / HS": float(table[name].mean() / hs),
            "coverage": float(covered.mean()),
            **sides,
            "after high variance": float(covered[after_high].mean()),
            "shortfall / HS": float(equal.loc[name, "relative"]),
            "without worst day": float(equal.loc[name, "relative_without_worst_day"]),
            "pinball / HS": float(pinball(loss, held, level=level).mean()),
            **_movement(table, name),
        }
    scores = pd.DataFrame(out).T
    scores["pinball / HS"] /= scores.loc["historical_simulation", "pinball / HS"]
    return scores


def _movement(table: pd.DataFrame, name: str) -> dict[str, float]:
    """Largest increases and peak-to-trough over all markets and sides."""
    frame = table[[*ROW, name]].rename(columns={name: "margin"})
    frame = frame.assign(margin_unlimited=frame["margin"], level=0.99, horizon=1)
    kpis = procyclicality(frame)
    columns = {"max_increase_1": "1 decision", "max_increase_5": "5", "max_increase_10": "10"}
    out = {shown: float(kpis[column].max()) for column, shown in columns.items()}
    return out | {"peak to trough": float(kpis["peak_to_trough"].max())}


def page(parts: list[Part], *, title: str, made_on: date) -> str:
    """Spell the tables in Markdown."""
    lines = [
        f"# Margin benchmark: {title}",
        "",
        f"{made_on}; {machine()}.",
        "",
        *NOTE,
    ]
    for part in parts:
        first, last = part.span
        lines += [
            "",
            f"## {part.label}",
            "",
            f"{part.rows} rows, {part.markets} markets, {first:%Y-%m-%d} to {last:%Y-%m-%d}.",
            "",
            *spelled(part.table, "policy"),
        ]
        if not part.plan.empty:
            lines += ["", *PLAN_NOTE, "", *spelled(part.plan, "market, policy")]
    return "\n".join([*lines, ""])


def spelled(table: pd.DataFrame, name: str) -> list[str]:
    """Spell numbers to four places, as a Markdown table."""
    return pipe_table(table.map("{:.4f}".format).rename_axis(name))


def write(
    parts: list[Part], *, home: Path, title: str, made_on: date, docs: Path | None = None
) -> dict[str, Path]:
    """Write Markdown and JSON to ``home/benchmarks/margin/``; the Markdown also to ``docs``."""
    folder = home / "benchmarks" / "margin"
    folder.mkdir(parents=True, exist_ok=True)
    text = page(parts, title=title, made_on=made_on)
    content = {
        p.label: {"policies": p.table.to_dict("index"), "plan": p.plan.to_dict("index")} for p in parts
    }
    out = {
        "table": save(folder / f"{title}.md", text),
        "numbers": save_json(folder / f"{title}.json", content),
    }
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        out["committed table"] = save(docs / f"margin-{title}.md", text)
    return out
