"""Compiled parts of :mod:`calibrator.backtest.cross`: levels per bar and bounds per block."""

from typing import Final, NamedTuple

import numba
import numpy as np

from calibrator.backtest.terms import Floats, Integers

PPM: Final = 1_000_000
WIDTH: Final = 14
FAN: Final = 8
"""Blocks of one level that a block of the next one holds."""
DEEPEST: Final = 6


class Tables(NamedTuple):
    """Levels ``(T, columns)``; column ``first[asset] + 2 * tier`` is long, the next one short.

    They are those of a tier's flat margin. ``least`` and ``most`` hold one row per block, the levels of
    blocks one after the other from ``offset``; ``margin`` (ppm) and ``spared`` (the deduction, quote units)
    are ``(assets, tiers, T)``, ``peak`` is the highest price of each asset.
    """

    start: Floats
    close: Floats
    before: Floats
    least: Floats
    most: Floats
    offset: Integers
    first: Integers
    price: Floats
    growth: Floats
    carry: Floats
    margin: Integers
    floor: Integers
    spared: Floats
    peak: Floats


class Holdings(NamedTuple):
    """Holdings of all accounts, changed in place; those of account ``i`` begin at ``first[i]``.

    ``tier`` is the highest tier that each may reach.
    """

    quantity: Floats
    asset: Integers
    tier: Integers
    first: Integers


def bounds(start: Floats, close: Floats, depth: int) -> tuple[Floats, Floats, Integers]:
    """Return least and largest levels of every block, and where each level of blocks begins.

    Examples
    --------
    >>> rising = np.arange(9.0)[:, None]
    >>> least, most, offset = bounds(rising, rising + 1, 1)
    >>> least.ravel().tolist(), most.ravel().tolist(), offset.tolist()
    ([0.0, 8.0], [8.0, 9.0], [0, 2])
    """
    low, high = np.minimum(start, close), np.maximum(start, close)
    lows, highs, offset = [low[:0]], [high[:0]], [0]
    for _ in range(depth):
        pad = -len(low) % FAN
        low = np.pad(low, ((0, pad), (0, 0)), mode="edge").reshape(-1, FAN, low.shape[1]).min(axis=1)
        high = np.pad(high, ((0, pad), (0, 0)), mode="edge").reshape(-1, FAN, high.shape[1]).max(axis=1)
        lows.append(low)
        highs.append(high)
        offset.append(offset[-1] + len(low))
    return np.concatenate(lows), np.concatenate(highs), np.array(offset, "int64")


@numba.njit(cache=True)
def _excess(long, short, tables, held, key, i):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - compiled
    """Equity less requirement, over the index, with the levels of long and short holdings."""
    for k in range(held.first[i], held.first[i + 1]):
        column = tables.first[held.asset[k]] + 2 * held.tier[k]
        level = long[column] if held.quantity[k] > 0 else short[column + 1]
        key += held.quantity[k] * level
    return key


@numba.njit(cache=True)
def _tier(tables, a, notional):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    k = 0
    while k + 1 < tables.floor.shape[1] and tables.floor[a, k + 1] <= notional:
        k += 1
    return k


@numba.njit(cache=True)
def reach(tables, held, i):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Note the highest tier that each holding may reach; return whether one may leave the first."""
    large = False
    for k in range(held.first[i], held.first[i + 1]):
        a = held.asset[k]
        held.tier[k] = _tier(tables, a, abs(held.quantity[k]) * tables.peak[a])
        large = large or held.tier[k] > 0
    return large


@numba.njit(cache=True)
def _exact(tables, held, key, i, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Equity less requirement, over the index: at the start or the close of a bar, by the margins of one."""
    t, at_start, margins = at
    row = max(t - 1, 0) if at_start else t
    for k in range(held.first[i], held.first[i + 1]):
        a, quantity = held.asset[k], held.quantity[k]
        price = tables.price[row, a]
        tier = _tier(tables, a, abs(quantity) * price)
        m = tables.margin[a, tier, margins] / PPM
        factor = 1 - m if quantity > 0 else 1 + m
        level = (price * factor + tables.spared[a, tier, margins] / quantity) / tables.growth[t]
        key += quantity * (level - tables.carry[t, a])
    return key


@numba.njit(cache=True)
def _is_below(tables, held, key, i, t):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Tell whether an account is below its requirement at the start or the close of a bar."""
    if _exact(tables, held, key, i, (t, False, t)) < 0:
        return True
    return _exact(tables, held, key, i, (t, True, t)) < 0


@numba.njit(cache=True)
def _breach(tables, held, key, i, begin, end):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """First bar of ``[begin, end]`` in which account ``i`` is below its requirement, -1 if none.

    The flat margins ask at least what the requirement asks; who is below them and may leave the first tier is
    looked at again.
    """
    top, t, large = len(tables.offset) - 1, begin, reach(tables, held, i)
    while t <= end:
        level, width = 0, 1
        while level < top and t % (width * FAN) == 0:
            level += 1
            width *= FAN
        while level > 0:
            row = tables.offset[level - 1] + t // width
            if _excess(tables.least[row], tables.most[row], tables, held, key, i) >= 0:
                break
            level -= 1
            width //= FAN
        if level == 0:
            now = _excess(tables.close[t], tables.close[t], tables, held, key, i)
            below = now < 0 or _excess(tables.start[t], tables.start[t], tables, held, key, i) < 0
            if below and (not large or _is_below(tables, held, key, i, t)):
                return t
        t += width
    return -1


@numba.njit(cache=True)
def _value(tables, held, key, i, t):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Equity, notional and requirement of account ``i`` at the closes of bar ``t``."""
    growth, notional, required = tables.growth[t], 0.0, 0.0
    for k in range(held.first[i], held.first[i + 1]):
        a = held.asset[k]
        key += held.quantity[k] * (tables.price[t, a] / growth - tables.carry[t, a])
        value = abs(held.quantity[k]) * tables.price[t, a]
        notional += value
        tier = _tier(tables, a, value)
        required += value * (tables.margin[a, tier, t] / PPM) - tables.spared[a, tier, t]
    return growth * key, notional, required


@numba.njit(cache=True)
def _write(out, values):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    rows, written = out
    if written[0] < len(rows):
        for j in range(WIDTH):
            rows[written[0], j] = values[j]
    written[0] += 1


@numba.njit(cache=True)
def _reduce(tables, held, i, t, share, equity):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Close a share of every holding; return the key of the rest."""
    growth, key = tables.growth[t], equity / tables.growth[t]
    for k in range(held.first[i], held.first[i + 1]):
        a = held.asset[k]
        held.quantity[k] -= share * held.quantity[k]
        key -= held.quantity[k] * (tables.price[t, a] / growth - tables.carry[t, a])
    return key


@numba.njit(cache=True)
def _liquidate(tables, held, terms, out, key, at):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Settle a breach; return the key of what is left and whether the account has ended."""
    i, breached, t = at
    equity, notional, required = _value(tables, held, key, i, t)
    share = terms.close_factor
    if share < 1:
        whole = equity <= 0 or equity < terms.full_below * required
        share = 1.0 if whole or (1 - share) * notional < terms.dust else share
    closed = 0.0
    for k in range(held.first[i], held.first[i + 1]):
        closed += share * abs(held.quantity[k]) * tables.price[t, held.asset[k]]
    penalty = min(max(equity, 0.0), terms.penalty * closed)
    if reach(tables, held, i):
        at_start = _exact(tables, held, key, i, (breached, True, breached)) < 0
        before = _exact(tables, held, key, i, (breached, True, max(breached - 1, 0))) < 0
    else:
        begin, end = tables.start[breached], tables.before[breached]
        at_start = _excess(begin, begin, tables, held, key, i) < 0
        before = _excess(end, end, tables, held, key, i) < 0
    forced = at_start and not before
    k = held.first[i]
    payout, short = (max(equity, 0.0) - penalty, max(-equity, 0.0)) if share == 1 else (0.0, 0.0)
    first, price = share * held.quantity[k], tables.price[t, held.asset[k]]
    _write(
        out,
        (float(t), float(i), 0.0, float(breached), first, price, closed, penalty, payout, short, 0.0, 0.0,
         0.0, 1.0 if forced else 0.0),
    )  # fmt: skip
    if share == 1:
        for k in range(held.first[i], held.first[i + 1]):
            held.quantity[k] = 0.0
        return key, True
    return _reduce(tables, held, i, t, share, equity - penalty), False


@numba.njit(cache=True)
def _close(tables, held, out, key, i, t):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    equity, notional, _ = _value(tables, held, key, i, t)
    k = held.first[i]
    price, short = tables.price[t, held.asset[k]], max(-equity, 0.0)
    _write(
        out,
        (float(t), float(i), 2.0, -1.0, held.quantity[k], price, notional, 0.0, max(equity, 0.0), short, 0.0,
         0.0, 0.0, 0.0),
    )  # fmt: skip
    for j in range(held.first[i], held.first[i + 1]):
        held.quantity[j] = 0.0


@numba.njit(cache=True)
def run(tables, held, terms, out, accounts):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Replay account by account; ``accounts`` = keys (changed in place), ``opened``, ``closes``."""
    keys, opened, closes = accounts
    last = len(tables.growth) - 1
    for i in range(len(keys)):
        begin, ended = opened[i] + 1, False
        while not ended:
            t = _breach(tables, held, keys[i], i, begin, min(max(closes[i], begin - 1), last))
            if t < 0:
                break
            settled = min(t + terms.latency, last)
            keys[i], ended = _liquidate(tables, held, terms, out, keys[i], (i, t, settled))
            begin = settled + 1
            if not ended and closes[i] <= settled:
                _close(tables, held, out, keys[i], i, settled)
                ended = True
        if not ended and closes[i] <= last:
            _close(tables, held, out, keys[i], i, closes[i])


@numba.njit(cache=True)
def pay(rows, terms, fund, bars):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """Let the fund receive its share of penalties and pay shortfalls, in the order of the rows."""
    funds, k = np.empty(bars), 0
    for t in range(bars):
        while k < len(rows) and rows[k, 0] <= t:
            fund += rows[k, 7] * terms.fund_share
            rows[k, 10] = min(fund, rows[k, 9])
            fund -= rows[k, 10]
            rows[k, 12] = rows[k, 9] - rows[k, 10]
            k += 1
        funds[t] = fund
    return funds
