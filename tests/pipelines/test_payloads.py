"""From a document to a payload; the state file; what who submits it can check."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from calibrator.config import Config, load_config
from calibrator.errors import ConfigError, ConstraintError, PublishError
from calibrator.publish.adapters.aave import PriceCap
from calibrator.publish.adapters.base import Update, header_of
from calibrator.publish.adapters.intent import intent_of
from calibrator.publish.canonical import digest
from calibrator.publish.client import anchor_on_first_use, verify_all
from calibrator.publish.constraints.targets import TARGETS, target
from calibrator.publish.document import (
    CollateralParameters,
    HaircutParameters,
    ParameterDocument,
    PerpetualParameters,
    PlannedHaircut,
    PlannedMargin,
    TierParameters,
    encode,
)
from pipelines.__main__ import app
from pipelines.payloads import check_payload, payloads_for, read_state
from pipelines.protocol_pages import TERMS, capped, index, page, read_terms
from pipelines.publishing import publish_document

DOCS = Path(__file__).parents[2] / "docs" / "protocols"
STATES = DOCS / "states"
ISSUED = datetime(2019, 1, 4, tzinfo=UTC)
DAY = timedelta(days=1)
SAID: dict[str, Any] = {
    "regime": "CALM",
    "stress_probability_ppm": 1,
    "volatility_ppm": 1,
    "status": "fresh",
    "reasons": (),
    "close_out_bars": 5,
    "level_ppm": 990_000,
    "previous_ppm": None,
}


def perpetual(symbol: str, maintenance: int = 60_000, cap: int | None = 30_000_000) -> PerpetualParameters:
    tiers = tuple(
        TierParameters(
            notional_floor=f, initial_margin_ppm=80_000 + i, maintenance_margin_ppm=maintenance + i
        )
        for i, f in enumerate((0, 5_000_000))
    )
    plan = (
        PlannedMargin(
            effective_from=ISSUED + DAY, initial_margin_ppm=81_000, maintenance_margin_ppm=maintenance + 1_000
        ),
    )
    attribution = {"all": maintenance}
    return PerpetualParameters(
        symbol=symbol, margins=tiers, plan=plan, open_interest_cap=cap, attribution=attribution, **SAID
    )


def collateral(debt: str, threshold: int = 750_000, plan: Any = None) -> CollateralParameters:
    haircut = HaircutParameters(
        haircut_ppm=170_000,
        loan_to_value_ppm=700_000,
        liquidation_threshold_ppm=threshold,
        liquidation_penalty_ppm=50_000,
        debt=debt,
        location="demo",
    )
    later = (
        PlannedHaircut(
            effective_from=ISSUED + DAY, loan_to_value_ppm=699_000, liquidation_threshold_ppm=threshold
        ),
    )
    return CollateralParameters(
        symbol="WTI",
        haircut=haircut,
        plan=later if plan is None else plan,
        supply_cap=20_000_000,
        borrow_cap=10_000_000,
        attribution={"all": 170_000},
        **SAID,
    )


def document(**changes: Any) -> ParameterDocument:
    fields: dict[str, Any] = {
        "sequence": 1,
        "protocol": "demo",
        "issued_at": ISSUED,
        "valid_from": ISSUED,
        "expires_at": ISSUED + 7 * DAY,
        "previous_digest": None,
        "config_digest": "0" * 64,
        "data_digest": "0" * 64,
        "model_digests": {},
        "bar_seconds": 86_400,
        "horizon_bars": 5,
        "markets": (perpetual("NASDAQ"), perpetual("SPX"), collateral("SPX"), collateral("USD")),
    }
    return ParameterDocument.model_validate(fields | changes)


def config(name: str, state: Path | None = None, **more: str) -> Config:
    chosen = {"protocol": name, "state": str(state or STATES / f"{name}.json")} | more
    return Config.model_validate({"data": {"source": "embedded", "bar": "1d"}, "publish": {"target": chosen}})


def state_file(folder: Path, name: str, **changes: Any) -> Path:
    raw = json.loads((STATES / f"{name}.json").read_text()) | changes
    path = folder / f"{name}.json"
    path.write_text(json.dumps(raw))
    return path


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_protocol_gets_its_payload_and_it_names_its_document(name: str) -> None:
    made = document()
    payloads = payloads_for(config(name), made)
    assert list(payloads) == [f"payloads/{name}.json"]
    update = target(name)[0].decode(payloads[f"payloads/{name}.json"])
    assert update.header.document == digest(encode(made))
    assert (update.header.protocol, update.header.sequence) == (name, 1)
    assert (update.header.issued_at, update.header.expires_at) == (ISSUED, ISSUED + 7 * DAY)
    assert payloads == payloads_for(config(name), made)


def test_without_a_target_there_is_no_payload() -> None:
    assert (
        payloads_for(Config.model_validate({"data": {"source": "embedded", "bar": "1d"}}), document()) == {}
    )


def test_plan_and_caps_reach_the_intent() -> None:
    intent = intent_of(document())
    now, planned = intent.steps
    assert (now.at, planned.at) == (ISSUED, ISSUED + DAY)
    assert [t.symbol for t in now.loans] == ["WTI/SPX@demo", "WTI/USD@demo"]
    assert [t.cap.open_interest for t in now.perpetuals] == [30_000_000, 30_000_000]
    assert (now.loans[1].cap.supply, now.loans[1].cap.borrow) == (20_000_000, 10_000_000)
    assert planned.loans[1].loan_to_value_ppm == 699_000
    for tier, before in zip(planned.perpetuals[0].tiers, now.perpetuals[0].tiers, strict=True):
        assert tier.maintenance_margin_ppm >= before.maintenance_margin_ppm + 1_000
        assert tier.initial_margin_ppm > tier.maintenance_margin_ppm


def test_a_refused_update_names_protocol_rule_and_market(tmp_path: Path) -> None:
    path = state_file(tmp_path, "gmx-v2", route="keeper")
    with pytest.raises(ConstraintError, match=r"NASDAQ: MIN_COLLATERAL_FACTOR.*rule gmx\.ceiling"):
        payloads_for(config("gmx-v2", path), document())


@pytest.mark.parametrize(
    ("made", "more", "match"),
    [
        ({"chain": "eip155:10"}, {}, r"state of eip155:1, audience eip155:10 \(rule audience\.chain\)"),
        ({}, {"chain": "eip155:10"}, r"audience eip155:10"),
    ],
)
def test_another_chain_is_refused(made: dict[str, Any], more: dict[str, str], match: str) -> None:
    with pytest.raises(ConstraintError, match=match):
        payloads_for(config("aave-v3", **more), document(**made))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "cannot be read"),
        ("{", "Invalid JSON"),
        ('{"protocol": "maker"}', r"chain: Field required \(6 in all\)"),
        (" " * 1_000_001, "larger than 1000000 bytes"),
    ],
)
def test_a_state_file_that_is_none_is_refused(content: str | None, match: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=match):
        payloads_for(config("aave-v3", path), document())


def test_a_wrong_address_in_a_state_file_is_a_typo(tmp_path: Path) -> None:
    path = state_file(tmp_path, "aave-v3", executor="0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")
    with pytest.raises(ConfigError, match=r"executor: .*wrong checksum"):
        payloads_for(config("aave-v3", path), document())


def test_an_unknown_protocol_is_named() -> None:
    with pytest.raises(ConfigError, match=r"must be one of aave-v3, .*, was nobody"):
        payloads_for(config("nobody"), document())


def test_relative_state_paths_start_at_the_configuration(tmp_path: Path) -> None:
    state_file(tmp_path, "maker")
    text = "data: {source: embedded, bar: 1d}\npublish: {target: {protocol: maker, state: maker.json}}\n"
    (tmp_path / "run.yaml").write_text(text)
    loaded = load_config(tmp_path / "run.yaml")
    assert loaded.publish.target is not None
    assert loaded.publish.target.state == tmp_path / "maker.json"
    assert payloads_for(loaded, document())


def test_the_payload_is_signed_with_its_document_and_verified_with_it(tmp_path: Path) -> None:
    made, home = document(), tmp_path / "home"
    assert publish_document(config("maker"), made, home=home, clock=ISSUED)
    anchor_on_first_use(tmp_path / "trusted", home / "published")
    verified = verify_all(home / "published", trusted=tmp_path / "trusted", now=ISSUED)
    assert verified.document == made
    assert verified.targets == payloads_for(config("maker"), made)
    (stored,) = (home / "published" / "targets" / "payloads").glob("*.maker.json")
    stored.write_bytes(stored.read_bytes() + b" ")
    with pytest.raises(PublishError):
        verify_all(home / "published", trusted=tmp_path / "trusted", now=ISSUED)


def test_what_the_target_would_refuse_is_not_published(tmp_path: Path) -> None:
    made, home = document(), tmp_path / "home"
    refused = config("gmx-v2", state_file(tmp_path, "gmx-v2", route="keeper"))
    with pytest.raises(ConstraintError, match=r"gmx\.ceiling"):
        publish_document(refused, made, home=home, clock=ISSUED)
    assert not (home / "published").exists()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "payload.json"
    path.write_bytes(payloads_for(config("aave-v3"), document())["payloads/aave-v3.json"])
    return path


def test_who_submits_can_check_a_payload(published: Path, tmp_path: Path) -> None:
    state = STATES / "aave-v3.json"
    update = check_payload("aave-v3", state, published, at=ISSUED)
    assert len(update.actions) == 2
    with pytest.raises(ConstraintError, match="rule expiry"):
        check_payload("aave-v3", state, published, at=ISSUED + 7 * DAY)
    with pytest.raises(ConstraintError, match=r"rule state\.stale"):
        check_payload("aave-v3", state, published, at=ISSUED + 2 * DAY)
    with pytest.raises(ConstraintError, match=r"rule audience\.route"):
        check_payload("aave-v3", state_file(tmp_path, "aave-v3", route="engine-3.6"), published, at=ISSUED)
    with pytest.raises(ConstraintError, match=r"rule audience\.chain"):
        check_payload("aave-v3", state_file(tmp_path, "aave-v3", chain="eip155:10"), published, at=ISSUED)
    with pytest.raises(PublishError):
        check_payload("maker", STATES / "maker.json", published, at=ISSUED)


def test_the_price_cap_update_of_march_2026_is_refused_as_a_payload_too(tmp_path: Path) -> None:
    at, cap, unit = datetime(2026, 3, 10, 12, tzinfo=UTC), "0x" + "7" * 40, 10**14
    now = int(at.timestamp())
    held = {
        "snapshot_ratio": str(11_572 * unit),
        "snapshot_timestamp": now - 300 * 86_400,
        "growth": 875,
        "market_ratio": str(12_289 * unit),
        "max_rise_bps": 300,
    }
    path = state_file(tmp_path, "aave-v3", price_caps={cap: held}, read_at="2026-03-10T11:00:00Z")
    adapter, _ = target("aave-v3")
    state = read_state(adapter, path)
    intent = intent_of(
        document(issued_at=at, valid_from=at, expires_at=at + DAY, markets=(collateral("USD", plan=()),))
    )
    week_old = PriceCap(to=cap, snapshot_ratio=12_282 * unit, snapshot_timestamp=now - 7 * 86_400, growth=875)
    payload = tmp_path / "payload.json"
    payload.write_bytes(adapter.encode(Update(header_of(adapter, state, intent, at=at), (week_old,))))
    with pytest.raises(ConstraintError, match=r"while its timestamp is taken.*rule aave\.price-cap\.partial"):
        check_payload("aave-v3", path, payload, at=at)


def test_the_command_checks_a_payload(published: Path) -> None:
    arguments = ["protocols", "check", str(published), "--protocol", "aave-v3"]
    arguments += ["--state", str(STATES / "aave-v3.json"), "--as-of", "2019-01-04"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 changes, all of which the target would take" in result.output
    result = CliRunner().invoke(app, [*arguments[:-1], "2019-02-01"])
    assert result.exit_code == 5
    assert "rule expiry" in result.output


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_committed_pages_are_what_their_terms_give(name: str) -> None:
    terms = capped(read_terms(DOCS / TERMS))
    again = "python -m pipelines protocols pages --home home --write-docs"
    assert (DOCS / f"{name}.md").read_text() == page(name, terms, STATES), f"write them again: {again}"


def test_the_index_lists_every_page() -> None:
    assert (DOCS / "README.md").read_text() == index()
    assert {path.stem for path in DOCS.glob("*.md")} == {*TARGETS, "README"}
