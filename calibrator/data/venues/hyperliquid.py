"""Hyperliquid: contexts, margin tables, funding, candles, and liquidations from its files and its fills.

Everything is asked by POST to ``/info``; numbers are texts. A margin table with an id below 50 is not
listed: it is one tier whose leverage is the id. The maintenance margin is half of the initial margin at the
largest leverage of its tier.
"""

import json
import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from calibrator.data.asking import Ask, Feed, Query, Request, millis, per_window, right_now
from calibrator.data.payloads import Parsed, Payload, csv_table, json_of, refuse_page
from calibrator.data.records import Records, constant, member
from calibrator.data.shaping import finished, floats, refuse_missing, sorted_rows, with_multiplicity
from calibrator.data.tables import shorten
from calibrator.data.venues.binance import bars_of
from calibrator.data.venues.bybit import captured
from calibrator.errors import DataError
from calibrator.feeds import FUNDING, LIQUIDATIONS, OPEN_INTEREST, VAULT_EVENTS, VENUE_TIERS
from calibrator.frames import BARS, TIME, conform

HOME: Final = "https://api.hyperliquid.xyz"
EVERY: Final = "*"
FLAT_BELOW: Final = 50
"""Margin tables with a smaller id are one tier whose leverage is the id."""
_ISO: Final = re.compile(r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_CANDLE: Final = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v"}
_CSV: Final = ("time", "user", "liquidated_ntl_pos", "liquidated_account_value", "leverage_type")


def contexts(payload: Payload) -> Parsed:
    """Parse ``metaAndAssetCtxs``: open interest of every market (``*``) or of one, as of the answer.

    Examples
    --------
    >>> import json
    >>> meta = {"universe": [{"name": "BTC"}], "marginTables": []}
    >>> text = json.dumps([meta, [{"openInterest": "688.11", "markPx": "10"}]]).encode()
    >>> now = pd.Timestamp("2024-01-01", tz="UTC")
    >>> contexts(Payload(text, "url", market="*", received=now))[0]["open_interest_notional"].to_list()
    [6881.1]
    """
    meta, rows = _meta_and_contexts(payload)
    names = Records(member(meta, "universe", payload.place), f"{payload.place}: universe").texts("name")
    if len(names) != len(rows):
        raise DataError(f"{payload.place}: {len(names)} markets but {len(rows)} contexts")
    units = rows.numbers("openInterest")
    now = constant(payload.now(), len(rows))
    frame = pd.DataFrame(
        {
            "market": names,
            "time": now,
            "known_at": now,
            "open_interest": units,
            "open_interest_notional": units * rows.numbers("markPx", optional=True),
        }
    )
    return sorted_rows(_of_market(frame, payload), OPEN_INTEREST, payload.place)


def tiers(payload: Payload) -> Parsed:
    """Parse ``meta``: the margin tiers of every market (``*``) or of one.

    Examples
    --------
    >>> import json
    >>> tier = [{"lowerBound": "0.0", "maxLeverage": 40}, {"lowerBound": "150000000.0", "maxLeverage": 20}]
    >>> meta = {"universe": [{"name": "BTC", "marginTableId": 56}, {"name": "X", "marginTableId": 5}],
    ...         "marginTables": [[56, {"description": "tiered 40x", "marginTiers": tier}]]}
    >>> now = pd.Timestamp("2024-01-01", tz="UTC")
    >>> made, _ = tiers(Payload(json.dumps(meta).encode(), "url", market="*", received=now))
    >>> made[["market", "notional_floor", "maintenance_margin_ppm"]].to_numpy().tolist()
    [['BTC', 0.0, 12500], ['BTC', 150000000.0, 25000], ['X', 0.0, 100000]]
    """
    place = payload.place
    meta = json_of(payload)
    tables = _tables(meta, place)
    universe = Records(member(meta, "universe", place), f"{place}: universe")
    rows = []
    for name, number in zip(universe.texts("name"), universe.whole("marginTableId"), strict=True):
        flat = [(0.0, float(number))] if 0 < number < FLAT_BELOW else None
        table = tables.get(int(number), flat)
        if table is None:
            raise DataError(f"{place}: market {name!r} names margin table {number}, which is not listed")
        caps = [floor for floor, _ in table[1:]] + [np.nan]
        rows += [(name, floor, cap, leverage) for (floor, leverage), cap in zip(table, caps, strict=True)]
    frame = pd.DataFrame(rows, columns=["market", "notional_floor", "notional_cap", "max_leverage"])
    frame["time"] = frame["known_at"] = constant(payload.now(), len(frame))
    frame["maintenance_margin_ppm"] = np.ceil(1e6 / (2.0 * frame["max_leverage"])).astype("int64")
    return sorted_rows(_of_market(frame, payload), VENUE_TIERS, place)


def funding(payload: Payload) -> Parsed:
    """Parse ``fundingHistory``: hourly; a premium may be missing and is not used.

    Examples
    --------
    >>> text = b'[{"coin": "BTC", "fundingRate": "0.0000125", "time": 1769908800000}]'
    >>> funding(Payload(text, "url", market="BTC"))[0]["interval_hours"].to_list()
    [1.0]
    """
    rows = Records(json_of(payload), payload.place)
    rows.check_market("coin", payload.market)
    time = rows.times("time", unit="ms")
    frame = pd.DataFrame(
        {
            "market": payload.market,
            "time": time,
            "known_at": time,
            "rate": rows.numbers("fundingRate"),
            "interval_hours": 1.0,
        }
    )
    return sorted_rows(frame, FUNDING, payload.place)


def candles(payload: Payload) -> Parsed:
    """Parse ``candleSnapshot``; a bar that is not over yet is left out.

    Examples
    --------
    >>> import json
    >>> row = {"t": 1698364800000, "T": 1698368399999, "s": "BTC", "i": "1h", "o": "2", "h": "3", "l": "1",
    ...        "c": "2", "v": "9", "n": 4}
    >>> now = pd.Timestamp("2024-01-01", tz="UTC")
    >>> candles(Payload(json.dumps([row]).encode(), "url", market="BTC", received=now))[0]["close"].to_list()
    [2.0]
    """
    rows = Records(json_of(payload), payload.place)
    if not len(rows):
        raise DataError(f"{payload.place}: holds no row")
    rows.check_market("s", payload.market)
    columns = {"open_time": pa.array(rows.whole("t")), "close_time": pa.array(rows.whole("T"))}
    columns |= {name: pa.array(rows.numbers(field)) for name, field in _CANDLE.items()}
    frame, found = bars_of(pa.table(columns), payload, "volume")
    frame, more = finished(frame, payload.now())
    return frame, [*found, *more]


def liquidation_file(payload: Payload) -> Parsed:
    """Parse ``liquidations.csv``: whole accounts, without market or side.

    A row is an event of an account whose collateral is USDC: its value, and the notional of its positions as
    the debt.

    Examples
    --------
    >>> row = b"2023-02-28T21:10:23Z,0x677d,356.80015,2.956494,Cross"
    >>> made, _ = liquidation_file(Payload(",".join(_CSV).encode() + bytes([10]) + row, "x.csv"))
    >>> made[["kind", "collateral_amount", "debt_amount"]].to_numpy().tolist()
    [['liquidation', 2.956494, 356.80015]]
    """
    place = payload.place
    kinds = {"time": "text", "user": "text", **dict.fromkeys(_CSV[2:4], "number"), "leverage_type": "text"}
    table = csv_table(payload, _CSV, kinds, header=True)
    texts = table["time"].to_pandas()
    plain = texts.map(lambda t: bool(isinstance(t, str) and _ISO.fullmatch(t)))
    times = pd.to_datetime(texts.where(plain), utc=True, format="ISO8601", errors="coerce")
    if times.isna().any():
        row = int(times.isna().argmax())
        raise DataError(f"{place}, row {row}: 'time' must be a UTC time, was {shorten(texts[row])}")
    user = table["user"].to_pandas()
    frame = pd.DataFrame(
        {
            "account": user,
            "collateral": "USDC",
            "debt": "positions",
            "time": times.astype(TIME),
            "known_at": times.astype(TIME),
            "event_id": texts + "-" + user,
            "kind": "liquidation",
            "collateral_amount": floats(table, "liquidated_account_value"),
            "debt_amount": floats(table, "liquidated_ntl_pos"),
            "collateral_price": 1.0,
            "debt_price": 1.0,
        }
    )
    other = ~table["leverage_type"].to_pandas().isin(["Cross", "Isolated"])
    if other.any():
        raise DataError(f"{place}, row {int(other.argmax())}: 'leverage_type' must be Cross or Isolated")
    refuse_missing(frame, ("account", "collateral_amount", "debt_amount"), place)
    return sorted_rows(frame, VAULT_EVENTS, place)


def fills(payload: Payload) -> Parsed:
    """Parse captured fills, one JSON object a line, and keep those with ``liquidation``.

    A fill belongs to the liquidated account or to the other side of its trade: ``dir`` (or ``user``) tells.
    The side is that of the liquidated position.

    Examples
    --------
    >>> import json
    >>> row = {"coin": "BTC", "px": "66653.0", "sz": "0.001", "side": "A", "time": 1781528065899,
    ...        "dir": "Open Short", "tid": 7, "liquidation": {"liquidatedUser": "0x1", "markPx": "66607.0",
    ...        "method": "market"}}
    >>> fills(Payload(json.dumps(row).encode(), "x.jsonl", market="BTC"))[0]["liquidated_side"].to_list()
    ['short']
    """
    refuse_page(payload)
    lines = payload.content.splitlines()
    every = [json_of(Payload(line, f"{payload.place}, line {i}")) for i, line in enumerate(lines)]
    rows = Records(every, payload.place)
    kept = [i for i, value in enumerate(rows.cells("liquidation", optional=True)) if value is not None]
    if not kept:
        raise DataError(f"{payload.place}: holds no fill with a liquidation")
    rows = Records([every[i] for i in kept], payload.place)
    rows.check_market("coin", payload.market)
    time = rows.times("time", unit="ms")
    raw = pd.DataFrame(
        {
            "market": payload.market,
            "time": time,
            "known_at": time,
            "event_id": rows.whole("tid").astype("str"),  # both sides of a trade share it
            "liquidated_side": _sides(rows),
            "quantity": rows.numbers("sz"),
            "price": rows.numbers("px"),
        }
    )
    frame = with_multiplicity(raw)
    frame["notional"] = frame["quantity"] * frame["price"]
    return conform(frame[list(LIQUIDATIONS.columns)], LIQUIDATIONS, source=payload.place), []


def _sides(rows: Records) -> list[str]:
    out = []
    how = rows.texts("dir")
    sides = rows.texts("side", among=("A", "B"))
    users = rows.cells("user", optional=True)
    for number, cell in enumerate(rows.cells("liquidation")):
        place = f"{rows.place}, row {number}: liquidation"
        Records([cell], place).texts("method", among=("market", "backstop"))
        whose = Records([cell], place).texts("liquidatedUser")[0]
        own = how[number].startswith("Liquidated")
        if users[number] is not None and own != (users[number] == whose) and own:
            raise DataError(
                f"{place}: 'dir' says that {shorten(users[number])} was liquidated, not {whose!r}"
            )
        own = own or users[number] == whose
        sold = sides[number] == "A"
        out.append(
            "long" if sold == own else "short"
        )  # own sale closes a long; a sale to them closes a short
    return out


def _meta_and_contexts(payload: Payload) -> tuple[Any, Records]:
    both = json_of(payload)
    if not isinstance(both, list) or len(both) != 2:
        raise DataError(f"{payload.place}: must be meta and contexts, was {shorten(both)}")
    return both[0], Records(both[1], f"{payload.place}: contexts")


def _tables(meta: object, place: str) -> dict[int, list[tuple[float, float]]]:
    """Return (notional floor, leverage) of every listed table; floors rise from 0, leverage falls."""
    listed = Records(member(meta, "marginTables", place), f"{place}: marginTables")
    out = {}
    for number, body in zip(listed.whole(0), listed.cells(1), strict=True):
        where = f"{place}: margin table {number}"
        rows = Records(member(body, "marginTiers", where), where)
        floors, leverage = rows.numbers("lowerBound"), rows.numbers("maxLeverage")
        rising = len(rows) > 0 and floors[0] == 0 and (np.diff(floors) > 0).all()
        if not rising or (leverage <= 0).any() or (np.diff(leverage) >= 0).any():
            raise DataError(
                f"{where}: floors must rise from 0 and leverage must fall, were {shorten(rows.rows)}"
            )
        out[int(number)] = list(zip(floors.tolist(), leverage.tolist(), strict=True))
    return out


def _of_market(frame: pd.DataFrame, payload: Payload) -> pd.DataFrame:
    if payload.market == EVERY:
        return frame
    kept = frame[frame["market"] == payload.market]
    if kept.empty:
        raise DataError(f"{payload.place}: no market {payload.market!r} among {len(frame)} rows")
    return kept


def _info(**body: Any) -> Callable[[Query], Ask]:
    return lambda query: (f"{query.base}/info", json.dumps(body, sort_keys=True).encode())


def _funding(query: Query, first: pd.Timestamp, end: pd.Timestamp) -> Ask:
    span = {"startTime": millis(first), "endTime": millis(end) - 1}
    return _info(type="fundingHistory", coin=query.market, **span)(query)


def _candles(query: Query, first: pd.Timestamp, end: pd.Timestamp) -> Ask:
    span = {"startTime": millis(first), "endTime": millis(end) - 1}
    return _info(type="candleSnapshot", req={"coin": query.market, "interval": query.interval, **span})(query)


def _file(query: Query) -> list[Request]:
    path = query.options.get("path", "liquidations.csv")
    return [Request(path.replace("/", "-"), f"{query.base}/{path}", query.end.floor("D"))]


def _twenty_days(_: Query) -> pd.Timedelta:
    return pd.Timedelta("20D")  # 480 hourly rows: below the venue's 500 a page


def _many(query: Query) -> pd.Timedelta:
    return 500 * query.step


FEEDS: Final = (
    Feed(
        "hyperliquid-contexts",
        OPEN_INTEREST,
        contexts,
        right_now(_info(type="metaAndAssetCtxs")),
        HOME,
        live=True,
    ),
    Feed("hyperliquid-tiers", VENUE_TIERS, tiers, right_now(_info(type="meta")), HOME, live=True),
    Feed("hyperliquid-funding", FUNDING, funding, per_window(_twenty_days, _funding), HOME),
    Feed(
        "hyperliquid-candles",
        BARS,
        candles,
        per_window(_many, _candles),
        HOME,
        note="the venue keeps the last 5000 bars only",
    ),
    Feed("hyperliquid-liquidation-file", VAULT_EVENTS, liquidation_file, _file, ""),
    Feed("hyperliquid-fills", LIQUIDATIONS, fills, captured, HOME, note="from captured fills"),
)
"""What Hyperliquid serves."""
