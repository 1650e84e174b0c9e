"""The ledger: one job at a time, once per input; whoever was overtaken publishes nothing."""

import json
import logging
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from calibrator.errors import CalibratorError, DataError, DeadlineError, LockError, PublishError
from pipelines.benchmarks.promotion import fill
from pipelines.catch_up import decision_times
from pipelines.jobs import Job, job, log
from pipelines.ledger import Identity, Ledger, open_ledger
from pipelines.logs import Lines, start_logs
from pipelines.metrics import label, write_metrics

NOW = datetime(2024, 1, 1, tzinfo=UTC)
LEASE = timedelta(minutes=5)
SAME = Identity("run", NOW, "c", "d", "e")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(tmp_path) as ledger:
        yield ledger


def elsewhere(ledger: Ledger, token: int) -> None:
    """Make a row belong to a process of another machine, about which nothing is known."""
    ledger._database.execute("UPDATE jobs SET owner = 'elsewhere:1' WHERE id = ?", (token,))


def test_a_lease_is_held_until_it_runs_out_and_then_fenced_off(ledger: Ledger) -> None:
    first = ledger.start("run", None, now=NOW, lease=LEASE)
    elsewhere(ledger, first)
    with pytest.raises(
        LockError, match=r"job 1 \(run\) of elsewhere:1 holds the ledger until 2024-01-01T00:05"
    ):
        ledger.start("run", None, now=NOW + LEASE / 2, lease=LEASE)
    ledger.hold(first, now=NOW + LEASE / 2, lease=LEASE)
    with pytest.raises(LockError):
        ledger.start("run", None, now=NOW + LEASE, lease=LEASE)
    second = ledger.start("run", None, now=NOW + 2 * LEASE, lease=LEASE)
    assert second > first
    with pytest.raises(LockError, match="job 1 lost the ledger to a later one"):
        ledger.hold(first, now=NOW + 2 * LEASE)
    ledger.finish(first, "done", now=NOW + 2 * LEASE)
    assert [r.state for r in ledger.rows()] == ["running", "abandoned"]


def test_the_same_input_is_done_once_and_anything_else_again(ledger: Ledger) -> None:
    first = ledger.start("run", None, now=NOW, lease=LEASE)
    assert ledger.identify(first, SAME, now=NOW) is None
    ledger.finish(first, "done", now=NOW, facts={"sequence": 7})
    second = ledger.start("run", None, now=NOW, lease=LEASE)
    found = ledger.identify(second, SAME, now=NOW)
    assert found is not None
    assert (found.id, found.facts) == (first, {"sequence": 7})
    for field in ("job", "as_of", "config", "data", "code"):
        value = NOW + LEASE if field == "as_of" else "x"
        fields = {n: getattr(SAME, n) for n in ("job", "as_of", "config", "data", "code")} | {field: value}
        assert ledger.identify(second, Identity(**fields), now=NOW) is None, field
    ledger.finish(second, "failed", now=NOW, exit_code=3)
    assert ledger.last_done("run") == NOW
    with pytest.raises(sqlite3.IntegrityError):
        ledger._database.execute("UPDATE jobs SET state = 'done', key = ? WHERE id = 2", (SAME.key,))


def test_which_model_was_live_at_any_time(ledger: Ledger) -> None:
    assert ledger.live(NOW) is None
    for day, (model, action) in enumerate([("a", "promote"), ("b", "promote"), ("a", "rollback")]):
        ledger.decide(model, action, now=NOW + timedelta(days=day), reason="r")
    asked = [(0.0, "a"), (0.9, "a"), (1.0, "b"), (1.5, "b"), (2.0, "a"), (400.0, "a")]
    for days, model in asked:
        live = ledger.live(NOW + timedelta(days=days))
        assert live is not None
        assert live["model"] == model
    assert ledger.live(NOW - timedelta(seconds=1)) is None
    plan = ledger._database.execute(
        "EXPLAIN QUERY PLAN SELECT model FROM models WHERE decided <= 'x'"
        " ORDER BY decided DESC, id DESC LIMIT 1"
    ).fetchall()
    assert not any("USE TEMP" in str(step) for step in plan)


def test_a_ledger_of_twenty_years_answers_from_its_index(ledger: Ledger) -> None:
    """Nightly runs and weekly decisions of twenty years: the answer is right, and no row is read in vain."""
    fill(ledger, years=20, first=NOW)
    assert len(ledger.decisions()) == 20 * 52
    for week in (0, 1, 517, 20 * 52 - 1):
        live = ledger.live(NOW + timedelta(weeks=week, days=3))
        assert live is not None
        assert live["model"] == f"model-{week}"
    for query in (
        "SELECT model FROM models WHERE decided <= 'x' ORDER BY decided DESC, id DESC LIMIT 1",
        "SELECT max(as_of) FROM jobs WHERE job = 'run' AND state = 'done'",
        "SELECT id FROM jobs WHERE key = 'x' AND state = 'done'",
    ):
        plan = [str(step) for step in ledger._database.execute(f"EXPLAIN QUERY PLAN {query}")]
        assert all("SEARCH" in step and "INDEX" in step for step in plan), plan


def test_an_alarm_stands_once_until_it_is_taken_back(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.alarm("loss", "retrain", since=NOW, now=NOW, message="m", row=None)
    assert [a["kind"] for a in ledger.standing()] == ["loss"]
    ledger.clear(now=NOW, kinds=["loss"])
    assert ledger.standing() == []


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("no database " * 100)
    with pytest.raises(PublishError, match=r"ledger .*ledger.db: cannot be used"), open_ledger(tmp_path):
        pass


@pytest.fixture
def small() -> Config:
    return Config.model_validate({"data": {"source": "embedded", "bar": "1d"}, "jobs": {"deadline": 60}})


def clock(*, step: float = 0.0) -> Callable[[], datetime]:
    passed = iter(range(10_000))
    return lambda: NOW + timedelta(seconds=step * next(passed))


def work_on(work: Job) -> None:
    told = work.progress(lambda *_: None)
    for done in range(5):
        told("forecast", done, 5)
    pytest.fail("published")


def overtake(work: Job) -> None:
    elsewhere(work.ledger, work.token)
    work.ledger.start("run", None, now=NOW + timedelta(days=1), lease=LEASE)
    work.fence()
    pytest.fail("published")


def test_a_job_past_its_deadline_does_not_reach_publishing(small: Config, tmp_path: Path) -> None:
    with (
        pytest.raises(DeadlineError, match=r"run: not done by 2024-01-01 00:01:00 \(jobs.deadline\)"),
        job("run", small, home=tmp_path, as_of=None, now=clock(step=25)) as work,
    ):
        work_on(work)
    with open_ledger(tmp_path) as ledger:
        (row,) = ledger.rows()
    assert (row.state, row.exit_code) == ("failed", 10)


def test_a_job_knows_whether_there_is_time_for_what_may_wait(small: Config, tmp_path: Path) -> None:
    """The clock goes on by ten seconds at each look, and the deadline is after sixty."""
    with job("run", small, home=tmp_path, as_of=None, now=clock(step=10)) as work:
        assert [work.has_time() for _ in range(4)] == [True, True, False, False]


def test_a_job_that_was_overtaken_does_not_reach_publishing(small: Config, tmp_path: Path) -> None:
    with (
        pytest.raises(LockError, match="lost the ledger to a later one"),
        job("run", small, home=tmp_path, as_of=None, now=clock()) as work,
    ):
        overtake(work)


@pytest.mark.parametrize(
    ("error", "code"),
    [(DataError("x"), 3), (CalibratorError("x"), 9), (KeyError("x"), 9), (KeyboardInterrupt(), 9)],
)
def test_how_a_job_failed_is_in_the_ledger_and_in_the_metrics(
    small: Config, tmp_path: Path, error: BaseException, code: int
) -> None:
    with pytest.raises(type(error)), job("retrain", small, home=tmp_path, as_of=None, now=clock()):
        raise error
    with open_ledger(tmp_path) as ledger:
        assert [(r.state, r.exit_code) for r in ledger.rows()] == [("failed", code)]
    assert (
        f'calibrator_job_last_exit_code{{job="retrain"}} {float(code)}'
        in (tmp_path / "metrics.prom").read_text()
    )


SAMPLE = re.compile(
    r"^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-zA-Z_]\w*=\"(?:[^\"\\]|\\.)*\"(,[a-zA-Z_]\w*=\"(?:[^\"\\]|\\.)*\")*\})? "
    r"[-+0-9.e]+$"
)


def test_the_metrics_are_a_prometheus_textfile_that_keeps_what_others_measured(
    ledger: Ledger, tmp_path: Path
) -> None:
    ledger.finish(ledger.start("run", NOW, now=NOW, lease=LEASE), "done", now=NOW + LEASE)
    ledger.alarm("coverage", "alert", since=NOW, now=NOW, message="", row=None)
    odd = label("calibrator_coverage_ratio", market='a"b\\c\nd', side="long")
    write_metrics(tmp_path, ledger, {odd: 0.99, "calibrator_document_sequence": 4}, now=NOW)
    lines = write_metrics(tmp_path, ledger, {}, now=NOW + LEASE).read_text().splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert all(SAMPLE.match(line) for line in samples), samples
    names = [line.partition("{")[0].partition(" ")[0] for line in samples]
    helped = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert list(dict.fromkeys(names)) == helped
    assert f"{odd} 0.99" in samples
    assert 'calibrator_job_last_duration_seconds{job="run"} 300.0' in samples
    assert 'calibrator_alarms{kind="coverage",action="alert"} 1.0' in samples


def test_logs_are_one_json_object_per_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="pipelines"):
        log("started", job="run", as_of=NOW, text="a\nb")
    (line,) = [Lines("json").format(r) for r in caplog.records]
    assert json.loads(line) | {"time": ""} == {
        "time": "", "level": "INFO", "event": "started", "job": "run", "as_of": NOW.isoformat(),
        "text": "a\nb",
    }  # fmt: skip
    assert "\n" not in Lines("text").format(caplog.records[0])
    start_logs("none")


def test_missed_decisions_stand_on_the_grid_of_the_market(small: Config) -> None:
    hourly = Config.model_validate({"data": {"bars": ["x.csv"]}, "forecast": {"origin_hour": 8}})
    times = decision_times(hourly, NOW + timedelta(hours=8), NOW + timedelta(days=3))
    assert [t.isoformat()[:13] for t in times] == ["2024-01-02T08", "2024-01-03T08"]
    sessions = small.model_copy(
        update={"data": small.data.model_copy(update={"calendar": "sessions", "on_missing": "drop"})}
        | {"forecast": small.forecast.model_copy(update={"cadence": 1})}
    )
    first, last = datetime(2018, 12, 20, tzinfo=UTC), datetime(2018, 12, 27, tzinfo=UTC)
    assert [t.day for t in decision_times(sessions, first, last)] == [
        21,
        22,
        25,
        27,
    ]  # a session ends at midnight


STARTS = """
import os, shutil, sys
from datetime import UTC, datetime
from pathlib import Path
from calibrator.config import load_config
from calibrator.errors import CalibratorError
from pipelines.publish_job import publish
from pipelines.run import run

place = Path(sys.argv[1])
config = load_config(place / "run.yaml")

def start(gate, dies, publishes=False):
    child = os.fork()
    if child:
        return child
    os.read(gate, 1)
    def told(what, done, total):
        if dies and what == "tails and margins":
            os.kill(os.getpid(), 9)
    try:
        common = {"home": place / "home", "as_of": None, "now": lambda: datetime.now(UTC)}
        if publishes:
            publish(config, approver=None, **common)
        else:
            run(config, progress=told, **common)
        code = 0
    except CalibratorError as error:
        code = error.exit_code
    os._exit(code)

for count, dies, publishes in ((1, True, False), (20, False, False), (1, False, False), (20, False, True)):
    if publishes:
        shutil.rmtree(place / "home" / "published")
    gate, go = os.pipe()
    children = [start(gate, dies, publishes) for _ in range(count)]
    os.write(go, b"." * count)
    print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], flush=True)
"""


def test_a_killed_job_is_recovered_and_twenty_starts_publish_once(tmp_path: Path) -> None:
    bars = synthetic_bars(["AAA", "BBB"], periods=420, bar="1D", seed=11)
    bars.to_parquet(tmp_path / "bars.parquet", index=False)
    settings = {
        "data": {"bars": ["bars.parquet"], "bar": "1d", "label": "end"},
        "forecast": {"horizon": 1, "cadence": 1, "har_window": 300, "garch_window": 250, "learner_seeds": 1},
        "regime": {"window": 200, "min_window": 100},
        "margin": {
            "close_out": 1,
            "tail_window": 100,
            "tail_min": 30,
            "floor_window": 100,
            "plan_steps": 2,
            "tiers": [0, 10_000, 50_000, 200_000],
        },
        "backtest": {"accounts": {"count": 20}, "sensitivity": {"mode": "off"}},
        "tracking": {"enabled": False},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    done = subprocess.run(
        [sys.executable, "-c", STARTS, str(tmp_path)], check=True, capture_output=True, text=True, timeout=900
    )
    killed, together, again, publishers = [json.loads(line) for line in done.stdout.splitlines()]
    assert killed == [-9]
    assert sorted(together) == [0] + [6] * 19
    assert again == [0]
    with open_ledger(tmp_path / "home") as ledger:
        states = [r.state for r in ledger.rows(job="run")][::-1]
        published = [r.state for r in ledger.rows(job="publish")][::-1]
    assert states == ["abandoned", "done", "repeated"]
    assert set(publishers) <= {0, 6}
    assert len(published) == publishers.count(0)  # who did not get the lock made no row
    assert published == ["done"] + ["repeated"] * (len(published) - 1)
    targets = [p.name for p in (tmp_path / "home" / "published").rglob("*parameters.json")]
    assert len(targets) == 1, targets
    signed = (tmp_path / "home" / "published" / "metadata").glob("*.targets.json")
    assert max(p.name for p in signed) == "1.targets.json"
