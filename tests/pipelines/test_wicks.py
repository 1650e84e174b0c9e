"""A wick that the other price denies is not fitted; tails, margins and the backtest keep it."""

from pathlib import Path

import pandas as pd
import pytest

from calibrator.config import Config, load_config
from calibrator.data.feed_quality import without_wicks
from calibrator.data.sources import load_fitted
from calibrator.data.synthetic import synthetic_bars
from pipelines import production

NONE = pd.DataFrame(
    {
        "market": pd.Series(dtype="str"),
        "time": pd.Series(dtype="datetime64[us, UTC]"),
        "implied_volatility": pd.Series(dtype="float64"),
    }
)


class _SeenError(Exception):
    """Ends the composition where the variance models would begin."""


def test_a_denied_wick_is_not_fitted_and_stays_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    other = synthetic_bars(["A", "B"], periods=120, seed=6, bar="1d")
    bars = other.copy()
    bars.loc[[60, 90], "low"] *= 0.5
    other.loc[90, "low"] *= 0.5  # confirmed
    fitted: list[pd.DataFrame] = []

    def forecast_all(rows: pd.DataFrame, *_: object, **__: object) -> None:
        fitted.append(rows)
        raise _SeenError

    monkeypatch.setattr(production, "forecast_all", forecast_all)
    config = Config.model_validate({"data": {"source": "embedded", "bar": "1d", "calendar": "continuous"}})
    whole = bars.copy()
    for rows in (None, without_wicks(bars, other)[0]):
        with pytest.raises(_SeenError):
            production.produce(bars, NONE, config=config, progress=lambda *_: None, fitted=rows)
    pd.testing.assert_frame_equal(bars, whole)  # what tails, margins and the backtest read
    pd.testing.assert_frame_equal(fitted[0], whole)
    cut = fitted[1]
    assert (cut["low"] != whole["low"]).to_numpy().nonzero()[0].tolist() == [60]
    assert cut["low"][60] == whole[["open", "close"]].min(axis=1)[60]


def test_other_bars_are_read_through_the_configuration(tmp_path: Path) -> None:
    other = synthetic_bars(["A", "B"], periods=60, seed=6)
    other.to_parquet(tmp_path / "mark.parquet", index=False)
    bars = other[other["market"] == "A"].copy()
    bars.loc[20, "low"] *= 0.5
    (tmp_path / "c.yaml").write_text("data: {bars: [b.parquet], confirm: mark.parquet, label: end}\n")
    config = load_config(tmp_path / "c.yaml")
    fitted, findings = load_fitted(config, bars, as_of=None)
    assert findings[["market", "rule", "count"]].to_numpy().tolist() == [["A", "unconfirmed wick", 1]]
    assert (fitted["low"] != bars["low"]).sum() == 1
    early, none = load_fitted(config, bars, as_of=bars["time"][10].to_pydatetime())
    pd.testing.assert_frame_equal(early, bars)  # what is not known yet denies nothing
    assert none.empty
