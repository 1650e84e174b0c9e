"""Forecast scenarios of a margin's need: how it moves over the next weeks, and what lies beyond it."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from calibrator.calibrate.plan_program import Excess

Array = NDArray[np.float64]
MEANS: Final = (1, 5, 22, 66)
"""Decisions of the averages that a need returns to, after Corsi's heterogeneous autoregression."""
RIDGE: Final = 1e-3
LEAST: Final = 200
"""Decisions before the regressions are run; until then a need is expected to stay, within 30 %."""
SPREAD: Final = 0.3
POINTS: Final = 9
LINES: Final = 12
GRID: Final = np.linspace(0.0, 6.0, 241)
"""Losses in units of the need."""


def expected_needs(
    need: Array, *, ahead: tuple[int, ...], window: int, refit: int = 30
) -> tuple[Array, Array]:
    """Mean and spread of the logarithm of the need, some decisions ahead, at every decision.

    For each distance ``k`` a regression of ``log u[t+k]`` on the means of ``log u`` over 1, 5, 22 and 66
    decisions, over the last ``window`` pairs known.

    Parameters
    ----------
    need : numpy.ndarray, shape (decisions,)
        Margin before the anti-procyclical layer (fraction, positive, finite).
    ahead : tuple of int
        Decisions ahead.
    window, refit : int
        Pairs in a regression, decisions between estimations.

    Returns
    -------
    mean, spread : numpy.ndarray, shape (decisions, len(ahead))
        Use only needs up to and including each decision.

    Examples
    --------
    >>> mean, spread = expected_needs(np.full(3, 0.1), ahead=(1, 3), window=100)
    >>> np.exp(mean[-1]).round(3).tolist(), spread[-1].tolist()
    ([0.1, 0.1], [0.3, 0.3])
    """
    logs = pd.Series(np.log(need))
    columns = [logs.rolling(n, min_periods=1).mean().to_numpy() for n in MEANS]
    regressors = np.column_stack([np.ones(len(need)), *columns])
    values = logs.to_numpy()
    mean = np.repeat(values[:, None], len(ahead), axis=1)
    spread = np.full(mean.shape, SPREAD)
    for cut in range(0, len(need), refit):
        rows = slice(cut, cut + refit)
        for j, k in enumerate(ahead):
            last = cut - k + 1
            if last < LEAST:
                continue
            past = slice(max(0, last - window), last)
            x, y = regressors[past], values[past.start + k : last + k]
            beta = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
            mean[rows, j] = regressors[rows] @ beta
            spread[rows, j] = np.std(y - x @ beta)
    return mean, spread


def excess_of(mean: Array, spread: Array, ratios: Array) -> Excess:
    """Return the expected loss beyond a margin for needs that are log-normal around their forecast.

    ``L = u r`` with the need ``u`` of a move and the loss in units of the need ``r``, drawn from the past;
    the expectation runs over nine scenarios of equal weight of ``u`` and all of ``r``. Tangents at
    twelve margins make it piecewise linear, from below.

    Parameters
    ----------
    mean, spread : numpy.ndarray, shape (moves,)
        Of ``log u``.
    ratios : numpy.ndarray
        Past losses over the need of their day.

    Raises
    ------
    ValueError
        There is no finite ratio.

    Examples
    --------
    >>> ratios = np.linspace(0.0, 1.2, 500)
    >>> excess_of(np.log([0.1]), np.array([0.0]), ratios).at(np.array([0.05])).round(3).tolist()
    [0.02]
    """
    known = np.sort(ratios[np.isfinite(ratios)])
    if not len(known):
        raise ValueError("ratios must hold at least one finite value")
    beyond = 1 - np.searchsorted(known, GRID, side="right") / len(known)
    tail = np.concatenate([np.cumsum(known[::-1])[::-1], [0.0]])
    first = np.searchsorted(known, GRID, side="right")
    over = tail[first] / len(known) - GRID * beyond
    needs = np.exp(mean[:, None] + spread[:, None] * ndtri((np.arange(POINTS) + 0.5) / POINTS))
    at = needs.mean(axis=1)[:, None] * np.geomspace(0.3, 4.0, LINES)
    scaled = at[:, :, None] / needs[:, None, :]
    value = (needs[:, None, :] * np.interp(scaled, GRID, over)).mean(axis=2)
    slope = -np.interp(scaled, GRID, beyond).mean(axis=2)
    return Excess(value - slope * at, slope)
