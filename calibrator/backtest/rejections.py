"""How many markets chance alone rejects when markets fall together.

Sixty tests at 5 % reject three correct margins on average, but not independently: one crash day breaches in
every market at once. The number of rejections is therefore compared with its distribution when whole days are
redrawn, all markets together, from margins rescaled to be exactly right.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binom

from calibrator.backtest.losses import ROW, conform_losses
from calibrator.errors import DataError
from calibrator.frames import MARGINS, conform


@dataclass(frozen=True, slots=True)
class Rejections:
    """Rejections over many markets against their null.

    Attributes
    ----------
    rejections, tests : int
        One-sided exact tests that reject at ``size``, of all (market, side).
    expected : float
        Mean number under the null.
    percentile_95 : int
        95th percentile under the null.
    decision_p_value : float
        Monte Carlo: probability of as many rejections or more under the null.
    """

    rejections: int
    tests: int
    expected: float
    percentile_95: int
    decision_p_value: float


def rejections(
    margins: pd.DataFrame,
    losses: pd.DataFrame,
    *,
    size: float = 0.05,
    block: int = 1,
    draws: int = 999,
    seed: int = 0,
) -> Rejections:
    """Count the (market, side) pairs with too many breaches, against a null that keeps the cross-section.

    Under the null each pair breaches on its own ``n (1 - level)`` largest losses-to-margin (a margin that is
    right by construction; the fraction of a breach counts at random), and blocks of consecutive origins are
    drawn with replacement, the same for all pairs.

    Parameters
    ----------
    margins : pandas.DataFrame
        ``frames.MARGINS``, one level and one close-out.
    losses : pandas.DataFrame
        ``losses.LOSSES`` that share no bars; of several starts the first one counts.
    size : float
        Of each test.
    block : int
        Consecutive origins drawn together.
    draws, seed : int
        Monte-Carlo samples of origins.

    Raises
    ------
    ValueError
        Several levels, or size or block out of bounds.
    DataError
        No loss meets a margin.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=200, tz="UTC").as_unit("us")
    >>> loss = np.abs(np.random.default_rng(0).standard_normal(200))
    >>> one = pd.DataFrame({"origin": t, "side": "long", "loss": loss})
    >>> x = pd.concat([one.assign(market=m) for m in "ABCD"])
    >>> m = x.drop(columns="loss").assign(level=0.95, horizon=1, margin=1.4, margin_unlimited=1.4)
    >>> out = rejections(m, x, size=0.2)
    >>> out.rejections, out.tests, out.percentile_95
    (4, 4, 4)
    """
    levels = margins["level"].unique()
    if len(levels) != 1:
        raise ValueError(f"margins must have one level, had {sorted(levels)}")
    if not 0 < size < 1 or block < 1:
        raise ValueError(f"size must lie between 0 and 1 and block be positive, were {size} and {block}")
    level = float(levels[0])
    ratio = _ratios(margins, losses)
    known = np.isfinite(ratio)
    critical = _critical(len(ratio), level, size)
    observed = (ratio > 1).sum(axis=0, keepdims=True)
    actual = int(_count(observed, known.sum(axis=0, keepdims=True), critical)[0])
    rng = np.random.default_rng(seed)
    weights = _resample(len(ratio), block, draws, rng)
    certain, marginal, share = _correct_hits(ratio, known, 1 - level)
    breaches = weights @ certain + (weights @ marginal) * (rng.random((draws, len(share))) < share)
    null = _count(breaches, weights @ known, critical)
    return Rejections(
        actual,
        ratio.shape[1],
        float(null.mean()),
        int(np.quantile(null, 0.95, method="higher")),
        (1 + int(np.sum(null >= actual))) / (draws + 1),
    )


def _ratios(margins: pd.DataFrame, losses: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return loss-to-margin, origins in rows, (market, side) in columns, NaN where one is missing."""
    checked = conform_losses(losses)
    first = checked[checked["start"] == checked["start"].min()]
    held = first.merge(conform(margins, MARGINS, source="backtest")[[*ROW, "margin"]], on=ROW).dropna()
    if held.empty:
        raise DataError("rejections: no known loss meets a margin")
    held["ratio"] = held["loss"] / held["margin"]
    wide = held.pivot_table(index="origin", columns=["market", "side"], values="ratio").sort_index()
    values: npt.NDArray[np.float64] = wide.to_numpy(dtype=float)
    return values


def _critical(longest: int, level: float, size: float) -> npt.NDArray[np.float64]:
    """Return per number of observations the smallest count of breaches that the exact test rejects."""
    return np.asarray(binom.isf(size, np.arange(longest + 1), 1 - level) + 1)


def _correct_hits(
    ratio: npt.NDArray[np.float64], known: npt.NDArray[np.bool_], p: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return the sure breaches of a correct margin, the one in doubt, and the chance that it counts."""
    rank = np.where(known, ratio, -np.inf).argsort(axis=0, kind="stable")[::-1].argsort(axis=0)
    expected = known.sum(axis=0) * p
    whole = np.floor(expected)
    return known & (rank < whole), known & (rank == whole), expected - whole


def _count(
    breaches: npt.NDArray[np.generic],
    observations: npt.NDArray[np.generic],
    critical: npt.NDArray[np.float64],
) -> npt.NDArray[np.int64]:
    """Count the rejections per row."""
    seen = np.minimum(observations.astype("int64"), len(critical) - 1)
    rejected = (breaches >= critical[seen]) & (seen > 0)
    return np.asarray(rejected.sum(axis=1))


def _resample(origins: int, block: int, draws: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Return how often each origin appears in each draw of circular blocks."""
    blocks = -(-origins // block)
    starts = rng.integers(0, origins, (draws, blocks))
    picked = ((starts[:, :, None] + np.arange(block)) % origins).reshape(draws, -1)[:, :origins]
    flat = (picked + origins * np.arange(draws)[:, None]).ravel()
    return np.bincount(flat, minlength=draws * origins).reshape(draws, origins).astype(float)
