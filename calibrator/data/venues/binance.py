"""Binance's public archives: klines, mark and index prices, funding, open interest, liquidations, depth.

One zip per market and day or month, beside it a ``.CHECKSUM``. Traps that are handled here: spot times turn
from milliseconds to microseconds in 2025; headers come and go; coin-margined klines count contracts in
``volume`` and coins in ``quote_volume``; funding times jitter by milliseconds; open-interest rows are not in
order; coin-margined liquidations stand twice in their file, in contracts of 100 USD (bitcoin) or 10 USD.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa

from calibrator.data.asking import DAY, Feed, Query, Request, months, windows
from calibrator.data.payloads import Parsed, Payload, csv_table, epochs, unzipped
from calibrator.data.rows import check_order
from calibrator.data.shaping import (
    clock_texts,
    finding,
    floats,
    mapped,
    refuse_missing,
    refuse_other_market,
    throttled,
    whole,
    with_multiplicity,
    without_repeats,
)
from calibrator.errors import DataError
from calibrator.feeds import DEPTH, FUNDING, LIQUIDATIONS, OPEN_INTEREST
from calibrator.frames import BARS, conform

HOME: Final = "https://data.binance.vision"
KLINES: Final = (
    "open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count",
    "taker_buy_volume", "taker_buy_quote_volume", "ignore",
)  # fmt: skip
METRICS: Final = (
    "create_time", "symbol", "sum_open_interest", "sum_open_interest_value",
    "count_toptrader_long_short_ratio", "sum_toptrader_long_short_ratio", "count_long_short_ratio",
    "sum_taker_long_short_vol_ratio",
)  # fmt: skip
SNAPSHOT: Final = (
    "time", "side", "order_type", "time_in_force", "original_quantity", "price", "average_price",
    "order_status", "last_fill_quantity", "accumulated_fill_quantity",
)  # fmt: skip
SIDES: Final = {"SELL": "long", "BUY": "short"}
"""The archive gives the side of the order that closed the position."""
_PRICES: Final = ("open", "high", "low", "close")


def klines(volume: str | None) -> Callable[[Payload], Parsed]:
    r"""Return the parser of klines whose base volume stands in a column (None: prices without volume).

    Examples
    --------
    >>> row = b"1698364800000,2,3,1,2,9,1698368399999,0,0,0,0,0"
    >>> klines("volume")(Payload(row, "x.csv", market="BTCUSDT"))[0].to_csv(index=False, header=False)
    'BTCUSDT,2023-10-27 01:00:00+00:00,2.0,3.0,1.0,2.0,9.0\n'
    """

    def parse(payload: Payload) -> Parsed:
        kinds = {"open_time": "integer", "close_time": "integer", **dict.fromkeys(_PRICES, "number")}
        if volume is not None:
            kinds[volume] = "number"
        table = csv_table(payload, KLINES, kinds, header=None)
        return bars_of(table, payload, volume)

    return parse


def bars_of(table: pa.Table, payload: Payload, volume: str | None) -> Parsed:
    """Turn the columns of klines into ``Bars``, labelled by their end.

    Raises
    ------
    DataError
        A bar that does not last one step, times that do not rise, missing or impossible prices.

    Examples
    --------
    >>> bars_of(pa.table({"open_time": pa.array([], "int64")}), Payload(b"", "x"), None)
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: x: column 'open_time', row 0: must be a time in s or ms or us since 1970,
    was no value
    """
    place = payload.place
    start = epochs(whole(table, "open_time", place), f"{place}: column 'open_time'")
    if "close_time" in table.column_names:
        last = epochs(whole(table, "close_time", place), f"{place}: column 'close_time'")
        micros = np.asarray(
            (last - start).asi8 if last.unit == "us" else (last - start) // pd.Timedelta("1us")
        )
        lacks = payload.step // pd.Timedelta("1us") - micros
        bad = (lacks < 0) | (lacks > 1_000)
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"{place}, row {row}: a bar must last {payload.step}, was {start[row].isoformat()} to "
                f"{last[row].isoformat()}"
            )
    values = {name: floats(table, name) for name in _PRICES}
    amount = np.full(table.num_rows, np.nan) if volume is None else floats(table, volume)
    if volume is not None and np.isnan(amount).any():
        raise DataError(f"{place}, row {int(np.argmax(np.isnan(amount)))}: {volume!r} is missing")
    frame = pd.DataFrame(
        {"market": payload.market, "time": start + payload.step, **values, "volume": amount}, copy=False
    )
    frame, found = without_repeats(frame)
    check_order(frame, source=place)
    return conform(frame, BARS, source=place), found


def funding(payload: Payload) -> Parsed:
    """Parse ``fundingRate``: time of settlement, hours of its interval, rate as a fraction.

    Examples
    --------
    >>> text = b"calc_time,funding_interval_hours,last_funding_rate" + bytes([10]) + b"1706745600000,8,0.0005"
    >>> funding(Payload(text, "x.csv", market="BTCUSDT"))[0]["rate"].to_list()
    [0.0005]
    """
    names = ("calc_time", "funding_interval_hours", "last_funding_rate")
    kinds = {"calc_time": "integer", "funding_interval_hours": "number", "last_funding_rate": "number"}
    table = csv_table(payload, names, kinds, header=None)
    time = epochs(whole(table, "calc_time", payload.place), f"{payload.place}: column 'calc_time'", unit="ms")
    frame = pd.DataFrame(
        {
            "market": payload.market,
            "time": time,
            "known_at": time,
            "rate": floats(table, "last_funding_rate"),
            "interval_hours": floats(table, "funding_interval_hours"),
        }
    )
    bad = ~frame["interval_hours"].between(1, 24)
    if bad.any():
        row = int(bad.argmax())
        shown = frame["interval_hours"][row]
        raise DataError(f"{payload.place}, row {row}: funding interval must be 1 to 24 hours, was {shown:g}")
    frame, found = without_repeats(frame)
    check_order(frame, source=payload.place)
    return conform(frame, FUNDING, source=payload.place), found


def metrics(payload: Payload) -> Parsed:
    """Parse ``metrics``: open interest every five minutes; rows may be in any order and off by seconds.

    Examples
    --------
    >>> text = ",".join(METRICS) + chr(10) + "2025-10-07 00:00:00,BTCUSDT,100,12,0.6,1,0.5,1"
    >>> metrics(Payload(text.encode(), "x.csv", market="BTCUSDT"))[0]["open_interest"].to_list()
    [100.0]
    """
    kinds = {"create_time": "text", "symbol": "text", **dict.fromkeys(METRICS[2:4], "number")}
    table = csv_table(payload, METRICS, kinds, header=True)
    refuse_other_market(table["symbol"], payload)
    time = clock_texts(table["create_time"], payload.place)
    frame = pd.DataFrame(
        {
            "market": payload.market,
            "time": time,
            "known_at": time,
            "open_interest": floats(table, "sum_open_interest"),
            "open_interest_notional": floats(table, "sum_open_interest_value"),
        }
    )
    frame, found = without_repeats(frame)
    frame = frame.sort_values("time", kind="stable", ignore_index=True)
    return conform(frame, OPEN_INTEREST, source=payload.place), found


def snapshot(payload: Payload) -> Parsed:
    """Parse ``liquidationSnapshot`` of coin-margined contracts; each row stands twice and is kept once.

    The venue publishes at most one order per second and market: counts and totals are lower bounds, which
    the finding ``throttled feed`` says.

    Examples
    --------
    >>> row = "1687656471926,BUY,LIMIT,IOC,7,30741.3,30631.6,FILLED,6,7" + chr(10)
    >>> text = (",".join(SNAPSHOT) + chr(10) + row + row).encode()
    >>> made, _ = snapshot(Payload(text, "x.csv", market="BTCUSD_PERP"))
    >>> made[["liquidated_side", "notional", "multiplicity"]].to_numpy().tolist()
    [['short', 700.0, 2]]
    """
    numbers = ("average_price", "accumulated_fill_quantity")
    kinds = {"time": "integer", "side": "text", **dict.fromkeys(numbers, "number")}
    table = csv_table(payload, SNAPSHOT, kinds, header=True)
    place = payload.place
    time = epochs(whole(table, "time", place), f"{place}: column 'time'", unit="ms")
    side = mapped(table["side"], SIDES, f"{place}: column 'side'")
    raw = pd.DataFrame(
        {
            "market": payload.market,
            "time": time,
            "known_at": time,
            "liquidated_side": side,
            "quantity": floats(table, "accumulated_fill_quantity"),
            "price": floats(table, "average_price"),
        }
    )
    refuse_missing(raw, ("quantity", "price"), place)
    filled = raw["quantity"] != 0  # an order that found nobody liquidated nothing
    frame = with_multiplicity(raw[filled])
    frame["notional"] = frame["quantity"] * contract_size(payload.market)
    found = [throttled(frame)] if len(frame) else []
    repeats = int((frame["multiplicity"] - 1).sum())
    if repeats:
        found.append(finding(frame, "repeated row", repeats, "kept once"))
    return conform(frame[list(LIQUIDATIONS.columns)], LIQUIDATIONS, source=place), found


def depth(payload: Payload) -> Parsed:
    """Parse ``bookDepth``: cumulative depth within bands of some percent around the middle.

    Examples
    --------
    >>> text = b"timestamp,percentage,depth,notional" + bytes([10]) + b"2025-10-07 00:00:08,-5.00,3,30"
    >>> depth(Payload(text, "x.csv", market="BTCUSDT"))[0][["distance", "notional"]].iloc[0].to_list()
    [-0.05, 30.0]
    """
    names = ("timestamp", "percentage", "depth", "notional")
    kinds = {"timestamp": "text", **dict.fromkeys(names[1:], "number")}
    table = csv_table(payload, names, kinds, header=True)
    time = clock_texts(table["timestamp"], payload.place)
    frame = pd.DataFrame(
        {
            "market": payload.market,
            "time": time,
            "known_at": time,
            "distance": floats(table, "percentage") / 100.0,
            "quantity": floats(table, "depth"),
            "notional": floats(table, "notional"),
        }
    )
    frame, found = without_repeats(frame)
    frame = frame.sort_values(["time", "distance"], kind="stable", ignore_index=True)
    return conform(frame, DEPTH, source=payload.place), found


def contract_size(market: str) -> float:
    """Return the USD of one coin-margined contract.

    Examples
    --------
    >>> contract_size("BTCUSD_PERP"), contract_size("ETHUSD_240927")
    (100.0, 10.0)
    """
    return 100.0 if market.startswith("BTCUSD_") else 10.0


def _zipped(parse: Callable[[Payload], Parsed]) -> Callable[[Payload], Parsed]:
    return lambda payload: parse(unzipped(payload))


def _archive(
    section: str, kind: str, periods: str, *, interval: bool = False
) -> Callable[[Query], list[Request]]:
    """Plan monthly files for whole months and daily ones for the rest, as far as the archive has both."""

    def plan(query: Query) -> list[Request]:
        made = []
        for first, end in months(query.start, query.end):
            whole = "monthly" in periods and ("daily" not in periods or end <= query.end)
            if whole:
                made.append(_file(query, section, kind, ("monthly", first.strftime("%Y-%m"), end), interval))
                continue
            since, until = max(first, query.start.floor("D")), min(end, query.end)
            made += [
                _file(query, section, kind, ("daily", day.strftime("%Y-%m-%d"), after), interval)
                for day, after in windows(since, until, DAY)
            ]
        return made

    return plan


def _file(
    query: Query,
    section: str,
    kind: str,
    period: tuple[str, str, pd.Timestamp],
    interval: bool,  # noqa: FBT001
) -> Request:
    often, date, end = period
    middle = query.interval if interval else kind
    name = f"{query.market}-{middle}-{date}"
    folder = f"{query.market}/{query.interval}" if interval else query.market
    url = f"{query.base}/data/{section}/{often}/{kind}/{folder}/{name}.zip"
    return Request(name, url, end, checksum=f"{url}.CHECKSUM")


def _feeds() -> tuple[Feed, ...]:
    both = "monthly daily"
    made = [
        Feed(
            f"binance-{short}-klines",
            BARS,
            _zipped(klines(volume)),
            _archive(section, "klines", both, interval=True),
            HOME,
        )
        for short, section, volume in (
            ("spot", "spot", "volume"),
            ("um", "futures/um", "volume"),
            ("cm", "futures/cm", "quote_volume"),
        )
    ]
    for short in ("um", "cm"):
        section = f"futures/{short}"
        for name, kind in (("mark", "markPriceKlines"), ("index", "indexPriceKlines")):
            plan = _archive(section, kind, both, interval=True)
            made.append(Feed(f"binance-{short}-{name}", BARS, _zipped(klines(None)), plan, HOME))
        made += [
            Feed(
                f"binance-{short}-funding",
                FUNDING,
                _zipped(funding),
                _archive(section, "fundingRate", "monthly"),
                HOME,
            ),
            Feed(
                f"binance-{short}-metrics",
                OPEN_INTEREST,
                _zipped(metrics),
                _archive(section, "metrics", "daily"),
                HOME,
            ),
            Feed(
                f"binance-{short}-depth", DEPTH, _zipped(depth), _archive(section, "bookDepth", "daily"), HOME
            ),
        ]
    plan = _archive("futures/cm", "liquidationSnapshot", "daily")
    note = "2023-06-25 to 2024-10-14 only; at most one order per second and market: a lower bound"
    made.append(Feed("binance-cm-liquidations", LIQUIDATIONS, _zipped(snapshot), plan, HOME, note=note))
    return tuple(made)


FEEDS: Final = _feeds()
"""What the archives serve."""
