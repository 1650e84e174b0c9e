"""The nightly benchmark starts real jobs in processes of their own and measures them."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import yaml

from calibrator.config import load_config
from calibrator.data.synthetic import synthetic_bars
from calibrator.errors import DataError
from pipelines.benchmarks.nightly import Measured, measure, run, write

SETTINGS = {
    "data": {"source": "files", "bars": ["bars.parquet"], "markets": "all", "bar": "1d"},
    "forecast": {
        "horizon": 1, "cadence": 1, "har_window": 250, "garch_window": 250, "learner_refit": 200,
        "garch_refit": 200, "learner_seeds": 1, "min_history": 120,
    },
    "regime": {"window": 200, "min_window": 100},
    "margin": {"close_out": 1, "tail_window": 150, "tail_min": 40, "floor_window": 150, "plan_steps": 2,
               "tiers": [0, 10_000, 50_000, 200_000]},
    "backtest": {"accounts": {"count": 20}},
    "tracking": {"enabled": False},
}  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    bars = synthetic_bars(["AAA", "BBB"], periods=420, bar="1D", seed=3)
    bars.to_parquet(tmp_path / "bars.parquet")
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


def test_a_run_from_nothing_a_night_and_a_retraining_are_measured(file: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    sets = ["forecast.learner_seeds=1"]
    found = run(load_config(file, sets), file=file, sets=sets, home=home, nights=1, progress=lambda *_: None)
    assert found.jobs["job"].tolist() == ["from nothing", "night", "retrain"]
    assert (found.markets, found.bars) == (2, 840)
    runs = found.jobs[found.jobs["job"] != "retrain"]
    assert (runs["signed"] > 0).all()
    assert (runs["signed"] <= runs["seconds"]).all()
    assert (found.jobs["megabytes"] > 50).all()
    assert len(list((home / "runs").iterdir())) == 2
    files = write(found, home=tmp_path / "out", made_on=date(2024, 1, 1), docs=tmp_path / "docs")
    assert files["docs"].read_text() == files["table"].read_text()
    assert "| night | 1.0 |" in files["docs"].read_text()


def test_a_job_that_fails_says_why(file: Path, tmp_path: Path) -> None:
    (tmp_path / "bars.parquet").unlink()
    with pytest.raises(DataError, match=r"(?s)run of 2020-01-01 ended with [1-9].*bars\.parquet"):
        measure("run", file, [], home=tmp_path / "home", as_of=pd.Timestamp("2020-01-01", tz="UTC"))


def test_more_nights_than_bars_are_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="9999 nights asked for"):
        run(load_config(file), file=file, sets=[], home=tmp_path, nights=9999, progress=lambda *_: None)


def test_percentiles_are_over_the_jobs_of_a_kind() -> None:
    seconds = list(range(1, 21))
    jobs = pd.DataFrame({"job": "night", "seconds": seconds, "processor": seconds, "signed": seconds})
    table = Measured(jobs.assign(megabytes=1.0), markets=1, bars=1).table()
    assert table.loc["night", "seconds p95"] == pytest.approx(19.05)
    assert table.loc["night", "signed"] == pytest.approx(10.5)
