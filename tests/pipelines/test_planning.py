"""Haircuts under a target's step limit: small ones can move."""

from typing import Any

import numpy as np
import pandas as pd

from calibrator.config import Config
from calibrator.config_collateral import HaircutPair
from calibrator.config_procyclicality import StepConfig
from pipelines.loans import Loan
from pipelines.planning import Planned, planned_haircuts

ROWS = 300
EVERY = 3


def config_of(**margin: Any) -> Config:
    return Config.model_validate({"data": {"source": "embedded", "bar": "1d"}, "margin": margin})


def planned(need: np.ndarray, config: Config, **limits: Any) -> Planned:
    index = pd.date_range("2024-01-01", periods=len(need), tz="UTC").as_unit("us").rename("origin")
    loss = need * np.random.default_rng(3).uniform(0.0, 1.1, len(need))
    table = pd.DataFrame(
        {
            "unlimited_long": need,
            "loss_long": loss,
            "loss_known_at": index + pd.Timedelta("1D"),
            "complete": True,
            "regime": 0,
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
