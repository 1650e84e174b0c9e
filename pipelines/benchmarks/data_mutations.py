"""Seeded damage to a venue's answers: broken on purpose (must be refused) or at random (must not crash).

``broken`` answers are invalid by construction: a cell that is no number, a row of another length, another
header, a page of HTML, a torn archive. ``noise`` flips, cuts and inserts bytes anywhere; what survives is a
valid answer with other values, so there only typed errors and conforming frames are asked for.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pipelines.benchmarks.data_sample import Sample, zipped

HTML: Final = "<!DOCTYPE html>\n<html><body>502 Bad Gateway</body></html>\n"
_NO_NUMBER: Final = ("abc", "NaN", "inf", "-inf", "1e999", "0x1F", "--1", "1,5", "", "null", "1 2", "\u0661")
_NO_VALUE: Final[tuple[Any, ...]] = (
    "abc",
    "NaN",
    None,
    [],
    {},
    True,
    "1e999",
    "0x1F",
    "--1",
    "1 2",
    "",
    "\u0661",
)

Random = np.random.Generator


@dataclass(frozen=True, slots=True)
class Mutant:
    """A damaged answer.

    Attributes
    ----------
    kind : str
        What was done.
    content : bytes
        As the venue would send it.
    text : bytes
        The same, uncompressed.
    broken : bool
        Invalid by construction.
    """

    kind: str
    content: bytes
    text: bytes
    broken: bool


def mutant(sample: Sample, rng: Random) -> Mutant:
    """Return one damaged answer, nine in ten broken by construction.

    Examples
    --------
    >>> from pipelines.benchmarks.data_samples import SAMPLES
    >>> mutant(SAMPLES["deribit-dvol"], np.random.default_rng(1)).broken
    True
    """
    if rng.random() < 0.1:
        text = _noise(sample.text.encode(), rng)
        return Mutant("noise", sample.content(text), text, broken=False)
    kinds: list[tuple[str, Callable[[Sample, Random], bytes]]] = list(_WHOLE.items())
    kinds += list((_LINES if sample.is_json and not _whole_json(sample) else {}).items())
    kinds += list((_JSON if sample.is_json else _CSV).items())
    name, damage = kinds[int(rng.integers(len(kinds)))]
    text = damage(sample, rng)
    return Mutant(name, sample.content(text), text, broken=True)


def torn(sample: Sample, rng: Random) -> Mutant:
    """Return an archive that is damaged itself: truncated, another member, two members, overwritten.

    Examples
    --------
    >>> from pipelines.benchmarks.data_samples import SAMPLES
    >>> torn(SAMPLES["tardis-funding"], np.random.default_rng(1)).broken
    True
    """
    whole, text = sample.content(), sample.text.encode()
    cut = whole[: int(rng.integers(1, len(whole) - 1))]
    makers: dict[str, bytes] = {"truncated archive": cut, "page as archive": HTML.encode()}
    if sample.wrap == "zip":
        makers["another member"] = zipped("../evil.csv", text)
    if sample.wrap == "gz":
        makers["no gzip"] = text
        makers["wrong crc"] = whole[:-8] + bytes(4) + whole[-4:]
    name = sorted(makers)[int(rng.integers(len(makers)))]
    return Mutant(name, makers[name], text, broken=True)


def _whole_json(sample: Sample) -> bool:
    try:
        json.loads(sample.text)
    except ValueError:
        return False
    return True


def _noise(text: bytes, rng: Random) -> bytes:
    out = bytearray(text)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(out)))
        what = int(rng.integers(4))
        if what == 0:
            out[at] ^= 1 << int(rng.integers(8))
        elif what == 1:
            del out[at : at + int(rng.integers(1, 20))]
        elif what == 2:
            out[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 5)), dtype=np.uint8))
        else:
            del out[max(at, 1) :]
    return bytes(out)


def _html(_: Sample, __: Random) -> bytes:
    return HTML.encode()


def _empty(sample: Sample, _: Random) -> bytes:
    return b"" if sample.wrap != "gz" else b" "  # an empty gzip is a day without rows


def _binary(_: Sample, rng: Random) -> bytes:
    return b"\x00\xff" + bytes(rng.integers(0, 256, 200, dtype=np.uint8))


def _lines(sample: Sample) -> tuple[list[str], int]:
    """Return the lines and the first that is a row."""
    lines = sample.text.rstrip("\n").split("\n")
    titled = not lines[0].split(",")[0][:1].isdigit()
    return lines, int(titled)


def _some_row(sample: Sample, rng: Random, change: Callable[[list[str]], list[str]]) -> bytes:
    lines, first = _lines(sample)
    row = int(rng.integers(first, len(lines)))
    lines[row] = ",".join(change(lines[row].split(",")))
    return ("\n".join(lines) + "\n").encode()


def _cell(sample: Sample, rng: Random) -> bytes:
    columns = sample.required
    if not columns:
        return _missing_cell(sample, rng)
    column = int(columns[int(rng.integers(len(columns)))])
    bad = _NO_NUMBER[int(rng.integers(len(_NO_NUMBER)))]
    return _some_row(sample, rng, lambda cells: [*cells[:column], bad, *cells[column + 1 :]])


def _missing_cell(sample: Sample, rng: Random) -> bytes:
    return _some_row(sample, rng, lambda cells: cells[:-1])


def _extra_cell(sample: Sample, rng: Random) -> bytes:
    return _some_row(sample, rng, lambda cells: [*cells, "1"])


def _header(sample: Sample, rng: Random) -> bytes:
    lines, first = _lines(sample)
    if not first:
        return _extra_cell(sample, rng)
    names = lines[0].split(",")
    at = int(rng.integers(len(names)))
    names[at] = names[at] + "_usd"
    return "\n".join([",".join(names), *lines[1:]]).encode()


def _header_only(sample: Sample, rng: Random) -> bytes:
    lines, first = _lines(sample)
    return (lines[0] + "\n").encode() if first else _empty(sample, rng)


def _clock(sample: Sample, rng: Random) -> bytes:
    """Write one time in another unit, or far away."""
    lines, first = _lines(sample)
    column = next((i for i, c in enumerate(lines[first].split(",")) if c.isdigit() and len(c) >= 13), None)
    if column is None:
        return _missing_cell(sample, rng)
    at = column
    form = ("{cut}", "{whole}000", "{first}", "-{whole}", "{whole}999")[int(rng.integers(5))]

    def pick(text: str) -> str:
        return form.format(cut=text[:-3], whole=text, first=text[:1])

    return _some_row(sample, rng, lambda cells: [*cells[:at], pick(cells[at]), *cells[at + 1 :]])


def _torn_line(sample: Sample, rng: Random) -> bytes:
    """End in the middle of a row, before its last comma."""
    lines, first = _lines(sample)
    row = int(rng.integers(first, len(lines)))
    return "\n".join([*lines[:row], lines[row][: lines[row].rindex(",")]]).encode()


def _rows_at(body: Any, sample: Sample) -> Any:
    for step in sample.path:
        body = body[step]
    return body


def _change_json(sample: Sample, rng: Random, change: Callable[[Any], None]) -> bytes:
    """Change one row of an answer, or one line of a capture."""
    if _whole_json(sample):
        body = json.loads(sample.text)
        rows = _rows_at(body, sample)
        change(rows[int(rng.integers(len(rows)))])
        return json.dumps(body).encode()
    lines = sample.text.rstrip("\n").split("\n")
    at = int(rng.integers(len(lines)))
    row = json.loads(lines[at])
    change(row)
    lines[at] = json.dumps(row)
    return "\n".join(lines).encode()


def _field(sample: Sample, rng: Random) -> bytes:
    if not sample.required:
        return _not_rows(sample, rng)
    name = sample.required[int(rng.integers(len(sample.required)))]
    bad = _NO_VALUE[int(rng.integers(len(_NO_VALUE)))]

    def change(row: Any) -> None:
        row[name] = bad

    return _change_json(sample, rng, change)


def _no_field(sample: Sample, rng: Random) -> bytes:
    if not sample.required or isinstance(sample.required[0], int):
        return _not_rows(sample, rng)
    name = sample.required[int(rng.integers(len(sample.required)))]
    return _change_json(sample, rng, lambda row: row.pop(name))


def _not_rows(sample: Sample, rng: Random) -> bytes:
    bad = _NO_VALUE[int(rng.integers(len(_NO_VALUE)))]
    if not sample.path or not _whole_json(sample):
        return json.dumps({"rows": bad}).encode()
    body = json.loads(sample.text)
    *above, last = sample.path
    target = body
    for step in above:
        target = target[step]
    target[last] = "none" if bad == [] else bad
    return json.dumps(body).encode()


def _cut_json(sample: Sample, rng: Random) -> bytes:
    text = sample.text.rstrip("\n")
    if not _whole_json(sample):
        return text[: -int(rng.integers(1, 40))].encode()
    return text[: int(rng.integers(1, len(text) - 1))].encode()


def _twice(sample: Sample, rng: Random) -> bytes:
    """Write the first key twice."""
    if '{"' not in sample.text:
        return _not_rows(sample, rng)
    at = sample.text.index('{"') + 1
    end = sample.text.index(":", at)
    return (sample.text[:at] + sample.text[at:end] + ": 1, " + sample.text[at:]).encode()


def _no_json_line(sample: Sample, rng: Random) -> bytes:
    lines = sample.text.rstrip("\n").split("\n")
    lines[int(rng.integers(len(lines)))] = "garbage"
    return "\n".join(lines).encode()


_WHOLE: Final = {"html": _html, "empty": _empty, "binary": _binary}
_CSV: Final = {
    "cell": _cell, "cell again": _cell, "missing cell": _missing_cell, "extra cell": _extra_cell,
    "header": _header, "header only": _header_only, "time": _clock, "torn row": _torn_line,
}  # fmt: skip
_JSON: Final = {
    "field": _field, "field again": _field, "no field": _no_field, "no rows": _not_rows, "cut": _cut_json,
    "key twice": _twice,
}  # fmt: skip
_LINES: Final = {"no json line": _no_json_line}
