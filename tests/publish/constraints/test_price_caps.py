"""The wstETH case of 10 March 2026, and the arithmetic of price-cap adapters."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from calibrator.errors import ConstraintError
from calibrator.publish.adapters.aave import PriceCap
from calibrator.publish.adapters.base import State
from calibrator.publish.constraints.price_caps import largest_ratio
from calibrator.publish.constraints.rules import simulate
from calibrator.publish.constraints.targets import target

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
WEEK = 7 * 86_400
UNIT = 10**14  # the post-mortem rounds ratios to four decimals
ADAPTER = "0x" + "7" * 40
HELD = {
    "snapshot_ratio": str(11_572 * UNIT),
    "snapshot_timestamp": int(NOW.timestamp()) - 300 * 86_400,
    "growth": 875,  # what takes 1.1919 to 1.1939 in seven days
    "market_ratio": str(12_289 * UNIT),
    "max_rise_bps": 300,
}


@pytest.fixture
def capped(make_state: Callable[..., State]) -> Callable[..., State]:
    return lambda **changes: make_state("aave-v3", price_caps={ADAPTER: HELD | changes})


def update(ratio: int, *, days: int = 7, growth: int = 875) -> PriceCap:
    timestamp = int(NOW.timestamp()) - days * 86_400
    return PriceCap(to=ADAPTER, snapshot_ratio=ratio, snapshot_timestamp=timestamp, growth=growth)


def test_the_update_of_march_2026_is_refused_as_partial(capped: Callable[..., State]) -> None:
    with pytest.raises(ConstraintError) as caught:
        simulate(target("aave-v3")[1], capped(), [update(12_282 * UNIT)], at=NOW)
    message = str(caught.value)
    assert "(rule aave.price-cap.partial)" in message
    assert f"would be clipped to {11_572 * UNIT * 103 // 100}" in message  # 1.1919
    assert "while its timestamp is taken" in message
    assert "2.85 % below the market ratio" in message
    start, now = 11_572 * UNIT * 103 // 100, int(NOW.timestamp())
    assert start // UNIT == 11_919
    assert largest_ratio(start, now - WEEK, 875, now) // UNIT == 11_939


def test_a_step_within_the_limit_but_with_a_young_timestamp_caps_below_the_market(
    capped: Callable[..., State],
) -> None:
    with pytest.raises(ConstraintError, match=r"below the market ratio.*rule aave\.price-cap\.capping"):
        simulate(target("aave-v3")[1], capped(), [update(11_900 * UNIT)], at=NOW)


def test_a_whole_update_passes_and_moves_ratio_and_timestamp_together(capped: Callable[..., State]) -> None:
    state = capped(max_rise_bps=None)
    held: Any = simulate(target("aave-v3")[1], state, [update(12_282 * UNIT)], at=NOW)
    stored = held.price_caps[ADAPTER]
    assert stored.snapshot_ratio == 12_282 * UNIT
    assert stored.snapshot_timestamp == int(NOW.timestamp()) - WEEK


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"ratio": 0}, "zero"),
        ({"ratio": 12_282 * UNIT, "days": 6}, "timestamp"),
        ({"ratio": 12_282 * UNIT, "days": 181}, "timestamp"),
        ({"ratio": 12_282 * UNIT, "days": 301}, "timestamp"),
        ({"ratio": 12_290 * UNIT}, "ratio"),
        ({"ratio": 12_282 * UNIT, "growth": 65_536}, "width"),
    ],
)
def test_what_the_contract_refuses(changed: dict[str, int], rule: str, capped: Callable[..., State]) -> None:
    ratio = changed.pop("ratio")
    with pytest.raises(ConstraintError, match=rf"rule aave\.price-cap\.{rule}\)"):
        simulate(target("aave-v3")[1], capped(max_rise_bps=None), [update(ratio, **changed)], at=NOW)


def test_growth_moves_by_five_percent_through_the_steward(capped: Callable[..., State]) -> None:
    rules = target("aave-v3")[1]
    state = capped(max_rise_bps=None).model_copy(update={"route": "steward-3.7"})
    simulate(rules, state, [update(12_282 * UNIT, growth=875 + 43)], at=NOW)
    with pytest.raises(ConstraintError, match=r"growth may move by 43 bps"):
        simulate(rules, state, [update(12_282 * UNIT, growth=875 + 44)], at=NOW)


def test_growth_per_second_of_weeth() -> None:
    # upstream value of the deployed weETH adapter: 1034656878645040505, 875 bps a year
    scaled = 1034656878645040505 * 875 * 1_000_000 // 10_000 // 31_536_000
    assert scaled == 2870766009685471
    assert largest_ratio(1034656878645040505, 0, 875, 10**6) == 1034656878645040505 + scaled
