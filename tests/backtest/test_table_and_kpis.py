"""Coverage table, procyclicality and shortfall at equal margin against plain loops and identities."""

import numpy as np
import pandas as pd
import pytest

from calibrator.backtest.coverage import excess_breaches, traffic_light
from calibrator.backtest.kpis import equal_margin_shortfall, procyclicality
from calibrator.backtest.losses import worst_start
from calibrator.backtest.table import coverage_table
from calibrator.errors import DataError

ROW = ["market", "origin", "side"]


def margins_for(losses: pd.DataFrame, margin: float, *, level: float = 0.99) -> pd.DataFrame:
    keys = losses[ROW].drop_duplicates(ignore_index=True)
    return keys.assign(level=level, horizon=20, margin=margin, margin_unlimited=margin * 0.9)


def one_start(losses: pd.DataFrame) -> pd.DataFrame:
    return losses[losses["start"] == 0].drop(columns=["start", "known_at"])


def test_counts_equal_a_plain_loop(losses: pd.DataFrame, realized_variance: pd.DataFrame) -> None:
    table = coverage_table(margins_for(losses, 0.05), losses, realized_variance=realized_variance, draws=99)
    assert table[["market", "side"]].to_numpy().tolist() == [
        ["A", "long"], ["A", "short"], ["B", "long"], ["B", "short"]
    ]  # fmt: skip
    row = table.iloc[1]
    mine = losses[(losses["market"] == "A") & (losses["side"] == "short")]
    hits = mine["loss"] > 0.05
    assert (row["observations"], row["breaches"], row["series"]) == (1500, hits.sum(), 3)
    assert row["coverage"] == pytest.approx(1 - hits.mean())
    assert row["worst_start_coverage"] == pytest.approx(
        1 - (mine.groupby("origin")["loss"].max() > 0.05).mean()
    )
    assert row["worst_loss_to_margin"] == pytest.approx(mine["loss"].max() / 0.05)
    assert row["worst_origin"] == mine.loc[mine["loss"].idxmax(), "origin"]
    variance = realized_variance[realized_variance["market"] == "A"]
    high = variance[variance["realized_variance"].rank(pct=True) > 0.9]["origin"]
    assert row["observations_high_variance"] == 3 * len(high)
    assert row["coverage_high_variance"] == pytest.approx(1 - hits[mine["origin"].isin(high)].mean())
    assert row["coverage_high_variance"] < row["coverage"]


def test_one_series_keeps_the_tests_own_p_value(losses: pd.DataFrame) -> None:
    x = one_start(losses)
    row = coverage_table(margins_for(x, 0.06), x, draws=99).iloc[0]
    assert row["excess_p_value"] == excess_breaches(int(row["breaches"]), 500, level=0.99).decision_p_value
    assert row["zone"] == traffic_light(int(row["breaches"]), 500, level=0.99).zone
    assert row["excess_p_value"] == row["excess_p_value_smallest"]


def test_overlapping_losses_are_tested_per_offset(losses: pd.DataFrame) -> None:
    x = one_start(losses)
    row = coverage_table(margins_for(x, 0.05), x, overlap=5, draws=99).iloc[0]
    hits = (x[(x["market"] == "A") & (x["side"] == "long")]["loss"] > 0.05).to_numpy()
    p = [excess_breaches(int(hits[k::5].sum()), 100, level=0.99).decision_p_value for k in range(5)]
    assert row["series"] == 5
    assert row["excess_p_value"] == min(1.0, 2 * float(np.median(p)))
    assert row["excess_p_value_smallest"] == min(p)


def test_repeated_losses_do_not_reject_a_correct_margin() -> None:
    """Every loss shows up in five consecutive rows: pooled tests reject far too often, offsets do not."""
    rng = np.random.default_rng(9)
    origins = pd.date_range("2020-01-01", periods=500, tz="UTC").as_unit("us")
    pooled, frames = [], []
    for i in range(120):
        worst = rng.random(504) < 0.01 / 5
        hits = np.convolve(worst, np.ones(5), mode="valid") > 0
        pooled.append(excess_breaches(int(hits.sum()), 500, level=0.99).decision_p_value)
        loss = np.where(hits, 0.1, 0.0)
        frames.append(pd.DataFrame({"market": f"m{i}", "origin": origins, "side": "long", "loss": loss}))
    x = pd.concat(frames, ignore_index=True)
    offset = coverage_table(margins_for(x, 0.05), x, overlap=5, draws=9)["excess_p_value"]
    assert np.mean(np.array(pooled) <= 0.05) > 0.08
    assert np.mean(offset <= 0.05) <= 0.05


def test_missing_rows_are_counted(losses: pd.DataFrame) -> None:
    x = one_start(losses).reset_index(drop=True)
    margins = margins_for(x, 0.05).iloc[10:]
    x.loc[20:24, "loss"] = np.nan
    row = coverage_table(margins, x, draws=9).iloc[0]
    assert (row["observations"], row["not_known"], row["without_margin"]) == (485, 5, 10)
    unknown = coverage_table(margins, x.assign(loss=np.nan), draws=9).iloc[0]
    assert (unknown["observations"], unknown["not_known"]) == (0, 500)


def test_levels_are_measured_apart(losses: pd.DataFrame) -> None:
    x = one_start(losses)
    both = pd.concat([margins_for(x, 0.05), margins_for(x, 0.03, level=0.9)], ignore_index=True)
    table = coverage_table(both, x, column="margin_unlimited", draws=9)
    assert table["level"].tolist() == [0.9] * 4 + [0.99] * 4
    assert table["breaches"].iloc[0] > table["breaches"].iloc[4]


def test_bad_input(losses: pd.DataFrame) -> None:
    m = margins_for(losses, 0.05)
    with pytest.raises(ValueError, match="overlap must be at least 1, was 0"):
        coverage_table(m, losses, overlap=0)
    with pytest.raises(ValueError, match="column must be 'margin' or 'margin_unlimited', was 'level'"):
        coverage_table(m, losses, column="level")
    with pytest.raises(ValueError, match=r"margins must have one horizon, had \[1, 20\]"):
        coverage_table(pd.concat([m, m.assign(horizon=1)]), losses)
    with pytest.raises(
        DataError, match="Losses from backtest: rule 'one row per market, origin, start, side'"
    ):
        coverage_table(m, losses.assign(start=0))
    with pytest.raises(DataError, match="Margins from backtest: column 'margin'"):
        coverage_table(m.assign(margin=0.0), losses)
    with pytest.raises(DataError, match="RealizedVariance from backtest"):
        coverage_table(m, losses, realized_variance=pd.DataFrame({"market": ["A"]}))


def test_worst_start_is_missing_when_one_start_is(losses: pd.DataFrame) -> None:
    x = losses.copy()
    x.loc[x.index[0], "loss"] = np.nan
    worst = worst_start(x)
    assert worst.isna().sum() == 1
    assert worst.notna().sum() == 1999


def test_procyclicality_equals_a_plain_loop() -> None:
    m = 0.05 * np.exp(np.cumsum(0.05 * np.random.default_rng(1).standard_normal(300)))
    x = pd.DataFrame(
        {"market": "A", "origin": pd.date_range("2022-01-01", periods=300, tz="UTC").as_unit("us")}
    )
    x = x.assign(side="long", level=0.99, horizon=24, margin=m, margin_unlimited=m)
    row = procyclicality(x.sample(frac=1, random_state=1), window=100).iloc[0]
    for n in (1, 5, 10):
        assert row[f"max_increase_{n}"] == pytest.approx(max(m[i] / m[i - n] - 1 for i in range(n, 300)))
    spans = [m[max(0, i - 99) : i + 1] for i in range(49, 300)]
    assert row["peak_to_trough"] == pytest.approx(max(s.max() / s.min() - 1 for s in spans))
    short = procyclicality(x.iloc[:3]).iloc[0]
    assert np.isnan(short["max_increase_5"])
    assert np.isnan(short["peak_to_trough"])


def test_equal_margin_shortfall_equals_a_plain_loop(losses: pd.DataFrame) -> None:
    rng = np.random.default_rng(3)
    p = losses[ROW].drop_duplicates(ignore_index=True)
    p = p.assign(historical_simulation=0.03, other=0.02 + 0.03 * rng.random(len(p)))
    x = losses.copy()
    x.loc[x.index[:40], "loss"] = np.nan  # 40 rows of (A, long) lose a start and are not compared
    p.loc[p.index[-7:], "other"] = np.nan
    out = equal_margin_shortfall(p, x)
    usable = p.dropna()
    matrix = x.pivot_table(index=ROW, columns="start", values="loss", dropna=False).dropna()
    joined = usable.set_index(ROW).join(matrix, how="inner")
    assert out["rows"].tolist() == [len(joined)] * 2 == [1953] * 2
    scale = 0.03 / joined["other"].mean()
    starts = joined[[0, 1, 2]].to_numpy()
    short = np.maximum(starts - scale * joined[["other"]].to_numpy(), 0).mean(axis=1)
    assert out.loc["other", "scale"] == pytest.approx(scale)
    assert out.loc["other", "shortfall_bp"] == pytest.approx(short.mean() * 1e4)
    assert out.loc["other", "coverage"] == pytest.approx(1 - (starts > joined[["other"]].to_numpy()).mean())
    worst = pd.Series(starts.max(axis=1), joined.index).groupby("origin").mean().idxmax()
    rest = joined.index.get_level_values("origin") != worst
    assert out.loc["other", "shortfall_bp_without_worst_day"] == pytest.approx(short[rest].mean() * 1e4)
    assert out.loc["historical_simulation", ["relative", "relative_trailing"]].tolist() == [1.0, 1.0]


def test_a_constant_factor_changes_no_score(losses: pd.DataFrame) -> None:
    p = losses[ROW].drop_duplicates(ignore_index=True).assign(historical_simulation=0.03)
    p["other"] = p["historical_simulation"] * np.where(p["market"] == "A", 0.8, 1.2)
    one = equal_margin_shortfall(p, losses).loc["other"]
    ten = equal_margin_shortfall(p.assign(other=10 * p["other"]), losses).loc["other"]
    for name in ("shortfall_bp", "shortfall_bp_without_worst_day", "shortfall_bp_trailing", "relative"):
        assert one[name] == pytest.approx(ten[name])
    assert ten["average_margin"] == pytest.approx(10 * one["average_margin"])


def test_trailing_scale_is_causal(losses: pd.DataFrame) -> None:
    p = losses[ROW].drop_duplicates(ignore_index=True).assign(historical_simulation=0.03)
    # A policy that doubles half-way: the trailing constant does not know it before.
    late = p["origin"] >= p["origin"].median()
    out = equal_margin_shortfall(p.assign(other=np.where(late, 0.06, 0.03)), losses).loc["other"]
    assert out["scale"] == pytest.approx(2 / 3, abs=0.01)
    assert out["shortfall_bp_trailing"] < out["shortfall_bp"]


def test_equal_margin_shortfall_refuses_what_it_cannot_compare(losses: pd.DataFrame) -> None:
    p = losses[ROW].drop_duplicates(ignore_index=True).assign(historical_simulation=0.03)
    with pytest.raises(ValueError, match="reference must be one of the policies"):
        equal_margin_shortfall(p, losses, reference="none")
    with pytest.raises(DataError, match="some are duplicated"):
        equal_margin_shortfall(pd.concat([p, p]), losses)
    with pytest.raises(DataError, match="no row with a positive margin of every policy"):
        equal_margin_shortfall(p.assign(other=0.0), losses)
