"""The report's figures: each states in its title what it shows."""

from typing import Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from calibrator.data.events import events_between
from calibrator.domain import Regime, ppm_up
from pipelines.forecasting import ALL, PUBLISHED
from pipelines.production import Decisions
from pipelines.report.announced import announced_drawing
from pipelines.report.canvas import (
    AMBER,
    BLUE,
    GRID,
    INK,
    ORANGE,
    RED,
    SETTINGS,
    Drawing,
    clock,
    peaks,
    plot,
    shade_events,
    slug,
    sticks,
    thin,
    time_axis,
)
from pipelines.report.frontier import frontier_drawing
from pipelines.report.portfolio import waterfall
from pipelines.report.recorded_figures import convexity_drawing, largest_vaults, vault_drawing
from pipelines.report.review import Review
from pipelines.report.words import percent, ppm

RECENT: Final = 120
"""Decisions shown before the plan ahead."""
STATES: Final = {Regime.CALM: GRID, Regime.ELEVATED: AMBER, Regime.STRESS: RED}
WEIGHTS: Final = (
    "#9ab8e6", "#e8b27a", "#93c9a4", "#8f73c9", "#3f74c4", "#2b9a9c", "#b5808a", "#8a94a0"
)  # fmt: skip
MULTIPLE_COLUMNS: Final = 5


def draw(review: Review) -> tuple[Drawing, ...]:
    """Draw every figure of a report.

    Returns
    -------
    tuple of Drawing
        Names start with what they show: ``margin-``, ``volatility-``, ``stress-``, ``plan-`` and the market;
        ``weights``, ``stress-all`` and, with many markets, ``margins-all``.
    """
    with mpl.rc_context(SETTINGS):
        drawings = [_weights(review), _stress(review, ALL)]
        for market in review.detailed():
            made = review.decisions(market)
            drawings += [_volatility(review, market), _stress(review, market)]
            drawings += [_margin(review, market, side) for side in _sides(review, market)]
            if made is not None:
                drawings.append(_plan(review, made))
        if len(review.detailed()) < len(review.markets):
            drawings.append(_multiples(review))
    curves = [frontier_drawing(f) for f in review.backtest.frontier]
    return (*drawings, *curves, *waterfall(review), *_accounts(review))


def _accounts(review: Review) -> list[Drawing]:
    """Draw the cascade of the simulated accounts and the largest recorded vaults, where there are some."""
    made, recorded = review.backtest.cascades, review.backtest.recorded
    drawings = [announced_drawing(name, found) for name, found in review.backtest.announced.items()]
    drawings += [] if made is None else [convexity_drawing(made)]
    if recorded is not None and recorded.vaults is not None:
        drawings += [vault_drawing(recorded.vaults, v) for v in largest_vaults(recorded.vaults)]
    return drawings


def _sides(review: Review, market: str) -> list[str]:
    margins = review.backtest.margins
    return sorted(margins.loc[margins["market"] == market, "side"].unique())


def _frame(review: Review, axes: Axes, *markets: str, above: bool = False) -> None:
    time_axis(axes, *review.window)
    shade_events(axes, review.events(*markets), above=above)


def _volatility(review: Review, market: str) -> Drawing:
    forecasts = review.production.forecasts
    rows = forecasts.features.loc[forecasts.experts.index]
    first, last = review.window
    made = review.decisions(market)
    series = made.series if made else market
    use = rows.index[(rows["market"] == series) & rows["time"].between(first, last)]
    times = clock(rows.loc[use, "time"])
    forecast = np.sqrt(forecasts.experts.loc[use, PUBLISHED].to_numpy(float))
    realized = np.sqrt(forecasts.targets.loc[use, "future_variance"].to_numpy(float))
    figure, axes = plot(events=review.events(market))
    sticks(axes, *peaks(times, realized), "realized afterwards")
    axes.plot(*thin(times, forecast), color=BLUE, linewidth=1.1, label="forecast at the decision")
    _finish(axes, f"% over {review.production.clock.horizon} bars", "upper left")
    _frame(review, axes, market)
    known = np.isfinite(realized) & np.isfinite(forecast)
    title = f"{market}: forecast volatility (line) against what followed (bars)"
    alt = (
        f"Volatility of {market} over the next {review.production.clock.horizon} bars from "
        f"{first:%Y-%m-%d} to {last:%Y-%m-%d}."
    )
    if known.any():
        ratio = float((realized[known] ** 2).mean() / (forecast[known] ** 2).mean())
        worst = percent(float(realized[known].max()), 1)
        alt += f" Realized variance averaged {ratio:.2f} times the forecast; the largest realized volatility"
        alt += f" was {worst}."
    return Drawing(f"volatility-{slug(market)}", title, alt, figure)


def _margin(review: Review, market: str, side: str) -> Drawing:
    margins = review.backtest.margins
    rows = margins[(margins["market"] == market) & (margins["side"] == side)].sort_values("origin")
    times, loss = clock(rows["origin"]), rows["loss"].to_numpy(float)
    margin, unlimited = rows["margin"].to_numpy(float), rows["margin_unlimited"].to_numpy(float)
    breach = loss > margin
    figure, axes = plot(events=review.events(market))
    sticks(axes, *peaks(times, loss), "loss over the close-out")
    axes.plot(*thin(times, unlimited), color=ORANGE, linewidth=0.5, label="margin before floor and limits")
    axes.plot(*thin(times, margin), color=BLUE, linewidth=1.3, label="published margin")
    axes.scatter(times[breach], loss[breach], s=13, color=RED, zorder=3, linewidths=0, label="breach")
    _finish(axes, f"% of {_base(review, market)}", "upper left")
    _frame(review, axes, market)
    known = int(np.isfinite(loss).sum())
    covered = percent(1 - breach.sum() / max(known, 1))
    word = "haircut" if _is_collateral(review, market) else "margin"
    title = (
        f"{market}, {side}: {int(breach.sum()):,} of {known:,} decisions lost more than the {word}; "
        f"{covered} covered, {percent(float(rows['level'].iloc[0]), 1)} asked"
    )
    worst = rows.iloc[int(np.nanargmax(loss / margin))] if known else None
    alt = f"{title}." + (
        f" The worst loss was {worst['loss'] / worst['margin']:.2f} times the {word}, "
        f"decided {worst['origin']:%Y-%m-%d}."
        if worst is not None
        else ""
    )
    return Drawing(f"margin-{slug(market)}-{side}", title, alt, figure)


def _stress(review: Review, market: str) -> Drawing:
    states = review.production.forecasts.regimes
    first, last = review.window
    made = review.decisions(market)
    series = made.series if made else market
    rows = states[(states["market"] == series) & states["time"].between(first, last)].sort_values("time")
    times = clock(rows["time"])
    probability = rows["stress_probability"].to_numpy(float)
    names = review.markets if market == ALL else [market]
    figure, axes = plot(1.3, events=review.events(*names))
    axes.plot(*thin(times, probability), color=INK, linewidth=0.8)
    thresholds = review.production.config.regime
    for state, level in (("ELEVATED", thresholds.elevated[0]), ("STRESS", thresholds.stress[0])):
        axes.axhline(level, color=STATES[Regime[state]], linewidth=0.9, linestyle=(0, (4, 2)))
        axes.annotate(
            f"{state} from here", (0.004, level), xycoords=("axes fraction", "data"), va="bottom", fontsize=7
        )
    _ribbon(axes, times, rows["regime"].to_numpy(int))
    axes.set_ylim(-0.11, 1.0)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.set_ylabel("probability of stress")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    _frame(review, axes, *names)
    label = "All markets (mean)" if market == ALL else market
    share = {s.name: float(np.mean(rows["regime"] == int(s))) if len(rows) else 0.0 for s in Regime}
    colours = {"CALM": "grey", "ELEVATED": "amber", "STRESS": "red"}
    spent = ", ".join(f"{percent(v, 0)} {k} ({colours[k]})" for k, v in share.items())
    title = f"{label}: probability of stress, and the regime (band): {spent}"
    return Drawing(
        "stress-all" if market == ALL else f"stress-{slug(market)}",
        title,
        f"{title} of the decisions.",
        figure,
    )


def _ribbon(axes: Axes, times: np.ndarray, states: np.ndarray) -> None:
    """Draw the regime as a coloured band below zero."""
    if not len(times):
        return
    starts = np.flatnonzero(np.diff(states, prepend=states[0] - 1))
    ends = np.append(times[starts[1:]], times[-1])
    for regime, colour in STATES.items():
        own = states[starts] == int(regime)
        bars = list(zip(times[starts][own], (ends - times[starts])[own], strict=True))
        axes.broken_barh(bars, (-0.09, 0.06), color=colour, linewidth=0)


def _plan(review: Review, made: Decisions) -> Drawing:
    recent = made.table.iloc[-RECENT:]
    times, margin = clock(recent.index), made.margin[-RECENT:]
    ahead = clock(recent.index[-1] + review.production.effective_after(np.arange(1, made.path.shape[1] + 1)))
    sides = ["long"] if made.terms.role == "collateral" else ["long", "short"]
    target = recent[[f"unlimited_{s}" for s in sides]].max(axis=1).to_numpy(float)
    first, last = recent.index[0], pd.Timestamp(ahead[-1], tz="UTC")
    events = events_between(first.date(), last.date(), [made.market])
    figure, axes = plot(events=events)
    axes.step(times, target, where="post", color=ORANGE, linewidth=0.7, label="before floor and limits")
    axes.step(times, margin, where="post", color=BLUE, linewidth=1.5, label="published")
    path = np.append(margin[-1], made.path[-1])
    axes.step(
        np.append(times[-1], ahead), path, where="post", color=BLUE, linewidth=1.3, linestyle=(0, (3, 1.5))
    )
    axes.plot(ahead, made.path[-1], "o", color=BLUE, markersize=3.5, label="planned")
    word = "haircut" if made.terms.role == "collateral" else "maintenance margin"
    _finish(axes, f"{word}, %", "best")
    time_axis(axes, first, last + review.production.clock.step)
    shade_events(axes, events)
    change = path[-1] - path[0]
    direction = "stays where it is" if abs(change) < 5e-5 else "rises" if change > 0 else "falls"
    title = (
        f"{made.market}: the plan {direction}: {word} {ppm(ppm_up(float(path[0])))} now, "
        f"{ppm(ppm_up(float(path[-1])))} after {len(ahead)} decisions"
    )
    return Drawing(
        f"plan-{slug(made.market)}",
        title,
        f"{title}. The {len(recent)} decisions before are shown too.",
        figure,
    )


def _weights(review: Review) -> Drawing:
    weights = review.production.forecasts.weights
    first, last = review.window
    own = weights[(weights.index >= first) & (weights.index <= last)]
    every = max(1, len(own) // 400)
    mean = own.rolling(every, min_periods=1).mean().iloc[::every]
    figure, axes = plot(1.8, events=review.events(*review.markets), bottom=0.62)
    colours = [WEIGHTS[i % len(WEIGHTS)] for i in range(mean.shape[1])]
    axes.stackplot(
        clock(mean.index), mean.to_numpy(float).T, labels=list(mean.columns), colors=colours, alpha=0.8
    )
    axes.set_ylim(0, 1)
    axes.set_ylabel("weight in the forecast")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=len(WEIGHTS))
    _frame(review, axes, *review.markets, above=True)
    latest = own.iloc[-1].sort_values(ascending=False) if len(own) else pd.Series(dtype=float)
    words = ", ".join(f"{name} {percent(float(w), 0)}" for name, w in latest.items())
    title = f"Weights of the experts in the published forecast; at the last decision {words}"
    return Drawing("weights", title, title + ".", figure)


def _multiples(review: Review) -> Drawing:
    """Draw the larger margin of every market that has no figures of its own, on one scale."""
    others = [m for m in review.markets if m not in review.detailed()]
    rows = -(-len(others) // MULTIPLE_COLUMNS)
    figure = Figure(figsize=(9.8, 1.15 * rows + 0.3), dpi=100, layout="constrained")
    grid = figure.subplots(rows, MULTIPLE_COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    margins = review.backtest.margins
    for axes, market in zip(grid, others, strict=False):
        own = margins[margins["market"] == market]
        widest = own.groupby("origin")[["margin", "loss"]].max()
        hits = own[own["loss"] > own["margin"]]
        keep = slice(None, None, max(1, len(widest) // 250))
        axes.plot(
            clock(widest.index)[keep], widest["margin"].to_numpy(float)[keep], color=BLUE, linewidth=0.8
        )
        axes.scatter(clock(hits["origin"]), hits["loss"], s=3, color=RED, linewidths=0)
        axes.set_title(f"{market}: {len(hits)} breaches", fontsize=7.5, loc="left", pad=2, parse_math=False)
        axes.tick_params(labelsize=6.5)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        time_axis(axes, *review.window)
        axes.xaxis.set_major_locator(mpl.dates.YearLocator())
        axes.xaxis.set_major_formatter(mpl.dates.DateFormatter("%y"))
        axes.set_ylim(0, float(np.nanquantile(margins["margin"], 0.99)) * 1.6)
        shade_events(axes, review.events(market), named=False)
    for axes in grid[len(others) :]:
        axes.set_axis_off()
    title = f"Published margin (larger side, %) and breaches of the other {len(others)} markets, on one scale"
    return Drawing("margins-all", title, f"{title}; losses above the scale are cut.", figure)


def _is_collateral(review: Review, market: str) -> bool:
    made = review.decisions(market)
    return made is not None and made.terms.role == "collateral"


def _base(review: Review, market: str) -> str:
    return "collateral value" if _is_collateral(review, market) else "notional"


def _finish(axes: Axes, label: str, legend: str) -> None:
    axes.set_ylabel(label)
    if legend != "best":
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol=" %"))
    axes.legend(loc=legend, ncols=2)


def png_files(drawings: tuple[Drawing, ...]) -> dict[str, bytes]:
    """Return every figure as a PNG by name."""
    return {d.name: d.png() for d in drawings}
