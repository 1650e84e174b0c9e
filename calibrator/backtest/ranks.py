"""Accounts of one market in heaps by rank, and what each is asked: compiled, see :mod:`heaps`."""

from typing import Final, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from calibrator.backtest.terms import Floats, Integers

PPM: Final = 1_000_000
WAITING, HEAPED, PENDING, ENDED, HELD = 0, 1, 2, 3, 4


class Path(NamedTuple):
    """One market's bars, ``(T,)``; per tier ``maintenance`` (ppm) and ``deduction``, ``(tiers, T)``."""

    start: Floats
    low: Floats
    high: Floats
    close: Floats
    growth: Floats
    carry: Floats
    depth: Floats
    maintenance: Integers
    floors: Integers
    deduction: Floats


class Book(NamedTuple):
    """Accounts (shape ``(n,)``), changed in place, and their heaps by rank (``(2 * tiers, n)``).

    ``by_size`` are the accounts from the largest quantity at the opening (``largest``) down, of which the
    first ``reached[k]`` may have reached tier ``k``.
    """

    quantity: Floats
    key: Floats
    entry: Floats
    tier: Integers
    opened: Integers
    closes: Integers
    breached: Integers
    forced: NDArray[np.bool_]
    state: Integers
    place: Integers
    heap: NDArray[np.int32]
    rank: Floats
    size: Integers
    queue: Integers
    batch: Integers
    held: Integers
    share: Floats
    by_size: Integers
    largest: Floats
    reached: Integers


@numba.njit(cache=True)
def multiplier(x):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201 - compiled
    """Return by what factor a displacement moves the price."""
    return 1.0 / (1.0 + x) if x >= 0 else 1.0 - x


@numba.njit(cache=True)
def level(price, margin, long, path, t):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Return what keys are compared with, by a flat margin."""
    m = margin / PPM
    factor = 1 - m if long else 1 + m
    return price * factor / path.growth[t] - path.carry[t]


@numba.njit(cache=True)
def terms_at(path, notional, t):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Margin and deduction, in bar ``t``, of the tier that a notional falls into."""
    k = np.searchsorted(path.floors, notional, side="right") - 1
    return path.maintenance[k, t] / PPM, path.deduction[k, t]


@numba.njit(cache=True)
def _below(path, book, a, price, t, margins):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Tell whether an account is below its requirement at a price of bar ``t``, by the margins of a bar."""
    quantity, key = book.quantity[a], book.key[a]
    m, spared = terms_at(path, abs(quantity) * price, margins)
    factor = 1 - m if quantity > 0 else 1 + m
    level = (price * factor + spared / quantity) / path.growth[t] - path.carry[t]
    return level < key if quantity > 0 else level > key


@numba.njit(cache=True)
def _put(book, h, i, a, rank):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    book.heap[h, i], book.rank[h, i], book.place[a] = a, rank, i


@numba.njit(cache=True)
def _up(book, h, i):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    a, rank = book.heap[h, i], book.rank[h, i]
    while i > 0 and rank < book.rank[h, (i - 1) // 2]:
        above = (i - 1) // 2
        _put(book, h, i, book.heap[h, above], book.rank[h, above])
        i = above
    _put(book, h, i, a, rank)


@numba.njit(cache=True)
def _down(book, h, i):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    a, rank, size = book.heap[h, i], book.rank[h, i], book.size[h]
    while 2 * i + 1 < size:
        child = 2 * i + 1
        if child + 1 < size and book.rank[h, child + 1] < book.rank[h, child]:
            child += 1
        if rank <= book.rank[h, child]:
            break
        _put(book, h, i, book.heap[h, child], book.rank[h, child])
        i = child
    _put(book, h, i, a, rank)


@numba.njit(cache=True)
def push(book, a):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Put an account into the heap of its tier and side."""
    long = book.quantity[a] > 0
    h = 2 * book.tier[a] + (0 if long else 1)
    _put(book, h, book.size[h], a, -book.key[a] if long else book.key[a])
    book.size[h] += 1
    book.state[a] = HEAPED
    _up(book, h, book.size[h] - 1)


@numba.njit(cache=True)
def remove(book, a):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Take an account out of its heap."""
    h, i = 2 * book.tier[a] + (0 if book.quantity[a] > 0 else 1), book.place[a]
    book.size[h] -= 1
    last = book.size[h]
    if i < last:
        moved = book.heap[h, last]
        _put(book, h, i, moved, book.rank[h, last])
        _up(book, h, i)
        _down(book, h, book.place[moved])


@numba.njit(cache=True)
def reach(path, book, price):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Move every account that may reach a higher tier at a price into that tier's heap."""
    for k in range(1, len(path.floors)):
        while book.reached[k] < len(book.by_size):
            if book.largest[book.reached[k]] * price < path.floors[k]:
                break
            a = book.by_size[book.reached[k]]
            book.reached[k] += 1
            if book.tier[a] >= k:
                continue
            if book.state[a] == HEAPED:
                remove(book, a)
            book.tier[a] = k
            if book.state[a] == HEAPED:
                push(book, a)


@numba.njit(cache=True)
def seen(path, book, a, prices, t):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Tell whether an account is below its requirement: at all, at the start, at it by the margins before."""
    begin, end = prices
    at_start = _below(path, book, a, begin, t, t)
    below = at_start or _below(path, book, a, end, t, t)
    return below, at_start, _below(path, book, a, begin, t, max(t - 1, 0))
