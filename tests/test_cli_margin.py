"""`calibrator margin`: an account's requirement from a published document alone."""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from calibrator.cli import main
from calibrator.portfolio.account import assess
from calibrator.portfolio.account_file import read_account
from calibrator.publish.document import (
    ParameterDocument,
    PerpetualParameters,
    TierParameters,
    decode,
    encode,
)
from calibrator.publish.keys import create_keys
from calibrator.publish.portfolio_parameters import PortfolioParameters
from calibrator.publish.repository import publish

ISSUED = datetime(2025, 6, 1, tzinfo=UTC)
UNDERLYING = {
    "moves_ppm": (-200_000, -100_000, -50_000, 0, 50_000, 90_000, 200_000),
    "volatility_up_ppm": 300_000,
    "volatility_down_ppm": 200_000,
    "close_out_seconds": 86_400,
    "basis_ppm": 2_000,
    "funding_ppm": 500,
    "naked_option_ppm": 10_000,
    "concentration": (),
}
SECTION = PortfolioParameters.model_validate(
    {
        "quote": "USD",
        "initial_multiple_ppm": 1_250_000,
        "term": {"short_power_ppm": 300_000, "long_power_ppm": 130_000, "floor_days": 1},
        "scenarios": (
            *(
                {"move": i, "volatility": v, "elapsed_ppm": 0, "weight_ppm": 1_000_000}
                for i in range(1, 6)
                for v in ("up", "same", "down")
            ),
            *({"move": i, "volatility": "up", "elapsed_ppm": 0, "weight_ppm": 350_000} for i in (0, 6)),
        ),
        "underlyings": ({"symbol": "BTC", **UNDERLYING}, {"symbol": "ETH", **UNDERLYING}),
        "correlations": ({"first": "BTC", "second": "ETH", "low_ppm": 0, "high_ppm": 1_000_000},),
        "collateral": ({"asset": "USDC", "location": "mainnet", "haircut_ppm": 0, "underlying": None},),
    }
)
ACCOUNT = {
    "account": "[bold]alice",
    "as_of": "2025-06-02T00:00:00Z",
    "positions": [
        {"underlying": "BTC", "kind": "perpetual", "quantity": 1, "price": 100_000, "entry": 99_000},
        {"underlying": "ETH", "kind": "perpetual", "quantity": -40, "price": 2_500},
    ],
    "collateral": [{"asset": "USDC", "location": "mainnet", "quantity": 20_000, "price": 1}],
}


def document(portfolio: PortfolioParameters | None) -> ParameterDocument:
    market = PerpetualParameters(
        symbol="BTC",
        regime="CALM",
        stress_probability_ppm=10_000,
        volatility_ppm=30_000,
        status="fresh",
        reasons=(),
        close_out_bars=24,
        level_ppm=990_000,
        previous_ppm=None,
        attribution={"volatility": 100_000},
        margins=(
            TierParameters(notional_floor=0, initial_margin_ppm=125_000, maintenance_margin_ppm=100_000),
        ),
        plan=(),
    )
    return ParameterDocument(
        sequence=1,
        protocol="demo",
        issued_at=ISSUED,
        valid_from=ISSUED,
        expires_at=ISSUED + timedelta(days=7),
        previous_digest=None,
        config_digest="0" * 64,
        data_digest="0" * 64,
        model_digests={},
        bar_seconds=3_600,
        horizon_bars=24,
        markets=(market,),
        portfolio=portfolio,
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    payload = encode(document(SECTION))
    (tmp_path / "parameters.json").write_bytes(payload)
    (tmp_path / "plain.json").write_bytes(encode(document(None)))
    (tmp_path / "account.json").write_text(json.dumps(ACCOUNT))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["calibrator", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_every_number_follows_from_document_and_account(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create_keys(place / "keys")
    publish(place, (place / "parameters.json").read_bytes(), now=ISSUED, metadata_life=timedelta(days=7))
    printed = []
    for source in ("parameters.json", "published", "."):
        assert run(monkeypatch, "margin", "account.json", source, "--json") == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]
    found = json.loads(printed[0])
    section = decode((place / "parameters.json").read_bytes()).portfolio
    assert section is not None
    account, _ = read_account((place / "account.json").read_bytes(), source="account.json")
    made = assess(account, section.rules())
    long, short = 0.10 * 100_000, 0.09 * 100_000
    assert (
        found["maintenance_requirement"]
        == made.required
        == pytest.approx((long**2 + short**2) ** 0.5 + 0.0005 * 200_000)
    )
    assert found["initial_requirement"] == pytest.approx(1.25 * made.required)
    assert found["equity"] == 21_000.0
    assert found["binding"]["ETH"] == "ETH +9.00%, volatility up"
    assert sum(c["share"] for c in found["contributions"]) == pytest.approx(made.required)
    assert found["warning"] is None


def test_the_tables_say_what_binds_and_who_needs_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.is_dir()
    assert run(monkeypatch, "margin", "account.json", "parameters.json") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        "Account [bold]alice",
        "13,5",
        "covered; liquidated by",
        "binding: BTC -10.00%",
        "ETH perpetual",
    ):
        assert text in shown


def test_a_document_out_of_its_time_is_used_and_said_to_be(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "late.json").write_text(json.dumps(ACCOUNT | {"as_of": "2025-06-08T00:00:00Z"}))
    assert run(monkeypatch, "margin", "late.json", "parameters.json") == 0
    assert "expired at 2025-06-08 00:00 UTC: stale" in capsys.readouterr().out


BAD = {
    "no section": (ACCOUNT, "plain.json", 8, "document 1 has no portfolio section"),
    "unknown underlying": (
        ACCOUNT | {"positions": [{"underlying": "DOGE", "kind": "perpetual", "quantity": 1, "price": 1}]},
        "parameters.json",
        3,
        "unknown underlying 'DOGE': the rules know BTC, ETH",
    ),
    "unknown place": (
        ACCOUNT | {"collateral": [{"asset": "USDC", "location": "moon", "quantity": 1, "price": 1}]},
        "parameters.json",
        3,
        "USDC at moon: no haircut",
    ),
    "empty": (ACCOUNT | {"positions": [], "collateral": []}, "parameters.json", 3, "the book is empty"),
    "missing file": (ACCOUNT, "nothing.json", 8, "nothing.json cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_margined_ends_with_one_line_and_its_code(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    account, source, code, message = BAD[name]
    (place / "bad.json").write_text(json.dumps(account))
    assert run(monkeypatch, "margin", "bad.json", source) == code
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
