"""What a margin adds for prices that nobody could trade at: an oracle that lags, and jumps between bars."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEAST: Final = 100
"""Fewest known jumps from which a quantile is taken."""


def oracle_lag(loss: Array, *, close_out: int, delay: float) -> Array:
    """Return what is lost while the oracle's price is ``delay`` bars old: the loss by the root of time.

    Parameters
    ----------
    loss : numpy.ndarray
        Tail loss over the close-out (fraction).
    close_out : int
        Bars (positive).
    delay : float
        Bars, not negative; may be a part of one.

    Examples
    --------
    >>> oracle_lag(np.array([0.10]), close_out=24, delay=6.0).round(4).tolist()
    [0.0118]
    """
    if close_out <= 0 or delay < 0:
        raise ValueError(f"close_out must be positive and delay not negative, were {close_out} and {delay}")
    more: Array = loss * (np.sqrt(1 + delay / close_out) - 1)
    return more


def jump_add_on(
    bars: pd.DataFrame, decisions: Sequence[pd.Timestamp], *, level: float, window: int
) -> dict[str, Array]:
    """Quantile of the jumps between a bar's close and the next bar's open, per side, known at each decision.

    A position may be sound at one close and short of its margin at the next open, with no price between. A
    jump across missing bars is a jump.

    Parameters
    ----------
    bars : pandas.DataFrame
        ``Bars`` of one market, sorted by time.
    decisions : sequence of pandas.Timestamp
        Rising.
    level : float
        Of the quantile.
    window : int
        Bars of history.

    Returns
    -------
    dict of str to numpy.ndarray
        ``long`` and ``short``, one value per decision (fraction, not negative); zero before there are 100.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=200, tz="UTC")
    >>> bars = pd.DataFrame({"time": t, "open": np.where(np.arange(200) % 2, 100.0, 98.0), "close": 100.0})
    >>> found = jump_add_on(bars, [t[-1]], level=0.99, window=200)
    >>> {side: values.round(4).tolist() for side, values in found.items()}
    {'long': [0.02], 'short': [0.0]}
    """
    if not 0 < level < 1 or window < LEAST:
        raise ValueError(
            f"level must lie between 0 and 1 and window be at least {LEAST}, were {level}, {window}"
        )
    jump = bars["open"].to_numpy(float)[1:] / bars["close"].to_numpy(float)[:-1] - 1
    times = pd.DatetimeIndex(bars["time"].iloc[1:])
    row = times.searchsorted(pd.DatetimeIndex(decisions), side="right") - 1
    out = {}
    for side, loss in (("long", -jump), ("short", jump)):
        rolling = pd.Series(np.maximum(loss, 0.0)).rolling(window, min_periods=LEAST)
        known = rolling.quantile(level, interpolation="higher").fillna(0.0).to_numpy(float)
        out[side] = np.where(row >= 0, known[np.maximum(row, 0)], 0.0)
    return out
