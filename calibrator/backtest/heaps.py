"""Compiled replay of a venue's isolated accounts: one heap of bankruptcy prices per tier and side.

The key that orders an account never changes between two trades (see :mod:`calibrator.backtest.venue`), so a
bar only looks at the top of every heap: the cost is ``(accounts + events) log accounts + bars * tiers``. All
numbers are made by the same operations in the same order as in :func:`calibrator.backtest.transition.step`.

An account lies in the heap of the highest tier that its notional may have reached. The flat margin of that
tier asks at least what its requirement asks, so whom the heap spares is safe; above the first tier the rest
is looked at one by one, and who is safe returns to the heap.
"""

from typing import Final, NamedTuple

import numba

from calibrator.backtest.ranks import (
    ENDED,
    HEAPED,
    HELD,
    PENDING,
    WAITING,
    level,
    multiplier,
    push,
    reach,
    remove,
    seen,
    terms_at,
)
from calibrator.backtest.terms import Floats, Integers

WIDTH: Final = 14
"""Columns of the tape, the fields of ``Event`` in their order."""


class Terms(NamedTuple):
    """Numbers of ``Rules``; ``deleverage`` is 1.0 or 0.0."""

    latency: int
    penalty: float
    fund_share: float
    close_factor: float
    full_below: float
    dust: float
    deleverage: float
    recovery: float


class Tape(NamedTuple):
    """Where events go: ``written[0]`` counts them even beyond the rows; ``money`` = fund, displacement."""

    rows: Floats
    written: Integers
    money: Floats
    ring: Integers
    funds: Floats
    moved: Floats


@numba.njit(cache=True)
def _write(tape, t, a, kind, values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    n = tape.written[0]
    if n < len(tape.rows):
        row = tape.rows[n]
        row[0], row[1], row[2] = t, a, kind
        for j in range(WIDTH - 3):
            row[3 + j] = values[j]
    tape.written[0] += 1


@numba.njit(cache=True)
def _equity(path, book, t, a, price):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    return book.quantity[a] * (price - path.growth[t] * (path.carry[t] + book.key[a]))


@numba.njit(cache=True)
def _breach(path, book, tape, t, sold):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Move every account that is below its margin from its heap to the queue, after ``sold`` sales."""
    moved = multiplier(tape.money[1])
    reach(path, book, max(path.start[t], path.low[t], path.high[t], path.close[t]) * moved)
    for h in range(len(book.size)):
        if book.size[h] == 0:
            continue
        begin, end = path.start[t] * moved, (path.low[t] if h % 2 == 0 else path.high[t]) * moved
        if sold > 0:
            begin = end = path.close[t] * moved
        _sift(path, book, tape, h, (t, begin, end, sold == 0))


@numba.njit(cache=True)
def _sift(path, book, tape, h, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Take who is below its margin at one of two prices out of a heap."""
    t, begin, end, fresh = at
    long, margin, spared = h % 2 == 0, path.maintenance[h // 2], 0
    first, worst = (level(begin, margin[t], long, path, t), level(end, margin[t], long, path, t))
    prior = level(begin, margin[max(t - 1, 0)], long, path, t)
    while book.size[h] > 0:
        a = book.heap[h, 0]
        key = book.key[a]
        at_start = first < key if long else first > key
        if not at_start and not (worst < key if long else worst > key):
            break
        remove(book, a)
        before = prior < key if long else prior > key
        if h > 1:
            below, at_start, before = seen(path, book, a, (begin, end), t)
            if not below:
                book.batch[spared] = a
                spared += 1
                continue
        book.state[a], book.breached[a] = PENDING, t
        book.forced[a] = fresh and at_start and not before
        book.queue[tape.ring[1] % len(book.queue)] = a
        tape.ring[1] += 1
    for k in range(spared):
        push(book, book.batch[k])


@numba.njit(cache=True)
def _due(book, tape, t, terms, final):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Take what is due from the queue, in the order of accounts."""
    n, cells = 0, len(book.queue)
    while tape.ring[0] < tape.ring[1]:
        a = book.queue[tape.ring[0] % cells]
        if not (final or t >= book.breached[a] + terms.latency):
            break
        book.batch[n] = a
        n += 1
        tape.ring[0] += 1
    book.batch[:n].sort()
    return n


@numba.njit(cache=True)
def _sell(path, book, tape, t, terms, n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    price, flow = path.close[t] * multiplier(tape.money[1]), 0.0
    for k in range(n):
        a = book.batch[k]
        share = terms.close_factor
        if terms.close_factor < 1:
            value = abs(book.quantity[a]) * price
            margin, spared = terms_at(path, value, t)
            required = value * margin - spared
            equity = _equity(path, book, t, a, price)
            whole = equity <= 0 or equity < terms.full_below * required
            if whole or (1 - terms.close_factor) * value < terms.dust:
                share = 1.0
        book.share[k] = share
        flow += share * book.quantity[a]
    tape.money[1] += flow * path.close[t] / path.depth[t]


@numba.njit(cache=True)
def _rekey(path, book, t, a, price, equity):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    book.key[a] = (price - equity / book.quantity[a]) / path.growth[t] - path.carry[t]


@numba.njit(cache=True)
def _settle(path, book, tape, t, terms, k):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    a, share = book.batch[k], book.share[k]
    price = path.close[t] * multiplier(tape.money[1])
    quantity = book.quantity[a]
    notional = share * abs(quantity) * price
    equity = _equity(path, book, t, a, price)
    penalty = min(max(equity, 0.0), terms.penalty * notional)
    tape.money[0] += penalty * terms.fund_share
    breached, forced = book.breached[a], 1.0 if book.forced[a] else 0.0
    book.breached[a], book.forced[a] = -1, False
    if share < 1:
        closed = share * quantity
        book.quantity[a] = quantity - closed
        _rekey(path, book, t, a, price, equity - penalty)
        book.state[a] = HELD
        _write(
            tape,
            t,
            a,
            0,
            (float(breached), closed, price, notional, penalty, 0.0, 0.0, 0.0, 0.0, 0.0, forced),
        )
        return
    book.state[a] = ENDED
    short = max(-equity, 0.0)
    paid = min(tape.money[0], short)
    tape.money[0] -= paid
    place = tape.written[0]
    payout, loss = max(equity, 0.0) - penalty, short - paid
    _write(
        tape,
        t,
        a,
        0,
        (float(breached), quantity, price, notional, penalty, payout, short, paid, 0.0, loss, forced),
    )
    if loss > 0 and terms.deleverage > 0:
        loss = _deleverage(path, book, tape, t, a, (price, loss))
        if place < len(tape.rows):
            tape.rows[place, 12] = loss


@numba.njit(cache=True)
def _best(path, book, t, broke, price, bankruptcy):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Opposing account with the largest profit times leverage, -1 if there is none."""
    best, score = -1, 0.0
    for a in range(len(book.key)):
        if book.state[a] != HEAPED or (book.quantity[a] > 0) == (book.quantity[broke] > 0):
            continue
        direction = 1 if book.quantity[a] > 0 else -1
        own = path.growth[t] * (path.carry[t] + book.key[a])
        if direction * (bankruptcy - own) <= 0:
            continue
        profit = direction * (price - book.entry[a]) / book.entry[a]
        value = profit * price / (direction * (price - own))
        if best < 0 or value > score:
            best, score = a, value
    return best


@numba.njit(cache=True)
def _deleverage(path, book, tape, t, broke, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    price, loss = at
    bankruptcy = path.growth[t] * (path.carry[t] + book.key[broke])
    gap = abs(bankruptcy - price)
    rest = loss / gap
    while rest > 0:
        a = _best(path, book, t, broke, price, bankruptcy)
        if a < 0:
            break
        quantity = book.quantity[a]
        taken = min(abs(quantity), rest)
        equity = _equity(path, book, t, a, price) - taken * gap
        signed = taken if quantity > 0 else -taken
        rest -= taken
        loss -= taken * gap
        remove(book, a)
        whole = taken == abs(quantity)
        if whole:
            book.state[a] = ENDED
        else:
            book.quantity[a] = quantity - signed
            _rekey(path, book, t, a, price, equity)
            push(book, a)
        payout = equity if whole else 0.0
        _write(
            tape, t, a, 1,
            (-1.0, signed, price, taken * price, 0.0, payout, 0.0, 0.0, taken * gap, 0.0, 0.0),
        )  # fmt: skip
    return max(loss, 0.0)


@numba.njit(cache=True)
def _close(path, book, tape, t, n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    price = path.close[t] * multiplier(tape.money[1])
    book.batch[:n].sort()
    for k in range(n):
        a = book.batch[k]
        quantity = book.quantity[a]
        if book.state[a] == HEAPED:
            remove(book, a)
        book.state[a] = ENDED
        equity = _equity(path, book, t, a, price)
        short = max(-equity, 0.0)
        paid = min(tape.money[0], short)
        tape.money[0] -= paid
        _write(
            tape, t, a, 2,
            (-1.0, quantity, price, abs(quantity) * price, 0.0, max(equity, 0.0), short, paid, 0.0,
             short - paid, 0.0),
        )  # fmt: skip


@numba.njit(cache=True)
def _rounds(path, book, tape, t, terms, final):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Settle, move the price, look again, until nothing is due; return who was closed in part."""
    held = 0
    n = _due(book, tape, t, terms, final)
    while n > 0:
        _sell(path, book, tape, t, terms, n)
        for k in range(n):
            _settle(path, book, tape, t, terms, k)
            if book.state[book.batch[k]] == HELD:
                book.held[held] = book.batch[k]
                held += 1
        _breach(path, book, tape, t, n)
        n = _due(book, tape, t, terms, final)
    return held


@numba.njit(cache=True)
def _owners(path, book, tape, t, by_closes, held):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Close what its owners want closed; ``ring[2]`` counts the accounts looked at so far."""
    n = 0
    while tape.ring[2] < len(by_closes) and book.closes[by_closes[tape.ring[2]]] <= t:
        a = by_closes[tape.ring[2]]
        tape.ring[2] += 1
        if book.state[a] in (HEAPED, WAITING):
            book.batch[n] = a
            n += 1
    for k in range(held):
        if book.closes[book.held[k]] <= t:
            book.batch[n] = book.held[k]
            n += 1
    _close(path, book, tape, t, n)


@numba.njit(cache=True)
def run(path, book, tape, terms, by_opened, by_closes):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Replay all bars; ``by_opened`` and ``by_closes`` are the accounts in the order of those bars."""
    bars, first = len(path.close), 0
    for t in range(bars):
        _breach(path, book, tape, t, 0)
        held = _rounds(path, book, tape, t, terms, t == bars - 1)
        _owners(path, book, tape, t, by_closes, held)
        for k in range(held):
            if book.state[book.held[k]] == HELD:
                push(book, book.held[k])
        while first < len(by_opened) and book.opened[by_opened[first]] <= t:
            if book.state[by_opened[first]] == WAITING:
                push(book, by_opened[first])
            first += 1
        tape.funds[t], tape.moved[t] = tape.money[0], tape.money[1]
        tape.money[1] *= 1 - terms.recovery
