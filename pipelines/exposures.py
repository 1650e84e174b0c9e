"""From a decision to its exposure caps, the liquidator's terms, and risk per unit of collateral."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from calibrator.calibrate.exposure import Stress, exposure_cap
from calibrator.calibrate.liquidation import Depth
from calibrator.calibrate.margin import initial_margin, round_up
from calibrator.calibrate.per_unit import per_unit
from calibrator.config import Config
from calibrator.domain import PPM, SIDES, HaircutSchedule
from calibrator.errors import InfeasibleScheduleError
from calibrator.frames import EXPOSURES, PER_UNIT, conform
from pipelines.add_ons import book_of
from pipelines.lending import lending, liquidator, pair_of
from pipelines.production import Decisions, Production
from pipelines.starts import close_out

DEGRADED = 2.0
"""Divides the last known depth of a market whose depth is not known any more."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """What may be open at most, and what it rests on; None = not known, or no fund.

    In units of the debt; those of a perpetual in quote units.

    Attributes
    ----------
    open_interest_cap, supply_cap, borrow_cap : int or None
        Of a perpetual, of a collateral, and of what is borrowed against it.
    manipulation_bound : float or None
        Supply of a collateral from which moving its price would pay.
    least_liquidation : int or None
        Size below which a liquidation does not pay; None without a cost of gas.
    stress_move : float
        Loss over the close-out that the fund must absorb beyond the margin (fraction).
    degraded : bool
        The market's depth or bars are not complete: caps may only fall.
    reason : str
        Why nothing is lent against a collateral and it has no caps; empty where something is.
    """

    open_interest_cap: int | None
    supply_cap: int | None
    borrow_cap: int | None
    manipulation_bound: float | None
    least_liquidation: int | None
    stress_move: float
    degraded: bool
    reason: str = ""


def exposure_of(production: Production, d: Decisions, *, entries: int | None = None) -> Exposure:
    """Return the caps of one entry at its last decision; those of a collateral in units of its debt.

    The stressed move is `buffer.stress` times the larger of the worst loss that is known and the expected
    shortfall, and a perpetual pays `buffer.fee` beside it, as in the fund's own scenarios; a collateral's
    penalty is part of what is owed. The fund is shared equally among all entries, so that all may fail
    together, and what moving a collateral's price is worth among all places that take it. An unknown depth
    is half the last one that was known; a market that never had one has no caps.

    Parameters
    ----------
    production : Production
    d : Decisions
    entries : int, optional
        Published entries, those that are held at their last good value among them; default and least: all
        that were decided.
    """
    config, row = production.config, d.table.iloc[-1]
    book = book_of(d.table, d.terms, config=config, clock=production.clock)
    degraded = bool(book.lost[-1]) or not bool(row["complete"])
    known = book.turnover[np.isfinite(book.turnover) & (book.turnover > 0)]
    sides = SIDES[:1] if d.terms.role == "collateral" else SIDES
    losses = production.losses
    own = losses[(losses["market"] == d.market) & losses["side"].isin(sides)]
    worst = float(own.loc[own["known_at"] <= d.table.index[-1], "loss"].max())
    shortfall = max(float(row[f"shortfall_{side}"]) for side in sides)
    move = config.buffer.stress * float(np.fmax(worst, shortfall))
    try:
        lent = lending(config, d)(float(d.margin[-1])) if d.terms.role == "collateral" else None
    except InfeasibleScheduleError as error:
        return Exposure(None, None, None, None, None, move, degraded=True, reason=str(error))
    dust = None if lent is None else _least(config, d, lent)
    if not len(known):
        return Exposure(None, None, None, None, dust, move, degraded)
    turnover = float(known[-1]) / (DEGRADED if degraded else 1.0) / config.margin.stress.depth
    volatility = float(row["volatility_bar"]) * config.margin.stress.volatility
    stress = Stress(
        margin=_covers(config, d, lent),
        move=move,
        turnover=turnover,
        volatility=volatility,
        close_out=book.close_out,
        participation=book.participation,
        impact=book.impact,
        defaulting=config.buffer.defaulting,
        cost=config.buffer.fee if lent is None else 0.0,
    )
    fund, sharing = config.buffer.fund, max(len(production.decisions), entries or 0)
    price = float(row.get("debt_price", 1.0))
    cap = None if fund is None or not price > 0 else exposure_cap(stress, fund=fund / sharing / price)
    if lent is None:
        return Exposure(cap, None, None, None, None, move, degraded)
    bound = _bound(config, turnover, volatility, lent)
    places = sum(o.key[:2] == d.key[:2] for o in production.decisions.values())
    bound = None if bound is None else bound / places
    supply = None if cap is None else int(min(cap, math.inf if bound is None else bound))
    borrow = None if supply is None else supply * lent.loan_to_value_ppm // PPM
    return Exposure(None, supply, borrow, bound, dust, move, degraded)


def _covers(config: Config, d: Decisions, lent: HaircutSchedule | None) -> float:
    """Share of an exposure that is lost before the fund pays."""
    if lent is None:
        return float(d.margin[-1])
    pair = pair_of(config, d)
    owed = lent.liquidation_threshold_ppm / PPM * (1 + lent.liquidation_penalty_ppm / PPM)
    return max(1.0 - owed * (1 + (pair.interest or 0.0)), 0.0)


def _bound(config: Config, turnover: float, volatility: float, lent: HaircutSchedule) -> float | None:
    window, impact = config.buffer.oracle_window, config.margin.impact
    if impact == 0:
        return None
    depth = Depth(turnover * window, volatility * math.sqrt(window), impact)
    return depth.manipulation_bound(lent.loan_to_value_ppm / PPM)


def _least(config: Config, d: Decisions, lent: HaircutSchedule) -> int | None:
    one = liquidator(config, d, float(d.margin[-1]))
    dust = one.dust(lent.liquidation_penalty_ppm / PPM)
    return None if one.gas == 0 or not math.isfinite(dust) else math.ceil(dust)


def exposures(production: Production, *, entries: int | None = None) -> pd.DataFrame:
    """Return the conforming ``Exposures`` of every entry at its last decision; see :func:`exposure_of`."""
    rows = []
    for d in production.decisions.values():
        found = exposure_of(production, d, entries=entries)
        symbol, role, debt, location = d.key
        rows.append(
            {
                "market": symbol,
                "role": role,
                "debt": debt or "-",
                "location": location or "-",
                "origin": d.table.index[-1],
                "open_interest_cap": _float(found.open_interest_cap),
                "supply_cap": _float(found.supply_cap),
                "borrow_cap": _float(found.borrow_cap),
                "manipulation_bound": _float(found.manipulation_bound),
                "least_liquidation": _float(found.least_liquidation),
                "stress_move": found.stress_move,
                "reason": found.reason or "-",
            }
        )
    return conform(pd.DataFrame(rows, columns=list(EXPOSURES.columns)), EXPOSURES, source="production")


def _float(value: float | None) -> float:
    return math.nan if value is None else float(value)


def units(production: Production) -> pd.DataFrame:
    """Return the conforming ``PerUnit`` of every decision and side: risk per unit of posted collateral."""
    config, clock = production.config, production.clock
    features = production.forecasts.features
    rows = features.loc[production.forecasts.experts.index, ["market", "time", "implied"]]
    parts = []
    for d in production.decisions.values():
        quotes = rows[rows["market"] == d.series].set_index("time")["implied"].reindex(d.table.index)
        length = close_out(config, d.terms)
        implied = np.sqrt(np.exp(quotes.to_numpy(float)) * length / clock.cadence)
        collateral = d.terms.role == "collateral"
        maintenance = round_up(d.margin)
        posted = (
            np.ones(len(d.table))
            if collateral
            else initial_margin(maintenance, config.margin.initial_multiple) / PPM
        )
        for side in SIDES[:1] if collateral else SIDES:
            found = per_unit(
                (d.table[f"unlimited_{side}"].to_numpy(float), d.table[f"shortfall_{side}"].to_numpy(float)),
                posted=posted,
                delta=1.0 if collateral else 0.0,
                implied=implied,
                quantile=d.table[f"tail_{side}"].to_numpy(float),
            )
            values = {name: getattr(found, name) for name in list(PER_UNIT.columns)[5:]}
            label = {"market": d.market, "origin": d.table.index, "side": side}
            parts.append(pd.DataFrame(label | {"level": d.terms.level, "horizon": length} | values))
    return conform(pd.concat(parts, ignore_index=True), PER_UNIT, source="production")
