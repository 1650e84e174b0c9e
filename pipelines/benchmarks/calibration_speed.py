"""How long a calibration of many markets takes, and a filtered historical simulation beside numpy's."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.conformal import ladder, tighten
from calibrator.calibrate.floors import long_run_floors_at
from calibrator.calibrate.margin import Liquidity, initial_margin, margin_tiers
from calibrator.calibrate.plan_program import Prices, relative_rules, solve_plan
from calibrator.calibrate.procyclicality import limit
from calibrator.calibrate.scenarios import excess_of, expected_needs
from calibrator.calibrate.simulation import Dynamics, simulate_losses
from calibrator.calibrate.smoothing import long_run_pull
from calibrator.calibrate.tail import rolling_tails
from calibrator.config_procyclicality import ConformalConfig
from calibrator.domain import ChangeLimits
from pipelines.benchmarks.forecast_pages import machine, pipe_table
from pipelines.benchmarks.timing import interleaved, ratio
from pipelines.store import save

Array = NDArray[np.float64]
MARKETS: Final = 200
TIERS: Final = tuple(range(0, 8_000_000, 1_000_000))
STEPS: Final = 30
YEAR: Final = 365
LEVEL: Final = 0.99
PATHS: Final = (10_000, 24)
ROUNDS: Final = 7


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds per task.

    Attributes
    ----------
    calibration : pandas.DataFrame
        One date, all markets, sides and tiers, by part.
    simulation : pandas.DataFrame
        Rounds of the compiled kernel and of numpy's loop.
    """

    calibration: pd.DataFrame
    simulation: pd.DataFrame


def run(*, scale: float = 1.0) -> Speed:
    """Calibrate one date, part by part, and simulate the next day.

    Parameters
    ----------
    scale : float
        Share of markets and paths.
    """
    markets = max(2, round(MARKETS * scale))
    return Speed(_calibration(markets), _simulation(markets, max(10, round(PATHS[0] * scale))))


def _calibration(markets: int) -> pd.DataFrame:
    """Time a year of losses to tails, conformal levels, floors, margins of all tiers, and plans."""
    rng = np.random.default_rng(1)
    losses = np.abs(rng.standard_t(5, (YEAR + 1, markets, 2, 1)))
    known = np.tile(np.arange(1, YEAR + 2)[:, None], (1, markets))
    volatility = 0.04 * np.exp(0.1 * rng.standard_normal((YEAR + 1, markets)).cumsum(axis=0) / 4)
    plan_steps, conformal = tuple(range(STEPS)), ConformalConfig()
    levels = ladder(LEVEL, conformal.strictest(LEVEL))
    few = 2
    for count in (few, markets):  # the first round compiles and imports
        own, due, scale = losses[:, :count], known[:, :count], volatility[:, :count]
        seconds: dict[str, float] = {}
        began = time.perf_counter()
        quantiles, _ = rolling_tails(own, due, window=YEAR, level=levels, refit=YEAR)
        seconds[f"tails at {len(levels)} levels"] = time.perf_counter() - began
        began = time.perf_counter()
        quantile, _ = tighten(own, due, quantiles, levels=levels, gain=conformal.gain)
        seconds["conformal step"] = time.perf_counter() - began
        began = time.perf_counter()
        floors = _floors(own * scale[:, :, None, None], due)
        seconds["long-run floors"] = time.perf_counter() - began
        began = time.perf_counter()
        _tiers(scale, np.broadcast_to(quantile[-1], quantile.shape), floors)
        seconds["anti-procyclical tools, margins of 8 tiers"] = time.perf_counter() - began
        began = time.perf_counter()
        _plans(scale, own, quantile[-1], plan_steps)
        seconds["plans of 30 steps"] = time.perf_counter() - began
    out = pd.Series(seconds, name="seconds").to_frame()
    out.loc["in all"] = out["seconds"].sum()
    return out


def _floors(losses: Array, known: NDArray[np.int64]) -> Array:
    out = np.full(losses.shape[:3], np.nan)
    for market, side in np.ndindex(out.shape[1:]):
        own = losses[:, market, side]
        made = long_run_floors_at(own, known[:, market], share=0.5, levels=(LEVEL,), window=YEAR, least=60)
        out[:, market, side] = made[:, 0]
    return out


def _tiers(volatility: Array, quantile: Array, floors: Array) -> None:
    limits = ChangeLimits()
    for market in range(volatility.shape[1]):
        sides = []
        for side in (0, 1):
            goal = volatility[:, market] * quantile[:, market, side]
            goal = long_run_pull(goal, weight=0.7, share=0.9, window=YEAR)
            sides.append(limit(goal, floors[:, market, side], limits=limits))
        book = Liquidity(
            turnover=np.full(len(volatility), 1e6),
            volatility=volatility[:, market] / 5,
            close_out=24,
            participation=0.1,
            impact=1.0,
        )
        maintenance = margin_tiers(np.maximum(*sides), floors=TIERS, liquidity=book, limits=limits)
        initial_margin(maintenance, 1.25)


def _plans(volatility: Array, losses: Array, quantile: Array, steps: tuple[int, ...]) -> None:
    limits = ChangeLimits()
    for market in range(volatility.shape[1]):
        for side in (0, 1):
            need = volatility[:, market] * quantile[market, side]
            mean, spread = expected_needs(need, ahead=steps, window=YEAR, refit=len(need) - 1)
            excess = excess_of(mean[-1], spread[-1], losses[:, market, side, 0] / quantile[market, side])
            start = float(need[-1])
            rules = relative_rules(start, len(steps), rise=limits.max_increase, fall=limits.max_decrease)
            solve_plan(excess, start, rules, prices=Prices(100.0))


def _simulation(markets: int, paths: int) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    one = np.ones(markets)
    dynamics = Dynamics(one * 1e-6, one * 0.08, one * 0.9, one * 5e-5)
    shocks = rng.standard_t(5, (1000, markets))
    draws = rng.integers(0, len(shocks), (paths, PATHS[1]))
    simulate_losses(dynamics, shocks, draws[:2])
    tasks = {
        "compiled": lambda: simulate_losses(dynamics, shocks, draws),
        "numpy loop": lambda: numpy_losses(dynamics, shocks, draws),
    }
    return interleaved([tasks] * ROUNDS, clock=time.perf_counter)


def numpy_losses(dynamics: Dynamics, shocks: Array, draws: NDArray[np.int64]) -> tuple[Array, Array]:
    """Do the same in numpy: a loop over the steps, all paths and markets at once."""
    shape = (len(draws), len(dynamics.omega))
    variance, level = np.tile(dynamics.variance, (len(draws), 1)), np.zeros(shape)
    low, high = np.zeros(shape), np.zeros(shape)
    for step in range(draws.shape[1]):
        move = np.sqrt(variance) * shocks[draws[:, step]]
        variance = dynamics.omega + dynamics.alpha * move**2 + dynamics.beta * variance
        level = level + move
        low, high = np.minimum(low, level), np.maximum(high, level)
    return -np.expm1(low), np.expm1(high)


def page(speed: Speed, *, made_on: date) -> str:
    """Spell the tables in Markdown."""
    times = ratio(speed.simulation, slow="numpy loop", fast="compiled")
    median = speed.simulation.median().rename("median seconds").to_frame()
    lines: Sequence[str] = [
        "# Speed of calibration",
        "",
        f"{made_on}; {machine()}.",
        "",
        f"One date: {MARKETS} markets, both sides, {len(TIERS)} tiers, a plan of {STEPS} steps each.",
        "",
        *pipe_table(speed.calibration.map("{:.2f}".format).rename_axis("part")),
        "",
        f"Filtered historical simulation, {PATHS[0]} paths x {MARKETS} markets x {PATHS[1]} steps: the",
        f"kernel is {times:.1f} times as fast as numpy's loop over the steps (median of {ROUNDS} rounds).",
        "",
        *pipe_table(median.map("{:.3f}".format).rename_axis("task")),
        "",
    ]
    return "\n".join(lines)


def write(speed: Speed, *, home: Path, made_on: date, docs: Path | None = None) -> dict[str, Path]:
    """Write the page to ``home/benchmarks/``, and to ``docs``."""
    folder = home / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    text = page(speed, made_on=made_on)
    out = {"table": save(folder / "calibration-speed.md", text)}
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        out["committed table"] = save(docs / "calibration-speed.md", text)
    return out
