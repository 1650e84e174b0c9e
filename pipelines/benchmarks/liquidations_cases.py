"""Stress cases scored day by day, and snapshots of lending accounts under the schedule."""

import re
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest.terms import prices_by_market
from calibrator.calibrate.haircut import LoanTerms, haircut_schedule
from calibrator.data.events import events_between
from calibrator.domain import PPM
from calibrator.errors import DataError
from pipelines.benchmarks.speed import Table

CASES: Final = (
    ("UST loses its peg", "USTUSDT", "2022-05-07", "2022-05-12"),
    ("LUNA", "LUNAUSDT", "2022-05-07", "2022-05-12"),
    ("FTT", "FTTUSDT", "2022-11-06", "2022-11-12"),
    ("USDC depeg", "USDCUSDT", "2023-03-10", "2023-03-13"),
    ("May 2021", "BTCUSDT", "2021-05-17", "2021-05-23"),
    ("May 2021", "ETHUSDT", "2021-05-17", "2021-05-23"),
)
"""Name, market, first and last day: fixed by the calendar, not by what the schedule did."""
MOVED: Final = 1.25
NEAR: Final = 1e-6
SAID_STRESS: Final = (
    "`before`: haircut published the day before the case began (long side); `unlimited`: without floor "
    "and speed limits; `moved`: first day on which it was a quarter above that; `peak`: largest of the "
    "case; `worst_loss`: largest fall over the close-out that began within the case; `cost`: what the "
    "haircut in force left uncovered at the worst start, `cost_before` what the one of the day before "
    "would have. An expected miss left no trace in earlier prices: no volatility model sees it coming. "
    "Empty: no schedule, because the bars before are missing or too few."
)
SAID_ACCOUNTS: Final = (
    "{rows} accounts; the health factor recomputed from collateral, threshold and debt agrees on "
    "{share:.2%} of the rows with debt (relative 1e-6). Distance to liquidation is the fall of the "
    "collateral against the debt that the account can bear; `calibrated` puts the threshold of {market}"
    " (haircut {haircut:.2%} on {day}) in the place of the account's own, which is harsh for debts in "
    "the collateral's own reference asset."
)


def stress_table(margins: pd.DataFrame, bars: pd.DataFrame, *, close_out: int) -> Table:
    """Score the stress cases whose market there is."""
    prices = prices_by_market(bars)
    rows = {
        f"{name}, {market}": _case(margins, prices[market], market, (first, last), close_out)
        for name, market, first, last in CASES
        if market in prices
    }
    return Table("Stress cases", SAID_STRESS, pd.DataFrame(rows).T.rename_axis("case"))


def _case(
    margins: pd.DataFrame, prices: object, market: str, days: tuple[str, str], close_out: int
) -> dict[str, object]:
    begin, end = (pd.Timestamp(d, tz="UTC") for d in days)
    known = events_between(begin.date(), end.date(), [market])
    own = (
        margins[(margins["market"] == market) & (margins["side"] == "long")].set_index("origin").sort_index()
    )
    own = own[own.index <= end + pd.Timedelta("1D")]
    before, within = own[own.index < begin], own[own.index >= begin]
    start, loss = _worst(prices, begin, end, close_out)
    fresh = len(before) > 0 and before.index[-1] >= begin - pd.Timedelta("2D")
    row: dict[str, object] = {
        "expected_miss": any(e.expected_miss for e in known),
        "before": float(before["margin"].iloc[-1]) if fresh else np.nan,
        "unlimited": float(before["margin_unlimited"].iloc[-1]) if fresh else np.nan,
        "moved": "",
        "peak": float(within["margin"].max()) if len(within) else np.nan,
        "worst_loss": loss,
    }
    if not fresh:
        return row | {"cost": np.nan, "cost_before": np.nan}
    base = float(before["margin"].iloc[-1])
    higher = within.index[within["margin"] > MOVED * base]
    in_force = own.loc[own.index <= start, "margin"] if start is not None else own["margin"].iloc[:0]
    return row | {
        "moved": f"{higher[0]:%Y-%m-%d}" if len(higher) else "never",
        "cost": max(loss - float(in_force.iloc[-1]), 0.0) if len(in_force) else np.nan,
        "cost_before": max(loss - base, 0.0),
    }


def _worst(
    prices: object, begin: pd.Timestamp, end: pd.Timestamp, close_out: int
) -> tuple[pd.Timestamp | None, float]:
    """Return start and size of the largest fall over the close-out that begins within the case."""
    time, low, close = (getattr(prices, n) for n in ("time", "low", "close"))
    first = np.searchsorted(time, begin.tz_convert(None).to_datetime64(), side="left")
    last = np.searchsorted(time, (end + pd.Timedelta("1D")).tz_convert(None).to_datetime64(), side="right")
    found: tuple[pd.Timestamp | None, float] = (None, float("nan"))
    for bar in range(int(first), int(last)):
        ahead = low[bar + 1 : bar + 1 + close_out]
        if not len(ahead):
            break
        loss = float(1 - ahead.min() / close[bar])
        if found[0] is None or loss > found[1]:
            found = (pd.Timestamp(time[bar], tz="UTC"), loss)
    return found


def accounts_table(path: Path, margins: pd.DataFrame, *, terms: LoanTerms, market: str = "ETHUSDT") -> Table:
    """Recompute health factors, and the distance to liquidation under both thresholds.

    A file named ``..._YYYY_MM`` is held against the last haircut decided before that month begins, any other
    against the newest.

    Raises
    ------
    DataError
        The file cannot be read, has other columns, no row with debt, or there is no margin of the market.
    """
    try:
        rows = pd.read_parquet(path)
        collateral, debt, threshold, health = (
            rows[c].to_numpy(float) for c in ("collateral", "debt", "threshold", "healthf")
        )
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    owes = debt > 0
    if not owes.any():
        raise DataError(f"{path}: no account has debt")
    own = margins[(margins["market"] == market) & (margins["side"] == "long")].sort_values("origin")
    month = re.search(r"(\d{4})_(\d{2})$", path.stem)
    if month is not None:
        own = own[own["origin"] < pd.Timestamp(f"{month[1]}-{month[2]}-01", tz="UTC")]
    if own.empty:
        raise DataError(f"accounts: market {market!r} has no margin")
    last = own.iloc[-1]
    ratio = collateral[owes] / debt[owes]
    made = ratio * threshold[owes] / 1e4
    share = float(np.mean(np.abs(made / health[owes] - 1) < NEAR))
    schedule = haircut_schedule(float(last["margin"]), 0.0, terms=terms)
    calibrated = ratio * schedule.liquidation_threshold_ppm / PPM
    table = pd.DataFrame({"own threshold": _distance(made), "calibrated": _distance(calibrated)}).T
    said = SAID_ACCOUNTS.format(
        rows=len(rows),
        share=share,
        market=market,
        haircut=float(last["margin"]),
        day=f"{last['origin']:%Y-%m-%d}",
    )
    return Table(f"Accounts: {path.stem}", said, table.rename_axis("threshold"))


def _distance(health: np.ndarray) -> dict[str, float]:
    falls = 1 - 1 / health
    quantiles = np.quantile(falls, [0.05, 0.25, 0.5, 0.75])
    return {
        "accounts": float(len(health)),
        "below_one": float((health < 1).sum()),
        **{f"distance_{q}": float(v) for q, v in zip(("5%", "25%", "50%", "75%"), quantiles, strict=True)},
    }
