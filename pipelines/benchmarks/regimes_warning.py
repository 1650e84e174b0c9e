"""Early warning: how long before stress begins is the alarm raised, and how often for nothing.

An *event* starts at the first origin at which the trailing variance exceeds the stress threshold; stressed
spells less than a day apart are one event. An *alarm* is a probability at or above a level that was fixed
before the test. The *lead* is the time from the first alarm of the preceding day to the event's start. A
*false alarm* is a day with an alarm after none of whose alarms an event starts within a day; alarms while an
event is running can be left out (the state is stress already, and no start can follow soon).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd

from calibrator.data.events import StressEvent, events_between

DAY: Final = pd.Timedelta("1D")
EARLY: Final = pd.Timedelta("6h")
MONTH: Final = pd.Timedelta("30.4375D")
MOST_FALSE: Final = 2.0
"""False alarms per market-month that the level may cause before the test."""
LEVELS: Final = tuple(round(0.01 * k, 2) for k in range(1, 96))


@dataclass(frozen=True, slots=True)
class Warnings:
    """Outcome at one level.

    Attributes
    ----------
    level : float
    events : int
        Starts with a probability at some origin of the day before.
    flagged : float
        Share with a lead of at least six hours.
    any_lead : float
        Share with an alarm at all in the day before.
    median_lead : float
        Hours, over the events with an alarm.
    false_alarms : float
        Per market-month, every alarm day counted.
    false_outside : float
        Per market-month, without alarms during a running event.
    """

    level: float
    events: int
    flagged: float
    any_lead: float
    median_lead: float
    false_alarms: float
    false_outside: float


@dataclass(frozen=True, slots=True)
class Watch:
    """Rows with their events.

    Attributes
    ----------
    rows : pandas.DataFrame
        In time order: ``market, time, day`` (number of the market's day), ``running`` (an event is running),
        ``soon`` (one starts within the next day) and the probabilities.
    starts : pandas.DataFrame
        ``market, start``.
    months : float
        Market-months of the rows.
    """

    rows: pd.DataFrame
    starts: pd.DataFrame
    months: float


def event_spans(times: pd.DatetimeIndex, stressed: np.ndarray) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """First and last stressed time of each event of one market; spells less than a day apart are one.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=60, freq="h")
    >>> s = np.isin(np.arange(60), [3, 4, 20, 50])
    >>> [(a.strftime("%d %H"), b.strftime("%d %H")) for a, b in event_spans(t, s)]
    [('01 03', '01 20'), ('03 02', '03 02')]
    """
    hot = times[stressed]
    if not len(hot):
        return []
    breaks = np.flatnonzero((hot[1:] - hot[:-1]) >= DAY) + 1
    edges = [0, *breaks.tolist(), len(hot)]
    return [(hot[a], hot[b - 1]) for a, b in pairwise(edges)]


def watch(frame: pd.DataFrame, models: Sequence[str]) -> Watch:
    """Find every event and mark the rows.

    Parameters
    ----------
    frame : pandas.DataFrame
        ``market, time, now, threshold`` and one probability column per model; rows in any order.
    """
    use = frame[frame["threshold"].notna()].sort_values(["market", "time"], kind="stable")
    if use.empty:
        nothing = use[["market", "time", *models]].assign(running=False, soon=False, day=0)
        return Watch(nothing, pd.DataFrame({"market": use["market"], "start": use["time"]}), 0.0)
    parts, starts = [], []
    for market, own in use.groupby("market", sort=False):
        times = pd.DatetimeIndex(own["time"])
        spans = event_spans(times, (own["now"] > own["threshold"]).to_numpy())
        running = np.zeros(len(own), bool)
        soon = np.zeros(len(own), bool)
        for first, last in spans:
            running |= (times >= first) & (times <= last)
            soon |= (times < first) & (times >= first - DAY)
        kept = own[["market", "time", *models]].assign(running=running, soon=soon)
        parts.append(kept[kept[list(models)].notna().all(axis=1)])
        starts.append(pd.DataFrame({"market": market, "start": [s for s, _ in spans]}))
    rows = pd.concat(parts).sort_values("time", kind="stable", ignore_index=True)
    day = rows.groupby(["market", rows["time"].dt.floor("D")], sort=False).ngroup()
    found = pd.concat(starts, ignore_index=True)
    return Watch(rows.assign(day=day), _covered(found, rows), float(day.nunique() * (DAY / MONTH)))


def _covered(starts: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Keep the starts before which a probability was known within the day."""
    if starts.empty or rows.empty:
        return starts.iloc[:0]
    left = starts.assign(start=pd.DatetimeIndex(starts["start"]).as_unit("us")).sort_values(
        "start", kind="stable"
    )
    right = rows[["market", "time"]]
    met = pd.merge_asof(
        left, right, left_on="start", right_on="time", by="market", tolerance=DAY, allow_exact_matches=False
    )
    return met[met["time"].notna()].drop(columns="time").sort_values(["market", "start"], ignore_index=True)


def leads(seen: Watch, model: str, level: float) -> pd.Series:
    """Time from the first alarm of the preceding day to each start; missing where there was none."""
    alarm = seen.rows.loc[seen.rows[model] >= level, ["market", "time"]]
    starts = seen.starts.reset_index().sort_values("start", kind="stable")
    first = pd.merge_asof(
        starts.assign(since=starts["start"] - DAY),
        alarm,
        left_on="since",
        right_on="time",
        by="market",
        direction="forward",
    )
    lead = (first["start"] - first["time"]).where(first["time"] < first["start"])
    return lead.set_axis(first["index"]).sort_index()


def outcome(seen: Watch, model: str, level: float) -> Warnings:
    """Count what one level would have done."""
    lead = leads(seen, model, level)
    alarm = seen.rows.loc[seen.rows[model] >= level, ["day", "running", "soon"]]
    known = lead.dropna()
    return Warnings(
        level=level,
        events=len(lead),
        flagged=float((lead >= EARLY).mean()) if len(lead) else float("nan"),
        any_lead=float(lead.notna().mean()) if len(lead) else float("nan"),
        median_lead=float(known.median() / pd.Timedelta("1h")) if len(known) else float("nan"),
        false_alarms=_in_vain(alarm) / seen.months,
        false_outside=_in_vain(alarm[~alarm["running"]]) / seen.months,
    )


def _in_vain(alarm: pd.DataFrame) -> float:
    """Days with an alarm, less those where one of them was followed by a start."""
    return float(alarm["day"].nunique() - alarm.loc[alarm["soon"], "day"].nunique())


def fixed_level(
    before: Watch, model: str, *, most: float = MOST_FALSE, outside: bool = False
) -> float | None:
    """Return the lowest level with at most ``most`` false alarms per market-month before the test.

    None where there are no rows before the test; ``outside`` leaves out alarms during running events.
    """
    if before.rows.empty:
        return None
    for level in LEVELS:
        made = outcome(before, model, level)
        if (made.false_outside if outside else made.false_alarms) <= most:
            return level
    return LEVELS[-1]


def trade_off(seen: Watch, model: str) -> pd.DataFrame:
    """Outcome at every level."""
    return pd.DataFrame([outcome(seen, model, level) for level in LEVELS[::2]])


def catalogue(seen: Watch, model: str, level: float) -> pd.DataFrame:
    """Say what the alarm did around each catalogued event, on the markets that it concerns.

    Returns
    -------
    pandas.DataFrame
        ``event, start, expected_miss, markets`` (concerned), ``began`` (of them, an event starts between a
        day before and the end), ``early`` (share of those flagged at least six hours before),
        ``median_lead`` (hours), ``before`` (mean over markets of the largest probability of the day before).
    """
    if seen.rows.empty:
        return pd.DataFrame()
    names = seen.rows["market"].unique().tolist()
    first, last = seen.rows["time"].min().date(), seen.rows["time"].max().date()
    lead = leads(seen, model, level)
    out = []
    for event in events_between(first, last, names):
        concerned = [n for n in names if event in events_between(event.start, event.end, [n])]
        out.append(_event(seen, model, event, concerned, lead))
    return pd.DataFrame(out)


def _event(
    seen: Watch, model: str, event: StressEvent, concerned: list[str], lead: pd.Series
) -> dict[str, object]:
    begin = pd.Timestamp(event.start, tz="UTC")
    end = pd.Timestamp(event.end, tz="UTC") + DAY
    own = seen.starts["market"].isin(concerned) & seen.starts["start"].between(begin - DAY, end)
    hit = lead[own[own].index]
    rows = seen.rows[seen.rows["market"].isin(concerned) & (seen.rows["time"] > begin - DAY)]
    before = rows[rows["time"] <= begin].groupby("market")[model].max()
    known = hit.dropna()
    return {
        "event": event.name,
        "start": event.start.isoformat(),
        "expected_miss": event.expected_miss,
        "markets": len(concerned),
        "began": int(seen.starts.loc[own, "market"].nunique()),
        "early": float((hit >= EARLY).mean()) if len(hit) else float("nan"),
        "median_lead": float(known.median() / pd.Timedelta("1h")) if len(known) else float("nan"),
        "before": float(before.mean()) if len(before) else float("nan"),
    }
