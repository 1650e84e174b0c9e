"""What changes from one document to the next, and which way."""

from collections.abc import Callable

import pytest

from calibrator.publish.approval import Approval, moves
from calibrator.publish.changes import Change, changes
from calibrator.publish.document import CollateralParameters, ParameterDocument, PerpetualParameters


@pytest.mark.parametrize(
    ("old", "new", "tightens"),
    [(100, 90, True), (100, 10**20, False), (None, 90, None), (100, None, None), (100, 100, ...)],
)
def test_a_cap_that_changes_is_shown_and_needs_no_second_key(
    make_document: Callable[..., ParameterDocument],
    make_perpetual: Callable[..., PerpetualParameters],
    make_collateral: Callable[..., CollateralParameters],
    old: int | None,
    new: int | None,
    tightens: object,
) -> None:
    before, after = (
        make_document(
            markets=(
                make_perpetual(open_interest_cap=cap),
                make_collateral(supply_cap=cap, borrow_cap=cap),
            )
        )
        for cap in (old, new)
    )
    found = changes(before, after)
    if tightens is ...:
        assert found == []
        return
    assert found == [
        Change("BTC-USD", "open interest cap", "new positions", old, new, tightens, "amount"),
        Change("ETH/USDC @ mainnet", "supply cap", "new collateral", old, new, tightens, "amount"),
        Change("ETH/USDC @ mainnet", "borrow cap", "new loans", old, new, tightens, "amount"),
    ]
    assert moves(before, after, Approval(1, 1)) == []


def test_a_market_that_comes_or_goes_is_named(
    make_document: Callable[..., ParameterDocument], make_perpetual: Callable[..., PerpetualParameters]
) -> None:
    one, two = make_document(markets=(make_perpetual(),)), make_document()
    assert [(c.what, c.whom) for c in changes(one, two)] == [("new market", "everyone")]
    assert [(c.what, c.whom) for c in changes(two, one)] == [("left out", "keep what is in force")]
