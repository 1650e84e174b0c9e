"""Engle and Manganelli's dynamic quantile test: nothing known beforehand may predict a breach."""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from calibrator.backtest.coverage import CoverageTest

Array = npt.NDArray[np.float64]
LAGS: Final = 4
_RANK: Final = 1e-10


def dynamic_quantile(
    hits: npt.ArrayLike, quantile: npt.ArrayLike, *, level: float, draws: int = 999, seed: int = 0
) -> CoverageTest:
    """Regress breaches on their own past and on the margin; a correct margin leaves nothing to find.

    ``Hit_t = 1[breach] - p`` on ``[1, Hit_{t-1}, ..., Hit_{t-4}, quantile_t]``;
    ``DQ = b' X'X b / (p (1 - p))``, chi-squared with the rank of ``X`` (six) degrees of freedom in the limit.
    The limit rejects 12 % of correct models at 1 % and a few hundred rows, so the decision p-value compares
    with ``draws`` series of independent tosses beside the same quantiles.

    Parameters
    ----------
    hits : array_like of bool, shape (T,)
        Breaches in time order, not overlapping; ``T > 10``.
    quantile : array_like, shape (T,)
        The margins, any unit.
    level : float
        Promised coverage.
    draws : int
        Simulated series; the smallest possible decision p-value is ``1 / (draws + 1)``.
    seed : int
        Of the simulation.

    Returns
    -------
    CoverageTest
        Not applicable (statistic 0, p-values 1) without a single breach.

    References
    ----------
    Engle, R. and Manganelli, S. (2004). CAViaR. Journal of Business and Economic Statistics 22.

    Examples
    --------
    >>> hits = np.zeros(500, bool)
    >>> hits[100:108] = True
    >>> test = dynamic_quantile(hits, np.linspace(0.05, 0.06, 500), level=0.99)
    >>> round(test.statistic, 1), test.decision_p_value
    (611.1, 0.001)
    """
    h, v = np.asarray(hits).astype(bool), np.asarray(quantile, float)
    if h.ndim != 1 or h.shape != v.shape or len(h) <= 10:
        raise ValueError(f"hits and quantile need one shape (T,), T > 10; were {h.shape} and {v.shape}")
    if not np.isfinite(v).all():
        raise ValueError("quantile must be finite")
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, was {level}")
    x = int(h.sum())
    if x == 0:
        return CoverageTest("dynamic_quantile", 0.0, 1.0, 1.0, 0, len(h), 0, applicable=False)
    statistic, rank = (a[0] for a in _statistics(h[None, :], v, 1 - level))
    simulated = np.random.default_rng(seed).random((draws, len(h))) < 1 - level
    null = np.where(simulated.any(axis=1), _statistics(simulated, v, 1 - level)[0], 0.0)
    beyond = int(np.sum(null >= statistic * (1 - 1e-9)))
    return CoverageTest(
        "dynamic_quantile",
        float(statistic),
        float(chi2.sf(statistic, rank)),
        (1 + beyond) / (draws + 1),
        x,
        len(h),
        int(rank),
    )


def _statistics(hits: npt.NDArray[np.bool_], quantile: Array, p: float) -> tuple[Array, Array]:
    """Return DQ and rank per row of ``hits``; the quantile may be rescaled freely."""
    demeaned = quantile[LAGS:] - quantile[LAGS:].mean()
    spread = float(np.abs(demeaned).max())
    flat = spread <= _RANK * float(np.abs(quantile).max())
    size = len(demeaned)
    excess = hits - p
    columns = [np.ones((1, size)), *(excess[:, LAGS - k : -k] for k in range(1, LAGS + 1))]
    columns.append(np.zeros((1, size)) if flat else demeaned[None, :] / spread)
    target = excess[:, LAGS:]
    k = len(columns)
    gram = np.empty((len(hits), k, k))
    for i in range(k):
        for j in range(i, k):
            gram[:, i, j] = gram[:, j, i] = np.einsum(
                "nt,nt->n", *np.broadcast_arrays(columns[i], columns[j])
            )
    cross = np.stack([np.einsum("nt,nt->n", *np.broadcast_arrays(c, target)) for c in columns], axis=1)
    inverse = np.linalg.pinv(gram, rcond=_RANK, hermitian=True)
    statistic: Array = np.einsum("ni,nij,nj->n", cross, inverse, cross) / (p * (1 - p))
    rank = np.linalg.matrix_rank(gram, rtol=_RANK, hermitian=True)
    return statistic, rank
