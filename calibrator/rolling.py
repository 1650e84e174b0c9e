"""Trailing sums and extremes in one compiled pass, the same bits whatever comes later.

A window that is not whole (the series is younger, a value is missing or infinite) has no value: NaN.
"""

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rolling_sums(values: Array, windows: Sequence[int]) -> Array:
    """Sum the last values over several windows, NaN where one of the values is missing.

    Differences of two running totals, which all windows share: a sum's error is at most one rounding of the
    total, so that sums far smaller than what came before them lose digits, but nothing accumulates.

    Parameters
    ----------
    values : numpy.ndarray, shape (n,)
        NaN or infinite = missing.
    windows : sequence of int
        At least 1 each.

    Returns
    -------
    numpy.ndarray, shape (windows, n)

    Raises
    ------
    ValueError
        A window below one.

    Examples
    --------
    >>> rolling_sums(np.array([1.0, 2.0, np.nan, 4.0, 5.0]), [1, 2]).tolist()
    [[1.0, 2.0, nan, 4.0, 5.0], [nan, 3.0, nan, nan, 9.0]]
    """
    for window in windows:
        _check(window)
    chosen = np.array(windows, np.int64)
    return np.asarray(_sums(np.ascontiguousarray(values, np.float64), chosen))


def rolling_sum(values: Array, window: int) -> Array:
    """Sum the last ``window`` values, shape (n,); see :func:`rolling_sums`.

    Examples
    --------
    >>> rolling_sum(np.array([1.0, 2.0, np.nan, 4.0, 5.0]), 2).tolist()
    [nan, 3.0, nan, nan, 9.0]
    """
    own: Array = rolling_sums(values, [window])[0]
    return own


def rolling_max(values: Array, window: int) -> Array:
    """Find the largest of the last ``window`` values, NaN where one of them is missing.

    Three comparisons per value whatever the window (van Herk, 1992).

    Parameters
    ----------
    values : numpy.ndarray, shape (n,)
        NaN or infinite = missing.
    window : int
        At least 1.

    Returns
    -------
    numpy.ndarray, shape (n,)

    Raises
    ------
    ValueError
        ``window`` below one.

    References
    ----------
    van Herk, M. (1992). A fast algorithm for local minimum and maximum filters on rectangular and octagonal
    kernels. Pattern Recognition Letters 13.

    Examples
    --------
    >>> rolling_max(np.array([3.0, 1.0, 2.0, np.nan, 5.0, 4.0]), 2).tolist()
    [nan, 3.0, 2.0, nan, nan, 5.0]
    """
    _check(window)
    return np.asarray(_maxima(np.ascontiguousarray(values, np.float64), window))


def rolling_min(values: Array, window: int) -> Array:
    """Find the smallest of the last ``window`` values, NaN where one is missing; see :func:`rolling_max`.

    Examples
    --------
    >>> rolling_min(np.array([3.0, 1.0, 2.0]), 2).tolist()
    [nan, 1.0, 1.0]
    """
    return -rolling_max(-values, window)


def _check(window: int) -> None:
    if window < 1:
        raise ValueError(f"window must be at least 1, was {window}")


@numba.njit(cache=True)
def _sums(values: Array, windows: NDArray[np.int64]) -> Array:
    n = len(values)
    out, total = np.empty((len(windows), n)), np.empty(n + 1)
    since = np.empty(n, np.int64)  # where the run of known values that ends here began
    total[0] = running = 0.0
    begin = 0
    for t in range(n):
        value = values[t]
        if np.isfinite(value):
            running += value
        else:
            begin = t + 1
        total[t + 1], since[t] = running, begin
    for k in range(len(windows)):
        short = min(windows[k] - 1, n)  # rows without a whole window
        out[k, :short] = np.nan
        ended, last, runs = out[k, short:], total[short + 1 :], since[short:]
        for first in range(len(ended)):  # rows and windows by where the window begins: vectorised
            ended[first] = last[first] - total[first] if runs[first] <= first else np.nan
    return out


@numba.njit(cache=True)
def _maxima(values: Array, window: int) -> Array:
    n = len(values)
    out, ahead = np.empty(n), np.empty(n)  # ahead: largest from here to the end of the block of one window
    for begin in range(0, n, window):
        largest = -np.inf
        for t in range(min(begin + window, n) - 1, begin - 1, -1):
            largest = max(largest, values[t])
            ahead[t] = largest
    whole = window - 1
    for begin in range(0, n, window):
        largest = -np.inf  # largest from the beginning of the block to here
        for t in range(begin, min(begin + window, n)):
            value = values[t]
            if not np.isfinite(value):
                whole = t + window
            largest = max(largest, value)
            if t >= whole:
                before = ahead[t + 1 - window]
                out[t] = max(largest, before)
            else:
                out[t] = np.nan
    return out
