"""When decisions are taken, how variance is forecast, and what stress is."""

from typing import Literal, Self

from pydantic import Field, model_validator

from calibrator.config_base import Bars, Fraction, Section, Share, Utc


class ForecastConfig(Section):
    """When decisions are taken and how far they look."""

    horizon: Bars = Field(24, description="bars ahead whose variance is forecast")
    cadence: Bars = Field(24, description="bars between decisions; one 'day' of the HAR terms")
    origin_hour: int = Field(0, ge=0, le=23, description="hour of the day (UTC) of the decisions")
    proxy: Literal["squared", "range"] = Field(
        "squared", description="variance of a bar: squared log return, or range-based (needs open, high, low)"
    )
    har_window: int = Field(1000, ge=200, le=100_000, description="decisions in the rolling HAR regression")
    garch_window: int = Field(1000, ge=250, le=100_000, description="decisions in a GARCH estimation")
    garch_refit: Bars = Field(60, description="decisions between GARCH estimations")
    learner_refit: Bars = Field(60, description="decisions between refits of the learned forecaster")
    learner_seeds: int = Field(2, ge=1, le=20, description="boosted ensembles averaged")
    min_history: Bars = Field(250, description="decisions before the first forecast of a market")
    combination_memory: Fraction = Field(0.995, description="decay of an expert's past QLIKE per decision")
    combination_rate: float = Field(0.5, gt=0, le=10, description="how fast weights follow past QLIKE")
    combination_floor: float = Field(0.02, ge=0, le=0.1, description="smallest weight of an expert")
    core_from: Utc | None = Field(
        None, description="from this decision on publish at least the forecast of the HAR-GARCH core"
    )
    positioning: bool = Field(
        default=False, description="learn from funding, open interest and liquidations too; see docs/adr/0003"
    )
    threads: int = Field(1, ge=1, le=64, description="threads of the booster; results do not depend on it")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.horizon % self.cadence:
            raise ValueError(
                f"horizon must be a multiple of cadence, were {self.horizon} and {self.cadence} bars"
            )
        return self

    @property
    def steps(self) -> int:
        """Horizon in decisions."""
        return self.horizon // self.cadence


class RegimeConfig(Section):
    """What stress is, and when the state changes."""

    quantile: Fraction = Field(0.95, description="stress = realized variance above this trailing quantile")
    window: Bars = Field(730, description="decisions of the trailing quantile")
    min_window: Bars = Field(365, description="decisions before the first label")
    elevated: tuple[Share, Share] = Field((0.15, 0.10), description="enter, leave ELEVATED (probability)")
    stress: tuple[Share, Share] = Field((0.40, 0.25), description="enter, leave STRESS (probability)")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("elevated", "stress"):
            enter, leave = getattr(self, name)
            if leave > enter:
                raise ValueError(f"{name}: leave must not exceed enter, were {leave} and {enter}")
        if self.min_window > self.window:
            raise ValueError(f"min_window must not exceed window, were {self.min_window} and {self.window}")
        if self.stress[0] < self.elevated[0]:
            raise ValueError("stress must be entered at a probability not below elevated's")
        return self
