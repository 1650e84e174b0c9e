"""Funding, open interest and liquidations are learned from only where the configuration says so."""

import numpy as np
import pandas as pd

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from calibrator.feeds import Feeds
from calibrator.positioning import PREFIX
from pipelines.forecasting import Forecasts, forecast_all
from pipelines.production import clock_of, parameters_at

SETTINGS = {
    "data": {"source": "embedded", "bar": "1d"},
    "forecast": {
        "horizon": 1, "cadence": 1, "har_window": 250, "garch_window": 250, "learner_seeds": 1,
        "learner_refit": 400, "min_history": 200,
    },
    "regime": {"window": 200, "min_window": 100},
}  # fmt: skip
BARS = synthetic_bars(["A", "B"], periods=640, seed=3, bar="1d")
QUOTES = pd.DataFrame(
    {
        "market": pd.Series(dtype="str"),
        "time": pd.Series(dtype="datetime64[us, UTC]"),
        "implied_volatility": pd.Series(dtype="float64"),
    }
)


def rates() -> Feeds:
    time = BARS.loc[BARS["market"] == "A", "time"]
    rate = np.random.default_rng(1).normal(1e-4, 1e-4, len(time))
    funding = {"market": "A", "time": time, "known_at": time, "rate": rate, "interval_hours": 8.0}
    return Feeds(pd.DataFrame(funding), Feeds.none().open_interest, Feeds.none().liquidations)


def run(*, positioning: bool, feeds: Feeds | None) -> Forecasts:
    settings = SETTINGS | {"forecast": SETTINGS["forecast"] | {"positioning": positioning}}
    config = Config.model_validate(settings)
    silent = {"progress": lambda *_: None, "feeds": feeds}
    return forecast_all(BARS, QUOTES, config=config, clock=clock_of(config), **silent)


def test_feeds_count_only_where_they_are_switched_on() -> None:
    off, without, on = (
        run(positioning=p, feeds=f) for p, f in ((False, rates()), (False, None), (True, rates()))
    )
    pd.testing.assert_frame_equal(off.experts, without.experts, check_exact=True)
    assert not any(c.startswith(PREFIX) for c in off.features)
    assert f"{PREFIX}funding" in on.features
    assert off.experts["pooled"].notna().any()
    assert not on.experts["pooled"].equals(off.experts["pooled"])


def test_parameters_at_a_time_read_no_feed_that_was_not_known_then() -> None:
    sections = {"forecast": SETTINGS["forecast"] | {"learner_refit": 120}}
    sections["margin"] = {"close_out": 1, "stress": {"crowded_share": 0.5}}
    config = Config.model_validate(SETTINGS | sections)
    cut = BARS["time"].iloc[520]
    time = BARS.loc[BARS["market"] == "A", "time"]
    held = {"market": "A", "time": time, "known_at": time + pd.Timedelta("3D"), "open_interest": np.nan}
    notional = np.where(time <= cut - pd.Timedelta("3D"), 1e7, 9e9)

    def at(values: np.ndarray) -> pd.Series:
        feeds = Feeds(
            Feeds.none().funding,
            pd.DataFrame(held | {"open_interest_notional": values}),
            Feeds.none().liquidations,
        )
        given = {"as_of": cut.to_pydatetime(), "feeds": feeds, "progress": lambda *_: None}
        return parameters_at(config, BARS, QUOTES, **given)["A"]

    found = at(notional)
    assert found["crowd"] == 5e6
    pd.testing.assert_series_equal(found, at(np.where(notional < 1e9, notional, 1.0)), check_exact=True)
    assert at(np.full(len(time), 9e9))["margin_long"] > found["margin_long"]
