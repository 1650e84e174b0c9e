"""Daily bars that ship with the ``arch`` package: no network, no file of our own.

S&P 500 and NASDAQ Composite 1999-2018 (Yahoo! Finance; open, high, low, close, volume), WTI crude spot
1986-2019 (FRED DCOILWTICO; one price a day) and the VIX 2014-2019 (FRED VIXCLS). Raw and adjusted close of
the two indices are the same number in every row; the raw columns are used: they agree with open, high, low.

A date labels the session. The bar ends at 00:00 UTC of the next day, after every session of that date has
closed. Days that a source lists without a value were no session: they are dropped and counted.
"""

from functools import cache
from importlib import import_module
from typing import Final

import numpy as np
import pandas as pd

from calibrator.config import DataConfig
from calibrator.data.rows import Finding, without_missing
from calibrator.errors import ConfigError, DataError
from calibrator.frames import TIME

MARKETS: Final = ("NASDAQ", "SPX", "WTI")
_DAY: Final = pd.Timedelta("1D")
_INDICES: Final = {"NASDAQ": "nasdaq", "SPX": "sp500"}


def read_bars(data: DataConfig, *, as_of: pd.Timestamp | None) -> tuple[pd.DataFrame, list[Finding]]:
    """Return the embedded daily bars of ``data.markets``.

    Parameters
    ----------
    data : DataConfig
        ``bar`` must be ``1d``; ``markets`` may choose among ``NASDAQ``, ``SPX`` and ``WTI``.
    as_of : pandas.Timestamp, optional
        Bars that end later are left out.

    Returns
    -------
    (pandas.DataFrame, list of Finding)
        The columns of ``Bars``, sorted by market and time; index points, or USD a barrel.

    Raises
    ------
    ConfigError
        Another bar than a day.
    DataError
        An unknown market, or no bar up to ``as_of``.

    Examples
    --------
    >>> bars, found = read_bars(DataConfig(source="embedded", bar="1d"), as_of=None)
    >>> bars.groupby("market").size().to_dict(), found[0].count
    ({'NASDAQ': 5031, 'SPX': 5031, 'WTI': 8321}, 290)
    """
    if data.step != _DAY:
        raise ConfigError(f"data.bar must be 1d with source 'embedded', was {data.bar}")
    wanted = MARKETS if data.markets == "all" else tuple(sorted(set(data.markets)))
    for market in wanted:
        if market not in MARKETS:
            raise DataError(f"embedded data: no market {market!r}; there are {', '.join(MARKETS)}")
    frame = pd.concat([_market(market) for market in wanted], ignore_index=True)
    frame = _until(frame, as_of)
    lost = [m for m in wanted if not (frame["market"] == m).any()]
    if frame.empty or (lost and data.markets != "all"):
        raise DataError(f"embedded data: no bar of {', '.join(lost)} up to {as_of}")
    return without_missing(frame, ["close"], drop=True, source="embedded data")


def read_implied_volatility(*, as_of: pd.Timestamp | None) -> tuple[pd.DataFrame, list[Finding]]:
    """Return the VIX as implied volatility of ``SPX``: annualised fraction, known at the end of its day.

    Parameters
    ----------
    as_of : pandas.Timestamp, optional
        Later rows are left out.

    Returns
    -------
    (pandas.DataFrame, list of Finding)
        The columns of ``ImpliedVolatility``, sorted by time.

    Examples
    --------
    >>> frame, found = read_implied_volatility(as_of=None)
    >>> len(frame), found[0].count, float(frame["implied_volatility"].iloc[0])
    (1259, 46, 0.1376)
    """
    vix = _load("vix")["vix"]
    frame = pd.DataFrame(
        {"market": "SPX", "time": _ends(vix.index), "implied_volatility": (vix / 100.0).to_numpy()}
    )
    return without_missing(
        _until(frame, as_of),
        ["implied_volatility"],
        drop=True,
        source="embedded data",
        what="implied volatility",
    )


def _market(market: str) -> pd.DataFrame:
    if market == "WTI":
        price = _load("wti")["DCOILWTICO"]
        values = dict.fromkeys(("open", "high", "low", "close"), price.to_numpy())
        return pd.DataFrame({"market": market, "time": _ends(price.index), **values, "volume": np.nan})
    raw = _load(_INDICES[market])
    values = {name.lower(): raw[name].to_numpy() for name in ("Open", "High", "Low", "Close")}
    volume = raw["Volume"].to_numpy(dtype=np.float64)
    return pd.DataFrame({"market": market, "time": _ends(raw.index), **values, "volume": volume})


@cache
def _load(name: str) -> pd.DataFrame:
    """Load one of arch's data sets; only these modules are imported, which is faster than all of arch."""
    frame: pd.DataFrame = import_module(f"arch.data.{name}").load()
    return frame


def _ends(dates: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return (dates.tz_localize("UTC") + _DAY).astype(TIME)


def _until(frame: pd.DataFrame, as_of: pd.Timestamp | None) -> pd.DataFrame:
    return frame if as_of is None else frame[frame["time"] <= as_of]
