"""A process made to be killed: ``python -m pipelines.benchmarks.victim KIND PLACE``.

For every line on stdin it forks a child that works on ``PLACE`` until somebody kills it, and says so:
``pid N``, ``done N`` for every sequence that the child has published or verified, ``dead`` when it is gone.
"""

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

from calibrator.errors import CalibratorError
from calibrator.publish.client import verify
from calibrator.publish.document import encode
from calibrator.publish.repository import latest, publish
from calibrator.publish.rotation import Keyring, rotate
from pipelines.benchmarks.documents import DAY, NOW, sample_document

ROLES: Final = ("timestamp", "snapshot", "targets")


def publish_next(home: Path) -> int:
    """Publish the successor of what is in force, with a payload; return its sequence."""
    document = sample_document(previous=latest(home))
    number = document.sequence
    payload = b'{"sequence":%d}' % number
    now = NOW + timedelta(seconds=number)
    publish(home, encode(document), now=now, targets={"demo/payload.json": payload})
    return number


def copy_naively(place: Path) -> int:
    """Publish as scripts do: sign somewhere, then copy what is new to where it is served, and sync it."""
    number = publish_next(place)
    for path in sorted((place / "published").rglob("*.json")):
        copy, data = place / "served" / path.relative_to(place / "published"), path.read_bytes()
        if not copy.exists() or copy.read_bytes() != data:
            with copy.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
    return number


def rotate_next(home: Path) -> int:
    """Replace the keys of one role; return the version of the root."""
    roots = len(list((home / "published" / "metadata").glob("*.root.json")))
    rotate(Keyring(home, NOW + DAY / 2), ROLES[roots % 3])
    return roots + 1


def verify_once(place: Path) -> int:
    """Verify as a consumer does; return the sequence."""
    return verify(place / "published", trusted=place / "trusted", now=NOW + DAY).sequence


KINDS: Final[dict[str, Callable[[Path], int]]] = {
    "publish": publish_next,
    "naive": copy_naively,
    "rotate": rotate_next,
    "verify": verify_once,
}


def once(work: Callable[[Path], int], place: Path) -> int:
    """Do the work one time and return a command's exit code."""
    try:
        print("done", work(place), flush=True)
    except CalibratorError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return error.exit_code
    return 0


def serve(work: Callable[[Path], int], place: Path) -> None:
    """Fork a child for every line on stdin, and wait until it has been killed."""
    while sys.stdin.readline():
        child = os.fork()
        if child == 0:
            while True:
                os.write(1, b"done %d\n" % work(place))
        os.write(1, b"pid %d\n" % child)
        os.waitpid(child, 0)
        os.write(1, b"dead\n")


if __name__ == "__main__":
    kind, where, *how = sys.argv[1:]
    if how == ["once"]:
        sys.exit(once(KINDS[kind], Path(where)))
    serve(KINDS[kind], Path(where))
