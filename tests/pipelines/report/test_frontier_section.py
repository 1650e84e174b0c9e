"""The frontier of a small run: production's own margins at its level, one row set, losers shown."""

import json

import numpy as np
import pandas as pd
import pytest

from calibrator.backtest.comparators import HistoricalSimulation
from calibrator.backtest.seen import Seen
from calibrator.data.incumbents import Incumbent
from calibrator.domain import ChangeLimits
from pipelines.frontier import HELD, OURS, Frontier, frontiers, policies
from pipelines.levels import margins_at
from pipelines.limited import Limited
from pipelines.report.frontier import against_table, frontier_drawing, interval_table, levels_table
from pipelines.report.page import Review, build_report

VENUE = {
    "venue": "elsewhere", "role": "perpetual", "close_out_hours": 24, "source": "here", "field": "f",
    "stated": "2024-01-01", "retrieved": "2024-01-01", "margins": {"BTC": [[0, 40_000], [5_000_000, 80_000]]},
}  # fmt: skip


@pytest.fixture(scope="module")
def against_venues(review: Review) -> list[Frontier]:
    other = VENUE | {"venue": "slower", "close_out_hours": 1}
    lender = VENUE | {"venue": "lender", "role": "collateral", "margins": {"SOL": [[0, 200_000]]}}
    tables = [Incumbent.model_validate(v) for v in (VENUE, other, lender)]
    return frontiers(review.production, review.bars, incumbents=tables)


def test_a_level_passes_through_productions_own_steps(review: Review) -> None:
    made = margins_at(review.production, review.bars, (0.98, 0.99, 0.999))
    own = pd.concat([review.production.margins(), review.production.margins(role="collateral")])
    both = own.merge(made[0.99], on=["market", "origin", "side"], suffixes=("", "_again"))
    assert len(both) == len(own)
    for column in ("margin", "margin_unlimited"):
        np.testing.assert_array_equal(both[column], both[f"{column}_again"])
    rising = [made[x]["margin_unlimited"] for x in (0.98, 0.99, 0.999)]
    assert (rising[0] <= rising[1]).mean() > 0.99
    assert (rising[1] <= rising[2]).mean() > 0.99


def test_every_policy_stands_on_the_same_rows(review: Review) -> None:
    for made in review.backtest.frontier:
        assert (made.table["rows"] == made.table["rows"].iloc[0]).all()
        names = {p.name for p in policies()} | {OURS, "ours_unlimited"}
        assert names <= set(made.table.index.get_level_values("policy"))
        assert set(made.kpis.index) == set(made.table.index.get_level_values("policy"))
        ours = made.table.loc[OURS].sort_index()
        assert ours["average_margin"].is_monotonic_increasing
        assert ours["shortfall_bp"].is_monotonic_decreasing
        assert made.kpis.loc[OURS, "max_increase_1"] <= 0.2 + 1e-9
        assert (made.against["kind"] == "policy").all()
        assert OURS not in made.against.index
    content = json.loads(json.dumps(review.backtest.summary["frontier"], allow_nan=False))
    assert [r["level"] for r in content[review.backtest.frontier[0].label]["levels"][:5]] == [
        0.98, 0.985, 0.99, 0.995, 0.999,
    ]  # fmt: skip


def test_simple_policies_are_also_held_to_our_limits(review: Review) -> None:
    limits = review.production.config.margin.limits.to_domain()
    for made in review.backtest.frontier:
        for name in HELD:
            own = made.kpis.loc[f"{name}, our limits"]
            assert own["max_increase_1"] <= limits.max_increase + 1e-9
            assert own["peak_to_trough"] <= limits.peak_to_trough + 1e-9
            assert f"{name}, our limits" in made.against.index


def test_a_limited_policy_knows_nothing_of_later_decisions() -> None:
    origins = pd.date_range("2024-01-01", periods=60, tz="UTC").as_unit("us")
    rng = np.random.default_rng(3)
    losses = pd.DataFrame(
        {
            "market": "A",
            "origin": origins,
            "side": "long",
            "loss": rng.exponential(0.05, 60),
            "known_at": origins + pd.Timedelta("1D"),
        }
    )
    flags = pd.DataFrame({"whole": rng.random(60) < 0.9, "complete": rng.random(60) < 0.9}, origins)
    policy = Limited(HistoricalSimulation(window=10, min_decisions=3), ChangeLimits(), {"A": flags})
    whole = policy.margins(Seen.of(losses), level=0.9)
    early = Limited(policy.base, policy.limits, {"A": flags.iloc[:40]})
    np.testing.assert_array_equal(early.margins(Seen.of(losses.iloc[:40]), level=0.9), whole[:40])
    falls = whole[4:] < whole[3:-1]
    assert falls.any()
    assert flags["complete"].to_numpy()[4:][falls].all()


def test_a_venue_is_compared_at_its_own_close_out_and_sizes(against_venues: list[Frontier]) -> None:
    rows = pd.concat([f.against for f in against_venues])
    rows = rows[rows["kind"] == "venue"]
    # 10,000 and 1,000,000 lie in the first tier and are one; "slower" closes out in an hour.
    assert list(rows.index) == ["elsewhere, 10,000", "elsewhere, 10,000,000", "lender, 10,000"] or list(
        rows.index
    ) == ["lender, 10,000", "elsewhere, 10,000", "elsewhere, 10,000,000"]
    assert rows.loc["elsewhere, 10,000", "average_margin"] == pytest.approx(0.04)
    assert rows.loc["elsewhere, 10,000,000", "average_margin"] == pytest.approx(0.06)
    assert rows.loc["lender, 10,000", "average_margin"] == pytest.approx(0.2)
    assert (rows["markets"] == 1).all()
    assert (rows["less_bad_debt"].dropna().astype(float) < 1.0 + 1e-9).all()


def test_the_section_shows_figure_and_losers(review: Review, against_venues: list[Frontier]) -> None:
    page = build_report(review)
    for made in review.backtest.frontier:
        drawing = frontier_drawing(made)
        assert f'id="figure-{drawing.name}"' in page
        assert len(levels_table(made.table).rows) == made.table.index.get_level_values("policy").nunique()
        assert any("this proposal" in row[0] for row in interval_table(made).rows)
    lost = [f for f in against_venues for x in f.against["less_margin"] if x < 0]
    shown = "".join(cell for f in lost for row in against_table(f.against).rows for cell in row)
    assert not lost or "-" in shown
    assert all(
        len(r) == len(against_table(f.against).head)
        for f in against_venues
        for r in against_table(f.against).rows
    )


def test_no_levels_no_frontier(review: Review) -> None:
    config = review.production.config
    off = config.model_copy(update={"backtest": config.backtest.model_copy(update={"frontier": ()})})
    changed = type(review.production)(
        off,
        review.production.clock,
        review.production.forecasts,
        review.production.losses,
        review.production.decisions,
    )
    assert frontiers(changed, review.bars) == []


def test_expected_misses_are_listed_by_name_and_source(review: Review) -> None:
    listed = review.backtest.summary["expected_misses"]
    shown = [e for e in review.events(*review.markets) if e.expected_miss]
    assert [x["name"] for x in listed] == [e.name for e in shown]
    assert "USDC depeg" in [e.name for e in shown]
    assert all(x["source"] and x["start"] <= x["end"] for x in listed)
