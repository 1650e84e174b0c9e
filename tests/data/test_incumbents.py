"""The table of other venues: cited, ordered, and read with typed errors."""

from pathlib import Path

import pytest

from calibrator.data.incumbents import read_incumbents
from calibrator.errors import DataError


def test_every_table_is_cited() -> None:
    tables = {t.venue: t for t in read_incumbents()}
    assert {"binance", "hyperliquid", "dydx-v4", "aave-v3", "compound-v3"} <= set(tables)
    for table in tables.values():
        assert table.stated <= table.retrieved
        assert table.source
        assert table.field
        assert {"BTC", "ETH"} <= set(table.margins)
        assert (table.close_out_hours, table.role) in {(1, "perpetual"), (24, "collateral")}
    assert tables["hyperliquid"].margins["BTC"] == ((0, 12_500), (150_000_000, 25_000))
    assert tables["dydx-v4"].margins["BTC"] == ((0, 12_000),)
    assert tables["aave-v3"].margins["ETH"] == ((0, 170_000),)
    assert tables["compound-v3"].margins["ETH"] == ((0, 105_000),)


GOOD = """
venues:
  - {venue: one, role: perpetual, close_out_hours: 1, source: s, field: f, stated: 2024-01-01,
     retrieved: 2024-01-02, margins: {BTC: [[0, 10], [5, 20]]}}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[0, 10], [5, 20]]", "[[1, 10]]", "notional floors must rise from 0, were \\[1\\]"),
        ("[[0, 10], [5, 20]]", "[[0, 10], [0, 20]]", "notional floors must rise from 0, were \\[0, 0\\]"),
        (
            "[[0, 10], [5, 20]]",
            "[[0, 30], [5, 20]]",
            "margins must not fall with notional, were \\[30, 20\\]",
        ),
        ("[[0, 10], [5, 20]]", "[]", "margins.BTC"),
        ("[[0, 10], [5, 20]]", "[[0, 0]]", "margins.BTC.0.1"),
        ("{BTC: [[0, 10], [5, 20]]}", "{}", "margins"),
        ("role: perpetual", "role: spot", "role"),
        ("source: s", "source: ''", "source"),
        ("stated: 2024-01-01", "stated: soon", "stated"),
        ("field: f", "field: f, more: 1", "more"),
        ("venues:", "venues: [", "cannot be read as a table of venues"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "venues.yaml"
    path.write_text(GOOD)
    assert read_incumbents(path)[0].margins == {"BTC": ((0, 10), (5, 20))}
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_incumbents(path)


def test_a_venue_stands_once_and_a_file_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "venues.yaml"
    path.write_text(GOOD + GOOD.split("venues:")[1])
    with pytest.raises(DataError, match="one is listed twice"):
        read_incumbents(path)
    with pytest.raises(DataError, match="cannot be read as a table of venues"):
        read_incumbents(tmp_path / "none.yaml")
