"""Anchor instructions: eight bytes that name a function, then its arguments, little-endian."""

import hashlib
from typing import Annotated, Any, Final

from pydantic import StringConstraints

from calibrator.errors import PublishError

Account = Annotated[str, StringConstraints(pattern=r"^[1-9A-HJ-NP-Za-km-z]{32,44}$")]
WIDTHS: Final = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "u128": 16}


def discriminator(function: str) -> bytes:
    """Return the eight bytes that Anchor puts before the arguments of ``function``.

    Examples
    --------
    >>> discriminator("initialize").hex()
    'afaf6d1f0d989bed'
    """
    return hashlib.sha256(f"global:{function}".encode()).digest()[:8]


def instruction(function: str, kinds: tuple[str, ...], values: tuple[int, ...]) -> str:
    """Return instruction data as hexadecimal digits.

    Raises
    ------
    PublishError
        If a value does not fit its type.

    Examples
    --------
    >>> instruction("initialize", ("u32",), (258,))
    'afaf6d1f0d989bed02010000'
    """
    data = discriminator(function)
    for kind, value in zip(kinds, values, strict=True):
        try:
            data += value.to_bytes(WIDTHS[kind], "little")
        except OverflowError as error:
            raise PublishError(f"{function}: {value} does not fit {kind}") from error
    return data.hex()


def arguments(function: str, kinds: tuple[str, ...], data: Any) -> tuple[int, ...]:
    """Return the arguments of data made by `instruction` with the same function and types.

    Raises
    ------
    PublishError
        If it is another function or has another length.

    Examples
    --------
    >>> arguments("initialize", ("u32",), "afaf6d1f0d989bed02010000")
    (258,)
    """
    try:
        raw = bytes.fromhex(data)
    except (TypeError, ValueError) as error:
        raise PublishError(f"{function}: data must be hexadecimal: {error}") from error
    widths = [WIDTHS[kind] for kind in kinds]
    if raw[:8] != discriminator(function) or len(raw) != 8 + sum(widths):
        raise PublishError(f"{function}: data belong to another function or have another length")
    out, position = [], 8
    for width in widths:
        out.append(int.from_bytes(raw[position : position + width], "little"))
        position += width
    return tuple(out)
