"""The publisher's side: a TUF repository of static files that any web server or object store can serve.

``published/metadata`` holds ``<n>.root.json``, ``<n>.targets.json``, ``<n>.snapshot.json`` and
``timestamp.json``; ``published/targets`` holds ``<sha256>.<name>``. A publication exists from the moment its
``timestamp.json`` replaces the old one, the last write of all: whatever fails before leaves the old one.

References
----------
The Update Framework specification 1.0.34, https://theupdateframework.github.io/specification/latest/
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from tuf.api import exceptions
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer
from urllib3.exceptions import HTTPError

from calibrator.errors import ExpiredError, PublishError, RollbackError, SignatureError
from calibrator.publish.canonical import MAX_BYTES, digest, encode_value
from calibrator.publish.document import ParameterDocument, decode, encode, json_schema
from calibrator.publish.keys import ROLES, load_signers
from calibrator.publish.storage import lock, read_inside, sweep, write_atomically

DOCUMENT: Final = "parameters.json"
SCHEMA: Final = "parameters.schema.json"
METADATA_LIFE: Final = timedelta(days=7)
ROOT_LIFE: Final = timedelta(days=365)
ROOT_RENEWAL: Final = timedelta(days=60)
MAX_METADATA_BYTES: Final = 5_000_000
SIGNED_AT: Final = "x-signed-at"
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}/){0,4}[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_Role = TypeVar("_Role", bound=Signed)


@dataclass(frozen=True, slots=True)
class Publication:
    """The metadata in force: what ``timestamp.json`` leads to, every signature and hash checked."""

    root: Root
    targets: Targets
    snapshot: Snapshot
    timestamp: Timestamp


@dataclass(frozen=True, slots=True)
class Signing:
    """One act of signing: by which keys, trusted by which root, when and for how long."""

    keys: Path
    root: Root
    now: datetime
    life: timedelta

    def sign(self, role: str, signed: Root | Targets | Snapshot | Timestamp) -> bytes:
        """Sign with every key of ``role`` that the root trusts; fail below the role's threshold."""
        metadata: Metadata[Any] = Metadata(signed)
        for signer in load_signers(self.keys, role):
            if signer.public_key.keyid in self.root.roles[role].keyids:
                metadata.sign(signer, append=True)
        self.root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        return metadata.to_bytes(JSONSerializer(compact=False))


def publish(
    home: Path,
    payload: bytes,
    *,
    now: datetime,
    name: str = DOCUMENT,
    metadata_life: timedelta = METADATA_LIFE,
    attachments: Mapping[str, bytes] | None = None,
) -> bool:
    """Sign a document and publish it in ``home/published``, with its schema, atomically.

    Parameters
    ----------
    home : pathlib.Path
        Holds ``keys/`` (see `calibrator.publish.keys.create_keys`) and ``published/``.
    payload : bytes
        What `calibrator.publish.document.encode` returned; published as it is, byte for byte.
    now : datetime
        The publishing clock, with a zone; metadata expire ``metadata_life`` after it.
    name : str, optional
        Target name; documents of other names stay as they are.
    metadata_life : timedelta, optional
        Life of timestamp, snapshot and targets: the longest that a consumer can be kept from news.
    attachments : mapping of str to bytes, optional
        Protocol payloads made from this document, by target name; they replace those of the last document.

    Returns
    -------
    bool
        False if these bytes are already published, and nothing was done.

    Raises
    ------
    RollbackError
        If the document's sequence is not above the published one, or it does not name it as the previous one.
    SignatureError
        If a key is missing, unsafe or unknown, or what is published does not verify.
    ExpiredError
        If the root metadata has expired (or the clock is far ahead).
    LockError
        If another process is publishing.
    PublishError
        If the document is refused, the clock went back or a write fails; what was published stays in force.
    """
    document = decode(payload)
    files = {**(attachments or {}), SCHEMA: encode_value(json_schema()), name: payload}
    for target, data in files.items():
        check_name(target)
        if len(data) > MAX_BYTES:
            raise PublishError(f"{target} must not exceed {MAX_BYTES} bytes, has {len(data)}")
    folder = home / "published"
    with lock(home / "publish.lock"), tuf_errors(str(folder)):
        root, current = _load(folder)
        targets = _next_targets(current, files, name, document.sequence)
        if current is not None:
            if targets == current.targets.targets:
                return False
            _check_follows(_read_document(folder, current, name), document, payload)
        signing = _prepare(home, root, current, now=now, life=metadata_life)
        for target, data in files.items():
            write_atomically(folder / "targets" / _hashed(targets[target]), data)
        _commit(folder, signing, targets, current)
    return True


def refresh(home: Path, *, now: datetime, metadata_life: timedelta = METADATA_LIFE) -> None:
    """Sign what is published once more, before its metadata expire; the documents stay as they are.

    Raises
    ------
    PublishError
        If nothing is published yet, and as `publish` does.
    """
    folder = home / "published"
    with lock(home / "publish.lock"), tuf_errors(str(folder)):
        root, current = _load(folder)
        if current is None:
            raise PublishError(f"{folder} holds no publication to refresh")
        signing = _prepare(home, root, current, now=now, life=metadata_life)
        _commit(folder, signing, current.targets.targets, current)


def latest(home: Path, *, name: str = DOCUMENT) -> ParameterDocument | None:
    """Return the document in force, after checking its signatures, or None in an empty home.

    Its expiry is not checked: an expired document is still the one that the next one follows.

    Raises
    ------
    PublishError
        If what is published cannot be read or does not verify.
    """
    return read_published(home / "published", name=name)


def read_published(folder: Path, *, name: str = DOCUMENT) -> ParameterDocument | None:
    """Return the document that the publication in ``folder`` leads to, checked against the folder's own root.

    That shows that it is whole, not that it comes from the right publisher: consumers use
    `calibrator.publish.client.verify`.

    Raises
    ------
    PublishError
        If it cannot be read or does not verify.
    """
    with tuf_errors(str(folder)):
        _, current = _load(folder)
        return None if current is None else _read_document(folder, current, name)


def next_sequence(home: Path, *, name: str = DOCUMENT) -> int:
    """Return the sequence of the next document: one more than the one in force, 1 in an empty home."""
    document = latest(home, name=name)
    return 1 if document is None else document.sequence + 1


def check_name(name: str) -> None:
    """Refuse a target name that could lead out of its folder.

    Raises
    ------
    PublishError
        Unless ``name`` is one to five parts of letters, digits, ``_.-``, none starting with a dot.

    Examples
    --------
    >>> check_name("aave-v3/steward.json")
    >>> check_name("../timestamp.json")
    Traceback (most recent call last):
    ...
    calibrator.errors.PublishError: a target name must be a plain relative path, was '../timestamp.json'
    """
    if not _NAME.fullmatch(name):
        raise PublishError(f"a target name must be a plain relative path, was {name[:100]!r}")


@contextmanager
def tuf_errors(place: str) -> Iterator[None]:
    """Translate what python-tuf and the disk raise into this project's errors, naming ``place``.

    Raises
    ------
    ExpiredError, RollbackError, SignatureError, PublishError
        As the original says; it stays attached as the cause.
    """
    try:
        yield
    except exceptions.ExpiredMetadataError as error:
        raise ExpiredError(f"{place}: {error}; nothing newer was offered") from error
    except exceptions.BadVersionNumberError as error:
        raise RollbackError(f"{place}: {error}") from error
    except exceptions.LengthOrHashMismatchError as error:
        raise SignatureError(f"{place}: a file is not the one that was signed: {error}") from error
    except exceptions.RepositoryError as error:
        raise SignatureError(f"{place}: metadata do not verify: {error}") from error
    except (exceptions.DownloadError, HTTPError, OSError) as error:
        cause = error.__cause__ if isinstance(error.__cause__, PublishError) else error
        why = str(cause) or str(cause.__context__ or "") or type(cause).__name__
        raise PublishError(f"{place}: cannot be read or written: {why}") from error


def _check_follows(previous: ParameterDocument | None, document: ParameterDocument, payload: bytes) -> None:
    if previous is None:
        return
    if document.sequence <= previous.sequence:
        raise RollbackError(
            f"sequence must be above the published {previous.sequence}, was {document.sequence} "
            f"(document {digest(payload)[:12]})"
        )
    published = digest(encode(previous))
    if document.previous_digest != published:
        raise RollbackError(
            f"previous_digest must be the published {published}, was {document.previous_digest}"
        )


def _load(folder: Path) -> tuple[Root | None, Publication | None]:
    """Walk the chain of roots, then timestamp, snapshot, targets, checking what each says of the next."""
    root: Root | None = None
    while True:
        version = 1 if root is None else root.version + 1
        data = _read(folder, f"{version}.root.json")
        if data is None:
            break
        metadata = Metadata[Root].from_bytes(data)
        for judge in (root, metadata.signed):
            if judge is not None:
                judge.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        if metadata.signed.version != version:
            raise exceptions.BadVersionNumberError(
                f"{version}.root.json is version {metadata.signed.version}"
            )
        root = metadata.signed
    data = _read(folder, "timestamp.json")
    if data is None:
        return root, None
    if root is None:
        raise PublishError(f"{folder} has lost its 1.root.json")
    timestamp = _verified(root, Timestamp, data)
    snapshot = _verified(root, Snapshot, _listed(folder, Snapshot.type, timestamp.snapshot_meta))
    targets = _verified(root, Targets, _listed(folder, Targets.type, snapshot.meta["targets.json"]))
    return root, Publication(root, targets, snapshot, timestamp)


def _read(folder: Path, name: str) -> bytes | None:
    try:
        return read_inside(folder, ("metadata", name), max_bytes=MAX_METADATA_BYTES)
    except FileNotFoundError:
        return None


def _listed(folder: Path, role: str, meta: MetaFile) -> bytes:
    data = _read(folder, f"{meta.version}.{role}.json")
    if data is None:
        raise PublishError(f"{folder} has lost its {meta.version}.{role}.json")
    meta.verify_length_and_hashes(data)
    return data


def _verified(root: Root, kind: type[_Role], data: bytes) -> _Role:
    metadata: Metadata[Any] = Metadata.from_bytes(data)
    root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures)
    if not isinstance(metadata.signed, kind):
        raise exceptions.RepositoryError(f"{kind.type} metadata expected, found {metadata.signed.type}")
    return metadata.signed


def _read_document(folder: Path, current: Publication, name: str) -> ParameterDocument | None:
    target = current.targets.targets.get(name)
    if target is None:
        return None
    data = read_inside(folder, ("targets", *_hashed(target).split("/")), max_bytes=MAX_BYTES)
    target.verify_length_and_hashes(data)
    return decode(data)


def _hashed(target: TargetFile) -> str:
    head, slash, base = target.path.rpartition("/")
    return f"{head}{slash}{target.hashes['sha256']}.{base}"


def _next_targets(
    current: Publication | None, files: Mapping[str, bytes], document: str, sequence: int
) -> dict[str, TargetFile]:
    kept = {} if current is None else current.targets.targets
    targets = {p: t for p, t in kept.items() if (t.custom or {}).get("document") != document}
    for path, data in files.items():
        target = TargetFile.from_data(path, data, ["sha256"])
        if path != SCHEMA:
            target.unrecognized_fields["custom"] = {"document": document, "sequence": sequence}
        targets[path] = target
    return targets


def _prepare(
    home: Path, root: Root | None, current: Publication | None, *, now: datetime, life: timedelta
) -> Signing:
    """Check the clock, sweep what a crash left, and create the root or renew it when it is due."""
    if now.utcoffset() is None:
        raise ValueError(f"now needs its zone, was {now}")
    if current is not None:
        signed_at = current.timestamp.unrecognized_fields.get(SIGNED_AT)
        if signed_at is not None and now < datetime.fromisoformat(signed_at):
            raise PublishError(f"the clock went back: it is {now}, the last publication is of {signed_at}")
    folder = home / "published"
    sweep(folder)
    if root is not None and root.expires <= now:
        raise ExpiredError(f"{folder}: root metadata expired on {root.expires}, the clock says {now}")
    signing = Signing(home / "keys", root or _new_root(home / "keys"), now, life)
    due = root is None or root.expires - now < ROOT_RENEWAL
    if due and (root is None or (home / "keys" / "root.pem").exists()):
        signing.root.version = 1 if root is None else root.version + 1
        signing.root.expires = now + ROOT_LIFE
        data = signing.sign(Root.type, signing.root)
        write_atomically(folder / "metadata" / f"{signing.root.version}.root.json", data)
    return signing


def _new_root(keys: Path) -> Root:
    root = Root()
    for role in ROLES:
        for signer in load_signers(keys, role):
            root.add_key(signer.public_key, role)
    return root


def _commit(
    folder: Path, signing: Signing, targets: dict[str, TargetFile], current: Publication | None
) -> None:
    """Write targets, snapshot and, last of all, the timestamp that makes them the publication in force."""
    expires, metadata = signing.now + signing.life, folder / "metadata"
    version = 1 if current is None else current.targets.version + 1
    data = signing.sign(Targets.type, Targets(version=version, expires=expires, targets=targets))
    write_atomically(metadata / f"{version}.targets.json", data)
    meta = {"targets.json": MetaFile.from_data(version, data, ["sha256"])}
    version = 1 if current is None else current.snapshot.version + 1
    data = signing.sign(Snapshot.type, Snapshot(version=version, expires=expires, meta=meta))
    write_atomically(metadata / f"{version}.snapshot.json", data)
    timestamp = Timestamp(
        version=1 if current is None else current.timestamp.version + 1,
        expires=expires,
        snapshot_meta=MetaFile.from_data(version, data, ["sha256"]),
        unrecognized_fields={SIGNED_AT: signing.now.astimezone(UTC).isoformat()},
    )
    write_atomically(metadata / "timestamp.json", signing.sign(Timestamp.type, timestamp))
