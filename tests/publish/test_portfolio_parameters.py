"""The portfolio section: read back as written, left out where there is none, refused when contradictory."""

import json
from collections.abc import Callable

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from calibrator.publish.approval import Approval, moves
from calibrator.publish.changes import changes
from calibrator.publish.document import ParameterDocument, decode, encode, json_schema
from calibrator.publish.portfolio_parameters import PortfolioParameters
from calibrator.publish.tables import show_document

Document = Callable[..., ParameterDocument]
UNDERLYING = {
    "moves_ppm": (-100_000, 0, 90_000),
    "volatility_up_ppm": 300_000,
    "volatility_down_ppm": 200_000,
    "close_out_seconds": 86_400,
    "basis_ppm": 2_000,
    "funding_ppm": 500,
    "naked_option_ppm": 10_000,
    "concentration": (
        {"notional_floor": 0, "add_on_ppm": 0},
        {"notional_floor": 10**18, "add_on_ppm": 5_000},
    ),
}
SECTION = {
    "quote": "USD",
    "initial_multiple_ppm": 1_250_000,
    "term": {"short_power_ppm": 300_000, "long_power_ppm": 130_000, "floor_days": 1},
    "scenarios": tuple(
        {"move": i, "volatility": "up", "elapsed_ppm": 0, "weight_ppm": 1_000_000} for i in range(3)
    ),
    "underlyings": ({"symbol": "BTC", **UNDERLYING}, {"symbol": "ETH", **UNDERLYING}),
    "correlations": ({"first": "BTC", "second": "ETH", "low_ppm": -10_000, "high_ppm": 900_000},),
    "collateral": (
        {"asset": "ETH", "location": "arbitrum", "haircut_ppm": 150_000, "underlying": "ETH"},
        {"asset": "USDC", "location": "mainnet", "haircut_ppm": 0, "underlying": None},
    ),
}


def test_a_document_carries_the_section_and_gives_it_back(make_document: Document) -> None:
    section = PortfolioParameters.model_validate(SECTION)
    written = make_document(portfolio=section)
    payload = encode(written)
    assert decode(payload) == written
    assert PortfolioParameters.of(section.rules()) == section
    Draft202012Validator(json_schema()).validate(json.loads(payload))


def test_a_document_without_the_section_does_not_mention_it(make_document: Document) -> None:
    payload = encode(make_document())
    assert b"portfolio" not in payload
    assert decode(payload).portfolio is None
    Draft202012Validator(json_schema()).validate(json.loads(payload))


def at(index: int, **changes: object) -> dict[str, object]:
    entries = list(SECTION["underlyings"])
    entries[index] = entries[index] | changes
    return {"underlyings": tuple(entries)}


def scenarios(**changes: object) -> dict[str, object]:
    first, *rest = SECTION["scenarios"]
    return {"scenarios": (first | changes, *rest)}


BAD: dict[str, tuple[dict[str, object], str]] = {
    "moves do not rise": (at(0, moves_ppm=(-1, 5, 0)), "BTC: 3 to 64 moves must rise"),
    "no way down": (at(0, moves_ppm=(0, 1, 2)), "BTC: moves must go down, stay and go up"),
    "total loss": (at(0, moves_ppm=(-1_000_000, 0, 1)), "greater than -1000000"),
    "different numbers of moves": (at(1, moves_ppm=(-2, -1, 0, 1)), "same number of moves"),
    "order": ({"underlyings": SECTION["underlyings"][::-1]}, "underlyings must be sorted and unique"),
    "scenario twice": ({"scenarios": SECTION["scenarios"] * 2}, "a scenario is named once"),
    "scenario beyond": (scenarios(move=7), "names a move beyond its 3"),
    "dampened way down": (scenarios(weight_ppm=500_000), "no scenario of full weight goes both ways"),
    "volatility": (scenarios(volatility="sideways"), "'up', 'same' or 'down'"),
    "correlation upside down": (
        {"correlations": ({"first": "BTC", "second": "ETH", "low_ppm": 2, "high_ppm": 1},)},
        "low <= high",
    ),
    "pair out of order": (
        {"correlations": ({"first": "ETH", "second": "BTC", "low_ppm": 0, "high_ppm": 1},)},
        "a pair is spelled in order",
    ),
    "unknown underlying": (
        {"correlations": ({"first": "BTC", "second": "SOL", "low_ppm": 0, "high_ppm": 1},)},
        "'SOL' is not among the underlyings",
    ),
    "collateral twice": ({"collateral": SECTION["collateral"] + SECTION["collateral"]}, "sorted and unique"),
    "haircut above one": (
        {"collateral": (SECTION["collateral"][0] | {"haircut_ppm": 1_000_001},)},
        "less than or equal to 1000000",
    ),
    "add-ons fall": (
        at(
            0,
            concentration=(
                {"notional_floor": 0, "add_on_ppm": 9},
                {"notional_floor": 5, "add_on_ppm": 8},
            ),
        ),
        "add-ons not fall",
    ),
    "initial below maintenance": ({"initial_multiple_ppm": 999_999}, "greater than or equal to 1000000"),
    "float": (at(0, basis_ppm=2_000.5), "valid integer"),
    "unknown key": ({"margin": 1}, "Extra inputs are not permitted"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_contradiction_is_refused_with_its_place(name: str) -> None:
    changes, message = BAD[name]
    with pytest.raises(ValidationError, match=message):
        PortfolioParameters.model_validate(SECTION | changes)


LOOSER: dict[str, tuple[dict[str, object], tuple[str, str, int, int]]] = {
    "fall": (at(0, moves_ppm=(-80_000, 0, 90_000)), ("BTC", "largest fall", 100_000, 80_000)),
    "volatility": (at(1, volatility_up_ppm=1), ("ETH", "volatility up", 300_000, 1)),
    "add-on": (at(1, naked_option_ppm=9_000), ("ETH", "naked options", 10_000, 9_000)),
    "hedge": (
        {"correlations": ({"first": "BTC", "second": "ETH", "low_ppm": 500_000, "high_ppm": 900_000},)},
        ("BTC, ETH", "hedge that does not count", 1_010_000, 500_000),
    ),
    "haircut": (
        {"collateral": (SECTION["collateral"][0] | {"haircut_ppm": 50_000}, SECTION["collateral"][1])},
        ("ETH @ arbitrum", "haircut", 150_000, 50_000),
    ),
    "initial": ({"initial_multiple_ppm": 1_100_000}, ("*", "initial multiple", 1_250_000, 1_100_000)),
}


@pytest.mark.parametrize("name", LOOSER)
def test_a_looser_section_is_a_change_that_loosens_and_needs_approval(
    make_document: Document, name: str
) -> None:
    edit, (market, what, low, high) = LOOSER[name]
    old = make_document(portfolio=PortfolioParameters.model_validate(SECTION))
    new = make_document(portfolio=PortfolioParameters.model_validate(SECTION | edit))
    (found,) = changes(old, new)
    assert (found.market, found.what, found.old, found.new) == (market, f"portfolio: {what}", low, high)
    assert found.tightens is False
    assert changes(new, old)[0].tightens is True
    assert len(moves(old, new, Approval(max_tightening_ppm=10**9, max_loosening_ppm=10_000))) == 1


def test_a_pair_that_appears_loosens_and_a_section_that_appears_is_said(make_document: Document) -> None:
    with_pair = make_document(portfolio=PortfolioParameters.model_validate(SECTION))
    without = make_document(portfolio=PortfolioParameters.model_validate(SECTION | {"correlations": ()}))
    found = changes(without, with_pair)
    assert {(c.old, c.new, c.tightens) for c in found} == {
        (2_000_000, 1_010_000, False),
        (2_000_000, 1_900_000, False),
    }
    first = {"underlyings": SECTION["underlyings"][:1], "correlations": (), "collateral": ()}
    newcomer = make_document(portfolio=PortfolioParameters.model_validate(SECTION | first))
    assert changes(newcomer, with_pair) == []  # nobody held the pair before
    (new,) = changes(make_document(), with_pair)
    assert (new.what, new.tightens) == ("portfolio section is new", None)
    assert changes(with_pair, make_document())[0].what == "portfolio section left out"


def test_show_has_a_table_of_the_section(make_document: Document, capsys: pytest.CaptureFixture[str]) -> None:
    written = make_document(portfolio=PortfolioParameters.model_validate(SECTION))
    show_document(written, checked="checked", now=written.issued_at)
    shown = " ".join(capsys.readouterr().out.split())
    assert "Portfolio margin in USD: 3 scenarios, 1 offsets, 2 collateral assets" in shown
