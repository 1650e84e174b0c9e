"""Fields of JSON answers as columns: each value is what its field promises, or its row is refused."""

import math
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.data.payloads import epochs
from calibrator.data.tables import shorten
from calibrator.errors import DataError
from calibrator.frames import TIME

_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")
_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_TEXT: Final = re.compile(r"[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]{0,94}[^\s\x00-\x1f\x7f])?")


class Records:
    """Rows of one answer: objects with fields, or arrays with positions.

    Parameters
    ----------
    rows : object
        Must be a list of objects, or of arrays.
    place : str
        Every message begins with it.

    Raises
    ------
    DataError
        Not a list of objects or arrays.

    Examples
    --------
    >>> Records([{"rate": "0.0001"}, {"rate": "x"}], "url").numbers("rate")
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: url, row 1: 'rate' must be a plain decimal number, was 'x'
    """

    def __init__(self, rows: object, place: str) -> None:
        if not isinstance(rows, list):
            raise DataError(f"{place}: must be a list of rows, was {shorten(rows)}")
        for number, row in enumerate(rows):
            if not isinstance(row, dict | list):
                raise DataError(f"{place}, row {number}: must be an object or an array, was {shorten(row)}")
        self.rows: list[Any] = rows
        self.place = place

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self, field: str | int, *, optional: bool = False) -> list[Any]:
        """Return one field of every row as it stands; absent is None where that is allowed."""
        out = []
        for number, row in enumerate(self.rows):
            if isinstance(row, dict) == isinstance(field, int):
                raise DataError(f"{self.place}, row {number}: field {field!r} asked of {shorten(row)}")
            there = field in row if isinstance(row, dict) else 0 <= int(field) < len(row)
            value = row[field] if there else None
            if value is None and not optional:
                raise DataError(f"{self.place}, row {number}: {field!r} is missing")
            out.append(value)
        return out

    def numbers(self, field: str | int, *, optional: bool = False) -> npt.NDArray[np.float64]:
        """Return a field as finite floats; numbers may be spelled as texts, missing ones are NaN."""
        cells = self.cells(field, optional=optional)
        return np.array([self._number(c, field, i, optional) for i, c in enumerate(cells)], dtype=np.float64)

    def _number(self, cell: object, field: str | int, row: int, optional: bool) -> float:  # noqa: FBT001 - private
        if cell is None or (optional and isinstance(cell, str) and cell in {"", "null"}):
            return math.nan
        if isinstance(cell, bool) or not isinstance(cell, int | float | str):
            raise DataError(f"{self.place}, row {row}: {field!r} must be a number, was {shorten(cell)}")
        if isinstance(cell, str) and not _NUMBER.fullmatch(cell):
            raise DataError(
                f"{self.place}, row {row}: {field!r} must be a plain decimal number, was {shorten(cell)}"
            )
        try:
            value = float(cell)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise DataError(f"{self.place}, row {row}: {field!r} must be finite, was {shorten(cell)}")
        return value

    def whole(self, field: str | int) -> npt.NDArray[np.int64]:
        """Return a field as whole numbers of at most 18 digits, not negative."""
        cells = self.cells(field)
        for row, cell in enumerate(cells):
            text = cell if isinstance(cell, str) else repr(cell)
            if isinstance(cell, bool) or not _WHOLE.fullmatch(text):
                raise DataError(
                    f"{self.place}, row {row}: {field!r} must be a whole number, was {shorten(cell)}"
                )
        return np.array([int(c) for c in cells], dtype=np.int64)

    def times(self, field: str | int, *, unit: str | None = None) -> pd.DatetimeIndex:
        """Return a field of whole numbers since 1970 as UTC times."""
        return epochs(self.whole(field), f"{self.place}: {field!r}", unit=unit)

    def texts(self, field: str | int, *, among: Sequence[str] | None = None) -> list[str]:
        """Return a field as texts of 1 to 96 printable characters, or as members of a list."""
        cells = self.cells(field)
        for row, cell in enumerate(cells):
            if among is not None and cell not in among:
                raise DataError(
                    f"{self.place}, row {row}: {field!r} must be {' or '.join(among)}, was {shorten(cell)}"
                )
            if not isinstance(cell, str) or not _TEXT.fullmatch(cell):
                raise DataError(
                    f"{self.place}, row {row}: {field!r} must be a text of 1 to 96 printable characters, "
                    f"was {shorten(cell)}"
                )
        return cells

    def flags(self, field: str | int) -> list[bool]:
        """Return a field of true and false."""
        cells = self.cells(field)
        for row, cell in enumerate(cells):
            if not isinstance(cell, bool):
                raise DataError(
                    f"{self.place}, row {row}: {field!r} must be true or false, was {shorten(cell)}"
                )
        return cells

    def check_market(self, field: str | int, market: str) -> None:
        """Refuse a row of another market than the one that was asked for."""
        for row, name in enumerate(self.texts(field)):
            if name != market:
                raise DataError(f"{self.place}, row {row}: {field!r} must be {market!r}, was {shorten(name)}")


def member(value: object, key: str, place: str) -> Any:
    """Return one key of an object.

    Raises
    ------
    DataError
        Not an object, or without the key.

    Examples
    --------
    >>> member({"data": [1]}, "data", "url")
    [1]
    """
    if not isinstance(value, dict) or key not in value:
        raise DataError(f"{place}: must be an object with {key!r}, was {shorten(value)}")
    return value[key]


def constant(time: pd.Timestamp, count: int) -> pd.DatetimeIndex:
    """Return one time for every row.

    Examples
    --------
    >>> len(constant(pd.Timestamp("2024-01-01", tz="UTC"), 3))
    3
    """
    return pd.DatetimeIndex([time.as_unit("us")] * count).astype(TIME)
