"""Carry and vertical spreads on real prices: what netting saves, and whether the netted margin covers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.config import Config
from calibrator.data.sources import load_bars
from calibrator.domain import ppm_up
from calibrator.netting import PortfolioRules
from calibrator.portfolio.black76 import price
from calibrator.portfolio.book import book, requirements
from calibrator.portfolio.contracts import Contract, table
from calibrator.portfolio.scenarios import scenarios
from pipelines.benchmarks.regimes_liquidations import implied_quotes
from pipelines.portfolio import TERM, underlying_rules
from pipelines.production import Decisions, Production

Array = NDArray[np.float64]
HOURS: Final = 24
MONTH: Final = 30 / 365
HOUR: Final = 1 / (365 * 24)
STALE: Final = pd.Timedelta("24h")
SKEW: Final = (-0.4, 0.8)
"""Implied volatility at strike K is the index times ``1 + a x + b x^2``,
``x = log(K / F) * sqrt(30 days / time)`` within -0.5..0.5: a 10 % out-of-the-money put is 5 % dearer, a 10 %
out-of-the-money call 3 % cheaper than at the money. The smile moves with the price."""
LEGS: Final = (("call", 1.0), ("call", 1.1), ("put", 1.0), ("put", 0.9))
SPREADS: Final = {
    "bull call spread": (1.0, -1.0, 0.0, 0.0),
    "bear call spread": (-1.0, 1.0, 0.0, 0.0),
    "bear put spread": (0.0, 0.0, 1.0, -1.0),
    "bull put spread": (0.0, 0.0, -1.0, 1.0),
}
SEED: Final = 20_210_401


@dataclass(frozen=True, slots=True)
class Files:
    """Where the prices of the two legs of a carry are, beside the run's own bars.

    Attributes
    ----------
    implied : pathlib.Path
        Implied-volatility index (``time`` = start of the hour, ``dvol_close`` in percent).
    spot, perpetual : pathlib.Path
        Hourly bars of the same symbol.
    symbol : str

    Examples
    --------
    >>> Files(Path("dvol.parquet"), Path("spot.parquet"), Path("perp.parquet")).symbol
    'BTCUSDT'
    """

    implied: Path
    spot: Path
    perpetual: Path
    symbol: str = "BTCUSDT"


def skewed(index: Array, strike: Array, forward: Array, years: Array) -> Array:
    """Return implied volatilities from the index level; see ``SKEW``.

    Examples
    --------
    >>> skewed(np.array([0.6]), np.array([90.0]), np.array([100.0]), np.array([30 / 365])).round(4).tolist()
    [0.6306]
    """
    x = np.clip(np.log(strike / forward) * np.sqrt(MONTH / years), -0.5, 0.5)
    out: Array = index * (1 + SKEW[0] * x + SKEW[1] * x**2)
    return out


def hourly(path: Path, symbol: str) -> pd.Series:
    """Return the closes of one market by time, through the data gate."""
    data = {"source": "files", "bars": [str(path)], "markets": [symbol], "bar": "1h", "label": "start"}
    bars, _ = load_bars(Config.model_validate({"data": data}), as_of=None)
    closes: pd.Series = bars.set_index("time")["close"]
    return closes


def paths(closes: pd.Series, origins: pd.DatetimeIndex) -> Array:
    """Return closes from each origin to ``HOURS`` later, (origins, HOURS + 1); NaN where one is missing."""
    ahead = [closes.reindex(origins + pd.Timedelta(hours=h)).to_numpy(float) for h in range(HOURS + 1)]
    return np.column_stack(ahead)


def rules_at(production: Production, d: Decisions, at: int) -> PortfolioRules:
    """Return the rules of one market as they were at one of its decisions."""
    settings = production.config.portfolio
    return PortfolioRules(
        quote=settings.quote,
        initial_multiple_ppm=ppm_up(production.config.margin.initial_multiple),
        term=TERM,
        scenarios=scenarios(len(settings.levels) + 1, settings.extended),
        underlyings=(underlying_rules(production, d, at),),
        correlations=(),
        collateral=(),
    )


def history(production: Production, bars: pd.DataFrame, files: Files, *, since: pd.Timestamp) -> pd.DataFrame:
    """Margin the strategies at every decision and follow them for 24 hours.

    Parameters
    ----------
    production : Production
    bars : pandas.DataFrame
        The run's own ``Bars``.
    files : Files
    since : pandas.Timestamp
        First decision.

    Returns
    -------
    pandas.DataFrame
        One row per decision and strategy: ``strategy, origin, legs, portfolio, worst, last`` as shares of the
        price; ``worst`` is the largest loss at any full hour, ``last`` the loss after 24 hours.
    """
    d = production.decisions[files.symbol]
    own = bars[bars["market"] == files.symbol].set_index("time")["close"]
    index = implied_quotes(files.implied).set_index("time")["dvol_close"] / 100
    origins = d.table.index[d.table.index >= since]
    walk, level = paths(own, origins), _levels(index, origins)
    carry = _carries(files, d, origins)
    rows = []
    first = len(d.table) - len(origins)
    for i, origin in enumerate(origins):
        rules = rules_at(production, d, first + i)
        if np.isfinite(walk[i]).all() and np.isfinite(level[i]).all():
            rows += _spreads(rules, walk[i] / walk[i, 0], level[i], origin)
        rows += _carry(rules, {name: c[i] for name, c in carry.items()}, origin)
    columns = ["strategy", "origin", "legs", "portfolio", "worst", "last"]
    return pd.DataFrame(rows, columns=columns)


def _levels(index: pd.Series, origins: pd.DatetimeIndex) -> Array:
    """Index level from each origin to 24 hours later: the last one known, NaN when older than ``STALE``."""
    known = index.copy()
    known.index = known.index + pd.Timedelta("1h")  # labelled by the start of the hour
    known = known[~known.index.duplicated(keep="last")].sort_index()
    wanted = [origins + pd.Timedelta(hours=h) for h in range(HOURS + 1)]
    return np.column_stack(
        [known.reindex(w, method="ffill", tolerance=STALE).to_numpy(float) for w in wanted]
    )


Row = tuple[str, pd.Timestamp, float, float, float, float]


def _spreads(rules: PortfolioRules, walk: Array, level: Array, origin: pd.Timestamp) -> list[Row]:
    """Margin the four verticals at one decision and revalue them hour by hour, in units of the price."""
    symbol = rules.underlyings[0].symbol
    strikes = np.array([k for _, k in LEGS])
    calls = np.array([kind == "call" for kind, _ in LEGS])
    marks = skewed(level[:1], strikes, np.ones(4), np.full(4, MONTH))
    contracts = table(
        tuple(
            Contract(symbol, kind, 1.0, strike=k, years=MONTH, volatility=float(v))  # type: ignore[arg-type]
            for (kind, k), v in zip(LEGS, marks, strict=True)
        ),
        (symbol,),
    )
    years: Array = np.linspace(MONTH, MONTH - HOURS * HOUR, HOURS + 1)[:, None]
    forward = walk[:, None]
    values = price(forward, strikes, skewed(level[:, None], strikes, forward, years), years, call=calls)
    units = np.array(list(SPREADS.values()))
    asked = _asked(rules, contracts, units)
    lost = -(values - values[0]) @ units.T
    return [
        (name, origin, *asked[i], float(lost[:, i].max()), float(lost[-1, i]))
        for i, name in enumerate(SPREADS)
    ]


def _asked(rules: PortfolioRules, contracts: object, units: Array) -> list[tuple[float, float]]:
    """Sum of the legs' requirements, and the portfolio's, for every row of ``units``."""
    legs = [(r, c) for r in range(len(units)) for c in range(units.shape[1]) if units[r, c]]
    count = len(units)
    account = [r for r, _ in legs] + [count + i for i in range(len(legs))]
    which = [c for _, c in legs] * 2
    quantity = [units[r, c] for r, c in legs] * 2
    made = book(account, which, quantity, contracts=contracts, accounts=count + len(legs))  # type: ignore[arg-type]
    total = requirements(made, rules).sum(axis=1)
    alone = np.bincount([r for r, _ in legs], total[count:], count)
    return [(float(a), float(p)) for a, p in zip(alone, total[:count], strict=True)]


def _carries(files: Files, d: Decisions, origins: pd.DatetimeIndex) -> dict[str, NDArray[Any]]:
    """Spot and perpetual over 24 hours: as observed where both are, else with basis moves drawn from there.

    A drawn basis path is one of the observed ones, scaled by the forecast volatility of its day and of this
    one; the price path is the leg's that was observed.
    """
    spot = paths(hourly(files.spot, files.symbol), origins)
    perpetual = paths(hourly(files.perpetual, files.symbol), origins)
    basis = perpetual / spot - 1
    basis = basis - basis[:, :1]
    seen: NDArray[np.bool_] = np.asarray(np.isfinite(basis).all(axis=1))
    volatility = d.table["volatility"].reindex(origins).to_numpy(float)
    rng = np.random.default_rng(SEED)
    chosen = rng.choice(np.flatnonzero(seen), len(origins))
    scaled = basis[chosen] * (volatility / volatility[chosen])[:, None]
    return {
        "seen": seen,
        "basis": np.where(seen[:, None], basis, scaled),
        "spot": spot,
        "perpetual": perpetual,
    }


def _carry(rules: PortfolioRules, day: dict[str, Any], origin: pd.Timestamp) -> list[Row]:
    """Margin long spot against short perpetual, and the reverse, and follow the basis."""
    known = day["spot"] if np.isfinite(day["spot"]).all() else day["perpetual"]
    if not np.isfinite(known).all():
        return []
    symbol = rules.underlyings[0].symbol
    contracts = table((Contract(symbol, "spot", 1.0), Contract(symbol, "perpetual", 1.0)), (symbol,))
    asked = _asked(rules, contracts, np.array([[1.0, -1.0], [-1.0, 1.0]]))
    moved = day["basis"] * known / known[0]  # what the perpetual gained on spot, in units of the price
    kind = "observed" if day["seen"] else "basis drawn"
    return [
        (f"long spot, short perpetual ({kind})", origin, *asked[0], float(moved.max()), float(moved[-1])),
        (f"short spot, long perpetual ({kind})", origin, *asked[1], float(-moved.min()), float(-moved[-1])),
    ]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return saving and coverage per strategy, and of all together.

    Parameters
    ----------
    rows : pandas.DataFrame
        From :func:`history`.

    Returns
    -------
    pandas.DataFrame
        ``decisions``; ``legs`` and ``portfolio``, mean requirements as shares of the price; ``saving``;
        coverage at the worst hour and after 24 hours; the worst loss over its margin.

    Examples
    --------
    >>> rows = pd.DataFrame({"strategy": ["a", "a"], "legs": [0.2, 0.2], "portfolio": [0.05, 0.05],
    ...                      "worst": [0.04, 0.06], "last": [0.01, 0.02]})
    >>> summary(rows).loc["all", ["saving", "covered_worst_hour"]].tolist()
    [0.75, 0.5]
    """
    parts = {
        "vertical spreads": rows[rows["strategy"].isin(list(SPREADS))],
        "carry": rows[~rows["strategy"].isin(list(SPREADS))],
        "all": rows,
    }
    groups = {str(name): own for name, own in rows.groupby("strategy", sort=False)}
    groups |= {name: own for name, own in parts.items() if len(own)}
    out = {}
    for name, own in groups.items():
        out[name] = {
            "decisions": float(own["worst"].count()),
            "legs": float(own["legs"].mean()),
            "portfolio": float(own["portfolio"].mean()),
            "saving": float(1 - own["portfolio"].sum() / own["legs"].sum()),
            "covered_worst_hour": float((own["worst"] <= own["portfolio"]).mean()),
            "covered_after_24h": float((own["last"] <= own["portfolio"]).mean()),
            "worst_loss_to_margin": float((own["worst"] / own["portfolio"]).max()),
        }
    return pd.DataFrame(out).T.rename_axis("strategy")
