"""How much of a market's open interest may be closed together, as known at each decision."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]


def crowd_at(interest: pd.DataFrame, closes: pd.Series, *, share: float, max_age: pd.Timedelta) -> Array:
    """Return ``share`` of the open interest that was known last at each decision.

    Every contract has a long and a short side, so the open interest is what each side holds.

    Parameters
    ----------
    interest : pandas.DataFrame
        ``OpenInterest`` of one market.
    closes : pandas.Series
        Close at each decision, by time (rising); turns units into notional where that is all there is.
    share : float
        Between 0 and 1.
    max_age : pandas.Timedelta
        A row that was known earlier than this before a decision is stale.

    Returns
    -------
    numpy.ndarray, shape (decisions,)
        Quote units; NaN where nothing fresh was known.

    Raises
    ------
    ValueError
        ``share`` out of bounds.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=3, tz="UTC")
    >>> rows = pd.DataFrame({"time": t[:1], "known_at": t[:1] + pd.Timedelta("1h"), "open_interest": [10.0],
    ...                      "open_interest_notional": [np.nan]})
    >>> crowd_at(rows, pd.Series(100.0, t), share=0.5, max_age=pd.Timedelta("1D")).tolist()
    [nan, 500.0, nan]
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie between 0 and 1, was {share}")
    rows = interest.sort_values(["known_at", "time"], kind="stable")
    known = pd.DatetimeIndex(rows["known_at"])
    decisions = pd.DatetimeIndex(closes.index)
    at = known.searchsorted(decisions, side="right") - 1
    found = np.full(len(closes), np.nan)
    have = at >= 0
    have[have] = (decisions[have] - known[at[have]]) <= max_age
    units = rows["open_interest"].to_numpy(float)[at[have]] * closes.to_numpy(float)[have]
    notional = rows["open_interest_notional"].to_numpy(float)[at[have]]
    found[have] = share * np.where(np.isfinite(notional), notional, units)
    return found
