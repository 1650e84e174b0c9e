"""Quality rules on any canonical frame as it came: gaps, standing values, wicks, returns, what is not there.

The rules never change a row. Bars that a run uses pass the stricter gate of :mod:`calibrator.data.quality`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.config_data import QualityRule
from calibrator.data.rows import Finding, clock_of, findings_frame, timestamp
from calibrator.errors import DataError

FROZEN: Final = 10
"""Equal books, open interests or volatilities in a row that make a frozen feed."""
GAP: Final = 1.5
"""Times the usual distance of rows that makes a gap."""
ABSENCE: Final = 24
"""Missing rows after which a market is said to have been away."""
STUCK: Final = 24
WICK: Final = 0.10
"""Excursion beyond open and close, as a fraction of the nearer one, that is looked at as a wick."""
WICK_RATIO: Final = 10.0
"""The same, in usual ranges of the market's bars."""
UNIT_JUMP: Final = 50.0

Floats = npt.NDArray[np.float64]
Rule = Callable[[str, pd.DataFrame], Finding | None]


def examine(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the findings on one canonical frame: one row per rule and market.

    Parameters
    ----------
    frame : pandas.DataFrame
        Any frame of :mod:`calibrator.feeds`, or ``Bars`` or ``ImpliedVolatility``, sorted by market and time.

    Returns
    -------
    pandas.DataFrame
        ``Findings``; market ``*`` for what concerns all of them.

    Examples
    --------
    >>> from calibrator.data.synthetic import synthetic_bars
    >>> found = examine(synthetic_bars(["A"], periods=100, seed=1, gaps=[(50, 30)]))
    >>> found[["market", "rule", "count"]].to_numpy().tolist()
    [['*', 'survivors only', 1], ['A', 'absence', 1], ['A', 'gap', 1]]
    """
    if frame.empty or "market" not in frame:
        return findings_frame([])
    found = [
        f
        for market, rows in _markets(frame)
        for rule in _rules(frame)
        if (f := rule(market, rows)) is not None
    ]
    alive = _survivors(frame)
    return findings_frame([*found, *([alive] if alive is not None else [])])


def extra(bars: pd.DataFrame, rules: Mapping[QualityRule, str]) -> list[Finding]:
    """Return the findings of those rules of bars that a run must ask for by name.

    Parameters
    ----------
    bars : pandas.DataFrame
        ``Bars``, sorted by market and time.
    rules : mapping of str to {"flag", "strict"}
        ``data.rules``.

    Examples
    --------
    >>> from calibrator.data.synthetic import synthetic_bars
    >>> [f.rule for f in extra(synthetic_bars(["A"], periods=99, seed=1), {"survivors only": "flag"})]
    ['survivors only']
    """
    wanted = [rule for name, rule in _ASKED.items() if name in rules]
    found = [f for market, rows in _markets(bars) for rule in wanted if (f := rule(market, rows)) is not None]
    alive = _survivors(bars) if "survivors only" in rules else None
    return [*found, *([alive] if alive is not None else [])]


def judged(findings: pd.DataFrame, rules: Mapping[QualityRule, str]) -> pd.DataFrame:
    """Return findings of which none breaks a strict rule.

    Parameters
    ----------
    findings : pandas.DataFrame
        ``Findings``.
    rules : mapping of str to {"flag", "strict"}
        ``data.rules``.

    Raises
    ------
    DataError
        The first finding of a strict rule.

    Examples
    --------
    >>> found = findings_frame([Finding("A", "wick", 2, None, None, "kept")])
    >>> judged(found, {"wick": "strict"})
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: market 'A': rule 'wick' is strict (data.rules) and fired 2 times
    """
    strict = [name for name, how in rules.items() if how == "strict"]
    broken = findings[findings["rule"].isin(strict)]
    if len(broken):
        row = broken.iloc[0]
        since = "" if pd.isna(row["first"]) else f", first at {row['first'].isoformat()}"
        more = f" ({len(broken) - 1} more findings)" if len(broken) > 1 else ""
        raise DataError(
            f"market {row['market']!r}: rule {row['rule']!r} is strict (data.rules) and fired {row['count']} "
            f"times{since}{more}"
        )
    return findings


def wicks(rows: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Mark the bars of one market whose high or low stands far beyond open and close.

    Parameters
    ----------
    rows : pandas.DataFrame
        ``Bars`` of one market.

    Returns
    -------
    numpy.ndarray
        One flag per row: an excursion of at least :data:`WICK` that is also :data:`WICK_RATIO` times the
        median range of the market.

    Examples
    --------
    >>> from calibrator.data.synthetic import synthetic_bars
    >>> bars = synthetic_bars(["A"], periods=50, seed=1)
    >>> bars.loc[20, "low"] *= 0.5
    >>> np.flatnonzero(wicks(bars)).tolist()
    [20]
    """
    opened, high, low, close = (rows[n].to_numpy(dtype=np.float64) for n in ("open", "high", "low", "close"))
    over = high / np.maximum(opened, close) - 1.0
    under = 1.0 - low / np.minimum(opened, close)
    size = np.maximum(over, under)
    usual = float(np.median(high / low - 1.0)) if len(rows) else 0.0
    return np.asarray(size >= max(WICK, WICK_RATIO * usual), dtype=bool)


def unconfirmed(rows: pd.DataFrame, others: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Mark wicks that another venue, or the mark or index price, saw and does not confirm.

    Parameters
    ----------
    rows, others : pandas.DataFrame
        ``Bars`` of one market here and elsewhere, with the same bar length.

    Returns
    -------
    numpy.ndarray
        True where there is a wick here and a bar elsewhere at the same time whose excursion on that side is
        less than half of it. A wick that nobody else has a bar for counts as real.

    Examples
    --------
    >>> from calibrator.data.synthetic import synthetic_bars
    >>> bars = synthetic_bars(["A"], periods=50, seed=1)
    >>> other = bars.copy()
    >>> bars.loc[[20, 30], "low"] *= 0.5
    >>> other.loc[30, "low"] *= 0.6
    >>> np.flatnonzero(unconfirmed(bars, other)).tolist()
    [20]
    """
    near = others.drop_duplicates("time").set_index("time").reindex(rows["time"])
    there = near["close"].notna().to_numpy()
    return np.asarray(wicks(rows) & there & (_side(near) < 0.5 * _side(rows)), dtype=bool)


def without_wicks(bars: pd.DataFrame, others: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Cut unconfirmed wicks back to open and close, for fitting variances only.

    Tails and backtests keep the bars as they came: a margin pays for every price that was printed.

    Parameters
    ----------
    bars, others : pandas.DataFrame
        ``Bars`` here and elsewhere, sorted by market and time.

    Returns
    -------
    (pandas.DataFrame, list of Finding)
        ``Bars`` with the same rows, and one finding per market with such a wick.

    Examples
    --------
    >>> from calibrator.data.synthetic import synthetic_bars
    >>> bars = synthetic_bars(["A"], periods=50, seed=1)
    >>> torn = bars.assign(low=bars["low"].where(bars.index != 20, bars["low"] * 0.5))
    >>> cut, found = without_wicks(torn, bars)
    >>> found[0].rule, bool(cut["low"][20] == torn[["open", "close"]].min(axis=1)[20])
    ('unconfirmed wick', True)
    """
    out, found = bars.copy(), list[Finding]()
    elsewhere = dict(iter(others.groupby("market", sort=False)))
    for market, rows in _markets(bars):
        if market not in elsewhere:
            continue
        where = np.flatnonzero(unconfirmed(rows, elsewhere[market]))
        if not len(where):
            continue
        index = rows.index[where]
        out.loc[index, "high"] = rows.loc[index, ["open", "close"]].max(axis=1)
        out.loc[index, "low"] = rows.loc[index, ["open", "close"]].min(axis=1)
        mark = _finding(market, rows, "unconfirmed wick", where, "left out of variance fitting")
        found += [mark] if mark is not None else []
    return out, found


def _side(rows: pd.DataFrame) -> Floats:
    """Size of the larger excursion of each bar."""
    body = rows[["open", "close"]]
    over = rows["high"] / body.max(axis=1) - 1.0
    under = 1.0 - rows["low"] / body.min(axis=1)
    return np.asarray(np.maximum(over.to_numpy(), under.to_numpy()), dtype=np.float64)


def _markets(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    codes, names = pd.factorize(frame["market"])
    edges = np.flatnonzero(np.diff(codes)) + 1
    for start, end in zip([0, *edges], [*edges, len(frame)], strict=True):
        yield str(names[codes[start]]), frame.iloc[start:end]


def _finding(
    market: str, rows: pd.DataFrame, rule: str, where: npt.NDArray[np.int64], action: str = "reported"
) -> Finding | None:
    if not len(where):
        return None
    time = clock_of(rows["time"])
    return Finding(
        market, rule, len(where), timestamp(int(time[where[0]])), timestamp(int(time[where[-1]])), action
    )


def _distances(rows: pd.DataFrame) -> tuple[npt.NDArray[np.int64], float]:
    steps = np.asarray(np.diff(np.unique(clock_of(rows["time"]))), dtype=np.int64)
    return steps, float(np.median(steps)) if len(steps) else 0.0


def _gap(market: str, rows: pd.DataFrame) -> Finding | None:
    return _spaced(market, rows, "gap", GAP)


def _absence(market: str, rows: pd.DataFrame) -> Finding | None:
    return _spaced(market, rows, "absence", ABSENCE + 1.0)


def _spaced(market: str, rows: pd.DataFrame, rule: str, times: float) -> Finding | None:
    steps, usual = _distances(rows)
    unique = rows.drop_duplicates("time") if len(steps) + 1 != len(rows) else rows
    return _finding(
        market, unique, rule, np.flatnonzero(steps > times * usual) if usual else np.array([], np.int64)
    )


def _stuck(market: str, rows: pd.DataFrame) -> Finding | None:
    flat = (rows["high"] == rows["low"]).to_numpy()
    same = np.concatenate([[False], np.diff(rows["close"].to_numpy()) == 0]) & flat
    return _finding(market, rows, "stuck feed", _run_ends(same, STUCK - 1))


def _frozen(column: str) -> Rule:
    def rule(market: str, rows: pd.DataFrame) -> Finding | None:
        same = np.concatenate([[False], np.diff(rows[column].to_numpy(dtype=np.float64)) == 0])
        return _finding(market, rows, "frozen feed", _run_ends(same, FROZEN - 1))

    return rule


def _frozen_book(market: str, rows: pd.DataFrame) -> Finding | None:
    """Return books whose every band is as before: totals per time stand for the whole."""
    total = rows.groupby("time", sort=True)[["quantity", "notional"]].sum()
    same = np.concatenate([[False], (np.diff(total.to_numpy(), axis=0) == 0).all(axis=1)])
    return _finding(market, total.reset_index(), "frozen order book", _run_ends(same, FROZEN - 1))


def _run_ends(same: npt.NDArray[np.bool_], length: int) -> npt.NDArray[np.int64]:
    """Return where runs of at least ``length`` flags end."""
    edges = np.diff(np.concatenate([[0], same.astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return np.asarray(ends[ends - starts >= length] - 1, dtype=np.int64)


def _unit_jump(market: str, rows: pd.DataFrame) -> Finding | None:
    with np.errstate(over="ignore"):
        steps = np.abs(np.diff(np.log(rows["close"].to_numpy()), prepend=np.log(rows["close"].iloc[0])))
    return _finding(market, rows, "unit jump", np.flatnonzero(steps > np.log(UNIT_JUMP)))


def _wick(market: str, rows: pd.DataFrame) -> Finding | None:
    return _finding(market, rows, "wick", np.flatnonzero(wicks(rows)), "kept")


def _relisting(market: str, rows: pd.DataFrame) -> Finding | None:
    """Return first bars after an absence whose range or step is far from the market's usual range."""
    time = clock_of(rows["time"])
    steps, usual = np.diff(time), _distances(rows)[1]
    back = np.flatnonzero(steps > (ABSENCE + 1.0) * usual) + 1
    size = np.log(rows["high"].to_numpy() / rows["low"].to_numpy())
    move = np.abs(np.log(rows["open"].to_numpy()[back] / rows["close"].to_numpy()[back - 1]))
    odd = np.maximum(size[back], move) > WICK_RATIO * max(float(np.median(size)), 1e-6)
    return _finding(market, rows, "relisting bar", back[odd], "kept")


def _survivors(frame: pd.DataFrame) -> Finding | None:
    """Say that every market lives to the end: the dead were not asked for, and the past looks safer."""
    ends = frame.groupby("market")["time"].max()
    last = ends.max()
    usual = _distances(frame.iloc[: min(len(frame), 1_000)])[1]
    dead = ends < last - pd.Timedelta(usual * ABSENCE, "us")
    return None if dead.any() else Finding("*", "survivors only", len(ends), None, last, "note")


def _rules(frame: pd.DataFrame) -> tuple[Rule, ...]:
    return next((rules for column, rules in _BY_COLUMN.items() if column in frame), (_gap,))


_ASKED: Final[Mapping[QualityRule, Rule]] = {"wick": _wick, "relisting bar": _relisting}
_BY_COLUMN: Final[Mapping[str, tuple[Rule, ...]]] = {
    "close": (_gap, _absence, _stuck, _unit_jump, _wick, _relisting),
    "distance": (_gap, _frozen_book),
    "open_interest_notional": (_gap, _frozen("open_interest")),
    "liquidated_side": (),
    "implied_volatility": (_gap, _frozen("implied_volatility")),
    "interval_hours": (_gap,),
    "volatility": (_gap, _frozen("volatility")),
}
