"""Stress tests and sensitivities of a run: recomputed the long way, and what the pack says of them."""

import json
import re
import shutil
import subprocess
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from calibrator.config import Config
from calibrator.config_challenge import SensitivityConfig
from calibrator.errors import ConfigError, DataError
from pipelines.backtesting import in_window
from pipelines.capital import capital
from pipelines.knobs import KNOBS, UNMOVED, moved, value_of, variants
from pipelines.loading import check_scenarios
from pipelines.production import Production
from pipelines.report.page import Review, build_report
from pipelines.report.validation import PACK, Pack, build_pack
from pipelines.sensitivity import Sensitivity, entries_of, sensitivity
from pipelines.stress import Stress, stress_tests
from pipelines.validation import Validation

BROWSER = shutil.which("chromium")


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


def with_mode(production: Production, **settings: object) -> Production:
    config = production.config
    chosen = config.backtest.sensitivity.model_copy(update=settings)
    changed = config.backtest.model_copy(update={"sensitivity": chosen})
    return replace(production, config=config.model_copy(update={"backtest": changed}))


def sections(config: BaseModel, prefix: str) -> list[str]:
    out = []
    for name in type(config).model_fields:
        value = getattr(config, name)
        place = f"{prefix}.{name}"
        out += sections(value, place) if isinstance(value, BaseModel) else [place]
    return out


def test_every_parameter_of_the_calibration_is_moved_or_says_why_not() -> None:
    """A new setting of margins or haircuts cannot be forgotten here."""
    config = Config.model_validate({"data": {"source": "embedded", "bar": "1d"}})
    known = {k.name for k in KNOBS} | set(UNMOVED)
    assert set(sections(config.margin, "margin") + sections(config.haircut, "haircut")) == known
    assert not {k.name for k in KNOBS} & set(UNMOVED)


def test_each_variant_differs_from_the_run_in_its_parameter_alone(review: Review) -> None:
    config = review.production.config
    found = list(variants(config, roles=frozenset({"perpetual", "collateral"})))
    assert len(found) == 2 * len(KNOBS)
    for v in found:
        if v.config is None:
            assert v.why
            continue
        assert value_of(v.config, v.knob.name) == v.after != v.before
        back = v.config.model_dump()
        *path, last = v.knob.name.split(".")
        section = back
        for part in path:
            section = section[part]
        section[last] = v.before
        assert back == config.model_dump(), v.knob.name


def test_what_a_market_sets_for_itself_is_moved_as_well() -> None:
    config = Config.model_validate(
        {
            "data": {"source": "embedded"},
            "markets": {"A": {"close_out": 10}, "B": {"role": "collateral", "level": 0.98}},
            "haircut": {
                "close_out": 12,
                "pairs": [{"collateral": "B", "location": "x", "close_out": 6, "settlement": 2}],
            },
        }
    )
    by_name = {k.name: k for k in KNOBS}
    slow = moved(config, by_name["margin.close_out"], 1)
    assert slow is not None
    assert (slow.margin.close_out, slow.haircut.close_out) == (48, 24)
    assert (slow.markets["A"].close_out, slow.haircut.pairs[0].close_out) == (20, 12)
    strict = moved(config, by_name["margin.level"], 1)
    assert strict is not None
    assert strict.markets["B"].level == 0.99
    waits = moved(config, by_name["haircut.settlement"], 1)
    assert waits is not None
    assert (waits.haircut.settlement, waits.haircut.pairs[0].settlement) == (1, 4)


@pytest.fixture(scope="module")
def full(review: Review) -> Sensitivity:
    """Everything moved, on everything."""
    every = with_mode(review.production, mode="full")
    found = sensitivity(every, review.backtest, review.bars, progress=silent)
    assert found is not None
    return found


def test_the_base_of_a_full_table_is_what_was_published(review: Review, full: Sensitivity) -> None:
    """Nothing moved, nothing sampled: the margins are bit for bit those of the run."""
    config = review.production.config
    assert not full.sampled
    assert full.entries == tuple(review.production.decisions)
    roles = {m: d.terms.role for m, d in review.production.decisions.items()}
    held = review.backtest.margins
    held = held[(held["side"] == "long") | (held["market"].map(roles) == "perpetual")]
    losses = in_window(review.production.losses, config).merge(
        held[["market", "origin", "side", "margin"]], on=["market", "origin", "side"]
    )
    known = losses.dropna(subset="loss")
    assert full.losses == len(known)
    assert full.base["coverage"] == pytest.approx((known["loss"] <= known["margin"]).mean(), abs=1e-12)
    short = np.maximum(known["loss"] - known["margin"], 0.0)
    assert full.base["shortfall_bp"] == pytest.approx(1e4 * short.mean(), rel=1e-12)
    pairs = losses.drop_duplicates(["market", "origin", "side"])
    assert full.base["average_margin"] == pytest.approx(pairs["margin"].mean(), rel=1e-12)
    table = full.table.set_index(["parameter", "direction"])
    strict, loose = (table.loc["margin.level", d] for d in (1, -1))
    assert strict.average_margin > full.base["average_margin"] > loose.average_margin
    assert strict.coverage >= full.base["coverage"] >= loose.coverage
    slower = table.loc["margin.limits.max_increase", -1]
    assert slower.largest_increase == pytest.approx(0.1, abs=1e-3)
    assert full.base["largest_increase"] == pytest.approx(0.2, abs=1e-3)


def test_limits_alone_reuse_the_tails_and_give_what_the_long_way_gives(
    review: Review, full: Sensitivity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One variant of each stage, decided again from its own configuration as a run would."""
    monkeypatch.setattr("pipelines.sensitivity.variants", lambda *_, **__: iter(()))
    for name, direction in (("margin.limits.max_increase", -1), ("margin.tail_window", -1)):
        (knob,) = [k for k in KNOBS if k.name == name]
        changed = moved(review.production.config, knob, direction)
        assert changed is not None
        again = with_mode(replace(review.production, config=changed), mode="full")
        other = sensitivity(again, review.backtest, review.bars, progress=silent)
        assert other is not None
        row = full.table.set_index(["parameter", "direction"]).loc[name, direction]
        for measure in ("average_margin", "coverage", "shortfall_bp", "largest_increase", "top_tier"):
            assert row[measure] == pytest.approx(other.base[measure], rel=1e-3), (name, measure)


def test_a_sample_says_so_and_off_means_off(review: Review, checked: Validation) -> None:
    few = sensitivity(
        with_mode(review.production, entries=1, refit=28), review.backtest, review.bars, progress=silent
    )
    assert few is not None
    assert few.sampled
    assert len(few.entries) == 1
    assert few.summary()["of"] == len(review.production.decisions)
    assert (
        sensitivity(with_mode(review.production, mode="off"), review.backtest, review.bars, progress=silent)
        is None
    )
    assert checked.sensitivity is not None
    json.dumps(checked.summary(), allow_nan=False)


def test_the_sample_takes_turns_between_groups(review: Review) -> None:
    chosen = entries_of(review.production, review.backtest, SensitivityConfig(entries=2))
    roles = {review.production.decisions[m].terms.role for m in chosen}
    assert roles == {"perpetual", "collateral"}
    everything = entries_of(review.production, review.backtest, SensitivityConfig(losses=1))
    assert len(everything) == 1  # at least one, however small the budget


def test_stress_of_the_run_is_consistent_with_its_margins(review: Review, checked: Validation) -> None:
    stress: Stress = checked.stress
    worst = stress.windows.groupby(["market", "side"])["loss"].max()
    held = review.backtest.margins
    held = held[held["origin"] > held.groupby("market")["origin"].transform("min")]
    expected = held.groupby(["market", "side"])["loss"].max()
    pd.testing.assert_series_equal(worst, expected.loc[worst.index], check_names=False)
    by_market = stress.volatility.set_index("market")
    for market, d in review.production.decisions.items():
        row = by_market.loc[market]
        assert row["margin"] == d.margin[-1]
        assert row["covered"] <= row["next"] <= row["last"]
        assert row["next"] * row["unlimited"] <= d.margin[-1] * 1.2 + 1e-5
    every, first = (stress.breaks[f"long {name}"] for name in ("every", "first"))
    assert every.distance >= first.distance > 0
    kinds = stress.scenarios["kind"].tolist()
    assert kinds == ["price", "price", "price", "volatility", "depth"]
    fall = stress.scenarios.iloc[2]
    margins = np.array([d.margin[-1] for d in review.production.decisions.values()])
    assert fall["uncovered"] == np.mean(margins < 0.3)
    assert fall["shortfall"] == pytest.approx(np.maximum(0.3 - margins, 0).mean())


def test_the_tails_are_tested_on_every_market_and_side(review: Review, checked: Validation) -> None:
    roles = {m: d.terms.role for m, d in review.production.decisions.items()}
    expected = {
        (m, s) for m, r in roles.items() for s in (["long"] if r == "collateral" else ["long", "short"])
    }
    assert set(zip(checked.tails["market"], checked.tails["side"], strict=True)) == expected
    tails = in_window(review.production.tails(), review.production.config)
    both = tails.merge(
        in_window(review.production.losses, review.production.config), on=["market", "origin", "side"]
    )
    for r in checked.tails.itertuples():
        own = both[(both["market"] == r.market) & (both["side"] == r.side)].dropna(subset="loss")
        beyond = own[own["loss"] > own["quantile"]]
        assert (r.observations, r.breaches) == (len(own), len(beyond))
        ratio = (beyond["loss"] / beyond["expected_shortfall"]).to_numpy()
        assert r.mean_excess == pytest.approx(ratio.mean())
        assert r.z1 == pytest.approx(1 - ratio.mean())
        assert r.z2 == pytest.approx(1 - ratio.sum() / (len(own) * 0.01))


def with_moves(production: Production, moves: dict[str, dict[str, float]]) -> Production:
    config = production.config
    changed = config.backtest.model_copy(
        update={"stress": config.backtest.stress.model_copy(update={"moves": moves})}
    )
    return replace(production, config=config.model_copy(update={"backtest": changed}))


def test_a_configured_move_is_a_scenario(review: Review) -> None:
    production = with_moves(review.production, {"crash": {"BTCUSDT": -0.5, "*": -0.1}})
    funds = capital(production, review.backtest, review.bars)
    table = stress_tests(production, review.backtest, funds).scenarios.set_index("scenario")
    assert table.loc["crash", "largest_move"] == 0.5
    assert table.loc["crash", "owed"] > 0
    assert table.loc["crash", "share_of_fund"] == pytest.approx(
        table.loc["crash", "owed"] / funds.buffer["fund"]
    )  # type: ignore[index]


@pytest.mark.parametrize("rest", [{}, {"BTCUSDT": -0.5}, {"*": -0.1}])
def test_a_scenario_for_a_market_that_the_run_does_not_have_is_refused(
    review: Review, rest: dict[str, float]
) -> None:
    production = with_moves(review.production, {"crash": {"BTCUSD": -0.5} | rest})
    there = r"there are <b>&\$x_1\$, BTCUSDT, SOLUSDT"
    late = rf"backtest\.stress\.moves\.crash: market 'BTCUSD' has no margin in this run; {there}"
    with pytest.raises(DataError, match=late):
        stress_tests(production, review.backtest, capital(production, review.backtest, review.bars))
    early = rf"backtest\.stress\.moves\.crash: no market 'BTCUSD' is calibrated; {there}"
    with pytest.raises(ConfigError, match=early):
        check_scenarios(production.config, set(review.bars["market"]))


PAIRS = [{"collateral": "ETH", "location": "one"}, {"collateral": "ETH", "debt": "BTC", "location": "two"}]


@pytest.mark.parametrize(
    ("name", "known"),
    [("ETH", True), ("ETH/USD@one", True), ("ETH/BTC@two", True), ("ETH/BTC", True), ("EUR", False)],
)
def test_a_scenario_may_name_a_market_a_pair_or_its_series(name: str, known: bool) -> None:  # noqa: FBT001
    config = Config.model_validate(
        {
            "data": {"source": "embedded"},
            "haircut": {"pairs": PAIRS},
            "markets": {"ETH": {"role": "collateral"}, "EUR": {"role": "reference"}},
            "backtest": {"stress": {"moves": {"x": {name: -0.2}}}},
        }
    )
    refused = pytest.raises(
        ConfigError, match=f"moves.x: no market '{name}' is calibrated; there are BTC, ETH"
    )
    with nullcontext() if known else refused:
        check_scenarios(config, {"BTC", "ETH", "EUR"})


@pytest.fixture(scope="module")
def pack(review: Review, checked: Validation) -> Pack:
    return build_pack(review, checked)


def test_the_pack_has_every_part_and_asks_nothing_of_the_network(pack: Pack) -> None:
    parts = re.findall(r'<section id="([a-z]+)">', pack.page)
    assert parts == [
        "checklist", "purpose", "data", "method", "limitations", "outcomes", "benchmarks", "sensitivity",
        "stress", "review",
    ]  # fmt: skip
    links = set(re.findall(r'(?:href|src)="([^"]*)"', pack.page))
    assert {x for x in links if not x.startswith("#")} == {"report.html"}
    assert {x[1:] for x in links if x.startswith("#")} <= set(re.findall(r'id="([^"]*)"', pack.page))
    for name in ("tornado", "worst-windows", "breaking-volatility"):
        assert f'id="figure-{name}"' in pack.page
    assert "http://" not in re.sub(r'xmlns(:xlink)?="[^"]*"|<!DOCTYPE[^>]*>', "", pack.page)
    assert "SR 26-2" in pack.page


def test_the_pack_is_the_same_twice_and_escapes_names(
    review: Review, checked: Validation, pack: Pack
) -> None:
    assert build_pack(review, checked).page == pack.page
    assert "<b>&$" not in pack.page
    assert "&lt;b&gt;&amp;$" in pack.page
    assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"<svg.*?</svg>", "", pack.page, flags=re.DOTALL))


def test_the_pack_counts_its_checklist_and_says_that_it_is_a_sample(pack: Pack, checked: Validation) -> None:
    assert checked.sensitivity is not None
    for status in ("pass", "fail", "not applicable"):
        count = sum(c.status == status for c in pack.checks)
        assert f"{count} {status}</span>" in pack.page
    assert 'id="sampled"' in pack.page
    json.dumps(pack.summary(), allow_nan=False)


def test_the_report_links_to_the_pack_only_where_there_is_one(review: Review) -> None:
    assert f'href="{PACK}"' in build_report(review, drawings=None, pack=PACK)
    assert PACK not in build_report(review, drawings=None)


def test_switched_off_the_sensitivities_are_left_out(review: Review, checked: Validation) -> None:
    made = build_pack(review, replace(checked, sensitivity=None))
    assert "Switched off for this run" in made.page
    off = [c for c in made.checks if c.area == "sensitivity"]
    assert [c.status for c in off] == ["not applicable"] * 2


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="needs Debian's chromium")
def test_a_browser_shows_the_pack_and_repairs_nothing(pack: Pack, tmp_path: Path) -> None:
    page = tmp_path / "validation.html"
    page.write_text(pack.page, encoding="utf-8")
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
        "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    understood = done.stdout.decode()
    for tag in ("<figure", "<svg", "<table", "<tr", "<td", "<section", "<li>", "<path"):
        assert understood.count(tag) == pack.page.count(tag), tag
