"""Haircuts under a target's own step limit: a plan that is solved again at every decision that may move."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.plan_program import (
    SLACK,
    Prices,
    Rule,
    notice_rules,
    range_rules,
    relative_rules,
    solve_plan,
    step_rules,
)
from calibrator.calibrate.scenarios import excess_of, expected_needs
from calibrator.config import Config
from calibrator.config_procyclicality import StepConfig
from calibrator.domain import HIGHEST, NOISE, PPM, ChangeLimits, ppm_down, ppm_up
from calibrator.errors import InfeasibleScheduleError
from pipelines.loans import Loan
from pipelines.smoothing import may_fall

Array = NDArray[np.float64]
CERTAIN = 1e-6
"""Spread of a need that is known: the present one."""


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """Haircuts under a target's step limit.

    Attributes
    ----------
    published : numpy.ndarray, shape (decisions,)
        Whole ppm, rounded up.
    path : numpy.ndarray, shape (decisions, steps)
        Planned haircuts of the next decisions.
    held : numpy.ndarray, shape (decisions,)
        What a regime hold adds to each haircut, given those before it.
    refused : tuple of str, length decisions
        Why no haircut is feasible and the one in force holds, with the rules that would have to give way;
        empty where one is.
    """

    published: Array
    path: Array
    held: Array
    refused: tuple[str, ...]


def planned_haircuts(
    table: pd.DataFrame, need: Array, *, config: Config, loan: Loan, first: int = 0, phase: int = 0
) -> Planned:
    """Publish one collateral's haircuts within a step limit, and say what is planned at every decision.

    The first haircut is the need itself; afterwards every ``settings.every`` decisions the linear program
    of :mod:`calibrator.calibrate.plan_program` is solved from the haircut in force over scenarios of the
    need, its first move is published, and the others are the plan. While the input is incomplete, or the
    regime holds margins up, a haircut holds or rises. What was announced within ``margin.notice`` stays; the
    target's range and the ordering of the lending parameters are rules of the program. Where none is
    feasible the haircut in force holds; before the first feasible one, every need is tried.

    Parameters
    ----------
    table : pandas.DataFrame
        One market's decisions: ``unlimited_long``, ``loss_long``, ``loss_known_at``, ``complete``,
        ``regime`` and, for a collateral, ``borrow``; index ``origin``.
    need : numpy.ndarray, shape (decisions,)
        What would be asked without a limit (fraction).
    config : Config
        ``margin.limits`` (largest relative move), ``margin.plan_steps`` and, where the pair has none, the
        level of the loss quantile.
    loan : Loan
        Its pair's ``limits`` (step limit of the target, moves ahead, prices) hold haircut, liquidation
        threshold and penalty alike.
    first, phase : int
        Row of the first haircut, and decisions after it to the first move (0: as many as between moves);
        earlier rows are only learned from.

    Raises
    ------
    ValueError
        The pair has no ``limits``.
    """
    settings, steps, count = loan.pair.limits, config.margin.plan_steps, len(need)
    if settings is None:
        raise ValueError(f"{loan.pair.key}: limits must be set")
    program = _Program(loan, settings, config.margin.limits.to_domain(), _prices(loan, settings, config))
    mean, spread = expected_needs(
        need, ahead=tuple(settings.every * k for k in range(settings.steps)), window=settings.history
    )
    mean[:, 0], spread[:, 0] = np.log(need), CERTAIN
    ratios = table["loss_long"].to_numpy(float) / table["unlimited_long"].to_numpy(float)
    known_at = pd.DatetimeIndex(table["loss_known_at"]).to_numpy()
    origins, complete = pd.DatetimeIndex(table.index).to_numpy(), table["complete"].to_numpy(bool)
    borrow = table["borrow"].to_numpy(float) if "borrow" in table else np.zeros(count)
    free, need = may_fall(table, config), np.minimum(need, HIGHEST / PPM)
    published, path = np.full(count, np.nan), np.full((count, steps), np.nan)
    held, refused = np.zeros(count), [""] * count
    notice, began, moves = -(-config.margin.notice // config.forecast.cadence), first, np.empty(0)
    for t in range(first, count):
        place = (t - first - phase) % settings.every
        if began == t:
            published[t], refused[t] = program.first(float(need[t]), float(borrow[t]))
            moves, began = np.full(settings.steps, published[t]), began + bool(refused[t])
        elif place:
            published[t], refused[t] = published[t - 1], refused[t - 1]
        else:
            past = ratios[:t][known_at[:t] <= origins[t]][-settings.history :]
            last = _announced(published[began:t], settings.every, notice)
            moves, refused[t] = program.moves(last, (mean[t], spread[t]), past, float(borrow[t]))
            moves = moves if complete[t] else np.fmax(moves, published[t - 1])
            held[t] = 0.0 if free[t] else max(published[t - 1] - moves[0], 0.0)
            moves = moves if free[t] else np.fmax(moves, published[t - 1])
            published[t] = moves[0]
        due = np.minimum((place + np.arange(1, steps + 1)) // settings.every, len(moves) - 1)
        path[t] = moves[due] if t >= first + settings.every else published[t]
    return Planned(published, path, held, tuple(refused))


def _prices(loan: Loan, settings: StepConfig, config: Config) -> Prices:
    level = loan.pair.level or config.margin.level
    change, liquidation = settings.change_cost, settings.liquidation_cost
    return Prices(1.0 / (1.0 - level), liquidation + change, change)


def _announced(published: Array, every: int, notice: int) -> Array:
    """Return the haircut in force and those announced since, one per move, the last of them last.

    A decision takes effect after ``notice`` decisions: what was decided in between is announced and stays.

    Examples
    --------
    >>> past = np.array([0.1, 0.1, 0.1, 0.12, 0.12, 0.12, 0.15, 0.15, 0.15])
    >>> _announced(past, 3, 0).tolist(), _announced(past, 3, 5).tolist()
    ([0.15], [0.12, 0.15])
    """
    count = max(notice - 1, 0) // every
    return published[::-1][: count * every + 1 : every][::-1]


@dataclass(frozen=True, slots=True)
class _Program:
    """The linear program of one entry at any of its decisions."""

    loan: Loan
    settings: StepConfig
    relative: ChangeLimits
    prices: Prices

    def first(self, need: float, borrow: float) -> tuple[float, str]:
        """Return the first haircut, and why it may not be published: its need must fit the target's range."""
        start = up(max(need, self.settings.floor))
        ordering = Rule("ordering", np.eye(1), np.full(1, self.loan.highest(borrow) / PPM))
        over = {r.name: float((r.rows @ [start] - r.bounds).max()) for r in (*self._range(1), ordering)}
        found = [f"{name} by {value:.4%}" for name, value in over.items() if value > SLACK]
        told = f"plan: the need of {start:.4%} obeys not every rule; these would have to give way: "
        return start, told + ", ".join(found) if found else ""

    def moves(
        self, announced: Array, need: tuple[Array, Array], ratios: Array, borrow: float
    ) -> tuple[Array, str]:
        """Solve one plan, in whole ppm inside the limits; where there is none, hold and say which rules bind.

        Parameters
        ----------
        announced : numpy.ndarray
            The haircut in force, and those that were announced and are not yet.
        """
        count, start, given = len(need[0]), float(announced[-1]), len(announced) - 1
        if not np.isfinite(ratios).any():
            return np.full(count, start), ""
        rules = [_later(rule, given) for rule in self._speed(count, start)]
        rules += [*self._range(given + count), *self._ordering(given + count, start, borrow)]
        if given:
            rules += notice_rules(announced[1:], given + count)
        mean, spread = (np.concatenate([np.repeat(x[:1], given), x]) for x in need)
        try:
            solved = solve_plan(
                excess_of(mean, spread, ratios), float(announced[0]), rules, prices=self.prices
            )
        except InfeasibleScheduleError as error:
            return np.full(count, start), str(error)
        return self._rounded(solved[given:], start), ""

    def _rounded(self, path: Array, start: float) -> Array:
        """Round up to whole ppm; that must not pass a limit, counted from the value in force."""
        step, cap = ppm_down(self.settings.step), ppm_down(self.settings.cap) / PPM
        out, last = np.empty(len(path)), start
        for k, value in enumerate(path):
            most = min(last + self.settings.step, self.relative.raised(last, self.relative.max_increase), cap)
            highest = np.floor(most * PPM + NOISE) / PPM
            wanted = min(up(float(value)), highest)
            out[k] = last = self.loan.within(round(wanted * PPM), round(last * PPM), step) / PPM
        return out

    def _speed(self, moves: int, start: float) -> tuple[Rule, ...]:
        """Return the target's step, of haircut, threshold and penalty, and our own relative limits."""
        most, relative = self.settings.step, self.relative
        step, now = ppm_down(most), round(start * PPM)
        rise, fall = (abs(self.loan.within(now + way * step, now, step) - now) for way in (1, -1))
        return (
            *step_rules(
                start,
                moves,
                step=most if rise == step else rise / PPM,
                down=most if fall == step else fall / PPM,
            ),
            *relative_rules(
                start, moves, rise=relative.max_increase, fall=relative.max_decrease, base=relative.min_base
            ),
        )

    def _range(self, moves: int) -> tuple[Rule, ...]:
        """Return the target's own range, where one is configured."""
        floor, cap = self.settings.floor, self.settings.cap
        return range_rules(moves, floor=floor, cap=cap) if floor > 0 or cap < 1 else ()

    def _ordering(self, moves: int, start: float, borrow: float) -> tuple[Rule, ...]:
        """Return the rule that something is left to lend, where a plan from ``start`` could end otherwise.

        It keeps a haircut from rising there and never makes one fall: a wider borrow margin must not loosen.
        """
        reach = min(round((start + self.settings.step * moves) * PPM), PPM)
        if not math.isfinite(borrow) or self.loan.threshold_and_penalty(reach)[0] > max(ppm_up(borrow), 1):
            return ()
        most = max(self.loan.highest(borrow) / PPM, start)
        return (Rule("ordering", np.eye(moves), np.full(moves, most)),)


def _later(rule: Rule, given: int) -> Rule:
    """Apply a rule on moves to those after the announced ones."""
    return Rule(rule.name, np.pad(rule.rows, ((0, 0), (given, 0))), rule.bounds) if given else rule


def up(fraction: float) -> float:
    """Round a fraction up to whole ppm.

    Examples
    --------
    >>> up(0.1234567)
    0.123457
    """
    return float(np.ceil(fraction * PPM - NOISE) / PPM)
