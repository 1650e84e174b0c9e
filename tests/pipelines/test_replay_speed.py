"""The replay's benchmark: engines agree with the scans, and its page says what was measured."""

from datetime import date
from pathlib import Path

import pytest

from pipelines.benchmarks.replay_speed import run, write


def test_a_small_run_agrees_with_the_scans(tmp_path: Path) -> None:
    tables = run(scale=0.004, progress=lambda *_: None)
    isolated, cross, large = (t.frame for t in tables)
    assert isolated["same"].all()
    assert cross["same"].all()
    assert isolated["events"].iloc[0] > 0
    assert large.index.is_monotonic_increasing
    assert (large["peak_GB"] > 0).all()
    files = write(tables, home=tmp_path, made_on=date(2026, 1, 2), docs=tmp_path / "docs")
    page = files["committed table"].read_text()
    assert page.startswith("# Replay of accounts: speed")
    assert "## Cross-margined accounts" in page
    with pytest.raises(ValueError, match="scale must be above 0 and at most 1, was 2"):
        run(scale=2, progress=lambda *_: None)
