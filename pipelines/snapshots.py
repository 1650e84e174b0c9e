"""What fetch keeps on disk: immutable snapshots named by their content, and one record per request.

``snapshots/<digest>.parquet`` never changes once it is there: its name is the digest of its rows, checked
when it is read. ``records/<source>/<key>.json`` says which answer gave which snapshot. Both are written whole
or not at all, the record last: a kill at any moment loses at most the request that was under way.
"""

import hashlib
import io
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pandera.pandas as pa_schema
import pyarrow as pa

from calibrator.data.rows import Finding
from calibrator.data.sources import digest
from calibrator.errors import DataError
from calibrator.frames import conform
from pipelines.store import save, save_frame

_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,150}")


@dataclass(frozen=True, slots=True)
class Record:
    """One request that was answered and parsed.

    Attributes
    ----------
    key : str
        Of the request.
    url : str
        What was asked; keys are still ``${NAME}``.
    sha256 : tuple of str
        Of the answer's bytes, page by page.
    digest : str
        Of the snapshot.
    rows : int
    final : bool
        The period is over: the answer will not grow.
    findings : tuple of dict
        What the parser found.
    """

    key: str
    url: str
    sha256: tuple[str, ...]
    digest: str
    rows: int
    final: bool
    findings: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of snapshots and records.

    Examples
    --------
    >>> import tempfile
    >>> from calibrator.feeds import FUNDING, empty
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shelf = Shelf(Path(folder))
    ...     name = shelf.put(empty(FUNDING))
    ...     len(name), len(shelf.take(name, FUNDING))
    (64, 0)
    """

    folder: Path

    def snapshot(self, name: str) -> Path:
        """Return where a snapshot is."""
        return self.folder / "snapshots" / f"{name}.parquet"

    def put(self, frame: pd.DataFrame) -> str:
        """Keep a frame; return its digest. A snapshot that is there already is left as it is."""
        name = digest(frame)
        path = self.snapshot(name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_frame(path, frame)
        return name

    def take(self, name: str, schema: pa_schema.DataFrameSchema) -> pd.DataFrame:
        """Read a snapshot.

        Raises
        ------
        DataError
            It is gone, is no Parquet, breaks its frame, or is not what its name says.
        """
        path = self.snapshot(name)
        try:
            frame = conform(pd.read_parquet(io.BytesIO(path.read_bytes())), schema, source=str(path))
        except (OSError, ValueError, pa.ArrowException) as error:
            text = " ".join(str(error).split())[:200]
            raise DataError(f"{path}: snapshot cannot be read: {text}") from error
        if digest(frame) != name:
            raise DataError(f"{path}: its rows are not those of its name; remove it and fetch again")
        return frame

    def record_path(self, source: str, key: str) -> Path:
        """Return where the record of a request is.

        Raises
        ------
        DataError
            A key that is no plain name.
        """
        safe = key.replace("*", "all").replace("/", "-")
        if not _KEY.fullmatch(safe) or safe.startswith("."):
            raise DataError(f"{source}: {key!r} cannot name a file")
        return self.folder / "records" / source / f"{safe}.json"

    def write(self, source: str, record: Record) -> None:
        """Keep a record, after its snapshot."""
        path = self.record_path(source, record.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(path, json.dumps(asdict(record), indent=1, sort_keys=True) + "\n")

    def read(self, source: str, key: str) -> Record | None:
        """Return the record of a request, None if it was never answered.

        Raises
        ------
        DataError
            A record that is none.
        """
        path = self.record_path(source, key)
        if not path.exists():
            return None
        return _record(path)

    def records(self, source: str) -> list[Record]:
        """Return every record of a source, by key."""
        folder = self.folder / "records" / source
        return [_record(path) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []

    def point(self, source: str, name: str) -> Path:
        """Let ``current/<source>.parquet`` lead to a snapshot, in one step."""
        link = self.folder / "current" / f"{source}.parquet"
        link.parent.mkdir(parents=True, exist_ok=True)
        fresh = link.with_name(f".{source}.incomplete")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("..") / "snapshots" / f"{name}.parquet")
        os.replace(fresh, link)  # noqa: PTH105 - replaces a link, whatever it leads to
        return link


def spelled(finding: Finding) -> dict[str, Any]:
    """Spell a finding for a record.

    Examples
    --------
    >>> spelled(Finding("A", "repeated row", 2, None, None, "dropped"))["first"] is None
    True
    """
    body = {name: getattr(finding, name) for name in ("market", "rule", "count", "action")}
    times = {n: getattr(finding, n) for n in ("first", "last")}
    return {**body, **{n: None if t is None or pd.isna(t) else t.isoformat() for n, t in times.items()}}


def finding_of(body: dict[str, Any]) -> Finding:
    """Return the finding that :func:`spelled` wrote.

    Examples
    --------
    >>> one = Finding("A", "repeated row", 2, None, None, "dropped")
    >>> finding_of(spelled(one)) == one
    True
    """
    first, last = (None if body[n] is None else pd.Timestamp(body[n]) for n in ("first", "last"))
    return Finding(body["market"], body["rule"], body["count"], first, last, body["action"])


def sha256(content: bytes) -> str:
    """Return the SHA-256 of an answer.

    Examples
    --------
    >>> sha256(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(content).hexdigest()


def _record(path: Path) -> Record:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        body["sha256"], body["findings"] = tuple(body["sha256"]), tuple(body["findings"])
        return Record(**body)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: is no record: {' '.join(str(error).split())[:200]}") from error
