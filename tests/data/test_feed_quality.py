"""The quality rules on frames as they came: each rule on a frame with that fault, and on real histories."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config, parse_config
from calibrator.data.feed_quality import FROZEN, examine, unconfirmed, without_wicks
from calibrator.data.sources import load_bars
from calibrator.data.synthetic import synthetic_bars
from calibrator.errors import ConfigError, DataError
from calibrator.frames import BARS, conform
from pipelines.benchmarks.data_samples import FEEDS, parse

PRICES = ["open", "high", "low", "close"]


def _bars(**how: Any) -> pd.DataFrame:
    return synthetic_bars(["A"], periods=200, seed=4, **how)


def _scaled(row: int, factor: float, *names: str) -> Callable[[], pd.DataFrame]:
    def build() -> pd.DataFrame:
        bars = _bars()
        bars.loc[row:, list(names)] *= factor
        return bars

    return build


def _wick() -> pd.DataFrame:
    bars = _bars()
    bars.loc[50, "low"] *= 0.6
    return bars


def _stuck() -> pd.DataFrame:
    bars = _bars()
    bars.loc[100:140, PRICES] = bars.loc[100, "close"]
    return bars


def _relisted() -> pd.DataFrame:
    bars = _bars(gaps=[(100, 60)])
    after = int(bars["time"].diff().argmax())
    bars.loc[after, "low"] *= 0.88
    return bars


def _frozen(name: str, column: str) -> pd.DataFrame:
    frame, _ = parse(name)
    frame.loc[5 : 5 + FROZEN, column] = frame.loc[5, column]
    return frame


def _frozen_book() -> pd.DataFrame:
    frame, _ = parse("binance-um-depth")
    parts = [frame.assign(time=frame["time"] + i * pd.Timedelta("1h")) for i in range(3)]
    book = pd.concat(parts, ignore_index=True)
    first = book[book["time"] == book["time"].min()]
    for name in ("quantity", "notional"):
        book[name] = np.tile(first[name].to_numpy(), len(book) // len(first))
    return book


FAULTS: dict[str, tuple[Callable[[], pd.DataFrame], str]] = {
    "gap": (lambda: _bars(gaps=[(100, 3)]), "gap"),
    "absence": (lambda: _bars(gaps=[(100, 60)]), "absence"),
    "unit jump": (_scaled(100, 1000.0, *PRICES), "unit jump"),
    "wick": (_wick, "wick"),
    "stuck": (_stuck, "stuck feed"),
    "relisting": (_relisted, "relisting bar"),
    "survivors": (_bars, "survivors only"),
    "open interest": (lambda: _frozen("binance-um-metrics", "open_interest"), "frozen feed"),
    "volatility": (lambda: _frozen("deribit-dvol", "implied_volatility"), "frozen feed"),
    "book": (_frozen_book, "frozen order book"),
}


@pytest.mark.parametrize(("build", "rule"), FAULTS.values(), ids=FAULTS.keys())
def test_each_rule_finds_its_fault_and_only_where_it_is(build: Callable[[], pd.DataFrame], rule: str) -> None:
    found = examine(build())
    assert (found["rule"] == rule).sum() == 1
    if rule != "survivors only":
        assert rule not in set(examine(_bars())["rule"])


@pytest.mark.parametrize("name", FEEDS)
def test_every_frame_can_be_examined(name: str) -> None:
    frame, _ = parse(name)
    assert list(examine(frame).columns)[:3] == ["market", "rule", "count"]


def test_a_dead_market_is_no_survivor() -> None:
    bars = synthetic_bars(["A", "B"], periods=200, seed=4)
    dead = bars[(bars["market"] == "A") | (bars.groupby("market").cumcount() < 100)]
    assert "survivors only" not in set(examine(dead.reset_index(drop=True))["rule"])


def test_a_wick_is_cut_only_where_another_price_saw_the_bar_and_denies_it() -> None:
    bars, other = _bars(), _bars()
    bars.loc[[50, 60, 70], "low"] *= 0.6
    other.loc[60, "low"] *= 0.65  # confirmed: a true crash
    other = other.drop(index=70)  # nobody else has this bar: it counts as real
    assert np.flatnonzero(unconfirmed(bars, other)).tolist() == [50]
    cut, found = without_wicks(bars, other)
    conform(cut, BARS, source="test")
    assert [(f.rule, f.count) for f in found] == [("unconfirmed wick", 1)]
    changed = (cut[PRICES] != bars[PRICES]).any(axis=1)
    assert np.flatnonzero(changed).tolist() == [50]
    assert (cut[["open", "close"]] == bars[["open", "close"]]).all(axis=None)
    assert without_wicks(bars, other.assign(market="B"))[1] == []


def _config(folder: Path, frame: pd.DataFrame, **data: Any) -> Config:
    frame.to_parquet(folder / "bars.parquet", index=False)
    raw = {"data": {"bars": ["bars.parquet"], "label": "end", **data}}
    return parse_config(raw, folder=folder, source="test")


def test_a_rule_is_flagged_or_strict_as_the_configuration_says(tmp_path: Path) -> None:
    bars, findings = load_bars(_config(tmp_path, _wick(), rules={"wick": "flag"}), as_of=None)
    assert findings[["rule", "action"]].to_numpy().tolist() == [["wick", "kept"]]
    assert len(bars) == 200
    with pytest.raises(
        DataError, match=r"market 'A': rule 'wick' is strict \(data.rules\) and fired 1 times"
    ):
        load_bars(_config(tmp_path, _wick(), rules={"wick": "strict"}), as_of=None)
    with pytest.raises(DataError, match="rule 'short gap' is strict"):
        load_bars(_config(tmp_path, _bars(gaps=[(50, 3)]), rules={"short gap": "strict"}), as_of=None)
    with pytest.raises(DataError, match="rule 'survivors only' is strict"):
        load_bars(_config(tmp_path, _bars(), rules={"survivors only": "strict"}), as_of=None)
    with pytest.raises(ConfigError, match=r"data\.rules"):
        _config(tmp_path, _bars(), rules={"no such rule": "flag"})


def test_columns_of_bars_are_mapped(tmp_path: Path) -> None:
    bars = _bars()
    plain, _ = load_bars(_config(tmp_path, bars), as_of=None)
    other = bars.drop(columns="market").rename(columns={"time": "t", "close": "price_close"})
    other.to_parquet(tmp_path / "o.parquet", index=False)
    entry = {"path": "o.parquet", "columns": {"time": "t", "close": "price_close"}, "market": "A"}
    mapped, _ = load_bars(_config(tmp_path, bars, bars=[entry]), as_of=None)
    pd.testing.assert_frame_equal(mapped, plain)
    for columns, match in (
        ({"vwap": "t"}, "columns: 'vwap' is none of market, time"),
        ({"time": "no"}, "column 'no' is missing"),
        ({"time": "t", "close": "t"}, "one column of the file has one canonical name"),
        ({"time": "t", "close": "open"}, "column 'open' is missing"),
    ):
        with pytest.raises(DataError, match=match):
            load_bars(_config(tmp_path, bars, bars=[{**entry, "columns": columns}]), as_of=None)


def _real(name: str) -> str:
    folder = os.environ.get("CALIBRATOR_DATA")
    if not folder:
        pytest.skip("CALIBRATOR_DATA names no folder of historical files")
    return str(Path(folder, "bars", name))


@pytest.mark.realdata
def test_the_report_of_a_real_exchange_names_luna_ftt_and_usdc() -> None:
    raw = pd.read_parquet(_real("binance_spot_1h.parquet")).rename(columns={"symbol": "market"})
    found = examine(raw)
    rules = found.groupby("market")["rule"].agg(set)
    assert {"absence", "relisting bar"} <= rules["LUNAUSDT"] & rules["FTTUSDT"] & rules["USDCUSDT"]
    usdc = found[(found["market"] == "USDCUSDT") & (found["rule"] == "relisting bar")]["last"]
    assert usdc.iloc[0].strftime("%Y-%m-%d") == "2023-03-11"


ETH = {
    "open": "price_open",
    "high": "price_high",
    "low": "price_low",
    "close": "price_close",
    "volume": "volume_traded",
}
FILES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "perpetuals": ({"path": "binance_perp_1h.parquet"}, {}, 667_703),
    "mark": ({"path": "binance_perp_mark_1h.parquet"}, {}, 56_959),
    "ten minutes": (
        {
            "path": "eth_stress_days_10min.parquet",
            "columns": ETH,
            "market": "ETH",
            "from": "2021-05-19",
            "until": "2021-05-20",
        },
        {"bar": "10min"},
        144,
    ),
}


@pytest.mark.realdata
@pytest.mark.parametrize(("entry", "data", "rows"), FILES.values(), ids=FILES.keys())
def test_real_bars_pass_the_generic_reader(entry: dict[str, Any], data: dict[str, Any], rows: int) -> None:
    raw = {"data": {"bars": [{**entry, "path": _real(entry["path"])}], **data}}
    bars, _ = load_bars(parse_config(raw, folder=Path(), source="test"), as_of=None)
    assert len(bars) == rows
