"""Inputs beside bars from local files: implied volatility, funding, open interest, liquidations.

A file has a column ``symbol`` or ``market`` (or its entry names the market), ``time`` with an offset, the
values of its kind, and optionally ``known_at``; the entry's ``columns`` maps other names. Nothing is filled
in: rows without their value are refused or, on request, dropped and counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pandera.pandas as pa

from calibrator.config import DataConfig
from calibrator.config_data import FeedFile
from calibrator.data.lots import told_apart
from calibrator.data.rows import Finding, without_missing
from calibrator.data.tables import Kind, column_names, read_table, shorten
from calibrator.errors import DataError
from calibrator.feeds import FUNDING, LIQUIDATIONS, OPEN_INTEREST, known
from calibrator.frames import IMPLIED_VOLATILITY, conform

PERCENT_FUNDING: Final = 0.003
"""Median size of a funding rate above which a file of fractions must be in percent."""
PERCENT_VOLATILITY: Final = 3.0
_EVERY_MARKET: Final = "*"


@dataclass(frozen=True, slots=True)
class FeedKind:
    """What one kind of file holds and how its rows become the frame.

    Attributes
    ----------
    schema : pandera.DataFrameSchema
        Of the result.
    numbers : tuple of str
        Value columns that the file may have.
    needed : tuple of str
        Those of which at least one must be there.
    finish : callable
        ``(frame, place) -> frame`` with the columns of ``schema``.
    texts : tuple of str
        Text columns that the file may have.
    """

    schema: pa.DataFrameSchema
    numbers: tuple[str, ...]
    needed: tuple[str, ...]
    finish: Callable[[pd.DataFrame, str], pd.DataFrame]
    texts: tuple[str, ...] = ()


def read_feed(
    kind: str, data: DataConfig, *, as_of: pd.Timestamp | None
) -> tuple[pd.DataFrame, list[Finding]]:
    """Read all files of one kind.

    Parameters
    ----------
    kind : str
        A key of :data:`KINDS`.
    data : DataConfig
        ``data.<kind>`` lists the files; rows of other markets than ``data.markets`` are left out.
    as_of : pandas.Timestamp, optional
        Rows that were knowable later are left out.

    Returns
    -------
    (pandas.DataFrame, list of Finding)
        Rows of the kind's frame, sorted by its key.

    Raises
    ------
    DataError
        With file, column, row and value; a file in another unit than its entry says; a key that two rows
        share; no row left.

    Examples
    --------
    >>> read_feed("funding", DataConfig(bars=("b.csv",), funding=("none.csv",)), as_of=None)
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: none.csv: file does not exist
    """
    files: tuple[FeedFile, ...] = getattr(data, kind)
    frames, found = list[pd.DataFrame](), list[Finding]()
    for file in files:
        frame, rows = _file(kind, file, data)
        frames.append(frame)
        found += rows
    source = ", ".join(str(f.path) for f in files)
    frame = pd.concat(frames, ignore_index=True)
    frame = frame if as_of is None else known(frame, as_of)
    if frame.empty:
        raise DataError(f"{source}: no row is left after the cuts of markets, where and as-of")
    schema = KINDS[kind].schema
    order = [name for name in ("market", "time", *schema.unique) if name in frame]
    frame = frame.sort_values(list(dict.fromkeys(order)), kind="stable", ignore_index=True)
    return conform(frame, schema, source=source), found


def _file(kind: str, file: FeedFile, data: DataConfig) -> tuple[pd.DataFrame, list[Finding]]:
    frame, unused = _raw(kind, file)
    for column, text in file.where.items():
        frame = frame[frame[column] == text]
    if isinstance(data.markets, tuple):
        frame = frame[frame["market"].isin(list(data.markets))]
    every = frame["market"] == _EVERY_MARKET
    if every.any():
        raise DataError(
            f"{file.path}: row {every.idxmax()}: market {_EVERY_MARKET!r} is reserved for the whole market"
        )
    place = str(file.path)
    spec = KINDS[kind]
    needed = [name for name in spec.needed if name in frame]
    empty = frame[needed].isna().all(axis=1)
    what = kind.replace("_", " ")
    drop = (file.on_missing or data.on_missing) == "drop"
    _, found = without_missing(frame[empty], needed[:1], drop=drop, source=place, what=what)
    frame = frame[~empty]
    if kind == "liquidations":
        frame, lots = told_apart(frame)
        found = [*found, *lots]
    if "known_at" not in frame:
        frame = frame.assign(known_at=frame["time"])
    frame = frame.assign(known_at=frame["known_at"] + file.lag)
    scale = 0.01 if file.unit == "percent" else 1.0
    frame = frame.assign(**{n: frame[n] * scale for n in ("rate", "implied_volatility") if n in frame})
    done = spec.finish(frame, place)
    return conform(done, spec.schema, source=place), [*found, *unused]


def _raw(kind: str, file: FeedFile) -> tuple[pd.DataFrame, list[Finding]]:
    """Read the columns that the kind knows, under their canonical names, and those of ``where``."""
    spec = KINDS[kind]
    names = column_names(file.path)
    allowed = ("market", "time", "known_at", *spec.numbers, *spec.texts)
    for canonical in file.columns:
        if canonical not in allowed:
            raise DataError(
                f"{file.path}: columns: {canonical!r} is no column of {kind}; there are {', '.join(allowed)}"
            )
    found = {n: file.columns.get(n, n) for n in allowed if n in file.columns or n in names}
    if "market" not in found and "symbol" in names:
        found["market"] = "symbol"
    if file.market is not None:
        found.pop("market", None)
    wanted = [*found.values(), *file.where]
    _present(file, names, wanted, found, spec.needed)
    kinds: dict[str, Kind] = dict.fromkeys(file.where, "text")
    kinds |= {column: _kind_of(n, spec) for n, column in found.items()}
    table = read_table(file.path, kinds)
    frame = pd.DataFrame(
        {**{c: table[c] for c in file.where}, **{n: table[column] for n, column in found.items()}}
    )
    if file.market is not None:
        frame["market"] = file.market
    unused = [
        Finding(_EVERY_MARKET, f"ignored column: {shorten(name)[:40]}", 1, None, None, "ignored")
        for name in names
        if name not in wanted
    ]
    return frame, unused


def _present(
    file: FeedFile, names: list[str], wanted: list[str], found: Mapping[str, str], needed: tuple[str, ...]
) -> None:
    lost = [name for name in wanted if name not in names]
    if lost:
        raise DataError(
            f"{file.path}: column {lost[0]!r} is missing; the file has {', '.join(map(shorten, names[:10]))}"
        )
    if file.market is None and "market" not in found:
        raise DataError(f"{file.path}: needs a column 'symbol' or 'market', or `market` in its entry")
    if "time" not in found:
        raise DataError(f"{file.path}: column 'time' is missing; map it with `columns`")
    if not any(name in found for name in needed):
        raise DataError(f"{file.path}: needs {' or '.join(needed)}; map another name with `columns`")


def _kind_of(name: str, spec: FeedKind) -> Kind:
    if name in {"time", "known_at"}:
        return "time"
    return "number" if name in spec.numbers else "text"


def _size_check(frame: pd.DataFrame, column: str, limit: float, place: str) -> None:
    middle = float(frame[column].abs().median()) if len(frame) else 0.0
    if middle > limit:
        raise DataError(
            f"{place}: column {column!r} must be fractions a year or an interval, its median is {middle:g}; "
            "`unit: percent` in its entry divides by 100"
        )


def _volatility(frame: pd.DataFrame, place: str) -> pd.DataFrame:
    """Label a row with the time at which it was knowable: the frame has no other."""
    _size_check(frame, "implied_volatility", PERCENT_VOLATILITY, place)
    columns = ["market", "time", "implied_volatility"]
    return frame.assign(time=frame["known_at"])[columns]


def _funding(frame: pd.DataFrame, place: str) -> pd.DataFrame:
    _size_check(frame, "rate", PERCENT_FUNDING, place)
    return _filled(frame, FUNDING)


def _interest(frame: pd.DataFrame, _: str) -> pd.DataFrame:
    return _filled(frame, OPEN_INTEREST)


def _liquidations(frame: pd.DataFrame, place: str) -> pd.DataFrame:
    """Bring events and totals per side to one form; a missing notional is ``quantity * price``."""
    totals = [n for n in frame if n.startswith(("long_", "short_"))]
    if totals:
        frame = pd.concat([_side(frame, "long"), _side(frame, "short")], ignore_index=True)
    if "liquidated_side" not in frame:
        raise DataError(f"{place}: needs a column 'liquidated_side' with long or short, or totals per side")
    for name in ("quantity", "price", "notional"):
        if name not in frame:
            frame = frame.assign(**{name: np.nan})
    frame = frame.assign(notional=frame["notional"].fillna(frame["quantity"] * frame["price"]))
    frame = frame[frame["notional"].notna()]
    if "event_id" not in frame:
        micros = frame["time"].dt.tz_convert(None).astype("datetime64[us]").astype("int64")
        same = frame.groupby(["market", "time", "liquidated_side"]).cumcount()
        frame = frame.assign(
            event_id=micros.astype("str") + "-" + frame["liquidated_side"] + "-" + same.astype("str")
        )
    return frame.assign(multiplicity=1)[list(LIQUIDATIONS.columns)]


def _side(frame: pd.DataFrame, side: str) -> pd.DataFrame:
    values = {n: frame[f"{side}_{n}"] for n in ("quantity", "notional") if f"{side}_{n}" in frame}
    kept = frame[[n for n in ("market", "time", "known_at", "price") if n in frame]]
    return kept.assign(**values, liquidated_side=side)


def _filled(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> pd.DataFrame:
    lost = [str(name) for name in schema.columns if name not in frame]
    return frame.assign(**dict.fromkeys(lost, np.nan))[list(schema.columns)]


_TOTALS: Final = ("long_quantity", "short_quantity", "long_notional", "short_notional")

KINDS: Final[Mapping[str, FeedKind]] = {
    "implied_volatility": FeedKind(
        IMPLIED_VOLATILITY, ("implied_volatility",), ("implied_volatility",), _volatility
    ),
    "funding": FeedKind(FUNDING, ("rate", "interval_hours"), ("rate",), _funding),
    "open_interest": FeedKind(
        OPEN_INTEREST,
        ("open_interest", "open_interest_notional"),
        ("open_interest", "open_interest_notional"),
        _interest,
    ),
    "liquidations": FeedKind(
        LIQUIDATIONS,
        ("quantity", "price", "notional", *_TOTALS),
        ("quantity", "notional", *_TOTALS),
        _liquidations,
        ("event_id", "liquidated_side"),
    ),
}
"""What the keys of ``data`` beside ``bars`` hold."""
