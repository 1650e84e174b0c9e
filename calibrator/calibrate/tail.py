"""Loss tails by filtered historical simulation: standardised losses, pooled with shrinkage, GPD tail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
THRESHOLD: Final = 0.95
"""Level from which the generalised-Pareto tail takes over."""
LEAST: Final = 100
"""Fewest standardised losses from which a tail is estimated."""
SHAPE_LIMIT: Final = 0.5
PEERS: Final = 500.0
"""Decisions of own history that weigh as much as the peers' tail."""
NEWCOMER: Final = 0.25
"""How much wider than its peers' the tail of a market without history is."""


@dataclass(frozen=True, slots=True)
class Tail:
    """Generalised-Pareto tail of standardised losses beyond ``threshold``.

    Attributes
    ----------
    threshold : float
        The 95 % quantile, in units of forecast volatility.
    shape, scale : float
        Parameters of the excesses; the mean excess exists because ``shape`` stays below one half.
    share : float
        Share of losses beyond the threshold.
    """

    threshold: float
    shape: float
    scale: float
    share: float

    def quantile(self, level: float) -> float:
        """Return the loss quantile at ``level`` (at or beyond the threshold's own level).

        Examples
        --------
        >>> Tail(threshold=2.0, shape=0.0, scale=0.5, share=0.05).quantile(0.99).__round__(4)
        2.8047
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, was {level}")
        ratio = max(self.share / (1.0 - level), 1.0)
        if abs(self.shape) < 1e-9:
            return self.threshold + self.scale * float(np.log(ratio))
        return self.threshold + self.scale / self.shape * float(ratio**self.shape - 1.0)

    def expected_shortfall(self, level: float) -> float:
        """Return the mean loss beyond the quantile; never below it.

        Examples
        --------
        >>> tail = Tail(threshold=2.0, shape=0.1, scale=0.5, share=0.05)
        >>> tail.expected_shortfall(0.99) > tail.quantile(0.99)
        True
        """
        quantile = self.quantile(level)
        excess = (self.scale + self.shape * (quantile - self.threshold)) / (1.0 - self.shape)
        return quantile + max(excess, 0.0)


def fit_tail(losses: Array) -> Tail | None:
    """Estimate the tail by probability-weighted moments.

    Parameters
    ----------
    losses : numpy.ndarray
        Standardised losses; NaN are ignored.

    Returns
    -------
    Tail or None
        None with fewer than 100 losses.

    References
    ----------
    Hosking, J. and Wallis, J. (1987). Parameter and quantile estimation for the generalized Pareto
    distribution. Technometrics 29.

    Examples
    --------
    >>> z = np.random.default_rng(0).exponential(1.0, 20_000)
    >>> tail = fit_tail(z)
    >>> bool(abs(tail.quantile(0.999) - np.log(1000)) < 0.3)
    True
    """
    known = losses[np.isfinite(losses)]
    if len(known) < LEAST:
        return None
    beyond = max(int(len(known) * (1 - THRESHOLD)), 5)
    top = np.sort(np.partition(known, len(known) - beyond - 1)[-beyond - 1 :])
    threshold, excess = float(top[0]), top[1:] - top[0]
    mean = float(excess.mean())
    if mean <= 0:
        return Tail(threshold, 0.0, 0.0, beyond / len(known))
    rank = (np.arange(1, beyond + 1) - 0.35) / beyond
    weighted = float(((1.0 - rank) * excess).mean())
    shape = float(np.clip(2.0 - mean / (mean - 2.0 * weighted), -SHAPE_LIMIT, SHAPE_LIMIT))
    return Tail(threshold, shape, mean * (1.0 - shape), beyond / len(known))


def rolling_tails(
    losses: Array,
    known: NDArray[np.int64],
    *,
    window: int,
    level: float | Sequence[float],
    refit: int,
    markets: Sequence[int] | None = None,
) -> tuple[Array, Array]:
    """Quantile and expected shortfall of each market's standardised losses, known at each decision.

    Both are shrunk in logarithms, side by side: ``w`` of the market's own tail and ``1 - w`` of all markets',
    ``w = n / (n + 500)`` with ``n`` its own decisions. A short history is widened by up to a quarter.

    Parameters
    ----------
    losses : numpy.ndarray, shape (decisions, markets, sides, starts)
        Losses over forecast volatility; NaN where unknown.
    known : numpy.ndarray of int, shape (decisions, markets)
        Row of the first decision at which all losses of this one are known.
    window : int
        Decisions of history.
    level : float or sequence of float
        Of the quantile; several are estimated from the same tails.
    refit : int
        Decisions between estimations, counted from the first.
    markets : sequence of int, optional
        Columns whose tails are wanted; the others are peers only. Default: all.

    Returns
    -------
    quantile, expected_shortfall : numpy.ndarray, shape (decisions, markets, sides[, levels])
        Of the wanted markets; NaN before there are 100 losses of all markets together. The last axis only for
        several levels.

    Examples
    --------
    >>> z = np.abs(np.random.default_rng(1).standard_t(5, (400, 1, 1, 1)))
    >>> known = np.arange(1, 401)[:, None]
    >>> quantile, _ = rolling_tails(z, known, window=300, level=(0.99, 0.999), refit=7)
    >>> quantile[-1].round(1).tolist()
    [[[4.6, 6.9]]]
    """
    levels = np.atleast_1d(np.asarray(level, float))
    count, columns, sides, _ = losses.shape
    wanted = range(columns) if markets is None else markets
    out = np.full((2, count, len(wanted), sides, len(levels)), np.nan)
    for cut in range(0, count, refit):
        rows = slice(max(0, cut - window), cut)
        past = np.where((known[rows] <= cut)[:, :, None, None], losses[rows], np.nan)
        pooled = fit_tail(past.ravel())
        if pooled is None:
            continue
        for side in range(sides):
            peers = fit_tail(past[:, :, side].ravel()) or pooled
            for place, market in enumerate(wanted):
                own = past[:, market, side]
                count_own = int(np.isfinite(own).any(axis=1).sum())
                found = _shrunk(fit_tail(own.ravel()) or peers, peers, count_own, window, levels)
                out[:, cut : cut + refit, place, side] = found[:, None]
    quantile, shortfall = out[0], np.maximum(out[0], out[1])
    return (quantile, shortfall) if np.ndim(level) else (quantile[..., 0], shortfall[..., 0])


def _shrunk(own: Tail, peers: Tail, decisions: int, window: int, levels: Array) -> Array:
    """Quantiles and shortfalls, shape (2, levels)."""
    weight = decisions / (decisions + PEERS)
    values = np.array(
        [[[t.quantile(x) for x in levels], [t.expected_shortfall(x) for x in levels]] for t in (own, peers)]
    )
    wider = 1.0 + NEWCOMER * max(0.0, 1.0 - decisions / window)
    mean = np.tensordot([weight, 1.0 - weight], np.log(np.maximum(values, 1e-12)), axes=1)
    shrunk: Array = wider * np.exp(mean)
    return shrunk
