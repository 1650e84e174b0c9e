"""The requirement: compiled against plain, the same for any threads, and what must hold for every book."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from calibrator.errors import DataError
from calibrator.netting import PortfolioRules
from calibrator.portfolio.book import PARTS, Book, book, requirements, standalone_sums
from calibrator.portfolio.contracts import Contract, Table, table
from calibrator.portfolio.grid import grid, risk_arrays, union, widened
from calibrator.portfolio.offsets import combine, correlation_bounds, correlation_ranges
from calibrator.portfolio.requirement import in_scenarios, requirement, standalone

MakeRules = Callable[..., PortfolioRules]
MakeContracts = Callable[[np.random.Generator, int], tuple[Contract, ...]]
SYMBOLS = ("BTC", "ETH", "SOL")
ACCOUNTS = 60


@pytest.fixture(scope="module")
def held(make_contracts: MakeContracts) -> Book:
    rng = np.random.default_rng(14)
    contracts = table(make_contracts(rng, 40), SYMBOLS)
    count = 500
    owner, what = rng.integers(0, ACCOUNTS - 2, count), rng.integers(0, 40, count)
    size = rng.normal(0, 2e6, count) / contracts.price[what]
    return book(owner, what, size, contracts=contracts, accounts=ACCOUNTS)


def quantities(made: Book, account: int) -> np.ndarray:
    own = slice(made.start[account], made.start[account + 1])
    out = np.zeros(len(made.contracts.contracts))
    np.add.at(out, made.contract[own], made.quantity[own])
    return out


@pytest.mark.parametrize("level", ["maintenance", "initial"])
@pytest.mark.parametrize("low_ppm", [-300_000, 0, 500_000])
def test_the_kernel_gives_what_one_account_after_the_other_gives(
    held: Book, make_rules: MakeRules, level: str, low_ppm: int
) -> None:
    rules = make_rules(low_ppm=low_ppm, high_ppm=800_000)
    fast = requirements(held, rules, level=level)
    assert fast.shape == (ACCOUNTS, len(PARTS))
    assert (fast.max(axis=0) > 0).all()
    for account in range(ACCOUNTS):
        slow = requirement(held.contracts, quantities(held, account), rules, level=level)
        parts = [slow.core, *(x.sum() for x in (slow.add_ons.basis, slow.add_ons.funding))]
        parts += [slow.add_ons.naked.sum(), slow.add_ons.concentration.sum()]
        assert fast[account] == pytest.approx(parts, rel=1e-9, abs=1e-5)


def test_any_number_of_threads_gives_the_same_bits(held: Book, make_rules: MakeRules) -> None:
    one = requirements(held, make_rules())
    for threads in (2, 3, 7, 64):
        assert (requirements(held, make_rules(), threads=threads) == one).all()


def test_an_account_without_positions_needs_nothing(held: Book, make_rules: MakeRules) -> None:
    assert not requirements(held, make_rules())[-2:].any()
    assert not standalone_sums(held, make_rules())[-2:].any()


def test_standalone_sums_are_the_requirements_one_by_one(held: Book, make_rules: MakeRules) -> None:
    sums = standalone_sums(held, make_rules())
    for account in range(0, ACCOUNTS, 7):
        alone = 0.0
        for i in range(held.start[account], held.start[account + 1]):
            single = np.zeros(len(held.contracts.contracts))
            single[held.contract[i]] = held.quantity[i]
            alone += standalone(held.contracts, single, make_rules()).sum()
        assert sums[account] == pytest.approx(alone, rel=1e-9)


def test_risk_arrays_are_the_textbook_formula(make_contracts: MakeContracts, make_rules: MakeRules) -> None:
    rng = np.random.default_rng(3)
    contracts, rules = table(make_contracts(rng, 60), SYMBOLS), make_rules()
    scenarios = grid(rules, "initial")
    found = risk_arrays(contracts, scenarios)

    def value(c: Contract, price: float, volatility: float, years: float) -> float:
        if not c.option:
            return price
        sign, spread = (1 if c.kind == "call" else -1), volatility * np.sqrt(years)
        d1 = np.log(price / c.strike) / spread + spread / 2
        paid = sign * (price * ndtr(sign * d1) - c.strike * ndtr(sign * (d1 - spread)))
        return paid * (c.coin / c.price if c.coin else 1.0)

    for i, c in enumerate(contracts.contracts):
        u = contracts.underlying[i]
        for s in range(0, len(scenarios.weight), 5):
            years = c.years or 0.0
            power = 0.3 if years <= 30 / 365 else 0.13
            stretch = (30 / 365 / max(years, 1 / 365)) ** power
            moved = value(
                c,
                c.price * (1 + scenarios.move[u, s]),
                (c.volatility or 0.0) * max(1 + scenarios.shift[u, s] * stretch, 0.0),
                years - scenarios.elapsed[u, s],
            )
            expected = (moved - value(c, c.price, c.volatility or 0.0, years)) * scenarios.weight[s]
            assert found[i, s] == pytest.approx(expected, rel=1e-9, abs=1e-9 * c.price)


@st.composite
def seeds(draw: st.DrawFn) -> tuple[int, int]:
    return draw(st.integers(0, 10**6)), draw(st.integers(1, 8))


def drawn(seed: tuple[int, int], make: MakeContracts) -> tuple[Table, np.ndarray]:
    rng = np.random.default_rng(seed[0])
    contracts = table(make(rng, seed[1]), SYMBOLS)
    return contracts, rng.normal(0, 3e5, seed[1]) / contracts.price


@given(seed=seeds(), wider=st.floats(1.0, 3.0), lower=st.sampled_from([-1_000_000, -200_000, 0]))
def test_a_requirement_is_not_negative_and_does_not_fall_when_the_grid_is_widened(
    make_contracts: MakeContracts,
    make_rules: MakeRules,
    seed: tuple[int, int],
    wider: float,
    lower: int,
) -> None:
    rules = make_rules(low_ppm=lower)
    contracts, q = drawn(seed, make_contracts)
    narrow = widened(rules, 1.0)
    small = in_scenarios(contracts, q, rules, level="maintenance", scenarios=narrow)
    large = in_scenarios(
        contracts, q, rules, level="maintenance", scenarios=union(narrow, widened(rules, wider))
    )
    initial = requirement(contracts, q, rules, level="initial")
    assert 0 <= small.total <= large.total * (1 + 1e-12)
    assert small.total <= initial.total * (1 + 1e-12)


@given(seed=seeds(), scale=st.floats(0.01, 100.0))
def test_the_core_grows_in_proportion_and_never_exceeds_the_sum_of_its_positions(
    make_contracts: MakeContracts, make_rules: MakeRules, seed: tuple[int, int], scale: float
) -> None:
    contracts, q = drawn(seed, make_contracts)
    rules = make_rules(low_ppm=400_000, high_ppm=900_000)
    made = requirement(contracts, q, rules)
    larger = requirement(contracts, scale * q, rules)
    assert larger.core == pytest.approx(scale * made.core, rel=1e-9)
    each = [
        requirement(contracts, np.where(np.arange(len(q)) == i, q, 0.0), rules).core for i in range(len(q))
    ]
    assert made.core <= sum(each) * (1 + 1e-12) + 1e-9


@given(seed=seeds(), other=st.integers(0, 10**6))
def test_within_one_underlying_netting_never_costs(
    make_contracts: MakeContracts, make_rules: MakeRules, seed: tuple[int, int], other: int
) -> None:
    contracts, a = drawn(seed, make_contracts)
    b = np.random.default_rng(other).normal(0, 3e5, len(a)) / contracts.price
    one = contracts.underlying == contracts.underlying[0]
    a, b = np.where(one, a, 0.0), np.where(one, b, 0.0)
    whole, first, second = (requirement(contracts, x, make_rules()).core for x in (a + b, a, b))
    assert whole <= (first + second) * (1 + 1e-12) + 1e-9


@given(
    up=st.lists(st.floats(0, 1e6), min_size=4, max_size=4),
    down=st.lists(st.floats(0, 1e6), min_size=4, max_size=4),
    low=st.floats(-1, 0.99),
    high=st.floats(0.99, 1),
)
def test_combined_losses_lie_between_the_largest_side_and_the_sum(
    up: list[float], down: list[float], low: float, high: float
) -> None:
    eye = np.eye(4)
    lower, upper = np.where(eye, 1.0, low), np.where(eye, 1.0, high)
    rises, falls = np.array(up), np.array(down)
    made = combine(rises, falls, lower, upper)
    assert made.total <= np.maximum(rises, falls).sum() * (1 + 1e-9)
    assert made.total >= max(np.maximum(rises, falls)) * (1 - 1e-9)
    assert made.up @ rises + made.down @ falls == pytest.approx(made.total, rel=1e-9, abs=1e-6)
    with_default = combine(rises, falls, np.where(eye, 1.0, -1.0), np.ones((4, 4)))
    assert with_default.total == pytest.approx(np.maximum(rises, falls).sum())


def test_correlation_ranges_take_the_worse_and_leave_out_what_is_not_known(make_rules: MakeRules) -> None:
    forecast = {("A", "B"): 0.8, ("A", "C"): -0.4, ("A", "D"): np.nan, ("B", "C"): 0.5}
    stressed = {("A", "B"): 0.3, ("A", "C"): -0.1, ("A", "D"): 0.1}
    made = correlation_ranges(forecast, stressed, hedge=0.2, diversification=0.9)
    assert [(p.first, p.second, p.low_ppm, p.high_ppm) for p in made] == [
        ("A", "B", 200_000, 900_000),
        ("A", "C", -400_000, 900_000),
    ]
    low, high = correlation_bounds(make_rules(low_ppm=250_000))
    assert (low[0, 1], low[1, 2], high[1, 2]) == (0.25, -1.0, 1.0)
    with pytest.raises(ValueError, match="hedge <= diversification"):
        correlation_ranges(forecast, stressed, hedge=0.5, diversification=0.2)


OPTION = {"strike": 100.0, "years": 0.1, "volatility": 0.5}
BAD: dict[str, tuple[Callable[[], object], str]] = {
    "empty book": (lambda: table((), SYMBOLS), "the book is empty: no contract"),
    "unknown underlying": (
        lambda: table((Contract("DOGE", "spot", 1.0),), SYMBOLS),
        "unknown underlying 'DOGE': the rules know BTC, ETH, SOL",
    ),
    "expired option": (
        lambda: Contract("BTC", "call", 1.0, **(OPTION | {"years": -0.1})),
        "BTC call: years to expiry must be positive .expired.., was -0.1",
    ),
    "zero time": (lambda: Contract("BTC", "put", 1.0, **(OPTION | {"years": 0.0})), "was 0.0"),
    "NaN volatility": (
        lambda: Contract("BTC", "call", 1.0, **(OPTION | {"volatility": np.nan})),
        "BTC call: volatility must be finite and not negative, was nan",
    ),
    "NaN time": (lambda: Contract("BTC", "future", 1.0, years=np.nan), "was nan"),
    "zero price": (lambda: Contract("BTC", "perpetual", 0.0), "price must be positive and finite, was 0.0"),
    "missing strike": (
        lambda: Contract("BTC", "call", 1.0, years=0.1, volatility=0.5),
        "BTC call: strike is missing",
    ),
    "strike of a perpetual": (
        lambda: Contract("BTC", "perpetual", 1.0, strike=1.0),
        "BTC perpetual: strike is not for this kind",
    ),
    "coin of a future": (lambda: Contract("BTC", "future", 1.0, years=0.1, coin=1.0), "inverse options only"),
    "kind": (lambda: Contract("BTC", "swap", 1.0), "kind must be one of"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_valued_is_refused(name: str) -> None:
    make, message = BAD[name]
    with pytest.raises(DataError, match=message):
        make()


BAD_BOOKS = {
    "empty": (([], [], []), "the book is empty: no position"),
    "lengths": (([0], [0, 0], [1.0, 1.0]), "must have one length"),
    "account": (([5], [0], [1.0]), "account must lie in 0..1, was 5 to 5"),
    "contract": (([0], [-1], [1.0]), "contract must lie in 0..0, was -1 to -1"),
    "quantity": (([0, 1], [0, 0], [1.0, np.nan]), "position 1: quantity must be finite, was nan"),
}


@pytest.mark.parametrize("name", BAD_BOOKS)
def test_a_book_that_is_not_one_is_refused(name: str) -> None:
    columns, message = BAD_BOOKS[name]
    contracts = table((Contract("BTC", "spot", 1.0),), SYMBOLS)
    with pytest.raises(DataError, match=message):
        book(*columns, contracts=contracts, accounts=2)


def test_a_quantity_that_is_no_number_is_refused(make_rules: MakeRules) -> None:
    contracts = table((Contract("BTC", "spot", 1.0),), SYMBOLS)
    with pytest.raises(DataError, match="each of the 1 contracts needs a finite quantity"):
        requirement(contracts, np.array([np.inf]), make_rules())
    with pytest.raises(ValueError, match="threads must be at least 1"):
        requirements(book([0], [0], [1.0], contracts=contracts, accounts=1), make_rules(), threads=0)
