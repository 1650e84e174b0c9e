"""What is published stays below 1 and holds where it should, on a whole run, whatever the forecasts ask."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.domain import HIGHEST, PPM, HaircutSchedule, Regime
from calibrator.errors import InfeasibleScheduleError
from calibrator.publish.document import PerpetualParameters
from pipelines.document import Identity, build_document, drivers
from pipelines.lending import lending, lent_history
from pipelines.outcomes import with_outcomes
from pipelines.production import Decisions, Production, publishable
from pipelines.report.page import Review

HOLD = {"margin": {"tools": {"hold": "elevated"}}}
STEPPED = {"haircut": {"limits": {"step": 0.005, "every": 5, "steps": 4, "history": 200}}}


def republished(
    production: Production, changes: dict[str, dict[str, object]], scale: float = 1.0
) -> Production:
    """The same forecasts and tails, decided again under other settings, or as if every tail were larger."""
    raw = production.config.model_dump(mode="json")
    config = Config.model_validate(raw | {name: raw[name] | own for name, own in changes.items()})
    made = {}
    for market, d in production.decisions.items():
        table = with_outcomes(production.losses, d)
        pair = config.haircut.single(market) if d.pair else None
        names = [c for c in table if c.startswith(("unlimited_", "shortfall_", "tail_", "floor_"))]
        table[names] *= scale
        again = publishable(d.series, table, production.forecasts, d.terms, config, pair=pair)
        made[market] = replace(again, market=market, series=d.series, pair=pair)
    return replace(production, config=config, decisions=made)


def test_a_margin_of_everything_is_published_as_just_below(review: Review) -> None:
    made = republished(review.production, {}, scale=40.0)
    assert all((d.margin <= HIGHEST / PPM).all() for d in made.decisions.values())
    assert all((d.path <= HIGHEST / PPM).all() for d in made.decisions.values())
    at = review.document.issued_at
    identity = Identity("c" * 64, "d" * 64, {})
    document = build_document(made, as_of=at, stale=set(), previous=None, identity=identity)
    assert {type(m) for m in document.markets} == {PerpetualParameters}  # nothing is left to lend
    assert [m.value_ppm for m in document.markets] == [HIGHEST] * len(document.markets)
    for market in document.markets:
        assert sum(market.attribution.values()) == HIGHEST
        assert market.value_ppm == made.tiers(made.decisions[market.symbol])[0][-1, 0]


def falls(d: Decisions) -> np.ndarray:
    return np.diff(d.margin, prepend=d.margin[:1]) < 0


@pytest.mark.parametrize("limits", [{}, STEPPED], ids=["relative", "step"])
def test_a_regime_holds_every_entry_and_tier_and_is_explained_by_what_it_added(
    review: Review, limits: dict[str, dict[str, object]]
) -> None:
    made = republished(review.production, HOLD | limits)
    free = republished(review.production, limits)
    for market, d in made.decisions.items():
        held = d.table["regime"].to_numpy() >= Regime.ELEVATED
        assert 20 < held.sum() < len(held)
        assert not (falls(d) & held).any()
        assert (falls(free.decisions[market]) & held).any()
        assert (falls(d) & ~held).any()
        if d.terms.role == "perpetual":
            tiers = made.tiers(d)[0]
            assert (np.diff(tiers, axis=0)[held[1:]] >= 0).all()
        added = d.table["held_long"].to_numpy()
        assert (added[~held] == 0).all()
        assert (added >= 0).all()
        assert (added > 0).any()
        if d.terms.role == "collateral" and limits:
            assert (added[np.arange(len(added)) % 5 != 0] == 0).all()
            assert added.max() <= 0.005 + 1e-9
        place = int(np.flatnonzero(added)[-1])
        assert drivers(d, "long", place).held == added[place]


@pytest.mark.parametrize("auction", [0.25, 1.0, 6.0])
def test_a_penalty_that_rises_with_the_haircut_keeps_the_target_step(review: Review, auction: float) -> None:
    dear = {"haircut": STEPPED["haircut"] | {"auction": auction, "slippage": 0.02, "penalty": 0.0}}
    production = replace(
        review.production, decisions={m: d for m, d in review.production.decisions.items() if d.pair}
    )
    (d,) = republished(production, dear).decisions.values()
    config = republished(replace(production, decisions={}), dear).config
    lent = lent_history(config, d)
    made = pd.DataFrame([asdict(s) for s in lent if isinstance(s, HaircutSchedule)])
    assert len(made) == len(lent)
    moves = made.diff().abs()
    assert (moves <= 5000).sum().sum() == 4 * (len(lent) - 1)
    assert moves["liquidation_threshold_ppm"].max() > 4900
    assert moves["haircut_ppm"].max() < 5000


def test_a_target_range_that_no_need_fits_is_an_infeasible_entry_that_names_it(review: Review) -> None:
    capped = {"haircut": {"limits": STEPPED["haircut"]["limits"] | {"cap": 0.02}}, "margin": {"notice": 2}}  # type: ignore[operator]
    made = republished(review.production, capped)
    (d,) = (d for d in made.decisions.values() if d.pair)
    with pytest.raises(InfeasibleScheduleError, match=r"these would have to give way: cap by \d"):
        lending(made.config, d)(float(d.margin[-1]))
    assert all(isinstance(s, InfeasibleScheduleError) for s in lent_history(made.config, d))
    identity = Identity("c" * 64, "d" * 64, {})
    at = review.document.issued_at
    fresh = build_document(made, as_of=at, stale=set(), previous=None, identity=identity)
    assert d.key not in {m.key for m in fresh.markets}
    after = build_document(made, as_of=at, stale=set(), previous=review.document, identity=identity)
    (held,) = (m for m in after.markets if m.key == d.key)
    assert held.status == "held"
    assert "cap by" in held.reasons[0]
