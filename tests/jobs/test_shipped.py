"""The champion that is shipped: whole, small, readable, and what the code makes of the demo's data."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config, load_config
from calibrator.errors import DataError
from calibrator.features import build_features, future_variance
from calibrator.forecast.base import VarianceForecaster
from pipelines.champion import read_champion, with_champion
from pipelines.forecasting import Forecasts, expert_forecasts
from pipelines.foreign import inspect_foreign
from pipelines.loading import load
from pipelines.models import model_texts
from pipelines.pairs import with_pairs
from pipelines.production import clock_of
from pipelines.shipping import LARGEST, ship
from pipelines.walks import Walker, blocks, fit_block

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]?\d+)?")


@pytest.fixture(scope="module")
def demo() -> Config:
    return load_config(ROOT / "pipelines" / "config" / "demo.yaml")


@pytest.fixture(scope="module")
def folder() -> Path:
    champion = read_champion(ROOT)
    assert champion is not None
    return ROOT / "models" / champion.id


def test_it_is_accepted_small_and_text(folder: Path, demo: Config) -> None:
    files = [p for p in folder.iterdir() if p.name != "manifest.json"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {p.name for p in files} == set(manifest["files"])
    assert sum(p.stat().st_size for p in folder.iterdir()) < LARGEST
    assert all(p.suffix in {".json", ".txt", ".md"} and p.read_text() for p in files)
    assert with_champion(demo, ROOT).forecast == demo.forecast.model_copy(update=manifest["forecast"])
    card = (folder / "card.md").read_text()
    for part in ("## Data", "## Scores", "a challenger that is no better", "## Known failures"):
        assert part in card
    assert [p.name for p in (ROOT / "models").iterdir() if p.is_dir()] == [folder.name]


def test_its_trees_load_in_a_process_of_their_own(folder: Path) -> None:
    for name in ("lightgbm_0.txt", "stress.txt"):
        found = inspect_foreign(folder / name)
        assert found.trees > 10
        assert found.digest == json.loads((folder / "manifest.json").read_text())["files"][name]


class LastFit(Walker):
    """Fits what depends on no earlier refit for the last block alone: the others are not shipped."""

    __slots__ = ()

    def __call__(
        self,
        make: Callable[[], VarianceForecaster],
        features: pd.DataFrame,
        targets: pd.DataFrame,
        *,
        refit: int,
        start: int,
        rowwise: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> pd.Series:
        if getattr(make(), "memory", None) is not None:
            return Walker.__call__(
                self, make, features, targets, refit=refit, start=start, rowwise=rowwise, progress=progress
            )
        last = blocks(features["time"], refit=refit, start=start)[-1]
        fitted = fit_block(make, features, targets, last)
        assert fitted is not None
        self.last[fitted.name] = fitted
        return pd.Series(np.nan, features.index)


def test_the_code_makes_the_same_models_of_the_same_data(demo: Config, folder: Path) -> None:
    """Text is compared word for word, numbers to nine digits: other processors may round otherwise."""
    loaded = load(demo, as_of=None)
    assert json.loads((folder / "manifest.json").read_text())["data"] == loaded.data
    live, clock, walker = with_champion(demo, ROOT), clock_of(demo), LastFit()
    bars = with_pairs(loaded.bars, live)
    features = build_features(bars, clock=clock, implied_volatility=loaded.implied)
    targets = future_variance(bars, features, clock=clock)
    expert_forecasts(features, targets, config=live, clock=clock, progress=lambda *_: None, keep=walker)
    made = model_texts(Forecasts(*[pd.DataFrame()] * 7, fitted=walker.last))
    assert {"garch_normal.json", "gjr_t.json", "lightgbm_0.txt", "pooled.json"} == set(made)
    for name, text in made.items():
        shipped = (folder / name).read_text()
        assert NUMBER.sub("#", text) == NUMBER.sub("#", shipped), name
        numbers = [np.array([float(n) for n in NUMBER.findall(t)]) for t in (text, shipped)]
        np.testing.assert_allclose(numbers[0], numbers[1], rtol=1e-9, atol=1e-12, err_msg=name)


def test_shipping_takes_the_place_of_what_was_there_and_checks_what_it_takes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no champion; run `retrain` first"):
        ship(tmp_path / "home", tmp_path / "to")
    shutil.copytree(ROOT / "models", tmp_path / "home" / "models")
    for _ in range(2):
        champion = ship(tmp_path / "home", tmp_path / "again" / "models")
    assert read_champion(tmp_path / "again") == champion == read_champion(ROOT)
    trees = tmp_path / "home" / "models" / champion.id / "stress.txt"
    trees.write_bytes(trees.read_bytes()[:-1])
    with pytest.raises(DataError, match="SHA-256 must be"):
        ship(tmp_path / "home", tmp_path / "again" / "models")
    assert read_champion(tmp_path / "again") == champion
