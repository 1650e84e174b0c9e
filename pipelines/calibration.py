"""From forecasts to the margins of one group of markets, decision by decision."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.conformal import ladder, tighten
from calibrator.calibrate.procyclicality import borrowed_floor, hold_adds, limit
from calibrator.calibrate.tail import rolling_tails
from calibrator.config import Config, MarketConfig
from calibrator.domain import SIDES
from calibrator.features import Clock
from pipelines.add_ons import Observed, book_of, crowd_of, jumps_of, side_columns
from pipelines.forecasting import PUBLISHED, Forecasts
from pipelines.milder import Milder
from pipelines.smoothing import calm, may_fall, regime_hold
from pipelines.starts import Losses, close_out
from pipelines.wide import long_run_floors, whole_decisions, wide

Array = NDArray[np.float64]
T = TypeVar("T")
TAIL_REFIT: Final = 7
"""Decisions between tail estimations."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """How often tails are estimated, and what was estimated before under the same settings.

    Attributes
    ----------
    refit : int
        Decisions between tail estimations.
    kept : dict
        Results by what they depend on; only for calls on the same markets, forecasts and bars.
    """

    refit: int = TAIL_REFIT
    kept: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what a key stands for, made at its first use.

        Examples
        --------
        >>> memory = Estimates()
        >>> memory.once("a", lambda: 1), memory.once("a", lambda: 2)
        (1, 1)
        """
        if key not in self.kept:
            self.kept[key] = make()
        found: T = self.kept[key]
        return found


def standing(markets: Iterable[str], terms: MarketConfig, config: Config) -> tuple[Hashable, ...]:
    """Return what the losses of a group of markets depend on, beside bars and forecasts.

    Examples
    --------
    >>> config = Config.model_validate({"data": {"source": "embedded"}})
    >>> standing(["A"], config.market("A"), config)
    (('A',), 24, 'excursion', 0, 'auto')
    """
    margin = config.margin
    return (
        tuple(markets),
        close_out(config, terms),
        terms.loss or margin.loss,
        margin.notice,
        margin.starts,
    )


def tables_of(  # noqa: PLR0913 - what was seen, under which terms, and what is remembered
    found: Losses,
    forecasts: Forecasts,
    seen: Observed,
    terms: MarketConfig,
    *,
    config: Config,
    clock: Clock,
    series: Sequence[str] | None = None,
    milder: Milder | None = None,
    estimates: Estimates | None = None,
) -> dict[str, pd.DataFrame]:
    """Estimate tails, add-ons and floors of one group of markets: everything before a margin is published.

    Parameters
    ----------
    found : Losses
        Of the group and its peers, on the group's terms.
    forecasts : Forecasts
    seen : Observed
        Bars and open interest of the group and its peers.
    terms : MarketConfig
        What the group has in common.
    config : Config
    clock : Clock
    series : sequence of str, optional
        The group; the others in ``found`` are peers only. Default: all.
    milder : Milder, optional
        What entries with a shorter close-out ask; default: there are none.
    estimates : Estimates, optional
        Remembered tails and floors; default: none.

    Returns
    -------
    dict of str to pandas.DataFrame
        Per market the columns of ``Decisions`` up to ``floor_``, and ``loss_long``, ``loss_known_at``.
    """
    made = estimates or Estimates()
    length, level = close_out(config, terms), terms.level or config.margin.level
    series = found.markets if series is None else series
    given = standing(found.markets, terms, config)
    every = np.sqrt(wide(forecasts, forecasts.experts[PUBLISHED], found) * (length / clock.horizon))
    quantile, shortfall, in_force, borrow = _tails((found, every), series, terms, config, made)
    long_run = made.once(
        ("floor", *given, level, config.margin.floor_window, config.margin.tail_min),
        partial(long_run_floors, found, level, config),
    )
    own = [found.markets.index(name) for name in series]
    floors = borrowed_floor(config.margin.floor * long_run, every)[:, own]
    found = found.of(series)
    variance = wide(forecasts, forecasts.experts[PUBLISHED], found)
    volatility = np.sqrt(variance * (length / clock.horizon))
    if milder is not None:
        quantile = milder.raised(terms, series, quantile, volatility)
        shortfall = np.maximum(shortfall, quantile)
    turnover = wide(forecasts, forecasts.features["turnover"], found)
    probability = wide(forecasts, forecasts.probability, found)
    whole, complete = whole_decisions(forecasts, found, clock)
    out = {}
    for i, market in enumerate(found.markets):
        table = pd.DataFrame({"volatility": volatility[:, i]}, index=found.times.rename("origin"))
        table["volatility_bar"] = np.sqrt(variance[:, i] / clock.horizon)
        table["turnover"] = turnover[:, i]
        table["whole"], table["complete"] = whole[:, i], complete[:, i]
        table["probability"] = probability[:, i]
        table["level"] = in_force[:, i]
        table["crowd"] = crowd_of(seen, market, found.times, config)
        book = book_of(table, terms, config=config, clock=clock)
        jumps = jumps_of(seen.bars, market, found.times, config)
        if book.crowded is not None:
            table["complete"] &= ~book.lost
        for s, side in enumerate(SIDES):
            estimated = tuple(x[:, i, s] for x in (quantile, shortfall, floors))
            table = table.assign(
                **side_columns(side, estimated, volatility[:, i], jumps[side], (book, terms, config))
            )
        table["loss_long"] = found.values[:, i, 0].max(axis=1)
        table["loss_known_at"] = _matured(found, i)
        if borrow is not None:
            table["borrow"] = borrow[:, i, 0] * table["volatility"] * np.sqrt(clock.cadence / length)
        usable = table[table[[f"unlimited_{s}" for s in SIDES]].notna().all(axis=1)]
        if not usable.empty:
            out[market] = usable.copy()
    return out


def _tails(
    seen: tuple[Losses, Array], series: Sequence[str], terms: MarketConfig, config: Config, made: Estimates
) -> tuple[Array, Array, Array, Array | None]:
    """Quantile and expected shortfall after the conformal step, its level, and the borrow quantile.

    ``seen`` are losses and volatilities of the series and their peers.
    """
    found, volatility = seen
    standard = found.values / volatility[:, :, None, None]
    level, conformal = terms.level or config.margin.level, config.margin.conformal
    given = (tuple(series), *standing(found.markets, terms, config))
    own = [found.markets.index(name) for name in series]

    def rolled(at: float | tuple[float, ...]) -> tuple[Array, Array]:
        window = config.margin.tail_window
        return made.once(
            ("tails", *given, window, at),
            lambda: rolling_tails(
                standard, found.known, level=at, window=window, refit=made.refit, markets=own
            ),
        )

    levels = ladder(level, conformal.strictest(level))
    quantiles, shortfalls = rolled(levels)
    quantile, in_force = tighten(
        standard[:, own], found.known[:, own], quantiles, levels=levels, gain=conformal.gain
    )
    shortfall = np.maximum(shortfalls[..., 0], quantile * (shortfalls / quantiles)[..., 0])
    low = config.haircut.borrow_level if terms.role == "collateral" else None
    return quantile, shortfall, in_force, None if low is None else rolled(low)[0]


def _matured(found: Losses, market: int) -> pd.DatetimeIndex:
    """When all losses of each decision are known; never is the far future."""
    last = found.known_at[:, market].max(axis=1)
    whole = np.where(np.isnat(found.known_at[:, market]).any(axis=1), np.datetime64("2200-01-01", "us"), last)
    return pd.DatetimeIndex(whole).tz_localize("UTC")


def regimes_at(forecasts: Forecasts, market: str, origins: pd.Index) -> pd.Series:
    """Return a market's regime at each decision: the last one known, ``ELEVATED`` before there is any."""
    states = forecasts.regimes[forecasts.regimes["market"] == market].set_index("time")["regime"]
    return states.reindex(origins).ffill().fillna(1).astype("int64")


def decide(table: pd.DataFrame, config: Config) -> dict[str, Array]:
    """Apply tools, floor and limits: ``goal_``, ``margin_`` and ``held_`` of both sides, in place.

    Parameters
    ----------
    table : pandas.DataFrame
        As :func:`tables_of` returns it, and ``regime``.
    config : Config

    Returns
    -------
    dict of str to numpy.ndarray
        Per side the margin that the tools ask for, before floor and limits.
    """
    limits = config.margin.limits.to_domain()
    whole = table["whole"].to_numpy(bool)
    held = regime_hold(table["regime"], config)
    complete, free = table["complete"].to_numpy(bool), may_fall(table, config)
    goals: dict[str, Array] = {}
    for side in SIDES:
        goals[side] = calm(table[f"unlimited_{side}"].to_numpy(float), config)
        floor = table[f"floor_{side}"].to_numpy(float)
        table[f"goal_{side}"] = np.fmax(goals[side], floor)
        published = limit(goals[side], floor, limits=limits, whole=whole, complete=free)
        table[f"margin_{side}"] = published
        table[f"held_{side}"] = hold_adds(
            published, goals[side], floor, limits=limits, flags=(whole, complete), held=held
        )
    return goals
