"""The README's commands, run verbatim in a copy of the project, and the limits it keeps."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines() if line
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git knows, with their times, beside the environment that the tests run in."""
    place = tmp_path_factory.mktemp("copy")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
            os.utime(place / name, (0, 0))  # older than the environment: nothing to install again
    (place / ".venv").symlink_to(ROOT / ".venv")
    return place


def test_the_readme_names_its_two_commands() -> None:
    assert COMMANDS[0] == "make run"
    assert "`make test`" in README


def test_every_command_of_the_readme_works_as_it_stands(copy: Path) -> None:
    if not (ROOT / ".venv" / "runtime").exists():
        pytest.skip("the project's own .venv is not there; `make test` creates it")
    for command in COMMANDS:
        ended = subprocess.run(command, shell=True, cwd=copy, capture_output=True, text=True, check=False)  # noqa: S602
        assert ended.returncode == 0, f"{command}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    shown = (copy / "home" / "published" / "metadata" / "timestamp.json").is_file()
    assert shown
    (report,) = (copy / "home" / "runs").glob("*/report.html")
    assert report.stat().st_size > 100_000


def test_the_readme_stays_short_and_the_files_small() -> None:
    assert len(README.splitlines()) <= 200
    long = {
        str(path.relative_to(ROOT)): count
        for folder in ("calibrator", "pipelines", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 400
    }
    assert long == {}


def test_every_path_the_readme_names_exists() -> None:
    named = re.findall(r"`((?:calibrator|pipelines|docs)/[\w./-]*)`", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
