"""The forecasters of the benchmark: the published ones and everything they have to beat."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

import lightgbm as lgb
import numpy as np
import pandas as pd

from calibrator.config import Config
from calibrator.features import Clock
from calibrator.forecast.base import VarianceForecaster, walk_forward
from calibrator.forecast.combination import combine
from calibrator.forecast.design import design, regressors
from calibrator.forecast.ewma import Ewma
from calibrator.forecast.garch import Garch, GarchState
from calibrator.forecast.garch_parameters import Errors, Spec
from calibrator.forecast.har import Har, strong_har
from calibrator.forecast.lgbm import PARAMETERS, Boosted
from calibrator.forecast.pooled import Pooled
from calibrator.forecast.stochastic_volatility import StateSpace, StochasticVolatility
from pipelines.forecasting import PUBLISHED, Progress, expert_forecasts

RENAMED: Final = {"ewma": "ewma_94", "garch": "garch_normal"}
EQUAL: Final = "equal_weights"
DECAYS: Final = {"ewma_94": 0.94, "ewma_97": 0.97, "ewma_80": 0.80}
SPECS: Final[dict[str, tuple[Spec, Errors]]] = {
    "garch_normal": ("garch", "normal"),
    "garch_t": ("garch", "t"),
    "gjr_t": ("gjr", "t"),
    "egarch_t": ("egarch", "t"),
}
CORES: Final = ("har", "har_strong")
LEARNED: Final = ("pooled", "lightgbm", "pooled_strong", "lightgbm_strong", "lightgbm_raw")
MODELS: Final = (*DECAYS, *SPECS, *CORES, "stochastic_volatility", *LEARNED, EQUAL, PUBLISHED)
"""In the order of the tables; ``_strong`` means relative to the strong HAR."""
GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "positioning": ("positioning_", "all_positioning_"),
    "implied": ("implied",),
    "market-wide": ("all_", "relative_"),
    "leader": ("lead_",),
    "calendar": ("weekday", "hour", "age"),
    "volume": ("volume_",),
    "range": ("range_",),
}
"""Regressors by the start of their name."""
LEAST_ROWS_RAW: Final = 50
ABLATION_REFIT: Final = 4
"""The ablation's learners are refitted so many times more rarely, with one seed: its rows are compared
with each other only."""


@dataclass(frozen=True, slots=True)
class Task:
    """One horizon of one configuration.

    Attributes
    ----------
    config : Config
        With the horizon in question.
    clock : Clock
    features, targets : pandas.DataFrame
        Feature rows and, beside them, what followed.
    progress : callable
        Called with (what, done, total).
    """

    config: Config
    clock: Clock
    features: pd.DataFrame
    targets: pd.DataFrame
    progress: Progress

    def report(self, what: str) -> Callable[[int, int], None]:
        """Return a callback (done, total) that names what is being done."""
        days = self.config.forecast.steps
        return lambda done, total: self.progress(f"{what}, horizon {days}", done, total)

    def core(self, name: str) -> pd.Series:
        """Return the plain or the strong HAR variance of every feature row."""
        settings = self.config.forecast
        make = Har if name == "har" else strong_har
        return make(steps=settings.steps, window=settings.har_window).forecast(self.features)

    def decisions(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the feature rows on which a decision is taken, and their targets."""
        chosen = self.features["phase"] == 0
        return self.features[chosen], self.targets[chosen]

    def design(self, core: pd.Series) -> pd.DataFrame:
        """Return the learners' regressors relative to a core."""
        return design(self.features, core, cadence=self.clock.cadence, steps=self.config.forecast.steps)

    def learn(
        self, make: Callable[[], VarianceForecaster], rows: pd.DataFrame, *, what: str, rarer: int = 1
    ) -> pd.Series:
        """Walk a learned forecaster forward over its design; forecasts of the decision rows."""
        settings, phases = self.config.forecast, max(1, rows["phase"].nunique())
        out = walk_forward(
            make,
            rows,
            self.targets.loc[rows.index],
            refit=settings.learner_refit * phases * rarer,
            start=settings.min_history * phases,
            rowwise=True,
            progress=self.report(what),
        )
        return out[rows["phase"] == 0]


class LogBoosted:
    """LightGBM on the logarithm of the variance itself, without a core to lean on (for comparison only).

    Squared error on ``log(future variance)``, raw features, Duan's smearing correction.

    Parameters
    ----------
    steps : int
        Horizon in decisions.
    rounds, threads : int
        Trees and threads.
    """

    def __init__(self, *, steps: int, rounds: int = 300, threads: int = 1) -> None:
        self.name = "lightgbm_raw"
        self.steps = steps
        self.rounds = rounds
        self.threads = threads
        self._booster: lgb.Booster | None = None

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:
        """Grow the trees on the rows whose target is known; too few rows leave no forecast."""
        known = target.notna().to_numpy()
        self._columns = regressors(history)
        x = history.loc[known, self._columns].to_numpy(float)
        y = np.log(target[known].to_numpy(float) / self.steps)
        if len(y) < LEAST_ROWS_RAW:
            return self
        settings = {**PARAMETERS, "objective": "regression", "seed": 0, "num_threads": self.threads}
        self._booster = lgb.train(settings, lgb.Dataset(x, y), self.rounds)
        self._smearing = float(np.log(np.mean(np.exp(y - self._booster.predict(x)))))
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        """Return the variance per design row."""
        if self._booster is None:
            return pd.Series(np.nan, history.index)
        fit = self._booster.predict(history[self._columns].to_numpy(float), num_threads=self.threads)
        return pd.Series(self.steps * np.exp(fit + self._smearing), history.index)


def forecasts(task: Task, models: Sequence[str]) -> pd.DataFrame:
    """Run the chosen models walk-forward.

    Parameters
    ----------
    task : Task
    models : sequence of str
        Among :data:`MODELS`. ``combination`` brings every expert that it combines, ``equal_weights`` is
        their geometric mean.

    Returns
    -------
    pandas.DataFrame
        Variance per decision row, one column per model in the order of the tables.

    Raises
    ------
    ValueError
        A model is unknown.
    """
    unknown = [m for m in models if m not in MODELS]
    if unknown:
        raise ValueError(f"models must be among {', '.join(MODELS)}, was {unknown[0]!r}")
    rows, _ = task.decisions()
    out: dict[str, pd.Series] = {}
    if {PUBLISHED, EQUAL} & set(models):
        out = _published(task)
    todo = [m for m in MODELS if m in models and m not in out]
    cores = {c: task.core(c) for c in CORES}
    for name in todo:
        out[name] = _one(task, name, cores)
    wanted = [m for m in MODELS if m in out] + [m for m in out if m not in MODELS]
    return pd.DataFrame({m: out[m].reindex(rows.index) for m in wanted})


def _published(task: Task) -> dict[str, pd.Series]:
    """Run the experts, their online combination as it is published, and their plain geometric mean."""
    settings = task.config.forecast
    *_, experts = expert_forecasts(
        task.features,
        task.targets,
        config=task.config,
        clock=task.clock,
        progress=lambda what, done, total: task.report(what)(done, total),
    )
    combined, _ = combine(
        experts,
        task.features.loc[experts.index, ["time"]],
        task.targets.loc[experts.index],
        memory=settings.combination_memory,
        rate=settings.combination_rate,
        floor=settings.combination_floor,
    )
    named = {RENAMED.get(str(name), str(name)): experts[name] for name in experts}
    return {**named, EQUAL: np.exp(np.log(experts).mean(axis=1)), PUBLISHED: combined}


def _one(task: Task, name: str, cores: dict[str, pd.Series]) -> pd.Series:
    settings = task.config.forecast
    rows, targets = task.decisions()
    if name in CORES:
        return cores[name].loc[rows.index]
    if name in DECAYS:
        return Ewma(decay=DECAYS[name], scale=float(settings.steps)).forecast(rows)
    if name in LEARNED:
        return _learned(task, name, cores)
    return walk_forward(
        _classical(task, name),
        rows,
        targets,
        refit=settings.garch_refit,
        start=settings.min_history,
        progress=task.report(name),
    )


def _classical(task: Task, name: str) -> Callable[[], VarianceForecaster]:
    settings = task.config.forecast
    if name == "stochastic_volatility":
        states: dict[str, StateSpace] = {}
        return lambda: StochasticVolatility(steps=settings.steps, window=settings.garch_window, memory=states)
    spec, errors = SPECS[name]
    memory: dict[str, GarchState] = {}
    return lambda: Garch(
        spec=spec,
        errors=errors,
        horizon_steps=float(settings.steps),
        window=settings.garch_window,
        memory=memory,
    )


def _learned(task: Task, name: str, cores: dict[str, pd.Series]) -> pd.Series:
    settings = task.config.forecast
    if name == "lightgbm_raw":
        flat = pd.Series(float(settings.steps), task.features.index).where(cores["har"].notna())
        raw = task.design(flat)
        return task.learn(lambda: LogBoosted(steps=settings.steps, threads=settings.threads), raw, what=name)
    rows = task.design(cores["har_strong" if name.endswith("_strong") else "har"])
    return task.learn(_learner(task, name.removesuffix("_strong")), rows, what=name)


def _learner(task: Task, name: str, *, seeds: int | None = None) -> Callable[[], VarianceForecaster]:
    settings = task.config.forecast
    if name == "pooled":
        return lambda: Pooled(steps=settings.steps)
    return lambda: Boosted(
        steps=settings.steps, seeds=seeds or settings.learner_seeds, threads=settings.threads
    )


def group_of(column: str) -> str:
    """Name the group of regressors that a column of the design belongs to.

    Examples
    --------
    >>> [group_of(c) for c in ("all_volume_24", "volume_24", "weekday_variance", "variance_24")]
    ['market-wide', 'volume', 'calendar', 'own variance and returns']
    """
    found = [group for group, starts in GROUPS.items() if column.startswith(starts)]
    return found[0] if found else "own variance and returns"


def ablation(task: Task) -> dict[tuple[str, str], pd.Series]:
    """Forecasts of the learners with all regressors, without each group, and with each group alone.

    What is left out is constant, so that nothing else about the learner changes.

    Returns
    -------
    dict of (model, columns) to pandas.Series
        Variance per decision row.
    """
    rows = task.design(task.core("har"))
    groups = pd.Series({c: group_of(c) for c in regressors(rows)})
    cases = {"all regressors": groups.index[:0]}
    there = [g for g in GROUPS if (groups == g).any()]
    cases |= {f"without {g}": groups.index[groups == g] for g in there}
    cases |= {f"{g} alone": groups.index[groups != g] for g in [*there, "own variance and returns"]}
    out: dict[tuple[str, str], pd.Series] = {}
    for model in ("pooled", "lightgbm"):
        for number, (case, constant) in enumerate(cases.items()):
            kept = rows.assign(**dict.fromkeys(constant, 0.0))
            make = _learner(task, model, seeds=1)
            out[model, case] = task.learn(make, kept, what=f"{model} {case}", rarer=ABLATION_REFIT)
            task.progress(f"ablation {model}", number + 1, len(cases))
    return out
