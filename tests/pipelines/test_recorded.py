"""Recorded vaults and liquidations: files in, fates and counts out; what cannot be used is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from calibrator.config import parse_config
from calibrator.errors import ConfigError, DataError
from pipelines.production import Decisions, Production, clock_of
from pipelines.recorded import recorded
from pipelines.report.page import recorded_lines
from pipelines.report.recorded_figures import largest_vaults, vault_drawing

HOURS = pd.date_range("2021-01-01 01:00", periods=400, freq="h", tz="UTC").as_unit("us")
PRICE = np.where(np.arange(400) < 200, 100.0, 70.0)


def bars() -> pd.DataFrame:
    prices = dict.fromkeys(("open", "high", "low", "close"), PRICE)
    return pd.DataFrame({"market": "ETH", "time": HOURS, **prices, "volume": 1.0})


def write(folder: Path, **changes: pd.DataFrame) -> dict[str, Any]:
    """Three vaults: one really liquidated in time, one that should have been, one without debt."""
    at = ["2021-01-02T00:00Z"] * 3
    events = pd.DataFrame(
        {"vault": ["1", "2", "3"], "time": at, "d_eth": [10.0, 10.0, 5.0], "d_dai": [700.0, 700.0, 0.0]}
    )
    lots = pd.DataFrame(
        {
            "vault": ["1", "1"],
            "time": ["2021-01-09T10:00Z"] * 2,
            "collateral": [5.0, 5.0],
            "debt": [350.0, 350.0],
        }
    )
    fees = pd.DataFrame({"time": at[:2], "what": ["duty", "other"], "value": [0.0, 9.0]})
    liquidations = pd.DataFrame(
        {
            "market": ["ETH", "DOGE"], "time": ["2021-01-09T02:30Z"] * 2, "liquidated_side": ["long", "long"],
            "quantity": [1.0, 1.0], "price": [100.0, 1.0],
        }
    )  # fmt: skip
    frames = {"events": events, "lots": lots, "fees": fees, "liquidations": liquidations} | changes
    for name, frame in frames.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    return {
        "liquidations": ["liquidations.csv"],
        "vaults": {
            "market": "ETH",
            "ratio": 1.3,
            "events": {"path": "events.csv", "columns": {"collateral": "d_eth", "debt": "d_dai"}},
            "liquidations": {"path": "lots.csv"},
            "fees": {"path": "fees.csv", "where": {"what": "duty"}, "columns": {"annual": "value"}},
        },
    }


def production(folder: Path, backtest: dict[str, Any]) -> Production:
    """A schedule made by hand: a haircut of 20 % from the start on."""
    raw = {
        "data": {"source": "embedded", "bar": "1h"},
        "margin": {"close_out": 24},
        "markets": {"ETH": {"role": "collateral"}},
        "backtest": backtest,
    }
    config = parse_config(raw, folder=folder, source="test")
    days = pd.DatetimeIndex(HOURS[::24], name="origin")
    table = pd.DataFrame({f"{n}_{s}": 0.2 for n in ("margin", "unlimited") for s in ("long", "short")}, days)
    made = Decisions("ETH", config.market("ETH"), table, np.full((len(days), 1), 0.2))
    return Production(config, clock_of(config), None, pd.DataFrame(), {"ETH": made})  # type: ignore[arg-type]


def test_vaults_and_liquidations_of_ones_own(tmp_path: Path) -> None:
    done = recorded(production(tmp_path, write(tmp_path)), bars())
    assert done.vaults is not None
    assert done.vaults.checks["reproduced"] == done.vaults.checks["vault_days"] == 1
    assert done.vaults.checks["without_liquidation"] == 1  # vault 2
    assert done.vaults.checks["certain"] == 1
    summary = done.summary()
    replays = summary["vaults"]["replays"]  # type: ignore[index]
    # 1 / ((1 - 0.2)(1 - 0.005) / (1.13 * 1.0005)) = 1.42: vaults at 1.43 are safe until the price falls.
    assert done.vaults.ratio[-1] == pytest.approx(1.13 * 1.0005 / (0.8 * 0.995), abs=1e-5)
    assert replays["as recorded"]["agreeing"] == 1
    assert replays["as recorded"]["caused"] == 1
    events = summary["liquidations"]
    assert events["left_out"] == {"no bars of the market": 1}  # type: ignore[index]
    assert events["rows"][0]["covered"] == 0.0  # type: ignore[index]
    assert events["rows"][0]["shortfall"] == pytest.approx(100 * (0.3 - 0.2))  # type: ignore[index]
    lines = recorded_lines(summary["vaults"], events)  # type: ignore[arg-type]
    assert lines[0].startswith("1 of 1 real vault-days are in breach")
    assert lines[-1] == "Left out: 1 (no bars of the market)."
    assert largest_vaults(done.vaults) == ["1"]
    drawing = vault_drawing(done.vaults, "1")
    assert "2 real liquidations" in drawing.title
    assert "agreeing" in drawing.title


def test_nothing_recorded_is_nothing_reported(tmp_path: Path) -> None:
    assert recorded(production(tmp_path, {}), bars()).summary() == {}


def test_bad_files_are_named(tmp_path: Path) -> None:
    backtest = write(tmp_path)
    backtest["vaults"]["market"] = "BTC"
    with pytest.raises(ConfigError, match=r"backtest\.vaults\.market: BTC has no decisions"):
        recorded(production(tmp_path, backtest), bars())
    backtest = write(tmp_path)
    backtest["vaults"]["fees"]["where"] = {"what": "nothing"}
    with pytest.raises(DataError, match=r"fees.csv: no row is left after \{'what': 'nothing'\}"):
        recorded(production(tmp_path, backtest), bars())
    backtest = write(tmp_path)
    backtest["vaults"]["events"]["columns"]["debt"] = "usd"
    with pytest.raises(DataError, match=r"events\.csv: column 'usd' is missing"):
        recorded(production(tmp_path, backtest), bars())
    empty = pd.DataFrame({"vault": ["1"], "time": ["2021-01-02T00:00Z"], "d_eth": [np.nan], "d_dai": [1.0]})
    with pytest.raises(DataError, match="collateral, debt must not be missing"):
        recorded(production(tmp_path, write(tmp_path, events=empty)), bars())
    with pytest.raises(ConfigError, match=r"backtest\.vaults\.ratio"):
        production(
            tmp_path, write(tmp_path) | {"vaults": {"market": "ETH", "ratio": 0.9, "events": {"path": "e"}}}
        )


ROW = {"market": "ETH", "time": "2021-01-09T02:30Z", "liquidated_side": "long", "event_id": "7"}
LOT = {"quantity": 1.0, "price": 100.0}
COUNTED = {
    "one liquidation": ([{}], 1, {}, 0),
    "two lots of one auction": ([{}, {"quantity": 2.0}], 2, {}, 1),
    "three lots, one of them twice": ([{}, {"quantity": 2.0}, {}], 2, {"repeated liquidation": 1}, 1),
    "the same row three times": ([{}, {}, {}], 1, {"repeated liquidation": 2}, 0),
    "the same identifier in two markets": ([{}, {"market": "DOGE"}], 2, {"no bars of the market": 1}, 0),
    "an unknown market": ([{}, {"market": "DOGE", "event_id": "8"}], 2, {"no bars of the market": 1}, 0),
    "no price to value it": (
        [{}, {"price": np.nan, "event_id": "8"}], 1, {"liquidation without notional": 1}, 0,
    ),
    "before any margin": ([{}, {"time": "2021-01-01T12:00Z"}], 2, {"no margin before": 1}, 1),
    "after the bars": ([{}, {"time": "2031-01-01T12:00Z"}], 2, {"bars end": 1}, 1),
}  # fmt: skip


@pytest.mark.parametrize(("rows", "events", "left_out", "lots"), COUNTED.values(), ids=COUNTED)
def test_every_recorded_liquidation_is_used_or_counted(
    tmp_path: Path, rows: list[dict[str, object]], events: int, left_out: dict[str, int], lots: int
) -> None:
    frame = pd.DataFrame([ROW | LOT | row for row in rows])
    named = write(tmp_path, liquidations=frame)
    done = recorded(production(tmp_path, {"liquidations": named["liquidations"]}), bars())
    found = done.summary()["liquidations"]
    assert (found["events"], found["left_out"], found["lots"]) == (events, left_out, lots)  # type: ignore[index]
    dropped = sum(left_out.get(r, 0) for r in ("repeated liquidation", "liquidation without notional"))
    assert events + dropped == len(rows)
    text = " ".join(recorded_lines({}, found))  # type: ignore[arg-type]
    assert all(f"{n} ({why})" in text for why, n in left_out.items())
    assert ("further lots of one event" in text) == (lots > 0)


REFUSED = {
    "a side that there is not": ({"liquidated_side": "both"}, "column 'liquidated_side'"),
    "a negative quantity": ({"quantity": -1.0}, "column 'quantity'"),
    "a price of zero": ({"price": 0.0}, "column 'price'"),
    "no market": ({"market": ""}, "market"),
    "a time that is none": ({"time": "yesterday"}, "time"),
    "no amount at all": ({"quantity": np.nan}, "liquidations"),
}


@pytest.mark.parametrize(("change", "match"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_liquidation_is_refused(
    tmp_path: Path, change: dict[str, object], match: str
) -> None:
    named = write(tmp_path, liquidations=pd.DataFrame([ROW | LOT, ROW | LOT | change]))
    with pytest.raises(DataError, match=match):
        recorded(production(tmp_path, {"liquidations": named["liquidations"]}), bars())
