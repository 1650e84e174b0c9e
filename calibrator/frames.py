"""The arrows between the stages: one pandera schema per frame, and :func:`conform`, the only gate.

Times are ``datetime64[us, UTC]`` and label the **end** of a bar. Fractions are floats, decided values are
integer ppm. A frame that passed :func:`conform` has exactly the columns of its schema, in their order.
"""

from typing import Final

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError, SchemaErrors

from calibrator.errors import DataError

TIME: Final = "datetime64[us, UTC]"


def _column(dtype: str, *checks: pa.Check, nullable: bool = False) -> pa.Column:
    return pa.Column(dtype, list(checks), nullable=nullable, coerce=False)


def _positive(nullable: bool = False) -> pa.Column:  # noqa: FBT001, FBT002 - mirrors pandera's own flag
    return _column("float64", pa.Check.gt(0), pa.Check(_finite, name="finite"), nullable=nullable)


def _finite(values: pd.Series) -> pd.Series:
    return values.abs() < float("inf")


def _fraction() -> pa.Column:
    return _column("float64", pa.Check.in_range(0, 1))


def _ppm() -> pa.Column:
    return _column("int64", pa.Check.in_range(0, 1_000_000))


_TEXT: Final = _column("str", pa.Check.str_length(min_value=1, max_value=64))
_SIDE: Final = _column("str", pa.Check.isin(["long", "short"]))
_HORIZON: Final = _column("int64", pa.Check.gt(0))
_LEVEL: Final = _column("float64", pa.Check.in_range(0, 1, include_min=False, include_max=False))
_TIME: Final = _column(TIME)


def _schema(
    name: str, columns: dict[str, pa.Column], key: list[str], *checks: pa.Check
) -> pa.DataFrameSchema:
    return pa.DataFrameSchema(
        columns,
        checks=list(checks),
        strict=True,
        ordered=True,
        name=name,
        unique=key,
        report_duplicates="all",
    )


BARS: Final = _schema(
    "Bars",
    {
        "market": _TEXT,
        "time": _TIME,
        "open": _positive(),
        "high": _positive(),
        "low": _positive(),
        "close": _positive(),
        "volume": _column("float64", pa.Check.ge(0), pa.Check(_finite, name="finite"), nullable=True),
    },
    ["market", "time"],
    pa.Check(lambda f: f["high"] >= f[["open", "close", "low"]].max(axis=1), name="high is the highest"),
    pa.Check(lambda f: f["low"] <= f[["open", "close"]].min(axis=1), name="low is the lowest"),
)
"""Prices of one bar, in quote units; ``volume`` in base units, missing where the source has none."""

IMPLIED_VOLATILITY: Final = _schema(
    "ImpliedVolatility",
    {"market": _TEXT, "time": _TIME, "implied_volatility": _positive()},
    ["market", "time"],
)
"""Annualised implied volatility (fraction, 0.2 = 20 %) known at ``time``."""

ACCOUNTS: Final = _schema(
    "Accounts",
    {
        "account": _TEXT,
        "market": _TEXT,
        "side": _SIDE,
        "quantity": _positive(),
        "entry_price": _positive(),
        "collateral": _positive(),
        "opened": _TIME,
        "closed": _column(TIME, nullable=True),
    },
    ["account"],
)
"""Isolated positions; ``collateral`` in quote units, ``closed`` missing while open."""

FORECASTS: Final = _schema(
    "VarianceForecasts",
    {
        "market": _TEXT,
        "origin": _TIME,
        "model": _TEXT,
        "horizon": _HORIZON,
        "variance": _positive(),
    },
    ["market", "origin", "model", "horizon"],
)
"""Variance of the log return over the next ``horizon`` bars, known at ``origin``."""

REGIMES: Final = _schema(
    "Regimes",
    {
        "market": _TEXT,
        "time": _TIME,
        "horizon": _HORIZON,
        "stress_probability": _fraction(),
        "regime": _column("int64", pa.Check.isin([0, 1, 2])),
    },
    ["market", "time", "horizon"],
)
"""Probability of stress within ``horizon`` bars and the state after hysteresis; market ``*`` = all."""

TAILS: Final = _schema(
    "Tails",
    {
        "market": _TEXT,
        "origin": _TIME,
        "side": _SIDE,
        "horizon": _HORIZON,
        "level": _LEVEL,
        "quantile": _positive(),
        "expected_shortfall": _positive(),
    },
    ["market", "origin", "side", "horizon", "level"],
    pa.Check(lambda f: f["expected_shortfall"] >= f["quantile"], name="expected_shortfall >= quantile"),
)
"""Loss quantile and expected shortfall (fractions of notional) over a close-out of ``horizon`` bars."""

MARGINS: Final = _schema(
    "Margins",
    {
        "market": _TEXT,
        "origin": _TIME,
        "side": _SIDE,
        "level": _LEVEL,
        "horizon": _HORIZON,
        "margin": _positive(),
        "margin_unlimited": _positive(),
    },
    ["market", "origin", "side", "level", "horizon"],
)
"""Maintenance margin of the first tier, after and before the anti-procyclical layer (fractions)."""

HAIRCUTS: Final = _schema(
    "Haircuts",
    {
        "collateral": _TEXT,
        "debt": _TEXT,
        "location": _TEXT,
        "origin": _TIME,
        "level": _LEVEL,
        "horizon": _HORIZON,
        "haircut": _positive(),
        "haircut_unlimited": _positive(),
    },
    ["collateral", "debt", "location", "origin", "level", "horizon"],
)
"""Haircut of collateral against debt, after and before the anti-procyclical layer (fractions)."""

PER_UNIT: Final = _schema(
    "PerUnit",
    {
        "market": _TEXT,
        "origin": _TIME,
        "side": _SIDE,
        "level": _LEVEL,
        "horizon": _HORIZON,
        "value_at_risk": _positive(),
        "expected_shortfall": _positive(),
        "risk_weight": _positive(),
        "delta_adjusted_collateral": _fraction(),
        "implied_volatility_margin": _positive(nullable=True),
    },
    ["market", "origin", "side", "level", "horizon"],
    pa.Check(
        lambda f: f["expected_shortfall"] >= f["value_at_risk"], name="expected_shortfall >= value_at_risk"
    ),
)
"""Risk per unit of posted collateral (the first two), and of notional; see `calibrate.per_unit`."""

EXPOSURES: Final = _schema(
    "Exposures",
    {
        "market": _TEXT,
        "role": _column("str", pa.Check.isin(["perpetual", "collateral"])),
        "debt": _TEXT,
        "location": _TEXT,
        "origin": _TIME,
        **{
            name: _column("float64", pa.Check.ge(0), pa.Check(_finite, name="finite"), nullable=True)
            for name in (
                "open_interest_cap", "supply_cap", "borrow_cap", "manipulation_bound", "least_liquidation"
            )
        },
        "stress_move": _positive(),
        "reason": _column("str", pa.Check.str_length(min_value=1)),
    },
    ["market", "role", "debt", "location", "origin"],
)  # fmt: skip
"""What may be open at most, in quote units; missing where it is not known, no fund is configured, or nothing
may be lent (``reason``, else ``-``)."""

PLAN: Final = _schema(
    "Plan",
    {
        "market": _TEXT,
        "origin": _TIME,
        "effective_from": _TIME,
        "initial_margin_ppm": _ppm(),
        "maintenance_margin_ppm": _ppm(),
    },
    ["market", "origin", "effective_from"],
    pa.Check(lambda f: f["effective_from"] >= f["origin"], name="effective_from >= origin"),
    pa.Check(lambda f: f["initial_margin_ppm"] > f["maintenance_margin_ppm"], name="initial > maintenance"),
)
"""What will apply and when, as decided at ``origin``."""

SCHEDULE_HISTORY: Final = _schema(
    "ScheduleHistory",
    {
        "market": _TEXT,
        "effective_from": _TIME,
        "notional_floor": _column("int64", pa.Check.ge(0)),
        "regime": _column("int64", pa.Check.isin([0, 1, 2])),
        "initial_margin_ppm": _ppm(),
        "maintenance_margin_ppm": _ppm(),
    },
    ["market", "effective_from", "notional_floor"],
)
"""The schedule in force over time, per tier."""

FINDINGS: Final = _schema(
    "Findings",
    {
        "market": _TEXT,
        "rule": _TEXT,
        "count": _column("int64", pa.Check.ge(0)),
        "first": _column(TIME, nullable=True),
        "last": _column(TIME, nullable=True),
        "action": _TEXT,
    },
    ["market", "rule"],
)
"""What the data gate found: how often a rule fired, where, and what was done."""


def conform(frame: pd.DataFrame, schema: pa.DataFrameSchema, *, source: str) -> pd.DataFrame:
    """Check a frame against its schema; the only way a frame enters a stage.

    Parameters
    ----------
    frame : pandas.DataFrame
        Candidate with the columns of ``schema`` (any order, any index).
    schema : pandera.DataFrameSchema
        One of the schemas of this module.
    source : str
        Where the frame comes from; repeated in the error.

    Returns
    -------
    pandas.DataFrame
        The same rows in the same order, columns in schema order, fresh ``RangeIndex``.

    Raises
    ------
    DataError
        With frame, column, rule, value and row of the first violation.

    Examples
    --------
    >>> row = {"market": ["BTC"], "time": pd.to_datetime(["2024-01-01"], utc=True).as_unit("us"),
    ...        "open": [1.0], "high": [2.0], "low": [1.5], "close": [1.0], "volume": [0.0]}
    >>> conform(pd.DataFrame(row), BARS, source="example")
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: Bars from example: rule 'low is the lowest' is broken in 1 row, first at
    row 0: market='BTC', time=2024-01-01T00:00:00+00:00, open=1.0, high=2.0, low=1.5, close=1.0, volume=0.0
    """
    label = f"{schema.name} from {source}"
    expected = list(schema.columns)
    for problem, names in (
        ("missing", [c for c in expected if c not in frame.columns]),
        ("unknown", [str(c)[:80] for c in frame.columns if c not in expected]),
    ):
        if names:
            raise DataError(f"{label}: {problem} column {names[0]!r}; expected {', '.join(expected)}")
    if frame.columns.duplicated().any():
        raise DataError(f"{label}: column {frame.columns[frame.columns.duplicated()][0]!r} appears twice")
    candidate = _canonical(frame[expected].reset_index(drop=True), schema, label)
    try:
        return schema.validate(candidate, lazy=False)
    except (SchemaError, SchemaErrors) as error:
        raise DataError(_first_violation(candidate, schema, label, error)) from error


def _canonical(frame: pd.DataFrame, schema: pa.DataFrameSchema, label: str) -> pd.DataFrame:
    """Give each column its unit (us UTC, float64, int64, str); refuse what would lose information."""
    return pd.DataFrame(
        {
            name: _in_unit(frame[name], str(column.dtype), f"{label}: column {name!r}")
            for name, column in schema.columns.items()
        },
        copy=False,
    )


def _in_unit(values: pd.Series, wanted: str, place: str) -> pd.Series:
    if wanted.startswith("datetime64"):
        if not isinstance(values.dtype, pd.DatetimeTZDtype):
            raise DataError(f"{place} must be timezone-aware UTC times, dtype was {values.dtype}")
        try:
            return values.dt.tz_convert("UTC").dt.as_unit("us")
        except pd.errors.OutOfBoundsDatetime as error:
            raise DataError(f"{place}: {error}") from error
    if wanted not in {"float64", "int64"}:
        return values.astype("str")
    if not pd.api.types.is_any_real_numeric_dtype(values):
        raise DataError(f"{place} must be numeric, dtype was {values.dtype}")
    if wanted == "int64" and not pd.api.types.is_integer_dtype(values):
        raise DataError(f"{place} must hold integers, dtype was {values.dtype}")
    if wanted == "int64" and values.isna().any():
        raise DataError(f"{place} must not be missing, is in row {values.isna().argmax()}")
    return values.astype(wanted)


def _first_violation(
    frame: pd.DataFrame, schema: pa.DataFrameSchema, label: str, error: SchemaError | SchemaErrors
) -> str:
    check = getattr(error, "check", None)
    rule = str(getattr(check, "name", None) or getattr(check, "error", None) or check)
    cases = getattr(error, "failure_cases", None)
    duplicated = frame.duplicated(schema.unique, keep=False)
    if getattr(getattr(error, "reason_code", None), "name", "") == "DUPLICATES" and duplicated.any():
        rule, rows = f"one row per {', '.join(schema.unique)}", list(frame.index[duplicated])
    else:
        has_rows = isinstance(cases, pd.DataFrame) and "index" in cases and cases["index"].notna().any()
        rows = sorted({int(i) for i in cases["index"].dropna()}) if has_rows and cases is not None else []
    column = getattr(getattr(error, "schema", None), "name", None)
    where = f" column {column!r}" if column not in (None, schema.name) else ""
    count = f"{len(rows)} row" + ("s" if len(rows) != 1 else "")
    place = f" in {count}, first at row {rows[0]}: {_spell(frame, rows[0])}" if rows else ""
    return f"{label}:{where} rule {rule!r} is broken{place}"


def _spell(frame: pd.DataFrame, row: int) -> str:
    record = frame.loc[row].to_dict()
    return ", ".join(f"{k}={_value(v)}" for k, v in record.items())


def _value(value: object) -> str:
    text = value.isoformat() if isinstance(value, pd.Timestamp) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
