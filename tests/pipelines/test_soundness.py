"""Degraded input on the way through the whole composition: margins and haircuts hold or rise."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from calibrator.features import STEPS_LONG
from calibrator.feeds import Feeds
from pipelines.production import Production, produce
from pipelines.soundness import standing, unheard

DAYS = 20
PRICES = ["open", "high", "low", "close"]
RAW: dict[str, object] = {
    "data": {"source": "embedded", "bar": "1d", "stale_after": 5},
    "forecast": {
        "horizon": 1,
        "cadence": 1,
        "har_window": 250,
        "garch_window": 250,
        "learner_seeds": 1,
        "learner_refit": 300,
        "positioning": True,
        "min_history": 200,
    },
    "regime": {"window": 200, "min_window": 100},
    "margin": {
        "close_out": 1,
        "tail_window": 150,
        "tail_min": 60,
        "floor_window": 100,
        "plan_steps": 2,
        "tiers": [0, 10_000, 50_000, 200_000],
    },
    "haircut": {"pairs": [{"collateral": "C", "debt": "A", "location": "x"}]},
    "markets": {"C": {"role": "collateral"}},
}


def stopped(bars: pd.DataFrame, market: str, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    """Repeat a market's last close before ``since`` up to ``until``."""
    own = (bars["market"] == market) & (bars["time"] > since) & (bars["time"] <= until)
    last = bars.loc[(bars["market"] == market) & (bars["time"] <= since), "close"].iloc[-1]
    out = bars.copy()
    out.loc[own, PRICES] = last
    return out


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    made = synthetic_bars([*"ABCDEFG"], periods=480, bar="1d", seed=11)
    late = made["time"] <= made["time"].max() - pd.Timedelta(days=DAYS)
    late &= made["time"] > made["time"].max() - pd.Timedelta(days=DAYS + 30)
    factor = np.exp(
        np.random.default_rng(4).normal(0.0, 0.04, int(late.sum()))
    )  # margins would fall after it
    made.loc[late, PRICES] = made.loc[late, PRICES].mul(factor, axis=0)
    return made


def feeds_of(bars: pd.DataFrame, ends: dict[str, pd.Timestamp]) -> Feeds:
    """Daily funding, open interest and totals of liquidations of all markets; some of them end early."""
    rng = np.random.default_rng(7)
    n = len(bars)
    rows = bars[["market", "time"]].assign(known_at=bars["time"])

    def until(frame: pd.DataFrame, market: str) -> pd.DataFrame:
        return frame[~((frame["market"] == market) & (frame["time"] > ends[market]))].reset_index(drop=True)

    funding = rows.assign(rate=rng.normal(1e-4, 1e-4, n), interval_hours=8.0)
    interest = rows.assign(open_interest=np.nan, open_interest_notional=rng.uniform(1e6, 2e6, n))
    liquidated = rows.assign(
        event_id=np.arange(n).astype(str),
        liquidated_side="long",
        quantity=np.nan,
        price=np.nan,
        notional=np.where(rng.random(n) < 0.2, 0.0, rng.uniform(0, 1e4, n)),
        multiplicity=1,
    )
    return Feeds(until(funding, "E"), until(interest, "F"), until(liquidated, "G"))


@pytest.fixture(scope="module")
def degraded(bars: pd.DataFrame) -> Production:
    """A's price stands still and starts to move again, D to G each lose one input; B keeps everything."""
    end = bars["time"].max()
    gone = end - pd.Timedelta(days=DAYS)
    still = stopped(bars, "A", gone, end - pd.Timedelta(days=4))
    quotes = bars.loc[bars["market"].isin(["B", "D"]), ["market", "time"]].assign(implied_volatility=0.6)
    quotes = quotes[(quotes["market"] == "B") | (quotes["time"] <= gone - pd.Timedelta(days=5))]
    before = gone - pd.Timedelta("1D")  # totals are looked at over two days
    feeds = feeds_of(bars, {"E": gone, "F": gone, "G": before})
    config = Config.model_validate(RAW)
    return produce(still, quotes, config=config, progress=lambda *_: None, feeds=feeds)


@pytest.mark.parametrize("entry", ["A", "C/A@x", "D", "E", "F", "G"])
def test_lost_input_lowers_nothing(degraded: Production, entry: str) -> None:
    d = degraded.decisions[entry]
    last = d.table.iloc[-DAYS:]
    assert not last["complete"].any()
    assert last["goal_long"].min() < 0.95 * last["goal_long"].iloc[0], "nothing to hold"
    for side in ["long"] if d.terms.role == "collateral" else ["long", "short"]:
        assert (np.diff(d.table[f"margin_{side}"].to_numpy()[-DAYS - 1 :]) >= 0).all()


def test_the_other_markets_go_on(degraded: Production) -> None:
    assert degraded.decisions["B"].table["complete"].iloc[-DAYS:].all()
    assert (np.diff(degraded.decisions["B"].margin[-DAYS:]) < 0).any()


@pytest.mark.parametrize("kind", range(3))
def test_a_feed_that_came_back_counts_when_its_month_is_whole(bars: pd.DataFrame, kind: int) -> None:
    names = ("funding", "open_interest", "liquidations")
    feeds = feeds_of(bars, dict.fromkeys("EFG", bars["time"].max()))
    start, decided = bars["time"].min(), bars[["market", "time"]]
    gap = (start + pd.Timedelta(days=100), start + pd.Timedelta(days=110))
    frame = getattr(feeds, names[kind])
    away = (frame["market"] == "B") & (frame["time"] >= gap[0]) & (frame["time"] < gap[1])
    config = Config.model_validate(RAW)
    holed = replace(feeds, **{names[kind]: frame[~away].reset_index(drop=True)})
    flags = unheard(decided, holed, config=config)
    found = decided["time"][flags]
    assert set(decided["market"][flags]) == {"B"}
    first = gap[0] + pd.Timedelta(days=int(kind == 2))
    assert (found.min(), found.max()) == (first, gap[1] + pd.Timedelta(days=STEPS_LONG - 2))
    assert len(found) == (found.max() - found.min()).days + 1
    assert not unheard(decided, feeds, config=config).any()
    cut = start + pd.Timedelta(days=105)
    seen = unheard(decided[decided["time"] <= cut], holed.known(cut), config=config)
    pd.testing.assert_series_equal(seen, flags[seen.index])


def test_rare_events_are_silent_only_when_they_never_were_before(bars: pd.DataFrame) -> None:
    time = bars["time"].iloc[:200].reset_index(drop=True)
    events = feeds_of(bars, dict.fromkeys("EFG", time[199])).liquidations.iloc[:0]
    at = [0, 9, 18, 19, 40]  # days
    rows = {"market": "B", "time": time[at], "known_at": time[at], "event_id": [*"abcde"]}
    rows |= {
        "liquidated_side": "long",
        "quantity": np.nan,
        "price": np.nan,
        "notional": 5.0,
        "multiplicity": 1,
    }
    decided = pd.DataFrame({"market": "B", "time": time})
    feeds = replace(Feeds.none(), liquidations=pd.concat([events, pd.DataFrame(rows)]))
    flags = unheard(decided, feeds, config=Config.model_validate(RAW)).to_numpy()
    assert not flags[[0, 1]].any()
    assert flags[2:9].all()  # the first silence is the longest there ever was
    quiet = [*range(2, 9), *range(29, 40), *range(62, 200)]
    expected = [any(t - k in quiet for k in range(STEPS_LONG)) for t in range(200)]
    assert flags.tolist() == expected


def test_flags_are_those_that_were_known(bars: pd.DataFrame) -> None:
    config = Config.model_validate(RAW)
    end = bars["time"].max()
    still = stopped(bars, "A", end - pd.Timedelta(days=60), end - pd.Timedelta(days=50))
    decided = still[["market", "time"]]
    whole = standing(decided, still, config=config)
    assert whole.groupby(decided["market"]).sum().to_dict() == {"A": 10 + 21} | dict.fromkeys("BCDEFG", 0)
    for days in (70, 55, 51, 40, 30):
        cut = decided["time"] <= end - pd.Timedelta(days=days)
        pd.testing.assert_series_equal(standing(decided[cut], still[cut], config=config), whole[cut])


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "least"), [("binance_perp_1h", 20_000), ("binance_spot_1h", 100_000)])
def test_hourly_prices_of_a_liquid_venue_hardly_ever_stand_still(name: str, least: int) -> None:
    folder = os.environ.get("CALIBRATOR_DATA")
    if not folder:
        pytest.skip("CALIBRATOR_DATA names no folder of historical files")
    bars = pd.read_parquet(Path(folder) / "bars" / f"{name}.parquet").rename(columns={"symbol": "market"})
    bars = bars.sort_values(["market", "time"], kind="stable").reset_index(drop=True)
    decided = bars.loc[bars["time"].dt.hour == 23, ["market", "time"]]  # the bar that ends at midnight
    flags = standing(decided, bars, config=Config.model_validate({"data": {"source": "embedded"}}))
    assert len(flags) > least
    assert flags.mean() < 1e-4
