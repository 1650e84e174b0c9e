"""The benchmark of recorded liquidations: tables from small files whose answers are known by hand."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibrator.calibrate.haircut import LoanTerms
from calibrator.config import parse_config
from calibrator.errors import DataError
from pipelines.benchmarks.liquidations import Outcome, lending_table, published, seized_table, write
from pipelines.benchmarks.liquidations_cases import accounts_table, stress_table
from pipelines.production import Decisions, Production, clock_of

HOURS = pd.date_range("2021-05-01 01:00", periods=24 * 30, freq="h", tz="UTC").as_unit("us")
FALL = pd.Timestamp("2021-05-19 12:00", tz="UTC")
PRICE = np.where(HOURS < FALL, 100.0, 70.0)
TERMS = LoanTerms(0.05, 0.0, 0.0)


def bars(*markets: str) -> pd.DataFrame:
    prices = dict.fromkeys(("open", "high", "low", "close"), PRICE)
    return pd.concat([pd.DataFrame({"market": m, "time": HOURS, **prices, "volume": 1.0}) for m in markets])


def production(*, haircut: float = 0.2) -> Production:
    raw: dict[str, Any] = {
        "data": {"source": "embedded", "bar": "1h"},
        "margin": {"close_out": 24},
        "haircut": {"slippage": 0.0, "interest": 0.0},
        "markets": {m: {"role": "collateral"} for m in ("ETHUSDT", "BTCUSDT")},
    }
    config = parse_config(raw, folder=Path(), source="test")
    days = pd.DatetimeIndex(HOURS[23::24], name="origin")
    columns = {f"{n}_{s}": haircut for n in ("margin", "unlimited") for s in ("long", "short")}
    made = {
        m: Decisions(m, config.market(m), pd.DataFrame(columns, days), np.full((len(days), 1), haircut))
        for m in ("ETHUSDT", "BTCUSDT")
    }
    return Production(config, clock_of(config), None, pd.DataFrame(), made)  # type: ignore[arg-type]


def events(**changes: object) -> pd.DataFrame:
    row = {
        "time": [FALL - pd.Timedelta("90min")], "collateral_symbol": "WETH", "debt_symbol": "USDC",
        "collateral_usd": 1000.0, "implied_bonus": 0.05, "collateral_liq_threshold_bps_static": 8500.0,
        "bonus_ok": True,
    } | changes  # fmt: skip
    return pd.DataFrame(row)


def test_lending_is_held_against_the_threshold_in_force() -> None:
    rows = pd.concat(
        [events(), events(debt_symbol="WETH"), events(collateral_symbol="DAI"), events(bonus_ok=False),
         events(collateral_symbol="YFI"), events(time=[HOURS[-1]])],
    )  # fmt: skip
    table = lending_table(rows, "x", production(), bars("ETHUSDT"))
    only = table.frame.loc["WETH"]
    assert only["events"] == 1
    assert only["covered"] == 0.0
    # In force 0.85 * 1.05 - 0.70; ours (1 - 0.2) / 1.05, so that threshold and bonus take 0.8 - 0.7.
    assert only["unpaid_in_force_bp"] == pytest.approx(1e4 * (0.85 * 1.05 - 0.7))
    assert only["unpaid_ours_bp"] == pytest.approx(1e4 * 0.1, abs=0.05)
    for why in (
        "the debt is not a stablecoin",
        "the collateral is a stablecoin",
        "bonus or threshold do not fit",
        "no bars of the market",
        "bars end",
    ):
        assert f"1 ({why})" in table.said


def test_seized_collateral_by_year() -> None:
    rows = events(collateral_symbol="wBTC")[["time", "collateral_symbol", "collateral_usd"]]
    table = seized_table(rows, "x", production(haircut=0.25), bars("BTCUSDT")).frame
    assert table.loc[2021, "beyond_usd"] == pytest.approx(1000 * 0.05)
    assert seized_table(rows, "x", production(haircut=0.31), bars("BTCUSDT")).frame["covered"].tolist() == [
        1.0
    ]


def test_stress_cases_are_scored_from_what_was_published() -> None:
    made = published(production())
    case = stress_table(made, bars("ETHUSDT", "BTCUSDT"), close_out=24).frame.loc["May 2021, ETHUSDT"]
    assert case["before"] == 0.2
    assert case["worst_loss"] == pytest.approx(0.3)
    assert case["cost"] == pytest.approx(0.1)
    assert case["moved"] == "never"
    risen = made.assign(margin=np.where(made["origin"] > FALL - pd.Timedelta("40h"), 0.35, 0.2))
    moved = stress_table(risen, bars("ETHUSDT"), close_out=24).frame.iloc[0]
    assert (moved["moved"], moved["cost"]) == ("2021-05-18", 0.0)
    late = stress_table(made[made["origin"] > FALL], bars("ETHUSDT"), close_out=24).frame.iloc[0]
    assert np.isnan(late["before"])


def test_accounts_are_recomputed(tmp_path: Path) -> None:
    rows = pd.DataFrame({"collateral": [100.0, 100.0, 5.0], "debt": [50.0, 80.0, 0.0], "threshold": 8000})
    rows["healthf"] = [1.6, 1.1, np.inf]  # the second is wrong: 1.0
    path = tmp_path / "a_2021_05.parquet"
    rows.to_parquet(path)
    margins = published(production()).assign(origin=lambda m: m["origin"] - pd.Timedelta("20D"))
    table = accounts_table(path, margins, terms=TERMS)
    assert "agrees on 50.00% of the rows with debt" in table.said
    assert table.frame.loc["own threshold", "accounts"] == 2
    assert table.frame.loc["calibrated", "below_one"] == 1
    with pytest.raises(DataError, match="market 'ETHUSDT' has no margin"):
        accounts_table(path, published(production()), terms=TERMS)
    rows.assign(debt=0.0).to_parquet(path)
    with pytest.raises(DataError, match="no account has debt"):
        accounts_table(path, margins, terms=TERMS)
    with pytest.raises(DataError, match="cannot be read"):
        accounts_table(tmp_path / "none.parquet", margins, terms=TERMS)


def test_the_page_says_what_it_holds(tmp_path: Path) -> None:
    table = stress_table(published(production()), bars("ETHUSDT"), close_out=24)
    files = write(Outcome([table], None), home=tmp_path, made_on=date(2026, 1, 2), docs=tmp_path / "docs")
    page = files["committed table"].read_text()
    assert page.startswith("# Recorded liquidations")
    assert "## Stress cases" in page
    assert "expected miss" in page
