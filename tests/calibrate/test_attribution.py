"""Every published change is explained to the last ppm, and each term follows what it is named after."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.calibrate.attribution import FIRST, TERMS, Drivers, attribute
from calibrator.domain import PPM

ppms = st.integers(1, PPM)
shares = st.floats(0.0, 0.2)
drivers = st.builds(
    Drivers,
    volatility=st.floats(1e-4, 1.0),
    tail=st.floats(0.1, 20.0),
    goal=st.floats(1e-3, 1.0),
    liquidity=shares,
    concentration=shares,
    held=shares,
)


@settings(max_examples=2_000)
@given(drivers, drivers, ppms, ppms)
def test_the_terms_of_a_change_add_up_exactly(before: Drivers, after: Drivers, old: int, new: int) -> None:
    terms = attribute(before, after, published=(old, new))
    assert tuple(terms) == TERMS
    assert all(isinstance(v, int) for v in terms.values())
    assert sum(terms.values()) == new - old
    model = (after.volatility * after.tail - before.volatility * before.tail) * PPM
    assert terms["volatility"] + terms["tail"] == pytest.approx(model, rel=1e-6, abs=1.1)
    assert terms["volatility"] * (after.volatility - before.volatility) >= 0
    assert terms["tail"] * (after.tail - before.tail) >= 0
    assert terms["liquidity"] * (after.liquidity - before.liquidity) >= 0
    assert terms["regime"] * (after.held - before.held) >= 0


@settings(max_examples=200)
@given(drivers, ppms)
def test_a_first_level_adds_up_too(after: Drivers, value: int) -> None:
    terms = attribute(None, after, published=(0, value))
    assert tuple(terms) == (FIRST, *TERMS[2:])
    assert sum(terms.values()) == value
    assert terms[FIRST] == round(PPM * after.volatility * after.tail)


SAME = Drivers(0.04, 2.5, goal=0.12)
CASES = {
    "nothing": (SAME, {}, (100, 100)),
    "a fatter tail": (Drivers(0.04, 3.0, goal=0.14), {"tail": 20_000}, (120_000, 140_000)),
    "the floor gives way": (Drivers(0.04, 2.5, goal=0.10), {"anti_procyclical": -20_000}, (120_000, 100_000)),
    "a limit holds it back": (
        Drivers(0.04, 3.0, goal=0.14),
        {"tail": 20_000, "constraint": -5_000},
        (120_000, 135_000),
    ),
    "the regime holds it": (
        Drivers(0.04, 2.0, goal=0.10, held=0.02),
        {"tail": -20_000, "regime": 20_000},
        (120_000, 120_000),
    ),
    "size": (Drivers(0.04, 2.5, goal=0.13, liquidity=0.01), {"liquidity": 10_000}, (120_000, 130_000)),
}


@pytest.mark.parametrize("name", CASES)
def test_each_cause_has_its_term(name: str) -> None:
    after, expected, published = CASES[name]
    terms = attribute(SAME, after, published=published)
    assert {k: v for k, v in terms.items() if v} == expected
