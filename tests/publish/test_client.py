"""The attack table: a consumer of a real repository refuses each, by name, and keeps what it had."""

import functools
import http.server
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from calibrator.errors import (
    ConstraintError,
    ExpiredError,
    LockError,
    PublishError,
    RollbackError,
    SignatureError,
)
from calibrator.publish.canonical import digest
from calibrator.publish.client import Audience, anchor, anchor_on_first_use, last_good, verify
from calibrator.publish.document import ParameterDocument, encode
from calibrator.publish.keys import create_keys, load_signers
from calibrator.publish.repository import publish, refresh
from calibrator.publish.storage import lock

Follow = Callable[[ParameterDocument], ParameterDocument]
NOW = datetime(2025, 1, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
EXPIRY = datetime(2025, 1, 8, tzinfo=UTC)


class Stage:
    """A publisher's home with two publications, a consumer that saw both, and a copy of the first state."""

    def __init__(self, home: Path, documents: list[bytes]) -> None:
        self.home, self.folder, self.trusted = home, home / "published", home.parent / "trusted"
        self.first = home.parent / "first"
        create_keys(home / "keys")
        publish(home, documents[0], now=NOW)
        shutil.copytree(self.folder, self.first)
        publish(home, documents[1], now=NOW)
        anchor(self.trusted, self.read("1.root.json"))
        verify(self.folder, trusted=self.trusted, now=NOW)
        self.first_payload, self.payload = documents

    def path(self, name: str) -> Path:
        return self.folder / "metadata" / name

    def read(self, name: str) -> bytes:
        return self.path(name).read_bytes()

    def target(self, payload: bytes) -> Path:
        return self.folder / "targets" / f"{digest(payload)}.parameters.json"

    def signer(self, role: str) -> CryptoSigner:
        return load_signers((self.home / "keys",), role)[0]

    def offer(
        self, payload: bytes, *, name: str = "parameters.json", key: CryptoSigner | None = None
    ) -> None:
        """Sign version 3 of everything by hand, past every check of the publisher (a stolen targets key)."""
        expires = NOW + DAY
        file = TargetFile.from_data(name, payload, ["sha256"])
        self.target(payload).write_bytes(payload)
        signed: list[tuple[str, str, Any]] = [
            ("targets", "3.targets.json", Targets(version=3, expires=expires, targets={name: file})),
            ("snapshot", "3.snapshot.json", Snapshot(3, None, expires, {"targets.json": MetaFile(3)})),
            ("timestamp", "timestamp.json", Timestamp(3, None, expires, MetaFile(3))),
        ]
        for role, path, body in signed:
            metadata: Metadata[Any] = Metadata(body)
            metadata.sign(key if key and role == "targets" else self.signer(role))
            metadata.to_file(str(self.path(path)))

    def verify(
        self, *, trusted: Path | None = None, now: datetime = NOW, **options: Any
    ) -> ParameterDocument:
        return verify(self.folder, trusted=trusted or self.trusted, now=now, **options)


@pytest.fixture
def stage(home: Path, make_document: Callable[..., ParameterDocument], follow: Follow) -> Stage:
    first = make_document()
    return Stage(home, [encode(first), encode(follow(first))])


def tampered_target(stage: Stage) -> None:
    path = stage.target(stage.payload)
    path.write_bytes(path.read_bytes().replace(b"50000", b"40000"))


def truncated_target(stage: Stage) -> None:
    stage.target(stage.payload).write_bytes(stage.payload[:-1])


def longer_target(stage: Stage) -> None:
    stage.target(stage.payload).write_bytes(stage.payload + b" ")


def missing_target(stage: Stage) -> None:
    stage.target(stage.payload).unlink()


def linked_target(stage: Stage) -> None:
    elsewhere = stage.home / "elsewhere"
    stage.target(stage.payload).replace(elsewhere)
    stage.target(stage.payload).symlink_to(elsewhere)


def linked_folder(stage: Stage) -> None:
    (stage.folder / "targets").replace(stage.home / "elsewhere")
    (stage.folder / "targets").symlink_to(stage.home / "elsewhere")


def piped_target(stage: Stage) -> None:
    stage.target(stage.payload).unlink()
    os.mkfifo(stage.target(stage.payload))


def tampered_metadata(stage: Stage) -> None:
    refresh(stage.home, now=NOW)
    value = json.loads(stage.read("timestamp.json"))
    value["signed"]["version"] = 99
    stage.path("timestamp.json").write_text(json.dumps(value))


def truncated_metadata(stage: Stage) -> None:
    stage.path("timestamp.json").write_bytes(stage.read("timestamp.json")[:-20])


def oversize_metadata(stage: Stage) -> None:
    stage.path("timestamp.json").write_bytes(stage.read("timestamp.json") + b" " * 20_000)


def old_timestamp(stage: Stage) -> None:
    shutil.copy(stage.first / "metadata" / "timestamp.json", stage.path("timestamp.json"))


def old_repository(stage: Stage) -> None:
    shutil.rmtree(stage.folder)
    shutil.copytree(stage.first, stage.folder)


def old_snapshot_under_a_new_timestamp(stage: Stage) -> None:
    metadata = Metadata(Timestamp(3, None, NOW + DAY, MetaFile(1)))
    metadata.sign(stage.signer("timestamp"))
    metadata.to_file(str(stage.path("timestamp.json")))


def mixed_metadata(stage: Stage) -> None:
    refresh(stage.home, now=NOW)
    stage.path("3.targets.json").write_bytes(stage.read("1.targets.json"))


def unknown_key(stage: Stage) -> None:
    stage.offer(stage.payload, key=CryptoSigner.generate_ed25519())


def wrong_role(stage: Stage) -> None:
    stage.offer(stage.payload, key=stage.signer("timestamp"))


def same_key_twice(stage: Stage) -> None:
    stage.offer(stage.payload)
    value = json.loads(stage.read("3.targets.json"))
    value["signatures"] *= 2
    stage.path("3.targets.json").write_text(json.dumps(value))


def revoked_key(stage: Stage) -> None:
    old, root = stage.signer("targets"), stage.signer("root")
    metadata = Metadata[Root].from_bytes(stage.read("1.root.json"))
    metadata.signed.version = 2
    metadata.signed.revoke_key(old.public_key.keyid, "targets")
    metadata.signed.add_key(CryptoSigner.generate_ed25519().public_key, "targets")
    metadata.sign(root)
    metadata.to_file(str(stage.path("2.root.json")))
    stage.offer(stage.payload, key=old)


def under_threshold(stage: Stage) -> None:
    metadata = Metadata[Root].from_bytes(stage.read("1.root.json"))
    metadata.signed.version = 2
    metadata.signed.add_key(CryptoSigner.generate_ed25519().public_key, "targets")
    metadata.signed.roles["targets"].threshold = 2
    metadata.sign(stage.signer("root"))
    metadata.to_file(str(stage.path("2.root.json")))
    stage.offer(stage.payload)


def root_of_a_stranger(stage: Stage) -> None:
    key = CryptoSigner.generate_ed25519()
    root = Root(version=2, expires=NOW + DAY)
    for role in ("root", "targets", "snapshot", "timestamp"):
        root.add_key(key.public_key, role)
    metadata = Metadata(root)
    metadata.sign(key)
    metadata.to_file(str(stage.path("2.root.json")))


def offered(old: bytes, new: bytes) -> Callable[[Stage], None]:
    def offer(stage: Stage) -> None:
        assert old in stage.payload
        stage.offer(stage.payload.replace(old, new, 1))

    return offer


def oversize_document(stage: Stage) -> None:
    stage.offer(stage.payload + b" " * 1_000_000)


def no_document(stage: Stage) -> None:
    stage.offer(stage.payload, name="other.json")


ATTACKS: list[tuple[Callable[[Stage], None], type[PublishError], str]] = [
    (tampered_target, SignatureError, "not the one that was signed"),
    (truncated_target, SignatureError, "not the one that was signed"),
    (longer_target, PublishError, "exceeding the maximum allowed length"),
    (missing_target, PublishError, "not found in"),
    (linked_target, PublishError, "links are not followed"),
    (linked_folder, PublishError, "links are not followed"),
    (piped_target, PublishError, "must be a regular file"),
    (tampered_metadata, SignatureError, "timestamp was signed by 0/1 keys"),
    (truncated_metadata, SignatureError, "Failed to deserialize JSON"),
    (oversize_metadata, PublishError, "exceeding the maximum allowed length"),
    (old_timestamp, RollbackError, "New timestamp version 1 must be >= 2"),
    (old_repository, RollbackError, "New timestamp version 1 must be >= 2"),
    (old_snapshot_under_a_new_timestamp, RollbackError, "New snapshot version must be >= 2"),
    (mixed_metadata, SignatureError, "not the one that was signed"),
    (unknown_key, SignatureError, "targets was signed by 0/1 keys"),
    (wrong_role, SignatureError, "targets was signed by 0/1 keys"),
    (same_key_twice, SignatureError, "metadata do not verify"),
    (revoked_key, SignatureError, "targets was signed by 0/1 keys"),
    (under_threshold, SignatureError, "targets was signed by 1/2 keys"),
    (root_of_a_stranger, SignatureError, "root was signed by 0/1 keys"),
    (oversize_document, PublishError, "must not exceed 1000000 bytes"),
    (no_document, PublishError, "holds no document called parameters.json"),
    (offered(b'"sequence":2', b'"sequence":2,"sequence":3'), PublishError, "duplicate key 'sequence'"),
    (offered(b'"sequence":2', b'"sequence": 2'), PublishError, "RFC 8785 form differs"),
    (offered(b'"sequence":2', b'"sequence":NaN'), PublishError, "numbers are integers, was NaN"),
    (offered(b'"sequence":2', b'"sequence":2.0'), PublishError, "numbers are integers, was 2.0"),
    (offered(b'"CALM"', b'"ELEVATED"'), RollbackError, "was accepted before"),
    (offered(b'"schema_version":1', b'"schema_version":9'), PublishError, "has schema_version 9"),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "error", "match"), ATTACKS)
def test_the_consumer_refuses(
    stage: Stage, attack: Callable[[Stage], None], error: type[PublishError], match: str
) -> None:
    attack(stage)
    with pytest.raises(error, match=match) as caught:
        stage.verify()
    assert type(caught.value) is error
    kept = last_good(stage.trusted)
    assert kept is not None
    assert encode(kept) == stage.payload


def test_signed_content_that_goes_back_is_refused(
    stage: Stage, make_document: Callable[..., ParameterDocument]
) -> None:
    stage.offer(encode(make_document()))
    with pytest.raises(RollbackError, match=r"sequence 2 .* was accepted before, offered was 1"):
        stage.verify()


def test_freeze_is_noticed_when_the_timestamp_expires(stage: Stage) -> None:
    stage.verify(now=NOW + 6.9 * DAY, as_of=NOW)
    with pytest.raises(ExpiredError, match=r"timestamp\.json is expired; nothing newer was offered"):
        stage.verify(now=NOW + 7.1 * DAY, as_of=NOW)


def test_an_expired_document_says_what_to_do(stage: Stage) -> None:
    with pytest.raises(ExpiredError, match="keep the last good parameters, flagged stale; never loosen"):
        stage.verify(as_of=EXPIRY)
    assert stage.verify(as_of=EXPIRY - timedelta(seconds=1)).sequence == 2


def test_another_audience_is_refused(stage: Stage) -> None:
    assert stage.verify(audience=Audience(protocol="demo")).sequence == 2
    with pytest.raises(
        ConstraintError, match=r"parameters\.json must be meant for protocol aave, is for demo"
    ):
        stage.verify(audience=Audience(protocol="aave"))


@pytest.mark.parametrize("name", ["../../keys/root.pem", "/etc/passwd", "documents/../x"])
def test_a_name_cannot_leave_the_repository(stage: Stage, name: str) -> None:
    with pytest.raises(PublishError, match="a target name must be a plain relative path"):
        stage.verify(name=name)


def test_trust_needs_an_origin(stage: Stage, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    with pytest.raises(SignatureError, match="has no trusted root yet"):
        stage.verify(trusted=fresh)
    with pytest.raises(SignatureError, match="root must be root metadata"):
        anchor(fresh, stage.read("timestamp.json"))
    with pytest.raises(SignatureError, match="metadata do not verify"):
        anchor(fresh, b"{}")
    anchor_on_first_use(fresh, stage.folder)
    anchor(fresh, stage.read("1.root.json"))
    assert stage.verify(trusted=fresh).sequence == 2


def test_an_anchor_is_for_good(stage: Stage, tmp_path: Path) -> None:
    create_keys(tmp_path / "other" / "keys")
    publish(tmp_path / "other", stage.first_payload, now=NOW)
    root = (tmp_path / "other" / "published" / "metadata" / "1.root.json").read_bytes()
    with pytest.raises(SignatureError, match="trusts another root already"):
        anchor(stage.trusted, root)
    with pytest.raises(SignatureError, match="metadata do not verify"):
        verify(tmp_path / "other" / "published", trusted=stage.trusted, now=NOW)


def test_a_consumer_killed_while_relinking_its_root_recovers(stage: Stage) -> None:
    (stage.trusted / "metadata" / "root.json").unlink()
    assert stage.verify().sequence == 2


def test_two_consumers_of_one_memory_do_not_meet(stage: Stage) -> None:
    with lock(stage.trusted / ".lock"), pytest.raises(LockError, match="held by another process"):
        stage.verify()


def test_a_place_that_is_no_repository_is_named(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="must be a published folder"):
        verify(tmp_path / "nothing", trusted=stage.trusted, now=NOW)


def test_times_need_a_zone(stage: Stage) -> None:
    with pytest.raises(ValueError, match="need their zone"):
        stage.verify(now=datetime(2025, 1, 1))  # noqa: DTZ001


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(stage: Stage) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(stage.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_any_web_server_will_do(stage: Stage, server: str, tmp_path: Path) -> None:
    anchor_on_first_use(tmp_path / "remote", server)
    assert encode(verify(server, trusted=tmp_path / "remote", now=NOW)) == stage.payload
    tampered_target(stage)
    with pytest.raises(SignatureError, match="not the one that was signed"):
        verify(server + "/", trusted=tmp_path / "remote", now=NOW)
    assert last_good(tmp_path / "remote") is not None
