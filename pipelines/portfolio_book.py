"""A SIMULATED book under the published portfolio rules, to show what netting saves: nobody's positions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibrator.netting import PortfolioRules
from calibrator.portfolio.book import Book, book, requirements, standalone_sums
from calibrator.portfolio.contracts import Contract, table

Array = NDArray[np.float64]
ACCOUNTS: Final = 2_000
SEED: Final = 20_140_415
MONEYNESS: Final = (0.9, 0.95, 1.0, 1.05, 1.1)
STRATEGIES: Final = ("directional", "carry", "vertical spread", "covered call", "pair")
NOTIONAL: Final = 20_000.0


@dataclass(frozen=True, slots=True)
class Netting:
    """What the book asks, step by step, summed over the accounts (quote currency).

    Attributes
    ----------
    alone : float
        Every position on its own.
    within, across : float
        Saved by netting within an underlying, and by offsets between underlyings; not negative.
    add_ons : float
        Change of the add-ons: the basis that netted legs ask for, less what their legs asked alone.
    portfolio : float
        ``alone - within - across + add_ons``.
    compression : dict of str to (int, float)
        Accounts and compression per strategy.

    Examples
    --------
    >>> Netting(100.0, 60.0, 10.0, 5.0, 35.0, {}).saved
    0.65
    """

    alone: float
    within: float
    across: float
    add_ons: float
    portfolio: float
    compression: dict[str, tuple[int, float]]

    @property
    def saved(self) -> float:
        """Compression of the whole book."""
        return 1.0 - self.portfolio / self.alone if self.alone > 0 else 0.0


def example_book(
    rules: PortfolioRules,
    prices: Mapping[str, float],
    volatility: Mapping[str, float],
    *,
    accounts: int = ACCOUNTS,
    seed: int = SEED,
) -> tuple[Book, NDArray[np.int64]]:
    """Draw a book of five strategies in equal shares, on 30-day options at one volatility per underlying.

    Parameters
    ----------
    rules : PortfolioRules
    prices, volatility : mapping of str to float
        Price, and annual volatility, of every underlying.
    accounts, seed : int

    Returns
    -------
    Book, numpy.ndarray
        And each account's strategy, a row of ``STRATEGIES``; a pair needs two underlyings, with one it is
        directional.

    Examples
    --------
    >>> from calibrator.portfolio.fixed_grids import exchange_24
    >>> rules = exchange_24(("A", "B"), price_range=0.1, volatility_up=0.3, volatility_down=0.2)
    >>> made, strategy = example_book(rules, {"A": 9.0, "B": 5.0}, {"A": 0.5, "B": 0.6}, accounts=10)
    >>> made.accounts, strategy.tolist()
    (10, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    """
    symbols = [u.symbol for u in rules.underlyings]
    contracts: list[Contract] = []
    for s in symbols:
        p = prices[s]
        contracts += [Contract(s, "spot", p), Contract(s, "perpetual", p)]
        for kind in ("call", "put"):
            contracts += [
                Contract(s, kind, p, strike=p * k, years=30 / 365, volatility=volatility[s])
                for k in MONEYNESS
            ]
    each = 2 + 2 * len(MONEYNESS)
    rng = np.random.default_rng(seed)
    strategy = np.arange(accounts) % len(STRATEGIES)
    rows: list[tuple[int, int, float]] = []
    for account in range(accounts):
        u = int(rng.integers(len(symbols)))
        other = int((u + 1 + rng.integers(max(len(symbols) - 1, 1))) % len(symbols))
        side = 1.0 if rng.random() < 0.55 else -1.0
        units = NOTIONAL * float(rng.lognormal(0.0, 1.5)) / prices[symbols[u]]
        legs = _legs(int(strategy[account]), side, int(rng.integers(2)))
        if strategy[account] == 4 and other != u:
            paired = -side * units * prices[symbols[u]] / prices[symbols[other]]
            rows += [(account, u * each + 1, side * units), (account, other * each + 1, paired)]
        else:
            rows += [(account, u * each + leg, q * units) for leg, q in legs]
    owner, what, held = zip(*rows, strict=True)
    made = table(contracts, symbols)
    return book(owner, what, held, contracts=made, accounts=accounts), strategy


def _legs(strategy: int, side: float, right: int) -> list[tuple[int, float]]:
    """Rows within one underlying's contracts, and units."""
    calls, puts = 2, 2 + len(MONEYNESS)
    if strategy == 1:
        return [(0, 1.0), (1, -1.0)]
    if strategy == 2:
        near, far = (calls + 2, calls + 4) if right else (puts + 2, puts)
        return [(near, side), (far, -side)]
    if strategy == 3:
        return [(0, 1.0), (calls + 4, -1.0)]
    return [(1, side)]


def netting(rules: PortfolioRules, held: Book, strategy: NDArray[np.int64]) -> Netting:
    """Return what the book asks alone and netted, at the maintenance level.

    Parameters
    ----------
    rules : PortfolioRules
    held : Book
    strategy : numpy.ndarray of int, shape (accounts,)

    Examples
    --------
    >>> from calibrator.portfolio.fixed_grids import exchange_24
    >>> rules = exchange_24(("A", "B"), price_range=0.1, volatility_up=0.3, volatility_down=0.2)
    >>> made = netting(rules, *example_book(rules, {"A": 9.0, "B": 5.0}, {"A": 0.5, "B": 0.6}))
    >>> made.compression["carry"], bool(0.2 < made.saved < 1)
    ((400, 1.0), True)
    """
    whole, alone = requirements(held, rules), standalone_sums(held, rules)
    without = requirements(held, replace(rules, correlations=()))
    single = standalone_sums(held, _without_add_ons(rules))
    total = whole.sum(axis=1)
    groups = {}
    for i, name in enumerate(STRATEGIES):
        own = strategy == i
        asked = float(alone[own].sum())
        groups[name] = (int(own.sum()), 1.0 - float(total[own].sum()) / asked if asked > 0 else 0.0)
    within = float(single.sum() - without[:, 0].sum())
    across = float(without[:, 0].sum() - whole[:, 0].sum())
    portfolio, first = float(total.sum()), float(alone.sum())
    return Netting(first, within, across, portfolio - first + within + across, portfolio, groups)


def _without_add_ons(rules: PortfolioRules) -> PortfolioRules:
    bare = tuple(
        replace(u, basis_ppm=0, funding_ppm=0, naked_option_ppm=0, concentration=())
        for u in rules.underlyings
    )
    return replace(rules, underlyings=bare)
