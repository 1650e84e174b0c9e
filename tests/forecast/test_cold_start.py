"""A market without history: forecast from its peers, wider tail, never an error or a tighter margin."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from calibrator.domain import SIDES
from calibrator.features import Clock, build_features
from calibrator.forecast.cold_start import LEAST, borrowed_core
from calibrator.forecast.design import design
from calibrator.forecast.har import PLAIN, Har
from pipelines.production import Production, produce

CLOCK = Clock(step=pd.Timedelta("6h"), cadence=4, horizon=8)
STEPS, WINDOW = 2, 250
Run = Callable[[pd.DataFrame], pd.Series]
Check = Callable[[Run, pd.DataFrame, list[pd.Timestamp]], None]
PEERS = ["A", "B", "C", "D"]
DAYS = 330
CONFIG = Config.model_validate(
    {
        "data": {"source": "embedded", "bar": "6h"},
        "forecast": {"horizon": 4, "cadence": 4, "har_window": 250, "garch_window": 250}
        | {"learner_seeds": 1, "learner_refit": 150, "min_history": 80},
        "regime": {"window": 150, "min_window": 60},
        "margin": {"close_out": 4, "tail_window": 150, "tail_min": 100, "floor_window": 150},
    }
)
NO_QUOTES = pd.DataFrame(
    {
        "market": pd.Series(dtype="str"),
        "time": pd.Series(dtype="datetime64[us, UTC]"),
        "implied_volatility": pd.Series(dtype="float64"),
    }
)


def newcomers(bars: pd.DataFrame, days: list[int], *, of: str = "A") -> pd.DataFrame:
    """Add markets whose history is the last days of a peer's."""
    source = bars[bars["market"] == of]
    last = source["time"].iloc[-1]
    parts = [source[source["time"] > last - pd.Timedelta(days=n)].assign(market=f"new {n:02d}") for n in days]
    return pd.concat([bars, *parts], ignore_index=True)


def run(bars: pd.DataFrame) -> Production:
    return produce(bars, NO_QUOTES, config=CONFIG, progress=lambda *_: None)


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    return synthetic_bars(PEERS, periods=4 * DAYS, seed=12, bar="6h")


@pytest.fixture(scope="module")
def without(bars: pd.DataFrame) -> Production:
    return run(bars)


@pytest.fixture(scope="module")
def made(bars: pd.DataFrame) -> Production:
    return run(newcomers(bars, list(range(1, 61))))


def last_of(made: Production, market: str) -> pd.Series:
    return made.decisions[market].table.iloc[-1]


def experts_of(made: Production, markets: list[str]) -> pd.DataFrame:
    rows = made.forecasts.features.loc[made.forecasts.experts.index, ["market", "time"]]
    own = made.forecasts.experts.set_index(pd.MultiIndex.from_frame(rows))
    return own[own.index.get_level_values("market").isin(markets)]


# --- the borrowed core


def core_of(bars: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    features = build_features(bars, clock=CLOCK)
    own = Har(steps=STEPS, window=WINDOW).forecast(features)
    return features, own, borrowed_core(features, own, steps=STEPS, window=WINDOW)


def test_the_borrowed_core_is_one_regression_over_the_outcomes_known_by_then(
    market_bars: pd.DataFrame,
) -> None:
    features, own, lent = core_of(market_bars)
    rows = lent.index[lent.notna()]
    assert set(features.loc[rows, "market"]) >= {"B"}  # began late
    assert own.loc[rows].isna().all()
    series = features.groupby(["market", "phase"], sort=False)
    outcome = np.log(series["trailing_variance"].shift(-STEPS))
    known_at = series["time"].shift(-STEPS)
    times = features["time"].drop_duplicates().sort_values().reset_index(drop=True)
    for row in rows[:: len(rows) // 7]:
        now = features.loc[row, "time"]
        first = times[max(0, times[times == now].index[0] + 1 - 4 * WINDOW)]
        inside = (known_at <= now) & (known_at >= first) & outcome.notna()
        inside &= features[list(PLAIN)].notna().all(axis=1)
        x = np.column_stack([np.ones(inside.sum()), features.loc[inside, list(PLAIN)]])
        beta, residual, *_ = np.linalg.lstsq(x, outcome[inside].to_numpy())
        fit = beta @ np.array([1.0, *features.loc[row, list(PLAIN)]])
        assert lent[row] == pytest.approx(np.exp(fit + residual[0] / inside.sum() / 2), rel=1e-6)


def test_the_borrowed_core_is_blind_to_the_future(market_bars: pd.DataFrame, assert_causal: Check) -> None:
    def lent(bars: pd.DataFrame) -> pd.Series:
        features, own, core = core_of(bars)
        return core.where(own.isna(), own).set_axis(pd.MultiIndex.from_frame(features[["market", "time"]]))

    start = market_bars["time"].iloc[0]
    assert_causal(lent, market_bars, [start + pd.Timedelta(t) for t in ("235D6h", "250D18h", "380D")])


def test_nothing_is_lent_before_a_peer_has_a_core_or_without_a_month(market_bars: pd.DataFrame) -> None:
    features, own, lent = core_of(market_bars)
    known = features.loc[lent.notna(), "time"]
    assert known.isin(features.loc[own.notna(), "time"]).all()
    assert lent[features["har_month"].isna()].isna().all()
    nobody = borrowed_core(features, own * np.nan, steps=STEPS, window=WINDOW)
    assert nobody.isna().all()
    few = features.groupby(["market", "phase"], sort=False).head(22 + 12)
    pretended = few["trailing_variance"].where(few["market"] == "A")
    assert len(few) > LEAST
    assert borrowed_core(few, pretended, steps=STEPS).isna().all()


@pytest.mark.parametrize(("steps", "window"), [(0, 10), (1, 0)])
def test_the_borrowed_core_refuses_nonsense(steps: int, window: int) -> None:
    features = pd.DataFrame({"time": []})
    with pytest.raises(ValueError, match="steps and window must be at least 1, were"):
        borrowed_core(features, pd.Series(dtype=float), steps=steps, window=window)


def test_a_borrowed_row_sees_the_state_of_all_markets_but_is_no_part_of_it(bars: pd.DataFrame) -> None:
    features, own, lent = core_of(newcomers(bars, [45]))
    rows = design(features, own.where(own.notna(), lent), cadence=4, steps=STEPS, own=own.notna())
    alone = design(features, own, cadence=4, steps=STEPS)
    pd.testing.assert_frame_equal(rows.loc[alone.index], alone, check_exact=True)
    new = rows[rows["market"] == "new 45"]
    assert len(new) > 20
    peer = rows[(rows["market"] == "A") & rows["time"].isin(new["time"])]
    wide = [c for c in rows if str(c).startswith(("all_", "lead_"))]
    np.testing.assert_array_equal(new[wide], peer[wide])


# --- the whole production


def test_no_peer_changes_because_of_a_newcomer(made: Production, without: Production) -> None:
    pd.testing.assert_frame_equal(experts_of(made, PEERS), experts_of(without, PEERS), check_exact=True)
    pd.testing.assert_frame_equal(made.forecasts.weights, without.forecasts.weights, check_exact=True)
    for market in PEERS:
        seen, expected = (p.decisions[market].table["probability"] for p in (made, without))
        pd.testing.assert_series_equal(seen, expected, check_exact=True)


def test_every_history_of_one_to_sixty_days_has_a_margin(made: Production) -> None:
    names = [f"new {n:02d}" for n in range(3, 61)]
    assert set(names) <= set(made.decisions)
    for name in names:
        last = last_of(made, name)
        assert 0 < last["margin_long"] <= 1
        assert 0 < last["margin_short"] <= 1
        assert made.decisions[name].table.index[-1] == made.decisions["A"].table.index[-1]


def test_from_a_month_on_the_pooled_model_forecasts(made: Production) -> None:
    for days in (30, 45, 60):
        row = experts_of(made, [f"new {days:02d}"]).iloc[-1]
        peer = experts_of(made, ["A"]).iloc[-1]
        assert row[["pooled", "lightgbm", "combination"]].notna().all()
        assert np.isnan(row["har"])  # the expert is the market's own regression
        # the same prices: the forecast is near that of the peer that knows its past
        assert abs(np.log(row["combination"] / peer["combination"])) < 0.5


@pytest.mark.parametrize("days", [5, 15, 30, 60])
@pytest.mark.parametrize("side", SIDES)
def test_tail_and_margin_are_not_tighter_than_the_peers(made: Production, days: int, side: str) -> None:
    new = last_of(made, f"new {days:02d}")
    peers = pd.DataFrame({m: last_of(made, m) for m in PEERS}).T
    assert new[f"tail_{side}"] > peers[f"tail_{side}"].astype(float).max()
    target = peers[f"unlimited_{side}"] / peers["volatility"]
    assert new[f"unlimited_{side}"] / new["volatility"] > target.astype(float).max()


def goals(made: Production, market: str, side: str) -> float:
    """What the margin moves to, in units of volatility."""
    last = last_of(made, market)
    return float(np.fmax(last[f"unlimited_{side}"], last[f"floor_{side}"]) / last["volatility"])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("days", [5, 15, 30, 60])
def test_the_margin_is_not_below_the_typical_peers_at_equal_volatility(
    made: Production, days: int, side: str
) -> None:
    typical = np.median([goals(made, m, side) for m in PEERS])
    assert goals(made, f"new {days:02d}", side) >= typical


def test_in_a_calm_market_the_floor_of_its_peers_holds_a_newcomer_up(bars: pd.DataFrame) -> None:
    calm = bars.copy()
    start = calm["time"].iloc[-1] - pd.Timedelta("60D")
    for _, own in calm.groupby("market", sort=False):
        later = own.index[own["time"] > start]
        anchor = own.loc[own["time"] <= start, "close"].iloc[-1]
        for column in ("open", "high", "low", "close"):
            calm.loc[later, column] = anchor * (own.loc[later, column] / anchor) ** 0.1
    made = run(newcomers(calm, [30]))
    assert (last_of(made, "A")[["floor_long", "floor_short"]] > 2 * last_of(made, "A")["volatility"]).all()
    for side in SIDES:
        new = last_of(made, "new 30")
        relative = [last_of(made, m)[f"floor_{side}"] / last_of(made, m)["volatility"] for m in PEERS]
        assert new[f"floor_{side}"] / new["volatility"] == pytest.approx(np.median(relative))
        assert new[f"floor_{side}"] > new[f"unlimited_{side}"]
        assert new[f"margin_{side}"] >= new[f"floor_{side}"]
