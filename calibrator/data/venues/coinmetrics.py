"""Coin Metrics' community data: daily reference rates as price-only bars.

**Licence: CC BY-NC 4.0, non-commercial.** Never a default; whoever names this feed accepts that.
"""

import re
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from calibrator.data.asking import Ask, Feed, Query, Request, address, per_window
from calibrator.data.payloads import Parsed, Payload, json_of
from calibrator.data.records import Records, member
from calibrator.data.shaping import finished, sorted_rows
from calibrator.data.tables import shorten
from calibrator.errors import ConfigError, DataError
from calibrator.frames import BARS, TIME

HOME: Final = "https://community-api.coinmetrics.io/v4"
METRIC: Final = "ReferenceRateUSD"
LICENCE: Final = "CC BY-NC 4.0: non-commercial use only"
_CLOCK: Final = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T00:00:00(\.0{1,9})?Z")


def reference_rates(payload: Payload) -> Parsed:
    """Parse ``asset-metrics``: a day is known when it is over; a day without a rate is left out and counted.

    Examples
    --------
    >>> import json
    >>> row = {"asset": "btc", "time": "2024-01-01T00:00:00.000000000Z", "ReferenceRateUSD": "42265.1"}
    >>> text = json.dumps({"data": [row]}).encode()
    >>> now = pd.Timestamp("2024-02-01", tz="UTC")
    >>> made, _ = reference_rates(Payload(text, "url", market="btc", step=pd.Timedelta("1D"), received=now))
    >>> made["time"][0].isoformat(), float(made["close"][0])
    ('2024-01-02T00:00:00+00:00', 42265.1)
    """
    rows = Records(member(json_of(payload), "data", payload.place), payload.place)
    rows.check_market("asset", payload.market)
    texts = rows.texts("time")
    for number, text in enumerate(texts):
        if not _CLOCK.fullmatch(text):
            raise DataError(f"{payload.place}, row {number}: 'time' must be a UTC day, was {shorten(text)}")
    times = pd.to_datetime([t[:10] for t in texts], utc=True, format="%Y-%m-%d", errors="coerce")
    if times.isna().any():
        row = int(times.isna().argmax())
        raise DataError(
            f"{payload.place}, row {row}: 'time' must be a day that exists, was {shorten(texts[row])}"
        )
    price = rows.numbers(METRIC, optional=True)
    frame = pd.DataFrame(
        {
            "market": payload.market,
            "time": pd.DatetimeIndex(times + payload.step).astype(TIME),
            **dict.fromkeys(("open", "high", "low", "close"), price),
            "volume": np.nan,
        }
    )
    frame, found = sorted_rows(frame[~np.isnan(price)], BARS, payload.place)
    frame, more = finished(frame, payload.now())
    return frame, [*found, *more]


def next_page(answer: bytes, request: Request) -> Request | None:
    """Return the page that the venue names; it must be of the same host.

    Raises
    ------
    DataError
        An address elsewhere.

    Examples
    --------
    >>> request = Request("k", "https://v/timeseries", pd.Timestamp(0, tz="UTC"))
    >>> next_page(b'{"data": [], "next_page_url": "https://evil/x"}', request)
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: https://v/timeseries: the next page must be on the same host, was
    'https://evil/x'
    """
    content = json_of(Payload(answer, request.url))
    link = content.get("next_page_url") if isinstance(content, dict) else None
    if link is None:
        return None
    host = "/".join(request.url.split("/")[:3]) + "/"
    if not isinstance(link, str) or not link.startswith(host) or link == request.url:
        raise DataError(f"{request.url}: the next page must be on the same host, was {shorten(link)}")
    return replace(request, url=link)


def _ask(query: Query, first: pd.Timestamp, end: pd.Timestamp) -> Ask:
    if query.interval != "1d":
        raise ConfigError(f"coinmetrics-reference-rates: interval must be 1d, was {query.interval}")
    span = {"start_time": f"{first:%Y-%m-%d}", "end_time": f"{end - pd.Timedelta('1D'):%Y-%m-%d}"}
    path = "/timeseries/asset-metrics"
    url = address(
        query.base, path, assets=query.market, metrics=METRIC, frequency="1d", **span, page_size=10_000
    )
    return url, None


def _year(_: Query) -> pd.Timedelta:
    return pd.Timedelta("365D")


FEEDS: Final = (
    Feed(
        "coinmetrics-reference-rates",
        BARS,
        reference_rates,
        per_window(_year, _ask),
        HOME,
        next_page,
        LICENCE,
    ),
)
"""What the community interface serves."""
