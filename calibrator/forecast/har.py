"""Log-HAR: the heterogeneous autoregression that every other forecaster has to beat."""

from collections.abc import Sequence
from typing import Final, Self, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.forecast.base import VarianceForecaster

Array = NDArray[np.float64]
PLAIN: Final = ("har_day", "har_week", "har_month")
STRONG: Final = (*PLAIN, "quarter", "leverage_day", "leverage_week", "semivariance")
RANGE: Final = ("parkinson_day", "parkinson_week")
IMPLIED: Final = ("implied",)
RIDGE: Final = 1e-9


class Har:
    """Rolling log-HAR regression per market, refitted at every row.

    ``log v[t, t+h] = b0 + b1 log v_day + b2 mean log v_week + b3 mean log v_month + e``, estimated by least
    squares on the last ``window`` decisions whose future is known; the forecast is
    ``exp(fit + var(e) / 2)``. A horizon without any price change has no logarithm and is left out.

    Parameters
    ----------
    steps : int
        Horizon in decisions.
    window, least : int
        Decisions in the regression, and fewest with which it is run.
    columns : sequence of str
        Regressors among the feature columns.
    name : str
        How the model is called in the forecasts.
    fallback : VarianceForecaster, optional
        Forecasts the rows that this regression cannot: a regressor or enough history is missing.

    References
    ----------
    Corsi, F. (2009). A simple approximate long-memory model of realized volatility.
    Journal of Financial Econometrics 7.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> v = np.exp(rng.normal(-8, 0.5, 400))
    >>> x = pd.DataFrame({"market": "A", "phase": 0, "trailing_variance": v, "har_day": np.log(v)})
    >>> Har(steps=1, columns=["har_day"]).forecast(x).iloc[-1].round(6)
    np.float64(0.000334)
    """

    def __init__(
        self,
        *,
        steps: int,
        window: int = 1000,
        least: int = 200,
        columns: Sequence[str] = PLAIN,
        name: str = "har",
        fallback: VarianceForecaster | None = None,
    ) -> None:
        if steps < 1 or window < least:
            raise ValueError(f"steps must be >= 1 and window >= least, were {steps}, {window}, {least}")
        self.name = name
        self.steps = steps
        self.window = window
        self.least = least
        self.columns = list(columns)
        self.fallback = fallback

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:  # noqa: ARG002 - see forecast
        """Return itself: each row's regression uses the trailing variances known at that row."""
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        """Return the variance per row; each (market, phase) is a series of decisions of its own."""
        out = np.full(len(history), np.nan)
        columns = history[self.columns].to_numpy(float)
        trailing = history["trailing_variance"].to_numpy(float)
        log_variance = np.log(np.where(trailing > 0, trailing, np.nan))
        for rows in history.groupby(["market", "phase"], sort=False).indices.values():
            regressors = np.column_stack([np.ones(len(rows)), columns[rows]])
            future = np.full(len(rows), np.nan)
            future[: -self.steps] = log_variance[rows][self.steps :]
            log_mean = rolling_regression(
                regressors, future, lag=self.steps, window=self.window, least=self.least
            )
            out[rows] = np.exp(log_mean)
        own = pd.Series(out, history.index)
        return own if self.fallback is None else own.fillna(self.fallback.forecast(history))


def strong_har(*, steps: int, window: int = 1000, least: int = 200) -> Har:
    """Log-HAR with everything that bars and options tell, each row with the most regressors it has.

    Adds to :data:`PLAIN` the log variance of the quarter, the negative return over day and week in units of
    the month's volatility (leverage), the downside share of the week's variance (semivariance); where the
    source has ranges the Parkinson variance of day and week, and the implied variance where there is one.

    Parameters
    ----------
    steps, window, least : int
        As in :class:`Har`; a regressor counts as soon as ``least`` rows have it.

    References
    ----------
    Corsi, F. and Reno, R. (2012). Discrete-time volatility forecasting with persistent leverage effect.
    Journal of Business & Economic Statistics 30. Patton, A. and Sheppard, K. (2015). Good volatility, bad
    volatility. Review of Economics and Statistics 97.

    Examples
    --------
    >>> model, names = strong_har(steps=1), []
    >>> while isinstance(model, Har):
    ...     names, model = [*names, len(model.columns)], model.fallback
    >>> names
    [10, 9, 7, 3]
    """
    model: Har | None = None
    for columns in (PLAIN, STRONG, (*STRONG, *RANGE), (*STRONG, *RANGE, *IMPLIED)):
        model = Har(
            steps=steps, window=window, least=least, columns=columns, name="har_strong", fallback=model
        )
    return cast("Har", model)


def rolling_regression(regressors: Array, future: Array, *, lag: int, window: int, least: int) -> Array:
    """Log-mean forecast of a rolling least-squares regression of a logarithm.

    Parameters
    ----------
    regressors : numpy.ndarray, shape (rows, k)
        Known at their row; the first column is the constant.
    future : numpy.ndarray, shape (rows,)
        What follows each row; the value of row ``j`` is known at row ``j + lag``.
    lag, window, least : int
        Rows until a value is known, rows in the regression, fewest complete rows.

    Returns
    -------
    numpy.ndarray
        ``fit + residual variance / 2`` per row, NaN where there is not enough history.

    Examples
    --------
    >>> x = np.column_stack([np.ones(6), np.arange(6.0)])
    >>> rolling_regression(x, 2.0 * x[:, 1] + 1.0, lag=1, window=4, least=3).round(3).tolist()
    [nan, nan, nan, 7.0, 9.0, 11.0]
    """
    rows, k = regressors.shape
    known = np.isfinite(regressors).all(axis=1) & np.isfinite(future)
    x = np.where(known[:, None], regressors, 0.0)
    y = np.where(known, future, 0.0)
    cross = _prefix(x[:, :, None] * x[:, None, :])
    moment, square, count = _prefix(x * y[:, None]), _prefix(y * y), _prefix(known.astype(float))
    end = np.maximum(np.arange(rows) - lag + 1, 0)
    begin = np.maximum(end - window, 0)
    n = count[end] - count[begin]
    use = (n >= least) & np.isfinite(regressors).all(axis=1)
    out = np.full(rows, np.nan)
    if not use.any():
        return out
    end, begin = end[use], begin[use]
    a = cross[end] - cross[begin] + RIDGE * np.eye(k)
    b = moment[end] - moment[begin]
    beta = np.linalg.solve(a, b[..., None])[..., 0]
    residual = (square[end] - square[begin] - (beta * b).sum(axis=1)) / n[use]
    out[use] = (regressors[use] * beta).sum(axis=1) + np.maximum(residual, 0.0) / 2
    return out


def _prefix(values: Array) -> Array:
    """Sum the first 0, 1, 2... rows; differences of two of them are window sums."""
    return np.concatenate([np.zeros((1, *values.shape[1:])), np.cumsum(values, axis=0)])
