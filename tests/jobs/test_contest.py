"""The promotion's tests: their size is measured, and a better challenger is found."""

from datetime import date

import numpy as np
import pytest
from numpy.typing import NDArray

from calibrator.config_jobs import RetrainConfig
from pipelines.benchmarks.promotion import page, run, simulate_gains
from pipelines.contest import false_promotions, passes_loss_gates, permutation_test

Array = NDArray[np.float64]
DAYS = 250


SETTINGS = RetrainConfig(draws=199)


def promoted(gains: Array, *, seed: int) -> bool:
    """What the loss gates say about any of the challengers."""
    return bool(passes_loss_gates(gains, settings=SETTINGS, steps=1, seed=seed))


@pytest.mark.parametrize("models", [1, 4])
def test_at_most_one_in_twenty_equal_challengers_is_promoted(models: int) -> None:
    rng = np.random.default_rng(20)
    worlds = 400
    wrong = sum(promoted(simulate_gains(rng, DAYS, models), seed=s) for s in range(worlds))
    assert wrong <= 30, wrong  # 20 expected at most; 31 or more has a chance of 1 %
    assert wrong > 0 or models > 1


def test_a_better_challenger_is_found_among_equal_ones() -> None:
    rng = np.random.default_rng(21)
    found = 0
    for seed in range(50):
        gains = simulate_gains(rng, DAYS, 3)
        gains[:, 1] += 0.4 * gains[:, 1].std()
        found += promoted(gains, seed=seed)
    assert found >= 40, found


def test_a_worse_challenger_never_is() -> None:
    rng = np.random.default_rng(22)
    assert not any(promoted(simulate_gains(rng, DAYS, 1) - 0.5, seed=s) for s in range(50))


def test_the_measured_rate_of_false_promotions_of_real_gains_is_below_its_size() -> None:
    gains = simulate_gains(np.random.default_rng(23), DAYS, 2)
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


def test_the_benchmark_counts_both_kinds_of_error_and_asks_the_ledger() -> None:
    found = run(scale=0.01, progress=lambda *_: None)
    assert found.worlds == 20
    assert (found.size["share"] <= 0.2).all()
    rows = found.power.set_index(["challengers", "lead"])
    assert rows.loc[(1, 0.4), "right"] > rows.loc[(1, 0.1), "right"]
    assert found.ledger["decisions"] == 52
    text = page(found, made_on=date(2024, 1, 1))
    assert "| 4 | 0.4 |" in text
    assert "must stay below 1,000 ms" in text
