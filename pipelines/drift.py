"""Is the world still the one that the models learned from? Alarms on features, forecast loss and coverage."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import ks_2samp

from calibrator.backtest.coverage import excess_breaches
from calibrator.config_jobs import Action, DriftConfig
from calibrator.scores import qlike
from pipelines.contest import shadow_margins
from pipelines.forecasting import PUBLISHED, Forecasts
from pipelines.production import Production

Array = npt.NDArray[np.float64]
BINS: Final = 10
SMALLEST_SHARE: Final = 1e-3
WATCHED: Final = ("realized_variance", "trailing_variance", "turnover")
"""Features that are watched: what every forecast is made of, and what a book looks like."""
STILL: Final = 0.8
"""Share of equal values at which a feature stands still."""
MOST: Final = 5


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm.

    Attributes
    ----------
    kind : str
        ``features``, ``loss`` or ``coverage``.
    action : str
        Its consequence.
    since : datetime
        Origin from which it holds.
    message : str
    """

    kind: str
    action: Action
    since: datetime
    message: str


def find_drift(production: Production, settings: DriftConfig, *, as_of: datetime) -> list[Alarm]:
    """Hold the last decisions against those before.

    Parameters
    ----------
    production : Production
    settings : DriftConfig
    as_of : datetime
        Time of the alarm.

    Returns
    -------
    list of Alarm
        At most one per kind; none of a kind whose consequence is ``ignore``.
    """
    found: list[tuple[str, Action, str | None]] = [
        ("features", settings.features, feature_drift(production.forecasts, settings, as_of=as_of)),
        ("loss", settings.loss, loss_drift(production.forecasts, settings)),
        ("coverage", settings.coverage, coverage_drift(production, settings)),
    ]
    return [Alarm(k, a, as_of, m) for k, a, m in found if m is not None and a != "ignore"]


def feature_drift(forecasts: Forecasts, settings: DriftConfig, *, as_of: datetime) -> str | None:
    """Say which features of which markets have moved, are missing, stand still, or ended.

    A feature has moved when its population stability index over the recent decisions exceeds the setting,
    the Kolmogorov-Smirnov distance agrees (p < 0.001), its median is ``shift`` times as large or small as
    before, and no equally long window of the reference was as far from the rest of it: volatility has
    seasons, and a season is no drift.
    """
    decisions = forecasts.features[forecasts.features["phase"] == 0]
    reasons = list(_ended(decisions, settings, as_of))
    for market, rows in decisions.groupby("market", sort=True):
        if len(rows) < settings.recent + settings.reference // 2:
            continue
        for name in WATCHED:
            values = rows[name].to_numpy(float)[-(settings.recent + settings.reference) :]
            text = _moved(values, settings)
            if text is not None:
                reasons.append(f"{market} {name} {text}")
    return _listed(reasons)


def _ended(decisions: pd.DataFrame, settings: DriftConfig, as_of: datetime) -> Iterator[str]:
    last = decisions.groupby("market")["time"].max()
    step = decisions["time"].drop_duplicates().sort_values().diff().median()
    for market, time in last.items():
        if pd.Timestamp(as_of) - time > settings.recent * step:
            yield f"{market} has no decision since {time:%Y-%m-%d}"


def _moved(values: Array, settings: DriftConfig) -> str | None:
    before, now = values[: -settings.recent], values[-settings.recent :]
    gone, was_gone = float(np.isnan(now).mean()), float(np.isnan(before).mean())
    if gone > settings.missing and gone > 2 * was_gone:
        return f"is missing in {gone:.0%} of the last {settings.recent} decisions"
    before, now = before[np.isfinite(before)], now[np.isfinite(now)]
    if len(before) < settings.reference // 2 or len(now) < settings.recent // 2:
        return None
    middle = float(np.median(now))
    if (now == middle).mean() > STILL > (before == middle).mean():
        return f"stands still at {middle:.3g}"
    index = stability_index(before, now)
    if index <= settings.psi or ks_2samp(before, now).pvalue >= 0.001:
        return None
    usual = max(_seasons(before, len(now)), default=0.0)
    shift = middle / max(float(np.median(before)), np.finfo(float).tiny)
    if 1 / settings.shift < shift < settings.shift:
        return None
    return f"has moved: PSI {index:.2f}, in the year before at most {usual:.2f}" if index > usual else None


def _seasons(before: Array, length: int) -> Iterator[float]:
    """Stability index of each window of the reference against the rest of it."""
    for at in range(0, len(before) - length + 1, max(1, length // 2)):
        rest = np.concatenate([before[:at], before[at + length :]])
        yield stability_index(rest, before[at : at + length])


def stability_index(before: Array, now: Array) -> float:
    """Return the population stability index, ``sum (q - p) log(q / p)`` over the deciles of ``before``.

    Examples
    --------
    >>> x = np.arange(1000.0)
    >>> round(stability_index(x, x), 3), round(stability_index(x, x + 400), 1)
    (0.0, 2.5)
    """
    edges = np.quantile(before, np.arange(1, BINS) / BINS)
    shares = [np.bincount(np.searchsorted(edges, v), minlength=BINS) / len(v) for v in (before, now)]
    p, q = (np.maximum(s, SMALLEST_SHARE) for s in shares)
    return float(((q - p) * np.log(q / p)).sum())


def loss_drift(forecasts: Forecasts, settings: DriftConfig) -> str | None:
    """Say whether the forecast's loss has risen: a one-sided CUSUM of its daily log QLIKE."""
    index = forecasts.experts.index
    outcome = forecasts.targets.loc[index, "future_variance"]
    forecast = forecasts.experts[PUBLISHED]
    use = (outcome > 0) & (forecast > 0)
    loss = pd.Series(qlike(outcome[use], forecast[use]), forecasts.features.loc[index[use], "time"])
    daily = np.log(loss.groupby(level=0).mean().clip(lower=1e-6)).to_numpy(float)
    before, now = daily[-(settings.recent + settings.reference) : -settings.recent], daily[-settings.recent :]
    if len(before) < settings.reference // 2:
        return None
    peak = cusum((now - before.mean()) / max(float(before.std()), 1e-9), slack=settings.slack)
    return f"CUSUM of log QLIKE reached {peak:.1f}" if peak > settings.cusum else None


def cusum(values: Array, *, slack: float) -> float:
    """Return the largest sum of consecutive values above ``slack``.

    References
    ----------
    Page, E. (1954). Continuous inspection schemes. Biometrika 41.

    Examples
    --------
    >>> cusum(np.array([1.0, 1.0, -3.0, 2.0]), slack=0.5)
    1.5
    """
    total = peak = 0.0
    for value in values:
        total = max(0.0, total + float(value) - slack)
        peak = max(peak, total)
    return peak


def coverage_drift(production: Production, settings: DriftConfig) -> str | None:
    """Say where too many of the last losses exceeded the margin: exact binomial, over all series."""
    origins = pd.DatetimeIndex(sorted({t for d in production.decisions.values() for t in d.table.index}))
    margins = shadow_margins(production, origins[-settings.coverage_window :][0])
    known = margins[margins["loss"].notna()]
    series = list(known.groupby(["market", "side"]))
    reasons = []
    for (market, side), own in series:
        breaches = int((own["loss"] > own["margin"]).sum())
        level = float(own["level"].iloc[0])
        chance = excess_breaches(breaches, len(own), level=level).decision_p_value * len(series)
        if chance < settings.coverage_size:
            reasons.append(f"{market} {side}: {breaches} of {len(own)} losses exceeded the margin")
    return _listed(reasons)


def _listed(reasons: list[str]) -> str | None:
    if not reasons:
        return None
    more = f"; and {len(reasons) - MOST} more" if len(reasons) > MOST else ""
    return "; ".join(reasons[:MOST]) + more
