"""The fund and the ladder on the run's own losses and simulated accounts; every figure of it is SIMULATED."""

from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.backtest.losses import worst_start
from calibrator.backtest.partial import compare_ladder
from calibrator.backtest.replay import replay
from calibrator.backtest.report import plain, records
from calibrator.backtest.terms import deductions
from calibrator.calibrate.buffer import (
    Book,
    cover,
    cover_with_crowd,
    crowded_side,
    exhaustion,
    simulated_drawdown,
)
from calibrator.calibrate.ladder import ladder_table
from calibrator.calibrate.reverse_stress import smallest_move
from calibrator.data.events import events_between
from calibrator.domain import PPM, SIDES
from pipelines.backtesting import Backtest, replayed
from pipelines.executor import SERIAL, Executor
from pipelines.exposures import exposures, units
from pipelines.production import Production

Array = NDArray[np.float64]
CHUNK: Final = 64
"""Scenarios at a time: scenarios by accounts must fit into memory."""
SHRINK: Final = 0.01
"""Weight of independence in the correlations, so that they can be inverted."""
RUNGS: Final = ("market", "notional_floor", "rung", "threshold_ppm", "fraction_ppm", "restores_ppm")
LEAST: Final = 30
"""Fewest joint losses from which scenarios are made."""


@dataclass(frozen=True, slots=True)
class Capital:
    """What may be open, what the fund must bear, and what closing by parts changes.

    Attributes
    ----------
    exposures, units : pandas.DataFrame
        ``frames.EXPOSURES`` and ``frames.PER_UNIT``.
    ladder : pandas.DataFrame or None
        Rows ``all_at_once`` and ``ladder``; None without a margined market.
    rungs : pandas.DataFrame
        The ladder of the published margins, see :func:`rungs_of`.
    buffer : dict or None
        Plain values: ``fund``, ``cover``, ``exhaustion``, ``reverse_stress``, ``simulated``; None without a
        margined market or with too few joint losses.
    """

    exposures: pd.DataFrame
    units: pd.DataFrame
    ladder: pd.DataFrame | None
    buffer: dict[str, object] | None
    rungs: pd.DataFrame

    def summary(self) -> dict[str, object]:
        """Return ladder and buffer as plain values for ``backtest.json``."""
        ladder = None
        if self.ladder is not None:
            ladder = {
                str(how): {str(k): plain(v) for k, v in row.items()} for how, row in self.ladder.iterrows()
            }
        return {
            "simulated": True,
            "ladder": ladder,
            "rungs": records(self.rungs),
            "buffer": self.buffer,
        }


def capital(
    production: Production,
    challenged: Backtest,
    bars: pd.DataFrame,
    *,
    executor: Executor = SERIAL,
    entries: int | None = None,
) -> Capital:
    """Size the fund and compare the ladder with closing all at once.

    Parameters
    ----------
    production : Production
    challenged : Backtest
        Its simulated population.
    bars : pandas.DataFrame
        Conforming ``Bars``.
    executor : Executor
        Does the replay; the result does not depend on it.
    entries : int, optional
        Published entries that share the fund; default: those that were decided.
    """
    caps, each = exposures(production, entries=entries), units(production)
    given, rungs = replayed(production, bars), rungs_of(production)
    if given is None or challenged.population is None:
        return Capital(caps, each, None, None, rungs)
    prices, ours, latency = given
    accounts = challenged.population.accounts
    settings = production.config.buffer
    rule = partial(ladder_table, rungs=settings.ladder.rungs, cost=settings.fee, reach=settings.ladder.reach)
    ladder = compare_ladder(prices, accounts, ours, rule, latency=latency, penalty=settings.fee)
    outcomes = replay(
        prices, accounts, ours, latency=latency, penalty=settings.fee, spread=executor.map
    ).outcomes
    return Capital(caps, each, ladder, _buffer(production, accounts, outcomes), rungs)


def rungs_of(production: Production) -> pd.DataFrame:
    """Return the ladder of every tier's last margins: below which ratio which part is closed.

    Columns ``market, notional_floor, rung`` (1 is the first to act), ``threshold_ppm`` (equity over
    notional), ``fraction_ppm`` (of the position) and ``restores_ppm`` (the ratio afterwards). A tier has no
    row where its room is too small for the rungs, or closing costs too much.
    """
    settings, floors = production.config.buffer, production.config.margin.tiers
    parts = []
    for market, d in production.decisions.items():
        if d.terms.role != "perpetual":
            continue
        maintenance, initial = (x[-1] for x in production.tiers(d))
        threshold, fraction = ladder_table(
            maintenance,
            initial,
            rungs=settings.ladder.rungs,
            cost=settings.fee,
            reach=settings.ladder.reach,
        )
        parts += [
            (market, floors[tier], rung + 1, threshold[rung, tier], fraction[rung, tier], initial[tier])
            for tier in range(len(floors))
            for rung in range(settings.ladder.rungs)
            if threshold[rung, tier] > 0
        ]
    return pd.DataFrame(parts, columns=list(RUNGS))


def _buffer(
    production: Production, accounts: pd.DataFrame, outcomes: pd.DataFrame
) -> dict[str, object] | None:
    config = production.config
    markets = [m for m, d in production.decisions.items() if d.terms.role == "perpetual"]
    origins, losses = joint_losses(production, markets)
    if len(origins) < LEAST:
        return None
    book = standing_book(production, accounts, markets)
    names, made = scenarios(losses, markets, stress=config.buffer.stress)
    found = [_covered(book, x, config.buffer.fee) for x in (losses, made)]
    worst = int(found[0][1].argmax())
    hypothetical = {name: plain(value) for name, value in zip(names, found[1][1], strict=True)}
    required = max(float(f[1].max()) for f in found)
    fund = config.buffer.fund or max(required, 1.0)
    return {
        "fund": fund,
        "fund_is_configured": config.buffer.fund is not None,
        "accounts": len(accounts),
        "cover": {
            "two_largest_historical": plain(found[0][0].max()),
            "with_crowded_side_historical": plain(found[0][1].max()),
            "worst_origin": plain(origins[worst]),
            "hypothetical_with_crowded_side": hypothetical,
            "required": plain(required),
        },
        "exhaustion": _events(production, outcomes, fund, markets),
        "reverse_stress": _reverse(production, book, markets, losses, fund),
        "simulated": _simulated(production, outcomes),
    }


def joint_losses(production: Production, markets: list[str]) -> tuple[pd.DatetimeIndex, Array]:
    """Return the worst start's loss of every decision that all markets have, (decisions, markets, sides)."""
    own = production.losses[production.losses["market"].isin(markets)]
    worst = worst_start(own).unstack(["market", "side"])  # noqa: PD010 - one value per key, nothing to pool
    wide = worst.reindex(columns=pd.MultiIndex.from_product([markets, SIDES])).dropna()
    return pd.DatetimeIndex(wide.index), wide.to_numpy(float).reshape(len(wide), len(markets), len(SIDES))


def scenarios(losses: Array, markets: list[str], *, stress: float) -> tuple[list[str], Array]:
    """Return hypothetical scenarios: ``stress`` times each market's worst loss, alone and all together.

    Examples
    --------
    >>> names, made = scenarios(np.array([[[0.1, 0.2]], [[0.3, 0.1]]]), ["A"], stress=1.5)
    >>> names, made.round(2).tolist()
    (['everything falls', 'everything rises', 'A falls', 'A rises'],
    [[[0.45, -0.45]], [[-0.3, 0.3]], [[0.45, -0.45]], [[-0.3, 0.3]]])
    """
    worst = stress * losses.max(axis=0)
    names, rows = [], []
    moves = [("everything", np.ones(len(markets), bool))]
    moves += [(m, np.arange(len(markets)) == i) for i, m in enumerate(markets)]
    for name, hit in moves:
        for side, verb in enumerate(("falls", "rises")):
            row = np.zeros_like(worst)
            row[hit, side], row[hit, 1 - side] = worst[hit, side], -worst[hit, side]
            names.append(f"{name} {verb}")
            rows.append(row)
    return names, np.stack(rows)


def standing_book(production: Production, accounts: pd.DataFrame, markets: list[str]) -> Book:
    """Return the simulated accounts as if all were opened now: their size and leverage, today's margin."""
    notional = (accounts["quantity"] * accounts["entry_price"]).to_numpy(float)
    number = pd.Index(markets).get_indexer(accounts["market"])
    floors = np.array(production.config.margin.tiers)
    initial = np.stack([production.tiers(production.decisions[m])[1][-1] for m in markets], axis=1)
    place = np.searchsorted(floors, notional, side="right") - 1, number
    asked = initial[place] / PPM * notional - deductions(floors, initial)[place] / PPM
    equity = np.maximum(accounts["collateral"].to_numpy(float), asked)
    return Book(number, np.where(accounts["side"] == "long", 1, -1), notional, equity)


def _covered(book: Book, losses: Array, cost: float) -> tuple[Array, Array]:
    """Cover-2, and the same beside the crowded side, of every scenario."""
    crowd = crowded_side(book)
    two, both = [], []
    for begin in range(0, len(losses), CHUNK):
        owed = book.shortfalls(losses[begin : begin + CHUNK], cost=cost)
        two.append(cover(owed))
        both.append(cover_with_crowd(owed, crowd))
    return np.concatenate(two), np.concatenate(both)


def _payments(outcomes: pd.DataFrame) -> pd.Series:
    """Penalties less shortfalls in the order of settlement."""
    settled = outcomes[outcomes["status"] == "liquidated"].sort_values(["settled_at", "account"])
    net = settled["penalty"] - settled["shortfall"]
    return pd.Series(net.to_numpy(float), index=pd.DatetimeIndex(settled["settled_at"]))


def _events(
    production: Production, outcomes: pd.DataFrame, fund: float, markets: list[str]
) -> list[dict[str, object]]:
    """Let the full fund meet every catalogued event inside the replay."""
    paid = _payments(outcomes)
    if paid.empty:
        return []
    longest = max(production.decisions[m].terms.close_out or 1 for m in markets) * production.clock.step
    out: list[dict[str, object]] = []
    for event in events_between(paid.index[0].date(), paid.index[-1].date(), markets):
        start = pd.Timestamp(event.start, tz="UTC")
        until = pd.Timestamp(event.end, tz="UTC") + pd.Timedelta("1D") + longest
        own = paid[(paid.index >= start) & (paid.index < until)]
        found = exhaustion(own.to_numpy(float), fund=fund)
        hours = None
        if found.after is not None:
            hours = (own.index[found.after] - start) / pd.Timedelta("1h")
        out.append(
            {
                "event": event.name,
                "start": str(event.start),
                "payments": len(own),
                "paid_net": plain(found.paid),
                "lowest_balance": plain(found.lowest),
                "hours_to_exhaustion": plain(hours),
            }
        )
    return out


def _reverse(
    production: Production, book: Book, markets: list[str], losses: Array, fund: float
) -> dict[str, object] | None:
    volatility = np.array([production.decisions[m].table["volatility"].iloc[-1] for m in markets])
    signed = losses[:, :, 1] - losses[:, :, 0]
    correlation = np.atleast_2d(np.corrcoef(signed, rowvar=False))
    correlation = (1 - SHRINK) * correlation + SHRINK * np.eye(len(markets))
    covariance = correlation * np.outer(volatility, volatility)
    found = smallest_move(book, covariance, fund=fund, cost=production.config.buffer.fee)
    if found is None:
        return None
    return {
        "moves": {m: plain(x) for m, x in zip(markets, found.move, strict=True)},
        "standard_deviations": plain(found.distance),
        "shortfall": plain(found.shortfall),
    }


def _simulated(production: Production, outcomes: pd.DataFrame) -> dict[str, object] | None:
    """Simulate years from the payments per decision of the replay."""
    paid = _payments(outcomes)
    origins = next(iter(production.decisions.values())).table.index
    if paid.empty or len(origins) < 2:
        return None
    inside = origins[(origins >= paid.index[0] - (origins[1] - origins[0])) & (origins <= paid.index[-1])]
    rows = np.clip(inside.searchsorted(paid.index), 0, max(len(inside) - 1, 0))
    per_decision = np.bincount(rows, weights=paid.to_numpy(float), minlength=len(inside)).astype(float)
    spacing = pd.Series(inside).diff().mean()
    settings = production.config.buffer
    if len(per_decision) < 2 * settings.block:
        return None
    found = simulated_drawdown(
        per_decision,
        periods=max(round(pd.Timedelta("365.25D") / spacing), 1),
        block=settings.block,
        draws=settings.draws,
        seed=settings.seed,
    )
    return {
        "level": found.level,
        "worst_drawdown_of_a_year": plain(found.quantile),
        "low": plain(found.low),
        "high": plain(found.high),
        "information_only": found.information_only,
    }
