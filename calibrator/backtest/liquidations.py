"""Recorded liquidations against what a schedule would have asked a day before."""

from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest.terms import Floats, Prices, prices_by_market
from calibrator.errors import DataError

KNOWN_BEFORE: Final = pd.Timedelta("1D")
TOP: Final = 0.9
LEAST: Final = 60
"""Days a market needs before its liquidations are ranked."""


def event_losses(
    events: pd.DataFrame,
    bars: pd.DataFrame,
    margins: pd.DataFrame,
    *,
    close_out: int,
    known_before: pd.Timedelta = KNOWN_BEFORE,
) -> pd.DataFrame:
    """Put the loss that followed each liquidation beside the margin that was published before it.

    The loss is the excursion from the last close before the event over the ``close_out`` bars that follow it:
    ``1 - min(low) / close`` of a long position, ``max(high) / close - 1`` of a short one.

    Parameters
    ----------
    events : pandas.DataFrame
        ``market, time, liquidated_side, notional``; further columns are kept.
    bars : pandas.DataFrame
        ``frames.BARS``.
    margins : pandas.DataFrame
        ``market, origin, side, margin``.
    close_out : int
        Bars.
    known_before : pandas.Timedelta
        A margin counts when it was decided at least this long before the event.

    Returns
    -------
    pandas.DataFrame
        The events in their order, with ``margin`` and ``loss`` (missing where there is none),
        ``shortfall`` (quote units: notional times what the loss exceeds the margin by) and ``why`` (``""``,
        or ``no bars of the market``, ``no margin before``, ``bars end``). Every event has a row.

    Raises
    ------
    ValueError
        Close-out below one bar.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=80, freq="h", tz="UTC").as_unit("us")
    >>> price = np.where(np.arange(80) < 50, 100.0, 70.0)
    >>> bars = pd.DataFrame({"market": "A", "time": t, "open": price, "high": price, "low": price,
    ...                      "close": price, "volume": 1.0})
    >>> margins = pd.DataFrame({"market": "A", "origin": t[:1], "side": "long", "margin": 0.2})
    >>> events = pd.DataFrame({"market": ["A", "B"], "time": t[48], "liquidated_side": "long",
    ...                        "notional": 1000.0})
    >>> done = event_losses(events, bars, margins, close_out=24)
    >>> done[["loss", "shortfall", "why"]].round(2).values.tolist()
    [[0.3, 100.0, ''], [nan, nan, 'no bars of the market']]
    """
    if close_out < 1:
        raise ValueError(f"close_out must be at least 1 bar, was {close_out}")
    rows = events.reset_index(drop=True).assign(loss=np.nan, why="")
    prices = prices_by_market(bars)
    for market, own in rows.groupby("market"):
        if str(market) not in prices:
            rows.loc[own.index, "why"] = "no bars of the market"
            continue
        loss = _losses(own, prices[str(market)], close_out)
        rows.loc[own.index, "loss"] = loss
        rows.loc[own.index[np.isnan(loss)], "why"] = "bars end"
    margin = _published(rows, margins, known_before)
    missing = (rows["why"] == "") & margin.isna()
    rows = rows.assign(margin=margin, why=rows["why"].mask(missing, "no margin before"))
    short = rows["notional"] * np.maximum(rows["loss"] - rows["margin"], 0.0)
    return rows.assign(shortfall=short)


def _losses(events: pd.DataFrame, prices: Prices, close_out: int) -> Floats:
    at = np.searchsorted(prices.time, events["time"].dt.tz_convert(None).to_numpy(), side="right") - 1
    out = np.full(len(events), np.nan)
    for i, (bar, side) in enumerate(zip(at, events["liquidated_side"], strict=True)):
        ahead = slice(bar + 1, bar + 1 + close_out)
        if bar < 0 or bar + close_out >= len(prices.time):
            continue
        close = prices.close[bar]
        worst = (
            1 - prices.low[ahead].min() / close if side == "long" else prices.high[ahead].max() / close - 1
        )
        out[i] = max(worst, 0.0)
    return out


def _published(events: pd.DataFrame, margins: pd.DataFrame, known_before: pd.Timedelta) -> pd.Series:
    """Return the newest margin of the event's market and side that was known early enough."""
    left = events[["market", "time", "liquidated_side"]].rename(columns={"liquidated_side": "side"})
    left = left.assign(at=left["time"] - known_before, row=np.arange(len(left))).sort_values("at")
    right = margins[["market", "origin", "side", "margin"]].sort_values("origin")
    right = right.assign(origin=right["origin"].astype(left["at"].dtype))
    found = pd.merge_asof(left, right, left_on="at", right_on="origin", by=["market", "side"])
    return pd.Series(found.set_index("row")["margin"].sort_index().to_numpy(float), events.index)


def rises_before(amounts: pd.DataFrame, margins: pd.DataFrame, *, window: int = 90) -> pd.DataFrame:
    """Tell whether margins had risen before the days of the largest liquidations.

    Parameters
    ----------
    amounts : pandas.DataFrame
        ``market, time`` (start of the day) and ``amount``.
    margins : pandas.DataFrame
        ``market, origin, margin``; the margin of a day is the newest one decided before it starts.
    window : int
        Days of the trailing median that the margin is compared with.

    Returns
    -------
    pandas.DataFrame
        Per market, and pooled (``*``): ``days``, ``top_days`` (top decile of the market's amounts),
        ``raised_top`` and ``raised_other`` (share of days with a margin above its trailing median),
        ``ratio_top`` and ``ratio_other`` (mean margin over that median) and ``auroc`` (does a larger ratio
        mean a top day).

    Raises
    ------
    DataError
        No market has enough days with a margin.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=300, tz="UTC").as_unit("us")
    >>> big = np.arange(300) % 10 == 9
    >>> amounts = pd.DataFrame({"market": "A", "time": t, "amount": np.where(big, 9.0, 1.0)})
    >>> margins = pd.DataFrame({"market": "A", "origin": t, "margin": np.where(big, 0.2, 0.1)})
    >>> rises_before(amounts, margins).loc["*", ["raised_top", "raised_other", "auroc"]].tolist()
    [1.0, 0.0, 1.0]
    """
    known = margins.sort_values("origin").drop_duplicates(["market", "origin"], keep="last")
    known = known.assign(
        usual=known.groupby("market")["margin"].transform(
            lambda m: m.rolling(window, min_periods=30).median()
        )
    )
    left = amounts.dropna(subset=["amount"]).sort_values("time")
    right = known[["market", "origin", "margin", "usual"]].assign(
        origin=known["origin"].astype(left["time"].dtype)
    )
    rows = pd.merge_asof(left, right, left_on="time", right_on="origin", by="market").dropna(subset=["usual"])
    rows = rows[rows.groupby("market")["time"].transform("size") >= LEAST]
    if rows.empty:
        raise DataError(f"liquidations: no market has {LEAST} days with a margin before them")
    place = rows.groupby("market")["amount"].rank(pct=True)
    rows = rows.assign(top=place > TOP, ratio=rows["margin"] / rows["usual"])
    table = {str(m): _ranked(own) for m, own in rows.groupby("market")}
    return pd.DataFrame({**table, "*": _ranked(rows)}).T.rename_axis("market")


def _ranked(rows: pd.DataFrame) -> dict[str, float]:
    top, rank = rows["top"].to_numpy(bool), rows["ratio"].rank().to_numpy(float)
    n, m = int(top.sum()), int((~top).sum())
    auroc = (rank[top].sum() - n * (n + 1) / 2) / (n * m) if n and m else float("nan")
    raised = rows["ratio"] > 1 + 1e-9
    return {
        "days": float(rows["time"].nunique()),
        "top_days": float(n),
        "raised_top": float(raised[top].mean()),
        "raised_other": float(raised[~top].mean()),
        "ratio_top": float(rows.loc[top, "ratio"].mean()),
        "ratio_other": float(rows.loc[~top, "ratio"].mean()),
        "auroc": float(auroc),
    }


def lending_shortfall(losses: Floats, threshold: Floats, bonus: Floats) -> Floats:
    """Return what a liquidation leaves unpaid, per unit of the collateral's value before the move.

    An account that is liquidated at its ``threshold`` owes that share of its collateral, and the liquidator
    takes ``1 + bonus`` of what is repaid: ``max(0, threshold (1 + bonus) - (1 - loss))``.

    Examples
    --------
    >>> both = np.array([1.0, 1.0])
    >>> lending_shortfall(np.array([0.1, 0.3]), 0.8 * both, 0.05 * both).round(2).tolist()
    [0.0, 0.14]
    """
    return np.maximum(threshold * (1 + bonus) - (1 - losses), 0.0)
