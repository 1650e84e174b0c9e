"""Pooled log-linear regression: what all markets together say about the ratio of variance to HAR."""

from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.forecast.design import Hull, regressors

Array = NDArray[np.float64]
CLIP = 6.0
"""Standard deviations at which a regressor is cut: a broken feature must not move the forecast further."""
CLIP_RESIDUAL = 8.0
LEVEL_ROWS = 500
"""Rows at which a market's own level counts half."""


class Pooled:
    """Ridge regression of ``log(future variance / HAR)`` on the design of all markets.

    The forecast is ``HAR * exp(w * (fit + log level))`` with the hull weight ``w``, which is 1 inside the
    training data and fades to 0 outside. The level is Duan's smearing correction, the mean of
    ``exp(residual)``, per market and shrunk towards that of all markets: how far a logarithm lies below its
    mean depends on what a market's variance is measured from. A market with less than ``LEVEL_ROWS`` rows
    never gets a level below the common one.

    Parameters
    ----------
    steps : int
        Horizon in decisions.
    penalty : float
        Ridge penalty on standardised regressors, in rows; chosen on data before 2021.

    References
    ----------
    Duan, N. (1983). Smearing estimate: a nonparametric retransformation method. JASA 78.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> rows = pd.DataFrame({"market": "A", "core": np.log(1e-4), "signal": rng.normal(size=800)})
    >>> rows = rows.assign(weekday=0.0, hour=0.0, age=0.0)
    >>> variance = 1e-4 * np.exp(0.5 * rows["signal"]) * rng.chisquare(5, 800) / 5
    >>> model = Pooled(steps=1, penalty=1.0).fit(rows, variance)
    >>> (1e4 * model.forecast(rows.head(3).assign(signal=[-1.0, 0.0, 1.0]))).round(1).tolist()
    [0.6, 1.0, 1.7]
    """

    def __init__(self, *, steps: int, penalty: float = 1000.0) -> None:
        self.name = "pooled"
        self.steps = steps
        self.penalty = penalty

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:
        """Estimate on the design rows whose target is known; none of them leaves the HAR core."""
        known = target.notna().to_numpy()
        rows = history[known]
        self._columns = [c for c in regressors(history) if c not in {"weekday", "hour", "age"}]
        raw = rows[self._columns].to_numpy(float)
        self._hull = Hull(raw)
        count = np.maximum(np.isfinite(raw).sum(axis=0), 1)
        zero = np.where(np.isfinite(raw), raw, 0.0)
        self._mean = zero.sum(axis=0) / count
        spread = np.sqrt((np.where(np.isfinite(raw), raw - self._mean, 0.0) ** 2).sum(axis=0) / count)
        self._spread = np.where(spread > 0, spread, 1.0)
        self._cells = np.unique(_cell(rows))
        x = self._matrix(rows)
        self.coefficients, self.smearing = np.zeros(x.shape[1]), 0.0
        self.smearings: dict[str, float] = {}
        if not known.any():
            return self
        y = np.log(target[known].to_numpy(float)) - self._log_core(rows)
        penalty = self.penalty * np.eye(x.shape[1])
        penalty[0, 0] = 0.0
        self.coefficients = np.linalg.solve(x.T @ x + penalty, x.T @ y)
        residual = np.clip(y - x @ self.coefficients, -CLIP_RESIDUAL, CLIP_RESIDUAL)
        over = pd.Series(np.exp(residual)).groupby(rows["market"].to_numpy())
        self._set_levels(over.sum(), over.size())
        return self

    def _set_levels(self, total: pd.Series, count: pd.Series) -> None:
        common = total.sum() / count.sum()
        own = (total + LEVEL_ROWS * common) / (count + LEVEL_ROWS)
        own = own.where(count >= LEVEL_ROWS, np.maximum(own, common))
        self.smearing = float(np.log(common))
        self.smearings = {str(market): float(np.log(value)) for market, value in own.items()}

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        """Return the variance per design row."""
        level = history["market"].map(self.smearings).astype(float).fillna(self.smearing).to_numpy()
        ratio = _dot(self._matrix(history), self.coefficients) + level
        weight = self._hull.weight(history[self._columns].to_numpy(float))
        return pd.Series(np.exp(self._log_core(history) + weight * ratio), history.index)

    def _log_core(self, rows: pd.DataFrame) -> Array:
        log_core: Array = rows["core"].to_numpy(float) + np.log(self.steps)
        return log_core

    def _matrix(self, rows: pd.DataFrame) -> Array:
        scaled = (rows[self._columns].to_numpy(float) - self._mean) / self._spread
        scaled = np.clip(np.nan_to_num(scaled, nan=0.0), -CLIP, CLIP)
        season = (_cell(rows)[:, None] == self._cells[None, 1:]).astype(float)
        return np.column_stack([np.ones(len(rows)), scaled, season])


def _cell(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Hour of the week of each row."""
    cell: NDArray[np.int64] = (rows["weekday"] * 24 + rows["hour"]).to_numpy(np.int64)
    return cell


def _dot(matrix: Array, vector: Array) -> Array:
    """Row by row product that does not depend on how many rows there are (BLAS does, in the last bit)."""
    return np.asarray((matrix * vector).sum(axis=1), float)
