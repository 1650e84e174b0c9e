"""Exposure caps: the largest open interest or supply whose defaults under stress the fund absorbs."""

import math
from dataclasses import dataclass
from typing import Final

LARGEST_CAP: Final = 2**53 - 1


@dataclass(frozen=True, slots=True)
class Stress:
    """What a default costs per unit, and how its size makes it worse.

    Attributes
    ----------
    margin : float
        What covers a default (fraction): the margin, or what a threshold leaves of the collateral.
    move : float
        Stressed loss over the close-out (fraction).
    turnover : float
        Volume per bar (quote units, positive).
    volatility : float
        Forecast over one bar (fraction).
    close_out : int
        Bars (positive).
    participation : float
        Share of the volume that a close-out may take, in (0, 1].
    impact : float
        Y of the square-root law.
    defaulting : float
        Share of the exposure that defaults together, in (0, 1]: the two largest accounts and of the crowded
        side what falls with them.
    cost : float
        Penalty and fees of a liquidation (fraction of what is closed).

    Raises
    ------
    ValueError
        A value out of bounds.
    """

    margin: float
    move: float
    turnover: float
    volatility: float
    close_out: int
    participation: float
    impact: float
    defaulting: float
    cost: float = 0.0

    def __post_init__(self) -> None:
        for name in ("turnover", "close_out"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and positive, was {getattr(self, name)}")
        for name in ("participation", "defaulting"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], was {getattr(self, name)}")
        for name in ("margin", "move", "volatility", "impact", "cost"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, was {getattr(self, name)}")

    def loss(self, exposure: float) -> float:
        """Return what the fund pays when the defaulting share of an exposure is closed under stress.

        With ``Q = defaulting * exposure``: ``Q max(0, move sqrt(T / close_out) + slippage + cost - margin)``,
        ``T = max(close_out, Q / (participation turnover))``, ``slippage = Y volatility sqrt(Q / turnover)``.
        Rises with the exposure, faster than in proportion.

        Examples
        --------
        >>> book = Stress(margin=0.08, move=0.12, turnover=1e6, volatility=0.01, close_out=24,
        ...               participation=0.1, impact=1.0, defaulting=0.25)
        >>> round(book.loss(1e6)), round(book.loss(1e7))
        (11250, 145715)
        """
        size = self.defaulting * exposure
        bars = max(self.close_out, size / (self.participation * self.turnover))
        slippage = self.impact * self.volatility * math.sqrt(size / self.turnover)
        lost = self.move * math.sqrt(bars / self.close_out) + slippage + self.cost
        return size * max(lost - self.margin, 0.0)


def exposure_cap(stress: Stress, *, fund: float) -> int:
    """Return the largest whole exposure whose stress loss the fund absorbs; bisection on integers, exact.

    Parameters
    ----------
    stress : Stress
    fund : float
        What the fund sets aside for this market (quote units, not negative).

    Returns
    -------
    int
        Quote units, at most ``2**53 - 1``.

    Examples
    --------
    >>> book = Stress(margin=0.08, move=0.12, turnover=1e6, volatility=0.01, close_out=24,
    ...               participation=0.1, impact=1.0, defaulting=0.25)
    >>> cap = exposure_cap(book, fund=100_000.0)
    >>> book.loss(cap) <= 100_000 < book.loss(cap + 1), round(cap, -5)
    (True, 7500000)
    """
    if not fund >= 0:
        raise ValueError(f"fund must not be negative, was {fund}")
    if stress.loss(LARGEST_CAP) <= fund:
        return LARGEST_CAP
    low, high = 0, LARGEST_CAP
    while high - low > 1:
        middle = (low + high) // 2
        if stress.loss(middle) <= fund:
            low = middle
        else:
            high = middle
    return low
