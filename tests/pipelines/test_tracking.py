"""Tracking against a real MLflow: what is logged, how a run ends, and that no server can hold a job up."""

import importlib.util
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from calibrator.config import Config, TrackingConfig
from pipelines.tracking import flat_parameters, tracked_run

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed (extra `pipelines`)"
)
LOCAL = TrackingConfig(experiment="tests")
PICTURE = b"\x89PNG\r\n\x1a\n"


def rows(home: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        return database.execute(query).fetchall()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which one run finished and one failed: creating the database takes seconds, so once."""
    home = tmp_path_factory.mktemp("tracking") / "home"
    with tracked_run(home, LOCAL, "good", tags={"as_of": "2018-12-31"}) as run:
        run.log_params({f"p{i:03d}": i for i in range(150)} | {"long": "x" * 10_000})
        for step, value in enumerate((0.5, 0.4)):
            run.log_metrics(
                {
                    "qlike.har": value,
                    "coverage/A&B?/long": value,
                    "missing": float("nan"),
                    "endless": float("inf"),
                },
                step=step,
            )
        run.log_figures({"margin SPX": PICTURE})
        run.log_texts({"models/garch.json": "{}\n", "report.html": "<p>\u2265</p>"})
        run.log_artifacts({"backtest.json": b"\r\n\x00"})
    assert run.problem is None
    assert run.run_id is not None
    with pytest.raises(ZeroDivisionError), tracked_run(home, LOCAL, "bad") as failed:
        failed.log_metrics({"x": 1 / 0})
    assert failed.problem is None
    return home


def test_a_run_holds_what_was_logged(home: Path) -> None:
    assert rows(home, "select name, status from runs order by start_time") == [
        ("good", "FINISHED"),
        ("bad", "FAILED"),
    ]
    assert rows(home, "select count(*) from params") == [(151,)]
    assert rows(home, "select length(value) from params where key = 'long'") == [(500,)]
    assert rows(home, "select key, value, step from metrics order by key, step") == [
        ("coverage/A_B_/long", 0.5, 0),
        ("coverage/A_B_/long", 0.4, 1),
        ("qlike.har", 0.5, 0),
        ("qlike.har", 0.4, 1),
    ]
    assert ("as_of", "2018-12-31") in rows(home, "select key, value from tags")


def test_artifacts_are_kept_byte_for_byte_in_the_home(home: Path) -> None:
    found = {
        p.relative_to(home / "mlartifacts").as_posix().split("/", 2)[2]: p.read_bytes()
        for p in (home / "mlartifacts").rglob("*")
        if p.is_file()
    }
    assert found == {
        "figures/margin SPX.png": PICTURE,
        "models/garch.json": b"{}\n",
        "report.html": "<p>\u2265</p>".encode(),
        "backtest.json": b"\r\n\x00",
    }


def test_a_call_that_fails_is_named_and_the_run_still_ends(home: Path) -> None:
    with tracked_run(home, LOCAL, "refused") as run:
        run.log_params({"a": 1})
        run.log_params({"a": 2})
        run.log_metrics({"after": 1.0})
    assert run.problem is not None
    assert "the run is not fully logged" in run.problem
    assert "Changing param values is not allowed" in run.problem
    assert rows(home, "select status from runs where name = 'refused'") == [("FINISHED",)]
    assert rows(home, "select count(*) from metrics where key = 'after'") == [(0,)]


@pytest.mark.parametrize("path", ["../outside.txt", "/etc/outside.txt", "a/../../b"])
def test_an_artifact_stays_inside_the_run(path: str, tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="artifact path must stay inside the run"),
        tracked_run(tmp_path, TrackingConfig(enabled=False), "x") as run,
    ):
        run.log_texts({path: ""})


@contextmanager
def listener() -> Iterator[int]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def remote(port: int) -> TrackingConfig:
    return TrackingConfig(uri=f"http://127.0.0.1:{port}", experiment="tests")


def track_against(port: int, home: Path) -> tuple[str, float]:
    began = time.monotonic()
    with tracked_run(home, remote(port), "x") as run:
        for step in range(100):
            run.log_metrics({"a": 1.0}, step=step)
    assert run.problem is not None
    return run.problem, time.monotonic() - began


def test_a_server_that_is_down_costs_no_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with listener() as port:
        pass
    problem, seconds = track_against(port, tmp_path)
    assert f"http://127.0.0.1:{port} failed" in problem
    assert seconds < 5.0
    assert problem in caplog.messages
    assert not (tmp_path / "mlflow.db").exists()


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with listener() as port:
        problem, seconds = track_against(port, tmp_path)
    assert problem.startswith("tracking: ")
    assert seconds < 5.0


def test_a_home_that_cannot_be_written_is_a_problem_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with tracked_run(tmp_path / "home", LOCAL, "x") as run:
        run.log_params({"a": 1})
    assert run.problem is not None
    assert run.run_id is None


def test_a_disabled_run_imports_nothing_and_writes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from calibrator.config import TrackingConfig\nfrom pipelines.tracking import tracked_run\n"
        "with tracked_run(Path(sys.argv[1]), TrackingConfig(enabled=False), 'x') as run:\n"
        "    run.log_params({'a': 1}); run.log_texts({'b': ''})\n"
        "assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "home")], check=True)
    assert not list(tmp_path.iterdir())


def test_a_killed_job_leaves_its_run_running(home: Path) -> None:
    code = (
        "import os, sys, time\nfrom pathlib import Path\n"
        "from calibrator.config import TrackingConfig\nfrom pipelines.tracking import tracked_run\n"
        "with tracked_run(Path(sys.argv[1]), TrackingConfig(experiment='tests'), 'killed') as run:\n"
        "    while run.run_id is None: time.sleep(0.05)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(home)], check=False).returncode == -9
    assert rows(home, "select status from runs where name = 'killed'") == [("RUNNING",)]


def test_every_setting_has_its_dotted_key() -> None:
    config = Config.model_validate(
        {"data": {"source": "embedded", "markets": ["SPX"]}, "markets": {"WTI": {"role": "collateral"}}}
    )
    flat = flat_parameters(config)
    assert flat["data.markets"] == "['SPX']"
    assert flat["markets.WTI.role"] == "collateral"
    assert flat["backtest.accounts.seed"] == "20080915"
    assert not [key for key, value in flat.items() if value.startswith("{") and value != "{}"]
