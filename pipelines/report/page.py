"""One self-contained HTML page: no request leaves it, no script runs in it, equal runs give equal bytes."""

from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from pipelines.report import announced, frontier, fund_tables, portfolio, tables
from pipelines.report.canvas import Drawing, slug
from pipelines.report.figures import draw
from pipelines.report.review import Review
from pipelines.report.words import percent

__all__ = ["Review", "build_report"]
TEMPLATE: Final = "template.html.j2"


def build_report(
    review: Review,
    *,
    drawings: tuple[Drawing, ...] | None = None,
    pack: str | None = None,
    note: str = "",
) -> str:
    """Write the report of one run.

    Parameters
    ----------
    review : Review
    drawings : tuple of Drawing, optional
        From :func:`~pipelines.report.figures.draw`, when they were drawn already.
    pack : str, optional
        Name of the validation pack beside the report, to which the page links.
    note : str, optional
        Sentence at the top, about how the page came to be.

    Returns
    -------
    str
        A complete HTML document.
    """
    made = draw(review) if drawings is None else drawings
    figures = {d.name: d for d in made}
    page = template(TEMPLATE).render(
        review=review,
        pack=pack,
        note=note,
        document=review.document,
        figure=lambda name: figure_of(figures[name]),
        detailed=[(m, slug(m)) for m in review.detailed()],
        names=list(figures),
        tables=tables,
        funds=fund_tables,
        exploits=announced,
        percent=percent,
        frontier=frontier,
        portfolio=portfolio,
        verdict=review.section("verdict"),
        pooled=_pooled(review),
        rejections=review.section("coverage").get("rejections", {}),
        population=review.section("replay").get("population"),
        vault_names=[name for name in figures if name.startswith("vault-")],
        recorded_lines=_recorded(review),
    )
    # A number and its unit stay on one line.
    return page.replace(" %", "\u00a0%")


def figure_of(drawing: Drawing) -> dict[str, Any]:
    """Return a drawing's title and its picture, safe to stand in a page."""
    # The SVG is made here, from numbers and escaped names; it is the only text that is not escaped again.
    return {"title": drawing.title, "svg": Markup(drawing.svg())}  # noqa: S704


def _pooled(review: Review) -> list[str]:
    rows = review.section("coverage").get("pooled", [])
    return [
        f"{r['breaches']:,} of {r['observations']:,} losses were larger than the margin: "
        f"{percent(r['coverage'])} covered at {percent(r['level'], 1)} asked"
        + (
            f", {percent(r['coverage_high_variance'])} after days of high variance"
            if r.get("coverage_high_variance") is not None
            else ""
        )
        for r in rows
    ]


def _recorded(review: Review) -> list[str]:
    return recorded_lines(review.section("vaults"), review.section("liquidations"))


def recorded_lines(vaults: dict[str, Any], events: dict[str, Any]) -> list[str]:
    """Say what the schedule would have done to recorded vaults, and what it had asked before liquidations."""
    lines = []
    if vaults:
        found = vaults["reproduction"]
        lines.append(
            f"{found['reproduced']} of {found['vault_days']} real vault-days are in breach of the ratio "
            f"really asked on that day or the day before; {found['without_liquidation']} vaults are in "
            f"breach without a real liquidation near, {found['certain']} of them beyond the error of the "
            "oracle's price."
        )
    lines += [
        f"{name}: {done['agreeing']} agreeing, {done['earlier']} earlier, {done['later']} later, "
        f"{done['avoided']} avoided, {done['caused']} caused; shortfall {done['shortfall']:,.0f}, average "
        f"ratio {percent(done['average_ratio'], 1)}."
        for name, done in vaults.get("replays", {}).items()
    ]
    lines += [
        f"{row['market']} {row['liquidated_side']}: {row['events']} recorded liquidations, "
        f"{percent(row['covered'])} of them lost less afterwards than the margin published a day before."
        for row in events.get("rows", [])
    ]
    if events.get("lots"):
        lines.append(f"{events['lots']} recorded liquidations are further lots of one event and are counted.")
    if events.get("left_out"):
        lines.append("Left out: " + ", ".join(f"{n} ({why})" for why, n in events["left_out"].items()) + ".")
    return lines


@cache
def template(name: str) -> Template:
    """Return one of the templates beside this module; names in it that are not given are errors."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
