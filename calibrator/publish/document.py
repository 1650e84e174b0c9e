"""The parameter document: what is published, one canonical JSON file of integers.

Equal inputs give equal bytes: the document knows neither keys nor the clock. Its invariants are those of
`calibrator.domain`, so an inconsistent document cannot exist.
"""

from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from calibrator.domain import PPM, HaircutSchedule, MarginSchedule, MarginTier, check_margins
from calibrator.errors import PublishError
from calibrator.publish import canonical
from calibrator.publish.canonical import Amount, Time
from calibrator.publish.parts import (
    OFF_CHAIN,
    Chain,
    Count,
    Digest,
    ModelName,
    Part,
    Ppm,
    Protocol,
    Reason,
    SafeInteger,
    Symbol,
    Term,
)
from calibrator.publish.portfolio_parameters import PortfolioParameters

SCHEMA_VERSION: Final = 1
OptionalAmount = Amount | None
ConsumerRule = Literal["After expires_at keep the last good parameters, flagged stale; never loosen."]
CONSUMER_RULE: Final[ConsumerRule] = (
    "After expires_at keep the last good parameters, flagged stale; never loosen."
)


class TierParameters(Part):
    """One tier of a margin schedule; the fields and rules of `calibrator.domain.MarginTier`.

    Examples
    --------
    >>> TierParameters(notional_floor=0, initial_margin_ppm=100_000, maintenance_margin_ppm=50_000).tier()
    MarginTier(notional_floor=0, initial_margin_ppm=100000, maintenance_margin_ppm=50000)
    """

    notional_floor: Amount
    initial_margin_ppm: Ppm
    maintenance_margin_ppm: Ppm

    def tier(self) -> MarginTier:
        """Return the domain type.

        Raises
        ------
        ValueError
            If the margins are not ordered.
        """
        return MarginTier(self.notional_floor, self.initial_margin_ppm, self.maintenance_margin_ppm)


class HaircutParameters(Part):
    """Lending parameters of one (collateral, debt, location), as `calibrator.domain.HaircutSchedule`."""

    haircut_ppm: Ppm
    loan_to_value_ppm: Ppm
    liquidation_threshold_ppm: Ppm
    liquidation_penalty_ppm: Ppm
    debt: Symbol
    location: Symbol

    def schedule(self) -> HaircutSchedule:
        """Return the domain type.

        Raises
        ------
        ValueError
            If the parameters are not ordered or promise more than the collateral is worth.
        """
        return HaircutSchedule(
            self.haircut_ppm,
            self.loan_to_value_ppm,
            self.liquidation_threshold_ppm,
            self.liquidation_penalty_ppm,
        )


class PlannedMargin(Part):
    """Margins of the first tier that will take effect at `effective_from`."""

    effective_from: Time
    initial_margin_ppm: Ppm
    maintenance_margin_ppm: Ppm

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        check_margins(self.initial_margin_ppm, self.maintenance_margin_ppm)
        return self


class PlannedHaircut(Part):
    """Loan-to-value and liquidation threshold that will take effect at `effective_from`."""

    effective_from: Time
    loan_to_value_ppm: Ppm
    liquidation_threshold_ppm: Ppm

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        HaircutSchedule(0, self.loan_to_value_ppm, self.liquidation_threshold_ppm, 0)
        return self


PlannedChange = PlannedMargin | PlannedHaircut


class MarketPart(Part):
    """What every market says, whatever its role.

    `attribution` explains the change against the previous document: its terms add up, in ppm, to the
    maintenance margin of the first tier (or the haircut) minus `previous_ppm`, which is null for a new market
    and then counts as zero. `volatility_ppm` runs over `close_out_bars` (a collateral's settlement included).
    `reasons` say why a market is held, or what bound the decision.
    """

    symbol: Symbol
    regime: Literal["CALM", "ELEVATED", "STRESS"]
    stress_probability_ppm: Ppm
    volatility_ppm: Annotated[int, Field(ge=0, le=canonical.MAX_SAFE_INTEGER)]
    status: Literal["fresh", "held"]
    reasons: tuple[Reason, ...]
    close_out_bars: Count
    level_ppm: Annotated[int, Field(gt=0, lt=PPM)]
    previous_ppm: Ppm | None
    attribution: dict[Term, SafeInteger]

    @model_validator(mode="after")
    def _says_why_held(self) -> Self:
        if self.status == "held" and not self.reasons:
            raise ValueError(f"{self.symbol}: a held market needs a reason")
        return self

    def _check_attribution(self, value: int) -> None:
        explained, change = sum(self.attribution.values()), value - (self.previous_ppm or 0)
        if explained != change:
            raise ValueError(
                f"{self.symbol}: attribution must add up to the change of {change} ppm, was {explained}"
            )


class PerpetualParameters(MarketPart):
    """A perpetual: its margin schedule and the plan ahead (first tier).

    `open_interest_cap` (quote units) is the largest open interest whose stress loss the fund absorbs; left
    out where no fund is configured or the market's depth is unknown.
    """

    role: Literal["perpetual"] = "perpetual"
    margins: Annotated[tuple[TierParameters, ...], Field(min_length=1, max_length=64)]
    plan: tuple[PlannedMargin, ...]
    open_interest_cap: OptionalAmount = Field(None, exclude_if=lambda cap: cap is None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.schedule()
        self._check_attribution(self.value_ppm)
        return self

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identity and sort key within a document."""
        return (self.symbol, self.role, "", "")

    @property
    def value_ppm(self) -> int:
        """Maintenance margin of the first tier, ppm: what the attribution explains."""
        return self.margins[0].maintenance_margin_ppm

    def schedule(self) -> MarginSchedule:
        """Return the tiers as the domain type."""
        return MarginSchedule(tuple(tier.tier() for tier in self.margins))


class CollateralParameters(MarketPart):
    """A collateral: its haircut, loan-to-value and threshold against one debt, and the plan ahead.

    `supply_cap` and `borrow_cap` (units of the debt) bound the exposure as `open_interest_cap` does;
    `least_liquidation` is the size below which a liquidation does not pay. Each is left out where unknown.
    """

    role: Literal["collateral"] = "collateral"
    haircut: HaircutParameters
    plan: tuple[PlannedHaircut, ...]
    supply_cap: OptionalAmount = Field(None, exclude_if=lambda cap: cap is None)
    borrow_cap: OptionalAmount = Field(None, exclude_if=lambda cap: cap is None)
    least_liquidation: OptionalAmount = Field(None, exclude_if=lambda size: size is None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.schedule()
        self._check_attribution(self.value_ppm)
        return self

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identity and sort key within a document."""
        return (self.symbol, self.role, self.haircut.debt, self.haircut.location)

    @property
    def value_ppm(self) -> int:
        """Haircut, ppm: what the attribution explains."""
        return self.haircut.haircut_ppm

    def schedule(self) -> HaircutSchedule:
        """Return the lending parameters as the domain type."""
        return self.haircut.schedule()


MarketParameters = PerpetualParameters | CollateralParameters


class ParameterDocument(Part):
    """Everything a protocol needs to take over a schedule, and everything a reader needs to question it.

    Attributes
    ----------
    schema_version : int
        Version of this layout; another one is refused.
    sequence : int
        1 for the first document of a repository, then one more each time.
    protocol, chain : str
        Audience: who may apply this document, and where. A chain is named as in CAIP-2 (``eip155:1`` is
        Ethereum, ``cosmos:dydx-mainnet-1`` is dYdX); ``off-chain`` is a venue without one.
    issued_at, valid_from, expires_at : datetime
        UTC, whole seconds; ``issued_at <= valid_from < expires_at``.
    previous_digest : str or None
        SHA-256 of the previous document's bytes; None exactly when `sequence` is 1.
    config_digest, data_digest : str
        SHA-256 of the configuration and of the input data.
    model_digests : dict of str to str
        SHA-256 of every model file that took part.
    bar_seconds, horizon_bars : int
        Length of a bar in seconds; horizon of the stress probability in bars.
    markets : tuple of PerpetualParameters or CollateralParameters
        Sorted by `key`, each key once.
    consumer_rule : str
        What to do after `expires_at`.
    portfolio : PortfolioParameters or None
        Grid, correlations, add-ons and collateral of portfolio margin; left out of the JSON where None.

    Raises
    ------
    pydantic.ValidationError
        If a rule of this document or of a domain type is broken; the message names the place.

    Examples
    --------
    >>> day = "2025-01-0{}T00:00:00Z".format
    >>> tier = TierParameters(notional_floor=0, initial_margin_ppm=80_000, maintenance_margin_ppm=40_000)
    >>> market = PerpetualParameters(
    ...     symbol="BTC-USD", regime="CALM", stress_probability_ppm=12_000, volatility_ppm=31_000,
    ...     status="fresh", reasons=(), close_out_bars=24, level_ppm=990_000, previous_ppm=None,
    ...     attribution={"volatility": 41_000, "regime": -1_000}, margins=(tier,), plan=())
    >>> document = ParameterDocument(
    ...     sequence=1, protocol="demo", issued_at=day(1), valid_from=day(1), expires_at=day(8),
    ...     previous_digest=None, config_digest="0" * 64, data_digest="0" * 64, model_digests={},
    ...     bar_seconds=3_600, horizon_bars=24, markets=(market,))
    >>> payload = encode(document)
    >>> len(payload), decode(payload) == document, document.markets[0].value_ppm
    (878, True, 40000)
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    sequence: Count
    protocol: Protocol
    chain: Chain = OFF_CHAIN
    issued_at: Time
    valid_from: Time
    expires_at: Time
    previous_digest: Digest | None
    config_digest: Digest
    data_digest: Digest
    model_digests: dict[ModelName, Digest]
    bar_seconds: Count
    horizon_bars: Count
    markets: Annotated[
        tuple[Annotated[MarketParameters, Field(discriminator="role")], ...],
        Field(min_length=1, max_length=10_000),
    ]
    consumer_rule: ConsumerRule = CONSUMER_RULE
    portfolio: PortfolioParameters | None = Field(None, exclude_if=lambda section: section is None)

    @field_validator("markets")
    @classmethod
    def _sorted(cls, markets: tuple[MarketParameters, ...]) -> tuple[MarketParameters, ...]:
        for first, second in pairwise(markets):
            if second.key <= first.key:
                raise ValueError(f"markets must be sorted and unique, {second.key} follows {first.key}")
        return markets

    @model_validator(mode="after")
    def _times(self) -> Self:
        if not self.issued_at <= self.valid_from < self.expires_at:
            raise ValueError(
                "times must satisfy issued_at <= valid_from < expires_at, were "
                f"{self.issued_at}, {self.valid_from}, {self.expires_at}"
            )
        for market in self.markets:
            last = self.valid_from
            for change in market.plan:
                if change.effective_from <= last:
                    raise ValueError(f"{market.symbol}: plan must rise in time and start after valid_from")
                last = change.effective_from
        return self

    @model_validator(mode="after")
    def _chained(self) -> Self:
        if (self.sequence == 1) != (self.previous_digest is None):
            raise ValueError(f"previous_digest is null exactly when sequence is 1, was {self.sequence}")
        return self


def encode(document: ParameterDocument) -> bytes:
    """Serialise a document: the one canonical spelling (RFC 8785), byte-identical for equal documents.

    Raises
    ------
    PublishError
        If the document is larger than `canonical.MAX_BYTES`, or was altered past its validators.
    """
    payload = canonical.encode_value(document.model_dump(mode="json"))
    decode(payload)
    return payload


def decode(payload: bytes) -> ParameterDocument:
    """Read a document and refuse everything that `encode` would not have written.

    The bytes are read once, and spelling the result must give them back; only a refusal reads them again.

    Raises
    ------
    PublishError
        If ``payload`` is not canonical JSON (see `canonical.decode_value`), has another schema version or an
        unknown key, or breaks a rule of the document; the message names the first place.

    Examples
    --------
    >>> decode(b'{"schema_version":2}')
    Traceback (most recent call last):
    ...
    calibrator.errors.PublishError: document has schema_version 2, this version reads 1
    """
    if len(payload) <= canonical.MAX_BYTES:
        try:
            document = ParameterDocument.model_validate_json(payload)
        except ValidationError:
            document = None
        if document is not None and canonical.plain(document.model_dump(mode="json")) == payload:
            return document
    return _decode_slowly(payload)


def _decode_slowly(payload: bytes) -> ParameterDocument:
    """Judge rule by rule what `decode` judges at once."""
    value = canonical.decode_value(payload)
    if not isinstance(value, dict):
        raise PublishError(f"document must be a JSON object, was {type(value).__name__}")
    version = value.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise PublishError(f"document has schema_version {version!r}, this version reads {SCHEMA_VERSION}")
    try:
        document = ParameterDocument.model_validate_json(payload)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise PublishError(f"{place}: {first['msg']} ({error.error_count()} in all)") from error
    if document.model_dump(mode="json") != value:  # a default left out, another spelling of a time
        raise PublishError("document is not canonical: a value has another spelling or is left out")
    return document


def json_schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of `SCHEMA_VERSION`; rules across fields are `decode`'s.

    Examples
    --------
    >>> json_schema()["$id"]
    'urn:calibrator:parameters:1'
    """
    schema = ParameterDocument.model_json_schema(mode="serialization")
    return {
        **schema,
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:calibrator:parameters:{SCHEMA_VERSION}",
    }
