"""A shared MLflow: PostgreSQL for the runs, S3 for the files, both real, first down and then up."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from calibrator.config import TrackingConfig
from calibrator.errors import ConfigError, DataError
from pipelines.journal import Journal, kept
from pipelines.tracking import secret, sync, tracked_run

BIN = Path("/usr/lib/postgresql/15/bin")
NEEDS = ("mlflow", "psycopg", "boto3", "moto")
NOW = datetime(2024, 1, 1, tzinfo=UTC)
needs_servers = pytest.mark.skipif(
    not (BIN / "initdb").exists() or not all(importlib.util.find_spec(m) for m in NEEDS),
    reason="needs Debian's postgresql (15) and the extras `shared` and `dev`",
)


@dataclass(frozen=True)
class Servers:
    data: Path
    port: int
    s3: str

    @property
    def uri(self) -> str:
        return f"postgresql+psycopg://calibrator:confidential@127.0.0.1:{self.port}/postgres"

    def start(self) -> subprocess.Popen[bytes]:
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "unix_socket_directories="]
        process = subprocess.Popen(
            [BIN / "postgres", "-D", self.data, "-p", str(self.port), *options],
            user=unprivileged(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.data,
        )  # fmt: skip
        ready = [BIN / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        for _ in range(300):
            if subprocess.run(ready, check=False).returncode == 0:
                break
            time.sleep(0.1)
        return process


def unprivileged() -> str | None:
    """PostgreSQL refuses to run as root."""
    return "postgres" if os.getuid() == 0 else None


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that PostgreSQL's user may enter: pytest's own are closed to everybody but root."""
    if unprivileged() is None:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def servers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    import boto3  # noqa: PLC0415 - optional
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    password = folder / "password"
    password.write_text("confidential")
    if unprivileged():
        for path in (folder, password):
            shutil.chown(path, unprivileged())
    options = ["--auth=scram-sha-256", "-U", "calibrator", f"--pwfile={password}", "--no-sync", "-E", "UTF8"]
    data = folder / "data"
    subprocess.run(
        [BIN / "initdb", "-D", data, *options],
        user=unprivileged(),
        check=True,
        capture_output=True,
        cwd=folder,
    )
    storage = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    storage.start()
    host, port = storage.get_host_and_port()
    address = f"http://{host}:{port}"
    for key, value in {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
        "MLFLOW_S3_ENDPOINT_URL": address, "AWS_EC2_METADATA_DISABLED": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(key, value)
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket="runs")
    with socket.create_server(("127.0.0.1", 0)) as free:
        made = Servers(data, free.getsockname()[1], address)
    monkeypatch.setenv("CALIBRATOR_TRACKING", made.uri)
    try:
        yield made
    finally:
        storage.stop()


def rows(servers: Servers, query: str) -> list[tuple[object, ...]]:
    import psycopg  # noqa: PLC0415 - optional

    with psycopg.connect(servers.uri.replace("+psycopg", "")) as database:
        return database.execute(query).fetchall()


@needs_servers
def test_what_a_store_missed_is_sent_when_it_is_back(servers: Servers, tmp_path: Path) -> None:
    config = TrackingConfig(uri="env:CALIBRATOR_TRACKING", artifacts="s3://runs/mlflow", experiment="shared")
    began = time.monotonic()
    with tracked_run(tmp_path, config, "run 2024-01-01", tags={"ledger_row": "7"}, now=lambda: NOW) as run:
        run.log_params({"level": 0.99})
        run.log_dataset("bars", digest="d" * 64, source="test", profile={"rows": 3})
        run.log_table("coverage", {"market": ["AAA"], "coverage": [0.99]})
        child = run.child("model har", tags={"kind": "model"})
        child.log_series({"qlike": {202401: 0.4, 202402: 0.3}})
        run.log_texts({"models/garch.json": "{}", "report.html": "<p>"})
        run.register("m", aliases=("champion",), tags={"document": "x"})
    assert time.monotonic() - began < 5.0
    assert run.problem is not None
    assert "confidential" not in run.problem
    assert [len(j.waiting()) for _, j in kept(tmp_path)] == [10]
    assert "confidential" not in next((tmp_path / "unlogged").iterdir()).read_text()
    process = servers.start()
    try:
        (told,) = sync(tmp_path)
        assert told.endswith(": sent"), told
        assert not list((tmp_path / "unlogged").iterdir())
        assert sync(tmp_path) == []
        with tracked_run(tmp_path, config, "online", now=lambda: NOW) as again:
            again.log_texts({"b.txt": "1"})
        assert again.problem is None
        check(servers)
    finally:
        process.send_signal(signal.SIGINT)  # fast shutdown: MLflow keeps connections open
        process.wait(30)


def check(servers: Servers) -> None:
    import boto3  # noqa: PLC0415 - optional

    assert rows(servers, "select name, status, start_time from runs order by name") == [
        ("model har", "FINISHED", int(NOW.timestamp() * 1000)),
        ("online", "FINISHED", int(NOW.timestamp() * 1000)),
        ("run 2024-01-01", "FINISHED", int(NOW.timestamp() * 1000)),
    ]
    parent = (
        "select r.name from tags t join runs r on r.run_uuid = t.value where t.key = 'mlflow.parentRunId'"
    )
    assert rows(servers, parent) == [("run 2024-01-01",)]
    assert rows(servers, "select step, value from metrics order by step") == [(202401, 0.4), (202402, 0.3)]
    assert rows(servers, "select alias, version from registered_model_aliases") == [("champion", 1)]
    assert rows(servers, "select digest from datasets") == [("d" * 36,)]
    objects = boto3.client("s3", endpoint_url=servers.s3).list_objects_v2(Bucket="runs")["Contents"]
    names = {str(o["Key"]).rsplit("artifacts/", 1)[1] for o in objects}
    assert names == {"models/garch.json", "report.html", "tables/coverage.json", "b.txt"}


def test_a_secret_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    for uri in ("env:NOWHERE", f"secret:{tmp_path}/none"):
        with pytest.raises(ConfigError, match=f"tracking.uri {uri}: there is no such secret"):
            secret(uri)
    (tmp_path / "uri").write_text("sqlite:///x.db\n")
    assert secret(f"secret:{tmp_path}/uri") == "sqlite:///x.db"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"uri": 1}', b'{"entries": [1]}'])
def test_a_journal_that_is_none_is_named(content: bytes) -> None:
    with pytest.raises(DataError, match=r"x\.json: not a journal"):
        Journal.read(content, source="x.json")
