"""Deribit: the DVOL index with its pages backward, option chains, historical volatility.

Answers come in a JSON-RPC envelope; volatilities are percent a year; DVOL bars are labelled by their start,
and a row here carries the time at which its close was known.
"""

import re
from dataclasses import replace
from typing import Any, Final

import pandas as pd

from calibrator.data.asking import Ask, Feed, Query, Request, address, millis, per_window, right_now
from calibrator.data.payloads import Parsed, Parser, Payload, json_of
from calibrator.data.records import Records, constant, member
from calibrator.data.shaping import finished, sorted_rows
from calibrator.data.tables import shorten
from calibrator.errors import ConfigError, DataError
from calibrator.feeds import HISTORICAL_VOLATILITY, OPTION_QUOTES
from calibrator.frames import IMPLIED_VOLATILITY, TIME

HOME: Final = "https://www.deribit.com/api/v2"
PERCENT_FROM: Final = 3.0
"""A volatility above 300 % a year is read as percent."""
_RESOLUTIONS: Final = {"1s": "1", "1m": "60", "1h": "3600", "12h": "43200", "1d": "1D"}
_OPTION: Final = re.compile(
    r"(?P<coin>[A-Z0-9]{1,12}(_[A-Z0-9]{1,8})?)-(?P<day>[0-9]{1,2})(?P<month>[A-Z]{3})(?P<year>[0-9]{2})-"
    r"(?P<strike>[0-9]{1,12}(d[0-9]{1,8})?)-(?P<type>[CP])"
)
_MONTHS: Final = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def result_of(payload: Payload) -> Any:
    """Return ``result`` of an answer without ``error``.

    Raises
    ------
    DataError
        With the venue's own code and message.

    Examples
    --------
    >>> result_of(Payload(b'{"error": {"code": 10028, "message": "too_many_requests"}}', "url"))
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: url: the venue answered {'code': 10028, 'message': 'too_many_requests'}
    """
    answer = json_of(payload)
    if isinstance(answer, dict) and "error" in answer:
        raise DataError(f"{payload.place}: the venue answered {shorten(answer['error'])}")
    return member(answer, "result", payload.place)


def dvol(*, percent: bool) -> Parser:
    """Return the parser of ``get_volatility_index_data``; each row is known when its bar is over.

    Parameters
    ----------
    percent : bool
        Unit of the values; a page in the other unit is refused.

    Examples
    --------
    >>> text = b'{"result": {"data": [[1598019300000, 54, 55, 53, 54.3]], "continuation": null}}'
    >>> now = pd.Timestamp("2024-01-01", tz="UTC")
    >>> frame, _ = dvol(percent=True)(Payload(text, "url", market="BTC", received=now))
    >>> round(float(frame["implied_volatility"][0]), 6), frame["time"][0].isoformat()
    (0.543, '2020-08-21T15:15:00+00:00')
    """

    def parse(payload: Payload) -> Parsed:
        place = payload.place
        result = result_of(payload)
        member(result, "continuation", place)
        rows = Records(member(result, "data", place), place)
        opened, high, low, close = (rows.numbers(i) for i in (1, 2, 3, 4))
        wrong = (
            (close <= 0) | (high < low) | (high < opened) | (high < close) | (low > close) | (low > opened)
        )
        if wrong.any():
            raise DataError(
                f"{place}, row {int(wrong.argmax())}: high must be the highest and low the lowest"
            )
        other = (close <= PERCENT_FROM) if percent else (close > PERCENT_FROM)
        if other.any():
            unit = "percent" if percent else "a fraction"
            row = int(other.argmax())
            raise DataError(f"{place}, row {row}: must be {unit} a year, was {close[row]:g}")
        frame = pd.DataFrame(
            {
                "market": payload.market,
                "time": rows.times(0, unit="ms") + payload.step if len(rows) else constant(payload.now(), 0),
                "implied_volatility": close / (100.0 if percent else 1.0),
            }
        )
        frame, found = sorted_rows(frame, IMPLIED_VOLATILITY, place)
        frame, more = finished(frame, payload.now())
        return frame, [*found, *more]

    return parse


def historical_volatility(payload: Payload) -> Parsed:
    """Parse ``get_historical_volatility``: percent a year, hourly; the venue repeats rows.

    Examples
    --------
    >>> text = b'{"result": [[1549720800000, 14.7], [1549720800000, 14.7], [1549724400000, 14.8]]}'
    >>> frame, found = historical_volatility(Payload(text, "url", market="BTC"))
    >>> len(frame), found[0].rule
    (2, 'repeated row')
    """
    rows = Records(result_of(payload), payload.place)
    time = rows.times(0, unit="ms")
    frame = pd.DataFrame(
        {"market": payload.market, "time": time, "known_at": time, "volatility": rows.numbers(1) / 100.0}
    )
    return sorted_rows(frame, HISTORICAL_VOLATILITY, payload.place)


def option_chain(payload: Payload) -> Parsed:
    """Parse ``get_book_summary_by_currency`` of options: what nobody quotes is missing.

    Examples
    --------
    >>> import json
    >>> row = {"instrument_name": "BTC-27JUN25-60000-C", "mark_price": 0.1, "mark_iv": 60.0,
    ...        "creation_timestamp": 1704067200000, "open_interest": 5, "underlying_price": 42000}
    >>> now = pd.Timestamp("2024-01-01", tz="UTC")
    >>> text = json.dumps({"result": [row]}).encode()
    >>> frame, _ = option_chain(Payload(text, "url", market="BTC", received=now))
    >>> frame[["strike", "option_type", "implied_volatility"]].to_numpy().tolist()
    [[60000.0, 'call', 0.6]]
    """
    rows = Records(result_of(payload), payload.place)
    if not len(rows):
        raise DataError(f"{payload.place}: holds no row")
    names = rows.texts("instrument_name")
    contracts = [contract(name, f"{payload.place}, row {i}") for i, name in enumerate(names)]
    for number, (coin, *_) in enumerate(contracts):
        if coin.split("_")[0] != payload.market:
            raise DataError(
                f"{payload.place}, row {number}: must be an option on {payload.market}, was {coin}"
            )
    time = rows.times("creation_timestamp", unit="ms")
    now = constant(payload.now(), len(rows))
    frame = pd.DataFrame(
        {
            "market": names,
            "time": time,
            "known_at": now.where(now > time, time).astype(TIME),
            "underlying": payload.market,
            "expiry": pd.DatetimeIndex([c[1] for c in contracts]).astype(TIME),
            "strike": [c[2] for c in contracts],
            "option_type": [c[3] for c in contracts],
            "bid": rows.numbers("bid_price", optional=True),
            "ask": rows.numbers("ask_price", optional=True),
            "mark": rows.numbers("mark_price", optional=True),
            "implied_volatility": rows.numbers("mark_iv", optional=True) / 100.0,
            "underlying_price": rows.numbers("underlying_price", optional=True),
            "open_interest": rows.numbers("open_interest", optional=True),
        }
    )
    quoted = frame["implied_volatility"] != 0  # zero stands for an option without a volatility
    frame["implied_volatility"] = frame["implied_volatility"].where(quoted)
    return sorted_rows(frame, OPTION_QUOTES, payload.place)


def contract(name: str, place: str) -> tuple[str, pd.Timestamp, float, str]:
    """Return underlying, expiry (08:00 UTC), strike and type of an option's name.

    Raises
    ------
    DataError
        Another spelling, or a day that does not exist.

    Examples
    --------
    >>> contract("XRP_USDC-9JUN25-1d5-P", "x")
    ('XRP_USDC', Timestamp('2025-06-09 08:00:00+0000', tz='UTC'), 1.5, 'put')
    """
    found = _OPTION.fullmatch(name)
    if found is None or found["month"] not in _MONTHS:
        raise DataError(f"{place}: must name an option such as BTC-27JUN25-60000-C, was {shorten(name)}")
    month = _MONTHS.index(found["month"]) + 1
    try:
        expiry = pd.Timestamp(2000 + int(found["year"]), month, int(found["day"]), 8, tz="UTC")
    except ValueError as error:
        raise DataError(f"{place}: {shorten(name)} expires on a day that does not exist") from error
    strike = float(found["strike"].replace("d", "."))
    return found["coin"], expiry, strike, "call" if found["type"] == "C" else "put"


def older(answer: bytes, request: Request) -> Request | None:
    """Return the request of the page before: the venue answers the newest rows of a span first.

    Raises
    ------
    DataError
        A continuation that does not go back.

    Examples
    --------
    >>> request = Request("k", "https://v/x?start_timestamp=5&end_timestamp=99", pd.Timestamp(0, tz="UTC"))
    >>> older(b'{"result": {"data": [], "continuation": 42}}', request).url
    'https://v/x?start_timestamp=5&end_timestamp=42'
    """
    result = result_of(Payload(answer, request.url))
    mark = result.get("continuation") if isinstance(result, dict) else None
    if mark is None:
        return None
    before = re.search(r"start_timestamp=([0-9]+)&end_timestamp=([0-9]+)", request.url)
    whole = isinstance(mark, int) and not isinstance(mark, bool)
    if before is None or not whole or not int(before[1]) <= mark < int(before[2]):
        if before is not None and whole and mark < int(before[1]):
            return None
        raise DataError(f"{request.url}: a continuation must go back in time, was {shorten(mark)}")
    return replace(request, url=request.url.replace(f"end_timestamp={before[2]}", f"end_timestamp={mark}"))


def _dvol(query: Query, first: pd.Timestamp, end: pd.Timestamp) -> Ask:
    if query.interval not in _RESOLUTIONS:
        raise ConfigError(
            f"deribit-dvol: interval must be one of {', '.join(_RESOLUTIONS)}, was {query.interval}"
        )
    path = "/public/get_volatility_index_data"
    url = address(query.base, path, currency=query.market, resolution=_RESOLUTIONS[query.interval])
    return f"{url}&start_timestamp={millis(first)}&end_timestamp={millis(end) - 1}", None


def _chain(query: Query) -> Ask:
    path = "/public/get_book_summary_by_currency"
    return address(query.base, path, currency=query.market, kind="option"), None


def _historical(query: Query) -> Ask:
    return address(query.base, "/public/get_historical_volatility", currency=query.market), None


def _many(query: Query) -> pd.Timedelta:
    return 2_000 * query.step


FEEDS: Final = (
    Feed("deribit-dvol", IMPLIED_VOLATILITY, dvol(percent=True), per_window(_many, _dvol), HOME, older),
    Feed(
        "deribit-dvol-fraction",
        IMPLIED_VOLATILITY,
        dvol(percent=False),
        per_window(_many, _dvol),
        HOME,
        older,
        note="as in the venue's documentation, whose examples are fractions",
    ),
    Feed("deribit-options", OPTION_QUOTES, option_chain, right_now(_chain), HOME, live=True),
    Feed(
        "deribit-historical-volatility",
        HISTORICAL_VOLATILITY,
        historical_volatility,
        right_now(_historical),
        HOME,
        live=True,
        note="about 16 days; realized, not implied",
    ),
)
"""What Deribit serves."""
