"""Stress tests of a schedule: worst windows by hand, least distances against an optimiser, bad input."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from calibrator.backtest.stress import (
    InForce,
    breaking_volatility,
    joint_move,
    least_distance,
    nearest_break,
    worst_days,
    worst_windows,
)


def held(loss: list[float], margin: list[float], market: str = "A", side: str = "long") -> pd.DataFrame:
    t = pd.date_range("2024-01-01", periods=len(loss), tz="UTC")
    return pd.DataFrame({"market": market, "side": side, "origin": t, "margin": margin, "loss": loss})


def force(count: int, seed: int) -> InForce:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((200, count)) + rng.standard_normal((200, 1))
    margin = 0.05 + 0.3 * rng.random(count)
    correlation = np.atleast_2d(np.corrcoef(x, rowvar=False))
    names = tuple(f"M{i}" for i in range(count))
    return InForce(names, margin, margin + 0.02, 0.02 + 0.05 * rng.random(count), correlation)


def test_the_worst_windows_are_those_of_a_sort_and_the_schedule_is_that_of_the_day_before() -> None:
    x = held([0.9, 0.2, 0.5, 0.4, np.nan, 0.3], [0.1, 0.3, 0.6, 0.2, 0.2, 0.2])
    out = worst_windows(x, count=3)
    assert out["loss"].tolist() == [0.5, 0.4, 0.3]  # the first decision has none before it
    assert out["margin_before"].tolist() == [0.3, 0.6, 0.2]
    assert out["shortfall"].round(12).tolist() == [0.2, 0.0, 0.1]
    assert out["covered"].tolist() == [False, True, False]
    assert out["moved_after"].tolist()[0] == 0
    assert np.isnan(out["moved_after"].tolist()[1:]).all()
    assert out["highest"].tolist() == [0.6, 0.2, 0.2]


def test_windows_keep_their_distance_and_sides_stand_apart() -> None:
    x = pd.concat(
        [held([0.1, 0.5, 0.6, 0.1, 0.4], [0.2] * 5), held([0.0, 0.3, 0.2, 0.1, 0.0], [0.2] * 5, side="short")]
    )
    out = worst_windows(x, count=2, apart=2)
    assert out[out["side"] == "long"]["loss"].tolist() == [0.6, 0.4]
    assert out[out["side"] == "short"]["loss"].tolist() == [0.3, 0.1]


def test_joint_days_average_over_the_markets_that_have_both_margin_and_loss() -> None:
    x = pd.concat([held([0.0, 0.4, 0.1], [0.2] * 3), held([0.0, np.nan, 0.3], [0.1] * 3, market="B")])
    out = worst_days(x, count=2)
    assert out["markets"].tolist() == [1, 2]
    assert out["loss"].tolist() == [0.4, 0.2]
    assert out["shortfall"].round(12).tolist() == [0.2, 0.1]
    assert out["uncovered"].tolist() == [1.0, 0.5]
    assert out["worst"].tolist() == ["A", "B"]
    assert worst_days(x.iloc[:1], count=2).empty


@given(st.integers(1, 6), st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_the_nearest_break_is_what_an_optimiser_finds(count: int, seed: int) -> None:
    now = force(count, seed)
    inverse = np.linalg.inv(now.correlation)
    for side, need in (("long", -np.log1p(-now.long)), ("short", np.log1p(now.short))):
        b = need / now.volatility
        first, every = (nearest_break(now, side=side, every=e) for e in (False, True))
        assert first.distance == pytest.approx(b.min(), rel=1e-9)
        found = minimize(
            lambda z: z @ inverse @ z,
            b * 1.01,
            jac=lambda z: 2 * inverse @ z,
            constraints={"type": "ineq", "fun": lambda z, b=b: z - b, "jac": lambda z: np.eye(len(z))},
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 500},
        )
        assert every.distance == pytest.approx(np.sqrt(found.fun), rel=1e-5)
        assert every.distance >= first.distance * (1 - 1e-9)
        # Every margin is used up there, to the last digit, and at least one exactly.
        moves = np.array(list(every.moves.values()))
        used = -moves / now.long if side == "long" else moves / now.short
        assert (used >= 1 - 1e-9).all()
        assert used.min() == pytest.approx(1, abs=1e-9)


@given(st.integers(1, 5), st.integers(0, 300))
@settings(max_examples=25, deadline=None)
def test_a_joint_move_covers_exactly_the_markets_whose_margin_exceeds_it(count: int, seed: int) -> None:
    now = force(count, seed)
    move = np.random.default_rng(seed).uniform(-0.5, 0.5, count)
    beyond = [max(-x - m if x < 0 else x - s, 0.0) for x, m, s in zip(move, now.long, now.short, strict=True)]
    out = joint_move(now, move)
    assert out["shortfall"] == pytest.approx(np.mean(beyond), abs=1e-12)
    assert out["uncovered"] == np.mean(np.array(beyond) > 0)
    assert out["worst"] == (now.markets[int(np.argmax(beyond))] if max(beyond) > 0 else None)


def test_a_side_that_cannot_be_held_does_not_break() -> None:
    one = force(3, 1)
    lent = InForce(one.markets, one.long, np.array([np.inf, 0.2, np.inf]), one.volatility, one.correlation)
    assert nearest_break(lent, side="short", every=True).distance == pytest.approx(
        nearest_break(lent, side="short", every=False).distance
    )
    with pytest.raises(ValueError, match="no market can be held short"):
        nearest_break(
            InForce(one.markets, one.long, np.full(3, np.inf), one.volatility, one.correlation),
            side="short",
            every=True,
        )


def test_least_distance_has_no_answer_where_constraints_contradict() -> None:
    with pytest.raises(ValueError, match="no vector satisfies every constraint"):
        least_distance(np.array([[1.0], [-1.0]]), np.array([1.0, 1.0]))


BAD = [
    (lambda: worst_windows(held([0.1], [0.1]), count=0), "count must be at least 1, was 0"),
    (lambda: worst_windows(held([0.1], [0.1]), count=1, apart=0), "apart must be at least 1, was 0"),
    (lambda: worst_windows(held([0.1], [0.1]), count=1, look_ahead=0), "look_ahead must be at least 1"),
    (lambda: joint_move(force(2, 0), np.array([-1.0, 0.0])), "cannot fall by all of itself or more"),
    (lambda: nearest_break(force(2, 0), side="both", every=True), "side must be long or short, was 'both'"),
    (lambda: breaking_volatility(0.1, 0.0, np.ones(1)), "needs a positive margin before limits and a step"),
    (lambda: breaking_volatility(0.1, 0.1, np.ones(0)), "needs a positive margin before limits and a step"),
    (lambda: InForce(("A",), np.ones(2), np.ones(1), np.ones(1), np.eye(1)), "one value per market, of 1"),
    (lambda: InForce(("A",), np.ones(1), np.ones(1), np.ones(1), np.eye(2)), "correlation must be 1 x 1"),
    (lambda: InForce(("A",), np.ones(1), np.ones(1), np.zeros(1), np.eye(1)), "volatility must be positive"),
    (
        lambda: InForce(("A", "B"), np.ones(2), np.ones(2), np.ones(2), np.ones((2, 2))),
        "correlation must be positive definite",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "match"), BAD, ids=[m[:30] for _, m in BAD])
def test_bad_input(call, match: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    with pytest.raises(ValueError, match=match):
        call()
