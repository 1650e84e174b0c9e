"""How often the gates promote an equal challenger, and a better one; how fast the ledger answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.config_jobs import RetrainConfig
from pipelines.contest import passes_loss_gates
from pipelines.forecasting import Progress
from pipelines.ledger import Identity, Ledger, open_ledger
from pipelines.store import save

Array = npt.NDArray[np.float64]
WORLDS: Final = 2_000
COUNTS: Final = (1, 2, 4)
"""Challengers at a time."""
LEADS: Final = (0.1, 0.2, 0.3, 0.4)
"""True gains of the better challenger, in standard deviations of its daily gain."""
YEARS: Final = 20
ASKED: Final = 500
FIRST: Final = datetime(2004, 1, 1, tzinfo=UTC)
LEASE: Final = timedelta(minutes=15)
LIMIT: Final = 1.0
"""Seconds within which the ledger must say which model was live."""
PAGE: Final = """# Promotion: how often the gates are wrong, how often they find a better model

Written {made_on} by `python -m pipelines benchmark promotion --write-docs`: {worlds:,} simulated worlds per
row, {days} decisions in the shadow window, permutations of blocks of {block} decisions, both loss gates at
{size:.0%} (permutation over all challengers at once, and Diebold-Mariano). Daily gains are heavy-tailed
(Student-t, 4 degrees of freedom) and their spread follows itself, as that of losses does. The other gates
(coverage, shortfall at equal margin, jumpiness) can only refuse more.

## No challenger is better

| challengers | promoted | share | 95 % interval |
|---:|---:|---:|---|
{size_rows}

## One challenger is better, the others are not

The lead is the true mean gain over the standard deviation of the daily gain. *Right* is the better one,
*wrong* another.

| challengers | lead | right | wrong |
|---:|---:|---:|---:|
{power_rows}

What falls short: {shortfall}

## Which model was live at a time

A ledger of {years} years: {jobs:,} jobs, {decisions:,} decisions, {megabytes:.1f} MB. Asked for {asked}
random times, each with a connection of its own: median {median:.1f} ms, slowest {slowest:.1f} ms
(must stay below {limit:,.0f} ms).
"""


@dataclass(frozen=True, slots=True)
class Promotions:
    """What was measured.

    Attributes
    ----------
    settings : RetrainConfig
    worlds : int
    size : pandas.DataFrame
        Promotions where nobody is better, per number of challengers: ``promoted, share, low, high``.
    power : pandas.DataFrame
        Shares ``right`` and ``wrong`` per ``challengers, lead``.
    ledger : dict of str to float
        ``years, jobs, decisions, megabytes, median, slowest`` (milliseconds).
    """

    settings: RetrainConfig
    worlds: int
    size: pd.DataFrame
    power: pd.DataFrame
    ledger: dict[str, float]


def run(*, scale: float = 1.0, progress: Progress) -> Promotions:
    """Measure size, power, and the ledger.

    Parameters
    ----------
    scale : float
        Share of the worlds and of the years.
    progress : callable
        Called with (what, done, total).
    """
    settings = RetrainConfig(draws=499)
    worlds = max(10, round(scale * WORLDS))
    size, power = [], []
    total = len(COUNTS) * (1 + len(LEADS))
    for at, count in enumerate(COUNTS):
        progress("promotion", at * (1 + len(LEADS)), total)
        promoted = sum(w is not None for w in winners(count, 0.0, settings=settings, worlds=worlds))
        size.append({"challengers": count, "promoted": promoted, **_interval(promoted, worlds)})
        for number, lead in enumerate(LEADS, start=1):
            progress("promotion", at * (1 + len(LEADS)) + number, total)
            found = winners(count, lead, settings=settings, worlds=worlds)
            right = sum(w == 0 for w in found) / worlds
            wrong = sum(w not in {0, None} for w in found) / worlds
            power.append({"challengers": count, "lead": lead, "right": right, "wrong": wrong})
    progress("promotion", total, total)
    answers = measure_ledger(years=max(1, round(scale * YEARS)))
    return Promotions(settings, worlds, pd.DataFrame(size), pd.DataFrame(power), answers)


def winners(count: int, lead: float, *, settings: RetrainConfig, worlds: int) -> list[int | None]:
    """Return whom the loss gates promote in each world; challenger 0 leads by ``lead`` deviations."""
    rng = np.random.default_rng(20)
    out: list[int | None] = []
    for world in range(worlds):
        gains = simulate_gains(rng, settings.shadow, count)
        gains[:, 0] += lead * gains[:, 0].std()
        passing = passes_loss_gates(gains, settings=settings, steps=1, seed=world)
        out.append(max(passing, key=lambda c: gains[:, c].mean()) if passing else None)
    return out


def simulate_gains(rng: np.random.Generator, days: int, challengers: int) -> Array:
    """Return daily gains of equal models: heavy-tailed, their spread a slow product of shocks.

    Examples
    --------
    >>> simulate_gains(np.random.default_rng(1), 250, 2).shape
    (250, 2)
    """
    scale = np.exp(np.convolve(rng.normal(0, 0.5, days + 20), np.full(20, 0.3))[20 : days + 20])
    gains: Array = rng.standard_t(4, (days, challengers)) * scale[:, None]
    return gains


def _interval(count: int, of: int) -> dict[str, float]:
    """Wilson's 95 % interval of a share."""
    share, z = count / of, 1.96
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z * np.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return {"share": share, "low": max(0.0, middle - half), "high": middle + half}


def fill(ledger: Ledger, *, years: int, first: datetime) -> None:
    """Write nightly runs, weekly retrainings and weekly decisions of some years, as the jobs do."""
    with ledger.together():
        for week in range(52 * years):
            monday = first + timedelta(weeks=week)
            for day in range(7):
                name = "retrain" if day == 6 else "run"
                now = monday + timedelta(days=day)
                token = ledger.start(name, now, now=now, lease=LEASE)
                ledger.identify(token, Identity(name, now, "c" * 64, "d" * 64, "e" * 64), now=now)
                files = {"files": [f"runs/{now:%Y%m%d}/parameters.json"]}
                ledger.finish(token, "done", now=now, facts=files)
            ledger.decide(f"model-{week}", "promote", now=monday, reason="simulated")


def measure_ledger(*, years: int) -> dict[str, float]:
    """Fill a ledger and ask it, each time from a new connection, which model was live."""
    with TemporaryDirectory() as folder:
        home = Path(folder)
        with open_ledger(home) as ledger:
            fill(ledger, years=years, first=FIRST)
            counts = {"jobs": float(52 * 7 * years), "decisions": float(len(ledger.decisions()))}
        megabytes = sum(p.stat().st_size for p in home.iterdir()) / 1e6
        rng = np.random.default_rng(7)
        seconds = [_ask(home, week) for week in rng.integers(0, 52 * years, ASKED).tolist()]
    took = {"median": 1000 * float(np.median(seconds)), "slowest": 1000 * max(seconds)}
    return {"years": float(years), "megabytes": megabytes} | counts | took


def _ask(home: Path, week: int) -> float:
    begin = perf_counter()
    with open_ledger(home) as ledger:
        live = ledger.live(FIRST + timedelta(weeks=week, days=1))
    took = perf_counter() - begin
    if live is None or live["model"] != f"model-{week}":
        raise AssertionError(f"week {week}: the ledger says {live}")
    return took


def page(found: Promotions, *, made_on: date) -> str:
    """Write the page."""
    settings, size, power = found.settings, found.size, found.power
    return PAGE.format(
        made_on=made_on,
        worlds=found.worlds,
        days=settings.shadow,
        block=settings.block,
        size=settings.gates.size,
        size_rows="\n".join(
            f"| {r.challengers} | {r.promoted} of {found.worlds:,} | {r.share:.1%} "
            f"| {r.low:.1%} to {r.high:.1%} |"
            for r in size.itertuples()
        ),
        power_rows="\n".join(
            f"| {r.challengers} | {r.lead:.1f} | {r.right:.0%} | {r.wrong:.1%} |" for r in power.itertuples()
        ),
        shortfall=_shortfall(power, settings.gates.size, size["share"].tolist()),
        asked=ASKED,
        limit=1000 * LIMIT,
        **{k: (int(v) if k in {"years", "jobs", "decisions"} else v) for k, v in found.ledger.items()},
    )


def _shortfall(power: pd.DataFrame, size: float, shares: Sequence[float]) -> str:
    weak = power[power["right"] < 0.5]
    lines = []
    if max(shares) > size:
        lines.append(
            f"equal challengers are promoted in up to {max(shares):.1%} of the worlds, above {size:.0%}"
        )
    if len(weak):
        lines.append(
            f"a lead of {weak['lead'].max():.1f} deviations is missed in more than half of the windows; a\n"
            "small lead needs a longer shadow window (`retrain.shadow`)"
        )
    return "; ".join(lines) + "." if lines else "nothing that was looked for here."


def write(found: Promotions, *, home: Path, made_on: date, docs: Path | None) -> dict[str, Path]:
    """Write the page under ``home``, and to the documentation where asked."""
    text = page(found, made_on=made_on)
    files = {"table": save(home / "benchmarks" / "promotion.md", text)}
    if docs is not None:
        files["docs"] = save(docs / "promotion.md", text)
    return files
