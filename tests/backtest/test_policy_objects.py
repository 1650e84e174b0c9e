"""One contract for every policy object: one margin per row, causal to the bit; and what each must be."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.backtest.comparators import Filtered, Given, HistoricalSimulation, Policy, Static
from calibrator.backtest.emir import EqualAverage, ExhaustibleBuffer, LongRunFloor, StressedWeight
from calibrator.backtest.incumbents import Tabled, margin_of
from calibrator.backtest.policies import comparators
from calibrator.backtest.seen import Seen
from calibrator.errors import DataError

LEVEL = 0.9
HS = HistoricalSimulation(window=60, min_decisions=40)
FHS = Filtered("ewma", window=90, min_decisions=40)
OBJECTS: dict[str, Policy] = {
    "static": Static(min_decisions=50),
    "historical simulation": HS,
    "ewma": FHS,
    "garch": Filtered("garch", window=90, min_decisions=40),
    "har": Filtered("har", window=90, min_decisions=40),
    "implied": Filtered("implied", window=90, min_decisions=40),
    "buffer": ExhaustibleBuffer(FHS),
    "stressed weight": StressedWeight(FHS, stressed=HS),
    "long-run floor": LongRunFloor(FHS, HistoricalSimulation(window=400, min_decisions=100)),
    "equal average": EqualAverage(FHS, HS, trailing="90D"),
    "table": Tabled("venue", 1e6, {"A": ((0, 10_000), (500_000, 20_000))}),
}
TOOLS = ("buffer", "stressed weight", "long-run floor")


@pytest.fixture
def variances(realized_variance: pd.DataFrame) -> dict[str, pd.DataFrame]:
    v = realized_variance.rename(columns={"realized_variance": "variance"})
    rng = np.random.default_rng(3)
    noise = {name: rng.lognormal(0, 0.3, len(v)) for name in ("ewma", "garch", "har", "implied")}
    return {name: v.assign(variance=v["variance"] * x) for name, x in noise.items()}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("cut", [120, 377, 498])
def test_truncation_changes_nothing(
    name: str, cut: int, losses: pd.DataFrame, variances: dict[str, pd.DataFrame]
) -> None:
    now = losses["origin"].drop_duplicates().sort_values().iloc[cut]
    past = losses[losses["origin"] <= now].copy()
    past["loss"] = past["loss"].where(past["known_at"] <= now)  # what nobody knows yet is not there
    full, seen = (
        Seen.of(losses, variances),
        Seen.of(past, {k: v[v["origin"] <= now] for k, v in variances.items()}),
    )
    every = OBJECTS[name].margins(full, level=LEVEL)
    known = OBJECTS[name].margins(seen, level=LEVEL)
    assert every.shape == (len(full.rows),)
    inside = (full.rows["origin"] <= now).to_numpy()
    pd.testing.assert_frame_equal(seen.rows, full.rows[inside].reset_index(drop=True))
    np.testing.assert_array_equal(known, every[inside])
    assert np.isfinite(known).any()
    assert (known[np.isfinite(known)] > 0).all()


def test_names_are_distinct_and_a_level_must_be_a_probability(
    losses: pd.DataFrame, variances: dict[str, pd.DataFrame]
) -> None:
    assert len({p.name for p in OBJECTS.values()}) == len(OBJECTS)
    seen = Seen.of(losses, variances)
    for name in OBJECTS.keys() - {"table"}:
        with pytest.raises(ValueError, match="level must be between 0 and 1, was 99"):
            OBJECTS[name].margins(seen, level=99)
    with pytest.raises(ValueError, match=r"model must be one of \['ewma', .*\], was 'none'"):
        Filtered("none").margins(seen, level=LEVEL)


def test_objects_are_the_functions(losses: pd.DataFrame, realized_variance: pd.DataFrame) -> None:
    table = comparators(losses, realized_variance, level=LEVEL)
    seen = Seen.of(losses)
    pd.testing.assert_frame_equal(table[["market", "origin", "side"]], seen.rows)
    np.testing.assert_array_equal(table["static"], Static().margins(seen, level=LEVEL))


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_never_lowers_its_base(
    name: str, losses: pd.DataFrame, variances: dict[str, pd.DataFrame]
) -> None:
    seen = Seen.of(losses, variances)
    base, raised = FHS.margins(seen, level=LEVEL), OBJECTS[name].margins(seen, level=LEVEL)
    known = np.isfinite(base)
    assert (np.isfinite(raised) == known).all()
    assert (raised[known] >= base[known]).all()
    assert (raised[known] > base[known]).any()


def test_the_buffer_stands_whole_in_calm_times_and_is_used_up_by_a_jump(losses: pd.DataFrame) -> None:
    seen = Seen.of(losses)
    m = np.full(len(seen.rows), 0.1)
    one = seen.series[0].rows
    m[one.start + 100 : one.start + 105] = 0.2
    held = ExhaustibleBuffer(_given(seen, m)).margins(seen, level=LEVEL)[one]
    assert held[99] == pytest.approx(0.125)
    assert held[100] == pytest.approx(max(0.2, 1.25 * (21 * 0.1 + 0.2) / 22))
    assert held[104] == pytest.approx(0.2)
    assert held[-1] == pytest.approx(0.125)


def test_equal_average_matches_the_reference_over_the_trailing_window(
    losses: pd.DataFrame, variances: dict[str, pd.DataFrame]
) -> None:
    seen = Seen.of(losses, variances)
    ours, reference = FHS.margins(seen, level=LEVEL), HS.margins(seen, level=LEVEL)
    scaled = EqualAverage(FHS, HS, trailing="90D").margins(seen, level=LEVEL)
    now = pd.Timestamp("2023-03-01", tz="UTC")
    window = (seen.rows["origin"] <= now) & (seen.rows["origin"] > now - pd.Timedelta("90D"))
    at = (seen.rows["origin"] == now).to_numpy()
    expected = ours[at] * reference[window].mean() / ours[window].mean()
    np.testing.assert_allclose(scaled[at], expected)


def test_given_margins_are_given(losses: pd.DataFrame) -> None:
    seen = Seen.of(losses)
    m = np.linspace(0.1, 0.2, len(seen.rows))
    policy = _given(seen, m)
    np.testing.assert_array_equal(policy.margins(seen, level=LEVEL), m)
    assert np.isnan(policy.margins(seen, level=0.99)).all()
    double = Given("ours", {LEVEL: pd.concat([policy.by_level[LEVEL]] * 2)})
    with pytest.raises(DataError, match="ours: one row per market, origin, side; some are duplicated"):
        double.margins(seen, level=LEVEL)


def test_outcomes_are_the_losses_row_by_row(losses: pd.DataFrame) -> None:
    x = losses.drop(losses.index[[3, 700]])
    seen = Seen.of(x)
    wide = x.pivot_table(index=["market", "side", "origin"], columns="start", values="loss", dropna=False)
    expected = wide.reindex(pd.MultiIndex.from_frame(seen.rows[["market", "side", "origin"]])).to_numpy()
    assert seen.outcomes.shape == expected.shape
    np.testing.assert_array_equal(np.sort(seen.outcomes, axis=1), np.sort(expected, axis=1))


def test_a_table_binds_its_assets_and_sides(losses: pd.DataFrame) -> None:
    seen = Seen.of(losses)
    policy = Tabled("aave", 1e4, {"A": ((0, 170_000),)}, ("long",))
    got = policy.margins(seen, level=LEVEL)
    bound = ((seen.rows["market"] == "A") & (seen.rows["side"] == "long")).to_numpy()
    assert (got[bound] == 0.17).all()
    assert np.isnan(got[~bound]).all()


BINANCE_BTC = ((0, 4_000), (50_000, 5_000), (600_000, 6_500), (3_000_000, 10_000))


@pytest.mark.parametrize(
    ("steps", "notional", "rate", "deduction"),
    [
        (BINANCE_BTC, 100_000, 0.005, 50.0),  # `cum` as the venue states it
        (BINANCE_BTC, 1_000_000, 0.0065, 950.0),
        (BINANCE_BTC, 5_000_000, 0.01, 11_450.0),
        (((0, 12_500), (150_000_000, 25_000)), 200_000_000, 0.025, 1_875_000.0),  # Hyperliquid BTC
    ],
)
def test_a_tier_is_the_venues_rate_less_its_deduction(
    steps: tuple[tuple[int, int], ...], notional: int, rate: float, deduction: float
) -> None:
    assert margin_of(steps, notional) * notional == pytest.approx(notional * rate - deduction, rel=1e-12)


@given(st.floats(1.0, 1e9), st.floats(1.0, 1.5))
@settings(max_examples=50, deadline=None)
def test_a_larger_position_never_asks_a_smaller_share(notional: float, larger: float) -> None:
    assert margin_of(BINANCE_BTC, notional * larger) >= margin_of(BINANCE_BTC, notional) * (1 - 1e-12)
    with pytest.raises(ValueError, match=r"notional must be positive, was -1.0"):
        margin_of(BINANCE_BTC, -1.0)


def _given(seen: Seen, margin: np.ndarray) -> Given:
    return Given("ours", {LEVEL: seen.rows.assign(margin=margin)})
