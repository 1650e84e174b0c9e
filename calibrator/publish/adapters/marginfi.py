"""MarginFi v2: `lendingPoolConfigureBank` with only the fields that change.

Weights are I80F48 fixed point (48 fractional bits, 16 bytes little-endian): asset weights rounded down. A
field left out stays.

References
----------
mrgnlabs/marginfi-v2 3031ba3b: BankConfigOpt, WrappedI80F48, BankConfig::validate.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from calibrator.errors import PublishError
from calibrator.publish.adapters import text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Header,
    Lent,
    State,
    Step,
    Symbol,
    Update,
    listed,
)
from calibrator.publish.adapters.solana import Account
from calibrator.publish.adapters.units import down
from calibrator.publish.canonical import Amount

NAME: Final = "marginfi-v2"
ONE: Final = 2**48
WEIGHTS: Final = (
    "asset_weight_init",
    "asset_weight_maint",
    "liability_weight_init",
    "liability_weight_maint",
)
LIMITS: Final = ("deposit_limit", "borrow_limit")


class Configure(Action):
    """`BankConfigOpt`: weights in 2^-48, limits in base units; None keeps a field."""

    bank: Account
    asset_weight_init: Amount | None = None
    asset_weight_maint: Amount | None = None
    liability_weight_init: Amount | None = None
    liability_weight_maint: Amount | None = None
    deposit_limit: Amount | None = None
    borrow_limit: Amount | None = None


class Bank(Lent):
    """One bank: weights in 2^-48, limits in base units."""

    bank: Account
    decimals: Annotated[int, Field(ge=0, le=18)]
    risk_tier: Literal["Collateral", "Isolated"] = "Collateral"
    asset_weight_init: Amount
    asset_weight_maint: Amount
    liability_weight_init: Amount
    liability_weight_maint: Amount
    deposit_limit: Amount
    borrow_limit: Amount


class MarginfiState(State):
    """Banks of one group; ``sender`` is its admin."""

    protocol: Literal["marginfi-v2"]
    markets: dict[Symbol, Bank]
    pending: tuple[Configure, ...] = ()


def propose(step: Step, state: MarginfiState) -> tuple[Configure, ...]:
    """Return the banks that change, in the order of the symbols."""
    out = []
    for terms in sorted(listed(step.loans, state.markets, state), key=lambda t: t.symbol):
        bank = state.markets[terms.symbol]
        new: dict[str, int] = {
            "asset_weight_init": down(terms.loan_to_value_ppm, ONE),
            "asset_weight_maint": down(terms.liquidation_threshold_ppm, ONE),
        }
        supply = bank.tokens(terms.cap.supply, decimals=bank.decimals)
        if supply is not None:
            new["deposit_limit"] = supply
        changed = {name: value for name, value in new.items() if value != getattr(bank, name)}
        if changed:
            out.append(Configure(bank=bank.bank, **changed))
    return tuple(out)


def fixed_point(bits: int) -> list[int]:
    """Return the 16 bytes of an I80F48, least significant first.

    Raises
    ------
    PublishError
        If the number does not fit.

    Examples
    --------
    >>> fixed_point(2**48 * 4 // 5)[:8]  # 0.8, rounded down
    [204, 204, 204, 204, 204, 204, 0, 0]
    """
    if not 0 <= bits < 2**127:
        raise PublishError(f"I80F48: {bits} does not fit")
    return list(bits.to_bytes(16, "little"))


def encode(update: Update[Configure]) -> bytes:
    """Write the bank configurations for the group's admin.

    Raises
    ------
    PublishError
        If a value does not fit its field.
    """
    rows = []
    for action in update.actions:
        options: dict[str, Any] = {}
        for name in WEIGHTS:
            if (bits := getattr(action, name)) is not None:
                options[name] = {"value": fixed_point(bits)}
        for name in LIMITS:
            if (limit := getattr(action, name)) is not None:
                options[name] = str(limit)
        rows.append({"bank": action.bank, "bank_config_opt": options})
    return text.write({"description": update.header.text(), "lending_pool_configure_bank": rows})


def decode(payload: bytes) -> Update[Configure]:
    """Read what `encode` wrote.

    Raises
    ------
    PublishError
        If it is not in that form.
    """
    raw = text.read(payload, what="instructions")
    rows = raw.get("lending_pool_configure_bank")
    actions = tuple(_action(row) for row in rows) if isinstance(rows, list) else ()
    update = Update(Header.read(str(raw.get("description"))), actions)
    return text.same(update, payload, encode(update), what="instructions")


def _action(row: Any) -> Configure:
    try:
        fields = {
            name: int.from_bytes(bytes(value["value"]), "little") if name in WEIGHTS else int(value)
            for name, value in row["bank_config_opt"].items()
        }
        return Configure(bank=row["bank"], **fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PublishError(f"instructions: a bank is not in the published form: {error}") from error


ADAPTER: Final = Adapter(NAME, "loans", MarginfiState, propose, encode, decode)
