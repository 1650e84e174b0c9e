"""How long unattended jobs take: a run from nothing, the nights after it, a whole retraining."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from calibrator.config import Config
from calibrator.data.sources import load_bars
from calibrator.errors import DataError
from pipelines.benchmarks.forecast_pages import machine, pipe_table
from pipelines.forecasting import Progress
from pipelines.store import save

SIGNED: Final = Path("published/metadata/timestamp.json")
"""The last file of a publication; when it is there, consumers can take the document."""

NOTE: Final = (
    "Every job is a process of its own with one thread of linear algebra, as a timer starts it, over",
    "{markets} markets and {bars:,} bars. `from nothing`: the first run into an empty home, every model",
    "of the walk-forward fitted; `night`: the next day in the same home; `retrain`: challengers fitted",
    "and held against the champion. `signed`: seconds from the start of the process, before any data",
    "are read, until the signed metadata are in place. Seconds on the clock; `MB` is the peak of",
    "resident memory.",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the jobs took.

    Attributes
    ----------
    jobs : pandas.DataFrame
        Per job, in order: ``job``, ``as_of``, ``seconds``, ``processor``, ``signed`` (NaN if it signs
        nothing) and ``megabytes``.
    markets, bars : int
        Of the input.
    """

    jobs: pd.DataFrame
    markets: int
    bars: int

    def table(self) -> pd.DataFrame:
        """Return one row per kind of job: how many, median, 95th percentile and largest of each figure.

        Examples
        --------
        >>> jobs = pd.DataFrame({"job": ["night"] * 2, "seconds": [1.0, 3.0], "processor": [1.0, 1.0],
        ...                      "signed": [1.0, 2.0], "megabytes": [5.0, 7.0]})
        >>> Measured(jobs, markets=1, bars=10).table().loc["night", ["jobs", "seconds", "MB"]].tolist()
        [2.0, 2.0, 7.0]
        """
        rows = {}
        for job, own in self.jobs.groupby("job", sort=False):
            rows[job] = {
                "jobs": float(len(own)),
                "seconds": own["seconds"].median(),
                "seconds p95": float(np.percentile(own["seconds"], 95)),
                "processor seconds": own["processor"].median(),
                "signed": own["signed"].median(),
                "signed p95": float(np.percentile(own["signed"], 95)),
                "MB": own["megabytes"].max(),
            }
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("job")


def run(
    config: Config, *, file: Path, sets: Sequence[str], home: Path, nights: int, progress: Progress
) -> Measured:
    """Start the jobs one after the other in an empty home and measure each.

    Parameters
    ----------
    config : Config
        As loaded from ``file``.
    file : pathlib.Path
    sets : sequence of str
        Overrides that go with it.
    home : pathlib.Path
        Empty or absent.
    nights : int
        The last days of the bars; the run from nothing is of the day before them.
    progress : callable

    Raises
    ------
    DataError
        The bars are shorter than the nights, or a job failed; the message ends with what it said.
    """
    bars, _ = load_bars(config, as_of=None)
    last = bars["time"].max().to_pydatetime()
    if last - timedelta(days=nights) <= bars["time"].min().to_pydatetime():
        raise DataError(f"nightly: {nights} nights asked for, the bars are shorter")
    plan = [
        ("from nothing" if n == nights else "night", "run", last - timedelta(days=n))
        for n in range(nights, -1, -1)
    ]
    plan.append(("retrain", "retrain", last))
    rows = []
    for done, (name, command, as_of) in enumerate(plan):
        progress("jobs", done, len(plan))
        rows.append({"job": name, "as_of": as_of, **measure(command, file, sets, home=home, as_of=as_of)})
    progress("jobs", len(plan), len(plan))
    return Measured(pd.DataFrame(rows), bars["market"].nunique(), len(bars))


def measure(
    command: str, file: Path, sets: Sequence[str], *, home: Path, as_of: datetime
) -> dict[str, float]:
    """Run one job in a process of its own.

    Returns
    -------
    dict
        ``seconds``, ``processor``, ``signed`` and ``megabytes``.

    Raises
    ------
    DataError
        The job did not end with exit code 0.
    """
    line = [sys.executable, "-m", "pipelines", command, "--config", str(file), "--home", str(home)]
    line += ["--as-of", as_of.isoformat(), *[word for one in sets for word in ("--set", one)]]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    log = home.with_suffix(".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    signed, began = home / SIGNED, time.time()
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(line, stdout=out, stderr=out, env=quiet)  # noqa: S603 - our own command
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    ended = time.time()
    if process.returncode != 0:
        said = log.read_text(encoding="utf-8")[-600:]
        raise DataError(f"nightly: {command} of {as_of:%Y-%m-%d} ended with {process.returncode}: {said}")
    moment = signed.stat().st_mtime if signed.exists() else -1.0
    return {
        "seconds": ended - began,
        "processor": used.ru_utime + used.ru_stime,
        "signed": moment - began if moment >= began else float("nan"),
        "megabytes": used.ru_maxrss / 1024,
    }


def page(found: Measured, *, made_on: date) -> str:
    """Write the table as a page."""
    shown = found.table().map("{:,.1f}".format)
    note = "\n".join(NOTE).format(markets=found.markets, bars=found.bars)
    lines = [
        "# Unattended jobs",
        "",
        f"{made_on.isoformat()}; {machine()}.",
        "",
        note,
        "",
        *pipe_table(shown),
    ]
    return "\n".join(lines) + "\n"


def write(found: Measured, *, home: Path, made_on: date, docs: Path | None) -> dict[str, Path]:
    """Write the page under ``home``, and to the documentation where asked."""
    text = page(found, made_on=made_on)
    files = {"table": save(home / "benchmarks" / "nightly.md", text)}
    if docs is not None:
        files["docs"] = save(docs / "nightly.md", text)
    return files
