"""The ``backtest`` section: which origins are replayed, and by which simulated accounts."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from calibrator.config_base import Bars, Fraction, Section, Share, Utc
from calibrator.config_challenge import AnnouncedConfig, ScenariosConfig, SensitivityConfig
from calibrator.config_data import FeedFiles
from calibrator.config_vaults import VaultsConfig


class AccountsConfig(Section):
    """The simulated population replayed by the backtest; every output that shows it says so."""

    count: int = Field(2_000, ge=1, le=1_000_000, description="accounts per market")
    seed: int = Field(20_080_915, ge=0, description="of the population")
    leverage_median: float = Field(5.0, gt=1, description="median leverage at entry (log-normal)")
    leverage_spread: float = Field(0.6, gt=0, le=3, description="standard deviation of log leverage")
    holding_median: Bars = Field(60, description="median holding time in bars (exponential)")
    long_share: Share = Field(0.55, description="share of long positions")
    notional_median: float = Field(20_000.0, gt=0, description="median notional (log-normal, sigma 1.5)")
    reacting: Share = Field(0.5, description="share of owners that add collateral when a change is announced")


class BacktestConfig(Section):
    """First and last origin of the walk-forward, and who is replayed."""

    start: Utc | None = Field(None, description="first origin, inclusive; default: after the history")
    end: Utc | None = Field(None, description="last origin, inclusive; default: as-of")
    frontier: tuple[Fraction, ...] = Field(
        (0.98, 0.985, 0.99, 0.995, 0.999), description="levels of the frontier; empty = none"
    )
    accounts: AccountsConfig = Field(default_factory=AccountsConfig)
    liquidations: FeedFiles = Field((), description="recorded liquidations, held against margins before")
    vaults: VaultsConfig | None = Field(None, description="recorded vaults, replayed under both ratios")
    stress: ScenariosConfig = Field(default_factory=ScenariosConfig)
    sensitivity: SensitivityConfig = Field(default_factory=SensitivityConfig)
    announced: AnnouncedConfig = Field(default_factory=AnnouncedConfig)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.start and self.end and self.start > self.end:
            raise ValueError(f"start must not be after end, were {self.start} and {self.end}")
        return self

    def within(self, folder: Path) -> Self:
        """Return the section with its paths starting at a folder."""
        recorded = tuple(f.model_copy(update={"path": folder / f.path}) for f in self.liquidations)
        vaults = None if self.vaults is None else self.vaults.within(folder)
        return self.model_copy(update={"liquidations": recorded, "vaults": vaults})
