"""Gradient-boosted trees on the ratio of future variance to the HAR forecast, pooled over markets."""

from typing import Final, Self

import lightgbm as lgb
import numpy as np
import pandas as pd

from calibrator.forecast.design import Hull, regressors

PARAMETERS: Final = {
    "objective": "gamma",
    "learning_rate": 0.03,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "deterministic": True,
    "force_col_wise": True,
    "verbose": -1,
}
"""Chosen on origins before 2021; see docs/adr/0003-learned-forecasters.md."""
MOST_LEAVES: Final = 31
MOST_ROWS_IN_LEAF: Final = 200
"""Trees grow with the data: 31 leaves from 31,000 rows on, 8 below 9,000; a leaf holds 1 % of the rows, at
most 200."""
SMALLEST_RATIO: Final = 1e-6
LEAST_ROWS: Final = 500


class Boosted:
    """LightGBM with the gamma deviance (twice QLIKE) on ``future variance / HAR``.

    Parameters
    ----------
    steps : int
        Horizon in decisions.
    rounds, seeds : int
        Trees per ensemble; ensembles with different seeds whose logarithms are averaged.
    threads : int
        Threads of the booster; the trees are the same for any number.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> rows = pd.DataFrame({"market": "A", "core": np.log(1e-4), "signal": rng.normal(size=800)})
    >>> rows = rows.assign(weekday=0.0, hour=0.0, age=0.0)
    >>> variance = 1e-4 * np.exp(0.5 * rows["signal"]) * rng.chisquare(5, 800) / 5
    >>> model = Boosted(steps=1, rounds=100, seeds=1).fit(rows, variance)
    >>> (1e4 * model.forecast(rows.head(3).assign(signal=[-1.0, 0.0, 1.0]))).round(1).tolist()
    [0.6, 1.0, 1.8]
    """

    def __init__(self, *, steps: int, rounds: int = 300, seeds: int = 2, threads: int = 1) -> None:
        self.name = "lightgbm"
        self.steps = steps
        self.rounds = rounds
        self.seeds = seeds
        self.threads = threads
        self.boosters: list[lgb.Booster] = []

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:
        """Grow the trees on the design rows whose target is known; too few rows leave the HAR core."""
        known = target.notna().to_numpy()
        self._columns = regressors(history)
        x = history.loc[known, self._columns].to_numpy(float)
        core = np.exp(history.loc[known, "core"].to_numpy(float)) * self.steps
        y = np.maximum(target[known].to_numpy(float) / core, SMALLEST_RATIO)
        self._hull = Hull(x[:, : self._season(self._columns)])
        if len(y) < LEAST_ROWS:
            return self
        size = {
            "min_data_in_leaf": min(MOST_ROWS_IN_LEAF, max(20, len(y) // 100)),
            "num_leaves": min(MOST_LEAVES, max(8, len(y) // 1000)),
        }
        data = lgb.Dataset(x, y, feature_name=self._columns, free_raw_data=False)
        self.boosters = [
            lgb.train(
                {**PARAMETERS, **size, "seed": seed, "num_threads": self.threads},
                data,
                self.rounds,
            )
            for seed in range(self.seeds)
        ]
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        """Return the variance per design row."""
        log_core = history["core"].to_numpy(float) + np.log(self.steps)
        x = history[self._columns].to_numpy(float)
        ratio = np.zeros(len(x))
        for booster in self.boosters:
            ratio += np.log(booster.predict(x, num_threads=self.threads)) / len(self.boosters)
        weight = self._hull.weight(x[:, : self._season(self._columns)])
        return pd.Series(np.exp(log_core + weight * ratio), history.index)

    @staticmethod
    def _season(columns: list[str]) -> int:
        """Count the regressors before the calendar and the age, which grow without being unusual."""
        return columns.index("weekday")
