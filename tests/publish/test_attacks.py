"""The attack table: a consumer of a real repository refuses each row, by name, and keeps what it had.

Every row is played twice: against a folder, and against the same folder behind a web server on loopback.
"""

import http.server
import shutil
import threading
import time

import pytest

from calibrator.errors import PublishError
from calibrator.publish.client import verify
from calibrator.publish.document import decode, encode
from calibrator.publish.repository import publish
from calibrator.publish.rotation import Keyring, rotate
from pipelines.benchmarks.attack_stage import Stage, located, served
from pipelines.benchmarks.attacks import ATTACKS, Attack
from pipelines.benchmarks.documents import NOW, sample_document

ROWS = [(attack, place) for attack in ATTACKS for place in attack.places]
KINDS = {
    "rollback", "freeze", "mix and match", "tampered", "truncated", "oversize", "wrong audience",
    "wrong chain", "duplicate JSON key", "non-canonical JSON", "NaN", "under threshold", "same key twice",
    "unknown key", "revoked key", "fast-forward", "symlink swap", "path traversal",
}  # fmt: skip


@pytest.mark.parametrize(("attack", "place"), ROWS, ids=[f"{a.kind}: {a.name} ({p})" for a, p in ROWS])
def test_the_consumer_refuses(stage: Stage, attack: Attack, place: str) -> None:
    attack.play(stage)
    with (
        located(stage, place) as location,
        pytest.raises(PublishError, match=attack.match) as caught,
    ):
        stage.check(location)
    assert type(caught.value) is attack.error
    assert stage.kept()
    assert not (stage.trusted / "documents" / "other.json").exists()


def test_the_table_has_every_kind_of_attack() -> None:
    assert {attack.kind for attack in ATTACKS} >= KINDS


def test_without_an_attack_the_consumer_accepts(stage: Stage) -> None:
    assert stage.check().document.sequence == 2
    with served(stage.folder) as address:
        assert stage.check(address).targets == {"demo/payload.json": b'{"sequence":2}'}


class _Endless(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if not self.path.endswith("timestamp.json"):
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b" " * 65_536)
        except OSError:  # the consumer has hung up
            return None


class _Broken(_Endless):
    def do_GET(self) -> None:
        self.send_error(503)


@pytest.mark.parametrize(
    ("handler", "match"), [(_Endless, "exceeding the maximum allowed length"), (_Broken, "503")]
)
def test_a_server_that_misbehaves_is_left(stage: Stage, handler: type, match: str) -> None:
    with served(stage.folder, handler) as address, pytest.raises(PublishError, match=match):
        stage.check(address)
    assert stage.kept()


def test_a_folder_swapped_for_a_link_while_it_is_read_changes_nothing(stage: Stage) -> None:
    evil = stage.place / "evil"
    shutil.copytree(stage.first / "targets", evil)
    stage.target(stage.payload).replace(stage.place / "kept")
    shutil.copy(stage.place / "kept", stage.target(stage.payload))
    (evil / stage.target(stage.payload).name).write_bytes(stage.older)
    stop = threading.Event()

    def swap() -> None:
        targets, away, link = stage.folder / "targets", stage.place / "away", stage.place / "link"
        while not stop.is_set():
            link.symlink_to(evil)
            targets.rename(away)
            link.rename(targets)
            time.sleep(0.0005)
            targets.unlink()
            away.rename(targets)
            time.sleep(0.0005)

    swapper = threading.Thread(target=swap)
    swapper.start()
    seen = set()
    try:
        for _ in range(60):
            try:
                seen.add(verify(stage.folder, trusted=stage.trusted, now=NOW).sequence)
            except PublishError:
                seen.add(0)
            assert stage.kept()
    finally:
        stop.set()
        swapper.join()
    assert seen <= {0, 2}


def test_new_keys_undo_a_fast_forward(stage: Stage) -> None:
    """A thief of all daily keys signs versions far ahead; rotation makes consumers forget them."""

    shutil.copytree(stage.folder, stage.place / "mine")
    stolen = encode(sample_document(previous=decode(stage.payload), sequence=800_000, move_ppm=5))
    stage.offer(stolen, version=900_000)
    assert stage.check().document.sequence == 800_000
    shutil.rmtree(stage.folder)
    shutil.copytree(stage.place / "mine", stage.folder)
    with pytest.raises(PublishError, match="must be >= 900000"):
        stage.check()
    for role in ("timestamp", "snapshot", "targets"):
        rotate(Keyring(stage.home, NOW), role)
    publish(stage.home, encode(sample_document(previous=decode(stage.payload))), now=NOW)
    assert stage.check().document.sequence == 3
