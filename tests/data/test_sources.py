import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from calibrator.config import Config, parse_config
from calibrator.data.sources import SOURCES, digest, load_bars, load_implied_volatility, resolve_as_of
from calibrator.data.synthetic import synthetic_bars
from calibrator.errors import DataError, StaleDataError
from calibrator.frames import BARS, FINDINGS, IMPLIED_VOLATILITY, conform

HOUR = pd.Timedelta("1h")
EMBEDDED: dict[str, Any] = {"source": "embedded", "bar": "1d", "calendar": "sessions"}


def _config(folder: Path, **data: Any) -> Config:
    return parse_config({"data": {"label": "end", "min_bars": 1, **data}}, folder=folder, source="test")


def _save(bars: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".parquet":
        bars.to_parquet(path, index=False)
    else:
        bars.assign(time=[t.isoformat() for t in bars["time"]]).to_csv(path, index=False)


def _rule(findings: pd.DataFrame, rule: str) -> dict[str, int]:
    rows = findings[findings["rule"] == rule]
    return {str(m): int(n) for m, n in zip(rows["market"], rows["count"], strict=True)}


# --- every source and every format keeps one contract -------------------------------------------------------


def _loaded(name: str, folder: Path, as_of: datetime | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    if name == "embedded":
        return load_bars(Config.model_validate({"data": EMBEDDED}), as_of=as_of)
    path = folder / f"bars.{name}"
    _save(synthetic_bars(["B", "A"], periods=200, seed=2, start=datetime(2015, 1, 1, tzinfo=UTC)), path)
    return load_bars(_config(folder, bars=[path.name]), as_of=as_of)


@pytest.mark.parametrize("name", ["embedded", "csv", "parquet"])
def test_every_source_returns_conforming_sorted_bars_and_the_past_never_changes(
    name: str, tmp_path: Path
) -> None:
    assert set(SOURCES) == {"embedded", "files"}
    bars, findings = _loaded(name, tmp_path, None)
    pd.testing.assert_frame_equal(bars, conform(bars, BARS, source="test"))
    pd.testing.assert_frame_equal(findings, conform(findings, FINDINGS, source="test"))
    pd.testing.assert_frame_equal(bars, bars.sort_values(["market", "time"], ignore_index=True))
    cut = datetime(2015, 1, 6, 12, tzinfo=UTC)
    early, _ = _loaded(name, tmp_path, cut)
    pd.testing.assert_frame_equal(early, bars[bars["time"] <= cut].reset_index(drop=True))
    assert 0 < len(early) < len(bars)


@st.composite
def valid_bars(draw: st.DrawFn) -> pd.DataFrame:
    """Any bars that a file may hold: every positive double, several markets, volumes missing or not."""
    count = draw(st.integers(2, 20))
    price = st.floats(5e-324, 1.7976931348623157e308, allow_subnormal=True)
    prices = np.sort(draw(arrays.arrays(np.float64, (count, 4), elements=price)), axis=1)
    volume = draw(arrays.arrays(np.float64, count, elements=st.one_of(st.just(np.nan), st.floats(0, 1e300))))
    name = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=12)
    markets = sorted(draw(st.lists(name.filter(lambda m: m != "*"), min_size=1, max_size=2, unique=True)))
    first = pd.Timestamp(draw(st.integers(0, 2_000_000)) * 3_600, unit="s", tz="UTC")
    frame = pd.DataFrame(
        {
            "market": np.repeat(markets, count),
            "time": np.tile(pd.date_range(first, periods=count, freq="h").as_unit("us"), len(markets)),
            **{
                name: np.tile(prices[:, i], len(markets))
                for name, i in (("open", 1), ("high", 3), ("low", 0), ("close", 2))
            },
            "volume": np.tile(volume, len(markets)),
        }
    )
    frame["time"] = pd.to_datetime(frame["time"], utc=True)
    return conform(frame, BARS, source="test")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bars=valid_bars())
def test_valid_bars_survive_a_file_unchanged(suffix: str, bars: pd.DataFrame, tmp_path: Path) -> None:
    flat = bars.groupby("market")[["high", "low"]].agg({"high": "max", "low": "min"})
    if (flat["high"] == flat["low"]).any():
        return  # refused by rule: a price that never moves
    _save(bars, tmp_path / f"bars.{suffix}")
    loose = {"restart_jump": 1e300, "bars": [f"bars.{suffix}"]}
    back, _ = load_bars(_config(tmp_path, **loose), as_of=None)
    pd.testing.assert_frame_equal(back, bars, check_exact=True)
    assert digest(back) == digest(bars)


# --- files: labels, cuts, columns ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "entry", "shift"),
    [("start", None, 1), ("end", None, 0), ("end", "start", 1), ("start", "end", 0)],
)
def test_a_start_label_moves_by_one_bar_and_a_file_overrides_the_section(
    tmp_path: Path, section: str, entry: str | None, shift: int
) -> None:
    bars = synthetic_bars(["A"], periods=60, seed=3)
    _save(bars, tmp_path / "bars.parquet")
    files = [{"path": "bars.parquet", "label": entry}]
    loaded, _ = load_bars(_config(tmp_path, bars=files, label=section), as_of=None)
    pd.testing.assert_series_equal(loaded["time"], bars["time"] + shift * HOUR)


def test_files_are_cut_inclusively_and_join_into_one_history(tmp_path: Path) -> None:
    bars = synthetic_bars(["A", "B"], periods=100, seed=4)
    _save(bars, tmp_path / "old.csv")
    _save(bars.rename(columns={"market": "symbol"}), tmp_path / "new.parquet")
    middle = bars["time"][40]
    files = [
        {"path": "new.parquet", "from": (middle + HOUR).isoformat()},
        {"path": "old.csv", "until": middle.isoformat()},
    ]
    loaded, findings = load_bars(_config(tmp_path, bars=files), as_of=None)
    pd.testing.assert_frame_equal(loaded, bars)
    assert findings.empty


def test_one_price_becomes_four_and_volume_is_missing(tmp_path: Path) -> None:
    bars = synthetic_bars(["A"], periods=60, seed=5)
    _save(bars[["market", "time", "close"]], tmp_path / "bars.csv")
    loaded, _ = load_bars(_config(tmp_path, bars=["bars.csv"]), as_of=None)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(loaded[name], bars["close"])
    assert loaded["volume"].isna().all()


def test_other_columns_are_reported_and_other_types_of_number_are_read(tmp_path: Path) -> None:
    bars = synthetic_bars(["A"], periods=60, seed=5)
    wide = bars.assign(volume=range(60), trades=1, source="x", market=bars["market"].astype("category"))
    _save(wide.assign(time=wide["time"].dt.tz_convert("Asia/Tokyo")), tmp_path / "bars.parquet")
    loaded, findings = load_bars(_config(tmp_path, bars=["bars.parquet"]), as_of=None)
    pd.testing.assert_frame_equal(loaded, bars.assign(volume=np.arange(60.0)))
    assert findings[["market", "rule"]].to_numpy().tolist() == [
        ["*", "ignored column: 'source'"],
        ["*", "ignored column: 'trades'"],
    ]


def test_markets_are_chosen_before_any_rule_looks_at_the_others(tmp_path: Path) -> None:
    bars = synthetic_bars(["A", "B"], periods=60, seed=6)
    bars.loc[bars["market"] == "B", "close"] = -1.0
    _save(bars, tmp_path / "bars.parquet")
    loaded, _ = load_bars(_config(tmp_path, bars=["bars.parquet"], markets=["A"]), as_of=None)
    assert set(loaded["market"]) == {"A"}


def test_times_with_offsets_are_read_as_the_same_moment(tmp_path: Path) -> None:
    text = "market,time,close\nA,2024-01-01T01:00:00.000000+01:00,1\nA,2024-01-01 01:00Z,2\n"
    (tmp_path / "bars.csv").write_text("\ufeff" + text, encoding="utf-8")
    loaded, _ = load_bars(_config(tmp_path, bars=["bars.csv"]), as_of=None)
    assert [t.isoformat() for t in loaded["time"]] == [
        "2024-01-01T00:00:00+00:00",
        "2024-01-01T01:00:00+00:00",
    ]


# --- findings ----------------------------------------------------------------------------------------------


def _found(folder: Path, bars: pd.DataFrame, **data: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    _save(bars, folder / "bars.parquet")
    as_of = data.pop("as_of", None)
    return load_bars(_config(folder, bars=["bars.parquet"], **data), as_of=as_of)


def test_missing_prices_are_dropped_with_count_first_and_last(tmp_path: Path) -> None:
    bars = synthetic_bars(["A", "B"], periods=60, seed=7)
    bars.loc[[5, 6, 30], "close"] = np.nan
    loaded, findings = _found(tmp_path, bars, on_missing="drop")
    row = findings[findings["rule"] == "missing price"].iloc[0]
    assert (row["market"], row["count"], row["action"]) == ("A", 3, "dropped")
    assert (row["first"], row["last"]) == (bars["time"][5], bars["time"][30])
    pd.testing.assert_frame_equal(loaded, bars.drop(index=[5, 6, 30]).reset_index(drop=True))
    assert _rule(findings, "short gap") == {"A": 2}


@pytest.mark.parametrize(("length", "rule"), [(1, "short gap"), (72, "short gap"), (73, "long gap")])
def test_gaps_are_counted_by_their_length(tmp_path: Path, length: int, rule: str) -> None:
    bars = synthetic_bars(["A"], periods=300, seed=8, gaps=[(100, length)])
    _, findings = _found(tmp_path, bars, restart_jump=1e9)
    assert findings["rule"].tolist() == [rule]
    assert findings["first"][0] == bars["time"][99]


def test_a_weekend_is_no_gap_of_sessions_but_a_closed_exchange_is(tmp_path: Path) -> None:
    days = synthetic_bars(["A"], periods=400, seed=9, bar="1d")
    sessions = days[days["time"].dt.day_of_week < 5].reset_index(drop=True)
    options: dict[str, Any] = {"bar": "1d", "calendar": "sessions", "max_gap": 8}
    assert _found(tmp_path, sessions, **options)[1].empty
    closed = sessions.drop(index=range(100, 105))
    assert _rule(_found(tmp_path, closed, **options)[1], "short gap") == {"A": 1}
    closed = sessions.drop(index=range(100, 115))
    assert _rule(_found(tmp_path, closed, **options)[1], "long gap") == {"A": 1}


def _times(bars: pd.DataFrame, rows: slice, factor: float) -> pd.DataFrame:
    bars.loc[rows, ["open", "high", "low", "close"]] *= factor
    return bars


@pytest.mark.parametrize(
    ("length", "factor", "kept"), [(24, 10.0, "B"), (24, 0.1, "B"), (23, 10.0, "AB"), (24, 2.0, "AB")]
)
def test_a_restart_needs_a_long_gap_and_another_price(
    tmp_path: Path, length: int, factor: float, kept: str
) -> None:
    bars = synthetic_bars(["A", "B"], periods=300, seed=8, gaps=[(100, length)])
    late = slice(100, len(bars) // 2 - 1)
    loaded, findings = _found(tmp_path, _times(bars, late, factor), on_restart="exclude")
    assert set(loaded["market"]) == set(kept)
    assert _rule(findings, "restart") == ({} if "A" in kept else {"A": 1})


@pytest.mark.parametrize(("length", "count"), [(24, 1), (23, 0)])
def test_a_stuck_feed_is_a_run_of_identical_bars(tmp_path: Path, length: int, count: int) -> None:
    bars = synthetic_bars(["A"], periods=300, seed=10)
    bars.loc[50 : 50 + length - 1, ["open", "high", "low", "close"]] = 99.0
    _, findings = _found(tmp_path, bars)
    assert _rule(findings, "stuck feed") == ({"A": count} if count else {})
    if count:
        assert findings["first"][0] == bars["time"][50]
        assert findings["last"][0] == bars["time"][50 + length - 1]


@pytest.mark.parametrize(("length", "stale"), [(24, {"A": 23}), (23, {})])
def test_a_feed_that_is_stuck_at_its_end_is_stale(tmp_path: Path, length: int, stale: dict[str, int]) -> None:
    bars = synthetic_bars(["A", "B"], periods=300, seed=10)
    prices = ["open", "high", "low", "close"]
    bars.loc[300 - length : 299, prices] = 99.0
    assert _rule(_found(tmp_path, bars)[1], "stale") == stale
    if stale:
        bars.loc[600 - length : 599, prices] = 99.0
        with pytest.raises(StaleDataError, match="its price stands still for 24 bars or more up to as-of"):
            _found(tmp_path, bars)


@pytest.mark.parametrize(("stale_after", "length", "stale"), [(5, 5, 1), (5, 4, 0), (72, 23, 0), (1, 2, 1)])
def test_a_feed_is_stuck_as_soon_as_a_missing_one_would_be_stale(
    tmp_path: Path, stale_after: int, length: int, stale: int
) -> None:
    bars = synthetic_bars(["A", "B"], periods=300, seed=10)
    bars.loc[300 - length : 299, ["open", "high", "low", "close"]] = 99.0
    findings = _found(tmp_path, bars, stale_after=stale_after)[1]
    assert list(_rule(findings, "stale")) == ["A"] * stale
    assert list(_rule(findings, "stuck feed")) == ["A"] * stale


@pytest.mark.parametrize(("factor", "count"), [(100.0, 1), (1e-3, 1), (10.0, 0)])
def test_a_change_of_unit_is_reported(tmp_path: Path, factor: float, count: int) -> None:
    bars = synthetic_bars(["A"], periods=300, seed=10)
    _, findings = _found(tmp_path, _times(bars, slice(120, 299), factor))
    assert _rule(findings, "unit jump") == ({"A": count} if count else {})


def test_one_late_market_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    bars = synthetic_bars(["A", "B"], periods=300, seed=10).drop(index=range(200, 300))
    _, findings = _found(tmp_path, bars, stale_after=99)
    assert _rule(findings, "stale") == {"A": 100}
    assert _rule(_found(tmp_path, bars, stale_after=100)[1], "stale") == {}
    cut = bars["time"][199].to_pydatetime()
    assert _rule(_found(tmp_path, bars, stale_after=99, as_of=cut)[1], "stale") == {}


# --- embedded data -----------------------------------------------------------------------------------------


def test_embedded_bars_are_counted_exactly() -> None:
    bars, findings = load_bars(Config.model_validate({"data": EMBEDDED}), as_of=None)
    assert bars.groupby("market").size().to_dict() == {"NASDAQ": 5031, "SPX": 5031, "WTI": 8321}
    row = findings[findings["rule"] == "missing price"].iloc[0]
    assert (row["market"], row["count"], row["action"]) == ("WTI", 290, "dropped")
    spans = bars.groupby("market")["time"].agg(["min", "max"]).map(lambda t: t.isoformat()[:10])
    assert spans.loc["WTI"].tolist() == ["1986-01-03", "2019-01-04"]
    assert spans.loc["SPX"].tolist() == ["1999-01-05", "2019-01-01"]
    assert bars.loc[bars["market"] == "WTI", "volume"].isna().all()
    assert bars["low"].min() == 10.25
    assert _rule(findings, "short gap") == {"NASDAQ": 1, "SPX": 1}  # September 2001


def test_embedded_bars_show_the_days_they_should() -> None:
    bars, _ = load_bars(Config.model_validate({"data": {**EMBEDDED, "markets": ["SPX"]}}), as_of=None)
    close = bars.set_index("time")["close"]
    drop = close.pct_change()[pd.Timestamp("2008-10-16", tz="UTC")]
    assert drop == pytest.approx(-0.0903, abs=1e-4)  # the session of 15 October 2008


def test_embedded_bars_end_with_as_of_and_a_market_without_any_is_named() -> None:
    early = datetime(1990, 8, 3, tzinfo=UTC)
    bars, _ = load_bars(Config.model_validate({"data": EMBEDDED}), as_of=early)
    assert set(bars["market"]) == {"WTI"}
    for markets, lost in ((["SPX", "WTI"], "SPX"), (["NASDAQ", "SPX"], "NASDAQ, SPX")):
        config = Config.model_validate({"data": {**EMBEDDED, "markets": markets}})
        with pytest.raises(DataError, match=f"no bar of {lost} up to 1990-08-03"):
            load_bars(config, as_of=early)


def test_the_vix_is_the_implied_volatility_of_the_index() -> None:
    frame, findings = load_implied_volatility(Config.model_validate({"data": EMBEDDED}), as_of=None)
    assert (len(frame), set(frame["market"]), findings["count"].tolist()) == (1259, {"SPX"}, [46])
    known = frame.set_index("time")["implied_volatility"]
    assert known[pd.Timestamp("2018-02-06", tz="UTC")] == pytest.approx(0.3732)  # close of 5 February


def test_without_a_source_of_implied_volatility_the_frame_is_empty(tmp_path: Path) -> None:
    frame, findings = load_implied_volatility(_config(tmp_path, bars=["b.csv"]), as_of=None)
    assert list(frame) == list(IMPLIED_VOLATILITY.columns)
    assert frame.empty
    assert findings.empty
    oil = Config.model_validate({"data": {**EMBEDDED, "markets": ["WTI"]}})
    assert load_implied_volatility(oil, as_of=None)[0].empty


def test_implied_volatility_files_are_read_cut_and_sorted(tmp_path: Path) -> None:
    rows = "symbol,time,implied_volatility\nB,2024-01-01T00:00Z,0.5\nA,2024-01-01T00:00Z,0.6\n"
    (tmp_path / "iv.csv").write_text(rows + "A,2024-01-02T00:00Z,0.7\n")
    config = _config(tmp_path, bars=["b.csv"], implied_volatility=["iv.csv"])
    frame, _ = load_implied_volatility(config, as_of=datetime(2024, 1, 1, tzinfo=UTC))
    assert frame[["market", "implied_volatility"]].to_numpy().tolist() == [["A", 0.6], ["B", 0.5]]


# --- as-of and digest --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("as_of", "expected"), [("last", None), ("now", 2026), (datetime(2020, 5, 1, tzinfo=UTC), 2020)]
)
def test_as_of_is_the_last_bar_now_or_a_time(as_of: object, expected: int | None) -> None:
    config = Config.model_validate({"data": EMBEDDED, "as_of": as_of})
    resolved = resolve_as_of(config, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert (resolved.year if resolved else None) == expected


def test_the_digest_depends_on_every_cell_the_order_and_the_names_only() -> None:
    bars = synthetic_bars(["A", "B"], periods=20, seed=1)
    known = digest(bars)
    assert digest(bars.set_index(np.arange(40) + 7)) == known
    assert digest(pd.concat([bars.head(13), bars.tail(27)])) == known
    assert digest(bars.assign(market=bars["market"].astype("object"))) == known
    others = [
        bars.iloc[::-1],
        bars.head(39),
        bars.rename(columns={"open": "opened"}),
        bars[bars.columns[::-1]],
    ]
    for name in bars.columns[2:]:
        changed = bars.copy()
        changed.loc[17, name] = np.nextafter(changed.loc[17, name], np.inf)
        others.append(changed)
    others.append(bars.assign(time=bars["time"] + pd.Timedelta("1us")))
    others.append(bars.assign(market=bars["market"].replace("B", "C")))
    assert len({known, *(digest(o) for o in others)}) == 1 + len(others)


# --- real histories ----------------------------------------------------------------------------------------


def _real(name: str) -> str:
    folder = os.environ.get("CALIBRATOR_DATA")
    if not folder:
        pytest.skip("CALIBRATOR_DATA names no folder of historical files")
    return str(Path(folder, "bars", name))


@pytest.mark.realdata
def test_every_dead_and_restarted_symbol_of_a_real_exchange_is_named(tmp_path: Path) -> None:
    path = _real("binance_spot_1h.parquet")
    config = _config(tmp_path, bars=[path], label="start", on_restart="exclude", min_bars=50)
    bars, findings = load_bars(config, as_of=None)
    assert len(bars) == 2_851_978
    assert _rule(findings, "restart") == {"LUNAUSDT": 1}
    assert set(_rule(findings, "long gap")) == {"FTTUSDT", "TUSDUSDT", "USDCUSDT", "USDPUSDT"}
    assert {"USTUSDT", "SRMUSDT"} <= set(_rule(findings, "stale"))
    usdc = bars[bars["market"] == "USDCUSDT"].set_index("time")["low"]
    assert usdc[usdc.index > pd.Timestamp("2023-01-01", tz="UTC")].iloc[0] == pytest.approx(0.882, abs=1e-3)


@pytest.mark.realdata
def test_perpetuals_pass_without_any_refusal(tmp_path: Path) -> None:
    config = _config(tmp_path, bars=[_real("binance_perp_1h.parquet")], label="start", min_bars=50)
    bars, findings = load_bars(config, as_of=None)
    assert (len(bars), bars["market"].nunique()) == (667_703, 33)
    assert set(findings["rule"]) == {"short gap"}
