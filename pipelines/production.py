"""The one composition of the stages: what is backtested is, bit for bit, what is signed."""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.margin import initial_margin, margin_tiers, round_up
from calibrator.calibrate.plan import expected_path
from calibrator.calibrate.procyclicality import limit_ahead
from calibrator.config import Config, MarketConfig
from calibrator.config_collateral import HaircutPair
from calibrator.domain import SIDES
from calibrator.features import Clock
from calibrator.feeds import Feeds
from calibrator.frames import HAIRCUTS, MARGINS, PLAN, SCHEDULE_HISTORY, TAILS, conform
from pipelines.add_ons import Observed, book_of
from pipelines.calibration import decide, regimes_at, tables_of
from pipelines.forecasting import Forecasts, Progress, forecast_all
from pipelines.loans import Loan
from pipelines.milder import Milder
from pipelines.pairs import Member, by_terms, members, under_keys, with_debt_price, with_pairs
from pipelines.planning import planned_haircuts
from pipelines.smoothing import may_fall
from pipelines.soundness import with_soundness
from pipelines.starts import close_out, closes_only, collect_losses, loss_frame
from pipelines.walks import Walker

Array = NDArray[np.float64]
OUTCOMES = ("loss_long", "loss_known_at")
"""What followed a decision: the plan learns from those that are known, no decision keeps them."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """One market's decisions, in time order: every number from forecast to published margin.

    Attributes
    ----------
    market : str
        Name in frames: the market, or ``collateral/debt@location``.
    terms : MarketConfig
        Role, close-out, level, loss.
    table : pandas.DataFrame
        Index ``origin``; columns ``volatility`` (over the close-out), ``volatility_bar``, ``turnover``
        (units of the debt), ``debt_price`` (in the unit of account), ``crowd`` (what may be closed
        together), ``probability``, ``regime``, ``complete`` (a whole month of bars behind it), ``whole``
        (and no bar missing until the next decision: known one decision later), per side
        ``tail_``, ``beyond_`` (expected shortfall, both in units of the volatility), ``jump_`` (added for
        jumps between bars), ``shortfall_``, ``unlimited_``, ``crowd_`` (its part for the crowd's size),
        ``floor_``, ``goal_`` (after the anti-procyclical tools and the floor), ``held_`` (added by a
        regime hold), ``margin_``; ``level`` (in force after the conformal step) and
        ``borrow`` (borrow margin, collateral only).
    path : numpy.ndarray, shape (decisions, steps)
        Planned margins of the next decisions (larger side).
    series : str
        Market of its bars and forecasts; the market itself unless a pair has a series of its own.
    pair : HaircutPair or None
        Debt, location and costs of a collateral, resolved.
    """

    market: str
    terms: MarketConfig
    table: pd.DataFrame
    path: Array
    series: str = ""
    pair: HaircutPair | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Identity of its entry in a document: symbol, role, debt, location."""
        if self.pair is None:
            return (self.market, self.terms.role, "", "")
        return (self.pair.collateral, self.terms.role, self.pair.debt, self.pair.location)

    @property
    def margin(self) -> Array:
        """Published margin of the first tier: the larger side (long only for collateral)."""
        sides = SIDES[:1] if self.terms.role == "collateral" else SIDES
        larger: Array = self.table[[f"margin_{s}" for s in sides]].max(axis=1).to_numpy(float)
        return larger


@dataclass(frozen=True, slots=True)
class Production:
    """A whole walk-forward up to the last bar.

    Attributes
    ----------
    config : Config
    clock : Clock
    forecasts : Forecasts
    losses : pandas.DataFrame
        ``market, origin, start, side, loss, known_at`` of every decision, all roles.
    decisions : dict of str to Decisions
    """

    config: Config
    clock: Clock
    forecasts: Forecasts
    losses: pd.DataFrame
    decisions: dict[str, Decisions]

    def tails(self) -> pd.DataFrame:
        """Return the conforming ``Tails``: loss quantiles in fractions, before floor and limits."""
        return self._sided(TAILS, {"quantile": "unlimited", "expected_shortfall": "shortfall"})

    def margins(self, *, role: str = "perpetual") -> pd.DataFrame:
        """Return the conforming ``Margins`` of the markets with a role."""
        return self._sided(MARGINS, {"margin": "margin", "margin_unlimited": "unlimited"}, role=role)

    def haircuts(self) -> pd.DataFrame:
        """Return the conforming ``Haircuts``: the long side of every collateral market."""
        held = self.margins(role="collateral")
        held = held[held["side"] == "long"].rename(
            columns={"margin": "haircut", "margin_unlimited": "haircut_unlimited"}
        )
        for place, name in ((0, "collateral"), (2, "debt"), (3, "location")):
            held[name] = held["market"].map({m: d.key[place] for m, d in self.decisions.items()})
        held = held.drop(columns="market")
        return conform(held.drop(columns="side"), HAIRCUTS, source="production")

    def under_keys(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of each decision's price series under the decision's own market name."""
        listed = [Member(d.market, d.series, d.terms, d.pair) for d in self.decisions.values()]
        return under_keys(frame, listed)

    def plan(self) -> pd.DataFrame:
        """Return the conforming ``Plan`` of every decision of every market."""
        parts = [self.plan_of(d) for d in self.decisions.values()]
        return conform(pd.concat(parts, ignore_index=True), PLAN, source="production")

    def schedule(self) -> pd.DataFrame:
        """Return the conforming ``ScheduleHistory`` of the margined markets, all tiers."""
        parts = [self._tiers_of(d) for d in self.decisions.values() if d.terms.role == "perpetual"]
        empty = pd.DataFrame({c: pd.Series(dtype=str(v.dtype)) for c, v in SCHEDULE_HISTORY.columns.items()})
        return conform(
            pd.concat(parts, ignore_index=True) if parts else empty, SCHEDULE_HISTORY, source="production"
        )

    def _sided(self, schema: object, columns: dict[str, str], *, role: str | None = None) -> pd.DataFrame:
        parts = []
        for d in self.decisions.values():
            if role is not None and d.terms.role != role:
                continue
            for side in SIDES:
                values = {out: d.table[f"{name}_{side}"].to_numpy(float) for out, name in columns.items()}
                parts.append(
                    pd.DataFrame(
                        {"market": d.market, "origin": d.table.index, "side": side, **values}
                    ).assign(level=d.terms.level, horizon=close_out(self.config, d.terms))
                )
        names = list(schema.columns)  # type: ignore[attr-defined]
        long = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)
        if long.empty:
            long = pd.DataFrame({c: pd.Series(dtype=str(v.dtype)) for c, v in schema.columns.items()})  # type: ignore[attr-defined]
        return conform(long.dropna(subset=list(columns)), schema, source="production")

    def plan_of(self, d: Decisions) -> pd.DataFrame:
        """Return the plan of every decision of one market, the columns of ``Plan``."""
        steps = d.path.shape[1]
        origin = np.repeat(d.table.index.to_numpy(), steps)
        ahead = self.effective_after(np.arange(1, steps + 1))
        effective = pd.DatetimeIndex(origin) + np.tile(ahead, len(d.table))
        maintenance = np.clip(round_up(d.path.ravel()), 1, 999_999)
        return pd.DataFrame(
            {
                "market": d.market,
                "origin": pd.DatetimeIndex(origin),
                "effective_from": effective,
                "initial_margin_ppm": initial_margin(maintenance, self.config.margin.initial_multiple),
                "maintenance_margin_ppm": maintenance,
            }
        )

    def effective_after(self, steps: NDArray[np.int64]) -> pd.TimedeltaIndex:
        """Time from a decision until its ``steps``-th successor takes effect (session gaps not counted)."""
        bars = self.config.margin.notice + steps * self.config.forecast.cadence
        return pd.TimedeltaIndex([self.clock.step * int(b) for b in bars])

    def _tiers_of(self, d: Decisions) -> pd.DataFrame:
        maintenance, initial = self.tiers(d)
        floors = np.array(self.config.margin.tiers)
        rows, tiers = maintenance.shape
        start = d.table.index + self.clock.step * self.config.margin.notice
        return pd.DataFrame(
            {
                "market": d.market,
                "effective_from": np.repeat(start, tiers),
                "notional_floor": np.tile(floors, rows),
                "regime": np.repeat(d.table["regime"].to_numpy(np.int64), tiers),
                "initial_margin_ppm": initial.ravel(),
                "maintenance_margin_ppm": maintenance.ravel(),
            }
        )

    def tiers(self, d: Decisions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return maintenance and initial ppm of every decision and tier of a margined market."""
        margin = self.config.margin
        book = book_of(d.table, d.terms, config=self.config, clock=self.clock)
        maintenance = margin_tiers(
            d.margin,
            floors=margin.tiers,
            liquidity=book,
            limits=margin.limits.to_domain(),
            whole=d.table["whole"].to_numpy(bool),
            complete=may_fall(d.table, self.config),
        )
        return maintenance, initial_margin(maintenance, margin.initial_multiple)


def clock_of(config: Config) -> Clock:
    """Return the decision clock that a configuration describes."""
    return Clock(
        step=config.data.step,
        cadence=config.forecast.cadence,
        horizon=config.forecast.horizon,
        origin_hour=config.forecast.origin_hour,
        calendar=config.data.calendar,
        proxy=config.forecast.proxy,
    )


def produce(  # noqa: PLR0913 - what stands beside bars is optional, each by its name
    bars: pd.DataFrame,
    implied: pd.DataFrame,
    *,
    config: Config,
    progress: Progress,
    walker: Walker | None = None,
    feeds: Feeds | None = None,
    fitted: pd.DataFrame | None = None,
) -> Production:
    """Forecast, classify and calibrate every decision up to the last bar.

    Parameters
    ----------
    bars, implied : pandas.DataFrame
        Conforming ``Bars`` and ``ImpliedVolatility``; no row later than as-of.
    config : Config
    progress : callable
        Called with (what, done, total).
    walker : Walker, optional
        Runs the walk-forwards; default: one that computes everything here.
    feeds : Feeds, optional
        Funding, open interest and liquidations; no row that was knowable later than as-of.
    fitted : pandas.DataFrame, optional
        ``Bars`` that variances are fitted on, where they are not ``bars``: without denied wicks.

    Returns
    -------
    Production
        Every number at an origin uses bars that ended at or before it.
    """
    clock = clock_of(config)
    loaded, bars = bars, with_pairs(bars, config)
    calm = bars if fitted is None else with_pairs(fitted, config)
    forecasts = forecast_all(
        calm, implied, config=config, clock=clock, progress=progress, walker=walker, feeds=feeds
    )
    rows = forecasts.features.loc[forecasts.experts.index, ["market", "time"]]
    forecasts = with_soundness(forecasts, bars, feeds or Feeds.none(), config=config)
    forecast = list(dict.fromkeys(rows["market"]))
    grouped = by_terms(members(config, loaded, forecast, closes_only(bars)))
    decisions: dict[str, Decisions] = {}
    losses = []
    milder = Milder(config)
    for done, group in enumerate(grouped):
        progress("tails and margins", done, len(grouped))
        own, terms = bars[bars["market"].isin(group.peers)], group.terms
        found = collect_losses(
            own, rows[rows["market"].isin(group.peers)], config=config, clock=clock, terms=terms
        )
        held = loss_frame(found.of(group.series), notice=config.margin.notice)
        losses.append(under_keys(held, group.members))
        seen, series = Observed(own, (feeds or Feeds.none()).open_interest), group.series
        tables = tables_of(
            found, forecasts, seen, terms, config=config, clock=clock, series=series, milder=milder
        )
        made: dict[Hashable, Decisions] = {}
        for m in group.members:
            if m.series not in tables:
                continue
            alike = m.series, _planned_alike(m.pair)
            if alike not in made:
                own_table = tables[m.series].copy()
                made[alike] = publishable(m.series, own_table, forecasts, terms, config, pair=m.pair)
            decisions[m.key] = replace(
                made[alike],
                market=m.key,
                series=m.series,
                pair=m.pair,
                table=with_debt_price(made[alike].table, m.pair, loaded),
            )
    progress("tails and margins", len(grouped), len(grouped))
    ordered = dict(sorted(decisions.items()))
    return Production(config, clock, forecasts, pd.concat(losses, ignore_index=True), ordered)


def _planned_alike(pair: HaircutPair | None) -> HaircutPair | None:
    """Return what a plan of haircuts depends on beside its series; None where there is no plan."""
    return pair.model_copy(update={"location": "-"}) if pair is not None and pair.limits else None


def publishable(
    market: str,
    table: pd.DataFrame,
    forecasts: Forecasts,
    terms: MarketConfig,
    config: Config,
    *,
    pair: HaircutPair | None,
) -> Decisions:
    """Apply floor and limits to one market's decisions and look ahead along the expected path."""
    limits, steps = config.margin.limits.to_domain(), config.margin.plan_steps
    table["regime"] = regimes_at(forecasts, market, table.index)
    goals = decide(table, config)
    paths = []
    for side in SIDES:
        ahead = np.fmax(
            expected_path(goals[side], steps=steps), table[f"floor_{side}"].to_numpy(float)[:, None]
        )
        published = table[f"margin_{side}"].to_numpy(float)
        paths.append(limit_ahead(published, ahead, limits=limits, whole=table["whole"].to_numpy(bool)))
    path = paths[0] if terms.role == "collateral" else np.maximum(*paths)
    if pair is not None and pair.limits is not None:
        need, own = table["goal_long"].to_numpy(float), pair.model_copy(update={"level": terms.level})
        loan = Loan(own, close_out(config, terms))
        planned = planned_haircuts(table, need, config=config, loan=loan)
        table["margin_long"], table["held_long"], path = planned.published, planned.held, planned.path
        table["refused"] = pd.Series(planned.refused, table.index, dtype="str")
    return Decisions(market, terms, table.drop(columns=[*OUTCOMES]), path)


def parameters_at(  # noqa: PLR0913 - what stands beside bars is optional, each by its name
    config: Config,
    bars: pd.DataFrame,
    implied: pd.DataFrame,
    *,
    as_of: datetime,
    progress: Progress,
    feeds: Feeds | None = None,
    fitted: pd.DataFrame | None = None,
) -> dict[str, pd.Series]:
    """Return each market's decision in force at ``as_of``: the last row of the same walk-forward.

    Parameters
    ----------
    config, bars, implied, progress, feeds, fitted
        See :func:`produce`; nothing that was not known at ``as_of`` is looked at.
    as_of : datetime
    """
    cut = pd.Timestamp(as_of)
    known, quoted = bars[bars["time"] <= cut], implied[implied["time"] <= cut]
    made = produce(
        known,
        quoted,
        config=config,
        progress=progress,
        feeds=None if feeds is None else feeds.known(cut),
        fitted=None if fitted is None else fitted[fitted["time"] <= cut],
    )
    return {market: d.table.iloc[-1] for market, d in made.decisions.items()}
