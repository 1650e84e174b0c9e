"""Announced changes that people exploit: simulated accounts and recorded vaults, with notice and without."""

import math
import zlib
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest.exploits_accounts import chosen, late, position_bill, position_crowd, position_track
from calibrator.backtest.exploits_table import LATE, NOTICE, PROMPT, Arena, Scene, Setting, exploited, hunted
from calibrator.backtest.exploits_vaults import vault_crowd, vault_track
from calibrator.backtest.population import Population
from calibrator.backtest.replay import PENALTY, positioned
from calibrator.backtest.report import records
from calibrator.backtest.terms import Clock, Floats, Prices, Terms, prices_by_market, terms_by_market
from calibrator.calibrate.liquidation import Depth
from calibrator.config import Config
from pipelines.exposures import DEGRADED
from pipelines.production import Decisions, Production
from pipelines.recorded import VaultBacktest
from pipelines.report.words import percent
from pipelines.starts import close_out

Replayed = tuple[pd.DataFrame, pd.DataFrame, int]
"""Bars, schedule and close-out of a replay."""
ACCOUNTS: Final = "simulated accounts"
STREAM: Final = 18
"""Keeps the draws of who reacts and who leaves apart from those of the accounts."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What announced changes invite.

    Attributes
    ----------
    rows, hunting : pandas.DataFrame
        See :func:`~calibrator.backtest.exploits_table.exploited` and
        :func:`~calibrator.backtest.exploits_table.hunted`.
    setting : Setting
    simulated : bool
        Simulated accounts, or recorded vaults.
    every : int
        Every so many of the simulated accounts are followed.
    left_out : tuple of str
        Markets whose depth is not known: nobody can say what moving their price costs.
    """

    rows: pd.DataFrame
    hunting: pd.DataFrame
    setting: Setting
    simulated: bool
    every: int = 1
    left_out: tuple[str, ...] = ()

    def summary(self) -> dict[str, object]:
        """Return one entry of the section ``announced`` of ``backtest.json``."""
        config = self.setting.config
        return {
            "simulated": self.simulated,
            "notice": self.setting.notice,
            "reacting": self.setting.reacting,
            "penalty": self.setting.penalty,
            "near": config.near,
            "after": config.after,
            "fee": config.fee,
            "every": self.every,
            "open_interest": config.open_interest if self.simulated else None,
            "left_out": list(self.left_out),
            "rows": records(self.rows.reset_index()),
            "hunting": records(self.hunting.reset_index()),
            "conclusion": self.conclusion(),
        }

    @property
    def notice(self) -> str:
        """The notice in words."""
        return f"{self.setting.notice} bar{'' if self.setting.notice == 1 else 's'}"

    def conclusion(self) -> str:
        """Say in a few words what notice saves and what exploiting it costs."""
        return conclusion(self.rows, self.hunting)


def announced(
    production: Production,
    given: Replayed | None,
    population: Population | None,
    vaults: VaultBacktest | None,
) -> dict[str, Announced]:
    """Exploit the announced changes of a run's schedule: on its simulated accounts and on recorded vaults.

    Parameters
    ----------
    production : Production
    given : tuple, optional
        Bars, schedule and close-out of the replay.
    population : Population, optional
    vaults : VaultBacktest, optional

    Returns
    -------
    dict of str to Announced
        By who is meant; empty where it is switched off, or nothing is replayed.
    """
    made = announced_accounts(production, given, population)
    out = {} if made is None else {ACCOUNTS: made}
    if vaults is not None:
        out |= {f"vaults, {how}": x for how, x in announced_vaults(production, vaults).items()}
    return out


def announced_accounts(
    production: Production, given: Replayed | None, population: Population | None
) -> Announced | None:
    """Exploit the announced changes of a schedule on a sample of the simulated accounts.

    Depth follows each market's own volume and volatility; its level is set so that the accounts' mean open
    notional is the stated multiple of the mean volume between two decisions.

    Parameters
    ----------
    production : Production
    given : tuple, optional
        Bars, schedule and close-out of the replay.
    population : Population, optional

    Returns
    -------
    Announced or None
        None where it is switched off, no account is replayed, or no market's depth is known.
    """
    config = production.config
    if config.backtest.announced.mode == "off" or given is None or population is None:
        return None
    bars, schedule, latency = given
    prices = prices_by_market(bars)
    terms = terms_by_market(schedule, prices)
    setting = setting_of(config, reacting=config.backtest.accounts.reacting, penalty=PENALTY)
    arenas, lost = {}, []
    for market, accounts in population.sample().groupby("market", sort=True):
        name = str(market)
        depth = depth_of(production, production.decisions[name], prices[name].time)
        if depth is None:
            lost.append(name)
            continue
        world = _World(prices[name], terms[name], latency, production, setting)
        arenas[name] = world.arena(name, accounts, depth)
    if not arenas:
        return None
    rows, hunting = exploited(arenas, setting), hunted(arenas, setting)
    every = population.every
    return Announced(rows, hunting, setting, simulated=True, every=every, left_out=tuple(lost))


def announced_vaults(production: Production, made: VaultBacktest) -> dict[str, Announced]:
    """Exploit the announced changes of the calibrated ratio on recorded vaults, at the market's own depth.

    Parameters
    ----------
    production : Production
    made : VaultBacktest

    Returns
    -------
    dict of str to Announced
        By what owners do about their distance, as in ``VaultBacktest``; empty where it is switched off or the
        market's depth is not known.
    """
    config, settings = production.config, production.config.backtest.vaults
    if settings is None or config.backtest.announced.mode == "off":
        return {}
    decisions = production.decisions[settings.market]
    depth = depth_of(production, decisions, made.oracle.time)
    if depth is None:
        return {}
    setting = setting_of(config, reacting=config.backtest.accounts.reacting, penalty=settings.penalty)
    length = close_out(config, decisions.terms)
    paths: dict[str, float | None] = {"as recorded": None, "distance kept": settings.ratio}
    return {
        name: _vaults(made, (depth, length, distance), setting, published=config.margin.notice)
        for name, distance in paths.items()
    }


def setting_of(config: Config, *, reacting: float, penalty: float) -> Setting:
    """Return what all rows share; notice is the schedule's own, or one cadence where it has none."""
    own = config.backtest.announced
    notice = own.notice or config.margin.notice or config.forecast.cadence
    return Setting(own, notice, reacting, penalty)


def depth_of(production: Production, d: Decisions, times: Clock) -> Floats | None:
    """Return what it costs to move a market's price by 100 %, per bar, by the last decision before it.

    The square-root law of the haircuts' bound on manipulation, at the stressed depth; the window in which an
    oracle averages cancels. Where volume or volatility is not known any more, half the last known depth;
    before the first decision, the first.

    Parameters
    ----------
    production : Production
    d : Decisions
    times : numpy.ndarray of datetime64, shape (T,)
        Ends of the bars.

    Returns
    -------
    numpy.ndarray, shape (T,), or None
        None where nothing is known, or the configured price impact is 0.
    """
    margin = production.config.margin
    turnover = d.table["turnover"].to_numpy(float) / production.clock.cadence / margin.stress.depth
    volatility = d.table["volatility_bar"].to_numpy(float)
    known = np.isfinite(turnover) & (turnover > 0) & np.isfinite(volatility) & (volatility > 0)
    if not known.any() or margin.impact == 0:
        return None
    cost = np.full(len(known), math.nan)
    for i in np.flatnonzero(known):
        market = Depth(float(turnover[i]), float(volatility[i]), margin.impact)
        cost[i] = market.cost_of_moving(1.0)
    last = np.maximum.accumulate(np.where(known, np.arange(len(known)), -1))
    held = cost[np.where(last >= 0, last, int(known.argmax()))] / np.where(known, 1.0, DEGRADED)
    origins = d.table.index.tz_convert(None).to_numpy(dtype="datetime64[us]")
    row = np.searchsorted(origins, np.asarray(times, "datetime64[us]"), side="left") - 1
    return np.asarray(held[np.maximum(row, 0)], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _World:
    """One market of the replay."""

    prices: Prices
    terms: Terms
    latency: int
    production: Production
    setting: Setting

    def arena(self, market: str, accounts: pd.DataFrame, depth: Floats) -> Arena:
        """Lay the accounts out under changes that are prompt and late."""
        solvent, positions, _ = positioned(accounts, self.prices, self.terms)
        bars = len(self.prices.time)
        crowd, which = position_crowd(positions, bars)
        own = chosen(positions, which)
        exposed = own.quantity * own.entry_price * (crowd.end - crowd.begin + 1)
        scaled = depth * self._scale(market, float(exposed.sum()) / bars)
        published, near = self.production.config.margin.notice, self.setting.config.near
        bill = partial(position_bill, positions=own, prices=self.prices, latency=self.latency)
        prompt, waiting = (
            Scene(position_track(self.prices, late(self.terms, n), scaled, near=near), crowd, bill)
            for n in (-published, self.setting.notice - published)
        )
        seed = (self.production.config.backtest.accounts.seed, zlib.crc32(market.encode()), STREAM)
        owners = solvent["account"].factorize()[0][which]
        return Arena.of(prompt, waiting, owners, seed=seed)

    def _scale(self, market: str, open_notional: float) -> float:
        """Size the market to the accounts, by their mean open notional and its stated multiple of volume."""
        turnover = self.production.decisions[market].table["turnover"].to_numpy(float)
        mean = float(np.mean(turnover[np.isfinite(turnover) & (turnover > 0)]))
        return max(open_notional, 1.0) / (self.setting.config.open_interest * mean)


def _vaults(
    made: VaultBacktest, how: tuple[Floats, int, float | None], setting: Setting, *, published: int
) -> Announced:
    depth, length, distance = how
    index = made.books.fees.index(made.oracle.time)
    scenes, owners = [], np.zeros(0, dtype=np.int64)
    for shift in (-published, setting.notice - published):
        rows = np.clip(np.arange(len(made.ratio)) - shift, 0, len(made.ratio) - 1)
        ratio = made.ratio[rows]
        vaults = vault_crowd(made.books, made.oracle, ratio, distance=distance)
        track = vault_track(made.oracle, ratio, index, depth, near=setting.config.near)
        bill = partial(vaults.bill, oracle=made.oracle, index=index, close_out=length)
        scenes.append(Scene(track, vaults.crowd, bill))
        owners = vaults.vault
    arenas = {"vaults": Arena.of(scenes[0], scenes[1], owners, seed=(STREAM,))}
    return Announced(exploited(arenas, setting), hunted(arenas, setting), setting, simulated=False)


def conclusion(rows: pd.DataFrame, hunting: pd.DataFrame) -> str:
    """Say in one sentence what notice saves and what exploiting it costs.

    Parameters
    ----------
    rows, hunting : pandas.DataFrame
        See :class:`Announced`.
    """
    prompt, waited, told = (rows.loc[name] for name in (PROMPT, LATE, NOTICE))
    saved = float(waited["by_change"] - told["by_change"])
    how = f"({percent(prompt['share'])} in force at once)"
    changed = (
        f"notice takes what changes liquidate by themselves from {percent(waited['share'])} to "
        f"{percent(told['share'])} of all that is liquidated {how}"
    )
    if not waited["by_change"]:
        changed = f"changes in force as late liquidate nobody by themselves, announced or not {how}"
    parts = [changed]
    leaving = [str(name) for name in rows.index if " exit " in str(name) and " hunting " not in str(name)]
    if leaving:
        name = leaving[len(leaving) // 2]
        left = float(rows.loc[name, "left"])
        per = f", {left / saved:,.0f} for each unit that notice saves" if saved > 0 and left > saved else ""
        share = name.rpartition("exit ")[2]
        parts.append(f"if {share} of the owners near it leave, {left:,.0f} goes with them{per}")
    if len(hunting):
        anyway, found = (hunting["pays"].xs(name, level="facing") for name in ("no change", NOTICE))
        added = found - anyway
        push = float((added if added.max() > 0 else found).idxmax())
        more = int(added[push])
        parts.append(
            f"a push of {100 * push:g} % pays at {int(found[push]):,} of {int(told['changes']):,} announced "
            f"changes and at {int(anyway[push]):,} with no change at all, so that the announcement "
            + (f"adds {more:,}" if more > 0 else "adds none")
        )
    return "Net: " + "; ".join(parts) + "."
