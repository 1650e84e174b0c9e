"""Scores of variance, quantile and expected-shortfall forecasts; lower is better in all of them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def qlike(variance: ArrayLike, forecast: ArrayLike) -> NDArray[np.float64]:
    """QLIKE loss of variance forecasts, ``v / f - log(v / f) - 1``.

    Parameters
    ----------
    variance : array_like
        Realized variance (positive), any unit.
    forecast : array_like
        Forecast variance in the same unit (positive); broadcasts against ``variance``.

    Returns
    -------
    numpy.ndarray
        Zero where the forecast is right, positive elsewhere; steeper below than above.

    References
    ----------
    Patton, A. (2011). Volatility forecast comparison using imperfect volatility proxies.
    Journal of Econometrics 160.

    Examples
    --------
    >>> qlike([1.0, 2.0, 1.0], [1.0, 1.0, 2.0]).round(4).tolist()
    [0.0, 0.3069, 0.1931]
    """
    ratio = np.asarray(variance, float) / np.asarray(forecast, float)
    score: NDArray[np.float64] = ratio - np.log(ratio) - 1.0
    return score


def pinball(loss: ArrayLike, quantile: ArrayLike, *, level: float) -> NDArray[np.float64]:
    """Pinball loss of a quantile forecast.

    Parameters
    ----------
    loss, quantile : array_like
        Realized losses and forecast quantiles, same unit.
    level : float
        Between 0 and 1; 0.99 weighs a loss above the quantile 99 times.

    References
    ----------
    Koenker, R. and Bassett, G. (1978). Regression quantiles. Econometrica 46.

    Examples
    --------
    >>> pinball([0.10, 0.02], 0.05, level=0.99).round(4).tolist()
    [0.0495, 0.0003]
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, was {level}")
    gap = np.asarray(loss, float) - np.asarray(quantile, float)
    score: NDArray[np.float64] = np.where(gap > 0, level * gap, (level - 1) * gap)
    return score


def fissler_ziegel(
    loss: ArrayLike, quantile: ArrayLike, expected_shortfall: ArrayLike, *, level: float
) -> NDArray[np.float64]:
    """FZ0 loss of a joint quantile and expected-shortfall forecast (losses are positive numbers).

    ``1[x > q] (x - q) / ((1 - level) es) + q / es + log(es) - 1`` for loss ``x``.

    Parameters
    ----------
    loss, quantile, expected_shortfall : array_like
        Same unit; ``expected_shortfall`` positive.
    level : float
        Between 0 and 1.

    References
    ----------
    Patton, A., Ziegel, J. and Chen, R. (2019). Dynamic semiparametric models for expected shortfall.
    Journal of Econometrics 211, eq. 6.

    Examples
    --------
    >>> fissler_ziegel([0.10, 0.02], 0.05, 0.06, level=0.99).round(3).tolist()
    [80.353, -2.98]
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, was {level}")
    x, q = np.asarray(loss, float), np.asarray(quantile, float)
    es = np.asarray(expected_shortfall, float)
    score: NDArray[np.float64] = np.maximum(x - q, 0) / ((1 - level) * es) + q / es + np.log(es) - 1
    return score
