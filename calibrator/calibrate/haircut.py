"""Haircut, liquidation threshold and loan-to-value of a collateral against a debt."""

from dataclasses import dataclass

from calibrator.domain import PPM, HaircutSchedule, ppm_down, ppm_up
from calibrator.errors import InfeasibleScheduleError


@dataclass(frozen=True, slots=True)
class LoanTerms:
    """What a liquidation costs besides the price move (fractions of the collateral's value).

    Examples
    --------
    >>> LoanTerms(penalty=0.05, slippage=0.005, interest=0.0005).penalty
    0.05
    """

    penalty: float
    slippage: float
    interest: float


@dataclass(frozen=True, slots=True)
class Lent:
    """What is lent now, and how far the next decision may take it.

    Attributes
    ----------
    loan_to_value_ppm : int
        In force.
    reach_ppm : int or None
        Largest move, up or down: the target's step, 0 between its moves; None = free.
    may_rise : bool
        Not while the input is incomplete, nor while a regime holds margins up.

    Examples
    --------
    >>> Lent(700_000, 5_000).within(720_000), Lent(700_000, 5_000, may_rise=False).within(720_000)
    (705000, 700000)
    """

    loan_to_value_ppm: int
    reach_ppm: int | None = None
    may_rise: bool = True

    def within(self, wanted: int) -> int:
        """Return the loan-to-value next to ``wanted`` (ppm) that may be published."""
        if self.reach_ppm is not None:
            lowest, highest = (self.loan_to_value_ppm + sign * self.reach_ppm for sign in (-1, 1))
            wanted = min(max(wanted, lowest), highest)
        return wanted if self.may_rise else min(wanted, self.loan_to_value_ppm)


def liquidation_threshold(haircut: float, terms: LoanTerms) -> int:
    """Return the liquidation threshold of a haircut (ppm, rounded down); see :func:`haircut_schedule`.

    Examples
    --------
    >>> liquidation_threshold(0.20, LoanTerms(penalty=0.05, slippage=0.005, interest=0.0005))
    757716
    """
    cut, penalty = ppm_up(haircut), ppm_up(terms.penalty)
    keep = (PPM - cut) / PPM * (1 - terms.slippage) / ((1 + penalty / PPM) * (1 + terms.interest))
    threshold = min(ppm_down(max(keep, 0.0)), (PPM - cut) * PPM // (PPM + penalty))
    return min(threshold, PPM - 1)


def haircut_schedule(
    haircut: float, borrow_margin: float, *, terms: LoanTerms, last: Lent | None = None
) -> HaircutSchedule:
    """Derive the lending parameters from a haircut, quantised towards safety.

    ``threshold = (1 - haircut) (1 - slippage) / ((1 + penalty) (1 + interest))`` and
    ``loan_to_value = threshold - borrow_margin``; the haircut is rounded up first, threshold and
    loan-to-value are rounded down from it, so ``threshold (1 + penalty) + haircut <= 1`` holds in integers.
    The threshold stays below 1 and the borrow margin is at least one ppm, also where no price ever moved.

    Parameters
    ----------
    haircut : float
        Tail loss of the pair over close-out and settlement (fraction).
    borrow_margin : float
        Tail loss over one cadence at the lower borrowing level (fraction).
    terms : LoanTerms
        Penalty, slippage and interest over the close-out.
    last : Lent, optional
        Holds loan-to-value to the limits of a move; it stays below the threshold all the same.

    Raises
    ------
    InfeasibleScheduleError
        When no positive loan-to-value is left.

    Examples
    --------
    >>> haircut_schedule(0.20, 0.05, terms=LoanTerms(penalty=0.05, slippage=0.005, interest=0.0005))
    HaircutSchedule(haircut_ppm=200000, loan_to_value_ppm=707716, liquidation_threshold_ppm=757716,
    liquidation_penalty_ppm=50000)
    """
    cut, penalty = ppm_up(haircut), ppm_up(terms.penalty)
    threshold = liquidation_threshold(haircut, terms)
    loan_to_value = threshold - max(ppm_up(borrow_margin), 1)
    if last is not None:
        loan_to_value = min(last.within(loan_to_value), threshold - 1)
    if loan_to_value <= 0:
        raise InfeasibleScheduleError(
            f"loan_to_value must be positive, was {loan_to_value} ppm: haircut {cut} ppm, penalty "
            f"{penalty} ppm and borrow margin {ppm_up(borrow_margin)} ppm leave nothing to lend"
        )
    return HaircutSchedule(cut, loan_to_value, threshold, penalty)
