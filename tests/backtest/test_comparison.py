"""Comparison of forecasts: the vectors of R, a slow oracle, degenerate losses, coverage of intervals."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.backtest.comparison import diebold_mariano, model_confidence_set, ratio_interval

E1 = np.array(
    [
        0.5,
        -1.2,
        0.8,
        2.1,
        -0.3,
        1.7,
        -2.2,
        0.9,
        0.1,
        -0.6,
        1.1,
        -1.9,
        0.4,
        2.5,
        -0.7,
        0.2,
        -1.4,
        1.3,
        0.6,
        -0.8,
    ]
)
E2 = np.array(
    [
        0.7,
        -0.9,
        1.5,
        1.8,
        -1.3,
        2.0,
        -1.1,
        1.9,
        0.8,
        -1.6,
        0.3,
        -2.4,
        1.0,
        1.2,
        -1.7,
        0.9,
        -0.5,
        2.2,
        1.6,
        -0.1,
    ]
)

# horizon, power of the error, kernel, statistic, p-value: R 4, forecast 8.20, dm.test
R_VECTORS = [
    (1, 1, "rectangular", -1.1740322409, 0.2548886070),
    (1, 2, "rectangular", -0.8436866126, 0.4093414529),
    (2, 1, "rectangular", -2.7218537917, 0.0135351542),
    (2, 2, "rectangular", -1.9710922600, 0.0634568757),
]


@pytest.mark.parametrize(("horizon", "power", "kernel", "statistic", "p_value"), R_VECTORS)
def test_values_of_r(horizon: int, power: int, kernel: str, statistic: float, p_value: float) -> None:
    test = diebold_mariano(np.abs(E1) ** power, np.abs(E2) ** power, horizon=horizon, kernel=kernel)
    assert test.statistic == pytest.approx(statistic, abs=1e-10)
    assert test.p_value == pytest.approx(p_value, abs=1e-10)
    assert test.kernel == kernel


def test_bartlett_of_r_is_one_sided_in_the_reference() -> None:
    test = diebold_mariano(E1**2, E2**2, horizon=2, kernel="bartlett")
    assert test.statistic == pytest.approx(-1.0487577723, abs=1e-10)
    assert test.p_value / 2 == pytest.approx(0.1537238666, abs=1e-10)


@pytest.mark.parametrize("power", [1, 2])
def test_negative_variance_falls_back_to_bartlett(power: int) -> None:
    a, b = np.abs(E1) ** power, np.abs(E2) ** power
    d = a - b - (a - b).mean()
    variance = d @ d + 2 * (d[:-1] @ d[1:]) + 2 * (d[:-2] @ d[2:])
    test = diebold_mariano(a, b, horizon=3)
    assert variance < 0
    assert test == diebold_mariano(a, b, horizon=3, kernel="bartlett")
    assert np.isfinite(test.statistic)
    assert test.kernel == "bartlett"


def plain(a: list[float], b: list[float], h: int) -> float:
    """Spell the formula out with the Bartlett weights."""
    n = len(a)
    d = [x - y for x, y in zip(a, b, strict=True)]
    mean = sum(d) / n
    g = [sum((d[t] - mean) * (d[t + j] - mean) for t in range(n - j)) / n for j in range(h)]
    v = (g[0] + 2 * sum((1 - j / h) * g[j] for j in range(1, h))) / n
    return mean / v**0.5 * ((n + 1 - 2 * h + h * (h - 1) / n) / n) ** 0.5


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), h=st.integers(1, 8), scale=st.floats(1e-6, 1e6))
def test_plain_formula_symmetry_and_scale(seed: int, h: int, scale: float) -> None:
    a, b = np.random.default_rng(seed).exponential(1.0, (2, 60))
    test = diebold_mariano(a, b, horizon=h, kernel="bartlett")
    assert test.statistic == pytest.approx(plain(list(a), list(b), h), rel=1e-9)
    assert diebold_mariano(b, a, horizon=h, kernel="bartlett").statistic == -test.statistic
    assert diebold_mariano(scale * a, scale * b, horizon=h, kernel="bartlett").p_value == pytest.approx(
        test.p_value, rel=1e-6, abs=1e-12
    )


def test_size_under_equal_losses() -> None:
    rng = np.random.default_rng(11)
    p = [diebold_mariano(*rng.exponential(1.0, (2, 200)), horizon=1).p_value for _ in range(1000)]
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.07


def test_losses_without_spread() -> None:
    same = diebold_mariano(np.ones(10), np.ones(10), horizon=2)
    worse = diebold_mariano(np.full(10, 2.0), np.ones(10), horizon=2)
    assert (same.statistic, same.p_value) == (0.0, 1.0)
    assert (worse.statistic, worse.p_value) == (np.inf, 0.0)


@pytest.mark.parametrize(
    ("a", "b", "horizon", "match"),
    [
        (np.ones(5), np.ones(6), 1, "one length"),
        (np.ones((5, 2)), np.ones((5, 2)), 1, "two vectors"),
        (np.ones(5), np.array([1.0, 1, np.nan, 1, 1]), 1, "1 differences are not"),
        (np.ones(5), np.ones(5), 0, "horizon >= 1"),
        (np.ones(6), np.ones(6), 3, "more than 2"),
    ],
)
def test_bad_losses(a: np.ndarray, b: np.ndarray, horizon: int, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        diebold_mariano(a, b, horizon=horizon)


def test_kernel_is_named() -> None:
    with pytest.raises(ValueError, match="kernel must be rectangular or bartlett, was 'flat'"):
        diebold_mariano(np.ones(9), np.ones(9), horizon=1, kernel="flat")


def test_confidence_set_drops_the_third_keeps_twins_and_repeats() -> None:
    rng = np.random.default_rng(3)
    losses = pd.DataFrame(rng.normal([1.0, 1.0, 1.3], 1.0, (500, 3)), columns=["a", "b", "c"])
    losses["a again"] = losses["a"]
    p = model_confidence_set(losses, block=5, draws=300, seed=1)
    assert list(p.index) == list(losses.columns)
    assert p["a"] == p["a again"]
    assert p.max() == 1.0
    assert p["c"] < 0.10 < min(p["a"], p["b"])
    pd.testing.assert_series_equal(p, model_confidence_set(losses, block=5, draws=300, seed=1))
    assert (model_confidence_set(losses[["a", "a again"]], block=5) == 1.0).all()
    with pytest.raises(ValueError, match="finite"):
        model_confidence_set(losses.where(losses > 0), block=5)


def test_interval_keeps_days_together() -> None:
    rng = np.random.default_rng(2)
    day = np.repeat(np.arange(400), 10)
    shock = np.repeat(rng.exponential(1.0, 400), 10)
    loss, base = shock + rng.exponential(0.1, 4000), np.ones(4000)
    low, high = ratio_interval(loss, base, pd.Series(day), block=1, seed=3)
    alone_low, alone_high = ratio_interval(loss, base, pd.Series(np.arange(4000)), block=1, seed=3)
    assert high - low > 2.5 * (alone_high - alone_low)
    assert low < loss.mean() < high
    width = 2 * 1.645 * loss.reshape(400, 10).mean(axis=1).std() / 20
    assert high - low == pytest.approx(width, rel=0.15)


def test_interval_of_a_constant_ratio_and_of_few_days() -> None:
    base = np.random.default_rng(1).exponential(1.0, 50)
    day = pd.Series(np.arange(50))
    assert ratio_interval(0.5 * base, base, day) == pytest.approx((0.5, 0.5))
    low, high = ratio_interval(base[:3] ** 2, base[:3], day[:3], block=10)
    assert low == high
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        ratio_interval(base, base, day, level=1.0)
    with pytest.raises(ValueError, match="finite"):
        ratio_interval(base * np.nan, base, day)
