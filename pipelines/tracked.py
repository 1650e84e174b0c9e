"""What a run logs for a risk committee: the whole, each model, and each group of markets."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from calibrator.publish.document import ParameterDocument
from calibrator.scores import qlike
from pipelines.backtesting import Backtest, in_window
from pipelines.forecasting import PUBLISHED
from pipelines.loading import Loaded
from pipelines.production import Production
from pipelines.starts import close_out
from pipelines.tracking import Run

ROW: Final = ["market", "origin", "side"]
MODEL: Final = "margin-calibrator"
"""Name of the registered model."""


def track_run(
    tracked: Run,
    loaded: Loaded,
    production: Production,
    challenged: Backtest,
    document: ParameterDocument,
    files: dict[str, Path],
) -> None:
    """Log one run: parent, a child per forecaster, a child per group of markets with equal terms."""
    track_bars(tracked, loaded)
    track_document(tracked, document)
    contents = {path.name: path.read_bytes() for what, path in files.items() if not what.startswith("model ")}
    tracked.log_artifacts({n: c for n, c in contents.items() if not n.endswith(".parquet")})
    models = {what.removeprefix("model "): path for what, path in files.items() if what.startswith("model ")}
    tracked.log_artifacts({f"models/{name}": path.read_bytes() for name, path in models.items()})
    track_backtest(tracked, production, challenged)


def track_bars(tracked: Run, loaded: Loaded) -> None:
    """Log what was read, by its digest, and what the gate found in it."""
    bars = loaded.bars
    profile = {
        "rows": len(bars),
        "markets": bars["market"].nunique(),
        "first": bars["time"].min(),
        "last": bars["time"].max(),
        "findings": len(loaded.findings),
    }
    tracked.log_dataset("bars", digest=loaded.data, source="configuration", profile=profile)
    tracked.log_metrics({"findings": float(len(loaded.findings)), "stale markets": float(len(loaded.stale))})
    tracked.log_table("findings", columns_of(loaded.findings))


def track_document(tracked: Run, document: ParameterDocument) -> None:
    """Log every published value; the step is the document's sequence."""
    for market in document.markets:
        name = "/".join(part for part in ("margin_ppm", market.symbol, *market.key[2:]) if part)
        tracked.log_metrics({name: float(market.value_ppm)}, step=document.sequence)


def track_backtest(tracked: Run, production: Production, challenged: Backtest) -> None:
    """Log what a challenge found: figures, tables, and both kinds of children."""
    for model, loss in challenged.forecasts.loc["*"].items():
        tracked.log_metrics({f"qlike/{model}": float(loss)})
    rows = challenged.coverage.itertuples()
    tracked.log_metrics({f"coverage/{r.market}/{r.side}": float(r.coverage) for r in rows})
    tracked.log_table("coverage", columns_of(challenged.coverage))
    tracked.log_table("kpis", columns_of(challenged.kpis))
    tracked.log_table("forecasts", columns_of(challenged.forecasts.reset_index()))
    for name, table in challenged.policies.items():
        tracked.log_table(f"policies {name}", columns_of(table.reset_index()))
        if "shortfall_bp" in table:
            losses = {
                f"shortfall_bp/{name}/{policy}": float(x) for policy, x in table["shortfall_bp"].items()
            }
            tracked.log_metrics(losses)
    track_models(tracked, production, challenged.forecasts)
    for child, markets in track_groups(tracked, production, challenged.margins):
        held = challenged.margins[challenged.margins["market"].isin(markets)]
        known = held[held["loss"].notna()]
        covered = (known["loss"] <= known["margin"]).astype(float)
        child.log_series({"coverage": _by_month(covered, known["origin"])})
        worst = known.assign(excess=known["loss"] - known["margin"]).nlargest(20, "excess")
        child.log_table("worst days", columns_of(worst[[*ROW, "margin", "loss", "excess"]]))


def track_models(tracked: Run, production: Production, scores: pd.DataFrame) -> None:
    """Log a child per forecaster: its loss month by month, and its mean (``scores``) by market."""
    forecasts, config = production.forecasts, production.config
    rows = forecasts.features.loc[forecasts.experts.index, ["market", "time"]]
    outcome = forecasts.targets.loc[forecasts.experts.index, "future_variance"]
    inside = in_window(rows.rename(columns={"time": "origin"}).reset_index(), config)["index"]
    for model in forecasts.experts:
        child = tracked.child(f"model {model}", tags={"kind": "model", "published": str(model == PUBLISHED)})
        own = forecasts.experts.loc[inside, model]
        use = inside[(own.notna() & (outcome.loc[inside] > 0)).to_numpy()]
        loss = pd.Series(qlike(outcome[use], forecasts.experts.loc[use, model]), use)
        child.log_series({"qlike": _by_month(loss, rows.loc[use, "time"])})
        child.log_metrics({f"mean qlike/{m}": float(v) for m, v in scores[model].items() if m != "*"})
        child.log_metrics({"mean qlike": float(scores.loc["*", model])})


def track_groups(
    tracked: Run, production: Production, margins: pd.DataFrame
) -> Iterator[tuple[Run, list[str]]]:
    """Log a child per group of markets with equal terms, and hand it out with the markets."""
    for name, markets in group_names(production):
        child = tracked.child(f"markets {name}", tags={"kind": "markets", "markets": ", ".join(markets)})
        held = margins[margins["market"].isin(markets)]
        child.log_series({"average margin": _by_month(held["margin"], held["origin"])})
        yield child, markets


def group_names(production: Production) -> Iterator[tuple[str, list[str]]]:
    """Return the groups of markets with equal terms, named by them."""
    groups: dict[Any, list[str]] = {}
    for market, d in production.decisions.items():
        groups.setdefault(d.terms, []).append(market)
    for terms, markets in groups.items():
        level = terms.level or production.config.margin.level
        yield f"{terms.role} {close_out(production.config, terms)} bars {level:.4g} {terms.loss}", markets


def _by_month(values: pd.Series, times: pd.Series) -> dict[int, float]:
    """Return the mean of each month; the step is year * 100 + month, so that 202209 is September 2022."""
    step = (times.dt.year * 100 + times.dt.month).to_numpy()
    return {int(k): float(v) for k, v in values.groupby(step).mean().items()}


def columns_of(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return a table's columns as plain values; times as text."""
    out: dict[str, list[Any]] = {}
    for name in table.columns:
        values = table[name]
        timed = isinstance(values.dtype, pd.DatetimeTZDtype)
        out[str(name)] = values.dt.strftime("%Y-%m-%d %H:%M").tolist() if timed else values.tolist()
    return out


def columns_of_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Turn rows into columns; a row without a value has None there.

    Examples
    --------
    >>> columns_of_rows([{"a": 1}, {"a": 2, "b": "x"}])
    {'a': [1, 2], 'b': [None, 'x']}
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
