"""The frontier benchmark on a small hourly world: every page and figure, venues at their own close-out."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import Result

from calibrator.data.synthetic import synthetic_bars

VENUES = {
    "venues": [
        {
            "venue": name, "role": role, "close_out_hours": hours, "source": "here", "field": "f",
            "stated": "2024-01-01", "retrieved": "2024-01-01", "note": "made up",
            "margins": {"BTC": [[0, ppm]]},
        }
        for name, role, hours, ppm in (
            ("quick", "perpetual", 1, 10_000),
            ("daily", "perpetual", 24, 90_000),
            ("lender", "collateral", 48, 170_000),
        )
    ]
}  # fmt: skip


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, command: Callable[..., Result]) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("frontier")
    bars = synthetic_bars(["BTCUSDT", "ETHUSDT"], periods=750, bar="1D", seed=5)
    bars.to_parquet(folder / "bars.parquet", index=False)
    config = {
        "data": {"source": "files", "bars": ["bars.parquet"], "bar": "1d", "label": "end"},
        "forecast": {
            "horizon": 1, "cadence": 1, "proxy": "range", "har_window": 250, "garch_window": 250,
            "learner_refit": 400, "garch_refit": 400, "learner_seeds": 1, "min_history": 200,
        },
        "regime": {"window": 200, "min_window": 100},
        "margin": {"close_out": 1, "tail_window": 300, "tail_min": 60},
    }  # fmt: skip
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    (folder / "venues.yaml").write_text(yaml.safe_dump(VENUES))
    quotes = pd.DataFrame({"time": bars["time"].drop_duplicates(), "dvol_close": 60.0})
    quotes.to_parquet(folder / "dvol.parquet", index=False)
    made = command(
        "benchmark", "frontier", "--config", folder / "small.yaml", "--home", folder / "home",
        "--venues", folder / "venues.yaml", "--implied", folder / "dvol.parquet",
    )  # fmt: skip
    return folder / "home" / "benchmarks" / "frontier", made


def test_page_figure_and_numbers_are_written(done: tuple[Path, Result]) -> None:
    folder, made = done
    assert made.exit_code == 0, made.output
    assert (folder / "frontier-small.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "frontier-small.md").read_text()
    assert "## perpetual, 1 bars, 0.99, excursion: 2 markets" in page
    assert "where an implied volatility is quoted" in page
    assert "| filtered simulation, implied volatility |" in page
    assert "EWMA, ten-year floor (EMIR c)" in page
    assert "- lender: f; here; stated 2024-01-01" in page


def test_a_venue_with_another_close_out_gets_its_own_calibration(done: tuple[Path, Result]) -> None:
    numbers = json.loads((done[0] / "frontier-small.json").read_text())
    (group,) = numbers["frontiers"].values()
    assert [r["policy"] for r in group["against"] if r["kind"] == "venue"] == ["daily, 10,000"]
    # Two days are two bars; an hour is shorter than a bar and cannot be measured.
    assert list(numbers["against"]) == ["collateral, 2 bars, 0.99, excursion"]
    lender = numbers["against"]["collateral, 2 bars, 0.99, excursion"]["lender, 10,000"]
    assert lender["average_margin"] == pytest.approx(0.17)
    assert lender["markets"] == 1
    assert lender["less_margin_ends"][0] <= lender["less_margin"] <= lender["less_margin_ends"][1]
