"""The contract that all adapters share: intent, state, action, update."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from calibrator.domain import PPM
from calibrator.errors import ConstraintError, PublishError
from calibrator.publish.adapters.evm import mixed_case
from calibrator.publish.canonical import Amount, Time
from calibrator.publish.parts import Chain


def _spelled(address: str) -> str:
    try:
        return mixed_case(address)
    except PublishError as error:
        raise ValueError(str(error)) from error


Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$"), AfterValidator(_spelled)]
Symbol = Annotated[str, StringConstraints(min_length=1, max_length=194)]
Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./:-]{1,64}$")]
Ppm = Annotated[int, Field(ge=0, le=PPM)]
Share = Annotated[int, Field(ge=1, le=PPM)]


class Wire(BaseModel):
    """Base of everything that is read or written: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ExposureCap(Wire):
    """How much of a market may be open, deposited or lent; None leaves the target's cap as it is.

    Attributes
    ----------
    open_interest : int, optional
        Quote units of notional, per side.
    supply, borrow : int, optional
        Units of the debt: worth of the collateral deposited, and amount lent against it.
    """

    open_interest: Amount | None = None
    supply: Amount | None = None
    borrow: Amount | None = None


class Tier(Wire):
    """One tier of a margin schedule, as in the document."""

    notional_floor: Amount
    initial_margin_ppm: Share
    maintenance_margin_ppm: Share


class PerpetualTerms(Wire):
    """What one perpetual shall require."""

    symbol: Symbol
    tiers: Annotated[tuple[Tier, ...], Field(min_length=1)]
    cap: ExposureCap = ExposureCap()

    def at(self, notional: int) -> Tier:
        """Return the tier of a position of ``notional`` quote units."""
        return [t for t in self.tiers if t.notional_floor <= notional][-1]


class LoanTerms(Wire):
    """What one collateral shall be worth."""

    symbol: Symbol
    haircut_ppm: Ppm
    loan_to_value_ppm: Share
    liquidation_threshold_ppm: Share
    liquidation_penalty_ppm: Ppm
    cap: ExposureCap = ExposureCap()


class Step(Wire):
    """The terms of every market from ``at`` on: the current ones, or one step of the plan."""

    at: Time
    perpetuals: tuple[PerpetualTerms, ...] = ()
    loans: tuple[LoanTerms, ...] = ()


class Intent(Wire):
    """What a document asks of a target: now (the first step) and in its plan (the others).

    Attributes
    ----------
    document : str
        SHA-256 of the document's bytes.
    """

    sequence: Annotated[int, Field(ge=1)]
    document: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    issued_at: Time
    expires_at: Time
    steps: Annotated[tuple[Step, ...], Field(min_length=1)]


class Header(Wire):
    """Who an update is for, from which document it is and when it holds.

    Attributes
    ----------
    route : str
        How it reaches the target, where a protocol has several ways; else ``default``.
    sender : str
        Who submits it: a Safe, an authority, a deployer.
    """

    protocol: Token
    chain: Chain
    route: Token = "default"
    sender: Token
    sequence: Annotated[int, Field(ge=1)]
    document: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    issued_at: Time
    valid_from: Time
    expires_at: Time

    def text(self) -> str:
        """Return the header as one line, for formats whose only free place is a description.

        Examples
        --------
        >>> day = "2025-01-0{}T00:00:00Z".format
        >>> header = Header(protocol="dydx-v4", chain="cosmos:dydx-mainnet-1", sender="gov", sequence=3,
        ...     document="0" * 64, issued_at=day(1), valid_from=day(2), expires_at=day(8))
        >>> Header.read(header.text()) == header
        True
        """
        return _LINE.format(**self.model_dump(mode="json"))

    @classmethod
    def read(cls, text: str) -> "Header":
        """Read back what `text` wrote.

        Raises
        ------
        PublishError
            If the line is not of this form.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise PublishError(f"description does not name its document: {text[:120]!r}")
        fields: dict[str, Any] = {**match.groupdict()}
        return read_model(cls, fields | {"sequence": int(fields["sequence"])}, what="header")


_LINE: Final = (
    "{protocol} on {chain} via {route} by {sender}: sequence {sequence} of document {document}, "
    "issued {issued_at}, valid from {valid_from}, expires {expires_at}"
)
_PATTERN: Final = re.compile(
    re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^ ,]+?)", re.escape(_LINE)).replace(
        "(?P<sequence>[^ ,]+?)", "(?P<sequence>[1-9][0-9]{0,17})"
    )
)


class Action(Wire):
    """One change in the target's own units; the targets apply actions one after the other."""


class State(Wire):
    """What a target holds, as read from it at ``read_at``.

    Attributes
    ----------
    read_at : datetime
        When the values were read; a state older than ``max_age_hours`` at the document's issue is refused.
    sender : str
        Who submits the update.
    delay_seconds : int
        Voting and timelock that pass between issue and execution.
    ignored : tuple of str
        Markets of the document that this target does not list, on purpose.
    shared : {"exact", "largest"}
        What happens when markets that share one tier ask for different values: refuse, or take the safest.
    pending : tuple of Action
        Submitted earlier, and perhaps executed wholly, in part or not at all since ``read_at``.
    """

    chain: Chain
    read_at: Time
    max_age_hours: Annotated[int, Field(ge=1, le=8_760)] = 24
    sender: Token
    route: Token = "default"
    delay_seconds: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    ignored: tuple[Symbol, ...] = ()
    shared: Literal["exact", "largest"] = "exact"
    pending: tuple[Action, ...] = ()


class Listed(Wire):
    """One market as the target lists it.

    Attributes
    ----------
    notional : int
        Position size (quote units) whose tier is published, where the target takes one number per market.
    """

    notional: Amount = 0


class Lent(Listed):
    """One collateral as the target lists it.

    Attributes
    ----------
    price : int, optional
        Of one whole token, in millionths of a unit of the debt; turns a supply cap into tokens.
    """

    price: Annotated[int, Field(ge=1)] | None = None

    def tokens(self, worth: int | None, *, decimals: int = 0) -> int | None:
        """Return a supply cap in tokens (of ``decimals``), rounded down; None if there is none.

        Raises
        ------
        ConstraintError
            If there is a cap and no price.

        Examples
        --------
        >>> Lent(price=2_500_000).tokens(10), Lent().tokens(None)
        (4, None)
        """
        if worth is None:
            return None
        if self.price is None:
            raise ConstraintError("a supply cap needs the collateral's price in the state file (rule price)")
        one: int = 10**decimals
        return worth * 1_000_000 * one // self.price


S = TypeVar("S", bound=State)
A = TypeVar("A", bound=Action)
M = TypeVar("M", bound=Wire)
Terms = TypeVar("Terms", PerpetualTerms, LoanTerms)


@dataclass(frozen=True, slots=True)
class Update(Generic[A]):
    """Actions for one target, from one document, in the order in which they are applied."""

    header: Header
    actions: tuple[A, ...]


@dataclass(frozen=True, slots=True)
class Adapter(Generic[S, A]):
    """One protocol.

    Attributes
    ----------
    name : str
        As in ``publish.target.protocol`` and in the payload's name, ``payloads/<name>.json``.
    takes : {"perpetuals", "loans", "both"}
        Which terms of a document it takes over.
    state : type
        Pydantic model of the state file.
    propose : callable
        ``propose(step, state) -> actions``: only what changes, each value rounded to the safe side.
    encode : callable
        ``encode(update) -> bytes``; equal updates give equal bytes.
    decode : callable
        ``decode(bytes) -> update``; the inverse, refusing what ``encode`` would not have written.
    """

    name: str
    takes: Literal["perpetuals", "loans", "both"]
    state: type[S]
    propose: Callable[[Step, S], tuple[A, ...]]
    encode: Callable[[Update[A]], bytes]
    decode: Callable[[bytes], Update[A]]


def listed(terms: Iterable[Terms], known: Iterable[str], state: State) -> list[Terms]:
    """Return the terms of the markets that the target lists.

    Raises
    ------
    ConstraintError
        If a market is neither in the state file nor ignored on purpose.
    """
    names, out = set(known), []
    for term in terms:
        if term.symbol in names:
            out.append(term)
        elif term.symbol not in state.ignored:
            raise ConstraintError(f"{term.symbol}: the state file neither lists nor ignores this market")
    return out


def agreed(values: Mapping[str, tuple[int, ...]], state: State, *, what: str, others: Iterable[str]) -> None:
    """Refuse a shared tier that would move a market beyond what the document asks for it.

    Parameters
    ----------
    values : dict
        What each market of the tier asks for, in the target's units.
    state : State
        Its ``shared`` says whether the safest value may be taken for all.
    what : str
        Name of the tier, for the message.
    others : iterable of str
        Further markets on the tier, about which the document says nothing.

    Raises
    ------
    ConstraintError
        If the markets differ, or others are on the tier, and ``shared`` is ``exact``.
    """
    if state.shared == "largest":
        return
    if len(set(values.values())) > 1:
        asked = ", ".join(f"{symbol} {value}" for symbol, value in values.items())
        raise ConstraintError(f"{what}: rule shared-tier: its markets ask for different values: {asked}")
    if strangers := sorted(set(others) - set(values)):
        raise ConstraintError(
            f"{what}: rule shared-tier: it would also move {', '.join(strangers)}, "
            "which the document does not decide"
        )


def read_model(model: type[M], value: object, *, what: str) -> M:
    """Validate ``value`` (parsed JSON) as ``model``.

    Raises
    ------
    PublishError
        Naming the first place that does not fit.
    """
    import json  # noqa: PLC0415 - strict mode takes tuples and times only from JSON text

    try:
        return model.model_validate_json(json.dumps(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or what
        raise PublishError(f"{what}: {place}: {first['msg']} ({error.error_count()} in all)") from error


def header_of(adapter: Adapter[Any, Any], state: State, intent: Intent, *, at: datetime) -> Header:
    """Return the header of the update that ``intent`` becomes on this target at ``at``."""
    return Header(
        protocol=adapter.name,
        chain=state.chain,
        route=state.route,
        sender=state.sender,
        sequence=intent.sequence,
        document=intent.document,
        issued_at=intent.issued_at,
        valid_from=at,
        expires_at=intent.expires_at,
    )
