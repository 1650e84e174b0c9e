"""When isolated accounts are liquidated under margins that change over time, found by search.

The rule is :func:`calibrator.backtest.transition.step`. Where nothing that happens to one account changes
another's price, :func:`search_events` finds the same events without visiting every bar: a long position is
below maintenance margin ``m`` when ``price * (1 - m) < bankruptcy price``, whose right side never changes, so
the first such bar after the opening is found by descending a table of running minima. Where a position's
notional may exceed the first tier, the flat margin of the highest tier that it may reach asks at least what
its requirement asks: from the first bar below that, the position is followed bar by bar.
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
    bars where the owner never closes.
    """

    direction: Integers
    quantity: Floats
    entry_price: Floats
    collateral: Floats
    opened: Integers
    closes: Integers

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
    long it stays open; ``T`` for an account that may exceed the first tier, and is close to its margin.

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
    start = np.concatenate([prices.close[:1], prices.close[:-1]])
    highest = terms.tier(positions.quantity * max(start.max(), prices.low.max(), prices.high.max()))
    for direction in (1, -1):
        worst = np.minimum(start, prices.low) if direction > 0 else np.maximum(start, prices.high)
        for tier in range(len(terms.maintenance)):
            rows = np.flatnonzero((positions.direction == direction) & (highest == tier))
            if not len(rows):
                continue
            factor = 1 - direction * terms.maintenance[tier] / PPM
            bound = bankruptcy[rows] * direction
            bar = _first_below(worst * factor * direction, bound, positions.opened[rows] + 1, end[rows])
            if tier > 0:
                road = (start, worst, terms.maintenance / PPM, terms.deduction(), terms.notional_floor)
                held = (direction * positions.quantity[rows], bankruptcy[rows], bar, end[rows])
                breached[rows], self_inflicted[rows] = _followed(*road, *held)
                continue
            hit = bar >= 0
            at = bar[hit]
            now, before = (start[at] * f * direction < bound[hit] for f in (factor[at], factor[at - 1]))
            breached[rows] = bar
            self_inflicted[rows[hit]] = now & ~before
    settled = np.where(breached >= 0, np.minimum(breached + latency, last), end)
    return Events(breached, settled, self_inflicted)


@numba.njit(cache=True)
def _below(price, margins, spared, floors, quantity, bankruptcy):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - compiled
    """Tell whether a position is below its requirement at a price, by the margins of one bar."""
    k = np.searchsorted(floors, abs(quantity) * price, side="right") - 1
    level = price * (1 - margins[k] if quantity > 0 else 1 + margins[k]) + spared[k] / quantity
    return level < bankruptcy if quantity > 0 else level > bankruptcy


@numba.njit(cache=True)
def _followed(start, worst, margins, spared, floors, quantity, bankruptcy, begin, end):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0913, PLR0917
    """Follow positions from ``begin`` (-1 = never) to their first breach; tell whether a change did it."""
    breached, forced = np.full(len(begin), -1), np.zeros(len(begin), np.bool_)
    for i in range(len(begin)):
        t = begin[i]
        while 0 <= t <= end[i]:
            own = (floors, quantity[i], bankruptcy[i])
            at_start = _below(start[t], margins[:, t], spared[:, t], *own)
            if at_start or _below(worst[t], margins[:, t], spared[:, t], *own):
                forced[i] = at_start and not _below(start[t], margins[:, t - 1], spared[:, t - 1], *own)
                breached[i] = t
                break
            t += 1
    return breached, forced


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
