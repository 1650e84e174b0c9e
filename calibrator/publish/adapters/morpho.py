"""Morpho Blue: the nearest enabled loan-to-value, and vault caps that lead new lending there.

A market's liquidation loan-to-value is fixed for ever, so a haircut is published as the choice of a market:
the highest enabled value that is not above the document's threshold and leaves room for the protocol's
liquidation incentive and the haircut. Vault caps of higher ones go to zero.

References
----------
morpho-org/morpho-blue 3085651a: Morpho.sol, MarketParamsLib.sol, ConstantsLib.sol; MetaMorpho `submitCap`.
"""

from typing import Annotated, Final, Literal

from pydantic import Field

from calibrator.domain import PPM
from calibrator.publish.adapters import evm, safe, text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Address,
    Listed,
    LoanTerms,
    State,
    Step,
    Symbol,
    Update,
    Wire,
    listed,
)
from calibrator.publish.adapters.safe import Call
from calibrator.publish.adapters.units import down
from calibrator.publish.canonical import Amount, Time

NAME: Final = "morpho-blue"
ONE: Final = 10**18
MAX_INCENTIVE: Final = 1_150_000_000_000_000_000
CURSOR: Final = 300_000_000_000_000_000
ENABLED: Final = tuple(x * 10**15 for x in (385, 625, 770, 860, 915, 945, 965, 980))
_SUBMIT: Final = "submitCap((address,address,address,address,uint256),uint256)"


class Submitted(Wire):
    """A cap that waits for the vault's timelock."""

    cap: Amount
    valid_at: Time


class SubmitCap(Action):
    """`submitCap` of one market, base units of the loan token."""

    to: Address
    loan: Address
    collateral: Address
    oracle: Address
    irm: Address
    lltv: Amount
    cap: Amount


class MorphoMarket(Listed):
    """One collateral: what its markets share, and the vault's caps by loan-to-value (1e18)."""

    loan: Address
    collateral: Address
    oracle: Address
    irm: Address
    decimals: Annotated[int, Field(ge=0, le=36)]
    caps: dict[str, Amount]
    submitted: dict[str, Submitted] = Field(default_factory=dict)


class MorphoState(State):
    """The markets of one vault.

    Attributes
    ----------
    factor : {"liquidation_threshold", "loan_to_value"}
        Which of the document's two limits the single one of a market stands for.
    """

    protocol: Literal["morpho-blue"]
    vault: Address
    timelock_seconds: Annotated[int, Field(ge=0)]
    factor: Literal["liquidation_threshold", "loan_to_value"] = "liquidation_threshold"
    enabled: tuple[Amount, ...] = ENABLED
    markets: dict[Symbol, MorphoMarket]
    pending: tuple[SubmitCap, ...] = ()


def incentive(lltv: int) -> int:
    """Return the liquidation incentive factor of a market, 1e18, in the contract's rounding.

    Examples
    --------
    >>> incentive(860_000_000_000_000_000), incentive(385_000_000_000_000_000)
    (1043841336116910229, 1150000000000000000)
    """
    below = ONE - CURSOR * (ONE - lltv) // ONE
    return min(MAX_INCENTIVE, ONE * ONE // below)


def market_id(action: SubmitCap) -> str:
    """Return the identifier of the market an action is about.

    Examples
    --------
    >>> a = ["0x" + f"{n:040x}" for n in range(5)]
    >>> market_id(SubmitCap(to=a[0], loan=a[1], collateral=a[2], oracle=a[3], irm=a[4],
    ...     lltv=86 * 10**16, cap=0))[:18]
    '0x625e29dff74826b7'
    """
    kinds = ["address", "address", "address", "address", "uint256"]
    values = [action.loan, action.collateral, action.oracle, action.irm, action.lltv]
    return "0x" + evm.keccak(evm.abi(kinds, values)).hex()


def safe_enough(lltv: int, terms: LoanTerms, factor: str) -> bool:
    """Return whether a market keeps the document's limit and leaves room for incentive and haircut."""
    limit = terms.liquidation_threshold_ppm if factor == "liquidation_threshold" else terms.loan_to_value_ppm
    return (
        lltv <= down(limit, ONE)
        and lltv * incentive(lltv) + terms.haircut_ppm * ONE * ONE // PPM <= ONE * ONE
    )


def propose(step: Step, state: MorphoState) -> tuple[SubmitCap, ...]:
    """Return the caps that change: higher markets to zero first, then the chosen one."""
    out = []
    for terms in sorted(listed(step.loans, state.markets, state), key=lambda t: t.symbol):
        market = state.markets[terms.symbol]
        fits = [lltv for lltv in state.enabled if lltv and safe_enough(lltv, terms, state.factor)]
        best = max(fits, default=0)
        amount = max((*market.caps.values(), *(one.cap for one in market.submitted.values())), default=0)
        if terms.cap.borrow is not None:
            amount = terms.cap.borrow * 10**market.decimals
        wanted = {lltv: 0 for lltv in map(int, market.caps) if lltv > best}
        wanted |= {best: amount} if best else {}
        for lltv, cap in sorted(wanted.items(), reverse=True):
            waiting = market.submitted.get(str(lltv))
            if cap != (waiting.cap if waiting else market.caps.get(str(lltv), 0)):
                fields = market.model_dump(include={"loan", "collateral", "oracle", "irm"})
                out.append(SubmitCap(to=state.vault, lltv=lltv, cap=cap, **fields))
    return tuple(out)


def encode(update: Update[SubmitCap]) -> bytes:
    """Write the Safe batch of the vault's curator.

    Raises
    ------
    PublishError
        If a value does not fit its field.
    """
    calls = tuple(
        Call(a.to, evm.call(_SUBMIT, (a.loan, a.collateral, a.oracle, a.irm, a.lltv), a.cap))
        for a in update.actions
    )
    return safe.encode_batch("Morpho vault caps", update.header, calls)


def decode(payload: bytes) -> Update[SubmitCap]:
    """Read a batch that `encode` wrote.

    Raises
    ------
    PublishError
        If it is not one.
    """
    _, header, calls = safe.decode_batch(payload)
    update = Update(header, tuple(_action(one) for one in calls))
    return text.same(update, payload, encode(update), what="Morpho batch")


def _action(one: Call) -> SubmitCap:
    (*addresses, lltv), cap = evm.uncall(_SUBMIT, one.data)
    loan, collateral, oracle, irm = (evm.checksummed(address) for address in addresses)
    return SubmitCap(to=one.to, loan=loan, collateral=collateral, oracle=oracle, irm=irm, lltv=lltv, cap=cap)


ADAPTER: Final = Adapter(NAME, "loans", MorphoState, propose, encode, decode)
