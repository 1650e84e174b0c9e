"""Contracts: what is held, one unit long, with the marks that value it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from calibrator.errors import DataError
from calibrator.portfolio.black76 import price as option_price

Array = NDArray[np.float64]
Kind = Literal["spot", "perpetual", "future", "call", "put"]
KINDS: Final[tuple[Kind, ...]] = ("spot", "perpetual", "future", "call", "put")
OPTIONS: Final = ("call", "put")


@dataclass(frozen=True, slots=True)
class Contract:
    """One unit of an instrument, long, and its marks; equal contracts net.

    Attributes
    ----------
    underlying : str
    kind : {"spot", "perpetual", "future", "call", "put"}
        ``spot`` is also an asset of the collateral pool. An inverse perpetual or future of N quote units
        entered at E is N / E units here: in the quote currency it is linear.
    price : float
        Mark of a linear contract, forward of an option (quote currency per unit).
    strike : float or None
        Of an option.
    years : float or None
        To expiry, of a future or an option.
    volatility : float or None
        Implied, per square root of a year, of an option.
    coin : float or None
        Price of the coin that an inverse option pays in; None for a linear option. An inverse option is worth
        ``Black-76 / forward`` coins.

    Raises
    ------
    DataError
        A mark that is missing, out of bounds, or does not belong to the kind; an expired option.

    Examples
    --------
    >>> Contract("BTC", "call", 60_000.0, strike=66_000.0, years=30 / 365, volatility=0.6).name
    'BTC call 66000 30.0d'
    >>> Contract("BTC", "put", 60_000.0, strike=66_000.0, years=0.0, volatility=0.6)
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: BTC put: years to expiry must be positive (expired?), was 0.0
    """

    underlying: str
    kind: Kind
    price: float
    strike: float | None = None
    years: float | None = None
    volatility: float | None = None
    coin: float | None = None

    def __post_init__(self) -> None:
        what = f"{self.underlying} {self.kind}"
        if self.kind not in KINDS:
            raise DataError(f"{self.underlying}: kind must be one of {', '.join(KINDS)}, was {self.kind!r}")
        _positive(what, "price", self.price)
        self._check_given(what)
        if self.years is not None and not (0 < self.years < math.inf):
            raise DataError(f"{what}: years to expiry must be positive (expired?), was {self.years}")
        if self.strike is not None:
            _positive(what, "strike", self.strike)
        if self.volatility is not None and not (0 <= self.volatility < math.inf):
            raise DataError(f"{what}: volatility must be finite and not negative, was {self.volatility}")
        if self.coin is not None:
            _positive(what, "coin", self.coin)

    def _check_given(self, what: str) -> None:
        option = self.kind in OPTIONS
        for name, value, wanted in (
            ("strike", self.strike, option),
            ("volatility", self.volatility, option),
            ("years", self.years, option or self.kind == "future"),
        ):
            if wanted != (value is not None):
                raise DataError(f"{what}: {name} is {'missing' if wanted else 'not for this kind'}")
        if self.coin is not None and not option:
            raise DataError(f"{what}: coin is for inverse options only")

    @property
    def option(self) -> bool:
        """Whether it is a call or a put."""
        return self.kind in OPTIONS

    @property
    def scale(self) -> float:
        """Coins per forward: what turns Black-76 into the value in quote currency."""
        return self.coin / self.price if self.coin is not None else 1.0

    @property
    def bucket(self) -> str:
        """Where its price comes from: two buckets of one underlying have a basis between them."""
        return self.kind if self.years is None else f"{self.years!r}"

    @property
    def name(self) -> str:
        """How reports call it."""
        expiry = f" {self.years * 365:.1f}d" if self.years is not None else ""
        strike = f" {self.strike:g}" if self.strike is not None else ""
        return f"{self.underlying} {self.kind}{strike}{expiry}"


def _positive(what: str, name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise DataError(f"{what}: {name} must be positive and finite, was {value}")


@dataclass(frozen=True, slots=True)
class Table:
    """Contracts as columns, for the kernels.

    Attributes
    ----------
    contracts : tuple of Contract
        Distinct.
    symbols : tuple of str
        Underlyings of the rules, in their order.
    underlying, bucket : numpy.ndarray of int
        Position in ``symbols``; number of the bucket.
    bucket_underlying : numpy.ndarray of int
        Underlying of each bucket.
    sign : numpy.ndarray
        1 call, -1 put, 0 linear.
    price, strike, volatility, years, scale : numpy.ndarray
        Marks; linear contracts have strike 1 and zeros.
    value : numpy.ndarray
        Of one unit: an option's premium, zero for a perpetual or future (their gains are realised), the price
        of spot.
    exposure : numpy.ndarray
        Delta times price of one unit, quote currency.
    notional : numpy.ndarray
        Price of the underlying of one unit, quote currency.

    Examples
    --------
    >>> made = table((Contract("BTC", "spot", 100.0), Contract("BTC", "perpetual", 101.0)), ("BTC",))
    >>> made.bucket.tolist(), made.exposure.tolist(), made.value.tolist()
    ([0, 1], [100.0, 101.0], [100.0, 0.0])
    """

    contracts: tuple[Contract, ...]
    symbols: tuple[str, ...]
    underlying: NDArray[np.int64]
    bucket: NDArray[np.int64]
    bucket_underlying: NDArray[np.int64]
    sign: Array
    price: Array
    strike: Array
    volatility: Array
    years: Array
    scale: Array
    value: Array
    exposure: Array
    notional: Array


def table(contracts: Sequence[Contract], symbols: Sequence[str]) -> Table:
    """Lay contracts out as columns.

    Parameters
    ----------
    contracts : sequence of Contract
    symbols : sequence of str
        Underlyings that the rules know.

    Raises
    ------
    DataError
        No contract, or an underlying that the rules do not know.

    Examples
    --------
    >>> table((Contract("DOGE", "spot", 0.1),), ("BTC", "ETH"))
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: unknown underlying 'DOGE': the rules know BTC, ETH
    """
    if not contracts:
        raise DataError("the book is empty: no contract to value")
    known = {symbol: i for i, symbol in enumerate(symbols)}
    for c in contracts:
        if c.underlying not in known:
            some = ", ".join(list(known)[:8])
            raise DataError(f"unknown underlying {c.underlying!r}: the rules know {some}")
    buckets = {key: i for i, key in enumerate(dict.fromkeys((c.underlying, c.bucket) for c in contracts))}
    sign = np.array([{"call": 1.0, "put": -1.0}.get(c.kind, 0.0) for c in contracts])
    price = np.array([c.price for c in contracts])
    strike = np.array([c.strike or 1.0 for c in contracts])
    volatility = np.array([c.volatility or 0.0 for c in contracts])
    years = np.array([c.years or 0.0 for c in contracts])
    scale = np.array([c.scale for c in contracts])
    value, delta = _values(sign, (price, strike, volatility, years))
    spot = np.array([c.kind == "spot" for c in contracts])
    return Table(
        contracts=tuple(contracts),
        symbols=tuple(symbols),
        underlying=np.array([known[c.underlying] for c in contracts], np.int64),
        bucket=np.array([buckets[c.underlying, c.bucket] for c in contracts], np.int64),
        bucket_underlying=np.array([known[u] for u, _ in buckets], np.int64),
        sign=sign,
        price=price,
        strike=strike,
        volatility=volatility,
        years=years,
        scale=scale,
        value=np.where(spot, price, value * scale),
        exposure=delta * price * scale,
        notional=price * scale,
    )


def _values(sign: Array, marks: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
    """Value and delta of one unit; the delta by a central difference of a basis point, exact enough."""
    price, strike, volatility, years = marks
    value, delta = np.zeros(len(sign)), np.ones(len(sign))
    o = np.flatnonzero(sign)
    if len(o):
        rest = (strike[o], volatility[o], years[o])
        step = 1e-4 * price[o]
        calls = sign[o] > 0
        value[o] = option_price(price[o], *rest, call=calls)
        above, below = (option_price(price[o] + x, *rest, call=calls) for x in (step, -step))
        delta[o] = (above - below) / (2 * step)
    return value, delta
