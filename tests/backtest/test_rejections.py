"""Rejections over many markets: the null keeps the cross-section."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from calibrator.backtest.coverage import excess_breaches
from calibrator.backtest.rejections import rejections
from calibrator.backtest.table import coverage_table
from calibrator.errors import DataError

MARKETS = 20


def world(seed: int, *, common: float, margin: float, days: int = 400) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Markets whose losses share one factor with correlation ``common`` squared."""
    rng = np.random.default_rng(seed)
    factor = rng.standard_normal((days, 1))
    z = common * factor + np.sqrt(1 - common**2) * rng.standard_normal((days, MARKETS))
    origins = pd.date_range("2022-01-01", periods=days, tz="UTC").as_unit("us")
    losses = pd.concat(
        [
            pd.DataFrame({"market": f"m{i:02d}", "origin": origins, "side": "long", "loss": z[:, i]})
            for i in range(MARKETS)
        ],
        ignore_index=True,
    )
    keys = losses.drop(columns="loss")
    return keys.assign(level=0.99, horizon=24, margin=margin, margin_unlimited=margin), losses


def test_the_count_is_that_of_the_coverage_table() -> None:
    margins, losses = world(1, common=0.5, margin=2.1)
    losses.loc[3:9, "loss"] = np.nan
    table = coverage_table(margins, losses, draws=9)
    out = rejections(margins, losses, draws=99)
    assert out.tests == len(table) == MARKETS
    assert out.rejections == int((table["excess_p_value"] <= 0.05).sum()) > 0


def test_correct_margins_pass_and_narrow_ones_do_not() -> None:
    right = [rejections(*world(s, common=0.8, margin=norm.ppf(0.99)), draws=199, seed=s) for s in range(12)]
    assert np.mean([r.decision_p_value <= 0.05 for r in right]) <= 0.17
    wrong = rejections(*world(1, common=0.8, margin=1.9), draws=199)
    assert wrong.decision_p_value <= 0.05
    assert wrong.rejections > wrong.percentile_95


def test_common_crashes_widen_the_null() -> None:
    apart, together = (
        rejections(*world(2, common=c, margin=2.3), size=0.2, draws=499).percentile_95 for c in (0.0, 0.99)
    )
    assert together >= apart + 4


def test_critical_counts_are_those_of_the_exact_test() -> None:
    for observations in (100, 365, 1000):
        least = next(
            x for x in range(50) if excess_breaches(x, observations, level=0.99).decision_p_value <= 0.05
        )
        days = pd.date_range("2022-01-01", periods=observations, tz="UTC").as_unit("us")
        for breaches, expected in ((least - 1, 0), (least, 1)):
            loss = np.where(np.arange(observations) < breaches, 1.0, 0.0)
            x = pd.DataFrame({"market": "A", "origin": days, "side": "long", "loss": loss})
            m = x.drop(columns="loss").assign(level=0.99, horizon=1, margin=0.5, margin_unlimited=0.5)
            assert rejections(m, x, draws=9, block=3).rejections == expected


def test_bad_input() -> None:
    margins, losses = world(1, common=0.5, margin=2.0, days=30)
    with pytest.raises(ValueError, match="margins must have one level"):
        rejections(pd.concat([margins, margins.assign(level=0.9)]), losses)
    with pytest.raises(ValueError, match=r"block be positive, were 0.05 and 0"):
        rejections(margins, losses, block=0)
    with pytest.raises(DataError, match="no known loss meets a margin"):
        rejections(margins, losses.assign(loss=np.nan))
