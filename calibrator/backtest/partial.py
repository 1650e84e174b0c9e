"""Replay accounts under a ladder of partial liquidations, by the rules of :mod:`calibrator.backtest.replay`.

With no rungs it is that replay, account for account, which a test holds it to.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numba
import numpy as np
import pandas as pd

from calibrator.backtest.events import Positions
from calibrator.backtest.replay import _covered, _positions, _solvent
from calibrator.backtest.terms import (
    Floats,
    Integers,
    Prices,
    Terms,
    deductions,
    prices_by_market,
    terms_by_market,
)
from calibrator.domain import PPM
from calibrator.frames import ACCOUNTS, conform

PNL, PENALTY, SHORTFALL, PAYOUT, VALUE, PARTS, BREACHED, SETTLED = range(8)
COLUMNS: Final = (
    "pnl",
    "penalty",
    "shortfall",
    "payout",
    "liquidated_notional",
    "partial_closings",
    "breached",
    "settled",
)


@dataclass(frozen=True, slots=True)
class Rungs:
    """A ladder over the bars of a market, shape ``(tiers, rungs, T)`` each, in ppm; rungs from high to low.

    A threshold of zero is a rung that does not stand in that bar. A tier's thresholds count, like its
    margins, on the part of the notional above its floor: what a lower tier asks less comes off them.
    """

    threshold: Integers
    fraction: Integers


def replay_ladder(
    prices: Prices, terms: Terms, positions: Positions, rungs: Rungs, *, latency: int, penalty: float
) -> pd.DataFrame:
    """Replay the positions of one market.

    A position whose margin ratio falls below a rung's threshold, at the bar's start or at its worst price,
    has the fraction of the lowest such rung closed at the close ``ceil(fraction * latency)`` bars later (a
    part takes its part of the time, at least one bar if anything takes time); the penalty on the part is
    taken from what equity is left. One part is closed at a time. Below the maintenance margin the rest is
    closed ``latency`` bars later, as in the replay without a ladder.

    Parameters
    ----------
    prices : Prices
    terms : Terms
    positions : Positions
    rungs : Rungs
        Thresholds lie above the maintenance margin.
    latency : int
        Bars between a breach and its settlement.
    penalty : float
        Fraction of what is closed, in [0, 1).

    Returns
    -------
    pandas.DataFrame
        One row per position: ``pnl, penalty, shortfall, payout, liquidated_notional`` (quote units),
        ``partial_closings``, ``breached`` and ``settled`` (bars, -1 = never breached). Money is conserved:
        ``collateral = payout + penalty - shortfall - pnl``.

    Raises
    ------
    ValueError
        Latency or penalty out of bounds.
    """
    if latency < 0:
        raise ValueError(f"latency must not be negative, was {latency}")
    if not 0 <= penalty < 1:
        raise ValueError(f"penalty must lie in [0, 1), was {penalty}")
    out = np.zeros((len(positions.opened), len(COLUMNS)))
    market = (prices.close, prices.low, prices.high)
    spared = np.concatenate(
        [terms.deduction()[:, None], deductions(terms.notional_floor, rungs.threshold) / PPM], axis=1
    )
    ladder = (
        np.concatenate([terms.maintenance[:, None], rungs.threshold], axis=1) / PPM,
        np.ascontiguousarray(spared), rungs.fraction / PPM, terms.notional_floor,
    )  # fmt: skip
    held = (positions.direction, positions.opened, positions.closes)
    money = (positions.quantity, positions.entry_price, positions.collateral)
    _replay(market, ladder, held, money, (latency, penalty), out)
    frame = pd.DataFrame(out, columns=list(COLUMNS))
    return frame.astype(dict.fromkeys(COLUMNS[PARTS:], "int64"))


Rule = Callable[[Integers, Integers], tuple[Integers, Integers]]
"""Maintenance and initial margins (ppm, shape ``(n,)``) to thresholds and fractions, shape ``(rungs, n)``."""


def compare_ladder(
    bars: pd.DataFrame,
    accounts: pd.DataFrame,
    schedule: pd.DataFrame,
    rule: Rule,
    *,
    latency: int,
    penalty: float,
) -> pd.DataFrame:
    """Replay the same accounts under the same margins, all at once and by a ladder.

    Parameters
    ----------
    bars, accounts, schedule : pandas.DataFrame
        As in :func:`calibrator.backtest.replay.replay`.
    rule : callable
        Makes the ladder of each bar from the margins then in force.
    latency : int
    penalty : float

    Returns
    -------
    pandas.DataFrame
        Rows ``all_at_once`` and ``ladder``: counts of ``accounts``, ``liquidations`` (of the whole rest),
        ``partial_closings``, ``accounts_with_shortfall``, and sums of ``shortfall``, ``penalty``,
        ``liquidated_notional`` and ``payout`` (quote units).
    """
    checked = conform(accounts, ACCOUNTS, source="replay")
    prices = prices_by_market(bars)
    terms = terms_by_market(schedule, prices)
    parts: dict[str, list[pd.DataFrame]] = {"all_at_once": [], "ladder": []}
    for name, group in checked.groupby("market", sort=True):
        market = str(name)
        covered, _ = _covered(group, prices[market], terms[market])
        solvent, _ = _solvent(covered, prices[market])
        positions = _positions(solvent, prices[market])
        ladders = {"all_at_once": _no_rungs(terms[market]), "ladder": _rungs(terms[market], rule)}
        for how, rungs in ladders.items():
            made = replay_ladder(
                prices[market], terms[market], positions, rungs, latency=latency, penalty=penalty
            )
            parts[how].append(made)
    return pd.DataFrame({how: _totals(pd.concat(made)) for how, made in parts.items()}).T


def _no_rungs(terms: Terms) -> Rungs:
    empty = np.zeros((len(terms.notional_floor), 0, terms.maintenance.shape[1]), "int64")
    return Rungs(empty, empty)


def _rungs(terms: Terms, rule: Rule) -> Rungs:
    made = [rule(m, i) for m, i in zip(terms.maintenance, terms.initial, strict=True)]
    return Rungs(np.stack([m[0] for m in made]), np.stack([m[1] for m in made]))


def _totals(made: pd.DataFrame) -> dict[str, float]:
    return {
        "accounts": float(len(made)),
        "liquidations": float((made["breached"] >= 0).sum()),
        "partial_closings": float(made["partial_closings"].sum()),
        "accounts_with_shortfall": float((made["shortfall"] > 0).sum()),
        **{
            name: float(made[name].sum())
            for name in ("shortfall", "penalty", "liquidated_notional", "payout")
        },
    }


@numba.njit(cache=True)
def _ratio(quantity: float, cash: float, price: float, direction: int, entry: float) -> float:
    return (cash + direction * quantity * (price - entry)) / (quantity * price)


@numba.njit(cache=True)
def _rung(ratio: float, threshold: Floats) -> int:
    """Lowest rung whose threshold lies above the ratio, -1 if none."""
    found = -1
    for k in range(len(threshold)):
        if threshold[k] > 0 and ratio < threshold[k]:
            found = k
    return found


@numba.njit(cache=True)
def _close(
    row: Floats, part: float, price: float, position: tuple[int, float, float], penalty: float
) -> float:
    """Close ``part`` at ``price``; return the cash (collateral plus what was realized) that is left."""
    direction, entry, cash = position
    gain = direction * part * (price - entry)
    charged = min(max(cash + gain, 0.0), penalty * part * price)
    row[PNL] += gain
    row[PENALTY] += charged
    row[VALUE] += part * price
    return cash + gain - charged


@numba.njit(cache=True)
def _end(row: Floats, quantity: float, price: float, position: tuple[int, float, float], rate: float) -> None:
    """Close the rest; ``rate`` is the penalty, negative where the owner closes or nobody does."""
    direction, entry, cash = position
    gain = direction * quantity * (price - entry)
    equity = cash + gain
    row[PNL] += gain
    row[SHORTFALL] += max(-equity, 0.0)
    remains = max(equity, 0.0)
    if rate >= 0:
        charged = min(remains, rate * quantity * price)
        row[PENALTY] += charged
        row[VALUE] += quantity * price
        remains -= charged
    row[PAYOUT] += remains


@numba.njit(cache=True)
def _watch(row: Floats, bar: int, ratio: float, now: tuple, waiting: tuple, latency: int) -> tuple:  # type: ignore[type-arg]
    """Look at one bar: breach, or a rung to be closed; return the fraction that waits and when it is due."""
    levels, fraction = now
    pending, due = waiting
    if ratio < levels[0]:
        row[BREACHED] = bar
        return 0.0, bar + latency
    if pending == 0.0:
        k = _rung(ratio, levels[1:])
        if k >= 0:
            return fraction[k], bar + int(np.ceil(fraction[k] * latency - 1e-9))
    return pending, due


@numba.njit(cache=True)
def _levels(ladder: tuple, value: float, bar: int) -> tuple:  # type: ignore[type-arg]
    """Maintenance margin and thresholds over the notional, and fractions, of the tier it falls into."""
    level, spared, fraction, floors = ladder
    k = np.searchsorted(floors, value, side="right") - 1
    if k == 0:
        return level[0, :, bar], fraction[0, :, bar]
    own = level[k, :, bar] - spared[k, :, bar] / value
    for r in range(1, len(own)):
        own[r] = own[r] if level[k, r, bar] > 0 else 0.0
    return own, fraction[k, :, bar]


@numba.njit(cache=True)
def _account(market: tuple, ladder: tuple, held: tuple, money: tuple, rules: tuple, row: Floats) -> None:  # type: ignore[type-arg]
    close, low, high = market
    side, opened, closes = held
    quantity, entry, cash = money
    latency, penalty = rules
    worst = low if side > 0 else high
    pending, due = 0.0, -1
    for bar in range(opened + 1, len(close)):
        if row[BREACHED] < 0:
            start = _ratio(quantity, cash, close[bar - 1], side, entry)
            ratio = min(start, _ratio(quantity, cash, worst[bar], side, entry))
            at = min(close[bar - 1], worst[bar]) if side > 0 else max(close[bar - 1], worst[bar])
            now = _levels(ladder, quantity * at, bar)
            pending, due = _watch(row, bar, ratio, now, (pending, due), latency)
        if pending > 0.0 and bar >= due:
            part = pending * quantity
            cash = _close(row, part, close[bar], (side, entry, cash), penalty)
            quantity, pending = quantity - part, 0.0
            row[PARTS] += 1
        breached = row[BREACHED] >= 0
        if (breached and bar >= due) or (not breached and bar >= closes):
            _end(row, quantity, close[bar], (side, entry, cash), penalty if breached else -1.0)
            row[SETTLED] = bar
            return
    _end(row, quantity, close[-1], (side, entry, cash), penalty if row[BREACHED] >= 0 else -1.0)


@numba.njit(cache=True)
def _replay(market: tuple, ladder: tuple, held: tuple, money: tuple, rules: tuple, out: Floats) -> None:  # type: ignore[type-arg]
    direction, opened, closes = held
    quantity, entry, collateral = money
    for i in range(len(direction)):
        row = out[i]
        row[BREACHED], row[SETTLED] = -1, len(market[0]) - 1
        own = (quantity[i], entry[i], collateral[i])
        if closes[i] <= opened[i]:
            _end(row, own[0], market[0][opened[i]], (direction[i], own[1], own[2]), -1.0)
            row[SETTLED] = opened[i]
            continue
        place = (direction[i], opened[i], closes[i])
        _account(market, ladder, place, own, rules, row)
