"""The operator's verbs: publish, refresh and keys, on homes with runs made of whole numbers."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from calibrator.config import load_config
from calibrator.publish.client import anchor_on_first_use, verify_all
from calibrator.publish.document import ParameterDocument, decode, encode
from calibrator.publish.repository import latest
from calibrator.publish.storage import lock
from pipelines.__main__ import app
from pipelines.benchmarks.documents import sample_document
from pipelines.store import config_digest, run_name, save

Verb = Callable[..., Result]
CONFIG = "data: {source: embedded, bar: 1d}\nforecast: {cadence: 1}\nmargin: {close_out: 1}\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path / "home"


@pytest.fixture
def verb(home: Path) -> Verb:
    def run(*arguments: str, config: bool = False) -> Result:
        given = ["--config", str(home.parent / "config.yaml")] if config else []
        return CliRunner().invoke(app, [*arguments, "--home", str(home), *given])

    return run


def finished(home: Path, day: int, *, move: int, previous: ParameterDocument | None) -> ParameterDocument:
    """Write what a run of that day would have written."""
    digest = config_digest(load_config(home.parent / "config.yaml"))
    document = sample_document(
        move_ppm=move, previous=previous, day=day, config_digest=digest, bar_seconds=86_400
    )
    save(_made(home / "runs" / run_name(document.issued_at)) / "parameters.json", encode(document))
    return document


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_what_a_run_made_is_published_once(home: Path, verb: Verb) -> None:
    document = finished(home, 0, move=0, previous=None)
    first, again = verb("publish", config=True), verb("publish", config=True)
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "published: demo sequence 1 from" in first.output
    assert "already published, nothing new" in again.output
    assert latest(home) == document


def test_a_large_move_waits_for_the_second_key(home: Path, verb: Verb, tmp_path: Path) -> None:
    first = finished(home, 0, move=0, previous=None)
    assert verb("publish", config=True).exit_code == 0
    second = finished(home, 30, move=-20_000, previous=first)
    refused = verb("publish", config=True)
    assert refused.exit_code == 5
    assert "needs the approval of a second key" in " ".join(refused.output.split())
    assert latest(home) == first
    key = home / "keys" / "approver.pem"
    assert verb("publish", "--approve", str(key), config=True).exit_code == 0
    assert latest(home) == second
    anchor_on_first_use(tmp_path / "trusted", home / "published")
    seen = verify_all(
        home / "published", trusted=tmp_path / "trusted", now=datetime.now(UTC), as_of=second.issued_at
    )
    assert seen.approved_by is not None


@pytest.mark.parametrize(
    ("move", "code", "match"),
    [(30_000, 5, "max_increase"), (-20_000, 5, "max_decrease")],
)
def test_an_approval_does_not_lift_the_speed_limits(
    home: Path, verb: Verb, move: int, code: int, match: str
) -> None:
    first = finished(home, 0, move=0, previous=None)
    assert verb("publish", config=True).exit_code == 0
    finished(home, 1, move=move, previous=first)
    refused = verb("publish", "--approve", str(home / "keys" / "approver.pem"), config=True)
    assert (refused.exit_code, match in refused.output) == (code, True)
    assert latest(home) == first


def test_an_older_run_is_named_and_refused(home: Path, verb: Verb) -> None:
    first = finished(home, 0, move=0, previous=None)
    assert verb("publish", config=True).exit_code == 0
    finished(home, 1, move=100, previous=first)
    assert verb("publish", config=True).exit_code == 0
    refused = verb("publish", "--as-of", "2025-01-01", config=True)
    assert (refused.exit_code, "sequence must follow 2, was 1" in refused.output) == (5, True)


def test_what_cannot_be_published_is_named(home: Path, verb: Verb) -> None:
    empty = verb("publish", config=True)
    assert (empty.exit_code, "holds no parameters.json" in " ".join(empty.output.split())) == (8, True)
    finished(home, 0, move=0, previous=None)
    missing = verb("publish", "--as-of", "2020-01-01", config=True)
    assert (missing.exit_code, "cannot be read" in missing.output) == (8, True)
    (home.parent / "config.yaml").write_text(CONFIG.replace("margin:", "haircut: {slippage: 0.3}\nmargin:"))
    other = verb("publish", config=True)
    assert (other.exit_code, "another configuration" in " ".join(other.output.split())) == (2, True)
    assert not (home / "published").exists()


def test_the_lock_is_respected(home: Path, verb: Verb) -> None:
    finished(home, 0, move=0, previous=None)
    with lock(home / "publish.lock"):
        assert verb("publish", config=True).exit_code == 6
        assert verb("keys", "rotate", "--role", "targets").exit_code == 6


def test_refresh_signs_again(home: Path, verb: Verb) -> None:
    assert verb("refresh", config=True).exit_code == 8
    document = finished(home, 0, move=0, previous=None)
    verb("publish", config=True)
    timestamp = home / "published" / "metadata" / "timestamp.json"
    before = timestamp.read_bytes()
    assert verb("refresh", config=True).exit_code == 0
    assert timestamp.read_bytes() != before
    assert latest(home) == document


def test_keys_are_created_shown_rotated_and_revoked(home: Path, verb: Verb) -> None:
    assert verb("keys", "create", "--threshold", "targets=2").exit_code == 0
    assert verb("keys", "create").exit_code == 8
    shown = verb("keys", "show").output
    assert "root 1 expires" in shown
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[1:]}
    assert rows["targets"][:3] == ["2", "of", "2"]
    assert verb("keys", "create", "--role", "targets").exit_code == 0
    assert verb("keys", "revoke", rows["targets"][3]).exit_code == 0
    rotated = verb("keys", "rotate", "--role", "timestamp")
    assert (rotated.exit_code, rows["timestamp"][3] in rotated.output) == (0, True)
    again = {line.split()[0]: line.split()[1:] for line in verb("keys", "show").output.splitlines()[1:]}
    assert rows["targets"][3] not in again["targets"]
    assert again["targets"][:3] == ["2", "of", "2"]
    finished(home, 0, move=0, previous=None)
    assert verb("publish", config=True).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["rotate", "--role", "mayor"], "--role must be one of root, targets"),
        (["create", "--threshold", "targets"], "--threshold must be role=N"),
        (["create", "--threshold", "targets=0"], "--threshold must be role=N"),
        (["create", "--threshold", "mayor=1"], "--role must be one of"),
    ],
)
def test_a_wrong_option_is_named(verb: Verb, arguments: list[str], match: str) -> None:
    ended = verb("keys", *arguments)
    assert (ended.exit_code, match in " ".join(ended.output.split())) == (2, True)


def test_a_published_document_is_what_the_run_wrote(home: Path, verb: Verb) -> None:
    document = finished(home, 0, move=0, previous=None)
    verb("publish", config=True)
    (source,) = (home / "runs").glob("*/parameters.json")
    targets = home / "published" / "targets"
    assert source.read_bytes() in {path.read_bytes() for path in targets.glob("*.parameters.json")}
    assert decode(source.read_bytes()) == document
