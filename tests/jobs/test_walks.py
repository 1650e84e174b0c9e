"""Incremental runs: what is recalled is, bit for bit, what would be computed."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.features import Clock
from pipelines.executor import Executor
from pipelines.forecasting import Forecasts, forecast_all
from pipelines.models import model_texts
from pipelines.production import clock_of
from pipelines.shelf import KEPT_RUNS, Shelf
from pipelines.walks import Walker


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


class World:
    def __init__(self, bars: pd.DataFrame, options: pd.DataFrame, config: Config) -> None:
        self.bars, self.options, self.config = bars, options, config
        self.clock: Clock = clock_of(config)

    def run(self, walker: Walker | None, *, days: int = 0) -> Forecasts:
        bars = self.bars[self.bars["time"] <= self.bars["time"].max() - pd.Timedelta(days=days)]
        return forecast_all(
            bars, self.options, config=self.config, clock=self.clock, progress=silent, walker=walker
        )


@pytest.fixture(scope="module")
def world(daily: pd.DataFrame, no_options: pd.DataFrame, config: Config) -> World:
    return World(daily, no_options, config)


@pytest.fixture(scope="module")
def whole(world: World) -> Forecasts:
    return world.run(Walker())


@pytest.fixture(scope="module")
def eve(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shelf on which the run of thirty days before has left its blocks."""
    folder = tmp_path_factory.mktemp("eve") / "walks"
    with Shelf(folder) as shelf:
        world.run(Walker(shelf), days=30)
    return folder


@pytest.fixture
def shelf(eve: Path, tmp_path: Path) -> Iterator[Shelf]:
    for path in eve.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with Shelf(tmp_path) as shelf:
        yield shelf


def same(left: Forecasts, right: Forecasts) -> None:
    pd.testing.assert_frame_equal(left.experts, right.experts, check_exact=True)
    pd.testing.assert_series_equal(left.probability, right.probability, check_exact=True)
    pd.testing.assert_frame_equal(left.regimes, right.regimes, check_exact=True)
    assert model_texts(left) == model_texts(right)
    assert left.drivers() == right.drivers()


def test_the_next_month_recalls_and_equals_the_whole_run(
    world: World, whole: Forecasts, shelf: Shelf
) -> None:
    walker = Walker(shelf)
    same(world.run(walker), whole)
    assert (walker.fits, walker.recalled) == (5, 4)  # every forecaster's next refit fell into the month
    again = Walker(shelf)
    same(world.run(again), whole)
    assert again.fits == 0


def test_a_corrected_old_bar_recalls_nothing_wrong(world: World, config: Config, shelf: Shelf) -> None:
    changed = world.bars.copy()
    changed.loc[changed.index[450], ["close", "high"]] *= 1.01
    other = World(changed, world.options, config)
    same(other.run(Walker(shelf)), other.run(None))


def test_processes_give_the_same_bits(world: World, whole: Forecasts) -> None:
    same(world.run(Walker(executor=Executor(workers=2))), whole)


def test_a_tampered_entry_is_not_read(
    world: World, whole: Forecasts, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    spoilt = [p for p in shelf.folder.iterdir() if p.name != "index.json"]
    for path in spoilt:
        path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    with caplog.at_level(logging.WARNING):
        walker = Walker(shelf)
        same(world.run(walker), whole)
    assert walker.recalled == 0
    assert "its SHA-256 is not the one in the index" in caplog.text


@pytest.mark.parametrize("content", ["", "[]", '{"run": 1}', '{"run": "x", "entries": {}}'])
def test_an_index_that_cannot_be_read_is_an_empty_shelf(content: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(content)
    with Shelf(tmp_path) as shelf:
        assert shelf.get("a") is None
    assert json.loads((tmp_path / "index.json").read_text())["entries"] == {}


def test_what_nobody_asks_for_is_removed(tmp_path: Path) -> None:
    with Shelf(tmp_path) as shelf:
        shelf.put("old", b"1")
        shelf.put("used", b"2")
    for _ in range(KEPT_RUNS):
        with Shelf(tmp_path) as shelf:
            assert shelf.get("used") == b"2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.json", "used"]


def test_a_link_on_the_shelf_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"1")
    with Shelf(tmp_path / "walks") as shelf:
        shelf.put("a", b"1")
        (tmp_path / "walks" / "a").unlink()
        (tmp_path / "walks" / "a").symlink_to(tmp_path / "secret")
        assert shelf.get("a") is None
