"""Who needs the margin: shares that add up exactly, marginal contributions, what-if, distance to a call."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from calibrator.netting import PortfolioRules
from calibrator.portfolio.account import Account, Assessment, Holding, Position, assess
from calibrator.portfolio.contingencies import rates
from calibrator.portfolio.contracts import Table
from calibrator.portfolio.grid import risk_arrays
from calibrator.portfolio.requirement import Requirement, requirement

Array = NDArray[np.float64]
Covered = Callable[[float], bool]
FARTHEST_FALL: Final = -0.99
FARTHEST_RISE: Final = 10.0
STEPS: Final = 60
HALVINGS: Final = 50


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one position or asset does to the maintenance requirement.

    Attributes
    ----------
    label : str
    share : float
        Its part of the requirement: negative where it offsets others; the shares add up to the requirement.
    marginal : float
        Requirement less what it would be without this position.
    standalone : float
        Requirement of this position alone.

    Examples
    --------
    >>> Contribution("BTC perpetual", 10.0, 12.0, 20.0).marginal
    12.0
    """

    label: str
    share: float
    marginal: float
    standalone: float


def contributions(assessed: Assessment) -> tuple[Contribution, ...]:
    """Return every position's part of the maintenance requirement.

    Shares are Euler's: the derivative of each part by a position times the position. The core and every
    add-on grow in proportion to the book (the concentration add-on is shared out by size), so they add up
    exactly.

    Parameters
    ----------
    assessed : Assessment

    Examples
    --------
    >>> from calibrator.portfolio.contracts import Contract
    >>> from calibrator.portfolio.fixed_grids import exchange_24
    >>> rules = exchange_24(("BTC",), price_range=0.16, volatility_up=0.5, volatility_down=0.25)
    >>> one = Position(Contract("BTC", "perpetual", 100.0), -3.0)
    >>> two = Position(Contract("BTC", "future", 100.0, years=0.25), 1.0)
    >>> [(c.label, c.share, c.marginal) for c in contributions(assess(Account("a", (one, two), ()), rules))]
    [('BTC perpetual', 48.0, 16.0), ('BTC future 91.2d', -16.0, -16.0)]
    """
    if assessed.contracts is None or assessed.maintenance is None:
        return ()
    contracts, held, rules = assessed.contracts, assessed.quantity, assessed.rules
    shares = _core_shares(contracts, held, assessed.maintenance) + _add_on_shares(
        contracts, held, assessed.maintenance, rules
    )
    out = []
    for i, label in enumerate(assessed.labels):
        without = held.copy()
        without[i] = 0.0
        rest = requirement(contracts, without, rules).total
        alone = float(assessed.alone[i])
        out.append(Contribution(label, float(shares[i]), assessed.required - rest, alone))
    return tuple(out)


def _core_shares(contracts: Table, held: Array, made: Requirement) -> Array:
    gains = risk_arrays(contracts, made.scenarios)
    u, rows = contracts.underlying, np.arange(len(held))
    up = np.where(made.up[u] > 0, -held * gains[rows, made.worst_up[u]], 0.0)
    down = np.where(made.down[u] > 0, -held * gains[rows, made.worst_down[u]], 0.0)
    shares: Array = up * made.slope_up[u] + down * made.slope_down[u]
    return shares


def _add_on_shares(contracts: Table, held: Array, made: Requirement, rules: PortfolioRules) -> Array:
    """Return the derivative of every add-on by a position, times the position."""
    charged, count, u = rates(rules), len(contracts.symbols), contracts.underlying
    exposure, notional = held * contracts.exposure, held * contracts.notional
    buckets = np.bincount(contracts.bucket, exposure, len(contracts.bucket_underlying))
    net = np.bincount(contracts.bucket_underlying, buckets, count)
    basis = charged.basis[u] * 0.5 * (np.sign(buckets[contracts.bucket]) - np.sign(net[u])) * exposure
    perpetual = np.array([c.kind == "perpetual" for c in contracts.contracts])
    funded = np.bincount(u, np.where(perpetual, notional, 0.0), count)
    funding = charged.funding[u] * np.where(perpetual, np.sign(funded[u]) * notional, 0.0)
    sold = np.zeros(len(held))
    for sign in (1.0, -1.0):
        own = contracts.sign == sign
        total = np.bincount(u, np.where(own, notional, 0.0), count)
        sold += np.where(own & (total[u] < 0), -notional, 0.0)
    naked = np.bincount(u, sold, count)
    size = np.maximum(np.abs(net), naked)
    by_size = np.where(np.abs(net[u]) >= naked[u], np.sign(net[u]) * exposure, sold)
    dense = np.divide(made.add_ons.concentration, size, out=np.zeros(count), where=size > 0)
    shares: Array = basis + funding + charged.naked[u] * sold + dense[u] * by_size
    return shares


@dataclass(frozen=True, slots=True)
class WhatIf:
    """An account before and after a trade.

    Attributes
    ----------
    before, after : Assessment

    Examples
    --------
    >>> WhatIf.change.fget.__doc__
    'Change of the maintenance requirement, quote currency.'
    """

    before: Assessment
    after: Assessment

    @property
    def change(self) -> float:
        """Change of the maintenance requirement, quote currency."""
        return self.after.required - self.before.required

    @property
    def allowed(self) -> bool:
        """Whether the trade may be done: the initial requirement is met after it, or the risk falls."""
        covered = self.after.equity >= self.after.required_initially
        return covered or (self.change < 0 and self.after.surplus >= self.before.surplus)


def what_if(account: Account, rules: PortfolioRules, *trade: Position | Holding) -> WhatIf:
    """Assess an account before and after a trade.

    Examples
    --------
    >>> from calibrator.portfolio.contracts import Contract
    >>> from calibrator.portfolio.fixed_grids import exchange_24
    >>> rules = exchange_24(("BTC",), price_range=0.16, volatility_up=0.5, volatility_down=0.25)
    >>> held = Account("a", (Position(Contract("BTC", "perpetual", 100.0), 2.0),), ())
    >>> tried = what_if(held, rules, Position(Contract("BTC", "perpetual", 100.0), -1.0))
    >>> tried.change, tried.allowed
    (-16.0, True)
    """
    return WhatIf(assess(account, rules), assess(account.with_trade(*trade), rules))


@dataclass(frozen=True, slots=True)
class Distance:
    """How far prices can move before an account is liquidated.

    Attributes
    ----------
    fall, rise : float or None
        The smallest move at which equity no longer covers the maintenance requirement (fractions); 0 when it
        already does not, None when no move up to the limits of the search does it.

    Examples
    --------
    >>> Distance(-0.2, None).fall
    -0.2
    """

    fall: float | None
    rise: float | None


def distance_to_liquidation(
    account: Account, rules: PortfolioRules, *, underlyings: tuple[str, ...] | None = None
) -> Distance:
    """Find the moves at which an account would be liquidated, its requirement recomputed at the moved prices.

    Parameters
    ----------
    account : Account
    rules : PortfolioRules
    underlyings : tuple of str, optional
        Which move, by the same fraction; default all of them.

    Returns
    -------
    Distance
        Volatility and time stand still. Searched outwards in ``STEPS`` steps and then by halving: a second,
        nearer crossing inside one step would be missed.

    Examples
    --------
    >>> from calibrator.netting import CollateralRule
    >>> from calibrator.portfolio.contracts import Contract
    >>> from calibrator.portfolio.fixed_grids import exchange_24
    >>> from dataclasses import replace
    >>> rules = exchange_24(("BTC",), price_range=0.10, volatility_up=0.5, volatility_down=0.25)
    >>> rules = replace(rules, collateral=(CollateralRule("USDC", "mainnet", 0, None),))
    >>> long = Position(Contract("BTC", "perpetual", 100.0), 1.0, entry=100.0)
    >>> found = distance_to_liquidation(
    ...     Account("a", (long,), (Holding("USDC", "mainnet", 28.0, 1.0),)), rules)
    >>> round(found.fall, 6), found.rise
    (-0.2, None)
    """
    moving = tuple(u.symbol for u in rules.underlyings) if underlyings is None else underlyings

    def covered(move: float) -> bool:
        return assess(account.moved(rules, dict.fromkeys(moving, move)), rules).surplus >= 0

    if not covered(0.0):
        return Distance(0.0, 0.0)
    falls = -(np.geomspace(0.001, -FARTHEST_FALL, STEPS))
    rises = np.geomspace(0.001, FARTHEST_RISE, STEPS)
    first = [_first(covered, [float(x) for x in moves]) for moves in (falls, rises)]
    return Distance(*first)


def _first(covered: Covered, moves: list[float]) -> float | None:
    before = 0.0
    for move in moves:
        if not covered(move):
            inside, outside = before, move
            for _ in range(HALVINGS):
                middle = 0.5 * (inside + outside)
                inside, outside = (middle, outside) if covered(middle) else (inside, middle)
            return outside
        before = move
    return None
