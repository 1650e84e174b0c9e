r"""Statistical jump model, fed forward only.

Two centroids and a path of states minimise
:math:`\sum_t \tfrac12 \lVert x_t - \mu_{s_t} \rVert^2 + \lambda \sum_t 1[s_t \ne s_{t-1}]` on past rows. New
rows are assigned online: the cost of the best path that ends in each state follows from the costs one row
earlier, and nothing is revised.
"""

from dataclasses import dataclass
from typing import Final

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.regimes.rolling import Rolling, chains, rolling_estimates

Array = NDArray[np.float64]
COLUMNS: Final = ("har_day", "har_week", "downside_120")
"""Variance of the day and of the week; share of falls is used where it is there."""
ITERATIONS: Final = 30
LEAST: Final = 100


@dataclass(frozen=True, slots=True)
class JumpModel:
    """Centroids in standardised units.

    Attributes
    ----------
    mean, spread : numpy.ndarray, shape (columns,)
        Of the estimation window.
    centroids : numpy.ndarray, shape (2, columns)
        Calm first: the state with the smaller first column.
    """

    mean: Array
    spread: Array
    centroids: Array

    def distances(self, rows: Array) -> Array:
        """Half the squared distance of each row to both centroids, shape (rows, 2)."""
        z = (rows - self.mean) / self.spread
        half: Array = 0.5 * ((z[:, None, :] - self.centroids[None]) ** 2).sum(axis=2)
        return half


def fit_jump_model(rows: Array, *, penalty: float) -> JumpModel | None:
    """Alternate between the best path (Viterbi) and the centroids of its states.

    Parameters
    ----------
    rows : numpy.ndarray, shape (n, columns)
        In time order; rows with a missing value are left out.
    penalty : float
        Cost of a change of state.

    Returns
    -------
    JumpModel or None
        None with fewer than 100 known rows, a constant column, or where the path knows one state only.

    References
    ----------
    Bemporad, A., Breschi, V., Piga, D. and Boyd, S. (2018). Fitting jump models. Automatica 96.
    Nystrup, P., Lindström, E. and Madsen, H. (2020). Learning hidden Markov models with persistent states by
    penalizing jumps. Expert Systems with Applications 150.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> x = rng.normal(np.repeat([0.0, 4.0, 0.0], 100), 1.0)[:, None]
    >>> made = fit_jump_model(x, penalty=2.0)
    >>> (made.mean + made.spread * made.centroids[:, 0]).round(1).tolist()
    [-0.1, 3.9]
    """
    x = rows[np.isfinite(rows).all(axis=1)]
    if len(x) < LEAST or (x.max(axis=0) <= x.min(axis=0)).any():
        return None
    mean, spread = x.mean(axis=0), x.std(axis=0)
    z = (x - mean) / spread
    # A calm majority and a turbulent fifth to begin with; no random starts: equal input, equal output.
    states = (z[:, 0] > np.quantile(z[:, 0], 0.8)).astype(np.int64)
    for _ in range(ITERATIONS):
        if not 0 < states.sum() < len(states):
            return None
        centroids = np.stack([z[states == k].mean(axis=0) for k in (0, 1)])
        cost = 0.5 * ((z[:, None, :] - centroids[None]) ** 2).sum(axis=2)
        path = _best_path(cost, penalty)
        if (path == states).all():
            break
        states = path
    if centroids[0, 0] > centroids[1, 0]:
        centroids = centroids[::-1]
    return JumpModel(mean, spread, centroids)


@numba.njit(cache=True, error_model="numpy")
def _best_path(cost: Array, penalty: float) -> NDArray[np.int64]:
    n = len(cost)
    came = np.zeros((n, 2), dtype=np.int64)
    value = cost[0].copy()
    for t in range(1, n):
        before = value.copy()
        for k in range(2):
            came[t, k] = k if before[k] <= before[1 - k] + penalty else 1 - k
            value[k] = cost[t, k] + min(before[k], before[1 - k] + penalty)
    path = np.zeros(n, dtype=np.int64)
    path[n - 1] = 0 if value[0] <= value[1] else 1
    for t in range(n - 1, 0, -1):
        path[t - 1] = came[t, path[t]]
    return path


@numba.njit(cache=True, error_model="numpy")
def online_lead(cost: Array, penalty: float) -> Array:
    """By how much the best path that ends turbulent is cheaper than the best that ends calm, row by row.

    Parameters
    ----------
    cost : numpy.ndarray, shape (n, 2)
        Cost of each row in the calm and in the turbulent state; a row with NaN changes nothing and gets NaN.
    penalty : float
        Cost of a change of state.

    Returns
    -------
    numpy.ndarray, shape (n,)
        Positive: turbulent. Value t depends on rows up to t only.

    Examples
    --------
    >>> cost = np.array([[0.0, 2.0], [2.0, 0.0], [2.0, 0.0], [np.nan, np.nan], [2.0, 0.0]])
    >>> online_lead(cost, 3.0).tolist()
    [-2.0, 0.0, 2.0, nan, 4.0]
    """
    out = np.full(len(cost), np.nan)
    lead = 0.0
    for t in range(len(cost)):
        if np.isnan(cost[t, 0]) or np.isnan(cost[t, 1]):
            continue
        lead = min(max(lead, -penalty), penalty) + cost[t, 0] - cost[t, 1]
        out[t] = lead
    return out


def jump_lead(features: pd.DataFrame, *, penalty: float, rolling: Rolling) -> pd.Series:
    """Lead of the turbulent state over the calm one, fed forward per market and phase.

    Parameters
    ----------
    features : pandas.DataFrame
        ``market, time, phase`` and :data:`COLUMNS` (those that are there), sorted by market and time.
    penalty : float
        Cost of a change of state.
    rolling : Rolling
        Centroids are estimated on each market's past decisions only.

    Returns
    -------
    pandas.Series
        Lead per row (see :func:`online_lead`), NaN before the first estimate and where a column is missing.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> x = pd.DataFrame({"market": "A", "time": pd.date_range("2023-01-01", periods=400), "phase": 0})
    >>> x["har_day"] = rng.normal(np.where(np.arange(400) % 200 < 100, -8.0, -6.0), 0.5)
    >>> made = jump_lead(x, penalty=3.0, rolling=Rolling(window=365, start=250, refit=60))
    >>> (made.iloc[[248, 290, 390]] > 0).tolist()
    [False, False, True]
    """
    columns = [c for c in COLUMNS if c in features]
    values = features[columns].to_numpy(float)
    out = np.full(len(features), np.nan)
    for index in features.groupby("market", sort=False).indices.values():
        rows, x = features.iloc[index], values[index]
        made = rolling_estimates(
            rows, x, estimate=lambda past: fit_jump_model(past, penalty=penalty), rolling=rolling
        )
        cost = np.full((len(rows), 2), np.nan)
        for number, model in enumerate(made.values):
            mine = made.which == number
            cost[mine] = model.distances(x[mine])
        for chain in chains(rows):
            out[index[chain]] = online_lead(cost[chain], penalty)
    return pd.Series(out, features.index)
