"""The gate between the stages: what passes comes out in one form, what does not is refused by row."""

import datetime as dt

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest

from calibrator import frames
from calibrator.errors import DataError
from calibrator.frames import BARS, FORECASTS, MARGINS, PLAN, REGIMES, TAILS, TIME, conform

TIMES = pd.date_range("2024-01-01", periods=3, tz="UTC").as_unit("us")
SCHEMAS = {s.name: s for s in vars(frames).values() if isinstance(s, pa.DataFrameSchema)}
GOOD = {
    "Bars": pd.DataFrame(
        {
            "market": "A",
            "time": TIMES,
            "open": [1.0, 2.0, 2.0],
            "high": [3.0, 3.0, 3.0],
            "low": [0.5, 1.0, 1.0],
            "close": [2.0, 2.0, 2.0],
            "volume": [1.0, np.nan, 0.0],
        }
    ),
    "Tails": pd.DataFrame(
        {
            "market": "A",
            "origin": TIMES,
            "side": ["long", "short", "long"],
            "horizon": 24,
            "level": 0.99,
            "quantile": 0.1,
            "expected_shortfall": 0.12,
        }
    ),
    "Plan": pd.DataFrame(
        {
            "market": "A",
            "origin": TIMES,
            "effective_from": TIMES,
            "initial_margin_ppm": [100, 200, 300],
            "maintenance_margin_ppm": [50, 60, 70],
        }
    ),
    "Regimes": pd.DataFrame(
        {
            "market": "*",
            "time": TIMES,
            "horizon": 24,
            "stress_probability": [0.0, 0.5, 1.0],
            "regime": [0, 1, 2],
        }
    ),
    "VarianceForecasts": pd.DataFrame(
        {"market": "A", "origin": TIMES, "model": "har", "horizon": 24, "variance": [1e-4, 2e-4, 3e-4]}
    ),
    "Margins": pd.DataFrame(
        {
            "market": "A",
            "origin": TIMES,
            "side": "long",
            "level": 0.99,
            "horizon": 24,
            "margin": 0.1,
            "margin_unlimited": 0.2,
        }
    ),
}


def bars(**changes: object) -> pd.DataFrame:
    return GOOD["Bars"].assign(**changes)


BAD = {
    "missing column": (
        bars().drop(columns="open"),
        BARS,
        "missing column 'open'; expected market, time, open",
    ),
    "unknown column": (bars(funding=1.0), BARS, "unknown column 'funding'"),
    "column twice": (pd.concat([bars(), bars()[["open"]]], axis=1), BARS, "column 'open' appears twice"),
    "nested columns": (bars().rename(columns={"open": ("a", "b")}), BARS, "missing column 'open'"),
    "naive time": (
        bars(time=TIMES.tz_localize(None)),
        BARS,
        "'time' must be timezone-aware UTC .* datetime64",
    ),
    "text time": (bars(time="2024-01-01"), BARS, "'time' must be timezone-aware UTC times, dtype was str"),
    "dates": (
        bars(time=dt.date(2024, 1, 1)),
        BARS,
        "'time' must be timezone-aware UTC times, dtype was object",
    ),
    "epoch": (bars(time=[1, 2, 3]), BARS, "'time' must be timezone-aware UTC times, dtype was int64"),
    "no time": (
        bars(time=[TIMES[0], pd.NaT, TIMES[2]]),
        BARS,
        "'time' rule 'not_nullable' .* first at row 1",
    ),
    "time beyond any calendar": (
        bars(time=pd.Series(np.array(["300000-01-01"] * 3, "datetime64[s]")).dt.tz_localize("UTC")),
        BARS,
        "column 'time': Out of bounds",
    ),
    "text price": (bars(close=["1", "2", "3"]), BARS, "'close' must be numeric, dtype was str"),
    "flag as price": (bars(close=True), BARS, "'close' must be numeric, dtype was bool"),
    "complex price": (bars(close=1 + 1j), BARS, "'close' must be numeric, dtype was complex128"),
    "object price": (bars(close=[1.0, None, "x"]), BARS, "'close' must be numeric, dtype was object"),
    "no price": (
        bars(close=[2.0, np.nan, 2.0]),
        BARS,
        "'close' rule 'not_nullable' .* 1 row, first at row 1",
    ),
    "price zero": (
        bars(low=[0.0, 1.0, 1.0]),
        BARS,
        r"'low' rule 'greater_than.*' .* first at row 0: market='A'",
    ),
    "negative price": (bars(low=[0.5, -1.0, 1.0]), BARS, "'low' rule 'greater_than.* first at row 1"),
    "infinite price": (bars(high=[3.0, np.inf, 3.0]), BARS, "'high' rule 'finite' .* first at row 1"),
    "negative volume": (bars(volume=-1.0), BARS, "'volume' rule 'greater_than_or_equal_to.* in 3 rows"),
    "infinite volume": (bars(volume=np.inf), BARS, "'volume' rule 'finite'"),
    "low above open": (bars(low=[1.5, 1.0, 1.0]), BARS, "rule 'low is the lowest' .* first at row 0"),
    "high below close": (bars(high=[3.0, 3.0, 1.9]), BARS, "rule 'high is the highest' .* first at row 2"),
    "bar twice": (pd.concat([bars(), bars().tail(1)]), BARS, "rule 'one row per market, time' .* in 2 rows"),
    "no market": (bars(market=None), BARS, "'market' rule 'not_nullable'"),
    "empty market": (bars(market=""), BARS, "'market' rule 'str_length"),
    "endless market": (bars(market="x" * 65), BARS, "'market' rule 'str_length"),
    "wrong side": (GOOD["Tails"].assign(side="both"), TAILS, "'side' rule 'isin"),
    "level one": (GOOD["Tails"].assign(level=1.0), TAILS, "'level' rule 'in_range"),
    "shortfall below quantile": (
        GOOD["Tails"].assign(expected_shortfall=[0.12, 0.09, 0.12]),
        TAILS,
        "rule 'expected_shortfall >= quantile' .* first at row 1",
    ),
    "horizon zero": (GOOD["Tails"].assign(horizon=0), TAILS, "'horizon' rule 'greater_than"),
    "horizon as float": (
        GOOD["Tails"].assign(horizon=24.0),
        TAILS,
        "'horizon' must hold integers, dtype was float64",
    ),
    "margin above one": (
        GOOD["Plan"].assign(initial_margin_ppm=1_000_001),
        PLAN,
        "'initial_margin_ppm' rule 'in_range",
    ),
    "margin missing": (
        GOOD["Plan"].assign(initial_margin_ppm=pd.array([1, None, 3], dtype="Int64")),
        PLAN,
        "'initial_margin_ppm' must not be missing, is in row 1",
    ),
    "margin beyond int64": (
        GOOD["Plan"].assign(initial_margin_ppm=np.array([2**63, 1, 1], "uint64")),
        PLAN,
        "'initial_margin_ppm' rule 'in_range",
    ),
    "unknown regime": (GOOD["Regimes"].assign(regime=3), REGIMES, "'regime' rule 'isin"),
    "probability above one": (
        GOOD["Regimes"].assign(stress_probability=1.01),
        REGIMES,
        "'stress_probability' rule",
    ),
    "no variance": (
        GOOD["VarianceForecasts"].assign(variance=0.0),
        FORECASTS,
        "'variance' rule 'greater_than",
    ),
    "negative margin": (GOOD["Margins"].assign(margin=-0.1), MARGINS, "'margin' rule 'greater_than"),
}


@pytest.mark.parametrize(("frame", "schema", "message"), BAD.values(), ids=BAD)
def test_a_bad_frame_is_refused_by_rule_and_row(
    frame: pd.DataFrame, schema: pa.DataFrameSchema, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        conform(frame, schema, source="a test")
    assert str(caught.value).startswith(f"{schema.name} from a test:")
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("name", GOOD)
def test_what_conforms_comes_back_unchanged(name: str) -> None:
    schema = SCHEMAS[name]
    once = conform(GOOD[name], schema, source="a test")
    pd.testing.assert_frame_equal(conform(once, schema, source="again"), once, check_exact=True)
    assert list(once.columns) == list(schema.columns)
    pd.testing.assert_frame_equal(once, GOOD[name], check_dtype=False, check_exact=True)


@pytest.mark.parametrize("name", GOOD)
def test_the_order_of_columns_and_the_index_are_the_schemas(name: str) -> None:
    schema, good = SCHEMAS[name], GOOD[name]
    shuffled = good[list(reversed(good.columns))].set_axis([7, 3, 5])
    expected = conform(good, schema, source="a test")
    pd.testing.assert_frame_equal(conform(shuffled, schema, source="a test"), expected, check_exact=True)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_any_zone_and_unit_becomes_microseconds_utc(unit: str, zone: str) -> None:
    times = TIMES.as_unit(unit).tz_convert(zone)
    got = conform(bars(time=times), BARS, source="a test")
    assert str(got["time"].dtype) == TIME
    assert list(got["time"]) == list(TIMES)


def test_numbers_become_float64_and_text_becomes_str() -> None:
    odd = bars(
        market=pd.Categorical(["A", "A", "B"]),
        open=np.array([1, 2, 2], "int32"),
        close=pd.array([2, 2, 2], dtype="Int64"),
        high=np.array([3, 3, 3], "float32"),
        volume=pd.array([1, None, 3], dtype="Int64"),
    )
    got = conform(odd, BARS, source="a test")
    assert [str(t) for t in got.dtypes] == ["str", TIME, *["float64"] * 5]
    assert np.isnan(got["volume"][1])


def test_the_given_frame_is_left_alone() -> None:
    given = bars()
    copy = given.copy(deep=True)
    conform(given, BARS, source="a test")
    pd.testing.assert_frame_equal(given, copy, check_exact=True)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_frame_may_be_empty_but_not_without_columns(name: str) -> None:
    schema = SCHEMAS[name]
    empty = pd.DataFrame({c: pd.Series(dtype=str(v.dtype)) for c, v in schema.columns.items()})
    assert conform(empty, schema, source="a test").empty
    with pytest.raises(DataError, match="missing column"):
        conform(pd.DataFrame(), schema, source="a test")
