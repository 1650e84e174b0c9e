"""Grids: what forecasts give, fixed ones in their published shape, files; and the volatility surface."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibrator.domain import PPM
from calibrator.errors import DataError
from calibrator.netting import PortfolioRules
from calibrator.portfolio.contracts import Contract, table
from calibrator.portfolio.fixed_grids import exchange_24, read_grid, span_16
from calibrator.portfolio.grid import grid, risk_arrays
from calibrator.portfolio.requirement import requirement
from calibrator.portfolio.scenarios import (
    forecast_correlations,
    inner_shares,
    price_moves,
    scenarios,
    stressed_correlations,
    volatility_shifts,
)
from calibrator.portfolio.surface import Smile, Surface, surface

MakeRules = Callable[..., PortfolioRules]


@given(
    falls=st.lists(st.floats(1e-9, 0.9), min_size=4, max_size=4),
    rises=st.lists(st.floats(1e-9, 5.0), min_size=4, max_size=4),
)
def test_moves_rise_and_are_never_smaller_than_the_quantiles(falls: list[float], rises: list[float]) -> None:
    moves = price_moves(sorted(falls), sorted(rises))
    assert len(moves) == 2 * (4 + 2) + 1
    assert list(moves) == sorted(set(moves))
    assert moves[6] == 0
    assert -moves[2] >= min(max(falls) * PPM - 1, PPM - 4)
    assert moves[10] >= max(rises) * PPM - 1
    assert moves[0] > -PPM


def test_every_scenario_names_a_move_and_every_inner_move_three_volatilities() -> None:
    made = scenarios(4)
    assert len(made) == 31
    inner = [s for s in made if s.weight_ppm == PPM]
    assert {s.move for s in inner} == set(range(2, 11))
    assert all(sum(s.move == i for s in inner) == 3 for i in range(2, 11))
    assert {s.move for s in made if s.weight_ppm < PPM} == {0, 1, 11, 12}
    assert all((s.elapsed_ppm == PPM) == (s.volatility == "down") for s in made)


def test_span_16_is_the_published_array() -> None:
    rules = span_16(("A",), price_range=0.12, volatility_range=0.25)
    gains = risk_arrays(table((Contract("A", "perpetual", 100.0),), ("A",)), grid(rules))[0]
    losses = -gains  # SPAN: losses of one long position are positive
    thirds = [0, 0, -4, -4, 4, 4, -8, -8, 8, 8, -12, -12, 12, 12]
    assert losses[:14] == pytest.approx(thirds, abs=1e-4)
    assert losses[14:] == pytest.approx([-36 * 0.33, 36 * 0.33], abs=1e-4)
    states = [s.volatility for s in rules.scenarios]
    assert states == ["up", "down"] * 7 + ["same", "same"]


def test_exchange_24_has_eight_moves_and_three_volatilities() -> None:
    rules = exchange_24(("A",), price_range=0.16, volatility_up=0.5, volatility_down=0.25)
    made = grid(rules)
    assert made.move.shape == (1, 24)
    assert sorted(set(made.move[0].round(6))) == [-0.16, -0.12, -0.08, -0.04, 0.04, 0.08, 0.12, 0.16]
    short = table((Contract("A", "put", 100.0, strike=95.0, years=0.1, volatility=0.8),), ("A",))
    assert "volatility up" in requirement(short, np.array([-1.0]), rules).binding()["A"]


BAD_GRIDS = {
    "not JSON": (b"{", "grid: "),
    "one way": (
        json.dumps({
            "volatility_up": 0.5, "volatility_down": 0.2,
            "scenarios": [{"price": 0.9, "volatility": "up"}, {"price": 0.8, "volatility": "up"}],
        }).encode(),
        "must go down, stay and go up",
    ),
    "unknown key": (b'{"volatility_up": 1, "volatility_down": 1, "scenarios": [], "x": 1}', "grid: "),
    "volatility": (
        b'{"volatility_up": 1, "volatility_down": 2, "scenarios": []}',
        "volatility_down: Input should be less than or equal to 1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_GRIDS)
def test_a_grid_that_is_not_one_is_refused(name: str) -> None:
    payload, message = BAD_GRIDS[name]
    with pytest.raises(DataError, match=message):
        read_grid(payload, ["A"])


def test_shifts_and_shares_follow_what_happened_and_are_wide_without_history() -> None:
    rng = np.random.default_rng(6)
    walk = np.exp(np.cumsum(rng.normal(0, 0.1, 3_000)))
    up, down = volatility_shifts(walk, 1, 0.99)
    assert up == pytest.approx(np.expm1(0.2326), rel=0.1)
    assert down == pytest.approx(-np.expm1(-0.2326), rel=0.1)
    assert volatility_shifts(walk[:20], 1, 0.99) == (1.0, 0.5)
    assert inner_shares(np.full(50, 0.1), 0.99) == (0.25, 0.5, 0.75)
    shares = inner_shares(rng.exponential(size=20_000), 0.99)
    assert shares == pytest.approx(np.log([2, 5, 20]) / np.log(100), abs=0.02)


def test_correlations_see_the_regime_and_never_the_future() -> None:
    rng = np.random.default_rng(2)
    common, own = rng.normal(size=(2, 1_000))
    late = np.where(np.arange(1_000) < 800, own, common)
    returns = np.column_stack([common, late, np.where(np.arange(1_000) < 950, np.nan, own)])
    now, worst = forecast_correlations(returns, 0.97), stressed_correlations(returns, 120, 0.01)
    assert now[0, 1] == pytest.approx(1.0, abs=0.01)
    assert abs(worst[0, 1]) < 0.4
    assert np.isnan(now[0, 2])
    assert np.isnan(worst[1, 2])
    assert (forecast_correlations(returns[:700], 0.97)[0, 1]) < 0.5


def test_a_surface_meets_its_quotes_and_interpolates_total_variance() -> None:
    strikes = np.array([80.0, 90.0, 100.0, 110.0, 125.0])
    smile = np.array([0.75, 0.65, 0.60, 0.62, 0.70])
    made = Surface((Smile(0.1, 100.0, strikes, smile), Smile(0.4, 100.0, strikes, smile)))
    assert made.volatility(0.1, strikes) == pytest.approx(smile)
    assert made.volatility(0.25, 100.0) == pytest.approx(0.60)
    assert made.volatility(0.05, 90.0) == pytest.approx(0.65)
    assert made.volatility(2.0, 300.0) == pytest.approx(0.70)
    assert made.findings() == ()


def test_arbitrage_is_found_where_it_was_put() -> None:
    strikes = np.array([90.0, 100.0, 110.0])
    bumped = Surface((Smile(0.1, 100.0, strikes, np.array([0.5, 0.9, 0.5])),))
    assert [(f.rule, f.strike) for f in bumped.findings() if f.rule == "butterfly"] == [("butterfly", 100.0)]
    steep = Surface((Smile(0.1, 100.0, strikes, np.array([0.2, 0.6, 1.8])),))
    assert "vertical" in {f.rule for f in steep.findings()}
    falling = Surface(
        (Smile(0.1, 100.0, strikes, np.full(3, 0.9)), Smile(0.2, 100.0, strikes, np.full(3, 0.5)))
    )
    assert {f.rule for f in falling.findings()} == {"calendar"}
    assert "to gain" in str(falling.findings()[0])


BAD_SURFACES: dict[str, tuple[Callable[[], object], str]] = {
    "no expiry": (lambda: Surface(()), "a surface needs expiries that rise"),
    "no quote": (lambda: Smile(0.1, 1.0, np.array([]), np.array([])), "must be as many"),
    "NaN": (
        lambda: surface([0.1], [1.0], [np.nan], [1.0]),
        "volatility must be positive and finite, was nan",
    ),
    "expired": (lambda: surface([0.0], [1.0], [0.5], [1.0]), "years must be positive and finite, was 0.0"),
    "columns": (lambda: surface([0.1], [1.0, 2.0], [0.5], [1.0]), "columns of one length"),
    "strikes": (lambda: Smile(0.1, 1.0, np.array([2.0, 1.0]), np.ones(2)), "strikes must rise"),
    "asked expired": (lambda: surface([0.1], [1.0], [0.5], [1.0]).volatility(0.0, 1.0), "was 0.0"),
}


@pytest.mark.parametrize("name", BAD_SURFACES)
def test_quotes_that_make_no_surface_are_refused(name: str) -> None:
    make, message = BAD_SURFACES[name]
    with pytest.raises(DataError, match=message):
        make()
