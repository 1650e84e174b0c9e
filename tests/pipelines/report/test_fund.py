"""Caps, ladder and fund on a whole run: they conform, say what they are, never loosen when depth is lost."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from calibrator.calibrate.ladder import build_ladder, ladder_table
from calibrator.config_buffer import BufferConfig
from calibrator.config_collateral import HaircutConfig
from calibrator.domain import PPM
from calibrator.errors import InfeasibleScheduleError
from calibrator.frames import EXPOSURES, PER_UNIT, conform
from calibrator.publish.document import ParameterDocument, decode, encode
from pipelines.capital import Capital, capital, joint_losses
from pipelines.document import Identity, build_document
from pipelines.exposures import exposure_of, exposures, units
from pipelines.lending import lending, with_refusals
from pipelines.production import Production
from pipelines.report.page import Review, build_report

FUND = 2_000_000.0


def funded(production: Production, **haircut: float) -> Production:
    update = {"buffer": BufferConfig(fund=FUND, draws=200), "haircut": HaircutConfig.model_validate(haircut)}
    made = replace(production, config=production.config.model_copy(update=update))
    single = made.config.haircut.single
    pairs = {m: single(m) if d.pair else None for m, d in made.decisions.items()}
    return replace(made, decisions={m: replace(d, pair=pairs[m]) for m, d in made.decisions.items()})


@pytest.fixture(scope="module")
def production(review: Review) -> Production:
    return funded(review.production)


@pytest.fixture(scope="module")
def made(review: Review, production: Production) -> Capital:
    return capital(production, review.backtest, review.bars)


def document(
    production: Production, review: Review, previous: ParameterDocument | None = None
) -> ParameterDocument:
    identity = Identity("c" * 64, "d" * 64, {})
    at = review.document.issued_at
    return build_document(production, as_of=at, stale=set(), previous=previous, identity=identity)


def without_depth(production: Production) -> Production:
    blind = {}
    for market, d in production.decisions.items():
        table = d.table.copy()
        table.loc[table.index[-1], "turnover"] = np.nan
        blind[market] = replace(d, table=table)
    return replace(production, decisions=blind)


def test_without_a_fund_there_are_no_caps_and_the_document_has_its_old_bytes(review: Review) -> None:
    caps = exposures(review.production)
    assert caps[["open_interest_cap", "supply_cap", "borrow_cap"]].isna().all(axis=None)
    assert caps.loc[caps["role"] == "collateral", "manipulation_bound"].gt(0).all()
    assert b"_cap" not in encode(review.document)
    assert b"least_liquidation" not in encode(review.document)


def test_every_cap_is_published_and_read_back(review: Review, production: Production) -> None:
    published = decode(encode(document(production, review)))
    caps = exposures(production).set_index(["market", "role"])
    for market in published.markets:
        row = caps.loc[(market.symbol, market.role)]
        if market.role == "perpetual":
            assert market.open_interest_cap == row["open_interest_cap"] > 0
        else:
            assert market.supply_cap == row["supply_cap"] <= row["manipulation_bound"]
            assert market.borrow_cap == market.supply_cap * market.haircut.loan_to_value_ppm // PPM


def test_a_lost_depth_never_raises_a_cap(review: Review, production: Production) -> None:
    before, blind = document(production, review), without_depth(production)
    for d in production.decisions.values():
        seen, lost = exposure_of(production, d), exposure_of(blind, blind.decisions[d.market])
        assert (seen.degraded, lost.degraded) == (False, True)
        for name in ("open_interest_cap", "supply_cap", "borrow_cap"):
            assert (getattr(lost, name) or 0) <= (getattr(seen, name) or 0)
    again = document(blind, review, before)
    for old, new in zip(before.markets, again.markets, strict=True):
        for name in ("open_interest_cap", "supply_cap", "borrow_cap"):
            if getattr(old, name, None) is not None:
                assert getattr(new, name) <= getattr(old, name)
    never = {m: replace(d, table=d.table.assign(turnover=np.nan)) for m, d in production.decisions.items()}
    held = document(replace(production, decisions=never), review, before)
    caps = [getattr(m, "open_interest_cap", None) or m.supply_cap for m in held.markets]
    assert caps == [getattr(m, "open_interest_cap", None) or m.supply_cap for m in before.markets]


@pytest.mark.parametrize(
    ("costs", "dust"), [({"gas": 50.0, "auction": 0.1}, True), ({"slippage": 0.08, "auction": 0.5}, False)]
)
def test_the_penalty_pays_the_liquidator(review: Review, costs: dict[str, float], dust: bool) -> None:  # noqa: FBT001 - a column of the table
    production = funded(review.production, **costs)
    (d,) = (d for d in production.decisions.values() if d.terms.role == "collateral")
    lent = lending(production.config, d)(float(d.margin[-1]))
    move = float(d.margin[-1]) * np.sqrt(costs["auction"])
    least = costs.get("slippage", 0.005) + costs.get("gas", 0.0) / 10_000 + move
    assert lent.liquidation_penalty_ppm == int(np.ceil(max(0.05, least) * PPM - 1e-6))
    size = exposure_of(production, d).least_liquidation
    assert (size is not None) == dust
    assert size is None or 0 < size <= 10_000


def test_risk_per_unit_agrees_with_the_decisions(review: Review) -> None:
    frame = conform(units(review.production), PER_UNIT, source="test")
    for market, d in review.production.decisions.items():
        own = frame[(frame["market"] == market) & (frame["side"] == "long")]
        posted = 1.0
        if d.terms.role == "perpetual":
            posted = review.production.tiers(d)[1][-1, 0] / PPM
            assert (own["delta_adjusted_collateral"] == 1.0).all()
        else:
            assert own["delta_adjusted_collateral"].iloc[-1] == pytest.approx(
                1 - d.table["shortfall_long"].iloc[-1]
            )
        assert own["value_at_risk"].iloc[-1] == pytest.approx(d.table["unlimited_long"].iloc[-1] / posted)
        assert own["risk_weight"].iloc[-1] == pytest.approx(12.5 * d.table["shortfall_long"].iloc[-1])


def test_the_fund_is_sized_reversed_and_marked(made: Capital, production: Production) -> None:
    conform(made.exposures, EXPOSURES, source="test")
    assert made.buffer is not None
    shown = json.loads(json.dumps(made.summary(), allow_nan=False))
    buffer = shown["buffer"]
    assert shown["simulated"] is True
    cover = buffer["cover"]
    assert 0 <= cover["two_largest_historical"] <= cover["with_crowded_side_historical"] <= cover["required"]
    assert cover["required"] == max(
        cover["with_crowded_side_historical"], *cover["hypothetical_with_crowded_side"].values()
    )
    assert buffer["reverse_stress"]["shortfall"] >= FUND * (1 - 1e-6)
    assert buffer["reverse_stress"]["standard_deviations"] > 0
    assert buffer["simulated"] is None or buffer["simulated"]["information_only"] is True
    assert all(e["hours_to_exhaustion"] is None or e["lowest_balance"] < 0 for e in buffer["exhaustion"])
    _, losses = joint_losses(production, [m for m, d in production.decisions.items() if d.pair is None])
    assert np.isfinite(losses).all()


def test_every_rung_restores_the_initial_margin_before_the_breach(
    made: Capital, production: Production
) -> None:
    fee = production.config.buffer.fee
    perpetual = {m for m, d in production.decisions.items() if d.terms.role == "perpetual"}
    assert set(made.rungs["market"]) == perpetual
    for r in made.rungs.to_dict("records"):
        maintenance, initial = (x[-1] for x in production.tiers(production.decisions[r["market"]]))
        tier = production.config.margin.tiers.index(r["notional_floor"])
        assert maintenance[tier] < r["threshold_ppm"] < r["restores_ppm"] == initial[tier]
        ratio, part = r["threshold_ppm"] / PPM, r["fraction_ppm"] / PPM
        assert (ratio - fee * part) / (1 - part) >= r["restores_ppm"] / PPM - 1e-12
    assert made.summary()["rungs"]


def test_the_ladder_is_the_one_that_is_built_and_acts_before_the_breach(made: Capital) -> None:
    assert made.ladder is not None
    once, ladder = made.ladder.loc["all_at_once"], made.ladder.loc["ladder"]
    assert once["partial_closings"] == 0 < ladder["partial_closings"]
    assert once["accounts"] == ladder["accounts"]
    assert ladder["liquidations"] <= once["liquidations"]
    margins = np.array([50_000, 80_000, 10_000, 900_000])
    table = ladder_table(margins, margins * 5 // 4, rungs=3, cost=0.01)
    for i, margin in enumerate(margins.tolist()):
        rungs = [
            (r.threshold_ppm, r.fraction_ppm)
            for r in build_ladder(margin, margin * 5 // 4, rungs=3, cost=0.01).rungs
        ]
        assert list(zip(*(t[:, i].tolist() for t in table), strict=True)) == rungs


def test_a_margin_without_room_has_no_rungs() -> None:
    thresholds, fractions = ladder_table(
        np.array([50_000, 50_000]), np.array([50_001, 9_000]), rungs=3, cost=0.01
    )
    assert not thresholds.any()
    assert not fractions.any()


def test_the_page_shows_caps_fund_and_ladder_as_simulated(review: Review, made: Capital) -> None:
    page = build_report(replace(review, capital=made))
    for text in (
        "Exposure caps, capital buffer",
        "smallest joint move that exhausts the fund",
        "by the ladder",
        "for",
    ):
        assert text in page
    assert "Exposure caps" not in build_report(review)


def test_scenarios_need_every_market(review: Review, production: Production) -> None:
    markets = [m for m, d in production.decisions.items() if d.pair is None]
    short = production.losses[
        ~((production.losses["market"] == markets[0]) & (production.losses.index % 2 == 0))
    ]
    origins, losses = joint_losses(replace(production, losses=short.reset_index(drop=True)), markets)
    assert len(origins) == len(losses) < len(joint_losses(production, markets)[0])
    empty = replace(production, losses=production.losses.iloc[:0])
    few = capital(
        replace(empty, losses=production.losses.groupby(["market", "side"]).head(5)),
        review.backtest,
        review.bars,
    )
    assert few.buffer is None
    assert isinstance(few.ladder, pd.DataFrame)


def test_caps_and_fund_stress_the_same_things(production: Production) -> None:
    d = next(d for d in production.decisions.values() if d.terms.role == "perpetual")
    plain_cap = exposure_of(production, d).open_interest_cap
    assert plain_cap is not None
    for section, changes in (
        ("buffer", {"fee": 0.05}),
        ("buffer", {"stress": 3.0}),
        ("margin", {"stress": production.config.margin.stress.model_copy(update={"volatility": 4.0})}),
        ("margin", {"stress": production.config.margin.stress.model_copy(update={"depth": 4.0})}),
    ):
        part = getattr(production.config, section).model_copy(update=changes)
        stricter = replace(production, config=production.config.model_copy(update={section: part}))
        less = exposure_of(stricter, d).open_interest_cap
        assert less is not None
        assert less < plain_cap, (section, changes)
    (found,) = {m.stress_move for m in (exposure_of(production, d), exposure_of(production, d, entries=1))}
    losses = production.losses[production.losses["market"] == d.market]
    worst = losses.loc[losses["known_at"] <= d.table.index[-1], "loss"].max()
    assert found >= production.config.buffer.stress * worst


def test_a_held_entry_keeps_its_share_of_the_fund(review: Review, production: Production) -> None:
    before = document(production, review)
    gone = next(iter(production.decisions))
    rest = replace(production, decisions={m: d for m, d in production.decisions.items() if m != gone})
    after = {m.key: m for m in document(rest, review, before).markets}
    assert after[production.decisions[gone].key].status == "held"
    for market in before.markets:
        for name in ("open_interest_cap", "supply_cap"):
            assert getattr(after[market.key], name, None) == getattr(market, name, None)


def test_places_share_what_moving_a_price_is_worth(production: Production) -> None:
    (d,) = (d for d in production.decisions.values() if d.terms.role == "collateral")
    alone = exposure_of(production, d).manipulation_bound
    assert alone is not None
    pairs = [production.config.haircut.single(d.market).model_copy(update={"location": x}) for x in "ab"]
    twice = {f"{d.market}@{p.location}": replace(d, pair=p) for p in pairs}
    shared = replace(production, decisions=twice)
    bounds = [exposure_of(shared, one).manipulation_bound for one in twice.values()]
    assert bounds == [pytest.approx(alone / 2)] * 2


def test_a_fund_counts_what_a_debt_is_worth(production: Production) -> None:
    (d,) = (d for d in production.decisions.values() if d.terms.role == "collateral")
    dollars = exposure_of(production, d)
    # The same collateral against a debt of 200 dollars a unit.
    table = d.table.assign(debt_price=200.0, turnover=d.table["turnover"] / 200)
    coins = exposure_of(production, replace(d, table=table))
    for name in ("supply_cap", "borrow_cap"):
        assert getattr(coins, name) == pytest.approx(getattr(dollars, name) / 200, abs=1)
    unknown = exposure_of(production, replace(d, table=table.assign(debt_price=np.nan)))
    assert (unknown.supply_cap, unknown.borrow_cap) == (None, None)


def test_an_infeasible_haircut_is_held_or_left_out_and_stops_nothing(review: Review) -> None:
    production = funded(review.production)
    (oil,) = (d for d in production.decisions.values() if d.terms.role == "collateral")
    wide = replace(oil, table=oil.table.assign(margin_long=0.98))
    refused = replace(production, decisions=production.decisions | {oil.market: wide})
    fresh = document(refused, review)
    assert oil.key not in {m.key for m in fresh.markets}
    assert len(fresh.markets) == len(production.decisions) - 1
    before = document(production, review)
    held = {m.key: m for m in document(refused, review, before).markets}
    assert held[oil.key].status == "held"
    assert "no schedule is feasible: loan_to_value must be positive" in held[oil.key].reasons[0]
    assert held[oil.key].haircut == {m.key: m for m in before.markets}[oil.key].haircut
    assert all(m.status == "fresh" for k, m in held.items() if k != oil.key)
    caps = exposures(refused).set_index("role")
    named = ["open_interest_cap", "supply_cap", "borrow_cap", "manipulation_bound", "least_liquidation"]
    assert caps.loc["collateral", named].isna().all()
    assert "leave nothing to lend" in caps.loc["collateral", "reason"]
    assert (caps.loc["perpetual", "reason"] == "-").all()
    found = with_refusals(review.findings, refused.config, refused.decisions)
    assert found.iloc[-1][["market", "rule"]].tolist() == [oil.market, "infeasible schedule"]
    assert with_refusals(review.findings, production.config, production.decisions) is review.findings
    made = capital(refused, review.backtest, review.bars)
    page = build_report(replace(review, production=refused, document=fresh, findings=found, capital=made))
    assert "infeasible schedule" in page
    assert "leave nothing to lend" in page


def test_a_run_without_any_feasible_schedule_says_which(review: Review) -> None:
    production = funded(review.production)
    (oil,) = (d for d in production.decisions.values() if d.terms.role == "collateral")
    alone = {oil.market: replace(oil, table=oil.table.assign(margin_long=0.98))}
    with pytest.raises(
        InfeasibleScheduleError, match=r"no market has a feasible schedule at .*loan_to_value"
    ):
        document(replace(production, decisions=alone), review)
