"""Drift, forced: every way in which a feed breaks raises its alarm, and an ordinary month raises none."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.config_jobs import Action, DriftConfig, RetrainConfig
from calibrator.features import build_features
from pipelines.alarms import watched
from pipelines.champion import read_champion, with_champion
from pipelines.drift import coverage_drift, cusum, feature_drift, find_drift, loss_drift
from pipelines.forecasting import CORE, PUBLISHED
from pipelines.jobs import Job, job
from pipelines.ledger import open_ledger
from pipelines.loading import Loaded
from pipelines.production import Production, clock_of, produce
from pipelines.shelf import open_shelf
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


Settings = Callable[[Action], Config]
Hold = Callable[[str, Config], tuple[Production, Job]]


@pytest.fixture(scope="module")
def settings(config: Config) -> Settings:
    def made(action: Action) -> Config:
        drift = SETTINGS.model_copy(update={"features": action, "loss": "ignore", "coverage": "ignore"})
        retrain = RetrainConfig(shadow=80, draws=99, challengers={"quick": {"combination_memory": 0.98}})
        return config.model_copy(update={"drift": drift, "retrain": retrain})

    return made


@pytest.fixture(scope="module")
def eve(
    daily: pd.DataFrame, no_options: pd.DataFrame, config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A home that remembers the walk-forward over unbroken bars."""
    home = tmp_path_factory.mktemp("eve")
    with open_shelf(home, reuse=True) as shelf:
        produce(daily, no_options, config=config, progress=silent, walker=Walker(shelf))
    return home


@pytest.fixture
def broken_day(
    daily: pd.DataFrame, no_options: pd.DataFrame, as_of: datetime, eve: Path, tmp_path: Path
) -> Hold:
    """Hold a day's job on a feed that breaks in a named way."""
    home = tmp_path / "home"
    shutil.copytree(eve, home)

    def hold(name: str, config: Config) -> tuple[Production, Job]:
        findings = pd.DataFrame({"market": [], "rule": [], "count": []})
        loaded = Loaded(BROKEN[name][0](daily), no_options, findings, as_of, "d" * 64)
        with job("run", config, home=home, as_of=as_of, now=lambda: TODAY) as work:
            return watched(config, work, loaded, silent), work

    return hold


TODAY = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["NaN feed", "x100 units"])
def test_a_broken_feed_alerts(broken_day: Hold, settings: Settings, name: str) -> None:
    made, work = broken_day(name, settings("alert"))
    with open_ledger(work.home) as ledger:
        (alarm,) = ledger.standing()
        assert ledger.ordered("retrain") == []
    assert (alarm["kind"], alarm["action"]) == ("features", "alert")
    assert BROKEN[name][1] in alarm["message"]
    assert BROKEN[name][1] in work.facts["alarms"][0]
    gauge = 'calibrator_alarms{kind="features",action="alert"} 1.0'
    assert gauge in (work.home / "metrics.prom").read_text()
    assert made.config.forecast.core_from is None
    assert not (work.home / "models").exists()


@pytest.mark.parametrize("name", ["NaN feed", "frozen book", "x100 units", "missing asset"])
def test_a_broken_feed_has_a_retraining_held_at_once(broken_day: Hold, settings: Settings, name: str) -> None:
    made, work = broken_day(name, settings("retrain"))
    (contest,) = (work.home / "reviews").glob("*/contest.json")
    assert {v["name"] for v in json.loads(contest.read_text())["verdicts"]} == {"quick"}
    champion = read_champion(work.home)
    assert champion is not None
    assert work.facts["champion"] == champion.id
    assert "retrain: done because of an alarm" in work.facts["alarms"][-1]
    with open_ledger(work.home) as ledger:
        assert ledger.ordered("retrain") == []
        assert ledger.last_order("retrain") is not None
        (decided,) = {d["model"] for d in ledger.decisions()}
    assert decided == champion.id
    assert made.config.forecast == with_champion(settings("retrain"), work.home).forecast


@pytest.mark.parametrize("name", ["frozen book", "missing asset"])
def test_a_broken_feed_falls_back_to_the_core(
    broken_day: Hold,
    settings: Settings,
    as_of: datetime,
    name: str,
) -> None:
    made, _ = broken_day(name, settings("core"))
    assert made.config.forecast.core_from == as_of
    rows = made.forecasts.features.loc[made.forecasts.experts.index, "time"] == pd.Timestamp(as_of)
    today = made.forecasts.experts[rows]
    assert len(today)
    assert (today[PUBLISHED] >= today[list(CORE)].min(axis=1)).all()


def test_an_order_waits_where_time_is_short_and_is_not_given_twice(
    broken_day: Hold, settings: Settings
) -> None:
    """Less than half of the deadline is left: the order stays, and tomorrow's job holds the retraining."""
    config = settings("retrain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "has_time", lambda _: False)
        _, work = broken_day("x100 units", config)
    assert "too little time" in work.facts["alarms"][-1]
    with open_ledger(work.home) as ledger:
        assert len(ledger.ordered("retrain")) == 1
    assert not (work.home / "models").exists()
    for _ in range(2):
        broken_day("x100 units", config)
        with open_ledger(work.home) as ledger:
            assert ledger.ordered("retrain") == []
            assert len(ledger.decisions()) == 1


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
