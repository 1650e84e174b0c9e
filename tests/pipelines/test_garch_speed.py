"""The GARCH speed benchmark: a complete table, deterministic but for the times, open to more series."""

import itertools

import numpy as np
import pandas as pd
import pytest

from pipelines.benchmarks import garch_speed


@pytest.fixture(scope="module")
def tables() -> list[pd.DataFrame]:
    more = {"simulated t(4)": garch_speed.simulated_returns(nu=4.0, rows=2500, seed=9)}
    return [
        garch_speed.run(more, windows=20, refits=5, seed=3, clock=itertools.count().__next__)
        for _ in range(2)
    ]


def test_the_engines_part_is_deterministic_given_the_clock(tables: list[pd.DataFrame]) -> None:
    own = ["model", "windows", "engine_ms", "not_converged", "refits", "refit_ms", "refit_not_converged"]
    pd.testing.assert_frame_equal(tables[0][own], tables[1][own], check_exact=True)
    gap = (tables[0]["below_arch"] - tables[1]["below_arch"]).abs()
    assert gap.max() <= 0.05  # SLSQP inside arch does not always stop at the same bit


def test_every_model_is_there_and_no_likelihood_is_missing(tables: list[pd.DataFrame]) -> None:
    table = tables[0].set_index("model")
    assert table.index.tolist() == ["garch_normal", "garch_t", "gjr_t", "egarch_t", "gjr_skewt"]
    assert table.notna().all(axis=None)
    assert table["windows"].eq(20).all()
    assert table["below_arch"].eq(0).all()
    assert table["refit_below_arch"].eq(0).all()
    assert table["forecast_gap_99"].max() < 0.02
    assert table["same_optimum"].min() >= 0.5


def test_ratios_come_from_the_clock(tables: list[pd.DataFrame]) -> None:
    # a clock that ticks once per reading: both estimators take one tick per batch
    assert tables[0]["ratio"].eq(1.0).all()
    assert np.allclose(tables[0]["refit_ratio"], 5 / 1)
