"""Rebuild collateralised vaults from what happened to them, and find when a ratio is not kept.

A vault owes ``units * index`` where the index grows by the stability fee, and holds collateral. An oracle
tells its price once a bar and late by ``delay`` bars. A vault is liquidated in the first bar in which
``collateral * price < ratio * debt``, ``ratio`` being the one in force (``1 / liquidation threshold``).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.backtest.terms import Clock, Flags, Floats, Integers
from calibrator.errors import DataError

YEAR: Final = 365 * 86_400 * 1_000_000
"""Microseconds over which an annual fee compounds once."""
BREACH: Final = ("vault", "life", "time", "bar", "collateral", "debt", "price", "depth", "acted")
CLOSED: Final = 1e-6
"""Less collateral than this is none."""


@dataclass(frozen=True, slots=True)
class Fees:
    """An annual fee (fraction) from each of ``time`` (naive UTC, rising) on; no fee before the first.

    Examples
    --------
    >>> fees = Fees(np.array(["2021-01-01"], "M8[us]"), np.array([0.1]))
    >>> fees.index(np.array(["2020-06-01", "2021-01-01", "2022-01-01"], "M8[us]")).round(12).tolist()
    [1.0, 1.0, 1.1]
    """

    time: Clock
    annual: Floats

    def __post_init__(self) -> None:
        if (np.diff(_micros(self.time)) < 0).any():
            raise DataError("fees: times must rise, they do not")
        if not (np.isfinite(self.annual) & (self.annual > -1)).all():
            raise DataError("fees: must be finite annual fractions above -1")

    def index(self, time: Clock) -> Floats:
        """Return by what a debt has grown up to each time."""
        at, grown = _micros(time), np.zeros(len(time))
        edges = np.append(_micros(self.time), np.iinfo(np.int64).max)[1:]
        for begin, end, annual in zip(_micros(self.time), edges, self.annual, strict=True):
            grown += np.log1p(annual) * np.clip(np.minimum(at, end) - begin, 0, None) / YEAR
        return np.asarray(np.exp(grown), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Floors:
    """The least debt that a vault may have from each of ``time`` on; less after a repayment is none."""

    time: Clock
    debt: Floats

    def at(self, time: Clock) -> Floats:
        """Return the floor at each time; 0 before the first."""
        row = np.searchsorted(_micros(self.time), _micros(time), side="right") - 1
        return np.where(row >= 0, self.debt[np.maximum(row, 0)], 0.0)


@dataclass(frozen=True, slots=True)
class Books:
    """What every vault held and owed after each change.

    Attributes
    ----------
    changes : pandas.DataFrame
        Sorted by vault and time; ``vault, time`` (naive UTC), ``collateral``, ``units`` (debt over the index)
        after all changes of that time, ``lot`` (a liquidation took part in it) and ``life`` (number of the
        vault's debt: counts up whenever it begins to owe again).
    lots : pandas.DataFrame
        Real liquidations: ``vault, time, collateral, debt``; equal rows are lots of one auction and stay.
    fees : Fees
    counts : dict of str to int
        ``events``, ``lots``, ``repeated_events``, ``repeated_lots``, ``unknown_lots`` (of vaults without any
        event; left out), ``closed_by_floor`` (remainders set to 0), ``negative`` (more withdrawn than held).
    """

    changes: pd.DataFrame
    lots: pd.DataFrame
    fees: Fees
    counts: dict[str, int]

    def days(self) -> pd.DataFrame:
        """Return the vault-days of real liquidations: ``vault, day``."""
        rows = self.lots.assign(day=self.lots["time"].dt.floor("D"))
        return rows[["vault", "day"]].drop_duplicates().reset_index(drop=True)


def rebuild(events: pd.DataFrame, lots: pd.DataFrame, *, fees: Fees, floors: Floors | None = None) -> Books:
    """Add up every vault's changes in the order of time.

    Debts drawn and repaid are divided by the fee's index of their time, so that they grow from then on. A
    vault without collateral owes nothing; a remainder below the floor after a repayment is rounding of the
    source (the protocol refuses it) and is set to 0.

    Parameters
    ----------
    events : pandas.DataFrame
        ``vault`` (text), ``time`` (UTC), ``collateral`` and ``debt`` (signed changes).
    lots : pandas.DataFrame
        ``vault, time, collateral, debt``: what liquidations took (not negative).
    fees : Fees
    floors : Floors, optional

    Returns
    -------
    Books

    Raises
    ------
    DataError
        No event, a value that is not finite, or a negative lot.

    Examples
    --------
    >>> t = pd.to_datetime(["2021-01-01", "2021-01-02"], utc=True).as_unit("us")
    >>> events = pd.DataFrame({"vault": "7", "time": t, "collateral": [10.0, 0.0], "debt": [0.0, 900.0]})
    >>> lots = pd.DataFrame({"vault": [], "time": t[:0], "collateral": [], "debt": []})
    >>> none = Fees(np.array([], "M8[us]"), np.array([]))
    >>> rebuild(events, lots, fees=none).changes[["collateral", "units"]].values.tolist()
    [[10.0, 0.0], [10.0, 900.0]]
    """
    if events.empty:
        raise DataError("vault events: there must be at least one row, there are 0")
    for name, frame in (("vault events", events), ("vault liquidations", lots)):
        bad = ~np.isfinite(frame[["collateral", "debt"]].to_numpy(float)).all(axis=1)
        if bad.any():
            raise DataError(f"{name}: amounts must be finite, they are not in row {int(bad.argmax())}")
    if (lots[["collateral", "debt"]].to_numpy(float) < 0).any():
        raise DataError("vault liquidations: what a liquidation takes must not be negative")
    known = lots["vault"].isin(events["vault"])
    used = lots[known].reset_index(drop=True)
    taken = used.assign(collateral=-used["collateral"], debt=-used["debt"], lot=True)
    rows = pd.concat([events.assign(lot=False), taken], ignore_index=True)
    rows = rows.assign(time=rows["time"].dt.tz_convert(None).astype("datetime64[us]"))
    rows = rows.sort_values(["vault", "time"], kind="stable", ignore_index=True)
    time = rows["time"].to_numpy()
    index = fees.index(time)
    least = floors.at(time) / index if floors is not None else np.zeros(len(rows))
    collateral, units, closed = _added(rows, rows["debt"].to_numpy(float) / index, least)
    last = ~rows.duplicated(["vault", "time"], keep="last").to_numpy()
    lot = rows.groupby(["vault", "time"])["lot"].transform("any").to_numpy()
    changes = rows[["vault", "time"]].assign(collateral=collateral, units=units, lot=lot)[last]
    owes = changes["units"] > 0
    begins = owes & ~owes.groupby(changes["vault"]).shift(fill_value=False)
    changes = changes.assign(life=begins.groupby(changes["vault"]).cumsum())
    counts = {
        "events": len(events),
        "lots": len(lots),
        "repeated_events": int(events.duplicated().sum()),
        "repeated_lots": int(lots.duplicated().sum()),
        "unknown_lots": int((~known).sum()),
        "closed_by_floor": closed,
        "negative": int((collateral[last] < -CLOSED).sum()),
    }
    naive = used.assign(time=used["time"].dt.tz_convert(None).astype("datetime64[us]"))
    return Books(changes.reset_index(drop=True), naive, fees, counts)


def _added(rows: pd.DataFrame, change: Floats, least: Floats) -> tuple[Floats, Floats, int]:
    """Run over the changes of one vault after the other."""
    vault, time = pd.factorize(rows["vault"])[0], _micros(rows["time"].to_numpy())
    moved, lot = rows["collateral"].to_numpy(float), rows["lot"].to_numpy(bool)
    collateral, units, closed, held, owed = np.empty(len(rows)), np.empty(len(rows)), 0, 0.0, 0.0
    for i in range(len(rows)):
        if i == 0 or vault[i] != vault[i - 1]:
            held = owed = 0.0
        held, owed = held + moved[i], owed + change[i]
        if change[i] < 0 and owed < least[i]:
            closed, owed = closed + int(owed != 0), 0.0
        last = i + 1 == len(rows) or vault[i + 1] != vault[i] or time[i + 1] != time[i]
        # A lot's collateral may be rounded down by its source: less than one unit that is left is that.
        if last and (held <= CLOSED or (lot[i] and held < 1)):
            owed = 0.0
        collateral[i], units[i] = held, owed
    return collateral, units, closed


@dataclass(frozen=True, slots=True)
class Oracle:
    """Prices of the collateral that a protocol acts on, one per bar.

    Attributes
    ----------
    time : numpy.ndarray, shape (T,)
        When a price takes effect (naive UTC, rising).
    price : numpy.ndarray, shape (T,)
        The price in force from then on: the market's ``delay`` bars before.
    market : numpy.ndarray, shape (T,)
        The market's price at that time.
    """

    time: Clock
    price: Floats
    market: Floats


def delayed(time: Clock, close: Floats, *, delay: int) -> Oracle:
    """Return the oracle that publishes closes ``delay`` bars late.

    Examples
    --------
    >>> t = np.array(["2021-01-01T00", "2021-01-01T01", "2021-01-01T02"], "M8[us]")
    >>> delayed(t, np.array([1.0, 2.0, 3.0]), delay=1).price.tolist()
    [1.0, 2.0]
    """
    if not 0 <= delay < len(time):
        raise ValueError(f"delay must lie in [0, {len(time)}) bars, was {delay}")
    return Oracle(time[delay:], close[: len(close) - delay], close[delay:])


def breaches(books: Books, oracle: Oracle, ratio: Floats, *, distance: float | None = None) -> pd.DataFrame:
    """Find the bars in which vaults are below the ratio in force.

    Parameters
    ----------
    books : Books
    oracle : Oracle
    ratio : numpy.ndarray, shape (T,)
        Collateral over debt that is asked, per bar of the oracle.
    distance : float, optional
        Ratio under which owners really acted. Given, they keep their distance to it: after every action of
        theirs, collateral is what they held times the ratio in force then over this one.

    Returns
    -------
    pandas.DataFrame
        One row per vault and bar in breach: ``vault, life, time, bar, collateral, debt, price, depth`` (how
        far below, fraction) and ``acted`` (the books change before the next bar).

    Examples
    --------
    >>> t = pd.to_datetime(["2021-01-01"], utc=True).as_unit("us")
    >>> none = Fees(np.array([], "M8[us]"), np.array([]))
    >>> events = pd.DataFrame({"vault": "7", "time": t, "collateral": 1.0, "debt": 75.0})
    >>> lots = events.iloc[:0]
    >>> hours = np.array(["2021-01-01T01", "2021-01-01T02", "2021-01-01T03"], "M8[us]")
    >>> oracle = delayed(hours, np.array([100.0, 90.0, 99.0]), delay=0)
    >>> breaches(rebuild(events, lots, fees=none), oracle, np.full(3, 1.3))[["bar", "price"]].values.tolist()
    [[1.0, 90.0]]
    """
    index, hours = books.fees.index(oracle.time), _micros(oracle.time)
    out = []
    for vault, own in books.changes.groupby("vault", sort=False):
        times = _micros(own["time"].to_numpy())
        row = np.searchsorted(times, hours, side="left") - 1
        begin, end = int(np.argmax(row >= 0)), len(hours)
        if row[-1] < 0:
            continue
        row = row[begin:]
        held, owed = own["collateral"].to_numpy(float), own["units"].to_numpy(float)
        if distance is not None:
            held = held * ratio[np.clip(np.searchsorted(hours, times, side="right") - 1, 0, None)] / distance
        debt = owed[row] * index[begin:end]
        value = held[row] * oracle.price[begin:end]
        below = (debt > 0) & (value < ratio[begin:end] * debt)
        if not below.any():
            continue
        at = np.flatnonzero(below)
        following = np.append(row[1:], len(times) - 1)
        out.append(
            pd.DataFrame(
                {
                    "vault": vault,
                    "life": own["life"].to_numpy()[row[at]],
                    "time": oracle.time[begin + at],
                    "bar": begin + at,
                    "collateral": held[row[at]],
                    "debt": debt[at],
                    "price": oracle.price[begin + at],
                    "depth": 1 - value[at] / (ratio[begin + at] * debt[at]),
                    "acted": following[at] > row[at],
                }
            )
        )
    return pd.concat(out, ignore_index=True) if out else pd.DataFrame(columns=list(BREACH))


def _micros(time: NDArray[np.datetime64]) -> Integers:
    return np.asarray(time, dtype="datetime64[us]").astype("int64")


def near(times: Clock, others: Clock, *, within: np.timedelta64) -> Flags:
    """Tell for each time whether another one lies at most ``within`` away.

    Examples
    --------
    >>> t = np.array(["2021-01-01", "2021-01-09"], "M8[us]")
    >>> near(t, t[:1] + np.timedelta64(1, "D"), within=np.timedelta64(2, "D")).tolist()
    [True, False]
    """
    if not len(others):
        return np.zeros(len(times), dtype=bool)
    a, b = _micros(times), np.sort(_micros(others))
    at = np.searchsorted(b, a)
    limit = int(within / np.timedelta64(1, "us"))
    before = np.abs(a - b[np.clip(at - 1, 0, len(b) - 1)]) <= limit
    after = np.abs(b[np.clip(at, 0, len(b) - 1)] - a) <= limit
    return np.asarray(before | after, dtype=bool)
