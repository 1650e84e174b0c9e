"""Calldata: selectors and ABI encoding, through eth-abi and eth-hash, loaded only when used."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from calibrator.errors import PublishError


def keccak(data: bytes) -> bytes:
    """Return the Keccak-256 of ``data``.

    Examples
    --------
    >>> keccak(b"").hex()[:8]
    'c5d24601'
    """
    from eth_hash.auto import keccak as hashed  # noqa: PLC0415 - only who publishes needs it

    return bytes(hashed(data))


@lru_cache(maxsize=256)
def selector(signature: str) -> str:
    """Return the four bytes that name a function, as hexadecimal digits.

    Examples
    --------
    >>> selector("setLTV(address,uint16,uint16,uint32)")
    '4bca3d5b'
    """
    return keccak(signature.encode())[:4].hex()


@lru_cache(maxsize=256)
def types(signature: str) -> tuple[str, ...]:
    """Return the argument types of a function signature.

    Examples
    --------
    >>> types("f((address,uint256)[],bool)")
    ('(address,uint256)[]', 'bool')
    """
    inner, out, depth = signature[signature.index("(") + 1 : -1], [""], 0
    for character in inner:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            out.append("")
        else:
            out[-1] += character
    return tuple(out) if inner else ()


def abi(kinds: Sequence[str], values: Sequence[Any]) -> bytes:
    """Encode ``values`` as the ABI types ``kinds``.

    Raises
    ------
    PublishError
        If a value does not fit its type.
    """
    from eth_abi.abi import encode  # noqa: PLC0415
    from eth_abi.exceptions import EncodingError  # noqa: PLC0415

    try:
        return encode(kinds, values)
    except EncodingError as error:
        raise PublishError(f"calldata: {error}") from error


def unabi(kinds: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Decode ``data``; the bytes must be the one canonical encoding of the values.

    Raises
    ------
    PublishError
        If they are not.
    """
    from eth_abi.abi import decode  # noqa: PLC0415
    from eth_abi.exceptions import DecodingError  # noqa: PLC0415

    try:
        values = decode(kinds, data)
    except (DecodingError, UnicodeDecodeError, OverflowError) as error:
        raise PublishError(f"calldata: {error}") from error
    if abi(kinds, values) != data:
        raise PublishError("calldata: not the canonical encoding of its values")
    return values


def call(signature: str, *values: Any) -> str:
    """Return the calldata of a call as ``0x`` and hexadecimal digits.

    Examples
    --------
    >>> call("setDebt(uint256)", 7)[:12]
    '0x7dbf67a700'
    """
    return "0x" + selector(signature) + abi(types(signature), values).hex()


def uncall(signature: str, data: str) -> tuple[Any, ...]:
    """Return the arguments of calldata made by `call` with the same signature.

    Raises
    ------
    PublishError
        If the selector or the encoding differs.
    """
    if not data.startswith("0x" + selector(signature)):
        raise PublishError(f"calldata: {data[:10]} is not {signature}")
    try:
        raw = bytes.fromhex(data[10:])
    except ValueError as error:
        raise PublishError(f"calldata: {error}") from error
    return unabi(types(signature), raw)


def checksummed(address: str) -> str:
    """Spell an address as EIP-55 does.

    Examples
    --------
    >>> checksummed("0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")
    '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed'
    """
    digits = address[2:].lower()
    mask = keccak(digits.encode()).hex()
    return "0x" + "".join(c.upper() if int(m, 16) >= 8 else c for c, m in zip(digits, mask, strict=False))


@lru_cache(maxsize=4096)
def mixed_case(address: str) -> str:
    """Return ``address`` in EIP-55 spelling; refuse one that is spelled in mixed case but wrongly (a typo).

    Raises
    ------
    PublishError
        If the checksum in its letters is wrong.
    """
    right = checksummed(address)
    digits = address[2:]
    if address != right and digits not in {digits.lower(), digits.upper()}:
        raise PublishError(f"address {address} has a wrong checksum, {right} would be right")
    return right
