"""Maintenance and initial margin tiers by notional, with liquidity, quantised towards safety."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrator.calibrate.procyclicality import limit
from calibrator.calibrate.tiers import tier_rates, upper_borders
from calibrator.domain import HIGHEST, NOISE, PPM, ChangeLimits, MarginSchedule, MarginTier

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Liquidity:
    """How a position's size, or that of the crowd on its side, widens its margin.

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
    crowded : numpy.ndarray, shape (decisions,), optional
        What is closed together on the crowded side (quote units): every size counts as at least that much.
        NaN = not known any more, the last value holds; before the first it counts as nothing.
    depth_stress, volatility_stress : float
        Divides the depth, or multiplies the volatility of the slippage; at most one of them exceeds 1, as a
        thin book and a wild price are one event and must not be counted twice.

    Raises
    ------
    ValueError
        A stress below 1, or both above 1.
    """

    turnover: Array
    volatility: Array
    close_out: int
    participation: float
    impact: float
    crowded: Array | None = None
    depth_stress: float = 1.0
    volatility_stress: float = 1.0

    def __post_init__(self) -> None:
        both = (self.depth_stress, self.volatility_stress)
        if min(both) < 1 or min(both) > 1:
            raise ValueError(
                f"one of depth_stress and volatility_stress must be 1, the other at least 1, were {both}"
            )

    def widen(self, margin: Array, notional: float) -> Array:
        """Widen margins of no size in particular for a close-out of ``notional``.

        The quantile grows with the root of the time that the size needs,
        ``T = max(close_out, Q / (participation turnover))``, and the slippage over that time,
        ``Y volatility sqrt(Q / volume)``, is added; ``Q`` is the larger of the notional and the crowd. Where
        the turnover is unknown, the widening stays what it was at the last decision that knew it, and at
        least doubles: what is unknown never loosens.

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
        >>> crowd = Liquidity(np.array([1e6]), np.array([0.01]), 24, participation=0.1, impact=1.0,
        ...                   crowded=np.array([1e7]))
        >>> crowd.widen(np.array([0.05]), 0.0).round(4).tolist()
        [0.1337]
        """
        return self._between(margin, np.zeros(len(margin)), np.maximum(notional, self.crowd))

    def widen_first(self, margin: Array, border: float) -> Array:
        """Widen margins of no size in particular for the first tier, which ends at ``border`` (0 = nowhere).

        As :meth:`widen`, but where the turnover is unknown, the widening for the border stays what it was at
        the last decision that knew it (none before the first); only that for a crowd at least doubles.

        Examples
        --------
        >>> book = Liquidity(np.array([1e6, np.nan]), np.full(2, 0.01), 24, participation=0.1, impact=1.0)
        >>> [book.widen_first(np.full(2, 0.05), border).round(4).tolist() for border in (0.0, 1e6)]
        [[0.05, 0.05], [0.06, 0.06]]
        """
        least = np.where(self.crowd > 0, 2.0, 1.0)
        return self._between(margin, np.zeros(len(margin)), np.maximum(border, self.crowd), least)

    def widen_further(self, margin: Array, notional: float, *, done: float = 0.0) -> Array:
        """Widen margins that cover the crowd and ``done`` already for ``notional``; never below them.

        Examples
        --------
        >>> crowd = Liquidity(np.array([1e6]), np.array([0.01]), 24, participation=0.1, impact=1.0,
        ...                   crowded=np.array([1e6]))
        >>> first = crowd.widen(np.array([0.05]), 0.0)
        >>> bool(np.isclose(crowd.widen_further(first, 1e7), crowd.widen(np.array([0.05]), 1e7)))
        True
        """
        return self._between(margin, np.maximum(done, self.crowd), np.maximum(notional, self.crowd))

    def bare(self, margin: Array, done: float) -> Array:
        """Take the widening for the crowd or ``done`` out of margins again; unknown turnovers take nothing.

        Examples
        --------
        >>> book = Liquidity(np.array([1e6]), np.array([0.01]), 24, participation=0.1, impact=1.0)
        >>> book.bare(book.widen(np.array([0.05]), 1e6), 1e6).round(6).tolist()
        [0.05]
        """
        longer, slippage = self._parts(np.maximum(done, self.crowd))
        return np.where(self._known, np.maximum(margin - slippage, 0.0) / longer, margin)

    @property
    def crowd(self) -> Array:
        """What is closed together at each decision: the last value known."""
        if self.crowded is None:
            return np.zeros(len(self.turnover))
        last = np.maximum.accumulate(np.where(np.isfinite(self.crowded), np.arange(len(self.crowded)), -1))
        held: Array = np.where(last >= 0, self.crowded[last], 0.0)
        return held

    @property
    def lost(self) -> Flags:
        """Decisions without a turnover, or a crowd, that an earlier one had: their input is degraded."""
        out = np.zeros(len(self.turnover), np.bool_)
        known = [np.isfinite(self.turnover) & (self.turnover > 0)]
        known += [] if self.crowded is None else [np.isfinite(self.crowded)]
        for seen in known:
            out |= ~seen & np.maximum.accumulate(seen)
        return out

    @property
    def _known(self) -> Flags:
        known: Flags = np.isfinite(self.turnover) & (self.turnover > 0)
        return known

    def _parts(self, size: Array) -> tuple[Array, Array]:
        """Factor of the quantile and slippage of a close-out of ``size``."""
        turnover = np.where(self._known, self.turnover, 1.0) / self.depth_stress
        longer = np.maximum(self.close_out, size / (self.participation * turnover)) / self.close_out
        volatility = self.volatility * self.volatility_stress
        return np.sqrt(longer), self.impact * volatility * np.sqrt(size / turnover)

    def _between(self, margin: Array, done: Array, size: Array, least: Array | float = 2.0) -> Array:
        """Take the widening for ``done`` out and put that for ``size`` in, at least ``least`` if unknown."""
        known = self._known
        (less, before), (more, after) = self._parts(done), self._parts(size)
        wide = np.maximum(np.maximum(margin - before, 0.0) / less * more + after, margin)
        last = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
        ratio = np.where(last >= 0, (wide / margin)[last], 0.0)
        return np.where(known, wide, np.where(size > done, np.maximum(ratio, least) * margin, margin))


def margin_tiers(
    margin: Array,
    *,
    floors: tuple[int, ...],
    liquidity: Liquidity,
    limits: ChangeLimits,
    whole: Flags | None = None,
    complete: Flags | None = None,
) -> Integers:
    """Maintenance margins of every tier, at every decision.

    Parameters
    ----------
    margin : numpy.ndarray, shape (decisions,)
        Maintenance margin of the first tier (fraction of notional), as published: see
        :meth:`Liquidity.widen_first`.
    floors : tuple of int
        Notional floors, rising from 0. A tier's rate applies to the part of the notional above its floor, and
        is such that every size up to its upper border has what it needs: see
        :func:`~calibrator.calibrate.tiers.tier_rates`.
    liquidity : Liquidity
        Widening by size.
    limits : ChangeLimits
        The higher tiers move no faster than the first.
    whole, complete : numpy.ndarray of bool, shape (decisions,), optional
        See :func:`calibrator.calibrate.procyclicality.limit`.

    Returns
    -------
    numpy.ndarray of int, shape (decisions, tiers)
        ppm, rounded up, below 1 000 000; they never fall with notional. Where a turnover or a crowd got lost,
        the higher tiers hold or rise. A rate that would have to exceed 1 is cut: a position so large that the
        next unit would need more than its value is not covered.

    Examples
    --------
    >>> book = Liquidity(np.array([1e6]), np.array([0.01]), 24, participation=0.1, impact=1.0)
    >>> floors, first = (0, 10**6, 5 * 10**6), book.widen_first(np.array([0.05]), 1e6)
    >>> made = margin_tiers(first, floors=floors, liquidity=book, limits=ChangeLimits())
    >>> made.tolist()
    [[60000, 103162, 172841]]
    >>> schedule = as_schedule(floors, made[0], initial_margin(made[0], 1.25))
    >>> bool(requirement(schedule, 10**7) >= book.widen(np.array([0.05]), 1e7)[0] * 1e7 * PPM)
    True
    """
    wide = marginal_rates(margin, floors, liquidity)
    none = np.zeros(len(margin))
    sound = ~liquidity.lost if complete is None else complete & ~liquidity.lost
    higher = [
        limit(np.minimum(wide[:, k], 1.0), none, limits=limits, whole=whole, complete=sound)
        for k in range(1, len(floors))
    ]
    return np.clip(round_up(np.column_stack([margin, *higher])), 1, HIGHEST)


def marginal_rates(margin: Array, floors: tuple[int, ...], liquidity: Liquidity) -> Array:
    """Return the rates of all tiers before limits and rounding, given the first one's.

    Examples
    --------
    >>> book = Liquidity(np.array([1e6]), np.array([0.01]), 24, participation=0.1, impact=1.0)
    >>> marginal_rates(np.array([0.06]), (0, 10**6, 5 * 10**6), book).round(4).tolist()
    [[0.06, 0.1032, 0.1728]]
    """
    borders = upper_borders(floors)
    needs = [liquidity.widen_further(margin, float(b), done=float(borders[0])) for b in borders[1:]]
    return tier_rates(margin, np.array(needs).reshape(len(needs), len(margin)).T, borders)


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


def requirement(schedule: MarginSchedule, notional: int) -> int:
    """Maintenance requirement of a position, in millionths of a quote unit: exact, rising, without jumps.

    Each tier's margin applies to the part of the notional above its floor, so that the requirement is
    continuous where a tier begins.

    Parameters
    ----------
    schedule : MarginSchedule
    notional : int
        Quote units, not negative.

    Examples
    --------
    >>> two = as_schedule((0, 1_000), np.array([50_000, 100_000]), np.array([100_000, 200_000]))
    >>> [requirement(two, q) for q in (999, 1_000, 1_001)]
    [49950000, 50000000, 50100000]
    """
    if notional < 0:
        raise ValueError(f"notional must not be negative, was {notional}")
    floors = [tier.notional_floor for tier in schedule.tiers]
    tops = [*floors[1:], max(notional, floors[-1])]
    return sum(
        max(min(notional, top) - tier.notional_floor, 0) * tier.maintenance_margin_ppm
        for tier, top in zip(schedule.tiers, tops, strict=True)
    )
