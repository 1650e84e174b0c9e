"""A Dask cluster gives the same bits as a serial run, even when it loses a worker in the middle."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibrator.backtest.population import simulate_accounts
from calibrator.backtest.replay import Spread, compare
from calibrator.config import Config
from calibrator.config_backtest import AccountsConfig
from calibrator.config_jobs import ComputeConfig
from calibrator.data.synthetic import synthetic_bars
from calibrator.errors import ConfigError
from calibrator.features import build_features, future_variance
from calibrator.forecast.base import walk_forward
from calibrator.forecast.design import design
from calibrator.forecast.har import Har
from calibrator.forecast.pooled import Pooled
from pipelines.backtesting import backtest
from pipelines.executor import Executor, executor_of
from pipelines.production import clock_of, produce
from pipelines.walks import Walker

pytest.importorskip("distributed", reason="needs the extra `scale`")
START = "import sys; from distributed.cli.{0} import main; sys.argv[0] = '{0}'; sys.exit(main())"


def start(stack: ExitStack, tool: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", START.format(tool), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, each a process of its own on loopback."""
    folder, file = tmp_path, tmp_path / "scheduler.json"
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


@dataclass(frozen=True)
class Book:
    """Accounts on a dozen markets, and two schedules to replay them under."""

    bars: pd.DataFrame
    accounts: pd.DataFrame
    schedules: dict[str, pd.DataFrame]

    def compare(self, spread: Spread) -> pd.DataFrame:
        return compare(self.bars, self.accounts, self.schedules, latency=3, spread=spread)


@pytest.fixture(scope="module")
def book() -> Book:
    markets = [f"M{n:02d}" for n in range(12)]
    bars = synthetic_bars(markets, periods=700, bar="1D", seed=4)
    row = {"notional_floor": 0, "regime": 0, "initial_margin_ppm": 90_000, "maintenance_margin_ppm": 60_000}
    flat = pd.DataFrame({"market": markets, "effective_from": bars["time"].min(), **row})
    later = flat.assign(effective_from=bars["time"].median(), maintenance_margin_ppm=80_000)
    rising = pd.concat([flat, later], ignore_index=True).sort_values(["market", "effective_from"])
    schedules = {"flat": flat, "rising": rising.reset_index(drop=True)}
    settings = AccountsConfig(count=2_000)
    return Book(bars, simulate_accounts(bars, schedules, settings).accounts, schedules)


@pytest.mark.parametrize("threads", [True, False])
def test_replays_side_by_side_give_the_same_bits(book: Book, threads: bool) -> None:  # noqa: FBT001
    expected = book.compare(map)
    assert (expected["liquidations"] > 100).all()
    found = book.compare(Executor(workers=2, threads=threads).map)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_replays_on_a_cluster_that_loses_a_worker_give_the_same_bits(
    cluster: tuple[str, list[subprocess.Popen[bytes]]], book: Book
) -> None:
    address, workers = cluster
    killed: list[int] = []

    with executor_of(ComputeConfig(executor="dask", scheduler=address)) as executor:
        executor.client.wait_for_workers(2, timeout=60)

        def spread(function: Callable[..., object], items: Sequence[object]) -> Iterator[object]:
            for number, result in enumerate(executor.map(function, items)):
                if number == 3 and not killed:
                    workers[0].kill()
                    killed.append(number)
                yield result

        found = book.compare(spread)  # type: ignore[arg-type]
    assert killed == [3]
    assert workers[0].wait(10) == -9
    pd.testing.assert_frame_equal(found, book.compare(map), check_exact=True)


def test_the_backtest_hands_its_replays_to_the_executor(
    daily: pd.DataFrame, no_options: pd.DataFrame, config: Config
) -> None:
    accounts = config.backtest.accounts.model_copy(update={"count": 100})
    small = config.model_copy(update={"backtest": config.backtest.model_copy(update={"accounts": accounts})})
    made = produce(daily, no_options, config=small, progress=lambda *_: None)
    done: list[int] = []

    class Watched(Executor):
        __slots__ = ()

        def map(self, function: Callable[..., object], items: Sequence[object]) -> Iterator[object]:  # type: ignore[override]
            done.append(len(items))
            yield from Executor(workers=2, threads=True).map(function, items)

    here = backtest(made, daily, progress=lambda *_: None)
    there = backtest(made, daily, progress=lambda *_: None, executor=Watched())
    assert done == [3, 3]  # three markets under two schedules
    assert there.summary == here.summary
    assert here.replays is not None
    assert there.replays is not None
    pd.testing.assert_frame_equal(there.replays, here.replays, check_exact=True)


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
