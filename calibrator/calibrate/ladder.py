"""Partial liquidation: margin ratios below which a part of a position is closed to restore a target."""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from calibrator.domain import NOISE, PPM, ppm_up
from calibrator.errors import InfeasibleScheduleError

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rung:
    """Close ``fraction_ppm`` of a position when its margin ratio falls below ``threshold_ppm``.

    Examples
    --------
    >>> Rung(60_000, 250_000).fraction_ppm
    250000
    """

    threshold_ppm: int
    fraction_ppm: int


@dataclass(frozen=True, slots=True)
class Ladder:
    """Rungs from the highest threshold down; below ``maintenance_margin_ppm`` everything is closed.

    Raises
    ------
    ValueError
        Thresholds do not fall, one is not above the maintenance margin or not below the target, or a fraction
        does not lie between 0 and 1.

    Examples
    --------
    >>> Ladder(100_000, 50_000, (Rung(60_000, 250_000),)).rungs[0].threshold_ppm
    60000
    """

    target_ppm: int
    maintenance_margin_ppm: int
    rungs: tuple[Rung, ...]

    def __post_init__(self) -> None:
        marks = [self.target_ppm, *(r.threshold_ppm for r in self.rungs), self.maintenance_margin_ppm]
        if any(low >= high for high, low in pairwise(marks)) or self.maintenance_margin_ppm <= 0:
            raise ValueError(
                f"target, thresholds and maintenance margin must fall and be positive, were {marks}"
            )
        for rung in self.rungs:
            if not 0 < rung.fraction_ppm < PPM:
                raise ValueError(f"fraction must lie between 0 and 1000000 ppm, was {rung.fraction_ppm}")


def restoring_fraction(ratio: float, *, target: float, cost: float) -> float:
    """Return the part of a position whose closing raises its margin ratio to ``target``.

    Closing ``f`` costs ``cost f`` of the notional: ``(ratio - cost f) / (1 - f) = target``, so
    ``f = (target - ratio) / (target - cost)``.

    Parameters
    ----------
    ratio, target, cost : float
        Equity over notional before and after, and penalty plus slippage (fractions); ``cost < target``.

    Raises
    ------
    ValueError
        Closing costs at least the target: no part of the position restores it.

    Examples
    --------
    >>> restoring_fraction(0.06, target=0.10, cost=0.01).__round__(4)
    0.4444
    """
    if cost < 0 or cost >= target:
        raise ValueError(f"cost must be at least 0 and below the target {target}, was {cost}")
    return min(max((target - ratio) / (target - cost), 0.0), 1.0)


def build_ladder(
    maintenance_ppm: int, target_ppm: int, *, rungs: int, cost: float, reach: float = 0.5
) -> Ladder:
    """Build the ladder of a maintenance margin.

    The thresholds stand at equal steps from the maintenance margin up to ``reach`` of the way to the target;
    each rung's fraction restores the target from its threshold, rounded up.

    Parameters
    ----------
    maintenance_ppm, target_ppm : int
        Below the first everything is closed; the second is what a rung restores (the initial margin).
    rungs : int
        Steps; 0 = all at once.
    cost : float
        Penalty and slippage of a closing (fraction of what is closed).
    reach : float
        Between 0 and 1: how early the first rung acts.

    Raises
    ------
    InfeasibleScheduleError
        The room between the margins is too small for the rungs, or closing costs too much to restore
        the target.
    ValueError
        ``rungs`` is negative or ``reach`` out of bounds.

    Examples
    --------
    >>> build_ladder(50_000, 100_000, rungs=2, cost=0.01).rungs
    (Rung(threshold_ppm=75000, fraction_ppm=277778), Rung(threshold_ppm=62500, fraction_ppm=416667))
    """
    if rungs < 0 or not 0 < reach < 1:
        raise ValueError(f"rungs must not be negative and reach between 0 and 1, were {rungs} and {reach}")
    room = target_ppm - maintenance_ppm
    steps = [maintenance_ppm + math.floor(reach * room * (k / max(rungs, 1))) for k in range(rungs, 0, -1)]
    target = target_ppm / PPM
    if room <= 0 or len(set(steps)) < rungs or (steps and steps[-1] <= maintenance_ppm):
        raise InfeasibleScheduleError(
            f"ladder: {rungs} rungs need room between maintenance margin {maintenance_ppm} ppm and target "
            f"{target_ppm} ppm"
        )
    if rungs and cost * PPM >= target_ppm - 1:
        raise InfeasibleScheduleError(
            f"ladder: a closing that costs {ppm_up(cost)} ppm cannot restore a target of {target_ppm} ppm"
        )
    made = []
    for threshold in steps:
        fraction = ppm_up(restoring_fraction(threshold / PPM, target=target, cost=cost))
        made.append(Rung(threshold, min(fraction, PPM - 1)))
    return Ladder(target_ppm, maintenance_ppm, tuple(made))


def ladder_table(
    maintenance_ppm: Integers, target_ppm: Integers, *, rungs: int, cost: float, reach: float = 0.5
) -> tuple[Integers, Integers]:
    """Thresholds and fractions of :func:`build_ladder` for many margins at once.

    Parameters
    ----------
    maintenance_ppm, target_ppm : numpy.ndarray of int, shape (n,)
    rungs, cost, reach : int, float, float
        As in :func:`build_ladder`.

    Returns
    -------
    thresholds, fractions : numpy.ndarray of int, shape (rungs, n)
        ppm, from the highest rung down; zero where no ladder stands (its room is too small, or closing costs
        too much).

    Examples
    --------
    >>> thresholds, fractions = ladder_table(np.array([50_000]), np.array([100_000]), rungs=2, cost=0.01)
    >>> thresholds.ravel().tolist(), fractions.ravel().tolist()
    ([75000, 62500], [277778, 416667])
    """
    room = target_ppm - maintenance_ppm
    step = np.arange(rungs, 0, -1)[:, None] / max(rungs, 1)
    thresholds = maintenance_ppm + np.floor(reach * room * step).astype(np.int64)
    apart = (np.diff(np.vstack([thresholds, maintenance_ppm]), axis=0) < 0).all(axis=0)
    stands = (room > 0) & apart & (cost * PPM < target_ppm - 1) & (maintenance_ppm > 0)
    spent = np.where(stands, target_ppm / PPM - cost, 1.0)
    share = (target_ppm / PPM - thresholds / PPM) / spent
    fractions = np.minimum(np.ceil(share * PPM - NOISE).astype(np.int64), PPM - 1)
    return np.where(stands, thresholds, 0), np.where(stands, fractions, 0)
