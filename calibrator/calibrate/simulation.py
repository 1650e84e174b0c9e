"""Filtered historical simulation: many paths of all markets together, from past standardised returns."""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dynamics:
    """GARCH(1,1) of every market: ``v' = omega + alpha r^2 + beta v`` per bar.

    Attributes
    ----------
    omega, alpha, beta : numpy.ndarray, shape (markets,)
        Not negative; in squared log returns per bar.
    variance : numpy.ndarray, shape (markets,)
        Of the next bar, known now (positive).

    Raises
    ------
    ValueError
        A value is negative, not finite, or of another length.
    """

    omega: Array
    alpha: Array
    beta: Array
    variance: Array

    def __post_init__(self) -> None:
        parts = (self.omega, self.alpha, self.beta, self.variance)
        if len({p.shape for p in parts}) != 1 or self.omega.ndim != 1:
            raise ValueError(f"parameters must be vectors of one length, were {[p.shape for p in parts]}")
        if not all(np.isfinite(p).all() and (p >= 0).all() for p in parts) or not (self.variance > 0).all():
            raise ValueError("parameters must be finite and not negative, and the variance positive")


def simulate_losses(dynamics: Dynamics, shocks: Array, draws: Integers) -> tuple[Array, Array]:
    """Largest losses of a long and a short over the simulated bars.

    Every path draws whole rows of past standardised returns, so that markets move together as they did.

    Parameters
    ----------
    dynamics : Dynamics
        Of ``markets`` markets.
    shocks : numpy.ndarray, shape (rows, markets)
        Past returns over their volatility (finite).
    draws : numpy.ndarray of int, shape (paths, steps)
        Rows of ``shocks``, e.g. from ``rng.integers``.

    Returns
    -------
    long, short : numpy.ndarray, shape (paths, markets)
        ``1 - lowest price / price now`` and ``highest price / price now - 1`` over the closes of the steps,
        at least 0. Every path is computed alone: the result does not depend on the number of threads.

    Raises
    ------
    ValueError
        Shapes disagree, a shock is not finite, or a draw is not a row of ``shocks``.

    References
    ----------
    Barone-Adesi, G., Giannopoulos, K. and Vosper, L. (1999). VaR without correlations for portfolios of
    derivative securities. Journal of Futures Markets 19.

    Examples
    --------
    >>> one = np.array([1.0])
    >>> quiet = Dynamics(omega=one * 1e-4, alpha=one * 0.0, beta=one * 0.0, variance=one * 1e-4)
    >>> long, short = simulate_losses(quiet, np.array([[-1.0], [2.0]]), np.array([[0, 0, 1], [1, 1, 0]]))
    >>> long.round(4).ravel().tolist(), short.round(4).ravel().tolist()
    ([0.0198, 0.0], [0.0, 0.0408])
    """
    markets = len(dynamics.variance)
    if shocks.ndim != 2 or shocks.shape[1] != markets or not np.isfinite(shocks).all():
        raise ValueError(f"shocks must be finite, of shape (rows, {markets}), were of shape {shocks.shape}")
    if draws.ndim != 2 or draws.min(initial=0) < 0 or draws.max(initial=0) >= len(shocks):
        raise ValueError(f"draws must be of shape (paths, steps) and lie in 0..{len(shocks) - 1}")
    low, high = np.empty((2, len(draws), markets))
    parts = (dynamics.omega, dynamics.alpha, dynamics.beta, dynamics.variance)
    _paths(
        *(np.ascontiguousarray(part, dtype=float) for part in parts),
        np.ascontiguousarray(shocks),
        np.ascontiguousarray(draws),
        low,
        high,
    )
    np.expm1(low, out=low)
    return np.abs(low, out=low), np.expm1(high, out=high)


@numba.njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def _paths(  # noqa: PLR0913, PLR0917 - a kernel takes its arrays one by one: views of one are not vectorised
    omega: Array,
    alpha: Array,
    beta: Array,
    begin: Array,
    shocks: Array,
    draws: Integers,
    low: Array,
    high: Array,
) -> None:
    """Fill in the lowest and highest log price of each path; no NaN can occur."""
    markets = len(omega)
    for path in numba.prange(draws.shape[0]):
        variance, level = begin.copy(), np.zeros(markets)
        least, most = np.zeros(markets), np.zeros(markets)
        for step in range(draws.shape[1]):
            row = draws[path, step]
            for m in range(markets):
                move = np.sqrt(variance[m]) * shocks[row, m]
                variance[m] = omega[m] + alpha[m] * move * move + beta[m] * variance[m]
                now = level[m] + move
                level[m] = now
                least[m] = now if now < least[m] else least[m]  # noqa: FURB136 - min() is not vectorised
                most[m] = now if now > most[m] else most[m]  # noqa: FURB136
        low[path, :] = least
        high[path, :] = most
