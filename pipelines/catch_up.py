"""Which decisions were missed since the last good run."""

from datetime import datetime
from pathlib import Path

import pandas as pd

from calibrator.config import Config
from calibrator.data.sources import load_bars
from pipelines.jobs import log
from pipelines.ledger import open_ledger

JOB = "run"


def decision_times(config: Config, first: datetime, last: datetime) -> list[datetime]:
    """Return the decisions after ``first``, up to and including ``last``.

    Where markets trade around the clock they stand on a grid from ``forecast.origin_hour``; where they trade
    in sessions, at the bars there are.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"bars": ["x.csv"]}, "forecast": {"cadence": 12}})
    >>> at = [datetime.fromisoformat(t) for t in ("2024-01-01T00:00Z", "2024-01-02T01:00Z")]
    >>> [f"{t:%d %H:%M}" for t in decision_times(config, *at)]
    ['01 12:00', '02 00:00']
    """
    if config.data.calendar == "sessions":
        bars, _ = load_bars(config, as_of=last)
        times = pd.DatetimeIndex(bars["time"].unique()).sort_values()[:: config.forecast.cadence]
        times = times[times > pd.Timestamp(first)]
    else:
        step = config.data.step * config.forecast.cadence
        start = pd.Timestamp(first).normalize() + pd.Timedelta(hours=config.forecast.origin_hour) - step
        times = pd.date_range(start, pd.Timestamp(last), freq=step)
        times = times[times > pd.Timestamp(first)]
    return [t.to_pydatetime() for t in times]


def missed(config: Config, *, home: Path, until: datetime | None) -> list[datetime]:
    """Return the as-of times to make up for, the oldest first, one run each.

    Parameters
    ----------
    config : Config
        ``jobs.catch_up`` is the most; older ones are left out, and the log says so.
    home : pathlib.Path
        Its ledger knows the last good run; without one there is only the latest decision to do.
    until : datetime, optional
        Default: the last bar.
    """
    last = until or load_bars(config, as_of=None)[0]["time"].max().to_pydatetime()
    with open_ledger(home) as ledger:
        done = ledger.last_done(JOB)
    if done is None:
        return [last]
    found = decision_times(config, done, last)
    left_out = len(found) - config.jobs.catch_up
    if left_out > 0:
        log("left out", job=JOB, missed=left_out, first=found[0], rule="jobs.catch_up")
    return found[-config.jobs.catch_up :]
