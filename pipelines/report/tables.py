"""The report's tables: rows of words, in the order in which the page shows them."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from calibrator.calibrate.tiers import calibrated_to
from calibrator.data.events import StressEvent
from calibrator.domain import ppm_up
from calibrator.publish.changes import market_title
from calibrator.publish.document import CollateralParameters, PerpetualParameters
from pipelines.report.review import Review
from pipelines.report.words import MISSING, explain_market, number, p_value, percent, ppm

ANCHOR: Final = (
    ("Eurex, equity index, 2022 (published)", 0.17, 0.46, 0.63, 1.36, 0.9992, 1.12),
    ("Eurex, equity index, 2023 (published)", 0.12, 0.30, 0.40, 0.81, 0.9998, 1.15),
)
"""Largest 1-, 5-, 10-day increase, peak to trough, coverage, loss to margin of the worst breach."""
POLICIES: Final = {
    "static": "quantile of all history, set once a year",
    "historical_simulation": "quantile of the last 365 decisions (reference)",
    "ewma_fhs": "filtered historical simulation, EWMA volatility",
    "har_fhs": "filtered historical simulation, HAR volatility",
    "ours": "this proposal, with floor and speed limits",
    "ours_unlimited": "this proposal, before floor and speed limits",
}
MODELS: Final = {
    "ewma": "RiskMetrics EWMA",
    "garch": "GARCH(1,1), normal",
    "gjr_t": "GJR-GARCH, Student-t",
    "har": "log-HAR",
    "pooled": "pooled regression",
    "lightgbm": "gradient boosting",
    "combination": "combination (published)",
}


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes
    ----------
    head : tuple of str
        Column names.
    rows : list of list of str
    classes : list of str
        CSS class per row, or empty.
    text : int
        Leading columns that hold words; the others are numbers and stand right.
    """

    head: tuple[str, ...]
    rows: list[list[str]]
    classes: list[str] = field(default_factory=list)
    text: int = 1


def perpetuals(review: Review) -> Table:
    """Return what is proposed for every margined market."""
    rows = []
    for m in review.document.markets:
        if not isinstance(m, PerpetualParameters):
            continue
        made = review.made(m)
        last = made.table.iloc[-1] if made is not None and m.status == "fresh" else None
        rows.append(
            [
                m.symbol,
                m.regime,
                ppm(m.stress_probability_ppm, 1),
                ppm(m.volatility_ppm),
                _side(last, "long"),
                _side(last, "short"),
                ppm(m.margins[0].maintenance_margin_ppm),
                ppm(m.margins[0].initial_margin_ppm),
                ppm(m.previous_ppm),
                f"{m.close_out_bars} bars at {ppm(m.level_ppm, 1)}",
                m.status,
            ]
        )
    head = (
        "market", "regime", "stress probability", "forecast volatility", "long", "short",
        "maintenance (first tier)", "initial (first tier)", "maintenance before", "covers", "status",
    )  # fmt: skip
    return Table(head, rows, text=2)


def _side(row: pd.Series | None, side: str) -> str:
    return MISSING if row is None else ppm(ppm_up(float(row[f"margin_{side}"])))


def collaterals(review: Review) -> Table:
    """Return what is proposed for every collateral."""
    rows = [
        [
            f"{m.symbol} against {m.haircut.debt}",
            m.haircut.location,
            m.regime,
            ppm(m.stress_probability_ppm, 1),
            ppm(m.volatility_ppm),
            ppm(m.haircut.haircut_ppm),
            ppm(m.haircut.loan_to_value_ppm),
            ppm(m.haircut.liquidation_threshold_ppm),
            ppm(m.haircut.liquidation_penalty_ppm),
            ppm(m.previous_ppm),
            m.status,
        ]
        for m in review.document.markets
        if isinstance(m, CollateralParameters)
    ]
    head = (
        "collateral", "location", "regime", "stress probability", "forecast volatility", "haircut",
        "loan to value", "liquidation threshold", "liquidation penalty", "haircut before", "status",
    )  # fmt: skip
    return Table(head, rows, text=3)


def tiers(review: Review) -> Table:
    """Return maintenance / initial margin per notional tier, each of the part above the tier's floor."""
    perps = [m for m in review.document.markets if isinstance(m, PerpetualParameters)]
    floors = sorted({t.notional_floor for m in perps for t in m.margins})
    rows = []
    for m in perps:
        own = {t.notional_floor: t for t in m.margins}
        cells = [
            f"{ppm(own[f].maintenance_margin_ppm)} / {ppm(own[f].initial_margin_ppm)}"
            if f in own
            else MISSING
            for f in floors
        ]
        largest = calibrated_to(m.schedule())
        rows.append([m.symbol, *cells, f"{largest:,}" if largest else "no size"])
    return Table(("market", *(f"from {f:,}" for f in floors), "calibrated up to"), rows)


def reasons(review: Review) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return per market: symbol, why its value changed, and what bound the decision."""
    return [(market_title(m), explain_market(m), m.reasons) for m in review.document.markets]


def drivers(review: Review) -> Table:
    """Return what moved each market's last stress probability most, away from the average."""
    found = review.production.forecasts.drivers()
    rows = []
    for m in review.document.markets:
        made = review.made(m)
        own = found.get(made.series) if made is not None and m.status == "fresh" else None
        if own:
            signed = [f"{what} {odds:+.2f}" for what, odds in own]
            rows.append([market_title(m), "; ".join(signed), m.regime, ppm(m.stress_probability_ppm, 1)])
    return Table(
        ("market", "largest contributions to the log-odds", "regime", "stress probability"), rows, text=3
    )


def plan(review: Review) -> Table:
    """Return what will take effect and when."""
    rows: list[list[str]] = []
    for m in review.document.markets:
        if isinstance(m, PerpetualParameters):
            words = [
                (c.effective_from, ppm(c.maintenance_margin_ppm), ppm(c.initial_margin_ppm)) for c in m.plan
            ]
            names = "maintenance / initial"
        else:
            words = [
                (c.effective_from, ppm(c.loan_to_value_ppm), ppm(c.liquidation_threshold_ppm)) for c in m.plan
            ]
            names = "loan to value / threshold"
        cells = [f"{first} / {second}" for _, first, second in words]
        rows.append([market_title(m), names, *cells])
    steps = max((len(m.plan) for m in review.document.markets), default=0)
    longest = max(review.document.markets, key=lambda m: len(m.plan)).plan
    when = tuple(f"{c.effective_from:%Y-%m-%d %H:%M}" for c in longest)
    rows = [r + [MISSING] * (2 + steps - len(r)) for r in rows]
    return Table(("market", "values", *when), rows, text=2)


def coverage(review: Review) -> Table:
    """Return the coverage battery with the traffic light as row class."""
    rows, classes = [], []
    for r in _records(review.backtest.coverage):
        rows.append(
            [
                str(r["market"]),
                str(r["side"]),
                str(r.get("zone") or MISSING),
                percent(r["level"], 1),
                number(r["observations"]),
                number(r["breaches"]),
                percent(r.get("coverage")),
                percent(r.get("coverage_high_variance")),
                p_value(r.get("excess_p_value")),
                p_value(r.get("independence_p_value")),
                p_value(r.get("conditional_p_value")),
                p_value(r.get("dynamic_quantile_p_value")),
                number(r.get("worst_loss_to_margin"), 2),
                _day(r.get("worst_origin")),
            ]
        )
        classes.append(f"zone-{r.get('zone') or 'none'}")
    head = (
        "market", "side", "traffic light", "asked", "losses", "breaches", "covered", "after high variance",
        "p: too many", "p: independent", "p: conditional", "p: dynamic quantile",
        "worst loss / margin", "decided",
    )  # fmt: skip
    return Table(head, rows, classes, text=3)


def procyclicality(review: Review) -> Table:
    """Return the KPIs beside the published figures of a clearing house."""
    keys = ["market", "side", "level"]
    rows, classes = [], []
    both = review.backtest.kpis.merge(
        review.backtest.coverage[[*keys, "coverage", "worst_loss_to_margin"]], on=keys
    )
    for r in _records(both):
        increases = [percent(r[f"max_increase_{n}"], 0) for n in (1, 5, 10)]
        tail = [
            percent(r["peak_to_trough"], 0),
            percent(r["coverage"]),
            percent(r["worst_loss_to_margin"], 0),
        ]
        rows.append([f"{r['market']}, {r['side']}", percent(r["average"]), *increases, *tail])
        classes.append("")
    for name, one, five, ten, peak, share, worst in ANCHOR:
        cells = [percent(v, 0) for v in (one, five, ten, peak)]
        rows.append([name, MISSING, *cells, percent(share), percent(worst, 0)])
        classes.append("anchor")
    head = (
        "market and side", "average", "largest increase, 1 decision", "5 decisions", "10 decisions",
        "peak to trough, one year", "covered", "worst loss / margin",
    )  # fmt: skip
    return Table(head, rows, classes)


def policies(review: Review) -> list[tuple[str, Table]]:
    """Return per group of markets the comparator policies, smallest shortfall first."""
    head = (
        "policy", "average margin", "covered", "scale to equal margin", "shortfall, bp", "relative",
        "relative, without the worst day", "relative, constant known at the time",
    )  # fmt: skip
    out = []
    for group, table in review.backtest.policies.items():
        rows, classes = [], []
        for name, r in sorted(table.to_dict("index").items(), key=lambda item: item[1]["shortfall_bp"]):
            shares = [percent(r["average_margin"]), percent(r["coverage"])]
            relative = [number(r[f"relative{x}"], 2) for x in ("", "_without_worst_day", "_trailing")]
            numbers = [number(r["scale"], 2), number(r["shortfall_bp"], 2), *relative]
            rows.append([POLICIES.get(str(name), str(name)), *shares, *numbers])
            classes.append("ours" if name == "ours" else "")
        out.append((group, Table(head, rows, classes)))
    return out


def accuracy(review: Review) -> Table:
    """Return mean QLIKE per model (rows) and market (columns; at most eight), pooled first."""
    scores = review.backtest.forecasts
    shown = ["*", *[m for m in review.detailed() if m in scores.index]]
    order = scores.loc["*"].sort_values().index
    best = scores.loc[shown].min(axis=1)
    rows = [
        [
            MODELS.get(str(model), str(model)),
            *(f"{scores.loc[m, model]:.3f}{' ◂' if scores.loc[m, model] == best[m] else ''}" for m in shown),
        ]
        for model in order
    ]
    classes = ["ours" if model == "combination" else "" for model in order]
    return Table(("model", "all markets", *shown[1:]), rows, classes)


def events(review: Review) -> Table:
    """Return what happened in each catalogued event within the backtest."""
    rows, classes = [], []
    for event in review.events(*review.markets):
        kind = "expected miss" if event.expected_miss else ""
        rows.append([_period(event), event.name, event.what, kind, *_losses(review, event)])
        classes.append("miss" if event.expected_miss else "")
    head = ("when", "event", "what happened", "kind", "decisions", "breaches", "worst loss / margin", "where")
    return Table(head, rows, classes, text=4)


def _losses(review: Review, event: StressEvent) -> list[str]:
    """Count the decisions whose close-out touches the event, on the markets that it concerns.

    The close-out is counted on the clock: sessions skipped in between are not added.
    """
    concerned = [m for m in review.markets if event in review.events(m)]
    margins = review.backtest.margins
    first, last = (pd.Timestamp(d, tz="UTC") for d in (event.start, event.end))
    until = margins["origin"] + margins["horizon"] * review.production.clock.step
    inside = (until > first) & (margins["origin"] < last + pd.Timedelta("1D"))
    rows = margins[inside & margins["market"].isin(concerned) & margins["loss"].notna()]
    if rows.empty:
        return ["0", "0", MISSING, MISSING]
    ratio = (rows["loss"] / rows["margin"]).to_numpy(float)
    worst = rows.iloc[int(ratio.argmax())]
    hits = int(np.sum(ratio > 1))
    return [
        number(len(rows)),
        number(hits),
        number(float(ratio.max()), 2),
        f"{worst['market']}, {worst['side']}",
    ]


def replay(review: Review) -> Table:
    """Return the outcome of the simulated accounts under each schedule."""
    table = review.backtest.replays
    if table is None:
        return Table((), [])
    names = {
        "calibrated": "this proposal's history",
        "static": "static: yearly quantile of all history",
    }
    rows = [
        [
            names.get(str(name), str(name)),
            number(r["replayed"]),
            number(r["not_covered"]),
            number(r["insolvent_at_start"]),
            number(r["liquidations"]),
            number(r["self_inflicted"]),
            percent(r["self_inflicted_share"]),
            percent(r["self_inflicted_share_reacting"]),
            number(r["shortfall"]),
            number(r["venue_result"]),
            percent(r["average_margin"]),
        ]
        for name, r in table.to_dict("index").items()
    ]
    head = (
        "schedule", "accounts", "not replayed: no bars or no schedule", "without equity at the start",
        "liquidations", "caused by a change of margin",
        "their share of the notional liquidated",
        "the same if the stated share of owners reacts to the notice", "shortfall (quote units)",
        "penalties less shortfall", "average margin",
    )  # fmt: skip
    return Table(head, rows)


def findings(review: Review) -> Table:
    """Return what the data gate found and did."""
    rows = [
        [r["market"], r["rule"], r["action"], number(r["count"]), _day(r["first"]), _day(r["last"])]
        for r in _records(review.findings)
    ]
    return Table(("market", "rule", "what was done", "count", "first", "last"), rows, text=3)


def data(review: Review) -> Table:
    """Return the bars that went in."""
    rows = [
        [str(m), number(len(g)), _day(g["time"].min()), _day(g["time"].max()), f"{g['close'].iloc[-1]:,.6g}"]
        for m, g in review.bars.groupby("market", sort=True)
    ]
    return Table(("market", "bars", "first", "last", "last price"), rows)


def identity(review: Review) -> list[tuple[str, str]]:
    """Return what ties the page to its inputs."""
    d = review.document
    return [
        ("protocol", d.protocol),
        ("sequence", str(d.sequence)),
        ("issued (as of)", f"{d.issued_at:%Y-%m-%d %H:%M} UTC"),
        ("valid from", f"{d.valid_from:%Y-%m-%d %H:%M} UTC"),
        ("expires", f"{d.expires_at:%Y-%m-%d %H:%M} UTC"),
        ("previous document", d.previous_digest or "none"),
        ("configuration (SHA-256)", d.config_digest),
        ("input data (SHA-256)", d.data_digest),
        *((f"model {name}", digest) for name, digest in sorted(d.model_digests.items())),
        ("software", f"calibrator {review.version}".strip()),
    ]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = frame.to_dict("records")
    return rows


def _period(event: StressEvent) -> str:
    return f"{event.start}" if event.start == event.end else f"{event.start} to {event.end}"


def _day(time: Any) -> str:
    return MISSING if time is None or pd.isna(time) else f"{time:%Y-%m-%d}"
