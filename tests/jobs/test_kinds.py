"""The contract of every kind of job: once per input, one at a time, nothing by who is late or overtaken."""

import shutil
import sqlite3
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from calibrator.errors import CalibratorError, DeadlineError, LockError
from calibrator.publish.storage import lock
from pipelines.ledger import open_ledger
from pipelines.retrain import retrain

NOW = datetime(2026, 1, 1, tzinfo=UTC)
World = Any
"""Of ``conftest.py``."""


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


KINDS = pytest.mark.parametrize(
    "kind", ["fetch", "run", "retrain", "calibrate", "backtest", "publish", "review"]
)


def at_once() -> datetime:
    return NOW


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
    assert world.rows(kind)[0].facts.get("mlflow_run") is None
    assert not list(world.place.rglob("mlflow.db"))


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
