"""Configuration of the backtest on recorded accounts: vaults and liquidations of one's own."""

from pathlib import Path

from pydantic import Field

from calibrator.config_base import Fraction, Section, Share
from calibrator.config_data import FeedFile


class VaultsConfig(Section):
    """Recorded vaults of one collateral, replayed under the real and the calibrated liquidation ratio.

    Every file has a column `time`. Events: `vault`, `collateral` and `debt`, signed changes in units of the
    collateral and of the debt. Liquidations: the same columns, what each one took. Fees: `annual` (fraction a
    year). Floors: `debt`, the least that a vault may owe. Other names are mapped with `columns`.

    Examples
    --------
    >>> VaultsConfig(market="ETHUSDT", ratio=1.3, events={"path": "e.parquet"}).delay
    1
    """

    market: str = Field(min_length=1, max_length=64, description="its bars are the collateral's price")
    ratio: float = Field(gt=1, le=100, description="collateral over debt really asked")
    delay: int = Field(1, ge=0, le=1000, description="bars by which the oracle is late")
    penalty: Share = Field(0.13, description="liquidation penalty of the calibrated ratio")
    slippage: Share = Field(0.005, description="of the liquidation sale")
    price_error: Fraction = Field(0.01, description="how far the oracle's price may be from the bars'")
    events: FeedFile
    liquidations: FeedFile | None = None
    fees: FeedFile | None = None
    floors: FeedFile | None = None

    def within(self, folder: Path) -> "VaultsConfig":
        """Return the section with its paths starting at a folder."""
        files = {
            name: file.model_copy(update={"path": folder / file.path})
            for name in ("events", "liquidations", "fees", "floors")
            if (file := getattr(self, name)) is not None
        }
        return self.model_copy(update=files)
