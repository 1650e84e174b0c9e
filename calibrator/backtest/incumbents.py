"""A venue's margin table in force, as a policy: the same margin every day."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from calibrator.backtest.seen import Seen, Series
from calibrator.domain import PPM

Array = npt.NDArray[np.float64]
Steps = tuple[tuple[int, int], ...]
QUOTES: Final = ("USDT", "USDC", "BUSD", "USD")


def asset_of(market: str) -> str:
    """Return the asset that a market is about.

    Examples
    --------
    >>> asset_of("BTCUSDT"), asset_of("ETH/USD@lending"), asset_of("ETH-USD"), asset_of("SPX")
    ('BTC', 'ETH', 'ETH', 'SPX')
    """
    name = market.partition("@")[0].partition("/")[0]
    quote = next((q for q in QUOTES if name.endswith(q) and name != q), "")
    return name.removesuffix(quote).rstrip("-_")


def margin_of(steps: Steps, notional: float) -> float:
    """Return the margin of a position as a share of its notional: each step binds the part above its floor.

    Examples
    --------
    >>> round(margin_of(((0, 4_000), (50_000, 5_000)), 100_000) * 100_000, 2)
    450.0
    """
    if notional <= 0:
        raise ValueError(f"notional must be positive, was {notional}")
    tops = [floor for floor, _ in steps[1:]] + [float("inf")]
    parts = (
        max(min(notional, top) - floor, 0.0) * rate for (floor, rate), top in zip(steps, tops, strict=True)
    )
    return sum(parts) / PPM / notional


@dataclass(frozen=True, slots=True, eq=False)
class Tabled:
    """A venue's table for positions of one size; it asks the same every day and at every level.

    Attributes
    ----------
    venue : str
    notional : float
        Quote units.
    margins_ppm : mapping of str to tuple of (int, int)
        Per asset the steps (notional floor, ppm).
    sides : tuple of str
        That the table binds.

    Examples
    --------
    >>> import pandas as pd
    >>> t = pd.date_range("2024-01-01", periods=2, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "BTCUSDT", "origin": t, "side": "long", "loss": [0.1, 0.2],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> policy = Tabled("binance", 1e5, {"BTC": ((0, 4_000), (50_000, 5_000))})
    >>> policy.name, policy.margins(Seen.of(x), level=0.99).round(5).tolist()
    ('binance, 100,000', [0.0045, 0.0045])
    """

    venue: str
    notional: float
    margins_ppm: Mapping[str, Steps]
    sides: tuple[str, ...] = ("long", "short")

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.venue}, {self.notional:,.0f}"

    def margins(self, seen: Seen, *, level: float) -> Array:  # noqa: ARG002 - a table knows no level
        """Return one margin (fraction) per row of ``seen``; NaN for an asset that is not listed."""

        def margin(one: Series) -> Array:
            steps = self.margins_ppm.get(asset_of(one.market))
            if steps is None or one.side not in self.sides:
                return np.full(len(one.origins), np.nan)
            return np.full(len(one.origins), margin_of(steps, self.notional))

        return seen.each(margin)
