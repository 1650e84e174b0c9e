"""The ``portfolio`` section: how the scenario grid, its offsets and its add-ons come from the forecasts."""

from itertools import pairwise
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from calibrator.config_base import Fraction, Section, Share

Correlation = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1, max_length=64)]


class PoolAsset(Section):
    """An asset of the collateral pool whose haircut is not forecast, such as a stablecoin."""

    asset: Name
    location: Name
    haircut: Share = Field(description="share of its value that does not count")
    underlying: Name | None = Field(None, description="market whose price moves it in the scenarios")


class PortfolioConfig(Section):
    """Portfolio margin: the section of the document that nets the risks of an account."""

    enabled: bool = True
    quote: Name = Field("USD", description="currency of prices and requirements")
    levels: tuple[Fraction, ...] = Field(
        (0.50, 0.80, 0.95), description="levels of the inner price moves; the outermost is the margin"
    )
    extended: tuple[tuple[float, Fraction], ...] = Field(
        ((2.0, 0.35), (4.0, 0.20)),
        description="extended moves: multiple of the outermost move, and the share of the loss that counts",
    )
    volatility_level: float = Field(
        0.99, gt=0.5, lt=1, description="level of the volatility shifts over the close-out"
    )
    hedge: Correlation = Field(
        0.0, description="most correlation that counts for a hedge between underlyings: what stress leaves"
    )
    diversification: Correlation = Field(
        1.0, description="least correlation that counts for exposures in the same direction"
    )
    correlation_decay: Fraction = Field(0.97, description="decay of the correlation forecast per decision")
    correlation_window: int = Field(
        120, ge=100, le=10_000, description="decisions of the rolling correlations whose lowest counts"
    )
    basis: Share = Field(0.10, description="add-on on netted notional, share of the outermost price move")
    funding: Share = Field(0.003, description="add-on on a perpetual's notional, per day of close-out")
    naked_option: Share = Field(0.01, description="add-on on options sold beyond those bought, of notional")
    collateral: tuple[PoolAsset, ...] = Field((), description="further assets of the collateral pool")

    @field_validator("levels")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(value) > 16 or any(b <= a for a, b in pairwise(value)):
            raise ValueError(f"levels must rise, 16 at most, were {value}")
        return value

    @field_validator("extended")
    @classmethod
    def _outwards(cls, value: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        multiples = [m for m, _ in value]
        if len(value) > 4 or any(not 1 < m <= 10 for m in multiples) or multiples != sorted(set(multiples)):
            raise ValueError(f"extended multiples must rise from above 1 to at most 10, were {multiples}")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.hedge > self.diversification:
            raise ValueError(
                f"hedge must not exceed diversification, were {self.hedge} and {self.diversification}"
            )
        keys = [(c.asset, c.location) for c in self.collateral]
        if len(set(keys)) != len(keys):
            raise ValueError(f"an asset is named once per location, were {keys}")
        return self
