"""The ladder restores its target exactly and stands in order; bad ladders are refused by name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.calibrate.ladder import Ladder, Rung, build_ladder, restoring_fraction
from calibrator.domain import PPM
from calibrator.errors import InfeasibleScheduleError


@settings(max_examples=150)
@given(
    st.integers(1_000, 400_000),
    st.integers(2_000, 400_000),
    st.integers(0, 6),
    st.floats(0.0, 0.9),
    st.floats(0.05, 0.95),
)
def test_every_rung_restores_the_target_from_its_threshold(
    maintenance: int, room: int, rungs: int, share: float, reach: float
) -> None:
    target = maintenance + room
    cost = share * target / PPM
    ladder = build_ladder(maintenance, target, rungs=rungs, cost=cost, reach=reach)
    assert len(ladder.rungs) == rungs
    thresholds = [r.threshold_ppm for r in ladder.rungs]
    assert thresholds == sorted(thresholds, reverse=True)
    assert all(maintenance < t < target for t in thresholds)
    fractions = [r.fraction_ppm for r in ladder.rungs]
    assert fractions == sorted(fractions)  # the later, the more must be closed
    for rung in ladder.rungs:
        closed = rung.fraction_ppm / PPM
        if rung.fraction_ppm < PPM - 1:
            after = (rung.threshold_ppm / PPM - cost * closed) / (1 - closed)
            assert after >= target / PPM - 1e-9  # rounded up: at or above the target
            less = closed - 1 / PPM
            assert (rung.threshold_ppm / PPM - cost * less) / (1 - less) <= target / PPM + 1e-9


@settings(max_examples=150)
@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.02, 1.0), st.floats(0.0, 0.019))
def test_the_worse_the_ratio_and_the_dearer_the_closing_the_more_is_closed(
    a: float, b: float, target: float, cost: float
) -> None:
    low, high = sorted((a, b))
    assert restoring_fraction(low, target=target, cost=cost) >= restoring_fraction(
        high, target=target, cost=cost
    )
    assert restoring_fraction(low, target=target, cost=0.019) >= restoring_fraction(
        low, target=target, cost=cost
    )
    assert 0.0 <= restoring_fraction(a, target=target, cost=cost) <= 1.0


def test_no_rungs_is_all_at_once() -> None:
    assert build_ladder(50_000, 100_000, rungs=0, cost=0.5).rungs == ()


BAD = {
    "no room": ((50_000, 50_001, 3, 0.01), "3 rungs need room between maintenance margin 50000 ppm"),
    "target below": (
        (50_000, 40_000, 1, 0.01),
        "need room between maintenance margin 50000 ppm and target 40000",
    ),
    "too dear": ((50_000, 100_000, 1, 0.10), "costs 100000 ppm cannot restore a target of 100000 ppm"),
}


@pytest.mark.parametrize(("given_", "text"), BAD.values(), ids=BAD)
def test_a_ladder_that_cannot_stand_is_infeasible(given_: tuple[int, int, int, float], text: str) -> None:
    maintenance, target, rungs, cost = given_
    with pytest.raises(InfeasibleScheduleError, match=text):
        build_ladder(maintenance, target, rungs=rungs, cost=cost)


WRONG = {
    "thresholds rise": ((60_000, 70_000), (1, 2), "must fall and be positive"),
    "threshold at the target": ((100_000,), (1,), "must fall and be positive"),
    "threshold at the maintenance margin": ((50_000,), (1,), "must fall and be positive"),
    "nothing closed": ((60_000,), (0,), "fraction must lie between 0 and 1000000 ppm, was 0"),
    "everything closed": ((60_000,), (PPM,), "fraction must lie between 0 and 1000000 ppm, was 1000000"),
}


@pytest.mark.parametrize(("thresholds", "fractions", "text"), WRONG.values(), ids=WRONG)
def test_an_inconsistent_ladder_cannot_exist(
    thresholds: tuple[int, ...], fractions: tuple[int, ...], text: str
) -> None:
    rungs = tuple(Rung(t, f) for t, f in zip(thresholds, fractions, strict=True))
    with pytest.raises(ValueError, match=text):
        Ladder(100_000, 50_000, rungs)


@pytest.mark.parametrize(("rungs", "reach"), [(-1, 0.5), (1, 0.0), (1, 1.0)])
def test_wrong_arguments_are_the_callers_bug(rungs: int, reach: float) -> None:
    with pytest.raises(ValueError, match="rungs must not be negative and reach between 0 and 1"):
        build_ladder(50_000, 100_000, rungs=rungs, cost=0.01, reach=reach)
    with pytest.raises(ValueError, match="cost must be at least 0 and below the target"):
        restoring_fraction(0.05, target=0.1, cost=0.1)
