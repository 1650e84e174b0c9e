"""Bars from Parquet and CSV files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from calibrator.config import BarFile, DataConfig
from calibrator.data.rows import Finding, check_order, clock_of, without_missing
from calibrator.data.tables import Kind, column_names, read_table, shorten
from calibrator.errors import DataError

PRICES: Final = ("open", "high", "low", "close")
_EVERY_MARKET: Final = "*"


def read_bars(data: DataConfig, *, as_of: pd.Timestamp | None) -> tuple[pd.DataFrame, list[Finding]]:
    """Read ``data.bars``, in order.

    A file has the columns ``symbol`` or ``market`` (taken verbatim), ``time`` (with time zone), and ``open,
    high, low, close`` or, where only one price exists, ``close`` alone; ``volume`` may be absent. Other
    columns are reported and ignored.

    Parameters
    ----------
    data : DataConfig
        Files, their cuts and labels, markets and the rule for missing prices.
    as_of : pandas.Timestamp, optional
        Bars that end later are left out before any rule looks at them.

    Returns
    -------
    (pandas.DataFrame, list of Finding)
        The columns of ``Bars``, ``time`` at the bar's end, sorted by market and time.

    Raises
    ------
    DataError
        With file, column, row and value of what cannot be used; a market that no file has.

    Examples
    --------
    >>> read_bars(DataConfig(bars=("none.csv",)), as_of=None)
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: none.csv: file does not exist
    """
    frames: list[pd.DataFrame] = []
    found: list[Finding] = []
    for file in data.bars:
        frame, rows = _bar_file(file, data, as_of)
        frames.append(frame)
        found += rows
    source = ", ".join(str(f.path) for f in data.bars)
    return joined(frames, data.markets, source=source), found


def joined(frames: Sequence[pd.DataFrame], markets: object, *, source: str) -> pd.DataFrame:
    """Put frames below each other, sorted by market and time.

    Parameters
    ----------
    frames : sequence of pandas.DataFrame
        With ``market`` and ``time``.
    markets : "all" or tuple of str
        Markets that must be there.
    source : str
        Repeated in the error.

    Raises
    ------
    DataError
        No row at all, a listed market without a row, or a market and time that occurs in two frames.

    Examples
    --------
    >>> joined([pd.DataFrame({"market": [], "time": []})], "all", source="x.csv")
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: x.csv: no row is left after the cuts of markets, from, until and as-of
    """
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    if frame.empty:
        whose = f" of {shorten(min(markets))}" if isinstance(markets, tuple) else ""
        raise DataError(f"{source}: no row{whose} is left after the cuts of markets, from, until and as-of")
    have = frame["market"].unique()
    lost = sorted(set(markets) - set(have)) if isinstance(markets, tuple) else []
    if lost:
        shown = ", ".join(sorted(have)[:5])
        raise DataError(f"{source}: no row of market {shorten(lost[0])}; there are {shown}, ...")
    codes, _ = pd.factorize(frame["market"], sort=True)
    time = clock_of(frame["time"])
    order = np.lexsort((time, codes))
    twice = (np.diff(codes[order]) == 0) & (np.diff(time[order]) == 0)
    if twice.any():
        row = frame.iloc[order[int(np.argmax(twice))]]
        raise DataError(
            f"{source}: one bar per market and time; {row['market']!r} at {row['time'].isoformat()} is in "
            f"two files ({int(twice.sum())} such bars); cut them with from and until"
        )
    sorted_already = bool((np.diff(order) == 1).all())
    return (frame if sorted_already else frame.iloc[order]).reset_index(drop=True)


def _bar_file(
    file: BarFile, data: DataConfig, as_of: pd.Timestamp | None
) -> tuple[pd.DataFrame, list[Finding]]:
    own = column_names(file.path)
    renamed = _renamed(file, own)
    names = [renamed.get(name, name) for name in own]
    market = "market" if file.market is not None else _market_column(names, file.path)
    prices = PRICES if any(p in names for p in PRICES[:3]) else ("close",)
    _require(names, ("time", *prices), file.path)
    numbers = [*prices, *(["volume"] if "volume" in names else [])]
    kinds: dict[str, Kind] = {} if file.market is not None else {market: "text"}
    kinds |= {"time": "time", **dict.fromkeys(numbers, "number")}
    back = {canonical: name for name, canonical in renamed.items()}
    frame = read_table(file.path, {back.get(name, name): kind for name, kind in kinds.items()})
    frame = frame.rename(columns={**renamed, market: "market"} if market != "market" else renamed)
    if file.market is not None:
        frame["market"] = file.market
    if (file.label or data.label) == "start":
        frame["time"] += data.step
    until = min((pd.Timestamp(t) for t in (file.until, as_of) if t is not None), default=None)
    frame = _cut(_selected(frame, data.markets, file.path), file.from_, until)
    _check_values(frame, numbers, file.path)
    check_order(frame, source=str(file.path))
    drop = data.on_missing == "drop"
    frame, found = without_missing(frame, list(prices), drop=drop, source=str(file.path))
    fill = {name: frame["close"] for name in PRICES if name not in prices}
    frame = frame.assign(**fill, **({} if "volume" in names else {"volume": np.nan}))
    return frame[["market", "time", *PRICES, "volume"]], found + _ignored(names, list(kinds))


def _renamed(file: BarFile, names: list[str]) -> dict[str, str]:
    """Return the file's names of the columns that its entry maps, with their canonical names."""
    allowed = ("market", "time", *PRICES, "volume")
    for canonical, name in file.columns.items():
        if canonical not in allowed:
            raise DataError(f"{file.path}: columns: {canonical!r} is none of {', '.join(allowed)}")
        if name not in names or (canonical in names and canonical != name):
            what = "is missing" if name not in names else f"would stand beside {canonical!r}"
            raise DataError(f"{file.path}: column {name!r} {what}; the file has {_list(names)}")
    if len(set(file.columns.values())) != len(file.columns):
        raise DataError(f"{file.path}: columns: one column of the file has one canonical name")
    return {name: canonical for canonical, name in file.columns.items()}


def _market_column(names: list[str], path: Path) -> str:
    have = [name for name in ("symbol", "market") if name in names]
    if len(have) != 1:
        raise DataError(f"{path}: needs one column 'symbol' or 'market', has {_list([*have] or names)}")
    return have[0]


def _require(names: list[str], wanted: Sequence[str], path: Path) -> None:
    lost = [name for name in wanted if name not in names]
    if lost:
        raise DataError(f"{path}: column {lost[0]!r} is missing; the file has {_list(names)}")


def _list(names: list[str]) -> str:
    return ", ".join(shorten(name) for name in names[:10]) + (", ..." if len(names) > 10 else "")


def _ignored(names: list[str], used: list[str]) -> list[Finding]:
    return [
        Finding(_EVERY_MARKET, f"ignored column: {shorten(name)[:40]}", 1, None, None, "ignored")
        for name in names
        if name not in used
    ]


def _selected(frame: pd.DataFrame, markets: object, path: Path) -> pd.DataFrame:
    every = frame["market"] == _EVERY_MARKET
    if every.any():
        raise DataError(
            f"{path}: row {every.idxmax()}: market {_EVERY_MARKET!r} is reserved for the whole market"
        )
    return frame[frame["market"].isin(list(markets))] if isinstance(markets, tuple) else frame


def _cut(frame: pd.DataFrame, start: object, until: object) -> pd.DataFrame:
    """Keep rows between two times, both inclusive; None is no bound."""
    if start is not None:
        frame = frame[frame["time"] >= start]
    return frame if until is None else frame[frame["time"] <= until]


def _check_values(frame: pd.DataFrame, names: Sequence[str], path: Path) -> None:
    """Refuse prices that are not positive and volumes below zero; missing ones have their own rule."""
    for name in names:
        volume = name == "volume"
        bad = (frame[name] < 0) if volume else (frame[name] <= 0)
        if bad.any():
            row = bad.idxmax()
            rule = "must not be negative" if volume else "must be positive"
            raise DataError(
                f"{path}: column {name!r}, row {row}: {rule}, was {frame[name][row]:g} "
                f"({frame['market'][row]!r} at {frame['time'][row].isoformat()}, {int(bad.sum())} such rows)"
            )
