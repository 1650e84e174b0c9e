"""Payloads as JSON text: deterministic, readable, and read back strictly."""

import json
from typing import Any, TypeVar

from calibrator.errors import PublishError
from calibrator.publish.canonical import MAX_BYTES, MAX_DIGITS, wire_integer

T = TypeVar("T")


def write(value: object) -> bytes:
    r"""Serialise in the given key order, two spaces deep, with a final newline.

    Examples
    --------
    >>> write({"b": 1, "a": "x"})
    b'{\n  "b": 1,\n  "a": "x"\n}\n'
    """
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key appears twice")
    return out


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def read(payload: bytes, *, what: str) -> dict[str, Any]:
    """Read a JSON object; duplicate keys, NaN and oversize are refused.

    Raises
    ------
    PublishError
        If it is not such an object.

    Examples
    --------
    >>> read(b'{"a": 1, "a": 2}', what="payload")
    Traceback (most recent call last):
    ...
    calibrator.errors.PublishError: payload: not valid JSON: a key appears twice
    """
    if len(payload) > MAX_BYTES:
        raise PublishError(f"{what}: must not exceed {MAX_BYTES} bytes, has {len(payload)}")
    try:
        value = json.loads(payload, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise PublishError(f"{what}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise PublishError(f"{what}: must be a JSON object, was {type(value).__name__}")
    return value


def integer(value: object, *, what: str) -> int | str:
    """Read a decimal string as it stands in a payload, in the spelling that `canonical.Amount` takes.

    Raises
    ------
    PublishError
        If it is not the plain decimal spelling of an integer that is not negative.

    Examples
    --------
    >>> integer("250", what="cap"), integer("1000000000000000000", what="cap")
    (250, '1000000000000000000')
    """
    if not (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS):
        raise PublishError(f"{what}: must be a decimal string, was {value!r:.80}")
    if str(int(value)) != value:
        raise PublishError(f"{what}: must have no leading zeros, was {value!r:.80}")
    return wire_integer(int(value))


def same(value: T, payload: bytes, again: bytes, *, what: str) -> T:
    """Return ``value`` if encoding it again gives the bytes it was read from.

    Raises
    ------
    PublishError
        If they differ: another order, spelling or an extra field.
    """
    if again != payload:
        raise PublishError(f"{what}: not in the form in which it was published")
    return value
