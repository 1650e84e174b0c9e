"""The plan as a linear program: the cheapest path of margins that the target's rules allow.

Minimised over the next moves ``h_1..h_n``: capital asked, expected loss beyond the margin (a convex
piecewise-linear function of each move, from forecast scenarios) and changes; subject to named rules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_matrix, hstack, identity, vstack

from calibrator.errors import InfeasibleScheduleError

Array = NDArray[np.float64]
INFEASIBLE: Final = 2
SLACK: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Excess:
    """Expected loss beyond a margin, move by move, as the largest of some lines.

    Attributes
    ----------
    intercepts, slopes : numpy.ndarray, shape (moves, lines)
        ``E max(0, L - h) >= intercept + slope * h`` for every line; slopes lie in [-1, 0].
    """

    intercepts: Array
    slopes: Array

    def at(self, path: Array) -> Array:
        """Return the expected excess of each move of a path.

        Examples
        --------
        >>> one = Excess(np.array([[0.1, 0.0]]), np.array([[-1.0, 0.0]]))
        >>> one.at(np.array([0.04])).round(3).tolist()
        [0.06]
        """
        largest: Array = (self.intercepts + self.slopes * path[:, None]).max(axis=1)
        return largest


@dataclass(frozen=True, slots=True)
class Rule:
    """Linear constraints with a name: ``rows @ h <= bounds``.

    Attributes
    ----------
    name : str
        As the error names it.
    rows : numpy.ndarray, shape (constraints, moves)
    bounds : numpy.ndarray, shape (constraints,)
    """

    name: str
    rows: Array
    bounds: Array


@dataclass(frozen=True, slots=True)
class Prices:
    """What the plan pays for.

    Attributes
    ----------
    excess : float
        Cost of a unit of expected loss beyond the margin, in units of capital: ``1 / (1 - level)`` makes the
        unrestricted plan the quantile at ``level``.
    rise, fall : float
        Cost of a unit of tightening and of loosening. The notional that a tightening liquidates by itself is
        at most its size times the largest density of accounts at the border, so that it is a price per unit.
    """

    excess: float
    rise: float = 0.0
    fall: float = 0.0

    def __post_init__(self) -> None:
        if min(self.excess, self.rise, self.fall) < 0:
            raise ValueError(f"prices must not be negative, were {self.excess}, {self.rise}, {self.fall}")


def solve_plan(excess: Excess, start: float, rules: Sequence[Rule], *, prices: Prices) -> Array:
    """Return the cheapest path from ``start`` that obeys every rule.

    Parameters
    ----------
    excess : Excess
        Of every move.
    start : float
        Margin or haircut in force (fraction).
    rules : sequence of Rule
        On the moves.
    prices : Prices

    Returns
    -------
    numpy.ndarray, shape (moves,)
        Fractions between 0 and 1.

    Raises
    ------
    InfeasibleScheduleError
        No path obeys every rule; names those that would have to give way.

    References
    ----------
    Rockafellar, R. and Uryasev, S. (2000). Optimization of conditional value-at-risk. Journal of Risk 2.
    Huangfu, Q. and Hall, J. (2018). Parallelizing the dual revised simplex method (HiGHS).

    Examples
    --------
    >>> excess = Excess(np.array([[0.30, 0.0]] * 3), np.array([[-1.0, 0.0]] * 3))
    >>> path = solve_plan(excess, 0.20, step_rules(0.20, 3, step=0.04), prices=Prices(excess=100.0))
    >>> path.round(3).tolist()
    [0.24, 0.28, 0.3]
    """
    moves, lines = excess.slopes.shape
    change = np.eye(moves) - np.eye(moves, k=-1)
    began = np.zeros(moves)
    began[0] = start
    # Unknowns: moves h, excesses e, rises u, falls d.
    cost = np.concatenate(
        [
            np.ones(moves),
            np.full(moves, prices.excess),
            np.full(moves, prices.rise),
            np.full(moves, prices.fall),
        ]
    )
    below = csr_matrix(
        np.vstack([np.diag(excess.slopes[:, k]) for k in range(lines)] + [rule.rows for rule in rules])
    )
    own = vstack([-identity(moves)] * lines + [csr_matrix((below.shape[0] - lines * moves, moves))])
    rows = hstack([below, own, csr_matrix((below.shape[0], 2 * moves))], format="csr")
    bounds = np.concatenate([-excess.intercepts.T.ravel(), *[rule.bounds for rule in rules]])
    equal = hstack([csr_matrix(change), csr_matrix((moves, moves)), -identity(moves), identity(moves)])
    solved = linprog(
        cost,
        A_ub=rows,
        b_ub=bounds,
        A_eq=equal,
        b_eq=began,
        bounds=[(0, 1)] * moves + [(0, None)] * (3 * moves),
        method="highs",
    )
    if solved.status == INFEASIBLE:
        raise InfeasibleScheduleError(_binding(rules, moves, start))
    if not solved.success:
        raise InfeasibleScheduleError(f"plan: the solver stopped: {solved.message}")
    path: Array = solved.x[:moves]
    return path


def _binding(rules: Sequence[Rule], moves: int, start: float) -> str:
    """Say which rules would have to give way, by the smallest total violation."""
    rows = np.vstack([rule.rows for rule in rules])
    bounds = np.concatenate([rule.bounds for rule in rules])
    gives = -np.eye(len(rows))
    solved = linprog(
        np.concatenate([np.zeros(moves), np.ones(len(rows))]),
        A_ub=np.hstack([rows, gives]),
        b_ub=bounds,
        bounds=[(0, 1)] * moves + [(0, None)] * len(rows),
        method="highs",
    )
    owner = np.repeat([rule.name for rule in rules], [len(rule.bounds) for rule in rules])
    short = solved.x[moves:]
    found = [
        f"{name} by {short[owner == name].max():.4%}" for name in dict.fromkeys(owner[short > SLACK].tolist())
    ]
    return (
        f"plan: no path from {start:.4%} obeys every rule; these would have to give way: {', '.join(found)}"
    )


def step_rules(start: float, moves: int, *, step: float, down: float | None = None) -> tuple[Rule, ...]:
    """Return the rules of a target that limits each move to ``step`` (absolute), up and ``down`` (alike).

    Examples
    --------
    >>> up, down = step_rules(0.2, 2, step=0.005)
    >>> up.name, up.bounds.round(3).tolist()
    ('step up', [0.205, 0.005])
    """
    change = np.eye(moves) - np.eye(moves, k=-1)
    began = np.zeros(moves)
    began[0] = start
    return (
        Rule("step up", change, step + began),
        Rule("step down", -change, (step if down is None else down) - began),
    )


def relative_rules(
    start: float, moves: int, *, rise: float, fall: float, base: float = 0.0
) -> tuple[Rule, ...]:
    """Return the rules of limits that count as fractions of the value before.

    Rises from below ``base`` count as fractions of that; the exact limit, which is not convex, is that of the
    larger of the two at every move.

    Examples
    --------
    >>> up, down = relative_rules(0.1, 2, rise=0.2, fall=0.1)
    >>> up.bounds.round(3).tolist(), down.bounds.round(3).tolist()
    ([0.12, 0.0], [-0.09, -0.0])
    """
    small = start < base
    up = np.eye(moves) - (1.0 if small else 1 + rise) * np.eye(moves, k=-1)
    down = (1 - fall) * np.eye(moves, k=-1) - np.eye(moves)
    began = np.zeros(moves)
    began[0] = start
    return (
        Rule("largest increase", up, rise * base + began if small else (1 + rise) * began),
        Rule("largest decrease", down, -(1 - fall) * began),
    )


def range_rules(moves: int, *, floor: float, cap: float) -> tuple[Rule, ...]:
    """Return the rules of a floor and a cap.

    Examples
    --------
    >>> low, high = range_rules(1, floor=0.05, cap=0.4)
    >>> low.bounds.tolist(), high.bounds.tolist()
    ([-0.05], [0.4])
    """
    each = np.eye(moves)
    return Rule("floor", -each, np.full(moves, -floor)), Rule("cap", each, np.full(moves, cap))


def notice_rules(announced: Array, moves: int) -> tuple[Rule, ...]:
    """Return the rule that what was announced stays: the first moves are given.

    Examples
    --------
    >>> notice_rules(np.array([0.2]), 2)[0].rows.tolist()
    [[1.0, 0.0], [-1.0, -0.0]]
    """
    first = np.eye(moves)[: len(announced)]
    return (Rule("notice", np.vstack([first, -first]), np.concatenate([announced, -announced])),)
