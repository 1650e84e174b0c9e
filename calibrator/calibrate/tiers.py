"""Which rate each tier asks of its own part of a position, so that the whole position has what it needs."""

import numpy as np
from numpy.typing import NDArray

from calibrator.domain import HIGHEST, MarginSchedule

Array = NDArray[np.float64]


def upper_borders(floors: tuple[int, ...]) -> tuple[int, ...]:
    """Return up to which size each tier is margined: where the next one begins, the last to twice its floor.

    A schedule of one tier is margined for no size in particular, which is size 0. Beyond the last border no
    margin is calibrated: the rate of the last tier goes on, but need not be enough.

    Examples
    --------
    >>> upper_borders((0, 1_000_000, 5_000_000)), upper_borders((0,))
    ((1000000, 5000000, 10000000), (0,))
    """
    return (*floors[1:], 2 * floors[-1])


def tier_rates(margin: Array, needs: Array, borders: tuple[int, ...]) -> Array:
    """Return the rate of each tier on its own part of a position, so that the whole has what it needs.

    What a position needs grows faster than its size, so a chord between two borders lies above every need in
    between: the rate of a tier is the slope of that chord, ``(m(Q2) Q2 - m(Q1) Q1) / (Q2 - Q1)``. Where a
    need that is not known exactly has a lesser slope, the rate of the tier below stays.

    Parameters
    ----------
    margin : numpy.ndarray, shape (decisions,)
        Of the first tier, for its upper border (fraction).
    needs : numpy.ndarray, shape (decisions, tiers - 1)
        ``m(Q)`` at the other upper borders: what one unit of a position of that size needs (fraction).
    borders : tuple of int
        From :func:`upper_borders`.

    Returns
    -------
    numpy.ndarray, shape (decisions, tiers)
        Never falling with the tier; may exceed 1.

    Examples
    --------
    >>> tier_rates(np.array([0.05]), np.array([[0.06, 0.1]]), (1_000, 2_000, 4_000)).round(4).tolist()
    [[0.05, 0.07, 0.14]]
    """
    whole = np.column_stack([margin, needs]) * np.array(borders, dtype=np.float64)
    slopes = np.diff(whole, axis=1) / np.diff(np.array(borders, dtype=np.float64))
    rates: Array = np.maximum.accumulate(np.column_stack([margin, slopes]), axis=1)
    return rates


def calibrated_to(schedule: MarginSchedule) -> int:
    """Return the largest notional that a schedule's rates are calibrated for; 0 = for no size in particular.

    The last upper border, or the floor of the first tier whose rate had to be cut.

    Examples
    --------
    >>> from calibrator.domain import MarginTier
    >>> low, cut = MarginTier(0, 100_000, 50_000), MarginTier(200, 1_000_000, 999_999)
    >>> calibrated_to(MarginSchedule((low,))), calibrated_to(MarginSchedule((low, cut)))
    (0, 200)
    """
    tiers = schedule.tiers
    cut = [t.notional_floor for t in tiers if t.maintenance_margin_ppm >= HIGHEST]
    return cut[0] if cut else upper_borders(tuple(t.notional_floor for t in tiers))[-1]
