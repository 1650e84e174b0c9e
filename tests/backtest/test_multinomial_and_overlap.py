"""Multinomial and overlapping tests: identities, references, sizes, power, bad input."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multinomial as exact
from scipy.stats import power_divergence

from calibrator.backtest.coverage import excess_breaches, kupiec
from calibrator.backtest.multinomial import multinomial, multinomial_statistic
from calibrator.backtest.overlap import overlap_null, overlapping_breaches


@given(st.integers(0, 200), st.integers(201, 600), st.sampled_from([0.95, 0.99, 0.995]))
@settings(max_examples=40, deadline=None)
def test_with_one_level_the_statistic_is_kupiecs(x: int, total: int, level: float) -> None:
    losses = np.r_[np.ones(x), np.zeros(total - x)]
    test = multinomial(losses, np.full((total, 1), 0.5), levels=[level], draws=99)
    assert test.statistic == pytest.approx(kupiec(x, total, level=level).statistic, abs=1e-9)
    assert test.p_value == pytest.approx(kupiec(x, total, level=level).p_value, abs=1e-9)


@given(st.lists(st.integers(1, 400), min_size=2, max_size=6), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_statistic_is_scipys_log_likelihood_ratio(cells: list[int], seed: int) -> None:
    shares = np.random.default_rng(seed).dirichlet(np.ones(len(cells)))
    levels = np.cumsum(shares)[:-1]
    expected = np.sum(cells) * np.diff([0.0, *levels, 1.0])
    reference = power_divergence(cells, expected, lambda_="log-likelihood").statistic
    assert float(multinomial_statistic(cells, tuple(levels))) == pytest.approx(reference, abs=1e-9)


def test_the_decision_is_close_to_the_sum_over_every_outcome() -> None:
    total, levels = 12, (0.6, 0.9)
    shares = np.diff([0.0, *levels, 1.0])
    outcomes = [c for c in itertools.product(range(total + 1), repeat=3) if sum(c) == total]
    weight = exact.pmf(outcomes, total, shares)
    statistic = multinomial_statistic(outcomes, levels)
    for cells in ((4, 5, 3), (8, 3, 1), (6, 2, 4)):
        losses = np.repeat([0.3, 0.7, 0.95], cells)
        test = multinomial(losses, np.broadcast_to(levels, (total, 2)), levels=levels, draws=40_000)
        own = float(multinomial_statistic(cells, levels))
        assert test.statistic == pytest.approx(own, abs=1e-9)
        assert test.decision_p_value == pytest.approx(weight[statistic >= own - 1e-9].sum(), abs=0.012)


def test_sizes_of_the_multinomial_decision() -> None:
    rng, levels = np.random.default_rng(4), np.array([0.99, 0.995, 0.9975])
    plain, tied = [], []
    for _ in range(3000):
        x, q = rng.random(500), np.broadcast_to(levels, (500, 3))
        plain.append(multinomial(x, q, levels=levels).decision_p_value)
        tied.append(multinomial(x, q, levels=levels, ties=rng).decision_p_value)
    assert np.mean(np.array(plain) <= 0.05) <= 0.057
    assert np.mean(np.array(tied) <= 0.05) == pytest.approx(0.05, abs=0.012)


def test_the_multinomial_test_sees_a_tail_that_the_count_alone_misses() -> None:
    levels = np.array([0.99, 0.995, 0.9975])
    x, q = np.random.default_rng(1).random(4000), np.broadcast_to(levels, (4000, 3))
    heavy = np.where(x > 0.99, 0.9985, x)  # as many breaches as promised, each of them a large one
    assert kupiec(int((heavy > 0.99).sum()), 4000, level=0.99).decision_p_value > 0.05
    assert multinomial(heavy, q, levels=levels).decision_p_value < 0.001


def sums(count: int, size: int, overlap: int, seed: int, nu: float | None) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shape = (count, size + overlap - 1)
    moves = rng.standard_normal(shape) if nu is None else rng.standard_t(nu, shape)
    total = np.cumsum(np.pad(moves, ((0, 0), (1, 0))), axis=1)
    return total[:, overlap:] - total[:, :-overlap]


@pytest.mark.parametrize("nu", [3.0, 5.0, None])
def test_size_under_overlap_where_the_binomial_test_fails(nu: float | None) -> None:
    window = sums(3000, 1000, 5, 6, nu)
    counts = (window > np.quantile(window, 0.99)).sum(axis=1)
    ours = [overlapping_breaches(int(x), 1000, level=0.99, overlap=5) for x in counts]
    assert np.mean([t.decision_p_value <= 0.05 for t in ours]) <= 0.057
    assert np.mean([t.p_value <= 0.05 for t in ours]) > 0.10


def test_random_ties_make_the_size_under_overlap_nominal_at_its_own_null() -> None:
    rng, window = np.random.default_rng(2), sums(6000, 500, 4, 8, 3.0)
    counts = (window > np.quantile(window, 0.99)).sum(axis=1)
    p = [overlapping_breaches(int(x), 500, level=0.99, overlap=4, ties=rng).decision_p_value for x in counts]
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.009)


def test_without_overlap_it_is_the_binomial_test() -> None:
    for x in (5, 10, 16, 20):
        ours = overlapping_breaches(x, 1000, level=0.99, overlap=1, draws=20_000).decision_p_value
        assert ours == pytest.approx(excess_breaches(x, 1000, level=0.99).decision_p_value, abs=0.012)


def test_more_overlap_needs_more_breaches_to_reject() -> None:
    spread = [overlap_null(1000, 0.99, h, 999).std() for h in (1, 5, 20)]
    assert spread == sorted(spread)
    p = [overlapping_breaches(22, 1000, level=0.99, overlap=h).decision_p_value for h in (1, 5, 20)]
    assert p == sorted(p)


HALF = np.full((4, 2), 0.5)
BAD = [
    (lambda: multinomial(np.zeros(3), HALF, levels=[0.9, 0.95]), r"do not fit: \(3,\), \(4, 2\), \(2,\)"),
    (lambda: multinomial([], np.zeros((0, 1)), levels=[0.9]), "do not fit"),
    (lambda: multinomial([0, 1, np.nan, 2], HALF, levels=[0.9, 0.95]), "must be finite"),
    (lambda: multinomial(np.zeros(4), HALF, levels=[0.95, 0.9]), "levels must rise between 0 and 1"),
    (lambda: multinomial(np.zeros(4), HALF, levels=[0.95, 1.0]), "levels must rise between 0 and 1"),
    (lambda: multinomial(np.zeros(4), -HALF * [1, 2], levels=[0.9, 0.95]), "must not fall with the level"),
    (lambda: overlapping_breaches(1, 9, level=1.0, overlap=1), "level must be between 0 and 1, was 1.0"),
    (lambda: overlapping_breaches(10, 9, level=0.9, overlap=1), "were 10 of 9 observations"),
    (lambda: overlapping_breaches(1, 9, level=0.9, overlap=0), "overlap must lie between 1 and"),
    (lambda: overlapping_breaches(1, 9, level=0.9, overlap=10), "overlap must lie between 1 and"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "match"), BAD, ids=[f"{i}" for i, _ in enumerate(BAD)])
def test_bad_input(call, match: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    with pytest.raises(ValueError, match=match):
        call()
