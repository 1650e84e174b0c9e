"""Configuration of `fetch`: what is brought in, from where, and how patiently."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from calibrator.config_base import Section, Utc
from calibrator.config_tracking import TrackingConfig

Seconds = Annotated[float, Field(gt=0, le=3_600, allow_inf_nan=False)]


class FetchSource(Section):
    """One feed for some markets; its result is `current/<name>.parquet`."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$", description="of the result")
    feed: str = Field(min_length=1, max_length=64, description="such as binance-um-klines")
    markets: tuple[str, ...] = Field(
        min_length=1, description="the venue's own symbols; * = all, where it can"
    )
    interval: str = Field("1h", description="length of a bar: 1m, 15m, 1h, 1d")
    from_: Utc = Field(alias="from", description="first time wanted")
    until: Utc | None = Field(None, description="end, exclusive; default: now")
    base: str | None = Field(None, description="address of the venue or mirror; ${NAME} = environment")
    headers: dict[str, str] = Field(default_factory=dict, description="sent along; ${NAME} = environment")
    options: dict[str, str] = Field(default_factory=dict, description="what else the feed needs")
    files: tuple[Path, ...] = Field((), description="captured files instead of a venue")
    captured_at: Utc | None = Field(None, description="when the files were captured, for feeds about now")
    on_changed: Literal["refuse", "report"] = Field(
        "refuse", description="what a republished file does; its old content stays in use either way"
    )
    accept_changed: tuple[str, ...] = Field((), description="keys of republished files to fetch anew")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.until is not None and self.until <= self.from_:
            raise ValueError(f"until must be after from, were {self.until} and {self.from_}")
        if self.files and len(self.markets) != 1:
            raise ValueError(f"files are of one market, were {len(self.markets)}")
        if len(set(self.markets)) != len(self.markets):
            raise ValueError("a market appears twice in markets")
        return self


class FetchConfig(Section):
    """What `python -m pipelines fetch` brings in."""

    folder: Path = Field(Path("data"), description="receives snapshots, records and current/")
    step_seconds: Seconds = Field(20.0, description="to connect, and between two pieces of an answer")
    whole_seconds: Seconds = Field(300.0, description="for one answer")
    attempts: int = Field(5, ge=1, le=20, description="times that one thing is asked for")
    wait_seconds: Seconds = Field(0.5, description="before the second attempt; doubles")
    max_wait_seconds: Seconds = Field(60.0, description="longest wait, also for a Retry-After")
    max_megabytes: int = Field(256, ge=1, le=4_096, description="largest answer")
    lease: int = Field(900, ge=10, le=86_400, description="seconds without a sign of life until taken over")
    deadline: int = Field(21_600, ge=1, le=604_800, description="seconds after which a fetch gives up")
    pause_seconds: float = Field(0.0, ge=0, le=60, description="between two requests, out of politeness")
    tracking: TrackingConfig | None = Field(None, description="default: the section tracking of the file")
    sources: tuple[FetchSource, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError("two sources have one name")
        return self
