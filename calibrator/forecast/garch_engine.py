"""The GARCH engine's entry: many windows, several starts each, warm starts along a walk-forward.

Only :data:`fit_block` is cached on disk. Its cache key holds a fingerprint of all it calls, because numba
does not notice by itself that a callee in another module changed.
"""

import hashlib
import math
from types import ModuleType
from typing import Any, Final

import numba
import numpy as np
import numpy.typing as npt

from calibrator.forecast import garch_kernels, garch_optimizer
from calibrator.forecast.garch_kernels import (
    EGARCH,
    NORMAL,
    SIZE,
    SKEWED,
    WORK_ROWS,
    Model,
    Vector,
    log_forward,
    native,
)
from calibrator.forecast.garch_optimizer import (
    CONVERGED,
    NOT_CONVERGED,
    Problem,
    copy_into,
    growth,
    minimise,
)

DEGENERATE, CONSTRAINED = 2, 3
EGARCH_POSITIVE: Final = 3
"""Code of the box of an EGARCH with alpha >= 0."""
ALONE, FIRST = -1, -2
"""In place of the status before: a window that stands alone; the first one of a walk."""
OUT_COLUMNS: Final = 10
STARTS: Final = 3
ROUGHNESS: Final = 5e-5


@numba.njit(error_model="numpy")
def bounds(spec: int, errors: int) -> Vector:
    """Return the box, shape (2, 7); a coordinate that the model does not have is fixed."""
    box = np.empty((2, SIZE))
    box[0, 0], box[1, 0] = -3.0, 3.0
    if spec >= EGARCH:
        box[0, 1], box[1, 1] = -9.0, 9.0
        box[0, 2], box[1, 2] = 0.0, 1.0 - 1e-6
        box[0, 3], box[1, 3] = box[0, 4], box[1, 4] = -5.0, 5.0
        box[0, 3] = 0.0 if spec == EGARCH_POSITIVE else -5.0
    else:
        box[0, 1], box[1, 1] = math.log(1e-8), math.log(10.0)
        box[0, 2], box[1, 2] = 1e-4, 1.0 - 1e-6
        box[0, 3], box[1, 3] = 0.0, 1.0
        box[0, 4], box[1, 4] = (0.5, 0.5) if spec == 0 else (0.0, 1.0)
    box[0, 5], box[1, 5] = 1.0 / (300.0 if errors == SKEWED else 500.0), 1.0 / 2.05
    box[0, 6], box[1, 6] = (-0.9999, 0.9999) if errors == SKEWED else (0.0, 0.0)
    if errors == NORMAL:
        box[0, 5] = box[1, 5] = 0.1
    return box


@numba.njit(error_model="numpy")
def starting_point(number: int, spec: int, errors: int) -> Vector:
    """Return the theta of start 0, 1 or 2: persistence 0.985, 0.92 or 0.50 at unit variance."""
    theta = np.zeros(SIZE)
    theta[2] = p = (0.985, 0.92, 0.50)[number]
    if spec == EGARCH:
        theta[3], theta[4] = (0.05, 0.20, 0.40)[number], -0.05
    else:
        theta[1], theta[3] = math.log(1.0 - p), (0.06, 0.10, 0.20)[number] / p
        theta[4] = 0.5 if spec == 0 else 0.65
    theta[5] = 0.1 if errors == NORMAL else 0.14
    return theta


@numba.njit(error_model="numpy")
def standardise(returns: Vector, y: Vector) -> tuple[float, float]:
    """Write the standardised window; return mean and scale, scale 0 where there is no variance to model."""
    n = len(returns)
    mean = variance = largest = 0.0
    for t in range(n):
        mean += returns[t] / n
    for t in range(n):
        y[t] = returns[t] - mean
        variance += y[t] * y[t] / n
        largest = max(largest, abs(returns[t]))
    if not (math.isfinite(variance) and variance > 1e-18 * largest * largest):
        return mean, 0.0
    scale = math.sqrt(variance)
    for t in range(n):
        y[t] /= scale
    return mean, scale


@numba.njit(error_model="numpy")
def backcast_of(y: Vector) -> float:
    """Return the weighted mean of the first 75 squares (decay 0.94), as ``arch`` starts its recursions."""
    total = weights = 0.0
    weight = 1.0
    for t in range(min(75, len(y))):
        total += weight * y[t] * y[t]
        weights += weight
        weight *= 0.94
    return total / weights


@numba.njit(error_model="numpy")
def cold(
    theta: Vector, hessian: Vector, problem: Problem, box: Vector, most_growth: float
) -> tuple[float, int, int]:
    """Minimise from every start; leave the best end in ``theta`` and ``hessian``.

    An end that is no optimum has to beat an optimum clearly: an EGARCH with negative alpha need not be
    invertible, and where it is not its likelihood is so rough that maxima mean little.
    """
    best, least, status, steps = math.inf, math.inf, NOT_CONVERGED, 0
    for number in range(STARTS):
        point, curvature = starting_point(number, problem[1][0], problem[1][1]), np.zeros((SIZE, SIZE))
        known = (theta, hessian, best if status == CONVERGED else math.inf)
        value, ended, used = minimise(point, curvature, problem, box, known, most_growth)
        steps += used
        charged = value if ended == CONVERGED else value + ROUGHNESS * abs(value)
        if charged < least:
            best, least, status = value, charged, ended
            copy_into(theta, point)
            hessian[:] = curvature
    return best, status, steps


@numba.njit(error_model="numpy")
def is_chaotic(theta: Vector, problem: Problem) -> bool:
    """Return whether an EGARCH is not invertible on its window."""
    y, model, work = problem
    if model[0] != EGARCH:
        return False
    log_forward(y, theta, model[2], work)
    return not growth(theta, work) <= 0.0


@numba.njit(error_model="numpy")
def warm(theta: Vector, hessian: Vector, problem: Problem, boxes: Vector) -> tuple[float, int, int]:
    """Estimate the next window of a walk from the optimum before; leave ``theta`` alone where that fails.

    An EGARCH with alpha >= 0 stays so; where alpha turns to 0, a second run looks for an invertible optimum
    below it.
    """
    value, status, steps = math.inf, NOT_CONVERGED, 0
    for number in range(2):
        above = problem[1][0] == EGARCH and number == 0 and theta[3] >= 0.0
        box, most_growth = (boxes[1], math.inf) if above else (boxes[0], 0.0)
        point, curvature = theta.copy(), hessian.copy()
        reached, end, used = minimise(
            point, curvature, problem, box, (point, curvature, math.inf), most_growth
        )
        steps += used
        if end != CONVERGED:
            break
        copy_into(theta, point)
        hessian[:] = curvature
        value, status = reached, CONVERGED
        if not above or theta[3] > 0.0:
            break
        status = CONSTRAINED
    return value, status, steps


@numba.njit(error_model="numpy")
def estimate(
    theta: Vector, hessian: Vector, problem: Problem, boxes: Vector, before: int
) -> tuple[float, int, int]:
    """Estimate one window: alone, or along a walk after one that ended with status ``before``.

    Alone, an EGARCH is the highest likelihood found, chaotic or not. In a walk it is an optimum where it is
    invertible, and the best with alpha >= 0 where there is none.
    """
    value, status, steps = math.inf, NOT_CONVERGED, 0
    if before >= 0:
        value, status, steps = warm(theta, hessian, problem, boxes)
        if status != NOT_CONVERGED:
            return value, status, steps
    careful = problem[1][0] == EGARCH and before != ALONE
    for number in range(2):
        most_growth = 0.0 if careful and number == 0 else math.inf
        value, status, used = cold(theta, hessian, problem, boxes[number], most_growth)
        steps += used
        if status == CONVERGED or not careful:
            break
    if status == CONVERGED and careful and number == 1 and theta[3] <= 0.0:
        status = CONSTRAINED
    if status == CONVERGED and is_chaotic(theta, problem):
        status = NOT_CONVERGED
    return value, status, steps


@numba.njit(error_model="numpy")
def report(theta: Vector, model: Model, mean: float, scale: float, out: Vector) -> None:
    """Write mu, omega, alpha, gamma, beta, nu and skew in the units of the returns."""
    spec, errors, _ = model
    mu, omega, alpha, gamma, beta = native(theta, spec)
    out[0] = mean + scale * mu
    out[1] = omega + (1.0 - beta) * 2.0 * math.log(scale) if spec == EGARCH else omega * scale * scale
    out[2], out[3], out[4] = alpha, gamma, beta
    out[5] = 0.0 if errors == NORMAL else 1.0 / theta[5]
    out[6] = theta[6]


def fingerprint(*modules: ModuleType) -> int:
    """Return a digest of the compiled functions and plain constants of modules.

    Examples
    --------
    >>> fingerprint(garch_kernels) == fingerprint(garch_kernels, garch_optimizer)
    False
    """
    parts = []
    for module in modules:
        for name, value in sorted(vars(module).items()):
            code = getattr(getattr(value, "py_func", None), "__code__", None)
            if code is not None:
                parts.append(f"{name} {code.co_code.hex()} {code.co_consts} {code.co_names}")
            elif isinstance(value, int | float | tuple):
                parts.append(f"{name} {value!r}")
    return int(hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12], 16)


def _compile(key: int) -> Any:
    """Return the entry with ``key`` as a closure variable: numba makes those part of the cache key."""

    @numba.njit(cache=True, error_model="numpy", nogil=True)
    def fit_block(
        returns: Vector,
        starts: npt.NDArray[np.int64],
        length: int,
        choice: tuple[int, int],
        restart: int,
        out: Vector,
    ) -> None:
        spec, errors = choice
        y, work = np.empty(length), np.empty((WORK_ROWS, length))
        boxes = np.empty((2, 2, SIZE))
        boxes[0], boxes[1] = bounds(spec, errors), bounds(EGARCH_POSITIVE, errors)
        theta, hessian = np.empty(SIZE), np.empty((SIZE, SIZE))
        first = ALONE if restart == 1 else FIRST
        status = first if key >= 0 else ALONE
        for i in range(len(starts)):
            window = returns[starts[i] : starts[i] + length]
            mean, scale = standardise(window, y)
            for j in range(OUT_COLUMNS):
                out[i, j] = math.nan
            out[i, 8], out[i, 9] = DEGENERATE, 0.0
            if scale == 0.0:
                status = first
                continue
            level = backcast_of(y)
            model = (spec, errors, math.log(max(level, 1e-8)) if spec == EGARCH else level)
            before = first if i % restart == 0 or status == NOT_CONVERGED else status
            value, status, steps = estimate(theta, hessian, (y, model, work), boxes, before)
            report(theta, model, mean, scale, out[i])
            out[i, 7] = -length * (value + math.log(scale))
            out[i, 8], out[i, 9] = status, steps

    return fit_block


fit_block: Final = _compile(fingerprint(garch_kernels, garch_optimizer))
"""Estimate windows one after the other; see :func:`calibrator.forecast.garch_estimation.fit_windows`."""
