"""The configured anti-procyclical tools, applied to one side of one market."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.smoothing import exhaustible_buffer, long_run_pull, stressed_weight
from calibrator.config import Config
from calibrator.domain import Regime

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


def may_fall(table: pd.DataFrame, config: Config) -> NDArray[np.bool_]:
    """Flag the decisions at which parameters may loosen: whole input, and no regime that holds them."""
    free: NDArray[np.bool_] = table["complete"].to_numpy(bool) & ~regime_hold(table["regime"], config)
    return free
