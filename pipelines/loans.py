"""What a loan against one collateral costs to liquidate, and the threshold that a haircut leaves."""

import math
from dataclasses import dataclass

from calibrator.calibrate.haircut import LoanTerms, liquidation_threshold
from calibrator.calibrate.liquidation import Liquidator, adverse_move
from calibrator.config_collateral import HaircutPair
from calibrator.domain import PPM, ppm_up


@dataclass(frozen=True, slots=True)
class Loan:
    """One collateral against one debt at one place.

    Attributes
    ----------
    pair : HaircutPair
        Resolved: its costs, and the target's limit on moves.
    bars : int
        Bars that its haircut covers.

    Examples
    --------
    >>> one = Loan(HaircutPair(collateral="A", location="x", penalty=0.0, slippage=0.01, auction=1.0), bars=4)
    >>> one.terms(0.2).penalty.__round__(3), one.threshold_and_penalty(200_000)
    (0.11, (713513, 110000))
    """

    pair: HaircutPair
    bars: int

    def liquidator(self, haircut: float) -> Liquidator:
        """Return what a liquidator of this collateral spends."""
        move = adverse_move(min(haircut, 1.0), auction=self.pair.auction or 0.0, bars=self.bars)
        return Liquidator(slippage=self.pair.slippage or 0.0, gas=self.pair.gas or 0.0, move=move)

    def terms(self, haircut: float) -> LoanTerms:
        """Return the costs; the penalty is raised where it would not pay the liquidator."""
        least = self.liquidator(haircut).least_penalty(self.pair.liquidation_size or math.inf)
        penalty = min(max(self.pair.penalty or 0.0, least), 1.0)
        return LoanTerms(penalty, self.pair.slippage or 0.0, self.pair.interest or 0.0)

    def threshold_and_penalty(self, haircut_ppm: int) -> tuple[int, int]:
        """Return the liquidation threshold and the penalty of a haircut, all in ppm."""
        terms = self.terms(haircut_ppm / PPM)
        return liquidation_threshold(haircut_ppm / PPM, terms), ppm_up(terms.penalty)

    def highest(self, borrow: float) -> int:
        """Return the largest haircut (ppm) that leaves something to lend below a borrow margin (fraction).

        Examples
        --------
        >>> Loan(HaircutPair(collateral="A", location="x", penalty=0.0), bars=4).highest(0.25)
        749999
        """
        margin = max(ppm_up(borrow), 1)
        low, high = 0, PPM
        while high - low > 1:
            middle = (low + high) // 2
            lends = self.threshold_and_penalty(middle)[0] > margin
            low, high = (middle, high) if lends else (low, middle)
        return low

    def within(self, wanted: int, last: int, step: int) -> int:
        """Return the haircut between ``last`` and ``wanted`` next to it whose terms move by at most a step.

        Haircut, threshold and penalty are each held to ``step``: where the penalty rises with the haircut,
        the threshold moves by more than the haircut does.

        Parameters
        ----------
        wanted, last, step : int
            ppm.

        Examples
        --------
        >>> plain = Loan(HaircutPair(collateral="A", location="x", penalty=0.05), bars=4)
        >>> plain.within(300_000, 200_000, 5_000)
        205000
        >>> dear = Loan(HaircutPair(collateral="A", location="x", auction=4.0), bars=4)
        >>> moved = dear.within(300_000, 200_000, 5_000)
        >>> moved, dear.threshold_and_penalty(200_000)[0] - dear.threshold_and_penalty(moved)[0]
        (203611, 5000)
        """
        before = self.threshold_and_penalty(last)

        def small(haircut: int) -> bool:
            after = self.threshold_and_penalty(haircut)
            return max(abs(a - b) for a, b in zip(after, before, strict=True)) <= step

        near, far = last, min(max(wanted, last - step, 0), last + step, PPM)
        if small(far):
            return far
        while abs(far - near) > 1:
            middle = (near + far) // 2
            near, far = (middle, far) if small(middle) else (near, middle)
        return near
