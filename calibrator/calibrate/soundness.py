"""When the input of a decision is degraded, so that its margins may hold or rise but not fall."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.rolling import rolling_sum

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
SHARE: Final = 8
"""A price that stood still for this part of the time between decisions looks like calm: an eighth."""


def standing(prices: tuple[Array, Array, Array]) -> Integers:
    """Count, at each bar, how many bars in a row brought the last close again and nothing else.

    Parameters
    ----------
    prices : tuple of numpy.ndarray, shape (bars,)
        High, low and close of one market, oldest first.

    Returns
    -------
    numpy.ndarray of int, shape (bars,)
        0 where the price moved, or had a range.

    Examples
    --------
    >>> close = np.array([10.0, 11.0, 11.0, 11.0, 12.0])
    >>> standing((np.array([10.0, 11.5, 11.0, 11.0, 12.0]), close, close)).tolist()
    [0, 0, 1, 2, 0]
    """
    high, low, close = prices
    again = np.concatenate([[False], close[1:] == close[:-1]]) & (high == low) & (close == low)
    bars = np.arange(len(close))
    moved = np.maximum.accumulate(np.where(again, -1, bars)) if len(bars) else bars
    return np.asarray(bars - np.maximum(moved, 0), dtype=np.int64)


def frozen(prices: tuple[Array, Array, Array], *, cadence: int, stuck: int, month: int) -> Flags:
    """Flag bars at which a price stands still, or was stuck within the last month.

    A frozen price is the calmest there is: a variance that ends in it, or has a long one inside, is too
    small. A price that stands still at a bar is flagged from an eighth of the time between decisions on. That
    is the first bar of a daily decision, and the third hour of a daily decision on hourly bars. A market that
    has had no range up to then needs two bars at least, as its closes may be equal by chance. After ``stuck``
    bars the flag stays until the month of variances is whole again, as for missing bars.

    Parameters
    ----------
    prices : tuple of numpy.ndarray, shape (bars,)
        High, low and close of one market, oldest first.
    cadence : int
        Bars between decisions.
    stuck : int
        Bars that make a stuck feed.
    month : int
        Bars of the longest variance that decides.

    Returns
    -------
    numpy.ndarray of bool, shape (bars,)
        Known at the end of each bar.

    Examples
    --------
    >>> high, low = np.array([2.0, 2, 2, 2, 3, 3]), np.array([1.0, 2, 2, 2, 2, 2])
    >>> close = np.array([2.0, 2, 2, 2, 2.5, 2.5])
    >>> frozen((high, low, close), cadence=1, stuck=4, month=2).tolist()
    [False, True, True, True, False, False]
    >>> frozen((high, low, close), cadence=1, stuck=3, month=2).tolist()
    [False, True, True, True, True, False]
    """
    run = standing(prices)
    ranged = np.maximum.accumulate(prices[0] > prices[1]) if len(run) else np.zeros(0, np.bool_)
    least = min(max(1, cadence // SHARE), stuck)
    few = np.where(ranged, least, min(max(2, least), stuck))
    long = run >= stuck - ~ranged  # of closes alone the first of a run is one of it
    return np.asarray((run >= few) | within(long, month), dtype=np.bool_)


def lost(known: Flags, rows: int) -> Flags:
    """Flag decisions without an input that an earlier one had, until its window is whole again.

    Parameters
    ----------
    known : numpy.ndarray of bool, shape (decisions,)
        Whether the input was known at each decision, oldest first.
    rows : int
        Decisions that a window of the input spans; 1 where only its last value counts.

    Examples
    --------
    >>> lost(np.array([False, True, False, True, True]), 2).tolist()
    [False, False, True, True, False]
    """
    return within(~known & np.maximum.accumulate(known), rows) if len(known) else known


def silent(known_at: Integers, patience: Integers, decisions: Integers, *, window: int) -> Flags:
    """Flag decisions at which a feed that was heard before says nothing any more.

    Parameters
    ----------
    known_at : numpy.ndarray of int, shape (rows,)
        When each row could be known, rising; any unit of time, the same for all arguments.
    patience : numpy.ndarray of int, shape (rows,)
        How long the feed may say nothing after each row; see :func:`usual` and :func:`longest`.
    decisions : numpy.ndarray of int, shape (decisions,)
    window : int
        Time before a decision that is looked at: a row inside it is enough.

    Examples
    --------
    >>> rows = np.array([24, 48])
    >>> silent(rows, usual(rows, 24), np.array([0, 24, 48, 72, 96]), window=24).tolist()
    [False, False, False, True, True]
    """
    if not len(known_at):
        return np.zeros(len(decisions), np.bool_)
    last = np.searchsorted(known_at, decisions, side="right") - 1
    place = np.maximum(last, 0)
    age = decisions - known_at[place]
    return np.asarray((last >= 0) & (age >= window) & (age > patience[place]), dtype=np.bool_)


def usual(known_at: Integers, window: int) -> Integers:
    """Return how long a feed at a steady pace may say nothing: half as long again as it usually does.

    Zero while its pace is within ``window``, so that the first window without a row counts.

    Examples
    --------
    >>> usual(np.array([0, 96, 192]), 24).tolist(), usual(np.array([0, 24, 48]), 24).tolist()
    ([0, 144, 144], [0, 0, 0])
    """
    gaps = pd.Series(np.diff(known_at), dtype="float64")
    pace = np.concatenate([[0.0], gaps.expanding().median().to_numpy()])[: len(known_at)]
    return np.asarray(np.where(pace > window, 1.5 * pace, 0.0), dtype=np.int64)


def longest(known_at: Integers) -> Integers:
    """Return how long a feed of events may say nothing: as long as it ever did up to each row.

    Examples
    --------
    >>> longest(np.array([0, 96, 120])).tolist()
    [0, 96, 96]
    """
    return np.asarray(np.maximum.accumulate(np.diff(known_at, prepend=known_at[:1])), dtype=np.int64)


def within(flags: Flags, rows: int) -> Flags:
    """Flag every row that has a flag among its last ``rows`` rows, itself included.

    Examples
    --------
    >>> within(np.array([False, True, False, False]), 2).tolist()
    [False, True, True, False]
    """
    padded = np.concatenate([np.zeros(rows - 1), flags.astype(np.float64)])
    return np.asarray(rolling_sum(padded, rows)[rows - 1 :] > 0.5, dtype=np.bool_)
