"""Cascades: money is conserved in every bar, and what must be monotone is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.backtest.cascade import AT_ONCE, LADDER, Book, Shock, Way, cascade, convexity, stability_limit
from calibrator.backtest.venue import Rules


def crowd(seed: int, count: int = 300, *, long_share: float = 0.7) -> Book:
    rng = np.random.default_rng(seed)
    return Book(
        20_000 * np.exp(1.2 * rng.standard_normal(count)),
        np.where(rng.random(count) < long_share, 1, -1),
        1.02 + 6 * rng.random(count) ** 2,
    )


RULES = st.builds(
    Rules,
    latency=st.integers(0, 2),
    penalty=st.sampled_from([0.0, 0.015]),
    fund_share=st.sampled_from([0.3, 1.0]),
    close_factor=st.sampled_from([0.25, 1.0]),
    full_below=st.sampled_from([0.0, 0.4]),
    backstop=st.sampled_from(["venue", "deleverage"]),
    recovery=st.sampled_from([0.0, 0.5]),
)


@given(
    st.integers(0, 10_000),
    RULES,
    st.lists(st.floats(-0.2, 0.1), min_size=1, max_size=6),
    st.sampled_from([1e5, 2e6, 5e7]),
    st.sampled_from([0.0, 1e4, 1e8]),
    st.sampled_from([0.0, 0.5, 0.9]),
    st.sampled_from([1.0, 1.5]),
)
@settings(max_examples=80, deadline=None)
def test_money_is_conserved_in_every_bar(  # noqa: PLR0917 - drawn
    seed: int, rules: Rules, moves: list[float], depth: float, fund: float, compression: float, lead: float
) -> None:
    shock = Shock(tuple(moves), depth)
    done = cascade(crowd(seed), shock, margin=0.05, fund=fund, way=Way(rules, lead), compression=compression)
    assert done.bars["imbalance"].max() < 1e-9
    summary = done.summary()
    assert summary["shortfall"] == pytest.approx(
        summary["from_fund"] + summary["deleveraged"] + summary["uncovered"], abs=1e-4
    )
    gained = rules.fund_share * done.events["penalty"].sum() - summary["from_fund"]
    assert done.bars["fund"].iloc[-1] == pytest.approx(fund + gained, rel=1e-9, abs=1e-6)
    assert (done.bars["fund"] >= 0).all()


def test_imbalance_notices_a_cent_from_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from calibrator.backtest import cascade as module  # noqa: PLC0415

    whole = module.fast_replay

    def generous(*args: object, **more: object) -> object:
        done = whole(*args, **more)  # type: ignore[arg-type]
        done.events["payout"] += 0.01 * (done.events["payout"] > 0)
        return done

    shock = Shock((-0.05, -0.02), 2e6)
    monkeypatch.setattr(module, "fast_replay", generous)
    assert cascade(crowd(1), shock, margin=0.05, fund=0).bars["imbalance"].max() > 1e-9


def test_a_cascade_goes_further_than_its_shock() -> None:
    shock = Shock((-0.04, 0.0, 0.0), 2e6)
    done = cascade(crowd(2), shock, margin=0.05, fund=0.0)
    calm = cascade(crowd(2), Shock((-0.04, 0.0, 0.0), 1e12), margin=0.05, fund=0.0)
    assert done.summary()["overshoot"] > 0.05
    assert calm.summary()["overshoot"] < 1e-5
    assert done.summary()["accounts"] > calm.summary()["accounts"]
    assert done.summary()["shortfall"] > calm.summary()["shortfall"]


def test_the_ladder_loses_less_and_a_fund_runs_dry_once() -> None:
    shock = Shock((-0.05, -0.03, 0.0), 1e8)
    once = cascade(crowd(4), shock, margin=0.08, fund=1e9, way=AT_ONCE).summary()
    ladder = cascade(crowd(4), shock, margin=0.08, fund=1e9, way=LADDER).summary()
    assert ladder["liquidated"] < once["liquidated"]
    assert ladder["shortfall"] < once["shortfall"]
    assert ladder["overshoot"] < once["overshoot"]
    assert once["exhausted_in"] == -1
    poor = cascade(crowd(3), Shock((-0.1, 0.0), 2e6), margin=0.05, fund=100.0).summary()
    assert poor["exhausted_in"] == 1
    assert poor["deleveraged"] > 0


def test_convexity_names_the_limit() -> None:
    steps = (0.0, 0.2, 0.4, 0.6, 0.8)
    table = convexity(crowd(4), Shock((-0.05, -0.03, 0.0), 1e8), margin=0.08, fund=1e5, compressions=steps)
    for name in ("at once", "ladder"):
        own = table.loc[name]
        lost = own["deleveraged"] + own["uncovered"]
        assert own["margin"].is_monotonic_decreasing
        assert lost.is_monotonic_increasing
        assert own["liquidated"].iloc[-1] > own["liquidated"].iloc[0]
    limit = stability_limit(table)
    assert set(limit.index) == {"at once", "ladder"}
    assert limit["ladder"] > limit["at once"]
    assert stability_limit(table, lost=1e9).isna().all()


BAD = [
    (lambda: Book(np.ones(2), np.ones(1), np.ones(2)), "must have one length"),
    (lambda: Book(np.array([0.0]), np.ones(1), np.ones(1)), "notional must be positive"),
    (lambda: Book(np.ones(1), np.ones(1), np.array([0.5])), "cushion must be at least 1, the least was 0.5"),
    (lambda: Book(np.ones(1), np.zeros(1), np.ones(1)), "direction must be"),
    (lambda: Shock((), 1.0), "moves must hold at least one finite log return"),
    (lambda: Shock((-0.1,), 0.0), "depth and scale must be positive"),
    (lambda: cascade(crowd(1), Shock((-0.1,), 1.0), margin=1.2, fund=0), "margin must lie between 0 and 1"),
    (
        lambda: cascade(crowd(1), Shock((-0.1,), 1.0), margin=0.1, fund=0, compression=1.0),
        r"compression must lie in \[0, 1\), was 1.0",
    ),
]


@pytest.mark.parametrize(("make", "match"), BAD, ids=range(len(BAD)))
def test_bad_input(make: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()  # type: ignore[operator]
