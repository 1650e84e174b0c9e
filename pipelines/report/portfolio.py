"""The report's section on portfolio margin: what netting saves on a simulated book, step by step."""

from typing import Final

import numpy as np

from calibrator.domain import PPM
from pipelines.portfolio import by_symbol
from pipelines.portfolio_book import Netting, example_book, netting
from pipelines.report.canvas import BLUE, GREEN, ORANGE, Drawing, plot
from pipelines.report.review import Review
from pipelines.report.tables import Table
from pipelines.report.words import number, percent, ppm

WATERFALL: Final = "portfolio-waterfall"
YEAR: Final = 365 * 86_400.0


def saved(review: Review) -> Netting | None:
    """Return what the simulated book saves under the document's rules, None without a portfolio section."""
    section = review.document.portfolio
    if section is None:
        return None
    rules = section.rules()
    last = review.bars.groupby("market")["close"].last()
    prices, volatility = {}, {}
    decided = by_symbol(review.production)
    for u in rules.underlyings:
        prices[u.symbol] = float(last.get(u.symbol, 100.0))
        made = decided.get(u.symbol)
        over = float(made.table["volatility"].iloc[-1]) if made is not None else 0.03
        volatility[u.symbol] = float(np.clip(over * np.sqrt(YEAR / u.close_out_seconds), 0.05, 3.0))
    return netting(rules, *example_book(rules, prices, volatility))


def waterfall(review: Review) -> tuple[Drawing, ...]:
    """Draw how the standalone requirements become the portfolio requirement; empty without a section."""
    made = saved(review)
    if made is None or made.alone <= 0:
        return ()
    figure, axes = plot(2.1)
    steps = [
        ("each position\nalone", made.alone, 0.0, BLUE),
        ("netting within\nan underlying", made.within, made.alone - made.within, GREEN),
        ("offsets between\nunderlyings", made.across, made.alone - made.within - made.across, GREEN),
        (
            "change of\nadd-ons",
            abs(made.add_ons),
            min(made.portfolio, made.portfolio - made.add_ons),
            ORANGE if made.add_ons > 0 else GREEN,
        ),
        ("portfolio", made.portfolio, 0.0, BLUE),
    ]
    for i, (_, height, bottom, colour) in enumerate(steps):
        axes.bar(i, height / made.alone, bottom=bottom / made.alone, color=colour, width=0.62)
        axes.annotate(
            percent(height / made.alone, 1),
            (i, (bottom + height) / made.alone),
            (0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_xticks(range(len(steps)), [name for name, *_ in steps])
    axes.set_ylim(0, 1.12)
    axes.set_ylabel("% of the sum")
    axes.grid(visible=False, axis="x")
    title = f"SIMULATED book: netting saves {percent(made.saved, 1)} of the sum of standalone requirements"
    alt = (
        f"{title}. Netting within an underlying saves {percent(made.within / made.alone, 1)}, offsets "
        f"between underlyings {percent(made.across / made.alone, 1)}, and add-ons change by "
        f"{percent(made.add_ons / made.alone, 1)}."
    )
    return (Drawing(WATERFALL, title, alt, figure),)


def strategies(review: Review) -> Table:
    """Return compression per strategy of the simulated book."""
    made = saved(review)
    if made is None:
        return Table((), [])
    rows = [[name, number(count), percent(share, 1)] for name, (count, share) in made.compression.items()]
    rows.append(
        ["all accounts", number(sum(c for c, _ in made.compression.values())), percent(made.saved, 1)]
    )
    classes = [""] * len(made.compression) + ["ours"]
    return Table(("strategy", "accounts", "compression"), rows, classes)


def grid(review: Review) -> Table:
    """Return the published moves and add-ons per underlying."""
    section = review.document.portfolio
    if section is None:
        return Table((), [])
    full = {s.move for s in section.scenarios if s.weight_ppm == PPM}
    rows = []
    for u in section.underlyings:
        moves = [m for i, m in enumerate(u.moves_ppm) if i in full]
        falls, rises = [m for m in moves if m < 0], [m for m in moves if m > 0]
        rows.append(
            [
                u.symbol,
                ", ".join(ppm(m, 1) for m in falls),
                ", ".join(ppm(m, 1) for m in rises),
                f"{ppm(u.volatility_up_ppm, 0)} / {ppm(u.volatility_down_ppm, 0)}",
                ppm(u.basis_ppm),
                ppm(u.funding_ppm),
                ppm(u.naked_option_ppm),
            ]
        )
    head = (
        "underlying", "falls", "rises", "volatility up / down (30 days)", "add-on: basis", "funding",
        "naked options",
    )  # fmt: skip
    return Table(head, rows, text=3)


def offsets(review: Review) -> Table:
    """Return the published correlation ranges."""
    section = review.document.portfolio
    pairs = section.correlations if section is not None else ()
    rows = [[f"{c.first}, {c.second}", f"{c.low_ppm / PPM:.2f}", f"{c.high_ppm / PPM:.2f}"] for c in pairs]
    return Table(("pair", "counts for a hedge", "counts for exposures in one direction"), rows)
