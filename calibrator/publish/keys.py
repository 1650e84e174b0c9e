"""Signing keys: one PEM file per role (more for a higher threshold), readable by their owner only."""

import os
import re
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from calibrator.errors import PublishError, SignatureError
from calibrator.publish.storage import sync_folder

ROLES: Final = ("root", "targets", "snapshot", "timestamp")
APPROVER: Final = "approver"
RETIRED: Final = "retired"


def create_keys(folder: Path, counts: Mapping[str, int] | None = None) -> None:
    """Generate an Ed25519 key for every role and an approver's, all or nothing; none is ever overwritten.

    Parameters
    ----------
    folder : pathlib.Path
        Created with mode 0700; its files ``<role>.pem`` have mode 0600. Move ``root.pem`` and
        ``approver.pem`` to safe places: only changes of keys need the one, only large moves the other.
    counts : mapping of str to int, optional
        How many keys a role gets; default one each.

    Raises
    ------
    PublishError
        If ``folder`` already holds something, or cannot be written.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as home:
    ...     create_keys(Path(home) / "keys")
    ...     sorted(path.name for path in (Path(home) / "keys").iterdir())
    ['approver.pem', 'root.pem', 'snapshot.pem', 'targets.pem', 'timestamp.pem']
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and any(folder.iterdir()):
            raise PublishError(f"{folder} must be empty to create keys in it; keys are never overwritten")
        incomplete = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))  # mode 0700
        for role in (*ROLES, APPROVER):
            for _ in range((counts or {}).get(role, 1)):
                add_key(incomplete, role)
        incomplete.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise PublishError(f"keys cannot be written to {folder}: {error.strerror}") from error


def add_key(folder: Path, role: str) -> CryptoSigner:
    """Generate one more key of ``role`` under the next free name: ``<role>.pem``, ``<role>-2.pem``, ...

    Raises
    ------
    PublishError
        If it cannot be written.
    """
    signer = CryptoSigner.generate_ed25519()
    number = 1
    try:
        while (path := folder / (f"{role}-{number}.pem" if number > 1 else f"{role}.pem")).exists():
            number += 1
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(signer.private_bytes)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
    except OSError as error:
        raise PublishError(f"a key cannot be written to {folder}: {error.strerror}") from error
    return signer


def retire_keys(folder: Path, keyids: set[str]) -> None:
    """Move the files of keys that are no longer trusted to ``folder/retired``.

    Raises
    ------
    PublishError
        If they cannot be moved.
    """
    try:
        for path in sorted(folder.glob("*.pem")):
            if (keyid := load_signer(path).public_key.keyid) in keyids:
                (folder / RETIRED).mkdir(mode=0o700, exist_ok=True)
                path.replace(folder / RETIRED / f"{path.stem}-{keyid[:16]}.pem")
        sync_folder(folder)
    except OSError as error:
        raise PublishError(f"keys cannot be moved to {folder / RETIRED}: {error.strerror}") from error


def has_keys(folder: Path, role: str) -> bool:
    """Say whether ``folder`` holds a key of ``role``."""
    return bool(_files(folder, role))


def load_signers(folders: Sequence[Path], role: str) -> list[CryptoSigner]:
    """Load every key of ``role`` in ``folders``: ``<role>.pem``, ``<role>-2.pem``, ...

    Raises
    ------
    SignatureError
        If there is none, one is readable by others, or one is not an Ed25519 key.
    """
    signers = [load_signer(path) for folder in folders for path in _files(folder, role)]
    if not signers:
        places = " or ".join(str(folder) for folder in folders)
        raise SignatureError(f"no key of role {role} in {places}; `keys create` makes them")
    return signers


def load_signer(path: Path) -> CryptoSigner:
    """Load one private key.

    Raises
    ------
    SignatureError
        If it is readable by others, cannot be read, or is not an Ed25519 key.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise SignatureError(f"{path} must be readable by its owner only, has mode {mode:04o}")
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"{path} cannot be read as a private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{path} must be an Ed25519 key, is {type(key).__name__}")
    return CryptoSigner(key)


def _files(folder: Path, role: str) -> list[Path]:
    name = re.compile(rf"{role}(-\d+)?\.pem")
    return sorted(path for path in folder.glob("*.pem") if name.fullmatch(path.name))
