"""Every feed of every venue by name."""

from collections.abc import Mapping
from typing import Final

from calibrator.data.asking import Feed
from calibrator.data.venues import (
    aave,
    binance,
    binance_tail,
    bybit,
    coinmetrics,
    deribit,
    hyperliquid,
    tardis,
)

VENUES: Final = (binance, binance_tail, bybit, hyperliquid, deribit, aave, coinmetrics, tardis)

FEEDS: Final[Mapping[str, Feed]] = {feed.name: feed for venue in VENUES for feed in venue.FEEDS}
"""Feeds by name, in the order of their venues."""
