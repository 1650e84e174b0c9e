"""Scores against scikit-learn, and their defining property: the truth scores best."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import mean_gamma_deviance, mean_pinball_loss

from calibrator.scores import fissler_ziegel, pinball, qlike

positive = st.floats(1e-9, 1e6)


@settings(max_examples=60, deadline=None)
@given(positive, positive, st.floats(1e-3, 1e3))
def test_qlike_is_zero_at_the_truth_positive_elsewhere_and_free_of_units(
    variance: float, forecast: float, unit: float
) -> None:
    assert qlike(variance, variance) == pytest.approx(0.0, abs=1e-12)
    score = float(qlike(variance, forecast))
    assert score >= -1e-12
    assert float(qlike(unit * variance, unit * forecast)) == pytest.approx(score, rel=1e-9, abs=1e-9)


def test_qlike_is_half_the_gamma_deviance() -> None:
    rng = np.random.default_rng(0)
    variance, forecast = rng.gamma(2, 1, 500), rng.gamma(2, 1, 500)
    assert 2 * qlike(variance, forecast).mean() == pytest.approx(mean_gamma_deviance(variance, forecast))


@pytest.mark.parametrize("level", [0.01, 0.5, 0.99])
def test_pinball_equals_scikit_learn(level: float) -> None:
    rng = np.random.default_rng(1)
    loss, quantile = rng.normal(size=500), rng.normal(size=500)
    expected = mean_pinball_loss(loss, quantile, alpha=level)
    assert pinball(loss, quantile, level=level).mean() == pytest.approx(expected)


def test_pinball_is_smallest_at_the_quantile() -> None:
    loss = np.random.default_rng(2).normal(size=100_000)
    grid = np.linspace(1.5, 3.0, 61)
    best = grid[np.argmin([pinball(loss, q, level=0.99).mean() for q in grid])]
    assert best == pytest.approx(stats.norm.ppf(0.99), abs=0.06)


def test_fissler_ziegel_is_smallest_at_quantile_and_expected_shortfall() -> None:
    loss = np.random.default_rng(3).normal(size=100_000)
    quantile, level = stats.norm.ppf(0.975), 0.975
    shortfall = stats.norm.pdf(quantile) / (1 - level)
    best = fissler_ziegel(loss, quantile, shortfall, level=level).mean()
    for factor in (0.8, 0.9, 1.1, 1.25):
        assert fissler_ziegel(loss, factor * quantile, shortfall, level=level).mean() > best
        assert fissler_ziegel(loss, quantile, factor * shortfall, level=level).mean() > best


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.2, float("nan")])
def test_a_level_outside_its_bounds_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        pinball([1.0], [1.0], level=level)
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        fissler_ziegel([1.0], [1.0], [1.0], level=level)
