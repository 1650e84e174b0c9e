"""The scale benchmark measures, and its page says what was measured."""

from datetime import date
from pathlib import Path

import pandas as pd
import pytest

from pipelines.benchmarks.scale import exponent, measure, page, write


def test_one_size_is_measured_and_written(tmp_path: Path) -> None:
    found = measure(2, 200)
    assert found["bars"] == 2 * 200 * 4
    assert found["decisions"] > 50
    assert min(found["seconds"], found["megabytes"]) > 0
    table = pd.DataFrame([found, {k: 4 * v for k, v in found.items()}], index=[2, 8])
    files = write(table, home=tmp_path, made_on=date(2024, 1, 1), docs=tmp_path / "docs")
    text = files["docs"].read_text()
    assert text == files["table"].read_text() == page(table, made_on=date(2024, 1, 1))
    assert "| 8 |" in text
    assert "time 1.00, memory 1.00" in text


def test_the_exponent_of_a_power_is_its_power() -> None:
    table = pd.DataFrame({"x": [2.0 * n**1.3 for n in (10, 50, 200)]}, index=[10, 50, 200])
    assert exponent(table, "x") == pytest.approx(1.3)
