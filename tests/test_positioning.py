"""Positioning features: right values, known only when knowable, nothing where a feed is silent."""

import numpy as np
import pandas as pd
import pytest

from calibrator.feeds import Feeds
from calibrator.positioning import COLUMNS, PREFIX, join_positioning

DAY = pd.Timedelta("1D")
START = pd.Timestamp("2024-01-01", tz="UTC")
NONE = Feeds.none()


def rows(days: int = 60, markets: tuple[str, ...] = ("A", "B")) -> pd.DataFrame:
    parts = [
        pd.DataFrame({"market": m, "time": pd.date_range(START, periods=4 * days, freq="6h", tz="UTC")})
        for m in markets
    ]
    return pd.concat(parts, ignore_index=True)


def feeds(seed: int = 1, days: int = 60) -> Feeds:
    """Market A has every feed, a day late; B has none."""
    rng = np.random.default_rng(seed)
    time = pd.date_range(START, periods=days, freq="1D", tz="UTC")
    base = pd.DataFrame({"market": "A", "time": time, "known_at": time + DAY})
    interest = base.assign(open_interest=rng.uniform(90, 110, days), open_interest_notional=np.nan)
    funding = base.assign(rate=rng.normal(1e-4, 1e-4, days), interval_hours=8.0)
    sides = [
        base.assign(
            event_id=[f"{side}-{i}" for i in range(days)],
            liquidated_side=side,
            quantity=np.nan,
            price=np.nan,
            notional=rng.exponential(1e6, days),
            multiplicity=1,
        )
        for side in ("long", "short")
    ]
    return Feeds(funding, interest, pd.concat(sides, ignore_index=True))


def test_every_column_is_there_and_a_silent_market_has_none() -> None:
    out = join_positioning(rows(), feeds(), cadence=DAY)
    assert [c for c in out if c.startswith(PREFIX)] == [PREFIX + c for c in COLUMNS]
    late = out["time"] > START + 30 * DAY
    assert out.loc[late & (out["market"] == "A"), [PREFIX + c for c in COLUMNS]].notna().all().all()
    assert out.loc[out["market"] == "B", [PREFIX + c for c in COLUMNS]].isna().all().all()


def test_without_feeds_the_features_are_what_they_were() -> None:
    frame = rows()
    pd.testing.assert_frame_equal(join_positioning(frame, NONE, cadence=DAY), frame)


def test_a_plain_loop_gives_the_same_values() -> None:
    frame, given = rows(days=40, markets=("A",)), feeds(days=40)
    out = join_positioning(frame, given, cadence=DAY)
    for _, row in out.iloc[::13].iterrows():
        now = row["time"]

        def known(data: pd.DataFrame, days: float, until: pd.Timestamp = now) -> pd.DataFrame:
            return data[(data["known_at"] <= until) & (data["known_at"] > until - days * DAY)]

        day, month = known(given.funding, 1)["rate"].mean(), known(given.funding, 22)["rate"].mean()
        assert row[PREFIX + "funding"] == pytest.approx(day, nan_ok=True)
        assert row[PREFIX + "funding_change"] == pytest.approx(day - month, nan_ok=True)
        events = known(given.liquidations, 2)
        if len(events):
            longs = events.loc[events["liquidated_side"] == "long", "notional"].sum()
            assert row[PREFIX + "liquidated_long"] == pytest.approx(longs / events["notional"].sum())
            mean = known(given.liquidations, 22)["notional"].sum() * 2 / 22
            assert row[PREFIX + "liquidated"] == pytest.approx(np.log1p(events["notional"].sum() / mean))


def test_a_row_counts_from_when_it_was_knowable() -> None:
    frame, given = rows(), feeds()
    whole = join_positioning(frame, given, cadence=DAY)
    cut = START + 41.5 * DAY
    before = frame["time"] <= cut
    seen = join_positioning(frame[before], given.known(cut), cadence=DAY)
    pd.testing.assert_frame_equal(seen, whole[before], check_exact=True)
    rewritten = Feeds(
        given.funding.assign(rate=given.funding["rate"].where(given.funding["known_at"] <= cut, 0.5)),
        given.open_interest,
        given.liquidations,
    )
    other = join_positioning(frame, rewritten, cadence=DAY)
    pd.testing.assert_frame_equal(other[before], whole[before], check_exact=True)
    assert not other.equals(whole)


def test_funding_of_other_intervals_counts_per_eight_hours() -> None:
    given = feeds()
    hourly = Feeds(
        given.funding.assign(rate=given.funding["rate"] / 8, interval_hours=1.0), *[NONE.funding] * 2
    )
    eight = Feeds(given.funding, *[NONE.funding] * 2)
    mine, theirs = (join_positioning(rows(), f, cadence=DAY) for f in (hourly, eight))
    np.testing.assert_allclose(mine[PREFIX + "funding"], theirs[PREFIX + "funding"])
