"""How time and memory of a whole walk-forward grow with the number of markets."""

import multiprocessing
import resource
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from time import process_time
from typing import Final

import numpy as np
import pandas as pd

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from pipelines.forecasting import Progress
from pipelines.production import Production, produce
from pipelines.store import save

SIZES: Final = (10, 50, 200)
DAYS: Final = 480
BARS_PER_DAY: Final = 4
BYTES_PER_BAR: Final = 8 * 7
MINUTES: Final = 1440
TARGET_MARKETS: Final = 10_000
SETTINGS: Final = {
    "data": {"source": "embedded", "bar": "6h"},
    "forecast": {
        "horizon": 4, "cadence": 4, "har_window": 300, "garch_window": 250, "learner_refit": 60,
        "learner_seeds": 1, "min_history": 120,
    },
    "regime": {"window": 200, "min_window": 100},
    "margin": {"close_out": 4, "tail_window": 150, "tail_min": 40, "floor_window": 150, "plan_steps": 2},
    "tracking": {"enabled": False},
}  # fmt: skip


def run(*, sizes: Sequence[int] = SIZES, days: int = DAYS, progress: Progress) -> pd.DataFrame:
    """Measure each size in a process of its own, so that its peak of memory is its own.

    Parameters
    ----------
    sizes : sequence of int
        Numbers of markets.
    days : int
        Simulated days of six-hourly bars.
    progress : callable
        Called with (what, done, total).

    Returns
    -------
    pandas.DataFrame
        Per size: ``bars``, ``decisions``, ``seconds`` (processor time) and ``megabytes`` (peak resident).
    """
    rows = []
    spawn = multiprocessing.get_context("spawn")
    for done, size in enumerate(sizes):
        progress("scale", done, len(sizes))
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            rows.append(pool.submit(measure, size, days).result())
    progress("scale", len(sizes), len(sizes))
    return pd.DataFrame(rows, index=pd.Index(sizes, name="markets"))


def measure(markets: int, days: int) -> dict[str, float]:
    """Run one walk-forward over simulated bars: features, every forecaster, stress, tails, margins.

    Two markets are run before the clock starts: compiling kernels is not a matter of scale.
    """
    _walk(2, days)
    begin = process_time()
    bars, made = _walk(markets, days)
    seconds = process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    decisions = sum(len(d.table) for d in made.decisions.values())
    return {"bars": bars, "decisions": decisions, "seconds": seconds, "megabytes": peak}


def _walk(markets: int, days: int) -> tuple[int, Production]:
    names = [f"M{i:04d}" for i in range(markets)]
    bars = synthetic_bars(names, periods=days * BARS_PER_DAY, seed=1, bar="6h")
    none = pd.DataFrame({"market": pd.Series(dtype="str"), "implied_volatility": pd.Series(dtype="float64")})
    implied = none.assign(time=pd.Series(dtype="datetime64[us, UTC]"))
    config = Config.model_validate(SETTINGS)
    return len(bars), produce(bars, implied, config=config, progress=lambda *_: None)


def exponent(table: pd.DataFrame, column: str) -> float:
    """Return the slope of ``log column`` over ``log markets``; 1 is linear growth.

    Examples
    --------
    >>> round(exponent(pd.DataFrame({"x": [1.0, 8.0]}, index=[10, 40]), "x"), 9)
    1.5
    """
    x, y = np.log(np.asarray(table.index, float)), np.log(table[column].to_numpy(float))
    return float(np.polyfit(x, y, 1)[0])


PAGE: Final = """# How a walk-forward grows with the number of markets

`python -m pipelines benchmark scale --write-docs`, {made_on}. Simulated six-hourly bars, a decision a day,
every forecaster, stress, tails and margins; processor seconds of one process, peak resident memory.

| markets | bars | decisions | seconds | ms per decision | MB | kB per bar |
|---:|---:|---:|---:|---:|---:|---:|
{rows}

Growth exponents from {first} to {last} markets: time {time:.2f}, memory {memory:.2f} (1 is linear; the fixed
part of a process keeps both below it).

## On paper: {target:,} markets, bars of one minute, one year

- {bars:.1f} billion bars, {raw:.1f} TB as plain numbers: more than one machine's memory. Features need a
  month of minutes and running sums per market, so a market is reduced to its decision rows where its
  bars are stored; only these meet.
- {decisions:.2f} million decisions a year; at the time per decision above {hours:.1f} core hours a year of
  walk-forward, of which a nightly run repeats only the last block.
- Decision rows of one year, {rows_a_day} a day, at the memory per bar above: {gigabytes:.0f} GB; beyond one
  machine the pooled learners would have to sample markets.
- Not measured: that cluster. The executor (`compute`) sends blocks of a walk-forward, not shards of bars.
"""


def page(table: pd.DataFrame, *, made_on: date) -> str:
    """Write the table, the exponents, and what ten thousand markets of minute bars would need."""
    end = table.iloc[-1]
    bars, decisions = TARGET_MARKETS * MINUTES * 365, TARGET_MARKETS * 365
    rows = [
        f"| {n} | {r.bars:,.0f} | {r.decisions:,.0f} | {r.seconds:.1f} | {1000 * r.seconds / r.decisions:.2f}"
        f" | {r.megabytes:,.0f} | {r.megabytes * 1024 / r.bars:.2f} |"
        for n, r in zip(table.index, table.itertuples(), strict=True)
    ]
    return PAGE.format(
        made_on=made_on,
        rows="\n".join(rows),
        first=table.index[0],
        last=table.index[-1],
        time=exponent(table, "seconds"),
        memory=exponent(table, "megabytes"),
        target=TARGET_MARKETS,
        bars=bars / 1e9,
        raw=bars * BYTES_PER_BAR / 2**40,
        decisions=decisions / 1e6,
        hours=end["seconds"] / end["decisions"] * decisions / 3600,
        rows_a_day=BARS_PER_DAY,
        gigabytes=decisions * BARS_PER_DAY * end["megabytes"] / end["bars"] / 2**10,
    )


def write(table: pd.DataFrame, *, home: Path, made_on: date, docs: Path | None) -> dict[str, Path]:
    """Write the page under ``home``, and to the documentation where asked."""
    text = page(table, made_on=made_on)
    files = {"table": save(home / "benchmarks" / "scale.md", text)}
    if docs is not None:
        files["docs"] = save(docs / "scale.md", text)
    return files
