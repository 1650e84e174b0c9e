"""Haircuts under a target's step limit: how much of what the limit costs planning ahead makes up for."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.config_collateral import HaircutPair
from calibrator.config_procyclicality import StepConfig
from pipelines.backtesting import in_window
from pipelines.loans import Loan
from pipelines.outcomes import with_outcomes
from pipelines.planning import planned_haircuts
from pipelines.production import Production

Array = NDArray[np.float64]
USUAL: Final = StepConfig()
"""50 bps every three decisions: Aave's risk stewards, decided daily."""


def plan_table(production: Production, markets: list[str], *, level: float) -> pd.DataFrame:
    """Compare reactive and planned haircuts with constant and unlimited ones, market by market.

    Returns
    -------
    pandas.DataFrame
        Index "market, policy"; ``attained``, ``average`` before scaling, ``worst phase``.
    """
    settings = production.config.haircut.limits or USUAL
    rows = {}
    for market in markets:
        d = production.decisions[market]
        table = with_outcomes(production.losses, d)
        inside = in_window(table.reset_index(), production.config)
        began = int(table.index.get_indexer([inside["origin"].iloc[0]])[0])
        used = table.iloc[began : began + len(inside)]
        need, loss = used["unlimited_long"].to_numpy(float), used["loss_long"].to_numpy(float)
        for policy in ("reactive", "planned"):
            found = [
                _haircuts(policy, production, table, (began, phase), settings, level)[: len(used)]
                for phase in range(settings.every)
            ]
            shares = [attained(loss, need, haircut) for haircut in found]
            rows[f"{market}, {policy}"] = {
                "attained": float(np.mean(shares)),
                "worst phase": float(np.min(shares)),
                "best phase": float(np.max(shares)),
                "average / unlimited": float(np.mean([h.mean() for h in found]) / need.mean()),
            }
    return pd.DataFrame(rows).T


def attained(loss: Array, unlimited: Array, haircut: Array) -> float:
    """Share of the unlimited haircuts' reduction of the mean shortfall, at one average haircut.

    Examples
    --------
    >>> loss, best = np.array([0.1, 0.4]), np.array([0.1, 0.4])
    >>> attained(loss, best, best), attained(loss, best, np.array([0.25, 0.25]))
    (1.0, 0.0)
    """
    known, average = np.isfinite(loss), unlimited.mean()

    def shortfall(margin: Array) -> float:
        scaled = margin * (average / margin.mean())
        return float(np.maximum(loss - scaled, 0.0)[known].mean())

    constant = shortfall(np.full(len(loss), average))
    return (constant - shortfall(haircut)) / (constant - shortfall(unlimited))


def _haircuts(
    policy: str,
    production: Production,
    table: pd.DataFrame,
    begin: tuple[int, int],
    settings: StepConfig,
    level: float,
) -> Array:
    """Haircuts from the first row of the window on, the first move after ``phase`` decisions."""
    first, phase = begin
    if policy == "reactive":
        return _reactive(table["unlimited_long"].to_numpy(float)[first:], settings, phase)
    pair = HaircutPair(collateral="-", debt="USD", location="-", level=level, limits=settings)
    return planned_haircuts(
        table,
        table["unlimited_long"].to_numpy(float),
        config=production.config,
        loan=Loan(pair, bars=1),
        first=first,
        phase=phase,
    ).published[first:]


def _reactive(need: Array, settings: StepConfig, phase: int) -> Array:
    out = need.copy()
    for t in range(1, len(need)):
        step = settings.step if (t - phase) % settings.every == 0 else 0.0
        out[t] = out[t - 1] + np.clip(need[t] - out[t - 1], -step, step)
    return out
