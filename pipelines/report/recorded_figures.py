"""Figures of recorded vaults and of cascades."""

from typing import Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from pipelines.cascades import Cascades
from pipelines.recorded import VaultBacktest
from pipelines.report.canvas import BLUE, INK, ORANGE, RED, SETTINGS, Drawing, plot, slug, thin, time_axis

SHOWN: Final = 3
"""Vaults that the report shows: those with the largest real liquidations."""


def vault_drawing(made: VaultBacktest, vault: str) -> Drawing:
    """Draw one vault's collateral over debt beside both ratios, with its real liquidations."""
    own = made.books.changes[made.books.changes["vault"] == vault]
    time, price = made.oracle.time, made.oracle.price
    row = np.searchsorted(own["time"].to_numpy(), time, side="left") - 1
    debt = own["units"].to_numpy(float)[row] * made.books.fees.index(time)
    use = (row >= 0) & (debt > 0)
    held = own["collateral"].to_numpy(float)[row] * price
    ratio = np.where(use, held / np.where(debt > 0, debt, 1.0), np.nan)
    inside = np.flatnonzero(use)
    lots = made.books.lots[made.books.lots["vault"] == vault]
    first = pd.Timestamp(time[inside[0]] if len(inside) else time[0], tz="UTC")
    last = pd.Timestamp(time[inside[-1]] if len(inside) else time[-1], tz="UTC") + pd.Timedelta("2D")
    with mpl.rc_context(SETTINGS):
        figure, axes = plot()
        shown = (time >= first.to_datetime64()) & (time <= last.to_datetime64())
        axes.plot(*thin(time[shown], ratio[shown]), color=INK, linewidth=0.8, label="collateral over debt")
        asked = np.full(len(time), made.asked)
        axes.plot(*thin(time[shown], asked[shown]), color=ORANGE, linewidth=1.0, label="really asked")
        axes.plot(*thin(time[shown], made.ratio[shown]), color=BLUE, linewidth=1.2, label="calibrated")
        for at in lots["time"].dt.floor("h").unique():
            axes.axvline(at, color=RED, linewidth=0.8)
        axes.set_ylim(1.0, float(np.nanmin([3.0, np.nanmax([2.2, np.nanmedian(ratio) + 0.8])])))
        axes.set_ylabel("collateral over debt")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.legend(loc="upper left", ncols=3)
        time_axis(axes, first, last)
    fates = made.replays["as recorded"].days
    fate = ", ".join(fates.loc[fates["vault"] == vault, "fate"]) or "never really liquidated"
    title = (
        f"Vault {vault}: {len(lots)} real liquidations (red) of {lots['debt'].sum():,.0f} in all; "
        f"under the calibrated ratio: {fate}"
    )
    return Drawing(f"vault-{slug(vault)}", title, title + ".", figure)


def largest_vaults(made: VaultBacktest, count: int = SHOWN) -> list[str]:
    """Return the vaults whose real liquidations took most debt."""
    taken = made.books.lots.groupby("vault")["debt"].sum().sort_values(ascending=False, kind="stable")
    return [str(v) for v in taken.index[:count]]


def convexity_drawing(made: Cascades) -> Drawing:
    """Draw what is lost beyond margin and fund as compression grows, and where stability ends."""
    colours = {"at once": RED, "ladder": BLUE}
    with mpl.rc_context(SETTINGS):
        figure, axes = plot(2.1)
        for name, own in made.table.groupby(level="way", sort=False):
            at = own.index.get_level_values("compression").to_numpy(float)
            lost = ((own["deleveraged"] + own["uncovered"]) / own["margin"]).to_numpy(float)
            colour = colours.get(str(name), INK)
            axes.plot(at, lost, color=colour, linewidth=1.3, marker="o", markersize=3, label=f"lost, {name}")
            limit = float(made.limit[name])
            if np.isfinite(limit):
                axes.axvline(limit, color=colour, linewidth=0.9, linestyle=(0, (4, 2)))
        begun = float(made.table["margin"].max())
        once = made.table.xs(made.table.index[0][0], level="way")
        axes.plot(
            once.index,
            once["margin"] / begun,
            color=INK,
            linewidth=0.9,
            label="margin asked, of the anchor's",
        )
        axes.set_xlabel("compression: how far margins lie below the anchor")
        axes.set_ylabel("lost / margin asked")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.legend(loc="upper left")
    words = ", ".join(
        f"{name}: " + (f"at {limit:.0%}" if np.isfinite(limit) else "never")
        for name, limit in made.limit.items()
    )
    title = f"Simulated cascade of {made.market}'s worst stretch: stability is lost {words}"
    return Drawing("cascade", title, title + ".", figure)
