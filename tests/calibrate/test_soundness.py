"""Standing prices and lost inputs: flagged as early as they can be told from calm, by the past alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibrator.calibrate.soundness import frozen, standing, within

Array = np.ndarray
closes = st.integers(1, 60).flatmap(lambda n: arrays(float, n, elements=st.sampled_from([99.0, 100.0])))


def prices(close: Array, ranged: Array) -> tuple[Array, Array, Array]:
    return close + ranged, close - ranged, close


def by_hand(high: Array, low: Array, close: Array, *, cadence: int, stuck: int, month: int) -> list[bool]:
    """The rule bar by bar, with its own loops."""
    out, runs = [], []
    for t in range(len(close)):
        n = 0
        while t - n >= 1 and high[t - n] == low[t - n] == close[t - n] == close[t - n - 1]:
            n += 1
        ever = any(high[k] > low[k] for k in range(t + 1))
        few = max(1, cadence // 8) if ever else max(2, cadence // 8)
        runs.append(n >= (stuck if ever else stuck - 1))
        out.append(n >= min(few, stuck) or any(runs[max(0, t - month + 1) :]))
    return out


@given(closes, st.data(), st.sampled_from([1, 8, 24]), st.integers(2, 24), st.integers(1, 30))
def test_flags_are_those_of_the_rule_spelled_out(
    close: Array, data: st.DataObject, cadence: int, stuck: int, month: int
) -> None:
    wide = data.draw(arrays(float, len(close), elements=st.sampled_from([0.0, 0.0, 0.0, 0.5])))
    given_prices = prices(close, wide)
    found = frozen(given_prices, cadence=cadence, stuck=stuck, month=month)
    assert found.tolist() == by_hand(*given_prices, cadence=cadence, stuck=stuck, month=month)
    cut = data.draw(st.integers(0, len(close)))
    before = tuple(x[:cut] for x in given_prices)
    assert frozen(before, cadence=cadence, stuck=stuck, month=month).tolist() == found[:cut].tolist()


@pytest.mark.parametrize(
    ("cadence", "ranged", "first"),
    [(1, 0.5, 0), (1, 0.0, 1), (24, 0.5, 2), (24, 0.0, 2), (1440, 0.5, 23)],
)
def test_a_frozen_feed_is_flagged_from_its_first_bars_to_the_end(
    cadence: int, ranged: float, first: int
) -> None:
    close = np.concatenate([100 + np.arange(50) % 7, np.full(40, 103.0)]).astype(float)
    close[49] = 103.0
    wide = np.where(np.arange(90) < 50, ranged, 0.0)
    found = frozen(prices(close, wide), cadence=cadence, stuck=24, month=22)
    assert not found[: 50 + first].any()
    assert found[50 + first :].all()


def test_trading_at_one_price_inside_a_range_is_no_frozen_feed() -> None:
    close = np.full(30, 7.0)
    assert standing(prices(close, np.full(30, 0.5))).max() == 0
    assert standing(prices(close, np.zeros(30))).tolist() == list(range(30))


@given(arrays(bool, st.integers(0, 40)), st.integers(1, 12))
def test_a_window_holds_a_flag_as_long_as_it_covers_it(flags: Array, rows: int) -> None:
    expected = [bool(flags[max(0, t - rows + 1) : t + 1].any()) for t in range(len(flags))]
    assert within(flags, rows).tolist() == expected
