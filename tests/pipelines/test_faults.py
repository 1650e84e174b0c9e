"""Faults, one per cent of the full counts: nothing torn, nothing backwards, and a control that does tear."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from calibrator.errors import PublishError
from calibrator.publish import repository, signing
from calibrator.publish.client import verify
from calibrator.publish.document import decode, encode
from calibrator.publish.keys import create_keys
from calibrator.publish.repository import latest, publish
from calibrator.publish.storage import write_atomically
from pipelines.__main__ import app
from pipelines.benchmarks import consumer, faults
from pipelines.benchmarks.attack_stage import PAYLOAD, Stage
from pipelines.benchmarks.documents import NOW, sample_document
from pipelines.benchmarks.faults import (
    Fault,
    attack_rows,
    disk_full,
    isolation,
    kill_campaign,
    read_only,
    wrong_clocks,
)
from pipelines.benchmarks.victim import publish_next


def quiet(what: str, done: int, total: int) -> None:
    assert (what, done <= total) == (what, True)


@pytest.mark.parametrize(("kind", "rounds"), [("publish", 5), ("rotate", 2), ("verify", 2)])
def test_kill_9_leaves_nothing_torn_and_nothing_backwards(tmp_path: Path, kind: str, rounds: int) -> None:
    left = kill_campaign(kind, rounds, tmp_path, progress=quiet)
    assert (left.rounds, left.torn, left.backwards) == (rounds, 0, 0)


class Killed(Exception):  # noqa: N818 # not an error: the end of a process
    pass


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage.build(tmp_path / "stage")


def test_wherever_the_writer_dies_a_consumer_sees_the_old_or_the_new(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    payload = encode(sample_document(previous=decode(stage.payload)))
    seen = []
    for writes in range(8):
        here, left = stage.copy(tmp_path / str(writes)), writes

        def write(path: Path, data: bytes, **options: int) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            write_atomically(path, data, **options)

        for module in (repository, signing):
            monkeypatch.setattr(module, "write_atomically", write)
        try:
            publish(here.home, payload, now=NOW, targets={PAYLOAD: b"{}"})
        except Killed:
            seen.append(here.check().document.sequence)
            monkeypatch.undo()
            assert publish(here.home, payload, now=NOW, targets={PAYLOAD: b"{}"})
        assert here.check().document.sequence == 3
    assert seen == [2] * 6  # payload, schema, document, targets, snapshot, timestamp


def test_the_naive_writer_tears(stage: Stage) -> None:
    """The control: the same files, copied one after the other to where they are served."""
    served = stage.place / "served"
    shutil.copytree(stage.folder, served)
    publish_next(stage.home)
    torn = 0
    for path in sorted(path for path in stage.folder.rglob("*") if path.is_file()):
        copy, data = served / path.relative_to(stage.folder), path.read_bytes()
        for part in (data[: len(data) // 2], data):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(part)
            try:
                verify(served, trusted=stage.trusted, now=NOW)
            except PublishError:
                torn += 1
    assert torn > 0
    assert verify(served, trusted=stage.trusted, now=NOW).sequence == 3


@pytest.fixture
def home(tmp_path: Path) -> Path:
    create_keys(tmp_path / "home" / "keys")
    publish_next(tmp_path / "home")
    return tmp_path / "home"


def test_wrong_clocks_end_typed_and_leave_the_last_good(home: Path) -> None:
    back, ahead = wrong_clocks(home)
    assert (back.exit_code, back.untouched) == (8, True)
    assert back.message.startswith("PublishError: the clock went back")
    assert (ahead.exit_code, ahead.untouched) == (7, True)
    assert ahead.message.startswith("ExpiredError: HOME/published: root metadata expired")


def isolated(fault: Fault, message: str) -> None:
    assert (fault.exit_code, fault.untouched) == (8, True)
    assert message in fault.message


def test_a_disk_that_is_full_leaves_the_last_good(home: Path, tmp_path: Path) -> None:
    if not isolation():
        pytest.skip("this system lets no process mount a disk of its own")
    isolated(disk_full(home, 72, tmp_path / "disk"), "No space left on device")


def test_a_folder_that_is_read_only_leaves_the_last_good(home: Path, tmp_path: Path) -> None:
    if not isolation():
        pytest.skip("this system lets no process mount a folder for itself")
    isolated(read_only(home, tmp_path / "mount"), "Read-only file system")


def test_the_table_of_attacks_says_how_each_was_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(faults, "ATTACKS", faults.ATTACKS[:2])
    rows = attack_rows(tmp_path, progress=quiet)
    assert [row["consumer"] for row in rows] == ["RollbackError"] * 4


def test_the_consumers_table_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "SIZES_KB", (10, 20))
    ended = CliRunner().invoke(
        app, ["benchmark", "consumer", "--scale", "0.001", "--home", str(tmp_path)], env={"COLUMNS": "300"}
    )
    assert ended.exit_code == 0, ended.output
    page = (tmp_path / "benchmarks" / "consumer" / "consumer.md").read_text()
    assert "15 markets | decode |" in page
    assert "| calibrator verify, 200 kB |" in page
    assert latest(tmp_path) is None
