"""Tails against scipy's generalised Pareto distribution and the normal, and what pooling promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from calibrator.calibrate.tail import NEWCOMER, SHAPE_LIMIT, Tail, fit_tail, rolling_tails

LEVELS = [0.95, 0.99, 0.999]
tails = st.builds(
    Tail,
    threshold=st.floats(0.1, 5),
    shape=st.one_of(st.just(0.0), st.floats(-0.5, 0.5, allow_subnormal=False)),
    scale=st.floats(0.01, 3),
    share=st.floats(0.02, 0.08),
)


@settings(max_examples=100, deadline=None)
@given(tails, st.floats(0.9, 0.9999))
def test_quantile_and_expected_shortfall_are_those_of_scipy(tail: Tail, level: float) -> None:
    beyond = min((1 - level) / tail.share, 1.0)
    pareto = stats.genpareto(tail.shape, scale=tail.scale)
    quantile = tail.threshold + pareto.isf(beyond)
    assert tail.quantile(level) == pytest.approx(quantile, rel=1e-6, abs=1e-9)
    over = quantile - tail.threshold
    mean_excess = (tail.scale + tail.shape * over) / (1 - tail.shape)
    assert tail.expected_shortfall(level) == pytest.approx(quantile + max(mean_excess, 0), rel=1e-6)
    assert tail.expected_shortfall(level) >= tail.quantile(level)


def test_expected_shortfall_is_the_mean_beyond_the_quantile() -> None:
    tail = Tail(threshold=2.0, shape=0.2, scale=0.7, share=0.05)
    mean = np.mean([tail.quantile(p) for p in 1 - 0.01 * (np.arange(20_000) + 0.5) / 20_000])
    assert tail.expected_shortfall(0.99) == pytest.approx(mean, rel=2e-3)


@settings(max_examples=60, deadline=None)
@given(tails, st.floats(0.9, 0.9999), st.floats(0.9, 0.9999))
def test_a_higher_level_asks_for_more(tail: Tail, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert tail.quantile(low) <= tail.quantile(high) + 1e-12
    assert tail.expected_shortfall(low) <= tail.expected_shortfall(high) + 1e-12


LAWS = {
    "heavy Pareto": stats.genpareto(0.3),
    "light Pareto": stats.genpareto(-0.2),
    "exponential": stats.expon(),
    "normal": stats.norm(),
    "Student": stats.t(5),
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_the_estimate_finds_the_quantiles_of_a_known_law(law: stats.rv_continuous) -> None:
    tail = fit_tail(law.rvs(200_000, random_state=1))
    assert tail is not None
    for level in LEVELS:
        assert tail.quantile(level) == pytest.approx(law.ppf(level), rel=0.05)
    draws = law.rvs(400_000, random_state=2)
    assert tail.expected_shortfall(0.99) == pytest.approx(draws[draws > law.ppf(0.99)].mean(), rel=0.05)


def test_the_shape_is_that_of_the_pareto_law_and_is_bounded() -> None:
    for shape in (-0.2, 0.0, 0.3):
        tail = fit_tail(stats.genpareto(shape).rvs(400_000, random_state=3))
        assert tail is not None
        assert tail.shape == pytest.approx(shape, abs=0.05)
    wild = fit_tail(stats.pareto(0.7).rvs(5_000, random_state=4))
    assert wild is not None
    assert wild.shape == SHAPE_LIMIT


@pytest.mark.parametrize("factor", [1e-3, 7.0])
def test_the_estimate_scales_with_the_losses(factor: float) -> None:
    losses = np.random.default_rng(5).standard_t(4, 3000)
    one, other = fit_tail(losses), fit_tail(factor * losses)
    assert one is not None
    assert other is not None
    for level in LEVELS:
        assert other.quantile(level) == pytest.approx(factor * one.quantile(level), rel=1e-9)


def test_missing_losses_and_their_order_do_not_matter() -> None:
    losses = np.random.default_rng(6).exponential(1, 500)
    mixed = np.append(np.random.default_rng(7).permutation(losses), [np.nan] * 50)
    assert fit_tail(mixed) == fit_tail(losses)
    assert fit_tail(losses[:99]) is None
    assert fit_tail(losses[:100]) is not None


def test_equal_losses_have_no_tail_beyond_them() -> None:
    tail = fit_tail(np.full(200, 0.5))
    assert tail is not None
    assert tail.quantile(0.999) == tail.expected_shortfall(0.999) == 0.5


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5])
def test_a_level_outside_its_bounds_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        Tail(1.0, 0.0, 1.0, 0.05).quantile(level)


OPTIONS = {"window": 300, "level": 0.99, "refit": 7}


def world(decisions: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Four markets with one law; the last is listed late and the third has a gap."""
    losses = np.abs(np.random.default_rng(8).standard_t(5, (decisions, 4, 2, 1)))
    losses[:400, 3] = np.nan
    losses[200:230, 2] = np.nan
    known = np.tile(np.arange(1, decisions + 1)[:, None], (1, 4))
    known[100:150] += 4
    return losses, known


def test_rolling_tails_do_not_look_ahead() -> None:
    losses, known = world()
    whole = rolling_tails(losses, known, **OPTIONS)
    for cut in (50, 333, 499):
        seen = losses[: cut + 1].copy()
        seen[known[: cut + 1] > cut] = np.nan  # has not happened at the last decision
        other = losses.copy()
        other[known > cut] *= 5.0
        for part in (
            rolling_tails(seen, known[: cut + 1], **OPTIONS),
            rolling_tails(other, known, **OPTIONS),
        ):
            for mine, theirs in zip(part, whole, strict=True):
                np.testing.assert_array_equal(mine[: cut + 1], theirs[: cut + 1])
    late = losses.copy()
    late[300] *= 100.0
    changed = rolling_tails(late, known, **OPTIONS)[0] != whole[0]
    assert not changed[:301][np.isfinite(whole[0][:301])].any()
    assert changed[310:].all(axis=(1, 2)).any()


def test_expected_shortfall_is_never_below_the_quantile() -> None:
    quantile, shortfall = rolling_tails(*world(), **OPTIONS)
    known = np.isfinite(quantile)
    assert known[100:].all()
    assert (shortfall[known] >= quantile[known]).all()
    assert (quantile[known] > 0).all()


def test_a_newcomer_is_wider_than_its_peers_and_comes_down_to_them() -> None:
    losses, known = world(1200)
    quantile, _ = rolling_tails(losses, known, **OPTIONS)
    peers = quantile[:, :3].mean(axis=(1, 2))
    new = quantile[:, 3].mean(axis=1)
    assert new[399] / quantile[399, :3].mean() == pytest.approx(1 + NEWCOMER, rel=0.1)
    assert (new[350:450] > quantile[350:450, :3].max(axis=(1, 2))).all()
    assert new[1100] / peers[1100] == pytest.approx(1.0, abs=0.15)


def test_enough_own_history_is_told_apart_from_the_peers() -> None:
    losses, known = world(1200)
    losses[:, 0] *= 3.0
    quantile, _ = rolling_tails(losses, known, window=1000, level=0.99, refit=7)
    assert quantile[-1, 0].mean() > 1.3 * quantile[-1, 1].mean()


def test_too_few_losses_of_all_markets_have_no_tail() -> None:
    losses, known = world(30)
    assert np.isnan(rolling_tails(losses[:, :1], known[:, :1], **OPTIONS)[0]).all()
