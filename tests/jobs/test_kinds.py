"""The contract of every kind of job: once per input, one at a time, nothing by who is late or overtaken."""

import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from calibrator.config import Config, load_config, load_fetch
from calibrator.data.synthetic import synthetic_bars
from calibrator.errors import CalibratorError, DeadlineError, LockError
from calibrator.publish.storage import lock
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
SETTINGS = {
    "data": {"bars": ["bars.parquet"], "bar": "1d", "label": "end"},
    "forecast": {"horizon": 1, "cadence": 1, "har_window": 300, "garch_window": 250, "learner_seeds": 1},
    "regime": {"window": 200, "min_window": 100},
    "margin": {"close_out": 1, "tail_window": 100, "tail_min": 30, "floor_window": 100, "plan_steps": 2},
    "backtest": {"accounts": {"count": 20}, "sensitivity": {"mode": "off"}},
    "retrain": {"shadow": 80, "draws": 99, "challengers": {"quick": {"combination_memory": 0.98}}},
    "tracking": {"enabled": False},
}  # fmt: skip


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


SEEN = {
    "fetch": "current/*",
    "run": "published",
    "retrain": "models/champion.json",
    "calibrate": "runs/*/parameters.json",
    "backtest": "backtests/*/backtest.json",
    "publish": "published",
    "review": "reviews/*/review.html",
}
KINDS = pytest.mark.parametrize("kind", SEEN)


def at_once() -> datetime:
    return NOW


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
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
def world(finished: World, tmp_path: Path) -> World:
    shutil.copytree(finished.place, tmp_path / "place")
    return World(tmp_path / "place")


@KINDS
def test_the_same_start_again_changes_nothing(world: World, kind: str) -> None:
    before = world.files()
    world.start(kind, at_once)
    assert world.files() == before
    again, first = world.rows(kind)[:2]
    assert (first.state, again.state, again.message) == ("done", "repeated", f"same as job {first.id}")
    assert (again.exit_code, again.key, again.as_of) == (0, first.key, first.as_of)
    assert first.key is not None
    assert first.facts["files"]


@KINDS
def test_what_a_job_made_and_is_gone_is_made_again(world: World, kind: str) -> None:
    before = world.files()
    gone = world.made(kind)
    assert gone
    remove(gone)
    world.start(kind, at_once)
    assert world.made(kind) == gone
    unsigned = {p: d for p, d in before.items() if "/metadata/" not in p}
    assert {p: d for p, d in world.files().items() if "/metadata/" not in p} == unsigned
    # What a venue has is known only after it was asked: a fetch finds out that it has done the same.
    states = ["repeated", "done"] if kind == "fetch" else ["done", "lost"]
    assert [r.state for r in world.rows(kind)][:2] == states


@KINDS
def test_a_second_start_while_one_runs_is_told_to_wait(world: World, kind: str) -> None:
    before = world.files()
    with lock(world.folder(kind) / "run.lock"), pytest.raises(LockError) as refused:
        world.start(kind, at_once)
    assert refused.value.exit_code == 6
    assert world.files() == before


@dataclass
class Overtaken:
    """A clock that, the moment a job is at work, gives the ledger to somebody else."""

    ledger: Path
    calls: int = 0

    def __call__(self) -> datetime:
        self.calls += 1
        with sqlite3.connect(self.ledger) as database:
            database.execute(
                "UPDATE jobs SET state = 'abandoned' WHERE state = 'running'"
                " AND (key IS NOT NULL OR job = 'fetch')"
            )
        database.close()
        return NOW


@dataclass
class Late:
    """A clock that goes half a day at each look."""

    calls: list[datetime] = field(default_factory=lambda: [NOW])

    def __call__(self) -> datetime:
        self.calls.append(self.calls[-1] + timedelta(hours=12))
        return self.calls[-1]


@KINDS
def test_a_job_that_was_overtaken_shows_nothing(world: World, kind: str) -> None:
    remove(world.made(kind))
    with pytest.raises(LockError, match=r"lost the ledger to a later one \(it is abandoned\)"):
        world.start(kind, Overtaken(world.folder(kind) / "ledger.db"))
    assert world.made(kind) == []
    assert world.rows(kind)[0].state == "abandoned"


@KINDS
def test_a_job_past_its_deadline_shows_nothing(world: World, kind: str) -> None:
    remove(world.made(kind))
    with pytest.raises(DeadlineError, match="not done by") as late:
        world.start(kind, Late())
    assert world.made(kind) == []
    row = world.rows(kind)[0]
    assert (row.state, row.exit_code) == ("failed", late.value.exit_code)


def test_a_champion_that_was_taken_back_is_not_named_by_the_same_retraining(world: World) -> None:
    made = retrain(world.config, home=world.home, as_of=None, now=at_once, progress=silent)
    with open_ledger(world.home) as ledger:
        assert made.champion == ledger.decisions()[-1]["model"]


def test_a_document_that_is_not_in_force_is_not_called_published(world: World) -> None:
    """The ledger remembers it; the repository has gone on without it."""
    with open_ledger(world.home) as ledger:
        (row,) = ledger.rows(job="publish")
        ledger.finish(row.id, "done", now=NOW)
    shutil.rmtree(world.home / "published")
    world.publish(at_once)
    assert [r.state for r in world.rows("publish")] == ["done", "lost"]


def test_every_error_has_the_exit_code_that_is_documented() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    codes = {c.exit_code for c in every(CalibratorError)}
    assert codes == {2, 3, 4, 5, 6, 7, 8, 9, 10}
    documented = text[text.index("## Exit codes") :]
    assert all(f"`{code}`" in documented for code in codes | {0})


def every(kind: type[CalibratorError]) -> list[type[CalibratorError]]:
    return [kind, *(c for sub in kind.__subclasses__() for c in every(sub))]


def remove(paths: list[Path]) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
