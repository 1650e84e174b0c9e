"""The requirement of one account, in full: every underlying's worst scenario, the offsets, the add-ons.

Plain numpy, one account at a time: what the kernels of `calibrator.portfolio.book` are tested against.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrator.errors import DataError
from calibrator.netting import PortfolioRules
from calibrator.portfolio.contingencies import AddOns, add_ons, rates
from calibrator.portfolio.contracts import Table
from calibrator.portfolio.grid import Grid, Level, grid, risk_arrays
from calibrator.portfolio.offsets import combine, correlation_bounds

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one account must hold at one level, and why.

    Attributes
    ----------
    level : {"maintenance", "initial"}
    core : float
        From the scenarios, after offsets between underlyings (quote currency).
    add_ons : AddOns
        At this level.
    profit : numpy.ndarray, shape (U, S)
        Weighted gain of every underlying in every scenario.
    up, down : numpy.ndarray, shape (U,)
        Worst loss where the price rises or stays, and where it falls or stays; not negative.
    worst_up, worst_down : numpy.ndarray of int, shape (U,)
        The scenarios of these losses.
    slope_up, slope_down : numpy.ndarray, shape (U,)
        Derivative of ``core`` by ``up`` and ``down``.
    scenarios : Grid

    Examples
    --------
    >>> Requirement.total.fget.__doc__
    'Core and add-ons, quote currency; never negative.'
    """

    level: Level
    core: float
    add_ons: AddOns
    profit: Array
    up: Array
    down: Array
    worst_up: NDArray[np.int64]
    worst_down: NDArray[np.int64]
    slope_up: Array
    slope_down: Array
    scenarios: Grid

    @property
    def total(self) -> float:
        """Core and add-ons, quote currency; never negative."""
        return self.core + self.add_ons.total

    def binding(self) -> dict[str, str]:
        """Name the scenario that binds each underlying that can lose."""
        out = {}
        for i, symbol in enumerate(self.scenarios.symbols):
            loss = max(self.up[i], self.down[i])
            if loss > 0:
                at = self.worst_up[i] if self.up[i] > self.down[i] else self.worst_down[i]
                out[symbol] = self.scenarios.names(i)[int(at)]
        return out


def requirement(
    contracts: Table, quantity: Array, rules: PortfolioRules, *, level: Level = "maintenance"
) -> Requirement:
    """Return the requirement of one account.

    Parameters
    ----------
    contracts : Table
    quantity : array_like, shape (contracts,)
        Held, signed.
    rules : PortfolioRules
    level : {"maintenance", "initial"}

    Raises
    ------
    DataError
        A quantity that is missing or infinite.

    Examples
    --------
    >>> from calibrator.portfolio.contracts import Contract, table
    >>> from calibrator.portfolio.fixed_grids import exchange_24
    >>> rules = exchange_24(("BTC",), price_range=0.16, volatility_up=0.5, volatility_down=0.25)
    >>> held = table((Contract("BTC", "perpetual", 60_000.0),), ("BTC",))
    >>> made = requirement(held, np.array([-2.0]), rules)
    >>> made.total, made.binding()
    (19200.0, {'BTC': 'BTC +16.00%, volatility up'})
    """
    return in_scenarios(contracts, quantity, rules, level=level, scenarios=grid(rules, level))


def in_scenarios(
    contracts: Table, quantity: Array, rules: PortfolioRules, *, level: Level, scenarios: Grid
) -> Requirement:
    """Return the requirement in scenarios that are not the rules' own (their add-ons and offsets still hold).

    Parameters
    ----------
    contracts, quantity, rules, level
        As for :func:`requirement`.
    scenarios : Grid
        With the rules' underlyings.

    Examples
    --------
    >>> in_scenarios.__name__
    'in_scenarios'
    """
    held = np.asarray(quantity, float)
    count = len(contracts.contracts)
    if held.shape != (count,) or not np.isfinite(held).all():
        raise DataError(f"each of the {count} contracts needs a finite quantity, was {held.tolist()}")
    gains = risk_arrays(contracts, scenarios)
    profit = np.zeros(scenarios.move.shape)
    for c, u in enumerate(contracts.underlying):  # in the order in which the kernel adds them
        profit[u] += held[c] * gains[c]
    rises = np.where(scenarios.move >= 0, -profit, -np.inf)
    falls = np.where(scenarios.move <= 0, -profit, -np.inf)
    up, down = np.maximum(rises.max(axis=1), 0.0), np.maximum(falls.max(axis=1), 0.0)
    joint = combine(up, down, *correlation_bounds(rules))
    charged = add_ons(contracts, held, rates(rules))
    m = scenarios.multiple
    return Requirement(
        level=level,
        core=joint.total,
        add_ons=AddOns(m * charged.basis, m * charged.funding, m * charged.naked, m * charged.concentration),
        profit=profit,
        up=up,
        down=down,
        worst_up=rises.argmax(axis=1),
        worst_down=falls.argmax(axis=1),
        slope_up=joint.up,
        slope_down=joint.down,
        scenarios=scenarios,
    )


def standalone(
    contracts: Table, quantity: Array, rules: PortfolioRules, *, level: Level = "maintenance"
) -> Array:
    """Return the requirement of every position on its own, shape (contracts,); arguments as before.

    Examples
    --------
    >>> from calibrator.portfolio.contracts import Contract, table
    >>> from calibrator.portfolio.fixed_grids import exchange_24
    >>> rules = exchange_24(("BTC",), price_range=0.16, volatility_up=0.5, volatility_down=0.25)
    >>> carry = table((Contract("BTC", "spot", 100.0), Contract("BTC", "perpetual", 100.0)), ("BTC",))
    >>> standalone(carry, np.array([1.0, -1.0]), rules).tolist()
    [16.0, 16.0]
    """
    held = np.asarray(quantity, float)
    each = np.eye(len(held)) * held
    return np.array([requirement(contracts, own, rules, level=level).total for own in each])
