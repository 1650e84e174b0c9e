"""How unsettling a margin is (procyclicality), and how much loss it leaves at equal cost."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.backtest.losses import ROW, conform_losses
from calibrator.errors import DataError
from calibrator.frames import MARGINS, conform

STEPS: Final = (1, 5, 10)
BASIS_POINTS: Final = 10_000.0
_SERIES: Final = ["market", "side", "level", "horizon"]


def procyclicality(margins: pd.DataFrame, *, window: int = 365, column: str = "margin") -> pd.DataFrame:
    """Measure how fast and how far margins move, by the definitions of Eurex's disclosures.

    Parameters
    ----------
    margins : pandas.DataFrame
        ``frames.MARGINS``.
    window : int
        Decisions in a rolling year; half of them are needed.
    column : str
        ``margin`` or ``margin_unlimited``.

    Returns
    -------
    pandas.DataFrame
        Per market, side, level and horizon: ``decisions``, ``average``, ``max_increase_1``, ``_5`` and
        ``_10`` (largest relative increase over so many decisions) and ``peak_to_trough`` (largest
        ``max / min - 1`` over the window); missing where the series is too short.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=4, tz="UTC").as_unit("us")
    >>> m = pd.DataFrame({"market": "A", "origin": t, "side": "long", "level": 0.99, "horizon": 24,
    ...                   "margin": [0.10, 0.12, 0.15, 0.06], "margin_unlimited": 0.1})
    >>> row = procyclicality(m, window=4).iloc[0]
    >>> row[["max_increase_1", "peak_to_trough"]].astype(float).round(4).tolist()
    [0.25, 1.5]
    """
    checked = conform(margins, MARGINS, source="backtest").sort_values([*_SERIES, "origin"])
    rows = []
    for key, one in checked.groupby(_SERIES, sort=True):
        m = one[column].reset_index(drop=True)
        year = m.rolling(window, min_periods=max(1, window // 2))
        rows.append(
            dict(zip(_SERIES, key, strict=True))
            | {"decisions": len(m), "average": float(m.mean())}
            | {f"max_increase_{n}": float((m / m.shift(n) - 1).max()) for n in STEPS}
            | {"peak_to_trough": float((year.max() / year.min()).max() - 1)}
        )
    return pd.DataFrame(rows)


def equal_margin_shortfall(
    policies: pd.DataFrame,
    losses: pd.DataFrame,
    *,
    reference: str = "historical_simulation",
    trailing: str = "365D",
) -> pd.DataFrame:
    """Compare policies at equal cost by the loss they leave uncovered.

    Every policy is multiplied by one constant, so that its average margin equals the reference's. Then
    ``shortfall = mean(max(0, loss - margin))`` over all rows and starts. A second column uses a constant
    that was known at the time (ratio of the averages over the trailing year, today's margin included).

    Parameters
    ----------
    policies : pandas.DataFrame
        ``market, origin, side`` and one column of margins per policy (fractions). Only rows on which every
        policy has a positive margin and every start a known loss are compared.
    losses : pandas.DataFrame
        ``losses.LOSSES``; each row weighs the same, whatever its number of starts.
    reference : str
        The column that sets the average.
    trailing : str
        Length of the trailing window.

    Returns
    -------
    pandas.DataFrame
        Per policy: ``rows`` compared, ``average_margin`` and ``coverage`` before scaling, ``scale``,
        ``shortfall_bp`` (basis points of notional) and its ratio ``relative`` to the reference's; both again
        ``_without_worst_day`` (the origin with the largest mean worst loss) and ``_trailing``.

    Raises
    ------
    DataError
        No row on which every policy can be compared, or duplicated rows.
    ValueError
        The reference is not a column.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=2, tz="UTC").as_unit("us")
    >>> x = pd.DataFrame({"market": "A", "origin": t, "side": "long", "loss": [0.05, 0.20]})
    >>> p = x.assign(historical_simulation=0.10, late=[0.12, 0.04])[
    ...     ["market", "origin", "side", "historical_simulation", "late"]]
    >>> out = equal_margin_shortfall(p, x)
    >>> out.shortfall_bp.round(2).to_dict(), out.scale.round(2).to_dict()
    ({'historical_simulation': 500.0, 'late': 750.0}, {'historical_simulation': 1.0, 'late': 1.25})
    """
    names = [c for c in policies.columns if c not in ROW]
    if reference not in names:
        raise ValueError(f"reference must be one of the policies {names}, was {reference!r}")
    if policies.duplicated(ROW).any():
        raise DataError("policies: one row per market, origin, side; some are duplicated")
    held, row = _comparable(policies, losses, names)
    loss, days = held["loss"].to_numpy(), held["origin"].to_numpy()
    weight = 1.0 / np.bincount(row)[row]
    worst = pd.Series(loss).groupby(row).max()
    first = np.unique(row, return_index=True)[1]
    worst_day = worst.groupby(days[first]).mean().idxmax()
    rest = days != np.datetime64(worst_day)
    table = {}
    for name in names:
        m = held[name].to_numpy()
        scale = float(held[reference].to_numpy()[first].mean() / m[first].mean())
        causal = _trailing_scale(held.iloc[first], name, reference, trailing).loc[held["origin"]].to_numpy()
        short = np.maximum(loss - m * scale, 0) * BASIS_POINTS
        table[name] = {
            "rows": len(first),
            "average_margin": float(m[first].mean()),
            "coverage": 1 - float(np.average(loss > m, weights=weight)),
            "scale": scale,
            "shortfall_bp": float(np.average(short, weights=weight)),
            "shortfall_bp_without_worst_day": _mean(short[rest], weight[rest]),
            "shortfall_bp_trailing": float(
                np.average(np.maximum(loss - m * causal, 0), weights=weight) * BASIS_POINTS
            ),
        }
    out = pd.DataFrame(table).T.rename_axis("policy")
    for ending in ("", "_without_worst_day", "_trailing"):
        base = out.loc[reference, "shortfall_bp" + ending]
        out["relative" + ending] = out["shortfall_bp" + ending] / (base if base > 0 else np.nan)
    return out.astype({"rows": "int64"})


def _comparable(
    policies: pd.DataFrame, losses: pd.DataFrame, names: list[str]
) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    """Return the losses with every policy's margin, and the number of the row each belongs to."""
    margins = policies[names]
    usable = policies[(margins > 0).all(axis=1) & np.isfinite(margins).all(axis=1)]
    checked = conform_losses(losses)
    keys = checked[ROW].ne(checked[ROW].shift()).any(axis=1).cumsum()
    complete = checked[checked["loss"].notna().groupby(keys).transform("all")]
    held = complete.merge(usable, on=ROW, how="inner")
    if held.empty:
        raise DataError("policies: there is no row with a positive margin of every policy and a known loss")
    held["origin"] = held["origin"].dt.tz_convert(None)
    row = held.groupby(ROW, sort=False).ngroup().to_numpy()
    return held, row


def _trailing_scale(rows: pd.DataFrame, name: str, reference: str, trailing: str) -> pd.Series:
    daily = pd.DataFrame({"policy": rows[name], "reference": rows[reference], "origin": rows["origin"]})
    sums = daily.groupby("origin").sum().sort_index().rolling(trailing).sum()
    scale: pd.Series = sums["reference"] / sums["policy"]
    return scale


def _mean(values: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]) -> float:
    return float(np.average(values, weights=weight)) if len(values) else float("nan")
