"""Cascades: forced sales move the price through stressed depth, and carry further accounts away.

An account here is a size and a leverage; the venue's rules, its fund and its price are those of
:mod:`calibrator.backtest.transition`. **Compression** is by how much margins lie below an anchor: a venue
that asks 40 % less margin has a compression of 0.4, and its accounts, who use what they are allowed, a
leverage of ``1 / (1 - 0.4)`` times the anchor's. The **convexity report** replays one shock at growing
compression.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest.course import Course, Outcome, fast_replay, plain_course
from calibrator.backtest.events import Positions
from calibrator.backtest.terms import Floats, Prices, Terms
from calibrator.backtest.venue import Rules, multiplier
from calibrator.domain import PPM

__all__ = ["Book", "Ledger", "Shock", "cascade", "convexity", "stability_limit"]


@dataclass(frozen=True, slots=True)
class Way:
    """A way to liquidate.

    Attributes
    ----------
    rules : Rules
    lead : float
        Positions are reduced from ``lead`` times the maintenance margin on (at least 1): above 1 the venue
        acts before it must.

    Raises
    ------
    ValueError
        ``lead`` below 1 or not finite.
    """

    rules: Rules
    lead: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.lead < np.inf:
            raise ValueError(f"lead must be at least 1 and finite, was {self.lead}")


AT_ONCE: Final = Way(Rules(backstop="deleverage"))
"""Whole accounts, at the maintenance margin."""
LADDER: Final = Way(Rules(close_factor=0.25, full_below=0.4, backstop="deleverage"), lead=1.5)
"""A quarter of the position per bar, from one and a half times the maintenance margin on."""


@dataclass(frozen=True, slots=True)
class Book:
    """Accounts before a shock.

    Attributes
    ----------
    notional : numpy.ndarray, shape (n,)
        Quote units.
    direction : numpy.ndarray, shape (n,)
        +1 long, -1 short.
    cushion : numpy.ndarray, shape (n,)
        Equity as a multiple of the maintenance requirement under the anchor's margin, at least 1.

    Raises
    ------
    ValueError
        Lengths differ, or a value is out of bounds.
    """

    notional: Floats
    direction: np.ndarray
    cushion: Floats

    def __post_init__(self) -> None:
        if not len(self.notional) == len(self.direction) == len(self.cushion):
            raise ValueError("notional, direction and cushion must have one length")
        if not (np.isfinite(self.notional) & (self.notional > 0)).all():
            raise ValueError("notional must be positive and finite")
        if not (np.isfinite(self.cushion) & (self.cushion >= 1)).all():
            raise ValueError(f"cushion must be at least 1, the least was {np.min(self.cushion):g}")
        if not np.isin(self.direction, (1, -1)).all():
            raise ValueError("direction must be +1 or -1")


@dataclass(frozen=True, slots=True)
class Shock:
    """What happens to the market.

    Attributes
    ----------
    moves : tuple of float
        Log return of every bar, without the venue's own sales.
    depth : float
        Quote units of forced sales that halve the price in calm times.
    collapse : float
        Share of the depth that is gone for every bar that loses ``scale`` (in proportion, at most 95 %).
    scale : float
        Absolute log return at which the whole ``collapse`` has happened.

    Raises
    ------
    ValueError
        Out of bounds.
    """

    moves: tuple[float, ...]
    depth: float
    collapse: float = 0.8
    scale: float = 0.05

    def __post_init__(self) -> None:
        if not self.moves or not np.isfinite(self.moves).all():
            raise ValueError("moves must hold at least one finite log return")
        if not self.depth > 0 or not 0 <= self.collapse < 1 or not self.scale > 0:
            raise ValueError(
                "depth and scale must be positive and collapse in [0, 1), were "
                f"{self.depth}, {self.scale} and {self.collapse}"
            )

    def stressed_depth(self) -> Floats:
        """Return the depth of every bar, the bar before the shock first.

        Examples
        --------
        >>> Shock((-0.025, -0.1), 1e6, collapse=0.8).stressed_depth().round().astype(int).tolist()
        [1000000, 600000, 200000]
        """
        gone = self.collapse * np.minimum(np.abs(np.array(self.moves)) / self.scale, 1)
        return self.depth * np.concatenate([[1.0], np.maximum(1 - gone, 0.05)])


@dataclass(frozen=True, slots=True)
class Ledger:
    """A cascade, and whose money it was.

    Attributes
    ----------
    bars : pandas.DataFrame
        Per bar: ``price`` (moved by sales), ``undisturbed``, ``liquidated`` (quote units), ``accounts``
        (closed in whole or part), ``fund``, ``deleveraged``, ``uncovered``, and ``imbalance``: what owners,
        fund, lenders and the outside market together have gained, relative to what they had (zero).
    events : pandas.DataFrame
        See :class:`~calibrator.backtest.course.Outcome`.
    """

    bars: pd.DataFrame
    events: pd.DataFrame

    def summary(self) -> dict[str, float]:
        """Return the outcome in numbers.

        ``overshoot`` is how much lower the last price is than it would have been, ``exhausted_in`` the first
        bar in which the fund is empty though a loss is left (-1 = never).

        Examples
        --------
        >>> book = Book(np.array([1e4, 1e4]), np.array([1, -1]), np.array([1.2, 9.0]))
        >>> ledger = cascade(book, Shock((-0.04, 0.0), 1e5), margin=0.1, fund=0.0)
        >>> {k: round(v, 3) for k, v in ledger.summary().items() if k in ("overshoot", "shortfall")}
        {'overshoot': 0.211, 'shortfall': 1216.133}
        """
        e, b = self.events, self.bars
        broke = (e["shortfall"] > e["from_fund"]).to_numpy()
        return {
            "liquidated": float(e.loc[e["kind"] == 0, "notional"].sum()),
            "accounts": float(e["account"].nunique()),
            "overshoot": float(1 - b["price"].iloc[-1] / b["undisturbed"].iloc[-1]),
            "penalties": float(e["penalty"].sum()),
            "shortfall": float(e["shortfall"].sum()),
            "from_fund": float(e["from_fund"].sum()),
            "deleveraged": float(e["given_up"].sum()),
            "uncovered": float(e["uncovered"].sum()),
            "exhausted_in": float(e.loc[broke, "bar"].min()) if broke.any() else -1.0,
            "imbalance": float(b["imbalance"].max()),
        }


def cascade(
    book: Book, shock: Shock, *, margin: float, fund: float, way: Way = AT_ONCE, compression: float = 0.0
) -> Ledger:
    """Replay one shock.

    Parameters
    ----------
    book : Book
    shock : Shock
    margin : float
        The anchor's maintenance margin, fraction of notional.
    fund : float
        Insurance fund, quote units.
    way : Way
        :data:`AT_ONCE` or :data:`LADDER`, or one's own.
    compression : float
        The margin in force is ``margin * (1 - compression)``; owners keep their cushion over it.

    Returns
    -------
    Ledger

    Raises
    ------
    ValueError
        Margin or compression out of bounds.

    Examples
    --------
    >>> book = Book(np.full(50, 1e4), np.resize([1, -1], 50), np.linspace(1.1, 6, 50))
    >>> shock = Shock((-0.05, -0.03, 0.0), 5e6)
    >>> wide, thin = (cascade(book, shock, margin=0.08, fund=0, compression=c).summary() for c in (0, 0.6))
    >>> thin["liquidated"] > wide["liquidated"], max(wide["imbalance"], thin["imbalance"]) < 1e-9
    (True, True)
    """
    if not 0 < margin < 1:
        raise ValueError(f"margin must lie between 0 and 1, was {margin}")
    if not 0 <= compression < 1:
        raise ValueError(f"compression must lie in [0, 1), was {compression}")
    course, positions = _world(book, shock, margin * (1 - compression), way.lead)
    done = fast_replay(course, positions, rules=way.rules, fund=fund)
    return Ledger(_bars(course, positions, done, rules=way.rules, fund=fund), done.events)


def convexity(
    book: Book,
    shock: Shock,
    *,
    margin: float,
    fund: float,
    compressions: tuple[float, ...],
    ways: dict[str, Way] | None = None,
) -> pd.DataFrame:
    """Replay one shock at growing compression, for every way to liquidate.

    Returns
    -------
    pandas.DataFrame
        Index ``(way, compression)``; ``margin`` asked of the whole book (quote units), the columns of
        :meth:`Ledger.summary`, and ``amplification``: how much further the last price falls for every
        further unit that the undisturbed one would have fallen (1 = not at all, a shock 1 % deeper).

    Examples
    --------
    >>> book = Book(np.full(50, 1e4), np.resize([1, -1], 50), np.linspace(1.1, 6, 50))
    >>> table = convexity(book, Shock((-0.05, 0.0), 5e6), margin=0.08, fund=0, compressions=(0.0, 0.5))
    >>> table.loc["at once", "margin"].tolist()
    [40000.0, 20000.0]
    """
    rows = {}
    deeper = Shock(tuple(m * 1.01 for m in shock.moves), shock.depth, shock.collapse, shock.scale)
    for name, chosen in (ways or {"at once": AT_ONCE, "ladder": LADDER}).items():
        for c in compressions:
            one = cascade(book, shock, margin=margin, fund=fund, way=chosen, compression=c)
            two = cascade(book, deeper, margin=margin, fund=fund, way=chosen, compression=c)
            fell = [float(x.bars[k].iloc[-1]) for x in (one, two) for k in ("price", "undisturbed")]
            own = np.log(fell[0] / fell[2]) / np.log(fell[1] / fell[3]) if fell[1] != fell[3] else np.nan
            asked = float(book.notional.sum() * margin * (1 - c))
            rows[name, c] = {"margin": asked, **one.summary(), "amplification": float(own)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["way", "compression"])


def stability_limit(table: pd.DataFrame, *, lost: float = 0.01) -> pd.Series:
    """Return per way to liquidate the least compression at which the venue is not stable any more.

    Stable: what neither the account nor the fund can pay (given up by winners or uncovered) is at most
    ``lost`` of the margin that is asked of the whole book.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`convexity`.
    lost : float
        Share of the margin of the book.

    Returns
    -------
    pandas.Series
        Compression, NaN where the venue is stable throughout.

    Examples
    --------
    >>> book = Book(np.full(50, 1e4), np.resize([1, -1], 50), np.linspace(1.1, 6, 50))
    >>> table = convexity(book, Shock((-0.05, 0.0), 2e6), margin=0.08, fund=0,
    ...                   compressions=(0.0, 0.3, 0.6))
    >>> stability_limit(table).to_dict()
    {'at once': 0.0, 'ladder': 0.3}
    """
    bad = (table["deleveraged"] + table["uncovered"]) > lost * table["margin"]
    first = {
        str(name): min((c for (_, c), b in own.items() if b), default=float("nan"))
        for name, own in bad.groupby(level="way", sort=False)
    }
    return pd.Series(first, name="compression")


def _world(book: Book, shock: Shock, margin: float, lead: float) -> tuple[Course, Positions]:
    close = 100 * np.exp(np.cumsum([0.0, *shock.moves]))
    start = np.concatenate([close[:1], close[:-1]])
    bars = len(close)
    ppm = np.full((1, bars), min(max(round(margin * lead * PPM), 1), PPM - 1))
    time = np.arange(bars).astype("datetime64[h]")
    prices = Prices(time, np.maximum(start, close), np.minimum(start, close), close)
    course = plain_course(prices, Terms(np.array([0]), ppm, ppm, 0), depth=shock.stressed_depth())
    count = len(book.notional)
    positions = Positions(
        np.asarray(book.direction, "int64"),
        book.notional / close[0],
        np.full(count, close[0]),
        book.notional * margin * book.cushion,
        np.zeros(count, "int64"),
        np.full(count, bars),
    )
    return course, positions


def _bars(course: Course, positions: Positions, done: Outcome, *, rules: Rules, fund: float) -> pd.DataFrame:
    """Add the events up by bar and check that nobody's money came from nowhere.

    Equity of what is open is what the owner put in, less what the trades so far have cost, at the mark; it is
    booked from collateral and trades, not from the keys of the engine. Partly closed accounts pay penalties
    and give money up out of that equity.
    """
    bars, close = len(course.prices.time), course.prices.close
    mark = close * np.array([multiplier(x) for x in done.displacement])
    e = done.events
    sums = ["notional", "given_up", "uncovered", "payout", "penalty", "quantity", "sold"]
    by = e.assign(sold=e["quantity"] * e["price"]).groupby("bar")[sums].sum()
    by = by.reindex(range(bars), fill_value=0.0)
    sold, quantity = by["sold"], by["quantity"].cumsum()
    held = float((positions.direction * positions.quantity).sum()) - quantity.to_numpy()
    equities = held * mark - _owed(positions, done, bars)
    outside = -sold.cumsum().to_numpy() - held * mark
    begun = float(positions.collateral.sum()) - float(
        (positions.direction * positions.quantity * positions.entry_price).sum()
    )
    lenders = by["penalty"].cumsum().to_numpy() * (1 - rules.fund_share) - by["uncovered"].cumsum().to_numpy()
    total = equities + outside + done.fund + lenders + by["payout"].cumsum().to_numpy()
    scale = (
        float(positions.collateral.sum()) + float((positions.quantity * positions.entry_price).sum()) + fund
    )
    return pd.DataFrame(
        {
            "price": mark,
            "undisturbed": close,
            "liquidated": by["notional"].to_numpy(),
            "accounts": e.groupby("bar")["account"].nunique().reindex(range(bars), fill_value=0).to_numpy(),
            "fund": done.fund,
            "deleveraged": by["given_up"].to_numpy(),
            "uncovered": by["uncovered"].to_numpy(),
            "imbalance": np.abs(total - begun - fund) / scale,
        }
    )


def _owed(positions: Positions, done: Outcome, bars: int) -> Floats:
    """Return, per bar, what all open positions together owe: quantity times bankruptcy price."""
    e = done.events
    begun = positions.direction * positions.quantity * positions.entry_price - positions.collateral
    change = -e["quantity"] * e["price"] + e["penalty"] + e["given_up"]
    account = e["account"].to_numpy()
    before = begun[account] + (change.groupby(account).cumsum() - change).to_numpy()
    last = ~e["account"].duplicated(keep="last").to_numpy() & (done.quantity[account] == 0)
    moved = pd.Series(np.where(last, -before, change.to_numpy()), e["bar"].to_numpy())
    by = moved.groupby(level=0).sum().reindex(range(bars), fill_value=0.0)
    return np.asarray(float(begun.sum()) + by.cumsum().to_numpy(), dtype=np.float64)
