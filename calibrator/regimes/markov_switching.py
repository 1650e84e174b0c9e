r"""Two-state Markov-switching variance, filtered and never smoothed.

Returns are normal with mean zero and the variance of a hidden state :math:`s_t \in \{0, 1\}` that stays with
probability :math:`p_{ss}`. The parameters come from expectation-maximisation on past returns (the smoother of
its expectation step never leaves the estimation window); the state is then filtered forward.
"""

from dataclasses import dataclass
from typing import Final

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.regimes.rolling import Rolling, chains, rolling_estimates

Array = NDArray[np.float64]
ITERATIONS: Final = 300
TOLERANCE: Final = 1e-7
"""Smallest gain in mean log-likelihood that goes on."""
LEAST: Final = 100
"""Known returns that an estimation needs."""


@dataclass(frozen=True, slots=True)
class SwitchingVariance:
    """Parameters.

    Attributes
    ----------
    calm, turbulent : float
        Variance of a return in each state, ``calm < turbulent``.
    stay_calm, stay_turbulent : float
        Probability of staying.
    """

    calm: float
    turbulent: float
    stay_calm: float
    stay_turbulent: float

    @property
    def vector(self) -> Array:
        """``calm, turbulent, stay_calm, stay_turbulent``."""
        return np.array([self.calm, self.turbulent, self.stay_calm, self.stay_turbulent])


def fit_switching_variance(returns: Array) -> SwitchingVariance | None:
    """Estimate by expectation-maximisation.

    Parameters
    ----------
    returns : numpy.ndarray, shape (n,)
        Log returns in time order; missing ones are left out.

    Returns
    -------
    SwitchingVariance or None
        None with fewer than 100 known returns, without variation, or where one state vanishes.

    References
    ----------
    Hamilton, J. (1990). Analysis of time series subject to changes in regime. Journal of Econometrics 45.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> state = np.repeat([0, 1, 0, 1], 500)
    >>> made = fit_switching_variance(rng.normal(0, np.where(state, 0.05, 0.01)))
    >>> round(made.calm**0.5, 3), round(made.turbulent**0.5, 3), round(made.stay_calm, 2)
    (0.01, 0.051, 1.0)
    """
    y = returns[np.isfinite(returns)]
    square = y**2
    mean = float(square.mean()) if len(y) else 0.0
    if len(y) < LEAST or mean <= 0:
        return None
    scaled = square / mean
    parameters = np.array([0.4, 2.5, 0.97, 0.9])
    last = -np.inf
    for _ in range(ITERATIONS):
        level, moments = _expectation(scaled, parameters)
        if not np.isfinite(level) or moments[:2].min() <= 1:
            return None
        parameters = np.array(
            [
                max(moments[2] / moments[0], 1e-6),
                max(moments[3] / moments[1], 1e-6),
                moments[4] / (moments[4] + moments[5]),
                moments[7] / (moments[6] + moments[7]),
            ]
        )
        if level - last < TOLERANCE * len(y):
            break
        last = level
    low, high = sorted([(parameters[0], parameters[2]), (parameters[1], parameters[3])])
    if high[0] <= low[0]:
        return None
    return SwitchingVariance(float(low[0] * mean), float(high[0] * mean), float(low[1]), float(high[1]))


@numba.njit(cache=True, error_model="numpy")
def _step(before: float, square: float, p: Array) -> tuple[float, float, float]:
    """Take one Hamilton step: predicted and filtered probability of turbulence, log-likelihood.

    The likelihood lacks its constant. A missing return (NaN) only predicts.
    """
    predicted = before * p[3] + (1.0 - before) * (1.0 - p[2])
    if np.isnan(square):
        return predicted, predicted, 0.0
    calm = -0.5 * (np.log(p[0]) + square / p[0])
    turbulent = -0.5 * (np.log(p[1]) + square / p[1])
    top = max(calm, turbulent)
    a, b = (1.0 - predicted) * np.exp(calm - top), predicted * np.exp(turbulent - top)
    return predicted, b / (a + b), top + np.log(a + b)


@numba.njit(cache=True, error_model="numpy")
def _expectation(square: Array, p: Array) -> tuple[float, Array]:
    """Log-likelihood, and the sums that the maximisation step needs.

    Sums: occupancy of both states, squared returns in both, transitions 00, 01, 10, 11.
    """
    n = len(square)
    predicted, filtered = np.empty(n), np.empty(n)
    now, level = (1.0 - p[2]) / (2.0 - p[2] - p[3]), 0.0
    for t in range(n):
        predicted[t], filtered[t], gain = _step(now, square[t], p)
        now, level = filtered[t], level + gain
    out = np.zeros(8)
    later = filtered[n - 1]
    for t in range(n - 1, -1, -1):
        if t < n - 1:
            up = later / predicted[t + 1]
            down = (1.0 - later) / (1.0 - predicted[t + 1])
            f = filtered[t]
            out[4] += (1.0 - f) * p[2] * down
            out[5] += (1.0 - f) * (1.0 - p[2]) * up
            out[6] += f * (1.0 - p[3]) * down
            out[7] += f * p[3] * up
            later = f * (p[3] * up + (1.0 - p[3]) * down)
        out[0] += 1.0 - later
        out[1] += later
        out[2] += (1.0 - later) * square[t]
        out[3] += later * square[t]
    return level, out


@numba.njit(cache=True, error_model="numpy")
def _filter(square: Array, which: NDArray[np.int64], table: Array) -> Array:
    """Filter the probability of turbulence, with the parameters in force at each return; NaN before any."""
    out = np.full(len(square), np.nan)
    now = np.nan
    for t in range(len(square)):
        if which[t] < 0:
            continue
        p = table[which[t]]
        if np.isnan(now):
            now = (1.0 - p[2]) / (2.0 - p[2] - p[3])
        _, now, _ = _step(now, square[t], p)
        out[t] = now
    return out


def filtered_turbulence(returns: Array, parameters: SwitchingVariance) -> Array:
    """Probability of the turbulent state at each return, given returns up to it.

    Parameters
    ----------
    returns : numpy.ndarray, shape (n,)
        In time order; at a missing one the state is only predicted.
    parameters : SwitchingVariance

    References
    ----------
    Hamilton, J. (1989). A new approach to the economic analysis of nonstationary time series and the business
    cycle. Econometrica 57.

    Examples
    --------
    >>> made = SwitchingVariance(calm=1e-4, turbulent=16e-4, stay_calm=0.98, stay_turbulent=0.9)
    >>> filtered_turbulence(np.array([0.0, 0.05, 0.05, np.nan, 0.0]), made).round(2).tolist()
    [0.05, 1.0, 1.0, 0.9, 0.52]
    """
    which = np.zeros(len(returns), dtype=np.int64)
    return np.asarray(_filter(np.asarray(returns, float) ** 2, which, parameters.vector[None, :]))


def switching_variance(features: pd.DataFrame, *, steps: int, rolling: Rolling) -> pd.Series:
    """Forecast the variance over ``steps`` decisions from the filtered state of each market and phase.

    Parameters
    ----------
    features : pandas.DataFrame
        ``market, time, phase, log_return``, sorted by market and time.
    steps : int
        Horizon in decisions.
    rolling : Rolling
        Parameters are estimated on each market's past decisions only.

    Returns
    -------
    pandas.Series
        Variance per row, NaN before the first estimate.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> x = pd.DataFrame({"market": "A", "time": pd.date_range("2023-01-01", periods=400), "phase": 0})
    >>> x["log_return"] = rng.normal(0, np.where(np.arange(400) % 200 < 100, 0.01, 0.05))
    >>> made = switching_variance(x, steps=1, rolling=Rolling(window=365, start=250, refit=60))
    >>> (made**0.5).iloc[[248, 290, 390]].round(3).tolist()
    [nan, 0.01, 0.046]
    """
    out = np.full(len(features), np.nan)
    for index in features.groupby("market", sort=False).indices.values():
        rows = features.iloc[index]
        returns = rows["log_return"].to_numpy(float)
        made = rolling_estimates(rows, returns, estimate=fit_switching_variance, rolling=rolling)
        if not made.values:
            continue
        table = np.array([p.vector for p in made.values])
        for chain in chains(rows):
            which = made.which[chain]
            state = _filter(returns[chain] ** 2, which, table)
            out[index[chain]] = _expected(state, table[np.maximum(which, 0)], steps)
    return pd.Series(out, features.index)


def _expected(state: Array, p: Array, steps: int) -> Array:
    total = np.zeros(len(state))
    for _ in range(steps):
        state = state * p[:, 3] + (1 - state) * (1 - p[:, 2])
        total += (1 - state) * p[:, 0] + state * p[:, 1]
    return total
