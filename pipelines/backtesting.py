"""Challenge a production run: coverage, procyclicality, comparator policies and simulated accounts."""

from dataclasses import asdict, dataclass, field

import numpy as np
import pandas as pd

from calibrator.backtest.kpis import equal_margin_shortfall, procyclicality
from calibrator.backtest.policies import comparators
from calibrator.backtest.population import Population, simulate_accounts
from calibrator.backtest.rejections import rejections
from calibrator.backtest.replay import compare
from calibrator.backtest.report import plain, summary
from calibrator.backtest.table import coverage_table
from calibrator.calibrate.margin import initial_margin, round_up
from calibrator.config import Config, MarketConfig
from calibrator.data.events import events_between
from calibrator.errors import DataError
from calibrator.frames import SCHEDULE_HISTORY, conform
from calibrator.scores import qlike
from pipelines.announced import Announced, Replayed, announced
from pipelines.cascades import Cascades, cascades
from pipelines.executor import SERIAL, Executor
from pipelines.forecasting import Forecasts, Progress
from pipelines.frontier import Frontier, frontiers
from pipelines.production import Production
from pipelines.recorded import Recorded, recorded
from pipelines.starts import close_out
from pipelines.window import in_window, realized_variance

__all__ = [
    "Backtest",
    "backtest",
    "below_forecast",
    "forecast_scores",
    "in_both",
    "in_window",
    "realized_variance",
    "replayed",
]
ROW = ["market", "origin", "side"]
SIZE = 0.05
"""Size of the rejection count's own test."""


@dataclass(frozen=True, slots=True)
class Backtest:
    """What the challenge found.

    Attributes
    ----------
    margins : pandas.DataFrame
        Margins of every role inside the window, with ``loss`` (the worst start) beside each.
    coverage, kpis : pandas.DataFrame
        Per market, side and level.
    policies : dict of str to pandas.DataFrame
        Shortfall at equal average margin per group of markets (close-out, level, loss).
    replays : pandas.DataFrame or None
        Simulated accounts under our schedule and a static one.
    population : Population or None
    forecasts : pandas.DataFrame
        Mean QLIKE per model and market.
    summary : dict
        Content of ``backtest.json``.
    recorded : Recorded or None
        Recorded vaults and liquidations under the schedule, where the configuration names some.
    cascades : Cascades or None
        Convexity report of the simulated accounts.
    frontier : list of Frontier
        Per group of markets: ours among simpler policies and other venues' tables, level by level.
    announced : dict of str to Announced
        What announced changes invite, by whose accounts are meant.
    """

    margins: pd.DataFrame
    coverage: pd.DataFrame
    kpis: pd.DataFrame
    policies: dict[str, pd.DataFrame]
    replays: pd.DataFrame | None
    population: Population | None
    forecasts: pd.DataFrame
    summary: dict[str, object]
    recorded: Recorded | None = None
    cascades: Cascades | None = None
    frontier: list[Frontier] = field(default_factory=list)
    announced: dict[str, Announced] = field(default_factory=dict)


def backtest(
    production: Production, bars: pd.DataFrame, *, progress: Progress, executor: Executor = SERIAL
) -> Backtest:
    """Hold a production run against what happened.

    Parameters
    ----------
    production : Production
        The same object that the published document is made from.
    bars : pandas.DataFrame
        Conforming ``Bars``.
    progress : callable
        Called with (what, done, total).
    executor : Executor
        Does the replays; the result does not depend on it.

    Raises
    ------
    DataError
        No decision lies inside the backtest's window.
    """
    margins = in_window(
        pd.concat([production.margins(), production.margins(role="collateral")], ignore_index=True),
        production.config,
    )
    if margins.empty:
        window = production.config.backtest
        raise DataError(f"backtest: no decision between {window.start} and {window.end}; needs more history")
    variance = production.under_keys(realized_variance(production.forecasts))
    parts = []
    by_terms = _by_terms(production)
    for done, (terms, markets) in enumerate(by_terms.items()):
        progress("backtest", done, len(by_terms) + 1)
        parts.append(_challenge(production, margins, variance, terms, markets))
    progress("backtest", len(by_terms), len(by_terms) + 1)
    replays, population, given = replays_of(production, bars, executor)
    coverage = pd.concat([p[0] for p in parts], ignore_index=True)
    kpis = pd.concat([p[1] for p in parts], ignore_index=True)
    policies = {p[3]: p[2] for p in parts}
    scores = forecast_scores(production.forecasts, production.config)
    content = summary(coverage, kpis, replays=replays, population=population)
    content["policies"] = {name: _plain(table) for name, table in policies.items()}
    content["rejections"] = {p[3]: plain(p[4]) for p in parts}
    content["forecasts"] = _plain(scores)
    content["below_forecast"] = _plain(below_forecast(margins))
    progress("backtest", len(by_terms) + 1, len(by_terms) + 1)
    held = pd.concat([p[5] for p in parts], ignore_index=True)
    accounts = recorded(production, bars, executor=executor)
    shocked = cascades(production, bars, population)
    content |= accounts.summary() | ({"cascade": shocked.summary()} if shocked is not None else {})
    invited = announced(production, given, population, accounts.vaults)
    content["announced"] = {name: made.summary() for name, made in invited.items()}
    curves = frontiers(production, bars)
    content["expected_misses"] = expected_misses(margins)
    content["frontier"] = {f.label: f.summary() for f in curves}
    return Backtest(
        held, coverage, kpis, policies, replays, population, scores, content, accounts, shocked, curves,
        invited,
    )  # fmt: skip


def expected_misses(margins: pd.DataFrame) -> list[dict[str, str]]:
    """List the events on these markets and dates that no volatility model can see coming."""
    first, last = margins["origin"].min().date(), margins["origin"].max().date()
    found = [e for e in events_between(first, last, set(margins["market"])) if e.expected_miss]
    return [
        {
            "name": e.name,
            "start": e.start.isoformat(),
            "end": e.end.isoformat(),
            "what": e.what,
            "source": e.source,
        }
        for e in found
    ]


def below_forecast(margins: pd.DataFrame) -> pd.DataFrame:
    """How often, and how far, the limits kept a published margin below the forecast tail.

    Returns
    -------
    pandas.DataFrame
        Per market and side: ``share`` of decisions more than 0.1 % below, and the ``worst_ratio`` of the
        published to the unlimited margin.
    """
    ratio = margins["margin"] / margins["margin_unlimited"]
    by = [margins["market"] + " " + margins["side"]]
    grouped = ratio.groupby(by)
    return pd.DataFrame({"share": (ratio < 0.999).groupby(by).mean(), "worst_ratio": grouped.min()})


def forecast_scores(forecasts: Forecasts, config: Config) -> pd.DataFrame:
    """Mean QLIKE per market (and pooled, market ``*``) and model, over rows that every model covers."""
    index = forecasts.experts.index
    rows = forecasts.features.loc[index, ["market", "time"]].rename(columns={"time": "origin"})
    target = forecasts.targets.loc[index, "future_variance"]
    whole = forecasts.experts.notna().all(axis=1) & target.notna()
    inside = in_window(rows.reset_index(), config)["index"]
    use = index[whole].intersection(inside)
    losses = {m: qlike(target[use], forecasts.experts.loc[use, m]) for m in forecasts.experts}
    table = pd.DataFrame(losses, index=use)
    own = table.groupby(rows.loc[use, "market"]).mean()
    pooled = table.mean().to_frame().T.set_axis(pd.Index(["*"], name="market"))
    return pd.concat([own, pooled]).rename_axis("market")


def _by_terms(production: Production) -> dict[MarketConfig, list[str]]:
    out: dict[MarketConfig, list[str]] = {}
    for market, d in production.decisions.items():
        out.setdefault(d.terms, []).append(market)
    return out


_Parts = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, str, dict[str, object], pd.DataFrame]


def _challenge(
    production: Production,
    margins: pd.DataFrame,
    variance: pd.DataFrame,
    terms: MarketConfig,
    markets: list[str],
) -> _Parts:
    config = production.config
    sides = ["long"] if terms.role == "collateral" else ["long", "short"]
    own = margins[margins["market"].isin(markets) & margins["side"].isin(sides)].reset_index(drop=True)
    matured = production.losses[
        production.losses["market"].isin(markets) & production.losses["side"].isin(sides)
    ].reset_index(drop=True)
    losses = in_window(matured.drop(columns="known_at"), config)
    length = close_out(config, terms)
    overlap = -(-length // config.forecast.cadence)
    seen = variance[variance["market"].isin(markets)].reset_index(drop=True)
    coverage = coverage_table(own, losses, overlap=overlap, realized_variance=seen, draws=199)
    kpis = procyclicality(own)
    level = float(terms.level or config.margin.level)
    har = production.forecasts.experts["har"]
    rows = production.forecasts.features.loc[har.index, ["market", "time"]].rename(columns={"time": "origin"})
    forecasts = production.under_keys(rows.assign(variance=har).dropna())
    forecasts = forecasts[forecasts["market"].isin(markets)].reset_index(drop=True)
    starts = int(matured["start"].nunique())
    table = comparators(
        matured,
        seen,
        level=level,
        forecasts={"har": forecasts},
        tail_window=730 if starts == 1 else 365,
    )
    ours = own[[*ROW, "margin", "margin_unlimited"]].rename(
        columns={"margin": "ours", "margin_unlimited": "ours_unlimited"}
    )
    policies = _compared(table.merge(ours, on=ROW), losses)
    counted = asdict(rejections(own, losses, size=SIZE, block=10, draws=199, seed=1))
    label = f"{terms.role}, {length} bars, {level:.4g}, {terms.loss}"
    worst = losses.groupby(ROW, as_index=False)["loss"].max()
    return coverage, kpis, policies, label, counted, own.merge(worst, on=ROW, how="left")


def _compared(table: pd.DataFrame, losses: pd.DataFrame) -> pd.DataFrame:
    """Compare the policies that have margins at all; a short history has none of the slow ones."""
    ready = in_both(table, losses).dropna(axis=1, how="all")
    if "historical_simulation" not in ready or ready.dropna().empty:
        return pd.DataFrame()
    return equal_margin_shortfall(ready, losses)


def in_both(table: pd.DataFrame, losses: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of policies whose origins have losses inside the window."""
    return table[table["origin"].isin(losses["origin"].unique())].reset_index(drop=True)


def _plain(table: pd.DataFrame) -> dict[str, object]:
    return {
        str(name): {str(k): plain(v) for k, v in row.items()}
        for name, row in table.to_dict(orient="index").items()
    }


def replays_of(
    production: Production, bars: pd.DataFrame, executor: Executor
) -> tuple[pd.DataFrame | None, Population | None, Replayed | None]:
    """Replay the simulated accounts under our schedule and under one that is reset once a year.

    Returns
    -------
    tuple
        Outcomes, accounts, and bars, schedule and close-out of the replay; None without a margined market.
    """
    given = replayed(production, bars)
    if given is None:
        return None, None, None
    prices, ours, latency = given
    yearly = _static_schedule(production, list(ours["market"].unique()))
    first = yearly.groupby("market")["effective_from"].min()
    prices = prices[prices["time"] >= prices["market"].map(first)].reset_index(drop=True)
    schedules = {"calibrated": ours, "static": yearly}
    settings = production.config.backtest.accounts
    population = simulate_accounts(prices, schedules, settings)
    made = compare(prices, population.accounts, schedules, latency=latency, spread=executor.map)
    reacting = made["self_inflicted_share"] * (1 - settings.reacting)
    return made.assign(self_inflicted_share_reacting=reacting), population, (prices, ours, latency)


def replayed(production: Production, bars: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, int] | None:
    """Return bars, schedule and latency of the replay inside the window; None without a margined market."""
    config = production.config
    perpetual = [m for m, d in production.decisions.items() if d.terms.role == "perpetual"]
    if not perpetual:
        return None
    ours = in_window(production.schedule(), config, column="effective_from")
    prices = in_window(bars[bars["market"].isin(perpetual)], config, column="time")
    first = ours.groupby("market")["effective_from"].min()
    prices = prices[prices["time"] >= prices["market"].map(first)].reset_index(drop=True)
    latency = max(close_out(config, production.decisions[m].terms) for m in perpetual)
    return prices, ours, latency


def _static_schedule(production: Production, markets: list[str]) -> pd.DataFrame:
    """Yearly quantile of all history, where it exists; the first of ours before it does."""
    config = production.config
    ours = in_window(production.schedule(), config, column="effective_from")
    ours = ours[ours["notional_floor"] == 0].drop_duplicates("market")
    parts = [ours]
    for market in markets:
        terms = production.decisions[market].terms
        own = production.losses[production.losses["market"] == market].reset_index(drop=True)
        table = comparators(
            own,
            realized_variance(production.forecasts).query("market == @market").reset_index(drop=True),
            level=float(terms.level or config.margin.level),
        )
        yearly = table.groupby("origin", as_index=False)["static"].max().dropna()
        yearly = yearly[yearly["static"].diff() != 0]
        maintenance = np.clip(round_up(yearly["static"].to_numpy(float)), 1, 999_999)
        frame = pd.DataFrame({"market": market, "effective_from": yearly["origin"], "notional_floor": 0})
        frame["regime"] = np.int64(0)
        frame["initial_margin_ppm"] = initial_margin(maintenance, config.margin.initial_multiple)
        frame["maintenance_margin_ppm"] = maintenance
        parts.append(in_window(frame, config, column="effective_from"))
    both = pd.concat(parts, ignore_index=True)
    both = both.drop_duplicates(["market", "effective_from"], keep="last")
    both = both.sort_values(["market", "effective_from"]).reset_index(drop=True)
    return conform(both, SCHEDULE_HISTORY, source="static schedule")
