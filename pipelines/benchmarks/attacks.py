"""The attack table: what a consumer must refuse, by which error, keeping the last good document."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from securesystemslib.signer import CryptoSigner
from securesystemslib.signer import Signature as Signed
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from calibrator.errors import ApprovalError, ConstraintError, ExpiredError, PublishError, RollbackError
from calibrator.errors import SignatureError as Signature
from calibrator.publish.client import Audience
from calibrator.publish.document import decode, encode
from calibrator.publish.repository import refresh
from pipelines.benchmarks.attack_stage import PAYLOAD, Stage
from pipelines.benchmarks.documents import DAY, NOW, sample_document

ENDLESS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Attack:
    """One row of the table.

    Attributes
    ----------
    kind : str
        What the literature calls it.
    play : callable
        What the attacker does.
    error, match : type of PublishError, str
        What the consumer must raise, and a regular expression of its message.
    places : tuple of str
        Where it can be played: a folder, a web server.
    """

    kind: str
    play: Callable[[Stage], None]
    error: type[PublishError]
    match: str
    places: tuple[str, ...] = ("folder", "http")

    @property
    def name(self) -> str:
        """Name of the row."""
        return self.play.__name__.strip("_").replace("_", " ")


def _old_timestamp(stage: Stage) -> None:
    shutil.copy(stage.first / "metadata" / "timestamp.json", stage.path("timestamp.json"))


def _old_repository(stage: Stage) -> None:
    shutil.rmtree(stage.folder)
    shutil.copytree(stage.first, stage.folder)


def _old_snapshot_under_a_new_timestamp(stage: Stage) -> None:
    body = Timestamp(3, expires=NOW + DAY, snapshot_meta=MetaFile(1))
    stage.write("timestamp.json", body, stage.signer("timestamp"))


def _old_targets_under_a_new_snapshot(stage: Stage) -> None:
    meta = {"targets.json": MetaFile(1)}
    stage.write("3.snapshot.json", Snapshot(3, expires=NOW + DAY, meta=meta), stage.signer("snapshot"))
    body = Timestamp(3, expires=NOW + DAY, snapshot_meta=MetaFile(3))
    stage.write("timestamp.json", body, stage.signer("timestamp"))


def _old_document_signed_anew(stage: Stage) -> None:
    stage.offer(stage.older)


def _another_document_of_the_same_sequence(stage: Stage) -> None:
    stage.offer(encode(sample_document(previous=decode(stage.older), move_ppm=200)))


def _frozen(stage: Stage) -> None:
    stage.now = NOW + 8 * DAY


def _expired_metadata_signed_anew(stage: Stage) -> None:
    stage.offer(stage.payload, expires=NOW)


def _expired_document(stage: Stage) -> None:
    document = sample_document(previous=decode(stage.payload), expires_at=NOW)
    stage.offer(encode(document), version=3)


def _clock_set_back(stage: Stage) -> None:
    stage.now = NOW - DAY


def _clock_ten_years_ahead(stage: Stage) -> None:
    stage.now = NOW + 3_653 * DAY


def _mixed_metadata(stage: Stage) -> None:
    refresh(stage.home, now=NOW)
    stage.path("3.targets.json").write_bytes(stage.read("1.targets.json"))


def _mixed_document(stage: Stage) -> None:
    stage.target(stage.payload).write_bytes(stage.older)


def _mixed_payload(stage: Stage) -> None:
    stage.target(b'{"sequence":2}', PAYLOAD).write_bytes(b'{"sequence":1}')


def _tampered_document(stage: Stage) -> None:
    path = stage.target(stage.payload)
    path.write_bytes(path.read_bytes().replace(b"50100", b"40100"))


def _tampered_payload(stage: Stage) -> None:
    stage.target(b'{"sequence":2}', PAYLOAD).write_bytes(b'{"sequence":9}')


def _tampered_metadata(stage: Stage) -> None:
    refresh(stage.home, now=NOW)
    value = json.loads(stage.read("timestamp.json"))
    value["signed"]["version"] = 99
    stage.path("timestamp.json").write_text(json.dumps(value))


def _missing_document(stage: Stage) -> None:
    stage.target(stage.payload).unlink()


def _no_document_listed(stage: Stage) -> None:
    stage.offer(stage.payload, name="other.json")


def _truncated_document(stage: Stage) -> None:
    stage.target(stage.payload).write_bytes(stage.payload[:-1])


def _truncated_metadata(stage: Stage) -> None:
    stage.path("timestamp.json").write_bytes(stage.read("timestamp.json")[:-20])


def _oversize_metadata(stage: Stage) -> None:
    stage.path("timestamp.json").write_bytes(stage.read("timestamp.json") + b" " * 20_000)


def _oversize_document(stage: Stage) -> None:
    stage.offer(stage.payload + b" " * ENDLESS)


def _longer_document(stage: Stage) -> None:
    stage.target(stage.payload).write_bytes(stage.payload + b" ")


def _wrong_audience(stage: Stage) -> None:
    stage.offer(encode(sample_document(previous=decode(stage.payload), protocol="aave-v3")))


def _wrong_chain(stage: Stage) -> None:
    stage.offer(encode(sample_document(previous=decode(stage.payload), chain="eip155:1")))


def _unapproved_loosening(stage: Stage) -> None:
    stage.audience = Audience(protocol="demo", max_loosening=0.1)
    stage.offer(encode(sample_document(previous=decode(stage.payload), move_ppm=-20_000)))


def _approval_by_a_daily_key(stage: Stage) -> None:
    stage.audience = Audience(protocol="demo", max_loosening=0.1)
    _forge(stage, stage.signer("targets").sign(b"anything"))


def _approval_of_something_else(stage: Stage) -> None:
    _forge(stage, stage.signer("approver").sign(b"anything"))


def _forge(stage: Stage, signature: Signed) -> None:
    approval = {"keyid": signature.keyid, "sig": signature.signature}
    document = sample_document(previous=decode(stage.payload), move_ppm=-20_000)
    stage.offer(encode(document), custom={"approval": approval})


def _replaced(name: str, old: bytes, new: bytes) -> Callable[[Stage], None]:
    def play(stage: Stage) -> None:
        payload = encode(sample_document(previous=decode(stage.payload)))
        stage.offer(payload.replace(old, new, 1))

    play.__name__ = name
    return play


_duplicate_key: Final = _replaced("duplicate_key", b'"sequence":3', b'"sequence":3,"sequence":4')
_non_canonical: Final = _replaced("non_canonical", b'"sequence":3', b'"sequence": 3')
_not_a_number: Final = _replaced("not_a_number", b'"sequence":3', b'"sequence":NaN')
_a_float: Final = _replaced("a_float", b'"sequence":3', b'"sequence":3.0')
_unknown_field: Final = _replaced("unknown_field", b'"sequence":3', b'"sequence":3,"serial":3')
_unknown_schema: Final = _replaced("unknown_schema", b'"schema_version":1', b'"schema_version":9')


def _under_threshold(stage: Stage) -> None:
    _two_targets_keys(stage)
    stage.offer(stage.payload)


def _same_key_twice(stage: Stage) -> None:
    _two_targets_keys(stage)
    stage.offer(stage.payload)
    value = json.loads(stage.read("3.targets.json"))
    value["signatures"] *= 2
    stage.path("3.targets.json").write_text(json.dumps(value))


def _same_key_under_another_id(stage: Stage) -> None:
    _two_targets_keys(stage)
    stage.offer(stage.payload)
    value, root = json.loads(stage.read("3.targets.json")), json.loads(stage.read("2.root.json"))
    own = value["signatures"][0]
    other = next(k for k in root["signed"]["roles"]["targets"]["keyids"] if k != own["keyid"])
    value["signatures"].append({"keyid": other, "sig": own["sig"]})
    stage.path("3.targets.json").write_text(json.dumps(value))


def _two_targets_keys(stage: Stage) -> None:
    root = stage.root()
    root.add_key(CryptoSigner.generate_ed25519().public_key, "targets")
    root.roles["targets"].threshold = 2
    stage.write("2.root.json", root, stage.signer("root"))


def _unknown_key(stage: Stage) -> None:
    stage.offer(stage.payload, targets_keys=(CryptoSigner.generate_ed25519(),))


def _key_of_another_role(stage: Stage) -> None:
    stage.offer(stage.payload, targets_keys=(stage.signer("timestamp"),))


def _revoked_key(stage: Stage) -> None:
    old, root = stage.signer("targets"), stage.root()
    root.revoke_key(old.public_key.keyid, "targets")
    root.add_key(CryptoSigner.generate_ed25519().public_key, "targets")
    stage.write("2.root.json", root, stage.signer("root"))
    stage.offer(stage.payload, targets_keys=(old,))


def _root_of_a_stranger(stage: Stage) -> None:
    key = CryptoSigner.generate_ed25519()
    root = Root(version=2, expires=NOW + DAY)
    for role in ("root", "targets", "snapshot", "timestamp"):
        root.add_key(key.public_key, role)
    stage.write("2.root.json", root, key)


def _root_skipped(stage: Stage) -> None:
    root = stage.root()
    root.version = 3
    stage.write("2.root.json", root, stage.signer("root"))


def _repository_of_a_stranger(stage: Stage) -> None:
    shutil.rmtree(stage.folder)
    other = Stage.build(stage.place / "other")
    shutil.copytree(other.folder, stage.folder)


def _fast_forward_of_the_timestamp(stage: Stage) -> None:
    body = Timestamp(2**31 - 1, expires=NOW + DAY, snapshot_meta=MetaFile(2))
    stage.write("timestamp.json", body, stage.signer("timestamp"))


def _fast_forward_of_the_snapshot(stage: Stage) -> None:
    body = Timestamp(3, expires=NOW + DAY, snapshot_meta=MetaFile(2**31 - 1))
    stage.write("timestamp.json", body, stage.signer("timestamp"))


def _fast_forward_of_the_targets(stage: Stage) -> None:
    meta = {"targets.json": MetaFile(2**31 - 1)}
    stage.write("3.snapshot.json", Snapshot(3, expires=NOW + DAY, meta=meta), stage.signer("snapshot"))
    body = Timestamp(3, expires=NOW + DAY, snapshot_meta=MetaFile(3))
    stage.write("timestamp.json", body, stage.signer("timestamp"))


def _fast_forward_of_the_sequence(stage: Stage) -> None:
    stage.offer(encode(sample_document(previous=decode(stage.payload), sequence=2**53 - 1)))


def _link_to_another_document(stage: Stage) -> None:
    path = stage.target(stage.payload)
    path.unlink()
    path.symlink_to(stage.target(stage.older))


def _link_to_the_same_document(stage: Stage) -> None:
    elsewhere = stage.home / "elsewhere"
    stage.target(stage.payload).replace(elsewhere)
    stage.target(stage.payload).symlink_to(elsewhere)


def _linked_folder(stage: Stage) -> None:
    (stage.folder / "targets").replace(stage.home / "elsewhere")
    (stage.folder / "targets").symlink_to(stage.home / "elsewhere")


def _linked_metadata(stage: Stage) -> None:
    stage.path("timestamp.json").unlink()
    stage.path("timestamp.json").symlink_to(stage.first / "metadata" / "timestamp.json")


def _pipe_in_place_of_a_document(stage: Stage) -> None:
    stage.target(stage.payload).unlink()
    os.mkfifo(stage.target(stage.payload))


def _name_that_climbs_out(stage: Stage) -> None:
    """List a payload whose name leads out of the folder that a consumer writes payloads to."""
    secret = b"secret"
    value = Metadata[Targets].from_bytes(stage.read("2.targets.json"))
    body = value.signed
    body.version = 3
    listed = dict(body.targets)
    climbing = TargetFile.from_data("../../parameters.json", secret, ["sha256"])
    climbing.unrecognized_fields["custom"] = {"document": "parameters.json", "sequence": 2}
    body.targets = {**listed, "../../parameters.json": climbing}
    stage.write("3.targets.json", body, stage.signer("targets"))
    meta = {"targets.json": MetaFile(3)}
    stage.write("3.snapshot.json", Snapshot(3, expires=NOW + DAY, meta=meta), stage.signer("snapshot"))
    newest = Timestamp(3, expires=NOW + DAY, snapshot_meta=MetaFile(3))
    stage.write("timestamp.json", newest, stage.signer("timestamp"))


LINK: Final = ("folder",)
WEB: Final = ("http",)
ATTACKS: Final = (
    Attack("rollback", _old_timestamp, RollbackError, "New timestamp version 1 must be >= 2"),
    Attack("rollback", _old_repository, RollbackError, "New timestamp version 1 must be >= 2"),
    Attack("rollback", _old_snapshot_under_a_new_timestamp, RollbackError, "snapshot version must be >= 2"),
    Attack("rollback", _old_targets_under_a_new_snapshot, RollbackError, "Expected targets.json version 1"),
    Attack("rollback", _old_document_signed_anew, RollbackError, "was accepted before, offered was 1"),
    Attack("rollback", _another_document_of_the_same_sequence, RollbackError, "was accepted before, offered"),
    Attack("freeze", _frozen, ExpiredError, "timestamp.json is expired; nothing newer was offered"),
    Attack("freeze", _expired_metadata_signed_anew, ExpiredError, "timestamp.json is expired"),
    Attack("freeze", _expired_document, ExpiredError, "keep the last good parameters"),
    Attack("clock", _clock_set_back, PublishError, "the clock went back"),
    Attack("clock", _clock_ten_years_ahead, ExpiredError, "root.json is expired"),
    Attack("mix and match", _mixed_metadata, Signature, "not the one that was signed"),
    Attack("mix and match", _mixed_document, Signature, "not the one that was signed"),
    Attack("mix and match", _mixed_payload, Signature, "not the one that was signed"),
    Attack("tampered", _tampered_document, Signature, "not the one that was signed"),
    Attack("tampered", _tampered_payload, Signature, "not the one that was signed"),
    Attack("tampered", _tampered_metadata, Signature, "timestamp was signed by 0/1 keys"),
    Attack("tampered", _missing_document, PublishError, "not found|404"),
    Attack("tampered", _no_document_listed, PublishError, "holds no document called parameters.json"),
    Attack("truncated", _truncated_document, Signature, "not the one that was signed"),
    Attack("truncated", _truncated_metadata, Signature, "Failed to deserialize JSON"),
    Attack("oversize", _oversize_metadata, PublishError, "exceeding the maximum allowed length"),
    Attack("oversize", _oversize_document, PublishError, "must not exceed 1000000 bytes"),
    Attack("oversize", _longer_document, PublishError, "exceeding the maximum allowed length"),
    Attack("wrong audience", _wrong_audience, ConstraintError, "meant for protocol demo, is for aave-v3"),
    Attack("wrong chain", _wrong_chain, ConstraintError, "meant for chain off-chain, is for eip155:1"),
    Attack("not approved", _unapproved_loosening, ApprovalError, "and no second key approved it"),
    Attack("not approved", _approval_by_a_daily_key, ApprovalError, "and no second key approved it"),
    Attack("not approved", _approval_of_something_else, Signature, "approval of sequence 3 does not verify"),
    Attack("duplicate JSON key", _duplicate_key, PublishError, "duplicate key 'sequence'"),
    Attack("non-canonical JSON", _non_canonical, PublishError, "RFC 8785 form differs"),
    Attack("NaN", _not_a_number, PublishError, "numbers are integers, was NaN"),
    Attack("NaN", _a_float, PublishError, "numbers are integers, was 3.0"),
    Attack("unknown content", _unknown_field, PublishError, "Extra inputs are not permitted"),
    Attack("unknown content", _unknown_schema, PublishError, "has schema_version 9"),
    Attack("under threshold", _under_threshold, Signature, "targets was signed by 1/2 keys"),
    Attack("same key twice", _same_key_twice, Signature, "metadata do not verify"),
    Attack("same key twice", _same_key_under_another_id, Signature, "targets was signed by 1/2 keys"),
    Attack("unknown key", _unknown_key, Signature, "targets was signed by 0/1 keys"),
    Attack("unknown key", _key_of_another_role, Signature, "targets was signed by 0/1 keys"),
    Attack("unknown key", _root_of_a_stranger, Signature, "root was signed by 0/1 keys"),
    Attack("unknown key", _repository_of_a_stranger, Signature, "metadata do not verify"),
    Attack("unknown key", _root_skipped, RollbackError, "Expected root version 2"),
    Attack("revoked key", _revoked_key, Signature, "targets was signed by 0/1 keys"),
    Attack("fast-forward", _fast_forward_of_the_timestamp, RollbackError, "timestamp must not jump"),
    Attack("fast-forward", _fast_forward_of_the_snapshot, RollbackError, "snapshot must not jump"),
    Attack("fast-forward", _fast_forward_of_the_targets, RollbackError, "targets.json must not jump"),
    Attack("fast-forward", _fast_forward_of_the_sequence, RollbackError, "sequence must not exceed"),
    Attack("symlink swap", _link_to_another_document, PublishError, "links are not followed", LINK),
    Attack("symlink swap", _link_to_another_document, Signature, "not the one that was signed", WEB),
    Attack("symlink swap", _link_to_the_same_document, PublishError, "links are not followed", LINK),
    Attack("symlink swap", _linked_folder, PublishError, "links are not followed", LINK),
    Attack("symlink swap", _linked_metadata, PublishError, "links are not followed", LINK),
    Attack("symlink swap", _linked_metadata, RollbackError, "New timestamp version 1 must be >= 2", WEB),
    Attack("symlink swap", _pipe_in_place_of_a_document, PublishError, "must be a regular file", LINK),
    Attack("path traversal", _name_that_climbs_out, PublishError, "must be a plain relative path"),
)
