"""The GARCH speed benchmark: a complete table, deterministic but for the times, open to more series."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest

from calibrator.data.synthetic import synthetic_bars
from calibrator.forecast.garch_arch import ArchEstimator
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
    own += ["refit_constrained", "refit_lost_next_day"]
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


def test_only_a_chaotic_estimate_is_lost_one_day_later() -> None:
    spx = garch_speed.default_returns(seed=1)["S&P 500"]
    fit = ArchEstimator()(spx[:1000], spec="gjr", errors="t")
    assert garch_speed._lost_next_day(spx, {0: fit}) == 0.0
    wild = dataclasses.replace(fit, spec="egarch", alpha=-1.5, gamma=-1.5, beta=0.99)
    assert garch_speed._lost_next_day(spx, {0: fit, 1: wild}) == 0.5


def test_the_longest_markets_join_the_windows_and_short_ones_do_not() -> None:
    bars = pd.concat(
        [
            synthetic_bars(["short"], periods=2001, seed=1),
            synthetic_bars(["long"], periods=2600, seed=2),
            synthetic_bars(["middle"], periods=2100, seed=3),
        ]
    )
    returns = garch_speed.market_returns(bars, markets=5)
    assert {name: len(r) for name, r in returns.items()} == {"long": 2599, "middle": 2099}
    close = bars.loc[bars["market"] == "long", "close"].to_numpy()
    assert returns["long"][:3] == pytest.approx(100 * np.log(close[1:4] / close[:3]))
