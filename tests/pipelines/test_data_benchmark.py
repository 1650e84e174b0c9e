"""The benchmark of the data sources: its page says what was measured."""

from datetime import date
from pathlib import Path

from calibrator.data.synthetic import synthetic_bars
from pipelines.benchmarks.data import mutants, run, write
from pipelines.benchmarks.data_gate import gate, plain


def test_the_page_shows_speed_memory_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    bars = synthetic_bars(["A", "B"], periods=100, seed=1).rename(columns={"market": "symbol"})
    bars.to_parquet(path, index=False)
    tables = run(bars=path, scale=0.0003, progress=lambda *_: None)
    assert tables.gate["rows"].to_list() == [200, 200]
    assert int(tables.mutants["accepted"].sum()) == int(tables.mutants["crashed"].sum()) == 0
    files = write(tables, home=tmp_path, made_on=date(2025, 1, 1), docs=tmp_path)
    page = files["documents"].read_text()
    assert "| gate | 200 |" in page
    assert "Made 2025-01-01" in page
    assert page.count("| binance-") == 18


def test_both_passages_see_the_same_rows(tmp_path: Path) -> None:
    bars = synthetic_bars(["A"], periods=100, seed=1).rename(columns={"market": "symbol"})
    bars.to_parquet(tmp_path / "b.parquet", index=False)
    bars.to_csv(tmp_path / "b.csv", index=False)
    assert gate(tmp_path / "b.parquet") == plain(tmp_path / "b.csv") == 100


def test_a_bare_reader_accepts_what_the_parsers_refuse() -> None:
    made = mutants(20, progress=lambda *_: None)
    assert made["read_csv accepts"].sum() > 0.1 * made["csv"].sum() > 0
