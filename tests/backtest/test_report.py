"""The summary: plain types, JSON without NaN, and a verdict that names what failed."""

import json

import numpy as np
import pandas as pd
import pytest

from calibrator.backtest.kpis import equal_margin_shortfall, procyclicality
from calibrator.backtest.population import Population
from calibrator.backtest.report import Gates, plain, summary, verdict
from calibrator.backtest.table import coverage_table

ROW = ["market", "origin", "side"]


@pytest.fixture
def tables(
    losses: pd.DataFrame, realized_variance: pd.DataFrame
) -> dict[float, tuple[pd.DataFrame, pd.DataFrame]]:
    """Coverage and KPI tables of a wide and of a narrow margin."""
    out = {}
    for margin in (0.20, 0.03):
        m = losses[ROW].drop_duplicates(ignore_index=True)
        m = m.assign(level=0.99, horizon=20, margin=margin, margin_unlimited=margin)
        table = coverage_table(m, losses, realized_variance=realized_variance, draws=9)
        out[margin] = (table, procyclicality(m))
    return out


def test_summary_survives_json(
    losses: pd.DataFrame, tables: dict[float, tuple[pd.DataFrame, pd.DataFrame]]
) -> None:
    coverage, kpis = tables[0.03]
    p = losses[ROW].drop_duplicates(ignore_index=True).assign(historical_simulation=0.03, ours=0.02)
    replays = pd.DataFrame({"shortfall": [np.float64(1.5)], "liquidations": [np.int64(3)]}, index=["ours"])
    population = Population(pd.DataFrame({"account": ["x"]}), drawn=3, raised=1, refused=2)
    done = summary(
        coverage, kpis, policies=equal_margin_shortfall(p, losses), replays=replays, population=population
    )
    assert json.loads(json.dumps(done, allow_nan=False)) == done
    assert list(done) == ["coverage", "kpis", "policies", "replay", "verdict"]
    assert done["replay"] == {
        "simulated": True,
        "population": {"simulated": True, "drawn": 3, "opened": 1, "raised": 1, "refused": 2},
        "schedules": {"ours": {"shortfall": 1.5, "liquidations": 3}},
    }
    section = done["coverage"]
    assert isinstance(section, dict)
    pooled = section["pooled"][0]
    assert pooled["breaches"] == int(coverage["breaches"].sum())
    assert pooled["coverage"] == pytest.approx(1 - coverage["breaches"].sum() / 6000)
    assert pooled["coverage_high_variance"] == pytest.approx(coverage["coverage_high_variance"].mean())


def test_verdict_passes_a_safe_margin_and_names_what_a_narrow_one_breaks(
    tables: dict[float, tuple[pd.DataFrame, pd.DataFrame]],
) -> None:
    assert verdict(tables[0.20][0], Gates())["status"] == "pass"
    bad = verdict(tables[0.03][0], Gates())
    assert bad["status"] == "review"
    reasons = bad["reasons"]
    assert isinstance(reasons, list)
    assert len(reasons) == 8
    assert reasons[0].startswith("A long at 0.99: ")
    assert "below 0.013" in reasons[0]
    assert "zone red" in reasons[1]


def gate_row(**changes: object) -> pd.DataFrame:
    row = {
        "market": "A", "side": "long", "level": 0.99, "observations": 365, "breaches": 4,
        "excess_p_value": 0.5, "zone": "green", "worst_loss_to_margin": 1.0,
    } | changes  # fmt: skip
    return pd.DataFrame([row])


def test_bonferroni_divides_the_size_by_the_number_of_tests() -> None:
    row = gate_row(excess_p_value=0.03)
    assert verdict(row, Gates())["status"] == "review"
    assert verdict(pd.concat([row, gate_row(market="B")], ignore_index=True), Gates())["status"] == "pass"


def test_a_market_without_observations_is_not_a_pass() -> None:
    silent = gate_row(observations=0, breaches=0, excess_p_value=np.nan, zone=None)
    got = verdict(silent, Gates())
    assert (got["status"], got["reasons"]) == (
        "review",
        ["A long at 0.99: no loss to hold the margin against"],
    )
    assert verdict(gate_row().iloc[:0], Gates())["reasons"] == ["no market was tested"]


def test_a_stricter_zone_gate() -> None:
    assert verdict(gate_row(zone="yellow"), Gates())["status"] == "pass"
    assert verdict(gate_row(zone="yellow"), Gates(zone="yellow"))["status"] == "review"
    assert verdict(gate_row(zone="red"), Gates(zone="yellow"))["status"] == "review"
    with pytest.raises(ValueError, match="size must be between 0 and 1, was 5"):
        Gates(size=5)


def test_replay_of_recorded_accounts_is_not_called_simulated() -> None:
    replays = pd.DataFrame({"shortfall": [1.5]}, index=["ours"])
    done = summary(gate_row(), pd.DataFrame({"max_increase_1": [0.1]}), replays=replays)
    assert done["replay"] == {
        "simulated": False,
        "population": None,
        "schedules": {"ours": {"shortfall": 1.5}},
    }
    assert done["policies"] is None


@pytest.mark.parametrize(
    ("value", "expected"), [(np.bool_(1), True), (np.nan, None), ("x", "x"), (None, None), (-np.inf, None)]
)
def test_plain(value: object, expected: object) -> None:
    assert plain(value) is expected or plain(value) == expected
