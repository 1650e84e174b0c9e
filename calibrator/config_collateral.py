"""Knobs of the lending parameters: what a collateral is lent against, where, and what a liquidation costs."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from calibrator.config_base import Bars, Fraction, Section, Share
from calibrator.config_procyclicality import StepConfig

Name = Annotated[str, Field(min_length=1, max_length=64)]
Delay = Annotated[int, Field(ge=0, le=10_000)]
KEY_LENGTH = 64


class HaircutPair(Section):
    """One collateral against one debt at one place; what is left out is what the section says.

    Examples
    --------
    >>> pair = HaircutPair(collateral="ETH", debt="BTC", location="base")
    >>> pair.key, pair.series
    ('ETH/BTC@base', 'ETH/BTC')
    """

    collateral: Name = Field(description="a market with bars, or any name if `reference` and `basis` are set")
    debt: Name = Field("USD", description="another market with bars, or the unit of account")
    location: Name = Field(description="chain or venue")
    reference: Name | None = Field(
        None, description="market of the asset that a wrapped or staked one stands for"
    )
    basis: Name | None = Field(None, description="market of the collateral's price in units of its reference")
    close_out: Bars | None = None
    level: Fraction | None = None
    settlement: Delay | None = None
    bridge_delay: Delay | None = None
    oracle_delay: Delay | None = None
    oracle_cap: Fraction | None = None
    penalty: Share | None = None
    slippage: Share | None = None
    interest: Share | None = None
    gas: float | None = Field(None, ge=0)
    liquidation_size: float | None = Field(None, gt=0)
    auction: float | None = Field(None, ge=0)
    add_on: Share | None = None
    limits: StepConfig | None = Field(None, description="the target's limit on moves of this pair")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.reference is None) != (self.basis is None):
            raise ValueError("reference and basis belong together: price = reference * basis")
        return self

    @property
    def key(self) -> str:
        """Name of the pair at its place, in frames and reports."""
        return f"{self.series}@{self.location}"

    @property
    def series(self) -> str:
        """Name of the pair's price series."""
        return f"{self.collateral}/{self.debt}"

    @property
    def legs(self) -> frozenset[str]:
        """Markets whose bars may make the pair's price."""
        own = (self.reference, self.basis) if self.reference and self.basis else (self.collateral,)
        return frozenset((*own, self.debt))

    @property
    def delay(self) -> int:
        """Bars that a liquidation takes beyond its close-out: settlement, bridge and oracle."""
        return (self.settlement or 0) + (self.bridge_delay or 0) + (self.oracle_delay or 0)


class HaircutConfig(Section):
    """From loss quantiles of a collateral to haircut, loan-to-value and threshold.

    Without `pairs` every market of role collateral is one, against `debt` at `location`.
    """

    debt: Name = Field("USD", description="what is borrowed; also the unit of account of all prices")
    location: Name = Field("demo", description="chain or venue")
    pairs: tuple[HaircutPair, ...] = Field(
        (), description="several debts and places, each with its own terms"
    )
    close_out: Bars | None = Field(None, description="bars; default margin.close_out")
    level: Fraction | None = Field(None, description="default margin.level")
    settlement: Delay = Field(0, description="bars of settlement and bridge delay")
    bridge_delay: Delay = Field(0, description="bars that a bridge takes, beyond the settlement")
    oracle_delay: Delay = Field(0, description="bars that the oracle's price may be old")
    oracle_cap: Fraction | None = Field(
        None, description="largest move of the oracle's price per bar; the close-out waits for it"
    )
    penalty: Share = Field(
        0.05, description="liquidation penalty; raised where it would not pay the liquidator"
    )
    slippage: Share = Field(0.005, description="of the liquidation sale")
    interest: Share = Field(0.0005, description="accrued over the close-out")
    gas: float = Field(0.0, ge=0, description="cost of a liquidation (units of the debt)")
    liquidation_size: float = Field(
        10_000.0, gt=0, description="size that the penalty must pay for (same unit)"
    )
    auction: float = Field(0.0, ge=0, description="bars that a liquidator carries the collateral")
    add_on: Share = Field(0.0, description="added to the haircut for what the bars do not show")
    borrow_level: Fraction = Field(0.95, description="level of the borrow margin below the threshold")
    limits: StepConfig | None = Field(
        None, description="the target's limit on moves; set, haircuts follow a plan instead of margin.limits"
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for pair in self.pairs:
            if len(pair.key) > KEY_LENGTH:
                raise ValueError(f"pairs: {pair.key} must have at most {KEY_LENGTH} letters")
            if pair.collateral == pair.debt:
                raise ValueError(f"pairs: collateral and debt must differ, both were {pair.debt}")
        keys = [pair.key for pair in self.pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"pairs: {twice[0]} is there twice")
        origin: dict[str, tuple[str | None, str | None]] = {}
        for pair in self.pairs:
            if origin.setdefault(pair.series, (pair.reference, pair.basis)) != (pair.reference, pair.basis):
                raise ValueError(f"pairs: {pair.series} must have one reference and basis at every location")
        return self

    def resolved(self, pair: HaircutPair) -> HaircutPair:
        """Return a pair with the section's terms where it has none of its own.

        Examples
        --------
        >>> section = HaircutConfig(settlement=2, gas=20.0)
        >>> pair = section.resolved(HaircutPair(collateral="ETH", location="base", bridge_delay=24))
        >>> pair.delay, pair.gas, pair.penalty
        (26, 20.0, 0.05)
        """
        own = {
            name: value if (value := getattr(pair, name)) is not None else getattr(self, name, None)
            for name in HaircutPair.model_fields
        }
        return HaircutPair(**own)

    def single(self, market: str) -> HaircutPair:
        """Return the pair that a market of role collateral is without a list of pairs."""
        return self.resolved(HaircutPair(collateral=market, debt=self.debt, location=self.location))
