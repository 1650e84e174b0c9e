"""The validation pack: one self-contained page for whoever has to challenge the model, made by every run."""

from dataclasses import dataclass
from typing import Any, Final

from calibrator.backtest.report import plain
from pipelines.checklist import Check, Evidence, checklist, tally
from pipelines.report import tables, validation_tables
from pipelines.report.canvas import Drawing
from pipelines.report.page import figure_of, template
from pipelines.report.review import Review
from pipelines.report.validation_figures import breaking_drawing, tornado, worst_windows_drawing
from pipelines.report.words import percent
from pipelines.starts import close_out
from pipelines.validation import Validation

TEMPLATE: Final = "validation.html.j2"
PACK: Final = "validation.html"
"""Name of the page, beside the report."""


@dataclass(frozen=True, slots=True)
class Pack:
    """The page and what it concludes.

    Attributes
    ----------
    page : str
        A complete HTML document.
    checks : list of Check
    """

    page: str
    checks: list[Check]

    def summary(self) -> list[dict[str, object]]:
        """Return the checklist as plain values for ``backtest.json``."""
        names = ("area", "rule", "status", "evidence")
        return [{name: plain(getattr(c, name)) for name in names} for c in self.checks]


def build_pack(review: Review, validation: Validation) -> Pack:
    """Write the validation pack of one run.

    Parameters
    ----------
    review : Review
        What the report of the same run is made of.
    validation : Validation
        Its stress tests and sensitivities.
    """
    listed = checklist(
        Evidence(review.production, review.backtest, review.document, review.findings, validation)
    )
    figures = {d.name: d for d in drawings(validation)}
    page = template(TEMPLATE).render(
        review=review,
        document=review.document,
        validation=validation,
        figure=lambda name: figure_of(figures[name]),
        names=list(figures),
        tables=tables,
        own=validation_tables,
        checks=listed,
        counts=list(tally(listed)),
        terms=_terms(review),
        limits=_limits(review),
        frontier=bool(review.section("frontier")),
    )
    return Pack(page.replace(" %", "\u00a0%"), listed)


def drawings(validation: Validation) -> tuple[Drawing, ...]:
    """Draw the pack's figures."""
    made = [worst_windows_drawing(validation.stress), breaking_drawing(validation.stress)]
    if validation.sensitivity is not None:
        made.insert(0, tornado(validation.sensitivity))
    return tuple(d for d in made if d is not None)


def _terms(review: Review) -> list[str]:
    """Say what each group of entries is asked to cover."""
    config, groups = review.production.config, dict[Any, list[str]]()
    for market, d in review.production.decisions.items():
        groups.setdefault(d.terms, []).append(market)
    return [
        f"{len(names)} {terms.role} {'entry' if len(names) == 1 else 'entries'} ({_few(names)}): "
        f"{terms.loss} loss over {close_out(config, terms)} bars of {config.data.bar}, covered with "
        f"probability {percent(terms.level or config.margin.level, 1)}."
        for terms, names in groups.items()
    ]


def _few(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _limits(review: Review) -> list[str]:
    """Say what this run cannot show, from its own figures."""
    lines = []
    missed = [e.name for e in review.events(*review.markets) if e.expected_miss]
    if missed:
        lines.append(
            f"Events that left no trace in earlier prices ({_few(missed)}): no volatility model can see such "
            "an event coming. Their breaches count in every figure."
        )
    late = [r for r in review.section("coverage").get("pooled", []) if r.get("coverage_high_variance")]
    lines += [
        f"After the tenth of decisions with the highest variance {percent(r['coverage_high_variance'])} were "
        f"covered, of {percent(r['coverage'])} overall: what is late shows there."
        for r in late
    ]
    held = review.section("below_forecast")
    if held:
        name, worst = min(held.items(), key=lambda item: item[1]["worst_ratio"])
        share = percent(max(r["share"] for r in held.values()), 1)
        lines.append(
            f"Limits on moves held a margin below its forecast tail at up to {share} of the decisions of one "
            f"side; at worst {name} stood at {percent(worst['worst_ratio'], 0)} of it."
        )
    if review.section("replay").get("simulated"):
        lines.append("Accounts, fund and cascades are simulated: they compare schedules, they size nothing.")
    empty = [n for n in ("vaults", "liquidations") if not review.section(n)]
    if len(empty) == 2:
        lines.append("No recorded liquidations were given, so no real account was replayed.")
    return lines
