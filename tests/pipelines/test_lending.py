"""What is lent against a collateral: never more on degraded input, never faster than its target allows."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.calibrate.procyclicality import limit
from calibrator.config import Config
from calibrator.domain import HaircutSchedule, Regime
from pipelines.lending import lending, lent_ahead, lent_history
from pipelines.production import Decisions

CASES = settings(max_examples=400, deadline=None)
STEP, EVERY = 0.005, 3
STEPPED = {"limits": {"step": STEP, "every": EVERY}}
ROWS = 8


def config_of(haircut: dict[str, Any]) -> Config:
    return Config.model_validate(
        {
            "data": {"source": "embedded", "bar": "1d"},
            "margin": {"close_out": 1, "tools": {"hold": "stress"}, "tiers": [0, 10_000, 50_000, 200_000]},
            "haircut": haircut,
            "markets": {"C": {"role": "collateral"}},
        }
    )


def decided(config: Config, wanted: list[float], table: dict[str, Any]) -> Decisions:
    """Decisions whose haircuts obey their own limits, as the calibration publishes them."""
    index = pd.date_range("2024-01-01", periods=len(wanted), tz="UTC").as_unit("us").rename("origin")
    frame = pd.DataFrame(table, index=index)
    free = frame["complete"].to_numpy(bool) & (frame["regime"].to_numpy(int) < Regime.STRESS)
    target, steps = np.array(wanted), config.haircut.limits
    if steps is None:
        published = limit(
            target, np.zeros(len(target)), limits=config.margin.limits.to_domain(), complete=free
        )
    else:
        published = np.ceil(target * 1e6) / 1e6
        for t in range(1, len(target)):
            reach = steps.step if t % steps.every == 0 else 0.0
            published[t] = published[t - 1] + np.clip(target[t] - published[t - 1], -reach * free[t], reach)
    frame["margin_long"] = published.round(6)
    path = np.repeat(frame["margin_long"].to_numpy()[:, None], 4, axis=1)
    return Decisions("C", config.market("C"), frame, path, pair=config.haircut.single("C"))


CONFIGS = [config_of(h) for h in ({}, STEPPED, {"penalty": 0.2}, {"slippage": 0.1} | STEPPED)]


@CASES
@given(st.sampled_from(CONFIGS), st.integers(0, 2**32))
def test_what_is_lent_never_rises_on_degraded_input_nor_moves_faster_than_its_target(
    config: Config, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    wanted = rng.uniform(0.05, 0.6) + rng.uniform(-2 * STEP, 2 * STEP, ROWS).cumsum()
    complete, regime = rng.random(ROWS) < 0.7, rng.integers(0, 3, ROWS)
    table = {"borrow": rng.uniform(0.0, 0.3, ROWS), "complete": complete, "regime": regime}
    d = decided(config, wanted.tolist(), table)
    history = lent_history(config, d)
    assert len(history) == ROWS
    seen = [(t, s) for t, s in enumerate(history) if isinstance(s, HaircutSchedule)]
    for (_, before), (t, after) in pairwise(seen):
        move = after.loan_to_value_ppm - before.loan_to_value_ppm
        if not complete[t] or regime[t] == Regime.STRESS:
            assert move <= 0
        if config.haircut.limits is not None and len(seen) == ROWS:
            assert abs(move) <= (STEP * 1e6 if t % EVERY == 0 else 0)
            assert abs(after.liquidation_threshold_ppm - before.liquidation_threshold_ppm) <= STEP * 1e6
    if seen and seen[-1][0] == ROWS - 1:
        now = seen[-1][1]
        assert lending(config, d)(float(d.margin[-1])) == now
        for before, after in pairwise([now, *lent_ahead(config, d, now)]):
            assert abs(after.loan_to_value_ppm - before.loan_to_value_ppm) <= (
                STEP * 1e6 if config.haircut.limits else 1e6
            )
            assert complete[-1] or after.loan_to_value_ppm <= now.loan_to_value_ppm


def test_a_wider_borrow_margin_lowers_what_is_lent_by_a_step_at_a_time() -> None:
    config = config_of(STEPPED)
    table = {"borrow": [0.02] + [0.04] * 9, "complete": True, "regime": 0}
    d = decided(config, [0.2] * 10, table)
    lent = [s.loan_to_value_ppm for s in lent_history(config, d) if isinstance(s, HaircutSchedule)]
    assert np.diff(lent).tolist() == [0, 0, -5000, 0, 0, -5000, 0, 0, -5000]
    now = lending(config, d)(0.2)
    ahead = [s.loan_to_value_ppm for s in lent_ahead(config, d, now)]
    assert np.diff([now.loan_to_value_ppm, *ahead]).tolist() == [0, 0, -5000, 0]


@pytest.mark.parametrize("haircut", [{}, STEPPED])
def test_a_history_cut_off_is_the_history_of_what_was_known(haircut: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    config = config_of(haircut)
    wanted = (0.2 + 0.004 * rng.normal(size=60).cumsum()).clip(0.05, 0.5).tolist()
    table = {
        "borrow": rng.uniform(0.01, 0.1, 60),
        "complete": rng.random(60) < 0.8,
        "regime": rng.integers(0, 3, 60),
    }
    d = decided(config, wanted, table)
    history = lent_history(config, d)
    for t in (0, 1, 17, 59):
        cut = replace(d, table=d.table.iloc[: t + 1], path=d.path[: t + 1])
        assert lending(config, cut)(float(d.margin[t])) == history[t]
