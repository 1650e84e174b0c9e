"""Labels, hysteresis and the stress classifier."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.data.synthetic import synthetic_bars
from calibrator.domain import Regime
from calibrator.features import Clock, build_features, future_variance
from calibrator.forecast.base import walk_forward
from calibrator.forecast.design import design
from calibrator.forecast.har import Har
from calibrator.regimes.classifier import SMALLEST, WEIGHTS, StressClassifier, stress_design
from calibrator.regimes.explanation import FAMILIES, explain, sentence
from calibrator.regimes.hysteresis import Thresholds, regimes
from calibrator.regimes.labels import stress_label, stress_threshold

CLOCK = Clock(step=pd.Timedelta("6h"), cadence=4, horizon=4)
KEY = ["market", "time"]
THRESHOLDS = Thresholds(elevated=(0.15, 0.10), stress=(0.40, 0.25))
Run = Callable[[pd.DataFrame], pd.Series]
Check = Callable[[Run, pd.DataFrame, list[pd.Timestamp]], None]
probabilities = st.lists(st.one_of(st.floats(0, 1), st.just(float("nan"))), min_size=1, max_size=60)


def keyed(values: pd.Series, features: pd.DataFrame) -> pd.Series:
    return values.set_axis(pd.MultiIndex.from_frame(features.loc[values.index, KEY]))


def threshold_of(bars: pd.DataFrame) -> pd.Series:
    features = build_features(bars, clock=CLOCK)
    return keyed(stress_threshold(features, quantile=0.9, window=150, min_window=60), features)


def stress_rows(bars: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    features = build_features(bars, clock=CLOCK)
    core = Har(steps=1, window=250).forecast(features)
    rows = design(features, core, cadence=4, steps=1)
    targets = future_variance(bars, features, clock=CLOCK).loc[rows.index]
    threshold = stress_threshold(features, quantile=0.9, window=150, min_window=60).loc[rows.index]
    seen = stress_design(
        rows,
        pd.DataFrame({"har": core.loc[rows.index]}),
        threshold,
        features.loc[rows.index, "trailing_variance"],
    )
    label = stress_label(targets["future_variance"], threshold)
    return seen, pd.DataFrame({"future_variance": label, "known_at": targets["known_at"]}).loc[seen.index]


def probability_of(bars: pd.DataFrame) -> pd.Series:
    rows, targets = stress_rows(bars)
    made = walk_forward(StressClassifier, rows, targets, refit=240, start=240, rowwise=True)
    return keyed(made, rows)


def test_the_threshold_does_not_look_ahead(
    market_bars: pd.DataFrame, cuts: list[pd.Timestamp], assert_causal: Check
) -> None:
    assert_causal(threshold_of, market_bars, cuts)


def test_the_probability_does_not_look_ahead(
    market_bars: pd.DataFrame, cuts: list[pd.Timestamp], assert_causal: Check
) -> None:
    assert_causal(probability_of, market_bars, cuts[1:])


def test_the_regime_does_not_look_ahead() -> None:
    rng = np.random.default_rng(1)
    p = np.where(rng.random(300) < 0.1, np.nan, rng.beta(0.6, 2.0, 300))
    whole = regimes(p, thresholds=THRESHOLDS)
    for cut in (1, 50, 299):
        np.testing.assert_array_equal(regimes(p[:cut], thresholds=THRESHOLDS), whole[:cut])


def test_the_threshold_equals_a_plain_loop(market_bars: pd.DataFrame) -> None:
    features = build_features(market_bars, clock=CLOCK)
    got = stress_threshold(features, quantile=0.9, window=40, min_window=20)
    pd.testing.assert_index_equal(got.index, features.index)
    for (market, phase), own in features.groupby(["market", "phase"]):
        values = own["trailing_variance"].to_numpy()
        for i in range(0, len(own), 17):
            past = values[max(0, i - 39) : i + 1]
            past = past[np.isfinite(past)]
            expected = np.quantile(past, 0.9) if len(past) >= 20 else np.nan
            assert got[own.index[i]] == pytest.approx(expected, rel=1e-9, nan_ok=True), (market, phase, i)


def test_labels_are_unknown_where_either_side_is() -> None:
    nan = float("nan")
    label = stress_label(pd.Series([1.0, 2.0, 3.0, nan, 1.0]), pd.Series([2.0, 2.0, 2.0, 2.0, nan]))
    np.testing.assert_array_equal(label, [0.0, 0.0, 1.0, nan, nan])


@settings(max_examples=100, deadline=None)
@given(probabilities)
def test_a_state_follows_its_probability(values: list[float]) -> None:
    p = np.array(values)
    state = regimes(p, thresholds=THRESHOLDS)
    last = Regime.ELEVATED
    for now, held in zip(p, state, strict=True):
        if np.isnan(now):
            assert held == last
        if now >= 0.40:
            assert held == Regime.STRESS
        if now < 0.10:
            assert held == Regime.CALM
        if 0.15 <= now < 0.25:
            assert held == Regime.ELEVATED
        if held == Regime.STRESS and last != Regime.STRESS:
            assert now >= 0.40
        last = held


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.data())
def test_a_higher_probability_is_never_a_calmer_state(values: list[float], data: st.DataObject) -> None:
    p = np.array(values)
    more = p + np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(p), max_size=len(p)))) * (1 - p)
    assert (regimes(more, thresholds=THRESHOLDS) >= regimes(p, thresholds=THRESHOLDS)).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.26, 0.39), min_size=1, max_size=40))
def test_nothing_flickers_between_leaving_and_entering(values: list[float]) -> None:
    for first, expected in ((0.5, Regime.STRESS), (0.2, Regime.ELEVATED)):
        state = regimes(np.array([first, *values]), thresholds=THRESHOLDS)
        assert (state == expected).all()


def test_an_unknown_beginning_is_elevated() -> None:
    assert regimes(np.array([np.nan, np.nan]), thresholds=THRESHOLDS).tolist() == [1, 1]


@pytest.mark.parametrize("pair", [(0.1, 0.2), (1.1, 0.5), (0.5, -0.1), (float("nan"), 0.1)])
def test_odd_thresholds_are_refused(pair: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="stress: need 0 <= leave <= enter <= 1"):
        Thresholds(elevated=(0.15, 0.10), stress=pair)


def test_the_probability_separates_stress_from_calm() -> None:
    bars = synthetic_bars(["A", "B", "C"], periods=4 * 700, seed=9, bar="6h")
    rows, targets = stress_rows(bars)
    probability = walk_forward(StressClassifier, rows, targets, refit=480, start=480, rowwise=True)
    known = probability.notna() & targets["future_variance"].notna()
    p, stress = probability[known], targets.loc[known, "future_variance"] == 1
    assert p.between(SMALLEST, 1 - SMALLEST).all()
    higher = (p[stress].to_numpy()[:, None] > p[~stress].to_numpy()).mean()
    assert higher > 0.7  # area under the ROC curve
    assert p.mean() == pytest.approx(stress.mean(), abs=0.06)


@pytest.mark.parametrize("only", [0.0, 1.0, float("nan")])
def test_one_class_teaches_nothing(only: float, market_bars: pd.DataFrame) -> None:
    rows, _ = stress_rows(market_bars)
    model = StressClassifier().fit(rows, pd.Series(only, rows.index))
    assert model.forecast(rows).isna().all()
    assert model.contributions(rows).empty


def test_contributions_add_up_to_the_forecast(market_bars: pd.DataFrame) -> None:
    rows, targets = stress_rows(market_bars)
    model = StressClassifier().fit(rows, targets["future_variance"])
    assert model.booster is not None
    parts = model.contributions(rows.head(20))
    assert not {"market", "time", "phase", "core"} & set(parts.columns)
    odds = model.log_odds(rows.head(20))
    raw = sum(weight * odds[name] for name, weight in WEIGHTS.items())
    gap = raw - parts.sum(axis=1)
    np.testing.assert_allclose(gap, gap.iloc[0], atol=1e-8)  # the same expectation for every row


def test_the_design_measures_the_distance_to_stress(market_bars: pd.DataFrame) -> None:
    rows, _ = stress_rows(market_bars)
    features = build_features(market_bars, clock=CLOCK)
    threshold = stress_threshold(features, quantile=0.9, window=150, min_window=60)
    assert threshold.loc[rows.index].notna().all()
    expected = np.log(features["trailing_variance"] / threshold).loc[rows.index]
    np.testing.assert_allclose(rows["gap_now"], expected, rtol=1e-9)
    at = rows[rows["time"] == rows["time"].iloc[len(rows) // 3]]
    assert at["all_stressed"].tolist() == pytest.approx([(at["gap_now"] > 0).mean()] * len(at))
    assert at["all_gap_har"].tolist() == pytest.approx([at["gap_har"].mean()] * len(at))


def test_an_explanation_names_what_was_raised(market_bars: pd.DataFrame) -> None:
    rows, targets = stress_rows(market_bars)
    model = StressClassifier().fit(rows, targets["future_variance"])
    made = explain(model, rows.head(5), count=3)
    whole = explain(model, rows.head(5), count=99)
    parts = model.contributions(rows.head(5)).sum(axis=1)
    for drivers, every, total in zip(made, whole, parts, strict=True):
        sizes = [abs(odds) for _, odds in every]
        assert sizes == sorted(sizes, reverse=True)
        assert drivers == every[:3]
        assert sum(odds for _, odds in every) == pytest.approx(total)
    assert explain(StressClassifier(), rows.head(2)) == [[], []]


def test_every_regressor_has_words_and_a_sentence_fits_the_document(market_bars: pd.DataFrame) -> None:
    rows, targets = stress_rows(market_bars)
    model = StressClassifier().fit(rows, targets["future_variance"])
    for column in model.contributions(rows.head(1)):
        assert any(column.startswith(start) for start in FAMILIES), column
    longest = sorted(set(FAMILIES.values()), key=len)[-3:]
    for signs in product([-1.234, 1.234], repeat=3):
        assert len(sentence(list(zip(longest, signs, strict=True)))) <= 200


def test_the_distance_alone_decides_where_nothing_else_is_known(market_bars: pd.DataFrame) -> None:
    rows, targets = stress_rows(market_bars)
    model = StressClassifier().fit(rows, targets["future_variance"])
    nearer = rows.head(50).assign(gap_har=rows["gap_har"] + 1.0)
    assert (model.log_odds(nearer)["distance"] > model.log_odds(rows.head(50))["distance"]).all()
    unknown = rows.head(50).assign(gap_har=np.nan)
    assert np.ptp(model.log_odds(unknown)["distance"]) == 0
    assert model.forecast(unknown).notna().all()
