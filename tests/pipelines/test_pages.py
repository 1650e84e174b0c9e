"""What a person sees in a real browser: the MLflow pages of a run, and the review page."""

import asyncio
import base64
import importlib.util
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from pipelines.tracked import MODEL

BROWSER = shutil.which("chromium")
KEPT = Path(__file__).parents[2] / "screenshots"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="needs Debian's chromium"),
    pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs the extra `pipelines`"),
    pytest.mark.skipif(importlib.util.find_spec("tornado") is None, reason="needs the extra `dev`"),
]
OPTIONS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--window-size=1400,1600",
    "--remote-debugging-address=127.0.0.1", "--remote-allow-origins=*",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip
SERVER = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"
}  # fmt: skip
Finished = tuple[Path, Result]
Started = Callable[..., subprocess.Popen[bytes]]


def free_port() -> int:
    return 20_000 + os.getpid() % 10_000


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    running: list[subprocess.Popen[bytes]] = []

    def start(*command: object, **more: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [str(c) for c in command], env=os.environ | more, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        os.killpg(process.pid, 9)
        process.wait()


def answered(url: str, *, seconds: float = 120) -> bytes:
    """Return what a server of this machine says, once it says anything."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - loopback
                return bytes(response.read())
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


@dataclass
class Page:
    """One tab of a headless Chromium, driven over its debugging protocol."""

    port: int

    def see(self, url: str, *, expects: list[str], name: str, until: str = "true") -> str:
        """Open a page, wait for its texts and until a script holds, keep a screenshot, return the text."""
        return asyncio.run(self._see(url, expects, name, until))

    def _tab(self) -> str:
        """Open a tab and return the address of its debugger."""
        target = f"http://127.0.0.1:{self.port}/json/new?about:blank"
        request = urllib.request.Request(target, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
            return str(json.loads(response.read())["webSocketDebuggerUrl"])

    async def _see(self, url: str, expects: list[str], name: str, until: str) -> str:
        from tornado.websocket import websocket_connect  # noqa: PLC0415 - an optional dependency

        socket = await websocket_connect(self._tab(), max_message_size=1 << 28)
        count = 0

        async def ask(method: str, **params: Any) -> dict[str, Any]:
            nonlocal count
            count += 1
            await socket.write_message(json.dumps({"id": count, "method": method, "params": params}))
            while True:
                answer = json.loads(str(await socket.read_message()))
                if answer.get("id") == count:
                    return dict(answer.get("result", {}))

        await ask("Page.navigate", url=url)

        async def value(script: str) -> object:
            return (await ask("Runtime.evaluate", expression=script)).get("result", {}).get("value")

        text, holds, end = "", False, time.monotonic() + 120
        while time.monotonic() < end:
            text = str(await value("document.body ? document.body.innerText : ''"))
            holds = await value(until) is True
            if holds and all(e in text for e in expects):
                break
            await asyncio.sleep(0.4)
        picture = await ask("Page.captureScreenshot", format="png")
        KEPT.mkdir(exist_ok=True)
        (KEPT / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))
        socket.close()
        while await socket.read_message() is not None:
            pass
        missing = [e for e in expects if e not in text]
        assert not missing, (missing, text[-3000:])
        assert holds, (until, text[-3000:])
        return text


@pytest.fixture(scope="module")
def page(started: Started, tmp_path_factory: pytest.TempPathFactory) -> Page:
    port = free_port()
    profile = tmp_path_factory.mktemp("chromium")
    started(BROWSER, *OPTIONS, f"--remote-debugging-port={port}", f"--user-data-dir={profile}", "about:blank")
    answered(f"http://127.0.0.1:{port}/json/version")
    return Page(port)


@pytest.fixture(scope="module")
def server(finished: Finished, started: Started) -> str:
    """The address of an MLflow on the runs of a finished home."""
    port = free_port() + 10_000
    store = f"sqlite:///{finished[0] / 'home' / 'mlflow.db'}"
    options = ("--backend-store-uri", store, "--host", "127.0.0.1", "--port", port, "--workers", 1)
    started(sys.executable, "-m", "mlflow", "server", *options, **SERVER)
    answered(f"http://127.0.0.1:{port}/health")
    return f"http://127.0.0.1:{port}"


def rows(finished: Finished, query: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(finished[0] / "home" / "mlflow.db")) as database:
        return database.execute(query).fetchall()


def test_the_runs_table_shows_the_job_and_its_children(page: Page, server: str, finished: Finished) -> None:
    (experiment,) = rows(finished, "select experiment_id from experiments where name = 'margin-calibrator'")
    address = f"{server}/#/experiments/{experiment[0]}/runs?workflowType=machine_learning"
    page.see(address, expects=["margin-calibrator", "run 20", "bars ("], name="mlflow-runs")


def test_a_run_shows_its_metrics_tags_and_files(page: Page, server: str, finished: Finished) -> None:
    ((run, experiment),) = rows(
        finished, "select run_uuid, experiment_id from runs where name like 'run 20%'"
    )
    address = f"{server}/#/experiments/{experiment}/runs/{run}"
    expects = ["qlike/combination", "coverage/AAA/long", "ledger_row", "forecast.horizon"]
    page.see(address, expects=expects, name="mlflow-run")
    expects = ["figures", "tables", "models", "report.html", "validation.html", "backtest.json"]
    page.see(f"{address}/artifacts", expects=expects, name="mlflow-run-files")


def test_a_figure_of_a_run_is_really_shown_and_a_table_is_a_table(
    page: Page, server: str, finished: Finished
) -> None:
    ((run, experiment, folder),) = rows(
        finished, "select run_uuid, experiment_id, artifact_uri from runs where name like 'run 20%'"
    )
    address = f"{server}/#/experiments/{experiment}/runs/{run}/artifacts"
    artifacts = Path(folder.removeprefix("file://"))
    figure = "figures/margin-AAA-long.png"
    width, height = struct.unpack(">II", (artifacts / figure).read_bytes()[16:24])
    loaded = f"[...document.images].some(i => i.naturalWidth === {width} && i.naturalHeight === {height})"
    page.see(f"{address}/{figure}", expects=["margin-AAA-long.png"], name="mlflow-run-figure", until=loaded)
    table = json.loads((artifacts / "tables/coverage.json").read_bytes())
    cells = [f"{table['data'][0][table['columns'].index(c)]}" for c in ("market", "side")]
    as_table = "document.querySelectorAll('[role=row], tr').length > 2"
    expects = ["breaches", "AAA", "short", *cells]
    page.see(f"{address}/tables/coverage.json", expects=expects, name="mlflow-run-table", until=as_table)


def test_a_model_has_a_curve_over_the_months(page: Page, server: str, finished: Finished) -> None:
    ((run, experiment),) = rows(
        finished, "select run_uuid, experiment_id from runs where name = 'model combination'"
    )
    address = f"{server}/#/experiments/{experiment}/runs/{run}/model-metrics"
    page.see(address, expects=["model combination", "qlike"], name="mlflow-model-curve")


def test_the_registered_model_shows_its_alias_and_its_document(
    page: Page, server: str, finished: Finished
) -> None:
    address = f"{server}/#/models/{MODEL}/versions/1"
    text = page.see(address, expects=[MODEL, "champion", "ledger_row", "document"], name="mlflow-model")
    assert rows(finished, "select value from model_version_tags where key = 'document'")[0][0][:20] in text
