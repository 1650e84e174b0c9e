"""The plan: what the next decisions are expected to ask, as volatility returns to its usual level."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEAST: Final = 60
WINDOW: Final = 500


def expected_path(target: Array, *, steps: int) -> Array:
    """Targets of the next decisions, by the first-order autoregression of the log target.

    ``log m[t+k] = c + phi^k (log m[t] - c)`` with mean ``c`` and ``phi`` from the last 500 decisions known at
    each one; with less than 60 the target is expected to stay.

    Parameters
    ----------
    target : numpy.ndarray, shape (decisions,)
        Margin before the anti-procyclical layer.
    steps : int
        Decisions ahead.

    Returns
    -------
    numpy.ndarray, shape (decisions, steps)
        Uses only targets up to and including each decision.

    Examples
    --------
    >>> expected_path(np.array([0.1, 0.2]), steps=2).tolist()
    [[0.1, 0.1], [0.2, 0.2]]
    """
    out = np.repeat(target[:, None], steps, axis=1)
    logs = np.log(target)
    for t in range(LEAST, len(target)):
        past = logs[max(0, t + 1 - WINDOW) : t + 1]
        past = past[np.isfinite(past)]
        if len(past) < LEAST or not np.isfinite(logs[t]):
            continue
        centre = past.mean()
        gap = past - centre
        spread = float(gap[:-1] @ gap[:-1])
        decay = float(np.clip(gap[1:] @ gap[:-1] / spread, 0.0, 1.0)) if spread > 0 else 1.0
        out[t] = np.exp(centre + decay ** np.arange(1, steps + 1) * (logs[t] - centre))
    return out
