"""The optional portfolio section of a document: grid, correlations, add-ons and collateral, in integers.

The models mirror `calibrator.netting`, field by field; the invariants are that module's, so a section that
contradicts itself cannot be read.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from calibrator.domain import PPM
from calibrator.netting import (
    LARGEST_MOVE,
    MOST_MOVES,
    MOST_SCENARIOS,
    AddOnTier,
    CollateralRule,
    CorrelationRange,
    PortfolioRules,
    Scenario,
    UnderlyingRules,
    VolatilityTerm,
)
from calibrator.publish.canonical import Amount
from calibrator.publish.parts import Count, Part, Ppm, Symbol

Move = Annotated[int, Field(gt=-PPM, le=LARGEST_MOVE)]
Shift = Annotated[int, Field(ge=0, le=LARGEST_MOVE)]
Correlation = Annotated[int, Field(ge=-PPM, le=PPM)]


class ScenarioParameters(Part):
    """One scenario, as `calibrator.netting.Scenario`."""

    move: Annotated[int, Field(ge=0, lt=MOST_MOVES)]
    volatility: Literal["up", "same", "down"]
    elapsed_ppm: Ppm
    weight_ppm: Annotated[int, Field(ge=1, le=PPM)]


class TermParameters(Part):
    """How volatility shifts depend on the expiry, as `calibrator.netting.VolatilityTerm`."""

    short_power_ppm: Ppm
    long_power_ppm: Ppm
    floor_days: Annotated[int, Field(ge=1, le=30)]


class AddOnParameters(Part):
    """One tier of the concentration add-on, as `calibrator.netting.AddOnTier`."""

    notional_floor: Amount
    add_on_ppm: Shift


class UnderlyingParameters(Part):
    """Moves and add-ons of one underlying, as `calibrator.netting.UnderlyingRules`."""

    symbol: Symbol
    moves_ppm: Annotated[tuple[Move, ...], Field(min_length=3, max_length=MOST_MOVES)]
    volatility_up_ppm: Shift
    volatility_down_ppm: Ppm
    close_out_seconds: Count
    basis_ppm: Ppm
    funding_ppm: Ppm
    naked_option_ppm: Ppm
    concentration: Annotated[tuple[AddOnParameters, ...], Field(max_length=64)]


class CorrelationParameters(Part):
    """Correlation range of one pair, as `calibrator.netting.CorrelationRange`."""

    first: Symbol
    second: Symbol
    low_ppm: Correlation
    high_ppm: Correlation


class PoolParameters(Part):
    """What an asset in one place counts, as `calibrator.netting.CollateralRule`."""

    asset: Symbol
    location: Symbol
    haircut_ppm: Ppm
    underlying: Symbol | None


class PortfolioParameters(Part):
    """The portfolio section of a document; fields and rules of `calibrator.netting.PortfolioRules`.

    Raises
    ------
    pydantic.ValidationError
        If a rule of a domain type is broken; the message names the place.

    Examples
    --------
    >>> moves = UnderlyingParameters(
    ...     symbol="BTC", moves_ppm=(-100_000, 0, 90_000), volatility_up_ppm=300_000,
    ...     volatility_down_ppm=200_000, close_out_seconds=86_400, basis_ppm=2_000, funding_ppm=500,
    ...     naked_option_ppm=10_000, concentration=())
    >>> grid = tuple(
    ...     ScenarioParameters(move=i, volatility="same", elapsed_ppm=0, weight_ppm=1_000_000)
    ...     for i in range(3))
    >>> section = PortfolioParameters(
    ...     quote="USD", initial_multiple_ppm=1_250_000,
    ...     term=TermParameters(short_power_ppm=300_000, long_power_ppm=130_000, floor_days=1),
    ...     scenarios=grid, underlyings=(moves,), correlations=(), collateral=())
    >>> PortfolioParameters.of(section.rules()) == section
    True
    """

    quote: Symbol
    initial_multiple_ppm: Annotated[int, Field(ge=PPM, le=5 * PPM)]
    term: TermParameters
    scenarios: Annotated[tuple[ScenarioParameters, ...], Field(min_length=1, max_length=MOST_SCENARIOS)]
    underlyings: Annotated[tuple[UnderlyingParameters, ...], Field(min_length=1, max_length=1_000)]
    correlations: Annotated[tuple[CorrelationParameters, ...], Field(max_length=10_000)]
    collateral: Annotated[tuple[PoolParameters, ...], Field(max_length=10_000)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.rules()
        return self

    def rules(self) -> PortfolioRules:
        """Return the domain type."""
        return PortfolioRules(
            quote=self.quote,
            initial_multiple_ppm=self.initial_multiple_ppm,
            term=VolatilityTerm(**dict(self.term)),
            scenarios=tuple(Scenario(**dict(s)) for s in self.scenarios),
            underlyings=tuple(_underlying(u) for u in self.underlyings),
            correlations=tuple(CorrelationRange(**dict(c)) for c in self.correlations),
            collateral=tuple(CollateralRule(**dict(c)) for c in self.collateral),
        )

    @classmethod
    def of(cls, rules: PortfolioRules) -> Self:
        """Return the section that says what ``rules`` say."""
        return cls.model_validate(rules, from_attributes=True)


def _underlying(part: UnderlyingParameters) -> UnderlyingRules:
    tiers = tuple(AddOnTier(**dict(t)) for t in part.concentration)
    return UnderlyingRules(**{**dict(part), "concentration": tiers})
