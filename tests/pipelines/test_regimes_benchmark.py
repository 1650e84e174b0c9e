"""``benchmark regimes``: the published path, scores against scikit-learn, warnings against plain loops."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from calibrator.config import Config
from calibrator.data.sources import load_bars, load_implied_volatility
from calibrator.data.synthetic import synthetic_bars
from calibrator.errors import ConfigError, DataError
from pipelines.benchmarks.regimes import Options, run, write
from pipelines.benchmarks.regimes_liquidations import liquidated
from pipelines.benchmarks.regimes_models import MODELS, OURS, Task, every_bar, outlook
from pipelines.benchmarks.regimes_pages import Part
from pipelines.benchmarks.regimes_scores import Ranked, drawn_days
from pipelines.benchmarks.regimes_warning import DAY, EARLY, event_spans, fixed_level, outcome, watch
from pipelines.forecasting import forecast_all
from pipelines.production import clock_of

AS_OF = datetime(2022, 7, 1, tzinfo=UTC)


def silent(what: str, done: int, total: int) -> None:
    assert what
    assert done <= total


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Hourly bars of two markets over eighteen months."""
    folder = tmp_path_factory.mktemp("stress")
    synthetic_bars(["BTCUSDT", "ETHUSDT"], periods=24 * 540, seed=3, bar="1h").to_parquet(
        folder / "bars.parquet"
    )
    return Config.model_validate(
        {
            "data": {"source": "files", "bars": [str(folder / "bars.parquet")], "bar": "1h", "label": "end",
                     "stale_after": 9000},
            "forecast": {"har_window": 300, "learner_refit": 60, "learner_seeds": 1, "min_history": 60,
                         "garch_window": 250, "garch_refit": 200},
            "regime": {"window": 200, "min_window": 100},
            "backtest": {"start": "2021-11-01", "end": "2022-06-30"},
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def parts(config: Config, tmp_path_factory: pytest.TempPathFactory) -> list[Part]:
    file = tmp_path_factory.mktemp("liquidations") / "panel.parquet"
    time = pd.date_range("2021-10-01", "2022-06-01", freq="D", tz="UTC").as_unit("us")
    amount = np.random.default_rng(4).exponential(1.0, len(time))
    panel = {"time": time, "symbol": "BTCUSDT", "long_liquidations_base": amount, "close": 2.0}
    pd.DataFrame(panel).assign(short_liquidations_base=1.0).to_parquet(file)
    chosen = Options(horizons=(1, 3), liquidations=(file,))
    return run(config, as_of=AS_OF, progress=silent, options=chosen)


def test_the_benchmark_scores_the_published_probability(config: Config) -> None:
    bars, _ = load_bars(config, as_of=AS_OF)
    implied, _ = load_implied_volatility(config, as_of=AS_OF)
    made = outlook(Task(config, bars, implied, silent))
    published = forecast_all(bars, implied, config=config, clock=clock_of(config), progress=silent)
    own = published.regimes[published.regimes["market"] != "*"].set_index(["market", "time"])
    ours = made.decisions.set_index(["market", "time"])[OURS].dropna()
    assert len(ours) > 300
    np.testing.assert_array_equal(ours, own["stress_probability"].reindex(ours.index))
    whole = pd.concat(every_bar(made), ignore_index=True)
    assert not whole.duplicated(["market", "time"]).any()
    known = whole[whole[list(MODELS)].notna().all(axis=1)]
    assert sorted(known["time"].dt.hour.unique()) == list(range(24))
    hourly = known.sort_values(["market", "time"]).groupby("market")[OURS]
    assert (hourly.diff().abs() < 0.2).mean() > 0.95  # neighbouring origins say nearly the same


def test_every_model_and_horizon_is_listed(parts: list[Part]) -> None:
    assert [p.bars for p in parts] == [24, 72]
    for part in parts:
        assert set(part.table.index) == {(rows, m) for rows in ("all", "onsets") for m in MODELS}
        known = part.table.dropna()
        assert (known["auroc_low"] <= known["auroc_high"]).all()
    first = parts[0]
    assert first.early is not None
    assert first.ablation is not None
    assert first.liquidations is not None
    assert set(first.early.table.index.get_level_values("model")) == set(MODELS)
    assert first.ablation.loc[("all", "as released"), "auroc"] == first.table.loc[("all", OURS), "auroc"]
    assert set(first.liquidations.index.get_level_values("quantity")) == {OURS, "gap_har", "garch"}


def test_what_is_written_is_the_same_twice(parts: list[Part], tmp_path: Path) -> None:
    made = [
        write(parts, home=tmp_path / n, title="x", made_on=date(2022, 7, 1), docs=tmp_path / n / "docs")
        for n in "ab"
    ]
    for what, path in made[0].items():
        assert path.read_bytes() == made[1][what].read_bytes(), what
    assert json.loads(made[0]["numbers"].read_text()).keys() == {"24", "72"}
    assert made[0]["committed table"].name == "regimes-x.md"
    assert made[0]["committed table"].read_bytes() == made[0]["table"].read_bytes()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_scores_agree_with_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(30, 120))
    p = rng.random(n).round(int(rng.integers(1, 4)))  # with ties
    y = (rng.random(n) < 0.3).astype(float)
    y[:2] = 0.0, 1.0
    day = np.sort(rng.integers(0, 12, n))
    times = rng.integers(0, 3, 12).astype(float)
    made, weight = Ranked.of(p, y, day).scores(times), times[day]
    if not (weight[y == 1].sum() > 0 and weight[y == 0].sum() > 0):
        assert np.isnan(made["auroc"])
        return
    base = np.average(y, weights=weight)
    assert made["auroc"] == pytest.approx(roc_auc_score(y, p, sample_weight=weight))
    assert made["precision"] == pytest.approx(average_precision_score(y, p, sample_weight=weight))
    skill = 1 - brier_score_loss(y, p, sample_weight=weight) / (base * (1 - base))
    assert made["brier_skill"] == pytest.approx(skill)


def test_a_bootstrap_draws_whole_blocks_and_all_days_alike() -> None:
    made = drawn_days(50, block=10, draws=2000)
    assert (made.sum(axis=1) == 50).all()
    assert made[:, 20:30].mean() == pytest.approx(
        50 / 41, abs=0.05
    )  # 41 blocks, inner days are in ten of them


def hourly(seed: int, markets: int = 2, n: int = 600) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for k in range(markets):
        time = pd.date_range("2022-01-01", periods=n, freq="h", tz="UTC").as_unit("us")
        level = pd.Series(rng.normal(size=n)).ewm(span=12).mean().to_numpy()
        p = np.clip(0.25 + 0.5 * level + rng.normal(0, 0.05, n), 0.01, 0.99)
        rows = {"market": f"M{k}", "time": time, "now": level, "threshold": 0.45, OURS: p}
        parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("seed", range(4))
def test_warnings_equal_plain_loops(seed: int) -> None:
    frame, level = hourly(seed), 0.4
    made = outcome(watch(frame, [OURS]), OURS, level)
    leads, false, outside, days = [], 0, 0, 0
    for _, own in frame.groupby("market"):
        times = pd.DatetimeIndex(own["time"])
        spans = event_spans(times, (own["now"] > own["threshold"]).to_numpy())
        alarms = times[(own[OURS] >= level).to_numpy()]
        for start, _ in spans:
            if start > times[0]:
                before = [a for a in alarms if start - DAY <= a < start]
                leads.append(start - before[0] if before else pd.NaT)
        for day in times.floor("D").unique():
            days += 1
            mine = [a for a in alarms if a.floor("D") == day]
            useful = [any(a < s <= a + DAY for s, _ in spans) for a in mine]
            free = [not any(s <= a <= e for s, e in spans) for a in mine]
            false += bool(mine) and not any(useful)
            outside += any(free) and not any(u for u, f in zip(useful, free, strict=True) if f)
    months = days / 30.4375
    assert made.events == len(leads)
    assert made.flagged == pytest.approx(np.mean([not pd.isna(x) and x >= EARLY for x in leads]))
    assert made.false_alarms == pytest.approx(false / months)
    assert made.false_outside == pytest.approx(outside / months)


def test_the_level_is_fixed_by_false_alarms_before() -> None:
    before = watch(hourly(9), [OURS])
    level = fixed_level(before, OURS, most=4.0)
    assert level is not None
    assert outcome(before, OURS, level).false_alarms <= 4.0 < outcome(before, OURS, level - 0.01).false_alarms
    assert fixed_level(watch(hourly(9).iloc[:0], [OURS]), OURS) is None


def test_odd_files_and_options_are_refused(tmp_path: Path, config: Config) -> None:
    odd = tmp_path / "odd.parquet"
    pd.DataFrame({"x": [1]}).to_parquet(odd)
    with pytest.raises(DataError, match="needs the columns time, symbol"):
        liquidated(odd)
    with pytest.raises(DataError, match="cannot be read"):
        liquidated(tmp_path / "missing.parquet")
    with pytest.raises(ConfigError, match="--horizons must be decisions"):
        Options(horizons=(0,))
    late = config.model_copy(
        update={
            "backtest": config.backtest.model_copy(
                update={"start": datetime(2022, 6, 30, tzinfo=UTC), "end": None}
            )
        }
    )
    with pytest.raises(DataError, match="no origin in the backtest window"):
        run(late, as_of=AS_OF, progress=silent, options=Options(horizons=(1,), early=False, ablation=False))
