"""What a tail is pooled with: the same markets whatever their terms are, so that stricter never asks less."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from calibrator.domain import SIDES
from calibrator.feeds import empty
from calibrator.frames import IMPLIED_VOLATILITY
from pipelines import production
from pipelines.levels import margins_at
from pipelines.production import Production, produce

RAW: dict[str, object] = {
    "data": {"source": "embedded", "bar": "1d"},
    "forecast": {
        "horizon": 1,
        "cadence": 1,
        "har_window": 250,
        "garch_window": 250,
        "learner_seeds": 1,
        "learner_refit": 400,
        "min_history": 200,
    },
    "regime": {"window": 200, "min_window": 100},
    "margin": {"close_out": 1, "tail_window": 200, "tail_min": 60, "floor_window": 100, "plan_steps": 2},
}
Make = Callable[..., Production]


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    """Four markets; all but A have fat tails that their closes do not show."""
    made = synthetic_bars([*"ABCD"], periods=420, bar="1d", seed=11)
    rng = np.random.default_rng(3)
    for market in "BCD":
        rows = rng.choice(made.index[made["market"] == market], 30, replace=False)
        made.loc[rows, "low"] *= 0.8
        made.loc[rows, "high"] *= 1.2
    return made


@pytest.fixture(scope="module")
def made(bars: pd.DataFrame) -> Make:
    """Produce under some settings; forecasts, on which terms have no influence, are computed once."""
    with pytest.MonkeyPatch.context() as patch:
        kept: list[object] = []
        forecast = production.forecast_all

        def once(*given: object, **settings: object) -> object:
            if not kept:
                kept.append(forecast(*given, **settings))  # type: ignore[arg-type]
            return kept[0]

        def run(**sections: object) -> Production:
            patch.setattr(production, "forecast_all", once)
            config = Config.model_validate(RAW | sections)
            found = produce(bars, empty(IMPLIED_VOLATILITY), config=config, progress=lambda *_: None)
            patch.undo()
            return found

        yield run


@pytest.fixture(scope="module")
def plain(made: Make) -> Production:
    return made()


def unlimited(found: Production, entry: str) -> pd.DataFrame:
    return found.decisions[entry].table[[f"unlimited_{side}" for side in SIDES]]


def tail_loss(found: Production, entry: str) -> pd.Series:
    table = found.decisions[entry].table
    return table["tail_long"] * table["volatility"]


OTHER = ({"close_out": 3, "level": 0.95}, {"loss": "terminal", "level": 0.999})


@pytest.mark.parametrize("terms", OTHER, ids=str)
def test_one_markets_terms_change_nothing_for_the_others(
    made: Make, plain: Production, terms: dict[str, object]
) -> None:
    other = made(markets={"A": terms})
    for market in "BCD":
        pd.testing.assert_frame_equal(
            plain.decisions[market].table, other.decisions[market].table, check_exact=True
        )
    assert not plain.decisions["A"].table.equals(other.decisions["A"].table)


@pytest.mark.parametrize("level", [0.991, 0.999])
def test_a_stricter_level_of_one_market_never_asks_less(made: Make, plain: Production, level: float) -> None:
    strict = made(markets={"A": {"level": level}})
    ratio = unlimited(strict, "A") / unlimited(plain, "A")
    assert (ratio.to_numpy() >= 1 - 1e-12).all()
    assert (ratio.to_numpy() > 1).any()


def test_a_market_with_terms_of_its_own_still_has_its_peers(made: Make, plain: Production) -> None:
    longer = made(markets={"A": {"close_out": 2}})
    ratio = (tail_loss(longer, "A") / tail_loss(plain, "A")).to_numpy()  # before a size stretches it
    assert np.median(ratio) > 1.05
    assert (ratio < 1).mean() < 0.05
    assert ratio.min() > 0.85


LOCATIONS = [
    {"collateral": "A", "debt": "USD", "location": "here"},
    {"collateral": "A", "debt": "USD", "location": "near", "bridge_delay": 1},
    {"collateral": "A", "debt": "USD", "location": "far", "bridge_delay": 9},
    {"collateral": "A", "debt": "USD", "location": "sure", "bridge_delay": 9, "level": 0.995},
    {"collateral": "B", "debt": "USD", "location": "here"},
]


def test_a_longer_way_never_has_the_smaller_haircut(made: Make) -> None:
    found = made(haircut={"pairs": LOCATIONS}, markets={m: {"role": "collateral"} for m in "ABCD"})
    tables = [unlimited(found, f"A/USD@{name}") for name in ("here", "near", "far", "sure")]
    for shorter, longer in pairwise(tables):
        both = shorter.index.intersection(longer.index)
        assert len(both) > 200
        assert (longer.loc[both] >= shorter.loc[both] * (1 - 1e-12)).all(axis=None)
    for d in found.decisions.values():
        for side in SIDES:
            assert (d.table[f"shortfall_{side}"] >= d.table[f"unlimited_{side}"]).all()


def test_other_levels_are_read_with_the_same_peers(made: Make, bars: pd.DataFrame) -> None:
    markets: dict[str, object] = {"A": {"close_out": 3}, "B": {"loss": "terminal"}}
    markets |= {m: {"role": "collateral"} for m in "CD"}
    pairs = [p | {"collateral": "C" if p["collateral"] == "A" else "D", "level": 0.99} for p in LOCATIONS[:3]]
    found = made(markets=markets, haircut={"pairs": pairs})
    own = pd.concat([found.margins(), found.margins(role="collateral")])
    again = margins_at(found, bars, (0.95, 0.99))[0.99]
    both = own.merge(again, on=["market", "origin", "side"], suffixes=("", "_again"))
    assert len(both) == len(own)
    for column in ("margin", "margin_unlimited"):
        np.testing.assert_array_equal(both[column], both[f"{column}_again"])
