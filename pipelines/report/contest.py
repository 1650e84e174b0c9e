"""The review page: champion against challenger on one self-contained page, made from ``contest.json``."""

from functools import cache
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.ticker import PercentFormatter

from pipelines.report.canvas import BLUE, MUTED, ORANGE, SETTINGS, Drawing, clock, plot, slug, time_axis

TEMPLATE: Final = "contest.html.j2"


def build_review(
    content: dict[str, Any], *, history: list[dict[str, str]], alarms: list[dict[str, str]]
) -> str:
    """Write the page.

    Parameters
    ----------
    content : dict
        What ``comparison.compared`` returned.
    history : list of dict
        Promotions and rollbacks of the ledger: ``model, decided, action, reason``.
    alarms : list of dict
        Standing alarms: ``kind, action, since, message``.

    Returns
    -------
    str
        A complete HTML document; equal content gives equal bytes.
    """
    best = content["verdicts"][0]
    drawings = {d.name: d for d in draw_contest(content)}
    page = _template().render(
        content=content,
        best=best,
        history=history[::-1],
        alarms=alarms,
        figures=[
            {"name": d.name, "title": d.title, "svg": Markup(d.svg())}  # noqa: S704 - made here, from numbers
            for d in drawings.values()
        ],
        failing=[g for g in best["gates"] if not g["holds"]],
    )
    return page.replace(" %", "\u00a0%")


def draw_contest(content: dict[str, Any]) -> tuple[Drawing, ...]:
    """Draw the cumulative gain, the frontier, and the margins of the markets that change most."""
    best = content["verdicts"][0]
    with mpl.rc_context(SETTINGS):
        return (
            _gain(content, best["name"]),
            _frontier(best),
            *(_path(market, series) for market, series in best["paths"].items()),
        )


def _gain(content: dict[str, Any], best: str) -> Drawing:
    figure, axes = plot(2.1)
    times = clock(pd.DatetimeIndex(pd.to_datetime(content["origins"], utc=True)))
    for name, values in content["cumulative_gain"].items():
        axes.plot(times, values, color=ORANGE if name == best else MUTED, label=name, linewidth=1.3)
    axes.axhline(0.0, color=BLUE, linewidth=0.8)
    axes.set_ylabel("summed gain in QLIKE")
    axes.legend(loc="upper left")
    time_axis(axes, *_ends(content["origins"]))
    total = content["cumulative_gain"][best][-1]
    word = "better" if total > 0 else "worse"
    title = f"{best} forecast {word} than the champion ({total:+.2f} QLIKE in sum): above zero it leads"
    return Drawing("gain", title, title, figure)


def _frontier(best: dict[str, Any]) -> Drawing:
    figure, axes = plot(2.1)
    for who, colour in (("champion", BLUE), ("challenger", ORANGE)):
        margin, shortfall = np.array(best["frontier"][who]).T
        axes.plot(margin, shortfall, color=colour, marker="o", markersize=3, label=who)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    axes.set_xlabel("average margin")
    axes.set_ylabel("shortfall, bps")
    axes.legend(loc="upper right")
    title = "Frontier: shortfall left by each average margin; the lower line is the better policy"
    return Drawing("frontier", title, title, figure)


def _path(market: str, series: dict[str, list[Any]]) -> Drawing:
    figure, axes = plot(1.7)
    times = clock(pd.DatetimeIndex(pd.to_datetime(series["origin"], utc=True)))
    losses = np.array([np.nan if x is None else x for x in series["loss"]], float)
    axes.vlines(times, 0.0, np.maximum(losses, 0.0), color=MUTED, linewidth=0.7)
    axes.plot(times, series["champion"], color=BLUE, label="champion", linewidth=1.3)
    axes.plot(times, series["challenger"], color=ORANGE, label="challenger", linewidth=1.1)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylim(bottom=0.0)
    axes.legend(loc="upper left", ncols=2)
    time_axis(axes, *_ends(series["origin"]))
    title = f"{market}: margin of both, and the losses that followed (long side)"
    return Drawing(f"path-{slug(market)}", title, title, figure)


def _ends(origins: list[str]) -> tuple[pd.Timestamp, pd.Timestamp]:
    return pd.Timestamp(origins[0], tz="UTC"), pd.Timestamp(origins[-1], tz="UTC")


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE)
