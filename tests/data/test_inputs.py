"""Funding, open interest, liquidations and implied volatility from local files."""

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from calibrator.config import Config, parse_config
from calibrator.data.inputs import KINDS
from calibrator.data.sources import Inputs, load_inputs
from calibrator.errors import DataError
from calibrator.frames import conform

TIMES = ["2024-01-01T00:00Z", "2024-01-01T08:00Z", "2024-01-01T16:00Z"]
FILES = {
    "implied_volatility": "implied_volatility\n0.5\n0.6\n0.4\n",
    "funding": "rate\n0.0001\n-0.0002\n0.0003\n",
    "open_interest": "open_interest\n10\n11\n0\n",
    "liquidations": "liquidated_side,quantity,price\nlong,1,10\nshort,2,11\nlong,3,12\n",
}


def _config(folder: Path, **data: Any) -> Config:
    return parse_config({"data": {"bars": ["b.csv"], **data}}, folder=folder, source="test")


def _write(folder: Path, kind: str, *, body: str | None = None) -> str:
    head, *rows = (body or FILES[kind]).splitlines()
    lines = [f"market,time,{head}"] + [f"BTC,{t},{row}" for t, row in zip(TIMES, rows, strict=True)]
    (folder / f"{kind}.csv").write_text("\n".join(lines) + "\n")
    return f"{kind}.csv"


def _load(folder: Path, as_of: str | None = None, **data: Any) -> Inputs:
    cut = None if as_of is None else pd.Timestamp(as_of).to_pydatetime()
    return load_inputs(_config(folder, **data), as_of=cut)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_conforms_and_serves_only_what_was_knowable(kind: str, tmp_path: Path) -> None:
    entry = {"path": _write(tmp_path, kind), "delay": "1h"}
    frame = getattr(_load(tmp_path, **{kind: entry}), kind)
    pd.testing.assert_frame_equal(frame, conform(frame, KINDS[kind].schema, source="test"))
    assert len(frame) == 3
    for as_of, rows in (("2024-01-01T08:59:59Z", 1), ("2024-01-01T09:00Z", 2)):
        seen = getattr(_load(tmp_path, as_of, **{kind: entry}), kind)
        pd.testing.assert_frame_equal(seen, frame.head(rows))
    others = [k for k in KINDS if k != kind]
    assert [len(getattr(_load(tmp_path, **{kind: entry}), k)) for k in others] == [0, 0, 0]


def test_names_are_mapped_units_divided_and_rows_chosen(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(
        "t,coin,venue,pct\n" + "".join(f"{t},BTC,{v},0.01\n" for t in TIMES for v in ("a", "b"))
    )
    entry = {
        "path": "f.csv",
        "columns": {"time": "t", "market": "coin", "rate": "pct"},
        "where": {"venue": "b"},
        "unit": "percent",
    }
    funding = _load(tmp_path, funding=[entry]).funding
    assert funding["rate"].to_list() == [0.0001] * 3
    with pytest.raises(DataError, match="one row per market, time"):
        _load(tmp_path, funding=[{**entry, "where": {}}])


def test_totals_per_side_become_rows_and_missing_ones_are_counted(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text(
        f"symbol,time,long,short,close\nBTC,{TIMES[0]},5,0,10\nBTC,{TIMES[1]},,,10\nETH,{TIMES[0]},1,,2\n"
    )
    columns = {"long_quantity": "long", "short_quantity": "short", "price": "close"}
    loaded = _load(
        tmp_path, liquidations={"path": "l.csv", "columns": columns, "delay": "1d", "on_missing": "drop"}
    )
    rows = loaded.liquidations[["market", "liquidated_side", "notional"]].to_numpy().tolist()
    assert rows == [["BTC", "long", 50.0], ["BTC", "short", 0.0], ["ETH", "long", 2.0]]
    assert (loaded.liquidations["known_at"] - loaded.liquidations["time"] == pd.Timedelta("1D")).all()
    assert loaded.findings[["market", "rule", "count"]].to_numpy().tolist() == [
        ["BTC", "missing liquidations", 1]
    ]


BAD: dict[str, tuple[str, str | None, dict[str, Any], str]] = {
    "percent as fraction": ("funding", "rate\n0.01\n0.01\n0.02\n", {}, "must be fractions .*unit: percent"),
    "unknown column": ("funding", None, {"columns": {"apy": "rate"}}, "'apy' is no column of funding"),
    "lost column": ("funding", None, {"columns": {"rate": "r"}}, "column 'r' is missing; the file has"),
    "no value": ("funding", "price\n1\n1\n1\n", {}, "needs rate; map another name"),
    "lost filter": ("funding", None, {"where": {"venue": "x"}}, "column 'venue' is missing"),
    "no row": ("funding", None, {"where": {"market": "x"}}, "no row is left"),
    "missing": ("funding", "rate\n0.0\n\n0.0\n", {}, "row 1: funding of 'BTC' at .* is missing"),
    "beyond one": ("funding", "rate\n0.0\n0.0\n1.5\n", {}, "'rate' rule 'in_range.*rate=1.5"),
    "order side": (
        "liquidations",
        "liquidated_side,notional\nBUY,1\nlong,1\nlong,1\n",
        {},
        "liquidated_side' rule",
    ),
    "no side": ("liquidations", "notional\n1\n1\n1\n", {}, "needs a column 'liquidated_side'"),
    "negative": ("open_interest", "open_interest\n-1\n1\n1\n", {}, "greater_than_or_equal_to.*row 0"),
    "market star": ("funding", None, {"market": "*"}, "market '\\*' is reserved"),
}


@pytest.mark.parametrize(("kind", "body", "entry", "match"), BAD.values(), ids=BAD.keys())
def test_bad_inputs_are_refused_by_file_rule_and_value(
    kind: str, body: str | None, entry: dict[str, Any], match: str, tmp_path: Path
) -> None:
    path = _write(tmp_path, kind, body=body)
    with pytest.raises(DataError, match=match) as caught:
        _load(tmp_path, **{kind: {"path": path, **entry}})
    assert path in str(caught.value)


def _real(name: str) -> str:
    folder = os.environ.get("CALIBRATOR_DATA")
    if not folder:
        pytest.skip("CALIBRATOR_DATA names no folder of historical files")
    return str(Path(folder, name))


PANEL = {"path": "liquidations/binance_perp_daily_panel.parquet", "delay": "1d", "on_missing": "drop"}
TOTALS = {"long_quantity": "long_liquidations_base", "short_quantity": "short_liquidations_base"}
REAL: dict[str, tuple[str, dict[str, Any], int]] = {
    "volatility": (
        "implied_volatility",
        {
            "path": "implied_volatility/deribit_dvol_btc_1h.parquet",
            "columns": {"implied_volatility": "dvol_close"},
            "market": "BTCUSDT",
            "unit": "percent",
            "delay": "1h",
        },
        36_313,
    ),
    "funding": (
        "funding",
        {"path": "funding/binance_perp_8h.parquet", "columns": {"rate": "funding_rate"}},
        8_275,
    ),
    "funding percent": (
        "funding",
        {
            "path": "funding/binance_btc_8h.parquet",
            "columns": {"rate": "funding_pct"},
            "market": "BTC",
            "unit": "percent",
        },
        2_912,
    ),
    "open interest": (
        "open_interest",
        {**PANEL, "columns": {"open_interest": "open_interest_base"}},
        83_657,
    ),
    "liquidations": ("liquidations", {**PANEL, "columns": {**TOTALS, "price": "close"}}, 92_400),
}


@pytest.mark.realdata
@pytest.mark.parametrize(("kind", "entry", "rows"), REAL.values(), ids=REAL.keys())
def test_real_files_pass_the_generic_reader(
    kind: str, entry: dict[str, Any], rows: int, tmp_path: Path
) -> None:
    frame = getattr(_load(tmp_path, **{kind: {**entry, "path": _real(entry["path"])}}), kind)
    assert len(frame) == rows
