"""Pages of the publishing benchmarks: rows of plain values as Markdown, written where they belong."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Final, Protocol

from pipelines.store import save, save_json

PACKAGES: Final = ("tuf", "securesystemslib", "cryptography", "pydantic")
Row = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Section:
    """One table of a page.

    Attributes
    ----------
    title, said : str
        Heading, and how it was measured.
    rows : sequence of mappings
        The columns are those of the first row.
    """

    title: str
    said: str
    rows: Sequence[Row]


class Measure(Protocol):
    """What measures a page."""

    def __call__(self, *, scale: float, progress: Callable[[str, int, int], None]) -> list[Section]:
        """Return the sections of a page; ``scale`` shrinks the sample."""


def machine() -> str:
    """Name the processor, its cores, how busy they were, and the versions that were measured."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    processor = names[0] if names else platform.machine()
    busy = f"load average {os.getloadavg()[0]:.1f}"
    return f"{os.cpu_count()} cores, {processor}, {busy}; Python {platform.python_version()}, {versions}"


def markdown(title: str, sections: Sequence[Section], *, made_on: date) -> str:
    """Write a page.

    Examples
    --------
    >>> page = markdown("A", [Section("B", "How.", [{"what": "x", "ms": 1.234}])], made_on=date(2026, 1, 2))
    >>> print(page.partition("## ")[2])
    B
    <BLANKLINE>
    How.
    <BLANKLINE>
    | what | ms |
    | --- | --- |
    | x | 1.23 |
    <BLANKLINE>
    """
    lines = [f"# {title}", "", f"{made_on.isoformat()}; {machine()}."]
    for section in sections:
        columns = list(section.rows[0])
        lines += ["", f"## {section.title}", "", section.said, ""]
        lines += [_line(columns), _line(["---"] * len(columns))]
        lines += [_line([_spelled(row[column]) for column in columns]) for row in section.rows]
    return "\n".join(lines) + "\n"


def write(  # what, of what, where to, made when
    name: str, title: str, sections: Sequence[Section], *, home: Path, made_on: date, docs: Path | None
) -> dict[str, Path]:
    """Write Markdown and JSON to ``home/benchmarks/<name>/``; the Markdown also to ``docs``.

    Returns
    -------
    dict of str to pathlib.Path
        What was written, by what it is.
    """
    folder = home / "benchmarks" / name
    folder.mkdir(parents=True, exist_ok=True)
    page = markdown(title, sections, made_on=made_on)
    rows = {section.title: [dict(row) for row in section.rows] for section in sections}
    out = {
        "table": save(folder / f"{name}.md", page),
        "numbers": save_json(folder / f"{name}.json", rows),
    }
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        out["committed table"] = save(docs / f"{name}.md", page)
    return out


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _spelled(value: str | float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
