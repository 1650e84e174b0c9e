"""Does the margin hold as often as it promises? Tests of breach counts and of their clustering.

A *breach* is a loss above the margin. A margin at ``level`` promises breaches with probability
``1 - level``, whatever happened before. Too many breaches mean a margin that is too low; breaches in clusters
mean one that reacts too late, which a count alone cannot see. Each test returns the asymptotic ``p_value``
that textbooks print and an exact ``decision_p_value``; only the latter decides, because breaches are rare.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, chi2

from calibrator.backtest.exact import (
    conditional_null,
    count_null,
    independence_null,
    independence_statistic,
    kupiec_statistic,
)

Zone = Literal["green", "yellow", "red"]
ZONE_BOUNDS: Final = (0.95, 0.9999)


@dataclass(frozen=True, slots=True)
class CoverageTest:
    """Outcome of one test.

    Attributes
    ----------
    name : str
        The test.
    statistic : float
        Zero where the test is not applicable.
    p_value : float
        Asymptotic; information only.
    decision_p_value : float
        Exact or Monte-Carlo; reject below the wanted size.
    breaches, observations : int
        Losses above the margin, and losses.
    degrees_of_freedom : int
        Of the asymptotic chi-squared distribution.
    applicable : bool
        False where the data cannot speak (no breach to regress on); both p-values are then 1.
    """

    name: str
    statistic: float
    p_value: float
    decision_p_value: float
    breaches: int
    observations: int
    degrees_of_freedom: int
    applicable: bool = True


@dataclass(frozen=True, slots=True)
class TrafficLight:
    """Zone of a breach count: green below 95 % of the binomial distribution, yellow below 99.99 %, else red.

    Attributes
    ----------
    zone : {"green", "yellow", "red"}
    cumulative : float
        Probability of at most this many breaches under a correct margin.
    green_up_to, yellow_up_to : int
        Largest breach counts of the two zones; -1 where a zone is empty.
    """

    zone: Zone
    cumulative: float
    breaches: int
    observations: int
    green_up_to: int
    yellow_up_to: int


def kupiec(
    breaches: int, observations: int, *, level: float, ties: np.random.Generator | None = None
) -> CoverageTest:
    """Proportion of failures: are there as many breaches as the level promises.

    ``LR = -2 log[(1-p)^(T-x) p^x / ((1-x/T)^(T-x) (x/T)^x)]`` with ``p = 1 - level``, chi-squared with one
    degree of freedom in the limit. The decision p-value sums the binomial probabilities of all counts whose
    ``LR`` is at least the observed one.

    Parameters
    ----------
    breaches, observations : int
        ``x`` and ``T``; ``0 <= x <= T``.
    level : float
        Promised coverage, between 0 and 1.
    ties : numpy.random.Generator, optional
        Randomises the observed outcome: size exactly nominal instead of at most nominal.

    Raises
    ------
    ValueError
        Counts or level out of bounds.

    References
    ----------
    Kupiec, P. (1995). Techniques for verifying the accuracy of risk measurement models. Journal of
    Derivatives 3.

    Examples
    --------
    >>> test = kupiec(10, 250, level=0.99)
    >>> round(test.statistic, 4), round(test.p_value, 6), round(test.decision_p_value, 6)
    (12.9555, 0.000319, 0.00025)
    """
    _check(breaches, observations, level)
    statistic = float(kupiec_statistic(breaches, observations, level=level))
    decision = count_null(observations, level).tail(statistic, ties=ties)
    return CoverageTest("kupiec", statistic, _chi2(statistic, 1), decision, breaches, observations, 1)


def excess_breaches(
    breaches: int, observations: int, *, level: float, ties: np.random.Generator | None = None
) -> CoverageTest:
    """One-sided exact binomial test: are there too many breaches? This is the gate of a schedule.

    A margin that breaches too rarely is expensive, not unsafe; only ``P(X >= x)`` matters for safety. The
    statistic is the breach count, ``p_value`` its normal approximation.

    Parameters
    ----------
    breaches, observations : int
    level : float
    ties : numpy.random.Generator, optional
        As in :func:`kupiec`.

    Examples
    --------
    >>> round(excess_breaches(8, 365, level=0.99).decision_p_value, 4)
    0.0322
    """
    _check(breaches, observations, level)
    p = 1 - level
    decision = float(binom.sf(breaches - 1, observations, p))
    if ties is not None:
        decision -= float(ties.random()) * float(binom.pmf(breaches, observations, p))
    z = (breaches - observations * p) / np.sqrt(observations * p * level)
    asymptotic = _chi2(float(z) ** 2, 1) / 2
    return CoverageTest(
        "excess_breaches",
        float(breaches),
        asymptotic if z > 0 else 1 - asymptotic,
        decision,
        breaches,
        observations,
        1,
    )


def christoffersen_independence(
    hits: npt.ArrayLike, *, ties: np.random.Generator | None = None
) -> CoverageTest:
    """Do breaches follow breaches? Likelihood ratio of a Markov chain against independence.

    The ``T - 1`` transitions are counted. The decision p-value is exact given the number of breaches: under
    independence every arrangement of them is equally likely, whatever the true coverage.

    Parameters
    ----------
    hits : array_like of bool, shape (T,)
        Breaches in time order, not overlapping.
    ties : numpy.random.Generator, optional
        As in :func:`kupiec`.

    References
    ----------
    Christoffersen, P. (1998). Evaluating interval forecasts. International Economic Review 39.

    Examples
    --------
    >>> late = christoffersen_independence([0] * 90 + [1] * 4 + [0] * 6)
    >>> round(late.statistic, 2), round(late.decision_p_value, 6)
    (17.91, 2.5e-05)
    """
    h = _hits(hits)
    statistic, x = _independence(h), int(h.sum())
    decision = independence_null(len(h), x).tail(statistic, ties=ties)
    return CoverageTest(
        "independence", statistic, _chi2(statistic, 1), decision, x, len(h), 1, applicable=0 < x < len(h)
    )


def christoffersen_conditional(
    hits: npt.ArrayLike, *, level: float, ties: np.random.Generator | None = None
) -> CoverageTest:
    """Conditional coverage: the right number of breaches *and* no clustering, in one statistic.

    ``LR_cc = LR_uc + LR_ind``: the count uses all ``T`` observations and the transitions ``T - 1`` (the
    convention of MATLAB and rugarch), chi-squared with two degrees of freedom in the limit. The decision
    p-value enumerates all series of independent tosses.

    Parameters
    ----------
    hits : array_like of bool, shape (T,)
        Breaches in time order, not overlapping.
    level : float
        Promised coverage.
    ties : numpy.random.Generator, optional
        As in :func:`kupiec`.

    References
    ----------
    Christoffersen, P. (1998). Evaluating interval forecasts. International Economic Review 39.

    Examples
    --------
    >>> test = christoffersen_conditional([0] * 90 + [1] * 4 + [0] * 6, level=0.99)
    >>> round(test.statistic, 2), test.decision_p_value < 1e-4
    (23.09, True)
    """
    h = _hits(hits)
    x = int(h.sum())
    _check(x, len(h), level)
    statistic = _independence(h) + float(kupiec_statistic(x, len(h), level=level))
    decision = conditional_null(len(h), level).tail(statistic, ties=ties)
    return CoverageTest("conditional_coverage", statistic, _chi2(statistic, 2), decision, x, len(h), 2)


def traffic_light(breaches: int, observations: int, *, level: float) -> TrafficLight:
    """Basel's traffic light for any number of observations and any level.

    Parameters
    ----------
    breaches, observations : int
    level : float

    References
    ----------
    Basel Committee on Banking Supervision (1996). Supervisory framework for the use of backtesting.

    Examples
    --------
    >>> light = traffic_light(7, 365, level=0.99)
    >>> light.zone, light.green_up_to, light.yellow_up_to
    ('yellow', 6, 12)
    """
    _check(breaches, observations, level)
    green, red = ZONE_BOUNDS
    cumulative = float(binom.cdf(breaches, observations, 1 - level))
    zone: Zone = "green" if cumulative < green else "yellow" if cumulative < red else "red"
    up_to = [_largest_below(bound, observations, level) for bound in ZONE_BOUNDS]
    return TrafficLight(zone, cumulative, breaches, observations, up_to[0], up_to[1])


def _largest_below(bound: float, observations: int, level: float) -> int:
    first = int(binom.ppf(bound, observations, 1 - level))
    return first - 1 if binom.cdf(first, observations, 1 - level) >= bound else first


def _independence(h: npt.NDArray[np.bool_]) -> float:
    before, after = h[:-1], h[1:]
    counts = [int(np.sum((before == a) & (after == b))) for a in (False, True) for b in (False, True)]
    return float(independence_statistic(*counts))


def _hits(hits: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    values = np.asarray(hits)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"hits must be one series of at least two values, shape was {values.shape}")
    if not np.isin(values, (0, 1)).all():
        raise ValueError("hits must be true or false (0 or 1) without missing values")
    return values.astype(bool)


def _check(breaches: int, observations: int, level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, was {level}")
    if observations < 1 or not 0 <= breaches <= observations:
        raise ValueError(
            f"breaches must lie between 0 and observations, were {breaches} of {observations} observations"
        )


def _chi2(statistic: float, degrees: int) -> float:
    return float(chi2.sf(statistic, degrees))
