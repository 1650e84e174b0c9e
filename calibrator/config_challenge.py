"""Sections ``stress``, ``sensitivity``, ``announced`` of ``backtest``: how hard a schedule is challenged."""

from typing import Annotated, Literal

from pydantic import Field

from calibrator.config_base import Bars, Fraction, Section, Share, Switch

Move = Annotated[float, Field(gt=-1, le=10, allow_inf_nan=False)]
EVERY = "*"
"""Stands for every market that a scenario does not name."""


class ScenariosConfig(Section):
    """Past windows and made-up moves under which the schedule in force is looked at."""

    worst: int = Field(3, ge=1, le=50, description="worst windows per market and side, and worst joint days")
    deviations: float = Field(
        5.0, gt=0, le=100, description="forecast standard deviations, all markets together"
    )
    fall: float = Field(0.30, gt=0, lt=1, description="fall of every market at once (fraction)")
    volatility: float = Field(2.0, gt=1, le=100, description="multiple of the forecast volatility overnight")
    depth: float = Field(5.0, gt=1, le=1000, description="divides the depth of every market")
    moves: dict[str, dict[str, Move]] = Field(
        default_factory=dict, description="further joint moves by name: market (or *): relative move"
    )


class SensitivityConfig(Section):
    """Every parameter moved down and up, one at a time, on the forecasts of the run."""

    mode: Annotated[Literal["full", "brief", "off"], Switch] = Field(
        "brief", description="all entries as they are published; a sample, with rarer tail estimates; nothing"
    )
    entries: int = Field(6, ge=1, le=1000, description="markets or pairs in the sample")
    losses: int = Field(
        100_000, ge=1, le=10**9, description="losses (decisions x starts x entries) in the sample"
    )
    refit: int = Field(28, ge=1, le=1000, description="decisions between tail estimates in the sample")


class AnnouncedConfig(Section):
    """An announced tightening that people exploit: owners who leave, and hunters of the new threshold."""

    mode: Annotated[Literal["simulate", "off"], Switch] = Field(
        "simulate", description="simulate it; nothing"
    )
    notice: Bars | None = Field(
        None,
        description="bars between announcement and effect; default margin.notice, or one cadence if it is 0",
    )
    near: float = Field(
        1.25, ge=1, le=100, description="an owner is near below this multiple of the equity newly asked"
    )
    exits: tuple[Share, ...] = Field(
        (0.10, 0.25, 0.50), max_length=10, description="shares of owners who leave when they are near"
    )
    pushes: tuple[Fraction, ...] = Field(
        (0.005, 0.01, 0.02, 0.05), max_length=10, description="moves by which a hunter pushes the price"
    )
    after: int = Field(1, ge=0, le=1000, description="bars after the effect in which a hunter still looks")
    fee: Share = Field(1.0, description="share of the liquidation penalty that the hunter gets")
    open_interest: float = Field(
        1.0, gt=0, le=1000,
        description="mean open notional of simulated accounts over the mean volume between two decisions",
    )  # fmt: skip
