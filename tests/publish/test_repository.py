"""Publishing: whole or not at all, forwards only, the same bytes for the same inputs."""

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from calibrator.errors import ExpiredError, LockError, PublishError, RollbackError, SignatureError
from calibrator.publish.client import anchor_on_first_use, verify
from calibrator.publish.document import ParameterDocument, encode
from calibrator.publish.keys import ROLES, create_keys
from calibrator.publish.repository import latest, next_sequence, publish, refresh
from calibrator.publish.storage import lock, write_atomically

T = TypeVar("T")
Make = Callable[..., T]
Follow = Callable[[ParameterDocument], ParameterDocument]
NOW = datetime(2025, 1, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def published(home: Path, payload: bytes) -> Path:
    create_keys(home / "keys")
    assert publish(home, payload, now=NOW)
    return home


def test_keys_are_private_and_never_overwritten(home: Path) -> None:
    create_keys(home / "keys")
    assert {p.name for p in (home / "keys").iterdir()} == {f"{role}.pem" for role in (*ROLES, "approver")}
    assert {p.stat().st_mode & 0o777 for p in (home / "keys").iterdir()} == {0o600}
    assert (home / "keys").stat().st_mode & 0o777 == 0o700
    with pytest.raises(PublishError, match="keys are never overwritten"):
        create_keys(home / "keys")
    assert [p.name for p in home.iterdir()] == ["keys"]


def test_an_empty_home_starts_at_one(home: Path) -> None:
    assert latest(home) is None
    assert next_sequence(home) == 1


def test_the_published_file_is_the_payload_in_every_home(tmp_path: Path, payload: bytes) -> None:
    for number in (1, 2):
        home = tmp_path / str(number)
        create_keys(home / "keys")
        publish(home, payload, now=NOW + number * DAY)
    files = [contents(tmp_path / n / "published" / "targets") for n in "12"]
    assert files[0] == files[1]
    assert payload in files[0].values()


def test_the_same_bytes_again_are_a_no_op(published: Path, payload: bytes) -> None:
    before = contents(published / "published")
    assert not publish(published, payload, now=NOW + DAY)
    assert contents(published / "published") == before


def test_documents_follow_each_other(published: Path, follow: Follow, tmp_path: Path) -> None:
    for number in range(2, 5):
        document = latest(published)
        assert document is not None
        assert next_sequence(published) == number
        publish(published, encode(follow(document)), now=NOW + number * DAY)
    anchor_on_first_use(tmp_path / "trusted", published / "published")
    seen = verify(published / "published", trusted=tmp_path / "trusted", now=NOW + 4 * DAY)
    assert seen == latest(published)
    assert seen.sequence == 4


def test_payloads_belong_to_their_document(published: Path, follow: Follow, payload: bytes) -> None:
    second = follow(latest(published))  # type: ignore[arg-type]
    publish(published, encode(second), now=NOW, targets={"aave-v3/steward.json": b"{}"})
    targets = published / "published" / "targets"
    assert len(list((targets / "aave-v3").iterdir())) == 1
    publish(published, encode(follow(second)), now=NOW)
    listed = (published / "published" / "metadata" / "3.targets.json").read_text()
    assert "steward" not in listed
    assert "schemas/parameters-1.schema.json" in listed
    assert payload in contents(targets).values()


@pytest.mark.parametrize(
    "name", ["../x.json", "/etc/x.json", "a//b", "a/../b", ".hidden", "a\\b", "", "a\n", "é"]
)
def test_a_name_cannot_leave_its_folder(published: Path, payload: bytes, name: str) -> None:
    with pytest.raises(PublishError, match="a target name must be a plain relative path"):
        publish(published, payload, now=NOW, targets={name: b"{}"})


@pytest.mark.parametrize(
    ("sequence", "changes", "match"),
    [
        (1, {"data_digest": "e" * 64}, "sequence must be 2 after the published 1, was 1"),
        (2, {"previous_digest": "e" * 64}, "previous_digest must be the published"),
    ],
)
def test_going_back_is_refused(
    published: Path,
    make_document: Make[ParameterDocument],
    sequence: int,
    changes: dict[str, str],
    match: str,
) -> None:
    before = contents(published / "published")
    with pytest.raises(RollbackError, match=match):
        publish(published, encode(make_document(sequence, **changes)), now=NOW)
    assert contents(published / "published") == before


def test_a_clock_that_went_back_is_refused(published: Path, follow: Follow) -> None:
    second = encode(follow(latest(published)))  # type: ignore[arg-type]
    before = contents(published / "published")
    with pytest.raises(PublishError, match="the clock went back"):
        publish(published, second, now=NOW - DAY)
    with pytest.raises(ExpiredError, match="root metadata expired on"):
        publish(published, second, now=NOW + 3_650 * DAY)
    assert contents(published / "published") == before


def test_the_root_is_renewed_in_time_and_consumers_follow(published: Path, tmp_path: Path) -> None:
    trusted, folder = tmp_path / "trusted", published / "published"
    anchor_on_first_use(trusted, folder)
    refresh(published, now=NOW + 320 * DAY)
    assert (folder / "metadata" / "2.root.json").exists()
    refresh(published, now=NOW + 640 * DAY)
    verify(folder, trusted=trusted, now=NOW + 640 * DAY, as_of=NOW)


def test_refresh_keeps_the_document_alive(published: Path, tmp_path: Path, payload: bytes) -> None:
    anchor_on_first_use(tmp_path / "trusted", published / "published")
    later = NOW + 10 * DAY
    with pytest.raises(ExpiredError, match=r"timestamp\.json is expired"):
        verify(published / "published", trusted=tmp_path / "trusted", now=later, as_of=NOW)
    refresh(published, now=later)
    document = verify(published / "published", trusted=tmp_path / "trusted", now=later, as_of=NOW)
    assert encode(document) == payload


def test_two_publishers_do_not_meet(published: Path, follow: Follow) -> None:
    second = encode(follow(latest(published)))  # type: ignore[arg-type]
    with lock(published / "publish.lock"), pytest.raises(LockError, match="held by another process"):
        publish(published, second, now=NOW)
    assert publish(published, second, now=NOW)


@pytest.mark.parametrize(
    ("role", "match"),
    [("targets", "no key of role targets"), ("timestamp", "no key of role timestamp")],
)
def test_a_missing_key_is_refused(published: Path, follow: Follow, role: str, match: str) -> None:
    before = latest(published)
    assert before is not None
    (published / "keys" / f"{role}.pem").unlink()
    with pytest.raises(SignatureError, match=match):
        publish(published, encode(follow(before)), now=NOW)
    assert latest(published) == before


def test_unsafe_and_foreign_keys_are_refused(published: Path, follow: Follow, tmp_path: Path) -> None:
    before = latest(published)
    assert before is not None
    path = published / "keys" / "snapshot.pem"
    path.chmod(0o644)
    with pytest.raises(SignatureError, match="readable by its owner only, has mode 0644"):
        publish(published, encode(follow(before)), now=NOW)
    create_keys(tmp_path / "other")
    (tmp_path / "other" / "snapshot.pem").replace(path)
    with pytest.raises(SignatureError, match="snapshot was signed by 0/1 keys"):
        publish(published, encode(follow(before)), now=NOW)
    path.write_bytes(b"not a key")
    with pytest.raises(SignatureError, match="cannot be read as a private key"):
        publish(published, encode(follow(before)), now=NOW)
    assert latest(published) == before


def test_the_root_key_may_live_elsewhere(published: Path, follow: Follow) -> None:
    (published / "keys" / "root.pem").unlink()
    assert publish(published, encode(follow(latest(published))), now=NOW)  # type: ignore[arg-type]


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """Let the kernel refuse every write beyond ``size`` bytes of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("size", [0, 500, 1_300])
def test_a_full_disk_leaves_what_was_published(published: Path, follow: Follow, size: int) -> None:
    before = latest(published)
    assert before is not None
    timestamp = (published / "published" / "metadata" / "timestamp.json").read_bytes()
    second = encode(follow(before))
    with disk_full_after(size), pytest.raises(PublishError, match="File too large"):
        publish(published, second, now=NOW)
    assert (published / "published" / "metadata" / "timestamp.json").read_bytes() == timestamp
    assert latest(published) == before
    assert not [*published.rglob(".incomplete-*")]
    assert publish(published, second, now=NOW)


@pytest.mark.parametrize("obstacle", ["2.targets.json", "2.snapshot.json"])
def test_failing_between_two_files_leaves_what_was_published(
    published: Path, follow: Follow, obstacle: str
) -> None:
    before = latest(published)
    assert before is not None
    second = encode(follow(before))
    (published / "published" / "metadata" / obstacle).mkdir()
    with pytest.raises(PublishError, match="Is a directory"):
        publish(published, second, now=NOW)
    assert latest(published) == before
    (published / "published" / "metadata" / obstacle).rmdir()
    assert publish(published, second, now=NOW)


def test_a_write_that_fails_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with disk_full_after(10), pytest.raises(OSError, match="File too large"):
        write_atomically(path, b"new" * 100)
    assert contents(tmp_path) == {"file": b"old"}


def test_a_folder_that_cannot_be_written_is_named(home: Path, payload: bytes) -> None:
    create_keys(home / "keys")
    (home / "published").write_bytes(b"a file where a folder belongs")
    with pytest.raises(PublishError, match="published: cannot be read or written"):
        publish(home, payload, now=NOW)
