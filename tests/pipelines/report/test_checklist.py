"""The validator's checklist: every line follows the figures, none passes whatever the run found."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipelines.checklist import RULES, Check, Evidence, checklist
from pipelines.report.page import Review
from pipelines.validation import Validation

Change = Callable[[Evidence], Evidence]


def summary(e: Evidence, **sections: object) -> Evidence:
    backtest = replace(e.challenged, summary=e.challenged.summary | sections)
    return replace(e, challenged=backtest)


def frame(e: Evidence, name: str, **columns: object) -> Evidence:
    table = getattr(e.challenged, name).assign(**columns)
    return replace(e, challenged=replace(e.challenged, **{name: table}))


def stressed(e: Evidence, **parts: object) -> Evidence:
    return replace(e, validation=replace(e.validation, stress=replace(e.validation.stress, **parts)))


def found(e: Evidence, rule: str) -> Evidence:
    row = e.findings.iloc[:1].assign(rule=rule)
    return replace(e, findings=pd.concat([e.findings, row], ignore_index=True))


def buffer(e: Evidence, *, fund: float, required: float) -> Evidence:
    body = {"fund_is_configured": True, "fund": fund, "cover": {"required": required}}
    return summary(e, capital={"buffer": body})


def forecasts(e: Evidence, value: float) -> Evidence:
    return frame(e, "forecasts", combination=value)


def sensitive(e: Evidence, coverage: float) -> Evidence:
    made = e.validation.sensitivity
    assert made is not None
    table = made.table.assign(coverage=made.table["coverage"].where(made.table["coverage"].isna(), coverage))
    return replace(e, validation=replace(e.validation, sensitivity=replace(made, table=table)))


def unexplained(e: Evidence) -> Evidence:
    made = e.validation.sensitivity
    assert made is not None
    return replace(
        e,
        validation=replace(
            e.validation, sensitivity=replace(made, table=made.table.assign(why="", coverage=np.nan))
        ),
    )


ONE = {"rejections": 1, "tests": 4, "percentile_95": 2}
POOLED = {"level": 0.99, "observations": 9, "breaches": 0, "coverage": 1.0}


def digest(e: Evidence) -> Evidence:
    return replace(e, document=e.document.model_copy(update={"data_digest": "x"}))


def judged(e: Evidence, status: str) -> Evidence:
    return summary(e, verdict={"status": status, "reasons": ["A"] * (status == "review"), "tests": 3})


def before_all_events(e: Evidence) -> Evidence:
    return frame(e, "margins", origin=pd.Timestamp("1990-01-01", tz="UTC"))


def tailed(e: Evidence, p_value: float) -> Evidence:
    tails = e.validation.tails.assign(z2_p_value=p_value)
    return replace(e, validation=replace(e.validation, tails=tails))


def late(e: Evidence, coverage: float) -> Evidence:
    return summary(e, coverage={"pooled": [POOLED | {"coverage_high_variance": coverage}]})


def held_back(e: Evidence, share: float) -> Evidence:
    return summary(e, below_forecast={"A": {"share": share, "worst_ratio": 0.5}})


FLIPS: list[tuple[str, Change, str]] = [
    ("identified by digest", digest, "fail"),
    ("prices are fresh", lambda e: found(e, "stale"), "fail"),
    ("prices are fresh", lambda e: e, "pass"),
    ("Markets that failed", lambda e: found(e, "survivors only"), "fail"),
    ("days of decisions per entry", lambda e: e, "pass"),
    ("periods of stress", before_all_events, "fail"),
    ("periods of stress", lambda e: e, "pass"),
    ("no volatility model can see", before_all_events, "not applicable"),
    ("no volatility model can see", lambda e: frame(e, "coverage", observations=0), "fail"),
    ("no volatility model can see", lambda e: e, "pass"),
    ("asked of every entry", lambda e: frame(e, "coverage", level=0.95), "fail"),
    ("asked of every entry", lambda e: frame(e, "coverage", level=0.99), "pass"),
    ("best single model", lambda e: forecasts(e, 9.0), "fail"),
    ("best single model", lambda e: forecasts(e, 0.0), "pass"),
    ("breaches too often", lambda e: judged(e, "review"), "fail"),
    ("breaches too often", lambda e: judged(e, "pass"), "pass"),
    ("markets fall together", lambda e: summary(e, rejections={"g": ONE}), "pass"),
    ("markets fall together", lambda e: summary(e, rejections={"g": ONE | {"rejections": 3}}), "fail"),
    ("markets fall together", lambda e: summary(e, rejections={}), "not applicable"),
    ("Breaches do not follow", lambda e: frame(e, "coverage", independence_p_value=0.001), "fail"),
    ("Breaches do not follow", lambda e: frame(e, "coverage", independence_p_value=0.5), "pass"),
    ("Nothing known beforehand", lambda e: frame(e, "coverage", dynamic_quantile_p_value=0.01), "fail"),
    ("no larger than the expected", lambda e: tailed(e, 0.001), "fail"),
    ("no larger than the expected", lambda e: tailed(e, 0.5), "pass"),
    ("after high variance", lambda e: summary(e, coverage={"pooled": [POOLED]}), "not applicable"),
    ("after high variance", lambda e: late(e, 0.97), "fail"),
    ("after high variance", lambda e: late(e, 0.985), "pass"),
    ("Recorded liquidations", lambda e: e, "not applicable"),
    ("Less shortfall", lambda e: summary(e, policies={}), "not applicable"),
    ("Less shortfall", lambda e: summary(e, policies={"g": {"ours": {"relative": 1.2}}}), "fail"),
    ("Less shortfall", lambda e: summary(e, policies={"g": {"ours": {"relative": 0.7}}}), "pass"),
    ("within the configured limits", lambda e: frame(e, "kpis", max_increase_1=0.3), "fail"),
    ("within the configured limits", lambda e: e, "pass"),
    ("below its forecast", lambda e: held_back(e, 0.2), "fail"),
    ("below its forecast", lambda e: held_back(e, 0.02), "pass"),
    (
        "covers the forecast tail now",
        lambda e: stressed(e, volatility=e.validation.stress.volatility.assign(covered=0.9)),
        "fail",
    ),
    (
        "covers the forecast tail now",
        lambda e: stressed(e, volatility=e.validation.stress.volatility.assign(covered=1.1)),
        "pass",
    ),
    ("says why not", unexplained, "fail"),
    ("says why not", lambda e: e, "pass"),
    ("No single move", lambda e: sensitive(e, 0.9), "fail"),
    ("No single move", lambda e: sensitive(e, 0.995), "pass"),
    ("worst joint days", lambda e: stressed(e, days=e.validation.stress.days.assign(uncovered=0.6)), "fail"),
    ("worst joint days", lambda e: stressed(e, days=e.validation.stress.days.assign(uncovered=0.4)), "pass"),
    ("worst joint days", lambda e: stressed(e, days=e.validation.stress.days.iloc[:0]), "not applicable"),
    ("The fund bears", lambda e: buffer(e, fund=1.0, required=2.0), "fail"),
    ("The fund bears", lambda e: buffer(e, fund=2.0, required=2.0), "pass"),
    ("The fund bears", lambda e: summary(e, capital={}), "not applicable"),
    (
        "exhausts the fund",
        lambda e: stressed(buffer(e, fund=1.0, required=1.0), fund={"standard_deviations": 2.0}),
        "fail",
    ),
    ("exhausts the fund", lambda e: stressed(buffer(e, fund=1.0, required=1.0), fund=None), "pass"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "change", "status"), FLIPS, ids=[f"{r}-{s}-{i}" for i, (r, _, s) in enumerate(FLIPS)]
)
def test_each_line_of_the_checklist_follows_the_figures(
    review: Review, checked: Validation, rule: str, change: Change, status: str
) -> None:
    given = Evidence(review.production, review.backtest, review.document, review.findings, checked)
    lines = [c for c in checklist(change(given)) if rule in c.rule]
    assert [c.status for c in lines] == [status], lines
    assert all(isinstance(c, Check) and c.evidence for c in lines)


def test_every_rule_is_named_in_the_table_above() -> None:
    assert [rule for _, rule, _ in RULES if not any(text in rule for text, _, _ in FLIPS)] == []
