"""Probability of stress: trees, logistic regression and distance to the threshold, mixed in log-odds."""

from typing import Final, Self

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

Array = NDArray[np.float64]
KEYS: Final = ("market", "time", "phase", "core")
CALENDAR: Final = ("weekday", "hour", "age")
PARAMETERS: Final = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 6,
    "min_data_in_leaf": 500,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "deterministic": True,
    "force_col_wise": True,
    "verbose": -1,
    "seed": 1,
}
"""Chosen on origins before 2021; see docs/adr/0004-stress-probability.md."""
ROUNDS: Final = 200
PENALTY: Final = 0.01
WEIGHTS: Final = {"distance": 0.5, "logistic": 0.25, "trees": 0.25}
"""Of the members' log-odds; on origins before 2021 more weight of the distance was never worse."""
NOW: Final = "gap_now"
CLIP: Final = 5.0
SMALLEST: Final = 1e-4


def stress_design(
    design: pd.DataFrame, forecasts: pd.DataFrame, threshold: pd.Series, trailing_variance: pd.Series
) -> pd.DataFrame:
    """Add to the learned forecasters' design how far each forecast lies from the stress threshold.

    Parameters
    ----------
    design : pandas.DataFrame
        ``market, time, phase, core`` and regressors.
    forecasts : pandas.DataFrame
        Variances over the horizon, one column per expert, same index.
    threshold, trailing_variance : pandas.Series
        Stress threshold and trailing variance over the horizon, same index.

    Returns
    -------
    pandas.DataFrame
        Rows with a threshold only; ``gap_<expert>`` is the log ratio of a forecast to the threshold,
        ``all_`` columns are means over the markets of the same time.
    """
    variances = forecasts.assign(now=trailing_variance).where(threshold > 0)
    ratio = variances.div(threshold, axis=0).clip(lower=SMALLEST)
    own = np.log(ratio).add_prefix("gap_")[threshold.notna()]
    time = design.loc[own.index, "time"]
    wide = own.groupby(time, sort=False).transform("mean").add_prefix("all_")
    stressed = (own["gap_now"] > 0).groupby(time, sort=False).transform("mean").rename("all_stressed")
    return pd.concat([design.loc[own.index], own, wide, stressed], axis=1)


class StressClassifier:
    """Pooled probability that the next horizon is stress.

    Three members are mixed in log-odds by :data:`WEIGHTS`: small boosted trees and a ridge-penalised logistic
    regression on every regressor, and ``distance``, a logistic regression on the mean log distance of the
    variance forecasts (columns ``gap_<expert>``) to the threshold alone. The first two know more, the last
    needs little history.

    While the known labels are of one class only there is nothing to learn: the probability is missing, and
    the regime holds its last value.
    """

    def __init__(self, *, threads: int = 1) -> None:
        self.name = "stress"
        self.threads = threads
        self.booster: lgb.Booster | None = None

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:
        """Estimate on the rows whose label is known."""
        known = target.notna().to_numpy()
        y = target[known].to_numpy(float)
        if len(np.unique(y)) < 2:
            return self
        rows = history[known]
        self._columns = [c for c in history.columns if c not in KEYS]
        self._linear = [c for c in self._columns if c not in CALENDAR]
        raw = rows[self._linear].to_numpy(float)
        count = np.maximum(np.isfinite(raw).sum(axis=0), 1)
        self._mean = np.where(np.isfinite(raw), raw, 0.0).sum(axis=0) / count
        spread = np.sqrt((np.where(np.isfinite(raw), raw - self._mean, 0.0) ** 2).sum(axis=0) / count)
        self._spread = np.where(spread > 0, spread, 1.0)
        self._cells = np.unique(_cell(rows))
        self.logistic = LogisticRegression(C=PENALTY, solver="newton-cholesky").fit(self._matrix(rows), y)
        distance = self._distance(rows)
        self._centre, self._width = float(distance.mean()), max(float(distance.std()), SMALLEST)
        scaled = (distance[:, None] - self._centre) / self._width
        self.distance = LogisticRegression(C=1 / PENALTY).fit(scaled, y)
        leaf = min(int(PARAMETERS["min_data_in_leaf"]), max(20, len(y) // 100))  # type: ignore[call-overload]
        data = lgb.Dataset(rows[self._columns].to_numpy(float), y, feature_name=self._columns)
        options = {**PARAMETERS, "min_data_in_leaf": leaf, "num_threads": self.threads}
        self.booster = lgb.train(options, data, ROUNDS)
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        """Return the probability per row, between 0.0001 and 0.9999; missing before anything was learned."""
        odds = self.log_odds(history)
        mean = sum(weight * odds[name] for name, weight in WEIGHTS.items())
        return pd.Series(np.clip(expit(mean), SMALLEST, 1 - SMALLEST), history.index)

    def log_odds(self, history: pd.DataFrame) -> pd.DataFrame:
        """Return the log-odds of the members (columns as in :data:`WEIGHTS`)."""
        if self.booster is None:
            return pd.DataFrame(np.nan, history.index, list(WEIGHTS))
        linear = (self._matrix(history) * self.logistic.coef_[0]).sum(axis=1) + self.logistic.intercept_[0]
        trees = self.booster.predict(history[self._columns].to_numpy(float), num_threads=self.threads)
        plain = self._distance_term(history) + self.distance.intercept_[0]
        trees = logit(np.clip(trees, SMALLEST, 1 - SMALLEST))
        return pd.DataFrame({"distance": plain, "logistic": linear, "trees": trees}, history.index)

    def contributions(self, history: pd.DataFrame) -> pd.DataFrame:
        """Return each regressor's contribution to the log-odds of the forecast, per row.

        Trees: TreeSHAP (``pred_contrib``), relative to their expectation over the training rows. Logistic
        regressions: coefficient times distance from the training mean. They count by :data:`WEIGHTS`. The
        hour of the week enters the regression as one column (``hour``), the mean distance of the forecasts to
        the threshold as ``distance``. The sum is the log-odds less a constant.

        References
        ----------
        Lundberg, S. et al. (2020). From local explanations to global understanding with explainable AI for
        trees. Nature Machine Intelligence 2.
        """
        if self.booster is None:
            return pd.DataFrame(index=history.index)
        values = self.booster.predict(
            history[self._columns].to_numpy(float), pred_contrib=True, num_threads=self.threads
        )
        out = pd.DataFrame(WEIGHTS["trees"] * values[:, :-1], history.index, self._columns)
        terms = WEIGHTS["logistic"] * self._matrix(history) * self.logistic.coef_[0]
        width = len(self._linear)
        out[self._linear] += terms[:, :width]
        out["hour"] += terms[:, width:].sum(axis=1)
        return out.assign(distance=WEIGHTS["distance"] * self._distance_term(history))

    def _distance(self, rows: pd.DataFrame) -> Array:
        """Mean log distance of the forecasts that a row has to the threshold; 0 where it has none."""
        gaps = [c for c in self._columns if c.startswith("gap_") and c != NOW]
        raw = rows[gaps].to_numpy(float)
        known = np.isfinite(raw)
        mean: Array = np.where(known, raw, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        return mean

    def _distance_term(self, rows: pd.DataFrame) -> Array:
        scaled: Array = (self._distance(rows) - self._centre) / self._width
        return scaled * float(self.distance.coef_[0, 0])

    def _matrix(self, rows: pd.DataFrame) -> Array:
        scaled = (rows[self._linear].to_numpy(float) - self._mean) / self._spread
        scaled = np.clip(np.nan_to_num(scaled, nan=0.0), -CLIP, CLIP)
        season = (_cell(rows)[:, None] == self._cells[None, 1:]).astype(float)
        return np.column_stack([scaled, season])


def _cell(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Hour of the week of each row."""
    cell: NDArray[np.int64] = (rows["weekday"] * 24 + rows["hour"]).to_numpy(np.int64)
    return cell
