"""Compiled requirement of many accounts: contracts are priced once, accounts only add up.

Accounts are independent of each other and each adds its positions in their order, so that the result has the
same bits however the accounts are shared out between threads. The plain twin is
`calibrator.portfolio.requirement`.
"""

import math
from typing import TypeAlias

import numba
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
CORE, BASIS, FUNDING, NAKED, CONCENTRATION = range(5)


@numba.njit(cache=True, nogil=True)
def group(account: Ints, given: tuple[Ints, Array], start: Ints, out: tuple[Ints, Array]) -> None:
    """Write where each account's positions begin, and contracts and quantities sorted by account (stable)."""
    for a in account:
        start[a + 1] += 1
    for a in range(1, len(start)):
        start[a] += start[a - 1]
    at = start[:-1].copy()
    for i in range(len(account)):
        a = account[i]
        out[0][at[a]], out[1][at[a]] = given[0][i], given[1][i]
        at[a] += 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _form(e: Array, touched: Ints, count: int, bounds: tuple[Array, Array]) -> float:
    """Return the larger of the quadratic form of all directions, of the falling and of the rising side."""
    low, high = bounds
    whole = falls = rises = 0.0
    for i in range(count):
        a = e[touched[i]]
        whole += a * a
        falls += a * a if a > 0.0 else 0.0
        rises += a * a if a < 0.0 else 0.0
        for j in range(i):
            b = e[touched[j]]
            if a * b > 0.0:
                term = 2.0 * a * b * high[touched[i], touched[j]]
                whole += term
                falls += term if a > 0.0 else 0.0
                rises += term if a < 0.0 else 0.0
            else:
                whole += 2.0 * a * b * low[touched[i], touched[j]]
    return math.sqrt(max(whole, falls, rises, 0.0))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _extremes(profit: Array, rising: NDArray[np.int8]) -> tuple[float, float]:
    """Return the worst loss where the price rises or stays, and where it falls or stays; not negative."""
    up = down = 0.0
    for s in range(len(profit)):
        loss = -profit[s]
        if rising[s] >= 0:
            up = max(up, loss)
        if rising[s] <= 0:
            down = max(down, loss)
    return up, down


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _tiers(size: float, floors: Array, steps: Array) -> float:
    total = 0.0
    for t in range(len(floors)):
        if size > floors[t]:
            total += (size - floors[t]) * steps[t]
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _close(
    out: Array,
    touched: Ints,
    count: int,
    work: tuple[Array, Array, Array, Array, Array],
    world: tuple[NDArray[np.int8], tuple[Array, Array], tuple[Array, Array, Array], tuple[Array, Array]],
) -> None:
    """Write one account's core and add-ons from what its positions added up to, and clear that away."""
    profit, nets, e, gross, net = work
    rising, bounds, charged, tiers = world
    both = 0.0
    for i in range(count):
        u = touched[i]
        up, down = _extremes(profit[u], rising[u])
        both += min(up, down)
        e[u] = down - up
        naked = max(-nets[u, 0], 0.0) + max(-nets[u, 1], 0.0)
        out[BASIS] += charged[0][u] * 0.5 * max(gross[u] - abs(net[u]), 0.0)
        out[FUNDING] += charged[1][u] * abs(nets[u, 2])
        out[NAKED] += charged[2][u] * naked
        out[CONCENTRATION] += _tiers(max(abs(net[u]), naked), tiers[0][u], tiers[1][u])
    out[CORE] = both + _form(e, touched, count, bounds)
    for i in range(count):
        u = touched[i]
        profit[u] = 0.0
        nets[u] = 0.0
        gross[u] = net[u] = 0.0


@numba.njit(cache=True, nogil=True, error_model="numpy")
def requirements(
    book: tuple[Ints, Ints, Array],
    contracts: tuple[Ints, Ints, Ints, Array, Array, Array, Ints],
    world: tuple[NDArray[np.int8], tuple[Array, Array], tuple[Array, Array, Array], tuple[Array, Array]],
    span: tuple[int, int],
    out: Array,
) -> None:
    """Write core and add-ons of the accounts from ``span[0]`` to ``span[1]``, shape (accounts, 5).

    ``book``: what :func:`group` wrote. ``contracts``:
    underlying, bucket, column of the net (calls, puts, perpetuals, others), gains (contracts, scenarios),
    exposure, notional, underlying of each bucket. ``world``: sign of each move (underlyings, scenarios),
    correlation bounds, rates, concentration tiers.
    """
    start, which, quantity = book
    underlying, bucket, column, gains, exposure, notional, owner = contracts
    underlyings, states = world[0].shape
    profit, nets, e = np.zeros((underlyings, states)), np.zeros((underlyings, 4)), np.zeros(underlyings)
    gross, net = np.zeros(underlyings), np.zeros(underlyings)
    touched, buckets = np.empty(underlyings, np.int64), np.empty(len(owner), np.int64)
    seen, used, held = np.full(underlyings, -1), np.full(len(owner), -1), np.zeros(len(owner))
    for a in range(span[0], span[1]):
        count = filled = 0
        for i in range(start[a], start[a + 1]):
            c, q = which[i], quantity[i]
            u, b = underlying[c], bucket[c]
            if seen[u] != a:
                seen[u] = a
                touched[count] = u
                count += 1
            if used[b] != a:
                used[b] = a
                buckets[filled] = b
                filled += 1
            row, own = profit[u], gains[c]
            for s in range(states):
                row[s] += q * own[s]
            held[b] += q * exposure[c]
            nets[u, column[c]] += q * notional[c]
        for i in range(filled):
            b = buckets[i]
            gross[owner[b]] += abs(held[b])
            net[owner[b]] += held[b]
            held[b] = 0.0
        out[a] = 0.0
        _close(out[a], touched, count, (profit, nets, e, gross, net), world)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def standalone(
    which: Ints,
    quantity: Array,
    unit: tuple[Array, Array, Array, Ints],
    tiers: tuple[Array, Array],
    out: Array,
) -> None:
    """Write the requirement of every position on its own.

    ``unit``: requirement of one unit long and of one unit short without concentration, size of one unit, and
    underlying of each contract.
    """
    long, short, size, underlying = unit
    for i in range(len(which)):
        c, q = which[i], quantity[i]
        own = q * long[c] if q > 0.0 else -q * short[c]
        out[i] = own + _tiers(
            abs(q) * size[2 * c + (q < 0.0)], tiers[0][underlying[c]], tiers[1][underlying[c]]
        )
