"""Trailing sums and extremes against pandas, and their indifference to what comes later."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.rolling import rolling_max, rolling_min, rolling_sum, rolling_sums

Rolling = Callable[[np.ndarray, int], np.ndarray]
FUNCTIONS: dict[str, Rolling] = {"sum": rolling_sum, "max": rolling_max, "min": rolling_min}
series = st.lists(
    st.one_of(st.floats(-1e3, 1e3), st.sampled_from([float("nan"), float("inf"), -float("inf"), 0.0])),
    max_size=40,
)
every = pytest.mark.parametrize("name", FUNCTIONS)


@every
@settings(max_examples=60, deadline=None)
@given(series, st.integers(1, 45))
def test_equals_pandas(name: str, values: list[float], window: int) -> None:
    array = np.array(values, float)
    expected = getattr(pd.Series(array).rolling(window), name)().to_numpy()
    # extremes are exact; a sum of two running totals is as good as their size allows
    np.testing.assert_allclose(FUNCTIONS[name](array, window), expected, rtol=0, atol=1e-9 * (name == "sum"))


@settings(max_examples=40, deadline=None)
@given(series, st.lists(st.integers(1, 45), min_size=1, max_size=5))
def test_several_windows_are_the_single_ones(values: list[float], windows: list[int]) -> None:
    array = np.array(values, float)
    together = rolling_sums(array, windows)
    assert together.shape == (len(windows), len(array))
    for own, window in zip(together, windows, strict=True):
        np.testing.assert_array_equal(own, rolling_sum(array, window))


@every
@settings(max_examples=40, deadline=None)
@given(series, st.integers(1, 20), st.integers(0, 40))
def test_the_past_does_not_depend_on_the_future(
    name: str, values: list[float], window: int, cut: int
) -> None:
    array = np.array(values, float)
    whole, seen = (FUNCTIONS[name](x, window) for x in (array, array[:cut]))
    np.testing.assert_array_equal(seen, whole[:cut])


@every
def test_every_other_value_of_a_longer_array_is_read_as_it_is(name: str) -> None:
    array = np.random.default_rng(4).normal(size=101)
    seen = FUNCTIONS[name](array[::2], 5)
    np.testing.assert_array_equal(seen, FUNCTIONS[name](array[::2].copy(), 5))


@every
@pytest.mark.parametrize("window", [0, -3])
def test_a_window_below_one_is_refused(name: str, window: int) -> None:
    with pytest.raises(ValueError, match=f"window must be at least 1, was {window}"):
        FUNCTIONS[name](np.ones(3), window)
