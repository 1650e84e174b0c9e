"""The shipped manifests: what they start exists, is spelled as the command wants it, and leaks no secret."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from pipelines.__main__ import app

DEPLOY = Path(__file__).parents[2] / "pipelines" / "deploy"
CRONJOBS = list(yaml.safe_load_all((DEPLOY / "cronjob.yaml").read_text()))
UNITS = sorted(p.name for p in DEPLOY.iterdir() if p.suffix in {".service", ".timer"})


def pod(job: dict) -> dict:  # type: ignore[type-arg]
    return dict(job["spec"]["jobTemplate"]["spec"]["template"]["spec"])


def commands() -> list[list[str]]:
    """Every command line of the product in any manifest, from the verb on."""
    lines = [
        line for p in [*DEPLOY.glob("*.service"), DEPLOY / "crontab"] for line in p.read_text().splitlines()
    ]
    found = [m for line in lines for m in re.findall(r"-m pipelines (.*?)(?: 2>>.*?)?(?= &&|$)", line)]
    return [shlex.split(f) for f in found] + [pod(j)["containers"][0]["args"] for j in CRONJOBS]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_line_is_one_that_the_command_understands(words: list[str]) -> None:
    group = get_command(app)
    verb, rest = words[0], [w for w in words[1:] if w != "sync"]
    command = group.commands[verb]  # type: ignore[attr-defined]
    if "sync" in words:
        command = command.commands["sync"]
    known = {o for p in command.params for o in p.opts}
    assert {w for w in rest if w.startswith("-")} <= known
    required = {p.opts[0] for p in command.params if p.required}
    assert required <= set(rest)


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_the_unit(unit: str, tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("needs Debian's systemd")
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in UNITS:  # the program is not installed here: one that exists takes its place
        text = (DEPLOY / name).read_text().replace("/opt/calibrator/.venv/bin/python", str(program))
        (tmp_path / name).write_text(text.replace("User=calibrator", "User=daemon"))
    done = subprocess.run(
        [tool, "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_systemd_finds_a_mistake(tmp_path: Path) -> None:
    """The check above can fail."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("needs Debian's systemd")
    (tmp_path / "x.service").write_text("[Service]\nExecStart=/nowhere/python\nTypo=1\n")
    done = subprocess.run(
        [tool, "verify", "--man=no", str(tmp_path / "x.service")], capture_output=True, text=True, check=False
    )
    assert done.stderr


@pytest.mark.parametrize("job", CRONJOBS, ids=lambda j: j["metadata"]["name"])
def test_a_cron_job_is_safe_to_start_twice_and_locked_down(job: dict) -> None:  # type: ignore[type-arg]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert re.fullmatch(r"[\d*/,-]+( [\d*/,-]+){4}", job["spec"]["schedule"])
    spec = pod(job)
    assert spec["restartPolicy"] == "Never"
    assert spec["securityContext"]["runAsNonRoot"]
    (container,) = spec["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["resources"]["limits"]["memory"] == "6Gi"
    mounts = {m["name"] for m in container["volumeMounts"]}
    assert mounts == {v["name"] for v in spec["volumes"]}
    assert job["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 3600


def test_the_crontab_has_five_fields_and_an_existing_verb() -> None:
    lines = [x for x in (DEPLOY / "crontab").read_text().splitlines() if x and not x.startswith("#")]
    jobs = [x for x in lines if not re.match(r"^\w+=", x)]
    assert len(jobs) == 2
    assert all(re.match(r"^([\d*/,-]+ ){5}cd /opt/calibrator && ", x) for x in jobs)
    assert not any("%" in x for x in jobs)  # cron would cut there


def test_the_container_copies_what_exists_and_runs_as_nobody() -> None:
    root, text = DEPLOY.parents[1], (DEPLOY / "Containerfile").read_text()
    copied = [w for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for w in line.split()[:-1]]
    assert {"calibrator", "pipelines", "requirements.lock"} <= set(copied)
    assert all((root / name).exists() for name in copied), copied
    assert "--require-hashes" in text
    assert re.search(r"^USER 10001$", text, re.MULTILINE)
    assert 'ENTRYPOINT ["python", "-m", "pipelines"]' in text


@pytest.mark.parametrize("path", sorted(DEPLOY.iterdir()), ids=lambda p: p.name)
def test_no_manifest_holds_a_secret(path: Path) -> None:
    assert not re.search(
        r"(?i)(password|token|secret_?key|api_?key)\s*[:=]\s*['\"]?[A-Za-z0-9+/]{6,}", path.read_text()
    )
