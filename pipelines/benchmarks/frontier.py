"""``benchmark frontier``: cost, coverage and bad debt of every policy, and of other venues' tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

import pandas as pd

from calibrator.backtest.report import plain
from calibrator.config import Config
from calibrator.data.incumbents import Incumbent
from calibrator.errors import DataError
from pipelines.benchmarks.forecast_pages import machine, pipe_table
from pipelines.benchmarks.margin import of_no_size
from pipelines.benchmarks.regimes_liquidations import implied_quotes
from pipelines.forecasting import Progress
from pipelines.frontier import Frontier, against_venues, frontiers
from pipelines.loading import Loaded, load
from pipelines.producing import produced
from pipelines.production import Production
from pipelines.report.frontier import against_table, frontier_drawing, interval_table, levels_table
from pipelines.report.tables import Table
from pipelines.store import save, save_json

LEVELS: Final = {"perpetual": 0.999, "collateral": 0.99}
"""Levels at which ours is calibrated to a venue's close-out, where the configuration has another one."""
FRESH: Final = pd.Timedelta("5D")
"""Oldest implied volatility that counts as known."""
NOTE: Final = (
    "Every policy on the same rows, unscaled, at every level: average margin / share of losses covered /",
    "mean of `max(0, loss - margin)` in basis points of notional. Intervals: 90 %, moving blocks of ten",
    "days, markets kept together. `against`: this proposal multiplied by one constant over all rows, to the",
    "other's mean shortfall (margin saved) and to its average margin (shortfall avoided); negative = this",
    "proposal is worse. The constant is set afterwards; the causal twin, from the trailing 365 days, is the",
    "row `this proposal at the cost of historical simulation`. Losers are listed like everybody else.",
)
VENUE_NOTE: Final = (
    "One table of each venue, at one date, held against the whole history: what it asked in other years is",
    "not in it. Losses are price losses over the venue's own close-out; neither slippage nor the liquidation",
    "penalty is in them, and a lending threshold has to pay the penalty too. `venue, n`: a position of `n`",
    "quote units; sizes that the table does not tell apart stand once. Nobody's accounts: how much margin",
    "traders really post above the maintenance margin is not known here.",
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the benchmark found.

    Attributes
    ----------
    frontiers : list of Frontier
    against : dict of str to pandas.DataFrame
        Venues whose close-out is not the configured one, with ours calibrated to theirs.
    tables : sequence of Incumbent
        What was held against ours.
    span : (pandas.Timestamp, pandas.Timestamp)
        First and last decision.
    """

    frontiers: list[Frontier]
    against: dict[str, pd.DataFrame]
    tables: Sequence[Incumbent]
    span: tuple[pd.Timestamp, pd.Timestamp]


def run(
    config: Config,
    *,
    home: Path,
    as_of: datetime | None,
    tables: Sequence[Incumbent],
    implied: Path | None,
    progress: Progress,
) -> Measured:
    """Run production once, hold every policy against it, and once more per foreign close-out.

    Size is left out: the losses are those of prices.

    Raises
    ------
    DataError
        No group of markets has a frontier.
    """
    config = of_no_size(config)
    loaded = load(config, as_of=as_of)
    production = produced(config, loaded, home=home, progress=progress)
    quoted = None if implied is None else everywhere(production, implied)
    progress("frontier", 0, 1)
    found = frontiers(production, loaded.bars, implied=quoted, incumbents=tables)
    progress("frontier", 1, 1)
    if not found:
        raise DataError("frontier: no decision in the backtest's window has every policy's margin")
    against: dict[str, pd.DataFrame] = {}
    for role, hours in sorted({(t.role, t.close_out_hours) for t in tables}):
        own = [t for t in tables if (t.role, t.close_out_hours) == (role, hours)]
        done = {name for f in found for name in f.against.index[f.against["kind"] == "venue"]}
        if any(name.startswith(f"{t.venue}, ") for t in own for name in done):
            continue
        changed = at_close_out(config, loaded, role, hours)
        if changed is not None:
            made = produced(changed, loaded, home=home, progress=progress)
            against |= {k: t for k, t in against_venues(made, loaded.bars, own).items() if len(t)}
    origins = [d.table.index for d in production.decisions.values()]
    window = config.backtest
    first, last = min(i[0] for i in origins), max(i[-1] for i in origins)
    first = max(first, pd.Timestamp(window.start)) if window.start else first
    last = min(last, pd.Timestamp(window.end)) if window.end else last
    return Measured(found, against, tables, (first, last))


def at_close_out(config: Config, loaded: Loaded, role: str, hours: int) -> Config | None:
    """Calibrate every market to a venue's close-out; None where a bar is longer than that."""
    bars = pd.Timedelta(hours=hours) / config.data.step
    if bars < 1 or bars != int(bars):
        return None
    terms = {"role": role, "close_out": int(bars), "level": LEVELS[role]}
    markets = dict.fromkeys(sorted(loaded.bars["market"].unique()), terms)
    content = config.model_dump(by_alias=True) | {"markets": markets}
    content["margin"] |= {"close_out": int(bars), "level": LEVELS[role]}
    content["haircut"] |= {"pairs": (), "limits": None}
    return Config.model_validate(content)


def everywhere(production: Production, path: Path) -> pd.DataFrame:
    """Take one implied-volatility index as the scale of every market; its level cancels."""
    index = implied_quotes(path).rename(columns={"dvol_close": "variance"})
    index["variance"] = (index["variance"].astype(float) / 100) ** 2
    origins = pd.concat(
        [pd.DataFrame({"market": m, "origin": d.table.index}) for m, d in production.decisions.items()]
    ).sort_values("origin", kind="stable")
    known = pd.merge_asof(origins, index, left_on="origin", right_on="time", tolerance=FRESH)
    return known[["market", "origin", "variance"]].dropna().reset_index(drop=True)


def page(done: Measured, *, title: str, made_on: date, pictures: dict[str, str]) -> str:
    """Spell the tables in Markdown."""
    first, last = done.span
    lines = [
        f"# Frontier: {title}", "", f"{made_on}; {machine()}.", "",
        f"Decisions from {first:%Y-%m-%d} to {last:%Y-%m-%d}.", "", *NOTE,
    ]  # fmt: skip
    for made in done.frontiers:
        lines += ["", f"## {made.label}: {made.markets} markets", "", f"![frontier]({pictures[made.label]})"]
        lines += ["", *_spelled(levels_table(made.table))]
        lines += ["", f"At the configured level of {made.level:g}:", "", *_spelled(interval_table(made))]
        for name, table in made.alone.items():
            rows = int(table["rows"].iloc[0])
            lines += ["", f"### {name} ({rows:,} rows)", "", *_spelled(levels_table(table))]
        lines += ["", "### against", "", *_spelled(against_table(made.against))]
    lines += ["", "## Other venues' tables at their own close-out", "", *VENUE_NOTE]
    for label, table in done.against.items():
        lines += ["", f"### ours as {label}", "", *_spelled(against_table(table))]
    lines += ["", "Sources:", ""]
    lines += [
        f"- {t.venue}: {t.field}; {t.source}; stated {t.stated}, retrieved {t.retrieved}; {t.note}"
        for t in done.tables
    ]
    return "\n".join([*lines, ""])


def _spelled(table: Table) -> list[str]:
    frame = pd.DataFrame(table.rows, columns=range(len(table.head)))
    lines = pipe_table(frame.set_index(0))
    head = "| " + " | ".join(table.head) + " |"
    return [head, *lines[1:]]


def write(
    done: Measured, *, home: Path, title: str, made_on: date, docs: Path | None = None
) -> dict[str, Path]:
    """Write page, figures and numbers to ``home/benchmarks/frontier/``; page and figures also to ``docs``."""
    folder = home / "benchmarks" / "frontier"
    several = len(done.frontiers) > 1
    pictures = {
        f.label: f"frontier-{title}{f'-{i}' if several else ''}.png" for i, f in enumerate(done.frontiers, 1)
    }
    drawn = {pictures[f.label]: frontier_drawing(f).png() for f in done.frontiers}
    text = page(done, title=title, made_on=made_on, pictures=pictures)
    content = {
        "frontiers": {f.label: f.summary() for f in done.frontiers},
        "against": {
            label: {
                name: {k: [plain(x) for x in v] if isinstance(v, tuple) else plain(v) for k, v in row.items()}
                for name, row in table.to_dict("index").items()
            }
            for label, table in done.against.items()
        },
    }
    out = {}
    for place in [folder] if docs is None else [folder, docs]:
        place.mkdir(parents=True, exist_ok=True)
        what = "committed " if place == docs else ""
        out[f"{what}table"] = save(place / f"frontier-{title}.md", text)
        for name, png in drawn.items():
            out[f"{what}{name}"] = save(place / name, png)
    out["numbers"] = save_json(folder / f"frontier-{title}.json", content)
    return out
