"""The model card: what a model is, what it was fitted on, how it scored, where it is known to fail."""

from typing import Any, Final

import numpy as np

from calibrator.data.events import events_between
from calibrator.scores import qlike
from pipelines.contest import REFERENCE, WORLDS, Contest, shadow_margins
from pipelines.forecasting import PUBLISHED
from pipelines.loading import Loaded
from pipelines.production import Production

WORST: Final = 10


def write_card(
    name: str, production: Production, loaded: Loaded, contest: Contest, settings: dict[str, Any]
) -> str:
    """Write the card of one model as Markdown.

    Parameters
    ----------
    name : str
        Of the challenger, or ``default``.
    production : Production
        Its walk-forward.
    loaded : Loaded
        What it was fitted on.
    contest : Contest
        Its scores in the shadow window.
    settings : dict
        What differs from the configuration.
    """
    bars, found = loaded.bars, int(loaded.findings["count"].sum())
    lines = [
        f"# Model {name}",
        "",
        "## Data",
        f"- {len(bars):,} bars of {bars['market'].nunique()} markets, SHA-256 `{loaded.data}`",
        f"- {bars['time'].min():%Y-%m-%d} to {bars['time'].max():%Y-%m-%d}",
        f"- as of {loaded.as_of:%Y-%m-%d %H:%M} UTC; rows that the gate named: {found}",
        "",
        "## Settings that differ from the configuration",
        *([f"- `{k}`: {v}" for k, v in sorted(settings.items())] or ["- none"]),
        "",
        f"## Scores, {contest.first:%Y-%m-%d} to {contest.last:%Y-%m-%d} (walk-forward)",
        *_scores(name, contest),
        "",
        "## Known failures",
        *_failures(production, contest),
        "- Events that no volatility model can see (a mis-set cap, a bridge exploit) are expected misses.",
        "",
    ]
    return "\n".join(lines)


def _scores(name: str, contest: Contest) -> list[str]:
    chance = (
        f"- chance that these gates promote a challenger that is no better: {contest.false_promotion:.1%} "
        f"(permutation test in {WORLDS} worlds made of this window's losses)"
    )
    found = [v for v in contest.verdicts if v.name == name]
    if not found:
        return [f"- mean daily QLIKE {contest.daily[REFERENCE].mean():.4f} (champion)", chance]
    verdict = found[0]
    out = [f"- QLIKE {verdict.qlike:.4f}, champion {verdict.champion_qlike:.4f}"]
    out += [f"- {g.name} {g.value:.4g} ({g.rule}): {'holds' if g.holds else 'FAILS'}" for g in verdict.gates]
    return [*out, chance]


def _failures(production: Production, contest: Contest) -> list[str]:
    """List the worst breaches and the worst forecasts of the window, and the stress events in it."""
    margins = shadow_margins(production, contest.first)
    known = margins[margins["loss"] > margins["margin"]]
    worst = known.assign(excess=known["loss"] - known["margin"]).nlargest(WORST, "excess")
    out = [
        f"- {r.origin:%Y-%m-%d} {r.market} {r.side}: lost {r.loss:.2%}, margin {r.margin:.2%}"
        for r in worst.itertuples()
    ]
    forecasts = production.forecasts
    index = forecasts.experts.index
    outcome = forecasts.targets.loc[index, "future_variance"].to_numpy(float)
    forecast = forecasts.experts[PUBLISHED].to_numpy(float)
    rows = forecasts.features.loc[index]
    use = np.flatnonzero((outcome > 0) & (forecast > 0) & (rows["time"] >= contest.first).to_numpy())
    loss = qlike(outcome[use], forecast[use])
    for at in use[np.argsort(loss)[::-1][:3]]:
        ratio = float(np.sqrt(outcome[at] / forecast[at]))
        row = rows.iloc[at]
        out.append(f"- {row['time']:%Y-%m-%d} {row['market']}: volatility was {ratio:.2f} times the forecast")
    markets = sorted(production.decisions)
    events = events_between(contest.first.date(), contest.last.date(), markets)
    out += [f"- stress event in the window: {e.name} ({e.start} to {e.end})" for e in events]
    return out or ["- none in the window"]
