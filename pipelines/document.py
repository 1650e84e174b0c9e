"""From a production run to the parameter document: what applies, what is planned, and why."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from calibrator.calibrate.attribution import Drivers, attribute
from calibrator.domain import PPM, Regime, ppm_up
from calibrator.errors import InfeasibleScheduleError, StaleDataError
from calibrator.publish.canonical import digest
from calibrator.publish.document import (
    CollateralParameters,
    HaircutParameters,
    MarketParameters,
    ParameterDocument,
    PerpetualParameters,
    PlannedHaircut,
    PlannedMargin,
    TierParameters,
    encode,
)
from calibrator.regimes.explanation import sentence
from pipelines.exposures import Exposure, exposure_of
from pipelines.lending import lending, lent_ahead
from pipelines.production import Decisions, Production
from pipelines.starts import close_out

HELD_TERM = "held"
REASON_LENGTH = 160


@dataclass(frozen=True, slots=True)
class Identity:
    """Digests that tie a document to its inputs."""

    config: str
    data: str
    models: dict[str, str]


def build_document(
    production: Production,
    *,
    as_of: datetime,
    stale: set[str],
    previous: ParameterDocument | None,
    identity: Identity,
) -> ParameterDocument:
    """Make the document of the last decisions.

    A market whose bars are stale, or that had a published value and has no decision or no feasible one, keeps
    its last good parameters (status ``held``). One without a feasible schedule that was never published is
    left out (see :func:`pipelines.lending.with_refusals`): it stops none of the others.

    Parameters
    ----------
    production : Production
    as_of : datetime
        Issue time.
    stale : set of str
        Markets whose newest bar is too old.
    previous : ParameterDocument or None
        What is published.
    identity : Identity

    Raises
    ------
    StaleDataError
        No market is fresh and none was published before.
    InfeasibleScheduleError
        The same, and some have no feasible schedule.
    """
    config, clock = production.config, production.clock
    before = _to_hold(production, previous)
    made = {d.key: d for d in production.decisions.values()}
    markets: list[MarketParameters] = []
    refused: list[InfeasibleScheduleError] = []
    for key in sorted(set(made) | set(before)):
        d = made.get(key)
        old = stale.intersection({key[0], key[2]} | (d.pair.legs if d and d.pair else set()))
        reason = "input is stale" if old else "no decision: too little history or no data"
        if d is not None and not old:
            try:
                markets.append(_fresh(production, d, as_of, before.get(key), previous))
                continue
            except InfeasibleScheduleError as error:
                refused.append(error)
                reason = f"no schedule is feasible: {error}"[:REASON_LENGTH].rstrip()
        if key in before:
            markets.append(_held(before[key], reason))
    if not markets and refused:
        raise InfeasibleScheduleError(f"no market has a feasible schedule at {as_of}: {refused[0]}")
    if not markets:
        raise StaleDataError(f"no market has fresh data at {as_of} and none was published before")
    effective = as_of + clock.step * config.margin.notice
    return ParameterDocument(
        sequence=previous.sequence + 1 if previous else 1,
        protocol=config.publish.protocol,
        chain=config.publish.chain,
        issued_at=as_of,
        valid_from=effective,
        expires_at=effective + clock.step * (config.publish.valid_for * config.forecast.cadence),
        previous_digest=digest(encode(previous)) if previous else None,
        config_digest=identity.config,
        data_digest=identity.data,
        model_digests=identity.models,
        bar_seconds=int(clock.step.total_seconds()),
        horizon_bars=config.forecast.horizon,
        markets=tuple(sorted(markets, key=lambda m: m.key)),
    )


def _to_hold(
    production: Production, previous: ParameterDocument | None
) -> dict[tuple[str, str, str, str], MarketParameters]:
    """Return the published entries by key, without those now configured with another role, debt or place."""
    made = {d.key for d in production.decisions.values()}
    symbols, pairs = {key[0] for key in made}, production.config.haircut.pairs
    listed = {(p.collateral, "collateral", p.debt, p.location) for p in pairs}
    published = {m.key: m for m in previous.markets} if previous else {}
    return {k: m for k, m in published.items() if k in made or k in listed or k[0] not in symbols}


def _entries(production: Production, previous: ParameterDocument | None) -> int:
    """Count what is published: every entry shares the fund, also one that is held at its last good value."""
    return len({d.key for d in production.decisions.values()} | set(_to_hold(production, previous)))


def _held(last: MarketParameters, reason: str) -> MarketParameters:
    return last.model_copy(
        update={
            "status": "held",
            "reasons": (f"held at the last good value: {reason}",),
            "previous_ppm": last.value_ppm,
            "attribution": {HELD_TERM: 0},
            "plan": (),
        }
    )


def _fresh(
    production: Production,
    d: Decisions,
    as_of: datetime,
    old: MarketParameters | None,
    previous: ParameterDocument | None,
) -> MarketParameters:
    config, row = production.config, d.table.iloc[-1]
    value = ppm_up(float(d.margin[-1]))  # below 1: the same as the first tier's
    probability = row["probability"]
    common: dict[str, Any] = {
        "symbol": d.key[0],
        "regime": Regime(int(row["regime"])).name,
        "stress_probability_ppm": PPM if np.isnan(probability) else ppm_up(float(probability)),
        "volatility_ppm": ppm_up(float(row["volatility"])),
        "status": "fresh",
        "reasons": (*_age(d, as_of), *reasons(d), *_drivers(production, d.series)),
        "close_out_bars": close_out(config, d.terms),
        "level_ppm": ppm_up(float(d.terms.level or config.margin.level)),
        "previous_ppm": old.value_ppm if old else None,
        "attribution": _attribution(d, value, old, previous),
    }
    ahead = production.effective_after(np.arange(1, d.path.shape[1] + 1))
    times = [(pd.Timestamp(as_of) + a).to_pydatetime() for a in ahead]
    caps = exposure_of(production, d, entries=_entries(production, previous))
    if d.terms.role == "collateral":
        return _collateral(production, d, common, times, (old, caps))
    maintenance, initial = production.tiers(d)
    own = production.plan_of(d).tail(len(times))
    held = old.open_interest_cap if isinstance(old, PerpetualParameters) else None
    return PerpetualParameters(
        **common,
        open_interest_cap=_capped(caps.open_interest_cap, held, caps),
        margins=tuple(
            TierParameters(notional_floor=f, initial_margin_ppm=i, maintenance_margin_ppm=m)
            for f, i, m in zip(
                config.margin.tiers, initial[-1].tolist(), maintenance[-1].tolist(), strict=True
            )
        ),
        plan=tuple(
            PlannedMargin(effective_from=t, initial_margin_ppm=i, maintenance_margin_ppm=m)
            for t, i, m in zip(
                times,
                own["initial_margin_ppm"].tolist(),
                own["maintenance_margin_ppm"].tolist(),
                strict=True,
            )
        ),
    )


def _age(d: Decisions, as_of: datetime) -> tuple[str, ...]:
    """Say when a decision is older than the document."""
    decided = d.table.index[-1]
    return () if decided >= pd.Timestamp(as_of) else (f"decided on bars up to {decided:%Y-%m-%d %H:%M} UTC",)


def _drivers(production: Production, market: str) -> tuple[str, ...]:
    """Say what moved the market's stress probability most."""
    said = sentence(production.forecasts.drivers().get(market, []))
    return (said[:REASON_LENGTH].rstrip(),) if said else ()


def _collateral(
    production: Production,
    d: Decisions,
    common: dict[str, Any],
    times: list[datetime],
    capped: tuple[MarketParameters | None, Exposure],
) -> CollateralParameters:
    old, caps = capped
    held = old if isinstance(old, CollateralParameters) else None
    now = lending(production.config, d)(float(d.margin[-1]))
    planned = lent_ahead(production.config, d, now)
    return CollateralParameters(
        **common,
        supply_cap=_capped(caps.supply_cap, held.supply_cap if held else None, caps),
        borrow_cap=_capped(caps.borrow_cap, held.borrow_cap if held else None, caps),
        least_liquidation=caps.least_liquidation,
        haircut=HaircutParameters(
            haircut_ppm=now.haircut_ppm,
            loan_to_value_ppm=now.loan_to_value_ppm,
            liquidation_threshold_ppm=now.liquidation_threshold_ppm,
            liquidation_penalty_ppm=now.liquidation_penalty_ppm,
            debt=d.key[2],
            location=d.key[3],
        ),
        plan=tuple(
            PlannedHaircut(
                effective_from=t,
                loan_to_value_ppm=p.loan_to_value_ppm,
                liquidation_threshold_ppm=p.liquidation_threshold_ppm,
            )
            for t, p in zip(times, planned, strict=False)
        ),
    )


def _capped(cap: int | None, held: int | None, caps: Exposure) -> int | None:
    """Return a cap, not above the published one where the input is degraded or the depth is not known."""
    if held is None or (cap is not None and not caps.degraded):
        return cap
    return held if cap is None else min(cap, held)


def reasons(d: Decisions) -> tuple[str, ...]:
    """Say in words what set the last published margin.

    One sentence per side that matters: followed the forecast, raised to the floor, or held by a speed limit.
    """
    row = d.table.iloc[-1]
    sides = ["long"] if d.terms.role == "collateral" else ["long", "short"]
    out = []
    for side in sides:
        margin, target, floor = row[f"margin_{side}"], row[f"unlimited_{side}"], row[f"floor_{side}"]
        goal = np.fmax(target, floor)
        if margin > goal * 1.001:
            why = "falls no faster than the speed limit allows"
        elif margin < goal * 0.999:
            why = "rises as fast as the speed limits allow"
        elif floor > target:
            why = "stands on the long-run floor"
        else:
            why = "follows the forecast tail"
        out.append(f"{side}: {why} (forecast tail {target:.2%}, floor {floor:.2%}, published {margin:.2%})")
    if row["regime"] == Regime.STRESS:
        out.append(f"stress is expected with probability {row['probability']:.0%}")
    return tuple(out)


def _attribution(
    d: Decisions, value: int, old: MarketParameters | None, previous: ParameterDocument | None
) -> dict[str, int]:
    side = "long" if d.terms.role == "collateral" else larger_side(d.table.iloc[-1])
    now = drivers(d, side, -1)
    if old is None or previous is None:
        return attribute(None, now, published=(0, value))
    then = int((d.table.index <= pd.Timestamp(previous.issued_at)).sum()) - 1
    return attribute(drivers(d, side, max(then, 0)), now, published=(old.value_ppm, value))


def drivers(d: Decisions, side: str, place: int) -> Drivers:
    """Read what one side's margin is made of at one decision."""
    row = d.table.iloc[place]
    volatility, tail = float(row["volatility"]), float(row[f"tail_{side}"])
    return Drivers(
        volatility,
        tail,
        goal=float(row[f"goal_{side}"]),
        liquidity=float(row[f"unlimited_{side}"] - row[f"crowd_{side}"]) - volatility * tail,
        concentration=float(row[f"crowd_{side}"]),
        held=float(row[f"held_{side}"]),
    )


def larger_side(row: pd.Series) -> str:
    """Return the side whose published margin is the larger at one decision."""
    return "long" if row["margin_long"] >= row["margin_short"] else "short"
