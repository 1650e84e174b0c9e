"""The validator's checklist: rules that a run passes, fails, or that do not apply to it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd
from scipy.stats import binom

from calibrator.data.events import events_between
from calibrator.publish.document import ParameterDocument
from pipelines.backtesting import Backtest
from pipelines.lending import step_limits
from pipelines.production import Production
from pipelines.sensitivity import Sensitivity
from pipelines.validation import Validation

Status = Literal["pass", "fail", "not applicable"]
PASS: Final = "pass"  # noqa: S105 - a verdict
FAIL: Final = "fail"
NONE: Final = "not applicable"
SIZE: Final = 0.05
LEAST_DAYS: Final = 365
"""Look-back of EMIR RTS article 25: at least twelve months."""
LEAST_LEVEL: Final = 0.99
"""Confidence of EMIR RTS article 24 and of principle 6 of the CPMI-IOSCO principles."""
HELD_BACK: Final = 0.05
"""Largest share of decisions at which limits may keep a margin below the forecast tail."""
LATE: Final = 0.01
"""Coverage that may be lost after high variance."""
FAR: Final = 3.0
"""Standard deviations that a move which exhausts the fund must be away."""
CHOSEN: Final = ("margin.level", "margin.close_out")
"""Parameters that state what is promised: moving them down gives up coverage by intent."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the checklist.

    Attributes
    ----------
    area, rule : str
    status : {"pass", "fail", "not applicable"}
    evidence : str
        The figures that decided, or why none apply.
    """

    area: str
    rule: str
    status: Status
    evidence: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the checklist looks at.

    Attributes
    ----------
    production : Production
    challenged : Backtest
        Its ``summary`` with everything that the run found.
    document : ParameterDocument
    findings : pandas.DataFrame
        ``frames.FINDINGS``.
    validation : Validation
    """

    production: Production
    challenged: Backtest
    document: ParameterDocument
    findings: pd.DataFrame
    validation: Validation

    def section(self, name: str) -> dict[str, Any]:
        """Return one section of the summary, empty when it was not made."""
        found = self.challenged.summary.get(name)
        return found if isinstance(found, dict) else {}


Judged = tuple[Status, str]


def checklist(evidence: Evidence) -> list[Check]:
    """Judge every rule on a run.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    list of Check
        In a fixed order; rules that cannot be judged are ``not applicable`` with the reason.
    """
    return [Check(area, rule, *judge(evidence)) for area, rule, judge in RULES]


def _judged(good: bool, evidence: str) -> Judged:  # noqa: FBT001 - the verdict itself
    return (PASS if good else FAIL), evidence


def _identity(e: Evidence) -> Judged:
    digests = [e.document.config_digest, e.document.data_digest, *e.document.model_digests.values()]
    good = all(len(d) == 64 and set(d) <= set("0123456789abcdef") for d in digests)
    return _judged(
        good, f"{len(digests)} SHA-256 digests: configuration, data, {len(digests) - 2} model files"
    )


def _fresh(e: Evidence) -> Judged:
    stale = sorted(e.findings.loc[e.findings["rule"] == "stale", "market"])
    return _judged(not stale, ", ".join(stale) or "no market is stale")


def _survivors(e: Evidence) -> Judged:
    found = sorted(e.findings.loc[e.findings["rule"] == "survivors only", "market"])
    return _judged(not found, ", ".join(found) or "the gate found no sign that failed markets are left out")


def _history(e: Evidence) -> Judged:
    days = {m: (d.table.index[-1] - d.table.index[0]).days for m, d in e.production.decisions.items()}
    short = [f"{m} {n} days" for m, n in sorted(days.items()) if n < LEAST_DAYS]
    return _judged(not short, ", ".join(short) or f"shortest history of decisions: {min(days.values())} days")


def _stressed(e: Evidence) -> Judged:
    origins = e.challenged.margins["origin"]
    markets = list(e.production.decisions)
    found = events_between(origins.min().date(), origins.max().date(), markets)
    return _judged(bool(found), f"{len(found)} catalogued stress events lie within the backtest")


def _confidence(e: Evidence) -> Judged:
    levels = e.challenged.coverage.groupby("market")["level"].min()
    low = [f"{m} {x:.2%}" for m, x in levels.items() if x < LEAST_LEVEL]
    return _judged(not low, ", ".join(low) or f"lowest level asked: {levels.min():.2%}")


def _verdict(e: Evidence) -> Judged:
    verdict = e.section("verdict")
    reasons = verdict.get("reasons", [])
    return _judged(
        verdict.get("status") == "pass", "; ".join(reasons[:3]) or f"{verdict.get('tests')} tests, no reason"
    )


def _together(e: Evidence) -> Judged:
    groups = e.section("rejections")
    if not groups:
        return NONE, "no group of markets was tested"
    bad = [name for name, r in groups.items() if r["rejections"] > r["percentile_95"]]
    counts = [
        f"{r['rejections']} of {r['tests']}, at most {r['percentile_95']} by chance" for r in groups.values()
    ]
    return _judged(not bad, "; ".join(counts))


def _clustered(column: str) -> Callable[[Evidence], Judged]:
    def judge(e: Evidence) -> Judged:
        tested = e.challenged.coverage[e.challenged.coverage["observations"] > 0]
        if tested.empty or column not in tested:
            return NONE, "no series was long enough"
        rejected = int((tested[column] <= SIZE).sum())
        allowed = int(binom.ppf(0.95, len(tested), SIZE))
        return _judged(
            rejected <= allowed, f"{rejected} of {len(tested)} reject at 5 %, at most {allowed} by chance"
        )

    return judge


def _shortfalls(e: Evidence) -> Judged:
    table = e.validation.tails
    if table.empty:
        return NONE, "no tail has losses"
    rejected = int((table["z2_p_value"] <= SIZE).sum())
    allowed = int(binom.ppf(0.95, len(table), SIZE))
    told = f"Z2 rejects {rejected} of {len(table)} at 5 %, at most {allowed} by chance"
    return _judged(rejected <= allowed, told)


def _late(e: Evidence) -> Judged:
    rows = [r for r in e.section("coverage").get("pooled", []) if r.get("coverage_high_variance") is not None]
    if not rows:
        return NONE, "no variance was known before"
    bad = [r for r in rows if r["coverage_high_variance"] < r["level"] - LATE]
    told = [f"{r['coverage_high_variance']:.2%} at {r['level']:.2%} asked" for r in rows]
    return _judged(not bad, "; ".join(told))


def _benchmarks(e: Evidence) -> Judged:
    tables = [t for t in e.section("policies").values() if "ours" in t]
    if not tables:
        return NONE, "no comparator has a margin on this history"
    ratios = [float(t["ours"]["relative"]) for t in tables if t["ours"]["relative"] is not None]
    told = ", ".join(f"{r:.2f}" for r in ratios)
    return _judged(all(r < 1 for r in ratios), f"shortfall at equal margin relative to the reference: {told}")


def _forecast(e: Evidence) -> Judged:
    scores = e.challenged.forecasts.loc["*"]
    others = scores.drop("combination")
    if others.isna().all():
        return NONE, "no decision with a known outcome was forecast by every model"
    best = str(others.idxmin())
    told = f"QLIKE {scores['combination']:.4f}, best single model {best} {others.min():.4f}"
    return _judged(bool(scores["combination"] <= others.min() * 1.02), told)


def _limits(e: Evidence) -> Judged:
    kpis, limits = e.challenged.kpis, e.production.config.margin.limits
    config = e.production.config
    stepped = {m for m, d in e.production.decisions.items() if step_limits(config, d) is not None}
    small = {m for m, d in e.production.decisions.items() if d.margin.min() < limits.min_base}
    own = kpis[~kpis["market"].isin(stepped | small)]
    if own.empty:
        return NONE, "every entry follows a target's own limit on moves, or a limit in absolute terms"
    worst = {
        "max_increase_1": limits.max_increase,
        "max_increase_5": limits.max_increase_5,
        "max_increase_10": limits.max_increase_10,
        "peak_to_trough": limits.peak_to_trough,
    }
    found = {name: float(own[name].max()) for name in worst}
    over = [name for name, most in worst.items() if found[name] > most + 1e-4]
    words = ("1 decision", "5 decisions", "10 decisions", "peak to trough")
    spelled = zip(words, worst.items(), strict=True)
    told = ", ".join(f"{word} {found[name]:.1%} of {most:.0%}" for word, (name, most) in spelled)
    return _judged(not over, told)


def _held_back(e: Evidence) -> Judged:
    rows = e.section("below_forecast")
    if not rows:
        return NONE, "no margin was compared"
    bad = sorted(((r["share"], name) for name, r in rows.items() if r["share"] > HELD_BACK), reverse=True)
    worst = max(rows.items(), key=lambda item: item[1]["share"])
    most = f"most often {worst[0]}, {worst[1]['share']:.1%}"
    told = f"{len(bad)} of {len(rows)} sides above {HELD_BACK:.0%}; {most}"
    return _judged(not bad, told)


def _covers_now(e: Evidence) -> Judged:
    table = e.validation.stress.volatility
    short = table[table["covered"] < 1 - 1e-3]
    names = ", ".join(f"{r.market} {r.covered:.2f}" for r in short.itertuples())
    lowest = table["covered"].min()
    return _judged(short.empty, names or f"volatility may rise to {lowest:.2f} times the forecast at least")


def _moved(e: Evidence) -> Judged:
    made = e.validation.sensitivity
    if made is None:
        return NONE, "switched off by backtest.sensitivity.mode"
    level = min(float(x) for x in e.challenged.coverage["level"])
    rows = _run(made)
    if rows.empty:
        return NONE, "no parameter was moved"
    worst = rows.loc[rows["coverage"].idxmin()]
    where = f"{worst['parameter']} {worst['before']} to {worst['after']}: {worst['coverage']:.2%} covered"
    return _judged(bool(worst["coverage"] >= level - LATE), f"worst single move {where}")


def _run(made: Sensitivity) -> pd.DataFrame:
    return made.table[made.table["coverage"].notna() & ~made.table["parameter"].isin(CHOSEN)]


def _complete(e: Evidence) -> Judged:
    made = e.validation.sensitivity
    if made is None:
        return NONE, "switched off by backtest.sensitivity.mode"
    run = made.table["coverage"].notna().groupby(made.table["parameter"]).any()
    told = (
        f"{int(run.sum())} of {len(run)} parameters moved on {len(made.entries)} of {made.available} entries"
    )
    unexplained = made.table[made.table["coverage"].isna() & (made.table["why"] == "")]
    return _judged(unexplained.empty and bool(run.any()), told + (", sampled" if made.sampled else ""))


def _fund(e: Evidence) -> Judged:
    buffer = _buffer(e)
    if not buffer.get("fund_is_configured"):
        return NONE, "no fund is configured"
    required, fund = float(buffer["cover"]["required"]), float(buffer["fund"])
    return _judged(
        fund >= required, f"fund {fund:,.0f}, Cover-2 with the crowded side {required:,.0f} (simulated)"
    )


def _buffer(e: Evidence) -> dict[str, Any]:
    found = e.section("capital").get("buffer")
    return found if isinstance(found, dict) else {}


def _exhausted(e: Evidence) -> Judged:
    if not _buffer(e).get("fund_is_configured"):
        return NONE, "no fund is configured"
    found = e.validation.stress.fund
    if found is None:
        return PASS, "no joint move exhausts the fund"
    far = float(str(found["standard_deviations"]))
    return _judged(far >= FAR, f"nearest move {far:.1f} standard deviations away (simulated accounts)")


def _worst_day(e: Evidence) -> Judged:
    days = e.validation.stress.days
    if days.empty:
        return NONE, "no joint decision has losses"
    share = float(days["uncovered"].max())
    worst = days.loc[days["uncovered"].idxmax()]
    told = f"{share:.0%} of the entries uncovered, {worst['side']}, decided {worst['origin']:%Y-%m-%d}"
    return _judged(share < 0.5, told)


def _misses(e: Evidence) -> Judged:
    origins = e.challenged.margins["origin"]
    found = events_between(origins.min().date(), origins.max().date(), list(e.production.decisions))
    expected = [x.name for x in found if x.expected_miss]
    if not expected:
        return NONE, "no such event lies within the backtest"
    held = e.challenged.margins
    counted = int(e.challenged.coverage["observations"].sum())
    sided = held[held["market"].map(_sides(e)) | (held["side"] == "long")]
    known = int(sided["loss"].notna().sum())
    told = f"{counted:,} losses are counted, {known:,} decisions have one; {', '.join(expected)}"
    return _judged(counted >= known, told)


def _sides(e: Evidence) -> dict[str, bool]:
    return {m: d.terms.role == "perpetual" for m, d in e.production.decisions.items()}


def _recorded(e: Evidence) -> Judged:
    backtest = e.production.config.backtest
    if not backtest.liquidations and backtest.vaults is None:
        return NONE, "none are configured (backtest.liquidations, backtest.vaults)"
    made = [name for name in ("liquidations", "vaults") if e.section(name)]
    return _judged(bool(made), f"replayed: {', '.join(made) or 'nothing'}")


RULES: Final[tuple[tuple[str, str, Callable[[Evidence], Judged]], ...]] = (
    ("data", "Inputs, settings and models are identified by digest", _identity),
    ("data", "Every market's prices are fresh at the decision", _fresh),
    ("data", "Markets that failed are in the data", _survivors),
    ("data", f"At least {LEAST_DAYS} days of decisions per entry (EMIR RTS art. 25)", _history),
    ("data", "The backtest contains periods of stress (EMIR RTS art. 25)", _stressed),
    ("method", f"At least {LEAST_LEVEL:.0%} is asked of every entry (EMIR RTS art. 24, PFMI 6)", _confidence),
    ("method", "The published forecast is no worse than its best single model by 2 %", _forecast),
    ("outcomes", "No market breaches too often (exact tests, all markets at 5 %; no red zone)", _verdict),
    ("outcomes", "No more rejections than chance gives when markets fall together", _together),
    ("outcomes", "Breaches do not follow breaches", _clustered("independence_p_value")),
    ("outcomes", "Nothing known beforehand predicts a breach", _clustered("dynamic_quantile_p_value")),
    ("outcomes", "Losses beyond the quantile are no larger than the expected shortfall", _shortfalls),
    ("outcomes", f"Coverage after high variance within {LATE:.0%} of what is asked", _late),
    ("outcomes", "Recorded liquidations are replayed", _recorded),
    ("outcomes", "Events that no volatility model can see stay in the figures", _misses),
    ("benchmarks", "Less shortfall than historical simulation at equal margin, in every group", _benchmarks),
    ("procyclicality", "Increases and peak to trough within the configured limits", _limits),
    (
        "procyclicality",
        f"Limits hold a margin below its forecast at most at {HELD_BACK:.0%} of decisions",
        _held_back,
    ),
    ("procyclicality", "Every margin in force covers the forecast tail now", _covers_now),
    ("sensitivity", "Every parameter was moved, or says why not", _complete),
    ("sensitivity", f"No single move costs more than {LATE:.0%} of coverage below what is asked", _moved),
    (
        "stress",
        "On the worst joint days most entries were covered by the schedule of the day before",
        _worst_day,
    ),
    ("stress", "The fund bears Cover-2 with the crowded side", _fund),
    ("stress", f"No move nearer than {FAR:g} standard deviations exhausts the fund", _exhausted),
)
"""Area, rule, and the function that judges it."""


def tally(checks: list[Check]) -> Iterator[tuple[Status, int]]:
    """Count the lines per status.

    Examples
    --------
    >>> list(tally([Check("a", "b", "pass", ""), Check("a", "c", "fail", "")]))
    [('pass', 1), ('fail', 1), ('not applicable', 0)]
    """
    for status in (PASS, FAIL, NONE):
        yield status, sum(c.status == status for c in checks)
