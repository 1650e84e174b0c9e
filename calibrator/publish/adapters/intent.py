"""From a parameter document to what it asks of a target: the current terms and every step of the plan."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from calibrator.domain import PPM
from calibrator.errors import PublishError
from calibrator.publish.adapters.base import ExposureCap, Intent, LoanTerms, PerpetualTerms, Step, Tier
from calibrator.publish.canonical import digest
from calibrator.publish.document import (
    CollateralParameters,
    MarketParameters,
    ParameterDocument,
    PlannedChange,
    PlannedHaircut,
    PlannedMargin,
    encode,
)

Terms = PerpetualTerms | LoanTerms


def intent_of(document: ParameterDocument) -> Intent:
    """Return what ``document`` asks, with the exposure caps that travel with it.

    Parameters
    ----------
    document : ParameterDocument

    Returns
    -------
    Intent
        A collateral that stands against several debts or in several places is named
        ``SYMBOL/DEBT@LOCATION``, every other market by its symbol. The first step holds from
        ``valid_from`` on, the others from each time that some market's plan names; a market without a step
        at that time keeps its last one.
    """
    times = sorted({change.effective_from for market in document.markets for change in market.plan})
    names = _names(document)
    now = {market.key: _current(market, names[market.key]) for market in document.markets}
    steps = [_step(document.valid_from, now)]
    for time in times:
        for market in document.markets:
            for change in market.plan:
                if change.effective_from == time:
                    now[market.key] = _planned(market, change, names[market.key])
        steps.append(_step(time, now))
    return Intent(
        sequence=document.sequence,
        document=digest(encode(document)),
        issued_at=document.issued_at,
        expires_at=document.expires_at,
        steps=tuple(steps),
    )


def _names(document: ParameterDocument) -> dict[tuple[str, str, str, str], str]:
    times = Counter(market.symbol for market in document.markets)
    return {
        market.key: f"{market.symbol}/{market.haircut.debt}@{market.haircut.location}"
        if isinstance(market, CollateralParameters) and times[market.symbol] > 1
        else market.symbol
        for market in document.markets
    }


def _step(at: object, terms: Mapping[Any, Terms]) -> Step:
    return Step.model_validate(
        {
            "at": at,
            "perpetuals": tuple(t for t in terms.values() if isinstance(t, PerpetualTerms)),
            "loans": tuple(t for t in terms.values() if isinstance(t, LoanTerms)),
        }
    )


def _current(market: MarketParameters, name: str) -> Terms:
    if isinstance(market, CollateralParameters):
        terms = market.haircut
        return LoanTerms(
            symbol=name,
            haircut_ppm=terms.haircut_ppm,
            loan_to_value_ppm=terms.loan_to_value_ppm,
            liquidation_threshold_ppm=terms.liquidation_threshold_ppm,
            liquidation_penalty_ppm=terms.liquidation_penalty_ppm,
            cap=ExposureCap(supply=market.supply_cap, borrow=market.borrow_cap),
        )
    tiers = tuple(
        Tier(
            notional_floor=tier.notional_floor,
            initial_margin_ppm=tier.initial_margin_ppm,
            maintenance_margin_ppm=tier.maintenance_margin_ppm,
        )
        for tier in market.margins
    )
    cap = ExposureCap(open_interest=market.open_interest_cap)
    return PerpetualTerms(symbol=name, tiers=tiers, cap=cap)


def _planned(market: MarketParameters, change: PlannedChange, name: str) -> Terms:
    now = _current(market, name)
    if isinstance(now, LoanTerms) and isinstance(change, PlannedHaircut):
        threshold = change.liquidation_threshold_ppm
        # The haircut moves against the threshold, one for one: what is left over stays left over.
        haircut = max(0, now.haircut_ppm + now.liquidation_threshold_ppm - threshold)
        return now.model_copy(
            update={
                "loan_to_value_ppm": change.loan_to_value_ppm,
                "liquidation_threshold_ppm": threshold,
                "haircut_ppm": haircut,
            }
        )
    if isinstance(now, PerpetualTerms) and isinstance(change, PlannedMargin):
        tiers = _moved(now.tiers, change.initial_margin_ppm, change.maintenance_margin_ppm)
        return now.model_copy(update={"tiers": tiers})
    raise PublishError(f"{market.symbol}: its plan is of another role than the market")


def _moved(tiers: tuple[Tier, ...], initial: int, maintenance: int) -> tuple[Tier, ...]:
    """Move every tier with the first: by as many ppm, or by the same factor, whichever asks for more."""
    out, first = [], tiers[0]
    for tier in tiers:
        m = _more(tier.maintenance_margin_ppm, first.maintenance_margin_ppm, maintenance)
        i = max(_more(tier.initial_margin_ppm, first.initial_margin_ppm, initial), min(m + 1, PPM))
        out.append(
            Tier(notional_floor=tier.notional_floor, initial_margin_ppm=i, maintenance_margin_ppm=min(m, i))
        )
    return tuple(out)


def _more(value: int, first: int, planned: int) -> int:
    return min(PPM, max(value + planned - first, -(-value * planned // first)))
