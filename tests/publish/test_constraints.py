"""Two documents, one table of what may not happen between them."""

from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.calibrate.margin import initial_margin, round_up
from calibrator.calibrate.procyclicality import limit
from calibrator.domain import PPM, ChangeLimits, ppm_up
from calibrator.errors import ConstraintError
from calibrator.publish.canonical import digest
from calibrator.publish.constraints import check_update
from calibrator.publish.constraints.update import _step
from calibrator.publish.document import (
    CollateralParameters,
    ParameterDocument,
    PerpetualParameters,
    TierParameters,
    encode,
)

T = TypeVar("T")
Make = Callable[..., T]
LIMITS = ChangeLimits(max_decrease=0.03, min_base=0.0)


@pytest.fixture
def before(
    make_document: Make[ParameterDocument],
    make_perpetual: Make[PerpetualParameters],
    make_collateral: Make[CollateralParameters],
) -> ParameterDocument:
    new = make_collateral(previous_ppm=None, attribution={"tail": 200_000})
    return make_document(markets=(make_perpetual(), new))


@pytest.fixture
def after(
    before: ParameterDocument,
    make_document: Make[ParameterDocument],
    make_perpetual: Make[PerpetualParameters],
    make_collateral: Make[CollateralParameters],
) -> Make[ParameterDocument]:
    def make(
        maintenance: int = 50_000, *, market: dict[str, object] | None = None, **changes: object
    ) -> ParameterDocument:
        linked = {"previous_ppm": 50_000, "attribution": {"tail": maintenance - 50_000}}
        perpetual = make_perpetual(maintenance=maintenance, **linked | (market or {}))
        collateral = make_collateral(previous_ppm=200_000, attribution={})
        fields: dict[str, object] = {
            "previous_digest": digest(encode(before)),
            "markets": (perpetual, collateral),
        }
        return make_document(2, **fields | changes)

    return make


@pytest.mark.parametrize("maintenance", [48_500, 50_000, 60_000])
def test_moves_within_the_limits_pass(
    before: ParameterDocument, after: Make[ParameterDocument], maintenance: int
) -> None:
    check_update(None, before, LIMITS)
    check_update(before, after(maintenance), LIMITS)


@pytest.mark.parametrize(
    ("maintenance", "match"), [(72_001, "-> 144000 ppm in 2 decisions"), (47_044, "94090 ppm in 2 decisions")]
)
def test_runs_that_did_not_happen_move_together(
    before: ParameterDocument, after: Make[ParameterDocument], maintenance: int, match: str
) -> None:
    check_update(before, after(72_000), LIMITS, decisions=2)
    check_update(before, after(47_045), LIMITS, decisions=2)
    with pytest.raises(ConstraintError, match=match):
        check_update(before, after(maintenance), LIMITS, decisions=2)


HELD = {"status": "held", "reasons": ("stale bars",)}


@pytest.mark.parametrize(
    ("maintenance", "market", "match"),
    [
        (60_001, {}, r"demo:BTC-USD: max_increase 0.2 allows initial margin at notional 0 100000 -> 120000"),
        (48_499, {}, r"demo:BTC-USD: max_decrease 0.03 allows initial margin at notional 0 100000 -> 97000"),
        (49_999, HELD, "a held market must not loosen, initial margin at notional 0 falls from"),
        (50_000, {"previous_ppm": 49_000, "attribution": {"x": 1_000}}, "must be 50000, was 49000"),
        (50_000, {"previous_ppm": None, "attribution": {"x": 50_000}}, "must be 50000, was None"),
    ],
)  # fmt: skip
def test_a_market_is_refused(
    before: ParameterDocument,
    after: Make[ParameterDocument],
    maintenance: int,
    market: dict[str, object],
    match: str,
) -> None:
    with pytest.raises(ConstraintError, match=match):
        check_update(before, after(maintenance, market=market), LIMITS)


def test_a_new_tier_may_not_loosen_part_of_the_notionals(
    before: ParameterDocument, after: Make[ParameterDocument]
) -> None:
    tier = TierParameters(notional_floor=0, initial_margin_ppm=100_000, maintenance_margin_ppm=50_000)
    one = after(market={"margins": (tier,)} | HELD)
    with pytest.raises(
        ConstraintError, match="initial margin at notional 1000000000000000000 falls from 150000"
    ):
        check_update(before, one, LIMITS)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sequence": 3}, "sequence must follow 1, was 3"),
        ({"protocol": "other"}, "protocol must stay demo, was other"),
        ({"previous_digest": "0" * 64}, "previous_digest must be"),
    ],
)
def test_the_chain_holds(
    before: ParameterDocument, after: Make[ParameterDocument], changes: dict[str, object], match: str
) -> None:
    with pytest.raises(ConstraintError, match=match):
        check_update(before, after().model_copy(update=changes), LIMITS)


def test_time_does_not_go_back(before: ParameterDocument, after: Make[ParameterDocument]) -> None:
    earlier = before.issued_at - timedelta(days=1)
    with pytest.raises(ConstraintError, match=r"issued_at must not go back .* \(2 in all\)"):
        check_update(before, after(issued_at=earlier, valid_from=earlier), LIMITS)


def test_a_market_disappears_only_with_its_configuration(
    before: ParameterDocument, after: Make[ParameterDocument]
) -> None:
    fewer = after().model_copy(update={"markets": after().markets[:1]})
    with pytest.raises(ConstraintError, match=r"must not disappear under the same configuration .* lost ETH"):
        check_update(before, fewer, LIMITS)
    check_update(before, fewer.model_copy(update={"config_digest": "e" * 64}), LIMITS)


def test_a_held_collateral_does_not_loosen(
    before: ParameterDocument, after: Make[ParameterDocument], make_collateral: Make[CollateralParameters]
) -> None:
    looser = before.markets[1].haircut.model_copy(update={"loan_to_value_ppm": 690_001})  # type: ignore[union-attr]
    market = make_collateral(previous_ppm=200_000, attribution={}, haircut=looser, **HELD)
    with pytest.raises(ConstraintError, match="demo:ETH: a held market must not loosen, 1 - loan_to_value"):
        check_update(before, after(markets=(after().markets[0], market)), LIMITS)


def test_a_plan_step_is_limited_too(
    before: ParameterDocument, after: Make[ParameterDocument], make_perpetual: Make[PerpetualParameters]
) -> None:
    plan = tuple(
        change.model_copy(update={"initial_margin_ppm": 130_000}) for change in make_perpetual().plan
    )
    with pytest.raises(ConstraintError, match=r"max_increase 0\.2 allows initial_margin_ppm of plan step 1"):
        check_update(before, after(market={"plan": plan}), LIMITS)


def test_an_empty_home_starts_at_one(after: Make[ParameterDocument]) -> None:
    with pytest.raises(ConstraintError, match="sequence must be 1 in an empty home, was 2"):
        check_update(None, after(), LIMITS)


@pytest.mark.parametrize(
    ("before", "allowed", "refused"),
    [(100_000, 120_000, 120_001), (100_000, 97_000, 96_999), (1, 2, 3), (7, 9, 10), (101, 98, 97)],
)
def test_a_step_is_limited_to_the_ppm(before: int, allowed: int, refused: int) -> None:
    assert not [*_step("margin", before, allowed, LIMITS)]
    assert [*_step("margin", before, refused, LIMITS)]


@settings(max_examples=200)
@given(before=st.integers(1, 10**6), limit=st.floats(0.001, 3.0))
def test_the_largest_allowed_step_is_the_quantised_limit(before: int, limit: float) -> None:
    limits = ChangeLimits(max_increase=limit, min_base=0.0)
    highest = ppm_up(before / 10**6 * (1 + limit))  # floating point, hence the ppm of slack below
    assert not [*_step("margin", before, highest - 1, limits)] or highest - 1 < before * 0.97
    assert [*_step("margin", before, highest + 2, limits)]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(1e-4, 0.05), min_size=2, max_size=30),
    st.floats(1.001, 5.0),
    st.sampled_from([ChangeLimits(), LIMITS, ChangeLimits(max_increase=0.02, min_base=0.05)]),
)
def test_what_the_schedule_publishes_passes_and_one_step_more_does_not(
    target: list[float], multiple: float, limits: ChangeLimits
) -> None:
    values = np.array(target)
    maintenance = round_up(limit(values, np.zeros(len(values)), limits=limits))
    initial = initial_margin(maintenance, multiple)
    pairs = zip(pairwise(maintenance.tolist()), pairwise(initial.tolist()), strict=True)
    for (low, high), (before, after) in pairs:
        assert not [*_step("maintenance", low, high, limits)]
        assert not [*_step("initial", before, after, limits, scale=Fraction(before, low))]
        most = limits.raised(low / PPM, limits.max_increase) * PPM
        assert [*_step("maintenance", low, int(most) + 2, limits)]


def test_a_small_margin_may_move_as_if_it_were_the_least_base() -> None:
    assert not [*_step("haircut", 1_500, 5_500, ChangeLimits())]
    assert [*_step("haircut", 1_500, 5_501, ChangeLimits())]
    assert not [*_step("haircut", 1_500, 9_500, ChangeLimits(), decisions=2)]
    assert [*_step("haircut", 1_500, 9_501, ChangeLimits(), decisions=2)]
    assert [*_step("haircut", 1_500, 1_349, ChangeLimits())]  # decreases are relative all the same
