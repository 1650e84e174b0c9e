"""``benchmark data``: speed and memory of the gate, speed of a parser, and what damaged answers do."""

import io
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow.csv
import pyarrow.parquet as pq

from calibrator.data.catalogue import FEEDS, VENUES
from calibrator.data.payloads import Payload
from calibrator.data.synthetic import synthetic_bars
from calibrator.data.venues import binance
from calibrator.errors import DataError
from calibrator.frames import conform
from pipelines.benchmarks.data_mutations import Mutant, mutant, torn
from pipelines.benchmarks.data_sample import kline_rows
from pipelines.benchmarks.data_samples import SAMPLES, parse
from pipelines.benchmarks.forecast_pages import machine
from pipelines.benchmarks.timing import Task, interleaved, ratio
from pipelines.forecasting import Progress
from pipelines.store import save

MARKETS: Final = 118
HOURS: Final = 24_600
MUTANTS: Final = 10_000
ROUNDS: Final = 7
MINUTES: Final = 44_640
COUNTED: Final = ("damaged", "refused", "still valid", "accepted", "crashed", "csv", "read_csv accepts")
ASKED: Final = {"seconds": 10.0, "peak_mb": 1_500.0, "klines": 500_000.0}


@dataclass(frozen=True, slots=True)
class Tables:
    """What was measured.

    Attributes
    ----------
    gate : pandas.DataFrame
        ``gate`` and ``pandas``: rows, seconds, processor seconds, peak megabytes.
    klines : pandas.DataFrame
        Seconds of each round: ``parser``, ``pandas`` with the same checks, ``read_csv`` alone.
    mutants : pandas.DataFrame
        Per feed: damaged answers, refused, broken ones accepted, crashes; what ``read_csv`` accepts.
    source : str
        Which bars went through the gate.
    count : int
        Damaged answers per adapter.
    """

    gate: pd.DataFrame
    klines: pd.DataFrame
    mutants: pd.DataFrame
    source: str
    count: int


def run(*, bars: Path | None, scale: float, progress: Progress) -> Tables:
    """Measure everything once.

    Parameters
    ----------
    bars : pathlib.Path, optional
        Parquet file of hourly bars; default: as many synthetic ones.
    scale : float
        Share of the full sample of damaged answers, and of synthetic bars.
    progress : callable
    """
    with tempfile.TemporaryDirectory() as folder:
        path = bars or _synthetic(Path(folder) / "bars.parquet", scale)
        progress("gate", 0, 2)
        text = Path(folder) / "bars.csv"
        pyarrow.csv.write_csv(pq.read_table(path), text)
        gate = pd.DataFrame({mode: _child(mode, p) for mode, p in (("gate", path), ("pandas", text))}).T
        progress("gate", 2, 2)
        source = f"{bars.name}" if bars else "synthetic bars"
    klines = _klines(progress)
    count = max(int(MUTANTS * scale), 1)
    return Tables(gate, klines, mutants(count, progress=progress), source, count)


def mutants(count: int, *, progress: Progress) -> pd.DataFrame:
    """Send damaged answers through every parser, and the CSV ones through ``pandas.read_csv``.

    Parameters
    ----------
    count : int
        Damaged answers per adapter (venue module), shared among its feeds.
    progress : callable

    Returns
    -------
    pandas.DataFrame
        One row per feed.

    Examples
    --------
    >>> made = mutants(5, progress=lambda *_: None)
    >>> int(made["accepted"].sum()), int(made["crashed"].sum())
    (0, 0)
    """
    rows = []
    shares = {feed.name: -(-count // len(venue.FEEDS)) for venue in VENUES for feed in venue.FEEDS}
    for number, name in enumerate(FEEDS):
        progress("damaged answers", number, len(FEEDS))
        rows.append({"feed": name, **_feed_mutants(name, shares[name])})
    progress("damaged answers", len(FEEDS), len(FEEDS))
    return pd.DataFrame(rows)


def _feed_mutants(name: str, count: int) -> Counter[str]:
    rng, sample = np.random.default_rng(20_240_301), SAMPLES[name]
    seen: Counter[str] = Counter({"damaged": count, **dict.fromkeys(COUNTED[1:], 0)})
    for _ in range(count):
        made = torn(sample, rng) if sample.wrap and rng.random() < 0.1 else mutant(sample, rng)
        seen[_outcome(name, made)] += 1
        if not sample.is_json and made.broken and made.kind not in _ARCHIVES:
            seen["csv"] += 1
            seen["read_csv accepts"] += _plain_accepts(made.text)
    return seen


_ARCHIVES: Final = {"truncated archive", "page as archive", "another member", "no gzip", "wrong crc"}


def _outcome(name: str, made: Mutant) -> str:
    try:
        frame, _ = parse(name, made.content)
        conform(frame, FEEDS[name].schema, source=name)
    except DataError:
        return "refused"
    except Exception:  # noqa: BLE001 - counting exactly these is the purpose
        return "crashed"
    return "accepted" if made.broken else "still valid"


def _plain_accepts(text: bytes) -> bool:
    try:
        pd.read_csv(io.BytesIO(text))
    except Exception:  # noqa: BLE001 - whatever a bare reader raises
        return False
    return True


def _synthetic(path: Path, scale: float) -> Path:
    names = [f"M{i:03d}USDT" for i in range(MARKETS)]
    hours = max(int(HOURS * scale), 100)
    parts = [synthetic_bars([n], periods=hours, seed=i) for i, n in enumerate(names)]
    pd.concat(parts, ignore_index=True).to_parquet(path, index=False)
    return path


def _child(mode: str, path: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "pipelines.benchmarks.data_gate", mode, str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own module
    made: dict[str, Any] = json.loads(ended.stdout)
    return made


def _klines(progress: Progress) -> pd.DataFrame:
    text = "\n".join(",".join(row) for row in kline_rows(MINUTES, step=60_000)).encode()
    payload = Payload(text, "BTCUSDT-1m.csv", market="BTCUSDT", step=pd.Timedelta("1min"))
    parser = binance.klines("volume")
    tasks: dict[str, Task] = {
        "parser": partial(parser, payload),
        "pandas": partial(_plain_klines, text),
        "read_csv": partial(_read_csv, text),
    }
    for task in tasks.values():
        task()
    progress("klines", 0, ROUNDS)
    made = interleaved([tasks] * ROUNDS, clock=time.process_time)
    progress("klines", ROUNDS, ROUNDS)
    return made


def _read_csv(text: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(text), header=None)


def _plain_klines(text: bytes) -> pd.DataFrame:
    """Read klines with pandas and check what the parser checks."""
    frame = pd.read_csv(io.BytesIO(text), header=None, names=list(binance.KLINES))
    prices = frame[["open", "high", "low", "close"]]
    opened, closed = (pd.to_datetime(frame[n], unit="ms", utc=True) for n in ("open_time", "close_time"))
    bad = (
        prices.isna().any().any()
        or (prices <= 0).any().any()
        or (frame["high"] < prices.max(axis=1)).any()
        or (frame["low"] > prices.min(axis=1)).any()
        or not opened.is_monotonic_increasing
        or opened.duplicated().any()
        or ((closed - opened) != pd.Timedelta("1min") - pd.Timedelta("1ms")).any()
        or not np.isfinite(frame[["volume"]]).all().all()
        or (frame["volume"] < 0).any()
    )
    if bad:
        raise DataError("klines: a rule is broken")
    return frame.assign(time=opened + pd.Timedelta("1min"))


def write(tables: Tables, *, home: Path, made_on: date, docs: Path | None) -> dict[str, Path]:
    """Write the page, also among the documents where asked.

    Returns
    -------
    dict of str to pathlib.Path
        ``table`` and, where asked, ``documents``.
    """
    folder = home / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    page = _page(tables, made_on)
    files = {"table": save(folder / "data.md", page)}
    if docs is not None:
        files["documents"] = save(docs / "data.md", page)
    return files


def _page(tables: Tables, made_on: date) -> str:
    gate, klines, damaged = tables.gate, tables.klines, tables.mutants
    speed = {name: MINUTES / float(klines[name].median()) for name in klines}
    fast, peak = gate.loc["gate", "cpu_seconds"], gate.loc["gate", "peak_mb"]
    share = damaged["read_csv accepts"].sum() / max(damaged["csv"].sum(), 1)
    lines = [
        "# Data sources: speed, memory, damaged answers",
        "",
        (
            f"Made {made_on:%Y-%m-%d} by `python -m pipelines benchmark data` on {machine()}; "
            "processor seconds, as the machine was shared."
        ),
        "",
        "## Through the gate and the quality rules",
        "",
        (
            f"{int(gate.loc['gate', 'rows']):,} hourly bars ({tables.source}) from Parquet, a process each; "
            "`pandas` is `read_csv` of the same bars with the same checks in pandas."
        ),
        "",
        "| | rows | wall s | processor s | peak MB |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | {r.rows:,.0f} | {r.seconds:.1f} | {r.cpu_seconds:.1f} | {r.peak_mb:.0f} |"
            for name, r in gate.iterrows()
        ),
        "",
        (
            f"Ratio of processor time, pandas / gate: {gate.loc['pandas', 'cpu_seconds'] / fast:.1f}. "
            f"Asked: at most {ASKED['seconds']:.0f} s and {ASKED['peak_mb']:.0f} MB: "
            f"{'met' if fast <= ASKED['seconds'] and peak <= ASKED['peak_mb'] else 'missed'} (wall time: "
            f"{'met' if gate.loc['gate', 'seconds'] <= ASKED['seconds'] else 'missed'})."
        ),
        "",
        "## Parsing klines",
        "",
        f"{MINUTES:,} one-minute klines as CSV, median of {len(klines)} interleaved rounds.",
        "",
        "| | rows per second |",
        "|---|---|",
        *(f"| {name} | {value:,.0f} |" for name, value in speed.items()),
        "",
        (
            f"`pandas` is `read_csv` with the same checks: the parser is "
            f"{ratio(klines, slow='pandas', fast='parser'):.1f} times as fast. "
            f"Asked: {ASKED['klines']:,.0f} rows a second: "
            f"{'met' if speed['parser'] >= ASKED['klines'] else 'missed'}."
        ),
        "",
        "## Damaged answers",
        "",
        (
            f"Seeded, {tables.count:,} per adapter (venue module), shared among its feeds. "
            "`accepted`: broken by construction and not refused; `crashed`: no typed error; "
            "`still valid`: random bytes changed, and the result is another valid answer. "
            f"A bare `pandas.read_csv` accepts {share:.0%} of the {damaged['csv'].sum():,.0f} broken CSVs."
        ),
        "",
        "| feed | damaged | refused | still valid | accepted | crashed | read_csv accepts |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in damaged.to_dict("records"):
        plain = f"{row['read_csv accepts'] / row['csv']:.0%}" if row["csv"] else ""
        counts = " | ".join(str(int(row.get(n, 0))) for n in COUNTED[:5])
        lines.append(f"| {row['feed']} | {counts} | {plain} |")
    sums = " | ".join(f"**{int(damaged[n].sum()):,}**" for n in COUNTED[:5])
    return "\n".join([*lines, f"| all | {sums} | {share:.0%} |", ""])
