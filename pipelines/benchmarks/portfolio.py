"""``benchmark portfolio``: exactness, speed, and what netting saves and covers, as one page."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from calibrator.config import Config
from calibrator.data.sources import load_bars, load_implied_volatility
from calibrator.errors import ConfigError
from calibrator.netting import PortfolioRules
from pipelines.benchmarks import portfolio_speed, portfolio_stress
from pipelines.benchmarks.portfolio_history import SKEW, Files, history, rules_at, summary
from pipelines.benchmarks.speed import Table, markdown
from pipelines.benchmarks.timing import Clock
from pipelines.forecasting import Progress
from pipelines.production import Production, produce
from pipelines.store import save, save_json

SINCE: Final = pd.Timestamp("2021-04-01", tz="UTC")
ASKED: Final = {"saving": 0.70, "covered_worst_hour": 0.99}
SHARES: Final = frozenset(
    {
        "saving", "legs", "portfolio", "covered_worst_hour", "covered_after_24h", "coverage",
        "margin_of_sum", "worst_account", "coverage_pairs", "worst_pair", "mean_saving", "largest_excess",
    }
)  # fmt: skip
SAID_HISTORY: Final = (
    "Every daily decision from {first:%Y-%m-%d} to {last:%Y-%m-%d}, notional one; requirements are "
    "shares of the price at the maintenance level (99 %, 24 h close-out), grids from the forecasts of "
    "the day. Verticals: 30 days to expiry, strikes at the money and 10 % away, revalued every hour at "
    "the index level with a stated skew, volatility = index * (1 {a:+} x {b:+} x^2), x = log(K / F) * "
    "sqrt(30 days / time). Carry: hourly closes of spot and perpetual where both were observed; "
    "elsewhere the basis path is drawn from the observed ones, scaled by the forecast volatility. "
    "Funding is not in the losses. `legs` is the sum of the two requirements alone. Asked: saving of at "
    "least 70 % at 99 % coverage, of all together."
)
SAID_JOINT: Final = (
    "{symbols}; every decision since {first:%Y-%m-%d}; linear books of equal notionals; the loss is the "
    "largest at any full hour of 24. As observed; all underlyings move like {leader} in units of their "
    "own margin (correlations to 1); longs move together, and shorts together on another day (and hedges "
    "to 0). `hedge` is `portfolio.hedge`: the most correlation that counts for a hedge; 0.0 is the "
    "default. `margin_of_sum`: requirement over the sum of the positions' own. Asked: coverage of at "
    "least 98 %."
)
SAID_SIMULATED: Final = (
    "SIMULATED accounts (the report's five strategies on the same underlyings) over {draws:,} drawn "
    "joint moves: Student-t(4), each side's margin its 99 % quantile, volatility shifted by a uniform "
    "share of its range, the whole close-out passed, options revalued in full. Asked: coverage of at "
    "least 98 %."
)
SAID_ADDITIVE: Final = (
    "Pairs of random books of three positions each: how often the two together ask more than apart, and "
    "by how much at most. Within the scenarios, and with offsets whose hedges count 0, netting never "
    "costs; basis is asked only of what is netted, and the concentration add-on is meant to grow faster "
    "than the book."
)


@dataclass(frozen=True, slots=True)
class Historical:
    """What the historical part runs on.

    Attributes
    ----------
    config : Config
        Bars of the underlyings; the decisions are its production's.
    files : Files

    Examples
    --------
    >>> Historical.__slots__
    ('config', 'files')
    """

    config: Config
    files: Files


def historical(
    config: Config | None, files: tuple[Path | None, Path | None, Path | None], symbol: str
) -> Historical | None:
    """Return what the historical part runs on, None without a configuration.

    Parameters
    ----------
    config : Config, optional
    files : (pathlib.Path, pathlib.Path, pathlib.Path)
        Implied volatility, spot, perpetual.
    symbol : str

    Raises
    ------
    ConfigError
        A configuration without all three files, or files without one.

    Examples
    --------
    >>> historical(None, (None, None, None), "BTCUSDT") is None
    True
    """
    implied, spot, perpetual = files
    if config is None and not any(files):
        return None
    if config is None or implied is None or spot is None or perpetual is None:
        raise ConfigError("--config, --implied, --spot and --perpetual belong together: all four or none")
    return Historical(config, Files(implied, spot, perpetual, symbol))


def run(
    chosen: Historical | None,
    *,
    as_of: datetime | None,
    scale: float,
    progress: Progress,
    clock: Clock = time.perf_counter,
) -> list[Table]:
    """Measure everything.

    Parameters
    ----------
    chosen : Historical, optional
        Without it: exactness, speed and additivity only.
    as_of : datetime, optional
        Later bars are not looked at.
    scale : float
        Share of the full sample, above 0 and at most 1.
    progress : callable
    clock : callable
        Seconds.

    Raises
    ------
    ConfigError
        ``scale`` outside its bounds, or the carry's symbol is not among the markets.
    """
    if not 0 < scale <= 1:
        raise ConfigError(f"--scale must be above 0 and at most 1, was {scale}")
    tables = [
        Table("Black-76: exactness", portfolio_speed.SAID_EXACT, portfolio_speed.exact_table(scale=scale)),
        Table(
            "Black-76: speed",
            portfolio_speed.SAID_OPTIONS,
            portfolio_speed.options_table(scale=scale, progress=progress, clock=clock),
        ),
        Table(
            "Book of accounts: speed and memory",
            portfolio_speed.SAID_BOOK,
            portfolio_speed.book_table(scale=scale, progress=progress, clock=clock),
        ),
        Table("Sub-additivity", SAID_ADDITIVE, portfolio_speed.additivity_table(scale=scale)),
    ]
    if chosen is not None:
        tables = _historical(chosen, as_of, scale, progress) + tables
    return tables


def _historical(chosen: Historical, as_of: datetime | None, scale: float, progress: Progress) -> list[Table]:
    config, files = chosen.config, chosen.files
    bars, _ = load_bars(config, as_of=as_of)
    implied, _ = load_implied_volatility(config, as_of=as_of)
    production = produce(bars, implied, config=config, progress=progress)
    if files.symbol not in production.decisions:
        raise ConfigError(f"--symbol {files.symbol}: no decision; there are {sorted(production.decisions)}")
    since = max(SINCE, pd.Timestamp(config.backtest.start or SINCE))
    progress("carry and verticals", 0, 1)
    rows = history(production, bars, files, since=since)
    progress("carry and verticals", 1, 1)
    made = summary(rows)
    for i, (column, least) in enumerate(ASKED.items()):
        at = list(made.columns).index(column) + 1
        made.insert(at, f"asked_{i + 1}", [least if name == "all" else np.nan for name in made.index])
    said = SAID_HISTORY.format(first=rows["origin"].min(), last=rows["origin"].max(), a=SKEW[0], b=SKEW[1])
    return [Table("Carry and 30-day vertical spreads", said, made), *_stress(production, bars, since, scale)]


def _stress(production: Production, bars: pd.DataFrame, since: pd.Timestamp, scale: float) -> list[Table]:
    symbols = sorted(production.decisions)
    if len(symbols) < 2:
        return []
    joint = portfolio_stress.historical(production, bars, symbols, since=since)
    frame = joint.set_index(["hedge", "joint moves", "book"])
    said = SAID_JOINT.format(symbols=", ".join(symbols), first=since, leader=symbols[0])
    rules = _rules(production, symbols)
    prices = {s: float(bars.loc[bars["market"] == s, "close"].iloc[-1]) for s in symbols}
    year = pd.Timedelta("365D") / production.clock.step
    volatility = {
        s: float(production.decisions[s].table["volatility_bar"].iloc[-1] * np.sqrt(year)) for s in symbols
    }
    draws = max(2_000, round(portfolio_stress.DRAWS * scale))
    drawn = portfolio_stress.simulated(rules, prices, volatility, draws=draws)
    return [
        Table("Joint moves, historical", said, frame),
        Table("Joint moves, simulated", SAID_SIMULATED.format(draws=draws), drawn.set_index("hedge")),
    ]


def _rules(production: Production, symbols: list[str]) -> PortfolioRules:
    """Return the rules of all underlyings at the last decision, without offsets."""
    each = [
        rules_at(production, production.decisions[s], len(production.decisions[s].table) - 1) for s in symbols
    ]
    return replace(each[0], underlyings=tuple(r.underlyings[0] for r in each))


def write(tables: Sequence[Table], *, home: Path, made_on: date, docs: Path | None = None) -> dict[str, Path]:
    """Write Markdown and JSON to ``home/benchmarks/portfolio/``; the Markdown also to ``docs``.

    Parameters
    ----------
    tables : sequence of Table
    home : pathlib.Path
    made_on : datetime.date
    docs : pathlib.Path, optional
        Folder ``docs/benchmarks``; receives ``portfolio.md``.

    Returns
    -------
    dict of str to pathlib.Path
    """
    folder = home / "benchmarks" / "portfolio"
    folder.mkdir(parents=True, exist_ok=True)
    shown = [Table(t.title, t.said, _in_percent(t.frame)) for t in tables]
    page = markdown(shown, made_on=made_on).replace("# Speed\n", "# Portfolio margin\n", 1)
    numbers = {t.title: _records(t.frame) for t in tables}
    out = {
        "table": save(folder / "portfolio.md", page),
        "numbers": save_json(folder / "portfolio.json", numbers),
    }
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        out["committed table"] = save(docs / "portfolio.md", page)
    return out


def _in_percent(frame: pd.DataFrame) -> pd.DataFrame:
    """Spell shares in percent, two digits: a coverage of 0.9995 is not 1."""
    out = frame.copy()
    for column in out.columns:
        if column in SHARES or str(column).startswith("asked_"):
            out[column] = [f"{v:.2%}" if np.isfinite(v) else "" for v in out[column]]
    return out.rename(columns={c: "asked" for c in out.columns if str(c).startswith("asked_")})


def _records(frame: pd.DataFrame) -> list[dict[str, object]]:
    rows = frame.reset_index().to_dict(orient="records")
    return [{str(k): v for k, v in row.items() if not pd.isna(v)} for row in rows]
