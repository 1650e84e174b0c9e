"""From a probability to a state that does not flicker."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrator.domain import Regime


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Probabilities at which a state is entered and left; leaving is never above entering.

    Examples
    --------
    >>> Thresholds(elevated=(0.15, 0.10), stress=(0.40, 0.25)).stress
    (0.4, 0.25)
    """

    elevated: tuple[float, float]
    stress: tuple[float, float]

    def __post_init__(self) -> None:
        for name in ("elevated", "stress"):
            enter, leave = getattr(self, name)
            if not 0 <= leave <= enter <= 1:
                raise ValueError(f"{name}: need 0 <= leave <= enter <= 1, were {leave} and {enter}")


def regimes(probability: NDArray[np.float64], *, thresholds: Thresholds) -> NDArray[np.int64]:
    """Run the state machine over a market's probabilities in time order.

    Parameters
    ----------
    probability : numpy.ndarray, shape (decisions,)
        Stress probabilities; NaN keeps the last state, and is ELEVATED at the start: never calmer than known.
    thresholds : Thresholds
        Enter and leave levels.

    Returns
    -------
    numpy.ndarray of int, shape (decisions,)
        Values of :class:`calibrator.domain.Regime`.

    Examples
    --------
    >>> p = np.array([0.05, 0.2, 0.12, 0.5, 0.3, 0.2, np.nan, 0.05])
    >>> regimes(p, thresholds=Thresholds(elevated=(0.15, 0.10), stress=(0.40, 0.25))).tolist()
    [0, 1, 1, 2, 2, 1, 1, 0]
    """
    out = np.empty(len(probability), dtype=np.int64)
    state = Regime.ELEVATED
    for i, p in enumerate(probability):
        if not np.isnan(p):
            stressed = p >= thresholds.stress[int(state == Regime.STRESS)]
            elevated = p >= thresholds.elevated[int(state >= Regime.ELEVATED and i > 0)]
            state = Regime.STRESS if stressed else Regime.ELEVATED if elevated else Regime.CALM
        out[i] = state
    return out
