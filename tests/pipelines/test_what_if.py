"""What-if: other circumstances move the schedule the right way, within its limits, and explain the change."""

import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from calibrator.errors import ConfigError
from pipelines.production import Production, produce
from pipelines.what_if import parse_changes, table_of, what_if

SETTINGS = {
    "data": {"source": "embedded", "bar": "1d"},
    "forecast": {
        "horizon": 1, "cadence": 1, "har_window": 250, "garch_window": 250, "learner_seeds": 1,
        "learner_refit": 400, "min_history": 200,
    },
    "regime": {"window": 200, "min_window": 100},
    "margin": {"close_out": 1, "tail_window": 150, "tail_min": 60, "tiers": [0, 1_000_000]},
    "haircut": {"limits": {"step": 0.005, "every": 3, "steps": 4, "history": 200}},
    "markets": {"B": {"role": "collateral"}},
}  # fmt: skip


@pytest.fixture(scope="module")
def produced() -> Production:
    bars = synthetic_bars(["A", "B"], periods=500, seed=3, bar="1d")
    nothing = pd.DataFrame(
        {
            "market": pd.Series(dtype="str"),
            "time": pd.Series(dtype="datetime64[us, UTC]"),
            "implied_volatility": pd.Series(dtype="float64"),
        }
    )
    return produce(bars, nothing, config=Config.model_validate(SETTINGS), progress=lambda *_: None)


def test_nothing_else_changes_nothing(produced: Production) -> None:
    for answer in what_if(produced, {}):
        assert answer.then_ppm == answer.now_ppm
        assert set(answer.attribution.values()) == {0}


@pytest.mark.parametrize("quantity", ["volatility", "tail"])
def test_more_risk_asks_for_more_and_the_terms_add_up(produced: Production, quantity: str) -> None:
    calm = {a.market: a for a in what_if(produced, {})}
    for answer in what_if(produced, {quantity: 1.5}):
        assert answer.then_ppm >= calm[answer.market].now_ppm
        assert answer.unlimited_ppm == pytest.approx(1.5 * calm[answer.market].unlimited_ppm, rel=1e-5)
        assert sum(answer.attribution.values()) == answer.then_ppm - answer.now_ppm
        assert answer.attribution[quantity] > 0


def test_the_limits_apply_as_they_would(produced: Production) -> None:
    perpetual, collateral = what_if(produced, {"volatility": 5.0})
    assert perpetual.then_ppm <= 1.2 * produced.decisions["A"].margin[-2] * 1e6 + 1
    assert collateral.then_ppm <= (produced.decisions["B"].margin[-2] + 0.005) * 1e6 + 1
    assert perpetual.attribution["constraint"] < 0


def test_less_depth_widens_the_tiers_of_size_only(produced: Production) -> None:
    calm, thin = (next(a for a in what_if(produced, f) if a.market == "A") for f in ({}, {"depth": 0.5}))
    assert thin.tiers_ppm[0] == calm.tiers_ppm[0]
    assert thin.tiers_ppm[1] >= calm.tiers_ppm[1]


def test_the_production_itself_is_left_alone(produced: Production) -> None:
    before = produced.decisions["A"].table.copy()
    what_if(produced, {"volatility": 2.0})
    pd.testing.assert_frame_equal(produced.decisions["A"].table, before)
    assert list(table_of(what_if(produced, {})).index) == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("volatility=50", "must be volatility|tail|depth"),
        ("leverage=+5%", "was 'leverage"),
        ("tail=-100%", "cannot fall by 100"),
        ("", "must be volatility"),
    ],
)
def test_other_spellings_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("|", r"\|")):
        parse_changes([text])
