"""Changes of keys: no consumer is refused at any moment, and what is gone signs nothing any more."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root

from calibrator.errors import ExpiredError, PublishError, SignatureError
from calibrator.publish import signing
from calibrator.publish.approval import approvers
from calibrator.publish.client import anchor
from calibrator.publish.document import decode, encode
from calibrator.publish.keys import APPROVER, ROLES, load_signers
from calibrator.publish.repository import latest, publish, refresh
from calibrator.publish.rotation import Keyring, add, create, revoke, rotate, trusted_keys
from calibrator.publish.storage import write_atomically
from pipelines.benchmarks.attack_stage import Stage
from pipelines.benchmarks.documents import DAY, NOW, sample_document


def ring(stage: Stage, **options: Path) -> Keyring:
    return Keyring(stage.home, NOW, **options)


def publish_next(stage: Stage) -> int:
    document = latest(stage.home)
    assert document is not None
    publish(stage.home, encode(sample_document(previous=document)), now=NOW)
    return stage.check().document.sequence


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("role", ROLES)
def test_a_rotated_key_signs_no_more_and_consumers_follow(stage: Stage, role: str) -> None:
    (old,) = load_signers((stage.home / "keys",), role)
    gone, (came,) = rotate(ring(stage), role)
    assert gone == [old.public_key.keyid]
    root, keys = trusted_keys(stage.home)
    assert (root.version, keys[role]) == (2, [came])
    assert [s.public_key.keyid for s in load_signers((stage.home / "keys",), role)] == [came]
    assert len(list((stage.home / "keys" / "retired").iterdir())) == 1
    assert stage.check().document.sequence == 2
    assert publish_next(stage) == 3


class Killed(Exception):  # noqa: N818 # not an error: the end of a process
    pass


def killed_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    done = 0

    def write(path: Path, data: bytes, **options: int) -> None:
        nonlocal done
        if done == writes:
            raise Killed
        done += 1
        write_atomically(path, data, **options)

    monkeypatch.setattr(signing, "write_atomically", write)
    return lambda: done


@pytest.mark.parametrize("role", ROLES)
def test_no_consumer_is_refused_wherever_a_rotation_dies(
    stage: Stage, role: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    writes = 0
    while True:
        here = stage.copy(tmp_path / f"after-{writes}")
        killed_after(writes, monkeypatch)
        try:
            rotate(ring(here), role)
        except Killed:
            assert here.check().document.sequence == 2
            monkeypatch.undo()
            rotate(ring(here), role)  # the operator tries again
            assert here.check().document.sequence == 2
            assert trusted_keys(here.home)[0].version == 2
            assert len(load_signers((here.home / "keys",), role)) == 1
            assert publish_next(here) == 3
            writes += 1
        else:
            break
    assert writes == 4  # targets, snapshot, timestamp, root


def test_a_retired_key_is_not_trusted_again(stage: Stage) -> None:
    rotate(ring(stage), "targets")
    (retired,) = (stage.home / "keys" / "retired").iterdir()
    shutil.copy(retired, stage.home / "keys" / "targets-7.pem")
    _, (came,) = rotate(ring(stage), "targets")
    assert came not in retired.name
    assert publish_next(stage) == 3


def test_a_role_of_two_signatures_needs_both(stage: Stage) -> None:
    add(ring(stage), "targets", threshold=2)
    assert publish_next(stage) == 3
    (stage.home / "keys" / "targets-2.pem").rename(stage.place / "away.pem")
    document = latest(stage.home)
    assert document is not None
    with pytest.raises(SignatureError, match="targets was signed by 1/2 keys"):
        publish(stage.home, encode(sample_document(previous=document)), now=NOW)
    assert stage.check().document.sequence == 3


def test_a_key_is_revoked_when_enough_are_left(stage: Stage) -> None:
    (old,) = load_signers((stage.home / "keys",), "targets")
    with pytest.raises(PublishError, match="role targets needs 1 signatures and would have 0 keys"):
        revoke(ring(stage), old.public_key.keyid)
    add(ring(stage), "targets")
    assert revoke(ring(stage), old.public_key.keyid[:10]) == ["targets"]
    assert publish_next(stage) == 3
    with pytest.raises(PublishError, match="matches 0"):
        revoke(ring(stage), old.public_key.keyid)


@pytest.mark.parametrize("keyid", ["", "abc", "ffffffffff"])
def test_a_key_that_is_not_unmistakable_is_not_revoked(stage: Stage, keyid: str) -> None:
    before = contents(stage.folder)
    with pytest.raises(PublishError, match="must be 8 digits or more and match one trusted key"):
        revoke(ring(stage), keyid)
    assert contents(stage.folder) == before


def test_a_lost_private_key_can_be_revoked(stage: Stage) -> None:
    (old,) = load_signers((stage.home / "keys",), "timestamp")
    add(ring(stage), "timestamp")
    (stage.home / "keys" / "timestamp.pem").unlink()
    revoke(ring(stage), old.public_key.keyid)
    assert publish_next(stage) == 3


def test_the_root_key_is_needed_and_may_live_elsewhere(stage: Stage) -> None:
    safe = stage.place / "safe"
    safe.mkdir(mode=0o700)
    (stage.home / "keys" / "root.pem").rename(safe / "root.pem")
    before = contents(stage.folder)
    with pytest.raises(SignatureError, match="no key of role root"):
        rotate(ring(stage), "timestamp")
    assert contents(stage.folder) == before
    rotate(ring(stage, root_keys=safe), "timestamp")
    rotate(ring(stage, root_keys=safe), "root")
    assert not list((stage.home / "keys").glob("root*.pem"))
    assert sorted(path.name for path in safe.glob("*.pem")) == ["root-2.pem"]
    assert stage.check().document.sequence == 2


def test_approvers_are_changed_by_the_root_only(stage: Stage) -> None:
    (first,) = trusted_keys(stage.home)[1][APPROVER]
    second = add(ring(stage), APPROVER)
    assert set(trusted_keys(stage.home)[1][APPROVER]) == {first, second}
    assert revoke(ring(stage), first) == [APPROVER]
    gone, (came,) = rotate(ring(stage), APPROVER)
    root = trusted_keys(stage.home)[0]
    assert (gone, list(approvers(root)), root.version) == ([second], [came], 4)


def test_a_daily_key_is_no_approver(stage: Stage) -> None:
    root = trusted_keys(stage.home)[0]
    daily = load_signers((stage.home / "keys",), "targets")[0].public_key
    root.unrecognized_fields["x-approvers"][daily.keyid] = daily.to_dict()
    assert daily.keyid not in approvers(root)
    root.unrecognized_fields["x-approvers"] = ["nonsense"]
    with pytest.raises(SignatureError, match="approvers cannot be read"):
        approvers(root)


def test_keys_and_root_are_made_before_the_first_publication(tmp_path: Path) -> None:
    home = tmp_path / "home"
    path = create(Keyring(home, NOW), {"targets": 2, "root": 3})
    root = Metadata[Root].from_bytes(path.read_bytes()).signed
    assert {role: (root.roles[role].threshold, len(root.roles[role].keyids)) for role in ROLES} == {
        "root": (3, 3),
        "targets": (2, 2),
        "snapshot": (1, 1),
        "timestamp": (1, 1),
    }
    anchor(tmp_path / "trusted", path.read_bytes())
    publish(home, encode(sample_document()), now=NOW)
    with pytest.raises(PublishError, match="has a root already"):
        create(Keyring(home, NOW), {})


def test_changes_need_a_root_in_force(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="has no root yet"):
        rotate(Keyring(tmp_path / "nothing", NOW), "targets")
    with pytest.raises(PublishError, match="has no root yet"):
        trusted_keys(tmp_path / "nothing")
    with pytest.raises(PublishError, match="the clock went back"):
        rotate(Keyring(stage.home, NOW - DAY), "targets")
    assert decode(stage.payload) == stage.check().document


def test_an_expired_root_is_followed_by_the_next_one(stage: Stage) -> None:
    late = NOW + 400 * DAY
    with pytest.raises(ExpiredError, match="root metadata expired on"):
        refresh(stage.home, now=late)
    rotate(Keyring(stage.home, late), "timestamp")
    refresh(stage.home, now=late)
    stage.now = late
    assert stage.check().document.sequence == 2
