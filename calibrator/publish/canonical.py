"""Canonical JSON (RFC 8785) of integers and text only: one value, one spelling, one digest.

Floats do not exist here, and integers beyond 2**53 - 1 are decimal strings, because careless JSON libraries
read every number as a double. Times are UTC, to the second.

References
----------
RFC 8785, JSON Canonicalization Scheme. RFC 7493, I-JSON.
"""

import hashlib
import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Final, NoReturn

import rfc8785
from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from calibrator.errors import PublishError

MAX_BYTES: Final = 1_000_000
MAX_SAFE_INTEGER: Final = 2**53 - 1
MAX_DIGITS: Final = 78  # of an unsigned 256-bit integer


def digest(payload: bytes) -> str:
    """Return the SHA-256 of ``payload`` as 64 lower-case hexadecimal digits.

    Examples
    --------
    >>> digest(b"")[:16]
    'e3b0c44298fc1c14'
    """
    return hashlib.sha256(payload).hexdigest()


def wire_integer(value: int) -> int | str:
    """Spell an integer for JSON: as a number up to 2**53 - 1, as a decimal string beyond.

    Examples
    --------
    >>> wire_integer(7), wire_integer(10**18)
    (7, '1000000000000000000')
    """
    return value if abs(value) <= MAX_SAFE_INTEGER else str(value)


def read_wire_integer(value: object) -> object:
    """Read back what `wire_integer` wrote; anything else passes through to be judged by the schema.

    Raises
    ------
    ValueError
        If a string is not the canonical decimal spelling of an integer beyond 2**53 - 1.

    Examples
    --------
    >>> read_wire_integer("1000000000000000000"), read_wire_integer(7)
    (1000000000000000000, 7)
    """
    if not isinstance(value, str):
        return value
    if not (value.isascii() and value.isdigit() and len(value) <= MAX_DIGITS):
        raise ValueError(f"an integer string needs 1 to {MAX_DIGITS} decimal digits, was {value[:100]!r}")
    number = int(value)
    if wire_integer(number) != value:
        raise ValueError(f"an integer string is for numbers above 2**53 - 1, was {value!r}")
    return number


@lru_cache(maxsize=4_096)  # the times of a plan are the same for every market of a document
def _parse_time(text: str) -> datetime:
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        parsed = None
    if parsed is None or parsed.isoformat().replace("+00:00", "Z") != text or not text.endswith("Z"):
        raise ValueError(f"a time must look like 2026-01-31T00:00:00Z, was {text[:60]!r}")
    return parsed


def _read_time(value: object) -> object:
    if isinstance(value, str):
        return _parse_time(value)
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError(f"a time needs its zone, was {value}")
        if value.microsecond or getattr(value, "nanosecond", 0):
            raise ValueError(f"a time must be a whole second, was {value}")
        utc = value.astimezone(UTC)
        return datetime(utc.year, utc.month, utc.day, utc.hour, utc.minute, utc.second, tzinfo=UTC)
    return value


Time = Annotated[
    datetime,
    BeforeValidator(_read_time),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$"}),
]
Amount = Annotated[
    int,
    BeforeValidator(read_wire_integer),
    Field(ge=0, lt=10**MAX_DIGITS),
    PlainSerializer(wire_integer, return_type=int | str),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": MAX_SAFE_INTEGER},
                {"type": "string", "pattern": rf"^[1-9][0-9]{{15,{MAX_DIGITS - 1}}}$"},
            ]
        }
    ),
]


def encode_value(value: object) -> bytes:
    """Serialise ``value`` (dict, list, str, int, bool, None) as canonical JSON.

    Raises
    ------
    PublishError
        If a value has no canonical spelling: an integer beyond 2**53 - 1, text that is not Unicode.

    Examples
    --------
    >>> encode_value({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type] # its recursive alias does not know `object`
    except rfc8785.CanonicalizationError as error:
        raise PublishError(f"value has no canonical JSON form: {error}") from error


def decode_value(payload: bytes, *, name: str = "document", max_bytes: int = MAX_BYTES) -> object:
    """Parse canonical JSON and refuse everything else.

    Parameters
    ----------
    payload : bytes
        The file as it arrived.
    name : str, optional
        How error messages call it.
    max_bytes : int, optional
        Largest accepted size.

    Returns
    -------
    object
        Dicts, lists, text, integers, booleans and None.

    Raises
    ------
    PublishError
        If ``payload`` is oversize, not UTF-8, not JSON, too deep, not canonical, or holds a duplicate or
        non-ASCII key, an integer beyond 2**53 - 1, a float, NaN or Infinity.

    Examples
    --------
    >>> decode_value(b'{"a":1}')
    {'a': 1}
    >>> decode_value(b'{"a":1,"a":2}')
    Traceback (most recent call last):
    ...
    calibrator.errors.PublishError: document is not canonical JSON: duplicate key 'a'
    """
    if len(payload) > max_bytes:
        raise PublishError(f"{name} must not exceed {max_bytes} bytes, has {len(payload)}")
    try:
        value = json.loads(
            payload.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_int=_safe_integer,
            parse_float=_refuse_number,
            parse_constant=_refuse_number,
        )
        canonical = plain(value)
    except (ValueError, RecursionError) as error:  # JSON, UTF-8 and canonicalisation errors are ValueErrors
        raise PublishError(f"{name} is not canonical JSON: {error}") from error
    if canonical != payload:
        at = next(
            (i for i, (a, b) in enumerate(zip(canonical, payload, strict=False)) if a != b), len(canonical)
        )
        raise PublishError(f"{name} is not canonical JSON: its RFC 8785 form differs from byte {at} on")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"duplicate key {key!r}")
        if not key.isascii():
            raise ValueError(f"keys are ASCII, was {key[:40]!r}")
        found[key] = value
    return found


def plain(value: object) -> bytes:
    """Spell what `decode_value` returns as `encode_value` would, eight times faster.

    Of ASCII keys, safe integers, text, booleans and None the standard library's sorted output is the
    canonical form; nothing is checked here.

    Examples
    --------
    >>> plain({"b": 1, "a": "\u20ac"}) == encode_value({"b": 1, "a": "\u20ac"})
    True
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _safe_integer(text: str) -> int:
    if len(text) > 17 or abs(int(text)) > MAX_SAFE_INTEGER:
        raise ValueError(f"an integer beyond 2**53 - 1 is a string, was {text[:40]}")
    return int(text)


def _refuse_number(text: str) -> NoReturn:
    raise ValueError(f"numbers are integers, was {text[:40]}")
