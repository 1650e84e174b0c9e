"""Every knob of a run, with its unit, bounds and meaning; one YAML file is one run.

Unknown keys are refused, relative paths resolve against the YAML file, and every default is right for hourly
bars of markets that trade around the clock. ``bars`` below always means bars of ``data.bar``.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
import yaml
from pydantic import Field, ValidationError, field_validator, model_validator
from yaml.nodes import Node

from calibrator.config_backtest import BacktestConfig
from calibrator.config_base import Bars, Fraction, Section, Share, Utc
from calibrator.config_buffer import BufferConfig, StressConfig
from calibrator.config_collateral import Delay, HaircutConfig, HaircutPair
from calibrator.config_data import FEED_KINDS, FeedFiles, QualityRules
from calibrator.config_fetch import FetchConfig
from calibrator.config_forecast import ForecastConfig, RegimeConfig
from calibrator.config_jobs import ComputeConfig, DriftConfig, JobsConfig, RetrainConfig
from calibrator.config_portfolio import PortfolioConfig
from calibrator.config_procyclicality import ConformalConfig, LimitsConfig, ToolsConfig
from calibrator.config_target import TargetConfig
from calibrator.config_tracking import TrackingConfig
from calibrator.errors import ConfigError

MAX_YAML_BYTES = 1_000_000


class BarFile(Section):
    """One file of bars; `from` and `until` (inclusive, bar ends) cut it, `label` overrides `data.label`."""

    path: Path
    from_: Utc | None = Field(None, alias="from")
    until: Utc | None = None
    label: Literal["start", "end"] | None = None
    columns: dict[str, str] = Field(default_factory=dict, description="canonical name: name in the file")
    market: str | None = Field(None, min_length=1, max_length=64, description="for a file of one market")


class DataConfig(Section):
    """Where bars come from and which of the gate's rules are strict."""

    source: Literal["embedded", "files"] = Field("files", description="arch's own daily data, or files")
    bars: tuple[BarFile, ...] = Field((), description="Parquet or CSV files, read in this order")
    confirm: tuple[BarFile, ...] = Field(
        (), description="bars of other venues, mark or index: a wick that they deny is not fitted"
    )
    implied_volatility: FeedFiles = Field((), description="market, time, implied_volatility files")
    funding: FeedFiles = Field((), description="market, time, rate files")
    open_interest: FeedFiles = Field((), description="market, time, open_interest(_notional) files")
    liquidations: FeedFiles = Field((), description="events, or totals per period and side")
    markets: Literal["all"] | tuple[str, ...] = Field("all", description="which markets to use")
    bar: str = Field("1h", pattern=r"^[1-9][0-9]{0,3}(min|h|d)$", description="length of a bar")
    label: Literal["start", "end"] = Field("start", description="does `time` mark the bar's start or end?")
    calendar: Literal["continuous", "sessions"] = Field(
        "continuous", description="a bar at every step of the clock, or only on trading sessions"
    )
    max_gap: Bars = Field(72, description="bars; a longer gap is a finding (or an error, see on_gap)")
    on_gap: Literal["report", "refuse"] = Field("report", description="what a gap above max_gap does")
    on_missing: Literal["refuse", "drop"] = Field("refuse", description="what a row without price does")
    on_restart: Literal["refuse", "exclude"] = Field(
        "refuse", description="what a symbol that comes back as another asset after a gap does"
    )
    restart_jump: float = Field(4.0, gt=1, description="price ratio across a gap that means another asset")
    stale_after: Bars = Field(72, description="bars before as-of without a price: the market is stale")
    min_bars: Bars = Field(50, description="fewer bars than this are refused")
    rules: QualityRules = Field(default_factory=dict, description="quality rule: flag it, or strict = refuse")

    @field_validator("bars", "confirm", mode="before")
    @classmethod
    def _paths(cls, value: object) -> object:
        entries = [value] if isinstance(value, str | dict) else value
        if not isinstance(entries, list | tuple):
            return value
        return [{"path": e} if isinstance(e, str | Path) else e for e in entries]

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.source == "files" and not self.bars:
            raise ValueError("source 'files' needs at least one entry in bars")
        return self

    @property
    def step(self) -> pd.Timedelta:
        """Length of a bar."""
        return pd.Timedelta(self.bar.replace("d", "D"))

    @property
    def stuck_after(self) -> int:
        """Equal closes without range that make a stuck feed: as many bars as make a stale one, at most 24."""
        return min(24, max(self.stale_after, 2))


class MarginConfig(Section):
    """From loss quantiles to maintenance and initial margin."""

    close_out: Bars = Field(24, description="bars a position loses money after it should have been closed")
    level: Fraction = Field(0.99, description="share of losses that the margin must cover")
    loss: Literal["excursion", "terminal"] = Field("excursion", description="worst price, or the last")
    starts: Literal["auto", "origin", "cadence"] = Field(
        "auto",
        description="starts covered: the origin only, or every start until the next decision; "
        "auto = origin when the close-out spans the cadence",
    )
    notice: int = Field(0, ge=0, le=10_000, description="bars between a decision and its effect")
    tail_window: Bars = Field(365, description="decisions of standardised losses")
    tail_min: Bars = Field(300, description="decisions before a market's own tail counts in full")
    floor: Share = Field(0.5, description="share of the long-run historical quantile kept as floor")
    floor_window: Bars = Field(365, description="decisions of the floor's historical quantile")
    limits: LimitsConfig = Field(default_factory=LimitsConfig)
    tools: ToolsConfig = Field(default_factory=ToolsConfig)
    conformal: ConformalConfig = Field(default_factory=ConformalConfig)
    gap_add_on: Share = Field(0.0, description="added for jumps while the oracle lags (fraction of notional)")
    stress: StressConfig = Field(default_factory=StressConfig)
    tiers: tuple[int, ...] = Field(
        (0,), description="notional floors; one alone: margins are for no size in particular"
    )
    participation: Fraction = Field(0.10, description="share of volume that a close-out may take")
    impact: float = Field(1.0, ge=0, le=10, description="Y of slippage = Y * volatility * sqrt(Q / volume)")
    initial_multiple: float = Field(1.25, gt=1, le=5, description="initial margin / maintenance margin")
    plan_steps: int = Field(5, ge=1, le=60, description="decisions ahead that the plan covers")

    @field_validator("tiers")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] != 0 or any(b <= a for a, b in pairwise(value)):
            raise ValueError(f"tiers must rise from 0, were {value}")
        return value

    @model_validator(mode="after")
    def _floored(self) -> Self:
        if self.floor > 0 and self.tail_min > self.floor_window:
            raise ValueError(
                f"tail_min must not exceed floor_window while floor is above 0, were {self.tail_min} and "
                f"{self.floor_window}: there would never be a long-run floor"
            )
        return self


class MarketConfig(Section):
    """What differs for one market."""

    role: Literal["perpetual", "collateral", "reference"] = Field(
        "perpetual", description="margined, lent against, or only the price of a debt or a reference asset"
    )
    close_out: Bars | None = Field(None, description="bars; default margin.close_out")
    level: Fraction | None = Field(None, description="default margin.level")
    loss: Literal["excursion", "terminal"] | None = Field(None, description="default margin.loss")
    delay: Delay | None = Field(
        None, description="bars beyond the close-out, collateral only; default haircut's"
    )
    oracle_cap: Fraction | None = Field(None, description="collateral only; default haircut.oracle_cap")
    add_on: Share | None = Field(None, description="collateral only; default haircut.add_on")
    open_interest: float | None = Field(None, ge=0, description="of the crowded side (quote units)")


class PublishConfig(Section):
    """Who the document is for, how long it holds, and which moves need a second key."""

    protocol: str = Field("demo", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="audience of the file")
    chain: str = Field(
        "off-chain",
        pattern=r"^(off-chain|[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32})$",
        description="chain of the audience as in CAIP-2 (eip155:1), or off-chain",
    )
    valid_for: Bars = Field(7, description="decisions after as-of at which a document expires")
    metadata_days: int = Field(7, ge=1, le=365, description="days until the repository's metadata expire")
    target: TargetConfig | None = Field(None, description="protocol whose payload is published as well")
    approve_tightening: float = Field(0.5, gt=0, le=1e6, description="relative move up that needs approval")
    approve_loosening: float = Field(0.2, gt=0, le=1, description="relative move down that needs approval")


class Config(Section):
    """One run.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"source": "embedded", "bar": "1d"}})
    >>> config.margin.level, config.market("SPX").role
    (0.99, 'perpetual')
    """

    data: DataConfig
    as_of: Literal["last", "now"] | Utc = Field("last", description="last bar, the wall clock, or a time")
    forecast: ForecastConfig = Field(default_factory=ForecastConfig)
    regime: RegimeConfig = Field(default_factory=RegimeConfig)
    margin: MarginConfig = Field(default_factory=MarginConfig)
    haircut: HaircutConfig = Field(default_factory=HaircutConfig)
    markets: dict[str, MarketConfig] = Field(default_factory=dict, description="per-market settings")
    buffer: BufferConfig = Field(default_factory=BufferConfig)
    backtest: BacktestConfig = Field(default_factory=BacktestConfig)
    portfolio: PortfolioConfig = Field(default_factory=PortfolioConfig)
    publish: PublishConfig = Field(default_factory=PublishConfig)
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    jobs: JobsConfig = Field(default_factory=JobsConfig)
    retrain: RetrainConfig = Field(default_factory=RetrainConfig)
    drift: DriftConfig = Field(default_factory=DriftConfig)
    compute: ComputeConfig = Field(default_factory=ComputeConfig)
    fetch: FetchConfig | None = Field(None, description="read by `fetch` only")

    def market(self, symbol: str) -> MarketConfig:
        """Return the settings of one market with the defaults filled in."""
        own = self.markets.get(symbol, MarketConfig())
        if own.role == "collateral":
            terms = self.pair(self.haircut.single(symbol))
            names = ("close_out", "level", "delay", "oracle_cap", "add_on")
            given = {name: value for name in names if (value := getattr(own, name)) is not None}
            return terms.model_copy(update=given)
        return MarketConfig(
            role=own.role,
            close_out=own.close_out or self.margin.close_out,
            level=own.level or self.margin.level,
            loss=own.loss or self.margin.loss,
        )

    def pair(self, pair: HaircutPair) -> MarketConfig:
        """Return the settings under which a resolved pair is calibrated."""
        own = self.markets.get(pair.collateral, MarketConfig())
        return MarketConfig(
            role="collateral",
            close_out=pair.close_out or self.margin.close_out,
            level=pair.level or self.margin.level,
            loss=own.loss or self.margin.loss,
            delay=pair.delay,
            oracle_cap=pair.oracle_cap,
            add_on=pair.add_on,
        )


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, of which a few lines grow beyond any memory."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", event.start_mark)
        return super().compose_node(parent, index)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read one YAML file.

    Parameters
    ----------
    path : pathlib.Path
        The file; relative paths inside it resolve against its folder.
    overrides : sequence of str
        ``section.key=value`` with a YAML value, applied before validation.

    Raises
    ------
    ConfigError
        File missing, too large, not YAML (aliases and tags of other languages are not allowed), unknown key,
        or value out of bounds; names the key and the value.
    """
    raw = _raw(path, overrides)
    return parse_config(raw, folder=path.parent, source=str(path))


def load_fetch(path: Path, overrides: Sequence[str] = ()) -> FetchConfig:
    """Read the section ``fetch`` of one YAML file, which may be its only one, or with ``tracking`` beside it.

    Raises
    ------
    ConfigError
        As :func:`load_config`, or there is no such section.

    Examples
    --------
    >>> load_fetch(Path("no-such-file.yaml"))
    Traceback (most recent call last):
    ...
    calibrator.errors.ConfigError: config no-such-file.yaml: cannot be read: ...
    """
    raw = _raw(path, overrides)
    if set(raw) <= {"fetch", "tracking"}:
        raw = {**raw, "data": {"source": "embedded"}}
    whole = parse_config(raw, folder=path.parent, source=str(path))
    config = whole.fetch
    if config is None:
        raise ConfigError(f"config {path}: has no section 'fetch'")
    files = [s.model_copy(update={"files": tuple(path.parent / f for f in s.files)}) for s in config.sources]
    update = {"folder": path.parent / config.folder, "sources": tuple(files)}
    return config.model_copy(update=update | {"tracking": config.tracking or whole.tracking})


def _raw(path: Path, overrides: Sequence[str]) -> dict[Any, Any]:
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise ConfigError(f"config {path}: larger than {MAX_YAML_BYTES} bytes")
        raw = _parse(path.read_text(encoding="utf-8"), source=f"config {path}")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path}: cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"config {path}: must be a mapping of sections, was {type(raw).__name__}")
    for override in overrides:
        _override(raw, override)
    return raw


def _parse(text: str, *, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - safe, see there
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError) as error:
        raise ConfigError(f"{source}: not valid YAML: {_short(str(error))}") from error


def _override(raw: dict[Any, Any], override: str) -> None:
    """Set one key of the raw mapping."""
    key, equals, text = override.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not last:
        raise ConfigError(f"--set must be section.key=value, was {_short(override)!r}")
    for section in sections:
        raw = raw.setdefault(section, {})
        if not isinstance(raw, dict):
            raise ConfigError(f"--set {_short(key)}: {section} is not a section")
    raw[last] = _parse(text, source=f"--set {_short(key)}")


def parse_config(raw: dict[Any, Any], *, folder: Path, source: str) -> Config:
    """Validate a mapping as one run (ConfigError names key, rule, value); paths start at ``folder``."""
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"config {source}: {_first(error)}") from error
    files, confirm = (
        tuple(f.model_copy(update={"path": (folder / f.path)}) for f in entries)
        for entries in (config.data.bars, config.data.confirm)
    )
    feeds = {
        kind: tuple(f.model_copy(update={"path": folder / f.path}) for f in getattr(config.data, kind))
        for kind in FEED_KINDS
    }
    data = config.data.model_copy(update={"bars": files, "confirm": confirm, **feeds})
    backtest = config.backtest.within(folder)
    publish = config.publish
    if publish.target is not None:
        state = publish.target.model_copy(update={"state": folder / publish.target.state})
        publish = publish.model_copy(update={"target": state})
    return config.model_copy(update={"data": data, "publish": publish, "backtest": backtest})


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    key = ".".join(str(part)[:60] for part in first["loc"]) or "(top level)"
    return f"{key}: {_short(first['msg'])}, was {_short(_spell(first['input']))}"


def _spell(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # Python refuses to write integers of thousands of digits
        return "a number of thousands of digits"


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 160 else flat[:157] + "..."
