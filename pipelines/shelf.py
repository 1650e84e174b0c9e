"""A folder of results by name, each believed only if its SHA-256 is the one that was written down."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

from calibrator.errors import PublishError
from calibrator.publish.storage import read_inside, write_atomically

INDEX: Final = "index.json"
KEPT_RUNS: Final = 5
"""Runs after which an entry that nobody asked for is removed."""
LARGEST: Final = 1 << 30
_LOG: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class Shelf:
    """Bytes by name under one folder; one process at a time (the home's lock).

    An entry whose content is not what the index says is not read; it is made again, and the log says so.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Shelf(Path(folder)) as shelf:
    ...         shelf.put("a", b"1")
    ...     with Shelf(Path(folder)) as shelf:
    ...         shelf.get("a"), shelf.get("b")
    (b'1', None)
    """

    folder: Path
    _index: dict[str, dict[str, Any]] = field(default_factory=dict)
    _run: int = 0

    def __enter__(self) -> Self:
        """Read the index; one that cannot be read is an empty shelf."""
        try:
            index = json.loads((self.folder / INDEX).read_bytes())
            self._index, self._run = dict(index["entries"]), int(index["run"]) + 1
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            _LOG.warning("%s cannot be read, everything is computed anew: %s", self.folder / INDEX, error)
        return self

    def __exit__(self, *_: object) -> None:
        """Write the index, then remove what was not asked for in the last runs."""
        old = [name for name, entry in self._index.items() if self._run - entry["used"] >= KEPT_RUNS]
        for name in old:
            del self._index[name]
        content = {"run": self._run, "entries": self._index}
        write_atomically(self.folder / INDEX, json.dumps(content, sort_keys=True).encode())
        for path in self.folder.iterdir():
            if path.name != INDEX and path.name not in self._index:
                path.unlink(missing_ok=True)

    def get(self, name: str) -> bytes | None:
        """Return what was put under a name; None if there is nothing, or something else."""
        entry = self._index.get(name)
        if entry is None:
            return None
        try:
            content = read_inside(self.folder, (name,), max_bytes=LARGEST)
        except (OSError, PublishError) as error:
            _LOG.warning("%s is made again: %s", self.folder / name, error)
            return None
        if sha256(content).hexdigest() != entry["sha256"]:
            _LOG.warning("%s is made again: its SHA-256 is not the one in the index", self.folder / name)
            return None
        entry["used"] = self._run
        return content

    def touch(self, name: str) -> bool:
        """Say whether there is an entry, and keep it."""
        entry = self._index.get(name)
        if entry is None:
            return False
        entry["used"] = self._run
        return True

    def put(self, name: str, content: bytes) -> None:
        """File content under a name."""
        write_atomically(self.folder / name, content)
        self._index[name] = {"sha256": sha256(content).hexdigest(), "used": self._run}


@contextmanager
def open_shelf(home: Path, *, reuse: bool) -> Iterator[Shelf | None]:
    """Yield the shelf of a home, ``home/walks``; None where nothing may be reused.

    Examples
    --------
    >>> with open_shelf(Path("."), reuse=False) as shelf:
    ...     shelf is None
    True
    """
    if not reuse:
        yield None
        return
    with Shelf(home / "walks") as shelf:
        yield shelf
