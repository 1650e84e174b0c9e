"""An implied-volatility surface from quotes, and whether it can be traded against: the arbitrage checks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibrator.errors import DataError
from calibrator.portfolio.black76 import price

Array = NDArray[np.float64]
TOLERANCE: Final = 1e-4
"""Violations below this share of the forward are rounding of the quotes."""


@dataclass(frozen=True, slots=True)
class Smile:
    """Implied volatilities of one expiry.

    Attributes
    ----------
    years : float
        To expiry.
    forward : float
    strikes, volatilities : numpy.ndarray, shape (n,)
        Strikes rising.

    Raises
    ------
    DataError
        No quote, a value that is not positive and finite, strikes that do not rise.

    Examples
    --------
    >>> smile = Smile(0.25, 100.0, np.array([90.0, 110.0]), np.array([0.6, 0.5]))
    >>> smile.total_variance(0.0).round(4).tolist()
    0.0756
    """

    years: float
    forward: float
    strikes: Array
    volatilities: Array

    def __post_init__(self) -> None:
        place = f"smile at {self.years} years"
        if not len(self.strikes) or len(self.strikes) != len(self.volatilities):
            raise DataError(
                f"{place}: strikes and volatilities must be as many, were {len(self.strikes)} and "
                f"{len(self.volatilities)}"
            )
        for name, values in (
            ("years", np.array([self.years])),
            ("forward", np.array([self.forward])),
            ("strike", self.strikes),
            ("volatility", self.volatilities),
        ):
            wrong = ~((values > 0) & np.isfinite(values))
            if wrong.any():
                raise DataError(f"{place}: {name} must be positive and finite, was {values[wrong][0]}")
        if (np.diff(self.strikes) <= 0).any():
            raise DataError(f"{place}: strikes must rise")

    def total_variance(self, moneyness: ArrayLike) -> Array:
        """Return volatility squared times years at ``log(strike / forward)``.

        Linear between the quotes, constant beyond the outermost.
        """
        at = np.log(self.strikes / self.forward)
        found: Array = np.interp(np.asarray(moneyness, float), at, self.volatilities**2 * self.years)
        return np.asarray(found)


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where the surface offers a riskless gain.

    Attributes
    ----------
    rule : {"vertical", "butterfly", "calendar"}
        Calls that do not fall with the strike, that are not convex in it, or total variance that falls with
        the expiry at equal moneyness.
    years, strike : float
        Where.
    gain : float
        Share of the forward (calendar: of the total variance).

    Examples
    --------
    >>> print(Finding("butterfly", 0.25, 100.0, 0.002))
    butterfly at strike 100, 0.25 years: 0.20% to gain
    """

    rule: str
    years: float
    strike: float
    gain: float

    def __str__(self) -> str:
        return f"{self.rule} at strike {self.strike:g}, {self.years:.4g} years: {self.gain:.2%} to gain"


@dataclass(frozen=True, slots=True)
class Surface:
    """Smiles of several expiries.

    Attributes
    ----------
    smiles : tuple of Smile
        Years rising.

    Raises
    ------
    DataError
        No smile, or expiries that do not rise.

    Examples
    --------
    >>> near = Smile(0.1, 100.0, np.array([90.0, 110.0]), np.array([0.6, 0.6]))
    >>> far = Smile(0.4, 102.0, np.array([90.0, 110.0]), np.array([0.5, 0.5]))
    >>> Surface((near, far)).volatility(0.2, 100.0, forward=101.0).round(4).tolist()
    0.5354
    """

    smiles: tuple[Smile, ...]

    def __post_init__(self) -> None:
        years = [s.years for s in self.smiles]
        if not years or any(b <= a for a, b in pairwise(years)):
            raise DataError(f"a surface needs expiries that rise, were {years}")

    def volatility(self, years: float, strike: ArrayLike, *, forward: float | None = None) -> Array:
        """Return implied volatilities of one expiry.

        Total variance is linear in time at equal moneyness, ``log(strike / forward)``; before the first and
        after the last expiry the volatility of that expiry holds.

        Parameters
        ----------
        years : float
            Positive.
        strike : array_like
        forward : float, optional
            Of this expiry; default: log-linear between the smiles' forwards.

        Raises
        ------
        DataError
            ``years`` not positive and finite.
        """
        if not 0 < years < np.inf:
            raise DataError(f"years must be positive and finite, was {years}")
        known = np.array([s.years for s in self.smiles])
        if forward is None:
            logs = np.log([s.forward for s in self.smiles])
            forward = float(np.exp(np.interp(years, known, logs)))
        at = np.log(np.asarray(strike, float) / forward)
        after = int(np.searchsorted(known, years))
        if after == 0 or after == len(known):
            smile = self.smiles[min(after, len(known) - 1)]
            edge: Array = np.sqrt(smile.total_variance(at) / smile.years)
            return edge
        low, high = self.smiles[after - 1], self.smiles[after]
        share = (years - low.years) / (high.years - low.years)
        total = (1 - share) * low.total_variance(at) + share * high.total_variance(at)
        inner: Array = np.sqrt(total / years)
        return inner

    def findings(self) -> tuple[Finding, ...]:
        """Return where the quotes themselves allow a riskless gain; nothing is repaired.

        Verticals and butterflies on the quoted strikes of each expiry, calendars at the quoted moneyness of
        the earlier of two neighbouring expiries, inside the range of both.
        """
        found: list[Finding] = []
        for smile in self.smiles:
            found += _strikewise(smile)
        for low, high in pairwise(self.smiles):
            found += _calendar(low, high)
        return tuple(found)


def _strikewise(smile: Smile) -> list[Finding]:
    k = smile.strikes
    calls = price(smile.forward, k, smile.volatilities, smile.years, call=True)
    slope = np.diff(calls) / np.diff(k)
    found = []
    excess = np.maximum(slope, -1 - slope) * np.diff(k) / smile.forward
    for i in np.flatnonzero(excess > TOLERANCE):
        gain = excess[i]
        found.append(Finding("vertical", smile.years, float(k[i]), float(gain)))
    for j in range(1, len(k) - 1):
        share = (k[j] - k[j - 1]) / (k[j + 1] - k[j - 1])
        gain = (calls[j] - (1 - share) * calls[j - 1] - share * calls[j + 1]) / smile.forward
        if gain > TOLERANCE:
            found.append(Finding("butterfly", smile.years, float(k[j]), float(gain)))
    return found


def _calendar(low: Smile, high: Smile) -> list[Finding]:
    at = np.log(low.strikes / low.forward)
    ends = np.log(high.strikes[[0, -1]] / high.forward)
    inside = (at >= ends[0]) & (at <= ends[1])
    before, after = low.total_variance(at), high.total_variance(at)
    fallen = np.flatnonzero(inside & (after < before * (1 - TOLERANCE)))
    return [
        Finding("calendar", high.years, float(low.strikes[i]), float(1 - after[i] / before[i]))
        for i in fallen
    ]


def surface(years: ArrayLike, strikes: ArrayLike, volatilities: ArrayLike, forwards: ArrayLike) -> Surface:
    """Build a surface from quotes in any order.

    Parameters
    ----------
    years, strikes, volatilities, forwards : array_like, shape (n,)
        One row per quote; several quotes of one expiry and strike (a call and a put) count with their mean,
        and the forward of an expiry is the median of its quotes.

    Raises
    ------
    DataError
        As :class:`Smile`; columns of different length.

    Examples
    --------
    >>> made = surface([0.1, 0.1, 0.1], [90, 110, 90], [0.6, 0.5, 0.62], [100, 100, 100])
    >>> made.smiles[0].volatilities.tolist()
    [0.61, 0.5]
    """
    columns = [np.asarray(x, float) for x in (years, strikes, volatilities, forwards)]
    if len({c.shape for c in columns}) != 1 or columns[0].ndim != 1:
        raise DataError(f"quotes must be columns of one length, were {[c.shape for c in columns]}")
    return Surface(tuple(_smile(t, columns) for t in np.unique(columns[0])))


def _smile(at: float, columns: Sequence[Array]) -> Smile:
    years, strikes, volatilities, forwards = columns
    own = years == at
    known, row = np.unique(strikes[own], return_inverse=True)
    mean = np.bincount(row, volatilities[own]) / np.bincount(row)
    return Smile(float(at), float(np.median(forwards[own])), known, mean)
