"""What every kind of job leaves in a real MLflow: one parent run that leads to row and document, and back."""

import importlib.util
import json
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from calibrator.errors import ChangedError, DeadlineError
from pipelines.challenge import challenge
from pipelines.champion import write_champion
from pipelines.journal import kept
from pipelines.ledger import open_ledger
from pipelines.publish_job import refresh
from pipelines.retrain import rollback
from pipelines.tracking import sync

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed (extra `pipelines`)"
)
World = Any
"""Of ``conftest.py``."""
KINDS = ("fetch", "run", "retrain", "calibrate", "backtest", "publish", "review")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def at_once() -> datetime:
    return NOW


LOGGED = {
    "fetch": (["source tiers"], ["manifests/tiers.json"], ["sources", "findings"], ["rows", "findings"]),
    "run": (
        ["model combination", "model har", "markets perpetual 1 bars 0.99 excursion"],
        ["report.html", "backtest.json", "parameters.json", "figures/weights.png", "metadata/timestamp.json"],
        ["coverage", "kpis", "findings", "signers"],
        ["coverage/AAA/long", "margin_ppm/AAA", "stale markets"],
    ),
    "retrain": (["challenger quick"], ["contest.json"], [], []),
    "calibrate": (
        ["model combination", "model har", "markets perpetual 1 bars 0.99 excursion"],
        ["parameters.json"],
        ["margins", "plan", "findings"],
        ["margin_ppm/AAA", "margin_ppm/BBB", "findings"],
    ),
    "backtest": (
        ["model combination", "model har", "markets perpetual 1 bars 0.99 excursion"],
        ["report.html", "backtest.json", "figures/weights.png", "figures/margin-AAA-long.png"],
        ["coverage", "kpis", "forecasts", "policies perpetual, 1 bars, 0.99, excursion"],
        ["coverage/BBB/short", "shortfall_bp/perpetual_ 1 bars_ 0.99_ excursion/ours"],
    ),
    "publish": (
        [],
        ["parameters.json", "metadata/1.targets.json", "metadata/1.root.json"],
        ["signers"],
        ["margin_ppm/AAA"],
    ),
    "review": (["challenger quick"], ["review.html", "contest.json", "figures/gain.png"], [], []),
}
"""What a reviewer of each kind looks for: children, files, tables, metrics."""
LINKED = ("run", "calibrate", "publish")


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_leaves_one_parent_run_that_leads_to_its_row_and_back(worked: World, kind: str) -> None:
    (parent,), (row,) = worked.parents(kind), worked.rows(kind)
    assert (parent["status"], row.state, row.facts["mlflow_run"]) == ("FINISHED", "done", parent["id"])
    assert row.as_of is not None
    assert (parent["ledger_row"], parent["as_of"]) == (str(row.id), row.as_of.isoformat())
    assert parent["name"] == f"{kind} {row.as_of:%Y-%m-%d %H:%M}"
    assert "error" not in parent
    linked = [parent.get(k) for k in ("document", "sequence")]
    if kind not in LINKED:
        assert linked == [None, None]
        return
    (path,) = worked.home.glob("runs/*/parameters.json")
    assert linked == [sha256(path.read_bytes()).hexdigest(), "1"]
    assert linked == [row.facts["document"], str(row.facts["sequence"])]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_holds_what_its_reviewer_looks_for(worked: World, kind: str) -> None:
    children, files, tables, metrics = LOGGED[kind]
    assert {c["name"] for c in worked.children(kind)} >= set(children)
    assert all(c["status"] == "FINISHED" for c in worked.children(kind))
    (uri,) = worked.values(kind, "SELECT artifact_uri FROM runs WHERE run_uuid = ?")
    folder = Path(uri.removeprefix("file://"))
    assert all((folder / name).stat().st_size > 0 for name in files)
    held = {name: json.loads((folder / "tables" / f"{name}.json").read_bytes()) for name in tables}
    assert all(table["columns"] for table in held.values())
    assert worked.values(kind, "SELECT key FROM metrics WHERE run_uuid = ?") >= set(metrics)
    digests = worked.values(
        kind,
        "SELECT d.digest FROM inputs i JOIN datasets d ON i.source_id = d.dataset_uuid"
        " WHERE i.destination_id = ?",
    )
    assert bool(digests) == (kind not in {"publish", "retrain"})


def test_a_run_says_what_was_decided_and_by_whom(worked: World) -> None:
    (publish,), (review,), (retrain_row,) = (
        worked.parents("publish"), worked.parents("review"), worked.rows("retrain"),
    )  # fmt: skip
    targets = json.loads((worked.home / "published/metadata/1.targets.json").read_bytes())
    assert publish["signers"] == targets["signatures"][0]["keyid"][:16]
    assert publish["approved_by"] == "nobody"
    assert review["decision"] in {"promoted quick", "the champion stays"}
    assert review["retraining_row"] == str(retrain_row.id)
    assert review["retraining_run"] == retrain_row.facts["mlflow_run"]
    (one,) = worked.rows("fetch")
    digests = "SELECT d.digest FROM inputs i JOIN datasets d ON i.source_id = d.dataset_uuid"
    assert worked.values("fetch", f"{digests} WHERE i.destination_id = ?") == {
        one.facts["digests"]["tiers"][:36]
    }


@pytest.fixture
def tracking_world(worked: World, world: World) -> World:
    """A copy with a store (an empty one takes seconds to make) and MLflow switched on."""
    for folder in ("home", "data"):
        shutil.copy(worked.place / folder / "mlflow.db", world.place / folder / "mlflow.db")
    world.track(enabled=True, experiment="again")
    return world


def test_the_same_start_again_logs_nothing(tracking_world: World) -> None:
    before = {kind: tracking_world.runs(kind) for kind in KINDS}
    for kind in KINDS:
        tracking_world.start(kind, at_once)
        assert tracking_world.rows(kind)[0].state == "repeated"
    assert {kind: tracking_world.runs(kind) for kind in KINDS} == before


def test_a_fetch_that_is_refused_and_a_publication_that_is_late_are_failed_runs(
    tracking_world: World,
) -> None:
    looks = count()
    captured = tracking_world.place / "captured.json"
    captured.write_text(captured.read_text() + " ")
    with pytest.raises(ChangedError) as changed:
        tracking_world.start("fetch", at_once)
    shutil.rmtree(tracking_world.home / "published")
    with pytest.raises(DeadlineError):
        tracking_world.start("publish", lambda: NOW + timedelta(hours=12) * next(looks))
    for kind, code in (("fetch", changed.value.exit_code), ("publish", 10)):
        failed, row = tracking_world.parents(kind)[-1], tracking_world.rows(kind)[0]
        assert (failed["status"], row.state) == ("FAILED", "failed")
        assert (failed["error"], failed["exit_code"]) == (row.message, str(code))
        assert (failed["ledger_row"], row.facts["mlflow_run"]) == (str(row.id), failed["id"])


def test_what_a_server_that_is_down_missed_is_sent_later(
    tracking_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = tracking_world
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    world.track(uri="env:CALIBRATOR_TRACKING", experiment="later")
    monkeypatch.setenv("CALIBRATOR_TRACKING", address)
    shutil.rmtree(world.home / "published")
    world.start("publish", at_once)
    assert world.made("publish")
    assert world.rows("publish")[0].facts["mlflow_run"] is None
    assert len(list(kept(world.home))) == 1
    monkeypatch.setenv("CALIBRATOR_TRACKING", f"sqlite:///{world.home / 'mlflow.db'}")
    (told,) = sync(world.home)
    assert told.endswith(": sent"), told
    assert not list(kept(world.home))
    late, row = world.parents("publish")[-1], world.rows("publish")[0]
    assert (late["status"], late["ledger_row"]) == ("FINISHED", str(row.id))
    assert (late["document"], late["sequence"]) == (row.facts["document"], "1")
    assert late["signers"]
    assert (world.home / "mlartifacts" / late["id"] / "artifacts" / "tables" / "signers.json").exists()


def test_no_job_imports_mlflow_before_it_has_something_to_log() -> None:
    code = (
        "import sys\nimport pipelines.run, pipelines.retrain, pipelines.calibrate, pipelines.challenge\n"
        "import pipelines.publish_job, pipelines.fetch_job, pipelines.review\n"
        "assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_refresh_and_a_rollback_are_runs_too(tracking_world: World) -> None:
    world = tracking_world
    refresh(world.config, home=world.home, now=at_once)
    with open_ledger(world.home) as ledger:
        for model in sorted(path.name for path in (world.home / "models").glob("*-*-*")):
            ledger.decide(model, "promote", now=NOW, reason="by hand")
            write_champion(world.home, model)
    back = rollback(world.home, to=None, now=at_once, config=world.config)
    (renewed,), (rolled,) = world.parents("refresh"), world.parents("rollback")
    assert (renewed["status"], renewed["sequence"]) == ("FINISHED", "1")
    assert renewed["document"] == world.rows("publish")[0].facts["document"]
    assert (rolled["status"], rolled["champion"]) == ("FINISHED", back.id)
    for run, kind in ((renewed, "refresh"), (rolled, "rollback")):
        assert run["ledger_row"] == str(world.rows(kind)[0].id)
        assert "as_of" not in run


def test_a_backtest_says_on_its_page_that_nothing_was_signed(worked: World) -> None:
    (own,), (signed,) = (worked.home.glob(f"{of}/*/report.html") for of in ("backtests", "runs"))
    note = "nothing of this was signed or published"
    assert note in own.read_text()
    assert note not in signed.read_text()


def test_a_backtest_of_what_cannot_be_published_has_no_page(world: World) -> None:
    sections = yaml.safe_load((world.place / "run.yaml").read_text())
    sections |= {"haircut": {"add_on": 0.96}, "markets": {m: {"role": "collateral"} for m in ("AAA", "BBB")}}
    (world.place / "run.yaml").write_text(yaml.safe_dump(sections))
    made = challenge(world.config, home=world.home, as_of=None, now=at_once, progress=lambda *_: None)
    assert made.files["backtest"].exists()
    assert "report" not in made.files
    assert [line for line in made.lines if line.startswith("no page: ")], made.lines
