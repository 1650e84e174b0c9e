"""Strong log-HAR: its regressors against their definitions, which regression serves which row, causality."""

import numpy as np
import pandas as pd
import pytest

from calibrator.data.synthetic import synthetic_bars
from calibrator.features import Clock, bar_variance, build_features, grids
from calibrator.forecast.har import IMPLIED, PLAIN, RANGE, STRONG, Har, strong_har

CLOCK = Clock(step=pd.Timedelta("1D"), cadence=1, horizon=1, calendar="sessions", proxy="range")
ROWS = 700


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    whole = synthetic_bars(["A", "B"], periods=ROWS, seed=5, bar="1d")
    closes_only = whole["market"] == "B"
    for name in ("open", "high", "low"):
        whole[name] = whole[name].where(~closes_only, whole["close"])
    return whole


@pytest.fixture(scope="module")
def implied(bars: pd.DataFrame) -> pd.DataFrame:
    rows = bars[bars["market"] == "A"].iloc[300:]
    volatility = np.random.default_rng(1).uniform(0.3, 0.9, len(rows))
    return pd.DataFrame({"market": "A", "time": rows["time"], "implied_volatility": volatility})


@pytest.fixture(scope="module")
def features(bars: pd.DataFrame, implied: pd.DataFrame) -> pd.DataFrame:
    return build_features(bars, clock=CLOCK, implied_volatility=implied)


def served(features: pd.DataFrame, columns: tuple[str, ...]) -> pd.Series:
    return Har(steps=1, columns=columns).forecast(features)


def test_regressors_are_what_they_are_called(bars: pd.DataFrame, features: pd.DataFrame) -> None:
    _, grid = next(grids(bars, clock=CLOCK))
    own = features[features["market"] == "A"].reset_index(drop=True)
    variance, close, t = bar_variance(grid, proxy="range"), np.log(grid.close), 400
    month = own["har_month"][t]
    assert own["quarter"][t] == pytest.approx(own["har_day"][t - 65 : t + 1].mean())
    fall = min(close[t] - close[t - 5], 0.0)
    assert own["leverage_week"][t] == pytest.approx(fall / np.exp(month / 2) / 5**0.5)
    assert own["leverage_day"][t] == pytest.approx(min(close[t] - close[t - 1], 0) / np.exp(month / 2))
    week, falls = variance[t - 4 : t + 1], np.diff(close)[t - 5 : t] < 0
    assert own["semivariance"][t] == pytest.approx(week[falls].sum() / week.sum())
    ranges = np.log(grid.high / grid.low)[t - 4 : t + 1] ** 2 / (4 * np.log(2))
    assert own["parkinson_week"][t] == pytest.approx(np.log(ranges.mean()))


def test_source_with_closes_only_has_no_range(features: pd.DataFrame) -> None:
    own = features[features["market"] == "B"]
    assert own[list(RANGE)].isna().all(axis=None)
    assert own[list(STRONG)].iloc[100:].notna().all(axis=None)


def test_each_row_is_served_by_the_richest_regression_it_has(features: pd.DataFrame) -> None:
    out = strong_har(steps=1).forecast(features)
    chain = [PLAIN, STRONG, (*STRONG, *RANGE), (*STRONG, *RANGE, *IMPLIED)]
    plain, strong, ranged, priced = (served(features, columns) for columns in chain)
    expected = priced.fillna(ranged).fillna(strong).fillna(plain)
    pd.testing.assert_series_equal(out, expected, check_exact=True)
    a, b = features["market"] == "A", features["market"] == "B"
    assert priced[a].notna().idxmax() >= 300 + 200
    assert (out[b].dropna() == strong.fillna(plain)[b].dropna()).all()
    assert plain[a].notna().idxmax() < strong[a].notna().idxmax() < priced[a].notna().idxmax()


def test_a_quote_that_appears_later_changes_nothing_before(
    bars: pd.DataFrame, implied: pd.DataFrame, features: pd.DataFrame
) -> None:
    cut = bars["time"].iloc[600]
    early = build_features(
        bars[bars["time"] <= cut].reset_index(drop=True),
        clock=CLOCK,
        implied_volatility=implied[implied["time"] <= cut],
    )
    whole = strong_har(steps=1).forecast(features)[features["time"] <= cut]
    np.testing.assert_array_equal(strong_har(steps=1).forecast(early), whole)
    without = build_features(bars, clock=CLOCK)
    quoted = implied["time"].iloc[200]
    before = features["time"] < quoted
    np.testing.assert_array_equal(
        strong_har(steps=1).forecast(without)[before], whole.reindex(before[before].index)
    )


def test_leverage_pays_where_falls_raise_variance() -> None:
    rng = np.random.default_rng(3)
    rows = 3000
    returns, log_variance = np.empty(rows), -9.0
    for t in range(rows):
        returns[t] = np.exp(log_variance / 2) * rng.normal()
        log_variance = -9.0 + 0.6 * (log_variance + 9.0) - 0.6 * min(returns[t] * np.exp(4.5), 0.0) - 0.2
    close = 100 * np.exp(np.cumsum(returns))
    time = pd.date_range("2010-01-01", periods=rows, tz="UTC").as_unit("us")
    spread = np.exp(np.abs(returns) / 2)
    bars = pd.DataFrame({"market": "A", "time": time, "open": close, "high": close * spread})
    bars = bars.assign(low=close / spread, close=close, volume=1.0)
    features = build_features(bars, clock=CLOCK)
    future = np.append(returns[1:], np.nan) ** 2

    def loss(columns: tuple[str, ...]) -> float:
        ratio = future / served(features, columns)
        return float((ratio - np.log(ratio)).mean())

    assert loss((*PLAIN, "leverage_day")) < loss(PLAIN) - 0.01
