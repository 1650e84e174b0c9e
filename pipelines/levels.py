"""Our margins at other levels from one walk-forward: its forecasts stay, its tails are read again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.conformal import ladder, tighten
from calibrator.calibrate.floors import long_run_floors_at
from calibrator.calibrate.procyclicality import borrowed_floor
from calibrator.calibrate.tail import rolling_tails
from calibrator.config import Config
from calibrator.domain import SIDES
from pipelines.add_ons import book_of, jumps_of, side_columns
from pipelines.calibration import TAIL_REFIT, decide
from pipelines.forecasting import PUBLISHED
from pipelines.lending import step_limits
from pipelines.milder import Milder
from pipelines.pairs import Group, by_terms, members, with_pairs
from pipelines.production import Decisions, Production
from pipelines.starts import Losses, close_out, closes_only, collect_losses
from pipelines.wide import wide

Array = NDArray[np.float64]


def margins_at(
    production: Production, bars: pd.DataFrame, levels: Sequence[float]
) -> dict[float, pd.DataFrame]:
    """Return what would have been published at each level.

    Every step that a level passes through is production's own: the tails and their conformal step, add-ons
    and liquidity, the anti-procyclical tools, the floor at that level and the limits. A plan under a target's
    step limit is solved at the configured level only: its market has no rows at the others.

    Parameters
    ----------
    production : Production
    bars : pandas.DataFrame
        The ``Bars`` it was made from.
    levels : sequence of float

    Returns
    -------
    dict of float to pandas.DataFrame
        ``market, origin, side, margin, margin_unlimited``.
    """
    config = production.config
    every = with_pairs(bars, config)
    rows = production.forecasts.features.loc[production.forecasts.experts.index, ["market", "time"]]
    listed = members(config, bars, list(dict.fromkeys(rows["market"])), closes_only(every))
    parts: dict[float, list[pd.DataFrame]] = {level: [] for level in levels}
    milder = Milder(config)
    for group in by_terms(listed):
        own, decided = (frame[frame["market"].isin(group.peers)] for frame in (every, rows))
        found = collect_losses(own, decided, config=config, clock=production.clock, terms=group.terms)
        read = _read(production, found, group, levels, milder)
        for member in group.members:
            d = production.decisions.get(member.key)
            if d is not None:
                for level, frame in _republish(production, d, own, read, levels).items():
                    parts[level].append(frame)
    return {level: pd.concat(frames, ignore_index=True) for level, frames in parts.items() if frames}


@dataclass(frozen=True, slots=True)
class _Read:
    """Standardised quantiles in force and floors, (levels, decisions, markets, sides)."""

    found: Losses
    volatility: Array
    quantile: Array
    floor: Array


def _read(
    production: Production, found: Losses, group: Group, levels: Sequence[float], milder: Milder
) -> _Read:
    config, forecasts = production.config, production.forecasts
    variance = wide(forecasts, forecasts.experts[PUBLISHED], found)
    volatility = np.sqrt(variance * (close_out(config, group.terms) / production.clock.horizon))
    standard = found.values / volatility[:, :, None, None]
    own = [found.markets.index(name) for name in group.series]
    conformal = config.margin.conformal
    ladders = [ladder(level, conformal.strictest(level)) for level in levels]
    steps = len(ladders[0])
    every = [x for rungs in ladders for x in rungs]
    window = config.margin.tail_window
    quantiles = rolling_tails(
        standard, found.known, level=every, window=window, refit=TAIL_REFIT, markets=own
    )[0]
    in_force = [
        tighten(
            standard[:, own],
            found.known[:, own],
            quantiles[..., i * steps : (i + 1) * steps],
            levels=rungs,
            gain=conformal.gain,
        )[0]
        for i, rungs in enumerate(ladders)
    ]
    long_run = _floors(found, levels, config)
    floors = [borrowed_floor(config.margin.floor * x, volatility)[:, own] for x in long_run]
    found, volatility = found.of(group.series), volatility[:, own]
    alike = group.terms.model_copy(update={"level": None})  # all entries are read at one level
    tails = milder.raised(alike, group.series, np.stack(in_force), volatility)
    return _Read(found, volatility, tails, np.stack(floors))


def _floors(found: Losses, levels: Sequence[float], config: Config) -> Array:
    out = np.full((len(levels), *found.values.shape[:3]), np.nan)
    for market, side in np.ndindex(found.values.shape[1:3]):
        out[:, :, market, side] = long_run_floors_at(
            found.values[:, market, side],
            found.known[:, market],
            share=1.0,
            levels=levels,
            window=config.margin.floor_window,
            least=config.margin.tail_min,
        ).T
    return out


def _republish(
    production: Production, d: Decisions, bars: pd.DataFrame, read: _Read, levels: Sequence[float]
) -> dict[float, pd.DataFrame]:
    """Publish one market's sides again at each level."""
    config, table = production.config, d.table
    place, market = read.found.times.get_indexer(table.index), read.found.markets.index(d.series)
    book = book_of(table, d.terms, config=config, clock=production.clock)
    jumps = jumps_of(bars, d.series, pd.DatetimeIndex(table.index), config)
    planned = step_limits(config, d) is not None
    out = {}
    for i, level in enumerate(levels):
        if planned and level != d.terms.level:
            continue
        again = table[["whole", "complete", "regime"]].copy()
        for s, side in enumerate(SIDES):
            tail, floor = read.quantile[i, place, market, s], read.floor[i, place, market, s]
            again = again.assign(
                **side_columns(
                    side,
                    (tail, tail, floor),
                    read.volatility[place, market],
                    jumps[side],
                    (book, d.terms, config),
                )
            )
        decide(again, config)
        published = table if planned else again
        out[level] = pd.concat(
            [
                pd.DataFrame(
                    {
                        "market": d.market,
                        "origin": table.index,
                        "side": side,
                        "margin": published[f"margin_{side}"].to_numpy(float),
                        "margin_unlimited": again[f"unlimited_{side}"].to_numpy(float),
                    }
                )
                for side in SIDES
            ],
            ignore_index=True,
        ).astype({"market": "str", "side": "str"})
    return out
