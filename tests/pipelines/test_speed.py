"""The speed benchmark: complete, driven by its clock, and comparing things that give the same values."""

import itertools
import json
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibrator.data.synthetic import synthetic_bars
from pipelines.benchmarks import speed
from pipelines.benchmarks.timing import interleaved, ratio

TITLES = [
    "GARCH: cold windows",
    "GARCH: daily refits",
    "GARCH: series that cannot be estimated",
    "Rolling features",
    "LightGBM: one refit",
    "Whole walk-forward",
]


@pytest.fixture(scope="module")
def said() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def tables(said: list[tuple[str, int, int]]) -> dict[str, speed.Table]:
    ticks = itertools.count(0.0, 0.5)
    made = speed.run(scale=0.01, progress=lambda *step: said.append(step), clock=ticks.__next__)
    return {t.title: t for t in made}


def test_every_table_is_there_and_says_how_it_was_measured(tables: dict[str, speed.Table]) -> None:
    assert list(tables) == TITLES
    for table in tables.values():
        assert len(table.frame) >= 3
        assert len(table.said) > 50
        missing = table.frame.columns[table.frame.isna().any()]
        assert set(missing) <= {"ratio", "asked"}  # only where there is nothing to compare with


def test_ratios_come_from_the_clock(tables: dict[str, speed.Table]) -> None:
    # a clock that ticks once per reading: whatever is timed takes one tick
    assert tables["GARCH: cold windows"].frame["ratio"].eq(1.0).all()
    assert tables["Rolling features"].frame["ratio"].eq(1.0).all()
    assert tables["LightGBM: one refit"].frame.loc["model per quantile", "ratio"] == 1.0
    whole = tables["Whole walk-forward"].frame
    parts = whole.drop(index="whole walk-forward")
    for column in ("fits", "theirs_seconds", "ours_seconds"):
        assert whole.loc["whole walk-forward", column] == pytest.approx(parts[column].sum())
    assert whole.loc["garch_normal", "theirs_seconds"] == 0.5 * whole.loc["garch_normal", "fits"]


def test_every_broken_series_gets_a_status(tables: dict[str, speed.Table]) -> None:
    frame = tables["GARCH: series that cannot be estimated"].frame
    ends = frame[["converged", "not_converged", "degenerate", "constrained"]].sum(axis=1)
    assert frame["estimations"].eq(18).all()
    assert ends.eq(18).all()
    assert frame.loc[["NaN", "constant", "overflowing"], "degenerate"].eq(18).all()
    assert frame.loc["exploding", "degenerate"] == 0


def test_both_ways_to_roll_give_the_same_values(tables: dict[str, speed.Table]) -> None:
    gap = tables["Rolling features"].frame["largest_difference"]
    assert gap["extremes"] == 0.0
    assert gap.max() < 1e-9


def test_a_missing_value_in_one_of_them_only_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = speed._columns(synthetic_bars(["A"], periods=2000, seed=1))
    assert speed._difference(columns, "together") < 1e-9
    monkeypatch.setattr(speed, "_extremes", lambda x: [v * np.nan for v in speed._extremes_pandas(x)])
    assert speed._difference(columns, "together") == float("inf")


def test_what_was_asked_stands_beside_what_was_measured(tables: dict[str, speed.Table]) -> None:
    asked = {t: tables[t].frame["asked"] for t in TITLES if "asked" in tables[t].frame}
    assert asked["GARCH: cold windows"].to_dict() == {
        "garch_normal": 40.0,
        "garch_t": 40.0,
        "gjr_t": 40.0,
        "egarch_t": 10.0,
        "gjr_skewt": 40.0,
    }
    assert asked["GARCH: daily refits"].eq(150.0).all()
    assert asked["GARCH: series that cannot be estimated"].eq(50.0).all()
    assert asked["Rolling features"].eq(8.0).all()
    assert asked["Whole walk-forward"].iloc[-1] == 6.0


def test_progress_is_reported_to_the_end(tables: dict[str, speed.Table], said: list) -> None:
    assert tables
    for what in {step[0] for step in said}:
        steps = [step for step in said if step[0] == what]
        assert steps[-1][1] == steps[-1][2]


def test_the_page_and_the_numbers_are_written(tables: dict[str, speed.Table], tmp_path: Path) -> None:
    files = speed.write(
        list(tables.values()), home=tmp_path / "h", made_on=date(2026, 1, 2), docs=tmp_path / "d"
    )
    page = files["table"].read_text()
    assert page == (tmp_path / "d" / "speed.md").read_text()
    assert "2026-01-02" in page
    assert all(f"## {title}\n" in page for title in TITLES)
    assert "nan" not in page
    numbers = json.loads(files["numbers"].read_text())
    assert list(numbers) == sorted(TITLES)
    assert numbers["Rolling features"][0]["ratio"] == 1.0


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5, float("nan")])
def test_a_scale_out_of_bounds_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=f"scale must be above 0 and at most 1, was {scale}"):
        speed.run(scale=scale, progress=lambda *_: None)


def test_tasks_take_turns_and_the_ratio_is_the_median_of_the_rounds() -> None:
    order: list[str] = []
    rounds = [{n: (lambda n=n: order.append(n)) for n in "ab"} for _ in range(3)]
    seconds = interleaved(rounds, clock=itertools.count().__next__)
    assert "".join(order) == "abbaab"
    assert seconds.shape == (3, 2)
    assert ratio(pd.DataFrame({"a": [2.0, 9.0, 2.0], "b": [1.0, 1.0, 1.0]}), slow="a", fast="b") == 2.0
