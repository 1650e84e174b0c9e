"""What-if: other circumstances move the schedule the right way, within its limits, and explain the change."""

import io
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from calibrator.errors import ConfigError
from pipelines.add_ons import before_crowd, book_of, first_border
from pipelines.production import Production, produce
from pipelines.what_if import changed_decisions, parse_changes, show, table_of, what_if

SETTINGS = {
    "data": {"source": "embedded", "bar": "1d"},
    "forecast": {
        "horizon": 1, "cadence": 1, "har_window": 250, "garch_window": 250, "learner_seeds": 1,
        "learner_refit": 400, "min_history": 200,
    },
    "regime": {"window": 200, "min_window": 100},
    "margin": {"close_out": 1, "tail_window": 150, "tail_min": 60, "tiers": [0, 10_000]},
    "haircut": {"limits": {"step": 0.005, "every": 3, "steps": 4, "history": 200}},
    "markets": {"B": {"role": "collateral"}},
}  # fmt: skip


NOTHING = pd.DataFrame(
    {
        "market": pd.Series(dtype="str"),
        "time": pd.Series(dtype="datetime64[us, UTC]"),
        "implied_volatility": pd.Series(dtype="float64"),
    }
)


@pytest.fixture(scope="module")
def produced() -> Production:
    bars = synthetic_bars(["A", "B"], periods=500, seed=3, bar="1d")
    return produce(bars, NOTHING, config=Config.model_validate(SETTINGS), progress=lambda *_: None)


def test_nothing_else_changes_nothing(produced: Production) -> None:
    for answer in what_if(produced, {}):
        assert answer.then_ppm == answer.now_ppm
        assert set(answer.attribution.values()) == {0}


@pytest.mark.parametrize("quantity", ["volatility", "tail"])
def test_more_risk_asks_for_more_and_the_terms_add_up(produced: Production, quantity: str) -> None:
    calm = {a.market: a for a in what_if(produced, {})}
    for answer in what_if(produced, {quantity: 1.5}):
        assert answer.then_ppm >= calm[answer.market].now_ppm
        most = 1.5 * calm[answer.market].unlimited_ppm  # a fatter tail does not make a close-out dearer
        assert answer.unlimited_ppm == pytest.approx(most, rel=1e-5 if quantity == "volatility" else 0.05)
        assert answer.unlimited_ppm <= most * (1 + 1e-5)
        assert sum(answer.attribution.values()) == answer.then_ppm - answer.now_ppm
        assert answer.attribution[quantity] > 0


def test_the_limits_apply_as_they_would(produced: Production) -> None:
    perpetual, collateral = what_if(produced, {"volatility": 5.0})
    assert perpetual.then_ppm <= 1.2 * produced.decisions["A"].margin[-2] * 1e6 + 1
    assert collateral.then_ppm <= (produced.decisions["B"].margin[-2] + 0.005) * 1e6 + 1
    assert perpetual.attribution["constraint"] < 0


def test_less_depth_widens_what_every_size_is_asked(produced: Production) -> None:
    (calm, loan), (thin, same) = what_if(produced, {}), what_if(produced, {"depth": 0.5})
    assert thin.unlimited_ppm > calm.unlimited_ppm
    assert all(after >= before for after, before in zip(thin.tiers_ppm, calm.tiers_ppm, strict=True))
    assert (same.then_ppm, same.unlimited_ppm) == (loan.then_ppm, loan.unlimited_ppm)


def test_everything_that_a_margin_adds_is_asked_again() -> None:
    stress = {"oracle_delay": 0.5, "jump_level": 0.99, "crowded_share": 0.5}
    raw: dict[str, Any] = SETTINGS | {
        "margin": {"close_out": 1, "tail_window": 150, "tail_min": 60, "stress": stress},
        "haircut": {"oracle_cap": 0.3},
        "markets": {"A": {"open_interest": 1e8}, "B": {"role": "collateral"}},
    }
    bars, config = synthetic_bars(["A", "B"], periods=500, seed=3, bar="1d"), Config.model_validate(raw)
    made = produce(bars, NOTHING, config=config, progress=lambda *_: None)
    for d in made.decisions.values():
        same = changed_decisions(made, d, {})
        pd.testing.assert_frame_equal(same.table, d.table, check_exact=True)
        row, factor = changed_decisions(made, d, {"volatility": 1.5}).table.iloc[-1], 1.5
        book = book_of(d.table.iloc[-1:], d.terms, config=config, clock=made.clock)
        wilder = replace(book, volatility=book.volatility * factor)
        for side in ("long", "short"):
            loss = d.table[f"tail_{side}"].iloc[-1:].to_numpy() * d.table["volatility"].iloc[-1] * factor
            jump = d.table[f"jump_{side}"].iloc[-1:].to_numpy()
            own = before_crowd(loss, jump, wilder, d.terms, config)
            border = first_border(d.terms, config)
            assert row[f"unlimited_{side}"] == pytest.approx(wilder.widen_first(own, border)[0], rel=1e-12)
            assert row[f"shortfall_{side}"] >= row[f"unlimited_{side}"]


def test_the_whole_schedule_is_shown_and_no_figure_is_cut(produced: Production) -> None:
    answers = what_if(produced, {"volatility": 1.5})
    console = Console(width=60, record=True, file=io.StringIO())
    show(answers, console)
    text = console.export_text()
    assert "\u2026" not in text
    perpetual, collateral = answers
    assert len(perpetual.initial_ppm) == len(perpetual.tiers_ppm) == 2
    assert perpetual.initial_ppm[0] > perpetual.tiers_ppm[0]
    ltv, threshold, _ = collateral.lent_ppm
    assert 0 < ltv < threshold < 1_000_000
    assert len(collateral.plan_ppm) == produced.config.margin.plan_steps
    for word in ("loan-to-value", "initial margins by tier", "planned next"):
        assert word in text


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
