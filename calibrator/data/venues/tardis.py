"""Tardis CSV: liquidations, derivative tickers (funding, open interest), option chains; one gzip per day.

Times are microseconds; an empty cell is no value, an empty file is a day without rows; ``side`` of a
liquidation is the side of the order (a sale liquidates a long). ``local_timestamp`` is when the row was
received and therefore known.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from calibrator.data.asking import DAY, Feed, Query, Request, windows
from calibrator.data.payloads import Parsed, Payload, csv_table, epochs, gunzipped
from calibrator.data.rows import Finding
from calibrator.data.shaping import (
    finding,
    floats,
    mapped,
    refuse_missing,
    refuse_other_market,
    sorted_rows,
    whole,
    with_multiplicity,
)
from calibrator.data.tables import shorten
from calibrator.errors import ConfigError, DataError
from calibrator.feeds import FUNDING, LIQUIDATIONS, OPEN_INTEREST, OPTION_QUOTES, empty
from calibrator.frames import TIME, conform

HOME: Final = "https://datasets.tardis.dev"
SIDES: Final = {"sell": "long", "buy": "short"}
SKEW: Final = pd.Timedelta("1s")
"""A venue's clock that runs ahead of the receiver's by more is a finding."""
_HEAD: Final = ("exchange", "symbol", "timestamp", "local_timestamp")
LIQUIDATION: Final = (*_HEAD, "id", "side", "price", "amount")
TICKER: Final = (
    *_HEAD, "funding_timestamp", "funding_rate", "predicted_funding_rate", "open_interest", "last_price",
    "index_price", "mark_price",
)  # fmt: skip
CHAIN: Final = (
    *_HEAD, "type", "strike_price", "expiration", "open_interest", "last_price", "bid_price", "bid_amount",
    "bid_iv", "ask_price", "ask_amount", "ask_iv", "mark_price", "mark_iv", "underlying_index",
    "underlying_price", "delta", "gamma", "vega", "theta", "rho",
)  # fmt: skip


def liquidations(payload: Payload) -> Parsed:
    """Parse ``liquidations``.

    Examples
    --------
    >>> text = ",".join(LIQUIDATION) + chr(10) + "x,BTC,1580515202348000,1580515202497335,7,sell,100,2"
    >>> made, _ = liquidations(Payload(text.encode(), "x.csv", market="BTC"))
    >>> made[["liquidated_side", "notional"]].to_numpy().tolist()
    [['long', 200.0]]
    """
    kinds = {"id": "text", "side": "text", "price": "number", "amount": "number"}
    table, frame, found = _rows(payload, LIQUIDATION, kinds)
    if table is None:
        return empty(LIQUIDATIONS), []
    frame["liquidated_side"] = mapped(table["side"], SIDES, f"{payload.place}: column 'side'")
    frame["quantity"], frame["price"] = floats(table, "amount"), floats(table, "price")
    ids = table["id"].to_pandas()
    if ids.notna().all() and (ids != "").all():
        frame["event_id"] = ids
    refuse_missing(frame, ("quantity", "price"), payload.place)
    made = with_multiplicity(frame)
    made["notional"] = made["quantity"] * made["price"]
    return conform(made[list(LIQUIDATIONS.columns)], LIQUIDATIONS, source=payload.place), found


def funding(payload: Payload) -> Parsed:
    """Parse ``derivative_ticker`` into funding: the last rate seen before each settlement.

    Examples
    --------
    >>> cells = "x,BTC,1580515202348000,1580515202497335,1580515300000000,0.0001,,,9364.51,,"
    >>> made, _ = funding(Payload((",".join(TICKER) + chr(10) + cells).encode(), "x.csv", market="BTC"))
    >>> made[["rate"]].to_numpy().tolist(), (made["known_at"] == made["time"]).to_list()
    ([[0.0001]], [True])
    """
    kinds = {"funding_timestamp": "integer", "funding_rate": "number"}
    table, frame, found = _rows(payload, TICKER, kinds)
    if table is None:
        return empty(FUNDING), []
    stamps = table["funding_timestamp"].to_pandas()
    frame["rate"] = floats(table, "funding_rate")
    frame = frame[stamps.notna().to_numpy() & frame["rate"].notna()]
    if frame.empty:
        return empty(FUNDING), found
    clock = stamps[frame.index].astype("int64").to_numpy()
    due = epochs(clock, f"{payload.place}: column 'funding_timestamp'", unit="us")
    frame = frame.assign(due=due)
    frame = frame[frame["time"] <= frame["due"]].drop_duplicates("due", keep="last")
    frame = frame.assign(
        known_at=frame[["due", "known_at"]].max(axis=1), time=frame["due"], interval_hours=np.nan
    )
    made, more = sorted_rows(frame[list(FUNDING.columns)], FUNDING, payload.place)
    return made, [*found, *more]


def open_interest(payload: Payload) -> Parsed:
    """Parse ``derivative_ticker`` into open interest: the last value of every minute.

    Examples
    --------
    >>> cells = "x,BTC,1580515202348000,1580515202497335,,,,12.5,9364.51,,9000"
    >>> made, _ = open_interest(Payload((",".join(TICKER) + chr(10) + cells).encode(), "x.csv", market="BTC"))
    >>> made["open_interest"].to_list()
    [12.5]
    """
    table, frame, found = _rows(payload, TICKER, {"open_interest": "number"})
    if table is None:
        return empty(OPEN_INTEREST), []
    frame["open_interest"] = floats(table, "open_interest")
    frame = frame[frame["open_interest"].notna()].assign(open_interest_notional=np.nan)
    frame = frame[~frame["time"].dt.floor("min").duplicated(keep="last")]
    made, more = sorted_rows(frame[list(OPEN_INTEREST.columns)], OPEN_INTEREST, payload.place)
    return made, [*found, *more]


def options(payload: Payload) -> Parsed:
    """Parse ``options_chain``: the last quote of every contract and hour; volatilities are percent.

    Examples
    --------
    >>> cells = ("deribit,BTC-9JUN20-9875-P,1591574399413000,1591574400196008,put,9875,1591689600000000,"
    ...          "0.1,0.0295,0.0205,30,46.33,0.0235,30,53.9,0.02,50.1,SYN.BTC-9JUN20,9713.5,,,,,")
    >>> text = (",".join(CHAIN) + chr(10) + cells).encode()
    >>> made, _ = options(Payload(text, "x.csv", market="OPTIONS"))
    >>> made[["strike", "implied_volatility"]].round(4).to_numpy().tolist()
    [[9875.0, 0.501]]
    """
    place = payload.place
    numbers = (
        "strike_price",
        "open_interest",
        "bid_price",
        "ask_price",
        "mark_price",
        "mark_iv",
        "underlying_price",
    )
    kinds = {
        "type": "text",
        "expiration": "integer",
        "underlying_index": "text",
        **dict.fromkeys(numbers, "number"),
    }
    table, frame, found = _rows(payload, CHAIN, kinds)
    if table is None:
        return empty(OPTION_QUOTES), []
    kind = mapped(table["type"], {"call": "call", "put": "put"}, f"{place}: column 'type'")
    volatility = floats(table, "mark_iv") / 100.0
    frame = frame.assign(
        underlying=table["underlying_index"].to_pandas(),
        expiry=epochs(whole(table, "expiration", place), f"{place}: column 'expiration'", unit="us"),
        strike=floats(table, "strike_price"),
        option_type=kind,
        bid=floats(table, "bid_price"),
        ask=floats(table, "ask_price"),
        mark=floats(table, "mark_price"),
        implied_volatility=np.where(volatility == 0, np.nan, volatility),
        underlying_price=floats(table, "underlying_price"),
        open_interest=floats(table, "open_interest"),
    )
    refuse_missing(frame, ("strike", "underlying"), place)
    hour = frame["time"].dt.floor("h")
    frame = frame[~pd.DataFrame({"market": frame["market"], "hour": hour}).duplicated(keep="last")]
    made, more = sorted_rows(frame[list(OPTION_QUOTES.columns)], OPTION_QUOTES, place)
    return made, [*found, *more]


def _rows(
    payload: Payload, names: tuple[str, ...], kinds: dict[str, str]
) -> tuple[pa.Table | None, pd.DataFrame, list[Finding]]:
    """Return the columns, a frame of market, time and known_at, and what the clocks say."""
    if not payload.content:
        return None, pd.DataFrame(), []
    head = {"symbol": "text", "timestamp": "integer", "local_timestamp": "integer"}
    table = csv_table(payload, names, head | kinds, header=True)
    place = payload.place
    if payload.market != "OPTIONS":
        refuse_other_market(table["symbol"], payload)
    time = epochs(whole(table, "timestamp", place), f"{place}: column 'timestamp'", unit="us")
    local = epochs(whole(table, "local_timestamp", place), f"{place}: column 'local_timestamp'", unit="us")
    late = np.flatnonzero(np.diff(local.asi8) < 0)
    if len(late):
        raise DataError(
            f"{place}, row {late[0] + 1}: 'local_timestamp' must not fall, was {local[late[0] + 1]}"
        )
    frame = pd.DataFrame(
        {
            "market": table["symbol"].to_pandas().astype("str"),
            "time": time,
            "known_at": local.where(local > time, time).astype(TIME),
        }
    )
    ahead = frame[(time - local) > SKEW]
    skew = [finding(ahead, "clock skew", len(ahead), "known when the venue says")] if len(ahead) else []
    return table, frame, skew


def _zipped(parse: Callable[[Payload], Parsed]) -> Callable[[Payload], Parsed]:
    return lambda payload: parse(gunzipped(payload))


def _daily(kind: str) -> Callable[[Query], list[Request]]:
    def plan(query: Query) -> list[Request]:
        exchange = query.options.get("exchange")
        if not exchange or not exchange.replace("-", "").isalnum():
            raise ConfigError(f"tardis: options.exchange must name an exchange, was {shorten(exchange)}")
        made = []
        for day, end in windows(query.start, query.end, DAY):
            url = f"{query.base}/v1/{exchange}/{kind}/{day:%Y/%m/%d}/{query.market}.csv.gz"
            made.append(Request(f"{exchange}-{query.market}-{day:%Y-%m-%d}", url, end))
        return made

    return plan


_NOTE: Final = "the first day of each month is free, others need a key"
FEEDS: Final = (
    Feed(
        "tardis-liquidations", LIQUIDATIONS, _zipped(liquidations), _daily("liquidations"), HOME, note=_NOTE
    ),
    Feed("tardis-funding", FUNDING, _zipped(funding), _daily("derivative_ticker"), HOME, note=_NOTE),
    Feed(
        "tardis-open-interest",
        OPEN_INTEREST,
        _zipped(open_interest),
        _daily("derivative_ticker"),
        HOME,
        note=_NOTE,
    ),
    Feed("tardis-options", OPTION_QUOTES, _zipped(options), _daily("options_chain"), HOME, note=_NOTE),
)
"""What Tardis serves."""
