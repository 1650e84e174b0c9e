"""The margin benchmark on a small world: every policy on the same rows, figures that follow from them."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from pipelines.benchmarks.margin import TOOLS, Part, page, variant, write
from pipelines.benchmarks.margin import _part as part_of
from pipelines.benchmarks.margin_plan import attained
from pipelines.production import Production, produce

SETTINGS = {
    "data": {"source": "embedded", "bar": "1d"},
    "forecast": {
        "horizon": 1, "cadence": 1, "har_window": 250, "garch_window": 250, "learner_seeds": 1,
        "learner_refit": 200, "min_history": 200,
    },
    "regime": {"window": 200, "min_window": 100},
    "margin": {"close_out": 1, "tail_window": 150, "tail_min": 60, "floor_window": 100},
    "haircut": {"limits": {"step": 0.01, "every": 3, "steps": 4, "history": 200}},
}  # fmt: skip


@pytest.fixture(scope="module")
def produced() -> Production:
    bars = synthetic_bars(["A", "B"], periods=900, seed=3, bar="1d")
    nothing = pd.DataFrame(
        {
            "market": pd.Series(dtype="str"),
            "time": pd.Series(dtype="datetime64[us, UTC]"),
            "implied_volatility": pd.Series(dtype="float64"),
        }
    )
    return produce(bars, nothing, config=Config.model_validate(SETTINGS), progress=lambda *_: None)


@pytest.fixture(scope="module")
def part(produced: Production) -> Part:
    return part_of(produced, ["A", "B"], ("A",), lambda *_: None)


def test_the_configured_layer_is_one_of_its_variants(produced: Production) -> None:
    d = produced.decisions["A"]
    neutral = variant(produced.config, d, "long", "limits alone")
    pulled = variant(produced.config, d, "long", "limits and long-run pull")
    assert (neutral <= d.table["margin_long"] + 1e-6).mean() > 0.95
    assert (pulled >= neutral - 1e-6).all()
    assert (variant(produced.config, d, "long", "all tools") >= pulled - 1e-6).all()


def test_every_policy_is_scored_on_the_same_rows(part: Part) -> None:
    table = part.table
    assert {
        "published",
        "unlimited",
        "static",
        "ewma_fhs",
        "historical_simulation",
        "har_fhs",
        *TOOLS,
    } == set(table.index)
    assert (
        table.loc["historical_simulation", ["average / HS", "shortfall / HS", "pinball / HS"]].eq(1.0).all()
    )
    assert table["coverage"].between(0.9, 1.0).all()
    sides = table[["coverage long", "coverage short"]].mean(axis=1)
    np.testing.assert_allclose(sides, table["coverage"], atol=1e-9)
    assert table.loc["published", "1 decision"] <= 0.2 + 1e-9
    assert table.loc["unlimited", "1 decision"] > table.loc["published", "1 decision"]


def test_the_step_limit_is_compared_with_constant_and_unlimited_haircuts(part: Part) -> None:
    assert list(part.plan.index) == ["A, reactive", "A, planned"]
    assert (part.plan["worst phase"] <= part.plan["attained"]).all()
    assert (part.plan["attained"] <= part.plan["best phase"]).all()


def test_a_constant_haircut_attains_nothing_and_the_unlimited_all() -> None:
    rng = np.random.default_rng(1)
    need = rng.uniform(0.05, 0.3, 500)
    loss = need * rng.standard_t(3, 500) / 4
    assert attained(loss, need, np.full(500, 0.7)) == pytest.approx(0.0)
    assert attained(loss, need, 3 * need) == pytest.approx(1.0)


def test_the_page_names_every_policy(part: Part, tmp_path: Path) -> None:
    text = page([part], title="small", made_on=date(2026, 1, 1))
    for name in part.table.index:
        assert f"| {name} |" in text
    files = write([part], home=tmp_path, title="small", made_on=date(2026, 1, 1), docs=tmp_path / "docs")
    assert files["committed table"].read_text() == text
