"""Knobs of the capital buffer, the exposure caps and the partial-liquidation ladder."""

from typing import Self

from pydantic import Field, model_validator

from calibrator.config_base import Fraction, Section, Share


class StressConfig(Section):
    """What a margin adds for size, crowding, and prices that nobody could trade at."""

    crowded_share: Share = Field(0.0, description="share of the crowded side's open interest closed together")
    depth: float = Field(1.0, ge=1, le=100, description="divides the depth under stress")
    volatility: float = Field(
        1.0, ge=1, le=100, description="multiplies the slippage's volatility under stress"
    )
    oracle_delay: float = Field(0.0, ge=0, le=10_000, description="bars that the oracle's price may be old")
    jump_level: Fraction | None = Field(None, description="level of the jumps between bars that are added")

    @model_validator(mode="after")
    def _once(self) -> Self:
        if min(self.depth, self.volatility) > 1:
            raise ValueError(
                "depth and volatility must not both exceed 1, the same stress would count twice, were "
                f"{self.depth} and {self.volatility}"
            )
        return self


class LadderConfig(Section):
    """Partial liquidations before the maintenance margin is reached."""

    rungs: int = Field(3, ge=0, le=10, description="thresholds above the maintenance margin; 0 = all at once")
    reach: Fraction = Field(
        0.5, description="where the first rung stands between maintenance and initial margin"
    )


class BufferConfig(Section):
    """The insurance fund, and the stress that it must survive."""

    fund: float | None = Field(
        None, gt=0, description="quote units; without it no exposure caps are published"
    )
    largest: Share = Field(0.10, description="share of the exposure that the two largest accounts hold")
    crowded: Share = Field(
        0.10, description="share of the exposure on the crowded side that defaults with them"
    )
    stress: float = Field(
        1.5, ge=1, le=10, description="multiple of the worst loss in the hypothetical scenarios"
    )
    fee: Share = Field(0.01, description="penalty and fees of a liquidation (fraction of what is closed)")
    oracle_window: float = Field(
        1.0, gt=0, le=1000, description="bars over which the oracle averages its price"
    )
    draws: int = Field(2_000, ge=100, le=100_000, description="simulated years of the figure for information")
    block: int = Field(20, ge=1, le=10_000, description="decisions drawn together in the simulated years")
    seed: int = Field(20_200_312, ge=0, description="of the simulated years")
    ladder: LadderConfig = Field(default_factory=LadderConfig)

    @property
    def defaulting(self) -> float:
        """Share of an exposure that defaults together under stress."""
        return min(max(self.largest + self.crowded, 1e-6), 1.0)
