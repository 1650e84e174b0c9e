"""How jobs run: where they compute, how long they may take, when a model is replaced and doubted."""

from typing import Literal, Self

from pydantic import Field, model_validator

from calibrator.config_base import Bars, Fraction, Section


class ComputeConfig(Section):
    """Where a run is computed; the results do not depend on it."""

    executor: Literal["serial", "threads", "joblib", "dask"] = "threads"
    workers: int = Field(2, ge=1, le=256, description="threads, or processes of joblib")
    scheduler: str | None = Field(None, description="address of a running Dask scheduler, tcp://host:port")

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        if (self.executor == "dask") != (self.scheduler is not None):
            raise ValueError("scheduler must be given for the executor dask, and for no other")
        return self


class JobsConfig(Section):
    """Locks, deadlines and missed dates."""

    lease: int = Field(900, ge=10, le=86_400, description="seconds without a sign of life until taken over")
    deadline: int = Field(3600, ge=1, le=604_800, description="seconds after which a job publishes nothing")
    catch_up: int = Field(30, ge=1, le=3660, description="most missed dates that are made up for")
    reuse: bool = Field(default=True, description="recall walk-forward blocks whose input has not changed")


Action = Literal["ignore", "alert", "retrain", "core"]


class GatesConfig(Section):
    """What a challenger must not fail; all of them must hold."""

    size: Fraction = Field(0.05, description="largest p-value of both tests of a smaller QLIKE")
    min_gain: float = Field(0.0, ge=0, lt=1, description="smallest relative gain in QLIKE")
    coverage_size: Fraction = Field(0.01, description="smallest p-value of too many breaches, per market")
    coverage_loss: float = Field(0.0025, ge=0, lt=1, description="largest loss of pooled coverage")
    shortfall: float = Field(1.0, gt=0, description="largest ratio of shortfalls at equal average margin")
    increase: float = Field(1.1, gt=0, description="largest ratio of the largest increases of a margin")
    peak_to_trough: float = Field(1.1, gt=0, description="largest ratio of the peak-to-trough measures")


def _challengers() -> dict[str, dict[str, int | float | str]]:
    return {"quick-weights": {"combination_memory": 0.98}, "bold-weights": {"combination_rate": 1.5}}


class RetrainConfig(Section):
    """Challengers and how they are held against the champion."""

    challengers: dict[str, dict[str, int | float | str]] = Field(
        default_factory=_challengers,
        description="name: settings of section forecast that differ from the configuration",
    )
    shadow: Bars = Field(250, ge=60, description="decisions with known outcomes that are compared")
    block: Bars = Field(10, description="decisions that stay together in the permutation test")
    draws: int = Field(999, ge=99, le=100_000, description="permutations")
    seed: int = Field(1, ge=0, description="of the permutations")
    gates: GatesConfig = Field(default_factory=GatesConfig)


class DriftConfig(Section):
    """When a model is doubted, and what follows.

    Consequences: ``alert`` tells, ``retrain`` also asks for a retraining, ``core`` also publishes at least
    what the HAR-GARCH core forecasts, from the decision of the alarm on.
    """

    recent: Bars = Field(30, ge=10, description="decisions that are held against those before")
    reference: Bars = Field(365, ge=60, description="decisions before the recent ones")
    psi: float = Field(0.5, gt=0, description="population stability index above which a feature has moved")
    shift: float = Field(4.0, gt=1, description="... and by how much its median has at least changed")
    missing: Fraction = Field(0.2, description="share of missing values of a feature that is too much")
    cusum: float = Field(10.0, gt=0, description="standard deviations of summed excess log QLIKE")
    slack: float = Field(0.5, ge=0, description="standard deviations per decision that are forgiven")
    coverage_window: Bars = Field(250, description="decisions whose breaches are counted")
    coverage_size: Fraction = Field(0.001, description="p-value of too many breaches, over all series")
    features: Action = "alert"
    loss: Action = "retrain"
    coverage: Action = "core"
