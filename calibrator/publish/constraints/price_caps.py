"""Aave's price-cap adapters: a snapshot ratio that grows at a capped rate, and what clips it.

The ratio and its timestamp belong together: a ratio held back while its timestamp moves on lowers the
largest price that the pool will believe. That happened on 10 March 2026, with wstETH: the ratio of seven days
earlier was written, the contract let it rise by 3 % only and took the timestamp, the price was capped 2.85 %
below the market and 10,938 wstETH were liquidated.

References
----------
bgd-labs/aave-capo 2c280ef9. Aave governance forum, topic 24269.
"""

from datetime import datetime
from typing import Final

from calibrator.publish.adapters.aave import AaveState, PriceCap, PriceCapped
from calibrator.publish.constraints.rules import require

BPS: Final = 10_000
SCALE: Final = 1_000_000
YEAR: Final = 365 * 86_400
OLDEST: Final = 180 * 86_400
MAX_GROWTH_STEP: Final = 500  # basis points, relative, through the steward


def largest_ratio(ratio: int, timestamp: int, growth: int, now: int) -> int:
    """Return the largest ratio that a snapshot allows at ``now``, in the contract's integer order.

    Examples
    --------
    >>> largest_ratio(1034656878645040505, 1711416299, 875, 1711416299 + 365 * 86_400)
    1125189355526481518
    """
    per_second = ratio * growth * SCALE // BPS // YEAR
    return ratio + per_second * (now - timestamp) // SCALE


def clipped_ratio(held: PriceCapped, ratio: int) -> int:
    """Return the ratio that the contract would store.

    Examples
    --------
    >>> held = PriceCapped(snapshot_ratio=10_000, snapshot_timestamp=0, growth=0, market_ratio=1,
    ...     max_rise_bps=300)
    >>> clipped_ratio(held, 10_200), clipped_ratio(held, 11_000)
    (10200, 10300)
    """
    if held.max_rise_bps is None:
        return ratio
    return min(ratio, held.snapshot_ratio * (BPS + held.max_rise_bps) // BPS)


def apply(state: AaveState, action: PriceCap, at: datetime) -> AaveState:
    """Return the state after `setCapParameters`, refusing a partial effect."""
    require(
        action.to in state.price_caps,
        "aave.price-cap.known",
        f"price cap {action.to}: is not in the state file",
    )
    held, now, name = state.price_caps[action.to], int(at.timestamp()), f"price cap {action.to}"
    _stored(held, action, name, now)
    growth_step = held.growth * MAX_GROWTH_STEP // BPS
    require(
        not state.route.startswith("steward") or abs(action.growth - held.growth) <= growth_step,
        "aave.price-cap.growth",
        f"{name}: growth may move by {growth_step} bps, {held.growth} to {action.growth} was asked",
    )
    require(
        action.snapshot_ratio <= held.market_ratio,
        "aave.price-cap.ratio",
        f"{name}: snapshotRatio must not exceed {held.market_ratio}, was {action.snapshot_ratio}",
    )
    _reaches(held, action, name, now)
    new = held.model_copy(
        update={
            "snapshot_ratio": action.snapshot_ratio,
            "snapshot_timestamp": action.snapshot_timestamp,
            "growth": action.growth,
        }
    )
    return state.model_copy(update={"price_caps": {**state.price_caps, action.to: new}})


def _stored(held: PriceCapped, action: PriceCap, name: str, now: int) -> None:
    """Check what the contract itself refuses."""
    ratio, timestamp = action.snapshot_ratio, action.snapshot_timestamp
    require(ratio > 0, "aave.price-cap.zero", f"{name}: snapshotRatio must not be 0")
    require(
        ratio < 2**104 and timestamp < 2**48 and action.growth < 2**16,
        "aave.price-cap.width",
        f"{name}: a value does not fit its field",
    )
    require(
        timestamp > held.snapshot_timestamp,
        "aave.price-cap.timestamp",
        f"{name}: snapshotTimestamp must follow {held.snapshot_timestamp}, was {timestamp}",
    )
    require(
        now - OLDEST <= timestamp <= now - held.minimum_delay,
        "aave.price-cap.timestamp",
        f"{name}: snapshotTimestamp must lie {held.minimum_delay} s to 180 d back, was {now - timestamp} s",
    )


def _reaches(held: PriceCapped, action: PriceCap, name: str, now: int) -> None:
    """Refuse a clipped ratio and a price below the market."""
    stored = clipped_ratio(held, action.snapshot_ratio)
    reached = largest_ratio(stored, action.snapshot_timestamp, action.growth, now)
    below = max(0, held.market_ratio - reached) * 1_000_000 // held.market_ratio
    require(
        stored == action.snapshot_ratio,
        "aave.price-cap.partial",
        f"{name}: snapshotRatio {action.snapshot_ratio} would be clipped to {stored} "
        f"(+{held.max_rise_bps} bps at most) while its timestamp is taken: a partial update; the price would "
        f"be capped at {reached}, {below / 10_000:.2f} % below the market ratio {held.market_ratio}",
    )
    require(
        reached >= held.market_ratio,
        "aave.price-cap.capping",
        f"{name}: the price would be capped at {reached}, {below / 10_000:.2f} % below the market ratio "
        f"{held.market_ratio}",
    )
