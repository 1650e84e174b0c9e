"""When isolated accounts are liquidated under margins that change over time, found by search.

The rule is :func:`calibrator.backtest.transition.step`. Where nothing that happens to one account changes
another's price, :func:`search_events` finds the same events without visiting every bar: a long position is
below maintenance margin ``m`` when ``price * (1 - m) < bankruptcy price``, whose right side never changes, so
the first such bar after the opening is found by descending a table of running minima.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np

from calibrator.backtest.terms import Flags, Floats, Integers, Prices, Terms
from calibrator.domain import PPM


@dataclass(frozen=True, slots=True)
class Positions:
    """Isolated positions of one market (shape ``(n,)`` each).

    ``direction`` is +1 long, -1 short; ``opened`` and ``closes`` are bar numbers, ``closes`` is the number of
    bars where the owner never closes; ``tier`` is fixed by the notional at entry.
    """

    direction: Integers
    quantity: Floats
    entry_price: Floats
    collateral: Floats
    opened: Integers
    closes: Integers
    tier: Integers

    def bankruptcy_price(self) -> Floats:
        """Return the price at which equity is zero."""
        return self.entry_price - self.direction * self.collateral / self.quantity


@dataclass(frozen=True, slots=True)
class Events:
    """What happened to each position: bar numbers, -1 for never.

    ``breached`` is the bar in which equity fell below maintenance margin, ``settled`` the bar at whose close
    the position ended (the last bar while it is still open).
    """

    breached: Integers
    settled: Integers
    self_inflicted: Flags


Engine = Callable[[Prices, Terms, Positions, int], Events]


def search_events(prices: Prices, terms: Terms, positions: Positions, latency: int) -> Events:
    """Find the events of all positions by search; identical to the plain loop over bars.

    Cost per tier and side: ``T log T`` for the table of running minima and ``log T`` per account, however
    long it stays open.

    Parameters
    ----------
    prices : Prices
    terms : Terms
    positions : Positions
    latency : int
        Bars between breach and settlement.

    Returns
    -------
    Events
    """
    count, last = len(positions.opened), len(prices.time) - 1
    bankruptcy = positions.bankruptcy_price()
    end = np.minimum(positions.closes, last)
    breached = np.full(count, -1, dtype="int64")
    self_inflicted = np.zeros(count, dtype=bool)
    for direction in (1, -1):
        for tier in range(len(terms.maintenance)):
            rows = np.flatnonzero((positions.direction == direction) & (positions.tier == tier))
            if not len(rows):
                continue
            factor = 1 - direction * terms.maintenance[tier] / PPM
            start = np.concatenate([prices.close[:1], prices.close[:-1]])
            worst = np.minimum(start, prices.low) if direction > 0 else np.maximum(start, prices.high)
            bound = bankruptcy[rows] * direction
            bar = _first_below(worst * factor * direction, bound, positions.opened[rows] + 1, end[rows])
            hit = bar >= 0
            at = bar[hit]
            now, before = (start[at] * f * direction < bound[hit] for f in (factor[at], factor[at - 1]))
            breached[rows] = bar
            self_inflicted[rows[hit]] = now & ~before
    settled = np.where(breached >= 0, np.minimum(breached + latency, last), end)
    return Events(breached, settled, self_inflicted)


def _first_below(values: Floats, bound: Floats, begin: Integers, end: Integers) -> Integers:
    """Return per bound the first position in ``[begin, end]`` whose value is below it, -1 if none."""
    found: Integers = _descended(_minima(values), bound, begin, end)
    return found


def _minima(values: Floats) -> Floats:
    """Row ``j`` holds minima over the ``2**j`` values from each position on, as far as they reach."""
    rows = max(len(values).bit_length(), 1)
    table = np.empty((rows, len(values)))
    table[0] = values
    for j in range(1, rows):
        half = 1 << (j - 1)
        table[j, : len(values) - half] = np.minimum(table[j - 1, : len(values) - half], table[j - 1, half:])
        table[j, len(values) - half :] = table[j - 1, len(values) - half :]
    return table


@numba.njit(cache=True)
def _descended(table: Floats, bound: Floats, begin: Integers, end: Integers) -> Integers:
    """Skip blocks without a hit, the largest that fit first; what remains is the first hit."""
    out = np.empty(len(bound), np.int64)
    for i in range(len(bound)):
        at, stop = begin[i], end[i] + 1
        for j in range(len(table) - 1, -1, -1):
            if at + (1 << j) <= stop and not table[j, at] < bound[i]:
                at += 1 << j
        out[i] = at if at < stop else -1
    return out
