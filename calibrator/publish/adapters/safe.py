"""Safe Transaction Builder batches: the file that a Safe's owners load, check and sign.

The checksum finds transmission errors only; it is no security control (the app warns for five seconds). Who
checks a batch recomputes the calldata from the signed document, and compares the hash that the wallet shows
with `safe_transaction_hash`.

References
----------
safe-global/safe-wallet-monorepo, apps/tx-builder, version 2.0.1: the file's layout and checksum.
safe-global/safe-smart-account, contracts/Safe.sol: the EIP-712 types.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from calibrator.errors import PublishError
from calibrator.publish.adapters import evm, text
from calibrator.publish.adapters.base import Header

VERSION: Final = "1.0"
BUILDER: Final = "2.0.1"
_DOMAIN: Final = "EIP712Domain(uint256 chainId,address verifyingContract)"
_SAFE_TX: Final = (
    "SafeTx(address to,uint256 value,bytes data,uint8 operation,uint256 safeTxGas,uint256 baseGas,"
    "uint256 gasPrice,address gasToken,address refundReceiver,uint256 nonce)"
)
_ZERO: Final = "0x" + "0" * 40


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a batch: to whom, and what (``0x`` and calldata); no value is ever sent."""

    to: str
    data: str


def serialise(value: object) -> str:
    """Write JSON as the builder's checksum reads it: sorted keys first, then the values.

    Examples
    --------
    >>> serialise({"b": [1, None], "a": "x"})
    '{["a","b"]"x",[1,null],}'
    """
    if isinstance(value, list):
        return "[" + ",".join(serialise(item) for item in value) + "]"
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        inner = json.dumps(keys, ensure_ascii=False, separators=(",", ":"))
        return "{" + inner + "".join(serialise(value[key]) + "," for key in keys) + "}"
    return json.dumps(value, ensure_ascii=False)


def checksum(batch: dict[str, Any]) -> str:
    """Return the checksum of a batch file: its own field left out, the name taken as null.

    Examples
    --------
    >>> checksum({"version": "1.0", "meta": {"name": "any"}, "transactions": []})[:12]
    '0x2a6aae23d2'
    """
    meta = {key: value for key, value in batch["meta"].items() if key != "checksum"} | {"name": None}
    return "0x" + evm.keccak(serialise({**batch, "meta": meta}).encode()).hex()


def chain_id(chain: str) -> int:
    """Return the number of an EVM chain (CAIP-2, ``eip155:1``).

    Raises
    ------
    PublishError
        If it is another kind of chain.

    Examples
    --------
    >>> chain_id("eip155:42161")
    42161
    """
    space, _, number = chain.partition(":")
    if space != "eip155" or not number.isdigit():
        raise PublishError(f"chain must look like eip155:1, was {chain}")
    return int(number)


def encode_batch(name: str, header: Header, calls: tuple[Call, ...]) -> bytes:
    """Write the batch file of ``calls``, submitted by the Safe ``header.sender``.

    Raises
    ------
    PublishError
        If an address has a wrong checksum or the chain is not an EVM chain.
    """
    batch: dict[str, Any] = {
        "version": VERSION,
        "chainId": str(chain_id(header.chain)),
        "createdAt": int(header.issued_at.timestamp() * 1000),
        "meta": {
            "name": name,
            "description": header.text(),
            "txBuilderVersion": BUILDER,
            "createdFromSafeAddress": evm.mixed_case(header.sender),
            "createdFromOwnerAddress": "",
        },
        "transactions": [
            {
                "to": evm.mixed_case(one.to),
                "value": "0",
                "data": one.data,
                "contractMethod": None,
                "contractInputsValues": None,
            }
            for one in calls
        ],
    }
    batch["meta"]["checksum"] = checksum(batch)
    return text.write(batch)


def decode_batch(payload: bytes) -> tuple[str, Header, tuple[Call, ...]]:
    """Read a batch file that `encode_batch` wrote.

    Raises
    ------
    PublishError
        If its checksum is wrong, it sends value, is for another chain or Safe than its description says, or
        is spelled in any other way.
    """
    batch = text.read(payload, what="Safe batch")
    try:
        meta, rows = batch["meta"], batch["transactions"]
        name, description, given = meta["name"], meta["description"], meta["checksum"]
        calls = tuple(Call(row["to"], row["data"]) for row in rows)
        if given != (right := checksum(batch)):
            raise PublishError(f"Safe batch: checksum must be {right}, was {given}")
        header = Header.read(description)
        if encode_batch(name, header, calls) != payload:
            raise PublishError("Safe batch: not in the form in which it was published")
    except (KeyError, TypeError, AttributeError) as error:
        raise PublishError(f"Safe batch: a field is missing or of the wrong type: {error}") from error
    return name, header, calls


def safe_transaction_hash(chain: str, safe: str, one: Call, *, nonce: int, operation: int = 0) -> str:
    """Return the EIP-712 hash that every owner's wallet shows for a call without gas refund.

    Parameters
    ----------
    chain : str
        ``eip155:<n>``.
    safe : str
        The Safe's address.
    one : Call
    nonce : int
        The Safe's next nonce.
    operation : int, optional
        0 call, 1 delegatecall (of `multisend_data`, for a batch of several calls).

    Examples
    --------
    >>> call = Call("0x" + "0" * 39 + "1", "0x")
    >>> safe_transaction_hash("eip155:1", "0x" + "47" * 20, call, nonce=7)[:10]
    '0x90c733e8'
    """
    domain = evm.abi(["bytes32", "uint256", "address"], [evm.keccak(_DOMAIN.encode()), chain_id(chain), safe])
    body = evm.abi(
        ["bytes32", "address", "uint256", "bytes32", "uint8", *["uint256"] * 3, *["address"] * 2, "uint256"],
        [
            evm.keccak(_SAFE_TX.encode()),
            one.to,
            0,
            evm.keccak(bytes.fromhex(one.data[2:])),
            operation,
            *[0] * 3,
            *[_ZERO] * 2,
            nonce,
        ],
    )
    return "0x" + evm.keccak(b"\x19\x01" + evm.keccak(domain) + evm.keccak(body)).hex()


def multisend_data(calls: tuple[Call, ...]) -> str:
    """Return the calldata of ``multiSend`` that the app makes of several calls.

    Examples
    --------
    >>> multisend_data((Call("0x" + "11" * 20, "0xabcd"),))[:10]
    '0x8d80ff0a'
    """
    packed = b"".join(
        b"\x00"
        + bytes.fromhex(one.to[2:])
        + bytes(32)
        + (len(one.data) // 2 - 1).to_bytes(32, "big")
        + bytes.fromhex(one.data[2:])
        for one in calls
    )
    return evm.call("multiSend(bytes)", packed)
