"""The whole job as an operator starts it: what it writes, what it refuses, what it leaves alone."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import Result

from calibrator import frames
from calibrator.config import load_config
from calibrator.publish.client import anchor, verify
from calibrator.publish.document import decode
from calibrator.publish.storage import lock

Command = Callable[..., Result]
Finished = tuple[Path, Result]
NOW = datetime.now(UTC)
FRAMES = {
    "forecasts": frames.FORECASTS,
    "regimes": frames.REGIMES,
    "tails": frames.TAILS,
    "margins": frames.MARGINS,
    "haircuts": frames.HAIRCUTS,
    "plan": frames.PLAN,
    "schedule": frames.SCHEDULE_HISTORY,
    "exposures": frames.EXPOSURES,
    "per_unit": frames.PER_UNIT,
}


def only(place: Path, name: str, home: str = "home") -> Path:
    (found,) = (place / home / "runs").glob(f"*/{name}")
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_run_ends_well_and_says_where_everything_is(finished: Finished) -> None:
    ended = finished[1]
    assert ended.exit_code == 0, ended.output
    shown = " ".join(ended.output.split())
    for text in (
        "sequence 1 (published)",
        "Backtest verdict",
        "SIMULATED accounts",
        "report.html",
        "validation.html",
        "AAA",
        "OIL",
    ):
        assert text in shown


@pytest.mark.parametrize("name", FRAMES)
def test_every_frame_conforms_as_it_stands_on_disk(finished: Finished, name: str) -> None:
    frame = pd.read_parquet(only(finished[0], f"{name}.parquet"))
    assert len(frames.conform(frame, FRAMES[name], source=name)) == len(frame) > 0


def test_the_published_model_is_called_combination_and_has_every_row(finished: Finished) -> None:
    frame = pd.read_parquet(only(finished[0], "forecasts.parquet"))
    by_model = frame.groupby("model").size()
    assert by_model["combination"] == by_model.max()
    assert set(by_model.index) >= {"ewma", "har", "garch", "gjr_t", "pooled", "lightgbm", "combination"}


def test_what_is_signed_is_the_last_row_of_what_was_backtested(finished: Finished) -> None:
    document = decode(only(finished[0], "parameters.json").read_bytes())
    schedule = pd.read_parquet(only(finished[0], "schedule.parquet"))
    haircuts = pd.read_parquet(only(finished[0], "haircuts.parquet"))
    for market in document.markets:
        if market.role == "perpetual":
            last = (
                schedule[schedule["market"] == market.symbol]
                .sort_values(["effective_from", "notional_floor"])
                .tail(len(market.margins))
            )
            signed = [(t.maintenance_margin_ppm, t.initial_margin_ppm) for t in market.margins]
            held = last[["maintenance_margin_ppm", "initial_margin_ppm"]].itertuples(index=False, name=None)
            assert signed == list(held)
        else:
            last_haircut = haircuts.sort_values("origin")["haircut"].iloc[-1]
            assert market.haircut.haircut_ppm == round(1e6 * last_haircut)


def test_the_published_file_verifies(finished: Finished, tmp_path: Path) -> None:
    home = finished[0] / "home"
    anchor(tmp_path, (home / "published" / "metadata" / "1.root.json").read_bytes())
    at = datetime(2021, 1, 1, tzinfo=UTC)
    document = verify(home / "published", trusted=tmp_path, now=NOW, as_of=at)
    assert document == decode(only(finished[0], "parameters.json").read_bytes())


def test_two_empty_homes_get_the_same_parameters_byte_for_byte(
    finished: Finished, place: Path, command: Command
) -> None:
    assert command("run", "--config", place / "run.yaml", "--home", place / "home").exit_code == 0
    assert only(place, "parameters.json").read_bytes() == only(finished[0], "parameters.json").read_bytes()
    for page in ("report.html", "validation.html"):
        assert only(place, page).read_bytes() == only(finished[0], page).read_bytes()


def test_a_rerun_publishes_nothing_new_and_the_next_day_does(
    finished: Finished, place: Path, command: Command
) -> None:
    shutil.copytree(finished[0] / "home", place / "home")
    before = files(place / "home" / "published")
    again = command("run", "--config", place / "run.yaml", "--home", place / "home")
    assert (again.exit_code, "nothing new" in again.output) == (0, True)
    assert files(place / "home" / "published") == before

    earlier = pd.read_parquet(place / "bars.parquet")["time"].max() - pd.Timedelta("1D")
    back = command(
        "run", "--config", place / "run.yaml", "--home", place / "home", "--as-of", earlier.isoformat()
    )
    assert back.exit_code in {5, 7}
    assert files(place / "home" / "published") == before


def test_the_day_after_is_attributed_to_the_ppm(place: Path, command: Command) -> None:
    last = pd.read_parquet(place / "bars.parquet")["time"].max()
    eve = (last - pd.Timedelta("1D")).isoformat()
    for more in (["--as-of", eve], []):
        ended = command("run", "--config", place / "run.yaml", "--home", place / "home", *more)
        assert ended.exit_code == 0, ended.output
    newest = max((place / "home" / "runs").glob("*/parameters.json"))
    document = decode(newest.read_bytes())
    assert document.sequence == 2
    for market in document.markets:
        assert market.previous_ppm is not None
        assert sum(market.attribution.values()) == market.value_ppm - market.previous_ppm


def spoil(column: str, value: float, row: int = 400) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(bars: pd.DataFrame) -> pd.DataFrame:
        out = bars.copy()
        out.loc[row, column] = value
        return out

    return change


def stop(market: str | None, days: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(bars: pd.DataFrame) -> pd.DataFrame:
        own = bars["market"] == market if market else pd.Series(data=True, index=bars.index)
        return bars[~(own & (bars["time"] > bars["time"].max() - pd.Timedelta(days=days)))]

    return change


BAD = {
    "wrong column": (lambda b: b.rename(columns={"close": "last"}), 3, "close"),
    "not a number": (spoil("close", np.nan), 3, "is missing"),
    "negative price": (spoil("low", -1.0), 3, "low"),
    "zero price": (spoil("close", 0.0), 3, "close"),
    "high below low": (lambda b: b.assign(high=b["low"], low=b["high"]), 3, "high"),
    "duplicate time": (lambda b: pd.concat([b, b.tail(1)]), 3, "time"),
    "unsorted": (lambda b: b.iloc[::-1], 3, "time"),
    "naive time": (lambda b: b.assign(time=b["time"].dt.tz_localize(None)), 3, "time"),
    "constant": (lambda b: b.assign(open=1.0, high=1.0, low=1.0, close=1.0), 3, "constant"),
    "one row": (lambda b: b.head(1), 3, "data.min_bars"),
    "empty": (lambda b: b.head(0), 3, "no row"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bars_are_refused_by_name_and_nothing_published_changes(
    finished: Finished, place: Path, command: Command, name: str
) -> None:
    change, code, says = BAD[name]
    change(pd.read_parquet(place / "bars.parquet")).to_parquet(place / "bars.parquet", index=False)
    shutil.copytree(finished[0] / "home" / "published", place / "home" / "published")
    before = files(place / "home" / "published")
    ended = command("run", "--config", place / "run.yaml", "--home", place / "home")
    assert (ended.exit_code, "Traceback" in ended.output) == (code, False)
    assert says in " ".join(ended.output.split())
    assert files(place / "home" / "published") == before


SETTINGS = {
    "missing file": ({"data": {"bars": ["nowhere.parquet"]}}, 3, "nowhere.parquet"),
    "unknown key": ({"data": {"colour": "red"}}, 2, "data.colour"),
    "level above one": ({"margin": {"level": 1.2}}, 2, "margin.level"),
    "ten thousand digits": ({"margin": {"close_out": int("9" * 4000)}}, 2, "margin.close_out"),
    "settings of an unknown market": ({"markets": {"OLI": {"role": "collateral"}}}, 2, "markets.OLI"),
    "unknown market": ({"data": {"markets": ["ZZZ"]}}, 3, "ZZZ"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_bad_settings_are_refused_by_name(place: Path, command: Command, name: str) -> None:
    change, code, says = SETTINGS[name]
    raw = yaml.safe_load((place / "run.yaml").read_text())
    for section, values in change.items():
        raw[section] = raw.get(section, {}) | values
    (place / "run.yaml").write_text(yaml.safe_dump(raw))
    ended = command("run", "--config", place / "run.yaml", "--home", place / "home")
    assert (ended.exit_code, says in " ".join(ended.output.split())) == (code, True), ended.output


def test_stale_bars_keep_what_is_published(finished: Finished, place: Path, command: Command) -> None:
    shutil.copytree(finished[0] / "home" / "published", place / "home" / "published")
    before = files(place / "home" / "published")
    ended = command("run", "--config", place / "run.yaml", "--home", place / "home", "--as-of", "2031-01-01")
    assert (ended.exit_code, files(place / "home" / "published")) == (4, before)


def test_a_stale_market_is_held_at_its_last_good_value(
    finished: Finished, place: Path, command: Command
) -> None:
    shutil.copytree(finished[0] / "home", place / "home")
    bars = pd.read_parquet(place / "bars.parquet")
    end = bars["time"].max()
    longer = bars.assign(time=bars["time"] + pd.Timedelta("100D"))
    longer = pd.concat([bars, longer[(longer["time"] > end) & (longer["market"] != "BBB")]])
    longer.sort_values(["market", "time"]).to_parquet(place / "bars.parquet", index=False)
    raw = yaml.safe_load((place / "run.yaml").read_text())
    raw["margin"]["limits"] = {"max_increase": 5.0, "max_decrease": 0.9}
    raw["publish"] = {"approve_tightening": 1e6, "approve_loosening": 1.0}  # a hundred days at once
    (place / "run.yaml").write_text(yaml.safe_dump(raw))
    ended = command("run", "--config", place / "run.yaml", "--home", place / "home")
    assert ended.exit_code == 0, ended.output
    newest = max((place / "home" / "runs").glob("*/parameters.json"))
    old = {m.symbol: m for m in decode(only(finished[0], "parameters.json").read_bytes()).markets}
    held = {m.symbol: m for m in decode(newest.read_bytes()).markets}["BBB"]
    assert (held.status, held.value_ppm) == ("held", old["BBB"].value_ppm)
    first, second = (decode(p.read_bytes()).portfolio for p in (only(finished[0], "parameters.json"), newest))
    assert first is not None
    assert second is not None
    assert second.rules().underlying("BBB") == first.rules().underlying("BBB")
    assert {c.second for c in second.correlations} == {"OIL"}  # nothing is offset against a held market


def test_another_process_holding_the_home_is_named(place: Path, command: Command) -> None:
    (place / "home").mkdir()
    with lock(place / "home" / "run.lock"):
        ended = command("run", "--config", place / "run.yaml", "--home", place / "home")
    assert ended.exit_code == 6


def test_the_architecture_yaml_loads_as_it_stands(tmp_path: Path) -> None:
    text = """
data: {source: files, bars: [bars.parquet], markets: all, bar: 1h, label: start}
forecast: {horizon: 24, cadence: 24, origin_hour: 0}
margin: {close_out: 24, level: 0.99}
backtest: {start: 2021-01-01, end: 2025-06-29}
"""
    (tmp_path / "run.yaml").write_text(text)
    config = load_config(tmp_path / "run.yaml")
    assert (config.margin.close_out, config.data.bars[0].path) == (24, tmp_path / "bars.parquet")


def test_the_backtest_is_json_with_a_verdict(finished: Finished) -> None:
    found = json.loads(only(finished[0], "backtest.json").read_text())
    assert found["verdict"]["status"] in {"pass", "review"}
    assert found["replay"]["simulated"] is True
    assert set(found) >= {"coverage", "kpis", "policies", "replay", "rejections", "forecasts", "verdict"}


def test_missed_days_do_not_block_the_next_document(place: Path, command: Command) -> None:
    last = pd.read_parquet(place / "bars.parquet")["time"].max()
    raw = yaml.safe_load((place / "run.yaml").read_text())
    raw["publish"] = {"approve_loosening": 1.0}  # a fortnight's falls at once
    (place / "run.yaml").write_text(yaml.safe_dump(raw))
    for days in (12, 0):
        at = (last - pd.Timedelta(days=days)).isoformat()
        ended = command("run", "--config", place / "run.yaml", "--home", place / "home", "--as-of", at)
        assert ended.exit_code == 0, ended.output


def test_prices_without_a_range_lose_at_the_close(place: Path, command: Command) -> None:
    bars = pd.read_parquet(place / "bars.parquet")
    flat = bars.assign(**dict.fromkeys(("open", "high", "low"), bars["close"]))
    bars.where(bars["market"] != "BBB", flat).to_parquet(place / "bars.parquet", index=False)
    ended = command("run", "--config", place / "run.yaml", "--home", place / "home")
    assert ended.exit_code == 0, ended.output
    found = json.loads(only(place, "backtest.json").read_text())
    assert {name.split(", ")[-1] for name in found["policies"]} == {"excursion", "terminal"}


def test_a_refused_update_leaves_no_document_behind(place: Path, command: Command) -> None:
    last = pd.read_parquet(place / "bars.parquet")["time"].max()
    eve = (last - pd.Timedelta("1D")).isoformat()
    first = command("run", "--config", place / "run.yaml", "--home", place / "home", "--as-of", eve)
    assert first.exit_code == 0, first.output
    before = files(place / "home" / "published")
    tiny = ["--set", "margin.limits={max_increase: 0.000001, max_decrease: 0.000001}"]
    doubled = ["--set", "margin.gap_add_on=0.2"]
    ended = command("run", "--config", place / "run.yaml", "--home", place / "home", *tiny, *doubled)
    assert ended.exit_code == 5, ended.output
    assert files(place / "home" / "published") == before
    assert len(list((place / "home" / "runs").glob("*/parameters.json"))) == 1


def test_a_document_that_waits_for_a_second_key_has_its_report(place: Path, command: Command) -> None:
    last = pd.read_parquet(place / "bars.parquet")["time"].max()
    home, settings = place / "home", ("--config", place / "run.yaml", "--home", place / "home")
    eve = (last - pd.Timedelta("1D")).isoformat()
    every = ["--set", "publish={approve_tightening: 0.000001, approve_loosening: 0.000001}"]
    first = command("run", *settings, *every, "--as-of", eve)
    assert first.exit_code == 0, first.output
    before = files(home / "published")
    waits = command("run", *settings, *every)
    assert waits.exit_code == 5, waits.output
    assert "second key" in " ".join(waits.output.split())
    assert files(home / "published") == before
    folder = max((home / "runs").iterdir())
    assert {"parameters.json", "backtest.json", "report.html", "validation.html"} <= {
        path.name for path in folder.iterdir()
    }
    approved = command("publish", *settings, *every, "--approve", home / "keys" / "approver.pem")
    assert approved.exit_code == 0, approved.output
    assert files(home / "published") != before


def test_the_signed_file_does_not_wait_for_backtest_and_report(finished: Finished) -> None:
    signed = (finished[0] / "home" / "published" / "metadata" / "timestamp.json").stat().st_mtime_ns
    assert signed <= only(finished[0], "backtest.json").stat().st_mtime_ns
    assert signed <= only(finished[0], "report.html").stat().st_mtime_ns


def test_a_run_of_collaterals_alone_has_its_report(place: Path, command: Command) -> None:
    raw = yaml.safe_load((place / "run.yaml").read_text())
    raw["markets"] = {name: {"role": "collateral"} for name in ("AAA", "BBB", "OIL")}
    raw["haircut"] = {"limits": {"step": 0.005, "every": 3, "steps": 5}}
    (place / "run.yaml").write_text(yaml.safe_dump(raw))
    ended = command("run", "--config", place / "run.yaml", "--home", place / "home")
    assert ended.exit_code == 0, ended.output
    found = json.loads(only(place, "backtest.json").read_text())
    assert found["sensitivity"]["base"]["top_tier"] is None
    assert only(place, "report.html").stat().st_size > 0
