"""Replay isolated accounts through history under a margin schedule, and count who pays for what."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

import numpy as np
import pandas as pd

from calibrator.backtest.asked import average_margin
from calibrator.backtest.events import Engine, Events, Positions, search_events
from calibrator.backtest.terms import Prices, Terms, prices_by_market, terms_by_market
from calibrator.errors import DataError
from calibrator.frames import ACCOUNTS, conform

PENALTY: Final = 0.01
_TOTALS: Final = ("pnl", "penalty", "shortfall", "payout")
T = TypeVar("T")
R = TypeVar("R")


class Spread(Protocol):
    """Applies a function to independent items, wherever that is done, and returns results in their order."""

    def __call__(self, function: Callable[[T], R], items: Sequence[T], /) -> Iterable[R]:
        """Return ``function`` of every item, as ``map`` does."""
        ...


@dataclass(frozen=True, slots=True)
class Replay:
    """Outcome of one schedule.

    Attributes
    ----------
    outcomes : pandas.DataFrame
        One row per replayed account: ``account, market, side, notional`` (at entry), ``status`` (``open``,
        ``closed`` by its owner, ``liquidated``), ``breached_at``, ``settled_at``, ``price``, ``pnl``,
        ``penalty``, ``shortfall``, ``payout`` (quote units), ``self_inflicted``, ``unfinished`` (the bars
        ended before the settlement was due; settled at the last close), ``bars_held`` and
        ``average_margin`` (fraction of notional asked while it was exposed).
    given : int
        Accounts handed in.
    not_covered : int
        Opened after the last bar, or before the first schedule took effect; not replayed.
    insolvent_at_start : int
        Equity zero or negative at the close of their opening bar; not replayed.
    bars : int
        Bars of all markets.
    """

    outcomes: pd.DataFrame
    given: int
    not_covered: int
    insolvent_at_start: int
    bars: int

    def summary(self) -> dict[str, float | int]:
        """Return counts and sums as plain values.

        ``self_inflicted`` counts the accounts whose equity lay between the old and the new maintenance margin
        when a change took effect: the change liquidated them, not the price. ``self_inflicted_share`` is
        their part of the notional liquidated. ``capital`` is the maintenance margin asked, in quote units,
        averaged over all bars and markets; ``average_margin`` the same per unit of notional and time;
        ``venue_result`` penalties less shortfall.

        Examples
        --------
        >>> columns = ["notional", "status", "self_inflicted", "unfinished", "liquidated_notional",
        ...            "bars_held", "average_margin", "pnl", "penalty", "shortfall", "payout"]
        >>> empty = Replay(pd.DataFrame(columns=columns), 3, 2, 1, 100).summary()
        >>> empty["accounts"], empty["replayed"], empty["not_covered"], empty["liquidations"]
        (3, 0, 2, 0)
        """
        x = self.outcomes
        exposure = (x["notional"] * x["bars_held"]).astype(float)
        asked = float((exposure * x["average_margin"].astype(float)).sum())
        total = float(exposure.sum())
        sums = {name: float(x[name].sum()) for name in _TOTALS}
        liquidated = float(x["liquidated_notional"].sum())
        by_change = float(x["liquidated_notional"].astype(float)[x["self_inflicted"].astype(bool)].sum())
        return {
            "accounts": self.given,
            "replayed": len(x),
            "not_covered": self.not_covered,
            "insolvent_at_start": self.insolvent_at_start,
            "liquidations": int((x["status"] == "liquidated").sum()),
            "self_inflicted": int(x["self_inflicted"].sum()),
            "unfinished": int(x["unfinished"].sum()),
            "accounts_with_shortfall": int((x["shortfall"] > 0).sum()),
            "notional_liquidated": liquidated,
            "self_inflicted_notional": by_change,
            "self_inflicted_share": by_change / liquidated if liquidated > 0 else 0.0,
            "average_margin": asked / total if total > 0 else 0.0,
            "capital": asked / self.bars if self.bars else 0.0,
            **sums,
            "venue_result": sums["penalty"] - sums["shortfall"],
        }


def replay(  # noqa: PLR0913 - the rule, and how it is computed
    bars: pd.DataFrame,
    accounts: pd.DataFrame,
    schedule: pd.DataFrame,
    *,
    latency: int,
    penalty: float = PENALTY,
    engine: Engine = search_events,
    spread: Spread = map,
) -> Replay:
    """Replay accounts under one schedule.

    A position opens at the close of the bar that contains ``opened``. From then on it follows
    :func:`calibrator.backtest.transition.step`: below maintenance margin it is closed at the close
    ``latency`` bars later. There, with ``equity = collateral + pnl``: the penalty is ``min(max(equity, 0),
    penalty * notional)``, the owner gets what remains, and negative equity is the venue's *shortfall* (bad
    debt).
    Owners close by themselves at ``closed``, without penalty. Open positions are valued at the last close.
    Money is conserved: ``collateral = payout + penalty - shortfall - pnl``, the last being the
    counterparties'.

    Parameters
    ----------
    bars : pandas.DataFrame
        ``frames.BARS``; a missing bar is no bar (nobody is liquidated in it).
    accounts : pandas.DataFrame
        ``frames.ACCOUNTS``.
    schedule : pandas.DataFrame
        ``frames.SCHEDULE_HISTORY``; a tier's margin applies to the part of the notional, at the price of the
        moment, above the tier's floor.
    latency : int
        Bars between breach and settlement (the close-out).
    penalty : float
        Fraction of the notional at settlement, in [0, 1).
    engine : callable
        :func:`~calibrator.backtest.events.search_events`, or ``heap_events`` or the slow
        oracle ``loop_events`` of :mod:`calibrator.backtest.course`.
    spread : callable
        Does the markets, which do not depend on each other; the result does not depend on it.

    Returns
    -------
    Replay
        Accounts that could not be replayed are counted, never dropped silently.

    Raises
    ------
    DataError
        A frame breaks its schema, an account's market has no bars or no schedule, or it closes before it
        opens.
    ValueError
        Latency or penalty out of bounds.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> price = [100.0, 100.0, 93.0, 85.0]
    >>> bars = pd.DataFrame({"market": "A", "time": t, "open": price, "high": price, "low": price,
    ...                      "close": price, "volume": 1.0})
    >>> account = pd.DataFrame({"account": ["x"], "market": "A", "side": "long", "quantity": 1.0,
    ...     "entry_price": 100.0, "collateral": 10.0, "opened": t[:1],
    ...     "closed": pd.to_datetime([None], utc=True)})
    >>> schedule = pd.DataFrame({"market": "A", "effective_from": t[:1] - pd.Timedelta("1D"),
    ...     "notional_floor": 0, "regime": 0,
    ...     "initial_margin_ppm": 80_000, "maintenance_margin_ppm": 50_000})
    >>> late, prompt = (replay(bars, account, schedule, latency=n).summary() for n in (1, 0))
    >>> late["shortfall"], late["liquidations"], prompt["shortfall"], round(prompt["payout"], 2)
    (5.0, 1, 0.0, 2.07)
    """
    if latency < 0:
        raise ValueError(f"latency must not be negative, was {latency}")
    if not 0 <= penalty < 1:
        raise ValueError(f"penalty must lie in [0, 1), was {penalty}")
    checked = conform(accounts, ACCOUNTS, source="replay")
    if checked.empty:
        raise DataError("accounts: there must be at least one row, there are 0")
    _refuse_closed_before_opened(checked)
    prices = prices_by_market(bars)
    terms = terms_by_market(schedule, prices)
    items: list[_Item] = []
    for name, group in checked.groupby("market", sort=True):
        market = str(name)
        for what, known in (("bars", prices), ("schedule", terms)):
            if market not in known:
                first = group["account"].iloc[0]
                raise DataError(f"accounts: market {market!r} of account {first!r} has no {what}")
        items.append((group, prices[market], terms[market]))
    alone = partial(_replay_market, latency=latency, penalty=penalty, engine=engine)
    parts = list(spread(alone, items))
    bars_in_all = sum(len(p.time) for p in prices.values())
    outcomes = pd.concat([p[0] for p in parts], ignore_index=True)
    return Replay(outcomes, len(checked), sum(p[1] for p in parts), sum(p[2] for p in parts), bars_in_all)


_Item = tuple[pd.DataFrame, Prices, Terms]


def _replay_market(
    item: _Item, *, latency: int, penalty: float, engine: Engine
) -> tuple[pd.DataFrame, int, int]:
    """Replay the accounts of one market; return outcomes, and how many were not covered and insolvent."""
    group, prices, terms = item
    solvent, positions, (lost, broke) = positioned(group, prices, terms)
    events = engine(prices, terms, positions, latency)
    settled = _settle(solvent, prices, terms, positions, events)
    overdue = (events.breached >= 0) & (events.breached + latency >= len(prices.time))
    return _pay(settled.assign(unfinished=overdue), positions, penalty), lost, broke


def positioned(
    accounts: pd.DataFrame, prices: Prices, terms: Terms
) -> tuple[pd.DataFrame, Positions, tuple[int, int]]:
    """Lay the accounts of one market over its bars.

    Parameters
    ----------
    accounts : pandas.DataFrame
        ``frames.ACCOUNTS`` of one market.
    prices : Prices
    terms : Terms

    Returns
    -------
    tuple
        Accounts that can be replayed, their positions, and how many are not covered and how many insolvent.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=3, tz="UTC").as_unit("us")
    >>> one, margins = np.full(3, 100.0), np.full((1, 3), 50_000)
    >>> row = {"account": "x", "market": "A", "side": "long", "quantity": 1.0, "entry_price": 100.0,
    ...        "collateral": 10.0, "opened": t[1], "closed": pd.NaT}
    >>> accounts = pd.DataFrame([row])
    >>> accounts["closed"] = pd.to_datetime(accounts["closed"], utc=True)
    >>> prices = Prices(t.tz_convert(None).to_numpy(), one, one, one)
    >>> _, positions, lost = positioned(accounts, prices, Terms(np.array([0]), margins, margins, 0))
    >>> positions.opened.tolist(), positions.closes.tolist(), lost
    ([1], [3], (0, 0))
    """
    covered, lost = _covered(accounts, prices, terms)
    solvent, broke = _solvent(covered, prices)
    return solvent, _positions(solvent, prices), (lost, broke)


def compare(
    bars: pd.DataFrame,
    accounts: pd.DataFrame,
    schedules: Mapping[str, pd.DataFrame],
    *,
    latency: int,
    penalty: float = PENALTY,
    spread: Spread = map,
) -> pd.DataFrame:
    """Replay the same accounts under several schedules.

    Parameters
    ----------
    bars, accounts : pandas.DataFrame
        As in :func:`replay`.
    schedules : mapping of str to pandas.DataFrame
        ``frames.SCHEDULE_HISTORY`` by name, for instance ``{"ours": ..., "static": ...}``.
    latency : int
    penalty : float
    spread : callable
        As in :func:`replay`.

    Returns
    -------
    pandas.DataFrame
        One row per schedule, the columns of :meth:`Replay.summary`.
    """
    rows = {
        name: replay(bars, accounts, schedule, latency=latency, penalty=penalty, spread=spread).summary()
        for name, schedule in schedules.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("schedule")


def _refuse_closed_before_opened(accounts: pd.DataFrame) -> None:
    wrong = accounts["closed"] < accounts["opened"]
    if wrong.any():
        row = accounts[wrong].iloc[0]
        raise DataError(
            f"accounts: closed must not precede opened, does for account {row['account']!r}: "
            f"{row['closed'].isoformat()} before {row['opened'].isoformat()}"
        )


def _covered(accounts: pd.DataFrame, prices: Prices, terms: Terms) -> tuple[pd.DataFrame, int]:
    opened = np.searchsorted(prices.time, accounts["opened"].dt.tz_convert(None).to_numpy(), side="left")
    # The margin of the first exposed bar must be known; a position opened at the last bar is never exposed.
    inside = (opened < len(prices.time)) & (opened + 1 >= terms.first)
    return accounts[inside].assign(bar=opened[inside]), int(np.sum(~inside))


def _solvent(accounts: pd.DataFrame, prices: Prices) -> tuple[pd.DataFrame, int]:
    direction = np.where(accounts["side"] == "long", 1, -1)
    gain = direction * accounts["quantity"] * (prices.close[accounts["bar"]] - accounts["entry_price"])
    alive = accounts["collateral"] + gain > 0
    return accounts[alive], int(np.sum(~alive))


def _positions(accounts: pd.DataFrame, prices: Prices) -> Positions:
    never = accounts["closed"].isna().to_numpy()
    closed = accounts["closed"].dt.tz_convert(None).to_numpy()
    closes = np.searchsorted(prices.time, np.where(never, prices.time[-1], closed), side="left")
    quantity, entry = (accounts[c].to_numpy(dtype=float) for c in ("quantity", "entry_price"))
    return Positions(
        np.where(accounts["side"] == "long", 1, -1),
        quantity,
        entry,
        accounts["collateral"].to_numpy(dtype=float),
        accounts["bar"].to_numpy(dtype="int64"),
        np.where(never, len(prices.time), closes),
    )


def _settle(
    accounts: pd.DataFrame, prices: Prices, terms: Terms, positions: Positions, events: Events
) -> pd.DataFrame:
    liquidated = events.breached >= 0
    ended = liquidated | (positions.closes < len(prices.time))
    status = np.where(liquidated, "liquidated", np.where(ended, "closed", "open"))
    when = [pd.Series(prices.time[np.maximum(b, 0)]) for b in (events.breached, events.settled)]
    return pd.DataFrame(
        {
            "account": accounts["account"].to_numpy(),
            "market": accounts["market"].to_numpy(),
            "side": accounts["side"].to_numpy(),
            "notional": positions.quantity * positions.entry_price,
            "status": status,
            "breached_at": when[0].where(liquidated).dt.tz_localize("UTC"),
            "settled_at": when[1].dt.tz_localize("UTC"),
            "price": prices.close[events.settled],
            "self_inflicted": events.self_inflicted,
            "bars_held": events.settled - positions.opened,
            "average_margin": average_margin(prices, terms, positions, events),
        }
    )


def _pay(outcomes: pd.DataFrame, positions: Positions, penalty: float) -> pd.DataFrame:
    price = outcomes["price"].to_numpy()
    pnl = positions.direction * positions.quantity * (price - positions.entry_price)
    equity = positions.collateral + pnl
    liquidated = (outcomes["status"] == "liquidated").to_numpy()
    value = np.where(liquidated, positions.quantity * price, 0.0)
    remains = np.maximum(equity, 0.0)
    charged = np.minimum(remains, penalty * value)
    return outcomes.assign(
        liquidated_notional=value,
        collateral=positions.collateral,
        pnl=pnl,
        penalty=charged,
        shortfall=np.maximum(-equity, 0.0),
        payout=remains - charged,
    )
