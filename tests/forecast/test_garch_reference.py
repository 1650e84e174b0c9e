"""The engine's optimiser beside SciPy's, on the same likelihood: neither may find a better point."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from calibrator.forecast.garch_engine import backcast_of, bounds, starting_point
from calibrator.forecast.garch_estimation import fit_windows
from calibrator.forecast.garch_kernels import WORK_ROWS, objective
from calibrator.forecast.garch_parameters import ERRORS, SPECS, Status


def simulated(spec: str, rows: int, seed: int) -> np.ndarray:
    """Draw returns of the recursion itself, with Student-t errors, so that the optimum is an inner one."""
    rng = np.random.default_rng(seed)
    out, variance = np.empty(rows), 1.0
    for t, z in enumerate(rng.standard_t(6, rows) * math.sqrt(4 / 6)):
        out[t] = math.sqrt(variance) * z
        if spec == "egarch":
            news = 0.2 * (abs(z) - math.sqrt(2 / math.pi)) - 0.1 * z
            variance = math.exp(news + 0.95 * math.log(variance))
        else:
            weight = 0.06 + (0.12 if spec == "gjr" and z < 0 else 0.0)
            variance = 0.05 + weight * out[t] ** 2 + 0.85 * variance
    return out


@pytest.mark.parametrize("errors", ERRORS)
@pytest.mark.parametrize("spec", SPECS)
def test_scipy_finds_the_same_maximum(spec: str, errors: str) -> None:
    returns = simulated(spec, 1500, seed=8)
    fit = fit_windows(returns, np.zeros(1, np.int64), length=1500, choice=(spec, errors)).iloc[0]
    assert fit["status"] == Status.CONVERGED
    code = (SPECS.index(spec), ERRORS.index(errors))
    mean, scale = float(np.mean(returns)), float(np.std(returns))
    y = (returns - mean) / scale
    level = backcast_of(y)
    model, work = (*code, math.log(level) if spec == "egarch" else level), np.empty((WORK_ROWS, 1500))
    box = bounds(*code)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        slope = np.empty(7)
        value = objective(theta, y, model, work, slope)
        return (value, slope) if math.isfinite(value) else (1e6, np.zeros(7))

    ends = [
        minimize(
            loss,
            starting_point(number, *code),
            jac=True,
            method="L-BFGS-B",
            bounds=list(zip(*box, strict=True)),
            options={"ftol": 1e-13, "gtol": 1e-8, "maxiter": 500},
        )
        for number in range(3)
    ]
    best = min(ends, key=lambda end: float(end.fun))
    theirs = -1500 * (float(best.fun) + math.log(scale))
    assert fit["loglikelihood"] == pytest.approx(theirs, abs=2e-4)
    mu = mean + scale * best.x[0]
    assert fit["mu"] == pytest.approx(mu, abs=2e-4)
    if errors != "normal":
        assert fit["nu"] == pytest.approx(1 / best.x[5], rel=2e-3)
    if errors == "skewt":
        assert fit["skew"] == pytest.approx(best.x[6], abs=1e-3)
    persistence = fit["beta"] if spec == "egarch" else fit["alpha"] + fit["gamma"] / 2 + fit["beta"]
    assert persistence == pytest.approx(best.x[2], abs=1e-3)
