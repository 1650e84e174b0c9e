"""The promotion's tests: their size is measured, and a better challenger is found."""

import numpy as np
import pytest
from numpy.typing import NDArray

from calibrator.backtest.comparison import diebold_mariano
from calibrator.config_jobs import RetrainConfig
from pipelines.contest import false_promotions, permutation_test

Array = NDArray[np.float64]
DAYS = 250


def noise(rng: np.random.Generator, days: int, models: int) -> Array:
    """Heavy-tailed gains whose spread follows itself, as losses of one market do."""
    scale = np.exp(np.convolve(rng.normal(0, 0.5, days + 20), np.full(20, 0.3))[20 : days + 20])
    return rng.standard_t(4, (days, models)) * scale[:, None]


def promoted(gains: Array, *, seed: int, size: float = 0.05) -> bool:
    """What the loss gates say about any of the challengers."""
    chances = permutation_test(gains, block=10, draws=199, seed=seed)
    for column, chance in zip(gains.T, chances, strict=True):
        test = diebold_mariano(-column, np.zeros(len(column)), horizon=1)
        one_sided = test.p_value / 2 if test.statistic < 0 else 1 - test.p_value / 2
        if max(chance, one_sided) <= size:
            return True
    return False


@pytest.mark.parametrize("models", [1, 4])
def test_at_most_one_in_twenty_equal_challengers_is_promoted(models: int) -> None:
    rng = np.random.default_rng(20)
    worlds = 400
    wrong = sum(promoted(noise(rng, DAYS, models), seed=s) for s in range(worlds))
    assert wrong <= 30, wrong  # 20 expected at most; 31 or more has a chance of 1 %
    assert wrong > 0 or models > 1


def test_a_better_challenger_is_found_among_equal_ones() -> None:
    rng = np.random.default_rng(21)
    found = 0
    for seed in range(50):
        gains = noise(rng, DAYS, 3)
        gains[:, 1] += 0.4 * gains[:, 1].std()
        found += promoted(gains, seed=seed)
    assert found >= 40, found


def test_a_worse_challenger_never_is() -> None:
    rng = np.random.default_rng(22)
    assert not any(promoted(noise(rng, DAYS, 1) - 0.5, seed=s) for s in range(50))


def test_the_measured_rate_of_false_promotions_of_real_gains_is_below_its_size() -> None:
    gains = noise(np.random.default_rng(23), DAYS, 2)
    gains[:, 0] += 0.5  # a better challenger, whose lead the swaps take away
    rate = false_promotions(gains, settings=RetrainConfig(draws=199), steps=5, trials=200, seed=1)
    assert rate <= 0.09


def test_the_permutation_p_value_is_exact_where_all_permutations_can_be_counted() -> None:
    gains = np.array([[3.0], [1.0], [2.0], [-1.0], [2.0], [4.0], [1.0], [2.0]])
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(gains))).reshape(len(gains), -1).T
    exact = float((signs @ gains >= gains.sum() - 1e-9).mean())
    found = permutation_test(gains, block=1, draws=20_000, seed=3)[0]
    assert found == pytest.approx(exact, abs=0.005)


def test_equal_forecasts_are_no_reason_to_promote() -> None:
    assert permutation_test(np.zeros((100, 2)), block=5, draws=99, seed=1).tolist() == [1.0, 1.0]
