"""Bybit v5: funding, risk limits, historical volatility, and liquidations captured from its stream.

Answers come in an envelope, newest row first, numbers as texts. In ``allLiquidation`` the side is the side of
the **position**: ``Buy`` means that a long was liquidated.
"""

from typing import Any, Final

import numpy as np
import pandas as pd

from calibrator.data.asking import Ask, Feed, Query, Request, address, millis, per_window, right_now
from calibrator.data.payloads import Parsed, Payload, json_of, refuse_page
from calibrator.data.records import Records, constant, member
from calibrator.data.shaping import sorted_rows, with_multiplicity
from calibrator.data.tables import shorten
from calibrator.errors import ConfigError, DataError
from calibrator.feeds import FUNDING, HISTORICAL_VOLATILITY, LIQUIDATIONS, VENUE_TIERS
from calibrator.frames import TIME, conform

HOME: Final = "https://api.bybit.com"
SIDES: Final = {"Buy": "long", "Sell": "short"}
"""The stream gives the side of the liquidated position."""
_TOLERANCE: Final = 0.05


def result_of(payload: Payload) -> Any:
    """Return ``result`` of an answer whose ``retCode`` is 0.

    Raises
    ------
    DataError
        With the venue's own message.

    Examples
    --------
    >>> result_of(Payload(b'{"retCode": 10001, "retMsg": "params error", "result": {}}', "url"))
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: url: the venue answered 10001: 'params error'
    """
    answer = json_of(payload)
    code = member(answer, "retCode", payload.place)
    if code != 0 or isinstance(code, bool):
        text = shorten(answer.get("retMsg"))
        raise DataError(f"{payload.place}: the venue answered {shorten(code)}: {text}")
    return member(answer, "result", payload.place)


def funding(payload: Payload) -> Parsed:
    """Parse ``/v5/market/funding/history``.

    Examples
    --------
    >>> import json
    >>> row = {"symbol": "BTCUSDT", "fundingRate": "0.0001", "fundingRateTimestamp": "1709884800000"}
    >>> text = json.dumps({"retCode": 0, "result": {"list": [row]}}).encode()
    >>> funding(Payload(text, "url", market="BTCUSDT"))[0]["rate"].to_list()
    [0.0001]
    """
    rows = Records(member(result_of(payload), "list", payload.place), payload.place)
    rows.check_market("symbol", payload.market)
    time = rows.times("fundingRateTimestamp", unit="ms")
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


def risk_limits(payload: Payload) -> Parsed:
    """Parse ``/v5/market/risk-limit``; initial margin must be one over the leverage, as fraction or percent.

    Examples
    --------
    >>> import json
    >>> row = {"symbol": "BTCUSDT", "riskLimitValue": "150", "maintenanceMargin": "0.5",
    ...        "initialMargin": "1", "maxLeverage": "100.00"}
    >>> text = json.dumps({"retCode": 0, "result": {"list": [row]}}).encode()
    >>> now = pd.Timestamp("2024-01-01", tz="UTC")
    >>> made, _ = risk_limits(Payload(text, "url", market="BTCUSDT", received=now))
    >>> made["maintenance_margin_ppm"].to_list()
    [5000]
    """
    rows = Records(member(result_of(payload), "list", payload.place), payload.place)
    if not len(rows):
        raise DataError(f"{payload.place}: holds no row")
    rows.check_market("symbol", payload.market)
    cap = rows.numbers("riskLimitValue")
    leverage, initial = rows.numbers("maxLeverage"), rows.numbers("initialMargin")
    unit = initial * leverage  # 1 for fractions, 100 for percent
    scales = [s for s in (1.0, 100.0) if (np.abs(unit / s - 1.0) <= _TOLERANCE).all()]
    if not scales:
        row = int(np.argmax(np.abs(unit / (1.0 if abs(unit[0] - 1) < abs(unit[0] / 100 - 1) else 100.0) - 1)))
        raise DataError(
            f"{payload.place}, row {row}: 'initialMargin' must be 1 / maxLeverage, as fraction or percent, "
            f"was {initial[row]:g} at leverage {leverage[row]:g}"
        )
    order = np.argsort(cap, kind="stable")
    maintenance = rows.numbers("maintenanceMargin")[order] / scales[0]
    now = constant(payload.now(), len(rows))
    frame = pd.DataFrame(
        {
            "market": payload.market,
            "time": now,
            "known_at": now,
            "notional_floor": np.concatenate([[0.0], cap[order][:-1]]),
            "notional_cap": cap[order],
            "max_leverage": leverage[order],
            "maintenance_margin_ppm": np.ceil(np.round(maintenance * 1e6, 6)).astype(np.int64),
        }
    )
    return conform(frame, VENUE_TIERS, source=payload.place), []


def historical_volatility(payload: Payload) -> Parsed:
    """Parse ``/v5/market/historical-volatility``: annualised fractions.

    Examples
    --------
    >>> text = b'{"retCode": 0, "result": [{"period": 30, "value": "0.45", "time": "1672052400000"}]}'
    >>> historical_volatility(Payload(text, "url", market="BTC"))[0]["volatility"].to_list()
    [0.45]
    """
    rows = Records(result_of(payload), payload.place)
    time = rows.times("time", unit="ms")
    frame = pd.DataFrame(
        {"market": payload.market, "time": time, "known_at": time, "volatility": rows.numbers("value")}
    )
    return sorted_rows(frame, HISTORICAL_VOLATILITY, payload.place)


def liquidations(payload: Payload) -> Parsed:
    """Parse captured messages of ``allLiquidation``, one JSON object a line; prices are bankruptcy prices.

    Examples
    --------
    >>> import json
    >>> row = {"T": 1739502302929, "s": "BTCUSDT", "S": "Sell", "v": "0.01", "p": "65000.5"}
    >>> text = json.dumps({"topic": "allLiquidation.BTCUSDT", "ts": 1739502303204, "data": [row]}).encode()
    >>> liquidations(Payload(text, "x.jsonl", market="BTCUSDT"))[0]["liquidated_side"].to_list()
    ['short']
    """
    refuse_page(payload)
    parts = []
    for number, line in enumerate(payload.content.splitlines()):
        place = f"{payload.place}, line {number}"
        message = json_of(Payload(line, place))
        topic = member(message, "topic", place)
        if topic != f"allLiquidation.{payload.market}":
            raise DataError(f"{place}: topic must be 'allLiquidation.{payload.market}', was {shorten(topic)}")
        rows = Records(member(message, "data", place), place)
        sent = Records([message], place).times("ts", unit="ms")[0]
        parts.append(_events(rows, payload.market, sent))
    frame = with_multiplicity(pd.concat(parts, ignore_index=True))
    frame["notional"] = frame["quantity"] * frame["price"]
    return conform(frame[list(LIQUIDATIONS.columns)], LIQUIDATIONS, source=payload.place), []


def _events(rows: Records, market: str, sent: pd.Timestamp) -> pd.DataFrame:
    rows.check_market("s", market)
    if not len(rows):
        raise DataError(f"{rows.place}: holds no row")
    time = rows.times("T", unit="ms")
    known = time.where(time > sent, sent)  # a clock that runs ahead must not move an event into the past
    return pd.DataFrame(
        {
            "market": market,
            "time": time,
            "known_at": known.astype(TIME),
            "liquidated_side": [SIDES[s] for s in rows.texts("S", among=list(SIDES))],
            "quantity": rows.numbers("v"),
            "price": rows.numbers("p"),
        }
    )


def captured(query: Query) -> list[Request]:
    """Refuse to ask for what only a stream shows.

    Examples
    --------
    >>> t = pd.Timestamp("2024-01-01", tz="UTC")
    >>> captured(Query("BTCUSDT", t, t))
    Traceback (most recent call last):
    ...
    calibrator.errors.ConfigError: BTCUSDT: only a stream shows this feed: name captured files in `files`
    """
    raise ConfigError(f"{query.market}: only a stream shows this feed: name captured files in `files`")


def _funding(query: Query, first: pd.Timestamp, end: pd.Timestamp) -> Ask:
    span = {"startTime": millis(first), "endTime": millis(end) - 1, "limit": 200}
    path = "/v5/market/funding/history"
    return address(query.base, path, category="linear", symbol=query.market, **span), None


def _risk(query: Query) -> Ask:
    return address(query.base, "/v5/market/risk-limit", category="linear", symbol=query.market), None


def _volatility(query: Query, first: pd.Timestamp, end: pd.Timestamp) -> Ask:
    span = {"startTime": millis(first), "endTime": millis(end) - 1}
    path = "/v5/market/historical-volatility"
    return address(query.base, path, category="option", baseCoin=query.market, period=30, **span), None


def _eight_days(_: Query) -> pd.Timedelta:
    return pd.Timedelta("8D")  # 192 hourly rows: below the venue's 200 a page


FEEDS: Final = (
    Feed("bybit-funding", FUNDING, funding, per_window(_eight_days, _funding), HOME),
    Feed("bybit-risk-limits", VENUE_TIERS, risk_limits, right_now(_risk), HOME, live=True),
    Feed(
        "bybit-historical-volatility",
        HISTORICAL_VOLATILITY,
        historical_volatility,
        per_window(_eight_days, _volatility),
        HOME,
    ),
    Feed(
        "bybit-liquidations",
        LIQUIDATIONS,
        liquidations,
        captured,
        HOME,
        note="from captured files of the stream; prices are bankruptcy prices",
    ),
)
"""What Bybit serves."""
