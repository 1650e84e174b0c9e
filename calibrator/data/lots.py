"""Recorded liquidations that share one identifier: lots of an auction, or the same row twice."""

import numpy as np
import pandas as pd

from calibrator.data.rows import Finding


def told_apart(events: pd.DataFrame) -> tuple[pd.DataFrame, list[Finding]]:
    """Give every lot of an event a name of its own, drop copies and rows without an amount, and count both.

    An auction sells in lots, and a venue names all of them after the auction: rows that share ``market`` and
    ``event_id`` but differ are kept, the second as ``ID-2`` and so on. A row that is equal in everything is
    the same lot read twice.

    Parameters
    ----------
    events : pandas.DataFrame
        ``market, time`` and, where there are, ``event_id``, ``quantity``, ``price``, ``notional``.

    Returns
    -------
    pandas.DataFrame, list of Finding
        The rows that are left, in their order; per market what was found and done.

    Examples
    --------
    >>> t = pd.to_datetime(["2024-01-01"] * 3, utc=True)
    >>> rows = pd.DataFrame({"market": "A", "time": t, "event_id": "7", "notional": [10.0, 20.0, 20.0]})
    >>> left, found = told_apart(rows)
    >>> left["event_id"].tolist(), [(f.rule, f.count, f.action) for f in found]
    (['7', '7-2'], [('repeated liquidation', 1, 'dropped'), ('lots of one event', 1, 'kept')])
    """
    found: list[Finding] = []
    if not {"quantity", "notional"} & set(events):
        return events, found  # totals per side: a side without liquidations has no amount
    amount = _column(events, "notional").fillna(_column(events, "quantity") * _column(events, "price"))
    found += _counted(events[amount.isna()], "liquidation without notional", "left out")
    left = events[amount.notna()]
    if "event_id" not in left:
        return left, found
    copies = left.duplicated(keep="first")
    found += _counted(left[copies], "repeated liquidation", "dropped")
    left = left[~copies]
    lot = left.groupby(["market", "event_id"]).cumcount()
    found += _counted(left[lot > 0], "lots of one event", "kept")
    named = left["event_id"].where(lot == 0, left["event_id"] + "-" + (lot + 1).astype("str"))
    return left.assign(event_id=named), found


def _column(events: pd.DataFrame, name: str) -> pd.Series:
    return events[name] if name in events else pd.Series(np.nan, events.index)


def _counted(rows: pd.DataFrame, rule: str, action: str) -> list[Finding]:
    return [
        Finding(str(market), rule, len(own), own["time"].min(), own["time"].max(), action)
        for market, own in rows.groupby("market", sort=True)
    ]
