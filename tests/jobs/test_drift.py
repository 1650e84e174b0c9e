"""Drift, forced: every way in which a feed breaks raises its alarm, and an ordinary month raises none."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.config_jobs import DriftConfig
from calibrator.features import build_features
from pipelines.alarms import watched
from pipelines.drift import coverage_drift, cusum, feature_drift, find_drift, loss_drift
from pipelines.forecasting import CORE, PUBLISHED
from pipelines.jobs import Job, job
from pipelines.ledger import open_ledger
from pipelines.loading import Loaded
from pipelines.production import Production, clock_of, produce
from pipelines.walks import Walker

SETTINGS = DriftConfig(recent=30, reference=250, coverage_window=120)
Change = Callable[[pd.DataFrame], pd.DataFrame]


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


@pytest.fixture(scope="module")
def production(daily: pd.DataFrame, no_options: pd.DataFrame, config: Config) -> Production:
    return produce(daily, no_options, config=config, progress=silent, walker=Walker())


@pytest.fixture(scope="module")
def as_of(daily: pd.DataFrame) -> datetime:
    return daily["time"].max().to_pydatetime()


def late(bars: pd.DataFrame, market: str = "AAA", days: int = 30) -> pd.Series:
    return (bars["market"] == market) & (bars["time"] > bars["time"].max() - pd.Timedelta(days=days))


def spoil(column: str | list[str], change: Callable[[pd.DataFrame], pd.DataFrame]) -> Change:
    def spoilt(bars: pd.DataFrame) -> pd.DataFrame:
        out, rows = bars.copy(), late(bars)
        columns = [column] if isinstance(column, str) else column
        out.loc[rows, columns] = change(out.loc[rows, columns])
        return out

    return spoilt


PRICES = ["open", "high", "low", "close"]
BROKEN: dict[str, tuple[Change, str]] = {
    "NaN feed": (spoil("volume", lambda v: v * np.nan), "AAA turnover is missing"),
    "frozen book": (spoil(PRICES, lambda p: p * 0 + 100.0), "AAA realized_variance stands still"),
    "x100 units": (spoil("volume", lambda v: v * 100), "AAA turnover has moved: PSI"),
    "returns x100": (spoil(PRICES, lambda p: 100 * (p / 100) ** 100), "AAA realized_variance has moved"),
    "missing asset": (lambda bars: bars[~late(bars, "BBB", 40)], "BBB has no decision since"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_feed_raises_the_alarm_of_its_market(
    production: Production, daily: pd.DataFrame, config: Config, as_of: datetime, name: str
) -> None:
    change, says = BROKEN[name]
    features = build_features(change(daily), clock=clock_of(config))
    said = feature_drift(replace(production.forecasts, features=features), SETTINGS, as_of=as_of)
    assert said is not None
    assert says in said


def test_an_ordinary_month_raises_no_alarm(production: Production, as_of: datetime) -> None:
    assert find_drift(production, SETTINGS, as_of=as_of) == []


def test_a_forecast_that_went_wrong_raises_the_loss_alarm(production: Production, as_of: datetime) -> None:
    times = production.forecasts.features.loc[production.forecasts.experts.index, "time"]
    wrong = production.forecasts.experts.copy()
    wrong.loc[times > pd.Timestamp(as_of) - pd.Timedelta("15D"), PUBLISHED] /= 40.0
    broken = replace(production, forecasts=replace(production.forecasts, experts=wrong))
    said = loss_drift(broken.forecasts, SETTINGS)
    assert said is not None
    assert "CUSUM of log QLIKE" in said
    (alarm,) = find_drift(broken, SETTINGS, as_of=as_of)
    assert (alarm.kind, alarm.action) == ("loss", "retrain")
    assert find_drift(broken, SETTINGS.model_copy(update={"loss": "ignore"}), as_of=as_of) == []


def test_breaches_in_a_row_raise_the_coverage_alarm(production: Production, as_of: datetime) -> None:
    losses = production.losses.copy()
    losses.loc[losses["origin"] > pd.Timestamp(as_of) - pd.Timedelta("20D"), "loss"] = 0.9
    said = coverage_drift(replace(production, losses=losses), SETTINGS)
    assert said is not None
    assert "losses exceeded the margin" in said


def test_cusum_is_the_largest_sum_of_a_stretch() -> None:
    values = np.random.default_rng(3).normal(size=60)
    slow = max(max(0.0, float((values[a:b] - 0.3).sum())) for a in range(60) for b in range(a, 61))
    assert cusum(values, slack=0.3) == pytest.approx(slow)


def test_the_coverage_alarm_publishes_no_less_than_the_core_until_it_is_taken_back(
    daily: pd.DataFrame, no_options: pd.DataFrame, config: Config, as_of: datetime, tmp_path: Path
) -> None:
    """Weeks whose moves are twelve times as large as ever: the margins fail, and production falls back."""
    rows = daily["time"] > pd.Timestamp(as_of) - pd.Timedelta("20D")
    wild = daily.copy()
    for _, own in wild[rows].groupby("market"):
        start = float(own["open"].iloc[0])
        wild.loc[own.index, PRICES] = start * (own[PRICES] / start) ** 12
    wild.loc[rows, "high"] = wild.loc[rows, PRICES].max(axis=1)
    wild.loc[rows, "low"] = wild.loc[rows, PRICES].min(axis=1)
    findings = pd.DataFrame({"market": [], "rule": [], "count": []})
    loaded = Loaded(wild, no_options, findings, as_of, "d" * 64)
    settings = config.model_copy(update={"drift": SETTINGS.model_copy(update={"coverage_size": 0.05})})
    now = datetime(2024, 1, 1, tzinfo=UTC)

    def made(work: Job) -> Production:
        return watched(settings, work, loaded, silent)

    with job("run", settings, home=tmp_path, as_of=as_of, now=lambda: now) as work:
        doubted = made(work)
    with open_ledger(tmp_path) as ledger:
        standing = {a["kind"]: a["action"] for a in ledger.standing()}
    assert standing["coverage"] == "core"
    assert 'calibrator_alarms{kind="coverage",action="core"} 1.0' in (tmp_path / "metrics.prom").read_text()
    assert doubted.config.forecast.core_from == as_of
    with open_ledger(tmp_path) as ledger:
        ledger.clear(now=now + timedelta(1), kinds=["coverage", "loss", "features"])
    plain = produce(wild, no_options, config=config, progress=silent, walker=Walker())
    then = plain.forecasts.features.loc[plain.forecasts.experts.index, "time"]
    ours, core = doubted.forecasts.experts, plain.forecasts.experts[list(CORE)].min(axis=1)
    since = then == pd.Timestamp(as_of)
    assert (ours.loc[since, PUBLISHED] >= plain.forecasts.experts.loc[since, PUBLISHED]).all()
    assert (ours.loc[since, PUBLISHED] >= core[since]).all()
    pd.testing.assert_series_equal(
        ours.loc[~since, PUBLISHED], plain.forecasts.experts.loc[~since, PUBLISHED], check_exact=True
    )
