"""The course of one market: prices, margins, funding, interest and depth per bar, and its fast replay."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest import heaps, ranks
from calibrator.backtest.events import Events, Positions
from calibrator.backtest.terms import Flags, Floats, Integers, Prices, Terms
from calibrator.backtest.transition import loop
from calibrator.backtest.venue import Account, Event, Holding, Moment, Quote, Rules, State, key_of
from calibrator.errors import DataError

COLUMNS: Final = tuple(f.name for f in fields(Event))
_WHOLE: Final = ("bar", "account", "kind", "breached")


@dataclass(frozen=True, slots=True)
class Course:
    """Everything that happens to one market from outside, per bar.

    Attributes
    ----------
    prices : Prices
    terms : Terms
    funding : numpy.ndarray, shape (T,)
        Quote units that every unit held pays in the bar (a short receives it).
    rate : numpy.ndarray, shape (T,)
        Interest of the bar on cash, owed or held (fraction, above -1).
    depth : numpy.ndarray, shape (T,)
        Quote units of forced sales that halve the price; infinite = they do not move it.

    Raises
    ------
    DataError
        A length differs, or a value is out of bounds.
    """

    prices: Prices
    terms: Terms
    funding: Floats
    rate: Floats
    depth: Floats

    def __post_init__(self) -> None:
        bars = len(self.prices.time)
        for name, bad in (
            ("funding", ~np.isfinite(self.funding)),
            ("rate", ~(np.isfinite(self.rate) & (self.rate > -1))),
            ("depth", ~(self.depth > 0)),
        ):
            if len(bad) != bars:
                raise DataError(f"{name}: must have one value per bar, {len(bad)} for {bars} bars")
            if bad.any():
                at = int(bad.argmax())
                raise DataError(f"{name}: is out of bounds in bar {at}: {getattr(self, name)[at]!r}")

    def index(self) -> Floats:
        """Return the interest index after each bar; 1 before the first."""
        return np.asarray(np.cumprod(1 + self.rate), dtype=np.float64)

    def carry(self) -> Floats:
        """Return the funding per unit up to each bar, divided by the index of its bar."""
        return np.asarray(np.cumsum(self.funding / self.index()), dtype=np.float64)

    def moments(self) -> Iterator[Moment]:
        """Yield the bars as :func:`~calibrator.backtest.transition.step` takes them."""
        prices, terms, index, carry = self.prices, self.terms, self.index(), self.carry()
        floors = tuple(int(f) for f in terms.notional_floor)
        for t in range(len(prices.time)):
            before = max(t - 1, 0)
            quote = Quote(
                float(prices.close[before]),
                float(prices.low[t]),
                float(prices.high[t]),
                float(prices.close[t]),
                tuple(int(m) for m in terms.maintenance[:, before]),
                tuple(int(m) for m in terms.maintenance[:, t]),
                floors,
                float(carry[t]),
                float(self.depth[t]),
            )
            yield Moment(t, (quote,), float(index[t]), final=t == len(prices.time) - 1)

    def keys(self, positions: Positions) -> Floats:
        """Return what orders each position; see :mod:`calibrator.backtest.venue`."""
        at = positions.opened
        return positions.bankruptcy_price() / self.index()[at] - self.carry()[at]

    def state(self, positions: Positions, *, fund: float = 0.0) -> State:
        """Return positions as the state before the first bar."""
        index, carry, price = self.index(), self.carry(), positions.bankruptcy_price()
        accounts = tuple(
            Account(
                (Holding(0, float(positions.direction[i] * positions.quantity[i])),),
                key_of(float(price[i]), index=float(index[at]), carry=float(carry[at])),
                float(positions.entry_price[i]),
                int(at),
                int(positions.closes[i]),
            )
            for i, at in enumerate(positions.opened)
        )
        return State(accounts, fund, (0.0,))


def plain_course(
    prices: Prices, terms: Terms, *, funding_rate: Floats | None = None, depth: Floats | None = None
) -> Course:
    """Return a course without interest; ``funding_rate`` is a fraction of the bar's opening price.

    Examples
    --------
    >>> one = np.ones(3)
    >>> t = pd.date_range("2024-01-01", periods=3).to_numpy()
    >>> margins = np.full((1, 3), 50_000)
    >>> terms = Terms(np.array([0]), margins, 2 * margins, 0)
    >>> plain_course(Prices(t, one, one, 2 * one), terms, funding_rate=0.01 * one).funding.tolist()
    [0.02, 0.02, 0.02]
    """
    bars = len(prices.time)
    start = np.concatenate([prices.close[:1], prices.close[:-1]])
    rate = np.zeros(bars) if funding_rate is None else funding_rate
    if len(rate) != bars:
        raise DataError(f"funding_rate: must have one value per bar, {len(rate)} for {bars} bars")
    return Course(
        prices, terms, rate * start, np.zeros(bars), np.full(bars, np.inf) if depth is None else depth
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a replay of one market did.

    Attributes
    ----------
    events : pandas.DataFrame
        One row per closed position or part, the fields of ``Event``, in the order in which they happened.
    fund : numpy.ndarray, shape (T,)
        Insurance fund after each bar.
    displacement : numpy.ndarray, shape (T,)
        Of the price by forced sales, at the close of each bar.
    quantity, key : numpy.ndarray, shape (n,)
        Of what is still open after the last bar (signed; zero where nothing is).
    """

    events: pd.DataFrame
    fund: Floats
    displacement: Floats
    quantity: Floats
    key: Floats


def fast_replay(course: Course, positions: Positions, *, rules: Rules, fund: float = 0.0) -> Outcome:
    """Replay isolated accounts; every event is identical to the plain loop's.

    Parameters
    ----------
    course : Course
    positions : Positions
    rules : Rules
    fund : float
        Insurance fund before the first bar, quote units.

    Returns
    -------
    Outcome

    Raises
    ------
    DataError
        A position that opens outside the bars or closes before it opens.
    ValueError
        Negative fund.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=3).to_numpy()
    >>> path, margins = np.array([100.0, 96.0, 80.0]), np.full((1, 3), 80_000)
    >>> course = plain_course(Prices(t, path, path, path), Terms(np.array([0]), margins, margins, 0))
    >>> opened, side = np.array([0]), np.array([1])
    >>> one = Positions(side, np.ones(1), 100 * np.ones(1), 10 * np.ones(1), opened, opened + 3)
    >>> done = fast_replay(course, one, rules=Rules(latency=1))
    >>> done.events[["bar", "breached", "shortfall"]].values.tolist()
    [[2.0, 1.0, 10.0]]
    """
    if not 0 <= fund < np.inf:
        raise ValueError(f"fund must be finite and not negative, was {fund}")
    _refuse(positions, bars=len(course.prices.time))
    room = 64 + len(positions.opened) * 5 // 4
    while True:
        book, tape = _book(course, positions), _tape(len(course.prices.time), room, fund)
        orders = (np.argsort(v, kind="stable") for v in (positions.opened, positions.closes))
        heaps.run(_path(course), book, tape, numbers_of(rules), *orders)
        if tape.written[0] <= room:
            break
        room = int(tape.written[0])
    alive = np.isin(book.state, (ranks.WAITING, ranks.HEAPED))
    return Outcome(
        tape_frame(tape.rows[: tape.written[0]]),
        tape.funds,
        tape.moved,
        np.where(alive, book.quantity, 0.0),
        book.key,
    )


def _refuse(positions: Positions, *, bars: int) -> None:
    for what, bad, values in (
        (f"must open in one of {bars} bars", ~((positions.opened >= 0) & (positions.opened < bars)),
         positions.opened),
        ("must not close before it opens", positions.closes < positions.opened, positions.closes),
        ("direction must be +1 or -1", ~np.isin(positions.direction, (1, -1)), positions.direction),
        ("quantity must be positive", ~(positions.quantity > 0), positions.quantity),
    ):  # fmt: skip
        if bad.any():
            at = int(bad.argmax())
            raise DataError(f"position {at}: {what}, was {values[at]}")


def _path(course: Course) -> ranks.Path:
    prices = course.prices
    return ranks.Path(
        np.concatenate([prices.close[:1], prices.close[:-1]]),
        np.ascontiguousarray(prices.low, dtype=float),
        np.ascontiguousarray(prices.high, dtype=float),
        np.ascontiguousarray(prices.close, dtype=float),
        course.index(),
        course.carry(),
        np.ascontiguousarray(course.depth, dtype=float),
        np.ascontiguousarray(course.terms.maintenance, dtype="int64"),
        np.ascontiguousarray(course.terms.notional_floor, dtype="int64"),
        np.ascontiguousarray(course.terms.deduction()),
    )


def _book(course: Course, positions: Positions) -> ranks.Book:
    n, tiers = len(positions.opened), len(course.terms.notional_floor)
    whole, room = np.zeros(n, "int64"), max(n, 1)
    by_size = np.argsort(-positions.quantity, kind="stable")
    return ranks.Book(
        positions.direction * positions.quantity,
        course.keys(positions),
        positions.entry_price.copy(),
        whole.copy(),
        positions.opened.astype("int64"),
        positions.closes.astype("int64"),
        whole - 1,
        np.zeros(n, bool),
        whole.copy(),
        whole.copy(),
        np.zeros((2 * tiers, room), np.int32),
        np.zeros((2 * tiers, room)),
        np.zeros(2 * tiers, "int64"),
        np.zeros(room, "int64"),
        np.zeros(room, "int64"),
        np.zeros(room, "int64"),
        np.zeros(room),
        by_size,
        np.asarray(positions.quantity[by_size], dtype=float),
        np.zeros(tiers, "int64"),
    )


def _tape(bars: int, room: int, fund: float) -> heaps.Tape:
    return heaps.Tape(
        np.empty((room, heaps.WIDTH)),
        np.zeros(1, "int64"),
        np.array([fund, 0.0]),
        np.zeros(3, "int64"),
        np.empty(bars),
        np.empty(bars),
    )


def numbers_of(rules: Rules) -> heaps.Terms:
    """Return the rules as the compiled engines take them."""
    return heaps.Terms(
        int(rules.latency),
        float(rules.penalty),
        float(rules.fund_share),
        float(rules.close_factor),
        float(rules.full_below),
        float(rules.dust),
        1.0 if rules.backstop == "deleverage" else 0.0,
        float(rules.recovery),
    )


def tape_frame(rows: Floats) -> pd.DataFrame:
    """Return the rows of an engine's tape with the names and types of ``Event``."""
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame = frame.astype(dict.fromkeys(_WHOLE, "int64"))
    forced: Flags = frame["self_inflicted"].to_numpy() > 0
    return frame.assign(self_inflicted=forced)


def frame_of(events: tuple[Event, ...]) -> pd.DataFrame:
    """Return events of the plain loop as the frame that :func:`fast_replay` returns.

    Examples
    --------
    >>> from calibrator.backtest.venue import Kind
    >>> frame_of((Event(3, 0, Kind.CLOSED, quantity=1.0),))[["bar", "kind", "quantity"]].values.tolist()
    [[3.0, 2.0, 1.0]]
    """
    rows = [[float(getattr(e, name)) for name in COLUMNS] for e in events]
    return tape_frame(np.array(rows, dtype=float).reshape(len(rows), len(COLUMNS)))


def loop_events(prices: Prices, terms: Terms, positions: Positions, latency: int) -> Events:
    """Replay one market by the plain loop over :func:`~calibrator.backtest.transition.step`."""
    course, rules = plain_course(prices, terms), Rules(latency=latency)
    done = loop(course.state(positions), course.moments(), rules=rules)
    return _by_account(frame_of(done.events), len(positions.opened), len(prices.time) - 1)


def heap_events(prices: Prices, terms: Terms, positions: Positions, latency: int) -> Events:
    """Replay one market by :func:`fast_replay`."""
    done = fast_replay(plain_course(prices, terms), positions, rules=Rules(latency=latency))
    return _by_account(done.events, len(positions.opened), len(prices.time) - 1)


def _by_account(events: pd.DataFrame, count: int, last: int) -> Events:
    """Lay whole closings out by account; what is still open ends in the last bar."""
    breached, settled = np.full(count, -1, "int64"), np.full(count, last, "int64")
    forced = np.zeros(count, dtype=bool)
    at: Integers = events["account"].to_numpy()
    breached[at], settled[at] = events["breached"].to_numpy(), events["bar"].to_numpy()
    forced[at] = events["self_inflicted"].to_numpy()
    return Events(breached, settled, forced)
