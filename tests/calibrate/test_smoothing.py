"""The anti-procyclical tools: none lowers a margin, none looks ahead, each does what its name says."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrator.calibrate.smoothing import exhaustible_buffer, long_run_pull, stressed_weight

Array = np.ndarray
Tool = Callable[[Array], Array]
TOOLS: dict[str, Tool] = {
    "long run": lambda m: long_run_pull(m, weight=0.7, share=0.9, window=60),
    "buffer": lambda m: exhaustible_buffer(m, buffer=0.25, window=22),
    "stressed": lambda m: stressed_weight(m, weight=0.25, window=90),
}
OFF: dict[str, Tool] = {
    "long run": lambda m: long_run_pull(m, weight=0.0, share=0.9, window=60),
    "buffer": lambda m: exhaustible_buffer(m, buffer=0.0, window=22),
    "stressed": lambda m: stressed_weight(m, weight=0.0, window=90),
}
every = pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
margins = st.one_of(st.floats(1e-3, 0.9), st.just(float("nan")))
targets = st.integers(1, 120).flatmap(lambda n: arrays(float, n, elements=margins))


@every
@settings(max_examples=100)
@given(target=targets)
def test_no_tool_lowers_a_margin_and_missing_stays_missing(tool: Tool, target: Array) -> None:
    raised = tool(target)
    known = np.isfinite(target)
    assert (raised[known] >= target[known]).all()
    assert np.isfinite(raised[known]).all()


@every
@settings(max_examples=100)
@given(target=targets, cut=st.integers(1, 120))
def test_no_tool_looks_ahead(tool: Tool, target: Array, cut: int) -> None:
    np.testing.assert_array_equal(tool(target[:cut]), tool(target)[:cut])


@every
@settings(max_examples=50)
@given(target=targets, factor=st.floats(1.0, 3.0))
def test_a_wider_tail_never_asks_for_less(tool: Tool, target: Array, factor: float) -> None:
    np.testing.assert_array_less(tool(target), tool(target * factor) * (1 + 1e-9))


@pytest.mark.parametrize("name", OFF)
def test_a_neutral_setting_switches_a_tool_off(name: str) -> None:
    target = np.random.default_rng(1).uniform(0.02, 0.3, 200)
    np.testing.assert_array_equal(OFF[name](target), target)


def test_the_buffer_stands_whole_in_calm_times_and_is_used_up_by_a_rise() -> None:
    target = np.array([0.10] * 30 + [0.125] + [0.30])
    asked = exhaustible_buffer(target, buffer=0.25, window=22)
    assert asked[29] == pytest.approx(0.125)
    assert asked[30] == pytest.approx(0.10 * 1.25, rel=0.02)
    assert asked[31] == 0.30


def test_the_pull_prepares_a_calm_market_for_the_climb() -> None:
    target = np.repeat([0.10, 0.20, 0.05], 100)
    pulled = long_run_pull(target, weight=0.7, share=1.0, window=300)
    mean = np.exp(np.log(target).mean())
    assert pulled[-1] == pytest.approx(0.05**0.3 * mean**0.7)
    assert pulled[150] == 0.20
