"""What a risk committee wants to know about a challenger, as plain data: the content of ``contest.json``."""

from dataclasses import asdict
from typing import Any, Final

import numpy as np
import pandas as pd

from calibrator.calibrate.attribution import Drivers, attribute
from calibrator.domain import Regime, ppm_up
from pipelines.champion import Champion
from pipelines.contest import REFERENCE, ROW, Contest, Verdict, shadow_margins
from pipelines.document import drivers
from pipelines.loading import Loaded
from pipelines.production import Decisions, Production

SCALES: Final = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)
"""Multiples of a margin at which the frontier is drawn."""
WORST: Final = 12
PATHS: Final = 6
BASIS_POINTS: Final = 10_000.0


def compared(
    contest: Contest,
    champion: Production,
    challengers: dict[str, Production],
    loaded: Loaded,
    *,
    models: dict[str, str],
    champion_id: Champion | None,
) -> dict[str, Any]:
    """Return everything that the review page shows, as JSON.

    Parameters
    ----------
    contest : Contest
    champion, challengers : Production, dict of str to Production
        Walk-forwards over the same bars.
    loaded : Loaded
    models : dict of str to str
        Identifier of each challenger's model.
    champion_id : Champion, optional
        What was live when the contest was held.
    """
    old = shadow_margins(champion, contest.first)
    cumulative = {
        name: (contest.daily[REFERENCE] - contest.daily[name]).cumsum().round(6).tolist()
        for name in challengers
    }
    return {
        "as_of": loaded.as_of.isoformat(),
        "champion": asdict(champion_id) if champion_id else None,
        "winner": contest.winner,
        "first": contest.first.isoformat(),
        "last": contest.last.isoformat(),
        "decisions": len(contest.daily),
        "false_promotion": contest.false_promotion,
        "origins": [f"{t:%Y-%m-%dT%H:%M}" for t in contest.daily.index],
        "cumulative_gain": cumulative,
        "verdicts": [
            _verdict(v, models[v.name], champion, challengers[v.name], old) for v in contest.verdicts
        ],
        "findings": [
            {k: str(v) for k, v in row.items()} for row in loaded.findings.head(40).to_dict(orient="records")
        ],
        "bars": {
            "rows": len(loaded.bars),
            "markets": int(loaded.bars["market"].nunique()),
            "first": f"{loaded.bars['time'].min():%Y-%m-%d}",
            "last": f"{loaded.bars['time'].max():%Y-%m-%d %H:%M}",
            "digest": loaded.data,
        },
    }


def _verdict(
    verdict: Verdict, model: str, champion: Production, challenger: Production, old: pd.DataFrame
) -> dict[str, Any]:
    first = old["origin"].min()
    both = old.merge(
        shadow_margins(challenger, first)[[*ROW, "margin"]], on=ROW, suffixes=("_champion", "_challenger")
    )
    known = both[both["loss"].notna()]
    changes = _changes(champion, challenger)
    return {
        "name": verdict.name,
        "model": model,
        "qlike": verdict.qlike,
        "champion_qlike": verdict.champion_qlike,
        "passes": verdict.passes,
        "gates": [asdict(g) | {"value": _finite(g.value), "holds": bool(g.holds)} for g in verdict.gates],
        "changes": changes,
        "coverage": _coverage(known),
        "regimes": _regimes(known, champion),
        "frontier": {c: _frontier(known, f"margin_{c}") for c in ("champion", "challenger")},
        "worst": _worst(known),
        "paths": _paths(both, [c["market"] for c in changes[:PATHS]]),
    }


def _changes(champion: Production, challenger: Production) -> list[dict[str, Any]]:
    """Return what changes for whom at the last decision, in basis points, with its terms; largest first."""
    out = []
    for market, now in challenger.decisions.items():
        before = champion.decisions.get(market)
        if before is None:
            continue
        values = (ppm_up(float(before.margin[-1])), ppm_up(float(now.margin[-1])))
        terms = attribute(_drivers(before), _drivers(now), published=values)
        out.append(
            {
                "market": market,
                "role": now.terms.role,
                "champion_bps": values[0] / 100,
                "challenger_bps": values[1] / 100,
                "change_bps": (values[1] - values[0]) / 100,
                "terms_bps": {k: v / 100 for k, v in terms.items()},
            }
        )
    return sorted(out, key=lambda c: (-abs(c["change_bps"]), c["market"]))


def _drivers(d: Decisions) -> Drivers:
    row = d.table.iloc[-1]
    larger = "long" if d.terms.role == "collateral" or row["margin_long"] >= row["margin_short"] else "short"
    return drivers(d, larger, -1)


def _coverage(known: pd.DataFrame) -> list[dict[str, Any]]:
    out = []
    for (market, side), own in known.groupby(["market", "side"], sort=True):
        row = {"market": market, "side": side, "level": float(own["level"].iloc[0]), "losses": len(own)}
        for who in ("champion", "challenger"):
            row[f"{who}_breaches"] = int((own["loss"] > own[f"margin_{who}"]).sum())
            row[f"{who}_average_margin"] = float(own[f"margin_{who}"].mean())
        out.append(row)
    return out


def _regimes(known: pd.DataFrame, champion: Production) -> list[dict[str, Any]]:
    """Coverage and average margin by the state that the champion said each market was in."""
    states = pd.concat(
        [
            d.table["regime"].rename("regime").reset_index().assign(market=m)
            for m, d in champion.decisions.items()
        ]
    )
    joined = known.merge(states[["market", "origin", "regime"]], on=["market", "origin"], how="left")
    out = []
    for regime in Regime:
        own = joined[joined["regime"] == int(regime)]
        row: dict[str, Any] = {"regime": regime.name, "losses": len(own)}
        for who in ("champion", "challenger"):
            margin = own[f"margin_{who}"]
            row[f"{who}_coverage"] = _finite(float((own["loss"] <= margin).mean())) if len(own) else None
            row[f"{who}_average_margin"] = _finite(float(margin.mean())) if len(own) else None
        out.append(row)
    return out


def _frontier(known: pd.DataFrame, column: str) -> list[list[float]]:
    """Return (average margin, shortfall in bps) with every margin multiplied by :data:`SCALES`."""
    margin, loss = known[column].to_numpy(float), known["loss"].to_numpy(float)
    return [
        [float(s * margin.mean()), float(BASIS_POINTS * np.maximum(loss - s * margin, 0).mean())]
        for s in SCALES
    ]


def _worst(known: pd.DataFrame) -> list[dict[str, Any]]:
    largest = known.assign(ratio=known["loss"] / known["margin_champion"]).nlargest(WORST, "ratio")
    return [
        {
            "origin": f"{r.origin:%Y-%m-%d %H:%M}",
            "market": r.market,
            "side": r.side,
            "loss": float(r.loss),
            "champion": float(r.margin_champion),
            "challenger": float(r.margin_challenger),
        }
        for r in largest.itertuples()
    ]


def _paths(both: pd.DataFrame, markets: list[str]) -> dict[str, dict[str, list[Any]]]:
    """Return margins of both and the losses, long side, of the markets that change most."""
    out = {}
    for market in markets:
        own = both[(both["market"] == market) & (both["side"] == "long")].sort_values("origin")
        out[market] = {
            "origin": [f"{t:%Y-%m-%dT%H:%M}" for t in own["origin"]],
            "champion": own["margin_champion"].round(6).tolist(),
            "challenger": own["margin_challenger"].round(6).tolist(),
            "loss": [_finite(x) for x in own["loss"].round(6)],
        }
    return out


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
