"""Margins in force over the bars of a market, from the history of schedules."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.domain import PPM
from calibrator.errors import DataError
from calibrator.frames import BARS, SCHEDULE_HISTORY, conform

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Clock = npt.NDArray[np.datetime64]


@dataclass(frozen=True, slots=True)
class Prices:
    """Bars of one market in time order (shape ``(T,)`` each); ``time`` is the bars' end, naive UTC."""

    time: Clock
    high: Floats
    low: Floats
    close: Floats


@dataclass(frozen=True, slots=True)
class Terms:
    """Margins of one market per tier and bar, in integer ppm (shape ``(tiers, T)``).

    A tier's margin applies to the part of a position's notional above the tier's floor. A schedule applies to
    bars that *end after* it takes effect. Entries before the first one are zero; ``first`` is the number of
    such bars.

    Raises
    ------
    DataError
        A maintenance margin falls with notional.
    """

    notional_floor: Integers
    maintenance: Integers
    initial: Integers
    first: int

    def __post_init__(self) -> None:
        falls = np.diff(self.maintenance, axis=0) < 0
        if falls.any():
            tier, bar = (int(x[0]) + 1 - i for i, x in enumerate(np.nonzero(falls)))
            raise DataError(
                f"terms: margins must not fall with notional, they do at {self.notional_floor[tier]} in "
                f"bar {bar}"
            )

    def tier(self, notional: Floats) -> Integers:
        """Return the tier that each notional falls into."""
        return np.searchsorted(self.notional_floor, notional, side="right") - 1

    def deduction(self) -> Floats:
        """Return what a tier's flat maintenance requirement asks too much, quote units, per tier and bar."""
        return np.asarray(deductions(self.notional_floor, self.maintenance) / PPM, dtype=np.float64)

    def initial_at(self, bar: Integers, notional: Floats) -> Floats:
        """Return the initial requirement over the notional, of one notional per bar (fraction).

        Examples
        --------
        >>> rates = np.array([[50_000], [100_000]])
        >>> terms = Terms(np.array([0, 1_000]), rates, 2 * rates, 0)
        >>> terms.initial_at(np.zeros(2, int), np.array([1_000.0, 2_000.0])).round(6).tolist()
        [0.1, 0.15]
        """
        tier = self.tier(notional)
        spared = deductions(self.notional_floor, self.initial)[tier, bar] / PPM
        return np.asarray(self.initial[tier, bar] / PPM - spared / notional, dtype=np.float64)


def deductions(floors: Integers, rates: Integers) -> Integers:
    """Return what each tier's flat requirement asks too much: ``sum of floor (rate - rate below)`` up to it.

    ``rate notional - deduction`` of the tier that a notional falls into asks of every part of it the rate of
    the tier that the part lies in: continuous where a tier begins.

    Parameters
    ----------
    floors : numpy.ndarray of int, shape (tiers,)
    rates : numpy.ndarray of int, shape (tiers, ...)
        ppm.

    Returns
    -------
    numpy.ndarray of int, shape (tiers, ...)
        Millionths of a quote unit; zero for the first tier.

    Examples
    --------
    >>> deductions(np.array([0, 1_000, 5_000]), np.array([50_000, 100_000, 120_000])).tolist()
    [0, 50000000, 150000000]
    """
    out: Integers = np.zeros_like(rates)
    shape = (-1,) + (1,) * (rates.ndim - 1)
    out[1:] = np.cumsum(np.diff(rates, axis=0) * floors[1:].reshape(shape), axis=0)
    return out


def prices_by_market(bars: pd.DataFrame) -> dict[str, Prices]:
    """Split ``frames.BARS`` by market.

    Examples
    --------
    >>> row = {"market": ["A"], "time": pd.to_datetime(["2024-01-01"], utc=True).as_unit("us"),
    ...        "open": [1.0], "high": [2.0], "low": [0.5], "close": [1.5], "volume": [0.0]}
    >>> prices_by_market(pd.DataFrame(row))["A"].low.tolist()
    [0.5]
    """
    checked = conform(bars, BARS, source="backtest").sort_values(["market", "time"])
    return {
        str(market): Prices(
            one["time"].dt.tz_convert(None).to_numpy(),
            *(one[c].to_numpy(dtype=float) for c in ("high", "low", "close")),
        )
        for market, one in checked.groupby("market")
    }


def terms_by_market(schedule: pd.DataFrame, prices: Mapping[str, Prices]) -> dict[str, Terms]:
    """Lay the schedules of ``frames.SCHEDULE_HISTORY`` over the bars of their markets.

    Parameters
    ----------
    schedule : pandas.DataFrame
        Per market every tier must appear at every ``effective_from``.
    prices : mapping of str to Prices
        Markets without bars are left out.

    Raises
    ------
    DataError
        Schema broken, a change that leaves out a tier, or no tier from notional 0.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=3, tz="UTC").as_unit("us")
    >>> s = pd.DataFrame({"market": "A", "effective_from": t[:2], "notional_floor": 0, "regime": 0,
    ...                   "initial_margin_ppm": [100_000, 120_000],
    ...                   "maintenance_margin_ppm": [50_000, 60_000]})
    >>> one = np.ones(3)
    >>> terms_by_market(s, {"A": Prices(t.tz_convert(None).to_numpy(), one, one, one)})["A"].maintenance
    array([[    0, 50000, 60000]])
    """
    checked = conform(schedule, SCHEDULE_HISTORY, source="backtest")
    return {
        str(market): _lay(str(market), one, prices[str(market)])
        for market, one in checked.groupby("market")
        if str(market) in prices
    }


def _lay(market: str, schedule: pd.DataFrame, prices: Prices) -> Terms:
    wide = schedule.pivot_table(
        index="effective_from",
        columns="notional_floor",
        values=["maintenance_margin_ppm", "initial_margin_ppm"],
        aggfunc="last",
    ).sort_index()
    if wide.isna().to_numpy().any():
        when = wide.index[wide.isna().any(axis=1)][0].isoformat()
        raise DataError(
            f"schedule of {market}: every change must name every tier, the one at {when} does not"
        )
    maintenance, initial = wide["maintenance_margin_ppm"], wide["initial_margin_ppm"]
    if maintenance.columns[0] != 0:
        raise DataError(
            f"schedule of {market}: the first tier must start at notional 0, was {maintenance.columns[0]}"
        )
    effective = pd.DatetimeIndex(wide.index).tz_convert(None).to_numpy()
    row = np.searchsorted(effective, prices.time, side="left") - 1
    in_force = row >= 0
    laid = [np.where(in_force, f.to_numpy(dtype="int64").T[:, row], 0) for f in (maintenance, initial)]
    return Terms(maintenance.columns.to_numpy(dtype="int64"), laid[0], laid[1], int(np.sum(~in_force)))
