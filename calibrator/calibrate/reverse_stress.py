"""Reverse stress test: the smallest joint move of all prices that exhausts the fund."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibrator.calibrate.buffer import Book

Array = NDArray[np.float64]
ROUNDS: Final = 100
FALL: Final = -1.0
"""No price falls by more than all of it."""


@dataclass(frozen=True, slots=True)
class ReverseStress:
    """The smallest move that was found.

    Attributes
    ----------
    move : numpy.ndarray, shape (markets,)
        Relative price moves.
    distance : float
        ``sqrt(move' covariance^-1 move)``: how many standard deviations away it is, jointly.
    shortfall : float
        What the accounts then owe together (quote units); at least the fund.
    """

    move: Array
    distance: float
    shortfall: float


def owed(book: Book, move: Array, *, cost: float) -> float:
    """Return what all accounts owe together after a joint move: convex in the move.

    Examples
    --------
    >>> book = Book(np.array([0]), np.array([1]), np.array([100.0]), np.array([10.0]))
    >>> owed(book, np.array([-0.25]), cost=0.0)
    15.0
    """
    return float(np.maximum(_net(book, move, cost), 0.0).sum())


def _net(book: Book, move: Array, cost: float) -> Array:
    net: Array = book.notional * (cost - book.direction * move[book.market]) - book.equity
    return net


def smallest_move(book: Book, covariance: Array, *, fund: float, cost: float) -> ReverseStress | None:
    """Find the smallest joint move, in standard deviations, after which the accounts owe the fund.

    What is owed is convex in the move, so its tangent at any move lies below it: the nearest move on the
    tangent's half-space exhausts the fund as well and is never farther away. Repeating this from many
    directions (every market alone, all together, the principal components, seeded random ones) descends to
    the nearest move of each; the nearest of them is returned.

    Parameters
    ----------
    book : Book
    covariance : numpy.ndarray, shape (markets, markets)
        Of the relative moves over the close-out; positive definite.
    fund : float
        Quote units, positive.
    cost : float
        Of closing (fraction).

    Returns
    -------
    ReverseStress or None
        None if no move found exhausts the fund (a long-only book can owe no more than its debt).

    Raises
    ------
    ValueError
        The covariance is not positive definite, or the fund is not positive.

    References
    ----------
    Breuer, T. et al. (2009). How to find plausible, severe, and useful stress scenarios. International
    Journal of Central Banking 5. Yuille, A. and Rangarajan, A. (2003). The concave-convex procedure. Neural
    Computation 15.

    Examples
    --------
    >>> book = Book(np.array([0, 1]), np.array([1, 1]), np.array([100.0, 100.0]), np.array([10.0, 10.0]))
    >>> found = smallest_move(book, np.diag([0.01, 0.01]), fund=10.0, cost=0.0)
    >>> np.abs(found.move).round(3).tolist(), round(found.distance, 3), round(found.shortfall, 3)
    ([0.2, 0.0], 2.0, 10.0)
    """
    if not fund > 0:
        raise ValueError(f"fund must be positive, was {fund}")
    try:
        np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError as error:
        raise ValueError("covariance must be positive definite") from error
    found: list[ReverseStress] = []
    for direction in _directions(covariance):
        start = _along(book, direction, fund, cost)
        if start is not None:
            found.append(_descend(book, covariance, start, fund, cost))
    return min(found, key=lambda f: f.distance) if found else None


def _directions(covariance: Array) -> Array:
    """List moves of about one standard deviation each."""
    volatility = np.sqrt(np.diag(covariance))
    _, vectors = np.linalg.eigh(covariance)
    random = np.random.default_rng(20_080_915).standard_normal((32, len(covariance)))
    rows = np.vstack([np.eye(len(covariance)), np.ones(len(covariance)), vectors.T / volatility, random])
    joint = covariance / volatility
    return np.vstack([rows * volatility, -rows * volatility, joint.T, -joint.T])


def _along(book: Book, direction: Array, fund: float, cost: float) -> Array | None:
    """First move along a direction that exhausts the fund; bisection, as what is owed grows along it."""
    low, high = 0.0, 1.0
    while owed(book, np.maximum(high * direction, FALL), cost=cost) < fund:
        low, high = high, 2 * high
        if high > 1e6:
            return None
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        if owed(book, np.maximum(middle * direction, FALL), cost=cost) < fund:
            low = middle
        else:
            high = middle
    move: Array = np.maximum(high * direction, FALL)
    return move


def _descend(book: Book, covariance: Array, move: Array, fund: float, cost: float) -> ReverseStress:
    """Move to the nearest point of the tangent's half-space until nothing is gained."""
    distance = _distance(move, covariance)
    for _ in range(ROUNDS):
        net = _net(book, move, cost)
        slopes = np.where(net > 0, -book.direction * book.notional, 0.0)
        gradient: Array = np.bincount(book.market, weights=slopes, minlength=len(move)).astype(np.float64)
        need = fund - float(np.maximum(net, 0.0).sum()) + float(gradient @ move)
        nearer = _nearest(gradient, need, covariance)
        if nearer is None or owed(book, nearer, cost=cost) < fund * (1 - 1e-9):
            break
        shorter = _distance(nearer, covariance)
        if shorter >= distance * (1 - 1e-12):
            break
        move, distance = nearer, shorter
    return ReverseStress(move, distance, owed(book, move, cost=cost))


def _nearest(gradient: Array, need: float, covariance: Array) -> Array | None:
    """Nearest move to zero with ``gradient @ move >= need`` and no price below zero.

    Prices that would fall below zero are held there, and the rest is solved again given them.
    """
    free = np.ones(len(gradient), bool)
    move = np.zeros(len(gradient))
    if need <= 0:
        return move
    for _ in range(len(gradient) + 1):
        held = ~free
        move[held] = FALL
        link = np.linalg.solve(covariance[np.ix_(held, held)], covariance[np.ix_(held, free)]).T
        centre = link @ move[held]
        spread = covariance[np.ix_(free, free)] - link @ covariance[np.ix_(held, free)]
        pull = spread @ gradient[free]
        slope = float(gradient[free] @ pull)
        left = need - float(gradient[held] @ move[held]) - float(gradient[free] @ centre)
        if slope <= 0 and left > 0:
            return None
        move[free] = centre + (pull * max(left, 0.0) / slope if left > 0 else 0.0)
        below = free & (move < FALL)
        if not below.any():
            return move
        free &= ~below
        if not free.any():
            move[:] = FALL
            return move if float(gradient @ move) >= need else None
    return None


def _distance(move: Array, covariance: Array) -> float:
    return float(np.sqrt(move @ np.linalg.solve(covariance, move)))
