"""Crowding and gaps reach a margin only where the configuration asks, and only as far as they were known."""

import numpy as np
import pandas as pd
import pytest

from calibrator.calibrate.crowd import crowd_at
from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from calibrator.feeds import OPEN_INTEREST
from calibrator.frames import conform
from pipelines.add_ons import Observed, book_of, crowd_of, jumps_of
from pipelines.loading import load
from pipelines.production import clock_of

BARS = synthetic_bars(["A"], periods=400, seed=2, bar="1h")
TIMES = pd.DatetimeIndex(BARS["time"].iloc[24::24])
TABLE = pd.DataFrame({"turnover": 2.4e7, "volatility_bar": 0.01}, index=TIMES)


def config(**changes: object) -> Config:
    raw: dict[str, object] = {"data": {"source": "embedded", "bar": "1h", "stale_after": 48}}
    return Config.model_validate(raw | changes)


def feed(notional: list[float], *, units: float = np.nan, late: str = "2h") -> pd.DataFrame:
    time = TIMES[: len(notional)]
    rows = {"market": "A", "time": time, "known_at": time + pd.Timedelta(late), "open_interest": units}
    return conform(pd.DataFrame(rows | {"open_interest_notional": notional}), OPEN_INTEREST, source="test")


def crowd(settings: Config, interest: pd.DataFrame | None = None) -> np.ndarray:
    return crowd_of(Observed(BARS, interest), "A", TIMES, settings)


def widened(settings: Config, interest: pd.DataFrame | None = None) -> np.ndarray:
    table = TABLE.assign(crowd=crowd(settings, interest))
    book = book_of(table, settings.market("A"), config=settings, clock=clock_of(settings))
    return book.widen(np.full(len(TIMES), 0.05), 0.0)


CROWDED = config(margin={"stress": {"crowded_share": 0.5}})


def test_nothing_is_added_unless_it_is_asked_for() -> None:
    assert (widened(config(), feed([1e9] * 5)) == 0.05).all()
    assert (crowd(config(), feed([1e9] * 5)) == 0).all()
    assert all((v == 0).all() for v in jumps_of(BARS, "A", TIMES, config()).values())


def test_a_row_counts_from_when_it_was_known_until_it_is_stale() -> None:
    found = crowd(CROWDED, feed([2e6, 4e6, 6e6]))
    assert np.isnan(found[0])  # of that very time, but known two hours later
    assert found[1:5].tolist() == [1e6, 2e6, 3e6, 3e6]
    assert np.isnan(found[5:]).all()  # 48 bars old
    table = TABLE.assign(crowd=found)
    book = book_of(table, CROWDED.market("A"), config=CROWDED, clock=clock_of(CROWDED))
    assert book.crowd[5:].tolist() == [3e6] * (len(TIMES) - 5)  # the last value holds
    assert book.lost[5:].all()
    assert not book.lost[:5].any()


def test_units_count_at_the_decisions_price() -> None:
    found = crowd(CROWDED, feed([np.nan, np.nan], units=100.0))
    closes = BARS.set_index("time")["close"].reindex(TIMES)
    assert found[1] == pytest.approx(50 * closes.iloc[1])


def test_later_rows_change_nothing_before_they_are_known() -> None:
    cut = 3
    early, whole = (crowd(CROWDED, feed(values)) for values in ([2e6, 4e6], [2e6, 4e6, 9e9, 9e9]))
    np.testing.assert_array_equal(early[:cut], whole[:cut])


def test_the_configured_figure_stands_in_for_a_feed() -> None:
    settings = config(margin={"stress": {"crowded_share": 0.5}}, markets={"A": {"open_interest": 8e6}})
    assert (crowd(settings) == 4e6).all()
    assert (widened(settings) > widened(CROWDED)).all()
    assert (widened(CROWDED) == 0.05).all()  # nothing is known of the open interest


def test_a_crowd_of_which_nothing_is_known_is_a_finding() -> None:
    raw: dict[str, object] = {
        "data": {"source": "embedded", "bar": "1d", "calendar": "sessions", "on_missing": "drop"},
        "margin": {"stress": {"crowded_share": 0.5}},
        "markets": {"SPX": {"open_interest": 1e6}, "WTI": {"role": "reference"}},
    }
    for share, expected in ((0.5, ["NASDAQ"]), (0.0, [])):
        raw["margin"] = {"stress": {"crowded_share": share}}
        found = load(Config.model_validate(raw), as_of=None).findings
        rows = found[found["rule"] == "no open interest"]
        assert rows["market"].tolist() == expected
        assert rows["action"].str.contains("crowd taken as 0").all()


def test_jumps_are_added_to_their_side() -> None:
    jumpy = BARS.copy()
    jumpy["open"] = jumpy["close"].shift(1).fillna(jumpy["open"]) * np.where(np.arange(400) % 3, 1.0, 0.98)
    settings = config(margin={"stress": {"jump_level": 0.9}, "tail_window": 20})
    found = jumps_of(jumpy, "A", TIMES, settings)
    assert found["long"][-1] == pytest.approx(0.02)
    assert found["short"][-1] == pytest.approx(0.0, abs=1e-12)


def test_a_share_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="share must lie between 0 and 1, was 2"):
        crowd_at(feed([1.0]), pd.Series(1.0, TIMES), share=2.0, max_age=pd.Timedelta("1D"))
