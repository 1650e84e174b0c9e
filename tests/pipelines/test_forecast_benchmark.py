"""``benchmark forecast``: the published path, common rows, tables that hold every model, same bytes twice."""

import io
import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from calibrator.config import Config
from calibrator.data.sources import load_bars, load_implied_volatility
from calibrator.errors import ConfigError, DataError
from calibrator.features import build_features, future_variance
from calibrator.forecast.design import regressors
from calibrator.scores import qlike
from pipelines.benchmarks.forecast import Options, run, write
from pipelines.benchmarks.forecast_models import (
    GROUPS,
    MODELS,
    LogBoosted,
    Task,
    ablation,
    forecasts,
    group_of,
)
from pipelines.benchmarks.forecast_pages import Part, show, spelled
from pipelines.benchmarks.forecast_table import ablation_scores, losses, per_market, scores
from pipelines.forecasting import PUBLISHED, forecast_all
from pipelines.production import clock_of

AS_OF = datetime(2003, 1, 1, tzinfo=UTC)
CONFIG = Config.model_validate(
    {
        "data": {
            "source": "embedded",
            "markets": ["SPX", "NASDAQ"],
            "bar": "1d",
            "calendar": "sessions",
            "stale_after": 9000,
        },
        "forecast": {
            "horizon": 1,
            "cadence": 1,
            "proxy": "range",
            "learner_refit": 500,
            "learner_seeds": 1,
            "garch_refit": 250,
        },
        "regime": {"window": 300, "min_window": 250},
        "margin": {"close_out": 1},
        "backtest": {"start": "2001-09-01", "end": "2002-12-31"},
    }
)


def silent(what: str, done: int, total: int) -> None:
    assert what
    assert 0 <= done <= total


@pytest.fixture(scope="module")
def task() -> Task:
    bars, _ = load_bars(CONFIG, as_of=AS_OF)
    clock = clock_of(CONFIG)
    features = build_features(bars, clock=clock)
    return Task(CONFIG, clock, features, future_variance(bars, features, clock=clock), silent)


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    return run(CONFIG, as_of=AS_OF, progress=silent, options=Options(horizons=(1,)))


def test_the_published_combination_is_the_one_of_production(parts: list[Part]) -> None:
    bars, _ = load_bars(CONFIG, as_of=AS_OF)
    implied, _ = load_implied_volatility(CONFIG, as_of=AS_OF)
    made = forecast_all(bars, implied, config=CONFIG, clock=clock_of(CONFIG), progress=silent)
    rows = parts[0].losses.rows
    expected = qlike(rows["variance"], made.experts.loc[rows.index, PUBLISHED])
    np.testing.assert_array_equal(parts[0].losses.qlike[PUBLISHED], expected)


def test_every_model_is_in_every_table_and_on_common_rows(parts: list[Part]) -> None:
    (part,) = parts
    assert set(MODELS) <= set(part.table.index)
    assert part.losses.qlike.notna().all(axis=None)
    assert part.table.drop(columns=["dm", "dm_p"]).notna().all(axis=None)
    assert part.losses.rows["time"].between("2001-09-01", "2002-12-31").all()
    assert sorted(part.markets.index) == ["NASDAQ", "SPX"]
    assert (part.table.loc["har", ["ratio_har", "low", "high", "top_har"]] == 1.0).all()
    np.testing.assert_allclose(part.markets.mean(), part.table["qlike"], rtol=0.02)


def test_written_twice_it_is_the_same_and_docs_are_asked_for(parts: list[Part], tmp_path: Path) -> None:
    said = {"title": "indices", "made_on": date(2026, 1, 2)}
    first = write(parts, home=tmp_path / "a", **said)
    second = write(parts, home=tmp_path / "b", docs=tmp_path / "docs", **said)
    assert set(second) - set(first) == {"committed table"}
    for what, path in first.items():
        assert path.read_bytes() == second[what].read_bytes(), what
    page = second["committed table"].read_text()
    assert second["committed table"].name == "forecast-indices.md"
    assert page == second["table"].read_text()
    assert all(f"\n| {model} |" in page for model in MODELS)
    assert "2026-01-02; " in page
    assert first["ratios 1"].read_bytes().startswith(b"\x89PNG")
    numbers = json.loads(first["numbers"].read_text())["1"]
    assert numbers["models"]["har"]["qlike"] == parts[0].table.loc["har", "qlike"]
    assert numbers["ablation"] is None


def test_printed_table_names_every_model(parts: list[Part]) -> None:
    out = io.StringIO()
    show(parts, Console(file=out, width=200))
    assert all(f" {model} " in out.getvalue() for model in MODELS)
    assert f"{parts[0].table.loc[PUBLISHED, 'qlike']:.3f}" in out.getvalue()


def test_chosen_models_and_horizons_run_alike_twice() -> None:
    options = Options(horizons=(2,), models=("garch_t", "stochastic_volatility", "ewma_80"))
    a, b = (run(CONFIG, as_of=AS_OF, progress=silent, options=options) for _ in range(2))
    pd.testing.assert_frame_equal(a[0].table, b[0].table, check_exact=True)
    assert list(a[0].table.index) == ["ewma_80", "garch_t", "har", "har_strong", "stochastic_volatility"]
    assert (a[0].steps, a[0].bars) == (2, 2)
    assert a[0].ablation is None
    assert list(spelled(a[0].table).columns)[:2] == ["QLIKE", "/ GARCH-t"]


def test_ablation_holds_out_each_group(task: Task) -> None:
    made = pd.DataFrame(ablation(task))
    there = len(GROUPS) - 1  # bars alone say nothing about positions
    cases = 1 + there + there + 1
    assert made.shape[1] == 2 * cases
    rows = task.features.loc[made.index, ["market", "time"]]
    table = ablation_scores(losses(made, rows, task.targets.loc[made.index, "future_variance"]))
    assert (table.xs("all regressors", level=1)["ratio"] == 1.0).all()
    assert table["qlike"].nunique() > cases


def test_every_group_has_regressors(task: Task) -> None:
    found = {group_of(c) for c in regressors(task.design(task.core("har")))}
    assert found == {*GROUPS, "own variance and returns"} - {"positioning"}
    assert group_of("all_positioning_funding") == "positioning"


def test_models_are_causal(task: Task) -> None:
    names = ["egarch_t", "pooled_strong", "lightgbm_raw", "stochastic_volatility", "equal_weights"]
    whole = forecasts(task, names)
    cut = task.features["time"] <= task.features["time"].iloc[900]
    early = Task(CONFIG, task.clock, task.features[cut], task.targets[cut], silent)
    pd.testing.assert_frame_equal(forecasts(early, names), whole[cut], check_exact=True)
    assert whole[cut].notna().any().all()


def test_scores_of_a_hand_made_case() -> None:
    days = pd.date_range("2024-01-01", periods=200, tz="UTC")
    rows = pd.DataFrame({"market": ["A"] * 200 + ["B"] * 200, "time": [*days, *days]})
    rng = np.random.default_rng(1)
    variance = pd.Series(rng.exponential(1.0, 400))
    variance[50] = 40.0
    good = variance * np.exp(rng.normal(0, 0.1, 400))
    made = losses(
        pd.DataFrame({"har": variance * 2, "har_strong": variance * 1.5, "good": good}).assign(
            gap=lambda f: f["har"].where(f.index != 7)
        ),
        rows,
        variance.mask(variance.index == 9),
    )
    table = scores(made, steps=1)
    assert len(made.rows) == 398
    assert made.missing.to_dict() == {"har": 0, "har_strong": 0, "good": 0, "gap": 1}
    assert made.worst_day == days[50]
    expected = (0.5 - np.log(0.5) - 1) / (1 / 1.5 - np.log(1 / 1.5) - 1)
    assert table.loc["har", "ratio_har_strong"] == pytest.approx(expected)
    assert table.loc["har", "low_strong"] == pytest.approx(expected)
    assert table.loc["good", "dm_p"] < 1e-6
    assert table.loc["good", "dm"] < 0
    assert table.loc["good", ["better", "worse"]].tolist() == [2, 0]
    assert table.loc["gap", ["better", "worse"]].tolist() == [0, 2]
    assert table["mcs"].to_dict() == {"har": 0.0, "har_strong": 0.0, "good": 1.0, "gap": 0.0}
    assert made.top.sum() == 40
    assert per_market(made).loc["A", "har"] == pytest.approx(0.5 - np.log(0.5) - 1)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"horizons": ()}, "must be decisions"),
        ({"horizons": (0,)}, "at least 1"),
        ({"models": ("har", "oracle")}, "no model 'oracle'; there are ewma_94"),
    ],
)
def test_bad_options(options: dict[str, tuple[object, ...]], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Options(**options)


def test_a_window_too_short_for_the_horizon_is_named() -> None:
    options = Options(horizons=(60,), models=("ewma_94",))
    with pytest.raises(DataError, match="a horizon of 60 decisions needs 600 origins, there are"):
        run(CONFIG, as_of=AS_OF, progress=silent, options=options)


def test_raw_trees_without_rows_have_no_forecast(task: Task) -> None:
    rows = task.design(task.core("har"))
    nothing = pd.Series(np.nan, rows.index)
    assert LogBoosted(steps=1).fit(rows, nothing).forecast(rows).isna().all()


def test_a_window_without_forecasts_is_named(task: Task) -> None:
    late = CONFIG.model_copy(
        update={
            "backtest": CONFIG.backtest.model_copy(
                update={"start": datetime(1999, 1, 1, tzinfo=UTC), "end": datetime(1999, 3, 1, tzinfo=UTC)}
            )
        }
    )
    with pytest.raises(DataError, match="no origin in the backtest window"):
        run(late, as_of=AS_OF, progress=silent, options=Options(horizons=(1,), models=("ewma_94",)))
    with pytest.raises(ValueError, match=r"models must be among .*, was 'oracle'"):
        forecasts(task, ["oracle"])
