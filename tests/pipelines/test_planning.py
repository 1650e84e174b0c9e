"""Haircuts under a target's step limit: small ones can move, its range and what was announced are kept."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.config_collateral import HaircutPair
from calibrator.config_procyclicality import StepConfig
from pipelines.loans import Loan
from pipelines.planning import Planned, planned_haircuts

ROWS = 300
EVERY = 3


def config_of(**margin: Any) -> Config:
    return Config.model_validate({"data": {"source": "embedded", "bar": "1d"}, "margin": margin})


def planned(need: np.ndarray, config: Config, *, borrow: np.ndarray | float = 0.02, **limits: Any) -> Planned:
    index = pd.date_range("2024-01-01", periods=len(need), tz="UTC").as_unit("us").rename("origin")
    loss = need * np.random.default_rng(3).uniform(0.0, 1.1, len(need))
    table = pd.DataFrame(
        {
            "unlimited_long": need,
            "loss_long": loss,
            "loss_known_at": index + pd.Timedelta("1D"),
            "complete": True,
            "regime": 0,
            "borrow": borrow,
        },
        index=index,
    )
    steps = StepConfig.model_validate({"every": EVERY, "steps": 4, "history": 200} | limits)
    pair = HaircutPair(collateral="A", location="x", level=0.99, penalty=0.05, limits=steps)
    return planned_haircuts(table, need, config=config, loan=Loan(pair, bars=1))


def test_a_small_haircut_can_follow_a_depeg() -> None:
    need = np.full(ROWS, 0.0015)
    need[-3 * EVERY :] = 0.0829
    made = planned(need, config_of(plan_steps=3))
    moved = made.published[-3 * EVERY :: EVERY]
    np.testing.assert_allclose(moved, [0.0055, 0.0095, 0.0135], atol=5e-4)
    slow = planned(need, config_of(plan_steps=3, limits={"min_base": 0.0})).published
    assert slow[-1] < 0.003
    assert np.diff(made.published).max() <= 0.2 * 0.02 + 1e-9


def test_what_was_announced_stays_and_the_plan_goes_on_from_it() -> None:
    need = 0.2 + 0.03 * np.sin(np.arange(ROWS) / 15)
    now, later = (planned(need, config_of(plan_steps=3, notice=n)) for n in (0, 7))
    np.testing.assert_allclose(later.published, now.published, atol=3e-4)  # the same haircuts, known earlier
    assert not any(later.refused)
    assert np.abs(np.diff(later.published)).max() <= 0.005 + 1e-12


def test_the_target_range_holds_and_a_need_outside_names_the_rules() -> None:
    need = 0.2 + 0.03 * np.sin(np.arange(ROWS) / 15)
    made = planned(need, config_of(), floor=0.19, cap=0.21)
    assert not any(made.refused)
    assert (made.published.min(), made.published.max()) == (0.19, 0.21)
    need[:40] = 0.4
    late = planned(need, config_of(), cap=0.3)
    assert all("would have to give way: " in why and "cap by 10" in why for why in late.refused[:40])
    assert not any(late.refused[40:])
    assert late.published[40] == pytest.approx(need[40], abs=1e-6)


def test_a_plan_does_not_rise_beyond_what_leaves_something_to_lend() -> None:
    need = np.linspace(0.5, 0.99, ROWS)
    borrow = np.full(ROWS, 0.2)
    made = planned(need, config_of(limits={"max_increase": 1.0}), borrow=borrow, step=0.05)
    highest = Loan(HaircutPair(collateral="A", location="x", penalty=0.05), bars=1).highest(0.2) / 1e6
    assert made.published.max() == pytest.approx(highest, abs=2e-6)
    assert made.published.max() <= highest
    assert not any(made.refused)
    wider = borrow.copy()
    wider[200:] = 0.6
    again = planned(need, config_of(limits={"max_increase": 1.0}), borrow=wider, step=0.05)
    assert (np.diff(again.published[150:]) >= 0).all()  # a wider borrow margin is no reason to loosen
    start = planned(need + 0.49, config_of(), borrow=borrow)
    assert all("ordering by" in why for why in start.refused)


def test_a_range_out_of_order_is_refused() -> None:
    with pytest.raises(ValueError, match=r"floor must be below cap, were 0\.3 and 0\.2"):
        StepConfig(floor=0.3, cap=0.2)
