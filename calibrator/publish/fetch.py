"""How a consumer reaches a repository: by http(s) or from a folder, within bounds, following no link."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tuf.api.exceptions import DownloadHTTPError, DownloadLengthMismatchError
from tuf.api.metadata import Metadata, Snapshot, Timestamp
from tuf.ngclient import FetcherInterface, Updater
from tuf.ngclient.urllib3_fetcher import Urllib3Fetcher
from urllib3.response import BaseHTTPResponse

from calibrator.errors import PublishError, RollbackError
from calibrator.publish.metadata import MAX_METADATA_BYTES
from calibrator.publish.storage import read_inside

FOLDER: Final = "folder:/"
TIMEOUT_SECONDS: Final = 10
MAX_JUMP: Final = 1_000_000


class MemoryFetcher(FetcherInterface):
    """Keeps what it downloads in memory, where python-tuf writes every file to a temporary one first."""

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Download at most ``max_length`` bytes.

        Raises
        ------
        tuf.api.exceptions.DownloadError
            If there are more, or they cannot be had.
        """
        chunks, size = [], 0
        for chunk in self.fetch(url):
            size += len(chunk)
            if size > max_length:
                raise DownloadLengthMismatchError(
                    f"Downloaded {size} bytes exceeding the maximum allowed length of {max_length}"
                )
            chunks.append(chunk)
        return b"".join(chunks)


class FolderFetcher(MemoryFetcher):
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


class WebFetcher(MemoryFetcher, Urllib3Fetcher):
    """python-tuf's own fetcher, which leaves its connections to the garbage collector, with an end."""

    def __init__(self) -> None:
        super().__init__(socket_timeout=TIMEOUT_SECONDS)
        self._responses: list[BaseHTTPResponse] = []

    def _chunks(self, response: BaseHTTPResponse) -> Iterator[bytes]:
        self._responses.append(response)
        return super()._chunks(response)

    def close(self) -> None:
        """Hang up, also on a server that is still sending."""
        for response in self._responses:
            response.close()
        for manager in self._proxy_env._pool_managers.values():  # noqa: SLF001
            manager.clear()


class BoundedUpdater(Updater):
    """python-tuf's client, which also refuses versions that no publisher can have reached.

    Versions far ahead would make every later publication look like a rollback (a fast-forward attack). They
    are compared with what the newest root still vouches for, so that new keys undo such an attack.
    """

    def _download_metadata(self, rolename: str, length: int, version: int | None = None) -> bytes:
        data: bytes = super()._download_metadata(rolename, length, version)
        known = self._trusted_set.get(rolename)
        if rolename == Timestamp.type and isinstance(known, Timestamp):
            offered = Metadata[Timestamp].from_bytes(data).signed
            _check_jump("timestamp", known.version, offered.version)
            _check_jump("snapshot", known.snapshot_meta.version, offered.snapshot_meta.version)
        elif rolename == Snapshot.type and isinstance(known, Snapshot):
            for name, meta in Metadata[Snapshot].from_bytes(data).signed.meta.items():
                _check_jump(name, known.meta[name].version if name in known.meta else 0, meta.version)
        return data

    def _persist_root(self, version: int, data: bytes) -> None:
        """Write a root only where it is not there yet; python-tuf writes the first one at every visit."""
        path = Path(self._dir, "root_history", f"{version}.root.json")
        if not path.is_file() or path.read_bytes() != data:
            super()._persist_root(version, data)

    def _update_root_symlink(self) -> None:
        """Move the link to the newest root only when there is a newer one."""
        link, version = Path(self._dir, "root.json"), self._trusted_set.root.version
        if not link.is_symlink() or link.readlink() != Path("root_history", f"{version}.root.json"):
            super()._update_root_symlink()


def _check_jump(name: str, known: int, offered: int) -> None:
    if offered > known + MAX_JUMP:
        raise RollbackError(
            f"{name} must not jump by more than {MAX_JUMP} versions, from {known} to {offered} (fast-forward)"
        )


@contextmanager
def open_location(location: str | Path) -> Iterator[tuple[str, FetcherInterface]]:
    """Yield the base of all addresses in a repository, and what fetches them; then hang up.

    Raises
    ------
    PublishError
        If ``location`` is neither an http(s) address nor a published folder.
    """
    text = str(location)
    if text.startswith(("http://", "https://")):
        with closing(WebFetcher()) as fetcher:
            yield text.rstrip("/") + "/", fetcher
        return
    folder = Path(location)
    if not (folder / "metadata").is_dir():
        raise PublishError(
            f"{folder} must be a published folder (it holds metadata/ and targets/) or an address"
        )
    yield FOLDER, FolderFetcher(folder)
