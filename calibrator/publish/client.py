"""The consumer's side: fetch a document, believe it only if every rule holds, remember what was believed.

The ``trusted`` folder is the consumer's memory: ``anchor.json`` (the root it started from), ``metadata`` (the
newest that it verified, which is what makes a rollback visible) and ``documents`` (the last good ones, to be
kept in force when a newer one cannot be had). Every file in it is replaced atomically.

References
----------
The Update Framework specification 1.0.34, section 5 (client workflow).
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, Root
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher

from calibrator.errors import ConstraintError, ExpiredError, PublishError, RollbackError, SignatureError
from calibrator.publish.canonical import MAX_BYTES, digest
from calibrator.publish.document import ParameterDocument, decode
from calibrator.publish.repository import DOCUMENT, MAX_METADATA_BYTES, check_name, tuf_errors
from calibrator.publish.storage import lock, read_inside, write_atomically

FOLDER: Final = "folder:/"
MAX_ROOT_BYTES: Final = 512_000
TIMEOUT_SECONDS: Final = 10


class FolderFetcher(FetcherInterface):
    """Reads a published repository from a local folder, following no link.

    python-tuf's own fetcher speaks http and https only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix(FOLDER)
        try:
            return iter([read_inside(self._folder, tuple(path.split("/")), max_bytes=MAX_METADATA_BYTES)])
        except FileNotFoundError as error:  # the walk along the roots ends at the first one that is not there
            raise DownloadHTTPError(f"{path} not found in {self._folder}", 404) from error


def anchor(trusted: Path, root: bytes) -> None:
    """Make ``root`` the origin of all trust of this consumer; once, and for good.

    Parameters
    ----------
    trusted : pathlib.Path
        This consumer's memory, one folder per repository; created at the first use.
    root : bytes
        Root metadata (``<n>.root.json``) received by a way that is itself trusted.

    Raises
    ------
    SignatureError
        If ``root`` is not root metadata signed by itself, or another root is the anchor already.
    LockError
        If another process uses ``trusted``.
    PublishError
        If ``trusted`` cannot be written.
    """
    path = trusted / "anchor.json"
    with lock(trusted / ".lock"), tuf_errors(str(path)):
        metadata = Metadata[Root].from_bytes(root)
        if not isinstance(metadata.signed, Root):
            raise SignatureError("root must be root metadata, is of another role")
        metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        if path.exists() and path.read_bytes() != root:
            raise SignatureError(f"{trusted} trusts another root already; a new one is a new folder")
        write_atomically(path, root)


def anchor_on_first_use(trusted: Path, location: str | Path) -> None:
    """Believe the root that ``location`` offers, unless ``trusted`` has an anchor already.

    Whoever controls ``location`` at that moment controls this consumer from then on.

    Raises
    ------
    PublishError
        If it cannot be fetched, and as `anchor` does.
    """
    if (trusted / "anchor.json").exists():
        return
    with tuf_errors(str(location)):
        base, fetcher = _open(location)
        root = fetcher.download_bytes(f"{base}metadata/1.root.json", MAX_ROOT_BYTES)
    anchor(trusted, root)


def verify(
    location: str | Path,
    *,
    trusted: Path,
    now: datetime,
    as_of: datetime | None = None,
    name: str = DOCUMENT,
    protocol: str | None = None,
) -> ParameterDocument:
    """Fetch, verify and remember the newest document of a repository.

    Parameters
    ----------
    location : str or pathlib.Path
        The ``published`` folder, or its http(s) address.
    trusted : pathlib.Path
        This consumer's memory, which `anchor` has prepared.
    now : datetime
        The clock, with a zone: metadata that expired before it are refused.
    as_of : datetime, optional
        When the document is to be applied; default `now`.
    name : str, optional
        Which document.
    protocol : str, optional
        The audience that the document must be meant for.

    Returns
    -------
    ParameterDocument
        Signed, unexpired, and not older than what was accepted before.

    Raises
    ------
    SignatureError
        If a signature is missing or wrong, a file is not the one that was signed, or there is no anchor.
    ExpiredError
        If metadata (freeze) or the document have expired.
    RollbackError
        If anything is older than what was trusted before.
    ConstraintError
        If the document is meant for another protocol.
    LockError
        If another process uses ``trusted``.
    PublishError
        If something cannot be fetched, stored or decoded.
    """
    check_name(name)
    as_of = now if as_of is None else as_of
    if now.utcoffset() is None or as_of.utcoffset() is None:
        raise ValueError(f"now and as_of need their zone, were {now} and {as_of}")
    with lock(trusted / ".lock"), tuf_errors(str(location)):
        payload = _fetch_target(location, trusted, name=name, now=now)
        document = decode(payload)
        if protocol is not None and document.protocol != protocol:
            raise ConstraintError(f"{name} must be meant for {protocol}, is for {document.protocol}")
        _check_not_older(trusted / "documents" / name, document, payload)
        if as_of >= document.expires_at:
            raise ExpiredError(
                f"{name} expired at {document.expires_at:%Y-%m-%d %H:%M}, as-of is {as_of:%Y-%m-%d %H:%M}. "
                + document.consumer_rule
            )
        write_atomically(trusted / "documents" / name, payload)
    return document


def last_good(trusted: Path, *, name: str = DOCUMENT) -> ParameterDocument | None:
    """Return the document that `verify` accepted last, or None; it may have expired since.

    Raises
    ------
    PublishError
        If it cannot be read.
    """
    try:
        return decode((trusted / "documents" / name).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PublishError(f"{trusted} cannot be read: {error.strerror}") from error


def _open(location: str | Path) -> tuple[str, FetcherInterface]:
    text = str(location)
    if text.startswith(("http://", "https://")):
        return text.rstrip("/") + "/", Urllib3Fetcher(socket_timeout=TIMEOUT_SECONDS)
    folder = Path(location)
    if not (folder / "metadata").is_dir():
        raise PublishError(
            f"{folder} must be a published folder (it holds metadata/ and targets/) or an address"
        )
    return FOLDER, FolderFetcher(folder)


def _fetch_target(location: str | Path, trusted: Path, *, name: str, now: datetime) -> bytes:
    base, fetcher = _open(location)
    try:
        root = (trusted / "anchor.json").read_bytes()
    except FileNotFoundError as error:
        raise SignatureError(f"{trusted} has no trusted root yet: give one (--root FILE)") from error
    memory = trusted / "metadata"
    memory.mkdir(exist_ok=True)
    with TemporaryDirectory(prefix=".download-", dir=trusted) as folder:
        updater = Updater(
            metadata_dir=str(memory),
            metadata_base_url=f"{base}metadata/",
            target_dir=folder,
            target_base_url=f"{base}targets/",
            fetcher=fetcher,
            config=UpdaterConfig(root_max_length=MAX_ROOT_BYTES, targets_max_length=MAX_METADATA_BYTES),
            bootstrap=root,
        )
        # python-tuf has no argument for the time; its own clock is read when the set is created.
        updater._trusted_set.reference_time = now  # noqa: SLF001
        updater.refresh()
        target = updater.get_targetinfo(name)
        if target is None:
            raise PublishError(f"{location} holds no document called {name}")
        if target.length > MAX_BYTES:
            raise PublishError(f"{name} must not exceed {MAX_BYTES} bytes, is said to have {target.length}")
        return Path(updater.download_target(target, str(Path(folder) / "target"))).read_bytes()


def _check_not_older(path: Path, document: ParameterDocument, payload: bytes) -> None:
    """Compare with the last accepted document: metadata cannot show that its *content* went back."""
    if not path.exists():
        return
    last = path.read_bytes()
    if last == payload:
        return
    known = decode(last).sequence
    if document.sequence <= known:
        raise RollbackError(
            f"sequence {known} ({digest(last)[:12]}) was accepted before, offered was {document.sequence} "
            f"({digest(payload)[:12]})"
        )
