"""The classifier's comparators: causal, and equal to plain or foreign implementations."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

from calibrator.features import Clock, build_features
from calibrator.regimes.jump_model import _best_path, fit_jump_model, jump_lead, online_lead
from calibrator.regimes.markov_switching import (
    SwitchingVariance,
    filtered_turbulence,
    fit_switching_variance,
    switching_variance,
)
from calibrator.regimes.rolling import Rolling
from calibrator.regimes.score import ScoreLogistic

CLOCK = Clock(step=pd.Timedelta("6h"), cadence=4, horizon=4)
ROLLING = Rolling(window=250, start=200, refit=40)
Run = Callable[[pd.DataFrame], pd.Series]
Check = Callable[[Run, pd.DataFrame, list[pd.Timestamp]], None]


def keyed(values: pd.Series, features: pd.DataFrame) -> pd.Series:
    return values.set_axis(pd.MultiIndex.from_frame(features[["market", "time"]]))


def switching(bars: pd.DataFrame) -> pd.Series:
    features = build_features(bars, clock=CLOCK)
    return keyed(switching_variance(features, steps=2, rolling=ROLLING), features)


def jumping(bars: pd.DataFrame) -> pd.Series:
    features = build_features(bars, clock=CLOCK)
    return keyed(jump_lead(features, penalty=5.0, rolling=ROLLING), features)


@pytest.mark.parametrize("run", [switching, jumping])
def test_a_state_is_filtered_and_never_smoothed(
    run: Run, market_bars: pd.DataFrame, cuts: list[pd.Timestamp], assert_causal: Check
) -> None:
    assert_causal(run, market_bars, cuts)


def switched(seed: int, n: int = 800) -> np.ndarray:
    rng = np.random.default_rng(seed)
    stay = np.array([0.98, 0.93])
    state = np.zeros(n, dtype=int)
    for t in range(1, n):
        state[t] = state[t - 1] if rng.random() < stay[state[t - 1]] else 1 - state[t - 1]
    return rng.normal(0.0, np.where(state == 1, 0.05, 0.015))


@pytest.mark.parametrize("seed", [1, 2])
def test_switching_variance_agrees_with_statsmodels(seed: int) -> None:
    y = switched(seed)
    made = fit_switching_variance(y)
    assert made is not None
    model = MarkovRegression(100 * y, k_regimes=2, trend="n", switching_variance=True)
    peak = model.fit(disp=False)
    ours = np.array([made.stay_calm, 1 - made.stay_turbulent, 1e4 * made.calm, 1e4 * made.turbulent])
    assert model.loglike(ours) == pytest.approx(peak.llf, abs=0.05)
    theirs = model.filter(ours).filtered_marginal_probabilities[:, 1]
    np.testing.assert_allclose(filtered_turbulence(y, made), theirs, atol=1e-9)


@pytest.mark.parametrize("returns", [np.zeros(500), np.full(500, np.nan), switched(3, 99)])
def test_what_cannot_be_estimated_is_not(returns: np.ndarray) -> None:
    assert fit_switching_variance(returns) is None


def test_a_failed_estimate_keeps_the_last_good_one() -> None:
    y = np.concatenate([switched(4, 300), np.zeros(300)])
    rows = pd.DataFrame({"market": "A", "time": pd.date_range("2022-01-01", periods=600), "phase": 0})
    made = switching_variance(
        rows.assign(log_return=y), steps=1, rolling=Rolling(window=200, start=200, refit=100)
    )
    assert made.iloc[:199].isna().all()
    assert made.iloc[199:].gt(0).all()


def test_a_missing_return_only_predicts() -> None:
    p = SwitchingVariance(calm=1e-4, turbulent=16e-4, stay_calm=0.98, stay_turbulent=0.9)
    state = filtered_turbulence(np.array([0.05, np.nan]), p)
    assert state[1] == pytest.approx(state[0] * 0.9 + (1 - state[0]) * 0.02)


def test_the_best_path_is_the_cheapest_of_all() -> None:
    rng = np.random.default_rng(6)
    for _ in range(20):
        cost, penalty = rng.exponential(1.0, (8, 2)), float(rng.uniform(0, 2))
        paths = np.array(list(product([0, 1], repeat=8)))
        total = cost[np.arange(8), paths].sum(axis=1) + penalty * np.abs(np.diff(paths, axis=1)).sum(axis=1)
        np.testing.assert_array_equal(_best_path(cost, penalty), paths[total.argmin()])
        ends = [total[paths[:, -1] == k].min() for k in (0, 1)]
        assert online_lead(cost, penalty)[-1] == pytest.approx(ends[0] - ends[1])


def test_a_dearer_jump_is_rarer() -> None:
    rng = np.random.default_rng(7)
    cost = rng.exponential(1.0, (500, 2))
    changes = [int(np.abs(np.diff(_best_path(cost, p))).sum()) for p in (0.0, 1.0, 4.0)]
    assert changes[0] > changes[1] > changes[2]


@pytest.mark.parametrize("rows", [np.ones((300, 2)), np.full((300, 2), np.nan), np.eye(50)])
def test_no_jump_model_without_variation(rows: np.ndarray) -> None:
    assert fit_jump_model(rows, penalty=1.0) is None


def test_a_score_becomes_the_logistic_probability() -> None:
    rng = np.random.default_rng(8)
    x = pd.DataFrame({"gap": rng.normal(3.0, 2.0, 400)})
    y = pd.Series((rng.random(400) < 1 / (1 + np.exp(3 - x["gap"]))).astype(float))
    y[:10] = np.nan
    x.loc[399, "gap"] = np.nan
    made = ScoreLogistic(["gap"]).fit(x, y).forecast(x)
    free = LogisticRegression(C=np.inf).fit(x.iloc[10:399], y.iloc[10:399])
    np.testing.assert_allclose(made[:399], free.predict_proba(x[:399])[:, 1], atol=2e-3)
    assert np.isnan(made[399])
    assert ScoreLogistic(["gap"]).fit(x, y * 0).forecast(x).isna().all()


@pytest.mark.parametrize("odd", [{"start": 1}, {"start": 300, "window": 200}, {"refit": 0}])
def test_odd_windows_are_refused(odd: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="need 2 <= start <= window and refit >= 1"):
        Rolling(**odd)
