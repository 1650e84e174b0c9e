"""Maker / Sky: the liquidation ratio, penalty and debt ceiling of an ilk, as the actions of a spell.

``mat`` is the inverse of the single limit, rounded up to basis points of the helper library; it holds only
after ``poke``, so that call always follows. The penalty is rounded up.

References
----------
makerdao/dss fa4f6630: spot.sol, dog.sol, vat.sol; makerdao/dss-exec-lib 69b658f3 (bounds of the helpers).
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from calibrator.domain import PPM
from calibrator.errors import PublishError
from calibrator.publish.adapters import evm, text
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Address,
    Header,
    Listed,
    State,
    Step,
    Symbol,
    Update,
    listed,
)
from calibrator.publish.adapters.units import ratio_up, up
from calibrator.publish.canonical import Amount

NAME: Final = "maker"
BPS: Final = 10_000
RAY_BPS: Final = 10**23
WAD: Final = 10**18
WAD_BPS: Final = 10**14
RAD: Final = 10**45
Ilk = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9-]{1,32}$")]
What = Literal["mat", "chop", "line"]
_FILE: Final = "file(bytes32,bytes32,uint256)"
_POKE: Final = "poke(bytes32)"


class FileIlk(Action):
    """`file(ilk, what, value)`: mat in ray at the spotter, chop in wad at the dog, line in rad at the vat."""

    kind: Literal["file"] = "file"
    to: Address
    ilk: Ilk
    what: What
    value: Amount


class Poke(Action):
    """`poke(ilk)`: what makes a new liquidation ratio hold."""

    kind: Literal["poke"] = "poke"
    to: Address
    ilk: Ilk


MakerAction = Annotated[FileIlk | Poke, Field(discriminator="kind")]


class Collateral(Listed):
    """One ilk: ratios in basis points (penalty without the 100 %), ceiling in whole Dai.

    ``poked`` is the ratio that holds; it differs from ``mat`` after a `file` without `poke`.
    """

    ilk: Ilk
    mat: Annotated[int, Field(ge=0)]
    poked: Annotated[int, Field(ge=0)]
    chop: Annotated[int, Field(ge=0)]
    line: Amount


class MakerState(State):
    """Ilks, and the contracts that hold their parameters.

    Attributes
    ----------
    factor : {"liquidation_threshold", "loan_to_value"}
        Which of the document's two limits the single ratio stands for.
    """

    protocol: Literal["maker"]
    spotter: Address
    dog: Address
    vat: Address
    factor: Literal["liquidation_threshold", "loan_to_value"] = "liquidation_threshold"
    markets: dict[Symbol, Collateral]
    pending: tuple[MakerAction, ...] = ()


def propose(step: Step, state: MakerState) -> tuple[FileIlk | Poke, ...]:
    """Return what changes, ilk by ilk."""
    out: list[FileIlk | Poke] = []
    for terms in sorted(listed(step.loans, state.markets, state), key=lambda t: t.symbol):
        held = state.markets[terms.symbol]
        limit = getattr(terms, f"{state.factor}_ppm")
        mat, chop = ratio_up(PPM, limit, BPS), up(terms.liquidation_penalty_ppm, BPS)
        if mat != held.mat:
            out.append(FileIlk(to=state.spotter, ilk=held.ilk, what="mat", value=mat * RAY_BPS))
        if mat != held.poked:
            out.append(Poke(to=state.spotter, ilk=held.ilk))
        if chop != held.chop:
            out.append(FileIlk(to=state.dog, ilk=held.ilk, what="chop", value=WAD + chop * WAD_BPS))
        if terms.cap.borrow is not None and terms.cap.borrow != held.line:
            out.append(FileIlk(to=state.vat, ilk=held.ilk, what="line", value=terms.cap.borrow * RAD))
    return tuple(out)


def helper(action: FileIlk | Poke) -> str:
    """Return the same change as a line of DssExecLib, for the spell's author.

    Examples
    --------
    >>> helper(FileIlk(to="0x" + "1" * 40, ilk="ETH-A", what="mat", value=14_500 * 10**23))
    'DssExecLib.setIlkLiquidationRatio("ETH-A", 14500)'
    """
    if isinstance(action, Poke):
        return f'DssExecLib.updateCollateralPrice("{action.ilk}")'
    name, value = {
        "mat": ("setIlkLiquidationRatio", action.value // RAY_BPS),
        "chop": ("setIlkLiquidationPenalty", (action.value - WAD) // WAD_BPS),
        "line": ("setIlkDebtCeiling", action.value // RAD),
    }[action.what]
    return f'DssExecLib.{name}("{action.ilk}", {value})'


def encode(update: Update[FileIlk | Poke]) -> bytes:
    """Write the spell's actions.

    Raises
    ------
    PublishError
        If a value does not fit its field.
    """
    rows = [
        {"target": evm.mixed_case(a.to), "calldata": _data(a), "helper": helper(a)} for a in update.actions
    ]
    return text.write({"description": update.header.text(), "spell": rows})


def _data(action: FileIlk | Poke) -> str:
    ilk = action.ilk.encode().ljust(32, b"\0")
    if isinstance(action, Poke):
        return evm.call(_POKE, ilk)
    return evm.call(_FILE, ilk, action.what.encode().ljust(32, b"\0"), action.value)


def decode(payload: bytes) -> Update[FileIlk | Poke]:
    """Read what `encode` wrote; the calldata decide.

    Raises
    ------
    PublishError
        If it is not in that form.
    """
    raw = text.read(payload, what="spell")
    rows = raw.get("spell")
    actions = tuple(_action(row) for row in rows) if isinstance(rows, list) else ()
    update = Update(Header.read(str(raw.get("description"))), actions)
    return text.same(update, payload, encode(update), what="spell")


def _action(row: Any) -> FileIlk | Poke:
    try:
        to, data = row["target"], row["calldata"]
        if data[2:10] == evm.selector(_POKE):
            return Poke(to=to, ilk=_word(evm.uncall(_POKE, data)[0]))
        ilk, what, value = evm.uncall(_FILE, data)
        return FileIlk(to=to, ilk=_word(ilk), what=_word(what), value=value)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PublishError(f"spell: an action is not in the published form: {error}") from error


def _word(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode("ascii")


ADAPTER: Final = Adapter(NAME, "loans", MakerState, propose, encode, decode)
