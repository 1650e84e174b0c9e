"""When isolated accounts are liquidated under margins that change over time: one rule, two engines.

:func:`step` is the rule: one account, one bar, no side effect. :func:`loop_events` applies it bar by bar in
plain Python and is the oracle. :func:`search_events` finds the same events without visiting every bar: a long
position is below maintenance margin ``m`` when ``price * (1 - m) < bankruptcy price``, whose right side never
changes, so the first such bar after the opening is found by descending a table of running minima.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from calibrator.backtest.terms import Floats, Integers, Prices, Terms
from calibrator.domain import PPM

Flags = npt.NDArray[np.bool_]


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


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account between two bars."""

    breached: int = -1
    settled: int = -1
    self_inflicted: bool = False


@dataclass(frozen=True, slots=True)
class Moment:
    """One bar as one account sees it.

    Attributes
    ----------
    bar : int
        Its number.
    start_price : float
        Close of the bar before.
    worst_price : float
        Low for a long position, high for a short one.
    maintenance_before, maintenance : int
        Maintenance margin in the bar before and in this one (ppm).
    """

    bar: int
    start_price: float
    worst_price: float
    maintenance_before: int
    maintenance: int


@dataclass(frozen=True, slots=True)
class Account:
    """One isolated position as :func:`step` needs it."""

    direction: int
    bankruptcy_price: float
    opened: int
    closes: int


Engine = Callable[[Prices, Terms, Positions, int], Events]


def is_below(account: Account, price: float, maintenance: int) -> bool:
    """Tell whether equity at ``price`` is below the maintenance margin of ``maintenance`` ppm.

    Long: ``price (1 - m) < b``; short: ``price (1 + m) > b``, with the bankruptcy price ``b``. Both are
    ``equity < m * quantity * price``, divided by the quantity.

    Examples
    --------
    >>> is_below(Account(1, 90.0, 0, 9), 94.0, 50_000), is_below(Account(-1, 110.0, 0, 9), 104.0, 50_000)
    (True, False)
    """
    if account.direction > 0:
        return price * (1 - maintenance / PPM) < account.bankruptcy_price
    return price * (1 + maintenance / PPM) > account.bankruptcy_price


def step(account: Account, state: AccountState, moment: Moment, *, latency: int) -> AccountState:
    """Move one account through one bar.

    A position is exposed from the bar after its opening. It breaches when equity is below maintenance margin
    at the bar's start (the close before, under the margin now in force) or at its worst price; then it is
    settled at the close ``latency`` bars later, whatever the price does meanwhile. A breach goes before the
    owner's own closing in the same bar. It is *self-inflicted* when the price at the start breaches the new
    margin but not the one before: the change liquidated, not the market.

    Parameters
    ----------
    account : Account
    state : AccountState
        Before the bar.
    moment : Moment
    latency : int
        Bars between breach and settlement, 0 = at the close of the same bar.

    Returns
    -------
    AccountState
        After the bar; settled states do not change.

    Examples
    --------
    >>> account, calm = Account(1, 90.0, 0, 9), Moment(1, 100.0, 99.0, 50_000, 50_000)
    >>> step(account, AccountState(), calm, latency=1)
    AccountState(breached=-1, settled=-1, self_inflicted=False)
    >>> step(account, AccountState(), replace(calm, maintenance=120_000), latency=0)
    AccountState(breached=1, settled=1, self_inflicted=True)
    """
    if state.settled >= 0:
        return state
    if state.breached < 0 and moment.bar > account.opened:
        at_start = is_below(account, moment.start_price, moment.maintenance)
        if at_start or is_below(account, moment.worst_price, moment.maintenance):
            before = is_below(account, moment.start_price, moment.maintenance_before)
            state = replace(state, breached=moment.bar, self_inflicted=at_start and not before)
    if state.breached >= 0:
        due = moment.bar >= state.breached + latency
        return replace(state, settled=moment.bar) if due else state
    return replace(state, settled=moment.bar) if moment.bar >= account.closes else state


def loop_events(prices: Prices, terms: Terms, positions: Positions, latency: int) -> Events:
    """Apply :func:`step` to every account and bar: slow, obvious, the oracle of :func:`search_events`."""
    last = len(prices.time) - 1
    bankruptcy = positions.bankruptcy_price()
    states = []
    for i in range(len(positions.opened)):
        account = Account(
            int(positions.direction[i]),
            float(bankruptcy[i]),
            int(positions.opened[i]),
            int(positions.closes[i]),
        )
        worst = prices.low if account.direction > 0 else prices.high
        margin = terms.maintenance[positions.tier[i]]
        state = AccountState()
        for bar in range(account.opened, last + 1):
            moment = Moment(
                bar,
                float(prices.close[max(bar - 1, 0)]),
                float(worst[bar]),
                int(margin[max(bar - 1, 0)]),
                int(margin[bar]),
            )
            state = step(account, state, moment, latency=latency)
        states.append(state if state.settled >= 0 else replace(state, settled=last))
    return Events(
        np.array([s.breached for s in states], dtype="int64"),
        np.array([s.settled for s in states], dtype="int64"),
        np.array([s.self_inflicted for s in states], dtype=bool),
    )


def search_events(prices: Prices, terms: Terms, positions: Positions, latency: int) -> Events:
    """Find the events of all positions by search; identical to :func:`loop_events`.

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
        for tier in np.unique(positions.tier):
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
    """Return per bound the first position in ``[begin, end]`` whose value is below it, -1 if none.

    Row ``j`` of the table holds minima over blocks of ``2**j``. Blocks without a hit are skipped from the
    largest down; what remains is the first hit.
    """
    table = [values]
    while 2 * (width := 1 << (len(table) - 1)) <= len(values):
        table.append(np.minimum(table[-1][:-width], table[-1][width:]))
    at = begin.copy()
    for j in range(len(table) - 1, -1, -1):
        fits = at + (1 << j) <= end + 1
        minimum = table[j][np.where(fits, at, 0)]
        at += np.where(fits & ~(minimum < bound), 1 << j, 0)
    found = at <= end
    return np.where(found, at, -1)
