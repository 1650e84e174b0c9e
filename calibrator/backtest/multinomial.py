"""Are losses between several levels as frequent as promised? One test of a whole tail at once."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from scipy.stats import chi2

from calibrator.backtest.coverage import CoverageTest

Array = npt.NDArray[np.float64]


def multinomial(
    losses: npt.ArrayLike,
    quantiles: npt.ArrayLike,
    *,
    levels: npt.ArrayLike,
    draws: int = 9_999,
    ties: np.random.Generator | None = None,
) -> CoverageTest:
    r"""Count losses between the quantiles of several levels and compare with a multinomial distribution.

    With :math:`O_j` losses above exactly ``j`` of the quantiles, expected :math:`E_j = T (a_{j+1} - a_j)` for
    the levels :math:`0 = a_0 < a_1 < \dots < a_N < a_{N+1} = 1`, the statistic is the likelihood ratio
    :math:`2 \sum_j O_j \log(O_j / E_j)`, chi-squared with ``N`` degrees of freedom in the limit. With one
    level it is Kupiec's. The decision p-value simulates the multinomial distribution.

    Parameters
    ----------
    losses : array_like, shape (T,)
        In time order or not; not overlapping.
    quantiles : array_like, shape (T, N)
        At the levels, rising in each row.
    levels : array_like, shape (N,)
        Rising, between 0 and 1.
    draws : int
        Simulated counts; the smallest possible decision p-value is ``1 / (draws + 1)``.
    ties : numpy.random.Generator, optional
        Randomises outcomes as likely as the observed one: size exactly nominal instead of at most nominal.

    Raises
    ------
    ValueError
        Shapes differ, levels or quantiles do not rise, or a value is not finite.

    References
    ----------
    Kratz, M., Lok, Y. and McNeil, A. (2018). Multinomial VaR backtests: a simple implicit approach to
    backtesting expected shortfall. Journal of Banking and Finance 88.

    Examples
    --------
    >>> x = np.linspace(0, 1, 1000)
    >>> test = multinomial(x, np.broadcast_to([0.95, 0.975, 0.99], (1000, 3)), levels=[0.97, 0.985, 0.995])
    >>> round(test.statistic, 2), test.degrees_of_freedom, test.decision_p_value < 0.01
    (11.98, 3, True)
    """
    x, q, a = (
        np.asarray(losses, float),
        np.asarray(quantiles, float),
        np.atleast_1d(np.asarray(levels, float)),
    )
    if x.ndim != 1 or not len(x) or q.shape != (len(x), len(a)):
        raise ValueError(
            f"losses (T,), quantiles (T, N) and levels (N,) do not fit: {x.shape}, {q.shape}, {a.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(q).all()):
        raise ValueError("losses and quantiles must be finite")
    if not (a[0] > 0 and a[-1] < 1 and (np.diff(a) > 0).all()):
        raise ValueError(f"levels must rise between 0 and 1, were {a.tolist()}")
    if (np.diff(q, axis=1) < 0).any():
        raise ValueError("quantiles must not fall with the level")
    cells = np.bincount((x[:, None] > q).sum(axis=1), minlength=len(a) + 1)
    statistic = float(multinomial_statistic(cells, tuple(a.tolist())))
    null = _null(len(x), tuple(a.tolist()), draws)
    slack = 1e-9 * max(1.0, statistic)
    above = int(len(null) - np.searchsorted(null, statistic + slack))
    equal = int(len(null) - np.searchsorted(null, statistic - slack)) - above
    share = 1.0 if ties is None else float(ties.random())
    decision = (share + above + share * equal) / (draws + 1)
    beyond = int(len(x) - cells[0])
    return CoverageTest(
        "multinomial", statistic, float(chi2.sf(statistic, len(a))), decision, beyond, len(x), len(a)
    )


def multinomial_statistic(cells: npt.ArrayLike, levels: tuple[float, ...]) -> Array:
    """Likelihood ratio of counts per cell, cells along the last axis; ``0 log 0 = 0``, never negative.

    Examples
    --------
    >>> float(multinomial_statistic([240, 10], (0.99,)).round(6))
    12.955491
    """
    counts = np.asarray(cells, float)
    total = counts.sum(axis=-1, keepdims=True)
    expected = total * np.diff([0.0, *levels, 1.0])
    ratio: Array = np.maximum(2 * xlogy(counts, counts / expected).sum(axis=-1), 0.0)
    return ratio


@lru_cache(maxsize=128)
def _null(observations: int, levels: tuple[float, ...], draws: int) -> Array:
    """Sorted statistics of simulated counts."""
    rng = np.random.default_rng(20_180_301)
    cells = rng.multinomial(observations, np.diff([0.0, *levels, 1.0]), draws)
    ordered: Array = np.sort(multinomial_statistic(cells, levels))
    return ordered
