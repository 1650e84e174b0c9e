"""The whole composition: no decision depends on what comes later, and every one obeys its limits."""

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import pytest

from calibrator.calibrate.margin import as_schedule
from calibrator.config import Config
from calibrator.config_collateral import HaircutConfig
from calibrator.data.synthetic import synthetic_bars
from calibrator.domain import PPM, SIDES
from calibrator.errors import ConfigError
from calibrator.features import future_losses
from pipelines.add_ons import book_of
from pipelines.lending import lent_history
from pipelines.pairs import with_pairs
from pipelines.production import Decisions, Production, clock_of, parameters_at, produce

FORECAST = {"har_window": 250, "garch_window": 250, "learner_seeds": 1, "learner_refit": 60}
MARGIN = {"tail_window": 150, "tail_min": 60, "floor_window": 100, "tiers": [0, 10_000], "plan_steps": 3}
NO_QUOTES = pd.DataFrame(
    {
        "market": pd.Series(dtype="str"),
        "time": pd.Series(dtype="datetime64[us, UTC]"),
        "implied_volatility": pd.Series(dtype="float64"),
    }
)
TIGHT = {"step": 0.002, "every": 2, "steps": 4, "history": 200}
"""Another target's rule: that of an e-mode beside that of a reserve."""
LATER = ["whole"]
"""Known one decision later by definition, and used from then on."""


@dataclass(frozen=True)
class World:
    """Bars, quotes, what is configured, and times at which the future is taken away."""

    config: Config
    bars: pd.DataFrame
    quotes: pd.DataFrame
    cuts: list[pd.Timestamp]

    def run(self, bars: pd.DataFrame, quotes: pd.DataFrame) -> Production:
        return produce(bars, quotes, config=self.config, progress=lambda *_: None)


def sessions() -> World:
    """Daily sessions five ahead, one collateral, quotes of one market."""
    bars = synthetic_bars(["A", "B", "C"], periods=900, seed=3, bar="1d")
    bars = bars[bars["time"].dt.day_of_week < 5].reset_index(drop=True)
    config = {
        "data": {"source": "embedded", "bar": "1d", "calendar": "sessions"},
        "forecast": FORECAST | {"horizon": 5, "cadence": 1, "min_history": 200},
        "regime": {"window": 200, "min_window": 100},
        "margin": MARGIN | {"close_out": 5},
        "haircut": {
            "limits": {"step": 0.01, "every": 3, "steps": 4, "history": 200},
            "pairs": [
                {"collateral": "A", "debt": "B", "location": "x", "limits": TIGHT},
                {"collateral": "A", "debt": "USD", "location": "y", "bridge_delay": 3},
                {"collateral": "A", "debt": "USD", "location": "z", "bridge_delay": 3},
            ],
        },
        "markets": {"C": {"role": "collateral"}},
    }
    rng = np.random.default_rng(1)
    time = bars.loc[bars["market"] == "A", "time"].iloc[::2]
    quotes = pd.DataFrame(
        {"market": "A", "time": time, "implied_volatility": rng.uniform(0.4, 0.8, len(time))}
    )
    cuts = [time.iloc[250], time.iloc[-3]]
    return World(Config.model_validate(config), bars, quotes.reset_index(drop=True), cuts)


def around_the_clock(bars: pd.DataFrame) -> World:
    """Six-hourly bars with blemishes; every start of the day is covered, with notice."""
    config = {
        "data": {"source": "embedded", "bar": "6h"},
        "forecast": FORECAST | {"horizon": 4, "cadence": 4, "min_history": 80},
        "regime": {"window": 150, "min_window": 60},
        "margin": MARGIN | {"close_out": 2, "level": 0.95, "notice": 1},
    }
    start = bars["time"].iloc[0]
    cuts = [start + pd.Timedelta("375D3h"), start + pd.Timedelta("460D18h")]
    return World(Config.model_validate(config), bars, NO_QUOTES, cuts)


@pytest.fixture(scope="module", params=["sessions", "around the clock"])
def world(request: pytest.FixtureRequest, market_bars: pd.DataFrame) -> World:
    return sessions() if request.param == "sessions" else around_the_clock(market_bars)


@pytest.fixture(scope="module")
def produced(world: World) -> Production:
    return world.run(world.bars, world.quotes)


def tables(made: Production, until: pd.Timestamp) -> dict[str, pd.DataFrame]:
    """Everything that was decided or forecast up to a time."""
    out = {f"decisions of {m}": d.table.drop(columns=LATER).loc[:until] for m, d in made.decisions.items()}
    for market, d in made.decisions.items():
        out[f"path of {market}"] = pd.DataFrame(d.path, d.table.index).loc[:until]
    rows = made.forecasts.features.loc[made.forecasts.experts.index, ["market", "time"]]
    experts = made.forecasts.experts.set_index(pd.MultiIndex.from_frame(rows))
    out["experts"] = experts[experts.index.get_level_values("time") <= until]
    out["weights"] = made.forecasts.weights.loc[:until]
    out["regimes"] = made.forecasts.regimes[made.forecasts.regimes["time"] <= until]
    for name, frame in (
        ("tails", made.tails()),
        ("margins", made.margins()),
        ("haircuts", made.haircuts()),
        ("plan", made.plan()),
    ):
        out[name] = frame[frame["origin"] <= until]
    schedule = made.schedule()
    notice = made.clock.step * made.config.margin.notice
    out["schedule"] = schedule[schedule["effective_from"] <= until + notice]
    losses = made.losses[made.losses["known_at"] <= until].dropna(subset="loss")
    out["losses"] = losses[losses["origin"] <= until]
    return {name: frame.reset_index() if name == "experts" else frame for name, frame in out.items()}


def another_future(frame: pd.DataFrame, cut: pd.Timestamp, columns: list[str]) -> pd.DataFrame:
    later = frame["time"] > cut
    factor = np.exp(np.random.default_rng(8).normal(0.0, 0.1, int(later.sum())))
    out = frame.copy()
    out.loc[later, columns] = out.loc[later, columns].mul(factor, axis=0)
    return out


@pytest.mark.parametrize(("future", "which"), [("none", 0), ("another", 1)])
def test_no_decision_depends_on_what_comes_later(
    future: str, which: int, world: World, produced: Production
) -> None:
    cut = world.cuts[which]
    if future == "none":
        bars, quotes = (f[f["time"] <= cut].reset_index(drop=True) for f in (world.bars, world.quotes))
    else:
        bars = another_future(world.bars, cut, ["open", "high", "low", "close", "volume"])
        quotes = another_future(world.quotes, cut, ["implied_volatility"])
    seen, expected = (tables(made, cut) for made in (world.run(bars, quotes), produced))
    assert set(seen) == set(expected)
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(
            seen[name].reset_index(drop=True), frame.reset_index(drop=True), check_exact=True, obj=name
        )
    assert all(len(expected[f"decisions of {m}"]) > 20 for m in "ABC")
    assert expected["experts"][["garch", "gjr_t", "har", "pooled", "lightgbm"]].notna().any().all()


def test_a_decision_that_uses_the_next_bar_is_caught(world: World, produced: Production) -> None:
    table = produced.decisions["A"].table["volatility"]
    cut = world.cuts[1]
    seen = table.loc[:cut].shift(-1)
    assert not seen.equals(table.shift(-1).loc[:cut])


def test_parameters_at_a_time_are_that_row_of_the_whole_run(world: World, produced: Production) -> None:
    cut = world.cuts[1]
    found = parameters_at(
        world.config, world.bars, world.quotes, as_of=cut.to_pydatetime(), progress=lambda *_: None
    )
    assert list(found) == list(produced.decisions)
    for market, row in found.items():
        expected = produced.decisions[market].table.loc[:cut].iloc[-1]
        pd.testing.assert_series_equal(row.drop(LATER), expected.drop(LATER), check_exact=True)


def test_every_published_schedule_is_valid_and_obeys_the_limits(produced: Production) -> None:
    schedule, limits = produced.schedule(), produced.config.margin.limits
    assert set(schedule["market"]) == {
        m for m, d in produced.decisions.items() if d.terms.role == "perpetual"
    }
    for _, row in schedule.groupby(["market", "effective_from"]):
        floors = tuple(row["notional_floor"])
        margins = (row[f"{kind}_margin_ppm"].to_numpy() for kind in ("maintenance", "initial"))
        assert as_schedule(floors, *margins).tiers[0].notional_floor == 0
    for (market, _), own in schedule.groupby(["market", "notional_floor"]):
        whole = produced.decisions[str(market)].table["whole"].to_numpy(bool)
        for kind in ("maintenance", "initial"):
            margin = pd.Series(own[f"{kind}_margin_ppm"].to_numpy(float))
            # an initial margin is a multiple, and so is the least that its increases count of
            multiple = produced.config.margin.initial_multiple if kind == "initial" else 1.0
            base = limits.min_base * PPM * multiple
            assert (margin <= raised(margin.shift(), limits.max_increase, base)).iloc[1:].all()
            assert (margin.pct_change().iloc[1:] >= -limits.max_decrease - 1e-12).all(), (market, kind)
            series = margin[whole].reset_index(drop=True)
            assert (series <= raised(series.shift(5), limits.max_increase_5, base)).iloc[5:].all()
            assert (series <= raised(series.shift(10), limits.max_increase_10, base)).iloc[10:].all()
            year = series.rolling(365, min_periods=1)
            assert (year.max() <= raised(year.min(), limits.peak_to_trough, base)).all()


def raised(before: pd.Series, share: float, base: float) -> pd.Series:
    return np.maximum(before * (1 + share), before + share * base) + 1e-6


def test_frames_of_a_run_conform_and_agree_with_the_decisions(produced: Production) -> None:
    margins, tails, plan, haircuts = (
        produced.margins(),
        produced.tails(),
        produced.plan(),
        produced.haircuts(),
    )
    for market, d in produced.decisions.items():
        if d.terms.role == "collateral":
            names = zip(haircuts["collateral"], haircuts["debt"], haircuts["location"], strict=True)
            own = haircuts[[(c, "collateral", b, at) == d.key for c, b, at in names]].set_index("origin")
            pd.testing.assert_series_equal(own["haircut"], d.table["margin_long"], check_names=False)
            assert set(own["debt"]) == {d.key[2]}
            assert market not in set(margins["market"])
        else:
            for side in SIDES:
                own = margins[(margins["market"] == market) & (margins["side"] == side)].set_index("origin")
                np.testing.assert_array_equal(own["margin"], d.table[f"margin_{side}"])
                np.testing.assert_array_equal(own["margin_unlimited"], d.table[f"unlimited_{side}"])
            assert (d.margin == d.table[["margin_long", "margin_short"]].max(axis=1)).all()
        ahead = plan[plan["market"] == market]
        assert len(ahead) == d.path.size
        assert (ahead["effective_from"] > ahead["origin"]).all()
        assert (ahead["initial_margin_ppm"] > ahead["maintenance_margin_ppm"]).all()
    assert set(tails["market"]) == set(produced.decisions)
    assert produced.forecasts.frame(produced.config.forecast.horizon)["variance"].gt(0).all()


def test_margins_cover_about_the_share_of_losses_they_promise(produced: Production) -> None:
    for market, d in produced.decisions.items():
        losses = produced.losses[produced.losses["market"] == market].dropna(subset="loss")
        own = losses[losses["side"] == "long"].merge(
            d.table["unlimited_long"], left_on="origin", right_index=True
        )
        coverage = (own["loss"] <= own["unlimited_long"]).mean()
        level = d.terms.level or produced.config.margin.level
        assert level - 0.035 <= coverage, (market, coverage)


def test_losses_are_those_of_the_starts_a_decision_covers(world: World, produced: Production) -> None:
    config = world.config
    length = config.margin.close_out
    hourly = future_losses(world.bars, clock=clock_of(config), close_out=length, loss=config.margin.loss)
    hourly = hourly.set_index(["market", "time"])
    step = produced.clock.step
    covered = set(produced.losses["start"])
    notice = config.margin.notice
    expected = {notice} if length >= config.forecast.cadence else set(range(notice, notice + 4))
    assert covered == expected
    if config.data.calendar == "continuous":
        for row in produced.losses.sample(200, random_state=1).itertuples():
            at = hourly.loc[(row.market, row.origin + step * row.start)]
            assert at[row.side] == row.loss or (np.isnan(at[row.side]) and np.isnan(row.loss))
            assert at["known_at"] == row.known_at


def test_collateral_has_a_borrow_margin_and_no_short_side(produced: Production) -> None:
    for d in produced.decisions.values():
        assert ("borrow" in d.table) == (d.terms.role == "collateral")
        if d.terms.role == "collateral":
            assert (d.margin == d.table["margin_long"]).all()
            assert (d.table["borrow"] > 0).all()
            assert (d.table["borrow"] < d.table["unlimited_long"]).mean() > 0.9


def test_every_pair_is_calibrated_on_its_own_price_and_close_out() -> None:
    world = sessions()
    made = world.run(world.bars.groupby("market").head(420).reset_index(drop=True), NO_QUOTES)
    assert set(made.decisions) == {"A", "B", "C", "A/B@x", "A/USD@y", "A/USD@z"}
    assert [made.decisions[m].series for m in ("A/B@x", "A/USD@y", "C")] == ["A/B", "A", "C"]
    late, same = made.decisions["A/USD@y"], made.decisions["A/USD@z"]
    pd.testing.assert_frame_equal(late.table, same.table)
    assert late.key == ("A", "collateral", "USD", "y")
    assert made.decisions["C"].key == ("C", "collateral", "USD", "demo")
    ratio = late.table["volatility"] / made.decisions["A"].table["volatility"]
    np.testing.assert_allclose(ratio.dropna(), np.sqrt(8 / 5))  # three bars of bridge after five of close-out
    haircuts = made.haircuts()
    assert set(haircuts[haircuts["collateral"] == "A"]["debt"]) == {"B", "USD"}
    assert set(haircuts["location"]) == {"x", "y", "z", "demo"}
    assert haircuts.set_index("location")["horizon"].to_dict() == {"x": 5, "y": 8, "z": 8, "demo": 5}
    losses = made.losses[made.losses["market"] == "A/B@x"].dropna(subset="loss")
    a, b = (world.bars[world.bars["market"] == m].set_index("time") for m in "AB")
    low, close = a["low"] / b["high"], a["close"] / b["close"]
    row = losses[losses["side"] == "long"].iloc[-1]
    at = close.index.get_loc(row["origin"])
    assert row["loss"] == pytest.approx(1 - low.iloc[at + 1 : at + 6].min() / close.iloc[at])


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ([{"collateral": "A", "debt": "ETHH", "location": "x"}], "A/ETHH@x: no bars of market 'ETHH'"),
        ([{"collateral": "W", "location": "x"}], "no bars of market 'W'"),
        (
            [{"collateral": "W", "reference": "A", "basis": "W-A", "location": "x"}],
            "no bars of market 'W-A'; there are A, B, C",
        ),
        ([{"collateral": "USD", "debt": "A", "location": "x"}], "the collateral must have bars"),
    ],
)
def test_a_pair_of_unknown_markets_is_refused(pairs: list[dict[str, str]], text: str) -> None:
    world = sessions()
    config = world.config.model_copy(update={"haircut": HaircutConfig.model_validate({"pairs": pairs})})
    with pytest.raises(ConfigError, match=text):
        with_pairs(world.bars, config)


def test_the_tail_is_scaled_by_the_published_forecast(produced: Production) -> None:
    for d in produced.decisions.values():
        for side in SIDES:
            loss = d.table[f"tail_{side}"] * d.table["volatility"]
            book = book_of(d.table, d.terms, config=produced.config, clock=produced.clock)
            border = 10_000.0 if d.terms.role == "perpetual" else 0.0
            expected = pd.Series(book.widen_first(loss.to_numpy(float), border), d.table.index)
            pd.testing.assert_series_equal(d.table[f"unlimited_{side}"], expected, check_names=False)
            assert (expected > loss).any() == (border > 0)
            assert (d.table[f"shortfall_{side}"] >= d.table[f"unlimited_{side}"]).all()
            held = d.table[f"margin_{side}"] * PPM
            np.testing.assert_allclose(held, held.round(), atol=1e-6)


@pytest.mark.parametrize("bars", [30, 260])
def test_a_short_history_ends_in_no_decisions_rather_than_in_a_crash(bars: int) -> None:
    world = sessions()
    first = world.bars.groupby("market").head(bars).reset_index(drop=True)
    made = world.run(first, NO_QUOTES)
    decided: list[Decisions] = list(made.decisions.values())
    assert all((d.margin > 0).all() for d in decided)
    assert made.forecasts.experts["ewma"].notna().any()


def test_a_haircut_under_a_step_limit_moves_as_planned_and_no_further(produced: Production) -> None:
    planned = [d for d in produced.decisions.values() if d.pair is not None and d.pair.limits is not None]
    steps = {d.market: (d.pair.limits.step, d.pair.limits.every) for d in planned}  # type: ignore[union-attr]
    usual = dict.fromkeys(("A/USD@y", "A/USD@z", "C"), (0.01, 3))
    assert steps == ({"A/B@x": (0.002, 2)} | usual if produced.config.haircut.limits else {})
    for d in planned:
        assert_planned(d, *steps[d.market])
        lent = pd.DataFrame([asdict(s) for s in lent_history(produced.config, d)])  # type: ignore[call-overload]
        moves = lent.diff().abs().max()
        assert 0 < moves["loan_to_value_ppm"] <= steps[d.market][0] * PPM
        assert 0 < moves["liquidation_threshold_ppm"] <= steps[d.market][0] * PPM


def assert_planned(d: Decisions, step: float, every: int) -> None:
    moves = np.diff(d.margin)
    assert np.abs(moves).max() <= step + 1e-12
    moved = np.flatnonzero(np.abs(moves) > 0) + 1
    assert len(moved) > 20
    assert (moved % every == 0).all()
    at = np.arange(every, len(d.margin) - every, every)
    np.testing.assert_allclose(d.path[at, 0], d.margin[at], atol=2e-6)
