"""The fund: Cover-2 against a sort, exhaustion against a loop, reverse stress against a dense scan."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrator.calibrate.buffer import (
    Book,
    cover,
    cover_with_crowd,
    crowded_side,
    exhaustion,
    simulated_drawdown,
)
from calibrator.calibrate.reverse_stress import owed, smallest_move

owing = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 8)), elements=st.integers(0, 1000))


def a_book(rng: np.random.Generator, accounts: int, markets: int) -> Book:
    notional = np.exp(rng.normal(5.0, 1.5, accounts))
    return Book(
        rng.integers(0, markets, accounts),
        np.where(rng.random(accounts) < 0.6, 1, -1),
        notional,
        notional * rng.uniform(0.02, 0.4, accounts),
    )


@settings(max_examples=150)
@given(owing, st.integers(1, 3))
def test_cover_is_the_sum_of_the_largest(shortfalls: np.ndarray, count: int) -> None:
    expected = np.sort(shortfalls, axis=1)[:, ::-1][:, :count].sum(axis=1)
    np.testing.assert_array_equal(cover(shortfalls, count=count), expected)
    crowded = np.arange(shortfalls.shape[1]) % 2 == 0
    both = cover_with_crowd(shortfalls, crowded, count=count)
    assert (both >= cover(shortfalls, count=count)).all()
    assert (both <= shortfalls.sum(axis=1)).all()


def test_what_an_account_owes_agrees_with_a_loop() -> None:
    rng = np.random.default_rng(2)
    book, loss = a_book(rng, 30, 3), rng.uniform(-0.2, 0.6, (5, 3, 2))
    for s in range(5):
        for i in range(30):
            lost = loss[s, book.market[i], 0 if book.direction[i] > 0 else 1] + 0.01
            expected = max(0.0, book.notional[i] * lost - book.equity[i])
            assert book.shortfalls(loss, cost=0.01)[s, i] == pytest.approx(expected)


def test_the_crowded_side_is_the_heaviest_of_one_market() -> None:
    book = a_book(np.random.default_rng(4), 200, 3)
    heavy = crowded_side(book)
    sums = {
        (m, d): book.notional[(book.market == m) & (book.direction == d)].sum()
        for m in range(3)
        for d in (1, -1)
    }
    assert book.notional[heavy].sum() == pytest.approx(max(sums.values()))


@settings(max_examples=150)
@given(arrays(np.float64, st.integers(0, 30), elements=st.integers(-100, 100)), st.integers(0, 500))
def test_exhaustion_agrees_with_paying_one_by_one(payments: np.ndarray, fund: int) -> None:
    balance, lowest, after = float(fund), float(fund), None
    for number, payment in enumerate(payments):
        balance += payment
        lowest = min(lowest, balance)
        after = number if after is None and balance < 0 else after
    found = exhaustion(payments, fund=fund)
    assert (found.after, found.lowest, found.paid) == (after, lowest, -payments.sum())


def test_one_market_is_solved_exactly() -> None:
    book = Book(
        np.zeros(3, int), np.array([1, 1, -1]), np.array([100.0, 50.0, 500.0]), np.array([10.0, 4.0, 200.0])
    )
    found = smallest_move(book, np.array([[0.04]]), fund=5.0, cost=0.0)
    # Down: 100 x - 10 + 50 x - 4 = 5 at x = 19 / 150; up: 500 x - 200 = 5 at x = 0.41.
    assert found is not None
    assert found.move[0] == pytest.approx(-19 / 150)
    assert found.distance == pytest.approx(19 / 150 / 0.2)
    assert found.shortfall == pytest.approx(5.0)


@pytest.mark.parametrize("seed", range(12))
def test_two_markets_agree_with_a_dense_scan_of_all_directions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    book, correlation = a_book(rng, 40, 2), rng.uniform(-0.9, 0.9)
    sigma = rng.uniform(0.02, 0.1, 2)
    covariance = np.outer(sigma, sigma) * np.array([[1.0, correlation], [correlation, 1.0]])
    fund = owed(book, -sigma * 4, cost=0.01) + 1.0
    found = smallest_move(book, covariance, fund=fund, cost=0.01)
    assert found is not None
    assert found.shortfall >= fund * (1 - 1e-6)
    assert found.distance == pytest.approx(np.sqrt(found.move @ np.linalg.solve(covariance, found.move)))
    assert (found.move >= -1).all()
    root = np.linalg.cholesky(covariance)
    nearest = np.inf
    for angle in np.linspace(0, 2 * np.pi, 1500, endpoint=False):
        direction = root @ np.array([np.cos(angle), np.sin(angle)])
        low, high = 0.0, 1.0
        while high < 1e4 and owed(book, np.maximum(high * direction, -1), cost=0.01) < fund:
            high *= 2
        if high >= 1e4:
            continue
        for _ in range(40):
            middle = (low + high) / 2
            exhausted = owed(book, np.maximum(middle * direction, -1), cost=0.01) >= fund
            low, high = (low, middle) if exhausted else (middle, high)
        if (high * direction >= -1).all():
            nearest = min(nearest, high)
    assert found.distance <= nearest * (1 + 1e-6)
    if np.isfinite(nearest):
        assert found.distance >= nearest * (1 - 2e-3) or (found.move <= -1 + 1e-9).any()


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.floats(1.1, 5.0))
def test_a_larger_fund_is_never_exhausted_by_a_smaller_move(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    book = a_book(rng, 25, 3)
    root = rng.normal(0, 0.05, (3, 3))
    covariance = root @ root.T + 1e-4 * np.eye(3)
    small, large = (smallest_move(book, covariance, fund=f, cost=0.0) for f in (50.0, 50.0 * factor))
    if small is not None and large is not None:
        assert large.distance >= small.distance * (1 - 0.02)  # up to the search's own error


def test_a_long_only_book_owes_at_most_its_debt() -> None:
    book = Book(np.array([0]), np.array([1]), np.array([100.0]), np.array([40.0]))
    assert smallest_move(book, np.array([[0.01]]), fund=60.1, cost=0.0) is None
    found = smallest_move(book, np.array([[0.01]]), fund=59.9, cost=0.0)
    assert found is not None
    assert found.move[0] == pytest.approx(-0.999)


def test_the_simulated_figure_is_marked_and_has_its_interval() -> None:
    rng = np.random.default_rng(1)
    payments = np.where(rng.random(800) < 0.02, -rng.pareto(2.0, 800), 0.01)
    found = simulated_drawdown(payments, periods=250, block=10, draws=2000, seed=3)
    assert found.information_only
    assert 0 < found.low <= found.quantile <= found.high
    assert found == simulated_drawdown(payments, periods=250, block=10, draws=2000, seed=3)


BAD = {
    "no notional": ({"notional": np.array([0.0])}, "notional must be finite and positive"),
    "negative equity": ({"equity": np.array([-1.0])}, "equity must be finite and not negative"),
    "unknown equity": ({"equity": np.array([np.nan])}, "equity must be finite and not negative"),
    "sideways": ({"direction": np.array([0])}, r"direction must be \+1 or -1"),
    "shapes": ({"equity": np.array([1.0, 2.0])}, "must have one shape"),
}


@pytest.mark.parametrize(("wrong", "text"), BAD.values(), ids=BAD)
def test_a_book_that_cannot_be_is_refused(wrong: dict[str, np.ndarray], text: str) -> None:
    fair = {
        "market": np.array([0]),
        "direction": np.array([1]),
        "notional": np.array([1.0]),
        "equity": np.array([0.1]),
    }
    with pytest.raises(ValueError, match=text):
        Book(**(fair | wrong))


def test_wrong_arguments_are_refused() -> None:
    book = Book(np.array([0]), np.array([1]), np.array([1.0]), np.array([0.1]))
    with pytest.raises(ValueError, match="an unknown loss is not zero"):
        book.shortfalls(np.array([[[np.nan, 0.0]]]), cost=0.0)
    with pytest.raises(ValueError, match="fund must be positive, was 0"):
        smallest_move(book, np.array([[0.01]]), fund=0.0, cost=0.0)
    with pytest.raises(ValueError, match="covariance must be positive definite"):
        smallest_move(book, np.array([[0.0]]), fund=1.0, cost=0.0)
    with pytest.raises(ValueError, match="count must be at least 1"):
        cover(np.ones((1, 1)), count=0)
    with pytest.raises(ValueError, match="fund must not be negative"):
        exhaustion(np.ones(1), fund=-1.0)
    with pytest.raises(ValueError, match="needs two payments, 100 draws"):
        simulated_drawdown(np.ones(1), periods=10, block=1, draws=100, seed=1)
