"""A LightGBM file of unknown origin cannot harm the process that asks about it."""

from hashlib import sha256
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest

from calibrator.errors import DataError
from pipelines.foreign import inspect_foreign


@pytest.fixture(scope="module")
def text() -> str:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 3))
    data = lgb.Dataset(x, x[:, 0], feature_name=["a", "b", "c"])
    return str(lgb.train({"verbose": -1, "num_threads": 1}, data, 5).model_to_string())


def test_a_whole_file_says_what_it_holds(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text(text)
    found = inspect_foreign(tmp_path / "m.txt")
    assert (found.trees, found.features) == (5, ("a", "b", "c"))
    assert found.digest == sha256(text.encode()).hexdigest()


def test_a_damaged_file_ends_its_reader_and_nothing_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text(text[: len(text) // 3])
    with pytest.raises(DataError, match=r"m\.txt: not a LightGBM model: its reader ended with"):
        inspect_foreign(tmp_path / "m.txt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        inspect_foreign(tmp_path / "none.txt")
