"""A small market and its walk-forward design, made once; and a world in which every kind of job was done."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from calibrator.config import Config, load_config, load_fetch
from calibrator.data.synthetic import synthetic_bars
from pipelines.benchmarks.data_samples import SAMPLES
from pipelines.calibrate import calibrate
from pipelines.challenge import challenge
from pipelines.fetch_job import fetch
from pipelines.jobs import Now
from pipelines.ledger import Row, open_ledger
from pipelines.publish_job import publish
from pipelines.retrain import retrain
from pipelines.review import write_review
from pipelines.run import run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FEED = "hyperliquid-tiers"
STORE = "mlflow.db"
SMALL = {
    "data": {"source": "embedded", "bar": "1d"},
    "forecast": {
        "horizon": 1, "cadence": 1, "har_window": 400, "garch_window": 300, "learner_refit": 150,
        "garch_refit": 120, "learner_seeds": 1,
    },
    "regime": {"window": 365, "min_window": 120},
    "margin": {"close_out": 1, "tail_window": 300, "tail_min": 60, "plan_steps": 3,
               "tiers": [0, 10_000, 50_000, 200_000]},
}  # fmt: skip
SETTINGS = {
    "data": {"bars": ["bars.parquet"], "bar": "1d", "label": "end"},
    "forecast": {"horizon": 1, "cadence": 1, "har_window": 300, "garch_window": 250, "learner_seeds": 1},
    "regime": {"window": 200, "min_window": 100},
    "margin": {"close_out": 1, "tail_window": 100, "tail_min": 30, "floor_window": 100, "plan_steps": 2,
               "tiers": [0, 10_000, 50_000, 200_000]},
    "backtest": {"accounts": {"count": 20}, "sensitivity": {"mode": "off"}},
    "retrain": {"shadow": 80, "draws": 99, "challengers": {"quick": {"combination_memory": 0.98}}},
}  # fmt: skip
SEEN = {
    "fetch": "current/*",
    "run": "published",
    "retrain": "models/champion.json",
    "calibrate": "runs/*/parameters.json",
    "backtest": "backtests/*/backtest.json",
    "publish": "published",
    "review": "reviews/*/review.html",
}
"""What others see of a kind's work."""


def at_once() -> datetime:
    return NOW


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True)
class World:
    """A folder with bars, a venue's captured file, and a home."""

    place: Path

    @property
    def home(self) -> Path:
        return self.place / "home"

    @property
    def config(self) -> Config:
        return load_config(self.place / "run.yaml")

    def fetch(self, now: Now) -> None:
        fetch(load_fetch(self.place / "run.yaml"), as_of=NOW, now=now, progress=silent)

    def run(self, now: Now) -> None:
        run(self.config, home=self.home, as_of=None, now=now, progress=silent)

    def retrain(self, now: Now) -> None:
        retrain(self.config, home=self.home, as_of=None, now=now, progress=silent)

    def calibrate(self, now: Now) -> None:
        calibrate(self.config, home=self.home, as_of=None, now=now, progress=silent)

    def backtest(self, now: Now) -> None:
        challenge(self.config, home=self.home, as_of=None, now=now, progress=silent)

    def publish(self, now: Now) -> None:
        publish(self.config, home=self.home, as_of=None, now=now, approver=None)

    def review(self, now: Now) -> None:
        write_review(self.home, now=now)

    def start(self, kind: str, now: Now) -> None:
        begin: Callable[[Now], None] = getattr(self, kind)
        begin(now)

    def folder(self, kind: str) -> Path:
        """Where a kind keeps its ledger."""
        return self.place / "data" if kind == "fetch" else self.home

    def rows(self, kind: str) -> list[Row]:
        with open_ledger(self.folder(kind)) as ledger:
            return ledger.rows(job=kind)

    def runs(self, kind: str, where: str = "") -> list[dict[str, Any]]:
        """Return the runs of a kind's store, the oldest first: ``id, name, status`` and tags."""
        with closing(sqlite3.connect(self.folder(kind) / STORE)) as database:
            found = database.execute(
                f"SELECT run_uuid, name, status FROM runs {where} ORDER BY start_time, rowid"  # noqa: S608
            ).fetchall()
            tags = database.execute("SELECT run_uuid, key, value FROM tags").fetchall()
        own = {r: {k: v for other, k, v in tags if other == r} for r, _, _ in found}
        return [{"id": r, "name": name, "status": status} | own[r] for r, name, status in found]

    def parents(self, kind: str) -> list[dict[str, Any]]:
        """Return the parent runs of a kind of job."""
        return [r for r in self.runs(kind) if r.get("job") == kind and "mlflow.parentRunId" not in r]

    def children(self, kind: str) -> list[dict[str, Any]]:
        """Return the children of a kind's only parent."""
        (parent,) = self.parents(kind)
        return [r for r in self.runs(kind) if r.get("mlflow.parentRunId") == parent["id"]]

    def values(self, kind: str, query: str) -> set[str]:
        """Return the first column of a query with the parent's identifier as its only parameter."""
        (parent,) = self.parents(kind)
        with closing(sqlite3.connect(self.folder(kind) / STORE)) as database:
            return {str(row[0]) for row in database.execute(query, (parent["id"],))}

    def track(self, **settings: object) -> None:
        """Set the section ``tracking`` of the configuration."""
        sections = yaml.safe_load((self.place / "run.yaml").read_text())
        (self.place / "run.yaml").write_text(yaml.safe_dump(sections | {"tracking": settings}))

    def made(self, kind: str) -> list[Path]:
        """What others see of a kind's work."""
        return sorted(self.folder(kind).glob(SEEN[kind]))

    def files(self) -> dict[str, str]:
        """Every file but the books that each start is entered in, and the memory of walk-forwards."""
        books = {"ledger.db", "ledger.db-wal", "ledger.db-shm", "metrics.prom", "run.lock"}
        return {
            str(p.relative_to(self.place)): sha256(p.read_bytes()).hexdigest()
            for p in self.place.rglob("*")
            if p.is_file() and p.name not in books and p.parent.name != "walks"
        }


@pytest.fixture(scope="session")
def config() -> Config:
    return Config.model_validate(SMALL)


@pytest.fixture(scope="session")
def daily() -> pd.DataFrame:
    """Daily bars of three markets; the third is listed in the middle."""
    bars = synthetic_bars(["AAA", "BBB", "CCC"], periods=640, bar="1D", seed=11)
    late = (bars["market"] == "CCC") & (bars["time"] < bars["time"].min() + pd.Timedelta("200D"))
    return bars[~late].reset_index(drop=True)


@pytest.fixture(scope="session")
def no_options() -> pd.DataFrame:
    none = pd.DataFrame({"market": pd.Series(dtype="str"), "implied_volatility": pd.Series(dtype="float64")})
    return none.assign(time=pd.Series(dtype="datetime64[us, UTC]"))


@pytest.fixture(scope="session")
def worked(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world in which every kind of job was done once; never change it."""
    place = tmp_path_factory.mktemp("kinds")
    synthetic_bars(["AAA", "BBB"], periods=420, bar="1D", seed=11).to_parquet(place / "bars.parquet")
    sample = SAMPLES[FEED]
    (place / "captured.json").write_text(sample.text)
    source = {
        "name": "tiers", "feed": FEED, "markets": [sample.market], "files": ["captured.json"],
        "from": "2024-01-01", "captured_at": "2024-03-01",
    }  # fmt: skip
    sections = SETTINGS | {"fetch": {"folder": "data", "sources": [source]}}
    (place / "run.yaml").write_text(yaml.safe_dump(sections))
    world = World(place)
    for kind in SEEN:
        world.start(kind, at_once)
    return world


@pytest.fixture
def world(worked: World, tmp_path: Path) -> World:
    """A copy in which MLflow is switched off."""
    ignored = shutil.ignore_patterns(STORE, "mlartifacts")
    shutil.copytree(worked.place, tmp_path / "place", ignore=ignored)
    world = World(tmp_path / "place")
    world.track(enabled=False)
    with closing(sqlite3.connect(world.home / "ledger.db")) as database, database:
        # A page is logged where its retraining was: nowhere.
        database.execute("UPDATE jobs SET facts = json_remove(facts, '$.tracking')")
    return world
