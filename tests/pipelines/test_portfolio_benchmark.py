"""The portfolio benchmark: complete, reproducible, and comparing things that give the same values."""

import itertools
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import Result

from calibrator.portfolio.fixed_grids import exchange_24
from pipelines.benchmarks import portfolio, portfolio_history, portfolio_speed, portfolio_stress
from pipelines.benchmarks.speed import Table

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    ticks = itertools.count(0.0, 0.5)
    made = portfolio.run(None, as_of=None, scale=0.005, progress=lambda *_: None, clock=ticks.__next__)
    return {t.title: t for t in made}


def test_values_and_inversions_are_exact(tables: dict[str, Table]) -> None:
    frame = tables["Black-76: exactness"].frame
    assert frame.loc["value", "largest_error"] <= 1e-12
    assert frame.loc["inversion", "largest_error"] <= 1e-9


def test_everybody_gets_the_same_values(tables: dict[str, Table]) -> None:
    for title in ("Black-76: speed", "Book of accounts: speed and memory"):
        frame = tables[title].frame
        assert frame["largest_difference"].max() < 1e-9
        assert frame.loc["ours", "ratio"] == 1.0
    assert (
        tables["Book of accounts: speed and memory"].frame.loc["ours, 2 threads", "largest_difference"] == 0
    )


def test_only_concentration_is_not_sub_additive() -> None:
    frame = portfolio_speed.additivity_table(scale=0.05)
    assert (frame.loc[frame.index.str.startswith("scenarios"), "violations"] == 0).all()
    assert frame.loc["with concentration", "violations"] > 0


def test_the_page_says_how_everything_was_measured(tables: dict[str, Table], tmp_path: Path) -> None:
    files = portfolio.write(
        list(tables.values()), home=tmp_path, made_on=date(2026, 1, 2), docs=tmp_path / "d"
    )
    page = files["committed table"].read_text()
    assert page.startswith("# Portfolio margin\n\n2026-01-02; ")
    assert all(f"## {title}" in page and tables[title].said in page for title in tables)


def test_coverage_holds_when_offsets_fail_and_not_when_hedges_are_believed() -> None:
    rules = exchange_24(("A", "B"), price_range=0.1, volatility_up=0.3, volatility_down=0.2)
    made = portfolio_stress.simulated(
        rules, {"A": 9.0, "B": 5.0}, {"A": 0.5, "B": 0.6}, accounts=50, draws=4_000
    )
    worst = made.groupby("hedge")["worst_pair"].min()
    assert worst[0.0] > 0.98 > worst[0.5]
    assert (made.loc[made["hedge"] == 0.0, "coverage"] > 0.985).all()


def test_the_skew_and_the_paths_are_what_they_say() -> None:
    forward, years = np.array([100.0]), np.array([30 / 365])
    put, money, call = (
        portfolio_history.skewed(np.array([0.6]), np.array([k]), forward, years)[0]
        for k in (90.0, 100.0, 110.0)
    )
    assert put > money == 0.6 > call
    closes = pd.Series(np.arange(48.0), pd.date_range("2021-01-01", periods=48, freq="h", tz="UTC"))
    walk = portfolio_history.paths(closes, closes.index[[0, 23, 30]])
    assert walk[0].tolist() == list(range(25))
    assert np.isnan(walk[2]).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scale", "0.005", "--spot", "x.parquet"), "belong together"),
        (("--scale", "2"), "less than or equal to 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    command: Command, arguments: tuple[str, ...], message: str
) -> None:
    ended = command("benchmark", "portfolio", *arguments)
    assert ended.exit_code == 2
    assert message in " ".join(ended.output.split())


def test_a_carry_loses_what_the_basis_moves_and_nothing_else() -> None:
    rules = exchange_24(("A",), price_range=0.1, volatility_up=0.3, volatility_down=0.2)
    price = np.linspace(100.0, 90.0, 25)
    day = {"seen": np.True_, "basis": np.linspace(0.0, 0.01, 25), "spot": price, "perpetual": price}
    rows = portfolio_history._carry(rules, day, pd.Timestamp("2023-01-01", tz="UTC"))
    assert [row[0] for row in rows] == [
        "long spot, short perpetual (observed)",
        "short spot, long perpetual (observed)",
    ]
    assert rows[0][2:] == pytest.approx((0.2, 0.0, 0.009, 0.009), abs=1e-12)
    assert rows[1][4:] == pytest.approx((0.0, -0.009), abs=1e-12)


@pytest.mark.realdata
def test_a_real_quarter_of_spreads_is_covered_and_saves() -> None:
    folder = os.environ.get("CALIBRATOR_DATA")
    if not folder:
        pytest.skip("CALIBRATOR_DATA names no folder of historical files")
    index = Path(folder) / "implied_volatility" / "deribit_dvol_btc_1h.parquet"
    closes = portfolio_history.hourly(Path(folder) / "bars" / "binance_spot_1h.parquet", "BTCUSDT")
    origins = pd.date_range("2021-04-01", "2021-06-30", tz="UTC")  # May 2021 is among them
    level = portfolio_history._levels(
        portfolio_history.implied_quotes(index).set_index("time")["dvol_close"] / 100, origins
    )
    walk = portfolio_history.paths(closes, origins)
    rules = exchange_24(("BTCUSDT",), price_range=0.2, volatility_up=0.5, volatility_down=0.3)
    rows = [
        row
        for i, origin in enumerate(origins)
        if np.isfinite(walk[i]).all()
        for row in portfolio_history._spreads(rules, walk[i] / walk[i, 0], level[i], origin)
    ]
    frame = pd.DataFrame(rows, columns=["strategy", "origin", "legs", "portfolio", "worst", "last"])
    made = portfolio_history.summary(frame)
    assert made.loc["all", "saving"] > 0.7
    assert made.loc["all", "covered_worst_hour"] > 0.99
