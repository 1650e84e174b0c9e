"""What a validator asks of a run beyond its backtest: tail tests, stress tests and sensitivities."""

from dataclasses import dataclass

import pandas as pd

from calibrator.backtest.report import records
from calibrator.backtest.shortfalls import shortfall_table
from calibrator.domain import SIDES
from pipelines.backtesting import Backtest
from pipelines.capital import Capital
from pipelines.forecasting import Progress
from pipelines.production import Production
from pipelines.sensitivity import Sensitivity, sensitivity
from pipelines.starts import close_out
from pipelines.stress import Stress, stress_tests
from pipelines.window import in_window


@dataclass(frozen=True, slots=True)
class Validation:
    """Stress tests and sensitivities of a run.

    Attributes
    ----------
    stress : Stress
    sensitivity : Sensitivity or None
        None where the configuration switches it off.
    tails : pandas.DataFrame
        Expected-shortfall tests of the forecast tails, see
        :func:`~calibrator.backtest.shortfalls.shortfall_table`.
    """

    stress: Stress
    sensitivity: Sensitivity | None
    tails: pd.DataFrame

    def summary(self) -> dict[str, object]:
        """Return plain values for ``backtest.json``."""
        moved = None if self.sensitivity is None else self.sensitivity.summary()
        return {"tails": records(self.tails), "stress": self.stress.summary(), "sensitivity": moved}


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
    return Validation(stressed, moved, tail_tests(production))


def tail_tests(production: Production) -> pd.DataFrame:
    """Test quantile and expected shortfall of the forecast tails, before the anti-procyclical layer.

    Parameters
    ----------
    production : Production
    """
    config, tails = production.config, in_window(production.tails(), production.config)
    losses = in_window(production.losses.drop(columns="known_at"), config)
    groups: dict[tuple[int, str], list[str]] = {}
    for market, d in production.decisions.items():
        groups.setdefault((close_out(config, d.terms), d.terms.role), []).append(market)
    parts = []
    for (length, role), markets in groups.items():
        sides = SIDES[:1] if role == "collateral" else SIDES
        own, followed = (
            frame[frame["market"].isin(markets) & frame["side"].isin(sides)].reset_index(drop=True)
            for frame in (tails, losses)
        )
        overlap = -(-length // config.forecast.cadence)
        parts.append(shortfall_table(own, followed, overlap=overlap))
    return pd.concat(parts, ignore_index=True)
