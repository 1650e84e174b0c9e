"""Scenario grids as arrays, and what every contract gains or loses in them: the risk arrays."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from calibrator.domain import PPM
from calibrator.netting import PortfolioRules, Scenario
from calibrator.portfolio.black76_kernels import revalue
from calibrator.portfolio.contracts import Table

Array = NDArray[np.float64]
Level = Literal["maintenance", "initial"]
YEAR: Final = 365 * 86_400.0
LOWEST: Final = -0.999999
SIGNS: Final = {"up": 1.0, "same": 0.0, "down": -1.0}


@dataclass(frozen=True, slots=True)
class Grid:
    """Scenarios of every underlying at one level.

    Attributes
    ----------
    symbols : tuple of str, length U
    move : numpy.ndarray, shape (U, S)
        Price moves, fractions.
    shift : numpy.ndarray, shape (U, S)
        Relative shifts of a 30-day volatility.
    elapsed : numpy.ndarray, shape (U, S)
        Years that have passed.
    weight : numpy.ndarray, shape (S,)
        Share of a loss that counts.
    scenarios : tuple of Scenario, length S
    widths : numpy.ndarray, shape (S,)
        Multiple of the maintenance level that each scenario stands for.
    term : numpy.ndarray, shape (3,)
        Short power, long power, floor in years.
    multiple : float
        Of the add-ons.

    Examples
    --------
    >>> Grid.names.__name__
    'names'
    """

    symbols: tuple[str, ...]
    move: Array
    shift: Array
    elapsed: Array
    weight: Array
    scenarios: tuple[Scenario, ...]
    widths: Array
    term: Array
    multiple: float

    def names(self, underlying: int) -> list[str]:
        """Name every scenario of one underlying, for people."""
        said = {"up": "volatility up", "same": "volatility unchanged", "down": "volatility down"}
        out = []
        for s, scenario in enumerate(self.scenarios):
            text = f"{self.symbols[underlying]} {self.move[underlying, s]:+.2%}, {said[scenario.volatility]}"
            extended = scenario.weight_ppm < PPM
            out.append(text + (f", {scenario.weight_ppm / PPM:.0%} of the loss" if extended else ""))
        return out


def grid(rules: PortfolioRules, level: Level = "maintenance") -> Grid:
    """Return the scenarios of a level as arrays.

    The initial level keeps every scenario of the maintenance level and adds the same ones with moves and
    volatility shifts multiplied: a wider grid contains the narrower one, so that no requirement falls.

    Parameters
    ----------
    rules : PortfolioRules
    level : {"maintenance", "initial"}

    Raises
    ------
    ValueError
        Another level.

    Examples
    --------
    >>> from calibrator.portfolio.fixed_grids import span_16
    >>> made = grid(span_16(("BTC",), price_range=0.12, volatility_range=0.25), "initial")
    >>> made.move.shape, float(made.move.max().round(6))
    ((1, 32), 0.45)
    """
    if level not in {"maintenance", "initial"}:
        raise ValueError(f"level must be maintenance or initial, was {level!r}")
    own = widened(rules, 1.0)
    if level == "maintenance":
        return own
    return union(own, widened(rules, rules.initial_multiple_ppm / PPM))


def widened(rules: PortfolioRules, multiple: float) -> Grid:
    """Return the rules' scenarios with moves, volatility shifts and add-ons multiplied.

    Parameters
    ----------
    rules : PortfolioRules
    multiple : float
        Positive; no price falls by more than 99.9999 %, no volatility below zero.

    Examples
    --------
    >>> from calibrator.portfolio.fixed_grids import span_16
    >>> rules = span_16(("BTC",), price_range=0.12, volatility_range=0.25)
    >>> float(widened(rules, 2.0).move.max()).__round__(6)
    0.72
    """
    if not 0 < multiple < np.inf:
        raise ValueError(f"multiple must be positive, was {multiple}")
    chosen = [s.move for s in rules.scenarios]
    moves = np.array([[u.moves_ppm[i] for i in chosen] for u in rules.underlyings]) / PPM
    signs = np.array([SIGNS[s.volatility] for s in rules.scenarios])
    up = np.array([u.volatility_up_ppm for u in rules.underlyings])[:, None] / PPM
    down = np.array([u.volatility_down_ppm for u in rules.underlyings])[:, None] / PPM
    passed = np.array([s.elapsed_ppm for s in rules.scenarios]) / PPM
    close_out = np.array([u.close_out_seconds for u in rules.underlyings])[:, None] / YEAR
    term = rules.term
    return Grid(
        symbols=tuple(u.symbol for u in rules.underlyings),
        move=np.maximum(moves * multiple, LOWEST),
        shift=np.where(signs > 0, up, down) * signs * multiple,
        elapsed=passed * close_out,
        weight=np.array([s.weight_ppm for s in rules.scenarios]) / PPM,
        scenarios=rules.scenarios,
        widths=np.full(len(signs), multiple),
        term=np.array([term.short_power_ppm / PPM, term.long_power_ppm / PPM, term.floor_days / 365]),
        multiple=multiple,
    )


def union(narrow: Grid, wide: Grid) -> Grid:
    """Return a grid with the scenarios of both, and the wider one's multiple.

    Examples
    --------
    >>> from calibrator.portfolio.fixed_grids import span_16
    >>> rules = span_16(("BTC",), price_range=0.12, volatility_range=0.25)
    >>> len(union(widened(rules, 1.0), widened(rules, 1.5)).scenarios)
    32
    """
    if narrow.symbols != wide.symbols:
        raise ValueError(f"grids must have the same underlyings, were {narrow.symbols} and {wide.symbols}")
    return Grid(
        symbols=narrow.symbols,
        move=np.hstack([narrow.move, wide.move]),
        shift=np.hstack([narrow.shift, wide.shift]),
        elapsed=np.hstack([narrow.elapsed, wide.elapsed]),
        weight=np.concatenate([narrow.weight, wide.weight]),
        scenarios=narrow.scenarios + wide.scenarios,
        widths=np.concatenate([narrow.widths, wide.widths]),
        term=narrow.term,
        multiple=max(narrow.multiple, wide.multiple),
    )


def risk_arrays(contracts: Table, scenarios: Grid) -> Array:
    """Return what one long unit of every contract gains in every scenario, weighted, in quote currency.

    Parameters
    ----------
    contracts : Table
    scenarios : Grid
        With the same underlyings.

    Returns
    -------
    numpy.ndarray, shape (contracts, S)
        Gains positive, losses negative (SPAN's arrays have the other sign). Options are revalued by Black-76
        at the moved forward, the shifted volatility and the time that is left; one that expires within the
        close-out is worth its intrinsic value there.

    Examples
    --------
    >>> from calibrator.portfolio.contracts import Contract, table
    >>> from calibrator.portfolio.fixed_grids import span_16
    >>> scenarios = widened(span_16(("BTC",), price_range=0.12, volatility_range=0.25), 1.0)
    >>> perpetual = table((Contract("BTC", "perpetual", 100.0),), ("BTC",))
    >>> risk_arrays(perpetual, scenarios)[0, [0, 10, 12]].tolist()
    [0.0, 12.0, -12.0]
    """
    if contracts.symbols != scenarios.symbols:
        raise ValueError(
            f"contracts and grid must have the same underlyings, were {contracts.symbols} and "
            f"{scenarios.symbols}"
        )
    out = np.empty((len(contracts.contracts), len(scenarios.scenarios)))
    marks = (contracts.price, contracts.strike, contracts.volatility, contracts.years, contracts.scale)
    states = (scenarios.move, scenarios.shift, scenarios.elapsed, scenarios.weight)
    revalue(contracts.underlying, contracts.sign, marks, states, (scenarios.term, out))
    return out
