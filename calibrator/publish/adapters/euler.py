"""Euler v2: `setLTV` with a ramp when the liquidation threshold falls, and `setCaps`, as a Safe batch.

The borrow limit falls at once; the liquidation threshold falls linearly over the ramp, so that nobody is
liquidated by the update itself. A cap is a 10-bit mantissa and a 6-bit exponent, rounded down; raw 0 means
unlimited, so a cap of zero is written with an exponent.

References
----------
euler-xyz/euler-vault-kit 5b98b420: Governance.sol, LTVConfig.sol, AmountCap.sol.
"""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from calibrator.publish.adapters import evm, safe, text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Address,
    Lent,
    Listed,
    State,
    Step,
    Symbol,
    Update,
    listed,
)
from calibrator.publish.adapters.safe import Call
from calibrator.publish.adapters.units import down

NAME: Final = "euler-v2"
ONE: Final = 10_000
RAMP: Final = 30 * 86_400
_SET_LTV: Final = "setLTV(address,uint16,uint16,uint32)"
_SET_CAPS: Final = "setCaps(uint16,uint16)"
Units = Annotated[int, Field(ge=0)]


class SetLtv(Action):
    """`setLTV` on the vault that lends, for one collateral vault; 1e4."""

    kind: Literal["ltv"] = "ltv"
    vault: Address
    collateral: Address
    borrow_ltv: Units
    liquidation_ltv: Units
    ramp: Units


class SetCaps(Action):
    """`setCaps` of one vault, in its 16-bit floating form."""

    kind: Literal["caps"] = "caps"
    vault: Address
    supply_cap: Units
    borrow_cap: Units


EulerAction = Annotated[SetLtv | SetCaps, Field(discriminator="kind")]


class Pair(Listed):
    """One collateral of one lending vault, as `LTVFull` returns it (1e4, seconds).

    Attributes
    ----------
    initial_ltv : int
        Where a ramp started.
    target_time : int
        When it ends (Unix seconds; 0: none).
    """

    vault: Address
    collateral: Address
    borrow_ltv: Units
    liquidation_ltv: Units
    initial_ltv: Units
    target_time: Units = 0
    ramp: Units = 0


class Vault(Lent):
    """Raw caps of a collateral's own vault, and its token's decimals."""

    decimals: Annotated[int, Field(ge=0, le=36)]
    supply_cap: Units
    borrow_cap: Units


class EulerState(State):
    """Collateral pairs of the lending vaults, and the caps of the vaults themselves, by address.

    Attributes
    ----------
    ramp_seconds : int
        Ramp of every reduction.
    """

    protocol: Literal["euler-v2"]
    ramp_seconds: Annotated[int, Field(ge=1, lt=2**32)] = RAMP
    markets: dict[Symbol, Pair]
    vaults: dict[Address, Vault] = Field(default_factory=dict)
    pending: tuple[EulerAction, ...] = ()


def liquidation_ltv_at(pair: Pair, at: datetime) -> int:
    """Return the liquidation threshold in force at ``at``, on its ramp or at its target.

    Examples
    --------
    >>> from datetime import UTC
    >>> pair = Pair(vault="0x" + "1" * 40, collateral="0x" + "2" * 40, borrow_ltv=7_800, ramp=2_592_000,
    ...     liquidation_ltv=8_000, initial_ltv=8_800, target_time=2_592_000)
    >>> times = (datetime.fromtimestamp(t, UTC) for t in (0, 1_296_000, 2_505_600, 2_592_000))
    >>> [liquidation_ltv_at(pair, at) for at in times]
    [8800, 8400, 8026, 8000]
    """
    left = pair.target_time - int(at.timestamp())
    if left <= 0 or pair.liquidation_ltv >= pair.initial_ltv:
        return pair.liquidation_ltv
    return pair.liquidation_ltv + (pair.initial_ltv - pair.liquidation_ltv) * left // pair.ramp


def amount_cap(amount: int) -> int:
    """Return the largest representable cap not above ``amount`` (base units), in raw form.

    Examples
    --------
    >>> amount_cap(75_000 * 10**18), amount_cap(10_000_001 * 10**6), amount_cap(0)
    (48022, 64012, 1)
    """
    exponent = 0
    while amount * 100 // 10**exponent > 1_023:
        exponent += 1
    mantissa: int = amount * 100 // 10**exponent
    return mantissa << 6 | (exponent if mantissa else 1)


def cap_amount(raw: int) -> int | None:
    """Return the amount of a raw cap, base units; None if unlimited.

    Examples
    --------
    >>> cap_amount(48022) == 75_000 * 10**18, cap_amount(1), cap_amount(0)
    (True, 0, None)
    """
    scale: int = 10 ** (raw & 63)
    return None if raw == 0 else scale * (raw >> 6) // 100


def propose(step: Step, state: EulerState) -> tuple[SetLtv | SetCaps, ...]:
    """Return what changes, pair by pair in the order of the symbols."""
    out: list[SetLtv | SetCaps] = []
    for terms in sorted(listed(step.loans, state.markets, state), key=lambda t: t.symbol):
        pair = state.markets[terms.symbol]
        borrow, liquidation = down(terms.loan_to_value_ppm, ONE), down(terms.liquidation_threshold_ppm, ONE)
        if (borrow, liquidation) != (pair.borrow_ltv, pair.liquidation_ltv):
            ramp = state.ramp_seconds if liquidation < liquidation_ltv_at(pair, step.at) else 0
            out.append(
                SetLtv(
                    vault=pair.vault,
                    collateral=pair.collateral,
                    borrow_ltv=borrow,
                    liquidation_ltv=liquidation,
                    ramp=ramp,
                )
            )
        vault = state.vaults.get(pair.collateral)
        supply = vault.tokens(terms.cap.supply, decimals=vault.decimals) if vault else None
        if vault and supply is not None and amount_cap(supply) != vault.supply_cap:
            cap = SetCaps(vault=pair.collateral, supply_cap=amount_cap(supply), borrow_cap=vault.borrow_cap)
            out.append(cap)
    return tuple(out)


def encode(update: Update[SetLtv | SetCaps]) -> bytes:
    """Write the Safe batch.

    Raises
    ------
    PublishError
        If a value does not fit its field.
    """
    calls = tuple(Call(action.vault, _data(action)) for action in update.actions)
    return safe.encode_batch("Euler v2 loan-to-value and caps", update.header, calls)


def _data(action: SetLtv | SetCaps) -> str:
    if isinstance(action, SetCaps):
        return evm.call(_SET_CAPS, action.supply_cap, action.borrow_cap)
    return evm.call(_SET_LTV, action.collateral, action.borrow_ltv, action.liquidation_ltv, action.ramp)


def decode(payload: bytes) -> Update[SetLtv | SetCaps]:
    """Read a batch that `encode` wrote.

    Raises
    ------
    PublishError
        If it is not one.
    """
    _, header, calls = safe.decode_batch(payload)
    update = Update(header, tuple(_action(one) for one in calls))
    return text.same(update, payload, encode(update), what="Euler batch")


def _action(one: Call) -> SetLtv | SetCaps:
    if one.data[2:10] == evm.selector(_SET_CAPS):
        supply, borrow = evm.uncall(_SET_CAPS, one.data)
        return SetCaps(vault=one.to, supply_cap=supply, borrow_cap=borrow)
    collateral, borrow, liquidation, ramp = evm.uncall(_SET_LTV, one.data)
    return SetLtv(
        vault=one.to,
        collateral=evm.checksummed(collateral),
        borrow_ltv=borrow,
        liquidation_ltv=liquidation,
        ramp=ramp,
    )


ADAPTER: Final = Adapter(NAME, "loans", EulerState, propose, encode, decode)
