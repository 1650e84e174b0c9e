"""The capital buffer (insurance fund): who could exhaust it, how fast, and what a simulation says."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Book:
    """Isolated positions at one moment, shape ``(accounts,)`` each.

    Attributes
    ----------
    market : numpy.ndarray of int
        Number of the account's market.
    direction : numpy.ndarray of int
        +1 long, -1 short.
    notional, equity : numpy.ndarray
        Quote units; equity is what is left before the venue loses.

    Raises
    ------
    ValueError
        Shapes differ, a notional is not positive, or an equity is negative or not finite.

    Examples
    --------
    >>> book = Book(np.array([0]), np.array([1]), np.array([100.0]), np.array([8.0]))
    >>> book.shortfalls(np.array([[[0.10, 0.0]]]), cost=0.01).round(2).tolist()
    [[3.0]]
    """

    market: Integers
    direction: Integers
    notional: Array
    equity: Array

    def __post_init__(self) -> None:
        if len({self.market.shape, self.direction.shape, self.notional.shape, self.equity.shape}) != 1:
            raise ValueError("market, direction, notional and equity must have one shape")
        if not (np.isfinite(self.notional).all() and (self.notional > 0).all()):
            raise ValueError("notional must be finite and positive")
        if not (np.isfinite(self.equity).all() and (self.equity >= 0).all()):
            raise ValueError("equity must be finite and not negative")
        if not np.isin(self.direction, (-1, 1)).all():
            raise ValueError("direction must be +1 or -1")

    def shortfalls(self, loss: Array, *, cost: float) -> Array:
        """Return what each account owes after each scenario, ``max(0, notional (loss + cost) - equity)``.

        Parameters
        ----------
        loss : numpy.ndarray, shape (scenarios, markets, 2)
            Loss of a long and of a short position until it is closed (fraction); must be finite.
        cost : float
            Fees and slippage of closing (fraction).
        """
        if not np.isfinite(loss).all():
            raise ValueError("loss must be finite in every scenario: an unknown loss is not zero")
        side = (1 - self.direction) // 2
        owed: Array = np.maximum(self.notional * (loss[:, self.market, side] + cost) - self.equity, 0.0)
        return owed


def cover(shortfalls: Array, *, count: int = 2) -> Array:
    """Sum of the ``count`` largest shortfalls of each scenario (Cover-2).

    Parameters
    ----------
    shortfalls : numpy.ndarray, shape (scenarios, accounts)

    References
    ----------
    CPMI-IOSCO (2012). Principles for financial market infrastructures, principle 4.

    Examples
    --------
    >>> cover(np.array([[1.0, 5.0, 3.0], [0.0, 0.0, 2.0]])).tolist()
    [8.0, 2.0]
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, was {count}")
    if shortfalls.shape[1] <= count:
        total: Array = shortfalls.sum(axis=1)
        return total
    largest: Array = np.partition(shortfalls, -count, axis=1)[:, -count:].sum(axis=1)
    return largest


def cover_with_crowd(shortfalls: Array, crowded: Flags, *, count: int = 2) -> Array:
    """Shortfall of the whole crowded side and of the ``count`` largest accounts outside it, per scenario.

    Parameters
    ----------
    shortfalls : numpy.ndarray, shape (scenarios, accounts)
    crowded : numpy.ndarray of bool, shape (accounts,)
        Accounts on the crowded side, which default together.

    Examples
    --------
    >>> cover_with_crowd(np.array([[1.0, 5.0, 3.0, 2.0]]), np.array([True, False, False, False])).tolist()
    [9.0]
    """
    return np.asarray(shortfalls[:, crowded].sum(axis=1) + cover(shortfalls[:, ~crowded], count=count))


def crowded_side(book: Book) -> Flags:
    """Return the accounts of the market and side with the largest open notional.

    Examples
    --------
    >>> book = Book(np.array([0, 0, 1]), np.array([1, -1, 1]), np.array([5.0, 7.0, 6.0]), np.zeros(3))
    >>> crowded_side(book).tolist()
    [False, True, False]
    """
    group = 2 * book.market + (book.direction < 0)
    return np.asarray(group == np.bincount(group, weights=book.notional).argmax())


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """How a fund fared in one event.

    Attributes
    ----------
    after : int or None
        Number of payments after which the fund was exhausted; None if it was not.
    lowest : float
        Lowest balance (negative: what was missing).
    paid : float
        Shortfalls less penalties over the whole event.
    """

    after: int | None
    lowest: float
    paid: float


def exhaustion(payments: Array, *, fund: float) -> Exhaustion:
    """Let a fund pay in the order of time.

    Parameters
    ----------
    payments : numpy.ndarray, shape (events,)
        Penalty received less shortfall paid, in order of settlement (quote units).
    fund : float
        Balance before (quote units, not negative).

    Examples
    --------
    >>> exhaustion(np.array([1.0, -6.0, -6.0, 9.0]), fund=10.0)
    Exhaustion(after=2, lowest=-1.0, paid=2.0)
    """
    if not fund >= 0:
        raise ValueError(f"fund must not be negative, was {fund}")
    balance = fund + np.cumsum(payments)
    below = np.flatnonzero(balance < 0)
    return Exhaustion(
        after=int(below[0]) if len(below) else None,
        lowest=float(balance.min(initial=fund)),
        paid=float(-payments.sum()) + 0.0,
    )


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulated quantile of the fund's worst draw-down in a year, and its interval: information only.

    A few years of losses cannot estimate a once-in-a-thousand-years figure; the interval says how little is
    known, not how safe the fund is.
    """

    level: float
    quantile: float
    low: float
    high: float
    information_only: bool = True


def simulated_drawdown(
    payments: Array, *, periods: int, block: int, draws: int, seed: int, level: float = 0.999
) -> Simulated:
    """Simulate years by stationary blocks of the observed payments and take the worst draw-down of each.

    Parameters
    ----------
    payments : numpy.ndarray, shape (n,)
        Net payment into the fund of each period (quote units).
    periods : int
        Periods in a year.
    block : int
        Periods drawn together, so that bad periods stay together.
    draws : int
        Simulated years, at least 100.
    seed : int
    level : float
        Of the quantile.

    Returns
    -------
    Simulated
        With the 95 % interval of the quantile, from the order statistics of the simulated years (Monte-Carlo
        error only) widened to what resampling halves of the history gives.

    Examples
    --------
    >>> quiet = simulated_drawdown(np.ones(50), periods=20, block=5, draws=100, seed=1)
    >>> quiet.quantile, quiet.information_only
    (0.0, True)
    """
    if len(payments) < 2 or draws < 100 or not 0 < block <= len(payments):
        raise ValueError(
            "needs two payments, 100 draws and a block within the history, were "
            f"{len(payments)}, {draws} and {block}"
        )
    rng = np.random.default_rng(seed)
    parts = [payments, *np.array_split(payments, 2)]
    worst = [_drawdowns(part, periods, min(block, len(part)), draws, rng) for part in parts]
    found = [float(np.quantile(w, level, method="higher")) for w in worst]
    ordered = np.sort(worst[0])
    error = 1.96 * np.sqrt(draws * level * (1 - level))
    low, high = (int(np.clip(np.floor(draws * level + s * error), 0, draws - 1)) for s in (-1, 1))
    return Simulated(level, found[0], min(float(ordered[low]), *found), max(float(ordered[high]), *found))


def _drawdowns(payments: Array, periods: int, block: int, draws: int, rng: np.random.Generator) -> Array:
    """Worst draw-down of each simulated year; blocks wrap around the end of the history."""
    count = -(-periods // block)
    starts = rng.integers(0, len(payments), (draws, count))
    at = (starts[:, :, None] + np.arange(block)) % len(payments)
    balance = np.cumsum(payments[at.reshape(draws, -1)[:, :periods]], axis=1)
    peak = np.maximum.accumulate(np.maximum(balance, 0.0), axis=1)
    worst: Array = (peak - balance).max(axis=1)
    return np.maximum(worst, 0.0)
