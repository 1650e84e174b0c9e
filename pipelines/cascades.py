"""Cascade of the simulated accounts: the worst stretch of the worst market, at growing compression."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest.cascade import Book, Shock, convexity, stability_limit
from calibrator.backtest.population import Population
from calibrator.backtest.report import plain, records
from calibrator.domain import PPM
from pipelines.production import Production

COMPRESSIONS: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
DEPTH: Final = 20.0
"""Forced sales that halve the price in calm times, as a multiple of all accounts' notional."""
FUND: Final = 0.01
"""Insurance fund, share of all accounts' notional."""


@dataclass(frozen=True, slots=True)
class Cascades:
    """Convexity report of the simulated accounts.

    Attributes
    ----------
    table : pandas.DataFrame
        See :func:`~calibrator.backtest.cascade.convexity`.
    limit : pandas.Series
        Compression at which stability is lost, per way to liquidate.
    market : str
        Whose worst stretch is the shock.
    shock : Shock
    margin : float
        Anchor: median maintenance margin at the openings.
    """

    table: pd.DataFrame
    limit: pd.Series
    market: str
    shock: Shock
    margin: float

    def summary(self) -> dict[str, object]:
        """Return the section ``cascade`` of ``backtest.json``."""
        return {
            "simulated": True,
            "market": self.market,
            "moves": [float(m) for m in self.shock.moves],
            "margin": self.margin,
            "depth_to_notional": DEPTH,
            "fund_to_notional": FUND,
            "stability_limit": {str(k): plain(v) for k, v in self.limit.items()},
            "rows": records(self.table.reset_index()),
        }


def cascades(production: Production, bars: pd.DataFrame, population: Population | None) -> Cascades | None:
    """Shock the simulated accounts; None where there are none.

    The shock is the largest fall of a day's bars that any of their markets had in the window; every account's
    cushion is its collateral over the maintenance margin in force at its opening.
    """
    accounts = None if population is None else population.sample()
    if accounts is None or accounts.empty:
        return None
    asked = _asked(production, accounts)
    notional = (accounts["quantity"] * accounts["entry_price"]).to_numpy(float)
    known = np.isfinite(asked)
    cushion = np.maximum(accounts["collateral"].to_numpy(float)[known] / (asked * notional)[known], 1.0)
    side = np.where(accounts["side"] == "long", 1, -1)[known]
    book = Book(notional[known], side, cushion)
    market, moves = _worst(bars, sorted(accounts["market"].unique()), production.config.forecast.cadence)
    total = float(book.notional.sum())
    shock = Shock(moves, DEPTH * total)
    margin = float(np.median(asked[known]))
    table = convexity(book, shock, margin=margin, fund=FUND * total, compressions=COMPRESSIONS)
    return Cascades(table, stability_limit(table), market, shock, margin)


def _asked(production: Production, accounts: pd.DataFrame) -> np.ndarray:
    """Maintenance margin of the first tier when each account opened (fraction), NaN before the first."""
    schedule = production.schedule()
    schedule = schedule[schedule["notional_floor"] == 0].sort_values("effective_from")
    left = accounts[["market", "opened"]].assign(row=np.arange(len(accounts))).sort_values("opened")
    found = pd.merge_asof(left, schedule, left_on="opened", right_on="effective_from", by="market")
    return np.asarray(found.sort_values("row")["maintenance_margin_ppm"].to_numpy(float) / PPM)


def _worst(bars: pd.DataFrame, markets: list[str], length: int) -> tuple[str, tuple[float, ...]]:
    """Return the market and the log returns of the ``length`` bars with the largest fall."""
    worst: tuple[float, str, tuple[float, ...]] | None = None
    for market in markets:
        close = bars.loc[bars["market"] == market, "close"].to_numpy(float)
        moves = np.diff(np.log(close))
        width = min(length, len(moves))
        if width == 0:
            continue
        sums = np.convolve(moves, np.ones(width), "valid")
        at = int(sums.argmin())
        if worst is None or sums[at] < worst[0]:
            worst = (float(sums[at]), market, tuple(float(m) for m in moves[at : at + width]))
    return (worst[1], worst[2]) if worst is not None else (markets[0], (0.0,))
