"""From a collateral's haircuts to what is lent against it: every decision, and the steps ahead."""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.haircut import Lent, LoanTerms, haircut_schedule
from calibrator.calibrate.liquidation import Liquidator, adverse_move
from calibrator.config import Config
from calibrator.config_collateral import HaircutPair
from calibrator.data.rows import Finding, findings_frame
from calibrator.domain import HaircutSchedule, ppm_down
from calibrator.errors import InfeasibleScheduleError
from calibrator.frames import FINDINGS, conform
from pipelines.production import Decisions
from pipelines.smoothing import may_fall
from pipelines.starts import close_out

Flags = NDArray[np.bool_]
ACTION: Final = "held at the last good value, or left out"


def pair_of(config: Config, d: Decisions) -> HaircutPair:
    """Return the resolved terms of a collateral's entry."""
    return d.pair or config.haircut.single(d.market)


def liquidator(config: Config, d: Decisions, haircut: float) -> Liquidator:
    """Return what a liquidator of this collateral spends."""
    pair = pair_of(config, d)
    auction = pair.auction or 0.0
    move = adverse_move(min(haircut, 1.0), auction=auction, bars=close_out(config, d.terms))
    return Liquidator(slippage=pair.slippage or 0.0, gas=pair.gas or 0.0, move=move)


def loan_terms(config: Config, d: Decisions, haircut: float) -> LoanTerms:
    """Return what a liquidation costs; the penalty is raised where it would not pay the liquidator."""
    pair = pair_of(config, d)
    least = liquidator(config, d, haircut).least_penalty(pair.liquidation_size or math.inf)
    penalty = min(max(pair.penalty or 0.0, least), 1.0)
    return LoanTerms(penalty, pair.slippage or 0.0, pair.interest or 0.0)


def lent_history(config: Config, d: Decisions) -> list[HaircutSchedule | InfeasibleScheduleError]:
    """Return the lending parameters of every decision, as they would have been published.

    The threshold follows the haircut. Loan-to-value does not rise at a decision whose input is incomplete or
    whose regime holds margins up, and where the target limits moves (``haircut.limits``) it moves at the same
    decisions and by the same step as the haircut. An infeasible decision leaves in force what was there.
    """
    haircuts, borrow = d.margin, d.table["borrow"].to_numpy(float)
    may_rise, may_move = may_fall(d.table, config), _moves(config, len(d.table))
    out: list[HaircutSchedule | InfeasibleScheduleError] = []
    last: int | None = None
    for t, haircut in enumerate(haircuts.tolist()):
        before = None if last is None else Lent(last, _reach(config, bool(may_move[t])), bool(may_rise[t]))
        try:
            made = haircut_schedule(
                haircut, float(borrow[t]), terms=loan_terms(config, d, haircut), last=before
            )
        except InfeasibleScheduleError as error:
            out.append(error)
            continue
        out.append(made)
        last = made.loan_to_value_ppm
    return out


def lending(config: Config, d: Decisions) -> Callable[[float], HaircutSchedule]:
    """Return the rule that turns a haircut of the last decision into lending parameters.

    It raises :class:`InfeasibleScheduleError` where nothing is left to lend.
    """
    earlier = [s for s in lent_history(config, _before(d)) if isinstance(s, HaircutSchedule)]
    place = len(d.table) - 1
    may_rise = bool(may_fall(d.table, config)[-1])
    reach = _reach(config, bool(_moves(config, place + 1)[-1]))
    last = Lent(earlier[-1].loan_to_value_ppm, reach, may_rise) if earlier else None
    borrow = float(d.table["borrow"].iloc[-1])

    def lend(haircut: float) -> HaircutSchedule:
        return haircut_schedule(haircut, borrow, terms=loan_terms(config, d, haircut), last=last)

    return lend


def lent_ahead(config: Config, d: Decisions, now: HaircutSchedule) -> list[HaircutSchedule]:
    """Return the lending parameters of the planned haircuts of the last decision, from those in force.

    The plan ends before a haircut that would leave nothing to lend.
    """
    place, borrow = len(d.table) - 1, float(d.table["borrow"].iloc[-1])
    may_rise = bool(may_fall(d.table, config)[-1])
    ahead = d.path[-1].tolist()
    may_move = _moves(config, place + 1 + len(ahead))[place + 1 :]
    out: list[HaircutSchedule] = []
    for haircut, moves in zip(ahead, may_move.tolist(), strict=True):
        last = Lent((out[-1] if out else now).loan_to_value_ppm, _reach(config, moves), may_rise)
        try:
            out.append(haircut_schedule(haircut, borrow, terms=loan_terms(config, d, haircut), last=last))
        except InfeasibleScheduleError:
            break
    return out


def refusals(config: Config, decisions: Mapping[str, Decisions]) -> dict[str, str]:
    """Say why the last decision of a collateral leaves nothing to lend, by its name in frames."""
    out = {}
    for market, d in decisions.items():
        if d.terms.role == "collateral":
            try:
                lending(config, d)(float(d.margin[-1]))
            except InfeasibleScheduleError as error:
                out[market] = str(error)
    return out


def with_refusals(findings: pd.DataFrame, config: Config, decisions: Mapping[str, Decisions]) -> pd.DataFrame:
    """Add a finding to those of the data gate for each entry without a feasible schedule."""
    refused = refusals(config, decisions)
    if not refused:
        return findings
    at = {market: decisions[market].table.index[-1] for market in refused}
    new = [Finding(market, "infeasible schedule", 1, at[market], at[market], ACTION) for market in refused]
    return conform(
        pd.concat([findings, findings_frame(new)], ignore_index=True), FINDINGS, source="the data gate"
    )


def _before(d: Decisions) -> Decisions:
    """Return the decisions without the last one."""
    return Decisions(d.market, d.terms, d.table.iloc[:-1], d.path[:-1], d.series, d.pair)


def _moves(config: Config, count: int) -> Flags:
    """Flag the decisions at which the target lets a parameter move."""
    limits = config.haircut.limits
    every: Flags = np.arange(count) % (limits.every if limits else 1) == 0
    return every


def _reach(config: Config, moves: bool) -> int | None:  # noqa: FBT001 - read from an array of flags
    limits = config.haircut.limits
    return None if limits is None else ppm_down(limits.step) if moves else 0
