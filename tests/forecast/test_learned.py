"""The learned forecasters: their design, Ridge as a reference, and the way back to the HAR core."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

from calibrator.features import Clock, build_features, future_variance
from calibrator.forecast.design import Hull, design, regressors
from calibrator.forecast.har import Har
from calibrator.forecast.lgbm import Boosted
from calibrator.forecast.pooled import CLIP_RESIDUAL, LEVEL_ROWS, Pooled

CLOCK = Clock(step=pd.Timedelta("6h"), cadence=4, horizon=4)
Rows = tuple[pd.DataFrame, pd.Series]


@pytest.fixture(scope="module")
def learned_rows(market_bars: pd.DataFrame) -> Rows:
    features = build_features(market_bars, clock=CLOCK)
    core = Har(steps=1, window=250).forecast(features)
    rows = design(features, core, cadence=4, steps=1)
    return rows, future_variance(market_bars, features, clock=CLOCK)["future_variance"].loc[rows.index]


def test_pooled_equals_ridge(learned_rows: Rows) -> None:
    rows, target = learned_rows
    model = Pooled(steps=1, penalty=50.0).fit(rows, target)
    known = target.notna()
    x = model._matrix(rows)[:, 1:]
    y = (np.log(target) - rows["core"])[known]
    ridge = Ridge(alpha=50.0, solver="cholesky").fit(x[known], y)
    np.testing.assert_allclose(model.coefficients[1:], ridge.coef_, rtol=1e-7, atol=1e-10)
    assert model.coefficients[0] == pytest.approx(ridge.intercept_)
    residual = np.clip(y - ridge.predict(x[known]), -CLIP_RESIDUAL, CLIP_RESIDUAL)
    inside = model._hull.weight(rows[model._columns].to_numpy(float)) == 1.0
    market = rows["market"][known]
    common, count = np.exp(residual).mean(), residual.groupby(market).size()
    level = (np.exp(residual).groupby(market).sum() + LEVEL_ROWS * common) / (count + LEVEL_ROWS)
    assert (count > LEVEL_ROWS).all()
    expected = np.exp(rows["core"] + ridge.predict(x)) * rows["market"].map(level)
    np.testing.assert_allclose(model.forecast(rows)[inside], expected[inside], rtol=1e-8)
    assert inside[known.to_numpy()].all()


def test_a_short_history_never_lowers_the_level(learned_rows: Rows) -> None:
    rows, target = learned_rows
    name = rows["market"].iloc[0]
    own = rows["market"] == name
    few = own & (own.cumsum() <= 100)
    for factor in (0.01, 100.0):
        scaled = target.where(~own, factor * target).where(~own | few)
        model = Pooled(steps=1).fit(rows, scaled)
        assert model.smearings[name] >= model.smearing
    assert model.smearings[name] > model.smearing


MODELS = {
    "pooled": lambda: Pooled(steps=1, penalty=50.0),
    "lightgbm": lambda: Boosted(steps=1, rounds=25, seeds=1),
}
learned = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@learned
def test_far_outside_the_training_data_the_forecast_returns_to_har(make: type, learned_rows: Rows) -> None:
    rows, target = learned_rows
    model = make().fit(rows, target)
    core = np.exp(rows["core"].iloc[-50:])
    start = rows["drawdown"].max()
    for direction in (1.0, -1.0):
        distance = []
        for far in (200.0, 1e3, 1e4, 1e6, 1e9):  # beyond the clip of any regressor
            odd = rows.iloc[-50:].assign(drawdown=start + direction * far)
            distance.append(np.abs(np.log(model.forecast(odd) / core)).to_numpy())
        assert (np.diff(distance, axis=0) <= 1e-12).all()
        assert (distance[0] > 1e-9).any()
        assert (distance[-1] < 1e-9).all()


@learned
def test_inside_the_training_data_the_forecast_differs_from_har(make: type, learned_rows: Rows) -> None:
    rows, target = learned_rows
    ratio = make().fit(rows, target).forecast(rows) / np.exp(rows["core"])
    assert ratio.std() > 0.01


@learned
def test_without_a_known_outcome_the_forecast_is_har(make: type, learned_rows: Rows) -> None:
    rows, target = learned_rows
    forecast = make().fit(rows, target * np.nan).forecast(rows)
    np.testing.assert_allclose(forecast, np.exp(rows["core"]), rtol=1e-12)


@learned
def test_a_row_is_forecast_the_same_alone_and_among_others(make: type, learned_rows: Rows) -> None:
    rows, target = learned_rows
    model = make().fit(rows, target)
    whole = model.forecast(rows)
    for i in (0, 7, len(rows) - 1):
        assert model.forecast(rows.iloc[[i]]).iloc[0] == whole.iloc[i]


@learned
def test_fitting_twice_gives_the_same_bits(make: type, learned_rows: Rows) -> None:
    rows, target = learned_rows
    once, twice = (make().fit(rows, target).forecast(rows) for _ in range(2))
    pd.testing.assert_series_equal(once, twice, check_exact=True)


def test_the_number_of_threads_does_not_matter(learned_rows: Rows) -> None:
    rows, target = learned_rows
    one, two = (
        Boosted(steps=1, rounds=10, seeds=1, threads=n).fit(rows, target).forecast(rows) for n in (1, 2)
    )
    pd.testing.assert_series_equal(one, two, check_exact=True)


def test_the_design_is_relative_to_the_core_and_to_all_markets(market_bars: pd.DataFrame) -> None:
    features = build_features(market_bars, clock=CLOCK)
    core = features["trailing_variance"].where(features["trailing_variance"] > 0)
    rows = design(features, core, cadence=4, steps=1)
    log_core = np.log(core[core.notna()])
    assert list(rows.index) == list(core.index[core.notna()])
    own = features.loc[rows.index]
    np.testing.assert_allclose(rows["core"], log_core)
    np.testing.assert_allclose(rows["variance_20"], own["variance_20"] - log_core)
    np.testing.assert_allclose(rows["har_month"], own["har_month"] - log_core)
    np.testing.assert_allclose(rows["return_20"], own["return_20"] / np.sqrt(5 * np.exp(log_core)))
    np.testing.assert_allclose(rows["run_up"], own["run_up"] / np.exp(log_core / 2))
    np.testing.assert_allclose(rows["downside_4"], own["downside_4"])
    time = rows["time"].iloc[len(rows) // 3]
    at = rows[rows["time"] == time]
    assert len(at) == 3
    assert at["all_level"].tolist() == pytest.approx([at["level"].mean()] * 3)
    np.testing.assert_allclose(at["relative_level"], at["level"] - at["level"].mean())
    leader = own.loc[at.index, "turnover"].idxmax()
    assert at["lead_variance_4"].tolist() == [at["variance_4"][leader]] * 3
    assert not {"market", "time", "phase", "core"} & set(regressors(rows))


def test_without_volume_no_market_leads(market_bars: pd.DataFrame) -> None:
    features = build_features(market_bars.assign(volume=np.nan), clock=CLOCK)
    rows = design(features, features["trailing_variance"], cadence=4, steps=1)
    assert rows["lead_level"].isna().all()
    assert rows["all_level"].notna().all()


distances = st.floats(0.0, 1e6)


@settings(max_examples=80, deadline=None)
@given(distances, distances, st.integers(0, 2), st.booleans())
def test_the_hull_weight_falls_with_the_distance(a: float, b: float, column: int, above: bool) -> None:  # noqa: FBT001
    box = np.array([[0.0, -1.0, 5.0], [2.0, 1.0, 5.0]])
    hull, near, far = Hull(box), *sorted((a, b))
    edge = box[int(above)].copy()
    rows = np.array([edge, edge])
    rows[:, column] += np.array([near, far]) * (1 if above else -1)
    weights = hull.weight(rows)
    assert 0.0 <= weights[1] <= weights[0] <= 1.0
    width = [2.0, 2.0, 1.0][column]
    assert weights[1] == pytest.approx(1 / (1 + (far / width) ** 2), rel=1e-6)


def test_the_hull_ignores_what_is_missing() -> None:
    hull = Hull(np.array([[0.0, np.nan], [1.0, np.nan]]))
    rows = np.array([[0.5, 1e9], [np.nan, np.nan], [0.5, np.nan]])
    assert hull.weight(rows).tolist() == [1.0, 1.0, 1.0]
