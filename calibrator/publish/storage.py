"""Files that are whole or absent: atomic writes, an exclusive lock, reads that follow no link."""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from calibrator.errors import LockError, PublishError

TEMPORARY: Final = ".incomplete-"


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a restart after a crash, sees the old bytes or the new, never a part.

    The bytes go to a temporary file beside ``path``, are synced to disk and replace it; then the folder is
    synced.

    Raises
    ------
    OSError
        If the disk is full or read-only; ``path`` is then as it was.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "parameters.json"
    ...     write_atomically(path, b"{}")
    ...     path.read_bytes()
    b'{}'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(name, path)  # noqa: PTH105 # both names are already strings of one folder
    except OSError:
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> None:
    """Remove what an interrupted `write_atomically` left behind; call it under the lock only."""
    for path in folder.rglob(f"{TEMPORARY}*"):
        path.unlink(missing_ok=True)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path`` without waiting; the system releases it however the process ends.

    Raises
    ------
    LockError
        If another process holds it.
    PublishError
        If the lock file cannot be created.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder, lock(Path(folder) / "lock"):
    ...     with lock(Path(folder) / "lock"):
    ...         pass
    Traceback (most recent call last):
    ...
    calibrator.errors.LockError: ... is held by another process
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PublishError(f"{path} cannot be opened for locking: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockError(f"{path} is held by another process") from error
        yield
    finally:
        os.close(descriptor)


def read_inside(folder: Path, parts: tuple[str, ...], *, max_bytes: int) -> bytes:
    """Read the regular file ``folder/parts...``, following no symbolic link below ``folder``.

    Each step is opened relative to the folder opened before it, so swapping a folder for a link while this
    runs does not lead outside.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    PublishError
        If a part is ``..`` or empty, a step is a link, or the file is not regular or exceeds ``max_bytes``.

    Examples
    --------
    >>> read_inside(Path("/"), ("..", "x"), max_bytes=1)
    Traceback (most recent call last):
    ...
    calibrator.errors.PublishError: '../x' must name a file inside /
    """
    shown = "/".join(parts)
    if not parts or any(part in {"", ".", ".."} or "/" in part or "\0" in part for part in parts):
        raise PublishError(f"{shown!r} must name a file inside {folder}")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number, part in enumerate(parts, start=1):
            kind = os.O_DIRECTORY if number < len(parts) else os.O_NONBLOCK  # never block on a named pipe
            inner = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | kind, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        with os.fdopen(os.dup(descriptor), "rb") as file:
            data = file.read(max_bytes + 1) if regular else b""
    except FileNotFoundError:
        raise
    except OSError as error:  # ELOOP or ENOTDIR: a link where a file or folder belongs
        raise PublishError(f"{shown} cannot be read, links are not followed: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if not regular:
        raise PublishError(f"{shown} must be a regular file")
    if len(data) > max_bytes:
        raise PublishError(f"{shown} must not exceed {max_bytes} bytes")
    return data
