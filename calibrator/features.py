"""Trailing features of each market, and the two quantities of the future that forecasts are judged by.

Every feature at ``time`` uses bars that ended at or before it. :func:`future_variance` and
:func:`future_losses` are the only functions of the library that look forward, and both say when their value
can be known. A window that touches a missing bar is NaN: nothing is filled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.domain import SIDES
from calibrator.rolling import rolling_max, rolling_min, rolling_sum, rolling_sums

Array = NDArray[np.float64]
SMALLEST_VARIANCE: Final = 1e-8
"""Floor of a daily variance before its logarithm (0.01 % volatility)."""
STEPS_SHORT, STEPS_LONG = 5, 22
"""A trading week and month in decisions, after Corsi's heterogeneous autoregression."""


@dataclass(frozen=True, slots=True)
class Clock:
    """When decisions are taken on a market's grid of bars.

    Attributes
    ----------
    step : pandas.Timedelta
        Length of a bar.
    cadence, horizon : int
        Bars between decisions, bars whose variance is forecast.
    origin_hour : int
        Hour of the day of the decisions (UTC); ignored for daily and longer bars.
    calendar : {"continuous", "sessions"}
        A bar at every step of the clock, or only where the market traded.
    proxy : {"squared", "range"}
        Variance of one bar.
    """

    step: pd.Timedelta
    cadence: int
    horizon: int
    origin_hour: int = 0
    calendar: Literal["continuous", "sessions"] = "continuous"
    proxy: Literal["squared", "range"] = "squared"

    @property
    def stride(self) -> int:
        """Bars between feature rows: a quarter of the cadence, so that learners see each day four times."""
        return max(1, self.cadence // 4)

    @property
    def steps(self) -> float:
        """Horizon in decisions."""
        return self.horizon / self.cadence


@dataclass(frozen=True, slots=True)
class Grid:
    """One market's bars on its grid; missing bars are NaN.

    Attributes
    ----------
    time : pandas.DatetimeIndex
        Ends of bars, UTC.
    open, high, low, close, volume : numpy.ndarray
        One value per grid time; volume in quote units.
    """

    time: pd.DatetimeIndex
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array

    @classmethod
    def of(cls, bars: pd.DataFrame, *, clock: Clock) -> Self:
        """Place one market's bars (sorted by time) on its grid."""
        frame = bars.set_index("time")
        if clock.calendar == "continuous":
            full = pd.date_range(frame.index[0], frame.index[-1], freq=clock.step)
            frame = frame.reindex(full)
        o, h, low, c = (frame[name].to_numpy(float) for name in ("open", "high", "low", "close"))
        turnover = frame["volume"].to_numpy(float) * c
        return cls(pd.DatetimeIndex(frame.index), open=o, high=h, low=low, close=c, volume=turnover)


def grids(bars: pd.DataFrame, *, clock: Clock) -> Iterator[tuple[str, Grid]]:
    """Yield each market with its grid, in the frame's order."""
    for market, own in bars.groupby("market", sort=False):
        yield str(market), Grid.of(own, clock=clock)


def bar_variance(grid: Grid, *, proxy: Literal["squared", "range"]) -> Array:
    """Variance of each bar.

    ``squared``: squared close-to-close log return. ``range``: squared gap from the last close to the open
    plus the Garman-Klass range, ``log(h/l)^2 / 2 - (2 log 2 - 1) log(c/o)^2``; where only closes exist it
    equals ``squared``. It is positive on every bar that moved.

    References
    ----------
    Garman, M. and Klass, M. (1980). On the estimation of security price volatilities from historical data.
    Journal of Business 53.
    """
    last = np.concatenate([[np.nan], grid.close[:-1]])
    if proxy == "squared":
        squared: Array = np.log(grid.close / last) ** 2
        return squared
    up, down = np.log(grid.high / grid.open), np.log(grid.low / grid.open)
    body = np.log(grid.close / grid.open)
    ranged: Array = np.log(grid.open / last) ** 2 + (up - down) ** 2 / 2 - (2 * np.log(2) - 1) * body**2
    return ranged


def build_features(
    bars: pd.DataFrame, *, clock: Clock, implied_volatility: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Trailing features of every market, one row per ``clock.stride`` bars.

    Parameters
    ----------
    bars : pandas.DataFrame
        Conforming ``Bars``, sorted by market and time.
    clock : Clock
        Grid, cadence and horizon.
    implied_volatility : pandas.DataFrame, optional
        Conforming ``ImpliedVolatility``; joined as of each row, at most five days old.

    Returns
    -------
    pandas.DataFrame
        ``market, time, phase, log_return, realized_variance, trailing_variance`` and the feature columns.
        ``phase`` is 0 on decisions, else the row's place between them; ``realized_variance`` covers the last
        cadence, ``trailing_variance`` the last horizon. Variances are squared log returns, not annualised.
    """
    parts = [_market_features(market, grid, clock) for market, grid in grids(bars, clock=clock)]
    frame = pd.concat(parts, ignore_index=True)
    if implied_volatility is None or implied_volatility.empty:
        return frame.assign(implied=np.nan)
    return _join_implied(frame, implied_volatility, clock)


def _rows(grid: Grid, clock: Clock) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the feature rows on the grid and their phase (0 = decision)."""
    bars = np.arange(len(grid.close))
    if clock.calendar == "continuous" and clock.step < pd.Timedelta("1D"):
        since = (grid.time - grid.time[0].normalize()) // clock.step
        first = pd.Timedelta(hours=clock.origin_hour) // clock.step
        bars = since.to_numpy(np.int64) - first
    phase = bars % clock.cadence
    chosen = (phase % clock.stride == 0) & np.isfinite(grid.close)
    return np.flatnonzero(chosen), phase[chosen] // clock.stride


def _market_features(market: str, grid: Grid, clock: Clock) -> pd.DataFrame:
    day = clock.cadence
    variance = bar_variance(grid, proxy=clock.proxy)
    rows, phase = _rows(grid, clock)
    level = np.log(grid.close)
    columns: dict[str, Array] = {
        "log_return": _change(level, day),
        "realized_variance": rolling_sum(variance, day),
        "trailing_variance": rolling_sum(variance, clock.horizon),
    }
    columns |= _variance_features(grid, variance, clock)
    columns |= _price_features(grid, level, variance, day)
    columns |= _volume_features(grid, day)
    time = grid.time[rows]
    frame = pd.DataFrame({"market": market, "time": time.as_unit("us"), "phase": phase})
    calendar = {"weekday": time.day_of_week.to_numpy(), "hour": time.hour.to_numpy()}
    age = np.cumsum(np.isfinite(grid.close))[rows] / day
    return frame.assign(
        **{name: values[rows] for name, values in columns.items()}, **calendar, age=np.minimum(age, 2000.0)
    )


def windows(cadence: int) -> list[int]:
    """Return the windows of the variance features in bars, from a fraction of a decision to three months.

    Examples
    --------
    >>> windows(24), windows(1)
    ([1, 3, 6, 12, 24, 48, 120, 264, 528, 1584], [1, 2, 5, 11, 22, 66])
    """
    inside = [cadence // k for k in (24, 8, 4, 2) if cadence % k == 0 and cadence // k >= 1]
    inside += [max(1, cadence // k) for k in (24, 4)]  # what the market-wide regressors look at
    return sorted({*inside, *(cadence * k for k in (1, 2, 5, 11, 22, 66))})


def _log_variances(variance: Array, name: str, bars: list[int], day: int) -> dict[str, Array]:
    """Log of the mean variance per decision over each window, floored before the logarithm."""
    sums = zip(bars, rolling_sums(variance, bars), strict=True)
    return {f"{name}_{n}": np.log(np.maximum(total * (day / n), SMALLEST_VARIANCE)) for n, total in sums}


def _variance_features(grid: Grid, variance: Array, clock: Clock) -> dict[str, Array]:
    day = clock.cadence
    out = _log_variances(variance, "variance", windows(day), day)
    daily = np.log(np.maximum(rolling_sum(variance, day), _noise_floor(variance, day)))
    out["har_day"] = daily
    out["har_week"] = _mean_of_lags(daily, day, STEPS_SHORT)
    out["har_month"] = _mean_of_lags(daily, day, STEPS_LONG)
    parkinson = np.log(grid.high / grid.low) ** 2 / (4 * np.log(2))
    out |= _log_variances(parkinson, "range", [max(1, day // 8), day, day * STEPS_SHORT], day)
    falling = np.where(np.diff(np.log(grid.close), prepend=np.nan) < 0, variance, 0.0)
    falling[~np.isfinite(variance)] = np.nan
    days = [day, day * STEPS_SHORT, day * STEPS_LONG]
    for n, part, whole in zip(days, rolling_sums(falling, days), rolling_sums(variance, days), strict=True):
        out[f"downside_{n}"] = _share(part, whole)
    for n in {day, day * STEPS_SHORT} - {1}:
        out[f"jump_{n}"] = _share(rolling_max(variance, n), rolling_sum(variance, n))
    out |= _strong_features(grid, out, day)
    change = (daily - _lag(daily, day)) ** 2
    out["variance_of_variance"] = np.sqrt(rolling_sum(change, day * STEPS_LONG) / (day * STEPS_LONG))
    if day * clock.step == pd.Timedelta("1D") and clock.calendar == "continuous":
        weeks = np.stack([_lag(daily, day * (7 * k - 1)) for k in range(1, 9)])
        out["weekday_variance"] = weeks.mean(axis=0)
    return out


def _strong_features(grid: Grid, known: dict[str, Array], day: int) -> dict[str, Array]:
    month, week = known["har_month"], day * STEPS_SHORT
    out = {"quarter": (month + _lag(month, day * STEPS_LONG) + _lag(month, 2 * day * STEPS_LONG)) / 3}
    out["semivariance"] = known[f"downside_{week}"]
    for name, n in (("day", day), ("week", week)):
        fall = np.minimum(_change(np.log(grid.close), n), 0.0)
        out[f"leverage_{name}"] = fall / np.exp(month / 2) / np.sqrt(n / day)
        ranged = known[f"range_{n}"]  # at its floor where the source has closes only: missing, not small
        out[f"parkinson_{name}"] = np.where(ranged > np.log(SMALLEST_VARIANCE), ranged, np.nan)
    return out


def _noise_floor(variance: Array, day: int) -> Array:
    """Five percent of the month's mean: a quiet day's logarithm must not dominate the regression."""
    month = rolling_sum(variance, day * STEPS_LONG) / STEPS_LONG
    return np.where(np.isfinite(month), np.maximum(0.05 * month, SMALLEST_VARIANCE), SMALLEST_VARIANCE)


def _price_features(grid: Grid, level: Array, variance: Array, day: int) -> dict[str, Array]:
    out = {f"return_{n}": _change(level, n) for n in windows(day) if n <= day * STEPS_LONG}
    month = day * STEPS_LONG
    out["drawdown"] = np.log(grid.close / rolling_max(grid.high, month))
    out["run_up"] = np.log(grid.close / rolling_min(grid.low, month))
    return {name: np.where(np.isfinite(variance), values, np.nan) for name, values in out.items()}


def _volume_features(grid: Grid, day: int) -> dict[str, Array]:
    def turnover(window: int) -> Array:
        mean = rolling_sum(grid.volume, window) * (day / window)
        return np.log(np.where(mean > 0, mean, np.nan))

    month = turnover(day * STEPS_LONG)
    recent = {max(1, day // 4), day, day * STEPS_SHORT}
    return {"turnover": np.exp(month)} | {f"volume_{n}": turnover(n) - month for n in sorted(recent)}


def _share(part: Array, whole: Array) -> Array:
    out = np.full(len(whole), np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def _lag(values: Array, bars: int) -> Array:
    out = np.full(len(values), np.nan)
    out[bars:] = values[: len(values) - bars] if bars < len(values) else values[:0]
    return out


def _change(level: Array, bars: int) -> Array:
    return level - _lag(level, bars)


def _mean_of_lags(values: Array, bars: int, count: int) -> Array:
    total = np.zeros(len(values))
    for k in range(count):
        total = total + _lag(values, bars * k)
    return total / count


def _join_implied(frame: pd.DataFrame, implied: pd.DataFrame, clock: Clock) -> pd.DataFrame:
    """Log implied variance of one decision, as of each row, at most five days old."""
    year = pd.Timedelta("365.25D") if clock.calendar == "continuous" else 252 * clock.step
    quotes = implied.assign(
        implied=np.log(implied["implied_volatility"] ** 2 * (clock.cadence * clock.step / year))
    )[["market", "time", "implied"]]
    joined = pd.merge_asof(
        frame.reset_index().sort_values("time", kind="stable"),
        quotes.sort_values("time", kind="stable"),
        on="time",
        by="market",
        tolerance=pd.Timedelta("5D"),
    )
    return joined.sort_values("index").drop(columns="index").reset_index(drop=True)


def future_variance(bars: pd.DataFrame, features: pd.DataFrame, *, clock: Clock) -> pd.DataFrame:
    """Realized variance of the ``horizon`` bars after each feature row, and when it can be known.

    Parameters
    ----------
    bars, features : pandas.DataFrame
        The same bars that ``features`` was built from.

    Returns
    -------
    pandas.DataFrame
        ``future_variance`` (NaN where a bar is missing or has not happened) and ``known_at`` on the index of
        ``features``.
    """
    out = pd.DataFrame({"future_variance": np.nan, "known_at": pd.NaT}, index=features.index)
    known = np.full(len(features), np.datetime64("NaT"), dtype="datetime64[us]")
    groups = features.groupby("market", sort=False).indices
    values = np.full(len(features), np.nan)
    for market, grid in grids(bars, clock=clock):
        rows = groups[market]
        at = grid.time.get_indexer(features["time"].iloc[rows])
        ahead = _lead(rolling_sum(bar_variance(grid, proxy=clock.proxy), clock.horizon), clock.horizon)
        values[rows] = np.where(ahead > 0, ahead, np.nan)[at]
        known[rows] = _maturity(grid, clock)[at]
    out["future_variance"] = values
    out["known_at"] = pd.Series(known, index=features.index).dt.tz_localize("UTC")
    return out


def _lead(values: Array, bars: int) -> Array:
    out = np.full(len(values), np.nan)
    if bars < len(values):
        out[: len(values) - bars] = values[bars:]
    return out


def _maturity(grid: Grid, clock: Clock, bars: int | None = None) -> NDArray[np.datetime64]:
    """When the value ``bars`` ahead of each grid time is known; beyond the grid by the length of the bars."""
    ahead = bars or clock.horizon
    clock_time = grid.time.tz_convert(None).to_numpy(dtype="datetime64[us]")
    out: NDArray[np.datetime64] = clock_time + np.timedelta64(
        ahead * (clock.step // pd.Timedelta("1us")), "us"
    )
    if clock.calendar == "sessions" and ahead < len(out):
        out[: len(out) - ahead] = clock_time[ahead:]
    return out


def future_losses(
    bars: pd.DataFrame, *, clock: Clock, close_out: int, loss: Literal["excursion", "terminal"] = "excursion"
) -> pd.DataFrame:
    """Loss of each side from every bar over the close-out that follows it.

    ``excursion``: long ``1 - min(low) / close``, short ``max(high) / close - 1`` over the close-out;
    ``terminal``: the same with the last close. Never below zero.

    Returns
    -------
    pandas.DataFrame
        ``market, time, long, short, known_at``; NaN where a bar is missing or has not happened.
    """
    parts = []
    for market, grid in grids(bars, clock=clock):
        if loss == "excursion":
            low = _lead(rolling_min(grid.low, close_out), close_out)
            high = _lead(rolling_max(grid.high, close_out), close_out)
        else:
            low = high = _lead(grid.close, close_out)
        parts.append(
            pd.DataFrame(
                {
                    "market": market,
                    "time": grid.time.as_unit("us"),
                    SIDES[0]: np.maximum(1 - low / grid.close, 0.0),
                    SIDES[1]: np.maximum(high / grid.close - 1, 0.0),
                    "known_at": pd.DatetimeIndex(_maturity(grid, clock, close_out)).tz_localize("UTC"),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)
