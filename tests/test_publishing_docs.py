"""The operator's runbook, command by command, and the schema beside it."""

import json
import re
import socket
import subprocess
from pathlib import Path

import pytest

from calibrator.config import load_config
from calibrator.publish.document import ParameterDocument, encode, json_schema
from calibrator.publish.repository import SCHEMA, latest
from pipelines.benchmarks.documents import sample_document
from pipelines.store import config_digest, run_name, save

ROOT = Path(__file__).parents[1]
RUNBOOK = (ROOT / "docs" / "publishing.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", RUNBOOK, re.DOTALL)


def finished(place: Path, day: int, *, move: int, previous: ParameterDocument | None) -> None:
    """Write what a run of that day would have written."""
    digest = config_digest(load_config(ROOT / "pipelines" / "config" / "demo.yaml"))
    document = sample_document(
        move_ppm=move, previous=previous, day=day, config_digest=digest, bar_seconds=86_400
    )
    folder = place / "home" / "runs" / run_name(document.issued_at)
    folder.mkdir(parents=True)
    save(folder / "parameters.json", encode(document))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in (".venv", "pipelines", "calibrator"):
        (tmp_path / name).symlink_to(ROOT / name)
    finished(tmp_path, 0, move=0, previous=None)
    return tmp_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_command_of_the_runbook_works_in_its_order(place: Path) -> None:
    port = str(free_port())
    assert len(BLOCKS) >= 10
    for language, block in BLOCKS:
        if "--approve" in block:
            finished(place, 30, move=-20_000, previous=latest(place / "home"))
        command = ["bash", "-euo", "pipefail", "-c", block.replace("8000", port)]
        if language == "python":
            command = [str(place / ".venv" / "bin" / "python"), "-c", block]
        ended = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{block}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
    document = latest(place / "home")
    assert document is not None
    assert document.sequence == 2
    assert (place / "parameters.json").is_file()
    assert not (place / "home" / "keys" / "root.pem").exists()


def test_the_published_schema_is_the_documented_one() -> None:
    """Made by: python -c "import json; from calibrator.publish.document import json_schema; ..."."""
    written = ROOT / "docs" / SCHEMA
    assert json.loads(written.read_text()) == json_schema(), (
        f"{written} is not what json_schema() returns: write it again (json.dumps, indent=2, sort_keys=True)"
    )
    assert SCHEMA in RUNBOOK


def test_the_runbook_names_commands_that_exist() -> None:
    from typer.testing import CliRunner  # noqa: PLC0415

    from pipelines.__main__ import app  # noqa: PLC0415

    named = set(re.findall(r"python -m pipelines ((?:keys |benchmark )?[a-z]+)", RUNBOOK))
    assert {"publish", "refresh", "keys create", "keys rotate", "keys revoke"} <= named
    for command in named:
        assert CliRunner().invoke(app, [*command.split(), "--help"]).exit_code == 0, command
