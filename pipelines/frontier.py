"""Our schedule among simpler policies and the tables of other venues: cost, coverage, bad debt."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.backtest.comparators import Filtered, Given, HistoricalSimulation, Policy, Static, recalled
from calibrator.backtest.emir import EqualAverage, ExhaustibleBuffer, LongRunFloor, StressedWeight
from calibrator.backtest.frontier import Bootstrap, Outcomes, comparable, frontier, movement
from calibrator.backtest.incumbents import Tabled, asset_of
from calibrator.backtest.kpis import procyclicality
from calibrator.backtest.policies import ewma_variance
from calibrator.backtest.report import plain, records
from calibrator.backtest.seen import Seen
from calibrator.backtest.trade import trade
from calibrator.config import Config, MarketConfig
from calibrator.data.incumbents import Incumbent, read_incumbents
from calibrator.domain import SIDES
from calibrator.errors import DataError
from pipelines.lending import step_limits
from pipelines.levels import margins_at
from pipelines.limited import Limited
from pipelines.production import Production
from pipelines.starts import close_out
from pipelines.window import realized_variance

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
NOTIONALS = (10_000.0, 1_000_000.0, 10_000_000.0)
"""Sizes at which a venue's tiers are looked up (quote units)."""
LARGEST = ("BTC", "ETH")
HELD = ("historical_simulation", "har_fhs")
"""Policies that are also shown within the limits that our schedule keeps."""
IMPLIED = "implied"
OURS, UNLIMITED = "ours", "ours_unlimited"
STEPS = ("max_increase_1", "max_increase_5", "max_increase_10", "peak_to_trough")


@dataclass(frozen=True, slots=True)
class Frontier:
    """One group of markets that share role, close-out and kind of loss.

    Attributes
    ----------
    label : str
    level : float
        Configured.
    markets : int
    table : pandas.DataFrame
        See :func:`calibrator.backtest.frontier.frontier`.
    kpis : pandas.DataFrame
        Per policy at the configured level: largest increases, peak to trough, worst loss to margin.
    alone : dict of str to pandas.DataFrame
        The same as ``table`` on some of the rows: BTC and ETH, where an implied volatility is quoted.
    against : pandas.DataFrame
        Per policy and per venue and size: what scaling ours by one constant brings, see
        :class:`calibrator.backtest.trade.Trade`; both gains also without the worst day; column ``kind``
        (``policy`` or ``venue``).
    """

    label: str
    level: float
    markets: int
    table: pd.DataFrame
    kpis: pd.DataFrame
    alone: dict[str, pd.DataFrame] = field(default_factory=dict)
    against: pd.DataFrame = field(default_factory=pd.DataFrame)

    def summary(self) -> dict[str, object]:
        """Return the group as plain Python values, as ``backtest.json`` holds it."""
        return {
            "level": self.level,
            "markets": self.markets,
            "levels": records(self.table.reset_index()),
            "kpis": records(self.kpis.reset_index()),
            "alone": {name: records(t.reset_index()) for name, t in self.alone.items()},
            "against": [
                {k: [plain(x) for x in v] if isinstance(v, tuple) else plain(v) for k, v in row.items()}
                for row in self.against.reset_index().to_dict("records")
            ],
        }


def frontiers(
    production: Production,
    bars: pd.DataFrame,
    *,
    implied: pd.DataFrame | None = None,
    incumbents: Sequence[Incumbent] | None = None,
) -> list[Frontier]:
    """Measure every policy at every level, group by group, on the rows of the backtest's window.

    Parameters
    ----------
    production : Production
    bars : pandas.DataFrame
        The ``Bars`` it was made from.
    implied : pandas.DataFrame, optional
        ``market, origin, variance`` that options imply; default: the production's own input.
    incumbents : sequence of Incumbent, optional
        Tables of other venues; default: ours. Those whose role and close-out are a group's are compared.
    """
    levels = production.config.backtest.frontier
    if not levels:
        return []
    own = sorted({*levels, *(float(d.terms.level or 0.0) for d in production.decisions.values())} - {0.0})
    published = margins_at(production, bars, own)
    groups: dict[MarketConfig, list[str]] = {}
    for market, d in production.decisions.items():
        groups.setdefault(d.terms, []).append(market)
    tables = read_incumbents() if incumbents is None else incumbents
    quoted = quotes(production) if implied is None else implied
    out = []
    for terms, markets in groups.items():
        group = Group.of(production, terms, markets, published, quoted)
        found = _frontier(group, levels, [t for t in tables if _matches(t, production.config, terms)])
        out += [] if found is None else [found]
    return out


def against_venues(
    production: Production, bars: pd.DataFrame, incumbents: Sequence[Incumbent]
) -> dict[str, pd.DataFrame]:
    """Compare ours with the tables of venues alone, at the configured level, group by group.

    Parameters
    ----------
    production : Production
    bars : pandas.DataFrame
        The ``Bars`` it was made from.
    incumbents : sequence of Incumbent
    """
    groups: dict[MarketConfig, list[str]] = {}
    for market, d in production.decisions.items():
        groups.setdefault(d.terms, []).append(market)
    out = {}
    for terms, markets in groups.items():
        tables = [t for t in incumbents if _matches(t, production.config, terms)]
        if tables:
            level = float(terms.level or production.config.margin.level)
            published = margins_at(production, bars, [level])
            group = Group.of(production, terms, markets, published, quotes(production))
            out[group.label] = pd.DataFrame(venues(group, tables)).T.rename_axis("policy")
    return out


@dataclass(frozen=True, slots=True)
class Group:
    """What policies of one group of markets see, and the rows that count.

    Attributes
    ----------
    label : str
    level : float
    seen : Seen
    outcomes : Outcomes
    inside : numpy.ndarray of bool, shape (rows,)
        Rows of the backtest's window.
    policies : tuple of Policy
        That need nothing but losses and forecasts, ours among them.
    """

    label: str
    level: float
    seen: Seen
    outcomes: Outcomes
    inside: Flags
    policies: tuple[Policy, ...]

    @classmethod
    def of(
        cls,
        production: Production,
        terms: MarketConfig,
        markets: list[str],
        published: Mapping[float, pd.DataFrame],
        implied: pd.DataFrame,
    ) -> "Group":
        """Collect a group's losses, forecasts and policies."""
        config = production.config
        sides = SIDES[:1] if terms.role == "collateral" else SIDES
        losses = production.losses
        matured = losses[losses["market"].isin(markets) & losses["side"].isin(sides)].reset_index(drop=True)
        variances = _variances(production, markets) | {IMPLIED: implied[implied["market"].isin(markets)]}
        seen = Seen.of(matured, variances)
        own = Given(OURS, dict(published))
        free = Given(
            UNLIMITED,
            {x: f.drop(columns="margin").rename(columns={"margin_unlimited": "margin"})
             for x, f in published.items()},
        )  # fmt: skip
        window = config.backtest
        origin = seen.rows["origin"]
        inside = np.ones(len(origin), np.bool_)
        inside &= (origin >= pd.Timestamp(window.start)).to_numpy() if window.start else True
        inside &= (origin <= pd.Timestamp(window.end)).to_numpy() if window.end else True
        level = float(terms.level or config.margin.level)
        label = f"{terms.role}, {close_out(config, terms)} bars, {level:.4g}, {terms.loss}"
        simple = policies(730 if int(matured["start"].nunique()) == 1 else 365)
        equal = EqualAverage(own, HistoricalSimulation())
        held = _under_limits(simple, production, markets)
        return cls(label, level, seen, Outcomes.of(seen), inside, (*simple, *held, own, free, equal))

    def margins(self, policy: Policy, level: float) -> Array:
        """Return a policy's margins inside the window; NaN outside."""
        return np.where(self.inside, recalled(policy, self.seen, level=level), np.nan)


def policies(tail_window: int = 730) -> tuple[Policy, ...]:
    """Return every comparator: quantiles of history, filtered simulations, EMIR's three tools.

    Parameters
    ----------
    tail_window : int
        Decisions of standardised losses.
    """
    ewma = Filtered("ewma", tail_window)
    return (
        Static(),
        HistoricalSimulation(),
        ewma,
        Filtered("garch", tail_window),
        Filtered("har", tail_window),
        ExhaustibleBuffer(ewma),
        StressedWeight(ewma),
        LongRunFloor(ewma),
    )


def _under_limits(simple: Sequence[Policy], production: Production, markets: Sequence[str]) -> list[Policy]:
    """Hold some of the simple policies to the limits that our own schedule keeps."""
    config = production.config
    if any(step_limits(config, production.decisions[m]) for m in markets):
        return []
    inputs = {m: production.decisions[m].table[["whole", "complete"]] for m in markets}
    limits = config.margin.limits.to_domain()
    return [Limited(p, limits, inputs) for p in simple if p.name in HELD]


def quotes(production: Production) -> pd.DataFrame:
    """Return the implied variance that was known at every decision, under the decisions' names."""
    features = production.forecasts.features
    rows = features.loc[production.forecasts.experts.index, ["market", "time", "implied"]].dropna()
    return production.under_keys(
        rows.assign(variance=np.exp(rows["implied"])).rename(columns={"time": "origin"})
    )


def _variances(production: Production, markets: list[str]) -> dict[str, pd.DataFrame]:
    forecasts = production.forecasts
    known = production.under_keys(realized_variance(forecasts))
    known = known[known["market"].isin(markets)].reset_index(drop=True)
    rows = forecasts.features.loc[forecasts.experts.index, ["market", "time"]]
    rows = rows.rename(columns={"time": "origin"})
    out = {"ewma": ewma_variance(known)}
    for name in ("garch", "har"):
        named = production.under_keys(rows.assign(variance=forecasts.experts[name]).dropna())
        out[name] = named[named["market"].isin(markets)]
    return out


def _matches(table: Incumbent, config: Config, terms: MarketConfig) -> bool:
    length = close_out(config, terms) * config.data.step
    return table.role == terms.role and length == pd.Timedelta(hours=table.close_out_hours)


def _frontier(group: Group, levels: Sequence[float], tables: Sequence[Incumbent]) -> Frontier | None:
    """Measure one group; None where some policy never has a margin (a short history)."""
    made = {(p.name, x): group.margins(p, x) for p in group.policies for x in levels}
    made = {key: m for key, m in made.items() if np.isfinite(m).any()}
    try:
        keep = comparable(group.outcomes, made)
    except DataError:
        return None
    used, table = group.outcomes.where(keep), {key: m[keep] for key, m in made.items()}
    own = {p.name: group.margins(p, group.level) for p in group.policies}
    own = {name: m for name, m in own.items() if np.isfinite(m).any()}
    kpis = _kpis(used, {name: m[keep] for name, m in own.items()})
    against = {
        name: {"kind": "policy"} | _traded(used, own[OURS][keep], m[keep])
        for name, m in own.items()
        if not name.startswith(OURS) and OURS in own
    }
    against |= venues(group, tables)
    return Frontier(
        group.label,
        group.level,
        int(used.rows["market"].nunique()),
        frontier(used, table),
        kpis,
        _alone(group, made, keep, levels),
        pd.DataFrame(against).T.rename_axis("policy"),
    )


def _alone(
    group: Group, made: dict[tuple[str, float], Array], keep: Flags, levels: Sequence[float]
) -> dict[str, pd.DataFrame]:
    """Measure the two largest assets alone, and the rows where an implied volatility is quoted."""
    out = {}
    large = keep & group.outcomes.rows["market"].map(asset_of).isin(LARGEST).to_numpy()
    if large.any() and not large[keep].all():
        out["BTC and ETH alone"] = _on(group, made, large)
    longest = max(group.policies, key=lambda p: getattr(p, "window", 0) if isinstance(p, Filtered) else 0)
    window = longest.window if isinstance(longest, Filtered) else 730
    scaled = Filtered(IMPLIED, window)
    quoted = {(scaled.name, x): group.margins(scaled, x) for x in levels}
    rows = keep & np.isfinite(np.stack(list(quoted.values()))).all(axis=0)
    if rows.any():
        out["where an implied volatility is quoted"] = _on(group, made | quoted, rows)
    return out


def _on(group: Group, made: dict[tuple[str, float], Array], rows: Flags) -> pd.DataFrame:
    used = group.outcomes.where(rows)
    return frontier(used, {key: m[rows] for key, m in made.items()})


def venues(group: Group, tables: Sequence[Incumbent]) -> dict[str, dict[str, object]]:
    """Compare ours with each venue's table at each size; sizes that a table does not tell apart are one."""
    ours = next(p for p in group.policies if p.name == OURS)
    mine = group.margins(ours, group.level)
    out: dict[str, dict[str, object]] = {}
    for table in tables:
        sides = SIDES[:1] if table.role == "collateral" else SIDES
        seen: list[Array] = []
        for notional in NOTIONALS:
            policy = Tabled(table.venue, notional, table.margins, sides)
            theirs = group.margins(policy, group.level)
            if not np.isfinite(theirs).any() or any(np.array_equal(theirs, s, equal_nan=True) for s in seen):
                continue
            seen.append(theirs)
            try:
                out[policy.name] = {"kind": "venue"} | _traded(group.outcomes, mine, theirs)
            except DataError:
                continue
    return out


def _traded(outcomes: Outcomes, ours: Array, theirs: Array) -> dict[str, object]:
    """Scale ours to a policy's bad debt and cost, with and without the worst day."""
    keep = comparable(outcomes, {("ours", 0.0): ours, ("theirs", 0.0): theirs})
    used, mine, other = outcomes.where(keep), ours[keep], theirs[keep]
    made, rest = asdict(trade(used, mine, other)), ~used.worst_day
    names = ("less_margin", "less_bad_debt")
    if not rest.any():
        return made | {f"{name}_without_worst_day": float("nan") for name in names}
    calm = trade(used.where(rest), mine[rest], other[rest], bootstrap=Bootstrap(draws=1))
    return made | {f"{name}_without_worst_day": getattr(calm, name) for name in names}


def _kpis(used: Outcomes, own: Mapping[str, Array]) -> pd.DataFrame:
    rows = {}
    for name, margin in own.items():
        moved = procyclicality(movement(used, margin))
        worst = float((used.loss / margin[:, None]).max())
        rows[name] = {c: float(moved[c].max()) for c in STEPS} | {"worst_loss_to_margin": worst}
    return pd.DataFrame(rows).T.rename_axis("policy")
