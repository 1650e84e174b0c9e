"""The combination against a loop that starts afresh at every origin."""

import math

import numpy as np
import pandas as pd
import pytest

from calibrator.forecast.combination import LARGEST_LOSS, combine
from calibrator.scores import qlike

OPTIONS = {"memory": 0.9, "rate": 0.7, "floor": 0.05}
World = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


def world(*, sessions: bool, seed: int) -> World:
    """Two markets of 50 origins; with sessions, outcomes of one origin arrive on different days."""
    rng = np.random.default_rng(seed)
    time = pd.date_range("2024-01-01", periods=50, tz="UTC").as_unit("us")
    rows = pd.DataFrame({"market": np.repeat(["A", "B"], 50), "time": time.append(time)})
    variance = np.exp(rng.normal(-8, 1, 100))
    variance[rng.random(100) < 0.1] = np.nan
    wait = rng.integers(1, 6, 100) if sessions else np.full(100, 3)
    targets = pd.DataFrame(
        {"future_variance": variance, "known_at": rows["time"] + pd.to_timedelta(wait, unit="D")}
    )
    experts = pd.DataFrame(
        {name: np.exp(rng.normal(-8 + bias, 0.4, 100)) for name, bias in (("a", 0), ("b", 0.7), ("c", -4))}
    )
    experts.loc[rng.random(100) < 0.1, "b"] = np.nan
    experts.loc[60, :] = np.nan
    return experts, rows, targets


def plain(experts: pd.DataFrame, rows: pd.DataFrame, targets: pd.DataFrame) -> tuple[list, dict]:
    weights, out = {}, []
    for now in sorted(set(rows["time"])):
        loss = dict.fromkeys(experts.columns, 0.0)
        for arrival in sorted(set(targets["known_at"])):
            if arrival > now:
                break
            arrived = [
                i
                for i in experts.index
                if targets["known_at"][i] == arrival
                and targets["future_variance"][i] > 0
                and experts.loc[i].notna().all()
            ]
            if not arrived:
                continue
            mean = {
                name: min(
                    LARGEST_LOSS,
                    float(np.mean([qlike(targets["future_variance"][i], experts[name][i]) for i in arrived])),
                )
                for name in experts.columns
            }
            loss = {n: OPTIONS["memory"] * loss[n] + mean[n] - min(mean.values()) for n in loss}
        raw = {n: math.exp(-OPTIONS["rate"] * loss[n]) for n in loss}
        spare = 1 - OPTIONS["floor"] * len(raw)
        weights[now] = {n: OPTIONS["floor"] + spare * raw[n] / sum(raw.values()) for n in raw}
    for i in experts.index:
        own = {n: w for n, w in weights[rows["time"][i]].items() if experts[n][i] > 0}
        total = sum(own.values())
        logs = sum(w / total * math.log(experts[n][i]) for n, w in own.items())
        out.append(math.exp(logs) if own else math.nan)
    return out, weights


@pytest.mark.parametrize("sessions", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_weights_and_forecast_equal_a_plain_loop(sessions: bool, seed: int) -> None:  # noqa: FBT001
    experts, rows, targets = world(sessions=sessions, seed=seed)
    variance, weights = combine(experts, rows, targets, **OPTIONS)
    expected, by_origin = plain(experts, rows, targets)
    np.testing.assert_allclose(variance, expected, rtol=1e-12)
    np.testing.assert_allclose(weights, pd.DataFrame(by_origin).T[weights.columns], rtol=1e-10)
    assert list(weights.index) == sorted(set(rows["time"]))
    assert np.isnan(variance[60])


@pytest.mark.parametrize("sessions", [False, True])
def test_what_is_not_known_yet_counts_in_no_way(sessions: bool) -> None:  # noqa: FBT001
    experts, rows, targets = world(sessions=sessions, seed=3)
    whole, _ = combine(experts, rows, targets, **OPTIONS)
    for cut in rows["time"].unique()[[10, 25, 40]]:
        past = rows["time"] <= cut
        known = targets["known_at"] <= cut
        # What a run at that time believes: the value is missing, and its arrival was only estimated.
        early = targets["known_at"].where(known, rows["time"] + pd.Timedelta("1D"))
        believed = pd.DataFrame(
            {"future_variance": targets["future_variance"].where(known), "known_at": early}
        )
        seen, _ = combine(experts[past], rows[past], believed[past], **OPTIONS)
        pd.testing.assert_series_equal(seen, whole[past], check_exact=True)


def test_the_better_expert_wins_and_the_other_keeps_its_floor() -> None:
    _, rows, targets = world(sessions=False, seed=4)
    truth = targets["future_variance"].fillna(1e-4)
    experts = pd.DataFrame({"good": truth, "bad": truth * 8})
    _, weights = combine(experts, rows, targets, memory=0.99, rate=1.0, floor=0.02)
    assert weights.iloc[0].tolist() == [0.5, 0.5]
    assert weights["good"].iloc[-1] == pytest.approx(0.98, abs=1e-6)
    assert weights["good"].is_monotonic_increasing


def test_equal_experts_are_returned_as_they_are() -> None:
    experts, rows, targets = world(sessions=False, seed=5)
    same = pd.DataFrame(dict.fromkeys("xyz", experts["a"]))
    variance, _ = combine(same, rows, targets, **OPTIONS)
    np.testing.assert_allclose(variance, same["x"], rtol=1e-12)


@pytest.mark.parametrize("floor", [-0.1, 0.4, float("nan")])
def test_floors_that_exceed_one_together_are_refused(floor: float) -> None:
    experts, rows, targets = world(sessions=False, seed=6)
    with pytest.raises(ValueError, match="floor must lie between 0 and 1 / 3 experts"):
        combine(experts, rows, targets, memory=0.9, rate=1.0, floor=floor)
