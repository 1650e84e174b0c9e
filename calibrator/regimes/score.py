"""Probability from a score: a logistic regression on few columns, the yardstick of every classifier."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from calibrator.regimes.classifier import SMALLEST


class ScoreLogistic:
    """Pooled logistic regression of the label on given columns, almost without penalty.

    It turns any causal score (a forecast over the threshold, a state's probability) into a probability;
    fitted walk-forward like the classifier, it shares its rows and its purge.

    Parameters
    ----------
    columns : sequence of str
        Regressors; a row where one is missing has no probability.

    Examples
    --------
    >>> x = pd.DataFrame({"gap": [-2.0, -1.0, 0.0, 1.0, 2.0] * 20})
    >>> y = pd.Series([0.0, 0.0, 1.0, 0.0, 1.0] * 20)
    >>> ScoreLogistic(["gap"]).fit(x, y).forecast(x.head(5)).round(2).tolist()
    [0.06, 0.15, 0.35, 0.61, 0.83]
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.name = "score"
        self.columns = list(columns)
        self.logistic: LogisticRegression | None = None

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:
        """Estimate on the rows whose label and columns are known; nothing while there is one class only."""
        use = target.notna() & history[self.columns].notna().all(axis=1)
        y = target[use].to_numpy(float)
        if len(np.unique(y)) == 2:
            x = history.loc[use, self.columns].to_numpy(float)
            self._mean, self._spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-12)
            self.logistic = LogisticRegression(C=100.0).fit((x - self._mean) / self._spread, y)
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        """Return the probability per row; missing where a column is, or before anything was learned."""
        out = pd.Series(np.nan, history.index)
        use = history[self.columns].notna().all(axis=1)
        if self.logistic is not None and use.any():
            x = (history.loc[use, self.columns].to_numpy(float) - self._mean) / self._spread
            odds = (x * self.logistic.coef_[0]).sum(axis=1) + self.logistic.intercept_[0]
            out[use] = np.clip(1 / (1 + np.exp(-odds)), SMALLEST, 1 - SMALLEST)
        return out
