"""``benchmark replay``: the engines of the replay beside a compiled naive scan and the plain loop."""

import resource
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path as File
from typing import Final

import numba
import numpy as np
import pandas as pd

from calibrator.backtest.course import Course, fast_replay, plain_course
from calibrator.backtest.cross import Courses, CrossAccounts, replay_on, tables_of
from calibrator.backtest.events import Positions, search_events
from calibrator.backtest.terms import Floats, Prices, Terms
from calibrator.backtest.transition import loop
from calibrator.backtest.venue import Rules
from pipelines.benchmarks.speed import Table, markdown
from pipelines.benchmarks.timing import Clock, interleaved, ratio
from pipelines.forecasting import Progress
from pipelines.store import save, save_json

ACCOUNTS, BARS, ROUNDS = 100_000, 10_000, 3
CROSS_ACCOUNTS, ASSETS, HOURS = 100_000, 20, 8_760
LARGE_ACCOUNTS, LARGE_BARS = 1_000_000, 500_000
CROSS_SAMPLE = 20
"""The naive scan of cross-margined accounts takes one in so many."""
SAMPLE = 200, 300
"""Accounts and bars of the plain loop's sample."""
RULES: Final = Rules(latency=1)
SAID: Final = (
    "Seconds are the processor's. One market, margins that change every 24 bars, three tiers, both "
    "sides, one bar of latency; accounts open over the whole span and stay open until they are "
    "liquidated or the bars end. `naive` is a compiled scan of all accounts bar after bar, the order "
    "that a fund, a price or deleveraging that accounts share asks for. Where they share nothing, "
    "`scan` takes one account after the other, and `search` is the engine for that case. `plain loop` "
    "is the pure transition bar by bar, measured on a sample (stated) and extrapolated by accounts "
    "times bars. `same`: both engines' breach bars are those of both scans."
)
SAID_CROSS: Final = (
    "Cross-margined accounts of one to `assets` holdings; checked at the bar's start and at its closes. "
    "`naive` is the same compiled code without blocks, measured on `naive_sample` accounts and extrapolated "
    "by their number; `same` is about those. The tables of levels and bounds are made once for all "
    "accounts and counted."
)
SAID_LARGE: Final = (
    "Seconds of the processor and memory (peak of the process) as accounts and bars grow. `events` are "
    "closings of any kind; `predicted` is seconds in proportion to (accounts + events) log2 accounts + "
    "bars * tiers, with the constant of the last row."
)


@numba.njit(cache=True)
def _level(price, t, margin, spared, floors, size):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - compiled
    """Return what a key is compared with in bar ``t``."""
    k = 0
    while k + 1 < len(floors) and abs(size) * price >= floors[k + 1]:
        k += 1
    m = margin[k, t] / 1_000_000
    level = price * (1 - m if size > 0 else 1 + m)
    return level if k == 0 else level + spared[k, t] / size


@numba.njit(cache=True)
def _scanned(start, low, high, margin, spared, floors, key, size, opened):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0913, PLR0917
    """First bar in which each account is below its margin: one account after the other."""
    out = np.full(len(key), -1, np.int64)
    for i in range(len(key)):
        for t in range(opened[i] + 1, len(start)):
            if size[i] > 0:
                if _level(min(start[t], low[t]), t, margin, spared, floors, size[i]) < key[i]:
                    out[i] = t
                    break
            elif _level(max(start[t], high[t]), t, margin, spared, floors, size[i]) > key[i]:
                out[i] = t
                break
    return out


@numba.njit(cache=True)
def _naive(start, low, high, margin, spared, floors, key, size, opened):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0913, PLR0917
    """First bar in which each account is below its margin: one bar after the other."""
    out = np.full(len(key), -1, np.int64)
    for t in range(1, len(start)):
        for i in range(len(key)):
            if out[i] >= 0 or opened[i] >= t:
                continue
            if size[i] > 0:
                if _level(min(start[t], low[t]), t, margin, spared, floors, size[i]) < key[i]:
                    out[i] = t
            elif _level(max(start[t], high[t]), t, margin, spared, floors, size[i]) > key[i]:
                out[i] = t
    return out


def run(*, scale: float = 1.0, progress: Progress, clock: Clock = time.process_time) -> list[Table]:
    """Measure the engines.

    Parameters
    ----------
    scale : float
        Share of the full sample (accounts and bars alike), above 0 and at most 1.
    progress : callable
        Called with (what, done, total).
    clock : callable
        Seconds; those of the processor, because everything here runs in one thread and machines are busy.

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
    _warm()
    progress("replay", 0, 3)
    isolated = isolated_table(scale=scale, clock=clock)
    progress("replay", 1, 3)
    cross = cross_table(scale=scale, clock=clock)
    progress("replay", 2, 3)
    large = large_table(scale=scale, clock=clock)
    progress("replay", 3, 3)
    return [
        Table("Isolated accounts", SAID, isolated),
        Table("Cross-margined accounts", SAID_CROSS, cross),
        Table("One process, large", SAID_LARGE, large),
    ]


def market(seed: int, bars: int) -> Course:
    """Make a simulated course: hourly-like moves, margins that change every 24 bars, three tiers."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.005 * rng.standard_t(4, bars) / np.sqrt(2)))
    start = np.concatenate([close[:1], close[:-1]])
    wick = np.exp(0.002 * np.abs(rng.standard_normal((2, bars))))
    margins = np.repeat(rng.integers(10_000, 60_000, bars // 24 + 1), 24)[:bars]
    margins = margins + np.array([[0], [10_000], [30_000]])
    prices = Prices(
        np.arange(bars).astype("datetime64[h]"),
        np.maximum(start, close) * wick[0],
        np.minimum(start, close) / wick[1],
        close,
    )
    return plain_course(prices, Terms(np.array([0, 1_000_000, 5_000_000]), margins, 2 * margins, 0))


def population(seed: int, course: Course, count: int) -> Positions:
    """Draw accounts that nobody closes: leverage from 1 to 12, log-normal size."""
    rng = np.random.default_rng(seed)
    opened = np.sort(rng.integers(0, len(course.prices.close) - 1, count))
    notional = 20_000 * np.exp(1.5 * rng.standard_normal(count))
    entry = course.prices.close[opened]
    return Positions(
        rng.choice(np.array([1, -1]), count),
        notional / entry,
        entry,
        notional / (1 + 11 * rng.random(count)),
        opened,
        np.full(count, len(course.prices.close)),
    )


def _warm() -> None:
    """Compile outside the clock."""
    course = market(1, 60)
    positions = population(1, course, 20)
    fast_replay(course, positions, rules=RULES)
    _ = [f(*_arguments(course, positions)) for f in (_naive, _scanned)]
    courses, accounts = _cross_world(1, 60, 5, 2)
    for depth in (0, 2):
        replay_on(tables_of(courses, depth=depth), courses, accounts, rules=RULES)


def _arguments(course: Course, positions: Positions) -> tuple[object, ...]:
    prices = course.prices
    start = np.concatenate([prices.close[:1], prices.close[:-1]])
    return (
        start, prices.low, prices.high, course.terms.maintenance, course.terms.deduction(),
        course.terms.notional_floor, positions.bankruptcy_price(), positions.direction * positions.quantity,
        positions.opened,
    )  # fmt: skip


def isolated_table(*, scale: float, clock: Clock) -> pd.DataFrame:
    """Heaps and search against the scans (alternating) and the plain loop (a sample)."""
    count, bars = max(200, round(ACCOUNTS * scale)), max(300, round(BARS * scale))
    course = market(2, bars)
    positions = population(3, course, count)
    arguments = _arguments(course, positions)
    tasks = {
        "naive": lambda: _naive(*arguments),
        "scan": lambda: _scanned(*arguments),
        "heaps": lambda: fast_replay(course, positions, rules=RULES),
        "search": lambda: search_events(course.prices, course.terms, positions, RULES.latency),
    }
    seconds = interleaved([tasks] * ROUNDS, clock=clock)
    plain = _plain(clock) * count * bars
    events = fast_replay(course, positions, rules=RULES).events
    breached = np.full(count, -1)
    breached[events["account"].to_numpy()] = events["breached"].to_numpy()
    found = search_events(course.prices, course.terms, positions, RULES.latency).breached
    row: dict[str, object] = {"accounts": count, "bars": bars, "events": len(events)}
    row |= {f"{name}_s": float(seconds[name].median()) for name in tasks}
    row |= {
        "naive_to_heaps": ratio(seconds, slow="naive", fast="heaps"),
        "naive_to_search": ratio(seconds, slow="naive", fast="search"),
        "asked": 100.0,
        "scan_to_search": ratio(seconds, slow="scan", fast="search"),
        "plain_loop_s": plain,
        "sample": f"{SAMPLE[0]} x {SAMPLE[1]}",
        "plain_to_heaps": plain / float(seconds["heaps"].median()),
        "asked_plain": 1000.0,
        "same": all(np.array_equal(v, _naive(*arguments)) for v in (breached, found, _scanned(*arguments))),
    }
    return pd.DataFrame([row]).set_index("accounts")


def _plain(clock: Clock) -> float:
    """Seconds of the plain loop per account and bar."""
    sample = market(2, SAMPLE[1])
    few = population(3, sample, SAMPLE[0])
    state, moments = sample.state(few), list(sample.moments())
    begin = clock()
    loop(state, moments, rules=RULES)
    return (clock() - begin) / (SAMPLE[0] * SAMPLE[1])


def _cross_world(seed: int, bars: int, count: int, assets: int) -> tuple[Courses, CrossAccounts]:
    rng = np.random.default_rng(seed)
    common = rng.standard_t(4, bars)
    time_, markets = np.arange(bars).astype("datetime64[h]"), []
    for _ in range(assets):
        close = 50 * np.exp(np.cumsum(0.004 * (common + rng.standard_t(4, bars)) / 2))
        margins = np.repeat(rng.integers(10_000, 60_000, bars // 24 + 1), 24)[None, :bars]
        markets.append(
            plain_course(Prices(time_, close, close, close), Terms(np.array([0]), margins, margins, 0))
        )
    held = rng.integers(1, assets + 1, count)
    opened = rng.integers(0, bars - 1, count)
    first = np.concatenate([[0], np.cumsum(held)])
    offset = np.arange(first[-1]) - np.repeat(first[:-1], held)
    asset = (np.repeat(rng.integers(0, assets, count), held) + offset) % assets
    prices = np.array([m.prices.close for m in markets])[asset, np.repeat(opened, held)]
    notional = 1_000 * np.exp(rng.standard_normal(len(asset)))
    quantity = rng.choice(np.array([1, -1]), len(asset)) * notional / prices
    value, gross = (np.add.reduceat(v, first[:-1]) for v in (quantity * prices, notional))
    cash = gross / (1 + 6 * rng.random(count)) - value
    accounts = CrossAccounts(cash, opened, np.full(count, bars), first, asset, quantity)
    return Courses(tuple(markets)), accounts


def cross_table(*, scale: float, clock: Clock) -> pd.DataFrame:
    """Blocks of bars against the same code that looks at every bar, the latter on a share of the accounts."""
    count, bars = max(50, round(CROSS_ACCOUNTS * scale)), max(200, round(HOURS * scale))
    courses, accounts = _cross_world(4, bars, count, ASSETS)
    few = _first(accounts, max(50, count // CROSS_SAMPLE))
    outcomes: dict[str, Floats] = {}

    def measured(name: str, depth: int, chosen: CrossAccounts) -> None:
        done = replay_on(tables_of(courses, depth=depth), courses, chosen, rules=RULES)
        outcomes[name] = done.events[["account", "breached"]].to_numpy()

    tasks = {
        "naive": lambda: measured("naive", 0, few),
        "blocks": lambda: measured("blocks", 4, accounts),
    }
    seconds = interleaved([tasks] * ROUNDS, clock=clock)
    seconds["naive"] *= count / len(few.cash)
    own = outcomes["blocks"]
    row = {
        "accounts": count,
        "assets": ASSETS,
        "bars": bars,
        "events": len(own),
        "naive_sample": len(few.cash),
        "naive_s": float(seconds["naive"].median()),
        "blocks_s": float(seconds["blocks"].median()),
        "ratio": ratio(seconds, slow="naive", fast="blocks"),
        "asked": 30.0,
        "same": bool(np.array_equal(outcomes["naive"], own[own[:, 0] < len(few.cash)])),
    }
    return pd.DataFrame([row]).set_index("accounts")


def _first(accounts: CrossAccounts, count: int) -> CrossAccounts:
    """Take the first accounts."""
    held = slice(0, int(accounts.first[count]))
    return CrossAccounts(
        accounts.cash[:count],
        accounts.opened[:count],
        accounts.closes[:count],
        accounts.first[: count + 1],
        accounts.asset[held],
        accounts.quantity[held],
    )


def large_table(*, scale: float, clock: Clock) -> pd.DataFrame:
    """Grow accounts and bars up to a million accounts over half a million bars, in this process."""
    rows = []
    for share in (0.05, 0.2, 1.0):
        count, bars = (max(500, round(n * scale * share)) for n in (LARGE_ACCOUNTS, LARGE_BARS))
        course = market(5, bars)
        positions = population(6, course, count)
        begin = clock()
        events = len(fast_replay(course, positions, rules=RULES).events)
        rows.append(
            {
                "accounts": count,
                "bars": bars,
                "events": events,
                "seconds": clock() - begin,
                "work": (count + events) * np.log2(count) + bars * 3.0,
                "peak_GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _kilobytes(),
            }
        )
    table = pd.DataFrame(rows).set_index("accounts")
    table["predicted"] = table["work"] / table["work"].iloc[-1] * table["seconds"].iloc[-1]
    return table.drop(columns="work").assign(asked_GB=6.0)


def _kilobytes() -> float:
    """Units of ``ru_maxrss`` in a gigabyte: kilobytes, on macOS bytes."""
    return 1e9 if sys.platform == "darwin" else 1e9 / 1024


def write(tables: Sequence[Table], *, home: File, made_on: date, docs: File | None = None) -> dict[str, File]:
    """Write ``replay.md`` and ``replay.json`` to ``home/benchmarks/replay/``; the Markdown also to ``docs``.

    Parameters
    ----------
    tables : sequence of Table
    home : pathlib.Path
    made_on : datetime.date
        Printed in the Markdown.
    docs : pathlib.Path, optional
        Folder ``docs/benchmarks``.

    Returns
    -------
    dict of str to pathlib.Path
        What was written, by what it is.
    """
    folder = home / "benchmarks" / "replay"
    folder.mkdir(parents=True, exist_ok=True)
    page = markdown(tables, made_on=made_on).replace("# Speed", "# Replay of accounts: speed", 1)
    numbers = {t.title: t.frame.reset_index().to_dict("records") for t in tables}
    out = {
        "table": save(folder / "replay.md", page),
        "numbers": save_json(folder / "replay.json", numbers),
    }
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        out["committed table"] = save(docs / "replay.md", page)
    return out
