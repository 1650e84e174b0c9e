"""Risk per unit of collateral: what a posted unit may lose, and what it is still worth when it has."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RISK_WEIGHT: Final = 12.5
"""Risk-weighted assets of which 8 % are the expected shortfall."""


@dataclass(frozen=True, slots=True)
class PerUnit:
    """Risk measures of one market and side, shape ``(decisions,)`` each.

    Attributes
    ----------
    value_at_risk, expected_shortfall : numpy.ndarray
        Per unit of posted collateral (fraction; above 1 = more than all of it).
    risk_weight : numpy.ndarray
        12.5 times the expected shortfall per unit of notional.
    delta_adjusted_collateral : numpy.ndarray
        Worth of one unit of collateral after the expected shortfall, by its price delta to the market.
    implied_volatility_margin : numpy.ndarray
        The margin that the option market's volatility would give (fraction of notional); NaN without a quote.
    """

    value_at_risk: Array
    expected_shortfall: Array
    risk_weight: Array
    delta_adjusted_collateral: Array
    implied_volatility_margin: Array


def per_unit(
    loss: tuple[Array, Array], *, posted: Array, delta: float, implied: Array, quantile: Array
) -> PerUnit:
    """Put a tail loss in relation to the collateral that stands against it.

    Parameters
    ----------
    loss : (numpy.ndarray, numpy.ndarray)
        Quantile and expected shortfall over the close-out (fractions of notional).
    posted : numpy.ndarray
        Collateral per unit of notional: the initial margin, or 1 for a lent-against collateral.
    delta : float
        Change of the collateral's value per relative change of the market against the position: 0 = cash, 1 =
        the market's own asset; between 0 and 1.
    implied : numpy.ndarray
        Implied volatility over the close-out (fraction); NaN = no quote.
    quantile : numpy.ndarray
        Standardised tail quantile at the level.

    Examples
    --------
    >>> one = np.array([0.10]), np.array([0.12])
    >>> found = per_unit(one, posted=np.array([0.2]), delta=1.0, implied=np.array([0.05]),
    ...                  quantile=np.array([2.5]))
    >>> float(found.value_at_risk[0]), found.risk_weight.round(2).tolist()
    (0.5, [1.5])
    >>> found.delta_adjusted_collateral.tolist(), found.implied_volatility_margin.tolist()
    ([0.88], [0.125])
    """
    if not 0 <= delta <= 1:
        raise ValueError(f"delta must lie between 0 and 1, was {delta}")
    at_risk, shortfall = loss
    return PerUnit(
        at_risk / posted,
        shortfall / posted,
        RISK_WEIGHT * shortfall,
        np.maximum(1.0 - delta * shortfall, 0.0),
        implied * quantile,
    )
