"""What a parser receives and returns, and strict readers of the bytes: archives, CSV, JSON, epochs.

Parsers are pure: bytes and a place in, a canonical frame and findings out. Every refusal is a
:class:`~calibrator.errors.DataError` that names the place, the row or field, and the rule.
"""

import gzip
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from calibrator.data.rows import Finding
from calibrator.data.tables import shorten
from calibrator.errors import DataError
from calibrator.frames import TIME

MAX_BYTES: Final = 512_000_000
"""Largest content of an archive member, uncompressed."""
MAX_RATIO: Final = 200
"""Largest ratio of uncompressed to compressed size: beyond it an archive is a bomb."""
HOUR: Final = pd.Timedelta("1h")
_SMALL: Final = 1_000_000
_EARLIEST: Final = 1_230_768_000
"""2009-01-01 in seconds: before it no venue existed."""
_LATEST: Final = 4_102_444_800
"""2100-01-01."""
_UNITS: Final = {"s": 1, "ms": 1_000, "us": 1_000_000}

Parsed = tuple[pd.DataFrame, list[Finding]]


@dataclass(frozen=True, slots=True)
class Payload:
    """One answer of a venue, or one file of it.

    Attributes
    ----------
    content : bytes
        As received, decompressed by nobody.
    place : str
        File name or URL; every message begins with it.
    market : str
        The market that was asked for; feeds whose rows name their market check it.
    step : pandas.Timedelta
        Length of a bar, where the feed has bars.
    received : pandas.Timestamp, optional
        When the answer came; needed by feeds that say what is true now.
    """

    content: bytes
    place: str
    market: str = ""
    step: pd.Timedelta = HOUR
    received: pd.Timestamp | None = None

    def now(self) -> pd.Timestamp:
        """Return when the answer came; refuse an answer about now that nobody timed."""
        if self.received is None:
            raise DataError(f"{self.place}: says what is true now, and nobody noted when that was")
        return self.received


Parser = Callable[[Payload], Parsed]


def unzipped(payload: Payload) -> Payload:
    """Return the only member of a zip archive.

    Parameters
    ----------
    payload : Payload
        ``place`` ends in the archive's name; the member must be called the same with ``.csv``.

    Raises
    ------
    DataError
        Not a zip, not exactly that one member, encrypted, too large, a bomb, or a wrong CRC.

    Examples
    --------
    >>> unzipped(Payload(b"PK", "a.zip"))
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: a.zip: cannot be read as zip: File is not a zip file
    """
    place, wanted = payload.place, payload.place.rsplit("/", 1)[-1].removesuffix(".zip") + ".csv"
    try:
        with zipfile.ZipFile(io.BytesIO(payload.content)) as archive:
            names = archive.namelist()
            if names != [wanted]:
                raise DataError(f"{place}: must hold only {wanted!r}, holds {shorten(names)}")
            info = archive.getinfo(wanted)
            _check_size(place, info.file_size, len(payload.content))
            with archive.open(info) as member:
                content = member.read(info.file_size + 1)  # never more than the header promised
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError,
            ValueError, OverflowError) as error:  # fmt: skip
        raise DataError(f"{place}: cannot be read as zip: {shorten_text(error)}") from error
    return replace(payload, content=content, place=f"{place}/{wanted}")


def gunzipped(payload: Payload) -> Payload:
    """Return what a gzip file holds, all of it or nothing.

    Raises
    ------
    DataError
        Not a gzip, truncated, a wrong checksum, too large or a bomb.

    Examples
    --------
    >>> gunzipped(Payload(gzip.compress(b"a,b")[:-4], "x.csv.gz"))
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: x.csv.gz: cannot be read as gzip: Compressed file ended before ...
    """
    place = payload.place
    cap = min(MAX_BYTES, max(_SMALL, MAX_RATIO * len(payload.content)))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(payload.content)) as file:
            content = file.read(cap + 1)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{place}: cannot be read as gzip: {shorten_text(error)}") from error
    _check_size(place, len(content), len(payload.content))
    return replace(payload, content=content, place=place.removesuffix(".gz"))


def _check_size(place: str, size: int, compressed: int) -> None:
    if size > MAX_BYTES:
        raise DataError(f"{place}: must not exceed {MAX_BYTES} bytes uncompressed, promises {size}")
    if size > _SMALL and size > MAX_RATIO * compressed:
        raise DataError(f"{place}: grows {size // max(compressed, 1)} times, at most {MAX_RATIO} is allowed")


def shorten_text(error: object) -> str:
    """Spell an error of a library on one line of at most 200 characters.

    Examples
    --------
    >>> shorten_text(ValueError("a" * 300 + chr(10)))[-3:]
    'aaa'
    """
    return " ".join(str(error).split())[:200]


def csv_table(
    payload: Payload, names: Sequence[str], kinds: Mapping[str, str], *, header: bool | None
) -> pa.Table:
    r"""Read some columns of a CSV text whose layout is known.

    Parameters
    ----------
    payload : Payload
        The text.
    names : sequence of str
        Every column of the layout, in order.
    kinds : mapping of str to {"integer", "number", "text"}
        The columns that are wanted.
    header : bool or None
        Whether the first line must be ``names``; None: some files have it, and a first cell that is no number
        tells.

    Returns
    -------
    pyarrow.Table
        Missing numbers are null; texts are empty where missing.

    Raises
    ------
    DataError
        A page instead of data, another header, a row of another length, a cell of another kind, no row.

    Examples
    --------
    >>> csv_table(Payload(b"1,2\n3,4\n", "x"), ["a", "b"], {"b": "integer"}, header=None).to_pydict()
    {'b': [2, 4]}
    """
    refuse_page(payload)
    line, _, _ = payload.content.partition(b"\n")
    first = [cell.strip().strip('"') for cell in line.decode("utf-8", "replace").split(",")]
    titled = header if header is not None else not _numeric(first[0])
    if titled and first != list(names):
        raise DataError(
            f"{payload.place}: the columns must be {', '.join(names)}, are {shorten(', '.join(first))}"
        )
    types = {"integer": pa.int64(), "number": pa.float64(), "text": pa.string()}
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(payload.content),
            read_options=pyarrow.csv.ReadOptions(
                column_names=list(names), skip_rows=int(titled), block_size=8_000_000
            ),
            parse_options=pyarrow.csv.ParseOptions(ignore_empty_lines=False),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: types[kind] for name, kind in kinds.items()},
                include_columns=list(kinds),
                null_values=[""],
                quoted_strings_can_be_null=True,
                strings_can_be_null=False,
            ),
        )
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{payload.place}: cannot be read as CSV: {shorten_text(error)}") from error
    if not table.num_rows:
        raise DataError(f"{payload.place}: holds no row")
    return table


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def refuse_page(payload: Payload) -> None:
    """Refuse an empty answer and a web page that a server sent instead of data.

    Examples
    --------
    >>> refuse_page(Payload(b"<!DOCTYPE html><html>", "https://venue/x"))
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: https://venue/x: is a web page instead of data: '<!DOCTYPE html><html>'
    """
    start = payload.content[:200].lstrip()
    if not start:
        raise DataError(f"{payload.place}: is empty")
    if start.startswith((b"<", b"\xef\xbb\xbf<")):
        text = shorten(start.decode("utf-8", "replace"))
        raise DataError(f"{payload.place}: is a web page instead of data: {text}")


def json_of(payload: Payload) -> Any:
    """Read strict JSON: no NaN, no infinity, no key twice, no depth that overflows.

    Raises
    ------
    DataError
        A page instead of data, or anything that is not JSON.

    Examples
    --------
    >>> json_of(Payload(b'{"a": NaN}', "x"))
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: x: cannot be read as JSON: NaN is no number
    """
    refuse_page(payload)
    try:
        return json.loads(
            payload.content.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_once
        )
    except (ValueError, RecursionError) as error:
        raise DataError(f"{payload.place}: cannot be read as JSON: {shorten_text(error)}") from error


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key appears twice")
    return made


def epochs(values: np.ndarray[Any, Any], place: str, *, unit: str | None = None) -> pd.DatetimeIndex:
    """Read whole numbers since 1970 as UTC times; their size tells the unit, and one file has one unit.

    Parameters
    ----------
    values : numpy.ndarray
        Integers: seconds, milliseconds or microseconds.
    place : str
        Repeated in the error.
    unit : {"s", "ms", "us"}, optional
        The only unit that is allowed.

    Raises
    ------
    DataError
        Outside 2009 to 2100 in every unit, or in two units.

    Examples
    --------
    >>> epochs(np.array([1735689600000000]), "x")[0].isoformat()
    '2025-01-01T00:00:00+00:00'
    """
    clock = np.asarray(values, dtype=np.int64)
    allowed = _UNITS if unit is None else {unit: _UNITS[unit]}
    fits = [u for u, k in allowed.items() if len(clock) and _EARLIEST * k <= clock[0] < _LATEST * k]
    if not fits:
        shown = shorten(int(clock[0])) if len(clock) else "no value"
        raise DataError(f"{place}, row 0: must be a time in {' or '.join(allowed)} since 1970, was {shown}")
    scale = _UNITS[fits[0]]
    bad = (clock < _EARLIEST * scale) | (clock >= _LATEST * scale)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{place}, row {row}: must be a time in {fits[0]} as in row 0, was {clock[row]}")
    micros = clock * (1_000_000 // scale)
    return pd.DatetimeIndex(micros.astype("datetime64[us]")).tz_localize("UTC").astype(TIME)
