"""Floors at several levels from one moving window: the bits of the plain loop, level by level."""

import numpy as np
import pytest

from calibrator.calibrate.floors import long_run_floors_at
from calibrator.calibrate.procyclicality import long_run_floor


@pytest.mark.parametrize(("starts", "lag", "window"), [(1, 1, 50), (3, 1, 40), (1, 5, 60), (2, 80, 60)])
def test_one_window_for_all_levels_is_the_plain_loop(starts: int, lag: int, window: int) -> None:
    rng = np.random.default_rng(starts + lag)
    x = np.round(rng.standard_t(3, (400, starts)), 2)  # ties
    x[rng.random(x.shape) < 0.05] = np.nan
    known = np.arange(400) + lag + rng.integers(0, 3, 400)
    known[-9:] = 400
    known[100] = 10_000  # never
    levels = (0.5, 0.95, 0.99, 0.999)
    got = long_run_floors_at(x, known, share=0.75, levels=levels, window=window, least=20)
    options = {"share": 0.75, "window": window, "least": 20}
    for i, level in enumerate(levels):
        np.testing.assert_array_equal(got[:, i], long_run_floor(x, known, level=level, **options))
    assert np.isfinite(got).any() == (lag < window)


def test_no_history_is_no_floor() -> None:
    none = np.full((5, 1), np.nan)
    got = long_run_floors_at(none, np.arange(1, 6), share=1.0, levels=(0.9,), window=3, least=0)
    assert np.isnan(got).all()
