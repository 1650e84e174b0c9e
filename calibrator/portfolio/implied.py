"""Implied volatility: a bracketed iteration that always ends, and says why where there is no solution."""

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibrator.portfolio.black76 import ROOT_2PI
from calibrator.portfolio.black76_kernels import FARTHEST, FAST, SMALLEST, exponential, logarithm, time_value

Array = NDArray[np.float64]
MOST_STEPS: Final = 100
LARGEST_SPREAD: Final = 64.0
"""Total volatility beyond which nothing is searched: an option is then worth its bound."""


class Solution(IntEnum):
    """How an inversion ended.

    Examples
    --------
    >>> Solution(1).name
    'BELOW_INTRINSIC'
    """

    SOLVED = 0
    BELOW_INTRINSIC = 1
    NO_TIME_VALUE = 2
    ABOVE_BOUND = 3
    EXPIRED = 4
    NOT_A_NUMBER = 5
    NOT_CONVERGED = 6


@dataclass(frozen=True, slots=True)
class Implied:
    """Volatilities, and how each was found.

    Attributes
    ----------
    volatility : numpy.ndarray
        NaN where there is none.
    solution : numpy.ndarray of int
        :class:`Solution` of each option.
    steps : numpy.ndarray of int
        Iterations used, at most ``MOST_STEPS``.

    Examples
    --------
    >>> Implied(np.array([0.5]), np.array([0]), np.array([4])).solved.tolist()
    [True]
    """

    volatility: Array
    solution: NDArray[np.int64]
    steps: NDArray[np.int64]

    @property
    def solved(self) -> NDArray[np.bool_]:
        """Where a volatility was found."""
        out: NDArray[np.bool_] = self.solution == Solution.SOLVED
        return out


def implied_volatility(
    value: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    time: ArrayLike,
    *,
    call: ArrayLike,
    discount: ArrayLike = 1.0,
) -> Implied:
    """Invert Black-76: the volatility at which an option has the given value.

    Newton steps on the logarithm of the out-of-the-money value (or of what is missing to its bound, above
    half of it), kept inside a bracket that a bisection halves whenever a step would leave it.

    Parameters
    ----------
    value : array_like
        Of the option, in the forward's currency.
    forward, strike, time : array_like
        As for :func:`~calibrator.portfolio.black76.price`; broadcast against each other.
    call : array_like of bool
    discount : array_like
        Factor from expiry to today.

    Returns
    -------
    Implied
        Nothing is raised for a quote that no volatility explains: its reason is in ``solution``. What comes
        out of a deep in-the-money value is as exact as the time value that the value still holds.

    References
    ----------
    Jaeckel, P. (2015). Let's be rational. Wilmott 75 (on what makes the inversion stable).

    Examples
    --------
    >>> found = implied_volatility([6.190426, 120.0, -1.0, 0.0], 100.0, 110.0, 0.25, call=True)
    >>> found.volatility.round(6).tolist(), [Solution(s).name for s in found.solution]
    ([0.5, nan, nan, nan], ['SOLVED', 'ABOVE_BOUND', 'BELOW_INTRINSIC', 'NO_TIME_VALUE'])
    """
    arrays = (np.asarray(x, np.float64) for x in (value, forward, strike, time, discount))
    v, f, k, t, d, calls = np.broadcast_arrays(*arrays, np.asarray(call, bool))
    sign = np.where(calls, 1.0, -1.0)
    shape = v.shape
    with np.errstate(invalid="ignore", divide="ignore"):
        undiscounted = np.where(d > 0, v / np.where(d > 0, d, 1.0), np.nan)
    out = np.empty(v.size)
    solution, steps = np.empty(v.size, np.int64), np.empty(v.size, np.int64)
    _invert(undiscounted.ravel(), f.ravel(), k.ravel(), t.ravel(), (sign.ravel(), out, solution, steps))
    return Implied(out.reshape(shape), solution.reshape(shape), steps.reshape(shape))


@numba.njit(cache=True, error_model="numpy")
def _verdict(value: float, forward: float, strike: float, time: float, sign: float) -> int:
    """Say whether a volatility can exist, before looking for it."""
    known = np.isfinite(value) and 0.0 < forward < np.inf and 0.0 < strike < np.inf
    if not known or not np.isfinite(time):
        return 5
    if time <= 0.0:
        return 4
    intrinsic = max(sign * (forward - strike), 0.0)
    if value < intrinsic:
        return 1
    if value == intrinsic:
        return 2
    return 3 if value - intrinsic >= min(forward, strike) else 0


@numba.njit(error_model="numpy", fastmath=FAST)
def _slope(forward: float, strike: float, spread: float) -> float:
    """Return the derivative of the time value by total volatility."""
    s = max(spread, SMALLEST)
    h = logarithm(forward / strike) / s
    square = min(h * h + 0.25 * s * s, FARTHEST * FARTHEST)
    slope: float = exponential(-0.5 * square) * math.sqrt(forward * strike) / ROOT_2PI
    return slope


@numba.njit(error_model="numpy")
def _solve(target: float, forward: float, strike: float) -> tuple[float, int]:
    """Find the total volatility with the given time value, within (0, bound).

    It ends where Newton's steps no longer shrink: there the value itself is rounding. More steps than the
    limit say that nothing was found.
    """
    bound = min(forward, strike)
    low, high = 0.0, LARGEST_SPREAD
    distance = abs(np.log(forward / strike))
    s = max(np.sqrt(2.0 * distance), target / bound, 1e-6)
    upper = target > 0.5 * bound
    before = np.inf
    for step in range(1, MOST_STEPS + 1):
        found = time_value(forward, strike, s)
        if found >= target:
            high = s
        else:
            low = s
        slope = _slope(forward, strike, s)
        if upper:
            left = bound - found
            move = left * np.log(left / (bound - target)) / slope if left > 0.0 and slope > 0.0 else np.nan
        else:
            move = found * np.log(target / found) / slope if found > 0.0 and slope > 0.0 else np.nan
        size = abs(move)
        if size <= 4e-16 * s or 0.5 * before <= size <= 1e-10 * s or high - low <= 4e-16 * high:
            return s, step
        following = s + move
        if not low < following < high:
            following, size = 0.5 * (low + high), np.inf
        s, before = following, size
    return np.nan, MOST_STEPS + 1


@numba.njit(error_model="numpy")
def _invert(
    value: Array,
    forward: Array,
    strike: Array,
    time: Array,
    rest: tuple[Array, Array, NDArray[np.int64], NDArray[np.int64]],
) -> None:
    sign, out, solution, steps = rest
    for i in range(len(out)):
        out[i], steps[i] = np.nan, 0
        solution[i] = _verdict(value[i], forward[i], strike[i], time[i], sign[i])
        if solution[i] == 0:
            intrinsic = max(sign[i] * (forward[i] - strike[i]), 0.0)
            spread, steps[i] = _solve(value[i] - intrinsic, forward[i], strike[i])
            out[i] = spread / np.sqrt(time[i])
            if steps[i] > MOST_STEPS:
                steps[i], solution[i] = MOST_STEPS, 6
