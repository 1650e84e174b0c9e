"""Maintenance and initial margin tiers by notional, with liquidity, quantised towards safety."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibrator.calibrate.procyclicality import limit
from calibrator.domain import NOISE, PPM, ChangeLimits, MarginSchedule, MarginTier

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
HIGHEST: Final = PPM - 1
"""A maintenance margin stays below the initial margin, which stays at or below the notional."""


@dataclass(frozen=True, slots=True)
class Liquidity:
    """How a position's size widens its margin.

    Attributes
    ----------
    turnover : numpy.ndarray, shape (decisions,)
        Quote volume per bar; NaN when the source has none.
    volatility : numpy.ndarray, shape (decisions,)
        Forecast volatility over one bar (fraction).
    close_out : int
        Bars of the first tier's close-out.
    participation : float
        Share of the volume a close-out may take.
    impact : float
        Y of the square-root law.
    """

    turnover: Array
    volatility: Array
    close_out: int
    participation: float
    impact: float

    def widen(self, margin: Array, notional: float) -> Array:
        """Widen margins for a close-out of ``notional``.

        The quantile grows with the root of the time that the size needs,
        ``T = max(close_out, Q / (participation turnover))``, and the slippage over that time,
        ``Y volatility sqrt(Q / volume)``, is added. Where the turnover is unknown, the widening stays what
        it was at the last decision that knew it, and at least doubles: what is unknown never loosens.

        References
        ----------
        Almgren, R. et al. (2005). Direct estimation of equity market impact. Risk.

        Examples
        --------
        >>> book = Liquidity(np.array([1e6]), np.array([0.01]), 24, participation=0.1, impact=1.0)
        >>> [book.widen(np.array([0.05]), q).round(4).tolist() for q in (1e6, 1e7)]
        [[0.06], [0.1337]]
        >>> gap = Liquidity(np.array([1e6, np.nan]), np.full(2, 0.01), 24, participation=0.1, impact=1.0)
        >>> gap.widen(np.full(2, 0.05), 1e7).round(4).tolist()
        [0.1337, 0.1337]
        """
        known = np.isfinite(self.turnover) & (self.turnover > 0)
        turnover = np.where(known, self.turnover, 1.0)
        bars = np.maximum(self.close_out, notional / (self.participation * turnover))
        slippage = self.impact * self.volatility * np.sqrt(notional / turnover)
        wide = margin * np.sqrt(bars / self.close_out) + slippage
        last = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
        ratio = np.where(last >= 0, (wide / margin)[last], 0.0)
        return np.where(known, wide, np.maximum(ratio, 2.0) * margin if notional > 0 else margin)


def margin_tiers(
    margin: Array,
    *,
    floors: tuple[int, ...],
    liquidity: Liquidity,
    limits: ChangeLimits,
    whole: NDArray[np.bool_] | None = None,
    complete: NDArray[np.bool_] | None = None,
) -> Integers:
    """Maintenance margins of every tier, at every decision.

    Parameters
    ----------
    margin : numpy.ndarray, shape (decisions,)
        Maintenance margin of the first tier (fraction of notional), as published.
    floors : tuple of int
        Notional floors, rising from 0; a tier is margined for the size at its floor.
    liquidity : Liquidity
        Widening by size.
    limits : ChangeLimits
        The higher tiers move no faster than the first.
    whole, complete : numpy.ndarray of bool, shape (decisions,), optional
        See :func:`calibrator.calibrate.procyclicality.limit`.

    Returns
    -------
    numpy.ndarray of int, shape (decisions, tiers)
        ppm, rounded up; they never fall with notional.

    Examples
    --------
    >>> book = Liquidity(np.array([1e6]), np.array([0.01]), 24, participation=0.1, impact=1.0)
    >>> margin_tiers(np.array([0.05]), floors=(0, 10**7), liquidity=book, limits=ChangeLimits()).tolist()
    [[50000, 133685]]
    """
    wide = np.column_stack([liquidity.widen(margin, float(floor)) for floor in floors])
    wide = np.maximum.accumulate(wide, axis=1)
    none = np.zeros(len(margin))
    higher = [
        limit(np.minimum(wide[:, k], 1.0), none, limits=limits, whole=whole, complete=complete)
        for k in range(1, len(floors))
    ]
    return np.clip(round_up(np.column_stack([margin, *higher])), 1, HIGHEST)


def initial_margin(maintenance_ppm: Integers, multiple: float) -> Integers:
    """Derive initial margins from quantised maintenance margins: above them, at most the notional.

    Examples
    --------
    >>> initial_margin(np.array([50_000, 999_999]), 1.25).tolist()
    [62500, 1000000]
    """
    return np.clip(round_up(maintenance_ppm / PPM * multiple), maintenance_ppm + 1, PPM)


def round_up(fraction: Array) -> Integers:
    """Quantise fractions to ppm towards safety, like :func:`calibrator.domain.ppm_up`.

    Examples
    --------
    >>> round_up(np.array([0.05, 0.0500001])).tolist()
    [50000, 50001]
    """
    ppm: Integers = np.ceil(fraction * PPM - NOISE).astype(np.int64)
    return ppm


def as_schedule(floors: tuple[int, ...], maintenance_ppm: Integers, initial_ppm: Integers) -> MarginSchedule:
    """Wrap one decision's tiers as the domain type, which checks their invariants.

    Examples
    --------
    >>> as_schedule((0,), np.array([50_000]), np.array([62_500])).tiers[0].initial_margin_ppm
    62500
    """
    rows = zip(floors, initial_ppm.tolist(), maintenance_ppm.tolist(), strict=True)
    return MarginSchedule(tuple(MarginTier(*row) for row in rows))
