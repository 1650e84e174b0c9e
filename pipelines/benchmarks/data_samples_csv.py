"""Valid CSV files in the documented layouts of Binance, Hyperliquid and Tardis."""

import pandas as pd

from calibrator.data.venues import binance, tardis
from pipelines.benchmarks.data_sample import HOUR_MS, START, START_MS, Sample, kline_rows


def _csv(rows: list[list[str]], header: tuple[str, ...] | None) -> str:
    lines = ([",".join(header)] if header else []) + [",".join(row) for row in rows]
    return "\n".join(lines) + "\n"


def klines(*, headed: bool, market: str = "BTCUSDT", unit: int = 1) -> Sample:
    """Return an archive of klines, with or without a header, in ms (unit 1) or us (unit 1000)."""
    first = START_MS if unit == 1 else 1_735_689_600_000
    rows = kline_rows(48, first=first, unit=unit)
    return Sample(_csv(rows, binance.KLINES if headed else None), market, (0, 1, 2, 3, 4, 6), "zip")


def _clock(i: int, seconds: int) -> str:
    return f"{START + pd.Timedelta(seconds=i * seconds):%Y-%m-%d %H:%M:%S}"


def metrics() -> Sample:
    """Return an archive of open interest whose rows are out of order."""
    rows = [
        [_clock(i, 300), "BTCUSDT", f"{1000 + i}.058", f"{9000 + i}.4", "0.69", "", "0.5", "1.1"]
        for i in range(48)
    ]
    rows[3], rows[4] = rows[4], rows[3]  # the venue does not keep their order
    return Sample(_csv(rows, binance.METRICS), "BTCUSDT", (), "zip")


def snapshot() -> Sample:
    """Return an archive of coin-margined liquidations in which every row stands twice."""
    rows = []
    for i in range(24):
        side = "BUY" if i % 2 else "SELL"
        row = [
            str(START_MS + i * 7_001),
            side,
            "LIMIT",
            "IOC",
            "7",
            "30741.3",
            f"{30_000 + i}.6",
            "FILLED",
            "6",
            f"{i + 1}",
        ]
        rows += [row, row]
    return Sample(_csv(rows, binance.SNAPSHOT), "BTCUSD_PERP", (0, 6, 9), "zip")


def depth() -> Sample:
    """Return an archive of book depth in bands."""
    bands = ("-5.00", "-1.00", "-0.20", "0.20", "1.00", "5.00")
    rows = [[_clock(i, 30), band, f"{10 + i}.5", f"{1000 + i}.5"] for i in range(8) for band in bands]
    names = ("timestamp", "percentage", "depth", "notional")
    return Sample(_csv(rows, names), "BTCUSDT", (1, 2, 3), "zip")


def funding_csv() -> Sample:
    """Return an archive of funding whose times jitter."""
    rows = [[str(START_MS + i * 8 * HOUR_MS + i % 3), "8", f"{0.0001 * (i % 5 - 1):.8f}"] for i in range(48)]
    names = ("calc_time", "funding_interval_hours", "last_funding_rate")
    return Sample(_csv(rows, names), "BTCUSDT", (0, 1, 2), "zip")


def ticker() -> Sample:
    """Return a derivative ticker whose first row has no funding."""
    rows = []
    for i in range(48):
        at = (START_MS + i * 600_000) * 1_000
        due = (START_MS + (i // 48 + 1) * 8 * HOUR_MS) * 1_000
        cells = [
            "" if i == 0 else str(due),
            "" if i == 0 else "0.0001",
            "",
            f"{500 + i}.5",
            "100",
            "100.1",
            "100.2",
        ]
        rows.append(["binance-futures", "BTCUSDT", str(at), str(at + 149_335), *cells])
    return Sample(_csv(rows, tardis.TICKER), "BTCUSDT", (2, 3), "gz")


def tardis_liquidations() -> Sample:
    """Return liquidations without identifiers."""
    rows = []
    for i in range(48):
        at = (START_MS + i * 60_000) * 1_000
        side = "buy" if i % 2 else "sell"
        rows.append(
            ["binance-futures", "BTCUSDT", str(at), str(at + 90_000), "", side, f"{60_000 + i}.5", "0.5"]
        )
    return Sample(_csv(rows, tardis.LIQUIDATION), "BTCUSDT", (2, 3, 6, 7), "gz")


def tardis_chain() -> Sample:
    """Return an option chain."""
    rows = []
    for i in range(24):
        at = (START_MS + i * 60_000) * 1_000
        name, kind = f"BTC-29MAR24-{50_000 + 1_000 * i}-{'CP'[i % 2]}", ("call", "put")[i % 2]
        expiry = str((START_MS + 28 * 24 * HOUR_MS + 8 * HOUR_MS) * 1_000)
        quotes = ["12.5", "0.03", "0.0295", "30", "60.1", "0.0305", "30", "61.2", "0.03", "60.5"]
        rest = ["SYN.BTC-29MAR24", "60123.5", "0.5", "0.00001", "50.1", "-30.2", ""]
        head = ["deribit", name, str(at), str(at + 9_000), kind, str(50_000 + 1_000 * i), expiry]
        rows.append([*head, *quotes, *rest])
    return Sample(_csv(rows, tardis.CHAIN), "OPTIONS", (2, 3, 5, 6), "gz")


def liquidation_file() -> Sample:
    """Return the venue's file of liquidated accounts."""
    names = ("time", "user", "liquidated_ntl_pos", "liquidated_account_value", "leverage_type")
    rows = [
        [
            f"{START + pd.Timedelta(hours=i):%Y-%m-%dT%H:%M:%SZ}",
            f"0x{i:040x}",
            f"{356 + i}.80015",
            "2.956494",
            "Cross",
        ]
        for i in range(24)
    ]
    return Sample(_csv(rows, names), "*", (2, 3))
