"""Is a loss beyond the margin as large as promised? Tests of expected shortfall.

Losses are positive numbers; a breach is ``loss > quantile``. Coverage tests count breaches, these weigh them.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from scipy.stats import t as student_t

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ShortfallTest:
    """Outcome of a one-sided test against an expected shortfall that is too small.

    Attributes
    ----------
    name : str
    statistic : float
    p_value : float or None
        Normal approximation with the sample's own standard error; None where there is no standard error.
    decision_p_value : float
        Monte Carlo or bootstrap; 1 where the test is not applicable.
    breaches, observations : int
    applicable : bool
        False without a breach (McNeil-Frey: without two that differ).
    """

    name: str
    statistic: float
    p_value: float | None
    decision_p_value: float
    breaches: int
    observations: int
    applicable: bool = True


@dataclass(frozen=True, slots=True)
class TailNull:
    """Simulated losses of a correct model.

    Attributes
    ----------
    degrees_of_freedom : float or None
        Of Student-t losses (> 1, else there is no expected shortfall); None = normal losses.
    draws : int
        Simulated series.
    seed : int

    Examples
    --------
    >>> TailNull(degrees_of_freedom=0.9)
    Traceback (most recent call last):
    ...
    ValueError: degrees_of_freedom must exceed 1, was 0.9
    """

    degrees_of_freedom: float | None = None
    draws: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.degrees_of_freedom is not None and not self.degrees_of_freedom > 1:
            raise ValueError(f"degrees_of_freedom must exceed 1, was {self.degrees_of_freedom}")
        if self.draws < 1:
            raise ValueError(f"draws must be positive, was {self.draws}")


def acerbi_szekely_z1(
    loss: npt.ArrayLike,
    quantile: npt.ArrayLike,
    expected_shortfall: npt.ArrayLike,
    *,
    level: float,
    null: TailNull | None = None,
) -> ShortfallTest:
    """Weigh the size of breaches only: ``Z1 = 1 - mean(loss / expected_shortfall over breaches)``.

    Expected 0, negative when shortfall is underestimated. Blind to the number of breaches.

    Parameters
    ----------
    loss, quantile, expected_shortfall : array_like, shape (T,)
        Same unit, losses positive, ``expected_shortfall`` positive.
    level : float
        Of quantile and expected shortfall.
    null : TailNull, optional
        What a correct model is simulated from; default normal losses.

    References
    ----------
    Acerbi, C. and Szekely, B. (2014). Back-testing expected shortfall. Risk, December.

    Examples
    --------
    >>> test = acerbi_szekely_z1([0.01, 0.08, 0.02, 0.09], 0.05, 0.06, level=0.975)
    >>> round(test.statistic, 4), test.decision_p_value < 0.05
    (-0.4167, True)
    """
    x, q, es = _inputs(loss, quantile, expected_shortfall, level)
    hit = x > q
    n = int(hit.sum())
    if n == 0:
        return ShortfallTest("acerbi_szekely_z1", 0.0, None, 1.0, 0, len(x), applicable=False)
    ratio = x[hit] / es[hit]
    simulated = null_z(len(x), level, null or TailNull())[0]
    statistic = float(1 - ratio.mean())
    return ShortfallTest(
        "acerbi_szekely_z1", statistic, _normal(1 - ratio), _below(simulated, statistic), n, len(x)
    )


def acerbi_szekely_z2(
    loss: npt.ArrayLike,
    quantile: npt.ArrayLike,
    expected_shortfall: npt.ArrayLike,
    *,
    level: float,
    null: TailNull | None = None,
) -> ShortfallTest:
    """Weigh number and size of breaches together.

    ``Z2 = 1 - sum(loss / expected_shortfall over breaches) / (T (1 - level))``. Expected 0,
    negative when risk is underestimated.

    Parameters
    ----------
    loss, quantile, expected_shortfall : array_like, shape (T,)
        Same unit, losses positive, ``expected_shortfall`` positive.
    level : float
        Of quantile and expected shortfall.
    null : TailNull, optional
        What a correct model is simulated from; default normal losses.

    References
    ----------
    Acerbi, C. and Szekely, B. (2014). Back-testing expected shortfall. Risk, December.

    Examples
    --------
    >>> test = acerbi_szekely_z2([0.01] * 38 + [0.06, 0.06], 0.05, 0.06, level=0.975)
    >>> round(test.statistic, 4), round(test.decision_p_value, 1)
    (-1.0, 0.2)
    """
    x, q, es = _inputs(loss, quantile, expected_shortfall, level)
    hit = x > q
    terms = 1 - np.where(hit, x / es, 0.0) / (1 - level)
    statistic = float(terms.mean())
    simulated = null_z(len(x), level, null or TailNull())[1]
    return ShortfallTest(
        "acerbi_szekely_z2", statistic, _normal(terms), _below(simulated, statistic), int(hit.sum()), len(x)
    )


def mcneil_frey(
    loss: npt.ArrayLike,
    quantile: npt.ArrayLike,
    expected_shortfall: npt.ArrayLike,
    *,
    volatility: npt.ArrayLike = 1.0,
    draws: int = 9_999,
    seed: int = 0,
) -> ShortfallTest:
    """Do breaches exceed the expected shortfall on average? Bootstrap of the standardised exceedances.

    ``z = (loss - expected_shortfall) / volatility`` over breaches has mean zero; the alternative is a
    positive mean. The statistic is ``mean(z) / (std(z) / sqrt(n))``; the decision p-value resamples the
    demeaned ``z`` independently and studentises each resample.

    Parameters
    ----------
    loss, quantile, expected_shortfall : array_like, shape (T,)
    volatility : array_like
        Scale of each row; 1 gives rugarch's ``ESTest``.
    draws : int
        Bootstrap resamples.
    seed : int

    References
    ----------
    McNeil, A. and Frey, R. (2000). Estimation of tail-related risk measures for heteroscedastic financial
    time series. Journal of Empirical Finance 7.

    Examples
    --------
    >>> test = mcneil_frey([0.01, 0.080, 0.085, 0.090, 0.092], 0.05, 0.06)
    >>> round(test.statistic, 2), test.p_value < 0.001
    (9.95, True)
    """
    x, q, es = _inputs(loss, quantile, expected_shortfall, 0.5)
    hit = x > q
    n = int(hit.sum())
    z = ((x - es) / np.broadcast_to(np.asarray(volatility, float), x.shape))[hit]
    if n < 2 or float(np.ptp(z)) == 0.0:
        return ShortfallTest("mcneil_frey", 0.0, None, 1.0, n, len(x), applicable=False)
    statistic = float(_studentised(z[None, :])[0])
    picks = np.random.default_rng(seed).integers(0, n, (draws, n))
    null = _studentised((z - z.mean())[picks])
    decision = (1 + int(np.sum(null >= statistic))) / (draws + 1)
    return ShortfallTest("mcneil_frey", statistic, float(norm.sf(statistic)), decision, n, len(x))


@lru_cache(maxsize=256)
def null_z(observations: int, level: float, null: TailNull) -> tuple[Array, Array]:
    """Simulate ``Z1`` and ``Z2`` of a correct model with independent normal or Student-t losses.

    Only the tail is drawn: the number of breaches is binomial, each breach a conditional tail draw.

    Returns
    -------
    tuple of numpy.ndarray
        Sorted ``Z1`` (draws with at least one breach) and sorted ``Z2`` (all draws).

    Examples
    --------
    >>> z1, z2 = null_z(250, 0.975, TailNull(draws=20_000))
    >>> round(float(np.quantile(z2, 0.05)), 1)
    -0.7
    """
    rng, alpha = np.random.default_rng(null.seed), 1 - level
    counts = rng.binomial(observations, alpha, null.draws)
    tail = alpha * (1 - rng.random(int(counts.sum())))
    if null.degrees_of_freedom is None:
        ratio = norm.isf(tail) / (norm.pdf(norm.isf(alpha)) / alpha)
    else:
        nu, q = null.degrees_of_freedom, student_t.isf(alpha, null.degrees_of_freedom)
        shortfall = student_t.pdf(q, nu) / alpha * (nu + q**2) / (nu - 1)
        ratio = student_t.isf(tail, nu) / shortfall
    sums = np.bincount(np.repeat(np.arange(null.draws), counts), weights=ratio, minlength=null.draws)
    some = counts > 0
    return np.sort(1 - sums[some] / counts[some]), np.sort(1 - sums / (observations * alpha))


def _inputs(
    loss: npt.ArrayLike, quantile: npt.ArrayLike, expected_shortfall: npt.ArrayLike, level: float
) -> tuple[Array, Array, Array]:
    x = np.atleast_1d(np.asarray(loss, float))
    q, es = (np.broadcast_to(np.asarray(a, float), x.shape) for a in (quantile, expected_shortfall))
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, was {level}")
    if x.ndim != 1 or not (np.isfinite(x).all() and np.isfinite(q).all() and np.isfinite(es).all()):
        raise ValueError("loss, quantile and expected_shortfall must be one finite series each")
    if (es <= 0).any():
        raise ValueError(f"expected_shortfall must be positive, smallest was {es.min()}")
    return x, q, es


def _studentised(rows: Array) -> Array:
    spread = rows.std(axis=1, ddof=1)
    mean = rows.mean(axis=1)
    # A resample of one repeated value has no spread: its statistic is infinite with the sign of its mean.
    infinite = np.where(mean > 0, np.inf, -np.inf)
    scaled: Array = np.where(
        spread > 0, mean * np.sqrt(rows.shape[1]) / np.where(spread > 0, spread, 1), infinite
    )
    return scaled


def _below(null: Array, statistic: float) -> float:
    beyond = int(np.searchsorted(null, statistic, side="right"))
    return (1 + beyond) / (len(null) + 1)


def _normal(terms: Array) -> float | None:
    if len(terms) < 2 or float(np.ptp(terms)) == 0.0:
        return None
    return float(norm.cdf(terms.mean() / (terms.std(ddof=1) / np.sqrt(len(terms)))))
