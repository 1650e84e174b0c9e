"""One contract for every forecaster: positive, scale-free, and blind to what comes later."""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import pytest

from calibrator.features import Clock, build_features, future_variance
from calibrator.forecast.base import VarianceForecaster, walk_forward
from calibrator.forecast.combination import combine
from calibrator.forecast.design import design
from calibrator.forecast.ewma import Ewma
from calibrator.forecast.garch import Garch, GarchState
from calibrator.forecast.har import Har, strong_har
from calibrator.forecast.lgbm import Boosted
from calibrator.forecast.pooled import Pooled

CLOCK = Clock(step=pd.Timedelta("6h"), cadence=4, horizon=4)
KEY = ["market", "time"]
Maker = Callable[[], VarianceForecaster]
Run = Callable[[pd.DataFrame], pd.Series]
Check = Callable[[Run, pd.DataFrame, list[pd.Timestamp]], None]


def garch(spec: str, errors: str) -> Callable[[], VarianceForecaster]:
    memory: MutableMapping[str, GarchState] = {}
    return lambda: Garch(spec=spec, errors=errors, window=250, memory=memory)


@dataclass(frozen=True)
class Case:
    """How a forecaster is run: a maker per run, on decisions or on design rows."""

    maker: Callable[[], Callable[[], VarianceForecaster]]
    learned: bool = False


CASES = {
    "ewma": Case(lambda: lambda: Ewma(decay=0.94, scale=1.0)),
    "har": Case(lambda: lambda: Har(steps=1, window=250)),
    "har_strong": Case(lambda: lambda: strong_har(steps=1, window=250)),
    "garch": Case(lambda: garch("garch", "normal")),
    "gjr_t": Case(lambda: garch("gjr", "t")),
    "pooled": Case(lambda: lambda: Pooled(steps=1, penalty=100.0), learned=True),
    "lightgbm": Case(lambda: lambda: Boosted(steps=1, rounds=25, seeds=1), learned=True),
}


def rows_of(bars: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    features = build_features(bars, clock=CLOCK)
    return features, future_variance(bars, features, clock=CLOCK)


def designed(features: pd.DataFrame) -> pd.DataFrame:
    core = Har(steps=1, window=250).forecast(features)
    return design(features, core, cadence=CLOCK.cadence, steps=1)


def keyed(values: pd.Series, features: pd.DataFrame) -> pd.Series:
    return values.set_axis(pd.MultiIndex.from_frame(features.loc[values.index, KEY]))


def run_case(case: Case, bars: pd.DataFrame) -> pd.Series:
    features, targets = rows_of(bars)
    if case.learned:
        rows, refit, start = designed(features), 240, 200
    else:
        rows, refit, start = features[features["phase"] == 0], 60, 260
    made = walk_forward(
        case.maker(), rows, targets.loc[rows.index], refit=refit, start=start, rowwise=case.learned
    )
    return keyed(made, features)


def run_combination(bars: pd.DataFrame) -> pd.Series:
    features, targets = rows_of(bars)
    decisions = features[features["phase"] == 0]
    experts = pd.DataFrame({d: Ewma(decay=d, scale=1.0).forecast(decisions) for d in (0.8, 0.94)})
    experts = experts.assign(har=Har(steps=1, window=250).forecast(decisions)).dropna(how="all")
    combined, weights = combine(
        experts,
        decisions.loc[experts.index, ["time"]],
        targets.loc[experts.index],
        memory=0.97,
        rate=0.5,
        floor=0.05,
    )
    assert np.allclose(weights.sum(axis=1), 1.0)
    assert (weights >= 0.05).all(axis=None)
    return keyed(combined, features)


RUNS = {name: (lambda bars, case=case: run_case(case, bars)) for name, case in CASES.items()}
RUNS |= {"combination": run_combination}
every = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


@every
def test_the_past_does_not_depend_on_the_future(
    run: Run, market_bars: pd.DataFrame, cuts: list[pd.Timestamp], assert_causal: Check
) -> None:
    assert_causal(run, market_bars, cuts)


@every
def test_variances_are_positive_and_finite_on_the_given_rows(run: Run, market_bars: pd.DataFrame) -> None:
    variance = run(market_bars)
    known = variance.dropna()
    assert (known > 0).all()
    assert np.isfinite(known).all()
    assert set(known.index.get_level_values("market")) == {"A", "B", "C"}
    # Once a market has a forecast, it only misses the rows whose own windows touch the gap.
    own = variance["A"].loc[known["A"].index[0] :]
    assert own.notna().mean() > 0.7
    assert variance["A"].notna().iloc[-1]


@pytest.mark.parametrize("name", RUNS)
def test_returns_twice_as_large_have_four_times_the_variance(name: str, market_bars: pd.DataFrame) -> None:
    run = RUNS[name]
    once = run(market_bars)
    twice = run(louder(market_bars, 2.0))
    pd.testing.assert_index_equal(once.index, twice.index)
    ratio = (twice / once).dropna()
    assert len(ratio) == once.notna().sum()
    # The features' absolute floor of a variance touches quiet bars; splits of trees can move with rounding.
    slack = {"lightgbm": 0.25, "pooled": 0.03}.get(name, 2e-3)
    np.testing.assert_allclose(ratio, 4.0, rtol=slack)
    assert np.median(ratio) == pytest.approx(4.0, rel=2e-3)


def louder(bars: pd.DataFrame, factor: float) -> pd.DataFrame:
    """Raise prices to a power: every log return is multiplied, and turnover is kept."""
    prices = ["open", "high", "low", "close"]
    out = bars.copy()
    out[prices] = 100.0 * (bars[prices] / 100.0) ** factor
    out["volume"] = bars["volume"] * bars["close"] / out["close"]
    return out


def test_the_forecast_comes_on_the_index_it_was_asked_for(market_bars: pd.DataFrame) -> None:
    features, targets = rows_of(market_bars)
    odd = pd.Index(np.arange(len(features)) * 7 + 3)
    features, targets = features.set_axis(odd), targets.set_axis(odd)
    rows = designed(features)
    decisions = features[features["phase"] == 0]
    for case in CASES.values():
        own = rows if case.learned else decisions
        fitted = case.maker()().fit(own, targets.loc[own.index, "future_variance"])
        forecast = fitted.forecast(own)
        pd.testing.assert_index_equal(forecast.index, own.index)
        assert forecast.dtype == "float64"


class Centred:
    """A smoother that calls itself a forecaster: the mean of five rows around each row."""

    name = "centred"

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:  # noqa: ARG002
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        return history["realized_variance"].rolling(5, center=True, min_periods=1).mean()


class Standardised:
    """Divides by the mean of all rows it is shown, the later ones included."""

    name = "standardised"

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:  # noqa: ARG002
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        return history["realized_variance"] / history["realized_variance"].mean()


class Peeking:
    """Knows the outcome of the row it forecasts."""

    name = "peeking"

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:  # noqa: ARG002
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        return history.groupby("market")["realized_variance"].shift(-1)


@pytest.mark.parametrize("cheat", [Centred, Standardised, Peeking])
def test_a_forecaster_that_looks_ahead_is_caught(
    cheat: type, market_bars: pd.DataFrame, cuts: list[pd.Timestamp], assert_causal: Check
) -> None:
    case = Case(lambda: cheat)
    with pytest.raises(AssertionError):
        assert_causal(lambda bars: run_case(case, bars), market_bars, cuts)


class Spy:
    """Writes down what it was allowed to learn from."""

    name = "spy"
    calls: list[tuple[pd.Timestamp, pd.Series]]

    def __init__(self, calls: list[tuple[pd.Timestamp, pd.Series]]) -> None:
        self.calls = calls

    def fit(self, history: pd.DataFrame, target: pd.Series) -> Self:
        assert history.index.equals(target.index)
        self.calls.append((history["time"].max(), target))
        return self

    def forecast(self, history: pd.DataFrame) -> pd.Series:
        return pd.Series(float(len(self.calls)), history.index)


@pytest.mark.parametrize(("refit", "start"), [(1, 0), (7, 3), (40, 100)])
def test_a_target_not_known_at_the_refit_is_never_seen(
    refit: int, start: int, market_bars: pd.DataFrame
) -> None:
    features, targets = rows_of(market_bars[market_bars["time"] < "2021-06-01"])
    known_at = targets["known_at"].sample(frac=1.0, random_state=0).set_axis(targets.index)
    targets = targets.assign(known_at=known_at)  # any order of arrival, not only the usual one
    calls: list[tuple[pd.Timestamp, pd.Series]] = []
    made = walk_forward(lambda: Spy(calls), features, targets, refit=refit, start=start)
    origins = np.unique(features["time"])
    assert [t for t, _ in calls] == list(origins[start::refit])
    for cut, target in calls:
        seen = target.notna()
        assert (targets.loc[seen[seen].index, "known_at"] <= cut).all()
        known = (known_at <= cut) & targets["future_variance"].notna() & (features["time"] <= cut)
        assert set(seen[seen].index) == set(known[known].index)
    block = (np.searchsorted(origins, features["time"].to_numpy()) - start) // refit + 1
    expected = pd.Series(block, features.index).where(block > 0).astype(float)
    pd.testing.assert_series_equal(made, expected)


def test_a_history_too_short_for_a_first_fit_has_no_forecast(market_bars: pd.DataFrame) -> None:
    features, targets = rows_of(market_bars.head(40))
    made = walk_forward(lambda: Spy([]), features, targets, refit=5, start=1000)
    assert made.isna().all()


def test_rowwise_is_the_same_for_a_model_of_single_rows(market_bars: pd.DataFrame) -> None:
    features, targets = rows_of(market_bars)
    rows = designed(features)
    runs = [
        walk_forward(
            lambda: Pooled(steps=1), rows, targets.loc[rows.index], refit=300, start=300, rowwise=rowwise
        )
        for rowwise in (False, True)
    ]
    pd.testing.assert_series_equal(*runs, check_exact=True)


def test_progress_counts_every_refit(market_bars: pd.DataFrame) -> None:
    features, targets = rows_of(market_bars.head(400))
    seen: list[tuple[int, int]] = []
    walk_forward(
        lambda: Ewma(decay=0.9, scale=1.0),
        features,
        targets,
        refit=50,
        start=100,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(i, seen[-1][1]) for i in range(1, len(seen) + 1)]
    assert seen[-1][0] == seen[-1][1] > 1


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_decay_outside_its_bounds_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay must lie between 0 and 1"):
        Ewma(decay=decay, scale=1.0)


def test_ewma_is_the_weighted_mean_it_says() -> None:
    rng = np.random.default_rng(1)
    variance = rng.gamma(2.0, 1.0, 30)
    rows = pd.DataFrame({"market": np.repeat(["A", "B"], 15), "realized_variance": variance})
    got = Ewma(decay=0.9, scale=3.0).forecast(rows)
    for i in range(30):
        own = variance[i // 15 * 15 : i + 1][::-1]
        weights = 0.9 ** np.arange(len(own))
        assert got[i] == pytest.approx(3.0 * (weights @ own) / weights.sum(), rel=1e-12)
