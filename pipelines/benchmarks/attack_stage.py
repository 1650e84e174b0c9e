"""Where attacks are played: a publisher, a consumer that saw its two publications, an attacker with keys.

Everything is real: the repository on disk, its signatures, the consumer's memory, the web server.
"""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from calibrator.publish.canonical import digest
from calibrator.publish.client import Audience, Verified, anchor, last_good, verify_all
from calibrator.publish.document import encode
from calibrator.publish.keys import create_keys, load_signers
from calibrator.publish.repository import publish
from pipelines.benchmarks.documents import DAY, NOW, sample_document

PAYLOAD = "demo/payload.json"


class Stage:
    """A publisher's home, what it published first (``first``), and a consumer's memory (``trusted``).

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     stage = Stage.build(Path(place))
    ...     stage.check().document.sequence
    2
    """

    def __init__(self, place: Path) -> None:
        self.place, self.home = place, place / "home"
        self.folder, self.trusted, self.first = self.home / "published", place / "trusted", place / "first"
        first = sample_document()
        self.older = encode(first)
        self.payload = encode(sample_document(previous=first, move_ppm=100))
        self.now, self.audience = NOW, Audience(protocol="demo", chain="off-chain")

    @classmethod
    def build(cls, place: Path) -> "Stage":
        """Publish twice and let the consumer see both."""
        stage = cls(place)
        create_keys(stage.home / "keys")
        publish(stage.home, stage.older, now=NOW, targets={PAYLOAD: b'{"sequence":1}'})
        shutil.copytree(stage.folder, stage.first)
        anchor(stage.trusted, stage.read("1.root.json"))
        stage.check()
        publish(stage.home, stage.payload, now=NOW, targets={PAYLOAD: b'{"sequence":2}'})
        stage.check()
        return stage

    def copy(self, place: Path) -> "Stage":
        """Return the same stage at another place."""
        shutil.copytree(self.place, place, symlinks=True, dirs_exist_ok=True)
        return Stage(place)

    def check(self, location: str | Path | None = None) -> Verified:
        """Verify as the consumer does."""
        place = self.folder if location is None else location
        return verify_all(place, trusted=self.trusted, now=self.now, as_of=NOW, audience=self.audience)

    def kept(self) -> bool:
        """Say whether the consumer still has the last good document, byte for byte."""
        document = last_good(self.trusted)
        return document is not None and encode(document) == self.payload

    def path(self, name: str) -> Path:
        """Return the path of a metadata file."""
        return self.folder / "metadata" / name

    def read(self, name: str) -> bytes:
        """Return the bytes of a metadata file."""
        return self.path(name).read_bytes()

    def target(self, payload: bytes, name: str = "parameters.json") -> Path:
        """Return the path of a target."""
        head, slash, base = name.rpartition("/")
        return self.folder / "targets" / f"{head}{slash}{digest(payload)}.{base}"

    def signer(self, role: str) -> CryptoSigner:
        """Return a stolen key."""
        return load_signers((self.home / "keys",), role)[0]

    def offer(self, payload: bytes, *, name: str = "parameters.json", **options: Any) -> None:
        """Sign the next version of everything by hand, past every check of the publisher.

        Options: ``targets_keys`` (signers of the targets), ``custom`` (fields of the target), ``version``
        (of all metadata), ``expires``.
        """
        version, expires = options.get("version", 3), options.get("expires", NOW + 7 * DAY)
        file = TargetFile.from_data(name, payload, ["sha256"])
        file.unrecognized_fields["custom"] = options.get("custom", {})
        path = self.folder / "targets" / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self.target(payload).write_bytes(payload)
        signed: list[tuple[str, str, Any]] = [
            ("targets", f"{version}.targets.json", Targets(version, expires=expires, targets={name: file})),
            (
                "snapshot",
                f"{version}.snapshot.json",
                Snapshot(version, expires=expires, meta={"targets.json": MetaFile(version)}),
            ),
            (
                "timestamp",
                "timestamp.json",
                Timestamp(version, expires=expires, snapshot_meta=MetaFile(version)),
            ),
        ]
        for role, written, body in signed:
            stolen = options.get("targets_keys", ()) if role == "targets" else ()
            self.write(written, body, *(stolen or (self.signer(role),)))

    def write(self, name: str, body: Any, *signers: CryptoSigner) -> None:
        """Sign and write metadata."""
        metadata: Metadata[Any] = Metadata(body)
        for signer in signers:
            metadata.sign(signer, append=True)
        metadata.to_file(str(self.path(name)))

    def root(self) -> Root:
        """Return a draft of the next root."""
        root = Metadata[Root].from_bytes(self.read("1.root.json")).signed
        root.version = 2
        return root


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing: an attack asks for files that are not there."""


@contextmanager
def served(folder: Path, handler: Any = _Quiet) -> Iterator[str]:
    """Serve a folder on loopback by Python's own web server, and yield its address."""
    bound = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), bound) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
            thread.join()


@contextmanager
def located(stage: Stage, place: str) -> Iterator[str | Path]:
    """Yield where the consumer finds the repository: its ``folder``, or its address by ``http``."""
    if place == "folder":
        yield stage.folder
    else:
        with served(stage.folder) as address:
            yield address
