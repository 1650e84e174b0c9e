"""What changes from one document to the next, value by value: what readers are shown and approvers judge."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from calibrator.publish.document import (
    CollateralParameters,
    MarketParameters,
    ParameterDocument,
    PerpetualParameters,
)
from calibrator.publish.portfolio_changes import portfolio_changes

Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One published value that differs between two documents.

    Attributes
    ----------
    market, what, whom : str
        Which market, which parameter, who notices.
    old, new : int or None
        Parts per million, or an amount; None where that document does not say it.
    tightens : bool or None
        True if traders and borrowers need more collateral than before; None if there is no before or after.
    """

    market: str
    what: str
    whom: str
    old: int | None
    new: int | None
    tightens: bool | None
    unit: Literal["ppm", "amount"] = "ppm"


def percent(ppm: int) -> str:
    """Spell parts per million as per cent, exactly.

    Examples
    --------
    >>> percent(50_000), percent(50_005), percent(0)
    ('5.00%', '5.0005%', '0.00%')
    """
    whole, rest = divmod(ppm, 10_000)
    digits = f"{rest:04d}"
    return f"{whole}.{digits[:2]}{digits[2:].rstrip('0')}%"


def basis_points(ppm: int) -> str:
    """Spell a change in parts per million as basis points, with its sign.

    Examples
    --------
    >>> basis_points(1_250), basis_points(-5)
    ('+12.5', '-0.05')
    """
    return f"{ppm / 100:+,.2f}".rstrip("0").rstrip(".")


def changes(old: ParameterDocument, new: ParameterDocument) -> list[Change]:
    """List what differs between two documents, market by market, in the order of the documents.

    A perpetual is compared at every notional where either schedule may change.

    Returns
    -------
    list of Change
        Empty if no margin, haircut, loan-to-value, threshold, penalty or exposure cap differs, and nothing of
        the portfolio section that :func:`~calibrator.publish.portfolio_changes.portfolio_changes` compares.
    """
    before: dict[Key, MarketParameters] = {market.key: market for market in old.markets}
    after: dict[Key, MarketParameters] = {market.key: market for market in new.markets}
    found: list[Change] = []
    for key in sorted(before.keys() | after.keys()):
        found.extend(_of_market(before.get(key), after.get(key)))
    found.extend(_of_portfolio(old, new))
    return found


def _of_portfolio(old: ParameterDocument, new: ParameterDocument) -> Iterator[Change]:
    if old.portfolio is not None and new.portfolio is not None:
        for market, what, whom, low, high in portfolio_changes(old.portfolio.rules(), new.portfolio.rules()):
            yield Change(market, what, whom, low, high, tightens=high > low)
    elif old.portfolio is not None or new.portfolio is not None:
        what = "portfolio section " + ("left out" if new.portfolio is None else "is new")
        yield Change("*", what, "accounts", None, None, tightens=None)


def _of_market(old: MarketParameters | None, new: MarketParameters | None) -> Iterator[Change]:
    if old is None and new is not None:
        yield Change(market_title(new), "new market", "everyone", None, new.value_ppm, tightens=None)
    elif new is None and old is not None:
        left = "keep what is in force"
        yield Change(market_title(old), "left out", left, old.value_ppm, None, tightens=None)
    elif isinstance(old, PerpetualParameters) and isinstance(new, PerpetualParameters):
        yield from _of_perpetual(old, new)
    elif isinstance(old, CollateralParameters) and isinstance(new, CollateralParameters):
        yield from _of_collateral(old, new)


def _of_perpetual(old: PerpetualParameters, new: PerpetualParameters) -> Iterator[Change]:
    before, after = old.schedule(), new.schedule()
    floors = sorted({tier.notional_floor for tier in (*before.tiers, *after.tiers)})
    for floor in floors:
        first, second = before.tier_of(floor), after.tier_of(floor)
        at = f" from {floor:,}" if len(floors) > 1 else ""
        for what, whom, low, high in (
            ("initial margin", "new positions", first.initial_margin_ppm, second.initial_margin_ppm),
            (
                "maintenance margin",
                "open positions",
                first.maintenance_margin_ppm,
                second.maintenance_margin_ppm,
            ),
        ):
            if low != high:
                yield Change(market_title(new), what, f"{whom}{at}", low, high, tightens=high > low)
    cap = "open interest cap"
    yield from _of_cap(market_title(new), cap, "new positions", old.open_interest_cap, new.open_interest_cap)


def _of_collateral(old: CollateralParameters, new: CollateralParameters) -> Iterator[Change]:
    first, second = old.haircut, new.haircut
    for what, whom, low, high, tightens in (
        ("haircut", "value of the collateral", first.haircut_ppm, second.haircut_ppm, True),
        ("loan-to-value", "new loans", first.loan_to_value_ppm, second.loan_to_value_ppm, False),
        (
            "liquidation threshold",
            "open loans",
            first.liquidation_threshold_ppm,
            second.liquidation_threshold_ppm,
            False,
        ),
        (
            "liquidation penalty",
            "liquidated loans",
            first.liquidation_penalty_ppm,
            second.liquidation_penalty_ppm,
            True,
        ),
    ):
        if low != high:
            yield Change(market_title(new), what, whom, low, high, tightens=(high > low) == tightens)
    yield from _of_cap(market_title(new), "supply cap", "new collateral", old.supply_cap, new.supply_cap)
    yield from _of_cap(market_title(new), "borrow cap", "new loans", old.borrow_cap, new.borrow_cap)


def _of_cap(market: str, what: str, whom: str, old: int | None, new: int | None) -> Iterator[Change]:
    if old != new:
        tightens = None if old is None or new is None else new < old
        yield Change(market, what, whom, old, new, tightens=tightens, unit="amount")


def market_title(market: MarketParameters) -> str:
    """Name a market: a perpetual by its symbol, a collateral with its debt and location."""
    if isinstance(market, PerpetualParameters):
        return market.symbol
    return f"{market.symbol}/{market.haircut.debt} @ {market.haircut.location}"
