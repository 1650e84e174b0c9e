"""The portfolio section of a run: it follows from the decisions; what is not known is not offset."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import Result

from calibrator.config_portfolio import PortfolioConfig
from calibrator.domain import PPM
from calibrator.portfolio.account import Account, Holding, Position, assess
from calibrator.portfolio.contracts import Contract
from calibrator.publish.document import CollateralParameters, ParameterDocument, PerpetualParameters, decode
from pipelines.portfolio import eased, ranges
from pipelines.portfolio_book import STRATEGIES, example_book, netting

Finished = tuple[Path, Result]
Command = Callable[..., Result]


@pytest.fixture(scope="module")
def document(finished: Finished) -> ParameterDocument:
    (found,) = (finished[0] / "home" / "runs").glob("*/parameters.json")
    return decode(found.read_bytes())


def test_a_run_publishes_rules_for_every_market(document: ParameterDocument) -> None:
    assert document.portfolio is not None
    rules = document.portfolio.rules()
    assert [u.symbol for u in rules.underlyings] == [m.symbol for m in document.markets]
    assert len(rules.scenarios) == 31
    assert {(c.first, c.second) for c in rules.correlations} == {
        ("AAA", "BBB"),
        ("AAA", "OIL"),
        ("BBB", "OIL"),
    }
    assert all((c.low_ppm, c.high_ppm) == (0, PPM) for c in rules.correlations)


def test_a_position_alone_asks_what_the_schedule_asks(document: ParameterDocument) -> None:
    assert document.portfolio is not None
    rules = document.portfolio.rules()
    for m in document.markets:
        own = rules.underlying(m.symbol)
        inner = [x for i, x in enumerate(own.moves_ppm) if 2 <= i <= 10]
        if isinstance(m, PerpetualParameters):
            assert max(-inner[0], inner[-1]) == m.value_ppm
            asked = assess(Account("a", (Position(Contract(m.symbol, "perpetual", 1.0), -1.0),), ()), rules)
            assert asked.maintenance is not None
            assert asked.maintenance.core == pytest.approx(inner[-1] / PPM, abs=1e-5)
            tiers = [(t.notional_floor, t.maintenance_margin_ppm - m.value_ppm) for t in m.margins]
            assert [(t.notional_floor, t.add_on_ppm) for t in own.concentration] == tiers


def test_collateral_carries_the_haircut_of_the_document(document: ParameterDocument) -> None:
    assert document.portfolio is not None
    (oil,) = (m for m in document.markets if isinstance(m, CollateralParameters))
    rules = document.portfolio.rules()
    held = Account("a", (), (Holding("OIL", oil.haircut.location, 10.0, 100.0),))
    assert assess(held, rules).equity == pytest.approx(1000 * (1 - oil.value_ppm / PPM))


def test_the_report_shows_what_netting_saves_and_that_the_book_is_simulated(finished: Finished) -> None:
    (page,) = (finished[0] / "home" / "runs").glob("*/report.html")
    text = page.read_text()
    section = text[text.index('<section id="portfolio">') : text.index('<section id="stress">')]
    assert "SIMULATED book: netting saves" in section
    assert section.count("<svg") == 1
    assert all(f">{name}</td>" in section for name in (*STRATEGIES, "all accounts"))


def test_the_waterfall_adds_up(document: ParameterDocument) -> None:
    assert document.portfolio is not None
    rules = document.portfolio.rules()
    prices, volatility = (
        dict.fromkeys(("AAA", "BBB", "OIL"), 100.0),
        dict.fromkeys(("AAA", "BBB", "OIL"), 0.6),
    )
    held, strategy = example_book(rules, prices, volatility, accounts=500)
    made = netting(rules, held, strategy)
    assert made.portfolio == pytest.approx(made.alone - made.within - made.across + made.add_ons)
    assert min(made.within, made.across) > 0
    assert 0 < made.saved < 1
    assert made.compression["directional"][1] == pytest.approx(0.0, abs=1e-9)
    assert made.compression["carry"][1] > 0.8
    blind = netting(replace(rules, correlations=()), held, strategy)
    assert blind.across == pytest.approx(0.0, abs=1e-6)
    assert blind.portfolio > made.portfolio


def test_shifts_and_offsets_loosen_no_faster_than_margins(document: ParameterDocument) -> None:
    assert document.portfolio is not None
    rules = document.portfolio.rules()
    nervous = tuple(replace(u, volatility_up_ppm=2 * u.volatility_up_ppm) for u in rules.underlyings)
    before = replace(rules, underlyings=nervous, correlations=())
    made = eased(before, rules, 0.05)
    for last, now in zip(nervous, made.underlyings, strict=True):
        assert now.volatility_up_ppm == pytest.approx(0.95 * last.volatility_up_ppm, abs=1)
    assert {(c.low_ppm, c.high_ppm) for c in made.correlations} == {(-900_000, PPM)}
    for _ in range(20):
        made = eased(made, rules, 0.05)
    assert made == rules
    assert eased(rules, before, 0.05).underlyings == nervous  # what tightens does so at once
    newcomer = replace(rules, underlyings=rules.underlyings[1:], correlations=rules.correlations[2:])
    assert eased(newcomer, rules, 0.05) == rules


def test_a_pair_without_common_history_is_not_offset() -> None:
    rng = np.random.default_rng(9)
    index = pd.date_range("2021-01-01", periods=600, tz="UTC")
    both = rng.normal(size=600)
    returns = pd.DataFrame({"A": both, "B": both + rng.normal(size=600) / 10, "C": np.nan}, index=index)
    returns.loc[index[-50:], "C"] = 0.01
    made = ranges(returns, PortfolioConfig(hedge=0.9, diversification=0.9))
    assert [(c.first, c.second) for c in made] == [("A", "B")]
    assert 800_000 < made[0].low_ppm <= 900_000
    assert ranges(returns[["A"]], PortfolioConfig()) == ()


def test_a_run_without_the_section_leaves_it_out_and_bad_settings_are_refused(
    place: Path, command: Command
) -> None:
    bad = {
        "portfolio.hedge=1": "hedge must not exceed",
        "portfolio.levels=[0.9,0.5]": "levels must rise",
        "portfolio.extended=[[0.5,0.3]]": "multiples must rise",
        "portfolio.correlation_window=5": "greater than or equal to 100",
    }
    for setting, message in bad.items():
        extra = ["--set", "portfolio.diversification=0.5"] if "hedge" in setting else []
        ended = command(
            "run", "--config", place / "run.yaml", "--home", place / "h", "--set", setting, *extra
        )
        assert ended.exit_code == 2
        assert message in " ".join(ended.output.split())
    assert json.loads(json.dumps(PortfolioConfig().model_dump(mode="json")))["enabled"] is True
