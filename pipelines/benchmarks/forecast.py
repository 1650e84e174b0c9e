"""``benchmark forecast``: every forecaster on any bars, side by side, walk-forward."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

import pandas as pd

from calibrator.config import Config
from calibrator.data.sources import Inputs, load_bars, load_inputs
from calibrator.errors import ConfigError, DataError
from calibrator.features import build_features, future_variance
from calibrator.positioning import join_positioning
from pipelines.backtesting import in_window
from pipelines.benchmarks.forecast_models import MODELS, Task, ablation, forecasts
from pipelines.benchmarks.forecast_pages import Part, difference_figure, markdown, plain, ratio_figure
from pipelines.benchmarks.forecast_table import ablation_scores, losses, per_market, scores
from pipelines.forecasting import Progress
from pipelines.production import clock_of
from pipelines.store import save, save_json

DAILY: Final = (1, 5, 20)
INTRADAY: Final = (1, 3, 7)
LEAST_HORIZONS: Final = 10
"""Fewest origins that are tested, in horizons."""
ALWAYS: Final = ("har", "har_strong")
"""The references of every test; a restricted benchmark runs them too."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a benchmark covers.

    Attributes
    ----------
    horizons : tuple of int, optional
        In decisions; default 1, 3, 7 for bars shorter than a day and 1, 5, 20 for longer ones.
    models : tuple of str, optional
        Among ``forecast_models.MODELS``; default all. ``har`` and ``har_strong`` always run.
    ablation : bool
        Also run the learners without each group of regressors and with each alone (first horizon).
    """

    horizons: tuple[int, ...] | None = None
    models: tuple[str, ...] | None = None
    ablation: bool = False

    def __post_init__(self) -> None:
        if self.horizons is not None and (not self.horizons or min(self.horizons) < 1):
            raise ConfigError(f"--horizons must be decisions, at least 1, were {self.horizons}")
        unknown = [m for m in self.models or () if m not in MODELS]
        if unknown:
            raise ConfigError(f"--models: no model {unknown[0]!r}; there are {', '.join(MODELS)}")


def run(
    config: Config,
    *,
    as_of: datetime | None,
    progress: Progress,
    options: Options | None = None,
) -> list[Part]:
    """Run the benchmark.

    Parameters
    ----------
    config : Config
        ``backtest.start`` and ``backtest.end`` bound the origins that are scored.
    as_of : datetime, optional
        Later rows are not looked at; default: the last bar.
    progress : callable
        Called with (what, done, total).
    options : Options, optional

    Returns
    -------
    list of Part
        One per horizon; a deterministic function of bars, configuration and options.

    Raises
    ------
    DataError
        No row has a forecast of every model, or the window is shorter than ten horizons.
    """
    chosen = options or Options()
    bars, _ = load_bars(config, as_of=as_of)
    inputs = load_inputs(config, as_of=as_of)
    horizons = chosen.horizons or (DAILY if config.data.step >= pd.Timedelta("1D") else INTRADAY)
    models = [m for m in MODELS if chosen.models is None or m in (*chosen.models, *ALWAYS)]
    return [
        _horizon(bars, inputs, _task_config(config, steps), models, progress, chosen.ablation and n == 0)
        for n, steps in enumerate(horizons)
    ]


def _task_config(config: Config, steps: int) -> Config:
    horizon = steps * config.forecast.cadence
    return config.model_copy(update={"forecast": config.forecast.model_copy(update={"horizon": horizon})})


def _horizon(
    bars: pd.DataFrame,
    inputs: Inputs,
    config: Config,
    models: Sequence[str],
    progress: Progress,
    ablate: bool,  # noqa: FBT001 - the first horizon only
) -> Part:
    clock = clock_of(config)
    features = build_features(bars, clock=clock, implied_volatility=inputs.implied_volatility)
    features = join_positioning(features, inputs.feeds, cadence=clock.cadence * clock.step)
    targets = future_variance(bars, features, clock=clock)
    task = Task(config, clock, features, targets, progress)
    inside = in_window(features.reset_index(), config, column="time")["index"]
    rows = features.loc[inside, ["market", "time"]][features.loc[inside, "phase"] == 0]
    variance = targets.loc[rows.index, "future_variance"]
    made_forecasts = forecasts(task, models).reindex(rows.index)
    if not made_forecasts.notna().all(axis=1).any():
        raise DataError("benchmark: no origin in the backtest window has a forecast of every model")
    made = losses(made_forecasts, rows, variance)
    steps, days = config.forecast.steps, made.rows["time"].nunique()
    if days < LEAST_HORIZONS * steps:
        raise DataError(
            f"benchmark: a horizon of {steps} decisions needs {LEAST_HORIZONS * steps} origins, "
            f"there are {days}"
        )
    progress(f"tests, horizon {steps}", 0, 1)
    table = scores(made, steps=steps)
    progress(f"tests, horizon {steps}", 1, 1)
    without = None
    if ablate:
        parts = pd.DataFrame(ablation(task)).reindex(made.rows.index)
        without = ablation_scores(losses(parts, made.rows, variance.loc[made.rows.index]))
    return Part(steps, config.forecast.horizon, made, table, per_market(made), without)


def write(
    parts: Sequence[Part], *, home: Path, title: str, made_on: date, docs: Path | None = None
) -> dict[str, Path]:
    """Write Markdown, JSON and figures to ``home/benchmarks/forecast/``; the Markdown also to ``docs``.

    Parameters
    ----------
    parts : sequence of Part
        What :func:`run` returned.
    home : pathlib.Path
    title : str
        The configuration's file name without its ending; part of the file names.
    made_on : datetime.date
        Printed in the Markdown.
    docs : pathlib.Path, optional
        Folder ``docs/benchmarks``; receives ``forecast-<title>.md``.

    Returns
    -------
    dict of str to pathlib.Path
        What was written, by what it is.
    """
    folder = home / "benchmarks" / "forecast"
    folder.mkdir(parents=True, exist_ok=True)
    page = markdown(parts, title=title, made_on=made_on)
    out = {
        "table": save(folder / f"{title}.md", page),
        "numbers": save_json(folder / f"{title}.json", plain(parts)),
    }
    for part in parts:
        name = f"{title}-{part.bars}"
        out[f"ratios {part.bars}"] = save(folder / f"{name}-ratios.png", ratio_figure(part))
        out[f"differences {part.bars}"] = save(folder / f"{name}-differences.png", difference_figure(part))
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        out["committed table"] = save(docs / f"forecast-{title}.md", page)
    return out
