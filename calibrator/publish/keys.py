"""Signing keys: one PEM file per role (more for a higher threshold), readable by their owner only."""

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from calibrator.errors import PublishError, SignatureError
from calibrator.publish.storage import sync_folder

ROLES: Final = ("root", "targets", "snapshot", "timestamp")


def create_keys(folder: Path) -> None:
    """Generate an Ed25519 key for every role, all or nothing; existing keys are never overwritten.

    Parameters
    ----------
    folder : pathlib.Path
        Created with mode 0700; its files ``<role>.pem`` have mode 0600. Move ``root.pem`` to a safe place:
        only the first publication and changes of keys need it.

    Raises
    ------
    PublishError
        If ``folder`` already holds something, or cannot be written.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as home:
    ...     create_keys(Path(home) / "keys")
    ...     sorted(path.name for path in (Path(home) / "keys").iterdir())
    ['root.pem', 'snapshot.pem', 'targets.pem', 'timestamp.pem']
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists() and any(folder.iterdir()):
            raise PublishError(f"{folder} must be empty to create keys in it; keys are never overwritten")
        incomplete = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))  # mode 0700
        for role in ROLES:
            path = incomplete / f"{role}.pem"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(CryptoSigner.generate_ed25519().private_bytes)
                file.flush()
                os.fsync(file.fileno())
        incomplete.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise PublishError(f"keys cannot be written to {folder}: {error.strerror}") from error


def load_signers(folder: Path, role: str) -> list[CryptoSigner]:
    """Load every key of ``role``: ``<role>.pem``, ``<role>-2.pem``, ...

    Raises
    ------
    SignatureError
        If there is none, one is readable by others, or one is not an Ed25519 key.
    """
    signers = []
    for path in sorted(folder.glob(f"{role}*.pem")):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise SignatureError(f"{path} must be readable by its owner only, has mode {mode:04o}")
            key = load_pem_private_key(path.read_bytes(), None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SignatureError(f"{path} cannot be read as a private key: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SignatureError(f"{path} must be an Ed25519 key, is {type(key).__name__}")
        signers.append(CryptoSigner(key))
    if not signers:
        raise SignatureError(f"no key of role {role} in {folder}; create_keys makes them")
    return signers
