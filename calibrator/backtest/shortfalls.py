"""The expected-shortfall tests over every market and side at once."""

from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest.expected_shortfall import (
    ShortfallTest,
    TailNull,
    acerbi_szekely_z1,
    acerbi_szekely_z2,
    mcneil_frey,
)
from calibrator.backtest.losses import ROW, conform_losses
from calibrator.backtest.table import combined, series_of
from calibrator.frames import TAILS, conform

NULL: Final = TailNull(degrees_of_freedom=3.0)
"""Losses beyond a margin have heavy tails; normal ones would be rejected for being none."""


def shortfall_table(tails: pd.DataFrame, losses: pd.DataFrame, *, overlap: int = 1) -> pd.DataFrame:
    """Hold forecast loss quantiles and expected shortfalls against the losses that followed.

    Parameters
    ----------
    tails : pandas.DataFrame
        ``frames.TAILS``.
    losses : pandas.DataFrame
        ``losses.LOSSES``; one or several starts per origin.
    overlap : int
        Decisions whose losses share bars. The tests run on each series that shares none; p-values of several
        series are combined as in :func:`~calibrator.backtest.table.coverage_table`.

    Returns
    -------
    pandas.DataFrame
        Per market, side and level: ``observations``, ``breaches`` of the quantile (all losses), ``z1``,
        ``z2`` (means over the series; missing without a breach), ``z1_p_value``, ``z2_p_value``,
        ``mcneil_frey_p_value`` (decision p-values, small where shortfall is underestimated) and
        ``mean_excess`` (mean of loss over expected shortfall beyond the quantile; missing without a breach).

    Raises
    ------
    DataError
        A frame breaks its schema.
    ValueError
        ``overlap`` below one.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=200, tz="UTC").as_unit("us")
    >>> tails = pd.DataFrame({"market": "A", "origin": t, "side": "long", "horizon": 1, "level": 0.99,
    ...                       "quantile": 0.05, "expected_shortfall": 0.06})
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.02] * 196 + [0.12] * 4})
    >>> row = shortfall_table(tails, x).iloc[0]
    >>> int(row.breaches), float(row.z1), round(float(row.z2), 3), bool(row.z1_p_value < 0.05)
    (4, -1.0, -3.0, True)
    """
    if overlap < 1:
        raise ValueError(f"overlap must be at least 1, was {overlap}")
    asked = conform(tails, TAILS, source="backtest")[[*ROW, "level", "quantile", "expected_shortfall"]]
    held = conform_losses(losses).merge(asked, on=ROW).dropna(subset="loss")
    rows = [
        dict(zip(("market", "side", "level"), key, strict=True)) | _measure(one, float(key[2]), overlap)
        for key, one in held.groupby(["market", "side", "level"], sort=True)
    ]
    return pd.DataFrame(rows)


def _measure(one: pd.DataFrame, level: float, overlap: int) -> dict[str, float]:
    values = tuple(one[c].to_numpy(float) for c in ("loss", "quantile", "expected_shortfall"))
    hit = values[0] > values[1]
    series = series_of(one, overlap)
    tests: dict[str, list[ShortfallTest]] = {"z1": [], "z2": [], "mcneil_frey": []}
    for rows in series:
        own = tuple(v[rows] for v in values)
        tests["z1"].append(acerbi_szekely_z1(*own, level=level, null=NULL))
        tests["z2"].append(acerbi_szekely_z2(*own, level=level, null=NULL))
        tests["mcneil_frey"].append(mcneil_frey(*own, draws=999))
    return {
        "observations": len(one),
        "breaches": int(hit.sum()),
        **{name: _mean([t.statistic for t in tests[name] if t.applicable]) for name in ("z1", "z2")},
        **{f"{name}_p_value": combined([t.decision_p_value for t in found]) for name, found in tests.items()},
        "mean_excess": _mean((values[0] / values[2])[hit].tolist()),
    }


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
