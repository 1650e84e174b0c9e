"""``benchmark regimes``: how well stress is seen coming, by the classifier and by everything it must beat."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Final

import pandas as pd

from calibrator.config import Config
from calibrator.data.sources import load_bars, load_inputs
from calibrator.errors import ConfigError, DataError
from pipelines.backtesting import in_window
from pipelines.benchmarks.regimes_liquidations import garch_variance, rankings
from pipelines.benchmarks.regimes_models import (
    MODELS,
    OURS,
    RARER,
    Outlook,
    Task,
    ablation,
    every_bar,
    outlook,
)
from pipelines.benchmarks.regimes_pages import Early, Part, figures, markdown, plain
from pipelines.benchmarks.regimes_scores import calibration, common, market_table, score_table
from pipelines.benchmarks.regimes_warning import (
    Watch,
    catalogue,
    fixed_level,
    outcome,
    trade_off,
    watch,
)
from pipelines.forecasting import Progress
from pipelines.production import clock_of
from pipelines.store import save, save_json

HORIZONS: Final = (1, 3, 7)


@dataclass(frozen=True, slots=True)
class Options:
    """What a benchmark covers.

    Attributes
    ----------
    horizons : tuple of int
        In decisions; early warning, ablation and liquidations belong to the first.
    ablation, early : bool
        Also run reduced classifiers; also look at origins on every bar.
    liquidations : tuple of pathlib.Path
        Files to check the labels against (see ``regimes_liquidations``).
    implied : pathlib.Path, optional
        Implied-volatility index to compare with there.
    """

    horizons: tuple[int, ...] = HORIZONS
    ablation: bool = True
    early: bool = True
    liquidations: tuple[Path, ...] = field(default=())
    implied: Path | None = None

    def __post_init__(self) -> None:
        if not self.horizons or min(self.horizons) < 1:
            raise ConfigError(f"--horizons must be decisions, at least 1, were {self.horizons}")


def run(
    config: Config, *, as_of: datetime | None, progress: Progress, options: Options | None = None
) -> list[Part]:
    """Run the benchmark.

    Parameters
    ----------
    config : Config
        ``backtest.start`` and ``backtest.end`` bound the origins that are scored; alarm levels are fixed on
        the origins before.
    as_of : datetime, optional
        Later rows are not looked at; default: the last bar.
    progress : callable
        Called with (what, done, total).
    options : Options, optional

    Returns
    -------
    list of Part
        One per horizon; a deterministic function of bars, configuration, options and their files.

    Raises
    ------
    DataError
        No row has a label and a probability of every model.
    """
    chosen = options or Options()
    bars, _ = load_bars(config, as_of=as_of)
    inputs = load_inputs(config, as_of=as_of)
    out = []
    for number, steps in enumerate(chosen.horizons):
        at = _at(config, steps, rarer=1 if number == 0 else RARER)
        task = Task(at, bars, inputs.implied_volatility, progress, inputs.feeds)
        out.append(_part(outlook(task), chosen, first=number == 0))
    return out


def _at(config: Config, steps: int, *, rarer: int) -> Config:
    settings = {
        "horizon": steps * config.forecast.cadence,
        "learner_refit": config.forecast.learner_refit * rarer,
    }
    return config.model_copy(update={"forecast": config.forecast.model_copy(update=settings)})


def _part(made: Outlook, chosen: Options, *, first: bool) -> Part:
    config, steps = made.task.config, made.task.config.forecast.steps
    frame = in_window(made.decisions, config, column="time")
    if common(frame, MODELS).empty:
        raise DataError(
            "benchmark: no origin in the backtest window has a label and every model's probability"
        )
    made.task.report("scores", 0, 1)
    part = Part(
        steps=steps,
        bars=config.forecast.horizon,
        days=frame["time"].nunique(),
        span=(frame["time"].min(), frame["time"].max()),
        table=score_table(frame, MODELS, steps=steps),
        markets=market_table(frame, MODELS, steps=steps),
        curve=calibration(frame, MODELS),
        ablation=_ablation(made) if first and chosen.ablation else None,
        early=_early(made) if first and chosen.early and steps == 1 else None,
        liquidations=_liquidations(made, chosen) if first and chosen.liquidations else None,
    )
    made.task.report("scores", 1, 1)
    return part


def _ablation(made: Outlook) -> pd.DataFrame:
    parts = ablation(made)
    rows = made.frame.drop(columns=list(MODELS)).join(parts)
    inside = in_window(rows[rows["phase"] == 0], made.task.config, column="time")
    return score_table(inside, list(parts), steps=made.task.config.forecast.steps)


def _early(made: Outlook) -> Early:
    """Fix the levels on the origins before the test, and count within it."""
    config = made.task.config
    rows = pd.concat(every_bar(made), ignore_index=True)
    inside = in_window(rows, config, column="time")
    before = rows[rows["time"] < inside["time"].min()]
    past, test = watch(before, MODELS), watch(inside, MODELS)
    fallback = config.regime.elevated[0]
    out, curves, levels = {}, {}, {}
    for number, model in enumerate(MODELS):
        made.task.report("early warning", number, len(MODELS))
        for rule, outside in (("every alarm day", False), ("outside running events", True)):
            level = fixed_level(past, model, outside=outside)
            levels[model, rule] = fallback if level is None else level
            out[model, rule] = _spelled(test, past, model, levels[model, rule])
        out[model, "ELEVATED of the configuration"] = _spelled(test, past, model, fallback)
        curves[model] = trade_off(test, model)
    made.task.report("early warning", len(MODELS), len(MODELS))
    table = pd.DataFrame(out).T.rename_axis(["model", "level from"])
    level = levels[OURS, "every alarm day"]
    shown = test.rows[["market", "time", "running", *MODELS]]
    return Early(table, pd.concat(curves, names=["model"]), catalogue(test, OURS, level), shown, level)


def _spelled(test: Watch, past: Watch, model: str, level: float) -> dict[str, float]:
    now, then = outcome(test, model, level), outcome(past, model, level)
    return {
        "level": level,
        "events": float(now.events),
        "flagged": now.flagged,
        "any_lead": now.any_lead,
        "median_lead": now.median_lead,
        "false_alarms": now.false_alarms,
        "false_outside": now.false_outside,
        "flagged_before": then.flagged,
        "false_before": then.false_alarms,
    }


def _liquidations(made: Outlook, chosen: Options) -> pd.DataFrame:
    garch = garch_variance(made, clock_of(made.task.config))
    return rankings(made, chosen.liquidations, implied=chosen.implied, garch=garch)


def write(
    parts: Sequence[Part], *, home: Path, title: str, made_on: date, docs: Path | None = None
) -> dict[str, Path]:
    """Write Markdown, JSON and figures to ``home/benchmarks/regimes/``; the Markdown also to ``docs``.

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
        Folder ``docs/benchmarks``; receives ``regimes-<title>.md``.

    Returns
    -------
    dict of str to pathlib.Path
        What was written, by what it is.
    """
    folder = home / "benchmarks" / "regimes"
    folder.mkdir(parents=True, exist_ok=True)
    page = markdown(parts, title=title, made_on=made_on)
    out = {
        "table": save(folder / f"{title}.md", page),
        "numbers": save_json(folder / f"{title}.json", plain(parts)),
    }
    for name, png in figures(parts).items():
        out[name] = save(folder / f"{title}-{name}.png", png)
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        out["committed table"] = save(docs / f"regimes-{title}.md", page)
    return out
