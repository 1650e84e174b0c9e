"""Anti-procyclical tools that set a margin's goal before the speed limits: each raises it, none lowers.

A margin that may rise by a fifth a day is late after a calm year. These tools keep it higher in calm times,
so that it has less to climb; what they cost and bring, alone and together, is the table of
``benchmark margin``.
"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEAST: Final = 30
"""Decisions before a mean over the past counts."""
MONTH: Final = 22


def long_run_pull(target: Array, *, weight: float, share: float, window: int) -> Array:
    """Raise a target towards its own long-run mean, on the log scale.

    ``max(m, share * exp((1 - weight) log m + weight * mean log m))`` with the mean over the last ``window``
    decisions. In calm times it prepares the margin for the climb; in stress the target itself is larger.

    Parameters
    ----------
    target : numpy.ndarray, shape (decisions,)
        Margin before the anti-procyclical layer (fraction, positive); NaN stays NaN.
    weight, share, window : float, float, int
        Weight of the mean (0 = off), share of the weighted mean kept, decisions of the mean.

    Returns
    -------
    numpy.ndarray, shape (decisions,)
        Never below ``target``; uses only targets up to and including each decision.

    Examples
    --------
    >>> target = np.repeat([0.20, 0.05], 60)
    >>> long_run_pull(target, weight=0.5, share=1.0, window=365).round(3)[[0, 59, 60, 119]].tolist()
    [0.2, 0.2, 0.099, 0.071]
    """
    if weight <= 0:
        return target
    logs = pd.Series(np.log(target))
    mean = logs.rolling(window, min_periods=LEAST).mean()
    pulled = share * np.exp((1 - weight) * logs + weight * mean)
    raised: Array = np.fmax(target, pulled.to_numpy())
    return raised


def exhaustible_buffer(target: Array, *, buffer: float, window: int) -> Array:
    """Ask a buffer on top that a rising margin may use up.

    ``max(m, (1 + buffer) min(m, mean m))`` with the mean over the last ``window`` decisions: in calm times
    the whole buffer stands on top; when the margin rises above its recent mean the buffer absorbs the rise.

    Parameters
    ----------
    target : numpy.ndarray, shape (decisions,)
        Margin before the anti-procyclical layer (fraction).
    buffer, window : float, int
        Buffer as a fraction of the margin (0 = off), decisions of the mean.

    References
    ----------
    Commission Delegated Regulation (EU) No 153/2013 (EMIR RTS), article 28 (1) (a).

    Examples
    --------
    >>> exhaustible_buffer(np.array([0.10, 0.10, 0.12, 0.16]), buffer=0.25, window=2).round(4).tolist()
    [0.125, 0.125, 0.1375, 0.175]
    """
    if buffer <= 0:
        return target
    mean = pd.Series(target).rolling(window, min_periods=1).mean().to_numpy()
    raised: Array = np.fmax(target, (1 + buffer) * np.fmin(target, mean))
    return raised


def stressed_weight(target: Array, *, weight: float, window: int) -> Array:
    """Mix the most stressed month of the past into the margin.

    ``max(m, (1 - weight) m + weight s)`` where ``s`` is the largest mean of ``m`` over 22 decisions within
    the last ``window``.

    Parameters
    ----------
    target : numpy.ndarray, shape (decisions,)
        Margin before the anti-procyclical layer (fraction).
    weight, window : float, int
        Weight of the stressed month (0 = off), decisions among which it is found.

    References
    ----------
    Commission Delegated Regulation (EU) No 153/2013 (EMIR RTS), article 28 (1) (b).

    Examples
    --------
    >>> target = np.repeat([0.05, 0.20, 0.05], 40)
    >>> stressed_weight(target, weight=0.25, window=365).round(4)[[0, 79, 119]].tolist()
    [0.05, 0.2, 0.0875]
    """
    if weight <= 0:
        return target
    month = pd.Series(target).rolling(MONTH, min_periods=1).mean()
    worst = month.rolling(window, min_periods=1).max().to_numpy()
    raised: Array = np.fmax(target, (1 - weight) * target + weight * worst)
    return raised
