"""A Dask cluster gives the same bits as a serial run, even when it loses a worker in the middle."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.config_jobs import ComputeConfig
from calibrator.errors import ConfigError
from calibrator.features import build_features, future_variance
from calibrator.forecast.base import walk_forward
from calibrator.forecast.design import design
from calibrator.forecast.har import Har
from calibrator.forecast.pooled import Pooled
from pipelines.executor import executor_of
from pipelines.production import clock_of
from pipelines.walks import Walker

pytest.importorskip("distributed", reason="needs the extra `scale`")
START = "import sys; from distributed.cli.{0} import main; sys.argv[0] = '{0}'; sys.exit(main())"


def start(stack: ExitStack, tool: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", START.format(tool), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, each a process of its own on loopback."""
    folder = tmp_path_factory.mktemp("dask")
    file = folder / "scheduler.json"
    loopback = ("--host", "127.0.0.1", "--no-dashboard")
    with ExitStack() as stack:
        start(stack, "dask_scheduler", *loopback, "--port", "0", "--scheduler-file", str(file))
        options = (*loopback, "--no-nanny", "--nthreads", "1", "--local-directory", str(folder))
        workers = [start(stack, "dask_worker", "--scheduler-file", str(file), *options) for _ in range(2)]
        for _ in range(600):
            if file.exists() and file.stat().st_size:
                break
            time.sleep(0.1)
        yield str(pd.read_json(file, typ="series")["address"]), workers


def test_a_cluster_that_loses_a_worker_gives_the_same_bits(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], daily: pd.DataFrame, config: Config
) -> None:
    address, workers = cluster
    clock = clock_of(config)
    features = build_features(daily, clock=clock)
    targets = future_variance(daily, features, clock=clock)
    core = Har(steps=1, window=400).forecast(features)
    rows = design(features, core, cadence=clock.cadence, steps=1)
    settings = {"refit": 10, "start": 250, "rowwise": True}
    expected = walk_forward(lambda: Pooled(steps=1), rows, targets.loc[rows.index], **settings)  # type: ignore[arg-type]
    killed: list[int] = []

    def told(done: int, total: int) -> None:
        if done == 3:
            assert total > 6
            workers[0].kill()
            killed.append(done)

    with executor_of(ComputeConfig(executor="dask", scheduler=address)) as executor:
        executor.client.wait_for_workers(2, timeout=60)
        walker = Walker(executor=executor)
        found = walker(
            lambda: Pooled(steps=1),
            rows,
            targets.loc[rows.index],
            progress=told,
            **settings,  # type: ignore[arg-type]
        )
    assert killed == [3]
    assert workers[0].wait(10) == -9
    pd.testing.assert_series_equal(found, expected, check_exact=True, check_names=False)
    assert np.isfinite(found.to_numpy()).sum() > 200


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.executor.PATIENCE", 1)
    settings = ComputeConfig(executor="dask", scheduler="tcp://127.0.0.1:9")
    with (
        pytest.raises(ConfigError, match=r"compute.scheduler tcp://127.0.0.1:9: does not answer"),
        executor_of(settings),
    ):
        pass


@pytest.mark.parametrize("raw", [{"executor": "dask"}, {"scheduler": "tcp://127.0.0.1:1"}])
def test_a_scheduler_belongs_to_dask_and_to_nothing_else(raw: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="scheduler must be given for the executor dask"):
        ComputeConfig.model_validate(raw)
