"""What the learned forecasters see: features relative to the HAR core, and the state of all markets."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
KEYS: Final = ("market", "time", "phase", "core")


def design(
    features: pd.DataFrame, core: pd.Series, *, cadence: int, steps: int, own: pd.Series | None = None
) -> pd.DataFrame:
    """Make the regressors of the learned forecasters.

    Logarithms of variances are taken relative to the core forecast, returns in units of its volatility, and
    market-wide columns (``all_``) are means over the markets of the same time, ``lead_`` columns are those
    of the market with the largest turnover. A ratio to the core is what
    makes markets comparable, so that one model serves them all.

    Parameters
    ----------
    features : pandas.DataFrame
        Output of ``features.build_features``.
    core : pandas.Series
        HAR variance over the horizon, on the same index.
    cadence, steps : int
        Bars between decisions; horizon in decisions.
    own : pandas.Series of bool, optional
        Rows that make up the state of all markets and may lead, on the same index; the others (whose core is
        borrowed) only see it. Default: all.

    Returns
    -------
    pandas.DataFrame
        ``market, time, phase, core`` (log variance per decision) and one float column per regressor; rows
        without a core are left out, the index is kept.
    """
    rows = features[core.notna()]
    log_core = np.log(core[core.notna()] / steps).rename("core")
    out: dict[str, pd.Series] = {}
    for name in features.columns:
        kind, _, bars = name.partition("_")
        if kind in {"variance", "range", "har", "weekday", "implied"} and name not in {
            "variance_of_variance",
            "weekday",
        }:
            out[name] = rows[name] - log_core
        elif kind == "return":
            out[name] = rows[name] / np.exp((log_core + np.log(int(bars) / cadence)) / 2)
        elif name in {"drawdown", "run_up"}:
            out[name] = rows[name] / np.exp(log_core / 2)
        elif kind in {"downside", "jump", "volume", "positioning"} or name == "variance_of_variance":
            out[name] = rows[name]
    frame = pd.DataFrame(out).assign(level=log_core)
    peers = pd.Series(True, rows.index) if own is None else own.loc[rows.index]  # noqa: FBT003 - a value
    wide = _market_wide(frame, rows["time"], peers, cadence)
    lead = _leader(frame, rows, peers, cadence)
    frame = pd.concat([frame, wide, lead], axis=1)
    keys = rows[["market", "time", "phase"]].assign(core=log_core)
    calendar = rows[["weekday", "hour", "age"]].astype(float)
    return pd.concat([keys, frame, calendar], axis=1)


def _market_wide(frame: pd.DataFrame, time: pd.Series, peers: pd.Series, cadence: int) -> pd.DataFrame:
    inside = max(1, cadence // 4)
    wanted = [f"variance_{n}" for n in sorted({max(1, cadence // 24), inside, cadence, 5 * cadence})]
    wanted += [f"return_{cadence}", f"volume_{inside}", f"volume_{cadence}", "level"]
    wanted += [c for c in frame.columns if c.startswith("positioning_")]
    state = frame[list(dict.fromkeys(wanted))].where(peers)
    wide = state.groupby(time, sort=False).transform("mean").add_prefix("all_")
    return wide.assign(relative_level=frame["level"] - wide["all_level"])


def _leader(frame: pd.DataFrame, rows: pd.DataFrame, peers: pd.Series, cadence: int) -> pd.DataFrame:
    """State of the market that turned over most in the last month, at each time."""
    inside = {max(1, cadence // 24), max(1, cadence // 4), cadence}
    wanted = [*(f"variance_{n}" for n in sorted(inside)), f"return_{cadence}", "level"]
    turnover = rows["turnover"].where(peers)
    most = turnover.groupby(rows["time"], sort=False).transform("max")
    leads = (turnover == most) & most.notna()
    first = leads & ~rows["time"].where(leads).duplicated()
    state = frame.loc[first, wanted].set_index(rows.loc[first, "time"]).add_prefix("lead_")
    return state.reindex(rows["time"]).set_axis(rows.index)


def regressors(rows: pd.DataFrame) -> list[str]:
    """Return the names of the regressor columns of a design.

    Examples
    --------
    >>> regressors(pd.DataFrame(columns=["market", "time", "phase", "core", "level", "age"]))
    ['level', 'age']
    """
    return [c for c in rows.columns if c not in KEYS]


class Hull:
    """Box of the training data, and how far a row lies outside it.

    Examples
    --------
    >>> hull = Hull(np.array([[0.0, 1.0], [1.0, 3.0]]))
    >>> hull.weight(np.array([[0.5, 2.0], [2.0, 2.0], [0.5, 203.0]])).round(4).tolist()
    [1.0, 0.5, 0.0001]
    """

    def __init__(self, rows: Array) -> None:
        known = np.isfinite(rows).any(axis=0)
        self.low = np.where(known, np.nanmin(np.where(known, rows, 0.0), axis=0, initial=np.inf), -np.inf)
        self.high = np.where(known, np.nanmax(np.where(known, rows, 0.0), axis=0, initial=-np.inf), np.inf)
        spread = np.where(known, self.high - self.low, 1.0)
        self.spread = np.where(spread > 0, spread, 1.0)

    def weight(self, rows: Array) -> Array:
        """Return 1 inside the box, falling to 0 with the largest distance outside it in widths of the box."""
        outside = np.maximum(rows - self.high, self.low - rows) / self.spread
        worst = np.nanmax(np.maximum(np.nan_to_num(outside, nan=0.0), 0.0), axis=1)
        weight: Array = 1.0 / (1.0 + worst**2)
        return weight
