"""Too many breaches among losses that overlap: a simulated null with the same overlap.

A close-out of ``h`` decisions makes neighbouring losses share ``h - 1`` of their bars: breaches come in
clusters even under a correct margin, and a binomial test rejects far too often. Splitting the series into
``h`` that share nothing (as :func:`~calibrator.backtest.table.coverage_table` does) throws information away;
here the whole series is counted and compared with simulated series of the same overlap.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from calibrator.backtest.coverage import CoverageTest

Counts = npt.NDArray[np.int64]
TAIL: Final = 3.0
"""Degrees of freedom of the simulated moves: heavy tails cluster breaches more, so that lighter ones are
tested conservatively."""
CHUNK: Final = 4_000_000


def overlapping_breaches(
    breaches: int,
    observations: int,
    *,
    level: float,
    overlap: int,
    draws: int = 4_999,
    ties: np.random.Generator | None = None,
) -> CoverageTest:
    """Test one-sided whether there are too many breaches among overlapping losses.

    The null simulates sums of ``overlap`` consecutive independent Student-t moves (3 degrees of freedom),
    each series against the quantile of all simulated sums, and counts the breaches. The statistic is the
    breach count, ``p_value`` the binomial one, which overlap invalidates.

    Parameters
    ----------
    breaches, observations : int
        Over all overlapping losses.
    level : float
        Promised coverage.
    overlap : int
        Decisions whose losses share bars, at least 1 (no overlap).
    draws : int
        Simulated series.
    ties : numpy.random.Generator, optional
        Randomises equal counts: size exactly nominal instead of at most nominal.

    Raises
    ------
    ValueError
        Counts, level or overlap out of bounds.

    Examples
    --------
    >>> test = overlapping_breaches(18, 1000, level=0.99, overlap=5)
    >>> round(test.p_value, 3), round(test.decision_p_value, 2)
    (0.014, 0.12)
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, was {level}")
    if observations < 1 or not 0 <= breaches <= observations:
        raise ValueError(
            f"breaches must lie between 0 and observations, were {breaches} of {observations} observations"
        )
    if not 1 <= overlap <= observations:
        raise ValueError(f"overlap must lie between 1 and the observations, was {overlap}")
    null = overlap_null(observations, level, overlap, draws)
    above = int((null > breaches).sum())
    equal = int((null == breaches).sum())
    share = 1.0 if ties is None else float(ties.random())
    return CoverageTest(
        "overlapping_breaches",
        float(breaches),
        float(binom.sf(breaches - 1, observations, 1 - level)),
        (share + above + share * equal) / (draws + 1),
        breaches,
        observations,
        1,
    )


@lru_cache(maxsize=64)
def overlap_null(observations: int, level: float, overlap: int, draws: int) -> Counts:
    """Simulate breach counts of a correct margin, shape (draws,).

    Examples
    --------
    >>> null = overlap_null(1000, 0.99, 5, 500)
    >>> bool(abs(null.mean() - 10) < 0.5), bool(null.std() > 1.5 * np.sqrt(10))
    (True, True)
    """
    rng = np.random.default_rng(20_190_104)
    rows = max(1, CHUNK // (observations + overlap))
    parts = []
    for begin in range(0, draws, rows):
        moves = rng.standard_t(TAIL, (min(rows, draws - begin), observations + overlap - 1))
        sums = np.cumsum(np.pad(moves, ((0, 0), (1, 0))), axis=1)
        window = sums[:, overlap:] - sums[:, :-overlap]
        threshold = np.quantile(window, level)
        parts.append((window > threshold).sum(axis=1))
    counts: Counts = np.concatenate(parts).astype(np.int64)
    return counts
