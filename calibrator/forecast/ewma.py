"""RiskMetrics exponentially weighted moving average of the realized variance."""

from typing import Self

import pandas as pd


class Ewma:
    """Variance over the horizon = ``scale`` times the exponentially weighted realized variance.

    Parameters
    ----------
    decay : float
        Weight of the past per row, between 0 and 1 (RiskMetrics: 0.94).
    scale : float
        Horizon divided by cadence.

    References
    ----------
    J.P. Morgan/Reuters (1996). RiskMetrics Technical Document, 4th ed.

    Examples
    --------
    >>> x = pd.DataFrame({"market": "A", "realized_variance": [1.0, 2.0]})
    >>> Ewma(decay=0.94, scale=1.0).forecast(x).round(3).tolist()
    [1.0, 1.515]
    """

    def __init__(self, *, decay: float, scale: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must lie between 0 and 1, was {decay}")
        self.name = f"ewma_{round(decay * 100):02d}"
        self.decay = decay
        self.scale = scale

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:  # noqa: ARG002 - nothing to learn
        """Return itself: the decay is given."""
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        """Return the variance per row (squared log return over the horizon)."""
        smooth = history.groupby("market", sort=False)["realized_variance"].ewm(alpha=1 - self.decay).mean()
        return self.scale * smooth.droplevel(0).reindex(history.index)
