"""A book of many accounts: every account's requirement, and what the same positions ask one by one."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from calibrator.errors import DataError
from calibrator.netting import PortfolioRules
from calibrator.portfolio import book_kernels as kernels
from calibrator.portfolio.contingencies import rates
from calibrator.portfolio.contracts import Table
from calibrator.portfolio.grid import Grid, Level, grid, risk_arrays
from calibrator.portfolio.offsets import correlation_bounds

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
COLUMNS: Final = {"call": 0, "put": 1, "perpetual": 2, "spot": 3, "future": 3}
PARTS: Final = ("core", "basis", "funding", "naked", "concentration")


@dataclass(frozen=True, slots=True)
class Book:
    """Positions of many accounts, sorted by account.

    Attributes
    ----------
    accounts : int
        How many; an account without a position needs nothing.
    contracts : Table
    contract : numpy.ndarray of int, shape (positions,)
    quantity : numpy.ndarray, shape (positions,)
    start : numpy.ndarray of int, shape (accounts + 1,)
        Where each account's positions begin.

    Examples
    --------
    >>> from calibrator.portfolio.contracts import Contract, table
    >>> held = table((Contract("BTC", "spot", 100.0),), ("BTC",))
    >>> book([1, 0, 1], [0, 0, 0], [1.0, 2.0, 3.0], contracts=held, accounts=2).start.tolist()
    [0, 1, 3]
    """

    accounts: int
    contracts: Table
    contract: Ints
    quantity: Array
    start: Ints


def book(
    account: ArrayLike, contract: ArrayLike, quantity: ArrayLike, *, contracts: Table, accounts: int
) -> Book:
    """Group positions by account, in one pass.

    Parameters
    ----------
    account, contract : array_like of int, shape (positions,)
        Numbers from 0; ``contract`` is a row of ``contracts``.
    quantity : array_like, shape (positions,)
        Signed, finite.
    contracts : Table
    accounts : int

    Raises
    ------
    DataError
        No position, columns of different length, a number out of range, a quantity that is not finite.

    Examples
    --------
    >>> from calibrator.portfolio.contracts import Contract, table
    >>> held = table((Contract("BTC", "spot", 100.0),), ("BTC",))
    >>> book([], [], [], contracts=held, accounts=1)
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: the book is empty: no position
    """
    owner, what = np.asarray(account, np.int64), np.asarray(contract, np.int64)
    held = np.ascontiguousarray(quantity, np.float64)
    if not len(held):
        raise DataError("the book is empty: no position")
    if not owner.shape == what.shape == held.shape or owner.ndim != 1:
        raise DataError(
            f"columns of a book must have one length, were {owner.shape}, {what.shape}, {held.shape}"
        )
    for name, values, count in (("account", owner, accounts), ("contract", what, len(contracts.contracts))):
        if values.min() < 0 or values.max() >= count:
            raise DataError(f"{name} must lie in 0..{count - 1}, was {values.min()} to {values.max()}")
    if not np.isfinite(held).all():
        first = int(np.flatnonzero(~np.isfinite(held))[0])
        raise DataError(f"position {first}: quantity must be finite, was {held[first]}")
    start, out = np.zeros(accounts + 1, np.int64), (np.empty_like(what), np.empty_like(held))
    kernels.group(owner, (what, held), start, out)
    return Book(accounts, contracts, *out, start)


def requirements(
    held: Book,
    rules: PortfolioRules,
    *,
    level: Level = "maintenance",
    threads: int = 1,
    scenarios: Grid | None = None,
) -> Array:
    """Return every account's requirement in its parts; bit for bit the same for any number of threads.

    Parameters
    ----------
    held : Book
    rules : PortfolioRules
    level : {"maintenance", "initial"}
    threads : int
        At least 1.
    scenarios : Grid, optional
        Instead of the rules' own at ``level``.

    Returns
    -------
    numpy.ndarray, shape (accounts, 5)
        Core, basis, funding, naked options, concentration (quote currency); their sum is the requirement.

    Examples
    --------
    >>> from calibrator.portfolio.contracts import Contract, table
    >>> from calibrator.portfolio.fixed_grids import exchange_24
    >>> rules = exchange_24(("BTC",), price_range=0.16, volatility_up=0.5, volatility_down=0.25)
    >>> perpetual = table((Contract("BTC", "perpetual", 100.0),), ("BTC",))
    >>> two = book([0, 1, 1], [0, 0, 0], [1.0, -2.0, 0.5], contracts=perpetual, accounts=2)
    >>> requirements(two, rules)[:, 0].tolist()
    [16.0, 24.0]
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, was {threads}")
    used = grid(rules, level) if scenarios is None else scenarios
    own = held.contracts
    column = np.array([COLUMNS[c.kind] for c in own.contracts], np.int64)
    gains = risk_arrays(own, used)
    columns = (own.underlying, own.bucket, column, gains, own.exposure, own.notional, own.bucket_underlying)
    charged = rates(rules)
    world = (
        np.sign(used.move).astype(np.int8),
        correlation_bounds(rules),
        (charged.basis * used.multiple, charged.funding * used.multiple, charged.naked * used.multiple),
        (charged.floors, charged.steps * used.multiple),
    )
    out = np.empty((held.accounts, len(PARTS)))
    edges = np.linspace(0, held.accounts, threads + 1).astype(np.int64)
    positions = (held.start, held.contract, held.quantity)

    def part(first: int, last: int) -> None:
        kernels.requirements(positions, columns, world, (first, last), out)

    if threads == 1:
        part(0, held.accounts)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(part, edges[:-1].tolist(), edges[1:].tolist()))
    return out


def standalone_sums(held: Book, rules: PortfolioRules, *, level: Level = "maintenance") -> Array:
    """Return what every account's positions ask one by one, summed; shape (accounts,).

    Examples
    --------
    >>> from calibrator.portfolio.contracts import Contract, table
    >>> from calibrator.portfolio.fixed_grids import exchange_24
    >>> rules = exchange_24(("BTC",), price_range=0.16, volatility_up=0.5, volatility_down=0.25)
    >>> perpetual = table((Contract("BTC", "perpetual", 100.0),), ("BTC",))
    >>> two = book([0, 1, 1], [0, 0, 0], [1.0, -2.0, 0.5], contracts=perpetual, accounts=2)
    >>> standalone_sums(two, rules).tolist()
    [16.0, 40.0]
    """
    own = held.contracts
    many = np.arange(len(own.contracts))
    unit, size = [], np.abs(own.exposure).repeat(2)
    for sign in (1.0, -1.0):
        alone = book(many, many, np.full(len(many), sign), contracts=own, accounts=len(many))
        unit.append(requirements(alone, rules, level=level)[:, :4])
    option = own.sign != 0
    size[1::2] = np.where(option, np.maximum(size[1::2], own.notional), size[1::2])
    charged, multiple = rates(rules), grid(rules, level).multiple
    each = np.empty(len(held.quantity))
    kernels.standalone(
        held.contract,
        held.quantity,
        (unit[0].sum(axis=1), unit[1].sum(axis=1), size, own.underlying),
        (charged.floors, charged.steps * multiple),
        each,
    )
    return np.add.reduceat(np.append(each, 0.0), held.start[:-1]) * (np.diff(held.start) > 0)
