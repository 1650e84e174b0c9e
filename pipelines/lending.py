"""From a collateral's haircuts to what is lent against it: every decision, and the steps ahead."""

from collections.abc import Callable, Mapping
from typing import Final

import pandas as pd

from calibrator.calibrate.haircut import Lent, haircut_schedule
from calibrator.calibrate.liquidation import Liquidator
from calibrator.config import Config
from calibrator.config_collateral import HaircutPair
from calibrator.config_procyclicality import StepConfig
from calibrator.data.rows import Finding, findings_frame
from calibrator.domain import HaircutSchedule, ppm_down
from calibrator.errors import InfeasibleScheduleError
from calibrator.frames import FINDINGS, conform
from pipelines.loans import Loan
from pipelines.production import Decisions
from pipelines.smoothing import may_fall
from pipelines.starts import close_out

ACTION: Final = "held at the last good value, or left out"


def pair_of(config: Config, d: Decisions) -> HaircutPair:
    """Return the resolved terms of a collateral's entry."""
    return d.pair or config.haircut.single(d.market)


def loan_of(config: Config, d: Decisions) -> Loan:
    """Return what a loan against this collateral costs."""
    return Loan(pair_of(config, d), close_out(config, d.terms))


def step_limits(config: Config, d: Decisions) -> StepConfig | None:
    """Return the target's limit on moves of an entry; None for a perpetual, and where there is none."""
    return pair_of(config, d).limits if d.terms.role == "collateral" else None


def liquidator(config: Config, d: Decisions, haircut: float) -> Liquidator:
    """Return what a liquidator of this collateral spends."""
    return loan_of(config, d).liquidator(haircut)


def lent_history(config: Config, d: Decisions) -> list[HaircutSchedule | InfeasibleScheduleError]:
    """Return the lending parameters of every decision, as they would have been published.

    The threshold follows the haircut. Loan-to-value does not rise at a decision whose input is incomplete or
    whose regime holds margins up, and where the target limits moves (``haircut.limits``) it moves at the same
    decisions and by the same step as the haircut. An infeasible decision leaves in force what was there.
    """
    haircuts, borrow = d.margin, d.table["borrow"].to_numpy(float)
    loan, may_rise = loan_of(config, d), may_fall(d.table, config)
    reaches = _reaches(step_limits(config, d), len(d.table))
    out: list[HaircutSchedule | InfeasibleScheduleError] = []
    last: int | None = None
    refused = _refused(d)
    for t, haircut in enumerate(haircuts.tolist()):
        if refused[t]:
            out.append(InfeasibleScheduleError(refused[t]))
            continue
        before = None if last is None else Lent(last, reaches[t], bool(may_rise[t]))
        try:
            made = haircut_schedule(haircut, float(borrow[t]), terms=loan.terms(haircut), last=before)
        except InfeasibleScheduleError as error:
            out.append(error)
            continue
        out.append(made)
        last = made.loan_to_value_ppm
    return out


def lending(config: Config, d: Decisions) -> Callable[[float], HaircutSchedule]:
    """Return the rule that turns a haircut of the last decision into lending parameters.

    It raises :class:`InfeasibleScheduleError` where nothing is left to lend, or where the target's rules
    leave no haircut.
    """
    earlier = [s for s in lent_history(config, _before(d)) if isinstance(s, HaircutSchedule)]
    loan, may_rise = loan_of(config, d), bool(may_fall(d.table, config)[-1])
    reach = _reaches(step_limits(config, d), len(d.table))[-1]
    last = Lent(earlier[-1].loan_to_value_ppm, reach, may_rise) if earlier else None
    borrow = float(d.table["borrow"].iloc[-1])

    why = _refused(d)[-1]

    def lend(haircut: float) -> HaircutSchedule:
        if why:
            raise InfeasibleScheduleError(f"{d.market}: {why}")
        return haircut_schedule(haircut, borrow, terms=loan.terms(haircut), last=last)

    return lend


def lent_ahead(config: Config, d: Decisions, now: HaircutSchedule) -> list[HaircutSchedule]:
    """Return the lending parameters of the planned haircuts of the last decision, from those in force.

    The plan ends before a haircut that would leave nothing to lend.
    """
    loan, borrow = loan_of(config, d), float(d.table["borrow"].iloc[-1])
    may_rise = bool(may_fall(d.table, config)[-1])
    ahead, decided = d.path[-1].tolist(), len(d.table)
    reaches = _reaches(step_limits(config, d), decided + len(ahead))[decided:]
    out: list[HaircutSchedule] = []
    for haircut, reach in zip(ahead, reaches, strict=True):
        last = Lent((out[-1] if out else now).loan_to_value_ppm, reach, may_rise)
        try:
            out.append(haircut_schedule(haircut, borrow, terms=loan.terms(haircut), last=last))
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


def _refused(d: Decisions) -> list[str]:
    """Say of every decision why no haircut is feasible; empty where one is."""
    return d.table["refused"].tolist() if "refused" in d.table else [""] * len(d.table)


def _before(d: Decisions) -> Decisions:
    """Return the decisions without the last one."""
    return Decisions(d.market, d.terms, d.table.iloc[:-1], d.path[:-1], d.series, d.pair)


def _reaches(limits: StepConfig | None, count: int) -> list[int | None]:
    """Return how far a parameter may move at each decision (ppm); None = the target does not limit it."""
    if limits is None:
        return [None] * count
    return [0 if t % limits.every else ppm_down(limits.step) for t in range(count)]
