"""Adaptive conformal step: breaches tighten a market's level at once, time brings it back, never below."""

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
STEPS: Final = 5
"""Levels between the base and the strictest at which the tail is known."""


def ladder(level: float, strictest: float) -> tuple[float, ...]:
    """Return levels from the base to the strictest, evenly in the logarithm of the share left uncovered.

    Raises
    ------
    ValueError
        Unless ``0 < level <= strictest < 1``.

    Examples
    --------
    >>> [round(x, 4) for x in ladder(0.99, 0.999)]
    [0.99, 0.9944, 0.9968, 0.9982, 0.999]
    """
    if not 0 < level <= strictest < 1:
        raise ValueError(f"need 0 < level <= strictest < 1, were {level} and {strictest}")
    shares = np.geomspace(1 - level, 1 - strictest, STEPS)
    return tuple((1 - shares).tolist())


def tighten(
    losses: Array, known: Integers, quantiles: Array, *, levels: tuple[float, ...], gain: float
) -> tuple[Array, Array]:
    r"""Run the adaptive step over every market's decisions in time order.

    With the share left uncovered :math:`a_t` (base :math:`a`, smallest :math:`b`) and the share of breaches
    :math:`e_s` of a decision whose losses have become known (sides and starts together):
    :math:`a_{t+1} = \min(a, \max(b, a_t + g (a - e_s)))`. The quantile in force is that of the level
    :math:`1 - a_t`, interpolated in :math:`\log a`. It is never below the base quantile.

    Parameters
    ----------
    losses : numpy.ndarray, shape (decisions, markets, sides, starts)
        Standardised losses; NaN where unknown.
    known : numpy.ndarray of int, shape (decisions, markets)
        Row of the first decision at which all losses of this one are known.
    quantiles : numpy.ndarray, shape (decisions, markets, sides, levels)
        Standardised quantiles at ``levels``; NaN while there are none.
    levels : tuple of float
        Rising, evenly in ``log(1 - level)``, from the base (see :func:`ladder`).
    gain : float
        ``g``; 0 leaves every level at the base.

    Returns
    -------
    quantile : numpy.ndarray, shape (decisions, markets, sides)
        In force at each decision; uses only losses known by then.
    level : numpy.ndarray, shape (decisions, markets)
        In force at each decision.

    References
    ----------
    Gibbs, I. and Candes, E. (2021). Adaptive conformal inference under distribution shift. NeurIPS 34.

    Examples
    --------
    >>> z = np.array([1.0, 9.0, 1.0, 1.0]).reshape(4, 1, 1, 1)
    >>> q = np.broadcast_to([2.0, 3.0, 4.0], (4, 1, 1, 3))
    >>> due = np.arange(1, 5)[:, None]
    >>> quantile, level = tighten(z, due, q, levels=(0.9, 0.99, 0.999), gain=0.05)
    >>> level.ravel().round(3).tolist(), quantile.ravel().round(2).tolist()
    ([0.9, 0.9, 0.945, 0.94], [2.0, 2.0, 2.26, 2.22])
    """
    if gain < 0:
        raise ValueError(f"gain must not be negative, was {gain}")
    decisions, markets, sides, _ = losses.shape
    base, least = 1 - levels[0], 1 - levels[-1]
    place = np.log(base / least) / max(len(levels) - 1, 1)
    out, share = np.full((decisions, markets, sides), np.nan), np.empty((decisions, markets))
    for market in range(markets):
        own = np.ascontiguousarray(losses[:, market]), np.ascontiguousarray(quantiles[:, market])
        _walk(*own, known[:, market].copy(), (base, least, gain, place), out[:, market], share[:, market])
    return out, 1 - share


@numba.njit(cache=True)
def _walk(
    losses: Array,
    quantiles: Array,
    known: Integers,
    options: tuple[float, float, float, float],
    out: Array,
    share: Array,
) -> None:
    base, least, gain, place = options
    now, next_due = base, 0
    top = quantiles.shape[2] - 1
    due = np.argsort(known, kind="mergesort")
    for t in range(len(losses)):
        while next_due < len(due) and known[due[next_due]] <= t:
            done = due[next_due]
            next_due += 1
            breaches, count = 0, 0
            for side in range(losses.shape[1]):
                for start in range(losses.shape[2]):
                    loss = losses[done, side, start]
                    if not np.isnan(loss) and not np.isnan(out[done, side]):
                        count += 1
                        breaches += loss > out[done, side]
            if count:
                now = min(base, max(least, now + gain * (base - breaches / count)))
        share[t] = now
        step = np.log(base / now) / place if place > 0 else 0.0
        low = min(int(step), max(top - 1, 0))
        rest = min(step - low, 1.0)
        for side in range(losses.shape[1]):
            first = quantiles[t, side, low]
            out[t, side] = first + rest * (quantiles[t, side, min(low + 1, top)] - first)
