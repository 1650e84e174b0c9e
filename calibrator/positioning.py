"""Features from what positions show: funding, open interest, liquidations, each as of when it was known."""

from typing import Final

import numpy as np
import pandas as pd

from calibrator.feeds import Feeds

PREFIX: Final = "positioning_"
COLUMNS: Final = ("funding", "funding_change", "interest", "interest_change", "liquidated", "liquidated_long")
"""Names after the prefix."""
MONTH: Final = 22
NOW: Final = pd.Timedelta(0)
HOURS: Final = 8.0
"""Funding is compared per eight hours, the most common interval."""


def join_positioning(features: pd.DataFrame, feeds: Feeds, *, cadence: pd.Timedelta) -> pd.DataFrame:
    """Add positioning columns to feature rows.

    Parameters
    ----------
    features : pandas.DataFrame
        Output of ``features.build_features``: ``market, time`` and more.
    feeds : Feeds
        Conforming ``Funding``, ``OpenInterest`` and ``Liquidations``; each may be empty.
    cadence : pandas.Timedelta
        Between decisions.

    Returns
    -------
    pandas.DataFrame
        With ``positioning_funding`` (rate per eight hours, mean of the rows known over the last decision),
        ``_funding_change`` (against the month), ``_interest`` (log of open interest over its month's mean),
        ``_interest_change`` (over a decision), ``_liquidated`` (log of the notional liquidated within the
        last two decisions over its month's mean) and ``_liquidated_long`` (share of longs in it); NaN where
        no row was knowable, or the last one is older than two decisions. A row at ``time`` uses rows with
        ``known_at`` up to it. Kinds without rows add no column.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=3, freq="1D", tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "time": t})
    >>> rate = pd.DataFrame({"market": "A", "time": t, "known_at": t, "rate": [1e-4, 3e-4, 5e-4],
    ...                      "interval_hours": 8.0})
    >>> none = rate.iloc[:0]
    >>> out = join_positioning(x, Feeds(rate, none, none), cadence=pd.Timedelta("1D"))
    >>> (out["positioning_funding"] * 1e4).round(2).tolist()
    [1.0, 3.0, 5.0]
    """
    parts: dict[str, pd.Series] = {}
    if not feeds.funding.empty:
        parts |= _funding(features, feeds.funding, cadence)
    if not feeds.open_interest.empty:
        parts |= _interest(features, feeds.open_interest, cadence)
    if not feeds.liquidations.empty:
        parts |= _liquidated(features, feeds.liquidations, cadence)
    return features.assign(**{PREFIX + name: values for name, values in parts.items()})


def _funding(features: pd.DataFrame, funding: pd.DataFrame, cadence: pd.Timedelta) -> dict[str, pd.Series]:
    hours = funding["interval_hours"].fillna(HOURS)
    rates = funding.assign(value=funding["rate"] * HOURS / hours)
    day = _trailing(features, rates, cadence, "mean")
    return {"funding": day, "funding_change": day - _trailing(features, rates, MONTH * cadence, "mean")}


def _interest(features: pd.DataFrame, interest: pd.DataFrame, cadence: pd.Timedelta) -> dict[str, pd.Series]:
    amount = interest["open_interest"].fillna(interest["open_interest_notional"])
    rows = interest.assign(value=amount.where(amount > 0))
    now, month = (_log(_trailing(features, rows, n * cadence, "mean")) for n in (1, MONTH))
    before = _log(_trailing(features, rows, cadence, "mean", ago=cadence))
    return {"interest": now - month, "interest_change": now - before}


def _liquidated(features: pd.DataFrame, events: pd.DataFrame, cadence: pd.Timedelta) -> dict[str, pd.Series]:
    rows = events.assign(value=events["notional"])
    longs = rows.assign(value=rows["value"].where(rows["liquidated_side"] == "long", 0.0))
    total = _trailing(features, rows, 2 * cadence, "sum")
    month = _trailing(features, rows, MONTH * cadence, "sum") * (2 / MONTH)
    share = _trailing(features, longs, 2 * cadence, "sum") / total.where(total > 0)
    return {"liquidated": np.log1p(total / month.where(month > 0)), "liquidated_long": share}


def _trailing(
    features: pd.DataFrame,
    rows: pd.DataFrame,
    window: pd.Timedelta,
    how: str,
    *,
    ago: pd.Timedelta = NOW,
) -> pd.Series:
    """Mean or sum of ``value`` over rows known within ``(time - ago - window, time - ago]``, per market."""
    parts = []
    known = rows.dropna(subset="value").sort_values("known_at", kind="stable")
    own = dict(list(known.groupby("market", sort=False)))
    for market, index in features.groupby("market", sort=False).groups.items():
        values = np.full(len(index), np.nan)
        if market in own:
            at = own[market]["known_at"].to_numpy()
            until = features.loc[index, "time"] - ago
            last = np.searchsorted(at, until.to_numpy(), side="right")
            first = np.searchsorted(at, (until - window).to_numpy(), side="right")
            sums = np.concatenate([[0.0], np.cumsum(own[market]["value"].to_numpy(float))])
            count = last - first
            total = sums[last] - sums[first]
            values = np.where(count > 0, total / (np.maximum(count, 1) if how == "mean" else 1.0), np.nan)
        parts.append(pd.Series(values, index))
    return pd.concat(parts).reindex(features.index) if parts else pd.Series(np.nan, features.index)


def _log(values: pd.Series) -> pd.Series:
    return np.log(values.where(values > 0))
