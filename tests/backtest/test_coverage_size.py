"""Decision p-values: exact against brute force, never oversized, nominal with random ties, powerful."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.backtest.coverage import (
    christoffersen_conditional,
    christoffersen_independence,
    excess_breaches,
    kupiec,
    traffic_light,
)
from calibrator.backtest.dynamic_quantile import dynamic_quantile
from calibrator.backtest.exact import conditional_null, count_null, independence_null
from calibrator.backtest.expected_shortfall import TailNull, acerbi_szekely_z1, acerbi_szekely_z2, mcneil_frey

LENGTH = 11
SERIES = [np.array(s, bool) for s in itertools.product([0, 1], repeat=LENGTH)]


def probability(hits: np.ndarray, p: float) -> float:
    return float(p ** hits.sum() * (1 - p) ** (len(hits) - hits.sum()))


def test_conditional_p_value_equals_brute_force_over_every_series() -> None:
    p = 0.2
    ratios = np.array([christoffersen_conditional(s, level=1 - p).statistic for s in SERIES])
    weights = np.array([probability(s, p) for s in SERIES])
    for i in range(0, len(SERIES), 97):
        expected = weights[ratios >= ratios[i] - 1e-9].sum()
        got = christoffersen_conditional(SERIES[i], level=1 - p).decision_p_value
        assert got == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("breaches", [1, 2, 4, 9, 10])
def test_independence_p_value_equals_brute_force_over_every_arrangement(breaches: int) -> None:
    same = [s for s in SERIES if s.sum() == breaches]
    tests = [christoffersen_independence(s) for s in same]
    ratios = np.array([t.statistic for t in tests])
    for t in tests[::7]:
        assert t.decision_p_value == pytest.approx(np.mean(ratios >= t.statistic - 1e-9), abs=1e-10)


@given(st.integers(1, 400), st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_null_distributions_sum_to_one(total: int, x: int) -> None:
    assert count_null(total, 0.99).above[0] == pytest.approx(1)
    assert independence_null(total, min(x, total)).above[0] == pytest.approx(1)
    assert conditional_null(total, 0.97).above[0] == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("total", "level"), [(250, 0.99), (365, 0.99), (365, 0.995), (1000, 0.99)])
def test_size_at_nominal_five_percent(total: int, level: float) -> None:
    """The rejection rate under the null follows from the null itself: no simulation, no noise."""
    for null in (count_null(total, level), conditional_null(total, level)):
        inside = null.above[:-1]
        size = inside[inside <= 0.05].max(initial=0.0)
        assert 0.01 < size <= 0.05


def test_random_ties_make_the_size_nominal() -> None:
    rng, level = np.random.default_rng(3), 0.99
    counts = rng.binomial(365, 1 - level, 12_000)
    for test in (kupiec, excess_breaches):
        p = [test(int(x), 365, level=level, ties=rng).decision_p_value for x in counts]
        assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.007)


def test_random_ties_in_independence_and_conditional_coverage() -> None:
    rng = np.random.default_rng(4)
    hits = rng.random((3000, 365)) < 0.01
    both = [christoffersen_conditional(h, level=0.99, ties=rng).decision_p_value for h in hits]
    alone = [christoffersen_independence(h, ties=rng).decision_p_value for h in hits]
    for p in (both, alone):
        assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.012)


def test_power_against_understated_volatility() -> None:
    # Volatility 20 % too low turns 1 % breaches into 3.1 %.
    x = np.random.default_rng(5).binomial(365, 0.0313, 4000)
    power = np.mean([excess_breaches(int(n), 365, level=0.99).decision_p_value <= 0.05 for n in x])
    assert power == pytest.approx(0.89, abs=0.03)


def test_dynamic_quantile_size() -> None:
    rng = np.random.default_rng(6)
    quantile = np.exp(0.2 * rng.standard_normal(300)).cumsum() / np.arange(1, 301)
    p = [dynamic_quantile(rng.random(300) < 0.01, quantile, level=0.99, draws=99, seed=i) for i in range(400)]
    assert np.mean([t.decision_p_value <= 0.05 for t in p]) <= 0.05 + 0.025
    assert np.mean([t.p_value <= 0.05 for t in p]) > 0.07  # the asymptotic one is what it replaces


def test_dynamic_quantile_finds_a_margin_that_moves_the_wrong_way() -> None:
    rng = np.random.default_rng(7)
    quantile = 1 + 0.5 * np.sin(np.arange(1500) / 40)
    hits = rng.random(1500) < np.where(quantile < 0.8, 0.06, 0.001)
    assert dynamic_quantile(hits, quantile, level=0.98, draws=199).decision_p_value <= 0.01


def test_dynamic_quantile_with_constant_margin_loses_one_degree_of_freedom() -> None:
    hits = np.zeros(300, bool)
    hits[[20, 100, 101]] = True
    assert dynamic_quantile(hits, np.full(300, 0.05), level=0.99, draws=19).degrees_of_freedom == 5


def test_dynamic_quantile_matches_least_squares() -> None:
    rng = np.random.default_rng(8)
    h, v = rng.random(120) < 0.1, rng.random(120) + 1
    y = h - 0.1
    x = np.column_stack([np.ones(116), *(y[4 - k : -k] for k in range(1, 5)), v[4:]])
    beta = np.linalg.lstsq(x, y[4:], rcond=None)[0]
    expected = beta @ x.T @ x @ beta / (0.1 * 0.9)
    assert dynamic_quantile(h, v, level=0.9, draws=9).statistic == pytest.approx(expected, rel=1e-9)


def test_no_breach_is_not_applicable_and_never_nan() -> None:
    calm = np.zeros(400, bool)
    loss = np.full(400, 0.01)
    tests = [
        christoffersen_independence(calm),
        dynamic_quantile(calm, np.linspace(1, 2, 400), level=0.99),
        acerbi_szekely_z1(loss, 0.05, 0.06, level=0.99),
        mcneil_frey(loss, 0.05, 0.06),
    ]
    assert [(t.statistic, t.decision_p_value, t.applicable) for t in tests] == [(0.0, 1.0, False)] * 4
    assert acerbi_szekely_z2(loss, 0.05, 0.06, level=0.99).statistic == 1.0


@given(st.integers(2, 3000), st.data(), st.sampled_from([0.95, 0.99, 0.999]))
@settings(max_examples=60, deadline=None)
def test_p_values_are_probabilities_and_zones_are_ordered(
    total: int, data: st.DataObject, level: float
) -> None:
    x = data.draw(st.integers(0, total))
    for test in (kupiec(x, total, level=level), excess_breaches(x, total, level=level)):
        assert 0 <= test.decision_p_value <= 1
        assert 0 <= test.p_value <= 1
    order = ["green", "yellow", "red"]
    if x < total:
        zones = [order.index(traffic_light(n, total, level=level).zone) for n in (x, x + 1)]
        assert zones[0] <= zones[1]
        fewer, more = (excess_breaches(n, total, level=level).decision_p_value for n in (x, x + 1))
        assert more <= fewer


BAD = [
    (lambda: kupiec(5, 4, level=0.99), "breaches must lie between 0 and observations, were 5 of 4"),
    (lambda: kupiec(0, 0, level=0.99), "were 0 of 0"),
    (lambda: kupiec(-1, 4, level=0.99), "were -1 of 4"),
    (lambda: excess_breaches(1, 4, level=1.0), "level must be between 0 and 1, was 1.0"),
    (lambda: traffic_light(1, 4, level=99), "level must be between 0 and 1, was 99"),
    (lambda: christoffersen_independence([0.0, np.nan]), "without missing values"),
    (lambda: christoffersen_independence([1]), r"shape was \(1,\)"),
    (lambda: christoffersen_conditional([[0, 1]], level=0.9), r"shape was \(1, 2\)"),
    (lambda: dynamic_quantile([0, 1], [1, 2], level=0.9), r"T > 10; were \(2,\) and \(2,\)"),
    (lambda: dynamic_quantile([0] * 20, [np.nan] * 20, level=0.9), "quantile must be finite"),
    (lambda: dynamic_quantile([0] * 20, [1] * 20, level=0), "level must be between 0 and 1, was 0"),
    (lambda: acerbi_szekely_z1([0.1], 0.1, 0.0, level=0.9), "positive, smallest was 0.0"),
    (lambda: acerbi_szekely_z2([np.nan], 0.1, 0.1, level=0.9), "must be one finite series each"),
    (lambda: acerbi_szekely_z2([0.1], 0.1, 0.1, level=2), "level must be between 0 and 1, was 2"),
    (lambda: mcneil_frey([[0.1]], 0.1, 0.1), "must be one finite series each"),
    (lambda: TailNull(1.0), "must exceed 1"),
    (lambda: TailNull(draws=0), "draws must be positive, was 0"),
]


@pytest.mark.parametrize(("call", "match"), BAD, ids=range(len(BAD)))
def test_bad_input(call: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
