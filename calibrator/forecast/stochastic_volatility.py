"""Stochastic volatility by quasi-maximum likelihood: a latent log variance behind the realized one."""

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final, Self

import numba
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize

Array = NDArray[np.float64]
LEAST: Final = 250
"""Fewest decisions in an estimation."""
NOISE_FLOOR: Final = 0.05
MONTH: Final = 22
"""A variance below 5 % of its monthly mean is raised to it: the logarithm of a still day is no news."""
BOUNDS: Final = ((0.0, 7.0), (-9.0, 3.0), (-9.0, 3.0))
"""Of atanh(phi), log of the state's and of the noise's variance, all on a standardised series."""
STARTS: Final = ((2.0, -3.0, -1.0), (3.0, -5.0, -0.5))


@dataclass(frozen=True, slots=True)
class StateSpace:
    """Log variance as an AR(1) plus noise.

    ``y[t] = mean + x[t] + e[t]`` and ``x[t] = phi x[t-1] + u[t]`` with variances ``noise`` of ``e`` and
    ``shock`` of ``u``.

    Attributes
    ----------
    mean, phi, shock, noise : float
        Estimates, in units of log variance.
    scale : float
        Mean of realized variance over ``exp`` of the predicted log variance in the estimation window: it
        replaces a distribution for ``e``, which a squared return does not have in common with a range.

    Examples
    --------
    >>> round(StateSpace(mean=-9.0, phi=0.9, shock=0.19, noise=0.5, scale=1.0).stationary, 2)
    1.0
    """

    mean: float
    phi: float
    shock: float
    noise: float
    scale: float

    @property
    def stationary(self) -> float:
        """Unconditional variance of the latent log variance."""
        return self.shock / (1.0 - self.phi**2)


@numba.njit(cache=True)
def _filter(y: Array, phi: float, shock: float, noise: float) -> tuple[Array, Array, float]:
    """Run the Kalman filter: predicted mean and variance of the *next* state after each row, likelihood."""
    state, spread = np.empty(len(y)), np.empty(len(y))
    x, p = 0.0, shock / (1.0 - phi * phi)
    loglikelihood = 0.0
    for t in range(len(y)):
        if np.isfinite(y[t]):
            f = p + noise
            error = y[t] - x
            loglikelihood -= 0.5 * (np.log(2.0 * np.pi * f) + error * error / f)
            x += p / f * error
            p *= noise / f
        x, p = phi * x, phi * phi * p + shock
        state[t], spread[t] = x, p
    return state, spread, loglikelihood


def loglikelihood(log_variance: Array, *, mean: float, phi: float, shock: float, noise: float) -> float:
    """Gaussian log-likelihood of a series of log variances, NaN = not observed.

    Examples
    --------
    >>> round(loglikelihood(np.array([0.5, np.nan, -0.2]), mean=0.0, phi=0.9, shock=0.19, noise=0.5), 4)
    -2.2582
    """
    return float(_filter(np.asarray(log_variance, float) - mean, phi, shock, noise)[2])


def log_observed(variance: pd.Series) -> Array:
    """Log of realized variances, floored at 5 % of the trailing monthly mean; NaN where there is none.

    Examples
    --------
    >>> log_observed(pd.Series([1.0, 0.0, np.nan, 2.0])).round(2).tolist()
    [0.0, -3.69, nan, 0.69]
    """
    floor = NOISE_FLOOR * variance.rolling(MONTH, min_periods=1).mean()
    raised = np.maximum(variance.to_numpy(float), floor.to_numpy(float))
    return np.log(np.where(raised > 0, raised, np.nan))


def estimate(log_variance: Array) -> StateSpace | None:
    """Maximise the quasi-likelihood from two starts; None where it has no finite optimum.

    ``scale`` is left at 1: it needs the variances themselves.
    """
    mean, deviation = float(np.nanmean(log_variance)), float(np.nanstd(log_variance))
    if not deviation > 1e-8 * max(1.0, abs(mean)):
        return None
    y = (log_variance - mean) / deviation

    def loss(parameters: Array) -> float:
        return -float(_filter(y, np.tanh(parameters[0]), *np.exp(parameters[1:]))[2])

    fits = [minimize(loss, start, method="L-BFGS-B", bounds=BOUNDS) for start in STARTS]
    best = min(fits, key=lambda fit: float(fit.fun))
    if not (best.success and np.isfinite(best.fun)):
        return None
    shock, noise = np.exp(best.x[1:]) * deviation**2
    return StateSpace(mean, float(np.tanh(best.x[0])), float(shock), float(noise), 1.0)


class StochasticVolatility:
    """Filtered (never smoothed) log-variance state space per market.

    The variance ``k`` decisions ahead is ``scale * exp(m_k + (P_k - P_1) / 2)`` with the state's predicted
    mean and variance: the noise and the state's first step are in ``scale``, what the state's uncertainty
    adds beyond is log-normal.

    Parameters
    ----------
    steps : int
        Horizon in decisions.
    window : int
        Last rows with a variance that are used in an estimation.
    memory : mutable mapping, optional
        Market to :class:`StateSpace`; shared between the forecasters of a walk-forward so that a refit
        without optimum keeps the last good parameters.

    Attributes
    ----------
    failures : dict
        Market to the reason its last refit failed.

    References
    ----------
    Harvey, A., Ruiz, E. and Shephard, N. (1994). Multivariate stochastic variance models. Review of Economic
    Studies 61.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> x = pd.DataFrame({"market": "A", "realized_variance": 1e-4 * rng.chisquare(1, 500)})
    >>> model = StochasticVolatility(steps=2).fit(x, x["realized_variance"])
    >>> round(float(model.forecast(x).median()), 4)
    0.0002
    """

    def __init__(
        self, *, steps: int, window: int = 1000, memory: MutableMapping[str, StateSpace] | None = None
    ) -> None:
        if steps < 1 or window < LEAST:
            raise ValueError(f"steps must be >= 1 and window >= {LEAST}, were {steps} and {window}")
        self.name = "stochastic_volatility"
        self.steps = steps
        self.window = window
        self.memory: MutableMapping[str, StateSpace] = {} if memory is None else memory
        self.failures: dict[str, str] = {}

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:  # noqa: ARG002 - trailing rows suffice
        """Estimate every market's parameters from its last ``window`` decisions."""
        self.failures = {}
        for market, own in history.groupby("market", sort=False)["realized_variance"]:
            log_variance = log_observed(own)[-self.window :]
            if np.isfinite(log_variance).sum() < LEAST:
                continue
            fit = estimate(log_variance)
            if fit is None:
                kept = "kept the last good parameters" if market in self.memory else "no parameters"
                self.failures[str(market)] = f"no optimum: {kept}"
                continue
            predicted = _filter(log_variance - fit.mean, fit.phi, fit.shock, fit.noise)[0]
            ratio = own.to_numpy(float)[-self.window :][1:] / np.exp(fit.mean + predicted[:-1])
            scale = float(np.nanmean(ratio))
            self.memory[str(market)] = StateSpace(fit.mean, fit.phi, fit.shock, fit.noise, scale)
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        """Return the variance per row (squared log return over the horizon), NaN for an unfitted market."""
        out = pd.Series(np.nan, history.index, name=self.name)
        for market, rows in history.groupby("market", sort=False).indices.items():
            fit = self.memory.get(str(market))
            if fit is not None:
                log_variance = log_observed(history["realized_variance"].iloc[rows])
                out.iloc[rows] = self._horizon(log_variance, fit)
        return out

    def _horizon(self, log_variance: Array, fit: StateSpace) -> Array:
        mean, spread, _ = _filter(log_variance - fit.mean, fit.phi, fit.shock, fit.noise)
        first, total = spread.copy(), np.zeros(len(mean))
        for _ in range(self.steps):
            total += fit.scale * np.exp(fit.mean + mean + (spread - first) / 2)
            mean, spread = fit.phi * mean, fit.phi**2 * spread + fit.shock
        # Before the first observation there is nothing to filter.
        return np.where(np.isfinite(log_variance).cumsum() > 0, total, np.nan)
