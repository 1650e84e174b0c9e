"""Any policy held to the limits that our own schedule keeps: what is left is what its forecasts are worth."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.backtest.comparators import Policy, recalled
from calibrator.backtest.seen import Seen, Series
from calibrator.calibrate.procyclicality import limit
from calibrator.domain import ChangeLimits

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Limited:
    """A policy that may move no faster than a schedule that a protocol can live with.

    It starts at its own first margin, holds while an input is incomplete unless it rises, and counts
    decisions as ours does; it has no floor.

    Attributes
    ----------
    base : Policy
    limits : ChangeLimits
    inputs : mapping of str to pandas.DataFrame
        Per market ``whole, complete`` by origin, see :func:`calibrator.calibrate.procyclicality.limit`;
        a market or decision that is not there counts as whole.

    Examples
    --------
    >>> from calibrator.backtest.comparators import HistoricalSimulation
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.1, 0.2, 0.4, 0.4],
    ...                   "known_at": t + pd.Timedelta("1D")})
    >>> policy = Limited(HistoricalSimulation(window=1, min_decisions=1), ChangeLimits(), {})
    >>> policy.name, policy.margins(Seen.of(x), level=0.5).round(3).tolist()
    ('historical_simulation, our limits', [nan, 0.1, 0.12, 0.144])
    """

    base: Policy
    limits: ChangeLimits
    inputs: Mapping[str, pd.DataFrame]

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.base.name}, our limits"

    def margins(self, seen: Seen, *, level: float) -> Array:
        """Return one margin (fraction) per row of ``seen``; NaN before the base has one."""
        free = recalled(self.base, seen, level=level)

        def margin(one: Series) -> Array:
            whole, complete = self._flags(one)
            none = np.zeros(len(one.origins))
            return limit(free[one.rows], none, limits=self.limits, whole=whole, complete=complete)

        return seen.each(margin)

    def _flags(self, one: Series) -> tuple[Flags, Flags]:
        if one.market not in self.inputs:
            every = np.ones(len(one.origins), np.bool_)
            return every, every
        own = self.inputs[one.market].reindex(one.origins, fill_value=True)
        return own["whole"].to_numpy(bool), own["complete"].to_numpy(bool)
