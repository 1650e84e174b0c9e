"""The rolling log-HAR regression against numpy's least squares, row by row."""

import numpy as np
import pandas as pd
import pytest

from calibrator.forecast.har import Har, rolling_regression


@pytest.mark.parametrize(("lag", "window", "least"), [(1, 60, 20), (5, 40, 40), (3, 1000, 10)])
def test_every_row_equals_its_own_least_squares(lag: int, window: int, least: int) -> None:
    rng = np.random.default_rng(lag)
    rows = 220
    x = np.column_stack([np.ones(rows), rng.normal(-8, 1, (rows, 3))])
    y = x @ [0.5, 0.4, 0.3, 0.2] + rng.normal(0, 0.3, rows)
    x[70:75, 2] = np.nan
    y[130] = np.nan
    y[rows - lag :] = np.nan
    got = rolling_regression(x, y, lag=lag, window=window, least=least)
    complete = np.isfinite(x).all(axis=1) & np.isfinite(y)
    for t in range(rows):
        past = np.arange(max(0, t - lag + 1 - window), max(0, t - lag + 1))
        past = past[complete[past]]
        if len(past) < least or not np.isfinite(x[t]).all():
            assert np.isnan(got[t])
            continue
        beta, *_ = np.linalg.lstsq(x[past], y[past], rcond=None)
        residual = y[past] - x[past] @ beta
        assert got[t] == pytest.approx(x[t] @ beta + residual @ residual / len(past) / 2, abs=2e-6)
    assert np.isfinite(got).sum() > 60


def test_an_outcome_is_used_as_soon_as_it_is_known_and_not_before() -> None:
    x = np.column_stack([np.ones(60), np.random.default_rng(0).normal(size=60)])
    y = np.random.default_rng(1).normal(size=60)
    before = rolling_regression(x, y, lag=4, window=50, least=10)
    y[30] += 1.0
    after = rolling_regression(x, y, lag=4, window=50, least=10)
    changed = np.flatnonzero(~((before == after) | (np.isnan(before) & np.isnan(after))))
    assert changed[0] == 34
    assert (changed[:10] == np.arange(34, 44)).all()


def test_constant_regressors_do_not_stop_the_regression() -> None:
    x = np.ones((80, 3))
    y = np.random.default_rng(2).normal(-8, 0.5, 80)
    got = rolling_regression(x, y, lag=1, window=50, least=20)
    assert got[-1] == pytest.approx(y[29:79].mean() + y[29:79].var() / 2, abs=1e-5)


def table(variance: np.ndarray, phase: int = 0, market: str = "A") -> pd.DataFrame:
    return pd.DataFrame(
        {"market": market, "phase": phase, "trailing_variance": variance, "har_day": np.log(variance)}
    )


def test_markets_and_phases_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(3)
    parts = [table(np.exp(rng.normal(-8, 0.5, 90)), phase, market) for market in "AB" for phase in (0, 1)]
    model = Har(steps=2, window=60, least=30, columns=["har_day"])
    mixed = pd.concat(parts, ignore_index=True).sample(frac=1.0, random_state=1).sort_index(kind="stable")
    together = model.forecast(mixed)
    for part, begin in zip(parts, range(0, 360, 90), strict=True):
        alone = model.forecast(part)
        np.testing.assert_array_equal(together.iloc[begin : begin + 90], alone)


def test_log_normal_variance_is_forecast_without_bias() -> None:
    rng = np.random.default_rng(4)
    log_variance = np.empty(20_000)
    log_variance[0] = -8
    for t in range(1, len(log_variance)):
        log_variance[t] = -8 + 0.7 * (log_variance[t - 1] + 8) + rng.normal(0, 0.6)
    variance = np.exp(log_variance)
    forecast = Har(steps=1, columns=["har_day"]).forecast(table(variance)).to_numpy()
    known = np.isfinite(forecast[:-1])
    assert (variance[1:][known] / forecast[:-1][known]).mean() == pytest.approx(1.0, abs=0.03)


def test_a_halted_market_does_not_break_the_regression() -> None:
    variance = np.exp(np.random.default_rng(5).normal(-8, 0.5, 300))
    calm = table(variance)
    halted = calm.copy()
    halted.loc[150:152, "trailing_variance"] = 0.0
    model = Har(steps=1, window=250, least=50, columns=["har_day"])
    ratio = model.forecast(halted) / model.forecast(calm)
    assert ratio[160:].between(0.9, 1.1).all()


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"steps": 1, "window": 100, "least": 101}], ids=["no steps", "window"]
)
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="steps must be >= 1 and window >= least"):
        Har(**options)
