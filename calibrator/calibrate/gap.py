"""What a margin adds for prices that nobody could trade at: an oracle that lags, and jumps between bars."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEAST: Final = 100
"""Fewest known jumps from which a market's own quantile is taken."""


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
    bars: pd.DataFrame,
    decisions: Sequence[pd.Timestamp],
    *,
    level: float,
    window: int,
    peers: pd.DataFrame | None = None,
) -> dict[str, Array]:
    """Quantile of the jumps between a bar's close and the next bar's open, per side, known at each decision.

    A position may be sound at one close and short of its margin at the next open, with no price between. A
    jump across missing bars is a jump. A market that has fewer than 100 is charged the quantile of all its
    peers' together, or of its own few where that is more: an unknown market is not a smooth one.

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
    peers : pandas.DataFrame, optional
        ``Bars`` of the market's peers, itself included; default: it has none.

    Returns
    -------
    dict of str to numpy.ndarray
        ``long`` and ``short``, one value per decision (fraction, not negative); zero before there is any.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=200, tz="UTC")
    >>> bars = pd.DataFrame({"time": t, "open": np.where(np.arange(200) % 2, 100.0, 98.0), "close": 100.0})
    >>> found = jump_add_on(bars, [t[-1]], level=0.99, window=200)
    >>> {side: values.round(4).tolist() for side, values in found.items()}
    {'long': [0.02], 'short': [0.0]}
    >>> calm = bars.tail(50).assign(open=100.0)
    >>> both = pd.concat([bars.assign(market="A"), calm.assign(market="B")])
    >>> jump_add_on(calm, [t[-1]], level=0.99, window=200, peers=both)["long"].round(4).tolist()
    [0.02]
    """
    if not 0 < level < 1 or window < LEAST:
        raise ValueError(
            f"level must lie between 0 and 1 and window be at least {LEAST}, were {level}, {window}"
        )
    times, jump = _jumps(bars)
    at = pd.DatetimeIndex(decisions)
    row = times.searchsorted(at, side="right") - 1
    few = np.flatnonzero(row < LEAST - 1)
    every = [] if peers is None else [_jumps(own) for _, own in peers.groupby("market", sort=False)]
    out = {}
    for side, sign in (("long", -1.0), ("short", 1.0)):
        rolling = pd.Series(np.maximum(sign * jump, 0.0)).rolling(window, min_periods=LEAST)
        known = np.append(rolling.quantile(level, interpolation="higher").to_numpy(float), 0.0)
        values = known[row]
        for place in few:
            own = _largest(sign * jump[: row[place] + 1], level)
            pool = [j[max(0, n - window) : n] for t, j in every if (n := t.searchsorted(at[place], "right"))]
            values[place] = max(own, _largest(sign * np.concatenate(pool), level) if pool else 0.0)
        out[side] = values
    return out


def _jumps(bars: pd.DataFrame) -> tuple[pd.DatetimeIndex, Array]:
    """When each open was known, and by how much it differs from the close before it."""
    jump: Array = bars["open"].to_numpy(float)[1:] / bars["close"].to_numpy(float)[:-1] - 1
    return pd.DatetimeIndex(bars["time"].iloc[1:]), jump


def _largest(losses: Array, level: float) -> float:
    return max(0.0, float(np.quantile(losses, level, method="higher"))) if len(losses) else 0.0
