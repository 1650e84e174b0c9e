"""Forecast and calibrate as every job does it: with the home's memory, on the executor that was asked for."""

from pathlib import Path

from calibrator.config import Config
from pipelines.executor import executor_of
from pipelines.forecasting import Progress
from pipelines.jobs import log
from pipelines.loading import Loaded
from pipelines.production import Production, produce
from pipelines.shelf import open_shelf
from pipelines.walks import Walker


def produced(config: Config, loaded: Loaded, *, home: Path, progress: Progress) -> Production:
    """Forecast and calibrate, recalling what the home's earlier runs computed on the same rows."""
    with open_shelf(home, reuse=config.jobs.reuse) as shelf, executor_of(config.compute) as executor:
        walker = Walker(shelf, executor)
        made = produce(
            loaded.bars,
            loaded.implied,
            config=config,
            progress=progress,
            walker=walker,
            feeds=loaded.feeds,
            fitted=loaded.fitted,
        )
        log("forecast", fits=walker.fits, recalled=walker.recalled)
    return made
