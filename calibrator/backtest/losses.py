"""The realized losses that margins are held against, and how they meet the margins."""

from typing import Final

import numpy as np
import pandas as pd
import pandera.pandas as pa

from calibrator.errors import DataError
from calibrator.frames import TIME, conform

ROW: Final = ["market", "origin", "side"]

_COLUMNS: Final = {
    "market": pa.Column("str", pa.Check.str_length(min_value=1, max_value=64)),
    "origin": pa.Column(TIME),
    "start": pa.Column("int64", pa.Check.ge(0)),
    "side": pa.Column("str", pa.Check.isin(["long", "short"])),
    "loss": pa.Column("float64", pa.Check(lambda s: s.abs() < float("inf"), name="finite"), nullable=True),
}

LOSSES: Final = pa.DataFrameSchema(
    _COLUMNS, strict=True, ordered=True, name="Losses", unique=["market", "origin", "start", "side"]
)
"""Loss of a position over the close-out (fraction of notional, negative = gain, missing = not known).

``start`` counts bars after ``origin``: a margin decided at an origin covers every start until the next one.
"""

MATURED_LOSSES: Final = pa.DataFrameSchema(
    _COLUMNS | {"known_at": pa.Column(TIME)},
    strict=True,
    ordered=True,
    name="MaturedLosses",
    unique=["market", "origin", "start", "side"],
)
"""Losses and the end of the bar at which each can be known; a row without loss still names a decision."""

REALIZED_VARIANCE: Final = pa.DataFrameSchema(
    {
        "market": pa.Column("str"),
        "origin": pa.Column(TIME),
        "realized_variance": pa.Column("float64", pa.Check.ge(0), nullable=True),
    },
    strict=True,
    ordered=True,
    name="RealizedVariance",
    unique=["market", "origin"],
)
"""Trailing realized variance known at ``origin``."""


def conform_losses(losses: pd.DataFrame, *, schema: pa.DataFrameSchema = LOSSES) -> pd.DataFrame:
    """Check losses and sort them by market, side, origin and start.

    Parameters
    ----------
    losses : pandas.DataFrame
        Columns of ``schema``; ``start`` may be left out when each origin has one start, further columns are
        ignored.
    schema : pandera.DataFrameSchema
        :data:`LOSSES` or :data:`MATURED_LOSSES`.

    Raises
    ------
    DataError
        A column is missing, a rule is broken, or no rows.

    Examples
    --------
    >>> row = {"market": "A", "origin": pd.Timestamp("2024-01-01", tz="UTC"), "side": "long", "loss": 0.1}
    >>> conform_losses(pd.DataFrame([row])).start.tolist()
    [0]
    """
    if losses.empty:
        raise DataError("losses: there must be at least one row, there are 0")
    full = losses if "start" in losses.columns else losses.assign(start=0)
    known = [c for c in schema.columns if c in full.columns]
    checked = conform(full[known], schema, source="backtest")
    return checked.sort_values(["market", "side", "origin", "start"], ignore_index=True)


def worst_start(losses: pd.DataFrame) -> pd.Series:
    """Return the largest loss per (market, origin, side), missing where one of its starts is missing.

    Examples
    --------
    >>> t = pd.Timestamp("2024-01-01", tz="UTC")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "start": [0, 1], "loss": [0.1, 0.3]})
    >>> worst_start(x).tolist()
    [0.3]
    """
    worst = losses.groupby(ROW, sort=True)["loss"].agg(["max", "size", "count"])
    largest: pd.Series = worst["max"].where(worst["size"] == worst["count"], np.nan)
    return largest
