"""Drawing: colours that follow the page's theme, event shading, thinning of long series, SVG and PNG."""

import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from numpy.typing import NDArray

from calibrator.data.events import StressEvent

INK, GRID, MUTED = "#1b1f24", "#d8dee5", "#aab4bf"
BLUE, ORANGE, RED, GREEN = "#1f5fbf", "#c8690a", "#c4232e", "#2f8f4e"
AMBER, SHADE = "#d9a514", "#f2dca6"
THEMED: Final = {
    INK: "ink", GRID: "grid", MUTED: "muted", BLUE: "blue", ORANGE: "orange",
    RED: "red", GREEN: "green", AMBER: "amber", SHADE: "shade",
}  # fmt: skip
"""Colours of the light theme; in the page each becomes a CSS variable of that name."""
SETTINGS: Final = {
    "svg.hashsalt": "margin-calibrator",
    "svg.fonttype": "none",
    "font.size": 9.0,
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "path.simplify_threshold": 0.3,
}
POINTS: Final = 900
"""Bins along the time axis: finer detail than a screen shows is left out, extremes are kept."""
LABEL_GAP: Final = 0.022
"""Smallest distance between two event labels, as a share of the axis."""
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drawing:
    """One figure with its words.

    Attributes
    ----------
    name : str
        Unique; also the file name.
    title : str
        States what the figure shows.
    alt : str
        The same for those who cannot see it.
    figure : matplotlib.figure.Figure
    """

    name: str
    title: str
    alt: str
    figure: Figure

    def svg(self) -> str:
        """Return an inline SVG: identifiers unique on the page, colours of its theme."""
        out = io.StringIO()
        with mpl.rc_context(SETTINGS):
            FigureCanvasSVG(self.figure).print_svg(out, metadata={"Date": None, "Creator": None})
        text = out.getvalue()
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg") :], flags=re.DOTALL)
        text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{self.name}-", text)
        text = re.sub(r"(font: [^;\"]*?px) [^;\"]*", r"\1 var(--font)", text)
        text = re.sub(r' (width|height)="[\d.]+pt"', "", text, count=2)
        text = text.replace("<svg ", f'<svg role="img" aria-label="{escape(self.alt)}" ', 1)
        for colour, variable in THEMED.items():
            text = text.replace(colour, f"var(--{variable})")
        return re.sub(r"\n\s*", "\n", text)

    def png(self) -> bytes:
        """Return a PNG of the light theme on white, without date or software in it."""
        out = io.BytesIO()
        with mpl.rc_context(SETTINGS):
            self.figure.set_facecolor("white")
            self.figure.set_dpi(110)
            FigureCanvasAgg(self.figure).print_png(out, metadata={"Software": None})
            self.figure.set_facecolor("none")
        return out.getvalue()


def plot(
    height: float = 1.9, *, events: Sequence[StressEvent] = (), bottom: float = 0.42
) -> tuple[Figure, Axes]:
    """Return empty axes as wide as the page.

    Parameters
    ----------
    height : float
        Of the axes, inches.
    events : sequence of StressEvent
        To be named above the axes: they get the room that the longest name needs.
    bottom : float
        Room below the axes, inches.
    """
    top = 0.38 + 0.027 * max(len(e.name) for e in events) if events else 0.16
    whole = bottom + height + top
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(9.8, whole), dpi=100)
        axes = figure.add_axes((0.075, bottom / whole, 0.875, height / whole))
    return figure, axes


def time_axis(axes: Axes, first: pd.Timestamp, last: pd.Timestamp) -> None:
    """Label the time axis from ``first`` to ``last``, at least a day."""
    locator = AutoDateLocator(minticks=5, maxticks=14)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    low, high = date2num(clock(pd.DatetimeIndex([first, last])))
    axes.set_xlim(low, max(high, low + 1))


def clock(times: pd.Series | pd.DatetimeIndex) -> NDArray[np.datetime64]:
    """Return UTC times as naive numpy microseconds."""
    out: NDArray[np.datetime64] = pd.DatetimeIndex(times).tz_convert(None).to_numpy(dtype="datetime64[us]")
    return out


def shade_events(
    axes: Axes, events: Sequence[StressEvent], *, above: bool = False, named: bool = True
) -> None:
    """Shade the events, behind or above the data; their names stand above the axes, moved apart."""
    low, high = axes.get_xlim()
    span = high - low
    before = -np.inf
    for event in events:
        start = max(float(date2num(np.datetime64(event.start))), low)
        end = min(float(date2num(np.datetime64(event.end))) + 1, high)
        width = max(end - start, 0.002 * span)
        style = {"zorder": 3, "alpha": 0.65} if above else {"zorder": 0.5}
        axes.axvspan(start, start + width, color=SHADE, linewidth=0, **style)
        if not named:
            continue
        middle = (start + width / 2 - low) / span
        at = max(middle, before + LABEL_GAP)
        before = at
        axes.annotate(
            event.name + (" *" if event.expected_miss else ""),
            (middle, 1.0),
            (at, 1.06),
            xycoords="axes fraction",
            textcoords="axes fraction",
            rotation=35,
            rotation_mode="anchor",
            fontsize=7.5,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 0},
            annotation_clip=False,
        )


def thin(times: NDArray[np.datetime64], values: Array) -> tuple[NDArray[np.datetime64], Array]:
    """Keep the smallest and the largest value of each of ``POINTS`` bins, in time order.

    Examples
    --------
    >>> t = np.arange(10_000).astype("datetime64[s]")
    >>> x = np.zeros(10_000)
    >>> x[[1234, 8765]] = 1.0, -1.0
    >>> short, kept = thin(t, x)
    >>> len(kept) <= 2 * POINTS, float(kept.max()), float(kept.min()), str(short[kept == 1.0][0])
    (True, 1.0, -1.0, '1970-01-01T00:20:34')
    """
    known = np.flatnonzero(np.isfinite(values))
    if len(known) <= 2 * POINTS:
        return times[known], values[known]
    bins = np.array_split(known, POINTS)
    keep = [i for b in bins for i in sorted({b[values[b].argmin()], b[values[b].argmax()]})]
    return times[keep], values[keep]


def sticks(axes: Axes, times: NDArray[np.datetime64], values: Array, label: str) -> None:
    """Draw a thin bar from zero to each value, as one path."""
    x = np.repeat(times, 3)
    y = np.column_stack([np.zeros(len(values)), np.maximum(values, 0.0), np.full(len(values), np.nan)])
    axes.plot(x, y.ravel(), color=MUTED, linewidth=0.8, label=label)


def peaks(times: NDArray[np.datetime64], values: Array) -> tuple[NDArray[np.datetime64], Array]:
    """Keep the largest value of each of ``POINTS`` bins.

    Examples
    --------
    >>> peaks(np.arange(3).astype("datetime64[D]"), np.array([1.0, np.nan, 2.0]))[1].tolist()
    [1.0, 2.0]
    """
    known = np.flatnonzero(np.isfinite(values))
    if len(known) <= POINTS:
        return times[known], values[known]
    keep = [b[values[b].argmax()] for b in np.array_split(known, POINTS)]
    return times[keep], values[keep]


def slug(market: str) -> str:
    """Return a market's name as it may stand in a file name or an identifier.

    Examples
    --------
    >>> slug("SPX"), slug("ETH/USD")
    ('SPX', 'ETH-USD-06c204e4')
    """
    safe = re.sub(r"[^A-Za-z0-9]+", "-", market)
    return safe if safe == market else f"{safe}-{zlib.crc32(market.encode()):08x}"
