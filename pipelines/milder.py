"""A longer close-out of one price series never has a smaller tail loss than a shorter one in the same run.

Tails of different close-outs are estimated from different samples, so that by chance a longer one may come
out lower. Groups are calibrated from the shortest close-out on, and what a milder entry needs is the least
that a stricter one of the same series does. What is stretched afterwards, for a size or a late
oracle, may still change the order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from calibrator.config import Config, MarketConfig
from pipelines.starts import close_out

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Milder:
    """Tail losses of the entries that were calibrated before.

    Attributes
    ----------
    config : Config
    kept : list of (MarketConfig, str, numpy.ndarray)
        Terms, series, and losses over the close-out, shape (..., decisions, sides).
    """

    config: Config
    kept: list[tuple[MarketConfig, str, Array]] = field(default_factory=list)

    def raised(self, terms: MarketConfig, series: Sequence[str], tails: Array, volatility: Array) -> Array:
        """Return standardised tails that ask at least what every milder entry of the same series does.

        Parameters
        ----------
        terms : MarketConfig
            Of all of them.
        series : sequence of str
        tails : numpy.ndarray, shape (..., decisions, markets, sides)
            In units of volatility; NaN where there is none.
        volatility : numpy.ndarray, shape (decisions, markets)
            Over the close-out.

        Examples
        --------
        >>> config = Config.model_validate({"data": {"source": "embedded"}})
        >>> seen, one = Milder(config), np.ones((1, 1, 2))
        >>> short, long = (MarketConfig(close_out=n, level=0.99, loss="terminal") for n in (1, 4))
        >>> seen.raised(short, ["A"], 3 * one, np.array([[0.1]])).tolist()
        [[[3.0, 3.0]]]
        >>> seen.raised(long, ["A"], one, np.array([[0.2]])).round(3).tolist()
        [[[1.5, 1.5]]]
        """
        out = tails.copy()
        for i, name in enumerate(series):
            scale = volatility[:, i, None]
            for other, whose, losses in self.kept:
                if whose == name and self._milder(other, terms):
                    own = out[..., i, :]
                    out[..., i, :] = np.where(np.isnan(own), own, np.fmax(own, losses / scale))
            self.kept.append((terms, name, out[..., i, :] * scale))
        return out

    def _milder(self, one: MarketConfig, other: MarketConfig) -> bool:
        return (
            one.role == other.role
            and close_out(self.config, one) <= close_out(self.config, other)
            and (one.level or 0.0) <= (other.level or 0.0)
            and other.loss in (one.loss, "excursion")
        )
