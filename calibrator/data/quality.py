"""The gate's rules: what makes bars unusable, and what is reported and let through.

Every rule looks at the history of one market. Unusable bars raise :class:`~calibrator.errors.DataError`;
everything else becomes one row of findings per rule and market.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.config import DataConfig
from calibrator.data.rows import Clock, Finding, clock_of, timestamp
from calibrator.errors import DataError, StaleDataError

RESTART_GAP: Final = 24
"""Missing bars after which a symbol may have become another asset."""
UNIT_JUMP: Final = 50.0
"""Price ratio inside one step that looks like a change of unit (x100, x1000)."""
_USUAL_CLOSURES: Final = 0.99
_NAMED: Final = 5

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class History:
    """One market's bars as arrays, oldest first; ``time`` in microseconds since 1970.

    Examples
    --------
    >>> from calibrator.data.synthetic import synthetic_bars
    >>> next(histories(synthetic_bars(["A"], periods=3, seed=1))).close.shape
    (3,)
    """

    market: str
    time: Clock
    open: Floats
    high: Floats
    low: Floats
    close: Floats

    def at(self, position: int) -> pd.Timestamp:
        """Return the time of one bar."""
        return timestamp(int(self.time[position]))


Rule = Callable[[History, DataConfig], Finding | None]


def histories(bars: pd.DataFrame) -> Iterator[History]:
    """Split bars that are sorted by market and time into one :class:`History` per market.

    Examples
    --------
    >>> from calibrator.data.synthetic import synthetic_bars
    >>> [h.market for h in histories(synthetic_bars(["B", "A"], periods=2, seed=1))]
    ['A', 'B']
    """
    codes, markets = pd.factorize(bars["market"])
    starts = np.searchsorted(codes, np.arange(len(markets) + 1))
    time = clock_of(bars["time"])
    columns = [bars[name].to_numpy(dtype=np.float64) for name in ("open", "high", "low", "close")]
    for i, market in enumerate(markets):
        rows = slice(int(starts[i]), int(starts[i + 1]))
        yield History(str(market), time[rows], *(values[rows] for values in columns))


def inspect(
    bars: pd.DataFrame, data: DataConfig, *, as_of: pd.Timestamp
) -> tuple[pd.DataFrame, list[Finding]]:
    """Apply every rule to bars that passed their schema.

    Parameters
    ----------
    bars : pandas.DataFrame
        ``Bars``, sorted by market and time, none after ``as_of``.
    data : DataConfig
        Which rules are strict.
    as_of : pandas.Timestamp
        The time of the decision.

    Returns
    -------
    (pandas.DataFrame, list of Finding)
        The bars without excluded markets, and what was found.

    Raises
    ------
    DataError
        Too few bars, another spacing than ``data.bar``, times off the grid, a constant price, a refused gap
        or restart; names market, rule, value and time.
    StaleDataError
        Every market is stale.

    Examples
    --------
    >>> from calibrator.data.synthetic import synthetic_bars
    >>> bars = synthetic_bars(["A"], periods=100, seed=1, gaps=[(50, 3)])
    >>> data = DataConfig(bars=("x.parquet",))
    >>> _, found = inspect(bars, data, as_of=bars["time"].iloc[-1])
    >>> [(f.market, f.rule, f.count) for f in found]
    [('A', 'short gap', 1)]
    """
    found: list[Finding] = []
    restarts: list[tuple[str, Finding]] = []
    stale: list[Finding] = []
    markets = list(histories(bars))
    for history in markets:
        for refuse in _REFUSALS:
            refuse(history, data)
        found += [f for f in (rule(history, data) for rule in _REPORTS) if f is not None]
        restart = _restart(history, data)
        restarts += [restart] if restart is not None else []
        late = _stale(history, data, as_of)
        stale += [late] if late is not None else []
    found += stale
    if len(stale) == len(markets):
        newest = max(f.last for f in stale if f.last is not None)
        stuck = all((as_of - h.at(-1)) / data.step <= data.stale_after for h in markets)
        rule = (
            f"its price stands still for {data.stuck_after} bars or more up to"
            if stuck
            else f"more than data.stale_after = {data.stale_after} bars of {data.bar} before"
        )
        raise StaleDataError(
            f"every market is stale: the newest bar is of {newest.isoformat()}, {rule} as-of "
            f"{as_of.isoformat()}"
        )
    return _without_restarts(bars, data, restarts, found)


def _without_restarts(
    bars: pd.DataFrame, data: DataConfig, restarts: list[tuple[str, Finding]], found: list[Finding]
) -> tuple[pd.DataFrame, list[Finding]]:
    if not restarts:
        return bars, found
    if data.on_restart == "refuse":
        more = f" and {len(restarts) - _NAMED} more" if len(restarts) > _NAMED else ""
        raise DataError(
            "a market must be one asset; "
            + "; ".join(text for text, _ in restarts[:_NAMED])
            + more
            + f" (ratio above data.restart_jump = {data.restart_jump:g}); leave it out of data.markets, cut "
            "the file with from and until, or set data.on_restart: exclude"
        )
    gone = {f.market for _, f in restarts}
    kept = bars[~bars["market"].isin(gone)].reset_index(drop=True)
    if kept.empty:
        raise DataError(f"every market restarts as another asset: {restarts[0][0]}")
    return kept, [f for f in found if f.market not in gone] + [f for _, f in restarts]


def _refuse_short(history: History, data: DataConfig) -> None:
    if len(history.time) < data.min_bars:
        raise DataError(
            f"market {history.market!r} has {len(history.time)} bars up to {history.at(-1).isoformat()}, "
            f"data.min_bars asks for {data.min_bars}"
        )


def _refuse_spacing(history: History, data: DataConfig) -> None:
    """Bars of another length than configured: the usual distance tells, gaps do not."""
    usual = pd.Timedelta(int(np.median(np.diff(history.time))) if len(history.time) > 1 else 0, "us")
    if len(history.time) > 1 and usual != data.step:
        raise DataError(f"market {history.market!r}: bars are {usual} apart, data.bar is {data.bar}")


def _refuse_off_grid(history: History, data: DataConfig) -> None:
    """Around the clock, bars end on multiples of their length, counted from midnight UTC (or the first)."""
    if data.calendar == "sessions":
        return
    step = _step(data)
    day = 86_400_000_000
    anchor = 0 if day % step == 0 else int(history.time[0])
    off = np.flatnonzero((history.time - anchor) % step)
    if len(off):
        raise DataError(
            f"market {history.market!r}: bars must end on the {data.bar} grid, the one at "
            f"{history.at(int(off[0])).isoformat()} does not ({len(off)} such bars)"
        )


def _refuse_constant(history: History, data: DataConfig) -> None:
    if len(history.time) >= min(data.min_bars, 2) and history.high.max() == history.low.min():
        raise DataError(
            f"market {history.market!r}: price is constant, {history.close[0]:g} "
            f"in all {len(history.time)} bars"
        )


def _refuse_gap(history: History, data: DataConfig) -> None:
    finding = _long_gap(history, data)
    if data.on_gap == "refuse" and finding is not None:
        missing = _missing_bars(history, data)
        position = int(np.argmax(missing > data.max_gap))
        raise DataError(
            f"market {history.market!r}: about {missing[position]:.0f} bars are missing after "
            f"{history.at(position).isoformat()}, data.max_gap is {data.max_gap} ({finding.count} such gaps)"
        )


def _long_gap(history: History, data: DataConfig) -> Finding | None:
    return _gaps(
        history, _missing_bars(history, data) > data.max_gap, "long gap", "reported, windows missing"
    )


def _short_gap(history: History, data: DataConfig) -> Finding | None:
    missing = _missing_bars(history, data)
    if data.calendar == "sessions" and len(missing):
        delta = np.diff(history.time)
        unusual = delta > 1.5 * np.quantile(delta, _USUAL_CLOSURES)
    else:
        unusual = missing > 0
    return _gaps(history, unusual & (missing <= data.max_gap), "short gap", "reported, windows missing")


def _runs(history: History) -> tuple[Clock, Clock]:
    """Return the number of each bar's run of identical closes without range, and the bars of each run."""
    flat = (history.high == history.low) & (history.close == history.low)
    joined = flat[1:] & flat[:-1] & (history.close[1:] == history.close[:-1])
    run = np.concatenate([[0], np.cumsum(~joined)]).astype(np.int64)
    return run, np.bincount(run).astype(np.int64)


def _stuck(history: History, data: DataConfig) -> Finding | None:
    """Return runs of identical closes without range; ``count`` is the number of runs."""
    run, length = _runs(history)
    stuck = np.flatnonzero(length >= data.stuck_after)
    if not len(stuck):
        return None
    inside = np.flatnonzero(np.isin(run, stuck))
    first, last = history.at(int(inside[0])), history.at(int(inside[-1]))
    return Finding(history.market, "stuck feed", len(stuck), first, last, "reported")


def _unit_jump(history: History, data: DataConfig) -> Finding | None:
    """Return jumps x100 or x1000 between neighbouring bars or inside one."""
    limit = np.log(UNIT_JUMP)
    step = np.abs(np.diff(np.log(history.close))) > limit
    step &= np.diff(history.time) == _step(data)
    inside = np.log(history.high) - np.log(history.low) > limit
    inside[1:] |= step
    where = np.flatnonzero(inside)
    if not len(where):
        return None
    first, last = history.at(int(where[0])), history.at(int(where[-1]))
    return Finding(history.market, "unit jump", len(where), first, last, "reported")


def _restart(history: History, data: DataConfig) -> tuple[str, Finding] | None:
    """Return a price after a long absence that is not the price before it."""
    change = np.log(history.open[1:]) - np.log(history.close[:-1])  # a plain ratio may overflow
    jump = np.abs(change) > np.log(data.restart_jump)
    where = np.flatnonzero(jump & (_missing_bars(history, data) >= RESTART_GAP))
    if not len(where):
        return None
    i = int(where[0])
    text = (
        f"{history.market!r} stops at {history.at(i).isoformat()} at {history.close[i]:g} and restarts at "
        f"{history.at(i + 1).isoformat()} at {history.open[i + 1]:g}"
    )
    last = history.at(int(where[-1]) + 1)
    return text, Finding(history.market, "restart", len(where), history.at(i), last, "market excluded")


def _stale(history: History, data: DataConfig, as_of: pd.Timestamp) -> Finding | None:
    """Return a market without a bar in the last ``stale_after`` bars, or whose feed is stuck at its end.

    ``count`` is the age in bars of the last price that is alive: a frozen price looks like calm, and calm
    would lower the margin.
    """
    frozen = int(_runs(history)[1][-1])
    stuck = frozen >= data.stuck_after
    last = history.at(-frozen if stuck else -1)
    age = (as_of - last) / data.step * _density(history, data)
    if age <= data.stale_after and not stuck:
        return None
    return Finding(history.market, "stale", int(age), last, last, "reported")


def _gaps(history: History, where: npt.NDArray[np.bool_], rule: str, action: str) -> Finding | None:
    position = np.flatnonzero(where)
    if not len(position):
        return None
    first, last = history.at(int(position[0])), history.at(int(position[-1]))
    return Finding(history.market, rule, len(position), first, last, action)


def _missing_bars(history: History, data: DataConfig) -> Floats:
    """Bars missing after each bar but the last; with sessions, as many as an average week would hold."""
    missing: Floats = np.diff(history.time) / _step(data) * _density(history, data) - 1.0
    return missing


def _density(history: History, data: DataConfig) -> float:
    """Bars per step of the clock: 1 around the clock, about 0.69 for daily sessions."""
    if data.calendar == "continuous" or len(history.time) < 2:
        return 1.0
    return (len(history.time) - 1) * _step(data) / float(history.time[-1] - history.time[0])


def _step(data: DataConfig) -> int:
    return int(data.step // pd.Timedelta(1, "us"))


_REFUSALS: Final[tuple[Callable[[History, DataConfig], None], ...]] = (
    _refuse_short,
    _refuse_spacing,
    _refuse_off_grid,
    _refuse_constant,
    _refuse_gap,
)
_REPORTS: Final[tuple[Rule, ...]] = (_long_gap, _short_gap, _stuck, _unit_jump)
