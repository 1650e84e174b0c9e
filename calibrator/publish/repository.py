"""The publisher's side: a TUF repository of static files that any web server or object store can serve.

``published/metadata`` holds ``<n>.root.json``, ``<n>.targets.json``, ``<n>.snapshot.json`` and
``timestamp.json``; ``published/targets`` holds ``<sha256>.<name>``. A publication exists from the moment its
``timestamp.json`` replaces the old one, the last write of all: whatever fails before leaves the old one.

References
----------
The Update Framework specification 1.0.34, https://theupdateframework.github.io/specification/latest/
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import TargetFile

from calibrator.errors import PublishError, RollbackError
from calibrator.publish.approval import Approval, approve, moves
from calibrator.publish.canonical import MAX_BYTES, digest, encode_value
from calibrator.publish.document import SCHEMA_VERSION, ParameterDocument, decode, encode, json_schema
from calibrator.publish.metadata import Publication, check_name, hashed_path, load_publication, tuf_errors
from calibrator.publish.signing import METADATA_LIFE, commit, prepare
from calibrator.publish.storage import lock, read_inside, write_atomically

DOCUMENT: Final = "parameters.json"
SCHEMA: Final = f"schemas/parameters-{SCHEMA_VERSION}.schema.json"


def publish(  # noqa: PLR0913 # what, when, under which name, for how long, with what, approved by whom
    home: Path,
    payload: bytes,
    *,
    now: datetime,
    name: str = DOCUMENT,
    metadata_life: timedelta = METADATA_LIFE,
    targets: Mapping[str, bytes] | None = None,
    approval: Approval | None = None,
) -> bool:
    """Sign a document and publish it in ``home/published``, with its schema and payloads, atomically.

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
    targets : mapping of str to bytes, optional
        Protocol payloads made from this document, by target name; they replace those of the last document.
    approval : Approval, optional
        Which moves need a second key, and that key; without it none does.

    Returns
    -------
    bool
        False if these bytes are already published, and nothing was done.

    Raises
    ------
    RollbackError
        If the document is not the successor of the published one, by sequence and digest.
    ApprovalError
        If a move needs an approval and there is no key.
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
    files = {**(targets or {}), SCHEMA: encode_value(json_schema()), name: payload}
    for path, data in files.items():
        check_name(path)
        if len(data) > MAX_BYTES:
            raise PublishError(f"{path} must not exceed {MAX_BYTES} bytes, has {len(data)}")
    folder = home / "published"
    with lock(home / "publish.lock"), tuf_errors(str(folder)):
        root, current = load_publication(folder)
        listed = _next_targets(current, files, name, document.sequence)
        previous = None if current is None else _read_document(folder, current, name)
        if current is not None and _hashes(listed) == _hashes(current.targets.targets):
            return False
        _check_follows(previous, document, payload)
        signing = prepare(home, root, current, now=now, life=metadata_life)
        if approval is not None:
            needed = [] if previous is None else moves(previous, document, approval)
            listed[name].unrecognized_fields["custom"] |= approve(
                signing.roots[-1], document, payload, needed=needed, key=approval.key
            )
        for path, data in files.items():
            write_atomically(folder / "targets" / hashed_path(listed[path]), data)
        commit(folder, signing, listed, current)
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
        root, current = load_publication(folder)
        if current is None:
            raise PublishError(f"{folder} holds no publication to refresh")
        signing = prepare(home, root, current, now=now, life=metadata_life)
        commit(folder, signing, current.targets.targets, current)


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
        _, current = load_publication(folder)
        return None if current is None else _read_document(folder, current, name)


def next_sequence(home: Path, *, name: str = DOCUMENT) -> int:
    """Return the sequence of the next document: one more than the one in force, 1 in an empty home."""
    document = latest(home, name=name)
    return 1 if document is None else document.sequence + 1


def _read_document(folder: Path, current: Publication, name: str) -> ParameterDocument | None:
    target = current.targets.targets.get(name)
    if target is None:
        return None
    data = read_inside(folder, ("targets", *hashed_path(target).split("/")), max_bytes=MAX_BYTES)
    target.verify_length_and_hashes(data)
    return decode(data)


def _check_follows(previous: ParameterDocument | None, document: ParameterDocument, payload: bytes) -> None:
    expected = 1 if previous is None else previous.sequence + 1
    if document.sequence != expected:
        after = "an empty repository" if previous is None else f"the published {previous.sequence}"
        raise RollbackError(
            f"sequence must be {expected} after {after}, was {document.sequence} "
            f"(document {digest(payload)[:12]})"
        )
    if previous is None:
        return
    published = digest(encode(previous))
    if document.previous_digest != published:
        raise RollbackError(
            f"previous_digest must be the published {published}, was {document.previous_digest}"
        )


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


def _hashes(targets: Mapping[str, TargetFile]) -> dict[str, Any]:
    """Return what tells contents apart: an approval is not part of it."""
    return {path: target.hashes for path, target in targets.items()}
