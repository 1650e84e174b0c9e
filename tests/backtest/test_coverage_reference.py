"""Published and recomputed reference values of the coverage and expected-shortfall tests."""

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student_t

from calibrator.backtest.coverage import (
    christoffersen_conditional,
    christoffersen_independence,
    kupiec,
    traffic_light,
)
from calibrator.backtest.dynamic_quantile import dynamic_quantile
from calibrator.backtest.expected_shortfall import (
    TailNull,
    acerbi_szekely_z1,
    acerbi_szekely_z2,
    mcneil_frey,
    null_z,
)

KUPIEC = [
    (1043, 57, 0.05, 0.4614663953, 0.4969394477),
    (1043, 17, 0.01, 3.5118128607, 0.0609327471),
    (252, 20, 0.05, 3.9125508276, 0.0479268010),
    (500, 40, 0.05, 8.0790409523, 0.0044780138),
    (250, 5, 0.01, 1.9568097882, 0.1618549172),
    (250, 10, 0.01, 12.9554910624, 0.0003189845),
    (250, 0, 0.01, 5.0251679268, 0.0249815031),
    (1000, 17, 0.01, 4.0909725545, 0.0431128280),
    (365, 8, 0.01, 3.9080075175, 0.0480565405),
    (365, 0, 0.005, 3.6591555312, 0.0557618891),
    (730, 14, 0.01, 4.8954306188, 0.0269278571),
    (1095, 19, 0.01, 4.9017085370, 0.0268301377),
]
RANGES = [  # (T, p, smallest and largest count that the asymptotic 5 % test does not reject)
    (255, 0.01, 1, 6), (510, 0.01, 2, 10), (1000, 0.01, 5, 16),
    (255, 0.025, 3, 11), (510, 0.025, 7, 20), (1000, 0.025, 16, 35),
    (255, 0.05, 7, 20), (510, 0.05, 17, 35), (1000, 0.05, 38, 64),
    (255, 0.075, 12, 27), (510, 0.075, 28, 50), (1000, 0.075, 60, 91),
    (255, 0.10, 17, 35), (510, 0.10, 39, 64), (1000, 0.10, 82, 119),
    (365, 0.01, 1, 7), (365, 0.005, 0, 5), (730, 0.01, 3, 13),
    (730, 0.005, 1, 7), (1095, 0.01, 6, 18), (1095, 0.005, 2, 10),
]  # fmt: skip
BASEL_ZONES = [
    (250, 0.99, 4, 9), (365, 0.99, 6, 12), (365, 0.995, 3, 8),
    (730, 0.99, 11, 18), (1000, 0.99, 14, 23), (1000, 0.995, 8, 14),
]  # fmt: skip


def rugarch_case() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The deterministic series on which R's rugarch was run: losses, quantile, expected shortfall."""
    state, u = 12345.0, []
    for _ in range(500):
        state = float(np.fmod(1103515245.0 * state + 12345.0, 2.0**31))
        u.append((state + 0.5) / 2**31)
    scale = 0.02 * 1.1 * (1 + 0.2 * np.sin(np.arange(500) / 25))
    loss = -student_t.ppf(u, 5) * 0.02
    return loss, norm.ppf(0.95) * scale, scale * norm.pdf(norm.ppf(0.05)) / 0.05


@pytest.mark.parametrize(("total", "x", "p", "ratio", "p_value"), KUPIEC)
def test_kupiec_reference(total: int, x: int, p: float, ratio: float, p_value: float) -> None:
    test = kupiec(x, total, level=1 - p)
    assert test.statistic == pytest.approx(ratio, abs=1e-9)
    assert test.p_value == pytest.approx(p_value, abs=1e-9)


@pytest.mark.parametrize(("total", "p", "low", "high"), RANGES)
def test_kupiec_non_rejection_ranges(total: int, p: float, low: int, high: int) -> None:
    kept = [x for x in range(total // 2) if kupiec(x, total, level=1 - p).p_value > 0.05]
    assert (kept[0], kept[-1]) == (low, high)


def test_christoffersen_mathworks_example() -> None:
    # 57 breaches in 53 runs: four breaches follow a breach; the series starts and ends without one.
    hits = np.zeros(1043, bool)
    starts = 2 + 19 * np.arange(53)
    hits[starts] = True
    hits[starts[:4] + 1] = True
    independence = christoffersen_independence(hits)
    assert round(independence.statistic, 5) == 0.25866
    assert round(independence.p_value, 5) == 0.61104
    conditional = christoffersen_conditional(hits, level=0.95)
    assert round(conditional.statistic, 5) == 0.72013
    assert round(conditional.p_value, 5) == 0.69763


def test_rugarch_series() -> None:
    loss, quantile, shortfall = rugarch_case()
    assert -loss.sum() == pytest.approx(0.050134051234, abs=1e-12)
    hits = loss > quantile
    count = kupiec(int(hits.sum()), 500, level=0.95)
    assert (count.breaches, count.statistic) == (33, pytest.approx(2.45919430988, abs=1e-9))
    assert count.p_value == pytest.approx(0.116838699285, abs=1e-9)
    both = christoffersen_conditional(hits, level=0.95)
    assert both.statistic == pytest.approx(6.9901958012, abs=1e-9)
    assert both.p_value == pytest.approx(0.0303457774214, abs=1e-9)
    excess = mcneil_frey(loss, quantile, shortfall)
    assert excess.statistic == pytest.approx(3.07515151, abs=1e-8)
    assert excess.p_value == pytest.approx(0.00105197820662, abs=1e-9)
    assert excess.decision_p_value < 0.01


def test_dynamic_quantile_reference() -> None:
    x = np.random.default_rng(20261122).standard_t(5, 1000)
    quantile = norm.ppf(0.99) * (1 + 0.1 * np.sin(np.arange(1000) / 50))
    test = dynamic_quantile(-x > quantile, quantile, level=0.99, draws=199)
    assert test.breaches == 30
    assert test.statistic == pytest.approx(56.63601908817282, rel=1e-9)
    assert test.p_value == pytest.approx(2.16e-10, rel=5e-3)
    assert test.degrees_of_freedom == 6
    assert test.decision_p_value <= 0.01


@pytest.mark.parametrize(
    ("nu", "z1", "z2"), [(None, -0.114, -0.70), (5, -0.254, -0.74), (3, -0.423, -0.81), (10, None, -0.71)]
)
def test_acerbi_szekely_critical_values(nu: float | None, z1: float | None, z2: float) -> None:
    one, two = null_z(250, 0.975, TailNull(nu, draws=60_000))
    assert np.quantile(two, 0.05) == pytest.approx(z2, abs=0.015)
    if z1 is not None:
        assert np.quantile(one, 0.05) == pytest.approx(z1, abs=0.012)


@pytest.mark.parametrize(
    ("total", "level", "nu", "share", "critical", "within"),
    [
        (1966, 0.975, None, 0.01, -0.34639, 0.01),
        (1966, 0.975, 3, 0.01, -0.42986, 0.015),
        (365, 0.99, None, 0.05, -0.938, 0.02),
        (365, 0.99, 5, 0.05, -0.972, 0.02),
        (365, 0.99, 3, 0.05, -1.07, 0.03),
        (365, 0.99, None, 0.01, -1.42, 0.03),
    ],
)
def test_acerbi_szekely_published_critical_values(
    total: int, level: float, nu: float | None, share: float, critical: float, within: float
) -> None:
    z2 = null_z(total, level, TailNull(nu, draws=60_000))[1]
    assert np.quantile(z2, share) == pytest.approx(critical, abs=within)


@pytest.mark.parametrize(("nu", "p_value", "within"), [(None, 0.0054099, 1e-3), (3, 0.018566, 3e-3)])
def test_acerbi_szekely_mathworks_p_value(nu: float | None, p_value: float, within: float) -> None:
    # Breaches of equal size that give the published statistic -0.38265 on 1966 rows.
    loss = np.zeros(1966)
    loss[:60] = 1.0
    shortfall = 60 / (1.38265 * 1966 * 0.025)
    test = acerbi_szekely_z2(loss, 0.5, shortfall, level=0.975, null=TailNull(nu, draws=60_000))
    assert test.statistic == pytest.approx(-0.38265, abs=1e-9)
    assert test.decision_p_value == pytest.approx(p_value, abs=within)


def test_z1_is_blind_to_the_number_of_breaches() -> None:
    many, few = np.zeros(400), np.zeros(400)
    many[:100], few[:2] = 0.07, 0.07
    z1 = [acerbi_szekely_z1(x, 0.05, 0.06, level=0.975).statistic for x in (many, few)]
    z2 = [acerbi_szekely_z2(x, 0.05, 0.06, level=0.975).statistic for x in (many, few)]
    assert z1[0] == pytest.approx(z1[1])
    assert z2[0] < z2[1] - 5


@pytest.mark.parametrize(("total", "level", "green", "yellow"), BASEL_ZONES)
def test_traffic_light_bounds(total: int, level: float, green: int, yellow: int) -> None:
    light = traffic_light(green, total, level=level)
    assert (light.zone, light.green_up_to, light.yellow_up_to) == ("green", green, yellow)
    zones = [traffic_light(x, total, level=level).zone for x in (green + 1, yellow, yellow + 1)]
    assert zones == ["yellow", "yellow", "red"]


def test_traffic_light_basel_distribution() -> None:
    printed = [8.11, 28.58, 54.32, 75.81, 89.22, 95.88, 98.63, 99.60, 99.89, 99.97, 99.99]
    ours = [round(100 * traffic_light(x, 250, level=0.99).cumulative, 2) for x in range(11)]
    assert ours == printed
