"""Forecast and regime stages, wired: from bars to the published variance and the stress probability."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from calibrator.config import Config
from calibrator.features import Clock, build_features, future_variance
from calibrator.feeds import Feeds
from calibrator.forecast.base import VarianceForecaster, walk_forward
from calibrator.forecast.cold_start import borrowed_core
from calibrator.forecast.combination import combine
from calibrator.forecast.design import design
from calibrator.forecast.ewma import Ewma
from calibrator.forecast.garch import Garch, GarchState
from calibrator.forecast.har import Har
from calibrator.forecast.lgbm import Boosted
from calibrator.forecast.pooled import Pooled
from calibrator.frames import FORECASTS, REGIMES, conform
from calibrator.positioning import join_positioning
from calibrator.regimes.classifier import StressClassifier, stress_design
from calibrator.regimes.explanation import explain
from calibrator.regimes.hysteresis import Thresholds, regimes
from calibrator.regimes.labels import stress_label, stress_threshold
from pipelines.walks import Make, Walk, Walker

ALL: Final = "*"
PUBLISHED: Final = "combination"
CORE: Final = ("har", "garch", "gjr_t", "ewma")
"""Experts that learn from a market's own past only."""
Progress = Callable[[str, int, int], None]
Keep = Callable[[Make], Make]


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Everything that is known about variance and stress at each decision.

    Attributes
    ----------
    features, targets : pandas.DataFrame
        Feature rows and, beside them, what followed.
    experts : pandas.DataFrame
        Variance per decision row and model, ``combination`` last; index = rows of ``features``.
    weights : pandas.DataFrame
        Weight of each expert per origin.
    probability, threshold : pandas.Series
        Stress probability per decision row; variance above which it counts as stress.
    regimes : pandas.DataFrame
        Conforming ``Regimes``.
    fitted : dict
        The last fitted learners and GARCH states, by name.
    stress_rows : pandas.DataFrame
        What the classifier saw at each market's last decision; index = market.
    """

    features: pd.DataFrame
    targets: pd.DataFrame
    experts: pd.DataFrame
    weights: pd.DataFrame
    probability: pd.Series
    threshold: pd.Series
    regimes: pd.DataFrame
    fitted: dict[str, object]
    stress_rows: pd.DataFrame = field(default_factory=pd.DataFrame)

    def frame(self, horizon: int) -> pd.DataFrame:
        """Return the conforming ``VarianceForecasts`` of every model."""
        rows = self.features.loc[self.experts.index, ["market", "time"]].rename(columns={"time": "origin"})
        long = pd.concat(
            [rows.assign(model=name, horizon=horizon, variance=self.experts[name]) for name in self.experts],
            ignore_index=True,
        )
        return conform(long[long["variance"].notna()], FORECASTS, source="walk-forward")

    def drivers(self) -> dict[str, list[tuple[str, float]]]:
        """Return what moved each market's last stress probability most, in words, with its log-odds.

        Empty before the classifier learned anything; a market without a threshold is left out.
        """
        classifier = self.fitted.get("stress")
        if not isinstance(classifier, StressClassifier):
            return {}
        return dict(zip(self.stress_rows.index, explain(classifier, self.stress_rows), strict=True))


def walk_of(keep: Keep | Walker) -> Walk:
    """Return the walk-forward of a walker, or one whose forecasters ``keep`` sees when they are made."""
    return keep if isinstance(keep, Walker) else partial(_kept_walk, keep)


def _kept_walk(keep: Keep, make: Make, *rows: pd.DataFrame, **settings: Any) -> pd.Series:
    return walk_forward(keep(make), *rows, **settings)


def forecast_all(  # noqa: PLR0913 - what a run reads, and how
    bars: pd.DataFrame,
    implied: pd.DataFrame,
    *,
    config: Config,
    clock: Clock,
    progress: Progress,
    walker: Walker | None = None,
    feeds: Feeds | None = None,
) -> Forecasts:
    """Run every forecaster and the stress classifier walk-forward over the bars.

    Parameters
    ----------
    bars, implied : pandas.DataFrame
        Conforming ``Bars`` and ``ImpliedVolatility``.
    config : Config
        Sections ``forecast`` and ``regime``.
    clock : Clock
        Grid, cadence and horizon.
    progress : callable
        Called with (what, done, total).
    walker : Walker, optional
        Runs the walk-forwards; default: one that computes everything here.
    feeds : Feeds, optional
        Funding, open interest and liquidations; where ``forecast.positioning`` is on, the learned forecasters
        and the classifier see them.
    """
    settings = config.forecast
    features = build_features(bars, clock=clock, implied_volatility=implied)
    learned_from = feeds if feeds is not None and settings.positioning else Feeds.none()
    features = join_positioning(features, learned_from, cadence=clock.cadence * clock.step)
    targets = future_variance(bars, features, clock=clock)
    keep = walker or Walker()
    core, rows, learned, experts = expert_forecasts(
        features, targets, config=config, clock=clock, progress=progress, keep=keep
    )
    combined, weights = combine(
        experts,
        features.loc[experts.index, ["time"]],
        targets.loc[experts.index],
        memory=settings.combination_memory,
        rate=settings.combination_rate,
        floor=settings.combination_floor,
    )
    combined = _at_least_core(combined, experts, features, targets, config)
    experts = experts.assign(**{PUBLISHED: combined})
    rows = rows[core.loc[rows.index].notna()]
    known = learned.loc[rows.index].assign(har=core.loc[rows.index])
    probability, threshold, seen = stress_outlook((features, targets), rows, known, config, keep, progress)
    probability = probability.reindex(experts.index)
    states = _regimes(features.loc[experts.index], probability, config)
    last = seen[seen["phase"] == 0].groupby("market", sort=False).tail(1).set_index("market")
    return Forecasts(features, targets, experts, weights, probability, threshold, states, keep.last, last)


def _at_least_core(
    combined: pd.Series,
    experts: pd.DataFrame,
    features: pd.DataFrame,
    targets: pd.DataFrame,
    config: Config,
) -> pd.Series:
    """Publish no less than the core from ``forecast.core_from`` on, where the learned experts are doubted."""
    settings = config.forecast
    if settings.core_from is None:
        return combined
    time = features.loc[experts.index, ["time"]]
    core, _ = combine(
        experts[[c for c in CORE if c in experts]],
        time,
        targets.loc[experts.index],
        memory=settings.combination_memory,
        rate=settings.combination_rate,
        floor=settings.combination_floor,
    )
    return combined.where(time["time"] < settings.core_from, np.fmax(combined, core))


def expert_forecasts(
    features: pd.DataFrame,
    targets: pd.DataFrame,
    *,
    config: Config,
    clock: Clock,
    progress: Progress,
    keep: Keep | Walker | None = None,
) -> tuple[pd.Series, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Run the experts that the published forecast combines, remembering the last fits in ``keep``.

    Returns
    -------
    core : pandas.Series
        HAR variance per feature row, NaN while a market's own history is too short for it.
    rows, learned : pandas.DataFrame
        Design of the learned forecasters and their variances, newcomers with a borrowed core included; they
        are not learned from, and no other market's row changes because of them.
    experts : pandas.DataFrame
        Variance per decision row that has one, one column per expert.
    """
    settings, kept = config.forecast, keep or Walker()
    core = Har(steps=settings.steps, window=settings.har_window).forecast(features)
    own = core.notna()
    lent = borrowed_core(features, core, steps=settings.steps, window=settings.har_window)
    rows = design(features, core.where(own, lent), cadence=clock.cadence, steps=settings.steps, own=own)
    learned = learned_forecasts(rows, targets.where(own).loc[rows.index], config, kept, progress)
    decision = features["phase"] == 0
    classical = _classical(features[decision], targets[decision], config, kept, progress)
    experts = classical.assign(har=core, **learned.reindex(features.index[decision]))
    return core, rows, learned, experts[experts.notna().any(axis=1)]


def learned_forecasts(
    rows: pd.DataFrame, targets: pd.DataFrame, config: Config, keep: Keep | Walker, progress: Progress
) -> pd.DataFrame:
    """Walk the learned experts forward over their design; one column of variances per expert.

    ``keep`` sees how each of them is made, and may remember what was.
    """
    settings = config.forecast
    phases = max(1, rows["phase"].nunique())
    makers: dict[str, Callable[[], VarianceForecaster]] = {
        "pooled": lambda: Pooled(steps=settings.steps),
        "lightgbm": lambda: Boosted(
            steps=settings.steps, seeds=settings.learner_seeds, threads=settings.threads
        ),
    }
    out = {
        name: walk_of(keep)(
            make,
            rows,
            targets,
            refit=settings.learner_refit * phases,
            start=settings.min_history * phases,
            rowwise=True,
            progress=lambda done, total, name=name: progress(f"forecast {name}", done, total),  # type: ignore[misc]
        )
        for name, make in makers.items()
    }
    return pd.DataFrame(out)


def _classical(
    rows: pd.DataFrame, targets: pd.DataFrame, config: Config, keep: Keep | Walker, progress: Progress
) -> pd.DataFrame:
    settings = config.forecast
    out = {"ewma": Ewma(decay=0.94, scale=float(settings.steps)).forecast(rows)}
    for name, spec, errors in (("garch", "garch", "normal"), ("gjr_t", "gjr", "t")):
        memory: dict[str, GarchState] = {}

        def make(spec: str = spec, errors: str = errors, memory: dict[str, GarchState] = memory) -> Garch:
            return Garch(
                spec=spec,  # type: ignore[arg-type]
                errors=errors,  # type: ignore[arg-type]
                horizon_steps=float(settings.steps),
                window=settings.garch_window,
                memory=memory,
            )

        out[name] = walk_of(keep)(
            make,
            rows,
            targets,
            refit=settings.garch_refit,
            start=settings.min_history,
            progress=lambda done, total, name=name: progress(f"forecast {name}", done, total),  # type: ignore[misc]
        )
    return pd.DataFrame(out)


def stress_outlook(
    outlook: tuple[pd.DataFrame, pd.DataFrame],
    rows: pd.DataFrame,
    known: pd.DataFrame,
    config: Config,
    keep: Keep | Walker,
    progress: Progress,
) -> tuple[pd.Series, pd.Series, pd.DataFrame]:
    """Walk the stress classifier forward.

    Parameters
    ----------
    outlook : (pandas.DataFrame, pandas.DataFrame)
        Features and targets.
    rows, known : pandas.DataFrame
        Learned forecasters' design, and the variances that the classifier sees, on its index.
    config : Config
    keep, progress : callable

    Returns
    -------
    probability, threshold : pandas.Series
        Per design row that has a threshold; per feature row.
    seen : pandas.DataFrame
        What the classifier saw, per design row that has a threshold.
    """
    (features, targets), regime, settings = outlook, config.regime, config.forecast
    threshold = stress_threshold(
        features, quantile=regime.quantile, window=regime.window, min_window=regime.min_window
    )
    label = stress_label(targets["future_variance"], threshold)
    seen = stress_design(
        rows, known, threshold.loc[rows.index], features.loc[rows.index, "trailing_variance"]
    )
    phases = max(1, rows["phase"].nunique())
    probability = walk_of(keep)(
        lambda: StressClassifier(threads=settings.threads),
        seen,
        pd.DataFrame({"future_variance": label, "known_at": targets["known_at"]}).loc[seen.index],
        refit=settings.learner_refit * phases,
        start=settings.min_history * phases,
        rowwise=True,
        progress=lambda done, total: progress("stress probability", done, total),
    )
    return probability, threshold, seen


def _regimes(rows: pd.DataFrame, probability: pd.Series, config: Config) -> pd.DataFrame:
    """State per market, and of all markets together (the mean probability)."""
    thresholds = Thresholds(elevated=config.regime.elevated, stress=config.regime.stress)
    own = rows[["market", "time"]].assign(stress_probability=probability)
    everywhere = own.groupby("time", as_index=False)["stress_probability"].mean().assign(market=ALL)
    both = pd.concat([own, everywhere[own.columns]], ignore_index=True)
    both = both.sort_values(["market", "time"], kind="stable").reset_index(drop=True)
    state = np.empty(len(both), dtype=np.int64)
    for index in both.groupby("market", sort=False).indices.values():
        state[index] = regimes(both["stress_probability"].to_numpy(float)[index], thresholds=thresholds)
    both = both.assign(horizon=config.forecast.horizon, regime=state)
    columns = ["market", "time", "horizon", "stress_probability", "regime"]
    return conform(both.loc[both["stress_probability"].notna(), columns], REGIMES, source="walk-forward")
