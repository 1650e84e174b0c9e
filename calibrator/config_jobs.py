"""How jobs run: where they compute, how long they may take, when a model is replaced and doubted."""

from typing import Literal, Self

from pydantic import Field, model_validator

from calibrator.config_base import Section


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
