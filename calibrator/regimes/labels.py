"""What stress is: realized variance above the market's own trailing high quantile."""

import pandas as pd


def stress_threshold(features: pd.DataFrame, *, quantile: float, window: int, min_window: int) -> pd.Series:
    """Trailing quantile of each market's variance, known at each row.

    Parameters
    ----------
    features : pandas.DataFrame
        ``market, phase, trailing_variance``; rows of one market and phase in time order.
    quantile : float
        Level of the quantile (0.95: one decision in twenty is stress, in the long run).
    window, min_window : int
        Decisions of history, and fewest.

    Returns
    -------
    pandas.Series
        Variance per row, NaN before ``min_window`` decisions.

    Examples
    --------
    >>> x = pd.DataFrame({"market": "A", "phase": 0, "trailing_variance": [1.0, 2.0, 3.0, 4.0]})
    >>> stress_threshold(x, quantile=0.5, window=3, min_window=2).tolist()
    [nan, 1.5, 2.0, 3.0]
    """
    series = features.groupby(["market", "phase"], sort=False)["trailing_variance"]
    rolling = series.rolling(window, min_periods=min_window).quantile(quantile)
    return rolling.droplevel([0, 1]).reindex(features.index).rename("threshold")


def stress_label(future_variance: pd.Series, threshold: pd.Series) -> pd.Series:
    """1 where the variance that followed exceeded the threshold known before, NaN where either is unknown.

    Examples
    --------
    >>> stress_label(pd.Series([1.0, 3.0, float("nan")]), pd.Series([2.0, 2.0, 2.0])).tolist()
    [0.0, 1.0, nan]
    """
    known = future_variance.notna() & threshold.notna()
    return (future_variance > threshold).astype("float64").where(known).rename("stress")
