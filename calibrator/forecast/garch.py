"""GARCH forecasters: estimated per market on a rolling window, filtered causally, summed over the horizon."""

import math
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.forecast.garch_arch import ArchEstimator
from calibrator.forecast.garch_estimation import EngineEstimator
from calibrator.forecast.garch_filter import filter_variance, horizon_variance, shock_growth
from calibrator.forecast.garch_parameters import (
    ERRORS,
    SPECS,
    Errors,
    GarchParameters,
    Spec,
    check_choice,
)

PERCENT: Final = 100.0
MIN_ROWS: Final = 250
ESTIMATORS: Final[dict[str, Callable[..., GarchParameters]]] = {
    "engine": EngineEstimator(),
    "arch": ArchEstimator(),
}


@dataclass(frozen=True, slots=True)
class GarchState:
    """What a market's last good estimation leaves behind (returns in percent).

    Attributes
    ----------
    parameters : GarchParameters
        The estimate.
    start : float
        Variance of the estimation window, from which every filter starts.
    growth : tuple of float
        EGARCH only: see :func:`calibrator.forecast.garch_filter.shock_growth`.

    Examples
    --------
    >>> p = GarchParameters("garch", "normal", mu=0.0, omega=0.1, alpha=0.1, gamma=0.0, beta=0.8)
    >>> GarchState(p, start=1.0).start
    1.0
    """

    parameters: GarchParameters
    start: float
    growth: tuple[float, ...] = ()


class Garch:
    """GARCH(1,1), GJR(1,1,1) or EGARCH(1,1,1) per market, with constant mean.

    Parameters
    ----------
    spec : {"garch", "gjr", "egarch"}
        The variance recursion.
    errors : {"normal", "t", "skewt"}
        Density of the standardised errors.
    horizon_steps : float
        Horizon divided by cadence; positive.
    window : int
        Last rows with a return that are used in an estimation.
    memory : mutable mapping, optional
        Market to :class:`GarchState`; shared between the forecasters of a walk-forward so that a refit that
        fails keeps the last good parameters.
    estimator : {"engine", "arch"}
        The project's own engine, or the reference; both maximise the same likelihood.

    Attributes
    ----------
    failures : dict
        Market to the reason its last refit failed; such a market keeps its last good parameters.

    Examples
    --------
    >>> from arch.data import sp500
    >>> x = pd.DataFrame({"market": "SPX", "log_return": np.log(sp500.load()["Adj Close"]).diff()})
    >>> model = Garch(spec="gjr", errors="t", horizon_steps=5.0).fit(x, x["log_return"])
    >>> volatility = model.forecast(x) ** 0.5
    >>> model.name, model.failures, float(volatility.iloc[-1].round(3))
    ('gjr_t', {}, 0.037)
    """

    def __init__(
        self,
        *,
        spec: Spec = "garch",
        errors: Errors = "normal",
        horizon_steps: float = 1.0,
        window: int = 1000,
        memory: MutableMapping[str, GarchState] | None = None,
        estimator: Literal["engine", "arch"] = "engine",
    ) -> None:
        check_choice("spec", spec, SPECS)
        check_choice("errors", errors, ERRORS)
        check_choice("estimator", estimator, tuple(ESTIMATORS))
        if not 0 < horizon_steps < math.inf:
            raise ValueError(f"horizon_steps must be positive and finite, was {horizon_steps}")
        if window < MIN_ROWS:
            raise ValueError(f"window must be at least {MIN_ROWS} rows, was {window}")
        self.name = f"{spec}_{errors}"
        self.spec = spec
        self.errors = errors
        self.horizon_steps = horizon_steps
        self.window = window
        self.memory: MutableMapping[str, GarchState] = {} if memory is None else memory
        self.estimator = estimator
        self.failures: dict[str, str] = {}

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:  # noqa: ARG002 - returns suffice
        """Estimate every market's parameters from the last ``window`` rows that have a return."""
        self.failures = {}
        for market, rows in history.groupby("market", sort=False)["log_return"]:
            returns = PERCENT * rows.to_numpy(dtype=float)
            returns = returns[np.isfinite(returns)][-self.window :]
            if len(returns) < MIN_ROWS:
                continue
            parameters = ESTIMATORS[self.estimator](returns, spec=self.spec, errors=self.errors)
            if parameters.converged:
                self.memory[str(market)] = self._state(returns, parameters)
            else:
                kept = "kept the last good parameters" if market in self.memory else "no parameters"
                self.failures[str(market)] = f"{parameters.status.name.lower()}: {kept}"
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        """Return the variance per row (squared log return over the horizon), NaN for an unfitted market."""
        out = pd.Series(np.nan, history.index, name=self.name)
        for market, positions in history.groupby("market", sort=False).indices.items():
            state = self.memory.get(str(market))
            if state is not None:
                returns = PERCENT * history["log_return"].to_numpy(dtype=float)[positions]
                variance = filter_variance(returns, state.parameters, start=state.start)
                total = horizon_variance(
                    variance, state.parameters, steps=self.horizon_steps, growth=state.growth
                )
                out.iloc[positions] = total / PERCENT**2
        return out

    def _state(self, returns: npt.NDArray[np.float64], parameters: GarchParameters) -> GarchState:
        start = float(np.var(returns))
        if self.spec != "egarch":
            return GarchState(parameters, start)
        steps = math.ceil(self.horizon_steps) - 1
        return GarchState(parameters, start, shock_growth(returns, parameters, start=start, steps=steps))
