"""The anti-procyclical layer: for any targets every limit holds, and only a limit holds a margin back."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrator.calibrate.plan import expected_path
from calibrator.calibrate.procyclicality import (
    ROOM,
    borrowed_floor,
    hold_adds,
    limit,
    limit_ahead,
    long_run_floor,
    quantile,
)
from calibrator.domain import PPM, ChangeLimits

Array = np.ndarray
TIGHT = ChangeLimits(max_increase_5=0.3, max_increase_10=0.4, peak_to_trough=0.9, min_base=0.0)
LARGE = ChangeLimits(min_base=0.3)
both = pytest.mark.parametrize("limits", [ChangeLimits(), TIGHT, LARGE], ids=["default", "tight", "large"])
margins = st.floats(1e-3, 0.9)
targets = st.integers(1, 60).flatmap(lambda n: arrays(float, n, elements=margins))
EPS = 1e-9


def raised(values: pd.Series, share: float, limits: ChangeLimits) -> pd.Series:
    return np.maximum(values * (1 + share), values + share * limits.min_base)


def assert_limits_hold(published: Array, limits: ChangeLimits) -> None:
    series = pd.Series(published)
    for rows, largest in (
        (1, limits.max_increase),
        (5, limits.max_increase_5),
        (10, limits.max_increase_10),
    ):
        assert (series <= raised(series.shift(rows), largest, limits) + EPS).iloc[rows:].all()
    assert (series.pct_change().dropna() >= -limits.max_decrease - EPS).all()
    year = series.rolling(365, min_periods=1)
    assert (series <= raised(year.min(), limits.peak_to_trough, limits) + EPS).all()
    assert (limits.min_base > 0) | (year.max() / year.min() - 1 <= limits.peak_to_trough + EPS).all()


@both
@settings(max_examples=100, deadline=None)
@given(target=targets)
def test_any_target_is_followed_within_the_limits(target: Array, limits: ChangeLimits) -> None:
    assert_limits_hold(limit(target, np.zeros(len(target)), limits=limits), limits)


@both
@pytest.mark.parametrize("seed", range(3))
def test_the_limits_hold_over_years(seed: int, limits: ChangeLimits) -> None:
    rng = np.random.default_rng(seed)
    target = np.exp(np.clip(-2.5 + 0.15 * rng.standard_t(3, 1500).cumsum(), -6, -0.2))
    target[rng.random(1500) < 0.05] = np.nan
    target[0] = 0.05
    floor = np.full(1500, 0.02)
    published = limit(target, floor, limits=limits)
    assert_limits_hold(published, limits)
    np.testing.assert_allclose(published * PPM, (published * PPM).round(), atol=1e-6)
    held = np.isnan(target)
    np.testing.assert_array_equal(published[held], published[np.flatnonzero(held) - 1])


def allowed(published: Array, t: int, limits: ChangeLimits) -> tuple[float, float]:
    """What the limits alone allow at ``t``, from the rows before it."""
    past = published[max(0, t - 365) : t]
    highest = min(
        limits.raised(past[-1], limits.max_increase),
        limits.raised(past[-5:].min(), limits.max_increase_5),
        limits.raised(past[-10:].min(), limits.max_increase_10),
        limits.raised(past.min(), limits.peak_to_trough),
    )
    lowest = max(past[-1] * (1 - limits.max_decrease), past.max() / (1 + limits.peak_to_trough))
    return lowest, highest


@both
@settings(max_examples=100, deadline=None)
@given(data=st.data(), target=targets)
def test_only_a_limit_keeps_a_margin_from_its_goal(
    data: st.DataObject, target: Array, limits: ChangeLimits
) -> None:
    floor = data.draw(arrays(float, len(target), elements=margins))
    published = limit(target, floor, limits=limits)
    room = (ROOM + 1) / PPM
    for t in range(len(target)):
        goal = max(target[t], floor[t])
        if t == 0:
            assert goal <= published[t] + EPS <= goal + 1.1 / PPM
            continue
        lowest, highest = allowed(published, t, limits)
        if goal > highest - room:
            assert published[t] >= min(highest - room, goal) - EPS
        elif goal < lowest + room:
            assert published[t] <= lowest + room + EPS
            assert published[t] >= floor[t] - EPS
        else:
            assert goal - EPS <= published[t] <= goal + 1.1 / PPM


@settings(max_examples=60, deadline=None)
@given(st.data(), targets)
def test_a_higher_target_is_never_a_lower_margin(data: st.DataObject, target: Array) -> None:
    more = target * data.draw(arrays(float, len(target), elements=st.floats(1.0, 3.0)))
    none = np.zeros(len(target))
    low, high = (limit(x, none, limits=ChangeLimits()) for x in (target, more))
    assert (high >= low).all()


@settings(max_examples=60, deadline=None)
@given(targets)
def test_what_was_limited_once_passes_again_unchanged(target: Array) -> None:
    none = np.zeros(len(target))
    once = limit(target, none, limits=ChangeLimits())
    np.testing.assert_allclose(limit(once, none, limits=ChangeLimits()), once, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.data(), targets)
def test_the_limit_does_not_look_ahead(data: st.DataObject, target: Array) -> None:
    whole = data.draw(arrays(bool, len(target)))
    floor = data.draw(arrays(float, len(target), elements=st.one_of(margins, st.just(np.nan))))
    everything = limit(target, floor, limits=TIGHT, whole=whole)
    cut = data.draw(st.integers(0, len(target) - 1)) + 1
    later = whole.copy()
    later[cut - 1 :] = True  # an entry is used from the next decision on
    np.testing.assert_array_equal(
        limit(target[:cut], floor[:cut], limits=TIGHT, whole=later[:cut]), everything[:cut]
    )


@settings(max_examples=100, deadline=None)
@given(st.data(), targets)
def test_a_gap_is_no_licence_to_jump(data: st.DataObject, target: Array) -> None:
    whole = data.draw(arrays(bool, len(target)))
    limits = ChangeLimits()
    published = limit(target, np.zeros(len(target)), limits=limits, whole=whole)
    last = published[0] if whole[0] else np.inf
    for t in range(1, len(target)):
        assert published[t] <= max(limits.raised(last, limits.max_increase), published[t - 1]) + EPS
        assert published[t] <= limits.raised(published[t - 1], limits.max_increase) + EPS
        assert published[t] >= published[t - 1] * (1 - limits.max_decrease) - EPS
        last = published[t] if whole[t] else last
    assert_limits_hold(published, limits)
    assert_limits_hold(published[whole], ChangeLimits(max_decrease=0.999))


def test_nothing_is_published_before_the_first_target() -> None:
    target = np.array([np.nan, np.nan, 0.1, np.nan, 0.3])
    got = limit(target, np.zeros(5), limits=ChangeLimits())
    assert np.isnan(got[:2]).all()
    assert got[2:].tolist() == pytest.approx([0.1, 0.1, 0.12], abs=3e-6)


@both
@settings(max_examples=25, deadline=None)
@given(data=st.data(), target=targets)
def test_looking_ahead_along_the_truth_gives_what_comes(
    data: st.DataObject, target: Array, limits: ChangeLimits
) -> None:
    published = limit(target, np.zeros(len(target)), limits=limits)
    steps = data.draw(st.integers(1, min(5, len(target))))
    rows = len(target) - steps
    path = np.array([target[t + 1 : t + 1 + steps] for t in range(rows)]).reshape(rows, steps)
    ahead = limit_ahead(published[:rows], path, limits=limits)
    for t in range(rows):
        np.testing.assert_allclose(ahead[t], published[t + 1 : t + 1 + steps], atol=1e-12)


def test_looking_ahead_does_not_depend_on_later_rows() -> None:
    rng = np.random.default_rng(2)
    target = np.exp(rng.normal(-3, 0.3, 600))
    published = limit(target, np.zeros(600), limits=TIGHT)
    path = expected_path(target, steps=4)
    whole = limit_ahead(published, path, limits=TIGHT)
    for cut in (1, 70, 400):
        np.testing.assert_array_equal(expected_path(target[:cut], steps=4), path[:cut])
        np.testing.assert_array_equal(limit_ahead(published[:cut], path[:cut], limits=TIGHT), whole[:cut])


def test_the_expected_path_returns_to_the_usual_level() -> None:
    rng = np.random.default_rng(3)
    logs = np.zeros(800)
    for t in range(1, 800):
        logs[t] = 0.9 * logs[t - 1] + rng.normal(0, 0.1)
    target = 0.05 * np.exp(logs)
    path = expected_path(target, steps=60)
    usual = np.exp(np.log(target[300:]).mean())
    assert np.abs(np.log(path[-1] / usual)).argmax() == 0
    assert path[-1, -1] == pytest.approx(usual, rel=0.1)
    past = np.log(target[300:])
    gap = past - past.mean()
    decay = (gap[1:] * gap[:-1]).sum() / (gap[:-1] ** 2).sum()
    assert np.log(path[-1, 1] / np.exp(past.mean())) == pytest.approx(decay**2 * gap[-1], rel=1e-6)


def test_a_missing_target_has_no_path_and_a_constant_one_stays() -> None:
    target = np.full(100, 0.1)
    target[80] = np.nan
    path = expected_path(target, steps=2)
    assert np.isnan(path[80]).all()
    np.testing.assert_allclose(np.delete(path, 80, axis=0), 0.1)


@pytest.mark.parametrize("starts", [1, 3])
def test_the_long_run_floor_equals_a_plain_loop_and_does_not_look_ahead(starts: int) -> None:
    rng = np.random.default_rng(4)
    losses = rng.exponential(0.03, (200, starts))
    losses[50:60] = np.nan
    known = np.arange(1, 201) + rng.integers(0, 4, 200)
    options = {"share": 0.75, "level": 0.95, "window": 60, "least": 30}
    got = long_run_floor(losses, known, **options)
    for t in range(200):
        past = [x for k in range(max(0, t - 60), t) if known[k] <= t for x in losses[k] if np.isfinite(x)]
        expected = 0.75 * np.quantile(past, 0.95) if len(past) >= 30 * starts else np.nan
        assert got[t] == pytest.approx(expected, nan_ok=True)
        other = losses.copy()
        other[known > t] = np.nan
        np.testing.assert_array_equal(long_run_floor(other[: t + 1], known[: t + 1], **options), got[: t + 1])


def test_incomplete_input_never_loosens() -> None:
    rng = np.random.default_rng(8)
    for _ in range(50):
        target = np.exp(rng.normal(-2.5, 0.4, 60))
        complete = rng.random(60) > 0.3
        whole = complete & (rng.random(60) > 0.1)
        out = limit(target, np.zeros(60), limits=ChangeLimits(), whole=whole, complete=complete)
        moves = np.diff(out)
        assert (moves[~complete[1:]] >= 0).all()
        assert (moves < 0).any()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(0, 1e3), min_size=1, max_size=60),
    st.one_of(st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]), st.floats(0, 1)),
)
def test_the_fast_quantile_has_the_bits_of_numpys(values: list[float], level: float) -> None:
    assert quantile(np.array(values), level) == np.quantile(np.array(values), level)


def test_a_floor_is_borrowed_only_where_there_is_none_and_from_the_same_decision() -> None:
    rng = np.random.default_rng(6)
    floor, volatility = rng.uniform(0.01, 0.1, (20, 5, 2)), rng.uniform(0.01, 0.05, (20, 5))
    floor[:8, 3], floor[:3], volatility[5, 3] = np.nan, np.nan, np.nan
    got = borrowed_floor(floor, volatility)
    known = np.isfinite(floor)
    np.testing.assert_array_equal(got[known], floor[known])
    assert np.isnan(got[:3]).all()  # nobody has one
    assert np.isnan(got[5, 3]).all()  # nothing to scale it with
    for t in (3, 4, 6, 7):
        peers = [0, 1, 2, 4]
        relative = np.median(floor[t, peers] / volatility[t, peers, None], axis=0)
        np.testing.assert_allclose(got[t, 3], relative * volatility[t, 3])
    np.testing.assert_array_equal(borrowed_floor(floor[:7], volatility[:7]), got[:7])


@both
@settings(max_examples=60, deadline=None)
@given(data=st.data(), target=targets)
def test_a_hold_adds_what_the_margin_would_have_fallen_by(
    data: st.DataObject, target: Array, limits: ChangeLimits
) -> None:
    n = len(target)
    held, complete, whole = (data.draw(arrays(bool, n)) for _ in range(3))
    floor = data.draw(arrays(float, n, elements=margins))
    published = limit(target, floor, limits=limits, whole=whole, complete=complete & ~held)
    added = hold_adds(published, target, floor, limits=limits, flags=(whole, complete), held=held)
    goal = np.fmax(target, floor)
    free = limit_ahead(published, np.append(goal[1:], goal[-1])[:, None], limits=limits, whole=whole)[:, 0]
    assert added[0] == 0
    for t in range(1, n):
        expected = published[t] - min(free[t - 1], published[t]) if held[t] and complete[t] else 0.0
        assert added[t] == pytest.approx(expected, abs=1e-9)


def test_a_margin_stays_below_everything() -> None:
    published = limit(np.array([0.9, 1.4, 2.0, np.nan]), np.full(4, 0.5), limits=ChangeLimits())
    assert published.max() == pytest.approx((PPM - 1) / PPM, abs=1e-12)
    ahead = limit_ahead(published, np.full((4, 3), 3.0), limits=ChangeLimits())
    assert ahead.max() == pytest.approx((PPM - 1) / PPM, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60).flatmap(lambda n: arrays(float, n, elements=st.floats(0.02, 0.9))))
def test_margins_above_the_least_base_do_not_know_it(target: Array) -> None:
    none = np.zeros(len(target))
    found = [limit(target, none, limits=ChangeLimits(min_base=base)) for base in (0.0, 0.02)]
    np.testing.assert_array_equal(*found)


def test_a_stablecoin_can_move_in_a_depeg() -> None:
    target = np.full(12, 0.0829)
    target[0] = 0.0015
    published = limit(target, np.zeros(12), limits=ChangeLimits())
    np.testing.assert_allclose(published[[1, 2, 5, 11]], [0.0055, 0.0095, 0.0115, 0.0195], atol=1e-4)
    relative = limit(target, np.zeros(12), limits=ChangeLimits(min_base=0.0))
    assert relative[5] == pytest.approx(0.0015 * 1.5, abs=1e-5)
