"""A venue between two bars: its rules, its accounts, its fund and its price, as values that do not change.

**Carry.** Cash grows by one interest index ``I`` (1 at the start), and every unit held pays the funding of
its asset. With ``G`` = the sum of ``funding / I`` so far, an account's cash never has to be touched: its
bankruptcy price moves as ``b = I (G + key)`` with a ``key`` that is fixed between two trades, because
``b' = b (1 + rate) + funding`` has that solution. So one order of keys stays right along every path of
prices, margins, funding and interest, and a long position is below maintenance margin ``m`` exactly when
``price (1 - m) / I - G < key``.

**Tiers.** A tier's margin applies to the part of the notional above its floor, so a position whose notional
now lies in tier ``k`` is asked ``value m_k - D_k`` with ``D_k = sum of floor_j (m_j - m_{j-1})``, and ``D_k``
over the quantity stands beside ``price (1 - m_k)`` above. Nothing jumps where a tier begins.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

from calibrator.domain import PPM

__all__ = ["Account", "Event", "Holding", "Kind", "Moment", "Quote", "Rules", "State", "key_of", "multiplier"]


class Kind(IntEnum):
    """What ended a position or a part of it."""

    LIQUIDATED = 0
    DELEVERAGED = 1
    CLOSED = 2


@dataclass(frozen=True, slots=True)
class Rules:
    """How a venue liquidates.

    Attributes
    ----------
    latency : int
        Bars between breach and settlement.
    penalty : float
        Fraction of the closed notional, at most what is left of the account.
    fund_share : float
        Share of penalties that the insurance fund receives; the rest is the venue's.
    close_factor : float
        Share of every position that one liquidation closes.
    full_below : float
        Equity below this share of the maintenance requirement: everything is closed.
    dust : float
        A rest of less notional than this is closed, too.
    backstop : {"venue", "deleverage"}
        Who bears what the fund cannot: the venue, or the opposing isolated accounts with the largest profit
        times leverage, which are closed at the bankruptcy price.
    recovery : float
        Share of the displacement of prices by forced sales that is gone in the next bar.

    Raises
    ------
    ValueError
        Names the rule and the value.

    Examples
    --------
    >>> Rules(close_factor=0.5, full_below=0.5).penalty
    0.01
    >>> Rules(close_factor=0)
    Traceback (most recent call last):
    ...
    ValueError: close_factor must lie in (0, 1], was 0
    """

    latency: int = 0
    penalty: float = 0.01
    fund_share: float = 1.0
    close_factor: float = 1.0
    full_below: float = 0.0
    dust: float = 0.0
    backstop: Literal["venue", "deleverage"] = "venue"
    recovery: float = 0.0

    def __post_init__(self) -> None:
        if self.latency < 0:
            raise ValueError(f"latency must not be negative, was {self.latency}")
        if not 0 <= self.penalty < 1:
            raise ValueError(f"penalty must lie in [0, 1), was {self.penalty}")
        if not 0 < self.close_factor <= 1:
            raise ValueError(f"close_factor must lie in (0, 1], was {self.close_factor}")
        for name in ("fund_share", "full_below", "recovery"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], was {getattr(self, name)}")
        if not 0 <= self.dust < np.inf:
            raise ValueError(f"dust must be finite and not negative, was {self.dust}")
        if self.backstop not in {"venue", "deleverage"}:
            raise ValueError(f"backstop must be venue or deleverage, was {self.backstop!r}")


@dataclass(frozen=True, slots=True)
class Quote:
    """One asset in one bar.

    Attributes
    ----------
    start, low, high, close : float
        ``start`` is the close of the bar before; all without the displacement by the venue's own sales.
    maintenance_before, maintenance : tuple of int
        Maintenance margin per tier in the bar before and in this one (ppm).
    notional_floor : tuple of int
        Where the tiers begin; a margin applies to the part of the notional above its tier's floor.
    carry : float
        ``G``: funding per unit so far, each divided by the index of its bar.
    depth : float
        Quote units of forced sales that halve the price; infinite = sales do not move it.
    """

    start: float
    low: float
    high: float
    close: float
    maintenance_before: tuple[int, ...]
    maintenance: tuple[int, ...]
    notional_floor: tuple[int, ...] = (0,)
    carry: float = 0.0
    depth: float = float("inf")


@dataclass(frozen=True, slots=True)
class Moment:
    """One bar of all assets: its number, interest ``index``, and whether settlements must end in it."""

    bar: int
    quotes: tuple[Quote, ...]
    index: float = 1.0
    final: bool = False


@dataclass(frozen=True, slots=True)
class Holding:
    """A signed quantity of one asset."""

    asset: int
    quantity: float


@dataclass(frozen=True, slots=True)
class Account:
    """One account between two bars.

    Attributes
    ----------
    holdings : tuple of Holding
        One for an isolated account; empty after the end.
    key : float
        Isolated: see the module. Cross-margined: cash over the index, plus ``quantity * G`` of every holding,
        so that equity is ``I (key + sum of quantity (price / I - G))``.
    entry_price : float
        Of an isolated account (ranks it for deleveraging).
    opened, closes : int
        Bars; exposed from the bar after ``opened``, closed by its owner at the close of ``closes``.
    cross : bool
        Several holdings that share one margin.
    breached : int
        Bar of a breach that waits for settlement, else -1.
    touched : int
        Last bar in which something was closed, else -1.
    self_inflicted : bool
        The waiting breach would not have happened under the margins of the bar before.
    """

    holdings: tuple[Holding, ...]
    key: float
    entry_price: float
    opened: int
    closes: int
    cross: bool = False
    breached: int = -1
    touched: int = -1
    self_inflicted: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """A position, or a part of it, ended.

    Attributes
    ----------
    bar, account : int
    kind : Kind
    breached : int
        Bar of the breach, -1 where there was none.
    quantity : float
        Closed, signed; of the first holding for a cross-margined account.
    price : float
        Of that holding.
    notional, penalty, payout, shortfall, from_fund, given_up, uncovered : float
        Quote units. ``shortfall`` is negative equity; the fund pays ``from_fund`` of it, deleveraged
        accounts give up what they can, ``uncovered`` is what remains.
    self_inflicted : bool
    """

    bar: int
    account: int
    kind: Kind
    breached: int = -1
    quantity: float = 0.0
    price: float = 0.0
    notional: float = 0.0
    penalty: float = 0.0
    payout: float = 0.0
    shortfall: float = 0.0
    from_fund: float = 0.0
    given_up: float = 0.0
    uncovered: float = 0.0
    self_inflicted: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """A venue between two bars.

    Attributes
    ----------
    accounts : tuple of Account
    fund : float
        Insurance fund, quote units.
    displacement : tuple of float
        Per asset: net forced sales over depth that the price still feels; see :func:`multiplier`.
    """

    accounts: tuple[Account, ...]
    fund: float
    displacement: tuple[float, ...]


def key_of(price: float, *, index: float, carry: float) -> float:
    """Return the key of a position whose bankruptcy price is ``price`` now.

    Examples
    --------
    >>> key = key_of(90.0, index=1.25, carry=2.0)
    >>> 1.25 * (2.0 + key)
    90.0
    """
    return price / index - carry


def multiplier(displacement: float) -> float:
    """Return by what factor a displacement moves the price: sales of one depth halve it, never to zero.

    Examples
    --------
    >>> multiplier(0.0), multiplier(1.0), multiplier(-0.5)
    (1.0, 0.5, 1.5)
    """
    return 1.0 / (1.0 + displacement) if displacement >= 0 else 1.0 - displacement


def is_below(account: Account, moment: Moment, prices: tuple[float, ...], *, before: bool = False) -> bool:
    """Tell whether an account's equity at ``prices`` is below its maintenance requirement.

    Isolated: the comparison of keys above. Cross-margined: ``key + sum of quantity * level < 0`` with the
    level ``price (1 - m) / I - G`` of a long holding and ``price (1 + m) / I - G`` of a short one.

    Examples
    --------
    >>> quote = Quote(94.0, 94.0, 94.0, 94.0, (40_000,), (50_000,))
    >>> account = Account((Holding(0, 1.0),), 90.0, 100.0, 0, 9)
    >>> is_below(account, Moment(1, (quote,)), (94.0,)), is_below(account, Moment(1, (quote,)), (95.0,))
    (True, False)
    """
    if not account.cross:
        held = account.holdings[0]
        level = _level(held, moment, prices[held.asset], before=before)
        return level < account.key if held.quantity > 0 else level > account.key
    excess = account.key
    for held in account.holdings:
        excess += held.quantity * _level(held, moment, prices[held.asset], before=before)
    return excess < 0


def _level(held: Holding, moment: Moment, price: float, *, before: bool) -> float:
    quote = moment.quotes[held.asset]
    margin, spared = tier_terms(quote, abs(held.quantity) * price, before=before)
    factor = 1 - margin if held.quantity > 0 else 1 + margin
    return (price * factor + spared / held.quantity) / moment.index - quote.carry


def tier_terms(quote: Quote, notional: float, *, before: bool = False) -> tuple[float, float]:
    """Return margin (fraction) and deduction (quote units) of the tier that a notional falls into.

    Examples
    --------
    >>> quote = Quote(1.0, 1.0, 1.0, 1.0, (50_000, 60_000), (50_000, 100_000), (0, 1_000))
    >>> tier_terms(quote, 999.0), tier_terms(quote, 1_000.0), tier_terms(quote, 1_000.0, before=True)
    ((0.05, 0.0), (0.1, 50.0), (0.06, 10.0))
    """
    rates, floors = quote.maintenance_before if before else quote.maintenance, quote.notional_floor
    tier = sum(floor <= notional for floor in floors) - 1
    spared = sum(floors[j] * (rates[j] - rates[j - 1]) for j in range(1, tier + 1))
    return rates[tier] / PPM, spared / PPM


def equity_of(account: Account, moment: Moment, prices: tuple[float, ...]) -> float:
    """Return an account's equity at ``prices`` (quote units).

    Examples
    --------
    >>> quote = Quote(94.0, 94.0, 94.0, 94.0, (50_000,), (50_000,))
    >>> equity_of(Account((Holding(0, 2.0),), 90.0, 100.0, 0, 9), Moment(1, (quote,)), (94.0,))
    8.0
    """
    index = moment.index
    if not account.cross:
        held = account.holdings[0]
        return held.quantity * (prices[held.asset] - index * (moment.quotes[held.asset].carry + account.key))
    total = account.key
    for held in account.holdings:
        total += held.quantity * (prices[held.asset] / index - moment.quotes[held.asset].carry)
    return index * total
