"""What each parameter does: moved down and up one at a time, everything else as it is, on the same losses."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.backtest.report import plain, records
from calibrator.calibrate.margin import margin_tiers
from calibrator.config import Config
from calibrator.config_challenge import SensitivityConfig
from calibrator.domain import PPM, SIDES
from pipelines.add_ons import Observed, book_of
from pipelines.backtesting import Backtest
from pipelines.calibration import TAIL_REFIT, Estimates, decide, regimes_at, standing, tables_of
from pipelines.forecasting import Progress
from pipelines.knobs import UNMOVED, Variant, variants
from pipelines.milder import Milder
from pipelines.pairs import Member, by_terms, members, with_pairs
from pipelines.production import Decisions, Production
from pipelines.starts import closes_only, collect_losses, starts_per_decision

Array = NDArray[np.float64]
Key = tuple[str, str]
MEASURES: Final = ("average_margin", "coverage", "shortfall_bp", "largest_increase", "top_tier")


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """Effect of every parameter on the published margins of some or all entries.

    Attributes
    ----------
    table : pandas.DataFrame
        ``parameter, direction`` (-1, +1), ``before, after`` (as text), ``why`` (empty where it was run), and
        for the variant ``average_margin`` (first tier, both sides), ``coverage`` per start,
        ``shortfall_bp`` (mean of what lies beyond the margin, basis points), ``largest_increase`` (one
        decision) and ``top_tier`` (average margin of the highest tier of the margined markets).
    base : dict of str to float
        The same measures with nothing moved.
    entries : tuple of str
        Markets and pairs that were decided again.
    available : int
        How many there are.
    refit : int
        Decisions between tail estimates.
    losses : int
        Losses that every variant is held against.
    """

    table: pd.DataFrame
    base: dict[str, float]
    entries: tuple[str, ...]
    available: int
    refit: int
    losses: int

    @property
    def sampled(self) -> bool:
        """Whether anything was left out or estimated more rarely than in the run."""
        return len(self.entries) < self.available or self.refit != TAIL_REFIT

    def summary(self) -> dict[str, object]:
        """Return plain values for ``backtest.json``."""
        return {
            "sampled": self.sampled,
            "entries": list(self.entries),
            "of": self.available,
            "refit": self.refit,
            "losses": self.losses,
            "base": {name: plain(value) for name, value in self.base.items()},
            "rows": records(self.table),
            "not_moved": dict(UNMOVED),
        }


@dataclass(frozen=True, slots=True)
class _Bench:
    """What every variant is decided on."""

    production: Production
    bars: pd.DataFrame
    names: pd.DataFrame
    only_closes: frozenset[str]
    open_interest: pd.DataFrame | None
    entries: tuple[str, ...]
    estimates: Estimates

    def tables(self, config: Config) -> dict[str, tuple[Member, pd.DataFrame]]:
        """Return the tables of all entries under other settings, ready to be decided."""
        forecasts, clock = self.production.forecasts, self.production.clock
        rows = forecasts.features.loc[forecasts.experts.index, ["market", "time"]]
        known = list(dict.fromkeys(rows["market"]))
        listed = [m for m in members(config, self.names, known, self.only_closes) if m.key in self.entries]
        out, milder, kept = {}, Milder(config), self.estimates
        for group in by_terms(listed):
            peers, terms, series = group.peers, group.terms, group.series
            bars = self.bars[self.bars["market"].isin(peers)]
            decided = rows[rows["market"].isin(peers)]
            collect = partial(collect_losses, bars, decided, config=config, clock=clock, terms=terms)
            found = kept.once(("losses", *standing(peers, terms, config)), collect)
            seen = Observed(bars, self.open_interest)
            of = partial(tables_of, found, forecasts, seen, terms, config=config, clock=clock)
            made = of(series=series, milder=milder, estimates=kept)
            for m in group.members:
                if m.series in made:
                    table = made[m.series].copy()
                    table["regime"] = regimes_at(forecasts, m.series, table.index)
                    out[m.key] = (m, table)
        return out


def sensitivity(
    production: Production,
    challenged: Backtest,
    bars: pd.DataFrame,
    *,
    open_interest: pd.DataFrame | None = None,
    progress: Progress,
) -> Sensitivity | None:
    """Move every parameter of the calibration down and up and decide all margins again.

    Forecasts stay as they are. Every variant is held against the losses that the run is configured for: a
    shorter close-out makes margins cheaper, not the world safer. Haircuts follow ``margin.limits`` here even
    where a target's own limit on moves is configured.

    Parameters
    ----------
    production : Production
    challenged : Backtest
        Its coverage chooses what is sampled.
    bars : pandas.DataFrame
        ``Bars`` as the production was given them.
    open_interest : pandas.DataFrame, optional
        As the production was given it.
    progress : callable
        Called with (what, done, total).

    Returns
    -------
    Sensitivity or None
        None where the configuration switches it off.
    """
    config = _without_step(production.config)
    settings = config.backtest.sensitivity
    if settings.mode == "off":
        return None
    chosen = entries_of(production, challenged, settings)
    refit = settings.refit if settings.mode == "brief" else TAIL_REFIT
    bench = _bench(production, bars, open_interest, chosen, Estimates(max(refit, TAIL_REFIT)))
    roles = frozenset(production.decisions[e].terms.role for e in chosen)
    listed = list(variants(config, roles=roles))
    base = bench.tables(config)
    margins = [_margins(base, config, production)]
    for done, v in enumerate(listed):
        progress("sensitivity", done, len(listed))
        if v.config is None:
            continue
        tables = base if v.knob.stage == "publish" else bench.tables(v.config)
        margins.append(_margins(tables, v.config, production))
    progress("sensitivity", len(listed), len(listed))
    yard = _yardstick(production, chosen)
    rows = _common(margins, yard)
    measured = [_measured(m, yard, rows) for m in margins]
    losses = sum(int(np.isfinite(yard[key].to_numpy()[rows[key]]).sum()) for key in yard)
    available = len(production.decisions)
    table = _table(listed, measured[1:])
    return Sensitivity(table, measured[0], chosen, available, bench.estimates.refit, losses)


def entries_of(production: Production, challenged: Backtest, settings: SensitivityConfig) -> tuple[str, ...]:
    """Choose entries: all, or of each group with equal terms by turns the largest and the worst covered.

    Parameters
    ----------
    production : Production
    challenged : Backtest
    settings : SensitivityConfig
    """
    everything = tuple(production.decisions)
    if settings.mode == "full":
        return everything
    groups: dict[object, list[str]] = {}
    worst = challenged.coverage.groupby("market")["excess_p_value"].min()
    size = {m: float(d.table["turnover"].tail(30).mean()) for m, d in production.decisions.items()}
    for market, d in production.decisions.items():
        groups.setdefault(d.terms, []).append(market)
    queues = []
    for own in groups.values():
        large = sorted(own, key=lambda m: (-size[m] if size[m] == size[m] else 0.0, m))
        bad = sorted(own, key=lambda m: (float(worst.get(m, 1.0)), m))
        turns = [m for pair in zip(large, bad, strict=True) for m in pair]
        queues.append(list(dict.fromkeys(turns)))
    order = [q[i] for i in range(max(map(len, queues))) for q in queues if i < len(q)]
    chosen: list[str] = []
    losses = 0
    for market in order[: settings.entries]:
        d = production.decisions[market]
        losses += len(d.table) * starts_per_decision(production.config, d.terms.close_out or 1)
        if chosen and losses > settings.losses:
            break
        chosen.append(market)
    return tuple(sorted(chosen))


def _without_step(config: Config) -> Config:
    return config.model_copy(update={"haircut": config.haircut.model_copy(update={"limits": None})})


def _bench(
    production: Production,
    bars: pd.DataFrame,
    open_interest: pd.DataFrame | None,
    chosen: tuple[str, ...],
    estimates: Estimates,
) -> _Bench:
    paired = with_pairs(bars, production.config)
    series = {production.decisions[e].series for e in chosen}
    own = paired[paired["market"].isin(series)].reset_index(drop=True)
    names = pd.DataFrame({"market": bars["market"].unique()})
    return _Bench(production, own, names, closes_only(own), open_interest, chosen, estimates)


def _margins(
    tables: dict[str, tuple[Member, pd.DataFrame]], config: Config, production: Production
) -> dict[Key, pd.DataFrame]:
    """Publish every entry: margins of the first and of the highest tier per side."""
    out = {}
    for key, (member, given) in tables.items():
        table = given.copy()
        decide(table, config)
        for side in _sides(member):
            margin = table[f"margin_{side}"]
            top = pd.Series(np.nan, margin.index)
            if member.terms.role == "perpetual":
                top = _top_tier(table, margin, member, config, production)
            out[key, side] = pd.DataFrame({"margin": margin, "top": top})
    return out


def _top_tier(
    table: pd.DataFrame, margin: pd.Series, member: Member, config: Config, production: Production
) -> pd.Series:
    book = book_of(table, member.terms, config=config, clock=production.clock)
    tiers = margin_tiers(
        margin.to_numpy(float),
        floors=config.margin.tiers,
        liquidity=book,
        limits=config.margin.limits.to_domain(),
        whole=table["whole"].to_numpy(bool),
        complete=table["complete"].to_numpy(bool),
    )
    return pd.Series(tiers[:, -1] / PPM, table.index)


def _sides(entry: Member | Decisions) -> tuple[str, ...]:
    return SIDES[:1] if entry.terms.role == "collateral" else SIDES


def _yardstick(production: Production, chosen: tuple[str, ...]) -> dict[Key, pd.DataFrame]:
    """Lay the losses of every chosen entry and side inside the window out as (origins, starts)."""
    window, losses = production.config.backtest, production.losses
    keep = losses["market"].isin(chosen)
    if window.start is not None:
        keep &= losses["origin"] >= pd.Timestamp(window.start)
    if window.end is not None:
        keep &= losses["origin"] <= pd.Timestamp(window.end)
    grouped = losses[keep].groupby(["market", "side"])
    wide = {
        (str(market), str(side)): own.set_index(["origin", "start"])["loss"].unstack("start")  # noqa: PD010
        for (market, side), own in grouped
        if side in _sides(production.decisions[str(market)])
    }
    return {key: own.sort_index() for key, own in wide.items()}


def _common(
    margins: list[dict[Key, pd.DataFrame]], yard: dict[Key, pd.DataFrame]
) -> dict[Key, NDArray[np.bool_]]:
    """Return per entry and side the origins at which every variant has a margin."""
    return {
        key: np.logical_and.reduce(
            [
                m[key]["margin"].reindex(own.index).notna() if key in m else own.index < own.index[0]
                for m in margins
            ]
        )
        for key, own in yard.items()
    }


def _measured(
    margins: dict[Key, pd.DataFrame], yard: dict[Key, pd.DataFrame], rows: dict[Key, NDArray[np.bool_]]
) -> dict[str, float]:
    first, top, covered, short, jumps = [], [], [], [], [0.0]
    for key, own in yard.items():
        if not rows[key].any():
            continue
        held = margins[key].reindex(own.index)[rows[key]]
        margin, loss = held["margin"].to_numpy(float), own.to_numpy(float)[rows[key]]
        known = np.isfinite(loss)
        first.append(margin)
        top.append(held["top"].dropna().to_numpy(float))
        covered.append((loss <= margin[:, None])[known])
        short.append(np.maximum(loss - margin[:, None], 0.0)[known])
        jumps.append(float((margin[1:] / margin[:-1]).max(initial=1.0)) - 1)
    if not first:
        return dict.fromkeys(MEASURES, float("nan"))
    values = (
        np.concatenate(first).mean(),
        np.concatenate(covered).mean(),
        1e4 * np.concatenate(short).mean(),
        max(jumps),
        np.concatenate(top).mean() if any(map(len, top)) else np.nan,
    )
    return dict(zip(MEASURES, map(float, values), strict=True))


def _table(listed: list[Variant], measured: list[dict[str, float]]) -> pd.DataFrame:
    left: Iterator[dict[str, float]] = iter(measured)
    rows = []
    for v in listed:
        label = {
            "parameter": v.knob.name,
            "direction": v.direction,
            "before": spelled(v.before),
            "after": spelled(v.after),
            "why": v.why,
        }
        rows.append(label | (dict.fromkeys(MEASURES, float("nan")) if v.config is None else next(left)))
    return pd.DataFrame(rows)


def spelled(value: float | str | None) -> str:
    """Spell a parameter's value.

    Examples
    --------
    >>> spelled(0.25), spelled(None), spelled("off"), spelled(1500)
    ('0.25', 'not set', 'off', '1500')
    """
    if value is None:
        return "not set"
    return value if isinstance(value, str) else f"{value:.6g}"
