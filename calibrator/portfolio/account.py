"""One account: positions and a pool of collateral in several places, and what it must hold."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibrator.domain import PPM
from calibrator.errors import DataError
from calibrator.netting import CollateralRule, PortfolioRules
from calibrator.portfolio.black76 import Greeks, greeks
from calibrator.portfolio.contracts import Contract, Table, table
from calibrator.portfolio.requirement import Requirement, requirement, standalone

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Position:
    """So many units of a contract.

    Attributes
    ----------
    contract : Contract
        A derivative; spot belongs to the pool, where it has a haircut.
    quantity : float
        Units, negative when sold.
    entry : float or None
        Price at which a perpetual or future was entered; None when its gains are settled up to the mark.

    Raises
    ------
    DataError
        Spot, a quantity that is not finite, an entry price for an option or out of bounds.

    Examples
    --------
    >>> Position(Contract("BTC", "perpetual", 100.0), -2.0, entry=110.0).value
    20.0
    """

    contract: Contract
    quantity: float
    entry: float | None = None

    def __post_init__(self) -> None:
        if self.contract.kind == "spot":
            raise DataError(f"{self.contract.name}: spot is collateral, hold it in the pool")
        if not math.isfinite(self.quantity):
            raise DataError(f"{self.contract.name}: quantity must be finite, was {self.quantity}")
        if self.entry is not None and (self.contract.option or not 0 < self.entry < math.inf):
            raise DataError(f"{self.contract.name}: entry must be a positive price, was {self.entry}")

    @property
    def value(self) -> float:
        """What it adds to equity: an option's premium, a linear contract's unsettled gain."""
        if self.contract.option:
            made = table((self.contract,), (self.contract.underlying,))
            return self.quantity * float(made.value[0])
        return 0.0 if self.entry is None else self.quantity * (self.contract.price - self.entry)


@dataclass(frozen=True, slots=True)
class Holding:
    """So much of an asset in one place; a negative quantity is borrowed.

    Attributes
    ----------
    asset, location : str
    quantity : float
        Units.
    price : float
        Quote currency per unit.

    Examples
    --------
    >>> Holding("ETH", "arbitrum", 2.0, 2_500.0).quantity
    2.0
    """

    asset: str
    location: str
    quantity: float
    price: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.quantity):
            raise DataError(f"{self.asset} at {self.location}: quantity must be finite, was {self.quantity}")
        if not 0 < self.price < math.inf:
            raise DataError(f"{self.asset} at {self.location}: price must be positive, was {self.price}")

    def rule(self, rules: PortfolioRules) -> CollateralRule:
        """Return what the rules say about it.

        Raises
        ------
        DataError
            The rules do not know this asset in this place: nothing can be said about what it counts.
        """
        for rule in rules.collateral:
            if (rule.asset, rule.location) == (self.asset, self.location):
                return rule
        known = ", ".join(f"{r.asset} at {r.location}" for r in rules.collateral) or "none"
        raise DataError(f"{self.asset} at {self.location}: no haircut; the rules know {known}")

    def counted(self, rules: PortfolioRules) -> float:
        """Return the units that count: less the haircut, or all of what is borrowed."""
        haircut = self.rule(rules).haircut_ppm / PPM if self.quantity > 0 else 0.0
        return self.quantity * (1.0 - haircut)


@dataclass(frozen=True, slots=True)
class Account:
    """Everything one owner holds under one margin.

    Attributes
    ----------
    name : str
    positions : tuple of Position
    pool : tuple of Holding

    Raises
    ------
    DataError
        Neither a position nor a holding.

    Examples
    --------
    >>> Account("a", (), (Holding("USDC", "mainnet", 100.0, 1.0),)).name
    'a'
    """

    name: str
    positions: tuple[Position, ...]
    pool: tuple[Holding, ...]

    def __post_init__(self) -> None:
        if not self.positions and not self.pool:
            raise DataError(f"account {self.name}: the book is empty, neither a position nor collateral")

    def with_trade(self, *trade: Position | Holding) -> "Account":
        """Return the account after positions or holdings were added."""
        added = tuple(t for t in trade if isinstance(t, Position))
        moved = tuple(t for t in trade if isinstance(t, Holding))
        return replace(self, positions=self.positions + added, pool=self.pool + moved)

    def moved(self, rules: PortfolioRules, moves: dict[str, float]) -> "Account":
        """Return the account at other prices: every underlying's marks times one plus its move."""
        positions = tuple(
            replace(p, contract=_moved(p.contract, moves.get(p.contract.underlying, 0.0)))
            for p in self.positions
        )
        pool = tuple(
            replace(h, price=h.price * (1.0 + moves.get(h.rule(rules).underlying or "", 0.0)))
            for h in self.pool
        )
        return replace(self, positions=positions, pool=pool)


def _moved(contract: Contract, move: float) -> Contract:
    coin = None if contract.coin is None else contract.coin * (1.0 + move)
    return replace(contract, price=contract.price * (1.0 + move), coin=coin)


@dataclass(frozen=True)
class Assessment:
    """What an account is worth and what it must hold.

    Attributes
    ----------
    account : Account
    rules : PortfolioRules
    contracts : Table or None
        Distinct contracts, the pool's price exposure among them; None when nothing moves with an underlying.
    quantity : numpy.ndarray
        Held of each contract; collateral after its haircut.
    labels : tuple of str
        What each contract is, for reports.
    collateral, equity : float
        Pool after haircuts; and with what the positions add (quote currency).
    maintenance, initial : Requirement or None

    Examples
    --------
    >>> Assessment.surplus.fget.__doc__
    'Equity beyond the maintenance requirement.'
    """

    account: Account
    rules: PortfolioRules
    contracts: Table | None
    quantity: Array
    labels: tuple[str, ...]
    collateral: float
    equity: float
    maintenance: Requirement | None
    initial: Requirement | None

    @property
    def required(self) -> float:
        """Maintenance requirement, quote currency."""
        return self.maintenance.total if self.maintenance else 0.0

    @property
    def required_initially(self) -> float:
        """Initial requirement, never below the maintenance requirement."""
        return max(self.initial.total, self.required) if self.initial else 0.0

    @property
    def surplus(self) -> float:
        """Equity beyond the maintenance requirement."""
        return self.equity - self.required

    @cached_property
    def alone(self) -> Array:
        """Maintenance requirement of every position on its own, same order as ``labels``."""
        if self.contracts is None:
            return np.zeros(0)
        return standalone(self.contracts, self.quantity, self.rules)

    @property
    def compression(self) -> float:
        """One less portfolio over the sum of standalone requirements; 0 when nothing is asked."""
        total = float(self.alone.sum())
        return 1.0 - self.required / total if total > 0 else 0.0

    def sensitivities(self) -> dict[str, Greeks]:
        """Return the account's Greeks per underlying, in quote currency: sums over its positions.

        ``delta`` counts linear positions and the pool as one per unit.
        """
        out: dict[str, Greeks] = {}
        if self.contracts is None:
            return out
        for contract, held in zip(self.contracts.contracts, self.quantity, strict=True):
            own = _sensitivity(contract, float(held))
            before = out.get(contract.underlying)
            out[contract.underlying] = own if before is None else _sum(before, own)
        return out


def _sensitivity(contract: Contract, held: float) -> Greeks:
    zero = np.zeros(())
    if not contract.option:
        return Greeks(np.asarray(held), zero, zero, zero, zero, zero)
    made = greeks(
        contract.price,
        contract.strike or 0.0,
        max(contract.volatility or 0.0, 1e-9),
        contract.years or 0.0,
        call=contract.kind == "call",
    )
    m = held * contract.scale
    return Greeks(
        m * made.delta, m * made.gamma, m * made.vega, m * made.theta, m * made.vanna, m * made.volga
    )


def _sum(a: Greeks, b: Greeks) -> Greeks:
    return Greeks(
        a.delta + b.delta,
        a.gamma + b.gamma,
        a.vega + b.vega,
        a.theta + b.theta,
        a.vanna + b.vanna,
        a.volga + b.volga,
    )


def assess(account: Account, rules: PortfolioRules) -> Assessment:
    """Value an account and compute what it must hold.

    ``equity = sum of collateral * (1 - haircut) + value of the positions``. The collateral that moves with an
    underlying stands in the scenarios with the units that count, so that its own fall, and what it hedges, is
    part of the same worst case.

    Parameters
    ----------
    account : Account
    rules : PortfolioRules

    Raises
    ------
    DataError
        An underlying or a collateral that the rules do not know.

    Examples
    --------
    >>> from calibrator.netting import CollateralRule
    >>> from calibrator.portfolio.fixed_grids import exchange_24
    >>> rules = exchange_24(("BTC",), price_range=0.16, volatility_up=0.5, volatility_down=0.25)
    >>> rules = replace(rules, collateral=(CollateralRule("BTC", "mainnet", 200_000, "BTC"),))
    >>> short = Position(Contract("BTC", "perpetual", 100.0), -0.8)
    >>> hedged = assess(Account("carry", (short,), (Holding("BTC", "mainnet", 1.0, 100.0),)), rules)
    >>> hedged.equity, hedged.required, hedged.compression
    (80.0, 0.0, 1.0)
    """
    held: dict[Contract, float] = {}
    labels: dict[Contract, str] = {}
    collateral = 0.0
    for position in account.positions:
        held[position.contract] = held.get(position.contract, 0.0) + position.quantity
        labels[position.contract] = position.contract.name
    for holding in account.pool:
        rule, units = holding.rule(rules), holding.counted(rules)
        collateral += units * holding.price
        if rule.underlying is not None:
            exposure = Contract(rule.underlying, "spot", holding.price)
            held[exposure] = held.get(exposure, 0.0) + units
            place = f"{holding.asset} at {holding.location}"
            labels[exposure] = f"{labels[exposure]}, {place}" if exposure in labels else place
    equity = collateral + sum(p.value for p in account.positions)
    symbols = [u.symbol for u in rules.underlyings]
    contracts = table(tuple(held), symbols) if held else None
    quantity = np.array(list(held.values()))
    return Assessment(
        account=account,
        rules=rules,
        contracts=contracts,
        quantity=quantity,
        labels=tuple(labels[c] for c in held),
        collateral=collateral,
        equity=equity,
        maintenance=requirement(contracts, quantity, rules) if contracts else None,
        initial=requirement(contracts, quantity, rules, level="initial") if contracts else None,
    )
