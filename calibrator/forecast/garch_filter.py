"""The conditional variance along a series at given parameters, and its expected sum over a horizon.

Compiled loops; each has its plain twin in the tests.
"""

import math
from typing import Final

import numba
import numpy as np
import numpy.typing as npt

from calibrator.forecast.garch_parameters import GarchParameters

MEAN_ABS_NORMAL: Final = math.sqrt(2.0 / math.pi)
LOG_RANGE: Final = 20.0
"""An EGARCH log variance is kept within this distance of the level it starts from."""


@numba.njit(cache=True)
def _filter_square(
    returns: npt.NDArray[np.float64], coefficients: npt.NDArray[np.float64], start: float
) -> npt.NDArray[np.float64]:
    """Return the variance known after each row; a missing return stands for its expectation."""
    mu, omega, alpha, gamma, beta = coefficients
    out = np.empty(len(returns))
    variance = start
    for t in range(len(returns)):
        shock = returns[t] - mu
        if math.isfinite(shock):
            weight = alpha + gamma if shock < 0.0 else alpha
            variance = omega + weight * shock * shock + beta * variance
        else:
            variance = omega + (alpha + 0.5 * gamma + beta) * variance
        out[t] = variance
    return out


@numba.njit(cache=True)
def _filter_log(
    returns: npt.NDArray[np.float64], coefficients: npt.NDArray[np.float64], start: float
) -> npt.NDArray[np.float64]:
    """Return the variance known after each row of an EGARCH; a missing return carries no shock."""
    mu, omega, alpha, gamma, beta = coefficients
    out = np.empty(len(returns))
    level = math.log(start)
    log_variance = level
    for t in range(len(returns)):
        shock = (returns[t] - mu) * math.exp(-0.5 * log_variance)
        log_variance = omega + beta * log_variance
        if math.isfinite(shock):
            log_variance += alpha * (abs(shock) - MEAN_ABS_NORMAL) + gamma * shock
        log_variance = min(max(log_variance, level - LOG_RANGE), level + LOG_RANGE)
        out[t] = math.exp(log_variance)
    return out


def filter_variance(
    returns: npt.NDArray[np.float64], parameters: GarchParameters, *, start: float
) -> npt.NDArray[np.float64]:
    """Run the recursion through a series, causally.

    Parameters
    ----------
    returns : ndarray, shape (n,)
        In the units of the parameters; NaN = missing: its square is replaced by its expectation.
    parameters : GarchParameters
        Of any specification.
    start : float
        Conditional variance of the first row.

    Returns
    -------
    ndarray, shape (n,)
        Variance of the *next* row, known at each row.

    Examples
    --------
    >>> p = GarchParameters("garch", "normal", mu=0.0, omega=0.1, alpha=0.1, gamma=0.0, beta=0.8)
    >>> filter_variance(np.array([2.0, np.nan]), p, start=1.0).round(3).tolist()
    [1.3, 1.27]
    """
    coefficients = np.array(
        [parameters.mu, parameters.omega, parameters.alpha, parameters.gamma, parameters.beta]
    )
    run = _filter_log if parameters.spec == "egarch" else _filter_square
    out: npt.NDArray[np.float64] = run(np.ascontiguousarray(returns, dtype=float), coefficients, start)
    return out


def shock_growth(
    returns: npt.NDArray[np.float64], parameters: GarchParameters, *, start: float, steps: int
) -> tuple[float, ...]:
    r"""Return :math:`\ln E[\exp(\beta^i g(z))]` for i = 0..steps-1 under the series' own residuals.

    :math:`g(z) = \alpha (|z| - \sqrt{2/\pi}) + \gamma z` is the shock of an EGARCH. The expectation is over
    the standardised residuals of ``returns``: it is finite, where it would be infinite under a Student-t.

    Examples
    --------
    >>> p = GarchParameters("egarch", "normal", mu=0.0, omega=0.0, alpha=0.2, gamma=0.0, beta=0.9)
    >>> [round(g, 4) for g in shock_growth(np.array([1.0, -1.0, 1.0]), p, start=1.0, steps=2)]
    [0.0367, 0.033]
    """
    known = np.concatenate([[start], filter_variance(returns, parameters, start=start)[:-1]])
    z = (returns - parameters.mu) / np.sqrt(known)
    z = z[np.isfinite(z)]
    shock = parameters.alpha * (np.abs(z) - MEAN_ABS_NORMAL) + parameters.gamma * z
    shock = np.clip(shock, -LOG_RANGE, LOG_RANGE)
    return tuple(float(np.log(np.mean(np.exp(parameters.beta**i * shock)))) for i in range(steps))


def horizon_variance(
    variance: npt.NDArray[np.float64],
    parameters: GarchParameters,
    *,
    steps: float,
    growth: tuple[float, ...] = (),
) -> npt.NDArray[np.float64]:
    r"""Sum the expected variance over the next ``steps`` rows; a fraction counts a part of its row.

    GARCH and GJR: :math:`E \sigma_{t+k}^2 = \omega + p\, E \sigma_{t+k-1}^2` with persistence p. EGARCH:
    :math:`E \sigma_{t+k}^2 = \exp(\omega \sum_{i<k-1} \beta^i) (\sigma_{t+1}^2)^{\beta^{k-1}}
    \prod_{i<k-1} E \exp(\beta^i g(z))`.

    Parameters
    ----------
    variance : ndarray, shape (n,)
        Variance of the next row, as from :func:`filter_variance`.
    parameters : GarchParameters
        Of any specification.
    steps : float
        Rows in the horizon.
    growth : tuple of float
        From :func:`shock_growth`, at least ``ceil(steps) - 1`` values; EGARCH only.

    Returns
    -------
    ndarray, shape (n,)

    Examples
    --------
    >>> p = GarchParameters("garch", "normal", mu=0.0, omega=0.1, alpha=0.1, gamma=0.0, beta=0.8)
    >>> horizon_variance(np.array([2.0]), p, steps=2.5).round(3).tolist()
    [4.805]
    """
    total = np.zeros_like(variance)
    expected = variance
    drift = 0.0
    for k in range(math.ceil(steps)):
        if k > 0 and parameters.spec == "egarch":
            drift = parameters.omega + parameters.beta * drift
            power = parameters.beta**k
            expected = np.exp(drift + power * np.log(variance) + sum(growth[:k]))
        elif k > 0:
            expected = parameters.omega + parameters.persistence * expected
        total = total + min(1.0, steps - k) * expected
    return total
