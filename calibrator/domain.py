"""Frozen domain types: what the stages decide and hand to each other.

Units: ``_ppm`` is an integer number of parts per million of notional (margins) or of collateral value
(haircuts, thresholds). Margins and haircuts are rounded up, loan-to-value and thresholds down.
"""

import math
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Final, Literal

PPM: Final = 1_000_000
HIGHEST: Final = PPM - 1
"""A maintenance margin stays below the initial margin, which stays at or below the notional."""
NOISE: Final = 1e-6
"""Rounding noise of a float fraction, in ppm."""
Side = Literal["long", "short"]
SIDES: Final[tuple[Side, Side]] = ("long", "short")


class Regime(IntEnum):
    """State of a market, ordered by severity.

    Examples
    --------
    >>> Regime.STRESS > Regime.CALM, Regime.ELEVATED.name
    (True, 'ELEVATED')
    """

    CALM = 0
    ELEVATED = 1
    STRESS = 2


def ppm_up(fraction: float) -> int:
    """Quantise a margin or haircut towards safety: the smallest integer ppm not below ``fraction``.

    Parameters
    ----------
    fraction : float
        A finite fraction of notional; an excess of at most 1e-12 is rounding noise (0.07 is 7 % exactly).

    Returns
    -------
    int
        Parts per million.

    Examples
    --------
    >>> ppm_up(0.05), ppm_up(0.0500001), ppm_up(0.0)
    (50000, 50001, 0)
    """
    return math.ceil(fraction * PPM - NOISE)


def ppm_down(fraction: float) -> int:
    """Quantise a loan-to-value or threshold towards safety: the largest integer ppm not above ``fraction``.

    Examples
    --------
    >>> ppm_down(0.75), ppm_down(0.7500009)
    (750000, 750000)
    """
    return math.floor(fraction * PPM + NOISE)


@dataclass(frozen=True, slots=True)
class Market:
    """One market of one protocol.

    Examples
    --------
    >>> str(Market("demo", "SPX"))
    'demo:SPX'
    """

    protocol: str
    symbol: str

    def __str__(self) -> str:
        return f"{self.protocol}:{self.symbol}"


def check_margins(initial_ppm: int, maintenance_ppm: int) -> None:
    """Refuse margins that are not ordered; the rule of `MarginTier`, for those who need no tier.

    Raises
    ------
    ValueError
        Unless ``0 < maintenance < initial <= 1 000 000 ppm``.

    Examples
    --------
    >>> check_margins(50_000, 50_000)
    Traceback (most recent call last):
    ...
    ValueError: margins must satisfy 0 < maintenance < initial <= 1000000 ppm, were maintenance 50000, ...
    """
    if not 0 < maintenance_ppm < initial_ppm <= PPM:
        raise ValueError(
            "margins must satisfy 0 < maintenance < initial <= 1000000 ppm, were "
            f"maintenance {maintenance_ppm}, initial {initial_ppm}"
        )


@dataclass(frozen=True, slots=True)
class MarginTier:
    """Margins that apply to the part of a position's notional above ``notional_floor`` (quote units).

    Raises
    ------
    ValueError
        Unless ``0 < maintenance < initial <= 1 000 000 ppm`` and the floor is not negative.

    Examples
    --------
    >>> MarginTier(0, 100_000, 50_000).maintenance_margin_ppm
    50000
    """

    notional_floor: int
    initial_margin_ppm: int
    maintenance_margin_ppm: int

    def __post_init__(self) -> None:
        if self.notional_floor < 0:
            raise ValueError(f"notional_floor must not be negative, was {self.notional_floor}")
        check_margins(self.initial_margin_ppm, self.maintenance_margin_ppm)


@dataclass(frozen=True, slots=True)
class MarginSchedule:
    """Tiers by notional; margins never fall with notional.

    Examples
    --------
    >>> tiers = (MarginTier(0, 100_000, 50_000), MarginTier(1_000_000, 120_000, 60_000))
    >>> MarginSchedule(tiers).tier_of(2_000_000).maintenance_margin_ppm
    60000
    """

    tiers: tuple[MarginTier, ...]

    def __post_init__(self) -> None:
        if not self.tiers or self.tiers[0].notional_floor != 0:
            raise ValueError("a schedule needs a first tier with notional_floor 0")
        for low, high in pairwise(self.tiers):
            if high.notional_floor <= low.notional_floor:
                raise ValueError(
                    f"notional floors must rise, {high.notional_floor} follows {low.notional_floor}"
                )
            if (
                high.maintenance_margin_ppm < low.maintenance_margin_ppm
                or high.initial_margin_ppm < low.initial_margin_ppm
            ):
                raise ValueError(f"margins must not fall with notional, they do at {high.notional_floor}")

    def tier_of(self, notional: float) -> MarginTier:
        """Return the tier that a position of ``notional`` (quote units, not negative) falls into."""
        if notional < 0:
            raise ValueError(f"notional must not be negative, was {notional}")
        return [t for t in self.tiers if t.notional_floor <= notional][-1]


@dataclass(frozen=True, slots=True)
class HaircutSchedule:
    """Lending parameters of one (collateral, debt, location).

    Raises
    ------
    ValueError
        Unless ``0 < loan_to_value < liquidation_threshold < 1`` and
        ``threshold * (1 + penalty) + haircut <= 1`` exactly, in integers.

    Examples
    --------
    >>> HaircutSchedule(200_000, 700_000, 740_000, 80_000).liquidation_threshold_ppm
    740000
    """

    haircut_ppm: int
    loan_to_value_ppm: int
    liquidation_threshold_ppm: int
    liquidation_penalty_ppm: int

    def __post_init__(self) -> None:
        if not 0 < self.loan_to_value_ppm < self.liquidation_threshold_ppm < PPM:
            raise ValueError(
                "loan_to_value and threshold must satisfy 0 < loan_to_value < threshold < 1000000 ppm, were "
                f"{self.loan_to_value_ppm} and {self.liquidation_threshold_ppm}"
            )
        if self.liquidation_penalty_ppm < 0 or self.haircut_ppm < 0:
            raise ValueError("penalty and haircut must not be negative")
        used = self.liquidation_threshold_ppm * (PPM + self.liquidation_penalty_ppm) + self.haircut_ppm * PPM
        if used > PPM * PPM:
            raise ValueError(
                "threshold * (1 + penalty) + haircut must not exceed 1, was "
                f"{used / PPM / PPM:.6f} (threshold {self.liquidation_threshold_ppm} ppm)"
            )


@dataclass(frozen=True, slots=True)
class ChangeLimits:
    """How fast a published value may move; shared by the plan and by the publisher's constraint check.

    Attributes
    ----------
    max_increase : float
        Largest relative increase of a margin per decision, as a fraction (0.2 = +20 %).
    max_decrease : float
        Largest relative decrease of a margin per decision, as a fraction.
    max_increase_5, max_increase_10 : float
        Largest relative increase over five and ten decisions.
    peak_to_trough : float
        Largest ``max / min - 1`` over a rolling year of decisions.
    min_base : float
        Increases are counted as fractions of the value, but of at least this much: a margin of a few basis
        points, as of a stablecoin, would otherwise never reach what it needs in a crisis.

    Examples
    --------
    >>> ChangeLimits().max_increase
    0.2
    >>> [ChangeLimits(min_base=0.02).raised(x, 0.2).__round__(4) for x in (0.0015, 0.02, 0.1)]
    [0.0055, 0.024, 0.12]
    """

    max_increase: float = 0.20
    max_decrease: float = 0.10
    max_increase_5: float = 0.50
    max_increase_10: float = 0.70
    peak_to_trough: float = 2.0
    min_base: float = 0.02

    def raised(self, value: float, share: float) -> float:
        """Return the most that ``value`` may rise to under a limit of ``share``."""
        return max(value * (1 + share), value + share * self.min_base)

    def __post_init__(self) -> None:
        if min(self.max_increase, self.max_increase_5, self.max_increase_10, self.peak_to_trough) <= 0:
            raise ValueError("increases and peak_to_trough must be positive fractions")
        if not 0 < self.max_decrease < 1:
            raise ValueError(f"max_decrease must lie between 0 and 1, was {self.max_decrease}")
        if not 0 <= self.min_base < 1:
            raise ValueError(f"min_base must be at least 0 and below 1, was {self.min_base}")


@dataclass(frozen=True, slots=True)
class StepLimits:
    """A target protocol's limit on moves of a threshold: at most ``step`` at once, then a pause.

    Attributes
    ----------
    step : float
        Largest absolute move, as a fraction of value (0.005 = 50 bps).
    every : int
        Decisions between two moves.

    Raises
    ------
    ValueError
        Unless ``0 < step < 1`` and ``every >= 1``.

    Examples
    --------
    >>> StepLimits(step=0.005, every=3).every
    3
    """

    step: float
    every: int

    def __post_init__(self) -> None:
        if not 0 < self.step < 1:
            raise ValueError(f"step must lie between 0 and 1, was {self.step}")
        if self.every < 1:
            raise ValueError(f"every must be at least 1, was {self.every}")
