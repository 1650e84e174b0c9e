"""Which forecast is better: Diebold-Mariano, model confidence set, interval of a ratio of losses."""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t as student_t

Array = npt.NDArray[np.float64]
Kernel = Literal["rectangular", "bartlett"]


@dataclass(frozen=True, slots=True)
class DieboldMariano:
    """Outcome of a test of equal expected loss.

    Attributes
    ----------
    statistic : float
        Negative where the first forecast has the smaller mean loss.
    p_value : float
        Two-sided, Student-t with ``n - 1`` degrees of freedom.
    kernel : {"rectangular", "bartlett"}
        Weights of the autocovariances that were used: ``bartlett`` although ``rectangular`` was asked for
        where the latter's variance is not positive.
    """

    statistic: float
    p_value: float
    kernel: Kernel


def diebold_mariano(
    first: npt.ArrayLike, second: npt.ArrayLike, *, horizon: int, kernel: Kernel = "rectangular"
) -> DieboldMariano:
    r"""Test equal expected loss of two forecasts over ``horizon`` steps, with Harvey's correction.

    With the difference :math:`d_t` of the losses and its autocovariances :math:`g_j` (divisor n),
    :math:`V = (g_0 + 2 \sum_{j<h} w_j g_j) / n` and
    :math:`DM = \bar d / \sqrt{V} \cdot \sqrt{(n + 1 - 2h + h(h-1)/n) / n}`. The rectangular kernel (all
    :math:`w_j = 1`) can make :math:`V \le 0`; then the Bartlett kernel (:math:`w_j = 1 - j/h`) takes its
    place, whose variance never is negative. Losses that never differ give 0 with p-value 1, losses that
    differ by a constant give an infinite statistic.

    Parameters
    ----------
    first, second : array_like
        Losses of the two forecasts in time order, finite, of one length.
    horizon : int
        Steps ahead; errors less than ``horizon`` steps apart overlap.
    kernel : {"rectangular", "bartlett"}
        Weights of the autocovariances.

    Raises
    ------
    ValueError
        Lengths differ, a loss is not finite, or there are not more losses than ``2 * horizon``.

    References
    ----------
    Diebold, F. and Mariano, R. (1995). Comparing predictive accuracy. Journal of Business & Economic
    Statistics 13. Harvey, D., Leybourne, S. and Newbold, P. (1997). Testing the equality of prediction mean
    squared errors. International Journal of Forecasting 13.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> test = diebold_mariano(rng.exponential(1.0, 500), rng.exponential(1.3, 500), horizon=1)
    >>> round(test.statistic, 2), round(test.p_value, 4), test.kernel
    (-5.1, 0.0, 'rectangular')
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"losses must be two vectors of one length, shapes were {a.shape} and {b.shape}")
    if kernel not in {"rectangular", "bartlett"}:
        raise ValueError(f"kernel must be rectangular or bartlett, was {kernel!r}")
    n, d = len(a), a - b
    if horizon < 1 or n <= 2 * horizon:
        raise ValueError(f"needs horizon >= 1 and more than 2 * horizon losses, were {horizon} and {n}")
    if not np.isfinite(d).all():
        raise ValueError(f"losses must be finite, {int((~np.isfinite(d)).sum())} differences are not")
    centred = d - d.mean()
    covariance = np.array([centred[: n - j] @ centred[j:] / n for j in range(horizon)])
    bartlett = 1 - np.arange(horizon) / horizon
    variance = _long_run(covariance, np.ones(horizon) if kernel == "rectangular" else bartlett)
    if variance <= 0:
        kernel, variance = "bartlett", _long_run(covariance, bartlett)
    if variance <= (1e-14 * np.abs(d).max()) ** 2:  # constant up to rounding
        level = float(d.mean())
        return DieboldMariano(float(np.sign(level)) * np.inf if level else 0.0, 0.0 if level else 1.0, kernel)
    correction = (n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n
    statistic = float(d.mean() / np.sqrt(variance / n) * np.sqrt(correction))
    return DieboldMariano(statistic, float(2 * student_t.sf(abs(statistic), n - 1)), kernel)


def _long_run(covariance: Array, weights: Array) -> float:
    return float(covariance[0] + 2 * (weights[1:] * covariance[1:]).sum())


def model_confidence_set(losses: pd.DataFrame, *, block: int, draws: int = 500, seed: int = 0) -> pd.Series:
    """P-value of each model in the model confidence set (range statistic, stationary bootstrap).

    A model with a p-value above ``size`` belongs to the set that contains the best one with probability
    ``1 - size``. Models with the very same losses share one p-value.

    Parameters
    ----------
    losses : pandas.DataFrame
        One column per model, one row per time, finite.
    block : int
        Mean length of the bootstrap's blocks, at least the horizon in rows.
    draws, seed : int
        Bootstrap samples and their seed.

    Returns
    -------
    pandas.Series
        P-value per column; the best has 1.

    References
    ----------
    Hansen, P., Lunde, A. and Nason, J. (2011). The model confidence set. Econometrica 79.

    Examples
    --------
    >>> rng = np.random.default_rng(5)
    >>> losses = pd.DataFrame(rng.normal([1.0, 1.0, 1.3], 1.0, (500, 3)), columns=["a", "b", "c"])
    >>> (model_confidence_set(losses, block=5, draws=200, seed=1) > 0.10).to_dict()
    {'a': True, 'b': True, 'c': False}
    """
    from arch.bootstrap import MCS  # noqa: PLC0415 - importing arch takes seconds

    values = losses.to_numpy(float)
    if not np.isfinite(values).all():
        raise ValueError("losses must be finite")
    _, first, twin = np.unique(values, axis=1, return_index=True, return_inverse=True)
    if len(first) == 1:
        return pd.Series(1.0, losses.columns)
    distinct = np.sort(first)
    test = MCS(values[:, distinct], size=0.1, reps=draws, block_size=block, method="R", seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # last step of the elimination: one model, no spread
        test.compute()
    p_values = test.pvalues["Pvalue"]
    own = {int(distinct[i]): float(p) for i, p in p_values.items()}
    return pd.Series([own[int(first[t])] for t in np.ravel(twin)], losses.columns)


def ratio_interval(  # noqa: PLR0913 - two samples, their clusters, and the bootstrap
    losses: npt.ArrayLike,
    baseline: npt.ArrayLike,
    clusters: pd.Series,
    *,
    level: float = 0.90,
    block: int = 10,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of ``mean(losses) / mean(baseline)`` by a moving-block bootstrap of whole days.

    The rows of one day stay together, because markets fall together; ``block`` consecutive days stay
    together, because bad days follow each other.

    Parameters
    ----------
    losses, baseline : array_like
        One loss per row of the two forecasts, finite.
    clusters : pandas.Series
        Day of each row.
    level : float
        Probability of the interval.
    block, draws, seed : int
        Days per block (at most the days there are), samples, seed.

    Returns
    -------
    (float, float)
        Lower and upper end.

    References
    ----------
    Künsch, H. (1989). The jackknife and the bootstrap for general stationary observations. Annals of
    Statistics 17.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> day = pd.Series(np.repeat(np.arange(300), 4))
    >>> base = rng.exponential(1.0, 1200)
    >>> low, high = ratio_interval(0.8 * base + rng.normal(0, 0.1, 1200), base, day)
    >>> round(low, 2), round(high, 2)
    (0.8, 0.81)
    """
    if not 0 < level < 1 or block < 1:
        raise ValueError(f"level must be between 0 and 1 and block >= 1, were {level} and {block}")
    rows = pd.DataFrame({"loss": np.asarray(losses, float), "base": np.asarray(baseline, float)})
    if not np.isfinite(rows.to_numpy()).all():
        raise ValueError("losses must be finite")
    days = rows.groupby(clusters.to_numpy()).sum().to_numpy()
    block = min(block, len(days))
    total = np.concatenate([np.zeros((1, 2)), np.cumsum(days, axis=0)])
    blocks = total[block:] - total[:-block]
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(blocks), (draws, -(-len(days) // block)))
    sums = blocks[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
