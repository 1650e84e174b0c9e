"""Valid JSON answers in the documented layouts of the venues' interfaces."""

import json
from typing import Any

import pandas as pd

from pipelines.benchmarks.data_sample import HOUR_MS, START, START_MS, Sample, kline_rows


def _lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps(row) for row in rows) + "\n"


def answer(rows: object) -> str:
    """Spell rows as JSON."""
    return json.dumps(rows)


def rest_klines() -> Sample:
    """Return klines as arrays of twelve."""
    rows = [[int(r[0]), *r[1:6], int(r[6]), *r[7:]] for r in kline_rows(48)]
    return Sample(answer(rows), "BTCUSDT", (0, 1, 2, 3, 4, 5, 6))


def rest(rows: list[dict[str, Any]], required: tuple[str, ...], market: str = "BTCUSDT") -> Sample:
    """Return rows without an envelope."""
    return Sample(answer(rows), market, required)


def bybit(
    result: object, required: tuple[str, ...], path: tuple[str | int, ...], market: str = "BTCUSDT"
) -> Sample:
    """Return a result in Bybit's envelope."""
    body = {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": START_MS}
    return Sample(answer(body), market, required, path=("result", *path))


def brackets() -> Sample:
    """Return leverage brackets whose margin is continuous."""
    tiers, cum, before = list[dict[str, Any]](), 0.0, 0.004
    floors = [0, 50_000, 250_000, 3_000_000, 20_000_000]
    for i, (floor, rate) in enumerate(zip(floors, (0.004, 0.005, 0.01, 0.025, 0.05), strict=True)):
        cum += floor * (rate - before)
        before = rate
        cap = floors[i + 1] if i + 1 < len(floors) else 100_000_000
        tiers.append(
            {
                "bracket": i + 1,
                "initialLeverage": 125 // (i + 1),
                "notionalCap": cap,
                "notionalFloor": floor,
                "maintMarginRatio": rate,
                "cum": round(cum, 2),
            }
        )
    required = ("initialLeverage", "notionalCap", "notionalFloor", "maintMarginRatio", "cum")
    return Sample(
        answer([{"symbol": "BTCUSDT", "brackets": tiers}]), "BTCUSDT", required, path=(0, "brackets")
    )


def risk() -> Sample:
    """Return risk limits as fractions."""
    rows = [
        {
            "id": i + 1,
            "symbol": "BTCUSDT",
            "riskLimitValue": str(2_000_000 * (i + 1)),
            "isLowestRisk": int(i == 0),
            "maintenanceMargin": f"{0.5 / leverage:.6f}",
            "initialMargin": f"{1 / leverage:.6f}",
            "maxLeverage": f"{leverage:.2f}",
        }
        for i, leverage in enumerate((100, 50, 25, 20))
    ]
    required = ("riskLimitValue", "maintenanceMargin", "initialMargin", "maxLeverage")
    return bybit({"category": "linear", "list": rows}, required, ("list",))


def bybit_stream() -> Sample:
    """Return captured messages of liquidations."""
    rows = [
        {
            "topic": "allLiquidation.BTCUSDT",
            "type": "snapshot",
            "ts": START_MS + i * 500 + 275,
            "data": [
                {
                    "T": START_MS + i * 500,
                    "s": "BTCUSDT",
                    "S": ("Buy", "Sell")[i % 2],
                    "v": "0.01",
                    "p": f"{65_000 + i}.5",
                }
            ],
        }
        for i in range(24)
    ]
    return Sample(_lines(rows), "BTCUSDT", ("ts",))


def _universe() -> list[dict[str, Any]]:
    return [
        {"name": "BTC", "szDecimals": 5, "maxLeverage": 40, "marginTableId": 56},
        {"name": "ETH", "szDecimals": 4, "maxLeverage": 25, "marginTableId": 55},
        {"name": "ATOM", "szDecimals": 2, "maxLeverage": 5, "marginTableId": 5, "isDelisted": True},
    ]


def meta() -> dict[str, Any]:
    """Return markets and their margin tables."""

    def table(*steps: tuple[str, int]) -> dict[str, Any]:
        return {
            "description": "tiered",
            "marginTiers": [{"lowerBound": b, "maxLeverage": m} for b, m in steps],
        }

    listed = [[56, table(("0.0", 40), ("150000000.0", 20))], [55, table(("0.0", 25), ("100000000.0", 15))]]
    return {"universe": _universe(), "marginTables": listed, "collateralToken": 0}


def contexts() -> Sample:
    """Return meta and contexts."""
    rows = [
        {
            "dayNtlVlm": "1169046.29406",
            "funding": "0.0000125",
            "impactPxs": ["14.3", "14.4"],
            "markPx": f"{14 + i}.3",
            "midPx": None,
            "openInterest": f"{688 + i}.11",
            "oraclePx": "14.32",
            "premium": None,
            "prevDayPx": "15.3",
        }
        for i in range(3)
    ]
    return Sample(answer([meta(), rows]), "*", ("openInterest",), path=(1,))


def candles() -> Sample:
    """Return candles."""
    names = ("t", "o", "h", "l", "c", "v", "T")
    rows = [
        {**dict(zip(names, [int(r[0]), *r[1:6], int(r[6])], strict=True)), "s": "BTC", "i": "1h", "n": 42}
        for r in kline_rows(48)
    ]
    return Sample(answer(rows), "BTC", names)


def fills() -> Sample:
    """Return captured fills of liquidations."""
    rows = [
        {
            "coin": "BTC",
            "px": f"{66_653 + i}.0",
            "sz": "0.001",
            "side": "AB"[i % 2],
            "time": START_MS + i * 1_000,
            "tid": 100 + i,
            "startPosition": "-0.02",
            "dir": "Open Short",
            "hash": "0x0",
            "fee": "0.1",
            "liquidation": {"liquidatedUser": "0x3f1c", "markPx": "66607.0", "method": "market"},
        }
        for i in range(24)
    ]
    return Sample(_lines(rows), "BTC", ("px", "sz", "time", "tid"))


def deribit(result: object, required: tuple[str | int, ...], path: tuple[str | int, ...] = ()) -> Sample:
    """Return a result in Deribit's envelope."""
    body = {"jsonrpc": "2.0", "id": 7, "result": result, "usIn": 1, "usOut": 2, "usDiff": 1, "testnet": False}
    return Sample(answer(body), "BTC", required, path=("result", *path))


def dvol(scale: float) -> Sample:
    """Return bars of the volatility index: percent at scale 1."""
    rows = [
        [START_MS + i * HOUR_MS, *(round(v * scale, 6) for v in (54.0, 56.0, 53.0, 55.0))] for i in range(48)
    ]
    return deribit({"data": rows, "continuation": None}, (0, 1, 2, 3, 4), ("data",))


def chain() -> Sample:
    """Return book summaries of options."""
    rows = [
        {
            "instrument_name": f"BTC-27JUN25-{50_000 + 1_000 * i}-{'CP'[i % 2]}",
            "base_currency": "BTC",
            "quote_currency": "BTC",
            "underlying_index": "BTC-27JUN25",
            "underlying_price": 60_123.5,
            "mark_price": 0.05,
            "mid_price": None,
            "bid_price": None if i == 0 else 0.049,
            "ask_price": 0.051,
            "mark_iv": 0.0 if i == 1 else 60.5,
            "interest_rate": 0.0,
            "open_interest": 12.5,
            "volume": 1.0,
            "creation_timestamp": START_MS + i,
        }
        for i in range(24)
    ]
    return deribit(rows, ("creation_timestamp",))


def aave_liquidations() -> Sample:
    """Return liquidation calls."""
    rows = [
        {
            "id": f"0x{i:064x}:1",
            "txHash": f"0x{i:064x}",
            "timestamp": START_MS // 1_000 + i * 60,
            "user": {"id": f"0x{i:040x}"},
            "collateralAmount": "2000000000000000000",
            "principalAmount": "3000000",
            "collateralAssetPriceUSD": "3000.5",
            "borrowAssetPriceUSD": "1.0001",
            "collateralReserve": {"symbol": "WETH", "decimals": 18},
            "principalReserve": {"symbol": "USDC", "decimals": 6},
        }
        for i in range(24)
    ]
    required = ("timestamp", "collateralAmount", "principalAmount")
    return Sample(
        answer({"data": {"liquidationCalls": rows}}), "*", required, path=("data", "liquidationCalls")
    )


def aave_reserves() -> Sample:
    """Return a history of reserves."""
    rows = [
        {
            "id": f"{i:04d}",
            "timestamp": START_MS // 1_000 + i * 3_600,
            "reserve": {"symbol": ("WETH", "WBTC")[i % 2]},
            "baseLTVasCollateral": "8000",
            "reserveLiquidationThreshold": "8250",
            "reserveLiquidationBonus": "10500",
            "isActive": True,
            "isFrozen": False,
        }
        for i in range(24)
    ]
    required = ("timestamp", "baseLTVasCollateral", "reserveLiquidationThreshold", "reserveLiquidationBonus")
    entity = "reserveConfigurationHistoryItems"
    return Sample(answer({"data": {entity: rows}}), "*", required, path=("data", entity))


def rates() -> Sample:
    """Return daily reference rates."""
    rows = [
        {
            "asset": "btc",
            "time": f"{START + pd.Timedelta(days=i):%Y-%m-%d}T00:00:00.000000000Z",
            "ReferenceRateUSD": f"{42_265 + i}.18",
        }
        for i in range(24)
    ]
    return Sample(answer({"data": rows}), "btc", (), path=("data",), step=pd.Timedelta("1D"))
