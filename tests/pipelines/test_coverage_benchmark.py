"""The benchmark of test sizes on a small share: every test is there, and the page says how it went."""

from datetime import date
from pathlib import Path

from pipelines.benchmarks.coverage_sizes import REPETITIONS, WORLDS, run, write


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


def test_every_test_is_simulated_in_every_world(tmp_path: Path) -> None:
    table = run(scale=0.001, progress=silent)
    names = {n.partition(",")[0] for n in table["test"]}
    assert names == set(REPETITIONS)
    assert len(table) == len(WORLDS) * (len(REPETITIONS) + 2)
    assert table[["decision", "ties", "asymptotic"]].notna().all().all()
    files = write(table, home=tmp_path, made_on=date(2026, 1, 1), docs=tmp_path / "docs")
    text = files["committed table"].read_text()
    assert f"of {len(table)} lie above 5.7 %" in text
    assert "| McNeil-Frey | 1000 | 0.99 |" in text
