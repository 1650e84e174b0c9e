"""One measured passage through the gate, in a process of its own so that its memory is its own.

``python -m pipelines.benchmarks.data_gate gate|pandas FILE`` prints seconds, peak memory and rows as JSON.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from calibrator.config import parse_config
from calibrator.data.feed_quality import examine
from calibrator.data.sources import load_bars
from calibrator.errors import DataError


def gate(path: Path) -> int:
    """Send a Parquet file through the gate and the quality rules of a feed; return the rows.

    Examples
    --------
    >>> gate(Path("none.parquet"))
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: none.parquet: file does not exist
    """
    data = {"bars": [str(path)], "on_restart": "exclude"}
    bars, _ = load_bars(parse_config({"data": data}, folder=Path(), source="benchmark"), as_of=None)
    examine(bars)
    return len(bars)


def plain(path: Path) -> int:
    """Do with ``pandas.read_csv`` and pandas what the gate checks, market by market; return the rows.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "x.csv")
    ...     _ = path.write_text("symbol,time,open,high,low,close,volume" + chr(10) + "A,2024-01-01,1,2,1,1,0")
    ...     plain(path)
    1
    """
    frame = pd.read_csv(path, parse_dates=["time"])
    prices = ["open", "high", "low", "close"]
    rules = {
        "missing": frame[prices].isna().any().any(),
        "positive": (frame[prices] <= 0).any().any(),
        "high": (frame["high"] < frame[["open", "close", "low"]].max(axis=1)).any(),
        "low": (frame["low"] > frame[["open", "close"]].min(axis=1)).any(),
        "volume": (frame["volume"] < 0).any(),
        "twice": frame.duplicated(["symbol", "time"]).any(),
    }
    broken = [name for name, bad in rules.items() if bad]
    if broken:
        raise DataError(f"{path}: {broken}")
    usual = pd.Timedelta("1h")
    for _, rows in frame.groupby("symbol"):
        steps = rows["time"].diff()
        change = (rows["open"] / rows["close"].shift()).where(steps > 24 * usual)
        flat = (rows["high"] == rows["low"]) & (rows["close"] == rows["close"].shift())
        runs = flat.groupby((~flat).cumsum()).sum()
        close = rows["close"].pct_change().abs()
        _ = (
            (steps < pd.Timedelta(0)).any(),
            (steps > usual).sum(),
            (change > 4).sum(),
            runs.max(),
            (close > 50).sum(),
        )
    return len(frame)


MODES: dict[str, Callable[[Path], int]] = {"gate": gate, "pandas": plain}


def main(mode: str, path: Path) -> None:
    """Measure one mode and print the result.

    Examples
    --------
    >>> main("other", Path("x"))
    Traceback (most recent call last):
    ...
    KeyError: 'other'
    """
    task = MODES[mode]
    wall, processor = time.perf_counter(), time.process_time()
    rows = task(path)
    made = {
        "rows": rows,
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - processor,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(made))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
