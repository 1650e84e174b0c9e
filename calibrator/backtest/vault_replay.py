"""What a schedule of liquidation ratios would have done to recorded vaults, beside what really happened."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from calibrator.backtest.terms import Floats
from calibrator.backtest.vaults import Books, Oracle, breaches, near

DAY: Final = np.timedelta64(1, "D")
Fate = Literal["agreeing", "earlier", "later", "avoided"]
FATES: Final[tuple[Fate, ...]] = ("agreeing", "earlier", "later", "avoided")


@dataclass(frozen=True, slots=True)
class VaultReplay:
    """Outcome of one schedule of ratios.

    Attributes
    ----------
    days : pandas.DataFrame
        One row per real vault-day: ``vault, day, fate, breached_at``.
    liquidations : pandas.DataFrame
        The first breach of every debt of a vault: ``vault, life, time, collateral, debt, price, depth,
        acted``, ``caused`` (no real liquidation within a day), ``by_change`` (a rise of the ratio did it:
        at the ratio of the bar before the vault would have been safe at the same price) and ``shortfall``
        (debt less what the collateral is worth after the close-out, at least 0).
    vaults : int
        Vaults that ever owed anything.
    average_ratio : float
        Collateral asked over debt, averaged over debts and bars.
    """

    days: pd.DataFrame
    liquidations: pd.DataFrame
    vaults: int
    average_ratio: float

    def summary(self) -> dict[str, float | int]:
        """Return counts and sums: fates of vault-days, caused liquidations, shortfall, capital asked.

        ``by_change_share`` is the part of the debt liquidated that a rise of the ratio liquidated by itself.

        Examples
        --------
        >>> days = pd.DataFrame({"vault": ["1"], "day": [0], "fate": ["later"], "breached_at": [pd.NaT]})
        >>> none = pd.DataFrame({"vault": [], "caused": [], "by_change": [], "shortfall": [], "debt": []})
        >>> VaultReplay(days, none, 3, 1.3).summary()["later"]
        1
        """
        fates = self.days["fate"].value_counts()
        caused = self.liquidations[self.liquidations["caused"].astype(bool)]
        changed = self.liquidations[self.liquidations["by_change"].astype(bool)]
        total = float(self.liquidations["debt"].sum())
        return {
            "vaults": self.vaults,
            "vault_days": len(self.days),
            **{name: int(fates.get(name, 0)) for name in FATES},
            "liquidations": len(self.liquidations),
            "caused": len(caused),
            "caused_vaults": int(caused["vault"].nunique()),
            "by_change": len(changed),
            "by_change_share": float(changed["debt"].sum()) / total if total > 0 else 0.0,
            "debt_liquidated": total,
            "shortfall": float(self.liquidations["shortfall"].sum()),
            "with_shortfall": int((self.liquidations["shortfall"] > 0).sum()),
            "average_ratio": self.average_ratio,
        }


def replay_vaults(
    books: Books,
    oracle: Oracle,
    ratio: Floats,
    *,
    close_out: int,
    distance: float | None = None,
    patience: int = 168,
) -> VaultReplay:
    """Replay vaults under a path of ratios.

    A vault is liquidated in its first breach; what it did with the same debt afterwards is left out. A real
    vault-day is *agreeing* when that breach falls on it or on the day before, *earlier* when before that;
    else the position as it was before the real liquidation is held on: *later* when it breaches within
    ``patience`` bars, *avoided* when it does not.

    Parameters
    ----------
    books : Books
    oracle : Oracle
    ratio : numpy.ndarray, shape (T,)
        Collateral over debt that is asked, per bar of the oracle.
    close_out : int
        Bars between breach and sale, which is at the market's price.
    distance : float, optional
        See :func:`~calibrator.backtest.vaults.breaches`: the bound in which owners keep their distance.
    patience : int
        Bars.

    Returns
    -------
    VaultReplay

    Raises
    ------
    ValueError
        Ratios of another length, or not above 0; close-out or patience negative.

    Examples
    --------
    >>> from calibrator.backtest.vaults import Fees, delayed, rebuild
    >>> t = pd.to_datetime(["2021-01-01", "2021-01-03"], utc=True).as_unit("us")
    >>> events = pd.DataFrame({"vault": "7", "time": t[:1], "collateral": 1.0, "debt": 75.0})
    >>> lots = pd.DataFrame({"vault": "7", "time": t[1:], "collateral": 1.0, "debt": 75.0})
    >>> books = rebuild(events, lots, fees=Fees(np.array([], "M8[us]"), np.array([])))
    >>> hours = np.arange("2021-01-01T01", "2021-01-05T00", dtype="M8[h]").astype("M8[us]")
    >>> price = np.where(hours < np.datetime64("2021-01-02T12"), 100.0, 90.0)
    >>> done = replay_vaults(books, delayed(hours, price, delay=1), np.full(94, 1.3), close_out=1)
    >>> done.summary()["agreeing"], done.summary()["caused"]
    (1, 0)
    """
    if len(ratio) != len(oracle.time) or not (np.isfinite(ratio) & (ratio > 0)).all():
        raise ValueError(f"ratio must be positive, one per price: {len(ratio)} for {len(oracle.time)}")
    if close_out < 0 or patience < 0:
        raise ValueError(f"close_out and patience must not be negative, were {close_out} and {patience}")
    found = breaches(books, oracle, ratio, distance=distance)
    first = found.drop_duplicates(["vault", "life"]).reset_index(drop=True)
    sold = oracle.market[np.minimum(first["bar"].to_numpy(int) + close_out, len(oracle.market) - 1)]
    worth = first["collateral"].to_numpy(float) * sold
    liquidations = first.assign(
        shortfall=np.maximum(first["debt"].to_numpy(float) - worth, 0.0),
        caused=_caused(first, books),
        by_change=_by_change(first, ratio),
    )
    return VaultReplay(
        _fates(books, oracle, ratio, first, patience=patience),
        liquidations.drop(columns="bar"),
        int(books.changes.loc[books.changes["units"] > 0, "vault"].nunique()),
        _average(books, oracle, ratio),
    )


def _caused(first: pd.DataFrame, books: Books) -> np.ndarray:
    """Tell which liquidations have no real one of the same vault within a day."""
    out = np.ones(len(first), dtype=bool)
    for vault, rows in first.groupby("vault").indices.items():
        real = books.lots.loc[books.lots["vault"] == vault, "time"].to_numpy()
        days = real.astype("datetime64[D]").astype("datetime64[us]")
        own = first["time"].to_numpy()[rows].astype("datetime64[D]").astype("datetime64[us]")
        out[rows] = ~near(own, days, within=DAY)
    return out


def _by_change(first: pd.DataFrame, ratio: Floats) -> np.ndarray:
    """Tell which vaults would have been safe at the same price under the ratio of the bar before."""
    before = ratio[np.maximum(first["bar"].to_numpy(int) - 1, 0)]
    value = first["collateral"].to_numpy(float) * first["price"].to_numpy(float)
    return np.asarray(value >= before * first["debt"].to_numpy(float))


def _fates(
    books: Books, oracle: Oracle, ratio: Floats, first: pd.DataFrame, *, patience: int
) -> pd.DataFrame:
    by = {str(v): own for v, own in first.groupby("vault")}
    rows = []
    for vault, day in books.days().itertuples(index=False):
        own = books.changes[books.changes["vault"] == vault]
        struck = own[own["lot"] & (own["time"] >= day)].iloc[0]
        earlier = own[own["time"] < struck["time"]]
        life = earlier["life"].iloc[-1] if len(earlier) else 0
        known = by.get(vault, first.iloc[:0])
        hit = known[known["life"] == life]
        when, end = (hit["time"].iloc[0] if len(hit) else None), day + pd.Timedelta("1D")
        if when is not None and when < end:
            fate = "agreeing" if when >= day - pd.Timedelta("1D") else "earlier"
        else:
            when = _held_on(books, oracle, ratio, earlier, patience=patience)
            fate = "avoided" if when is None else ("later" if when >= end else "agreeing")
        rows.append((vault, day, fate, when))
    return pd.DataFrame(rows, columns=["vault", "day", "fate", "breached_at"])


def _held_on(
    books: Books, oracle: Oracle, ratio: Floats, earlier: pd.DataFrame, *, patience: int
) -> pd.Timestamp | None:
    """Return when the position before a real liquidation would have breached, had it been left alone."""
    if earlier.empty or earlier["units"].iloc[-1] <= 0:
        return None
    last = earlier.iloc[-1]
    begin = int(np.searchsorted(oracle.time, np.datetime64(last["time"]), side="right"))
    stop = min(begin + patience, len(oracle.time))
    debt = last["units"] * books.fees.index(oracle.time[begin:stop])
    below = last["collateral"] * oracle.price[begin:stop] < ratio[begin:stop] * debt
    return pd.Timestamp(oracle.time[begin + int(below.argmax())]) if below.any() else None


def _average(books: Books, oracle: Oracle, ratio: Floats) -> float:
    """Average the ratio over bars and debts."""
    change = books.changes["units"] - books.changes.groupby("vault")["units"].shift(fill_value=0.0)
    at = np.searchsorted(oracle.time, books.changes["time"].to_numpy(), side="left")
    total = np.bincount(at, weights=change.to_numpy(), minlength=len(oracle.time) + 1)[: len(oracle.time)]
    debt = np.maximum(np.cumsum(total), 0.0) * books.fees.index(oracle.time)
    return float((debt * ratio).sum() / debt.sum()) if debt.sum() > 0 else float("nan")
