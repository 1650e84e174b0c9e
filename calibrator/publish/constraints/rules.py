"""Simulate a target: whether it takes the update, and the whole plan after it, from every possible state.

A target is two functions. ``apply`` is the target's own rules for one action; it returns the state after it
or raises `ConstraintError` naming the rule. ``effective`` says what the state means for a position: its
requirements as exact fractions, the larger the safer. What is refused here: whatever the target would refuse
or clip, whatever leaves an effective value on the unsafe side of what the document asks, and whatever
overshoots on the way when only some of the actions have been executed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import accumulate
from typing import Any, Final, Generic, TypeVar

from calibrator.domain import PPM
from calibrator.errors import ConstraintError
from calibrator.publish.adapters.base import (
    Action,
    Adapter,
    Intent,
    Lent,
    LoanTerms,
    PerpetualTerms,
    State,
    Step,
)

S = TypeVar("S", bound=State)
A = TypeVar("A", bound=Action)
Key = tuple[str, str, int]
"""Market, what is required, and the notional at which (0 where it does not depend on it)."""

INITIAL: Final = "initial margin"
MAINTENANCE: Final = "maintenance margin"
LOAN_TO_VALUE: Final = "1 - loan to value"
THRESHOLD: Final = "1 - liquidation threshold"
OPEN_INTEREST: Final = "minus open interest cap"
SUPPLY: Final = "minus supply cap"
BORROW: Final = "minus borrow cap"
UNLIMITED: Final = Fraction(-(10**60))


@dataclass(frozen=True, slots=True)
class Rules(Generic[S, A]):
    """One target's rules; see the module.

    Attributes
    ----------
    apply : callable
        ``apply(state, action, at) -> state``.
    effective : callable
        ``effective(state, at) -> {(market, what, notional): requirement}``.
    atomic : bool
        Whether the actions of one update are executed together or not at all.
    tiered : bool
        Whether the target knows tiers by notional; else it takes one number per market.
    complete : callable
        ``complete(state)`` raises if an update stopped half-way (values set that do not hold yet).
    """

    apply: Callable[[S, A, datetime], S]
    effective: Callable[[S, datetime], Mapping[Key, Fraction]]
    atomic: bool = True
    tiered: bool = False
    complete: Callable[[S], None] = lambda _: None


def require(ok: bool, rule: str, said: str) -> None:  # noqa: FBT001 - reads like an assertion
    """Raise `ConstraintError` naming ``rule`` unless ``ok``.

    Examples
    --------
    >>> require(False, "aave.order", "WETH: ltv must not exceed 8300, was 8400")
    Traceback (most recent call last):
    ...
    calibrator.errors.ConstraintError: WETH: ltv must not exceed 8300, was 8400 (rule aave.order)
    """
    if not ok:
        raise ConstraintError(f"{said} (rule {rule})")


def simulate(rules: Rules[S, A], state: S, actions: Sequence[A], *, at: datetime) -> S:
    """Apply ``actions`` one after the other at ``at``.

    Returns
    -------
    State
        What the target would hold.

    Raises
    ------
    ConstraintError
        If the target would refuse or clip one of them, or an effective value overshoots between two of them
        although they can be executed apart.
    """
    states = list(accumulate(actions, lambda held, action: rules.apply(held, action, at), initial=state))
    if not rules.atomic and len(states) > 2:
        _no_overshoot(rules, states, at)
    rules.complete(states[-1])
    return states[-1]


def _no_overshoot(rules: Rules[S, A], states: list[S], at: datetime) -> None:
    first, *between, last = (rules.effective(held, at) for held in states)
    for number, level in enumerate(between, start=1):
        for key, value in level.items():
            before, after = first.get(key, value), last.get(key, value)
            low, high = min(before, after), max(before, after)
            require(
                low <= value <= high,
                "partial.overshoot",
                f"{key[0]}: after {number} of {len(states) - 1} actions {key[1]} is {float(value):.6f}, "
                f"outside {float(low):.6f} to {float(high):.6f}",
            )


def starts(rules: Rules[S, Any], state: S, *, at: datetime) -> Iterator[tuple[str, S]]:
    """Yield every state the target may be in: as read, and after each of the pending actions.

    A pending action that the target refuses ends the series.
    """
    held = state.model_copy(update={"pending": ()})
    yield ("as read" if state.pending else ""), held
    for number, action in enumerate(state.pending, start=1):
        try:
            held = rules.apply(held, action, at)
        except ConstraintError:
            return
        yield f"after {number} of {len(state.pending)} pending actions", held


def simulate_plan(adapter: Adapter[S, A], rules: Rules[S, A], state: S, intent: Intent) -> tuple[A, ...]:
    """Simulate the current terms and every step of the plan, from every state the target may be in.

    Parameters
    ----------
    adapter : Adapter
        Turns terms into actions.
    rules : Rules
    state : State
    intent : Intent

    Returns
    -------
    tuple of Action
        Of the first step: what is to be published. They were made from ``state`` as read; the steps of the
        plan are made anew from what the simulation has reached.

    Raises
    ------
    ConstraintError
        Naming the state, the step, the market and the rule.
    """
    _timely(state, intent)
    earliest = intent.issued_at + timedelta(seconds=state.delay_seconds)
    first = intent.steps[0]
    actions = adapter.propose(first.model_copy(update={"at": max(first.at, earliest)}), state)
    for where, start in starts(rules, state, at=intent.issued_at):
        held = start
        for number, step in enumerate(intent.steps):
            if number and step.at <= earliest:
                continue  # its time passes before the first update can be executed
            at = max(step.at, earliest)
            try:
                todo = adapter.propose(step.model_copy(update={"at": at}), held) if number else actions
                held = simulate(rules, held, todo, at=at)
                _safe(rules, rules.effective(held, at), step)
            except ConstraintError as error:
                place = f"plan step {number} ({at:%Y-%m-%d %H:%M} UTC): " if number else ""
                state_name = f"{where}: " if where else ""
                raise ConstraintError(f"{state_name}{place}{error}") from error
    return actions


def _timely(state: State, intent: Intent) -> None:
    age = abs(intent.issued_at - state.read_at)
    require(
        age <= timedelta(hours=state.max_age_hours),
        "state.stale",
        f"the state file was read at {state.read_at:%Y-%m-%d %H:%M} UTC, more than {state.max_age_hours} h "
        f"from the document's issue at {intent.issued_at:%Y-%m-%d %H:%M} UTC",
    )
    earliest = max(intent.steps[0].at, intent.issued_at + timedelta(seconds=state.delay_seconds))
    require(
        earliest < intent.expires_at,
        "expiry",
        f"the update can be executed at {earliest:%Y-%m-%d %H:%M} UTC, when the document has expired "
        f"({intent.expires_at:%Y-%m-%d %H:%M} UTC)",
    )


def _safe(rules: Rules[S, Any], level: Mapping[Key, Fraction], step: Step) -> None:
    """Refuse a state in which a market requires less than the document asks."""
    terms: dict[str, PerpetualTerms | LoanTerms] = {t.symbol: t for t in step.perpetuals}
    terms |= {t.symbol: t for t in step.loans}
    for key, value in level.items():
        if key[0] in terms:
            _enough(terms[key[0]], key, value)
    if rules.tiered:
        for one in step.perpetuals:
            _at_every_tier(level, one)


def _enough(terms: PerpetualTerms | LoanTerms, key: Key, value: Fraction) -> None:
    asked = _asked(terms, key)
    require(
        asked is None or value >= asked,
        "effective.unsafe",
        f"{key[0]}: {key[1]} would be {float(value):.6f}, below the {float(asked or 0):.6f} of the document",
    )


def _at_every_tier(level: Mapping[Key, Fraction], terms: PerpetualTerms) -> None:
    for what in (INITIAL, MAINTENANCE):
        bounds = sorted(at for symbol, name, at in level if (symbol, name) == (terms.symbol, what))
        for tier in terms.tiers if bounds else ():
            reached = max(bound for bound in bounds if bound <= tier.notional_floor)
            value = level[terms.symbol, what, reached]
            _enough(terms, (terms.symbol, what, tier.notional_floor), value)


def _asked(terms: PerpetualTerms | LoanTerms, key: Key) -> Fraction | None:
    caps = {
        OPEN_INTEREST: terms.cap.open_interest,
        SUPPLY: terms.cap.supply,
        BORROW: terms.cap.borrow,
    }
    if key[1] in caps:
        cap = caps[key[1]]
        return None if cap is None else Fraction(-cap)
    if isinstance(terms, PerpetualTerms):
        tier = terms.at(key[2])
        ppm = tier.initial_margin_ppm if key[1] == INITIAL else tier.maintenance_margin_ppm
        return Fraction(ppm, PPM)
    ppm = terms.loan_to_value_ppm if key[1] == LOAN_TO_VALUE else terms.liquidation_threshold_ppm
    return 1 - Fraction(ppm, PPM)


def supply_level(held: Lent, amount: int, *, decimals: int = 0) -> Fraction:
    """Return a supply cap as a requirement in units of the debt, at the price of the state file.

    Examples
    --------
    >>> supply_level(Lent(price=2_500_000), 4)
    Fraction(-10, 1)
    """
    return Fraction(-amount * (held.price or 1_000_000), 1_000_000 * 10**decimals)
