"""The GARCH engine beside arch, beside plain oracles, and in front of series that cannot be estimated."""

import math
import time

import numpy as np
import pytest
from arch import arch_model
from arch.data import nasdaq, sp500, wti
from arch.univariate import Normal as NormalErrors
from arch.univariate import SkewStudent, StudentsT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import psi

from calibrator.forecast import garch_engine, garch_kernels, garch_optimizer
from calibrator.forecast.garch_arch import ArchEstimator
from calibrator.forecast.garch_engine import backcast_of, fingerprint
from calibrator.forecast.garch_estimation import EngineEstimator, fit_windows
from calibrator.forecast.garch_kernels import (
    WORK_ROWS,
    digamma,
    jacobian,
    log_forward,
    native,
    objective,
    small_exp,
    sum_log,
)
from calibrator.forecast.garch_optimizer import (
    direction,
    factorise,
    growth,
    information,
    solve_free,
    update_hessian,
)
from calibrator.forecast.garch_parameters import ERRORS, SPECS, Status
from pipelines.benchmarks.garch_guards import broken_windows

COMBINATIONS = [(s, e) for s in SPECS for e in ERRORS]
THETA = {
    "garch": np.array([0.01, -2.0, 0.90, 0.12, 0.5, 0.15, 0.1]),
    "gjr": np.array([0.01, -2.0, 0.90, 0.12, 0.7, 0.15, -0.2]),
    "egarch": np.array([0.01, -0.02, 0.95, 0.15, -0.06, 0.15, 0.1]),
}
DENSITIES = {"normal": NormalErrors(), "t": StudentsT(), "skewt": SkewStudent()}


def percent(close: np.ndarray) -> np.ndarray:
    return 100 * np.diff(np.log(close[close > 0]))


@pytest.fixture(scope="module")
def series() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    heavy, s2 = np.empty(3000), 1.0
    for t, z in enumerate(rng.standard_t(3, 3000) / math.sqrt(3)):
        heavy[t] = math.sqrt(s2) * z
        s2 = 0.02 + 0.1 * heavy[t] ** 2 + 0.88 * s2
    return {
        "spx": percent(sp500.load()["Adj Close"].to_numpy()),
        "ixic": percent(nasdaq.load()["Adj Close"].to_numpy()),
        "wti": percent(wti.load().iloc[:, 0].dropna().to_numpy()),
        "heavy": heavy,
    }


@pytest.fixture(scope="module")
def y() -> np.ndarray:
    draws = np.random.default_rng(0).standard_t(4, 401)
    return (draws - draws.mean()) / draws.std()


def problem_of(
    y: np.ndarray, spec: str, errors: str
) -> tuple[np.ndarray, tuple[int, int, float], np.ndarray]:
    backcast = backcast_of(y)
    model = (SPECS.index(spec), ERRORS.index(errors), math.log(backcast) if spec == "egarch" else backcast)
    return y, model, np.empty((WORK_ROWS, len(y)))


def plain_variances(theta: np.ndarray, y: np.ndarray, model: tuple[int, int, float]) -> np.ndarray:
    """Spell the recursion out, one row at a time."""
    mu, omega, alpha, gamma, beta = native.py_func(theta, model[0])
    out = np.empty(len(y))
    for t in range(len(y)):
        if model[0] == 2:
            z = (y[t - 1] - mu) / math.sqrt(out[t - 1]) if t else 0.0
            news = alpha * (abs(z) - math.sqrt(2 / math.pi)) + gamma * z if t else 0.0
            out[t] = math.exp(omega + news + beta * (math.log(out[t - 1]) if t else model[2]))
        else:
            e2 = (y[t - 1] - mu) ** 2 if t else model[2]
            share = float(y[t - 1] < mu) if t else 0.5
            out[t] = omega + (alpha + gamma * share) * e2 + beta * (out[t - 1] if t else model[2])
    return out


def plain_objective(theta: np.ndarray, y: np.ndarray, model: tuple[int, int, float]) -> float:
    """Minus the mean log-likelihood, the density taken from arch."""
    errors = ERRORS[model[1]]
    shape = {"normal": [], "t": [1 / theta[5]], "skewt": [1 / theta[5], theta[6]]}[errors]
    variance = plain_variances(theta, y, model)
    return -float(DENSITIES[errors].loglikelihood(shape, y - theta[0], variance)) / len(y)


@pytest.mark.parametrize(("spec", "errors"), COMBINATIONS)
def test_likelihood_equals_archs_at_the_same_parameters(y: np.ndarray, spec: str, errors: str) -> None:
    theta = THETA[spec]
    _, model, work = problem_of(y, spec, errors)
    mu, omega, alpha, gamma, beta = native(theta, model[0])
    values = [mu, omega, alpha, *([] if spec == "garch" else [gamma]), beta]
    values += {"normal": [], "t": [1 / theta[5]], "skewt": [1 / theta[5], theta[6]]}[errors]
    volatility = "EGARCH" if spec == "egarch" else "GARCH"
    reference = arch_model(y, vol=volatility, o=int(spec != "garch"), dist=errors, rescale=False)
    ours = -len(y) * objective(theta, y, model, work, np.empty(7))
    assert ours == pytest.approx(reference.fix(values).loglikelihood, rel=1e-10)


@pytest.mark.parametrize(("spec", "errors"), COMBINATIONS)
def test_value_and_gradient_equal_the_plain_oracle(y: np.ndarray, spec: str, errors: str) -> None:
    theta, gradient = THETA[spec], np.empty(7)
    _, model, work = problem_of(y, spec, errors)
    value = objective(theta, y, model, work, gradient)
    assert value == pytest.approx(plain_objective(theta, y, model), rel=1e-12)
    free = {"normal": 5, "t": 6, "skewt": 7}[errors]
    for i in range(free):
        step = np.zeros(7)
        step[i] = 1e-6
        up, down = plain_objective(theta + step, y, model), plain_objective(theta - step, y, model)
        assert gradient[i] == pytest.approx((up - down) / 2e-6, abs=2e-8), i
    assert not gradient[free:].any()


@pytest.mark.parametrize("errors", ERRORS)
def test_an_egarchs_news_may_be_of_any_size(errors: str) -> None:
    draws = np.random.default_rng(2).standard_t(3, 300)
    draws[[50, 51, 200]] = 9.0, -12.0, 0.0
    theta, gradient = np.array([0.01, -0.1, 0.7, 0.9, -0.5, 0.15, 0.1]), np.empty(7)
    _, model, work = problem_of(draws, "egarch", errors)
    assert objective(theta, draws, model, work, gradient) == pytest.approx(
        plain_objective(theta, draws, model), rel=1e-12
    )
    for i in range({"normal": 5, "t": 6, "skewt": 7}[errors]):
        step = np.zeros(7)
        step[i] = 1e-6
        up, down = (plain_objective(theta + d * step, draws, model) for d in (1, -1))
        assert gradient[i] == pytest.approx((up - down) / 2e-6, rel=1e-5, abs=1e-7), i


def test_growth_is_what_an_error_in_the_first_log_variance_becomes(y: np.ndarray) -> None:
    draws = y[:40]
    for alpha in (0.15, -0.08):
        theta = np.array([0.01, -0.02, 0.95, alpha, -0.06, 0.15, 0.0])
        _, model, work = problem_of(draws, "egarch", "t")
        log_forward(draws, theta, model[2], work)
        up, down = (math.log(plain_variances(theta, draws, (2, 1, model[2] + d))[-1]) for d in (1e-4, -1e-4))
        last = theta[2] - 0.5 * (alpha * abs(draws[-1] - 0.01) + theta[4] * (draws[-1] - 0.01)) / math.sqrt(
            work[1, -1]
        )
        product = abs(up - down) / 2e-4 * abs(last) / theta[2]
        assert growth(theta, work) == pytest.approx(math.log(product) / len(draws), abs=1e-6)


@pytest.mark.parametrize("spec", SPECS)
def test_information_is_the_outer_product_of_numerical_tangents(y: np.ndarray, spec: str) -> None:
    theta, matrix = THETA[spec], np.empty((7, 7))
    _, model, work = problem_of(y, spec, "t")
    objective(theta, y, model, work, np.empty(7))
    information(theta, model, work, matrix)
    variance = plain_variances(theta, y, model)
    slopes = np.empty((5, len(y)))
    for i in range(5):
        step = np.zeros(7)
        step[i] = 1e-6
        up, down = plain_variances(theta + step, y, model), plain_variances(theta - step, y, model)
        slopes[i] = (up - down) / 2e-6 / variance
    nu = 1 / theta[5]
    expected = 0.5 * nu / (nu + 3) * slopes @ slopes.T
    expected[0, 0] += nu * (nu + 1) / ((nu - 2) * (nu + 3)) * np.sum(1 / variance)
    np.testing.assert_allclose(matrix[:5, :5], expected / len(y), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("spec", SPECS)
def test_jacobian_is_the_derivative_of_the_native_parameters(spec: str) -> None:
    code, theta, chain = SPECS.index(spec), THETA[spec], np.empty((5, 5))
    jacobian(theta, code, chain)
    for j in range(5):
        step = np.zeros(7)
        step[j] = 1e-6
        slope = (np.array(native(theta + step, code)) - np.array(native(theta - step, code))) / 2e-6
        np.testing.assert_allclose(chain[:, j], slope, atol=1e-8)


def test_digamma_and_sum_log_equal_scipy_and_numpy() -> None:
    points = np.concatenate([np.linspace(1.0, 12.0, 200), [50.0, 250.5]])
    np.testing.assert_allclose([digamma(x) for x in points], psi(points), rtol=1e-9, atol=1e-10)
    assert math.isnan(digamma(math.nan))
    near = np.linspace(-0.25, 0.25, 1001)
    np.testing.assert_allclose([small_exp(x) for x in near], np.exp(near), rtol=5e-16)
    values = np.random.default_rng(1).lognormal(0.0, 9.0, 213)
    assert sum_log(values) == pytest.approx(np.log(values).sum(), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_directions_solve_the_free_system_and_respect_the_box(seed: int) -> None:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(7, 7))
    hessian, gradient = root @ root.T + 0.1 * np.eye(7), rng.normal(size=7)
    theta = rng.choice([0.0, 0.5, 1.0], 7)
    box, move = np.vstack([np.zeros(7), np.ones(7)]), np.empty(7)
    free = rng.random(7) < 0.6
    assert solve_free(hessian, gradient, free, move)
    np.testing.assert_allclose((hessian @ move)[free], -gradient[free], rtol=1e-7, atol=1e-9)
    assert not move[~free].any()
    predicted = direction(theta, gradient, hessian, box, move)
    assert predicted == pytest.approx(-gradient @ move)
    assert predicted >= 0
    assert (move[theta == 0.0] >= 0).all()
    assert (move[theta == 1.0] <= 0).all()
    update_hessian(hessian, rng.normal(size=7), rng.normal(size=7))
    assert np.linalg.eigvalsh(hessian).min() > 0


def test_factorise_refuses_what_is_not_positive_definite() -> None:
    assert not factorise(np.diag([1.0, -1.0, 1, 1, 1, 1, 1]), np.arange(7), np.empty((7, 7)))
    assert not factorise(np.full((7, 7), np.nan), np.arange(7), np.empty((7, 7)))


@pytest.mark.parametrize(
    ("spec", "errors"), [("garch", "normal"), ("gjr", "t"), ("egarch", "t"), ("gjr", "skewt")]
)
def test_likelihood_is_not_below_archs(series: dict[str, np.ndarray], spec: str, errors: str) -> None:
    rng = np.random.default_rng(11)
    worse = []
    for name, returns in series.items():
        for length in (500, 1000, 2000):
            starts = rng.integers(0, len(returns) - length, 2)
            fits = fit_windows(returns, starts, length=length, choice=(spec, errors))
            for start, ours in zip(starts, fits.itertuples(), strict=True):
                theirs = ArchEstimator()(returns[start : start + length], spec=spec, errors=errors)
                gap = (theirs.loglikelihood - ours.loglikelihood) / abs(theirs.loglikelihood)
                if gap > 1e-4:
                    worse.append((name, length, int(start), gap))
                if spec != "egarch":
                    assert ours.status == Status.CONVERGED
    assert worse == []


def test_parameters_agree_with_arch_where_the_optimum_is_unique(series: dict[str, np.ndarray]) -> None:
    for name in ("spx", "ixic"):
        window = series[name][2000:4000]
        for spec in SPECS:
            ours = EngineEstimator()(window, spec=spec, errors="t")
            theirs = ArchEstimator()(window, spec=spec, errors="t")
            for field in ("mu", "omega", "alpha", "gamma", "beta"):
                assert getattr(ours, field) == pytest.approx(getattr(theirs, field), abs=2e-3), (
                    name,
                    spec,
                    field,
                )
            assert ours.nu == pytest.approx(theirs.nu, rel=0.01)


@pytest.mark.parametrize(("spec", "errors"), COMBINATIONS)
def test_estimates_obey_bounds_and_stationarity(
    series: dict[str, np.ndarray], spec: str, errors: str
) -> None:
    fits = fit_windows(series["heavy"], np.arange(0, 2400, 400), length=600, choice=(spec, errors))
    assert fits.notna().all(axis=None)
    if spec != "egarch":
        assert (fits["alpha"] + fits["gamma"] / 2 + fits["beta"] < 1).all()
        assert (fits[["alpha", "beta", "omega"]] >= 0).all(axis=None)
        assert (fits["alpha"] + fits["gamma"] >= -1e-12).all()
    assert fits["beta"].between(0, 1, inclusive="left").all()
    assert (fits["nu"].eq(0).all()) if errors == "normal" else fits["nu"].between(2.049, 500.1).all()


def test_units_do_not_matter(series: dict[str, np.ndarray]) -> None:
    window = series["spx"][:800]
    for spec in SPECS:
        one = EngineEstimator()(window, spec=spec, errors="t")
        small = EngineEstimator()(1e-4 * window, spec=spec, errors="t")
        assert small.status is one.status is Status.CONVERGED
        assert small.loglikelihood == pytest.approx(one.loglikelihood + 800 * math.log(1e4), rel=1e-6)
        assert (small.beta, small.nu) == pytest.approx((one.beta, one.nu), rel=1e-2)


@pytest.mark.parametrize("restart", [1, 7])
@pytest.mark.parametrize("spec", ["gjr", "egarch"])
def test_results_do_not_depend_on_the_number_of_threads(
    series: dict[str, np.ndarray], spec: str, restart: int
) -> None:
    starts = np.arange(500, 560, 2)
    one, two, many = (
        fit_windows(series["spx"], starts, length=500, choice=(spec, "t"), restart=restart, threads=k)
        for k in (1, 2, 64)
    )
    assert one.equals(two)
    assert one.equals(many)


def test_warm_starts_reach_the_cold_optimum_along_a_walk(series: dict[str, np.ndarray]) -> None:
    starts = np.arange(0, 120)
    for choice in (("garch", "normal"), ("gjr", "t")):
        cold = fit_windows(series["spx"], starts, length=750, choice=choice)
        warm = fit_windows(series["spx"], starts, length=750, choice=choice, restart=40)
        np.testing.assert_allclose(warm["loglikelihood"], cold["loglikelihood"], rtol=1e-5)
        assert warm["steps"].sum() < 0.4 * cold["steps"].sum()
        assert warm["status"].eq(Status.CONVERGED).all()


DEGENERATE = {"NaN", "all NaN", "infinite", "constant", "zero", "overflowing", "one huge"}


@pytest.mark.parametrize("name", broken_windows())
@pytest.mark.parametrize("choice", [("garch", "normal"), ("gjr", "t"), ("egarch", "t"), ("egarch", "skewt")])
def test_no_window_hangs_and_a_degenerate_one_says_so(name: str, choice: tuple[str, str]) -> None:
    window = broken_windows()[name]
    spent = []
    for _ in range(2):  # the first call compiles
        begin = time.thread_time()
        fit = fit_windows(window, np.zeros(1, np.int64), length=1000, choice=choice)
        spent.append(time.thread_time() - begin)
    assert (fit.loc[0, "status"] == Status.DEGENERATE) == (name in DEGENERATE)
    assert fit.loc[0, "loglikelihood":"loglikelihood"].isna().all() == (name in DEGENERATE)
    assert min(spent) < 0.05


def test_a_degenerate_window_does_not_disturb_its_neighbours(series: dict[str, np.ndarray]) -> None:
    returns = series["spx"][:900].copy()
    returns[600] = np.nan
    starts = np.arange(0, 400, 50)
    walk = fit_windows(returns, starts, length=500, choice=("garch", "t"), restart=100)
    assert walk["status"].eq(Status.DEGENERATE).to_numpy().tolist() == (starts + 500 > 600).tolist()
    clean = fit_windows(returns, starts[:3], length=500, choice=("garch", "t"), restart=100)
    assert walk.iloc[:3].equals(clean)


def test_the_cache_key_follows_every_compiled_callee(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(garch_kernels, garch_optimizer)
    assert before == fingerprint(garch_kernels, garch_optimizer)
    monkeypatch.setattr(garch_kernels, "LOG_LIMIT", 17.0)
    assert fingerprint(garch_kernels, garch_optimizer) != before
    monkeypatch.undo()
    monkeypatch.setattr(garch_optimizer, "factorise", garch_optimizer.solve_free)
    assert fingerprint(garch_kernels, garch_optimizer) != before
    assert garch_engine.fit_block is not None


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"length": 19}, "length must be at least 20 rows, was 19"),
        ({"length": 101}, "windows must lie within the 100 returns"),
        ({"starts": np.array([-1])}, "windows must lie within the 100 returns"),
        ({"restart": 0}, "restart and threads must be at least 1, were 0 and 1"),
        ({"threads": 0}, "restart and threads must be at least 1, were 1 and 0"),
        ({"choice": ("aparch", "t")}, "spec must be one of garch, gjr, egarch, was 'aparch'"),
        ({"choice": ("garch", "ged")}, "errors must be one of normal, t, skewt, was 'ged'"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, object], match: str) -> None:
    good = {"starts": np.array([0]), "length": 50, "choice": ("garch", "normal")}
    starts = {**good, **options}.pop("starts")
    with pytest.raises(ValueError, match=match):
        fit_windows(np.ones(100), starts, **{k: v for k, v in {**good, **options}.items() if k != "starts"})


def test_no_windows_give_an_empty_table() -> None:
    assert fit_windows(np.ones(100), np.array([], int), length=50, choice=("garch", "t"), threads=2).empty
