"""Assemble the backtest's tables into one plain dictionary, with a verdict that names its reasons."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest.coverage import Zone
from calibrator.backtest.population import Population

_KPIS: Final = ("max_increase_1", "max_increase_5", "max_increase_10", "peak_to_trough")
_LABEL: Final = ("market", "side", "level")

Plain = dict[str, object]


@dataclass(frozen=True, slots=True)
class Gates:
    """What a schedule must pass before it goes out without a second look.

    Attributes
    ----------
    size : float
        Probability of rejecting a correct schedule because of *any* of its markets: each of ``n`` exact
        one-sided tests rejects at ``size / n`` (Bonferroni).
    zone : {"green", "yellow", "red"}
        Zone that no market may reach.

    Examples
    --------
    >>> Gates().zone
    'red'
    """

    size: float = 0.05
    zone: Zone = "red"

    def __post_init__(self) -> None:
        if not 0 < self.size < 1:
            raise ValueError(f"size must be between 0 and 1, was {self.size}")


def summary(
    coverage: pd.DataFrame,
    kpis: pd.DataFrame,
    *,
    policies: pd.DataFrame | None = None,
    replays: pd.DataFrame | None = None,
    population: Population | None = None,
    gates: Gates | None = None,
) -> Plain:
    """Return everything a reader of ``backtest.json`` needs, in plain Python types.

    Parameters
    ----------
    coverage : pandas.DataFrame
        From :func:`~calibrator.backtest.table.coverage_table`.
    kpis : pandas.DataFrame
        From :func:`~calibrator.backtest.kpis.procyclicality`.
    policies : pandas.DataFrame, optional
        From :func:`~calibrator.backtest.kpis.equal_margin_shortfall`.
    replays : pandas.DataFrame, optional
        From :func:`~calibrator.backtest.replay.compare`.
    population : Population, optional
        The simulated accounts behind ``replays``; a replay of recorded accounts has none.
    gates : Gates, optional

    Returns
    -------
    dict
        ``coverage`` (``rows``, ``pooled`` per level, ``rejections``), ``kpis`` (``rows``, ``worst``),
        ``policies``, ``replay`` (``simulated``, ``population``, ``schedules``) and ``verdict`` (``status``
        ``pass`` or ``review``, ``reasons``). Missing values are None, times ISO 8601 in UTC.

    Examples
    --------
    >>> row = {"market": "A", "side": "long", "level": 0.99, "observations": 100, "breaches": 9,
    ...        "coverage": 0.91, "excess_p_value": 1e-6, "zone": "red", "worst_loss_to_margin": 2.0}
    >>> steady = {"market": "A", "max_increase_1": 0.1}
    >>> summary(pd.DataFrame([row]), pd.DataFrame([steady]))["verdict"]["reasons"]
    ['A long at 0.99: 9 breaches in 100 losses, exact p-value 1e-06 below 0.05',
     'A long at 0.99: zone red, 9 breaches in 100 losses']
    """
    gate = gates or Gates()
    return {
        "coverage": {
            "rows": records(coverage),
            "pooled": records(_pooled(coverage)),
            "rejections": _rejections(coverage, gate),
        },
        "kpis": {
            "rows": records(kpis),
            "worst": {k: plain(kpis[k].max()) for k in _KPIS if k in kpis.columns}
            | {"worst_loss_to_margin": plain(coverage["worst_loss_to_margin"].max())},
        },
        "policies": None if policies is None else _by_name(policies),
        "replay": None if replays is None else _replay(replays, population),
        "verdict": verdict(coverage, gate),
    }


def verdict(coverage: pd.DataFrame, gates: Gates) -> Plain:
    """Judge a coverage table: ``pass``, or ``review`` with the reasons by name.

    Examples
    --------
    >>> row = {"market": "A", "side": "long", "level": 0.99, "observations": 100, "breaches": 1,
    ...        "excess_p_value": 0.63, "zone": "green"}
    >>> verdict(pd.DataFrame([row]), Gates())
    {'status': 'pass', 'reasons': [], 'tests': 1, 'size': 0.05}
    """
    tested = coverage[coverage["observations"] > 0]
    threshold = gates.size / max(len(tested), 1)
    reasons = [f"{_name(row)}: no loss to hold the margin against" for row in _each(coverage, tested.index)]
    for row in tested.to_dict("records"):
        counts = f"{row['breaches']:.0f} breaches in {row['observations']:.0f} losses"
        if row["excess_p_value"] < threshold:
            reasons.append(
                f"{_name(row)}: {counts}, exact p-value {row['excess_p_value']:.2g} below {threshold:.2g}"
            )
        if row["zone"] == gates.zone or row["zone"] == "red":
            reasons.append(f"{_name(row)}: zone {row['zone']}, {counts}")
    if coverage.empty:
        reasons.append("no market was tested")
    return {
        "status": "review" if reasons else "pass",
        "reasons": reasons,
        "tests": len(tested),
        "size": gates.size,
    }


def records(frame: pd.DataFrame) -> list[Plain]:
    """Return rows as dictionaries of plain Python values.

    Examples
    --------
    >>> records(pd.DataFrame({"a": [1], "b": [np.nan], "t": pd.to_datetime(["2024-01-01"], utc=True)}))
    [{'a': 1, 'b': None, 't': '2024-01-01T00:00:00+00:00'}]
    """
    return [{str(k): plain(v) for k, v in row.items()} for row in frame.to_dict("records")]


def plain(value: object) -> object:
    """Return one value as a JSON-serialisable one; missing and infinite become None.

    Examples
    --------
    >>> plain(np.int64(3)), plain(np.float64("inf")), plain(pd.NaT)
    (3, None, None)
    """
    if value is pd.NaT or value is None:
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _pooled(coverage: pd.DataFrame) -> pd.DataFrame:
    """Pool breaches over markets and sides per level; the coverage after high variance beside it."""
    rows = []
    for level, group in coverage.groupby("level"):
        n, x = int(group["observations"].sum()), int(group["breaches"].sum())
        row: Plain = {"level": level, "observations": n, "breaches": x, "coverage": 1 - x / n if n else None}
        if "observations_high_variance" in group.columns:
            high = group[group["observations_high_variance"] > 0]
            weight = high["observations_high_variance"].astype(float)
            covered = float((high["coverage_high_variance"] * weight).sum())
            row["coverage_high_variance"] = covered / float(weight.sum()) if len(high) else None
        rows.append(row)
    return pd.DataFrame(rows)


def _rejections(coverage: pd.DataFrame, gates: Gates) -> Plain:
    """Count markets and sides each test rejects at ``size``, uncorrected: how many chance would give, too."""
    tests = [c for c in coverage.columns if c.endswith("_p_value") and c != "kupiec_p_value"]
    tested = coverage[coverage["observations"] > 0]
    return {
        "tests": len(tested),
        "expected_at_most": gates.size * len(tested),
        **{name: int((tested[name] <= gates.size).sum()) for name in tests},
    }


def _replay(replays: pd.DataFrame, population: Population | None) -> Plain:
    return {
        "simulated": population is not None,
        "population": None if population is None else population.summary(),
        "schedules": _by_name(replays),
    }


def _by_name(frame: pd.DataFrame) -> Plain:
    return dict(zip((str(name) for name in frame.index), records(frame), strict=True))


def _each(coverage: pd.DataFrame, without: pd.Index) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = coverage.drop(index=without).to_dict("records")
    return rows


def _name(row: dict[str, object]) -> str:
    market, side, level = (row[c] for c in _LABEL)
    return f"{market} {side} at {level:g}"
