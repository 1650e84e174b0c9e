"""The ``backtest.stress`` and ``backtest.sensitivity`` sections: how hard a schedule is challenged."""

from typing import Annotated, Literal

from pydantic import Field

from calibrator.config_base import Section, Switch

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
