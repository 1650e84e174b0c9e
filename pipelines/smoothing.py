"""The configured anti-procyclical tools, applied to one side of one market."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.smoothing import exhaustible_buffer, long_run_pull, stressed_weight
from calibrator.config import Config
from calibrator.domain import ChangeLimits, Regime

Array = NDArray[np.float64]


def calm(target: Array, config: Config) -> Array:
    """Apply the configured anti-procyclical tools to one side's margins: never below ``target``."""
    tools = config.margin.tools
    goal = long_run_pull(
        target, weight=tools.long_run_weight, share=tools.long_run_share, window=tools.long_run_window
    )
    goal = stressed_weight(goal, weight=tools.stressed_weight, window=tools.stressed_window)
    return exhaustible_buffer(goal, buffer=tools.buffer, window=tools.buffer_window)


def regime_hold(regime: pd.Series, config: Config) -> NDArray[np.bool_]:
    """Flag the decisions at which the regime keeps a margin from falling."""
    least = {"off": len(Regime), "elevated": Regime.ELEVATED, "stress": Regime.STRESS}
    held: NDArray[np.bool_] = regime.to_numpy(np.int64) >= least[config.margin.tools.hold]
    return held


def hold_adds(published: Array, goal: Array, held: NDArray[np.bool_], limits: ChangeLimits) -> Array:
    """Say what a regime hold adds to each margin: it would have fallen by a decision's limit at most."""
    last = np.concatenate([published[:1], published[:-1]])
    free = np.minimum(published, np.fmax(goal, last * (1 - limits.max_decrease)))
    return np.where(held, published - free, 0.0)
