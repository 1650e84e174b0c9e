"""Aave v3 through a GraphQL endpoint that the user names: liquidations, and the history of reserves.

Amounts are whole numbers of the asset's smallest unit; thresholds are basis points; a liquidation bonus of
10500 is 5 %. Pages follow each other by id inside a window of time, so none is skipped or read twice.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from calibrator.data.asking import Feed, Query, Request, stamp, windows
from calibrator.data.payloads import Parsed, Payload, json_of
from calibrator.data.records import Records, member
from calibrator.data.shaping import sorted_rows
from calibrator.data.tables import shorten
from calibrator.errors import DataError
from calibrator.feeds import RESERVES, VAULT_EVENTS

PAGE: Final = 1_000
_EVERY: Final = "*"
_SPAN: Final = "first:1000,orderBy:id,where:{timestamp_gte:$from,timestamp_lt:$until,id_gt:$after}"
_HEAD: Final = "query($from:Int!,$until:Int!,$after:ID!)"
_LIQUIDATIONS: Final = (
    f"{_HEAD}{{liquidationCalls({_SPAN}){{id timestamp user{{id}} collateralAmount principalAmount "
    "collateralAssetPriceUSD borrowAssetPriceUSD collateralReserve{symbol decimals} "
    "principalReserve{symbol decimals}}}"
)
_RESERVES: Final = (
    f"{_HEAD}{{reserveConfigurationHistoryItems({_SPAN}){{id timestamp reserve{{symbol}} baseLTVasCollateral "
    "reserveLiquidationThreshold reserveLiquidationBonus isActive isFrozen}}"
)


def rows_of(payload: Payload, entity: str) -> Records:
    """Return the rows of one entity of a GraphQL answer without ``errors``.

    Raises
    ------
    DataError
        With the endpoint's own message.

    Examples
    --------
    >>> rows_of(Payload(b'{"errors": [{"message": "indexing_error"}]}', "url"), "x")
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: url: the endpoint answered [{'message': 'indexing_error'}]
    """
    answer = json_of(payload)
    if isinstance(answer, dict) and answer.get("errors"):
        raise DataError(f"{payload.place}: the endpoint answered {shorten(answer['errors'])}")
    return Records(member(member(answer, "data", payload.place), entity, payload.place), payload.place)


def liquidations(payload: Payload) -> Parsed:
    """Parse ``liquidationCalls``: collateral seized and debt repaid, in whole units, with prices in USD.

    Examples
    --------
    >>> import json
    >>> row = {"id": "0x1", "timestamp": 1700000000, "user": {"id": "0xa"},
    ...        "collateralAmount": "2000000000000000000", "principalAmount": "3000000",
    ...        "collateralAssetPriceUSD": "2000", "borrowAssetPriceUSD": "1",
    ...        "collateralReserve": {"symbol": "WETH", "decimals": 18},
    ...        "principalReserve": {"symbol": "USDC", "decimals": 6}}
    >>> text = json.dumps({"data": {"liquidationCalls": [row]}}).encode()
    >>> made, _ = liquidations(Payload(text, "url", market="*"))
    >>> made[["collateral", "collateral_amount", "debt_amount"]].to_numpy().tolist()
    [['WETH', 2.0, 3.0]]
    """
    rows = rows_of(payload, "liquidationCalls")
    time = rows.times("timestamp", unit="s")
    collateral, debt = (_reserve(rows, name) for name in ("collateralReserve", "principalReserve"))
    frame = pd.DataFrame(
        {
            "account": Records(rows.cells("user"), f"{payload.place}: user").texts("id"),
            "collateral": collateral.texts("symbol"),
            "debt": debt.texts("symbol"),
            "time": time,
            "known_at": time,
            "event_id": rows.texts("id"),
            "kind": "liquidation",
            "collateral_amount": _units(rows, "collateralAmount", collateral),
            "debt_amount": _units(rows, "principalAmount", debt),
            "collateral_price": rows.numbers("collateralAssetPriceUSD", optional=True),
            "debt_price": rows.numbers("borrowAssetPriceUSD", optional=True),
        }
    )
    if payload.market != _EVERY:
        frame = frame[frame["collateral"] == payload.market]
    return sorted_rows(frame, VAULT_EVENTS, payload.place)


def reserves(payload: Payload) -> Parsed:
    """Parse ``reserveConfigurationHistoryItems``: what applied to a reserve from when on.

    Several changes in one block leave the last one.

    Examples
    --------
    >>> import json
    >>> row = {"id": "1", "timestamp": 1700000000, "reserve": {"symbol": "WETH"}, "isActive": True,
    ...        "isFrozen": False, "baseLTVasCollateral": "8000", "reserveLiquidationThreshold": "8250",
    ...        "reserveLiquidationBonus": "10500"}
    >>> text = json.dumps({"data": {"reserveConfigurationHistoryItems": [row]}}).encode()
    >>> reserves(Payload(text, "url", market="*"))[0]["liquidation_penalty_ppm"].to_list()
    [50000]
    """
    rows = rows_of(payload, "reserveConfigurationHistoryItems")
    time = rows.times("timestamp", unit="s")
    ids = rows.texts("id")
    bonus = rows.whole("reserveLiquidationBonus")
    bad = (bonus != 0) & ((bonus < 10_000) | (bonus > 20_000))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{payload.place}, row {row}: 'reserveLiquidationBonus' must be 0 or 10000 to 20000 (bps), "
            f"was {bonus[row]}"
        )
    frame = pd.DataFrame(
        {
            "market": Records(rows.cells("reserve"), f"{payload.place}: reserve").texts("symbol"),
            "time": time,
            "known_at": time,
            "loan_to_value_ppm": rows.whole("baseLTVasCollateral") * 100,
            "liquidation_threshold_ppm": rows.whole("reserveLiquidationThreshold") * 100,
            "liquidation_penalty_ppm": np.where(bonus > 0, (bonus - 10_000) * 100, 0),
            "active": np.array(rows.flags("isActive"), dtype=np.int64),
            "frozen": np.array(rows.flags("isFrozen"), dtype=np.int64),
        }
    )
    over = frame["loan_to_value_ppm"] > frame["liquidation_threshold_ppm"]
    if over.any():
        raise DataError(f"{payload.place}, row {int(over.argmax())}: loan-to-value exceeds the threshold")
    frame = frame.assign(id=ids).sort_values("id", kind="stable").drop(columns="id")
    if payload.market != _EVERY:
        frame = frame[frame["market"] == payload.market]
    frame = frame.drop_duplicates(["market", "time"], keep="last")
    return sorted_rows(frame, RESERVES, payload.place)


def _reserve(rows: Records, name: str) -> Records:
    return Records(rows.cells(name), f"{rows.place}: {name}")


def _units(rows: Records, field: str, reserve: Records) -> np.ndarray[Any, Any]:
    decimals = reserve.whole("decimals")
    if len(decimals) and decimals.max() > 36:
        raise DataError(f"{reserve.place}: 'decimals' must be at most 36, was {decimals.max()}")
    amounts = rows.texts(field)
    for row, amount in enumerate(amounts):
        if not (amount.isascii() and amount.isdigit()):
            raise DataError(
                f"{rows.place}, row {row}: {field!r} must be a whole number, was {shorten(amount)}"
            )
    return np.array([int(a) / 10 ** int(d) for a, d in zip(amounts, decimals, strict=True)], dtype=np.float64)


def plan_of(query_text: str, width: pd.Timedelta) -> Callable[[Query], list[Request]]:
    """Return a plan that asks an endpoint per window of time.

    Examples
    --------
    >>> t = pd.Timestamp("2024-01-01", tz="UTC")
    >>> plan_of("query{x}", pd.Timedelta("1D"))(Query("*", t, t + pd.Timedelta("1D"), base="https://g"))[0].key
    'all-20240101T0000'
    """

    def plan(query: Query) -> list[Request]:
        made = []
        for first, end in windows(query.start, query.end, width):
            span = {"from": int(first.timestamp()), "until": int(end.timestamp()), "after": ""}
            body = json.dumps({"query": query_text, "variables": span}, sort_keys=True).encode()
            name = "all" if query.market == _EVERY else query.market
            made.append(Request(f"{name}-{stamp(first)}", query.base, end, body))
        return made

    return plan


def page_after(entity: str) -> Callable[[bytes, Request], Request | None]:
    """Return the step to the next page: a full page is followed by the rows after its last id.

    Examples
    --------
    >>> page_after("x")(b'{"data": {"x": []}}', Request("k", "u", pd.Timestamp(0, tz="UTC"))) is None
    True
    """

    def follow(answer: bytes, request: Request) -> Request | None:
        rows = rows_of(Payload(answer, request.url), entity)
        if len(rows) < PAGE or request.body is None:
            return None
        asked = json.loads(request.body)
        last = max(rows.texts("id"))
        if last <= asked["variables"]["after"]:
            raise DataError(f"{request.url}: pages must go on, the last id is again {shorten(last)}")
        asked["variables"]["after"] = last
        return replace(request, body=json.dumps(asked, sort_keys=True).encode())

    return follow


_WEEK: Final = pd.Timedelta("7D")
_QUARTER: Final = pd.Timedelta("91D")
FEEDS: Final = (
    Feed(
        "aave-liquidations",
        VAULT_EVENTS,
        liquidations,
        plan_of(_LIQUIDATIONS, _WEEK),
        "",
        page_after("liquidationCalls"),
    ),
    Feed(
        "aave-reserves",
        RESERVES,
        reserves,
        plan_of(_RESERVES, _QUARTER),
        "",
        page_after("reserveConfigurationHistoryItems"),
    ),
)
"""What a subgraph of Aave v3 serves."""
