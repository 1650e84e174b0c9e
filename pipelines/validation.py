"""What a validator asks of a run beyond its backtest: stress tests and sensitivities."""

from dataclasses import dataclass

import pandas as pd

from pipelines.backtesting import Backtest
from pipelines.capital import Capital
from pipelines.forecasting import Progress
from pipelines.production import Production
from pipelines.sensitivity import Sensitivity, sensitivity
from pipelines.stress import Stress, stress_tests


@dataclass(frozen=True, slots=True)
class Validation:
    """Stress tests and sensitivities of a run.

    Attributes
    ----------
    stress : Stress
    sensitivity : Sensitivity or None
        None where the configuration switches it off.
    """

    stress: Stress
    sensitivity: Sensitivity | None

    def summary(self) -> dict[str, object]:
        """Return plain values for ``backtest.json``."""
        moved = None if self.sensitivity is None else self.sensitivity.summary()
        return {"stress": self.stress.summary(), "sensitivity": moved}


def validated(
    production: Production,
    challenged: Backtest,
    funds: Capital,
    bars: pd.DataFrame,
    *,
    open_interest: pd.DataFrame | None,
    progress: Progress,
) -> Validation:
    """Stress a run and move its parameters.

    Parameters
    ----------
    production : Production
    challenged : Backtest
    funds : Capital
    bars : pandas.DataFrame
        ``Bars``.
    open_interest : pandas.DataFrame, optional
        ``OpenInterest``.
    progress : callable
        Called with (what, done, total).
    """
    progress("stress tests", 0, 1)
    stressed = stress_tests(production, challenged, funds)
    progress("stress tests", 1, 1)
    moved = sensitivity(production, challenged, bars, open_interest=open_interest, progress=progress)
    return Validation(stressed, moved)
