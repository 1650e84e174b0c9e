"""Announced changes of a small run: the base row is the replay, depth is known or left out, pages say all."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibrator.backtest.exploits_table import LATE, NOTICE, PROMPT
from calibrator.calibrate.liquidation import Depth
from calibrator.config import parse_config
from calibrator.errors import ConfigError
from pipelines.announced import (
    ACCOUNTS,
    Announced,
    announced,
    announced_accounts,
    conclusion,
    depth_of,
    setting_of,
)
from pipelines.backtesting import replays_of
from pipelines.benchmarks.announced import VARIANTS, Study, figures, moved_by, variants_table, write
from pipelines.executor import SERIAL
from pipelines.production import Production
from pipelines.report.announced import announced_drawing, drawing_name, hunting_table, rows_table
from pipelines.report.figures import draw
from pipelines.report.page import Review, build_report


def under(production: Production, **changes: Any) -> Production:
    """The same run with other settings of the section."""
    config = production.config
    own = config.backtest.announced.model_copy(update=changes)
    return replace(
        production,
        config=config.model_copy(update={"backtest": config.backtest.model_copy(update={"announced": own})}),
    )


@pytest.fixture(scope="module")
def made(review: Review) -> Announced:
    return review.backtest.announced[ACCOUNTS]


def test_the_first_row_is_the_replay_of_the_run(review: Review, made: Announced) -> None:
    replays = review.backtest.replays
    assert replays is not None
    plain, row = replays.loc["calibrated"], made.rows.loc[PROMPT]
    assert row["liquidations"] == plain["liquidations"]
    assert row["liquidated"] == pytest.approx(plain["notional_liquidated"], rel=1e-12)
    assert row["by_change"] == pytest.approx(plain["self_inflicted_notional"], rel=1e-12)
    assert row["share"] == pytest.approx(plain["self_inflicted_share"], rel=1e-12)
    assert row["shortfall"] == pytest.approx(plain["shortfall"], rel=1e-12)
    assert row[["left", "by_exit", "by_hunting", "revenue", "cost", "pushes"]].sum() == 0
    assert made.rows.loc[LATE, ["left", "pushes"]].sum() == 0
    assert made.rows.loc[NOTICE, "by_change"] <= made.rows.loc[LATE, "by_change"]


def test_every_world_is_written_as_plain_values(review: Review, made: Announced) -> None:
    content = json.loads(json.dumps(review.backtest.summary["announced"], allow_nan=False))
    one = content[ACCOUNTS]
    assert [r["case"] for r in one["rows"]] == list(made.rows.index)
    assert len(one["rows"]) == 3 + 3 + 4 + 4 + 4
    assert len(one["hunting"]) == 4 * 4
    assert (one["simulated"], one["notice"], one["open_interest"]) == (True, 1, 1.0)
    assert one["conclusion"].startswith("Net: ")


def test_off_is_nothing(review: Review) -> None:
    _, population, given = replays_of(review.production, review.bars, SERIAL)
    off = under(review.production, mode="off")
    assert announced(off, given, population, None) == {}
    assert announced_accounts(review.production, None, None) is None


def test_nobody_acts_in_a_world_without_shares_and_pushes(review: Review) -> None:
    _, population, given = replays_of(review.production, review.bars, SERIAL)
    idle = under(review.production, exits=(0.0,), pushes=())
    accounts = idle.config.backtest.accounts.model_copy(update={"reacting": 0.0})
    backtest = idle.config.backtest.model_copy(update={"accounts": accounts})
    idle = replace(idle, config=idle.config.model_copy(update={"backtest": backtest}))
    found = announced_accounts(idle, given, population)
    assert found is not None
    for row in (NOTICE, "notice, exit 0 %"):
        pd.testing.assert_series_equal(found.rows.loc[row], found.rows.loc[LATE], check_names=False)
    assert found.hunting.empty
    assert "hunt" not in found.conclusion()


def test_notice_is_the_schedules_own_or_one_cadence(review: Review) -> None:
    config = review.production.config
    assert setting_of(config, reacting=0.5, penalty=0.01).notice == config.forecast.cadence == 1
    margin = config.margin.model_copy(update={"notice": 4})
    later = config.model_copy(update={"margin": margin})
    assert setting_of(later, reacting=0.5, penalty=0.01).notice == 4
    told = under(review.production, notice=7).config
    assert setting_of(told, reacting=0.5, penalty=0.01).notice == 7


def test_a_schedule_with_notice_is_the_late_world(review: Review) -> None:
    """What is published two bars after its decisions takes effect earlier in the first row."""
    _, population, given = replays_of(review.production, review.bars, SERIAL)
    base = announced_accounts(under(review.production, notice=2), given, population)
    margin = review.production.config.margin.model_copy(update={"notice": 2})
    waits = replace(review.production, config=review.production.config.model_copy(update={"margin": margin}))
    found = announced_accounts(waits, given, population)
    assert base is not None
    assert found is not None
    assert found.setting.notice == base.setting.notice == 2
    # The same frame read as published two bars after its decisions: its late world is the frame itself.
    pd.testing.assert_series_equal(found.rows.loc[LATE], base.rows.loc[PROMPT], check_names=False)


def test_depth_is_that_of_the_last_decision_halved_when_lost(review: Review) -> None:
    production = review.production
    d = production.decisions["BTCUSDT"]
    table = d.table.iloc[:4].copy()
    table["turnover"], table["volatility_bar"] = [2e6, 4e6, np.nan, 4e6], 0.02
    origins = table.index.tz_convert(None).to_numpy()
    times = np.concatenate([origins[:1] - np.timedelta64(1, "D"), origins])
    margin = production.config.margin
    full = Depth(2e6 / production.clock.cadence, 0.02, margin.impact).cost_of_moving(1.0)
    found = depth_of(production, replace(d, table=table), times)
    assert found is not None
    # A decision at the end of a bar is known in the next one; before the first the first counts.
    np.testing.assert_allclose(found / full, [1, 1, 1, 2, 1])
    assert depth_of(production, replace(d, table=table.assign(turnover=np.nan)), times) is None
    assert depth_of(production, replace(d, table=table.assign(volatility_bar=0.0)), times) is None
    still = production.config.model_copy(update={"margin": margin.model_copy(update={"impact": 0.0})})
    assert depth_of(replace(production, config=still), replace(d, table=table), times) is None


def test_of_many_accounts_a_sample_is_followed_and_the_page_says_so(
    review: Review, made: Announced, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, population, given = replays_of(review.production, review.bars, SERIAL)
    assert population is not None
    monkeypatch.setattr("calibrator.backtest.population.MOST", len(population.accounts) // 3)
    found = announced_accounts(review.production, given, population)
    assert found is not None
    few = replace(population, accounts=population.accounts.iloc[:: found.every].reset_index(drop=True))
    monkeypatch.undo()
    again = announced_accounts(review.production, given, few)
    assert again is not None
    pd.testing.assert_frame_equal(found.rows, again.rows)
    assert (found.every, again.every, made.every) == (4, 1, 1)
    assert found.summary()["every"] == 4
    shown = replace(review, backtest=replace(review.backtest, announced={ACCOUNTS: found}))
    assert "One in 4 of the accounts is followed." in build_report(shown)


def test_markets_without_volume_are_left_out_by_name(review: Review) -> None:
    _, population, given = replays_of(review.production, review.bars, SERIAL)
    decisions = dict(review.production.decisions)
    d = decisions["BTCUSDT"]
    decisions["BTCUSDT"] = replace(d, table=d.table.assign(turnover=np.nan))
    found = announced_accounts(replace(review.production, decisions=decisions), given, population)
    assert found is not None
    assert found.left_out == ("BTCUSDT",)
    none = {m: replace(d, table=d.table.assign(turnover=np.nan)) for m, d in decisions.items()}
    assert announced_accounts(replace(review.production, decisions=none), given, population) is None


def test_the_page_shows_tables_figure_and_conclusion(review: Review, made: Announced) -> None:
    drawings = draw(review)
    page = build_report(review, drawings=drawings)
    assert f'id="figure-{drawing_name(ACCOUNTS)}"' in page
    section = page[page.index('<section id="announced">') :]
    section = section[: section.index("</section>")].replace("\u00a0", " ")
    assert "SIMULATED" in section
    assert made.conclusion().replace("'", "&#39;") in section
    for table in (rows_table(made.rows), hunting_table(made.hunting)):
        assert all(len(row) == len(table.head) for row in table.rows)
        assert all(f">{row[0]}</td>" in section for row in table.rows)
    assert [r[0] for r in rows_table(made.rows).rows] == list(made.rows.index)
    assert made.conclusion() in announced_drawing(ACCOUNTS, made).alt
    quiet = replace(review, backtest=replace(review.backtest, announced={}))
    assert 'id="announced"' not in build_report(quiet, drawings=drawings)


ROWS = pd.DataFrame(
    {"by_change": [5.0, 20.0, 8.0, 8.0], "share": [0.01, 0.04, 0.02, 0.02], "left": [0, 0, 0, 600.0],
     "changes": 50.0},
    index=[PROMPT, LATE, NOTICE, "notice, exit 25 %"],
)  # fmt: skip
PAYS = pd.DataFrame(
    {"pays": [4.0, 6.0]}, index=pd.MultiIndex.from_tuples([("no change", 0.01), (NOTICE, 0.01)],
    names=["facing", "push"]),
)  # fmt: skip
MORE = pd.DataFrame(
    {"pays": [9.0, 1.0, 8.0, 2.0]}, index=pd.MultiIndex.from_product([("no change", NOTICE), (0.01, 0.05)],
    names=["facing", "push"]),
)  # fmt: skip
SAID = [
    (ROWS, PAYS, "from 4.00 % to 2.00 % of all that is liquidated (1.00 % in force at once)"),
    (
        ROWS,
        PAYS,
        "if 25 % of the owners near it leave, 600 goes with them, 50 for each unit that notice saves",
    ),
    (ROWS, PAYS, "a push of 1 % pays at 6 of 50 announced changes and at 4 with no change at all"),
    (ROWS, PAYS, "so that the announcement adds 2."),
    (ROWS, PAYS.iloc[::-1].assign(pays=[4.0, 6.0]), "so that the announcement adds none."),
    (ROWS, MORE, "a push of 5 % pays at 2 of 50 announced changes and at 1 with no change at all"),
    (ROWS.assign(by_change=0.0, share=0.0), PAYS, "nobody by themselves, announced or not (0.00 % in force"),
    (ROWS.assign(by_change=0.0), PAYS, "600 goes with them;"),
    (ROWS.iloc[:3], PAYS.iloc[:0], "(1.00 % in force at once)."),
]


@pytest.mark.parametrize(("rows", "hunting", "said"), SAID, ids=range(len(SAID)))
def test_the_conclusion_says_what_the_rows_hold(rows: pd.DataFrame, hunting: pd.DataFrame, said: str) -> None:
    assert said in conclusion(rows, hunting)


def test_the_benchmark_writes_a_page_and_moves_every_assumption(
    review: Review, made: Announced, tmp_path: Any
) -> None:
    assert moved_by(review.production.config, {}) == review.production.config
    _, population, given = replays_of(review.production, review.bars, SERIAL)
    rows = {}
    small = under(review.production, exits=(0.25,), pushes=(0.005,))
    for name, changes in VARIANTS.items():
        moved = replace(small, config=moved_by(small.config, changes))
        found = announced_accounts(moved, given, population)
        assert found is not None
        rows[name] = figures(found)
    table = pd.DataFrame.from_dict(rows, orient="index")
    assert table["pays, no change"].loc["a third of the depth"] >= table["pays, no change"].iloc[0]
    assert table["pays, no change"].loc["three times the depth"] <= table["pays, no change"].iloc[0]
    assert table["pays, notice"].loc["the hunter gets half of the penalty"] <= table["pays, notice"].iloc[0]
    assert table["left"].loc["near: twice the equity asked"] >= table["left"].iloc[0]
    assert table["by_change_announced"].loc["everybody reacts"] == 0
    assert table["by_change_announced"].loc["nobody reacts"] == pytest.approx(
        table["by_change_unannounced"].loc["nobody reacts"]
    )
    shown = variants_table(table)
    assert all(len(r) == len(shown.head) for r in shown.rows)
    study = Study("small", {ACCOUNTS: made}, {ACCOUNTS: table}, "1d")
    day = pd.Timestamp("2026-01-02").date()
    files = write([study], home=tmp_path, made_on=day, command="the command", docs=tmp_path / "docs")
    page = files["committed table"].read_text()
    assert page.startswith("# Announced changes that people exploit")
    assert f"## small: {ACCOUNTS}" in page
    assert made.conclusion() in page
    assert (tmp_path / "docs" / "announced-simulated-accounts-small.png").read_bytes().startswith(b"\x89PNG")
    numbers = json.loads(files["numbers"].read_text())
    assert len(numbers["small"][ACCOUNTS]["variants"]) == len(VARIANTS)


BAD = [
    ({"mode": "on"}, r"backtest\.announced\.mode"),
    ({"notice": 0}, r"backtest\.announced\.notice"),
    ({"near": 0.9}, r"backtest\.announced\.near"),
    ({"exits": [1.1]}, r"backtest\.announced\.exits"),
    ({"pushes": [0.0]}, r"backtest\.announced\.pushes"),
    ({"pushes": [0.01] * 11}, r"backtest\.announced\.pushes"),
    ({"after": -1}, r"backtest\.announced\.after"),
    ({"fee": 2}, r"backtest\.announced\.fee"),
    ({"open_interest": 0}, r"backtest\.announced\.open_interest"),
    ({"exit": [0.1]}, r"backtest\.announced\.exit"),
]


@pytest.mark.parametrize(("section", "match"), BAD, ids=range(len(BAD)))
def test_bad_settings_are_named(section: dict[str, Any], match: str, tmp_path: Any) -> None:
    raw = {"data": {"source": "embedded"}, "backtest": {"announced": section}}
    with pytest.raises(ConfigError, match=match):
        parse_config(raw, folder=tmp_path, source="test")


def test_a_bare_off_is_the_word(tmp_path: Any) -> None:
    raw = {"data": {"source": "embedded"}, "backtest": {"announced": {"mode": False}}}
    assert parse_config(raw, folder=tmp_path, source="test").backtest.announced.mode == "off"
