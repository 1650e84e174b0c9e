"""Binance's REST interface for what the archives lack: klines, funding, open interest, brackets."""

from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from calibrator.data.asking import Ask, Feed, Query, address, millis, per_window, right_now, step_of
from calibrator.data.payloads import Parsed, Payload, json_of
from calibrator.data.records import Records, constant
from calibrator.data.shaping import finished, sorted_rows
from calibrator.data.tables import shorten
from calibrator.data.venues.binance import bars_of
from calibrator.errors import DataError
from calibrator.feeds import FUNDING, OPEN_INTEREST, VENUE_TIERS
from calibrator.frames import BARS, conform

HOME: Final = "https://fapi.binance.com"
_FIELDS: Final = ("open_time", "open", "high", "low", "close", "volume", "close_time")
_BARS_ASKED: Final = 500
_CENT: Final = 0.01


def klines(payload: Payload) -> Parsed:
    """Parse ``/fapi/v1/klines``: arrays of twelve; a bar that is not over yet is left out.

    Examples
    --------
    >>> import json
    >>> row = [1698364800000, "2", "3", "1", "2", "9", 1698368399999, "0", 0, "0", "0", "0"]
    >>> now = pd.Timestamp("2024-01-01", tz="UTC")
    >>> frame, _ = klines(Payload(json.dumps([row]).encode(), "url", market="BTCUSDT", received=now))
    >>> frame["close"].to_list()
    [2.0]
    """
    rows = Records(json_of(payload), payload.place)
    if not len(rows):
        raise DataError(f"{payload.place}: holds no row")
    columns: dict[str, pa.Array] = {
        name: pa.array(rows.whole(i) if name.endswith("time") else rows.numbers(i))
        for i, name in enumerate(_FIELDS)
    }
    frame, found = bars_of(pa.table(columns), payload, "volume")
    frame, more = finished(frame, payload.now())
    return frame, [*found, *more]


def funding(payload: Payload) -> Parsed:
    """Parse ``/fapi/v1/fundingRate``; the answer does not say how long an interval is.

    Examples
    --------
    >>> import json
    >>> row = {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingTime": 1570636800000}
    >>> funding(Payload(json.dumps([row]).encode(), "url", market="BTCUSDT"))[0]["rate"].to_list()
    [0.0001]
    """
    rows = Records(json_of(payload), payload.place)
    rows.check_market("symbol", payload.market)
    time = rows.times("fundingTime", unit="ms")
    frame = pd.DataFrame(
        {
            "market": payload.market,
            "time": time,
            "known_at": time,
            "rate": rows.numbers("fundingRate"),
            "interval_hours": np.nan,
        }
    )
    return sorted_rows(frame, FUNDING, payload.place)


def open_interest(payload: Payload) -> Parsed:
    """Parse ``/futures/data/openInterestHist``; its times are texts of milliseconds.

    Examples
    --------
    >>> import json
    >>> row = {"symbol": "BTCUSDT", "sumOpenInterest": "20", "sumOpenInterestValue": "9",
    ...        "timestamp": "1583127900000"}
    >>> made, _ = open_interest(Payload(json.dumps([row]).encode(), "url", market="BTCUSDT"))
    >>> made["open_interest"].to_list()
    [20.0]
    """
    rows = Records(json_of(payload), payload.place)
    rows.check_market("symbol", payload.market)
    time = rows.times("timestamp", unit="ms")
    frame = pd.DataFrame(
        {
            "market": payload.market,
            "time": time,
            "known_at": time,
            "open_interest": rows.numbers("sumOpenInterest"),
            "open_interest_notional": rows.numbers("sumOpenInterestValue"),
        }
    )
    return sorted_rows(frame, OPEN_INTEREST, payload.place)


def brackets(payload: Payload) -> Parsed:
    """Parse ``/fapi/v1/leverageBracket``: a market's tiers; ``cum`` must make the margin continuous.

    The venue serves it to signed requests only.

    Examples
    --------
    >>> import json
    >>> one = {"initialLeverage": 20, "notionalFloor": 0, "notionalCap": 100, "cum": 0,
    ...        "maintMarginRatio": 0.02}
    >>> two = {"initialLeverage": 10, "notionalFloor": 100, "notionalCap": 900, "cum": 3,
    ...        "maintMarginRatio": 0.05}
    >>> text = json.dumps([{"symbol": "BTCUSDT", "brackets": [one, two]}]).encode()
    >>> now = pd.Timestamp("2024-01-01", tz="UTC")
    >>> made, _ = brackets(Payload(text, "url", market="BTCUSDT", received=now))
    >>> made["maintenance_margin_ppm"].to_list()
    [20000, 50000]
    """
    outer = Records(json_of(payload), payload.place)
    names = outer.texts("symbol")
    if payload.market not in names:
        raise DataError(f"{payload.place}: no brackets of {payload.market!r}, there are {shorten(names[:3])}")
    place = f"{payload.place}: brackets"
    rows = Records(outer.cells("brackets")[names.index(payload.market)], place)
    if not len(rows):
        raise DataError(f"{place}: holds no row")
    inner = rows.rows[0]
    unit = "notional" if isinstance(inner, dict) and "notionalFloor" in inner else "qty"
    floor, cap = rows.numbers(f"{unit}Floor"), rows.numbers(f"{unit}Cap")
    rate, cum = rows.numbers("maintMarginRatio"), rows.numbers("cum")
    order = np.argsort(floor, kind="stable")
    floor, cap, rate, cum = floor[order], cap[order], rate[order], cum[order]
    lacks = np.abs(np.diff(cum) - floor[1:] * np.diff(rate))
    if floor[0] != 0 or (floor[1:] != cap[:-1]).any():
        raise DataError(
            f"{place}: must cover every notional from 0 without gaps, floors were {shorten(floor)}"
        )
    if (lacks > np.maximum(_CENT, 1e-6 * np.abs(cum[1:]))).any():
        row = int(np.argmax(lacks)) + 1
        raise DataError(f"{place}, row {row}: 'cum' must make the margin continuous, was {cum[row]:g}")
    now = constant(payload.now(), len(rows))
    frame = pd.DataFrame(
        {
            "market": payload.market,
            "time": now,
            "known_at": now,
            "notional_floor": floor,
            "notional_cap": cap,
            "max_leverage": rows.numbers("initialLeverage")[order],
            "maintenance_margin_ppm": np.ceil(np.round(rate * 1e6, 6)).astype(np.int64),
        }
    )
    return conform(frame, VENUE_TIERS, source=payload.place), []


def _klines(query: Query, first: pd.Timestamp, end: pd.Timestamp) -> Ask:
    span = {"startTime": millis(first), "endTime": millis(end) - 1, "limit": _BARS_ASKED}
    return address(query.base, "/fapi/v1/klines", symbol=query.market, interval=query.interval, **span), None


def _funding(query: Query, first: pd.Timestamp, end: pd.Timestamp) -> Ask:
    span = {"startTime": millis(first), "endTime": millis(end) - 1, "limit": 1000}
    return address(query.base, "/fapi/v1/fundingRate", symbol=query.market, **span), None


def _interest(query: Query, first: pd.Timestamp, end: pd.Timestamp) -> Ask:
    span = {"startTime": millis(first), "endTime": millis(end) - 1, "limit": _BARS_ASKED}
    path = "/futures/data/openInterestHist"
    return address(query.base, path, symbol=query.market, period=query.interval, **span), None


def _brackets(query: Query) -> Ask:
    return address(query.base, "/fapi/v1/leverageBracket", symbol=query.market), None


def _many(query: Query) -> pd.Timedelta:
    return _BARS_ASKED * step_of(query.interval)


def _month(_: Query) -> pd.Timedelta:
    return pd.Timedelta("30D")


FEEDS: Final = (
    Feed("binance-rest-klines", BARS, klines, per_window(_many, _klines), HOME),
    Feed("binance-rest-funding", FUNDING, funding, per_window(_month, _funding), HOME),
    Feed(
        "binance-rest-open-interest",
        OPEN_INTEREST,
        open_interest,
        per_window(_many, _interest),
        HOME,
        note="the venue keeps the last 30 days only",
    ),
    Feed(
        "binance-rest-brackets",
        VENUE_TIERS,
        brackets,
        right_now(_brackets),
        HOME,
        live=True,
        note="served to signed requests only, which fetch does not make: name captured answers in `files`",
    ),
)
"""What the REST interface serves."""
