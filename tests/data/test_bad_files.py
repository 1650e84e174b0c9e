"""One named table of bad input, written as real files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from calibrator.config import parse_config
from calibrator.data.sources import load_bars, load_implied_volatility
from calibrator.data.synthetic import synthetic_bars
from calibrator.errors import CalibratorError, ConfigError, DataError, StaleDataError

Build = Callable[[Path], dict[str, Any]]
GOOD = synthetic_bars(["BTC", "ETH"], periods=60, seed=11)


def _csv(**cells: str) -> Build:
    """A good CSV file with cells of its row 3 replaced."""

    def build(folder: Path) -> dict[str, Any]:
        frame = GOOD.astype("object")
        frame["time"] = [t.isoformat() for t in GOOD["time"]]
        for column, text in cells.items():
            frame.loc[3, column] = text
        frame.to_csv(folder / "bars.csv", index=False)
        return {"bars": ["bars.csv"]}

    return build


def _text(text: str | bytes, name: str = "bars.csv") -> Build:
    def build(folder: Path) -> dict[str, Any]:
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return {"bars": [name]}

    return build


def _parquet(change: Callable[[pd.DataFrame], pd.DataFrame], **data: Any) -> Build:
    def build(folder: Path) -> dict[str, Any]:
        change(GOOD.copy()).to_parquet(folder / "bars.parquet", index=False)
        return {"bars": ["bars.parquet"], **data}

    return build


def _put(row: int, **values: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        for column, value in values.items():
            frame.loc[row, column] = value
        return frame

    return change


def _rows(order: list[int]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """The first rows in another order, the rest as they are."""
    return lambda frame: frame.iloc[[*order, *range(len(order), len(frame))]]


def _truncated(folder: Path) -> dict[str, Any]:
    GOOD.to_parquet(folder / "whole.parquet", index=False)
    whole = (folder / "whole.parquet").read_bytes()
    (folder / "bars.parquet").write_bytes(whole[: len(whole) // 2])
    return {"bars": ["bars.parquet"]}


def _flipped(folder: Path) -> dict[str, Any]:
    """The page header after the magic bytes is overwritten."""
    GOOD.to_parquet(folder / "bars.parquet", index=False)
    content = bytearray((folder / "bars.parquet").read_bytes())
    content[4:40] = b"\xff" * 36
    (folder / "bars.parquet").write_bytes(bytes(content))
    return {"bars": ["bars.parquet"]}


def _folder(folder: Path) -> dict[str, Any]:
    (folder / "bars.parquet").mkdir()
    return {"bars": ["bars.parquet"]}


def _arrow(change: Callable[[pa.Table], pa.Table]) -> Build:
    def build(folder: Path) -> dict[str, Any]:
        GOOD.to_parquet(folder / "good.parquet", index=False)
        pq.write_table(change(pq.read_table(folder / "good.parquet")), folder / "bars.parquet")
        return {"bars": ["bars.parquet"]}

    return build


def _set(name: str, values: pa.Array) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.schema.get_field_index(name), name, values)


def _bad_utf8(table: pa.Table) -> pa.Table:
    raw = pa.array([b"\xff\xfe"] * table.num_rows, pa.binary())
    return _set("market", raw.view(pa.string()))(table)


def _twice(folder: Path) -> dict[str, Any]:
    GOOD.to_parquet(folder / "a.parquet", index=False)
    GOOD.tail(5).to_parquet(folder / "b.parquet", index=False)
    return {"bars": ["a.parquet", "b.parquet"]}


def _restart(frame: pd.DataFrame) -> pd.DataFrame:
    """ETH disappears for 30 bars and comes back at a thousand times the price."""
    late = frame["market"].eq("ETH") & (frame.groupby("market").cumcount() >= 30)
    frame.loc[late, ["open", "high", "low", "close"]] *= 1000.0
    frame.loc[late, "time"] += pd.Timedelta("30h")
    return frame


def _gap(frame: pd.DataFrame) -> pd.DataFrame:
    late = frame.groupby("market").cumcount() >= 30
    frame.loc[late, "time"] += pd.Timedelta("80h")
    return frame


def _constant(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[frame["market"] == "ETH", ["open", "high", "low", "close"]] = 7.0
    return frame


def _no_rows(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.head(0)


BIG = "1" * 10_000
HEADER = "market,time,open,high,low,close,volume\n"
ROW = "BTC,2024-01-01T00:00Z,1,1,1,1,1\n"
HTML = "<!DOCTYPE html>\n<html><body>502 Bad Gateway, try again</body></html>\n"

BAD: dict[str, tuple[Build, type[CalibratorError], str]] = {
    # the file itself
    "missing file": (lambda _: {"bars": ["bars.csv"]}, DataError, r"bars\.csv: file does not exist"),
    "folder": (_folder, DataError, r"bars\.parquet: must be a regular file, is a folder"),
    "empty csv": (_text(""), DataError, r"bars\.csv: file is empty"),
    "empty parquet": (_text("", "bars.parquet"), DataError, "file is empty"),
    "other suffix": (_text("x", "bars.xlsx"), DataError, r"must end in \.parquet or \.csv"),
    "header only": (_text(HEADER), DataError, "no row is left"),
    "html as csv": (_text(HTML), DataError, "needs one column 'symbol' or 'market', has '<!DOCTYPE html>'"),
    "html as parquet": (_text(HTML, "bars.parquet"), DataError, "cannot be read as Parquet"),
    "truncated parquet": (_truncated, DataError, "cannot be read as Parquet"),
    "overwritten parquet": (_flipped, DataError, "cannot be read as Parquet"),
    "binary as csv": (_text(b"\x00\xff\xfe\x80" * 50), DataError, "cannot be read as CSV"),
    "latin-1 market": (
        _text(HEADER.encode() + ROW.replace("BTC", "é").encode("latin-1")), DataError, "cannot be read as CSV"
    ),
    "semicolons": (
        _text((HEADER + ROW).replace(",", ";")), DataError, "'symbol' or 'market', has 'market;time"
    ),
    "ragged row": (_text(HEADER + ROW + "BTC,2024-01-01T01:00Z,1\n"), DataError, "Expected 7 columns, got 3"),
    # columns
    "no market": (_text("time,close\n2024-01-01T00:00Z,1\n"), DataError, "has 'time', 'close'"),
    "symbol and market": (
        _text("symbol,market,time,close\nA,A,2024-01-01T00:00Z,1\n"), DataError, "has 'symbol', 'market'"
    ),
    "no time": (_text("market,close\nA,1\n"), DataError, "column 'time' is missing"),
    "some prices": (_text("market,time,high,close\nA,x,1,1\n"), DataError, "column 'open' is missing"),
    "column twice": (_text("market,time,close,close\nA,x,1,1\n"), DataError, "column 'close' appears twice"),
    # CSV cells
    "ten thousand digits": (
        _csv(close=BIG), DataError, "row 3: must be a plain .* was '1{56}\\.\\.\\.$"
    ),
    "nan": (_csv(close="nan"), DataError, "column 'close', row 3: must be a plain decimal number, was 'nan'"),
    "inf": (_csv(high="inf"), DataError, "column 'high', row 3: must be a plain decimal number, was 'inf'"),
    "1e999": (_csv(high="1e999"), DataError, "column 'high', row 3: must be finite, was '1e999'"),
    "underflow": (_csv(low="1e-999"), DataError, "column 'low', row 3: must be positive, was 0"),
    "hexadecimal": (_csv(close="0x1F"), DataError, "must be a plain decimal number, was '0x1F'"),
    "thousands": (_csv(close="1,234.5"), DataError, "must be a plain decimal number, was '1,234.5'"),
    "underscore": (_csv(close="1_000"), DataError, "must be a plain decimal number, was '1_000'"),
    "blank around": (_csv(close=" 1.0"), DataError, "must be a plain decimal number, was ' 1.0'"),
    "other digits": (_csv(close="١٢٣"), DataError, "must be a plain decimal number"),
    "word": (_csv(volume="none"), DataError, "column 'volume', row 3: must be a plain decimal number"),
    "naive time": (_csv(time="2024-01-01T00:00:00"), DataError, "'time', row 3: a time needs an offset"),
    "bare date": (_csv(time="2024-01-01"), DataError, "a time needs an offset such as Z, was '2024-01-01'"),
    "epoch": (_csv(time="1704067200"), DataError, "row 3: a number as time has no unit"),
    "american date": (_csv(time="01/02/2024 00:00Z"), DataError, "must be an ISO 8601 time with an offset"),
    "no such day": (_csv(time="2023-02-29T00:00Z"), DataError, "must be a time that exists, was '2023-02-29"),
    "no time cell": (_csv(time=""), DataError, "column 'time', row 3: must be an ISO 8601 time"),
    "far future": (_csv(time="9999-01-01T00:00Z"), DataError, "must lie between 1900 and 2200, was 9999"),
    "no market cell": (_csv(market=""), DataError, "'market': must be 1 to 64 printable .*, was ''"),
    "market with a blank": (
        _csv(market="BTC "), DataError, "'market': must be 1 to 64 printable .*, was 'BTC '"
    ),
    "long market": (_csv(market="B" * 65), DataError, "'market': must be 1 to 64 printable"),
    "market with a control character": (
        _csv(market="B\x1bC"), DataError, "'market': must be 1 to 64 printable"
    ),
    "market of every market": (_csv(market="*"), DataError, "market '\\*' is reserved"),
    # Parquet types
    "naive timestamps": (
        _parquet(lambda f: f.assign(time=f["time"].dt.tz_localize(None))),
        DataError, "with a time zone, type was"
    ),
    "integer times": (
        _parquet(lambda f: f.assign(time=range(len(f)))), DataError, "a number as time has no unit"
    ),
    "year 100000": (
        _arrow(_set("time", pa.array([3_093_527_980_800] * 120, pa.timestamp("s", "UTC")))),
        DataError,
        "row 0: must lie between 1900 and 2200, was 100000-01-01",
    ),
    "dates": (
        _parquet(lambda f: f.assign(time=f["time"].dt.date)), DataError, "with a time zone, type was date32"
    ),
    "missing time": (_parquet(_put(4, time=pd.NaT)), DataError, "column 'time', row 4: must not be missing"),
    "boolean prices": (
        _parquet(lambda f: f.assign(close=True)), DataError, "'close': must be numeric, type was bool"
    ),
    "numeric market": (
        _parquet(lambda f: f.assign(market=1)), DataError, "'market': must be text, type was int64"
    ),
    "missing market": (_parquet(_put(4, market=None)), DataError, "'market', row 4: must not be missing"),
    "nested prices": (_arrow(_set("close", pa.array([[1.0]] * 120))), DataError, "'close'"),
    "not UTF-8": (_arrow(_bad_utf8), DataError, "cannot be read as Parquet: .*UTF8"),
    "infinite price": (_parquet(_put(9, high=np.inf)), DataError, "column 'high', row 9: must be finite"),
    # prices
    "zero price": (_parquet(_put(9, low=0.0)), DataError, "column 'low', row 9: must be positive, was 0 "),
    "negative price": (
        _parquet(_put(9, close=-37.63)), DataError, r"row 9: must be positive, was -37\.63 \('BTC'"
    ),
    "negative volume": (_parquet(_put(9, volume=-1.0)), DataError, "'volume', row 9: must not be negative"),
    "missing price": (
        _parquet(_put(9, open=np.nan)), DataError, "'open', row 9: price of 'BTC' .* is missing"
    ),
    "high below low": (_parquet(_put(9, high=1.0)), DataError, "'high is the highest' is broken in 1 row"),
    "low above close": (
        _parquet(lambda f: f.assign(low=f["high"])), DataError, "'low is the lowest' is broken"
    ),
    # order
    "unsorted": (_parquet(_rows([1, 0])), DataError, "times must rise within a market; row 1 of 'BTC'"),
    "duplicate": (_parquet(_rows([0, 0, 1, 2])), DataError, "one bar per market and time; row 1 .* as row 0"),
    "two files overlap": (_twice, DataError, r"'ETH' at .* is in two files \(5 such bars\); cut them"),
    # what a rule of the gate refuses
    "no row": (_parquet(_no_rows), DataError, "no row is left"),
    "one row": (_parquet(lambda f: f.head(1)), DataError, "'BTC' has 1 bars .* data.min_bars asks for 50"),
    "too few rows": (_parquet(lambda f: f.head(100)), DataError, "'ETH' has 40 bars"),
    "other spacing": (
        _parquet(lambda f: f, bar="1d"), DataError, "bars are 0 days 01:00:00 apart, data.bar is 1d"
    ),
    "off the grid": (
        _parquet(_put(9, time=GOOD["time"][9] + pd.Timedelta("1s"))),
        DataError, r"the 1h grid, .* \(1 such bars\)"
    ),
    "constant price": (_parquet(_constant), DataError, "'ETH': price is constant, 7 in all 60 bars"),
    "gap": (_parquet(_gap, on_gap="refuse"), DataError, "'BTC': about 80 bars are missing after"),
    "restart": (_parquet(_restart), DataError, "must be one asset; 'ETH' stops at .* and restarts at"),
    "only restarts": (
        _parquet(_restart, markets=["ETH"], on_restart="exclude"), DataError, "every market restarts"
    ),
    "no such market": (_parquet(lambda f: f, markets=["SOL"]), DataError, "no row of 'SOL' is left"),
    "one market missing": (
        _parquet(lambda f: f, markets=["BTC", "SOL"]), DataError, "no row of market 'SOL'; there are BTC"
    ),
    "embedded market": (
        lambda _: {"source": "embedded", "bar": "1d", "markets": ["DAX"]}, DataError, "no market 'DAX'"
    ),
    "embedded hours": (lambda _: {"source": "embedded"}, ConfigError, "data.bar must be 1d .* was 1h"),
}  # fmt: skip


@pytest.mark.parametrize(("build", "error", "match"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_by_name_rule_value_and_place(
    tmp_path: Path, build: Build, error: type[CalibratorError], match: str
) -> None:
    config = parse_config({"data": build(tmp_path)}, folder=tmp_path, source="test")
    with pytest.raises(error, match=match) as caught:
        load_bars(config, as_of=None)
    assert type(caught.value) is error
    assert len(str(caught.value)) < 600


VOLATILITY = {
    "percent": ("SPX,2024-01-01T00:00Z,13.7\n", r"must be fractions a year.* median is 13\.7"),
    "negative": (
        "SPX,2024-01-01T00:00Z,-0.1\n",
        "'implied_volatility' rule 'greater_than' is broken .* row 0",
    ),
    "missing": ("SPX,2024-01-01T00:00Z,\n", "row 0: implied volatility of 'SPX' .* is missing"),
    "twice": ("SPX,2024-01-01T00:00Z,0.1\nSPX,2024-01-01T00:00Z,0.1\n", "one row per market, time"),
    "not a number": ("SPX,2024-01-01T00:00Z,NaN\n", "row 0: must be a plain decimal number, was 'NaN'"),
}


@pytest.mark.parametrize(("rows", "match"), VOLATILITY.values(), ids=VOLATILITY.keys())
def test_bad_implied_volatility_is_refused(tmp_path: Path, rows: str, match: str) -> None:
    (tmp_path / "iv.csv").write_text("market,time,implied_volatility\n" + rows)
    raw = {"data": {"bars": ["b.csv"], "implied_volatility": ["iv.csv"]}}
    with pytest.raises(DataError, match=match):
        load_implied_volatility(parse_config(raw, folder=tmp_path, source="test"), as_of=None)


def test_stale_input_has_its_own_error(tmp_path: Path) -> None:
    GOOD.to_parquet(tmp_path / "bars.parquet", index=False)
    config = parse_config({"data": {"bars": ["bars.parquet"]}}, folder=tmp_path, source="test")
    last = GOOD["time"].max() + pd.Timedelta("1h")
    load_bars(config, as_of=last + pd.Timedelta("72h"))
    with pytest.raises(StaleDataError, match="every market is stale: the newest bar is of 2021-01-03T13:00"):
        load_bars(config, as_of=last + pd.Timedelta("73h"))


def test_a_time_without_zone_is_the_callers_mistake(tmp_path: Path) -> None:
    config = parse_config({"data": {"bars": ["bars.parquet"]}}, folder=tmp_path, source="test")
    with pytest.raises(ValueError, match="as_of must be time zone aware"):
        load_bars(config, as_of=pd.Timestamp("2024-01-01").to_pydatetime())


def _mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes replaced, removed or inserted."""
    out = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at, kind = int(rng.integers(len(out))), int(rng.integers(3))
        noise = bytes(rng.integers(0, 256, int(rng.integers(1, 8)), dtype=np.uint8))
        if kind == 0:
            out[at] = noise[0]
        elif kind == 1:
            del out[at : at + len(noise)]
        else:
            out[at:at] = noise
    return bytes(out)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_damaged_file_is_read_or_refused_never_a_crash(tmp_path: Path, suffix: str) -> None:
    if suffix == "csv":
        _csv()(tmp_path)
    else:
        GOOD.to_parquet(tmp_path / "bars.parquet", index=False)
    path = tmp_path / f"bars.{suffix}"
    whole, rng = path.read_bytes(), np.random.default_rng(20260)
    refused: list[str] = []
    config = parse_config({"data": {"bars": [path.name]}}, folder=tmp_path, source="test")
    for _ in range(100):
        path.write_bytes(_mutated(whole, rng))
        try:
            load_bars(config, as_of=None)
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert max(map(len, refused)) < 900
