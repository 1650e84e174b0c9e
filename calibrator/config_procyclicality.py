"""The anti-procyclical tools and the conformal step: how a margin is kept calm, and never too calm."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from calibrator.config_base import Bars, Fraction, Section, Share, Switch
from calibrator.domain import ChangeLimits, StepLimits


class LimitsConfig(Section):
    """How fast a published margin may move (per decision; fractions of its own value)."""

    max_increase: float = Field(0.20, gt=0, description="largest increase in one decision")
    max_decrease: Fraction = Field(0.10, description="largest decrease in one decision")
    max_increase_5: float = Field(0.50, gt=0, description="largest increase over 5 decisions")
    max_increase_10: float = Field(0.70, gt=0, description="largest increase over 10 decisions")
    peak_to_trough: float = Field(2.0, gt=0, description="largest max / min - 1 over a rolling year")

    min_base: Share = Field(
        0.02, description="increases count as fractions of at least this (fraction of notional)"
    )

    def to_domain(self) -> ChangeLimits:
        """Return the limits as the domain type that plan and publisher share."""
        return ChangeLimits(**self.model_dump())


class ToolsConfig(Section):
    """Anti-procyclical tools beside floor and limits; each may be switched off by its neutral value."""

    long_run_weight: Share = Field(
        0.7, description="weight of the long-run mean in calm times (log scale); 0 = off"
    )
    long_run_share: float = Field(0.9, gt=0, le=2, description="share of that weighted mean that is kept")
    long_run_window: Bars = Field(730, description="decisions of the long-run mean")
    buffer: Share = Field(
        0.0, description="exhaustible buffer on top (EMIR RTS article 28 (a): 0.25); 0 = off"
    )
    buffer_window: Bars = Field(22, description="decisions of the mean above which the buffer is drawn")
    stressed_weight: Share = Field(
        0.0, description="weight of the most stressed month (article 28 (b): 0.25); 0 = off"
    )
    stressed_window: Bars = Field(730, description="decisions among which the most stressed month is found")
    hold: Annotated[Literal["off", "stress", "elevated"], Switch] = Field(
        "off", description="regime from which on a margin does not fall"
    )


class ConformalConfig(Section):
    """Breaches tighten a market's level; it returns to the base, never below it."""

    gain: float = Field(0.0005, ge=0, le=0.1, description="step per breach share; 0 = off")
    range: float = Field(
        10.0, ge=1, le=100, description="the share left uncovered shrinks to 1 / range at most"
    )

    def strictest(self, level: float) -> float:
        """Return the strictest level that a market can be tightened to."""
        return 1.0 - (1.0 - level) / self.range


class StepConfig(Section):
    """The target protocol's own limit on moves of a threshold, e.g. Aave's risk stewards."""

    step: Fraction = Field(0.005, description="largest move of the haircut at once (fraction of value)")
    every: Bars = Field(3, description="decisions between moves")
    steps: int = Field(10, ge=1, le=60, description="moves that the plan looks ahead")
    floor: Share = Field(0.0, description="smallest haircut that the target takes")
    cap: Share = Field(1.0, description="largest haircut that the target takes")
    history: Bars = Field(1000, description="decisions from which the plan learns how haircuts move")
    change_cost: float = Field(0.0, ge=0, le=10, description="cost per unit moved, in days of capital")
    liquidation_cost: float = Field(
        0.0, ge=0, le=100, description="cost per unit tightened: bound of the notional it liquidates itself"
    )

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        least = 2 * self.every * self.steps
        if self.history < least:
            raise ValueError(
                f"history must be at least twice the plan, {least} decisions, was {self.history}"
            )
        if self.floor >= self.cap:
            raise ValueError(f"floor must be below cap, were {self.floor} and {self.cap}")
        return self

    def to_domain(self) -> StepLimits:
        """Return the limit as the domain type that plan and publisher share."""
        return StepLimits(step=self.step, every=self.every)
