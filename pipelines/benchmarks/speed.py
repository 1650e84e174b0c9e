"""``benchmark speed``: what the compiled parts save, measured beside what everyone writes, in one run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.data.synthetic import synthetic_bars
from calibrator.features import windows
from calibrator.rolling import rolling_max, rolling_min, rolling_sums
from pipelines.benchmarks import garch_guards, garch_speed, walk_speed
from pipelines.benchmarks.forecast_pages import machine
from pipelines.benchmarks.timing import Clock, interleaved, ratio
from pipelines.forecasting import Progress
from pipelines.store import save, save_json

Vector = npt.NDArray[np.float64]
DAY: Final = 24
ADDED_MARKETS: Final = 2
WINDOWS, REFITS, BARS, ROUNDS = 2000, 1000, 40_000, 9
ASKED: Final = {
    "garch_normal": (40.0, 150.0),
    "garch_t": (40.0, 150.0),
    "gjr_t": (40.0, 150.0),
    "egarch_t": (10.0, 150.0),
    "gjr_skewt": (40.0, 150.0),
}
"""Ratio to the cold ``arch`` loop: multi-start, and warm refits day by day."""
COLUMNS: Final = [
    "windows",
    "arch_ms",
    "engine_ms",
    "ratio",
    "below_arch",
    "above_arch",
    "not_converged",
    "arch_not_converged",
    "same_optimum",
    "forecast_gap_99",
]
REFIT_COLUMNS: Final = [
    "refits",
    "refit_ms",
    "refit_ratio",
    "refit_constrained",
    "refit_not_converged",
    "refit_below_arch",
    "refit_lost_next_day",
    "arch_lost_next_day",
]
SAID_GARCH: Final = (
    "Random windows (500, 1000 and 2000 rows of {series}), one thread: "
    "`arch` fits each of them once, the engine from three starts. `below_arch` and `above_arch`: shares of "
    "windows whose log-likelihood is lower or higher by more than 1e-4 relative; `same_optimum`: both "
    "converged and within 1e-6, `forecast_gap_99` is there the 99 % quantile of the relative difference of "
    "the next row's variance. A window without an optimum is counted in `not_converged`: an EGARCH whose "
    "likelihood is highest where the recursion is not invertible, and chaotic."
)
SAID_REFITS: Final = (
    "A window of 1,000 days slides day by day over the S&P 500; warm starts, a cold restart every 50 refits; "
    "the cold `arch` loop is extrapolated from 20 evenly spaced windows between the restarts. "
    "`refit_constrained`: an EGARCH without an optimum where it is invertible is the best one with "
    "alpha >= 0, and says so; its log-likelihood is lower than what a search finds in the chaos beyond. "
    "`lost_next_day`: share of the 20 estimates whose log-likelihood falls by more than 5 % when the window "
    "moves by one day at the same parameters (`arch` computes both): what that chaos is worth."
)
SAID_GUARDS: Final = (
    "Windows of 1,000 rows that break estimators, every specification and density, alone and as the first of "
    "a walk: how the estimations end and the slowest of them (fastest of three runs)."
)
SAID_ROLLING: Final = (
    "Every rolling sum and extreme that `build_features` needs of one hourly market (windows of 1 to 1584 "
    "bars), against a loop over assets with `Series.rolling`, market by market in turn. `largest_difference` "
    "is relative to the mean of the window's values."
)


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the benchmark.

    Attributes
    ----------
    title, said : str
        Heading, and how it was measured.
    frame : pandas.DataFrame
        One row per thing measured; ``ratio`` is times faster, ``asked`` what was to be reached.
    """

    title: str
    said: str
    frame: pd.DataFrame


def run(
    bars: pd.DataFrame | None = None,
    *,
    scale: float = 1.0,
    progress: Progress,
    clock: Clock = time.process_time,
) -> list[Table]:
    """Measure everything.

    Parameters
    ----------
    bars : pandas.DataFrame, optional
        Conforming ``Bars`` whose two longest markets join the series of the GARCH windows.
    scale : float
        Share of the full sample, above 0 and at most 1.
    progress : callable
        Called with (what, done, total).
    clock : callable
        Seconds; by default the processor's: other work interrupts long tasks more than short ones.

    Returns
    -------
    list of Table

    Raises
    ------
    ValueError
        ``scale`` outside its bounds.
    """
    if not 0 < scale <= 1:
        raise ValueError(f"scale must be above 0 and at most 1, was {scale}")
    progress("GARCH engine", 0, 1)
    more = {} if bars is None else garch_speed.market_returns(bars, markets=ADDED_MARKETS)
    names = [*garch_speed.default_returns(seed=0), *more]
    garch = garch_speed.run(
        more,
        windows=max(garch_speed.BATCH, round(WINDOWS * scale)),
        refits=max(garch_speed.REFIT_ROUNDS, round(REFITS * scale)),
        clock=clock,
    )
    progress("GARCH engine", 1, 1)
    tables = [
        Table(
            "GARCH: cold windows",
            SAID_GARCH.format(series=", ".join(names)),
            _asked(garch, COLUMNS, "ratio", 0),
        ),
        Table("GARCH: daily refits", SAID_REFITS, _asked(garch, REFIT_COLUMNS, "refit_ratio", 1)),
        Table(
            "GARCH: series that cannot be estimated",
            SAID_GUARDS,
            garch_guards.guard_table(progress=progress, clock=clock),
        ),
        Table("Rolling features", SAID_ROLLING, rolling_table(scale=scale, progress=progress, clock=clock)),
    ]
    world = walk_speed.world(scale=scale)
    learners = walk_speed.learners(world, scale=scale, progress=progress, clock=clock)
    whole = walk_speed.whole(world, learners, scale=scale, progress=progress, clock=clock)
    return [
        *tables,
        Table("LightGBM: one refit", walk_speed.SAID_LEARNERS, learners),
        Table("Whole walk-forward", walk_speed.said_whole(world, learners), whole),
    ]


def _asked(table: pd.DataFrame, columns: Sequence[str], measured: str, which: int) -> pd.DataFrame:
    """Put what is asked beside what was measured."""
    out = table[["model", *columns]].set_index("model")
    out.insert(list(columns).index(measured) + 1, "asked", [ASKED[m][which] for m in out.index])
    return out


def rolling_table(*, scale: float, progress: Progress, clock: Clock) -> pd.DataFrame:
    """Time the rolling sums and extremes of one market after the other, ours and pandas' in turn."""
    bars = synthetic_bars(
        [f"M{n}" for n in range(ROUNDS)], periods=max(2000, round(BARS * scale)), seed=5, gaps=[(900, 30)]
    )
    makers: dict[str, tuple[Callable[[pd.DataFrame], object], Callable[[pd.DataFrame], object]]] = {
        "sums": (_sums, _sums_pandas),
        "extremes": (_extremes, _extremes_pandas),
        "together": (lambda x: (_sums(x), _extremes(x)), lambda x: (_sums_pandas(x), _extremes_pandas(x))),
    }
    rows = {}
    markets = [_columns(own) for _, own in bars.groupby("market", sort=False)]
    _ = _sums(markets[0]), _extremes(markets[0])  # compiled
    for done, (name, (ours, theirs)) in enumerate(makers.items()):
        progress("rolling features", done, len(makers))
        seconds = interleaved(
            [{"ours": partial(ours, x), "pandas": partial(theirs, x)} for x in markets], clock=clock
        )
        values = len(markets[0]) * _count(name)
        rows[name] = {
            "values": values * len(markets),
            "pandas_ns": 1e9 * float(seconds["pandas"].median()) / values,
            "ours_ns": 1e9 * float(seconds["ours"].median()) / values,
            "ratio": ratio(seconds, slow="pandas", fast="ours"),
            "asked": 8.0,
            "largest_difference": _difference(markets[0], name),
        }
    progress("rolling features", len(makers), len(makers))
    return pd.DataFrame(rows).T.rename_axis("rolling")


SUMMED: Final = {
    "variance": windows(DAY),
    "parkinson": [3, DAY, 5 * DAY],
    "falling": [DAY, 5 * DAY, 22 * DAY],
    "turnover": [6, DAY, 5 * DAY, 22 * DAY],
}
LARGEST: Final = {"variance": [DAY, 5 * DAY], "high": [22 * DAY], "fall": [22 * DAY]}


def _columns(bars: pd.DataFrame) -> pd.DataFrame:
    change = np.log(bars["close"]).diff()
    return pd.DataFrame(
        {
            "variance": change**2,
            "parkinson": np.log(bars["high"] / bars["low"]) ** 2 / (4 * np.log(2)),
            "falling": (change**2).where(change < 0, 0.0).where(change.notna()),
            "turnover": bars["volume"] * bars["close"],
            "high": bars["high"],
            "fall": bars["low"],
        }
    )


def _count(name: str) -> int:
    sums, extremes = (sum(len(bars) for bars in chosen.values()) for chosen in (SUMMED, LARGEST))
    return {"sums": sums, "extremes": extremes, "together": sums + extremes}[name]


def _sums(columns: pd.DataFrame) -> list[Vector]:
    parts = [rolling_sums(columns[name].to_numpy(), bars) for name, bars in SUMMED.items()]
    return [own for part in parts for own in part]


def _sums_pandas(columns: pd.DataFrame) -> list[Vector]:
    return [columns[name].rolling(n).sum().to_numpy() for name, bars in SUMMED.items() for n in bars]


def _extremes(columns: pd.DataFrame) -> list[Vector]:
    pick = {"fall": rolling_min}
    return [
        pick.get(name, rolling_max)(columns[name].to_numpy(), n)
        for name, bars in LARGEST.items()
        for n in bars
    ]


def _extremes_pandas(columns: pd.DataFrame) -> list[Vector]:
    pick = {"fall": "min"}
    return [
        getattr(columns[name].rolling(n), pick.get(name, "max"))().to_numpy()
        for name, bars in LARGEST.items()
        for n in bars
    ]


def _difference(columns: pd.DataFrame, name: str) -> float:
    """Largest difference to pandas, relative to the mean of the window's values; also in what is missing."""
    pairs = {
        "sums": [*zip(_sums(columns), _sums_pandas(columns), strict=True)],
        "extremes": [*zip(_extremes(columns), _extremes_pandas(columns), strict=True)],
    }
    chosen = pairs["sums"] + pairs["extremes"] if name == "together" else pairs[name]
    if any((np.isnan(a) != np.isnan(b)).any() for a, b in chosen):
        return float("inf")
    return max(float(np.nanmax(np.abs(a - b)) / np.nanmean(np.abs(b))) for a, b in chosen)


def write(tables: Sequence[Table], *, home: Path, made_on: date, docs: Path | None = None) -> dict[str, Path]:
    """Write Markdown and JSON to ``home/benchmarks/speed/``; the Markdown also to ``docs``.

    Parameters
    ----------
    tables : sequence of Table
        What :func:`run` returned.
    home : pathlib.Path
    made_on : datetime.date
        Printed in the Markdown.
    docs : pathlib.Path, optional
        Folder ``docs/benchmarks``; receives ``speed.md``.

    Returns
    -------
    dict of str to pathlib.Path
        What was written, by what it is.
    """
    folder = home / "benchmarks" / "speed"
    folder.mkdir(parents=True, exist_ok=True)
    page = markdown(tables, made_on=made_on)
    numbers = {t.title: _records(t.frame) for t in tables}
    out = {
        "table": save(folder / "speed.md", page),
        "numbers": save_json(folder / "speed.json", numbers),
    }
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        out["committed table"] = save(docs / "speed.md", page)
    return out


def _records(frame: pd.DataFrame) -> list[dict[str, object]]:
    """Return a table's rows without what was not measured."""
    rows = frame.reset_index().to_dict(orient="records")
    return [{str(k): v for k, v in row.items() if not pd.isna(v)} for row in rows]


def markdown(tables: Sequence[Table], *, made_on: date) -> str:
    """Write the whole benchmark as one page.

    Examples
    --------
    >>> table = Table("A", "How.", pd.DataFrame({"ratio": [12.34]}, index=pd.Index(["b"], name="what")))
    >>> print(markdown([table], made_on=date(2026, 1, 2)).partition("## ")[2])
    A
    <BLANKLINE>
    How.
    <BLANKLINE>
    | what | ratio |
    | --- | --- |
    | b | 12.3 |
    <BLANKLINE>
    """
    lines = [
        "# Speed",
        "",
        f"{made_on.isoformat()}; {machine()}.",
        "Ratios are medians of measurements that alternate in one run; only they compare between machines.",
        "Times are those of the processor.",
    ]
    for table in tables:
        frame = table.frame.reset_index()
        cells = [[_spelled(v) for v in row] for row in frame.itertuples(index=False)]
        head = [str(c) for c in frame.columns]
        lines += ["", f"## {table.title}", "", table.said, ""]
        lines += ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *cells)]
    return "\n".join(lines) + "\n"


def _spelled(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return ""
    if value.is_integer() and abs(value) < 1e12:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
