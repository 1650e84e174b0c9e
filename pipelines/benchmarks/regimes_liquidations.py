"""Does stress, as labelled, mean liquidations? Probabilities known before against what was liquidated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from calibrator.config import Config
from calibrator.errors import DataError
from calibrator.features import Clock
from calibrator.forecast.base import walk_forward
from calibrator.forecast.garch import Garch, GarchState
from pipelines.benchmarks.regimes_models import OURS, Outlook
from pipelines.benchmarks.regimes_scores import BLOCK, Ranked, drawn_days

PANEL: Final = ("time", "symbol", "long_liquidations_base", "short_liquidations_base", "close")
EVENTS: Final = ("time", "collateral_usd")
IMPLIED: Final = ("time", "dvol_close")
DAY: Final = pd.Timedelta("1D")
TOP: Final = 0.9
FRESH: Final = pd.Timedelta("2D")
"""Oldest implied volatility that counts as known."""
LEAST: Final = 100


def liquidated(path: Path) -> pd.DataFrame:
    """Read liquidations per day.

    Parameters
    ----------
    path : pathlib.Path
        Parquet. Either a daily panel (``time`` = start of the day, ``symbol``, liquidated base units of longs
        and shorts, ``close``) or single events (``time``, ``collateral_usd``), which are added up by day over
        all markets (market ``*``; a day without any counts as zero).

    Returns
    -------
    pandas.DataFrame
        ``market, time`` (start of the day) and ``amount`` in quote units.

    Raises
    ------
    DataError
        The file cannot be read, or has neither layout.
    """
    rows = _read(path)
    if set(PANEL) <= set(rows.columns):
        amount = (rows["long_liquidations_base"] + rows["short_liquidations_base"]) * rows["close"]
        made = rows[["time"]].assign(market=rows["symbol"], amount=amount)
        return made[made["amount"].notna()].reset_index(drop=True)
    if set(EVENTS) <= set(rows.columns):
        daily = rows.groupby(rows["time"].dt.floor("D"))["collateral_usd"].sum()
        whole = pd.date_range(daily.index.min(), daily.index.max(), freq="D").as_unit("us")
        amount = daily.reindex(whole, fill_value=0.0)
        return pd.DataFrame({"market": "*", "time": whole, "amount": amount.to_numpy(float)})
    raise DataError(f"{path}: needs the columns {', '.join(PANEL)} or {', '.join(EVENTS)}")


def implied_quotes(path: Path) -> pd.DataFrame:
    """Read an implied-volatility index (``time``, ``dvol_close``), sorted by time."""
    rows = _read(path)
    if not set(IMPLIED) <= set(rows.columns):
        raise DataError(f"{path}: needs the columns {', '.join(IMPLIED)}")
    return rows[list(IMPLIED)].sort_values("time", ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def garch_variance(made: Outlook, clock: Clock) -> pd.Series:
    """GARCH(1,1) variance over the horizon on decision rows, walk-forward as in production."""
    config: Config = made.task.config
    chosen = made.rows.features["phase"] == 0
    memory: dict[str, GarchState] = {}
    return walk_forward(
        lambda: Garch(
            spec="garch",
            errors="normal",
            horizon_steps=clock.steps,
            window=config.forecast.garch_window,
            memory=memory,
        ),
        made.rows.features[chosen],
        made.rows.targets[chosen],
        refit=config.forecast.garch_refit,
        start=config.forecast.min_history,
        progress=lambda done, total: made.task.report("garch", done, total),
    )


def rankings(made: Outlook, files: Sequence[Path], *, implied: Path | None, garch: pd.Series) -> pd.DataFrame:
    """Score how each quantity known before a day ranks the day's liquidations.

    Parameters
    ----------
    made : Outlook
        Horizon of one day.
    files : sequence of pathlib.Path
        See :func:`liquidated`.
    implied : pathlib.Path, optional
        Implied-volatility index of the leading market, used for all.
    garch : pandas.Series
        GARCH variance per decision row.

    Returns
    -------
    pandas.DataFrame
        Index (file, known, quantity): ``known`` is ``start of the day`` (the decision whose
        horizon is that day) or ``one day before``. Columns ``days, markets, correlation``
        (Spearman within markets, averaged), ``auroc, low, high`` (top-decile days of each market;
        quantities ranked within markets; 90 % interval by a block bootstrap of days). Rows on
        which every quantity is known.
    """
    known = made.decisions.assign(garch=garch)[["market", "time", OURS, "gap_har", "garch"]]
    known = known[known[OURS].notna()]
    wide = known.drop(columns="market").assign(garch=np.log(known["garch"])).groupby("time").mean()
    known = pd.concat([known, wide.reset_index().assign(market="*")], ignore_index=True)
    if implied is not None:
        known = pd.merge_asof(
            known.sort_values("time", kind="stable"), implied_quotes(implied), on="time", tolerance=FRESH
        )
    names = [c for c in known if c not in {"market", "time"}]
    out: dict[tuple[str, str, str], dict[str, float]] = {}
    for path in files:
        amounts = liquidated(path)
        for when, lag in (("start of the day", 0), ("one day before", 1)):
            rows = known.assign(time=known["time"] + lag * DAY).merge(amounts, on=["market", "time"])
            out |= {(path.stem, when, n): v for n, v in _ranked(rows.dropna(), names).items()}
    return pd.DataFrame(out).T.rename_axis(["file", "known", "quantity"])


def _ranked(rows: pd.DataFrame, names: Sequence[str]) -> dict[str, dict[str, float]]:
    size = rows.groupby("market")["amount"].transform("size")
    rows = rows[size >= LEAST]
    if rows.empty:
        return {}
    by = rows.groupby("market")
    top = (rows["amount"] > by["amount"].transform(lambda a: a.quantile(TOP))).to_numpy(float)
    day = pd.factorize(rows["time"], sort=True)[0].astype(np.int64)
    samples = drawn_days(int(day.max()) + 1, block=BLOCK)
    out = {}
    for name in names:
        rank = by[name].rank(pct=True)
        ranked = Ranked.of(rank.to_numpy(float), top, day)
        drawn = np.array([ranked.scores(s)["auroc"] for s in samples])
        each = [own[name].corr(own["amount"], method="spearman") for _, own in by]
        low, high = np.nanquantile(drawn, [0.05, 0.95])
        out[str(name)] = {
            "days": float(rows["time"].nunique()),
            "markets": float(rows["market"].nunique()),
            "correlation": float(np.nanmean(each)),
            "auroc": ranked.scores(np.ones(samples.shape[1]))["auroc"],
            "low": float(low),
            "high": float(high),
        }
    return out
