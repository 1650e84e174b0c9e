"""The metadata of a TUF repository on disk: found, verified against each other, never trusted before.

``published/metadata`` holds ``<n>.root.json``, ``<n>.targets.json``, ``<n>.snapshot.json`` and
``timestamp.json``; ``published/targets`` holds ``<sha256>.<name>``.

References
----------
The Update Framework specification 1.0.34, https://theupdateframework.github.io/specification/latest/
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from tuf.api import exceptions
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp
from urllib3.exceptions import HTTPError

from calibrator.errors import ExpiredError, PublishError, RollbackError, SignatureError
from calibrator.publish.storage import read_inside

MAX_METADATA_BYTES: Final = 5_000_000
_NAME = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}/){0,4}[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_Role = TypeVar("_Role", bound=Signed)


@dataclass(frozen=True, slots=True)
class Publication:
    """The metadata in force: what ``timestamp.json`` leads to, every signature and hash checked."""

    root: Root
    targets: Targets
    snapshot: Snapshot
    timestamp: Timestamp


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


def load_roots(folder: Path) -> list[Root]:
    """Walk the chain of roots from the first on, each signed by itself and by the one before.

    Raises
    ------
    tuf.api.exceptions.RepositoryError, PublishError
        If one does not verify; wrap the call in `tuf_errors`.
    """
    roots: list[Root] = []
    while (data := _read(folder, f"{len(roots) + 1}.root.json")) is not None:
        metadata = Metadata[Root].from_bytes(data)
        for judge in (*roots[-1:], metadata.signed):
            judge.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        if metadata.signed.version != len(roots) + 1:
            raise exceptions.BadVersionNumberError(
                f"{len(roots) + 1}.root.json is version {metadata.signed.version}"
            )
        roots.append(metadata.signed)
    return roots


def load_publication(folder: Path) -> tuple[Root | None, Publication | None]:
    """Walk the roots, then timestamp, snapshot, targets, checking what each says of the next.

    Returns
    -------
    tuple of Root or None, Publication or None
        The newest root, and what is in force; None for what is not there yet.

    Raises
    ------
    tuf.api.exceptions.RepositoryError, PublishError
        If anything is missing or does not verify; wrap the call in `tuf_errors`.
    """
    root = next(reversed(load_roots(folder)), None)
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


def hashed_path(target: TargetFile) -> str:
    """Return where a target lies below ``targets/``: its name with its digest in front.

    Examples
    --------
    >>> hashed_path(TargetFile.from_data("demo/a.json", b"", ["sha256"]))[:14]
    'demo/e3b0c4429'
    """
    head, slash, base = target.path.rpartition("/")
    return f"{head}{slash}{target.hashes['sha256']}.{base}"
