"""What ``calibrate`` and ``backtest`` log: settings, margins step by step, and what the challenge found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from calibrator.publish.document import ParameterDocument, encode
from pipelines.backtesting import Backtest, forecast_scores
from pipelines.loading import Loaded
from pipelines.production import Production
from pipelines.tracked import (
    columns_of,
    columns_of_rows,
    track_backtest,
    track_bars,
    track_document,
    track_groups,
    track_models,
)
from pipelines.tracking import Run, flat_parameters

STEPS: Final = ("unlimited", "goal", "floor", "margin")
"""Columns of a decision per side, in the order in which a margin passes through them."""


def track_calibration(
    tracked: Run, loaded: Loaded, production: Production, document: ParameterDocument
) -> None:
    """Log what was decided: margins and plan as tables, the document, a child per model and per group."""
    tracked.log_params(flat_parameters(production.config))
    track_bars(tracked, loaded)
    track_document(tracked, document)
    tracked.log_artifacts({"parameters.json": encode(document)})
    decided = {market: _last(production, market) for market in production.decisions}
    tracked.log_table("margins", columns_of_rows(list(decided.values())))
    plan = production.plan()
    tracked.log_table("plan", columns_of(plan[plan["origin"] == plan["origin"].max()]))
    track_models(tracked, production, forecast_scores(production.forecasts, production.config))
    margins = pd.concat([production.margins(), production.margins(role="collateral")], ignore_index=True)
    for child, markets in track_groups(tracked, production, margins):
        child.log_table("margins", columns_of_rows([decided[m] for m in markets]))


def _last(production: Production, market: str) -> dict[str, Any]:
    """Return a market's last decision, from forecast to published margin."""
    d = production.decisions[market]
    last = d.table.iloc[-1]
    sides = ("long",) if d.terms.role == "collateral" else ("long", "short")
    return {
        "market": market,
        "role": d.terms.role,
        "origin": f"{d.table.index[-1]:%Y-%m-%d %H:%M}",
        "regime": int(last["regime"]),
        **{name: float(last[name]) for name in ("probability", "volatility")},
        **{f"{step} {side}": float(last[f"{step}_{side}"]) for side in sides for step in STEPS},
    }


def track_challenge(
    tracked: Run,
    loaded: Loaded,
    production: Production,
    challenged: Backtest,
    written: Mapping[str, Path],
) -> None:
    """Log what a challenge found, as a run does, with every file that it wrote.

    Parameters
    ----------
    tracked : Run
    loaded : Loaded
    production : Production
    challenged : Backtest
    written : mapping of str to pathlib.Path
        Files by their path in the run.
    """
    tracked.log_params(flat_parameters(production.config))
    track_bars(tracked, loaded)
    verdict = challenged.summary.get("verdict")
    if isinstance(verdict, dict):
        tracked.set_tags({"verdict": verdict["status"]})
    tracked.log_artifacts({name: path.read_bytes() for name, path in written.items()})
    track_backtest(tracked, production, challenged)
