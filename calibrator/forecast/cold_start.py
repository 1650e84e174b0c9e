"""What a market borrows while its own history is too short for a regression: the log-HAR of all markets."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.forecast.har import PLAIN, RIDGE

Array = NDArray[np.float64]
LEAST: Final = 200
"""Fewest outcomes of all markets together from which a core is borrowed."""


def borrowed_core(features: pd.DataFrame, own: pd.Series, *, steps: int, window: int = 1000) -> pd.Series:
    """Log-HAR of all markets together, for the rows that have no regression of their own.

    One regression per time over the outcomes of every market and phase that are known by then; as in
    :class:`calibrator.forecast.har.Har` the forecast is ``exp(fit + var(e) / 2)``. Because a common constant
    and slopes whose sum is below one stand for the own level, a newcomer is drawn towards its peers.

    Parameters
    ----------
    features : pandas.DataFrame
        Output of ``features.build_features``.
    own : pandas.Series
        HAR variance of the market itself, on the same index; NaN where it has none.
    steps, window : int
        Horizon in decisions; decisions in the regression.

    Returns
    -------
    pandas.Series
        Variance over the horizon where ``own`` is missing, the month's regressors are there (22 decisions),
        and another market has its own core at the same time; NaN elsewhere. Uses what is known at each row.

    Raises
    ------
    ValueError
        ``steps`` or ``window`` below one.

    Examples
    --------
    >>> rng, parts = np.random.default_rng(1), []
    >>> for market, rows in (("A", 400), ("B", 30)):
    ...     v = np.exp(rng.normal(-8, 0.5, rows))
    ...     t = pd.date_range("2024-01-01", periods=400, tz="UTC").as_unit("us")[-rows:]
    ...     x = {"market": market, "phase": 0, "time": t, "trailing_variance": v}
    ...     parts.append(pd.DataFrame(x | {f"har_{n}": np.log(v) for n in ("day", "week", "month")}))
    >>> x = pd.concat(parts, ignore_index=True)
    >>> own = x["trailing_variance"].where(x["market"] == "A")
    >>> borrowed_core(x, own, steps=1).groupby(x["market"]).count().to_dict()
    {'A': 0, 'B': 30}
    """
    if steps < 1 or window < 1:
        raise ValueError(f"steps and window must be at least 1, were {steps} and {window}")
    times, at = np.unique(features["time"].to_numpy(), return_inverse=True)
    regressors = np.column_stack([np.ones(len(features)), features[list(PLAIN)].to_numpy(float)])
    sums = _known_sums(features, regressors, at, len(times), steps)
    length = window * max(1, features["phase"].nunique())
    begin = np.maximum(np.arange(1, len(times) + 1) - length, 0)
    cross, moment, square, count = (total[1:] - total[begin] for total in sums)
    shared = np.zeros(len(times), np.bool_)
    shared[at[own.notna().to_numpy()]] = True
    out = np.full(len(features), np.nan)
    complete = np.isfinite(regressors).all(axis=1)
    rows = np.flatnonzero(own.isna().to_numpy() & complete & (shared & (count >= LEAST))[at])
    if len(rows):
        used, place = np.unique(at[rows], return_inverse=True)
        beta = np.linalg.solve(cross[used] + RIDGE * np.eye(len(PLAIN) + 1), moment[used, :, None])[..., 0]
        residual = (square[used] - (beta * moment[used]).sum(axis=1)) / count[used]
        log_mean = (regressors[rows] * beta[place]).sum(axis=1) + np.maximum(residual, 0.0)[place] / 2
        out[rows] = np.exp(log_mean)
    return pd.Series(out, features.index)


def _known_sums(
    features: pd.DataFrame, regressors: Array, at: NDArray[np.intp], times: int, steps: int
) -> tuple[Array, Array, Array, Array]:
    """Sum cross products, moments, squares and number of the outcomes known before each time, and after all.

    An outcome belongs to the row ``steps`` decisions before the one at whose time it is known.
    """
    trailing = features["trailing_variance"].to_numpy(float)
    log_variance = np.log(np.where(trailing > 0, trailing, np.nan))
    k = regressors.shape[1]
    cross, moment = np.zeros((times + 1, k, k)), np.zeros((times + 1, k))
    square, count = np.zeros(times + 1), np.zeros(times + 1)
    for rows in features.groupby(["market", "phase"], sort=False).indices.values():
        x, y, known_at = regressors[rows[:-steps]], log_variance[rows[steps:]], at[rows[steps:]] + 1
        known = np.isfinite(x).all(axis=1) & np.isfinite(y)
        x, y, known_at = x[known], y[known], known_at[known]  # one market's times are distinct
        cross[known_at] += x[:, :, None] * x[:, None, :]
        moment[known_at] += x * y[:, None]
        square[known_at] += y * y
        count[known_at] += 1.0
    return cross.cumsum(axis=0), moment.cumsum(axis=0), square.cumsum(axis=0), count.cumsum()
