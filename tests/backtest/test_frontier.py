"""The frontier against plain loops; scaling to equal bad debt and equal cost against a grid."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.backtest.comparison import ratio_interval
from calibrator.backtest.frontier import Bootstrap, Outcomes, comparable, frontier, per_day
from calibrator.backtest.kpis import equal_margin_shortfall
from calibrator.backtest.seen import Seen
from calibrator.backtest.trade import trade
from calibrator.errors import DataError

BOOT = Bootstrap(draws=200, seed=1)


@pytest.fixture
def outcomes(losses: pd.DataFrame) -> Outcomes:
    return Outcomes.of(Seen.of(losses))


def _margins(outcomes: Outcomes, seed: int = 5) -> np.ndarray:
    return 0.03 * np.random.default_rng(seed).lognormal(0, 0.3, len(outcomes.rows))


def test_the_table_is_what_a_plain_loop_finds(outcomes: Outcomes) -> None:
    m = _margins(outcomes)
    made = frontier(outcomes, {("a", 0.9): m, ("b", 0.9): 2 * m}, bootstrap=BOOT)
    short = [np.mean([max(0.0, x - h) for x in row]) for row, h in zip(outcomes.loss, m, strict=True)]
    held = [np.mean([x <= h for x in row]) for row, h in zip(outcomes.loss, m, strict=True)]
    row = made.loc[("a", 0.9)]
    assert row["shortfall_bp"] == pytest.approx(1e4 * np.mean(short))
    assert row["coverage"] == pytest.approx(np.mean(held))
    assert row["average_margin"] == pytest.approx(m.mean())
    day = pd.Series(outcomes.loss.max(axis=1)).groupby(outcomes.rows["origin"]).mean().idxmax()
    rest = (outcomes.rows["origin"] != day).to_numpy()
    assert row["shortfall_bp_without_worst_day"] == pytest.approx(1e4 * np.mean(np.array(short)[rest]))
    assert row["shortfall_bp_low"] <= row["shortfall_bp"] <= row["shortfall_bp_high"]
    assert row["coverage_low"] <= row["coverage"] <= row["coverage_high"]
    assert (made.loc[("b", 0.9), "coverage"]) > row["coverage"]


def test_the_interval_is_that_of_the_ratio_of_day_sums(outcomes: Outcomes) -> None:
    """Another implementation of the same bootstrap: the ends agree up to its noise."""
    m = _margins(outcomes)
    row = frontier(outcomes, {("a", 0.9): m}, bootstrap=Bootstrap(draws=2000, seed=3)).iloc[0]
    short = np.maximum(outcomes.loss - m[:, None], 0).mean(axis=1)
    low, high = ratio_interval(short, np.ones(len(short)), outcomes.rows["origin"], draws=2000, seed=4)
    assert row["shortfall_bp_low"] == pytest.approx(1e4 * low, rel=0.03)
    assert row["shortfall_bp_high"] == pytest.approx(1e4 * high, rel=0.03)


def test_only_rows_that_all_policies_share_are_compared(outcomes: Outcomes) -> None:
    m, late = _margins(outcomes), _margins(outcomes, 6)
    late[:100] = np.nan
    late[100] = 0.0
    unknown = Outcomes(outcomes.rows, outcomes.loss.copy())
    unknown.loss[200, 1] = np.nan
    both = {("a", 0.9): m, ("late", 0.9): late}
    assert frontier(unknown, both)["rows"].tolist() == [len(m) - 102] * 2
    with pytest.raises(DataError, match="no row with a positive margin of every policy"):
        comparable(unknown, {("a", 0.9): m * np.nan})


def test_blocks_keep_whole_days_and_their_number() -> None:
    weights = Bootstrap(block=7, draws=50).weights(40)
    assert (weights.sum(axis=1) == 40).all()
    np.testing.assert_allclose(Bootstrap(block=1, draws=4000).weights(5).mean(axis=0), 1.0, atol=0.06)
    assert (Bootstrap(block=99, draws=3).weights(4) == 1).all()
    with pytest.raises(ValueError, match=r"block and draws at least 1, were 0\.9, 0 and 5"):
        Bootstrap(block=0, draws=5)
    sums = per_day(np.arange(6.0).reshape(3, 2), np.array([1, 0, 1]))
    assert sums.tolist() == [[2.0, 3.0], [4.0, 6.0]]


def test_equal_cost_and_equal_debt_solve_their_equations(outcomes: Outcomes) -> None:
    ours, theirs = _margins(outcomes), np.full(len(outcomes.rows), 0.025)
    made = trade(outcomes, ours, theirs, bootstrap=BOOT)
    table = outcomes.rows.assign(theirs=theirs, ours=ours)
    long = pd.concat([outcomes.rows.assign(start=k, loss=outcomes.loss[:, k]) for k in (0, 1, 2)])
    equal = equal_margin_shortfall(table, long, reference="theirs")
    assert made.less_bad_debt == pytest.approx(1 - equal.loc["ours", "relative"])
    scale = (1 - made.less_margin) * theirs.mean() / ours.mean()
    assert np.maximum(outcomes.loss - scale * ours[:, None], 0).mean() * 1e4 == pytest.approx(
        made.shortfall_bp, rel=1e-9
    )
    low, high = made.less_margin_ends
    assert low < made.less_margin < high
    low, high = made.less_bad_debt_ends
    assert low < made.less_bad_debt < high


def test_a_policy_against_itself_gains_nothing(outcomes: Outcomes) -> None:
    m = _margins(outcomes)
    made = trade(outcomes, 3 * m, m, bootstrap=BOOT)
    assert made.less_margin == pytest.approx(0.0, abs=1e-12)
    assert made.less_bad_debt == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose([*made.less_margin_ends, *made.less_bad_debt_ends], 0.0, atol=2e-3)


def test_a_worse_schedule_is_said_to_be_worse(outcomes: Outcomes) -> None:
    volatility = 0.02 * np.exp(0.4 * np.sin(np.tile(np.arange(500), 4) / 30))
    made = trade(outcomes, np.full(len(volatility), 0.04), 2 * volatility, bootstrap=BOOT)
    assert made.less_margin < 0
    assert made.less_bad_debt < 0
    assert made.less_bad_debt_ends[1] < 0


def test_an_incumbent_without_bad_debt(outcomes: Outcomes) -> None:
    most = float(outcomes.loss.max())
    made = trade(outcomes, np.full(len(outcomes.rows), 0.01), np.full(len(outcomes.rows), 2 * most))
    assert made.less_margin == pytest.approx(0.5)
    assert np.isnan(made.less_bad_debt)
    assert made.shortfall_bp == 0


@given(st.floats(0.01, 100.0))
@settings(max_examples=15, deadline=None)
def test_gains_do_not_depend_on_the_scale_of_ours(scale: float) -> None:
    rng = np.random.default_rng(8)
    t = pd.date_range("2024-01-01", periods=60, tz="UTC").as_unit("us")
    seen = Outcomes(pd.DataFrame({"market": "A", "origin": t, "side": "long"}), rng.exponential(1, (60, 2)))
    ours, theirs = rng.lognormal(0, 0.2, 60), np.full(60, 1.5)
    one, other = (trade(seen, ours * c, theirs, bootstrap=Bootstrap(draws=5)) for c in (1.0, scale))
    assert one.less_margin == pytest.approx(other.less_margin, abs=1e-9)
    assert one.less_bad_debt == pytest.approx(other.less_bad_debt, abs=1e-9)
