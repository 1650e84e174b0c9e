"""Shapes that several venues share: repeated rows, multiplicities, columns that must be complete, words."""

from typing import Any, Final

import numpy as np
import pandas as pd
import pandera.pandas as pa_schema
import pyarrow as pa
import pyarrow.compute as pc

from calibrator.data.payloads import Parsed, Payload
from calibrator.data.rows import Finding, clock_of
from calibrator.data.tables import shorten
from calibrator.errors import DataError
from calibrator.frames import TIME, conform

THROTTLED: Final = "throttled feed"


def throttled(frame: pd.DataFrame) -> Finding:
    """Say that a liquidation feed shows at most one order a second: what it adds up to is a lower bound.

    Examples
    --------
    >>> t = pd.to_datetime(["2024-01-01"], utc=True)
    >>> throttled(pd.DataFrame({"market": "A", "time": t})).action
    'lower bound'
    """
    return finding(frame, THROTTLED, len(frame), "lower bound")


def with_multiplicity(raw: pd.DataFrame) -> pd.DataFrame:
    """Keep equal rows once, count them, and name each event by what it is.

    Parameters
    ----------
    raw : pandas.DataFrame
        ``market, time, known_at, liquidated_side, quantity, price`` and, where there is one, ``event_id``.

    Examples
    --------
    >>> t = pd.to_datetime(["2024-01-01"] * 2, utc=True).astype(TIME)
    >>> raw = pd.DataFrame({"market": "A", "time": t, "known_at": t, "liquidated_side": "long",
    ...                     "quantity": 1.0, "price": 2.0})
    >>> with_multiplicity(raw)[["event_id", "multiplicity"]].to_numpy().tolist()
    [['1704067200000000-long-1.0-2.0', 2]]
    """
    keys = ["market", "time", "liquidated_side", "quantity", "price"]
    named = ["event_id"] if "event_id" in raw else []
    keys += named
    counted = raw.groupby(keys, sort=True, as_index=False).agg(
        known_at=("known_at", "min"), multiplicity=("known_at", "size")
    )
    counted["multiplicity"] = counted["multiplicity"].astype("int64")
    if named:
        return counted
    micros = counted["time"].dt.tz_convert(None).astype("datetime64[us]").astype("int64").astype("str")
    parts = (counted[n].astype("str") for n in ("liquidated_side", "quantity", "price"))
    counted["event_id"] = micros.str.cat(list(parts), sep="-")
    return counted


def without_repeats(frame: pd.DataFrame) -> Parsed:
    """Drop rows that equal an earlier row in every column, and count them.

    Examples
    --------
    >>> t = pd.to_datetime(["2024-01-01"] * 2, utc=True).astype(TIME)
    >>> kept, found = without_repeats(pd.DataFrame({"market": "A", "time": t, "rate": 0.1}))
    >>> len(kept), found[0].rule, found[0].count
    (1, 'repeated row', 1)
    """
    if (np.diff(clock_of(frame["time"])) > 0).all():
        return frame, []
    repeated = frame.duplicated()
    if not repeated.any():
        return frame, []
    return frame[~repeated], [finding(frame[repeated], "repeated row", int(repeated.sum()), "dropped")]


def clock_texts(values: pa.ChunkedArray, place: str) -> pd.DatetimeIndex:
    """Read times spelled ``YYYY-MM-DD HH:MM:SS``, which are UTC.

    Raises
    ------
    DataError
        With the row of the first other spelling, or of a time outside 2009 to 2100.

    Examples
    --------
    >>> clock_texts(pa.chunked_array([["2024-01-01 00:00:00"]]), "x")[0].isoformat()
    '2024-01-01T00:00:00+00:00'
    """
    plain = pc.match_substring_regex(values, r"^20[0-9]{2}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$")
    texts = values.to_pandas()
    times = pd.to_datetime(texts, format="%Y-%m-%d %H:%M:%S", utc=True, errors="coerce")
    bad = ~plain.to_pandas().fillna(value=False).astype(bool) | times.isna() | (times.dt.year < 2009)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{place}, row {row}: must be a time YYYY-MM-DD HH:MM:SS since 2009, was {shorten(texts[row])}"
        )
    return pd.DatetimeIndex(times).astype(TIME)


def whole(table: pa.Table, name: str, place: str) -> Any:
    """Return a column of whole numbers that must be complete.

    Raises
    ------
    DataError
        With the row of the first missing one.

    Examples
    --------
    >>> whole(pa.table({"a": [1, 2]}), "a", "x").tolist()
    [1, 2]
    """
    column = table[name]
    if column.null_count:
        row = int(pc.index(column.is_null(), value=True).as_py())
        raise DataError(f"{place}, row {row}: {name!r} is missing")
    return np.asarray(column.to_numpy())


def floats(table: pa.Table, name: str) -> Any:
    """Return a column of numbers; missing ones are NaN.

    Examples
    --------
    >>> floats(pa.table({"a": [1.0, None]}), "a").tolist()
    [1.0, nan]
    """
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def refuse_missing(frame: pd.DataFrame, names: tuple[str, ...], place: str) -> None:
    """Refuse rows without one of the named values.

    Examples
    --------
    >>> refuse_missing(pd.DataFrame({"a": [1.0, np.nan]}), ("a",), "x")
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: x, row 1: 'a' is missing
    """
    for name in names:
        if frame[name].isna().any():
            raise DataError(f"{place}, row {int(frame[name].isna().argmax())}: {name!r} is missing")


def mapped(values: pa.ChunkedArray, among: dict[str, str], label: str) -> pd.Series:
    """Translate a venue's words; any other word is refused.

    Examples
    --------
    >>> mapped(pa.chunked_array([["SELL"]]), {"SELL": "long"}, "x").to_list()
    ['long']
    """
    texts = values.to_pandas()
    out = texts.map(among)
    if out.isna().any():
        row = int(out.isna().argmax())
        raise DataError(f"{label}, row {row}: must be {' or '.join(among)}, was {shorten(texts[row])}")
    return out.astype("str")


def refuse_other_market(values: pa.ChunkedArray, payload: Payload) -> None:
    """Refuse rows of another market than the one that was asked for.

    Examples
    --------
    >>> refuse_other_market(pa.chunked_array([["B"]]), Payload(b"", "x", market="A"))
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: x, row 0: must be 'A', was 'B'
    """
    texts = values.to_pandas()
    other = texts != payload.market
    if other.any():
        row = int(other.argmax())
        raise DataError(f"{payload.place}, row {row}: must be {payload.market!r}, was {shorten(texts[row])}")


def finding(frame: pd.DataFrame, rule: str, count: int, action: str) -> Finding:
    """Return one finding over all rows of one market.

    Examples
    --------
    >>> t = pd.to_datetime(["2024-01-01"], utc=True)
    >>> finding(pd.DataFrame({"market": "A", "time": t}), "repeated row", 3, "dropped").count
    3
    """
    first, last = frame["time"].min(), frame["time"].max()
    return Finding(str(frame["market"].iloc[0]), rule, count, first, last, action)


def finished(frame: pd.DataFrame, now: pd.Timestamp) -> Parsed:
    """Leave out rows whose period is not over yet.

    Examples
    --------
    >>> t = pd.to_datetime(["2024-01-01", "2024-01-02"], utc=True)
    >>> kept, found = finished(pd.DataFrame({"market": "A", "time": t}), t[0])
    >>> len(kept), found[0].rule
    (1, 'unfinished')
    """
    late = frame["time"] > now
    if not late.any():
        return frame, []
    kept = frame[~late].reset_index(drop=True)
    return kept, [finding(frame[late], "unfinished", int(late.sum()), "left out")]


def sorted_rows(frame: pd.DataFrame, schema: pa_schema.DataFrameSchema, place: str) -> Parsed:
    """Drop repeated rows, sort by the key, and conform: for answers whose order means nothing.

    Examples
    --------
    >>> from calibrator.feeds import OPEN_INTEREST, empty
    >>> sorted_rows(empty(OPEN_INTEREST), OPEN_INTEREST, "x")[1]
    []
    """
    frame, found = without_repeats(frame)
    order = list(dict.fromkeys([n for n in ("market", "time") if n in frame] + list(schema.unique)))
    frame = frame.sort_values(order, kind="stable", ignore_index=True)
    return conform(frame, schema, source=place), found
