"""What checking a document costs its consumer: start of the command, decoding, verifying."""

import json
import resource
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from calibrator.publish.canonical import decode_value
from calibrator.publish.client import anchor_on_first_use, verify
from calibrator.publish.document import ParameterDocument, decode, encode
from calibrator.publish.keys import create_keys
from calibrator.publish.repository import publish
from pipelines.benchmarks.attack_stage import served
from pipelines.benchmarks.documents import NOW, sample_document
from pipelines.benchmarks.security_pages import Row, Section

Progress = Callable[[str, int, int], None]
SIZES_KB: Final = (10, 200, 900)
WITHIN_MS: Final = {200: 10.0}
START_MS: Final = 300.0


def run(*, scale: float, progress: Progress) -> list[Section]:
    """Measure everything in a temporary folder; ``scale`` shrinks the number of repetitions."""
    rounds = max(1, round(60 * scale))
    with TemporaryDirectory() as folder:
        rows: list[Row] = []
        for number, size in enumerate(SIZES_KB):
            rows += _verifying(Path(folder) / str(size), size, rounds)
            progress("sizes", number + 1, len(SIZES_KB))
        starts = _starts(Path(folder) / str(SIZES_KB[1]), max(1, rounds // 3), progress)
    return [
        Section(
            "Verifying, in the process",
            "Python API, warm. `decode` parses, checks the canonical form and every rule; `verify again` is "
            "the whole visit of a consumer that has the newest document already, `verify, new document` one "
            "that has to keep it, with its syncs to the disk. `cpu_ms` counts the processor alone, "
            "but a load average above the cores inflates it, too (shared caches). `asked` is what was to be "
            "reached.",
            rows,
        ),
        Section(
            "Starting the command",
            "Whole processes, warm file cache; `python` is the interpreter doing nothing.",
            starts,
        ),
    ]


def _verifying(place: Path, size: int, rounds: int) -> list[Row]:
    document = _document_of(1_000 * size)
    payload, home = encode(document), place / "home"
    create_keys(home / "keys")
    publish(home, payload, now=NOW)
    trusted = place / "trusted"
    folder = home / "published"
    anchor_on_first_use(trusted, folder)
    verify(folder, trusted=trusted, now=NOW)

    def anew() -> None:
        (trusted / "documents" / "parameters.json").unlink()
        verify(folder, trusted=trusted, now=NOW)

    tasks: dict[str, Callable[[], object]] = {
        "json.loads": lambda: json.loads(payload),
        "decode_value (slow path)": lambda: decode_value(payload),
        "decode": lambda: decode(payload),
        "verify again, folder": lambda: verify(folder, trusted=trusted, now=NOW),
        "verify, new document, folder": anew,
    }
    measured = {name: _milliseconds(task, rounds) for name, task in tasks.items()}
    with served(folder) as address:
        measured["verify again, http on loopback"] = _milliseconds(
            lambda: verify(address, trusted=trusted, now=NOW), rounds
        )
    return [
        {
            "document": f"{len(payload) / 1_000:.0f} kB, {len(document.markets)} markets",
            "what": name,
            "ms_median": statistics.median(times),
            "ms_fastest": min(times),
            "cpu_ms_median": statistics.median(used),
            "asked": WITHIN_MS.get(size, "") if name == "verify again, folder" else "",
        }
        for name, (times, used) in measured.items()
    ]


def _document_of(size: int) -> ParameterDocument:
    one, many = (len(encode(sample_document(n))) for n in (1, 101))
    return sample_document(max(1, round((size - one) / ((many - one) / 100)) + 1))


def _starts(place: Path, rounds: int, progress: Progress) -> list[Row]:
    command = str(Path(sysconfig.get_path("scripts")) / "calibrator")
    home, trusted = place / "now", place / "memory"
    create_keys(home / "keys")
    document = _document_of(200_000)
    publish(home, encode(document), now=datetime.now(UTC))
    published = home / "published"
    source = next((published / "targets").glob("*.parameters.json"))
    shutil.copy(source, place / "parameters.json")
    anchor_on_first_use(trusted, published)
    as_of = f"{document.valid_from:%Y-%m-%d}"
    check = [command, "verify", str(published), "--trusted", str(trusted), "--as-of", as_of]
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "calibrator --help": [command, "--help"],
        "calibrator show --help": [command, "show", "--help"],
        "calibrator verify, 200 kB": check,
        "calibrator show, 200 kB": [command, "show", str(place / "parameters.json")],
    }
    rows: list[Row] = []
    for number, (name, arguments) in enumerate(commands.items()):

        def start(given: list[str] = arguments) -> None:
            subprocess.run(given, capture_output=True, check=True)  # noqa: S603 # our own command

        times, used = _milliseconds(start, rounds)
        asked = START_MS if name.startswith("calibrator") else ""
        rows.append(
            {
                "what": name,
                "ms_median": statistics.median(times),
                "ms_fastest": min(times),
                "cpu_ms_median": statistics.median(used),
                "asked": asked,
            }
        )
        progress("starts", number + 1, len(commands))
    return rows


def _milliseconds(task: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Return the time that passed and the processor's, this process and its children, of every round."""
    task()
    passed, used = [], []
    for _ in range(rounds):
        begin, before = time.perf_counter(), _processor()
        task()
        passed.append(1_000 * (time.perf_counter() - begin))
        used.append(1_000 * (_processor() - before))
    return passed, used


def _processor() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
