"""Replay cross-margined accounts: several holdings that share one margin, bounded by blocks of bars.

An account is below its requirement when ``key + sum of quantity * level < 0`` (see
:func:`calibrator.backtest.venue.is_below`). Over a block of bars, the least level of every long holding and
the largest of every short one give a sum that no bar of the block is below; rounding keeps that order, so a
block whose bound is not negative is skipped without being looked at, and breach times are the plain loop's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from calibrator.backtest import blocks
from calibrator.backtest.course import Course, Outcome, numbers_of, tape_frame
from calibrator.backtest.terms import Floats, Integers
from calibrator.backtest.venue import Account, Holding, Moment, Rules, State
from calibrator.domain import PPM
from calibrator.errors import DataError

__all__ = ["Courses", "CrossAccounts", "cross_replay"]
Padded = TypeVar("Padded", Integers, Floats)


@dataclass(frozen=True, slots=True)
class CrossAccounts:
    """Cross-margined accounts.

    Attributes
    ----------
    cash : numpy.ndarray, shape (n,)
        Quote units at the opening, after the holdings were paid for (negative = owed).
    opened, closes : numpy.ndarray, shape (n,)
        Bars; ``closes`` is the number of bars where the owner never closes.
    first : numpy.ndarray, shape (n + 1,)
        Holdings of account ``i`` are ``first[i]`` to ``first[i + 1]``.
    asset : numpy.ndarray, shape (holdings,)
    quantity : numpy.ndarray, shape (holdings,)
        Signed.

    Raises
    ------
    DataError
        Lengths that do not fit, an account without holdings, or one that closes before it opens.
    """

    cash: Floats
    opened: Integers
    closes: Integers
    first: Integers
    asset: Integers
    quantity: Floats

    def __post_init__(self) -> None:
        count = len(self.cash)
        for name, wanted in (("opened", count), ("closes", count), ("first", count + 1)):
            if len(getattr(self, name)) != wanted:
                raise DataError(f"{name}: must have {wanted} values, has {len(getattr(self, name))}")
        if (np.diff(self.first) < 1).any():
            at = int((np.diff(self.first) < 1).argmax())
            raise DataError(f"account {at}: must hold something, holds nothing")
        if (self.closes < self.opened).any():
            at = int((self.closes < self.opened).argmax())
            raise DataError(
                f"account {at}: must not close before it opens, does: {self.closes[at]} < {self.opened[at]}"
            )
        for name in ("asset", "quantity"):
            if len(getattr(self, name)) != self.first[-1]:
                raise DataError(f"{name}: must have {self.first[-1]} values, has {len(getattr(self, name))}")


@dataclass(frozen=True, slots=True)
class Courses:
    """Markets with the same bars and the same interest; sales do not move their prices.

    Raises
    ------
    DataError
        Bars or interest differ, or a depth is finite.
    """

    markets: tuple[Course, ...]

    def __post_init__(self) -> None:
        if not self.markets:
            raise DataError("courses: at least one market is needed, there are 0")
        for one, other in pairwise(self.markets):
            if not np.array_equal(one.prices.time, other.prices.time):
                raise DataError("courses: all markets must have the same bars, they do not")
            if not np.array_equal(one.rate, other.rate):
                raise DataError("courses: all markets must have the same interest, they do not")
        if any(np.isfinite(c.depth).any() for c in self.markets):
            raise DataError("courses: cross-margined accounts need infinite depth, a market's is finite")

    def moments(self) -> Iterator[Moment]:
        """Yield the bars of all markets together."""
        for parts in zip(*(c.moments() for c in self.markets), strict=True):
            yield Moment(parts[0].bar, tuple(p.quotes[0] for p in parts), parts[0].index, parts[0].final)

    def keys(self, accounts: CrossAccounts) -> Floats:
        """Return cash over the index plus ``quantity * G`` of every holding, at the opening."""
        growth, key = self.markets[0].index(), np.empty(len(accounts.cash))
        carries = [c.carry() for c in self.markets]
        for i, at in enumerate(accounts.opened):
            total = accounts.cash[i] / growth[at]
            for k in range(accounts.first[i], accounts.first[i + 1]):
                total += accounts.quantity[k] * carries[accounts.asset[k]][at]
            key[i] = total
        return key

    def state(self, accounts: CrossAccounts, *, fund: float = 0.0) -> State:
        """Return accounts as the state before the first bar."""
        keys = self.keys(accounts)
        made = tuple(
            Account(
                tuple(
                    Holding(int(accounts.asset[k]), float(accounts.quantity[k]))
                    for k in range(accounts.first[i], accounts.first[i + 1])
                ),
                float(keys[i]),
                1.0,
                int(accounts.opened[i]),
                int(accounts.closes[i]),
                cross=True,
            )
            for i in range(len(keys))
        )
        return State(made, fund, (0.0,) * len(self.markets))


def cross_replay(
    courses: Courses, accounts: CrossAccounts, *, rules: Rules, fund: float = 0.0, depth: int = 4
) -> Outcome:
    """Replay cross-margined accounts; every event is identical to the plain loop's.

    Parameters
    ----------
    courses : Courses
    accounts : CrossAccounts
    rules : Rules
        ``backstop`` must be ``venue``: cross-margined accounts are not deleveraged.
    fund : float
        Insurance fund before the first bar.
    depth : int
        Levels of blocks, each of eight of the one below; 0 looks at every bar (the naive scan).

    Returns
    -------
    Outcome
        ``quantity`` and ``key`` are of the holdings and accounts still open after the last bar.

    Raises
    ------
    DataError
        A holding's asset does not exist.
    ValueError
        Rules or depth that cannot be used here.

    Examples
    --------
    >>> import pandas as pd
    >>> from calibrator.backtest.course import plain_course
    >>> from calibrator.backtest.terms import Prices, Terms
    >>> t, m = pd.date_range("2024-01-01", periods=3).to_numpy(), np.full((1, 3), 50_000)
    >>> paths = np.array([100.0, 90.0, 80.0]), np.array([50.0, 45.0, 50.0])
    >>> both = Courses(tuple(plain_course(Prices(t, p, p, p), Terms(np.array([0]), m, m, 0)) for p in paths))
    >>> whole = lambda *v: np.array(v, dtype="int64")
    >>> hedged = CrossAccounts(np.array([10.0]), whole(0), whole(3), whole(0, 2), whole(0, 1),
    ...                        np.array([1.0, -2.0]))
    >>> cross_replay(both, hedged, rules=Rules()).events[["bar", "shortfall"]].values.tolist()
    [[2.0, 10.0]]
    """
    if rules.backstop != "venue":
        raise ValueError(f"backstop must be venue for cross-margined accounts, was {rules.backstop!r}")
    if not 0 <= depth <= blocks.DEEPEST:
        raise ValueError(f"depth must lie in [0, {blocks.DEEPEST}], was {depth}")
    tables = tables_of(courses, depth=depth)
    return replay_on(tables, courses, accounts, rules=rules, fund=fund)


def replay_on(
    tables: blocks.Tables, courses: Courses, accounts: CrossAccounts, *, rules: Rules, fund: float = 0.0
) -> Outcome:
    """Replay on tables that :func:`tables_of` has made (once for many sets of accounts)."""
    _refuse_unknown(courses, accounts)
    holdings = blocks.Holdings(
        accounts.quantity.copy(), accounts.asset.astype("int64"), np.zeros(len(accounts.asset), "int64"),
        accounts.first.astype("int64"),
    )  # fmt: skip
    room = 64 + 2 * len(accounts.cash)
    opened, closes = accounts.opened.astype("int64"), accounts.closes.astype("int64")
    while True:
        rows, written = np.empty((room, blocks.WIDTH)), np.zeros(1, "int64")
        held = holdings._replace(quantity=accounts.quantity.copy())
        keys = courses.keys(accounts)
        blocks.run(tables, held, numbers_of(rules), (rows, written), (keys, opened, closes))
        if written[0] <= room:
            break
        room = int(written[0])
    rows = rows[: written[0]]
    ordered = rows[np.lexsort((rows[:, 1], rows[:, 2], rows[:, 0]))]
    funds = blocks.pay(ordered, numbers_of(rules), fund, len(courses.markets[0].prices.time))
    return Outcome(tape_frame(ordered), funds, np.zeros(len(funds)), held.quantity, keys)


def tables_of(courses: Courses, *, depth: int = 4) -> blocks.Tables:
    """Lay the levels of all assets and tiers out by bar, with the bounds of their blocks."""
    starts, closes, owed, columns = [], [], [], [0]
    growth = courses.markets[0].index()
    for course in courses.markets:
        close, carry = course.prices.close, course.carry()
        start = np.concatenate([close[:1], close[:-1]])
        for ppm in course.terms.maintenance:
            for factor in (1 - ppm / PPM, 1 + ppm / PPM):
                starts.append(start * factor / growth - carry)
                closes.append(close * factor / growth - carry)
            before = np.concatenate([ppm[:1], ppm[:-1]])
            owed += [start * f / growth - carry for f in (1 - before / PPM, 1 + before / PPM)]
        columns.append(len(starts))
    return blocks.Tables(
        np.ascontiguousarray(np.array(starts).T),
        np.ascontiguousarray(np.array(closes).T),
        np.ascontiguousarray(np.array(owed).T),
        *blocks.bounds(np.array(starts).T, np.array(closes).T, depth),
        np.array(columns, dtype="int64"),
        np.ascontiguousarray(np.array([c.prices.close for c in courses.markets]).T),
        growth,
        np.ascontiguousarray(np.array([c.carry() for c in courses.markets]).T),
        _padded([c.terms.maintenance for c in courses.markets]),
        _padded([c.terms.notional_floor[:, None] for c in courses.markets])[:, :, 0],
        _padded([c.terms.deduction() for c in courses.markets]),
        np.array([c.prices.close.max() for c in courses.markets]),
    )


def _padded(parts: list[Padded]) -> Padded:
    """Stack tables with different numbers of tiers; missing ones begin at no notional."""
    tiers = max(len(p) for p in parts)
    out = np.full((len(parts), tiers, parts[0].shape[1]), np.iinfo(np.int64).max, parts[0].dtype)
    for i, part in enumerate(parts):
        out[i, : len(part)] = part
    return out


def _refuse_unknown(courses: Courses, accounts: CrossAccounts) -> None:
    markets = len(courses.markets)
    unknown = (accounts.asset < 0) | (accounts.asset >= markets)
    if unknown.any():
        at = int(unknown.argmax())
        raise DataError(f"holding {at}: asset must be below {markets}, was {accounts.asset[at]}")
