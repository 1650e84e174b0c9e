"""Read one Parquet or CSV file strictly: every cell is what its column promises, or the file is refused.

Nothing is guessed: CSV cells are plain decimal numbers and ISO 8601 times with an offset, an empty cell is a
missing value, and every refusal names file, column, row (counted from 0, header apart) and value.
"""

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from calibrator.errors import DataError
from calibrator.frames import TIME

Kind = Literal["text", "time", "number"]

MAX_ROWS: Final = 20_000_000
_MAX_HEADER: Final = 100_000
_NUMBER: Final = r"^[+-]?([0-9]{1,25}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?$"
_CLOCK: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?"
_OFFSET: Final = r"(Z|[+-][0-9]{2}:?[0-9]{2})$"
_NAME: Final = r"^[^\p{C}\p{Z}](([^\p{C}\p{Z}]| ){0,62}[^\p{C}\p{Z}])?$"
_EARLIEST: Final = np.datetime64("1900-01-01")
_LATEST: Final = np.datetime64("2200-01-01")
_BROKEN: Final = (pa.ArrowException, OSError, ValueError, OverflowError, csv.Error)
"""What pyarrow and the csv module raise when a file is not what its name says."""


def shorten(value: object) -> str:
    """Spell a value on one line of at most 60 characters, for a message.

    Examples
    --------
    >>> shorten("1" * 10_000)
    "'11111111111111111111111111111111111111111111111111111111..."
    """
    text = value.isoformat() if isinstance(value, pd.Timestamp) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def column_names(path: Path) -> list[str]:
    """Return the column names of a Parquet or CSV file, in their order.

    Parameters
    ----------
    path : pathlib.Path
        A regular file whose name ends in ``.parquet`` or ``.csv``.

    Raises
    ------
    DataError
        Missing, a folder, empty, of another kind, not readable, or with a column name that appears twice.

    Examples
    --------
    >>> column_names(Path("bars.xlsx"))
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: bars.xlsx: a file of data must end in .parquet or .csv
    """
    if path.suffix not in {".parquet", ".csv"}:
        raise DataError(f"{path}: a file of data must end in .parquet or .csv")
    if not path.exists():
        raise DataError(f"{path}: file does not exist")
    if not path.is_file():
        raise DataError(f"{path}: must be a regular file, is a {'folder' if path.is_dir() else 'device'}")
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: file is empty")
        names = _parquet_names(path) if path.suffix == ".parquet" else _csv_names(path)
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"{path}: column {shorten(twice[0])} appears twice")
    return names


def read_table(path: Path, kinds: Mapping[str, Kind]) -> pd.DataFrame:
    r"""Read the named columns of a file whose names :func:`column_names` has listed.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    kinds : mapping of str to {"text", "time", "number"}
        What each column must hold; other columns are not read.

    Returns
    -------
    pandas.DataFrame
        One row per row of the file, in its order (the index is the row number). Texts are complete and not
        blank, times are UTC in microseconds and complete, numbers are float64 and NaN where missing.

    Raises
    ------
    DataError
        With file, column, row and value of the first cell that is not what its column promises.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "x.csv")
    ...     _ = path.write_text("time,close\n2024-01-01T00:00Z,1.5\n")
    ...     read_table(path, {"time": "time", "close": "number"})
                           time  close
    0 2024-01-01 00:00:00+00:00    1.5
    """
    try:
        table = _read_parquet(path, kinds) if path.suffix == ".parquet" else _read_csv(path, kinds)
        out = {name: _column(table[name], kind, f"{path}: column {name!r}") for name, kind in kinds.items()}
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    return pd.DataFrame(out, copy=False)


def _unreadable(path: Path, error: Exception) -> DataError:
    what = "Parquet" if path.suffix == ".parquet" else "CSV"
    text = " ".join(str(error).split())
    return DataError(f"{path}: cannot be read as {what}: {text[:200]}")


def _parquet_names(path: Path) -> list[str]:
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows > MAX_ROWS:
            raise DataError(f"{path}: must have at most {MAX_ROWS} rows, has {file.metadata.num_rows}")
        return [str(name) for name in file.schema_arrow.names]


def _csv_names(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        line = file.readline(_MAX_HEADER)
    return next(csv.reader([line]), [])


def _read_parquet(path: Path, kinds: Mapping[str, Kind]) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(columns=list(kinds))


def _read_csv(path: Path, kinds: Mapping[str, Kind]) -> pa.Table:
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(block_size=16_000_000),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(kinds, pa.string()), include_columns=list(kinds)
        ),
    )


def _column(values: pa.ChunkedArray, kind: Kind, label: str) -> pd.Series:
    if kind == "number":
        return _numbers(values, label)
    if values.null_count:
        raise DataError(f"{label}, row {_first(values.is_null())}: must not be missing")
    return _texts(values, label) if kind == "text" else _times(values, label)


def _numbers(values: pa.ChunkedArray, label: str) -> pd.Series:
    if _textual(values.type):
        values = pc.cast(values, pa.large_string())
        empty = pc.equal(values, "")
        bad = pc.invert(pc.or_(empty, pc.match_substring_regex(values, _NUMBER)))
        _refuse(values, bad, f"{label}, row {{}}: must be a plain decimal number")
        values = pc.if_else(empty, None, values)
    elif not _numeric(values.type):
        raise DataError(f"{label}: must be numeric, type was {values.type}")
    numbers = pc.cast(values, pa.float64(), safe=False)
    _refuse(values, pc.is_inf(numbers), f"{label}, row {{}}: must be finite")
    return numbers.to_pandas()


def _numeric(kind: pa.DataType) -> bool:
    checks = (pa.types.is_floating, pa.types.is_integer, pa.types.is_decimal, pa.types.is_null)
    return any(check(kind) for check in checks)


def _textual(kind: pa.DataType) -> bool:
    return any(
        check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _texts(values: pa.ChunkedArray, label: str) -> pd.Series:
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if not _textual(kind):
        raise DataError(f"{label}: must be text, type was {values.type}")
    texts = pc.cast(values, pa.large_string())
    texts.validate(full=True)  # a Parquet file may claim that any bytes are UTF-8
    known = pc.unique(texts)
    plain = pc.match_substring_regex(known, _NAME)
    _refuse(known, pc.invert(plain), f"{label}: must be 1 to 64 printable characters without blanks around")
    return texts.to_pandas().astype("str")


def _times(values: pa.ChunkedArray, label: str) -> pd.Series:
    if _textual(values.type):
        times = _parsed(values, label)
    elif pa.types.is_timestamp(values.type) and values.type.tz is not None:
        times = pc.cast(values, pa.timestamp("us", tz="UTC")).to_pandas()
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        raise DataError(f"{label}: a number as time has no unit; write timestamps with time zone UTC")
    else:
        raise DataError(f"{label}: must be timestamps with a time zone, type was {values.type}")
    times = times.astype(TIME)
    clock = times.dt.tz_convert(None).to_numpy(dtype="datetime64[us]")
    bad = (clock < _EARLIEST) | (clock > _LATEST)
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{label}, row {row}: must lie between 1900 and 2200, was {clock[row]}")
    return times


def _parsed(values: pa.ChunkedArray, label: str) -> pd.Series:
    bad = pc.invert(pc.match_substring_regex(values, _CLOCK + _OFFSET))
    _refuse(values, bad, f"{label}, row {{}}: {_time_rule(values, bad)}")
    times = pd.to_datetime(values.to_pandas(), utc=True, format="ISO8601", errors="coerce")
    _refuse(values, pa.array(times.isna()), f"{label}, row {{}}: must be a time that exists")
    return times


def _time_rule(values: pa.ChunkedArray, bad: pa.ChunkedArray) -> str:
    """Say what is wrong with the first bad time."""
    first = str(values[_first(bad)]) if pc.any(bad).as_py() else ""
    if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", first):
        return "a number as time has no unit; write ISO 8601 with an offset"
    if re.fullmatch(_CLOCK, first):
        return "a time needs an offset such as Z"
    return "must be an ISO 8601 time with an offset, such as 2024-01-01T00:00:00Z"


def _refuse(values: Any, bad: Any, rule: str) -> None:
    """Raise for the first bad value; a ``{}`` in the rule becomes its row."""
    if pc.any(bad).as_py():
        row = _first(bad)
        raise DataError(f"{rule.format(row)}, was {shorten(values[row].as_py())}")


def _first(mask: Any) -> int:
    return int(pc.index(mask, value=True).as_py())
