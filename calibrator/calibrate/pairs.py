"""The price of a collateral in units of a debt: one series of bars per pair, in which a depeg is a move."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.errors import DataError
from calibrator.frames import BARS, conform

Array = NDArray[np.float64]
PRICES: Final = ("open", "high", "low", "close")


def pair_bars(
    series: str,
    collateral: pd.DataFrame,
    *,
    basis: pd.DataFrame | None = None,
    debt: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Build the bars of ``collateral [* basis] [/ debt]``.

    The three move jointly: a wrapped asset that loses its peg while its reference falls, or a debt that rises
    while the collateral falls, is one loss of the pair and not two quantiles. Only bars that every leg has
    are kept. Open and close are exact; high and low are bounds (``high / low`` and ``low / high`` of the
    legs), so that no loss inside a bar is missed. If a leg has no range, closes alone are used.

    Parameters
    ----------
    series : str
        Name of the pair's market.
    collateral : pandas.DataFrame
        ``Bars`` of the collateral, or of its reference asset.
    basis : pandas.DataFrame, optional
        ``Bars`` of the collateral in units of its reference; its volume is then the pair's.
    debt : pandas.DataFrame, optional
        ``Bars`` of the debt in the same unit of account; None = the unit itself.

    Returns
    -------
    pandas.DataFrame
        Conforming ``Bars``; volume in units of the collateral.

    Raises
    ------
    DataError
        The legs have no bar in common.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=2, tz="UTC").as_unit("us")
    >>> def leg(low, close):
    ...     return pd.DataFrame({"market": "X", "time": t, "open": 100.0, "high": 110.0, "low": low,
    ...                          "close": close, "volume": 1.0})
    >>> pair_bars("A/B", leg(90.0, 95.0), debt=leg(80.0, 100.0))[["high", "low", "close"]].round(3).values
    array([[1.375, 0.818, 0.95 ],
           [1.375, 0.818, 0.95 ]])
    """
    legs = [leg.set_index("time") for leg in (collateral, basis, debt) if leg is not None]
    common = legs[0].index
    for leg in legs[1:]:
        common = common.intersection(leg.index)
    if common.empty:
        raise DataError(f"bars of {series}: its legs must have bars at the same times, have none in common")
    common = common.sort_values()
    aligned = [leg.loc[common, list(PRICES)].astype(float) for leg in legs]
    if not all(bool((leg["high"] > leg["low"]).any()) for leg in aligned):
        aligned = [pd.DataFrame(dict.fromkeys(PRICES, leg["close"])) for leg in aligned]
    price = aligned[0]
    if basis is not None:
        price = price * aligned[1]
    if debt is not None:
        under = aligned[-1].rename(columns={"high": "low", "low": "high"})
        price = price / under[list(PRICES)]
    source = collateral if basis is None else basis
    volume = source.set_index("time").loc[common, "volume"].to_numpy(float)
    made = {name: price[name].to_numpy(float) for name in PRICES}
    frame = pd.DataFrame({"market": series, "time": common, **made, "volume": volume})
    return conform(frame, BARS, source=f"the legs of {series}")


def delayed_haircut(haircut: Array, *, cap: float | None, bars: int) -> Array:
    """Widen haircuts for an oracle whose price moves by at most ``cap`` a bar.

    A fall of ``h`` is seen only after ``h / cap`` bars, in which the price goes on: by the root of time,
    ``h'^2 = h^2 (1 + h' / (cap bars))``, of which the positive root is taken.

    Parameters
    ----------
    haircut : numpy.ndarray
        Tail loss over the close-out (fraction); NaN stays NaN.
    cap : float or None
        Largest relative move of the oracle's price per bar (positive); None = it follows at once.
    bars : int
        Close-out in bars (positive).

    Returns
    -------
    numpy.ndarray
        Never below ``haircut``.

    Raises
    ------
    ValueError
        ``cap`` or ``bars`` is not positive.

    Examples
    --------
    >>> delayed_haircut(np.array([0.0, 0.1]), cap=0.01, bars=24).round(4).tolist()
    [0.0, 0.123]
    """
    if cap is None:
        return haircut
    if cap <= 0 or bars <= 0:
        raise ValueError(f"cap and bars must be positive, were {cap} and {bars}")
    rate = haircut**2 / (cap * bars)
    wide: Array = np.maximum((rate + np.sqrt(rate**2 + 4 * haircut**2)) / 2, haircut)
    return wide
