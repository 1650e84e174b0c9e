"""Stochastic volatility: statsmodels as oracle, recovery of known parameters, causality, what it refuses."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.statespace.sarimax import SARIMAX

from calibrator.forecast.base import walk_forward
from calibrator.forecast.stochastic_volatility import (
    StateSpace,
    StochasticVolatility,
    estimate,
    log_observed,
    loglikelihood,
)

TRUE = {"mean": -9.0, "phi": 0.95, "shock": 0.05, "noise": 0.4}


def simulate(rows: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x, out = rng.normal(0, np.sqrt(TRUE["shock"] / (1 - TRUE["phi"] ** 2))), np.empty(rows)
    for t in range(rows):
        out[t] = TRUE["mean"] + x + rng.normal(0, np.sqrt(TRUE["noise"]))
        x = TRUE["phi"] * x + rng.normal(0, np.sqrt(TRUE["shock"]))
    return out


def oracle(y: np.ndarray) -> SARIMAX:
    return SARIMAX(y - TRUE["mean"], order=(1, 0, 0), measurement_error=True)


def history(rows: int, markets: tuple[str, ...] = ("A", "B")) -> pd.DataFrame:
    time = pd.date_range("2020-01-01", periods=rows, tz="UTC").as_unit("us")
    parts = [
        pd.DataFrame({"market": m, "time": time, "realized_variance": np.exp(simulate(rows, i))})
        for i, m in enumerate(markets)
    ]
    return pd.concat(parts, ignore_index=True)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 100),
    phi=st.floats(0.0, 0.995),
    shock=st.floats(1e-3, 2.0),
    noise=st.floats(1e-3, 2.0),
    gaps=st.integers(0, 10),
)
def test_likelihood_is_that_of_statsmodels(
    seed: int, phi: float, shock: float, noise: float, gaps: int
) -> None:
    y = simulate(60, seed)
    y[5 : 5 + gaps] = np.nan
    expected = oracle(y).loglike([phi, noise, shock])
    ours = loglikelihood(y, mean=TRUE["mean"], phi=phi, shock=shock, noise=noise)
    assert ours == pytest.approx(expected, rel=1e-9)


def test_optimum_is_at_least_that_of_statsmodels() -> None:
    for seed in range(3):
        y = simulate(600, seed)
        fit = estimate(y)
        theirs = SARIMAX(y - y.mean(), order=(1, 0, 0), measurement_error=True).fit(disp=0)
        ours = loglikelihood(y, mean=fit.mean, phi=fit.phi, shock=fit.shock, noise=fit.noise)
        assert ours > theirs.llf - 1e-3


def test_recovers_the_parameters_of_a_long_series() -> None:
    fit = estimate(simulate(20_000, 4))
    assert fit.phi == pytest.approx(TRUE["phi"], abs=0.02)
    assert fit.shock == pytest.approx(TRUE["shock"], rel=0.2)
    assert fit.noise == pytest.approx(TRUE["noise"], rel=0.1)
    assert fit.mean == pytest.approx(TRUE["mean"], abs=0.1)


def test_forecast_is_the_filtered_expectation_of_statsmodels() -> None:
    rows = history(400, ("A",))
    model = StochasticVolatility(steps=3).fit(rows, rows["realized_variance"])
    fit = model.memory["A"]
    y = log_observed(rows["realized_variance"])
    smooth = SARIMAX(y - fit.mean, order=(1, 0, 0), measurement_error=True).filter(
        [fit.phi, fit.noise, fit.shock]
    )
    ahead = smooth.get_forecast(3)
    variance = ahead.se_mean**2 - fit.noise
    expected = fit.scale * np.exp(fit.mean + ahead.predicted_mean + (variance - variance[0]) / 2).sum()
    assert model.forecast(rows).iloc[-1] == pytest.approx(expected, rel=1e-9)


def test_forecasts_are_unbiased_at_every_horizon() -> None:
    rows = history(6000, ("A",))
    for steps in (1, 5, 20):
        model = StochasticVolatility(steps=steps, window=6000).fit(rows, rows["realized_variance"])
        future = rows["realized_variance"].rolling(steps).sum().shift(-steps)
        ratio = (future / model.forecast(rows)).mean()
        assert ratio == pytest.approx(1.0, abs=0.05)


def test_walk_forward_is_causal_bit_for_bit() -> None:
    rows = history(420)
    target = pd.DataFrame(
        {"future_variance": 1e-4, "known_at": rows["time"] + pd.Timedelta("1D")}, index=rows.index
    )

    def run(keep: pd.Series) -> pd.Series:
        memory: dict[str, StateSpace] = {}
        return walk_forward(
            lambda: StochasticVolatility(steps=2, window=300, memory=memory),
            rows[keep],
            target[keep],
            refit=40,
            start=260,
        )

    whole = run(rows["time"].notna())
    cut = rows["time"] <= rows["time"].iloc[350]
    pd.testing.assert_series_equal(run(cut), whole[cut], check_exact=True)
    assert whole[cut].notna().sum() == 2 * (351 - 260)


def test_missing_and_still_rows() -> None:
    rows = history(300, ("A",))
    rows.loc[[3, 50, 51, 299], "realized_variance"] = np.nan
    rows.loc[[60, 200], "realized_variance"] = 0.0
    model = StochasticVolatility(steps=1).fit(rows, rows["realized_variance"])
    forecast = model.forecast(rows)
    assert forecast.notna().all()
    assert (forecast > 0).all()
    leading = rows.assign(realized_variance=rows["realized_variance"].where(rows.index > 20))
    assert model.forecast(leading).notna().to_numpy().nonzero()[0][0] == 21


def test_no_optimum_keeps_the_last_good_parameters_and_says_so() -> None:
    rows = history(300, ("A",))
    still = rows.assign(realized_variance=1e-4)
    fresh = StochasticVolatility(steps=1).fit(still, still["realized_variance"])
    assert fresh.failures == {"A": "no optimum: no parameters"}
    assert fresh.forecast(rows).isna().all()
    good = StochasticVolatility(steps=1).fit(rows, rows["realized_variance"])
    before = dict(good.memory)
    assert good.fit(still, still["realized_variance"]).failures == {
        "A": "no optimum: kept the last good parameters"
    }
    assert good.memory == before


@pytest.mark.parametrize(("steps", "window"), [(0, 1000), (1, 249)])
def test_bad_settings(steps: int, window: int) -> None:
    with pytest.raises(ValueError, match="steps must be >= 1 and window >= 250"):
        StochasticVolatility(steps=steps, window=window)
