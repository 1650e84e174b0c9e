"""Stress tests of a run: what happened, what was made up, and what it takes to break the schedule."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.backtest.report import plain, records
from calibrator.backtest.stress import (
    Break,
    InForce,
    breaking_volatility,
    joint_move,
    nearest_break,
    worst_days,
    worst_windows,
)
from calibrator.calibrate.margin import marginal_rates
from calibrator.calibrate.procyclicality import limit_ahead
from calibrator.calibrate.reverse_stress import owed
from calibrator.config_challenge import EVERY
from calibrator.domain import PPM, SIDES
from calibrator.errors import DataError
from pipelines.add_ons import book_of, first_border
from pipelines.backtesting import Backtest
from pipelines.capital import LEAST, SHRINK, Capital, joint_losses, standing_book
from pipelines.lending import step_limits
from pipelines.production import Decisions, Production
from pipelines.starts import close_out

Array = NDArray[np.float64]
STEPS: Final = 10
"""Decisions ahead over which the limits are let rise as fast as they may."""
YEAR: Final = 366


@dataclass(frozen=True, slots=True)
class Stress:
    """Outcome of the stress tests.

    Attributes
    ----------
    windows, days : pandas.DataFrame
        See :func:`~calibrator.backtest.stress.worst_windows` and
        :func:`~calibrator.backtest.stress.worst_days`.
    scenarios : pandas.DataFrame
        Made-up stress against the schedule in force: ``scenario, kind`` (``price``, ``volatility``,
        ``depth``), ``uncovered`` (share of the entries), ``shortfall`` (mean fraction of notional beyond the
        margin), ``worst`` and, where they apply, ``largest_move``, ``standard_deviations``, ``owed`` (by the
        simulated accounts, quote units), ``share_of_fund`` and ``decisions`` (until the limits let the
        margin catch up; missing = not within ten).
    breaks : dict of str to Break
        Nearest joint moves that use margins up, by ``SIDE first`` and ``SIDE every``.
    volatility : pandas.DataFrame
        Per entry the multiples of today's volatility up to which the schedule covers: ``covered, next,
        last``.
    fund : dict or None
        The smallest joint move that exhausts the fund.
    """

    windows: pd.DataFrame
    days: pd.DataFrame
    scenarios: pd.DataFrame
    breaks: dict[str, Break]
    volatility: pd.DataFrame
    fund: dict[str, object] | None

    def summary(self) -> dict[str, object]:
        """Return plain values for ``backtest.json``."""
        return {
            "historical": {"windows": records(self.windows), "days": records(self.days)},
            "hypothetical": records(self.scenarios),
            "reverse": {
                "fund": self.fund,
                "moves": {
                    name: {"standard_deviations": plain(b.distance), "moves": b.moves}
                    for name, b in self.breaks.items()
                },
                "volatility": records(self.volatility),
            },
        }


def stress_tests(production: Production, challenged: Backtest, funds: Capital) -> Stress:
    """Run historical, hypothetical and reverse stress tests of a run.

    Parameters
    ----------
    production : Production
    challenged : Backtest
        Margins of the window and the losses that followed; the simulated accounts.
    funds : Capital
        Fund and its own reverse stress test.

    Raises
    ------
    DataError
        A configured scenario moves a market that has no margin in this run.
    """
    settings, entries = production.config.backtest.stress, _entries(production)
    held = challenged.margins
    apart = max(
        -(-close_out(production.config, d.terms) // production.config.forecast.cadence)
        for d in production.decisions.values()
    )
    sided = held[(held["side"] == "long") | held["market"].map(_two_sided(production))]
    force = _in_force(production, entries)
    volatility = _volatility(production, entries)
    buffer = funds.buffer or {}
    found = buffer.get("reverse_stress")
    return Stress(
        worst_windows(sided, count=settings.worst, apart=apart),
        worst_days(sided, count=settings.worst, apart=apart),
        _scenarios(production, challenged, force, volatility, buffer),
        _breaks(force, joint=len(entries) > 1),
        volatility.drop(columns="ceilings"),
        found if isinstance(found, dict) else None,
    )


def _entries(production: Production) -> list[Decisions]:
    """Keep one entry per price series: the one with the smallest margin."""
    order = sorted(production.decisions.values(), key=lambda d: (float(d.margin[-1]), d.market))
    first: dict[str, Decisions] = {}
    for d in order:
        first.setdefault(_series(d), d)
    return sorted(first.values(), key=lambda d: d.market)


def _series(d: Decisions) -> str:
    return d.series or d.market


def _two_sided(production: Production) -> dict[str, bool]:
    return {m: d.terms.role == "perpetual" for m, d in production.decisions.items()}


def _in_force(production: Production, entries: list[Decisions]) -> InForce:
    """Return the schedule of the last decision; correlations from joint losses, one where there are few."""
    margin = np.array([float(d.margin[-1]) for d in entries])
    lent = np.array([d.terms.role == "collateral" for d in entries])
    correlation = np.ones((len(entries), len(entries)))
    names = [d.market for d in entries]
    origins, losses = joint_losses(production, names)
    if len(origins) >= LEAST:
        signed = losses[:, :, 1] - losses[:, :, 0]
        correlation = np.atleast_2d(np.corrcoef(signed, rowvar=False))
    correlation = (1 - SHRINK) * correlation + SHRINK * np.eye(len(entries))
    volatility = np.array([float(d.table["volatility"].iloc[-1]) for d in entries])
    return InForce(tuple(names), margin, np.where(lent, np.inf, margin), volatility, correlation)


def _breaks(force: InForce, *, joint: bool) -> dict[str, Break]:
    sides = [s for s in SIDES if np.isfinite(getattr(force, s)).any()]
    wanted = [("first", False), *([("every", True)] if joint else [])]
    return {
        f"{side} {name}": nearest_break(force, side=side, every=every)
        for side in sides
        for name, every in wanted
    }


def _volatility(production: Production, entries: list[Decisions]) -> pd.DataFrame:
    """Say up to which volatility each entry covers now, next and after ten decisions."""
    rows = []
    for d in entries:
        margin = float(d.margin[-1])
        sides = SIDES[:1] if d.terms.role == "collateral" else SIDES
        asked = max(float(d.table[f"unlimited_{s}"].iloc[-1]) for s in sides)
        ceilings = _ceilings(production, d, sides)
        label = {"market": d.market, "margin": margin, "unlimited": asked, "ceilings": ceilings}
        rows.append(label | breaking_volatility(margin, asked, ceilings))
    return pd.DataFrame(rows)


def _ceilings(production: Production, d: Decisions, sides: tuple[str, ...]) -> Array:
    """Highest margins that the limits allow at the next decisions."""
    step = step_limits(production.config, d)
    if step is not None:
        moves = np.arange(1, STEPS + 1) // step.every
        stepped: Array = np.minimum(float(d.margin[-1]) + step.step * moves, 1.0)
        return stepped
    limits, recent = production.config.margin.limits.to_domain(), d.table.tail(2 * YEAR)
    whole = recent["whole"].to_numpy(bool)
    paths = [
        limit_ahead(
            recent[f"margin_{s}"].to_numpy(float),
            np.ones((len(recent), STEPS)),
            limits=limits,
            whole=whole,
        )[-1]
        for s in sides
    ]
    highest: Array = np.max(paths, axis=0)
    return highest


def _scenarios(
    production: Production,
    challenged: Backtest,
    force: InForce,
    volatility: pd.DataFrame,
    buffer: dict[str, object],
) -> pd.DataFrame:
    settings = production.config.backtest.stress
    sigma = f"{settings.deviations:g} standard deviations"
    moves = {
        f"all correlations one, {sigma} down": np.expm1(-settings.deviations * force.volatility),
        f"all correlations one, {sigma} up": np.expm1(settings.deviations * force.volatility),
        f"every market {-100 * settings.fall:g} %": np.full(len(force.markets), -settings.fall),
    }
    for name, named in settings.moves.items():
        moves[name] = _named(name, named, force.markets, production)
    accounts = _Accounts.of(production, challenged, buffer)
    places = {_series(production.decisions[m]): i for i, m in enumerate(force.markets)}
    every = {m: places[_series(d)] for m, d in production.decisions.items()}
    rows: list[dict[str, object]] = [
        {"scenario": name, "kind": "price"}
        | joint_move(force, move)
        | accounts.under({m: float(move[place]) for m, place in every.items()})
        for name, move in moves.items()
    ]
    rows.append(_louder(volatility, settings.volatility))
    rows.append(_thinner(production, settings.depth))
    columns = [
        "scenario", "kind", "largest_move", "standard_deviations", "uncovered", "shortfall", "worst", "owed",
        "share_of_fund", "decisions",
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=columns)


def _named(scenario: str, moves: dict[str, float], markets: tuple[str, ...], production: Production) -> Array:
    """Return a configured scenario's move of every market; all entries of a price series move with it."""
    names: dict[str, list[str]] = {m: [m] for m in markets}
    of_series = {_series(production.decisions[m]): m for m in markets}
    for d in production.decisions.values():
        names[of_series[_series(d)]] += [d.market, _series(d)]
    known = sorted({name for own in names.values() for name in own})
    for market in sorted(set(moves) - {EVERY, *known}):
        some = ", ".join(known[:8])
        raise DataError(
            f"backtest.stress.moves.{scenario}: market {market!r} has no margin in this run; there are {some}"
        )
    rest = moves.get(EVERY, 0.0)
    return np.array([next((moves[n] for n in names[m] if n in moves), rest) for m in markets])


@dataclass(frozen=True, slots=True)
class _Accounts:
    """The simulated accounts as if all were open now, and the fund behind them."""

    production: Production
    accounts: pd.DataFrame | None
    fund: float

    @classmethod
    def of(cls, production: Production, challenged: Backtest, buffer: dict[str, object]) -> "_Accounts":
        population = challenged.population
        fund = buffer.get("fund")
        return cls(
            production,
            None if population is None or population.accounts.empty else population.accounts,
            float(fund) if isinstance(fund, int | float) else float("nan"),
        )

    def under(self, moves: dict[str, float]) -> dict[str, object]:
        """Return what the accounts owe after a joint move, and as a share of the fund."""
        if self.accounts is None:
            return {}
        markets = [m for m, d in self.production.decisions.items() if d.terms.role == "perpetual"]
        book = standing_book(self.production, self.accounts, markets)
        cost = self.production.config.buffer.fee
        debt = owed(book, np.array([moves.get(m, 0.0) for m in markets]), cost=cost)
        return {"owed": debt, "share_of_fund": debt / self.fund}


def _louder(volatility: pd.DataFrame, factor: float) -> dict[str, object]:
    """Multiply the forecast volatility overnight: what is asked, and how fast the limits let it through."""
    asked = volatility["unlimited"].to_numpy(float) * factor
    beyond = np.maximum(np.minimum(asked, 1.0) - volatility["margin"].to_numpy(float), 0.0)
    ceilings = np.stack(volatility["ceilings"].to_list())
    reached = ceilings >= np.minimum(asked, 1.0)[:, None] * (1 - 1e-9)
    waits = np.where(beyond == 0, 0, np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, np.inf))
    return {
        "scenario": f"volatility x {factor:g} overnight",
        "kind": "volatility",
        "uncovered": float((beyond > 0).mean()),
        "shortfall": float(beyond.mean()),
        "worst": str(volatility["market"].iloc[int(beyond.argmax())]) if beyond.any() else None,
        "decisions": float(waits.max()) if np.isfinite(waits).all() else float("nan"),
    }


def _thinner(production: Production, factor: float) -> dict[str, object]:
    """Divide the depth: what the highest tier would ask beyond what is published for it."""
    beyond = {}
    for market, d in production.decisions.items():
        if d.terms.role != "perpetual":
            continue
        book = book_of(d.table, d.terms, config=production.config, clock=production.clock)
        thin = replace(book, turnover=book.turnover / factor)
        border = first_border(d.terms, production.config)
        first = thin.widen_first(book.bare(d.margin, border), border)
        asked = float(marginal_rates(first, production.config.margin.tiers, thin)[-1, -1])
        published = production.tiers(d)[0][-1, -1] / PPM
        if np.isfinite(book.turnover[-1]) and book.turnover[-1] > 0:
            beyond[market] = max(min(asked, 1.0) - published, 0.0)
    label: dict[str, object] = {"scenario": f"depth / {factor:g}, highest tier", "kind": "depth"}
    if not beyond:
        return label
    short = np.array(list(beyond.values()))
    return label | {
        "uncovered": float((short > 0).mean()),
        "shortfall": float(short.mean()),
        "worst": max(beyond, key=lambda m: beyond[m]) if short.any() else None,
    }
