"""Whether a liquidation pays, how small it may be, and what moving the price that triggers it would cost."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Liquidator:
    """What a liquidator spends on one liquidation.

    Attributes
    ----------
    slippage : float
        Of the sale (fraction of the collateral sold).
    gas : float
        Fixed cost (units of the debt).
    move : float
        Adverse move of the price while the collateral is carried (fraction).

    Raises
    ------
    ValueError
        A cost is negative or not finite.

    Examples
    --------
    >>> one = Liquidator(slippage=0.005, gas=20.0, move=0.01)
    >>> one.least_penalty(10_000.0), one.dust(0.05).__round__(2)
    (0.017, 571.43)
    """

    slippage: float
    gas: float
    move: float

    def __post_init__(self) -> None:
        for name in ("slippage", "gas", "move"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, was {value}")

    def least_penalty(self, size: float) -> float:
        """Return the smallest penalty that pays for a liquidation of ``size`` (units of the debt).

        ``slippage + gas / size + move``: below it nobody liquidates and the venue keeps the loss.

        Raises
        ------
        ValueError
            ``size`` is not positive.
        """
        if not size > 0:
            raise ValueError(f"size must be positive, was {size}")
        return self.slippage + self.gas / size + self.move

    def dust(self, penalty: float) -> float:
        """Return the size below which a liquidation does not pay at ``penalty``; infinite if none pays.

        ``gas / (penalty - slippage - move)``, the inverse of :meth:`least_penalty`.
        """
        left = penalty - self.slippage - self.move
        if left <= 0:
            return math.inf if self.gas > 0 or left < 0 else 0.0
        return self.gas / left


def adverse_move(haircut: float, *, auction: float, bars: int) -> float:
    """Return the move against a liquidator who carries the collateral for ``auction`` bars.

    The haircut, a tail loss over ``bars``, by the root of time. It moves with the published haircut; where a
    target limits steps, the plan holds the penalty that it raises, and the threshold, to them as well.

    Parameters
    ----------
    haircut : float
        Fraction over ``bars``.
    auction : float
        Bars, not negative; may be a part of one.
    bars : int
        Bars that the haircut covers (positive).

    Examples
    --------
    >>> adverse_move(0.12, auction=0.25, bars=25).__round__(4)
    0.012
    """
    if auction < 0 or bars <= 0:
        raise ValueError(f"auction must not be negative and bars positive, were {auction} and {bars}")
    return min(haircut * math.sqrt(auction / bars), 1.0)


@dataclass(frozen=True, slots=True)
class Depth:
    """How much a market absorbs, by the square-root law.

    Attributes
    ----------
    turnover : float
        Volume over the window in which the oracle averages (quote units, positive).
    volatility : float
        Over the same window (fraction, positive).
    impact : float
        Y of ``move = Y volatility sqrt(Q / turnover)`` (positive).
    """

    turnover: float
    volatility: float
    impact: float

    def __post_init__(self) -> None:
        for name in ("turnover", "volatility", "impact"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be finite and positive, was {value}")

    def cost_of_moving(self, move: float) -> float:
        """Return what it costs to move the price by ``move`` (fraction) over the window.

        ``Q = turnover (move / (Y volatility))^2`` must be traded, at two thirds of the move on average:
        ``2/3 Q move``. What selling it again costs is left out: the bound is on the safe side.

        Examples
        --------
        >>> Depth(turnover=1e6, volatility=0.02, impact=1.0).cost_of_moving(0.10).__round__()
        1666667
        """
        return 2 / 3 * self.turnover * move * (move / (self.impact * self.volatility)) ** 2

    def manipulation_bound(self, loan_to_value: float) -> float:
        """Return the largest supply of a collateral that is not worth a manipulated price.

        Who raises the price by ``x`` borrows ``loan_to_value (1 + x)`` on collateral worth 1 and leaves it
        behind: ``supply (loan_to_value (1 + x) - 1)`` is won, :meth:`cost_of_moving` is spent. The least
        ratio of the two is at ``x = 3 (1 - l) / (2 l)``, hence with ``k`` the cost at ``x = 1``
        ``supply <= 27 k (1 - l)^2 / (4 l^3)``.

        Parameters
        ----------
        loan_to_value : float
            Between 0 and 1, exclusive.

        Examples
        --------
        >>> deep = Depth(turnover=1e6, volatility=0.02, impact=1.0)
        >>> deep.manipulation_bound(0.8) < deep.manipulation_bound(0.7)
        True
        """
        if not 0 < loan_to_value < 1:
            raise ValueError(f"loan_to_value must lie between 0 and 1, was {loan_to_value}")
        return 27 * self.cost_of_moving(1.0) * (1 - loan_to_value) ** 2 / (4 * loan_to_value**3)
