"""Rules on single rows, and the findings that every rule of the gate reports."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.errors import DataError
from calibrator.frames import FINDINGS, TIME, conform

Clock = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Finding:
    """How often a rule fired in one market, where, and what was done.

    Examples
    --------
    >>> Finding("WTI", "missing price", 290, None, None, "dropped").count
    290
    """

    market: str
    rule: str
    count: int
    first: pd.Timestamp | None
    last: pd.Timestamp | None
    action: str


def findings_frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """Gather findings into ``Findings``: one row per market and rule, sorted; repeated ones are summed.

    Examples
    --------
    >>> one = Finding("A", "short gap", 2, None, None, "reported")
    >>> findings_frame([one, one])[["market", "rule", "count"]].to_numpy().tolist()
    [['A', 'short gap', 4]]
    """
    rows = [(f.market, f.rule, f.count, f.first, f.last, f.action) for f in findings]
    names = list(FINDINGS.columns)
    frame = pd.DataFrame(rows, columns=names).astype({"market": "str", "rule": "str", "count": "int64"})
    for name in ("first", "last"):
        frame[name] = pd.to_datetime(frame[name], utc=True).astype(TIME)
    merged = frame.groupby(["market", "rule"], as_index=False, sort=True).agg(
        {"count": "sum", "first": "min", "last": "max", "action": "first"}
    )
    return conform(merged[names], FINDINGS, source="the data gate")


def check_order(frame: pd.DataFrame, *, source: str) -> None:
    """Refuse rows whose time does not rise within their market.

    Parameters
    ----------
    frame : pandas.DataFrame
        ``market`` and ``time``, in the order of the source; the index is the row number that is reported.
    source : str
        Where the rows come from; repeated in the error.

    Raises
    ------
    DataError
        Rule "one bar per market and time" or "times rise within a market", with row, market and times.

    Examples
    --------
    >>> t = pd.to_datetime(["2024-01-02", "2024-01-01"], utc=True)
    >>> check_order(pd.DataFrame({"market": "A", "time": t}), source="x.csv")
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: x.csv: times must rise within a market; row 1 of 'A' is at
    2024-01-01T00:00:00+00:00, after 2024-01-02T00:00:00+00:00 in row 0 (1 such row)
    """
    codes, markets = pd.factorize(frame["market"])
    order = np.argsort(codes, kind="stable")
    time = clock_of(frame["time"])[order]
    same = np.diff(codes[order]) == 0
    bad = np.flatnonzero(same & (np.diff(time) <= 0))
    if not len(bad):
        return
    early, late = order[bad[0]], order[bad[0] + 1]
    before, after = (timestamp(int(time[bad[0] + i])).isoformat() for i in (0, 1))
    market = str(markets[codes[late]])
    rows = f"row {frame.index[late]} of {market!r} is at {after}"
    count = f"({len(bad)} such row{'s' if len(bad) > 1 else ''})"
    if before == after:
        raise DataError(f"{source}: one bar per market and time; {rows}, as row {frame.index[early]} {count}")
    raise DataError(
        f"{source}: times must rise within a market; {rows}, after {before} in row {frame.index[early]} "
        f"{count}"
    )


def without_missing(
    frame: pd.DataFrame, columns: list[str], *, drop: bool, source: str, what: str = "price"
) -> tuple[pd.DataFrame, list[Finding]]:
    """Drop, or refuse, rows in which one of ``columns`` is missing.

    Parameters
    ----------
    frame : pandas.DataFrame
        ``market``, ``time`` and ``columns``; the index is the row number that is reported.
    columns : list of str
        What must not be missing.
    drop : bool
        Whether such rows are dropped and reported, or refused.
    source : str
        Where the rows come from; repeated in the error.
    what : str
        Name of the value; the finding is called ``missing <what>``.

    Raises
    ------
    DataError
        With count, row, market, time and column of the first missing value.

    Examples
    --------
    >>> t = pd.to_datetime(["2024-01-01", "2024-01-02"], utc=True)
    >>> x = pd.DataFrame({"market": "A", "time": t, "close": [1.0, np.nan]})
    >>> kept, found = without_missing(x, ["close"], drop=True, source="x.csv")
    >>> len(kept), found[0].rule, found[0].count
    (1, 'missing price', 1)
    """
    missing = frame[columns].isna().any(axis=1)
    if not missing.any():
        return frame, []
    bad = frame[missing]
    if not drop:
        first = bad.iloc[0]
        column = next(name for name in columns if pd.isna(first[name]))
        raise DataError(
            f"{source}: column {column!r}, row {bad.index[0]}: {what} of {first['market']!r} at "
            f"{first['time'].isoformat()} is missing ({len(bad)} such row{'s' if len(bad) > 1 else ''}); "
            "data.on_missing: drop leaves them out"
        )
    times = bad.groupby("market")["time"].agg(["size", "min", "max"])
    rows = [
        Finding(str(market), f"missing {what}", int(n), first, last, "dropped")
        for market, n, first, last in times.itertuples()
    ]
    return frame[~missing], rows


def clock_of(times: pd.Series) -> Clock:
    """Return UTC times as microseconds since 1970.

    Examples
    --------
    >>> clock_of(pd.Series(pd.to_datetime(["1970-01-01 00:00:01"], utc=True))).tolist()
    [1000000]
    """
    clock: Clock = times.dt.tz_convert(None).to_numpy(dtype="datetime64[us]").astype(np.int64)
    return clock


def timestamp(clock: int) -> pd.Timestamp:
    """Return microseconds since 1970 as a UTC timestamp.

    Examples
    --------
    >>> timestamp(1_000_000).isoformat()
    '1970-01-01T00:00:01+00:00'
    """
    return pd.Timestamp(clock, unit="us", tz="UTC")
