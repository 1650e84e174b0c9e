"""Comparator policies: what a margin would have been under simpler rules, from the same rows.

Each policy sets the margin of a decision from the losses that were known at its origin (``known_at`` not
after it) and never looks further: removing later rows changes no earlier margin.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.backtest.losses import MATURED_LOSSES, REALIZED_VARIANCE, ROW, conform_losses
from calibrator.errors import DataError
from calibrator.frames import conform

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Series:
    """One market and side: decisions in time order, and all losses flattened in time order."""

    market: str
    side: str
    origins: pd.DatetimeIndex
    loss: pd.Series
    decision: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    """Number of losses (leading entries of ``loss``) known at each decision."""
    starts: int


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

    def margin(one: _Series) -> Array:
        all_history = _at(one.loss.expanding(min_decisions * one.starts).quantile(level), one)
        year = pd.Series(one.origins.year)
        available = np.isfinite(all_history)
        first = np.flatnonzero(available)[:1]
        anew = (year != year.shift()).to_numpy() & available
        anew[first] = True
        held: Array = pd.Series(all_history).where(anew).ffill().to_numpy()
        return held

    return _decide(losses, level, margin)


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

    def margin(one: _Series) -> Array:
        return _rolling(one.loss, one, window=window, least=min_decisions, level=level)

    return _decide(losses, level, margin)


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
    if variances.duplicated(["market", "origin"]).any():
        raise DataError("variances: one row per market and origin; some are duplicated")
    by_market = {
        str(m): g.set_index(g["origin"].dt.as_unit("us"))["variance"] for m, g in variances.groupby("market")
    }

    def margin(one: _Series) -> Array:
        forecast = by_market.get(one.market, pd.Series(dtype=float)).reindex(one.origins)
        volatility = np.sqrt(forecast.where(forecast > 0)).to_numpy()
        units = one.loss / volatility[one.decision]
        scaled: Array = volatility * _rolling(units, one, window=window, least=min_decisions, level=level)
        return scaled

    return _decide(losses, level, margin)


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


def _decide(losses: pd.DataFrame, level: float, margin: Callable[[_Series], Array]) -> pd.DataFrame:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, was {level}")
    parts = [
        pd.DataFrame({"market": s.market, "origin": s.origins, "side": s.side, "margin": margin(s)})
        for s in _each(losses)
    ]
    return pd.concat(parts, ignore_index=True)[[*ROW, "margin"]]


def _each(losses: pd.DataFrame) -> Iterator[_Series]:
    checked = conform_losses(losses, schema=MATURED_LOSSES)
    early = checked["known_at"] <= checked["origin"]
    if early.any():
        row = checked[early].iloc[0]
        place = f"{row['market']} at {row['origin'].isoformat()}"
        raise DataError(f"losses: known_at must be later than origin, is not for {place}")
    starts = int(checked["start"].nunique())
    for (market, side), one in checked.groupby(["market", "side"], sort=True):
        origins = pd.DatetimeIndex(one["origin"].drop_duplicates())
        clock = np.maximum.accumulate(one["known_at"].dt.tz_convert(None).to_numpy())
        yield _Series(
            str(market),
            str(side),
            origins,
            one["loss"].reset_index(drop=True),
            origins.get_indexer(one["origin"]),
            np.searchsorted(clock, origins.tz_convert(None).to_numpy(), side="right"),
            starts,
        )


def _rolling(values: pd.Series, one: _Series, *, window: int, least: int, level: float) -> Array:
    if not 1 <= least <= window:
        raise ValueError(f"min_decisions must lie between 1 and window, were {least} and {window}")
    rolled = values.rolling(window * one.starts, min_periods=least * one.starts).quantile(level)
    return _at(rolled, one)


def _at(rolled: pd.Series, one: _Series) -> Array:
    """Return the value after the last loss known at each decision."""
    padded = np.concatenate([[np.nan], rolled.to_numpy()])
    value: Array = padded[one.known]
    return value
