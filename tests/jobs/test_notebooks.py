"""The notebooks: one question each, short, paired with a text file, and they run."""

import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from typer.testing import CliRunner

from pipelines.__main__ import app

FOLDER = Path(__file__).parents[2] / "notebooks"
PAIRS = sorted(FOLDER.glob("*.py"))
SMALL = [
    "forecast.learner_refit=2000", "forecast.garch_refit=2000", "backtest.accounts={count: 50}",
    "tracking={enabled: false}", "data.markets=[SPX, WTI]", "jobs={reuse: false}",
    "margin.plan_steps=2", "backtest.sensitivity={mode: 'off'}",
]  # fmt: skip


def test_there_are_five() -> None:
    assert [p.stem[:2] for p in PAIRS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("path", PAIRS, ids=lambda p: p.stem)
def test_a_notebook_is_short_says_its_finding_and_equals_its_pair(path: Path) -> None:
    text = jupytext.read(path)
    notebook = jupytext.read(path.with_suffix(".ipynb"))
    assert len(text.cells) < 20
    first = text.cells[0]
    assert first.cell_type == "markdown"
    title = first.source.splitlines()[0]
    assert re.match(r"# .*\d", title), "the title states a finding, with a number"
    last = text.cells[-1]
    assert last.cell_type == "code"
    assert last.source.startswith("# The title holds")
    assert "assert " in last.source
    assert first.source.count("**Question.**") == 1
    assert [(c.cell_type, c.source) for c in text.cells] == [(c.cell_type, c.source) for c in notebook.cells]
    assert not any(c.get("outputs") for c in notebook.cells)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the demo ended, with few refits."""
    home = tmp_path_factory.mktemp("notebooks") / "home"
    config = FOLDER.parent / "pipelines" / "config" / "demo.yaml"
    changes = [part for change in SMALL for part in ("--set", change)]
    ended = CliRunner().invoke(app, ["run", "--config", str(config), "--home", str(home), *changes])
    assert ended.exit_code == 0, ended.output
    return home


def test_they_run_from_top_to_bottom(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel for all five, swept in between: starting it is most of the cost."""
    monkeypatch.setenv("CALIBRATOR_HOME", str(home))
    cells = []
    for path in PAIRS:
        cells += [nbformat.v4.new_code_cell("%reset -f"), *jupytext.read(path).cells]
    whole = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(whole, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    ran = [c for c in whole.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in ran)
