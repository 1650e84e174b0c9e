"""The plan against a slow search on a grid, its rules by property, and what is said when none is feasible."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.calibrate.plan_program import (
    Excess,
    Prices,
    notice_rules,
    range_rules,
    relative_rules,
    solve_plan,
    step_rules,
)
from calibrator.calibrate.scenarios import excess_of, expected_needs
from calibrator.errors import InfeasibleScheduleError

Array = np.ndarray
RATIOS = np.abs(np.random.default_rng(3).standard_t(4, 4000)) * 0.27
LEVEL = 0.99


def excess(needs: list[float], spread: float = 0.1) -> Excess:
    return excess_of(np.log(needs), np.full(len(needs), spread), RATIOS)


def cost(path: Array, lines: Excess, start: float, prices: Prices) -> float:
    change = np.diff(np.concatenate([[start], path]))
    moves = prices.rise * np.maximum(change, 0).sum() + prices.fall * np.maximum(-change, 0).sum()
    return float(path.sum() + prices.excess * lines.at(path).sum() + moves)


@pytest.mark.parametrize("needs", [[0.10, 0.16, 0.22], [0.2, 0.15, 0.1], [0.12, 0.12, 0.12]])
@pytest.mark.parametrize("prices", [Prices(100.0), Prices(100.0, rise=2.0, fall=0.5)])
def test_no_path_on_a_grid_is_cheaper(needs: list[float], prices: Prices) -> None:
    lines, start, step = excess(needs), 0.13, 0.02
    path = solve_plan(lines, start, step_rules(start, 3, step=step), prices=prices)
    best = cost(path, lines, start, prices)
    for moves in product(np.linspace(-step, step, 9), repeat=3):
        assert best <= cost(start + np.cumsum(moves), lines, start, prices) + 1e-9


@settings(max_examples=60)
@given(
    needs=st.lists(st.floats(0.03, 0.4), min_size=1, max_size=12),
    start=st.floats(0.03, 0.5),
    step=st.floats(0.001, 0.05),
)
def test_no_move_passes_the_step(needs: list[float], start: float, step: float) -> None:
    path = solve_plan(excess(needs), start, step_rules(start, len(needs), step=step), prices=Prices(100.0))
    change = np.diff(np.concatenate([[start], path]))
    assert (np.abs(change) <= step + 1e-9).all()
    assert ((path >= 0) & (path <= 1)).all()


@settings(max_examples=40)
@given(needs=st.lists(st.floats(0.03, 0.3), min_size=2, max_size=10), start=st.floats(0.05, 0.3))
def test_relative_limits_and_the_range_hold(needs: list[float], start: float) -> None:
    rules = [
        *relative_rules(start, len(needs), rise=0.2, fall=0.1),
        *range_rules(len(needs), floor=0.03, cap=0.6),
    ]
    path = np.concatenate([[start], solve_plan(excess(needs), start, rules, prices=Prices(100.0))])
    ratio = path[1:] / path[:-1]
    assert ((ratio <= 1.2 + 1e-7) & (ratio >= 0.9 - 1e-7)).all()
    assert path[1:].min() >= 0.03 - 1e-9


def test_without_rules_the_plan_is_the_quantile() -> None:
    rules = range_rules(1, floor=0.0, cap=1.0)
    path = solve_plan(excess([0.1], spread=1e-6), 0.2, rules, prices=Prices(1 / (1 - LEVEL)))
    assert path[0] == pytest.approx(0.1 * np.quantile(RATIOS, LEVEL), rel=0.15)


def test_a_plan_rises_before_the_need_does() -> None:
    needs = [0.10] * 4 + [0.25] * 4
    path = solve_plan(excess(needs, 0.01), 0.10, step_rules(0.10, 8, step=0.02), prices=Prices(100.0))
    reactive = 0.10
    assert path[3] > reactive + 0.03


def test_what_was_announced_stays() -> None:
    announced = np.array([0.12, 0.13])
    rules = [*step_rules(0.11, 4, step=0.01), *notice_rules(announced, 4)]
    path = solve_plan(excess([0.3] * 4), 0.11, rules, prices=Prices(100.0))
    np.testing.assert_allclose(path[:2], announced)


def test_an_infeasible_plan_names_the_rules_that_bind() -> None:
    rules = [*step_rules(0.10, 3, step=0.01), *range_rules(3, floor=0.2, cap=0.5)]
    with pytest.raises(InfeasibleScheduleError, match=r"no path from 10\.0000% .*(floor|step up) by"):
        solve_plan(excess([0.1] * 3), 0.10, rules, prices=Prices(100.0))


def test_prices_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="prices must not be negative"):
        Prices(-1.0)


def test_the_piecewise_excess_is_the_mean_over_scenarios_from_below() -> None:
    lines = excess([0.1], spread=0.3)
    rng = np.random.default_rng(5)
    losses = np.exp(np.log(0.1) + 0.3 * rng.standard_normal(40_000)) * rng.choice(RATIOS, 40_000)
    for margin in (0.05, 0.1, 0.2):
        simulated = np.maximum(losses - margin, 0).mean()
        assert lines.at(np.array([margin]))[0] == pytest.approx(simulated, rel=0.15, abs=2e-4)
    assert ((lines.slopes >= -1) & (lines.slopes <= 0)).all()


def test_expected_needs_return_to_the_mean_and_do_not_look_ahead() -> None:
    rng = np.random.default_rng(1)
    logs = np.zeros(900)
    for t in range(1, 900):
        logs[t] = 0.9 * logs[t - 1] + 0.1 * rng.standard_normal()
    need = 0.1 * np.exp(logs)
    mean, spread = expected_needs(need, ahead=(0, 3, 15), window=500)
    high = need > np.quantile(need, 0.9)
    far, near = mean[300:, 2][high[300:]].mean(), np.log(need[300:][high[300:]]).mean()
    assert np.log(0.1) - 0.05 < far < near
    assert spread[-1, 2] > spread[-1, 1]
    for cut in (100, 450, 899):
        short = expected_needs(need[:cut], ahead=(0, 3, 15), window=500)
        np.testing.assert_array_equal(short[0], mean[:cut])
        np.testing.assert_array_equal(short[1], spread[:cut])


def test_no_ratio_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one finite value"):
        excess_of(np.zeros(1), np.zeros(1), np.array([np.nan]))
