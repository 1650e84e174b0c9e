"""Comparator policies: what a margin would have been under simpler rules, from the same rows.

Each policy sets the margin of a decision from the losses that were known at its origin (``known_at`` not
after it) and never looks further: removing later rows changes no earlier margin.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.backtest.comparators import Filtered, HistoricalSimulation, Static
from calibrator.backtest.losses import REALIZED_VARIANCE
from calibrator.backtest.seen import Seen
from calibrator.frames import conform

Array = npt.NDArray[np.float64]


def static(losses: pd.DataFrame, *, level: float, min_decisions: int = 365) -> pd.DataFrame:
    """Set the margin once a year to the quantile of all history known then.

    Parameters
    ----------
    losses : pandas.DataFrame
        ``losses.MATURED_LOSSES``.
    level : float
        Of the quantile.
    min_decisions : int
        Decisions with known losses before the first margin, which is set as soon as they are there.

    Returns
    -------
    pandas.DataFrame
        ``market, origin, side, margin`` per decision, missing before the first margin.

    Examples
    --------
    >>> t = pd.date_range("2023-12-30", periods=4, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.1, 0.2, 0.3, 0.4],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> static(x, level=0.5, min_decisions=1).margin.round(3).tolist()
    [nan, 0.1, 0.15, 0.15]
    """
    seen = Seen.of(losses)
    return _framed(seen, Static(min_decisions).margins(seen, level=level))


def historical_simulation(
    losses: pd.DataFrame, *, level: float, window: int = 365, min_decisions: int = 300
) -> pd.DataFrame:
    """Set the margin to the quantile of the losses of the last ``window`` decisions known.

    Parameters
    ----------
    losses : pandas.DataFrame
        ``losses.MATURED_LOSSES``.
    level : float
    window, min_decisions : int
        Decisions in the window, and decisions with known losses needed in it.

    Returns
    -------
    pandas.DataFrame
        ``market, origin, side, margin`` per decision, missing before the first margin.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.1, 0.2, 0.4, 0.9],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> historical_simulation(x, level=0.5, window=2, min_decisions=2).margin.round(3).tolist()
    [nan, nan, 0.15, 0.3]
    """
    seen = Seen.of(losses)
    return _framed(seen, HistoricalSimulation(window, min_decisions).margins(seen, level=level))


def filtered_historical_simulation(
    losses: pd.DataFrame,
    variances: pd.DataFrame,
    *,
    level: float,
    window: int = 730,
    min_decisions: int = 300,
) -> pd.DataFrame:
    """Scale the quantile of past losses in units of their forecast volatility by today's forecast.

    ``margin_t = sqrt(v_t) * quantile(loss_s / sqrt(v_s))`` over the last ``window`` decisions known.

    Parameters
    ----------
    losses : pandas.DataFrame
        ``losses.MATURED_LOSSES``.
    variances : pandas.DataFrame
        ``market, origin, variance``, a forecast known at origin (any scale: a constant factor cancels).
    level : float
    window, min_decisions : int

    Returns
    -------
    pandas.DataFrame
        ``market, origin, side, margin`` per decision, missing before the first margin or without forecast.

    References
    ----------
    Barone-Adesi, G., Giannopoulos, K. and Vosper, L. (1999). VaR without correlations for portfolios of
    derivative securities. Journal of Futures Markets 19.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=3, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.1, 0.2, 0.4],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> v = pd.DataFrame({"market": "A", "origin": t, "variance": [0.01, 0.01, 0.04]})
    >>> filtered_historical_simulation(x, v, level=0.5, window=2, min_decisions=2).margin.round(3).tolist()
    [nan, nan, 0.3]
    """
    seen = Seen.of(losses, {"given": variances})
    return _framed(seen, Filtered("given", window, min_decisions).margins(seen, level=level))


def ewma_variance(realized_variance: pd.DataFrame, *, decay: float = 0.94) -> pd.DataFrame:
    """Return RiskMetrics' forecast from trailing realized variances.

    Parameters
    ----------
    realized_variance : pandas.DataFrame
        ``market, origin, realized_variance``.
    decay : float
        Weight of the past per decision, between 0 and 1.

    Returns
    -------
    pandas.DataFrame
        ``market, origin, variance``.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=2, tz="UTC").as_unit("us")
    >>> v = pd.DataFrame({"market": "A", "origin": t, "realized_variance": [1.0, 2.0]})
    >>> ewma_variance(v).variance.round(3).tolist()
    [1.0, 1.515]
    """
    if not 0 < decay < 1:
        raise ValueError(f"decay must lie between 0 and 1, was {decay}")
    known = conform(realized_variance, REALIZED_VARIANCE, source="backtest")
    known = known.sort_values(["market", "origin"], ignore_index=True)
    smooth = known.groupby("market")["realized_variance"].ewm(alpha=1 - decay).mean().droplevel(0)
    return known[["market", "origin"]].assign(variance=smooth)


def comparators(
    losses: pd.DataFrame,
    realized_variance: pd.DataFrame,
    *,
    level: float,
    forecasts: Mapping[str, pd.DataFrame] | None = None,
    tail_window: int = 730,
) -> pd.DataFrame:
    """Compute every comparator policy on the same decisions.

    Parameters
    ----------
    losses : pandas.DataFrame
        ``losses.MATURED_LOSSES``.
    realized_variance : pandas.DataFrame
        ``market, origin, realized_variance``.
    level : float
    forecasts : mapping of str to pandas.DataFrame, optional
        Further variance forecasts (``market, origin, variance``); each becomes a filtered historical
        simulation called ``<name>_fhs``.
    tail_window : int
        Decisions of standardised losses; with many starts per decision 365 are plenty.

    Returns
    -------
    pandas.DataFrame
        ``market, origin, side, static, historical_simulation, ewma_fhs`` and one column per forecast.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=400, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": 0.1,
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> v = pd.DataFrame({"market": "A", "origin": t, "realized_variance": 1e-4})
    >>> comparators(x, v, level=0.99).iloc[-1, 3:].astype(float).round(6).to_dict()
    {'static': 0.1, 'historical_simulation': 0.1, 'ewma_fhs': 0.1}
    """
    variances = {"ewma": ewma_variance(realized_variance), **(forecasts or {})}
    out = static(losses, level=level).rename(columns={"margin": "static"})
    columns = {"historical_simulation": historical_simulation(losses, level=level)} | {
        f"{name}_fhs": filtered_historical_simulation(losses, v, level=level, window=tail_window)
        for name, v in variances.items()
    }
    return out.assign(**{name: frame["margin"] for name, frame in columns.items()})


def _framed(seen: Seen, margin: Array) -> pd.DataFrame:
    return seen.rows.assign(margin=margin)
