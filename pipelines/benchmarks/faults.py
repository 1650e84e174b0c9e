"""What publisher and consumer survive: kill -9, a full disk, a read-only folder, wrong clocks, attacks."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from calibrator.errors import PublishError
from calibrator.publish.client import anchor_on_first_use, last_good, verify
from calibrator.publish.document import encode
from calibrator.publish.keys import create_keys
from calibrator.publish.repository import latest, publish
from pipelines.benchmarks.attack_stage import Stage, located
from pipelines.benchmarks.attacks import ATTACKS
from pipelines.benchmarks.documents import DAY, NOW, sample_document
from pipelines.benchmarks.security_pages import Section
from pipelines.benchmarks.victim import publish_next

Progress = Callable[[str, int, int], None]
KILLS: Final = {"publish": 500, "naive": 200, "rotate": 100, "verify": 200}
SEED: Final = 20250101
LONGEST: Final = 3.0  # longest life of a child, in times that its work takes
DISKS_KB: Final = (64, 68, 72, 76, 80, 84, 88, 96)
ISOLATED: Final = ("unshare", "-rm", "sh", "-ec")


@dataclass(frozen=True, slots=True)
class Kills:
    """What a campaign of kills left.

    Attributes
    ----------
    kind : str
        What the killed process did.
    rounds : int
        Processes killed.
    done : int
        Publications, rotations or verifications that they had reported.
    torn : int
        Rounds after which a consumer refused what it found.
    backwards : int
        Rounds after which something older than reported or seen before was in force.
    """

    kind: str
    rounds: int
    done: int
    torn: int
    backwards: int


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, how the process ended, and whether the last good file was untouched, or rightly replaced."""

    what: str
    exit_code: int
    message: str
    untouched: bool


def kill_campaign(kind: str, rounds: int, place: Path, *, progress: Progress) -> Kills:
    """Kill a process of a kind at random moments, and look at what it left after every kill.

    Parameters
    ----------
    kind : str
        ``publish``, ``naive`` (the control: sign, then copy), ``rotate`` or ``verify``.
    rounds : int
    place : pathlib.Path
        An empty folder.
    progress : callable
        Called with (what, done, total).
    """
    create_keys(place / "keys")
    publish_next(place)
    served = place / ("served" if kind == "naive" else "published")
    if kind == "naive":
        shutil.copytree(place / "published", served)
    trusted = place / "trusted"
    anchor_on_first_use(trusted, served)
    seen, done, torn, backwards = 1, 0, 0, 0
    with _victim(kind, place) as process:
        unit = _seconds(process)
        for number, life in enumerate(np.random.default_rng(SEED).uniform(0.0, LONGEST, rounds)):
            if kind == "verify":
                seen = publish_next(place)
            reported = _kill(process, unit * float(life))
            done += len(reported)
            expected = max([seen, *reported]) if kind in {"publish", "naive"} else seen
            try:
                found = verify(served, trusted=trusted, now=NOW + DAY).sequence
            except PublishError:
                torn += 1
            else:
                backwards += found < expected
                seen = found
            if kind != "naive":
                backwards += latest(place) != last_good(trusted)
            progress(f"kill -9 ({kind})", number + 1, rounds)
    return Kills(kind, rounds, done, torn, backwards)


@contextmanager
def _victim(kind: str, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "pipelines.benchmarks.victim", kind, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603
        yield process
        if process.stdin is not None:
            process.stdin.close()


def _seconds(process: subprocess.Popen[bytes]) -> float:
    """Measure how long the work takes: a child lives long enough for some of it."""
    life = 0.05
    while True:
        reported = _kill(process, life)
        if len(reported) >= 3:
            return life / len(reported)
        life *= 2


def _kill(process: subprocess.Popen[bytes], delay: float) -> list[int]:
    """Let a child live for ``delay`` seconds, kill it, and return what it had reported."""
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process needs pipes")
    process.stdin.write(b"go\n")
    process.stdin.flush()
    reported, killed = [], False
    while (line := process.stdout.readline().split()) != [b"dead"]:
        if not line:
            raise RuntimeError("the victim ended by itself")
        if line[0] == b"done":
            reported.append(int(line[1]))
        elif not killed:
            time.sleep(delay)
            os.kill(int(line[1]), signal.SIGKILL)
            killed = True
    return reported


def disk_full(home: Path, kilobytes: int, scratch: Path) -> Fault:
    """Publish on a disk of its own with so many kilobytes.

    Parameters
    ----------
    home : pathlib.Path
        A home with a publication; it is copied to the small disk.
    kilobytes : int
    scratch : pathlib.Path
        An empty folder, where the disk is mounted for this process alone.
    """
    script = (
        f'mount -t tmpfs -o size={kilobytes}k none "$1"; cp -a "$2/." "$1"; cd "$4"; '
        'set +e; "$3" -m pipelines.benchmarks.victim publish "$1" once; code=$?; '
        'rm -rf "$5"; cp -a "$1" "$5"; exit $code'
    )
    after = scratch.parent / f"after-{kilobytes}"
    return _isolated(f"disk full ({kilobytes} kB)", script, home, scratch, after)


def read_only(home: Path, scratch: Path) -> Fault:
    """Publish into a folder that is mounted read-only for this process alone."""
    script = (
        'cp -a "$2/." "$5"; mount --bind "$5" "$1"; mount -o remount,bind,ro "$1"; cd "$4"; '
        '"$3" -m pipelines.benchmarks.victim publish "$1" once'
    )
    return _isolated("read-only folder", script, home, scratch, scratch.parent / "after-read-only")


def isolation() -> bool:
    """Say whether this system lets a process mount something for itself."""
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*ISOLATED, "true"], capture_output=True, check=False)  # noqa: S603
    return tried.returncode == 0


def _isolated(what: str, script: str, home: Path, scratch: Path, after: Path) -> Fault:
    scratch.mkdir(parents=True, exist_ok=True)
    after.mkdir(parents=True, exist_ok=True)
    here = str(Path(__file__).parents[2])
    command = [*ISOLATED, script, "sh", str(scratch), str(home), sys.executable, here, str(after)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    message = (ended.stdout + ended.stderr).strip().replace(str(scratch), "HOME")
    untouched = ended.returncode == 0 or latest(after) == latest(home)
    return Fault(what, ended.returncode, message, untouched=untouched)


def wrong_clocks(home: Path) -> list[Fault]:
    """Publish with a clock one day back, and one ten years ahead."""
    last = latest(home)
    payload = encode(sample_document(previous=last))
    out = []
    for what, clock in (("clock a day back", NOW - DAY), ("clock ten years ahead", NOW + 3_653 * DAY)):
        try:
            publish(home, payload, now=clock)
            code, message = 0, "published"
        except PublishError as error:
            code, message = error.exit_code, f"{type(error).__name__}: {error}".replace(str(home), "HOME")
        out.append(Fault(what, code, message, untouched=latest(home) == last))
    return out


def attack_rows(place: Path, *, progress: Progress) -> list[dict[str, str]]:
    """Play every attack, and say how it ended."""
    template = Stage.build(place / "template")
    rows = [(attack, where) for attack in ATTACKS for where in attack.places]
    out = []
    for number, (attack, where) in enumerate(rows):
        stage = template.copy(place / str(number))
        attack.play(stage)
        verdict = "ACCEPTED"
        with located(stage, where) as location:
            try:
                stage.check(location)
            except PublishError as error:
                expected = type(error) is attack.error and re.search(attack.match, str(error))
                verdict = type(error).__name__ if expected and stage.kept() else f"UNEXPECTED {error!r}"
        out.append({"attack": attack.kind, "how": attack.name, "served as": where, "consumer": verdict})
        shutil.rmtree(stage.place)
        progress("attacks", number + 1, len(rows))
    return out


def run(*, scale: float, progress: Progress) -> list[Section]:
    """Run every campaign in a temporary folder; ``scale`` shrinks the number of kills."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        kills = [
            kill_campaign(kind, max(1, round(rounds * scale)), _made(place / kind), progress=progress)
            for kind, rounds in KILLS.items()
        ]
        home = _made(place / "home")
        create_keys(home / "keys")
        publish_next(home)
        faults = wrong_clocks(home)
        if isolation():
            faults += [disk_full(home, size, place / f"disk-{size}") for size in DISKS_KB]
            faults.append(read_only(home, place / "read-only"))
        rows = attack_rows(_made(place / "attacks"), progress=progress)
    refused = sum(row["consumer"].endswith("Error") for row in rows)
    return [
        Section(
            "Killed processes",
            "`kill -9` at seeded random moments of up to three times the duration of the work. `naive` is "
            "the control: it signs elsewhere and copies what is new to where it is served. After every kill "
            "a consumer verifies what is served: `torn` counts its refusals, `backwards` anything older "
            "than what had been reported or accepted, or a consumer's memory that contradicts the publisher.",
            [asdict(row) for row in kills],
        ),
        Section(
            "Disks, folders, clocks",
            "The publisher on a disk of its own of so many kilobytes (tmpfs), on a read-only mount, and with "
            "wrong clocks. `untouched`: the last good publication verifies and is in force. Exit codes: 0 "
            "published, 7 signing, 8 cannot be read or written.",
            [asdict(row) | {"untouched": "yes" if row.untouched else "NO"} for row in faults],
        ),
        Section(
            "Attacks",
            f"{refused} of {len(rows)} refused, each by its own error and with the last good document kept. "
            "Every row is played against a folder and against Python's web server on loopback, by an "
            "attacker who holds whatever keys the row needs.",
            rows,
        ),
    ]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
