from datetime import date

import pytest

from calibrator.data.events import EVENTS, StressEvent, events_between


def test_the_catalogue_is_ordered_unique_and_sourced() -> None:
    starts = [e.start for e in EVENTS]
    assert starts == sorted(starts)
    assert len({e.name for e in EVENTS}) == len(EVENTS) >= 30
    assert all(len(e.source) > 15 and len(e.what) > 20 for e in EVENTS)


ASKED = {
    "index of the crisis year": (date(2008, 1, 1), date(2008, 12, 31), ["SPX"], ["Lehman"]),
    "a day in the middle": (date(2008, 10, 10), date(2008, 10, 10), ["WTI"], ["Lehman"]),
    "crypto pair": (date(2022, 5, 1), date(2022, 6, 30), ["BTCUSDT"], ["Terra", "Celsius and Three Arrows"]),
    "only its own coin": (date(2023, 7, 1), date(2023, 8, 1), ["CRVUSDT"], ["Curve exploit"]),
    "not another coin": (date(2023, 7, 1), date(2023, 8, 1), ["BTCUSDT"], []),
    "a quote that is itself an asset": (date(2023, 3, 1), date(2023, 3, 31), ["USDC"], ["USDC depeg"]),
    "oil in 2020": (date(2020, 4, 1), date(2020, 4, 30), ["OIL"], ["Negative oil"]),
    "last day counts": (date(2022, 5, 13), date(2022, 5, 14), ["LUNA"], ["Terra"]),
    "first day counts": (date(2022, 5, 1), date(2022, 5, 7), ["LUNA"], ["Terra"]),
    "the day after does not": (date(2022, 5, 14), date(2022, 5, 20), ["LUNA"], []),
}


@pytest.mark.parametrize(("start", "end", "assets", "names"), ASKED.values(), ids=ASKED.keys())
def test_events_are_found_by_period_and_asset(
    start: date, end: date, assets: list[str], names: list[str]
) -> None:
    assert [e.name for e in events_between(start, end, assets)] == names


def test_every_group_has_events_and_some_misses_are_expected() -> None:
    for group in ("EQUITY", "OIL", "CRYPTO"):
        assert len(events_between(date(1986, 1, 1), date(2025, 6, 30), [group])) >= 5
    missed = {e.name for e in EVENTS if e.expected_miss}
    assert {"Curve exploit", "DAI oracle spike", "September 11"} <= missed
    assert "Lehman" not in missed


def test_wrong_periods_are_refused() -> None:
    with pytest.raises(ValueError, match="end must not be before start"):
        events_between(date(2020, 1, 2), date(2020, 1, 1), ["SPX"])
    with pytest.raises(ValueError, match="before it starts"):
        StressEvent("x", date(2020, 1, 2), date(2020, 1, 1), "w", "s", ("SPX",))
    with pytest.raises(ValueError, match="must affect something"):
        StressEvent("x", date(2020, 1, 1), date(2020, 1, 1), "w", "s", ())


def test_a_pair_counts_as_its_legs_and_a_dollar_is_no_asset() -> None:
    names = {
        e.name for e in events_between(date(2018, 1, 1), date(2018, 12, 31), ["WTI/USD@demo", "WTI/SPX@x"])
    }
    assert "Bitcoin Cash fork" not in names
    assert "Volmageddon" in names
    assert events_between(date(2018, 11, 1), date(2018, 12, 1), ["BTCUSDT/USD@x"])
