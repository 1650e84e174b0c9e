"""What no update may do, whatever the target: go back, loosen what is held, move faster than its limits.

Pure integer arithmetic on two documents. Rules that only one protocol has belong to that protocol's adapter.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

from calibrator.domain import PPM, ChangeLimits
from calibrator.errors import ConstraintError
from calibrator.publish.canonical import digest
from calibrator.publish.document import (
    CollateralParameters,
    MarketParameters,
    ParameterDocument,
    PerpetualParameters,
    encode,
)

MoreIsSafer = tuple[str, int, int, Fraction]  # what it is, ppm before and after, scale of `min_base`
ONE = Fraction(1)


def check_update(
    previous: ParameterDocument | None, new: ParameterDocument, limits: ChangeLimits, *, decisions: int = 1
) -> None:
    """Refuse an update that the documents' own rules forbid.

    Checked: the chain (audience, sequence, digest, times, `previous_ppm`), that no market disappears under
    the same configuration, that a held market is not loosened at any notional, and that every margin and
    haircut, and every step of the plan, moves by at most `limits.max_increase` (of itself, or of
    `limits.min_base` where it is smaller) and `limits.max_decrease`.

    Parameters
    ----------
    previous : ParameterDocument or None
        What is published; None in an empty home.
    new : ParameterDocument
        What is to be published.
    limits : ChangeLimits
        Relative moves per decision. Its limits over several decisions need the history and are the plan's.
    decisions : int, optional
        Decisions since `previous`: after runs that did not happen, their moves come together. Refusing them
        would keep an outdated margin in force for ever.

    Raises
    ------
    ConstraintError
        Naming the market, the rule and the values of the first broken rule, and how many there are.
    """
    broken, before = [], {}
    if previous is not None:
        broken, before = [*_chain(previous, new)], {market.key: market for market in previous.markets}
    elif new.sequence != 1:
        broken = [f"sequence must be 1 in an empty home, was {new.sequence}"]
    for market in new.markets:
        old = before.get(market.key)
        rules = [
            *_link(old, market),
            *_held(old, market),
            *_moves(old, market, limits, decisions),
            *_plan(market, limits),
        ]
        broken += [f"{new.protocol}:{market.symbol}: {rule}" for rule in rules]
    if broken:
        raise ConstraintError(f"{broken[0]} ({len(broken)} in all)")


def _chain(previous: ParameterDocument, new: ParameterDocument) -> Iterator[str]:
    if new.protocol != previous.protocol:
        yield f"protocol must stay {previous.protocol}, was {new.protocol}"
    if new.sequence != previous.sequence + 1:
        yield f"sequence must follow {previous.sequence}, was {new.sequence}"
    if new.previous_digest != (published := digest(encode(previous))):
        yield f"previous_digest must be {published}, was {new.previous_digest}"
    for name in ("issued_at", "valid_from"):
        if getattr(new, name) < getattr(previous, name):
            yield f"{name} must not go back from {getattr(previous, name)}, was {getattr(new, name)}"
    kept = {market.key for market in new.markets}
    lost = [market.symbol for market in previous.markets if market.key not in kept]
    if lost and new.config_digest == previous.config_digest:
        yield f"markets must not disappear under the same configuration (hold them), lost {', '.join(lost)}"


def _link(old: MarketParameters | None, new: MarketParameters) -> Iterator[str]:
    expected = None if old is None else old.value_ppm
    if new.previous_ppm != expected:
        yield f"previous_ppm must be {expected}, was {new.previous_ppm}"


def _pairs(old: MarketParameters | None, new: MarketParameters) -> Iterator[MoreIsSafer]:
    """Pair every margin (at every notional where it may change) or haircut with its successor."""
    if isinstance(old, PerpetualParameters) and isinstance(new, PerpetualParameters):
        before, after = old.schedule(), new.schedule()
        for floor in sorted({tier.notional_floor for tier in (*before.tiers, *after.tiers)}):
            first, second = before.tier_of(floor), after.tier_of(floor)
            at = f"at notional {floor}"
            low, high = first.maintenance_margin_ppm, second.maintenance_margin_ppm
            scale = Fraction(first.initial_margin_ppm, low)
            yield f"initial margin {at}", first.initial_margin_ppm, second.initial_margin_ppm, scale
            yield f"maintenance margin {at}", low, high, ONE
    elif isinstance(old, CollateralParameters) and isinstance(new, CollateralParameters):
        yield "haircut", old.haircut.haircut_ppm, new.haircut.haircut_ppm, ONE


def _held(old: MarketParameters | None, new: MarketParameters) -> Iterator[str]:
    if new.status != "held":
        return
    pairs = [*_pairs(old, new)]
    if isinstance(old, CollateralParameters) and isinstance(new, CollateralParameters):
        first, second = old.haircut, new.haircut
        ltv, threshold = "1 - loan_to_value", "1 - liquidation_threshold"
        pairs.append((ltv, PPM - first.loan_to_value_ppm, PPM - second.loan_to_value_ppm, ONE))
        pairs.append(
            (threshold, PPM - first.liquidation_threshold_ppm, PPM - second.liquidation_threshold_ppm, ONE)
        )
    for what, before, after, _ in pairs:
        if after < before:
            yield f"a held market must not loosen, {what} falls from {before} to {after} ppm"


def _moves(
    old: MarketParameters | None, new: MarketParameters, limits: ChangeLimits, decisions: int
) -> Iterator[str]:
    for what, before, after, scale in _pairs(old, new):
        yield from _step(what, before, after, limits, decisions=decisions, scale=scale)


def _plan(new: MarketParameters, limits: ChangeLimits) -> Iterator[str]:
    if not isinstance(new, PerpetualParameters):
        return
    first = new.margins[0]
    ahead = [(change.initial_margin_ppm, change.maintenance_margin_ppm) for change in new.plan]
    margins = [(first.initial_margin_ppm, first.maintenance_margin_ppm), *ahead]
    for number, ((initial, low), (then, high)) in enumerate(pairwise(margins), start=1):
        of, scale = f"of plan step {number}", Fraction(initial, low)
        yield from _step(f"initial_margin_ppm {of}", initial, then, limits, scale=scale)
        yield from _step(f"maintenance_margin_ppm {of}", low, high, limits)


def _step(
    what: str,
    before: int,
    after: int,
    limits: ChangeLimits,
    *,
    decisions: int = 1,
    scale: Fraction = ONE,
) -> Iterator[str]:
    """Compare in exact rationals; margins are rounded up, so each move may use the last started ppm.

    An initial margin is a multiple of the maintenance margin, and so is the least that its rises count of.
    """
    rise, base = Fraction(repr(limits.max_increase)), Fraction(repr(limits.min_base)) * PPM * scale
    highest = lowest = before
    for _ in range(decisions):
        highest = -((-highest - rise * max(Fraction(highest), base)) // 1)
        lowest = -((-lowest * (1 - Fraction(repr(limits.max_decrease)))) // 1)
        if highest >= PPM and lowest <= 1:  # nothing is refused any more
            break
    over = f" in {decisions} decisions" if decisions > 1 else ""
    if after > highest:
        yield f"max_increase {limits.max_increase} allows {what} {before} -> {highest} ppm{over}, was {after}"
    if after < lowest:
        yield f"max_decrease {limits.max_decrease} allows {what} {before} -> {lowest} ppm{over}, was {after}"
