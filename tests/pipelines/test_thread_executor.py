"""Refits in threads: the same bits as one after the other, whichever ends first, and errors come through."""

import time

import numpy as np
import pandas as pd
import pytest

from calibrator.config_jobs import ComputeConfig
from calibrator.forecast.lgbm import LEAST_ROWS, Boosted
from pipelines.executor import SERIAL, Executor, executor_of
from pipelines.walks import Walker

THREADS = Executor(workers=3, threads=True)


def learned_rows() -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(4)
    days = pd.date_range("2023-01-01", periods=500, tz="UTC").as_unit("us")
    rows = pd.DataFrame({"market": np.repeat(["A", "B"], 500), "time": np.tile(days, 2), "phase": 0})
    signal = rng.normal(size=(1000, 3))
    rows = rows.assign(core=-7.0, one=signal[:, 0], two=signal[:, 1], three=signal[:, 2])
    rows = rows.assign(weekday=rows["time"].dt.day_of_week.astype(float), hour=0.0, age=1.0)
    variance = np.exp(-7.0 + 0.5 * signal[:, 0] + rng.normal(size=1000))
    targets = pd.DataFrame(
        {"future_variance": variance, "known_at": rows["time"] + pd.Timedelta("1D")}, index=rows.index
    )
    return rows, targets


def test_a_walk_in_threads_has_the_bits_of_one_after_the_other() -> None:
    rows, targets = learned_rows()
    start = LEAST_ROWS // 2 + 2
    out, last = [], []
    for executor in (SERIAL, THREADS):
        walker = Walker(executor=executor)
        made = walker(lambda: Boosted(steps=1, rounds=15), rows, targets, refit=40, start=start, rowwise=True)
        out.append(made)
        model = walker.last["lightgbm"]
        assert isinstance(model, Boosted)
        last.append([booster.model_to_string() for booster in model.boosters])
    assert out[0].equals(out[1])
    assert out[0].notna().sum() == 2 * (500 - start)
    assert last[0] == last[1]
    assert len(last[0]) == 2


def test_results_keep_the_order_of_the_items() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.03 * (3 - item))
        return item

    assert list(THREADS.map(slow_first, [0, 1, 2])) == [0, 1, 2]
    assert list(SERIAL.map(str, [0, 1])) == ["0", "1"]


def test_an_error_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        list(THREADS.map(lambda item: 1 // item, [1, 0, 2]))


def test_threads_are_the_default_and_one_of_them_is_serial() -> None:
    with executor_of(ComputeConfig()) as executor:
        assert executor.threads
        assert executor.workers == 2
    with executor_of(ComputeConfig(workers=1)) as executor:
        assert isinstance(executor.map(str, [1, 2]), map)
