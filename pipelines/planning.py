"""Haircuts under a target's own step limit: a plan that is solved again at every decision that may move."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.plan_program import Prices, relative_rules, solve_plan, step_rules
from calibrator.calibrate.scenarios import excess_of, expected_needs
from calibrator.config import Config
from calibrator.domain import HIGHEST, NOISE, PPM, ChangeLimits, StepLimits, ppm_down
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
    """

    published: Array
    path: Array
    held: Array


def planned_haircuts(
    table: pd.DataFrame, need: Array, *, config: Config, loan: Loan, first: int = 0, phase: int = 0
) -> Planned:
    """Publish one collateral's haircuts within a step limit, and say what is planned at every decision.

    The first haircut is the need itself; afterwards every ``settings.every`` decisions the linear program
    of :mod:`calibrator.calibrate.plan_program` is solved from the haircut in force over scenarios of the
    need, its first move is published, and the others are the plan. While the input is incomplete, or the
    regime holds margins up, a haircut holds or rises.

    Parameters
    ----------
    table : pandas.DataFrame
        One market's decisions: ``unlimited_long``, ``loss_long``, ``loss_known_at``, ``complete`` and
        ``regime``, index ``origin``.
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
    settings, steps = loan.pair.limits, config.margin.plan_steps
    if settings is None:
        raise ValueError(f"{loan.pair.key}: limits must be set")
    limits, count = settings.to_domain(), len(need)
    both = loan, limits, config.margin.limits.to_domain()
    mean, spread = expected_needs(
        need, ahead=tuple(limits.every * k for k in range(settings.steps)), window=settings.history
    )
    mean[:, 0], spread[:, 0] = np.log(need), CERTAIN
    level = loan.pair.level or config.margin.level
    prices = Prices(
        1.0 / (1.0 - level), settings.liquidation_cost + settings.change_cost, settings.change_cost
    )
    ratios = table["loss_long"].to_numpy(float) / table["unlimited_long"].to_numpy(float)
    known_at = pd.DatetimeIndex(table["loss_known_at"]).to_numpy()
    origins, complete = pd.DatetimeIndex(table.index).to_numpy(), table["complete"].to_numpy(bool)
    free, need = may_fall(table, config), np.minimum(need, HIGHEST / PPM)
    published, path = np.full(count, np.nan), np.full((count, steps), np.nan)
    held = np.zeros(count)
    moves = np.full(settings.steps, up(need[first]))
    for t in range(first, count):
        place = (t - first - phase) % limits.every
        if t == first:
            published[t] = up(need[first])
        elif place:
            published[t] = published[t - 1]
        else:
            past = ratios[:t][known_at[:t] <= origins[t]][-settings.history :]
            moves = _moves(published[t - 1], (mean[t], spread[t]), past, both, prices)
            moves = moves if complete[t] else np.fmax(moves, published[t - 1])
            held[t] = 0.0 if free[t] else max(published[t - 1] - moves[0], 0.0)
            moves = moves if free[t] else np.fmax(moves, published[t - 1])
            published[t] = moves[0]
        due = np.minimum((place + np.arange(1, steps + 1)) // limits.every, len(moves) - 1)
        path[t] = moves[due] if t >= first + limits.every else published[t]
    return Planned(published, path, held)


def _moves(
    start: float,
    need: tuple[Array, Array],
    ratios: Array,
    limits: tuple[Loan, StepLimits, ChangeLimits],
    prices: Prices,
) -> Array:
    """Solve one plan, in whole ppm inside the limits."""
    count, (loan, absolute, relative) = len(need[0]), limits
    if not np.isfinite(ratios).any():
        return np.full(count, start)
    step, now = ppm_down(absolute.step), round(start * PPM)
    rise, fall = (abs(loan.within(now + way * step, now, step) - now) for way in (1, -1))
    rules = [
        *step_rules(
            start,
            count,
            step=absolute.step if rise == step else rise / PPM,
            down=absolute.step if fall == step else fall / PPM,
        ),
        *relative_rules(
            start, count, rise=relative.max_increase, fall=relative.max_decrease, base=relative.min_base
        ),
    ]
    solved = solve_plan(excess_of(*need, ratios), start, rules, prices=prices)
    out, last = np.empty(count), start
    for k, value in enumerate(solved):
        # rounding up must not pass the limit, counted from the value in force
        most = min(last + absolute.step, relative.raised(last, relative.max_increase))
        highest = np.floor(most * PPM + NOISE) / PPM
        wanted = min(up(float(value)), highest)
        out[k] = last = loan.within(round(wanted * PPM), round(last * PPM), step) / PPM
    return out


def up(fraction: float) -> float:
    """Round a fraction up to whole ppm.

    Examples
    --------
    >>> up(0.1234567)
    0.123457
    """
    return float(np.ceil(fraction * PPM - NOISE) / PPM)
