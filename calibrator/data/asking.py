"""How a venue is asked: queries, requests, and the periods into which a query is cut.

Requests of one query have stable keys: a rerun, or a restart, asks only for what is missing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

import pandas as pd
import pandera.pandas as pa

from calibrator.data.payloads import Parser
from calibrator.errors import ConfigError

DAY: Final = pd.Timedelta("1D")
_UNITS: Final = {"s": "s", "m": "min", "h": "h", "d": "D", "w": "W"}


@dataclass(frozen=True, slots=True)
class Query:
    """What a user wants of one market of a feed.

    Attributes
    ----------
    market : str
        The venue's own symbol.
    start, end : pandas.Timestamp
        Period, UTC; the end is exclusive and never after now.
    interval : str
        Length of a bar in the venue's spelling (``1h``), where the feed has bars.
    base : str
        Address of the venue without a slash at its end.
    options : mapping of str to str
        What else the feed needs.
    """

    market: str
    start: pd.Timestamp
    end: pd.Timestamp
    interval: str = "1h"
    base: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def step(self) -> pd.Timedelta:
        """Length of a bar."""
        return step_of(self.interval)


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to ask for.

    Attributes
    ----------
    key : str
        Stable name inside the feed, such as ``BTCUSDT-1h-2024-01``.
    url : str
        Where.
    until : pandas.Timestamp
        End of the period that it covers: before it the answer may still grow.
    body : bytes, optional
        Sent as JSON with POST; None asks with GET.
    checksum : str, optional
        Address of a ``sha256sum`` line of the answer.
    """

    key: str
    url: str
    until: pd.Timestamp
    body: bytes | None = None
    checksum: str | None = None


Plan = Callable[[Query], list[Request]]
Ask = tuple[str, bytes | None]
"""Address, and body of a POST."""


def no_more(_: bytes, __: Request) -> Request | None:
    """Say that an answer has no next page.

    Examples
    --------
    >>> no_more(b"", Request("k", "u", pd.Timestamp(0, tz="UTC"))) is None
    True
    """
    return None


@dataclass(frozen=True, slots=True)
class Feed:
    """One kind of answer of one venue.

    Attributes
    ----------
    name : str
        Such as ``binance-um-klines``.
    schema : pandera.DataFrameSchema
        The canonical frame.
    parse : callable
        ``Payload -> (frame, findings)``; pure.
    plan : callable
        ``Query -> requests``; pure.
    home : str
        The venue's public address; empty: the user must give one.
    follow : callable
        ``(answer, request) -> next page``, None at the end.
    note : str
        What a user must know: a licence, a throttle.
    live : bool
        It only says what is true now: earlier answers are its history and are kept.
    """

    name: str
    schema: pa.DataFrameSchema
    parse: Parser
    plan: Plan
    home: str
    follow: Callable[[bytes, Request], Request | None] = no_more
    note: str = ""
    live: bool = False


def step_of(interval: str) -> pd.Timedelta:
    """Return the length of a bar.

    Raises
    ------
    ConfigError
        Not a number of seconds, minutes, hours, days or weeks.

    Examples
    --------
    >>> step_of("15m")
    Timedelta('0 days 00:15:00')
    """
    number, unit = interval[:-1], interval[-1:]
    if not number.isascii() or not number.isdigit() or len(number) > 3 or unit not in _UNITS:
        raise ConfigError(f"interval must be a number and one of s, m, h, d, w, was {interval!r}")
    step = pd.Timedelta(f"{int(number)}{_UNITS[unit]}")
    if step <= pd.Timedelta(0):
        raise ConfigError(f"interval must be positive, was {interval!r}")
    return step


def months(start: pd.Timestamp, end: pd.Timestamp) -> Iterator[tuple[pd.Timestamp, pd.Timestamp]]:
    """Yield first day and end (exclusive) of every month that touches a period.

    Examples
    --------
    >>> t = pd.Timestamp("2024-01-31", tz="UTC")
    >>> [a.strftime("%Y-%m") for a, _ in months(t, t + pd.Timedelta("2D"))]
    ['2024-01', '2024-02']
    """
    first = start.normalize().replace(day=1)
    while first < end:
        after = (first + pd.Timedelta("32D")).replace(day=1)
        yield first, after
        first = after


def windows(
    start: pd.Timestamp, end: pd.Timestamp, width: pd.Timedelta
) -> Iterator[tuple[pd.Timestamp, pd.Timestamp]]:
    """Yield windows of one width that cover a period, at multiples of the width since 1970.

    Examples
    --------
    >>> t = pd.Timestamp("2024-01-01T12:00Z")
    >>> [a.isoformat() for a, _ in windows(t, t + DAY, DAY)]
    ['2024-01-01T00:00:00+00:00', '2024-01-02T00:00:00+00:00']
    """
    first = start.floor(width)
    while first < end:
        yield first, first + width
        first += width


def millis(time: pd.Timestamp) -> int:
    """Return milliseconds since 1970.

    Examples
    --------
    >>> millis(pd.Timestamp("1970-01-01T00:00:01Z"))
    1000
    """
    return int(time.timestamp() * 1_000 + 0.5)


def address(base: str, path: str, **parameters: object) -> str:
    """Return a URL.

    Examples
    --------
    >>> address("https://venue", "/v1/x", symbol="BTC", limit=2)
    'https://venue/v1/x?symbol=BTC&limit=2'
    """
    query = urlencode({key: str(value) for key, value in parameters.items()})
    return f"{base}{path}" + (f"?{query}" if query else "")


def stamp(time: pd.Timestamp) -> str:
    """Spell a time for a key.

    Examples
    --------
    >>> stamp(pd.Timestamp("2024-01-01T08:00Z"))
    '20240101T0800'
    """
    return f"{time:%Y%m%dT%H%M}"


def per_window(
    width: Callable[[Query], pd.Timedelta],
    ask: Callable[[Query, pd.Timestamp, pd.Timestamp], Ask],
) -> Plan:
    """Return a plan that asks once per window.

    Parameters
    ----------
    width : callable
        ``Query -> width`` of a window.
    ask : callable
        ``(query, first, end) -> (url, body)``.

    Examples
    --------
    >>> plan = per_window(lambda q: DAY, lambda q, a, b: (f"{q.base}/{millis(a)}", None))
    >>> t = pd.Timestamp("2024-01-01", tz="UTC")
    >>> plan(Query("BTC", t, t + DAY, base="https://v"))[0].key
    'BTC-20240101T0000'
    """

    def plan(query: Query) -> list[Request]:
        made = []
        for first, end in windows(query.start, query.end, width(query)):
            url, body = ask(query, first, end)
            made.append(Request(f"{query.market}-{stamp(first)}", url, end, body))
        return made

    return plan


def right_now(ask: Callable[[Query], Ask]) -> Plan:
    """Return a plan for a feed that only says what is true now: one request, kept under its hour.

    Examples
    --------
    >>> t = pd.Timestamp("2024-01-01T10:20Z")
    >>> [r.key for r in right_now(lambda q: (q.base, None))(Query("BTC", t, t))]
    ['BTC-20240101T1000']
    """

    def plan(query: Query) -> list[Request]:
        hour = query.end.floor("h")
        url, body = ask(query)
        return [Request(f"{query.market}-{stamp(hour)}", url, hour, body)]

    return plan
