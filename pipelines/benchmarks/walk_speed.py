"""Speed of the learned forecaster's refits, and of a whole walk-forward, beside what everyone writes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.data.synthetic import synthetic_bars
from calibrator.features import Clock as Decisions
from calibrator.features import build_features, future_variance
from calibrator.forecast.design import design, regressors
from calibrator.forecast.garch_arch import ArchEstimator
from calibrator.forecast.garch_estimation import fit_windows
from calibrator.forecast.garch_parameters import Errors, Spec
from calibrator.forecast.har import Har
from calibrator.forecast.lgbm import LEAST_ROWS, MOST_LEAVES, MOST_ROWS_IN_LEAF, PARAMETERS, Boosted
from pipelines.benchmarks.timing import Clock, interleaved, ratio
from pipelines.forecasting import Progress

Vector = npt.NDArray[np.float64]
MARKETS, YEARS, HISTORY = 50, 5, 1000
"""Synthetic markets, years of daily decisions that are forecast, decisions before the first forecast."""
WEEK, MONTH, TRADED = 5, 21, 252
SPECS: Final[tuple[tuple[Spec, Errors], ...]] = (
    ("garch", "normal"),
    ("garch", "t"),
    ("gjr", "t"),
    ("egarch", "t"),
)
LEVELS: Final = (0.01, 0.05, 0.50, 0.95, 0.99)
ROUNDS: Final = 300
SAMPLED_REFITS, SAMPLED_WINDOWS = 3, 10
RESTART: Final = 50
SAID_LEARNERS: Final = (
    "One refit on all rows known by then, one thread, 300 rounds, evenly spaced refits of the walk-forward "
    f"below. A model per quantile: {', '.join(f'{p:g}' for p in LEVELS)}; location-scale: one model of the "
    "variance and the empirical quantiles of the standardised returns; both then forecast the month ahead. "
    "Binning: a Dataset binned anew at "
    "each refit (what the forecaster does: once for all its seeds); with the bin edges of the first refit "
    "(causal); as a subset of one Dataset over all rows, whose bin edges come from later data. "
    "`share` is the time relative to the whole refit: reusing bins would save part of what binning anew "
    "costs and make worse trees, and the subset looks ahead, so neither is used "
    "(docs/adr/0015-refits-run-side-by-side.md)."
)


@dataclass(frozen=True, slots=True)
class World:
    """Markets whose walk-forward is timed.

    Attributes
    ----------
    rows : pandas.DataFrame
        Design of the learned forecaster, one row per market and decision, in time order per market.
    variance, returns : pandas.Series
        Of the next decision, on the same index; NaN where it has not happened.
    known_at : pandas.Series
        When they are known.
    series : dict of str to ndarray
        Percent returns per market.
    refits : pandas.DatetimeIndex
        Times of the monthly refits.
    """

    rows: pd.DataFrame
    variance: pd.Series
    returns: pd.Series
    known_at: pd.Series
    series: dict[str, Vector]
    refits: pd.DatetimeIndex


def world(*, scale: float = 1.0) -> World:
    """Simulate the markets, daily; fewer and shorter ones at a smaller scale."""
    markets = [f"M{n:02d}" for n in range(max(3, round(MARKETS * scale)))]
    length = max(TRADED, round(YEARS * TRADED * scale))
    bars = synthetic_bars(markets, periods=HISTORY + length, seed=3, bar="1d")
    clock = Decisions(step=pd.Timedelta("1D"), cadence=1, horizon=1)
    features = build_features(bars, clock=clock)
    targets = future_variance(bars, features, clock=clock)
    rows = design(features, Har(steps=1).forecast(features), cadence=1, steps=1)
    ahead = features.groupby("market", sort=False)["log_return"].shift(-1)
    percent = 100.0 * features["log_return"].dropna()
    times = pd.DatetimeIndex(features["time"].unique())
    return World(
        rows,
        targets.loc[rows.index, "future_variance"],
        ahead.loc[rows.index],
        targets.loc[rows.index, "known_at"],
        {str(m): own.to_numpy() for m, own in percent.groupby(features["market"], sort=False)},
        times[HISTORY::MONTH],
    )


def learners(world: World, *, scale: float, progress: Progress, clock: Clock) -> pd.DataFrame:
    """Time one refit at evenly spaced refits: two designs of a learner, three ways to bin."""
    number = max(2, round(SAMPLED_REFITS * scale))
    sample = world.refits[np.linspace(0, len(world.refits) - 1, number).round().astype(int)]
    rounds = max(10, round(ROUNDS * min(1.0, 2 * scale)))
    seconds = []
    for done, cut in enumerate(sample):
        progress("LightGBM refits", done, len(sample))
        seconds.append(interleaved([_refit_tasks(world, cut, rounds)], clock=clock))
    progress("LightGBM refits", len(sample), len(sample))
    table = pd.concat(seconds, ignore_index=True)
    whole = table["location-scale"]
    rows = {
        name: {
            "refits": len(sample),
            "rounds": rounds,
            "seconds": float(table[name].mean()),
            "share": float((table[name] / whole.clip(lower=1e-12)).median()),
        }
        for name in table
    }
    rows["model per quantile"] |= {"ratio": ratio(table, slow="model per quantile", fast="location-scale")}
    return pd.DataFrame(rows).T.rename_axis("what")


def _refit_tasks(world: World, cut: pd.Timestamp, rounds: int) -> dict[str, Callable[[], object]]:
    past = (world.rows["time"] <= cut).to_numpy()
    known = past & (world.known_at <= cut).to_numpy() & (world.variance > 0).to_numpy()
    if known.sum() < LEAST_ROWS:
        raise ValueError(f"a refit needs {LEAST_ROWS} rows, there are {known.sum()} until {cut}")
    history, target = world.rows[past], world.variance.where(known)[past]
    returns = world.returns[known].to_numpy(float)
    # as in production, where forecasts of earlier months standardise the returns: none is made again
    standardised = returns / np.exp(world.rows["core"].to_numpy(float)[known] / 2)
    month = world.rows[~past & (world.rows["time"] <= cut + pd.Timedelta("30D")).to_numpy()]
    columns = regressors(world.rows)
    everything = world.rows[columns].to_numpy(float)
    x = everything[known]
    first = x[(world.rows["time"] <= world.refits[0]).to_numpy()[known]]
    options = {"verbose": -1, "num_threads": 1}
    size = {"num_leaves": MOST_LEAVES, "min_data_in_leaf": MOST_ROWS_IN_LEAF}
    base = lgb.Dataset(first, np.zeros(len(first)), params=options, free_raw_data=False).construct()
    all_rows = lgb.Dataset(everything, params=options, free_raw_data=False).construct()
    used = np.flatnonzero(known)

    def location_scale() -> Vector:
        variance = Boosted(steps=1, rounds=rounds, seeds=1).fit(history, target).forecast(month)
        return np.outer(np.sqrt(variance), np.quantile(standardised, LEVELS))

    def model_per_quantile() -> Vector:
        data = lgb.Dataset(x, returns, params=options)
        settings = {**PARAMETERS, **options, **size, "objective": "quantile"}
        models = [lgb.train({**settings, "alpha": level}, data, rounds) for level in LEVELS]
        ahead = month[columns].to_numpy(float)
        return np.column_stack([model.predict(ahead, num_threads=1) for model in models])

    return {
        "location-scale": location_scale,
        "model per quantile": model_per_quantile,
        "binned anew": lambda: lgb.Dataset(x, params=options).construct(),
        "bin edges of the first refit": lambda: lgb.Dataset(x, reference=base, params=options).construct(),
        "subset of one Dataset (looks ahead)": lambda: all_rows.subset(used).construct(),
    }


def whole(
    world: World, learners: pd.DataFrame, *, scale: float, progress: Progress, clock: Clock
) -> pd.DataFrame:
    """Time the GARCH refits, and add up the whole walk-forward of both versions."""
    refits = len(next(iter(world.series.values()))) - HISTORY
    starts = np.arange(0, refits + 1, WEEK)
    markets = list(world.series)
    sampled = markets[:: max(1, len(markets) // max(2, round(SAMPLED_WINDOWS * scale)))]
    rows = {}
    for done, choice in enumerate(SPECS):
        progress("walk-forward GARCH", done, len(SPECS))
        seconds = interleaved(
            [_garch_tasks(world.series[m], starts, choice, place) for place, m in enumerate(sampled)],
            clock=clock,
        )
        fits = len(markets) * len(starts)
        rows["{}_{}".format(*choice)] = {
            "fits": fits,
            "sample_ours": len(sampled) * len(starts),
            "sample_theirs": len(sampled),
            "theirs_seconds": float(seconds["arch"].mean()) * fits,
            "ours_seconds": float(seconds["engine"].mean()) * len(markets),
        }
    progress("walk-forward GARCH", len(SPECS), len(SPECS))
    rows["LightGBM"] = {
        "fits": len(world.refits),
        "sample_ours": learners["refits"].iloc[0],
        "sample_theirs": learners["refits"].iloc[0],
        "theirs_seconds": float(learners.loc["model per quantile", "seconds"]) * len(world.refits),
        "ours_seconds": float(learners.loc["location-scale", "seconds"]) * len(world.refits),
    }
    table = pd.DataFrame(rows).T.astype(float)
    table.loc["whole walk-forward"] = table.sum()
    table["ratio"] = table["theirs_seconds"] / table["ours_seconds"].clip(lower=1e-12)
    return table.assign(asked=[*[np.nan] * (len(table) - 1), 6.0]).rename_axis("what")


def _garch_tasks(
    returns: Vector, starts: npt.NDArray[np.int64], choice: tuple[Spec, Errors], place: int
) -> dict[str, Callable[[], object]]:
    """One market's weekly refits by the engine; one of them, at a place that moves along, by ``arch``."""
    spec, errors = choice
    begin = int(starts[(place * 37) % len(starts)])
    window = returns[begin : begin + HISTORY]
    return {
        "engine": lambda: fit_windows(returns, starts, length=HISTORY, choice=choice, restart=RESTART),
        "arch": lambda: ArchEstimator()(window, spec=spec, errors=errors),
    }


def said_whole(world: World, learners: pd.DataFrame) -> str:
    """Say what the walk-forward is and how much of it was run."""
    days = len(next(iter(world.series.values()))) - HISTORY
    return (
        f"{len(world.series)} synthetic markets, {days} daily decisions after {HISTORY} of history; GARCH-n, "
        f"GARCH-t, GJR-t and EGARCH-t refitted weekly on {HISTORY} rows, LightGBM monthly. Theirs: a loop "
        "of cold `arch` fits and a LightGBM model per quantile; ours: the engine, warm with a cold restart "
        f"every {RESTART} refits, and one location-scale model. Both are extrapolated: GARCH from the "
        f"sampled fits, LightGBM from {learners['refits'].iloc[0]:.0f} evenly spaced refits (table above). "
        "One thread."
    )
