"""A seeded 1 % of the fuzz campaign, and proof that it would see a hole."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from calibrator.publish.constraints.rules import Rules
from calibrator.publish.constraints.targets import TARGETS, target
from pipelines.benchmarks import fuzz
from pipelines.benchmarks.fuzzing import campaign as module
from pipelines.benchmarks.fuzzing.campaign import LENDING, PERPETUALS, campaign

STATES = Path(__file__).parents[2] / "docs" / "protocols" / "states"


def test_every_target_is_fuzzed() -> None:
    assert {*LENDING, *PERPETUALS} == set(TARGETS)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_no_pair_that_passes_is_refused_clipped_or_beyond_its_bound(name: str) -> None:
    tally = campaign(name, pairs=1_000, seed=fuzz.SEED, states=STATES)
    assert tally.refused_by_oracle == []
    assert tally.clipped == []
    assert tally.beyond == []
    assert min(tally.both, tally.pairs - tally.both) > 100, "both outcomes must be common"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aave-v3", "refused_by_oracle"),
        ("compound-v3", "refused_by_oracle"),
        ("euler-v2", "refused_by_oracle"),
        ("kamino", "refused_by_oracle"),
        ("dydx-v4", "refused_by_oracle"),
    ],
)
def test_a_simulation_without_rules_is_caught(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, rules = target(name)
    lax: Rules[Any, Any] = Rules(lambda state, _, __: state, rules.effective)
    monkeypatch.setattr(module, "target", lambda _: (adapter, lax))
    tally = campaign(name, pairs=200, seed=1, states=STATES)
    assert len(getattr(tally, kind)) > 20
    assert len(tally.clipped) > 5
    assert tally.violations > 25


def test_the_page_says_what_was_counted(tmp_path: Path) -> None:
    tallies = {"maker": campaign("maker", pairs=50, seed=1, states=STATES)}
    again = {"maker": campaign("maker", pairs=50, seed=1, states=STATES)}
    assert tallies == again
    files = fuzz.write(tallies, home=tmp_path, made_on=date(2026, 1, 1), docs=tmp_path / "docs")
    text = files["docs"].read_text()
    assert "**0 of 50 pairs break the promise.**" in text
    assert "| maker" in text
