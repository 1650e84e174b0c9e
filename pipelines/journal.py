"""What a run wants logged, as plain data: so that what could not be sent today can be sent later."""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from calibrator.errors import DataError
from calibrator.publish.storage import write_atomically

Kind = Literal["start", "params", "metrics", "artifacts", "tags", "table", "dataset", "version", "end"]
FOLDER: Final = "unlogged"
ENDING: Final = ".json"


@dataclass(slots=True)
class Entry:
    """One thing to log.

    Attributes
    ----------
    run : str
        Which run of the journal: empty for the parent, else the child's name.
    kind : str
    content : dict
        Plain JSON.
    files : dict of str to bytes
        Artifacts by relative path.
    done : bool
        Whether the server has it.
    """

    run: str
    kind: Kind
    content: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    done: bool = False


@dataclass(slots=True)
class Journal:
    """Everything that one job logged, in order.

    Attributes
    ----------
    uri, experiment : str
        Where it belongs (``uri`` as configured, before secrets are filled in).
    artifacts : str or None
        Where a new experiment keeps its files.
    entries : list of Entry
    runs : dict of str to str
        MLflow's identifiers of the runs that exist.

    Examples
    --------
    >>> journal = Journal("sqlite:///x.db", "e", None, [Entry("", "params", {"a": "1"}, {"b": b"2"})])
    >>> Journal.read(journal.spell()).entries[0].files
    {'b': b'2'}
    """

    uri: str
    experiment: str
    artifacts: str | None
    entries: list[Entry] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)

    def waiting(self) -> list[Entry]:
        """Return what the server does not have."""
        return [e for e in self.entries if not e.done]

    def spell(self) -> bytes:
        """Return what is waiting as JSON."""
        entries = [
            {
                "run": e.run,
                "kind": e.kind,
                "content": e.content,
                "files": {k: base64.b64encode(v).decode() for k, v in e.files.items()},
            }
            for e in self.waiting()
        ]
        head = {"uri": self.uri, "experiment": self.experiment, "artifacts": self.artifacts}
        return json.dumps(head | {"runs": self.runs, "entries": entries}).encode()

    @classmethod
    def read(cls, content: bytes, *, source: str = "journal") -> "Journal":
        """Read what :meth:`spell` wrote.

        Raises
        ------
        DataError
            It is something else.
        """
        try:
            raw = json.loads(content)
            entries = [
                Entry(
                    e["run"],
                    e["kind"],
                    dict(e["content"]),
                    {k: base64.b64decode(v) for k, v in e["files"].items()},
                )
                for e in raw["entries"]
            ]
            return cls(raw["uri"], raw["experiment"], raw["artifacts"], entries, dict(raw["runs"]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{source}: not a journal of unlogged entries: {error!r}") from error


def keep(home: Path, name: str, journal: Journal) -> Path:
    """Write what is waiting to ``home/unlogged/<name>.json``."""
    path = home / FOLDER / f"{name}{ENDING}"
    write_atomically(path, journal.spell())
    return path


def kept(home: Path) -> Iterator[tuple[Path, Journal]]:
    """Return the journals of a home, the oldest first."""
    for path in sorted((home / FOLDER).glob(f"*{ENDING}")):
        yield path, Journal.read(path.read_bytes(), source=str(path))


def table_of(columns: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return a table as MLflow shows it: columns of plain values, no infinities.

    Examples
    --------
    >>> table_of({"a": [1, float("nan")]})
    {'a': [1, None]}
    """
    return {str(k): [_plain(v) for v in values] for k, values in columns.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return str(value)
