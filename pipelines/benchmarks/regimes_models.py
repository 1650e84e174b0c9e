"""The stress benchmark's rows: labels, and the probability of the classifier and of its comparators."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pandas as pd

from calibrator.config import Config
from calibrator.features import Clock, build_features, future_variance
from calibrator.feeds import Feeds
from calibrator.forecast.base import VarianceForecaster, walk_forward
from calibrator.forecast.design import design
from calibrator.forecast.har import Har
from calibrator.positioning import join_positioning
from calibrator.regimes.classifier import WEIGHTS, StressClassifier, stress_design
from calibrator.regimes.jump_model import jump_lead
from calibrator.regimes.labels import stress_label, stress_threshold
from calibrator.regimes.markov_switching import switching_variance
from calibrator.regimes.rolling import Rolling
from calibrator.regimes.score import ScoreLogistic
from pipelines.forecasting import Keep, Progress, learned_forecasts, stress_outlook
from pipelines.production import clock_of
from pipelines.walks import Make

OURS: Final = "classifier"
SCORES: Final = {"har": "gap_har", "markov_switching": "gap_switching", "jump_model": "jump_lead"}
"""Comparators, and the score that a logistic regression turns into their probability."""
MODELS: Final = (OURS, *SCORES)
JUMP_PENALTY: Final = 1.0
"""Cost of a change of state of the jump model; chosen on origins before 2021."""
RARER: Final = 4
"""Ablation and longer horizons refit so many times more rarely than the configuration says; the benchmark
states it. Ablation rows are compared with each other only."""
WITHOUT: Final = {
    "without distances to the threshold": ("gap_", "all_gap", "all_stressed"),
    "without market-wide": ("all_", "relative_"),
    "without leader": ("lead_",),
}
"""Regressors of the classifier by the start of their name, left out together."""


@dataclass(frozen=True, slots=True)
class Task:
    """One horizon of one configuration.

    Attributes
    ----------
    config : Config
        With the horizon in question.
    bars, implied : pandas.DataFrame
        Conforming ``Bars`` and ``ImpliedVolatility``.
    progress : callable
        Called with (what, done, total).
    feeds : Feeds
        Funding, open interest and liquidations.
    """

    config: Config
    bars: pd.DataFrame
    implied: pd.DataFrame
    progress: Progress
    feeds: Feeds = field(default_factory=Feeds.none)

    def report(self, what: str, done: int, total: int) -> None:
        """Report with the horizon's name."""
        self.progress(f"{what}, horizon {self.config.forecast.steps}", done, total)


@dataclass(slots=True)
class Kept:
    """Every model that a walk-forward fitted, in order, so that rows between decisions see the same ones."""

    models: dict[str, list[VarianceForecaster]] = field(default_factory=dict)

    def __call__(self, make: Make) -> Make:
        """Return a maker that remembers what it made."""

        def made() -> VarianceForecaster:
            model = make()
            self.models.setdefault(model.name, []).append(model)
            return model

        return made

    def named(self, name: str) -> Keep:
        """Return a memory that files what it sees under ``name``."""

        def keep(make: Make) -> Make:
            def made() -> VarianceForecaster:
                model = make()
                self.models.setdefault(name, []).append(model)
                return model

            return made

        return keep

    def probability(self, name: str, origins: pd.Series, rows: pd.DataFrame, config: Config) -> pd.Series:
        """Return what the model in force at each row says.

        Parameters
        ----------
        name : str
        origins : pandas.Series
            Times of the rows that the walk-forward ran over.
        rows : pandas.DataFrame
            Other rows of the same design.
        config : Config
        """
        cuts = refits(origins, config)
        since = np.searchsorted(cuts.to_numpy(), rows["time"].to_numpy(), side="right") - 1
        out = pd.Series(np.nan, rows.index)
        for number, model in enumerate(self.models.get(name, [])):
            mine = since == number
            if mine.any():
                out[mine] = model.forecast(rows[mine])
        return out


def refits(origins: pd.Series, config: Config) -> pd.DatetimeIndex:
    """Return when a walk-forward over rows of these times refits (see ``forecast.base.walk_forward``)."""
    phases = _phases(config)
    start = config.forecast.min_history * phases
    return pd.DatetimeIndex(origins.unique()).sort_values()[start :: config.forecast.learner_refit * phases]


def _phases(config: Config) -> int:
    clock = clock_of(config)
    return clock.cadence // clock.stride


@dataclass(frozen=True, slots=True)
class Rows:
    """Feature rows of one clock with everything that is known at them.

    Attributes
    ----------
    features, targets, design : pandas.DataFrame
    core, threshold, label : pandas.Series
    states : pandas.DataFrame
        Scores of the comparators (:data:`SCORES`).
    """

    features: pd.DataFrame
    targets: pd.DataFrame
    design: pd.DataFrame
    core: pd.Series
    threshold: pd.Series
    label: pd.Series
    states: pd.DataFrame

    def frame(self, probability: pd.DataFrame) -> pd.DataFrame:
        """Lay out what scores are computed from, on the probabilities' index."""
        at = probability.index
        known = {
            "now": self.features["trailing_variance"],
            "threshold": self.threshold,
            "variance": self.targets["future_variance"],
            "label": self.label,
            "gap_har": self.states["gap_har"],
        }
        keys = self.features.loc[at, ["market", "time", "phase"]]
        return keys.assign(**{n: v.reindex(at) for n, v in known.items()}).join(probability)


def prepare(task: Task, clock: Clock) -> Rows:
    """Build rows, labels and comparators' scores for one clock."""
    config, steps = task.config, task.config.forecast.steps
    regime = config.regime
    features = build_features(task.bars, clock=clock, implied_volatility=task.implied)
    features = join_positioning(features, task.feeds, cadence=clock.cadence * clock.step)
    targets = future_variance(task.bars, features, clock=clock)
    core = Har(steps=steps, window=config.forecast.har_window).forecast(features)
    threshold = stress_threshold(
        features, quantile=regime.quantile, window=regime.window, min_window=regime.min_window
    )
    rolling = Rolling(window=regime.window, start=regime.min_window, refit=config.forecast.learner_refit)
    switching = switching_variance(features, steps=steps, rolling=rolling)
    floor = threshold.where(threshold > 0)
    states = pd.DataFrame(
        {
            "gap_har": np.log(core / floor),
            "gap_switching": np.log(switching / floor),
            "jump_lead": jump_lead(features, penalty=JUMP_PENALTY, rolling=rolling),
        }
    )
    return Rows(
        features,
        targets,
        design(features, core, cadence=clock.cadence, steps=steps),
        core,
        threshold,
        stress_label(targets["future_variance"], threshold),
        states,
    )


@dataclass(frozen=True, slots=True)
class Outlook:
    """One horizon's walk-forward.

    Attributes
    ----------
    task : Task
    rows : Rows
    seen : pandas.DataFrame
        The classifier's design.
    learned : pandas.Series
        Times of the learned forecasters' rows.
    kept : Kept
    frame : pandas.DataFrame
        Every feature row: keys, ``now, threshold, variance, label, gap_har`` and one probability per model.
    """

    task: Task
    rows: Rows
    seen: pd.DataFrame
    learned: pd.Series
    kept: Kept
    frame: pd.DataFrame

    @property
    def decisions(self) -> pd.DataFrame:
        """Rows on which a decision is taken."""
        return self.frame[self.frame["phase"] == 0].drop(columns="phase")


def outlook(task: Task) -> Outlook:
    """Run the classifier as in production, and its comparators on the same rows."""
    config, kept = task.config, Kept()
    rows = prepare(task, clock_of(config))
    targets = rows.targets.loc[rows.design.index]
    learned = learned_forecasts(rows.design, targets, config, kept, task.report)
    known = learned.assign(har=rows.core.loc[rows.design.index])
    ours, _, seen = stress_outlook(
        (rows.features, rows.targets), rows.design, known, config, kept, task.report
    )
    probability = {OURS: ours}
    for model, score in SCORES.items():
        scores = rows.states.loc[seen.index].assign(time=seen["time"])
        probability[model] = walk(task, rows, scores, kept.named(model)(_scorer(score)), model)
    made = pd.DataFrame(probability, index=seen.index)
    return Outlook(task, rows, seen, rows.design["time"], kept, rows.frame(made))


def _seen(rows: Rows, known: pd.DataFrame) -> pd.DataFrame:
    at = rows.design.index
    return stress_design(
        rows.design, known, rows.threshold.loc[at], rows.features.loc[at, "trailing_variance"]
    )


def walk(task: Task, rows: Rows, seen: pd.DataFrame, make: Make, what: str, *, rarer: int = 1) -> pd.Series:
    """Walk a classifier forward over rows at the refits of the production's classifier, or more rarely."""
    settings, phases = task.config.forecast, _phases(task.config)
    label = pd.DataFrame({"future_variance": rows.label, "known_at": rows.targets["known_at"]})
    return walk_forward(
        make,
        seen,
        label.loc[seen.index],
        refit=settings.learner_refit * phases * rarer,
        start=settings.min_history * phases,
        rowwise=True,
        progress=lambda done, total: task.report(what, done, total),
    )


def every_bar(made: Outlook) -> Iterator[pd.DataFrame]:
    """Yield the same models' probabilities at origins on every bar, one frame per offset of the clock.

    A frame's clock is shifted by whole bars, so that features, thresholds and distances are those that the
    decision would have if it were taken then; the models are the ones in force at the time. Bars other than
    hourly keep the feature rows' own stride: one frame.
    """
    task, config = made.task, made.task.config
    clock = clock_of(config)
    yield made.frame.drop(columns="phase")
    if clock.step != pd.Timedelta("1h") or clock.calendar != "continuous":
        return
    for offset in range(1, clock.stride):
        task.report("hourly origins", offset, clock.stride)
        hour = (clock.origin_hour + offset) % 24
        yield _between(made, prepare(task, replace(clock, origin_hour=hour)))
    task.report("hourly origins", clock.stride, clock.stride)


def _between(made: Outlook, rows: Rows) -> pd.DataFrame:
    config, kept = made.task.config, made.kept
    known = pd.DataFrame(
        {
            name: kept.probability(name, made.learned, rows.design, config)
            for name in kept.models
            if name in {"pooled", "lightgbm"}
        }
    ).assign(har=rows.core.loc[rows.design.index])
    seen = _seen(rows, known)
    scores = rows.states.loc[seen.index].assign(time=seen["time"])
    origins = made.seen["time"]
    probability = {OURS: kept.probability("stress", origins, seen, config)}
    probability |= {m: kept.probability(m, origins, scores, config) for m in SCORES}
    return rows.frame(pd.DataFrame(probability)).drop(columns="phase")


def ablation(made: Outlook) -> pd.DataFrame:
    """Return the probability of each reduced classifier on the rows of ``made.frame``.

    ``as released`` and its members come from the released refits; what lacks regressors is refitted more
    rarely, as is ``all regressors``, with which it compares.
    """
    out = {"as released": made.frame[OURS], **_members(made)}
    classifier = _classifier(made.task.config)
    for name, starts in {"all regressors": (), **WITHOUT}.items():
        kept = [c for c in made.seen.columns if not c.startswith(starts)]
        out[name] = walk(made.task, made.rows, made.seen[kept], classifier, name, rarer=RARER)
    return pd.DataFrame(out)


def _scorer(column: str) -> Make:
    return lambda: ScoreLogistic([column])


def _classifier(config: Config) -> Make:
    return lambda: StressClassifier(threads=config.forecast.threads)


def _members(made: Outlook) -> dict[str, pd.Series]:
    """Probabilities of each member alone, and of the learned two, from the released classifiers."""
    cuts = refits(made.seen["time"], made.task.config)
    since = np.searchsorted(cuts.to_numpy(), made.seen["time"].to_numpy(), side="right") - 1
    odds = pd.DataFrame(np.nan, made.seen.index, list(WEIGHTS))
    for number, model in enumerate(made.kept.models.get("stress", [])):
        mine = since == number
        if isinstance(model, StressClassifier) and mine.any():
            odds[mine] = model.log_odds(made.seen[mine])
    odds["trees and logistic"] = odds[["trees", "logistic"]].mean(axis=1)
    return {f"{name} alone": 1 / (1 + np.exp(-odds[name])) for name in odds}
