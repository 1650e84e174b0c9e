"""A small market, a small run: the whole product in a few seconds."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from calibrator.data.synthetic import synthetic_bars
from pipelines.__main__ import app

SMALL = {
    "data": {
        "source": "files",
        "bars": ["bars.parquet"],
        "bar": "1d",
        "label": "end",
        "calendar": "continuous",
    },
    "forecast": {
        "horizon": 1,
        "cadence": 1,
        "proxy": "range",
        "har_window": 400,
        "garch_window": 300,
        "learner_refit": 200,
        "learner_seeds": 1,
    },
    "regime": {"window": 365, "min_window": 120},
    "margin": {
        "close_out": 1,
    },  # as thin as the market
    "markets": {"OIL": {"role": "collateral"}},
    "backtest": {"accounts": {"count": 100}, "sensitivity": {"entries": 1}},
}


@pytest.fixture(scope="session")
def small_bars() -> pd.DataFrame:
    return synthetic_bars(["AAA", "BBB", "OIL"], periods=800, bar="1D", seed=11)


def _furnish(folder: Path, bars: pd.DataFrame) -> Path:
    bars.to_parquet(folder / "bars.parquet", index=False)
    (folder / "run.yaml").write_text(yaml.safe_dump(SMALL))
    return folder


def _command(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def place(tmp_path: Path, small_bars: pd.DataFrame) -> Path:
    """A folder with bars.parquet and run.yaml."""
    return _furnish(tmp_path, small_bars)


@pytest.fixture(scope="session")
def command() -> Callable[..., Result]:
    """Run the operator's command in this process."""
    return _command


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, small_bars: pd.DataFrame) -> tuple[Path, Result]:
    """Hand out a folder in which a small run has ended, and what it printed; never change it."""
    folder = _furnish(tmp_path_factory.mktemp("finished"), small_bars)
    return folder, _command("run", "--config", folder / "run.yaml", "--home", folder / "home")
