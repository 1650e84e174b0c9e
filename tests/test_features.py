"""Features against a window-by-window oracle, and the two quantities of the future against plain loops."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from calibrator.data.synthetic import synthetic_bars
from calibrator.features import (
    SMALLEST_VARIANCE,
    Clock,
    Grid,
    bar_variance,
    build_features,
    future_losses,
    future_variance,
    windows,
)
from calibrator.forecast.design import design
from calibrator.forecast.har import Har

CLOCK = Clock(step=pd.Timedelta("6h"), cadence=4, horizon=8)
DAY = CLOCK.cadence
KEY = ["market", "time"]
Run = Callable[[pd.DataFrame], pd.DataFrame | pd.Series]
Check = Callable[[Run, pd.DataFrame, list[pd.Timestamp]], None]


@pytest.fixture(scope="module")
def gappy() -> pd.DataFrame:
    bars = synthetic_bars(["A", "B"], periods=700, seed=11, bar="6h", gaps=[(300, 3)])
    flat = bars.index[(bars["market"] == "B") & bars["time"].between("2021-04-20", "2021-04-25")]
    bars.loc[flat, ["open", "high", "low", "close"]] = bars.loc[flat[0], "open"]  # a halted market
    bars.loc[bars.index[450:455], "volume"] = np.nan
    return bars


@pytest.fixture(scope="module")
def gappy_features(gappy: pd.DataFrame) -> pd.DataFrame:
    return build_features(gappy, clock=CLOCK)


def whole_grid(bars: pd.DataFrame, market: str) -> pd.DataFrame:
    own = bars[bars["market"] == market].set_index("time")
    grid = own.reindex(pd.date_range(own.index[0], own.index[-1], freq=CLOCK.step))
    grid["squared"] = np.log(grid["close"] / grid["close"].shift()) ** 2
    grid["turnover"] = grid["volume"] * grid["close"]
    return grid


class Oracle:
    """Every feature from nothing but the bars of its own window, one window at a time."""

    def __init__(self, grid: pd.DataFrame) -> None:
        self.grid = grid

    def window(self, column: str, at: int, bars: int) -> np.ndarray:
        if at + 1 < bars:
            return np.array([np.nan])
        return self.grid[column].to_numpy()[at + 1 - bars : at + 1]

    def mean(self, column: str, at: int, bars: int) -> float:
        return float(np.mean(self.window(column, at, bars))) * DAY

    def log_mean(self, column: str, at: int, bars: int) -> float:
        return float(np.log(np.maximum(self.mean(column, at, bars), SMALLEST_VARIANCE)))

    def daily(self, at: int) -> float:
        if at < 0:
            return np.nan
        month = np.sum(self.window("squared", at, 22 * DAY)) / 22
        floor = SMALLEST_VARIANCE if np.isnan(month) else max(0.05 * month, SMALLEST_VARIANCE)
        return float(np.log(np.maximum(np.sum(self.window("squared", at, DAY)), floor)))

    def har(self, at: int, days: int) -> float:
        return float(np.mean([self.daily(at - DAY * k) for k in range(days)]))

    def change(self, at: int, bars: int) -> float:
        close = self.grid["close"].to_numpy()
        return float(np.log(close[at] / close[at - bars])) if at >= bars else np.nan

    def down(self, at: int, bars: int) -> float:
        window, moves = self.window("squared", at, bars), self.moves(at, bars)
        if np.isnan(window).any() or window.sum() == 0:
            return np.nan
        return float(window[moves < 0].sum() / window.sum())

    def moves(self, at: int, bars: int) -> np.ndarray:
        close = np.log(self.grid["close"].to_numpy())
        return np.diff(close[max(at - bars, 0) : at + 1])

    def jump(self, at: int, bars: int) -> float:
        window = self.window("squared", at, bars)
        return float(window.max() / window.sum()) if window.sum() > 0 else np.nan

    def vov(self, at: int) -> float:
        bars = 22 * DAY
        changes = [self.daily(i) - self.daily(i - DAY) for i in range(at + 1 - bars, at + 1)]
        return float(np.sqrt(np.mean(np.square(changes))))

    def same_weekday(self, at: int) -> float:
        return float(np.mean([self.daily(at - DAY * (7 * k - 1)) for k in range(1, 9)]))

    def extreme(self, at: int, column: str, pick: Callable[[np.ndarray], float]) -> float:
        if np.isnan(self.grid["squared"].iloc[at]):
            return np.nan
        return float(np.log(self.grid["close"].iloc[at] / pick(self.window(column, at, 22 * DAY))))

    def turnover(self, at: int, bars: int) -> float:
        mean = self.mean("turnover", at, bars)
        return mean if mean > 0 else np.nan

    def features(self, at: int) -> dict[str, float]:
        known = not np.isnan(self.grid["squared"].iloc[at])
        month = self.turnover(at, 22 * DAY)
        out = {
            "log_return": self.change(at, DAY),
            "realized_variance": float(np.sum(self.window("squared", at, DAY))),
            "trailing_variance": float(np.sum(self.window("squared", at, CLOCK.horizon))),
            "har_day": self.har(at, 1),
            "har_week": self.har(at, 5),
            "har_month": self.har(at, 22),
            "variance_of_variance": self.vov(at),
            "weekday_variance": self.same_weekday(at),
            "drawdown": self.extreme(at, "high", np.max),
            "run_up": self.extreme(at, "low", np.min),
            "turnover": month,
            "age": self.grid["close"].iloc[: at + 1].notna().sum() / DAY,
            "weekday": self.grid.index[at].day_of_week,
            "hour": self.grid.index[at].hour,
            "phase": (self.grid.index[at].hour // 6) % 4,
        }
        for n in windows(DAY):
            out[f"variance_{n}"] = self.log_mean("squared", at, n)
            if n <= 22 * DAY:
                out[f"return_{n}"] = self.change(at, n) if known else np.nan
        for n in (1, DAY, 5 * DAY):
            out[f"volume_{n}"] = np.log(self.turnover(at, n)) - np.log(month)
            self.grid["parkinson"] = np.log(self.grid["high"] / self.grid["low"]) ** 2 / (4 * np.log(2))
            out[f"range_{n}"] = self.log_mean("parkinson", at, n)
        for n in (DAY, 5 * DAY, 22 * DAY):
            out[f"downside_{n}"] = self.down(at, n)
        for n in (DAY, 5 * DAY):
            out[f"jump_{n}"] = self.jump(at, n)
        out["quarter"] = float(np.mean([self.har(at - 22 * DAY * k, 22) for k in range(3)]))
        out["semivariance"] = self.down(at, 5 * DAY)
        for name, n in (("day", DAY), ("week", 5 * DAY)):
            fall = np.minimum(self.change(at, n), 0.0)
            out[f"leverage_{name}"] = fall / np.sqrt(np.exp(self.har(at, 22)) * n / DAY)
            ranged = out[f"range_{n}"]
            out[f"parkinson_{name}"] = ranged if ranged > np.log(SMALLEST_VARIANCE) else np.nan
        return out


@pytest.mark.parametrize("market", ["A", "B"])
def test_every_feature_equals_its_window(
    market: str, gappy: pd.DataFrame, gappy_features: pd.DataFrame
) -> None:
    own = gappy_features[gappy_features["market"] == market].reset_index(drop=True)
    grid = whole_grid(gappy, market)
    oracle = Oracle(grid)
    halted = own.index[own["time"].between("2021-04-19", "2021-04-27")]
    sample = sorted({*range(0, len(own), 23), *range(295, 325), *halted[::3], len(own) - 1})
    expected = pd.DataFrame([oracle.features(grid.index.get_loc(own["time"][i])) for i in sample])
    columns = [c for c in own.columns if c not in {*KEY, "implied"}]
    assert set(columns) <= set(expected.columns)
    for name in columns:
        np.testing.assert_allclose(
            own.loc[sample, name].to_numpy(float),
            expected[name].to_numpy(float),
            rtol=1e-7,
            atol=1e-9,
            err_msg=name,
        )
    assert expected.notna().any().all()  # every feature was compared at least once with a number


def test_features_do_not_look_ahead(
    market_bars: pd.DataFrame, cuts: list[pd.Timestamp], assert_causal: Check
) -> None:
    assert_causal(lambda b: build_features(b, clock=CLOCK).set_index(KEY), market_bars, cuts)


def test_range_features_do_not_look_ahead(
    market_bars: pd.DataFrame, cuts: list[pd.Timestamp], assert_causal: Check
) -> None:
    clock = Clock(step=pd.Timedelta("6h"), cadence=4, horizon=4, proxy="range")
    assert_causal(lambda b: build_features(b, clock=clock).set_index(KEY), market_bars, cuts)


def test_the_design_does_not_look_ahead(
    market_bars: pd.DataFrame, cuts: list[pd.Timestamp], assert_causal: Check
) -> None:
    def run(bars: pd.DataFrame) -> pd.DataFrame:
        features = build_features(bars, clock=CLOCK)
        core = Har(steps=2, window=250).forecast(features)
        return design(features, core, cadence=DAY, steps=2).set_index(KEY)

    assert_causal(run, market_bars, cuts)


def test_a_feature_that_looks_ahead_is_caught(
    market_bars: pd.DataFrame, cuts: list[pd.Timestamp], assert_causal: Check
) -> None:
    def run(bars: pd.DataFrame) -> pd.Series:
        frame = build_features(bars, clock=CLOCK)
        return frame.groupby("market")["har_day"].shift(-1).set_axis(pd.MultiIndex.from_frame(frame[KEY]))

    with pytest.raises(AssertionError):
        assert_causal(run, market_bars, cuts)


def test_decisions_stand_at_the_hour_asked_for() -> None:
    bars = synthetic_bars(["A"], periods=24 * 5, seed=1)
    clock = Clock(step=pd.Timedelta("1h"), cadence=24, horizon=24, origin_hour=16)
    features = build_features(bars, clock=clock)
    decisions = features.loc[features["phase"] == 0, "time"]
    assert set(decisions.dt.hour) == {16}
    assert set(features["time"].dt.hour) == {4, 10, 16, 22}


@pytest.mark.parametrize("cadence", [1, 2, 3, 5, 6, 7, 8, 10, 12, 24, 36, 48])
def test_any_cadence_has_the_columns_that_the_design_reads(cadence: int) -> None:
    bars = synthetic_bars(["A", "B"], periods=cadence * 80, seed=1)
    clock = Clock(step=pd.Timedelta("1h"), cadence=cadence, horizon=cadence)
    features = build_features(bars, clock=clock)
    rows = design(features, features["trailing_variance"], cadence=cadence, steps=1)
    assert len(rows) > 0
    assert not rows.columns.duplicated().any()


def test_future_variance_is_the_sum_of_the_bars_ahead(
    gappy: pd.DataFrame, gappy_features: pd.DataFrame
) -> None:
    got = future_variance(gappy, gappy_features, clock=CLOCK)
    for market in ("A", "B"):
        grid = whole_grid(gappy, market)
        own = gappy_features[gappy_features["market"] == market]
        for i, time in own["time"].items():
            at = grid.index.get_loc(time)
            ahead = grid["squared"].iloc[at + 1 : at + 1 + CLOCK.horizon].to_numpy()
            total = ahead.sum() if len(ahead) == CLOCK.horizon else np.nan
            expected = total if total > 0 else np.nan
            assert got["future_variance"][i] == pytest.approx(expected, rel=1e-9, abs=1e-16, nan_ok=True)
            assert got["known_at"][i] == time + CLOCK.horizon * CLOCK.step
    assert got["future_variance"].isna().sum() > 2 * CLOCK.horizon / CLOCK.stride  # ends, gap and halt


@pytest.mark.parametrize("loss", ["excursion", "terminal"])
def test_future_losses_equal_a_plain_loop(loss: str, gappy: pd.DataFrame) -> None:
    length = 5
    got = future_losses(gappy, clock=CLOCK, close_out=length, loss=loss)
    unknown = 0
    for market in ("A", "B"):
        grid = whole_grid(gappy, market)
        own = got[got["market"] == market].set_index("time")
        assert list(own.index) == list(grid.index)
        for at, time in enumerate(grid.index):
            ahead, close = grid.iloc[at + 1 : at + 1 + length], grid["close"].iloc[at]
            whole = len(ahead) == length
            if loss == "terminal":
                known = whole and not np.isnan(ahead["close"].iloc[-1]) and not np.isnan(close)
                low = high = ahead["close"].iloc[-1] if known else np.nan
            else:
                known = whole and ahead["close"].notna().all() and not np.isnan(close)
                low, high = (ahead["low"].min(), ahead["high"].max()) if known else (np.nan, np.nan)
            long, short = max(1 - low / close, 0.0), max(high / close - 1, 0.0)
            row = own.loc[time]
            if known:
                assert row["long"] == pytest.approx(long, abs=1e-12)
                assert row["short"] == pytest.approx(short, abs=1e-12)
            else:
                unknown += 1
                assert np.isnan(row["long"])
                assert np.isnan(row["short"])
            assert row["known_at"] == time + length * CLOCK.step
    assert unknown > 2 * length


def test_sessions_know_the_future_when_the_session_has_happened() -> None:
    bars = synthetic_bars(["A"], periods=60, seed=2, bar="1d")
    bars = bars[bars["time"].dt.day_of_week < 5].reset_index(drop=True)
    clock = Clock(step=pd.Timedelta("1D"), cadence=1, horizon=3, calendar="sessions")
    features = build_features(bars, clock=clock)
    assert list(features["time"]) == list(bars["time"])
    got = future_variance(bars, features, clock=clock)
    squared = np.log(bars["close"] / bars["close"].shift()) ** 2
    for i in range(len(bars) - 3):
        assert got["known_at"][i] == bars["time"][i + 3]
        assert got["future_variance"][i] == pytest.approx(squared[i + 1 : i + 4].sum(), rel=1e-9)
    assert got["future_variance"][-3:].isna().all()
    assert (got["known_at"][-3:] > bars["time"].iloc[-3]).all()
    losses = future_losses(bars, clock=clock, close_out=2)
    assert losses["known_at"][0] == bars["time"][2]
    assert losses["long"][0] == pytest.approx(max(0, 1 - bars["low"][1:3].min() / bars["close"][0]))


def test_garman_klass_reference() -> None:
    grid = Grid(
        pd.date_range("2024-01-01", periods=2, freq="1D", tz="UTC"),
        open=np.array([100.0, 100.0]),
        high=np.array([101.0, 103.0]),
        low=np.array([99.0, 98.0]),
        close=np.array([99.5, 101.0]),
        volume=np.array([1.0, 1.0]),
    )
    # ln(103/98)^2 / 2 - (2 ln 2 - 1) ln(101/100)^2, plus the squared gap ln(100/99.5)^2.
    expected = 0.0497615095**2 / 2 - 0.3862943611 * 0.0099503309**2 + 0.0050125418**2
    got = bar_variance(grid, proxy="range")
    assert np.isnan(got[0])
    assert got[1] == pytest.approx(expected, rel=1e-7)
    assert bar_variance(grid, proxy="squared")[1] == pytest.approx(np.log(101 / 99.5) ** 2)


def test_range_variance_of_a_day_that_only_falls_is_not_zero() -> None:
    time = pd.date_range("2024-01-01", periods=2, freq="1D", tz="UTC")
    fall = [np.array(x) for x in ([100.0, 100.0], [100.0, 100.0], [100.0, 80.0], [100.0, 80.0], [1.0, 1.0])]
    o, h, low, c, v = fall
    got = bar_variance(Grid(time, open=o, high=h, low=low, close=c, volume=v), proxy="range")
    assert got[1] == pytest.approx((1.5 - 2 * np.log(2)) * np.log(0.8) ** 2)


def test_range_variance_is_the_squared_return_where_only_closes_exist() -> None:
    close = np.array([100.0, 103.0, 101.0, 101.0])
    time = pd.date_range("2024-01-01", periods=4, freq="1D", tz="UTC")
    grid = Grid(time, open=close, high=close, low=close, close=close, volume=close)
    np.testing.assert_allclose(
        bar_variance(grid, proxy="range")[1:], bar_variance(grid, proxy="squared")[1:], atol=1e-18
    )


def test_range_variance_of_a_fine_random_walk_is_nearly_unbiased() -> None:
    rng = np.random.default_rng(4)
    steps = rng.normal(0.0, 0.01 / np.sqrt(900), (2000, 900))
    path = np.concatenate([np.zeros((2000, 1)), steps.cumsum(axis=1)], axis=1)
    path += np.concatenate([[0.0], path[:-1, -1].cumsum()])[:, None]
    o, h, low, c = (np.exp(x) for x in (path[:, 0], path.max(axis=1), path.min(axis=1), path[:, -1]))
    time = pd.date_range("2024-01-01", periods=2000, freq="1D", tz="UTC")
    ranged = bar_variance(Grid(time, open=o, high=h, low=low, close=c, volume=c), proxy="range")[1:]
    assert ranged.mean() == pytest.approx(1e-4, rel=0.08)  # finitely many steps hide a little of the range
    assert ranged.std() < 0.5 * (np.log(c[1:] / c[:-1]) ** 2).std()


def test_implied_volatility_is_joined_as_of_and_goes_stale() -> None:
    bars = synthetic_bars(["A", "B"], periods=30, seed=3, bar="1d")
    clock = Clock(step=pd.Timedelta("1D"), cadence=1, horizon=1)
    times = bars.loc[bars["market"] == "A", "time"].reset_index(drop=True)
    quotes = pd.DataFrame(
        {
            "market": "A",
            "time": [times[4], times[5] + pd.Timedelta("1h"), times[15]],
            "implied_volatility": [0.5, 0.8, 0.4],
        }
    )
    frame = build_features(bars, clock=clock, implied_volatility=quotes).set_index(KEY)["implied"]
    daily = {v: np.log(v**2 / 365.25) for v in (0.5, 0.8, 0.4)}
    assert np.isnan(frame["A", times[3]])
    assert frame["A", times[4]] == pytest.approx(daily[0.5])
    assert frame["A", times[5]] == pytest.approx(daily[0.5])  # the next quote comes an hour later
    assert frame["A", times[6]] == pytest.approx(daily[0.8])
    assert frame["A", times[10]] == pytest.approx(daily[0.8])
    assert np.isnan(frame["A", times[11]])  # older than five days
    assert frame["A", times[15]] == pytest.approx(daily[0.4])
    assert frame["B"].isna().all()


def test_features_do_not_need_volume(gappy: pd.DataFrame) -> None:
    features = build_features(gappy.assign(volume=np.nan), clock=CLOCK)
    assert features["turnover"].isna().all()
    assert features["har_month"].notna().any()
