"""The coverage battery over every market, side and level at once.

Losses that share bars are not independent, and all tests assume independence. Each row's losses are therefore
split into *series* that share none: one per start after the origin, and one per offset when the close-out
spans several decisions. Each test runs on each series; over ``k > 1`` series the table reports **twice the
median** p-value, which is valid however the series depend on each other (Rüschendorf 1982), and the smallest.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.backtest.coverage import (
    TrafficLight,
    christoffersen_conditional,
    christoffersen_independence,
    excess_breaches,
    kupiec,
    traffic_light,
)
from calibrator.backtest.dynamic_quantile import dynamic_quantile
from calibrator.backtest.losses import REALIZED_VARIANCE, ROW, conform_losses
from calibrator.backtest.overlap import overlapping_breaches
from calibrator.frames import MARGINS, conform

Hits = npt.NDArray[np.bool_]
HIGH: Final = 0.9
_REGRESSION_ROWS: Final = 30


def coverage_table(
    margins: pd.DataFrame,
    losses: pd.DataFrame,
    *,
    overlap: int = 1,
    realized_variance: pd.DataFrame | None = None,
    column: str = "margin",
    draws: int = 499,
) -> pd.DataFrame:
    """Hold every margin against the losses that followed it.

    Parameters
    ----------
    margins : pandas.DataFrame
        ``frames.MARGINS``, one close-out.
    losses : pandas.DataFrame
        ``losses.LOSSES`` over that close-out; one or several starts per origin.
    overlap : int
        Decisions whose losses share bars: close-out / cadence, rounded up.
    realized_variance : pandas.DataFrame, optional
        Columns ``market, origin, realized_variance`` (trailing, known at origin); its top decile per market
        gives the coverage after high known variance.
    column : str
        ``margin`` or ``margin_unlimited``.
    draws : int
        Monte-Carlo series of the dynamic quantile test.

    Returns
    -------
    pandas.DataFrame
        One row per market, side and level, sorted: ``observations`` and ``breaches`` over all starts;
        ``coverage`` per start and ``worst_start_coverage`` of each origin's worst start; ``not_known`` losses
        and losses ``without_margin``, which no other column counts; ``kupiec_p_value`` (asymptotic, pooled,
        information only); decision p-values ``two_sided_p_value``, ``excess_p_value``,
        ``independence_p_value``, ``conditional_p_value`` (all series) and ``dynamic_quantile_p_value`` (first
        series); ``overlapping_p_value`` (too many breaches over all origins, against simulated overlap;
        missing without overlap); ``excess_p_value_smallest`` over the series; ``zone`` of the median series;
        ``coverage_high_variance`` with its observations (missing without ``realized_variance``); and
        ``worst_loss_to_margin`` with its origin. Without a single observation the measures are missing.

    Raises
    ------
    DataError
        A frame breaks its schema.
    ValueError
        Several close-outs in one call, ``overlap`` below 1, or an unknown column.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=100, tz="UTC").as_unit("us")
    >>> m = pd.DataFrame({"market": "A", "origin": t, "side": "long", "level": 0.99, "horizon": 24,
    ...                   "margin": 0.05, "margin_unlimited": 0.04})
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.02] * 98 + [0.06, 0.10]})
    >>> row = coverage_table(m, x).iloc[0]
    >>> int(row.breaches), float(row.coverage), row.zone, float(row.worst_loss_to_margin)
    (2, 0.98, 'green', 2.0)
    """
    asked = conform(margins, MARGINS, source="backtest")
    if overlap < 1:
        raise ValueError(f"overlap must be at least 1, was {overlap}")
    if column not in {"margin", "margin_unlimited"}:
        raise ValueError(f"column must be 'margin' or 'margin_unlimited', was {column!r}")
    horizons = sorted(set(asked["horizon"]))
    if len(horizons) > 1:
        raise ValueError(f"margins must have one horizon, had {horizons}")
    checked = conform_losses(losses)
    rows = []
    for level, group in asked.groupby("level"):
        held = checked.merge(group[[*ROW, column]], on=ROW, how="left").rename(columns={column: "margin"})
        held = _flag_high(held, realized_variance)
        for (market, side), one in held.groupby(["market", "side"], sort=True):
            if one["margin"].notna().any():
                label = {"market": market, "side": side, "level": level, "horizon": group["horizon"].iloc[0]}
                rows.append(label | _measure(one, level=float(level), overlap=overlap, draws=draws))
    return pd.DataFrame(rows)


def _flag_high(held: pd.DataFrame, realized_variance: pd.DataFrame | None) -> pd.DataFrame:
    if realized_variance is None:
        return held.assign(high=False)
    variance = conform(realized_variance, REALIZED_VARIANCE, source="backtest")
    decided = held.loc[held["margin"].notna() & held["loss"].notna(), ["market", "origin"]].drop_duplicates()
    used = decided.merge(variance, on=["market", "origin"], how="left")
    used["high"] = used.groupby("market")["realized_variance"].rank(pct=True) > HIGH
    flags = held[["market", "origin"]].merge(used, on=["market", "origin"], how="left")["high"]
    return held.assign(high=(flags == True).to_numpy())  # noqa: E712 - missing counts as false


def _measure(one: pd.DataFrame, *, level: float, overlap: int, draws: int) -> dict[str, object]:
    usable = one["loss"].notna() & one["margin"].notna()
    counts = {
        "not_known": int(one["loss"].isna().sum()),
        "without_margin": int((one["loss"].notna() & one["margin"].isna()).sum()),
    }
    x = one[usable]
    hits = (x["loss"] > x["margin"]).to_numpy()
    if not len(hits):
        return {"observations": 0, "breaches": 0, **counts}
    ratio = (x["loss"] / x["margin"]).to_numpy()
    by_origin = np.maximum.reduceat(hits, np.flatnonzero(~x["origin"].duplicated().to_numpy()))
    high = x["high"].to_numpy()
    series = series_of(x, overlap)
    return {
        "observations": len(hits),
        "breaches": int(hits.sum()),
        "coverage": 1 - float(hits.mean()),
        "worst_start_coverage": 1 - float(by_origin.mean()),
        **counts,
        **_tests([hits[i] for i in series], level),
        "overlapping_p_value": _overlapping(x, hits, level, overlap),
        "kupiec_p_value": kupiec(int(hits.sum()), len(hits), level=level).p_value,
        "dynamic_quantile_p_value": _regression(hits, x["margin"].to_numpy(), series[0], level, draws),
        "coverage_high_variance": 1 - float(hits[high].mean()) if high.any() else float("nan"),
        "observations_high_variance": int(high.sum()),
        "worst_loss_to_margin": float(ratio.max()),
        "worst_origin": x["origin"].iloc[int(ratio.argmax())],
    }


def series_of(x: pd.DataFrame, overlap: int) -> list[npt.NDArray[np.int64]]:
    """Return positions of series that share no bar: rows of one start, every ``overlap``-th, in time order.

    Examples
    --------
    >>> [s.tolist() for s in series_of(pd.DataFrame({"start": [0, 1, 0, 1, 0, 1]}), 2)]
    [[0, 4], [2], [1, 5], [3]]
    """
    positions = np.arange(len(x))
    starts = [positions[(x["start"] == s).to_numpy()] for s in np.unique(x["start"])]
    split = [rows[offset::overlap] for rows in starts for offset in range(overlap)]
    return [rows for rows in split if len(rows)]


def _overlapping(x: pd.DataFrame, hits: Hits, level: float, overlap: int) -> float:
    """Return the p-value of too many breaches over all origins of the first start, overlap and all."""
    if overlap == 1:
        return float("nan")
    first = hits[(x["start"] == x["start"].min()).to_numpy()]
    shared = min(overlap, len(first))
    return overlapping_breaches(int(first.sum()), len(first), level=level, overlap=shared).decision_p_value


def _tests(series: list[Hits], level: float) -> dict[str, object]:
    excess = _over(series, lambda h: excess_breaches(int(h.sum()), len(h), level=level).decision_p_value)
    long = [h for h in series if len(h) > 1]
    lights = sorted(
        (traffic_light(int(h.sum()), len(h), level=level) for h in series), key=_probability_of_fewer
    )
    return {
        "series": len(series),
        "two_sided_p_value": combined(
            _over(series, lambda h: kupiec(int(h.sum()), len(h), level=level).decision_p_value)
        ),
        "excess_p_value": combined(excess),
        "excess_p_value_smallest": min(excess),
        "independence_p_value": combined(
            _over(long, lambda h: christoffersen_independence(h).decision_p_value)
        ),
        "conditional_p_value": combined(
            _over(long, lambda h: christoffersen_conditional(h, level=level).decision_p_value)
        ),
        "zone": lights[len(lights) // 2].zone,
    }


def _over(series: list[Hits], test: Callable[[Hits], float]) -> list[float]:
    return [test(h) for h in series]


def combined(p_values: list[float]) -> float:
    """Combine p-values of dependent series: twice the median; one alone stays, none cannot reject.

    References
    ----------
    Rüschendorf, L. (1982). Random variables with maximum sums. Advances in Applied Probability 14.

    Examples
    --------
    >>> combined([0.01, 0.04, 0.9]), combined([0.03]), combined([])
    (0.08, 0.03, 1.0)
    """
    if not p_values:
        return 1.0
    if len(p_values) == 1:
        return p_values[0]
    return min(1.0, 2 * float(np.median(p_values)))


def _probability_of_fewer(light: TrafficLight) -> float:
    return light.cumulative


def _regression(
    hits: Hits, margin: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], level: float, draws: int
) -> float:
    if len(rows) < _REGRESSION_ROWS:
        return 1.0
    return dynamic_quantile(hits[rows], margin[rows], level=level, draws=draws).decision_p_value
