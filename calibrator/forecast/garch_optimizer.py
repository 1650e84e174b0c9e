"""The optimiser of the GARCH engine: BFGS in a box, started from the Fisher information, with guards.

Every loop has a fixed cap and a NaN fails each comparison that would accept it, so no window can hang. These
functions are compiled into :mod:`calibrator.forecast.garch_engine`, which caches them.
"""

import math
from typing import Final, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

from calibrator.forecast.garch_kernels import (
    EGARCH,
    FAST,
    MEAN_ABS,
    NORMAL,
    SIZE,
    Model,
    Vector,
    jacobian,
    native,
    objective,
)

CONVERGED, NOT_CONVERGED = 0, 1
Problem: TypeAlias = tuple[Vector, Model, Vector]
LIMITS: Final = ((0, 200), (0, 200), (3, 40))
"""First steps that recompute the information, and the cap of steps; BFGS alone is cheaper but for EGARCH."""
MAX_TRIALS, FEW_TRIALS = 15, 4
"""Lengths that a line search tries; few where a rough likelihood would be left anyway."""
MAX_POOR: Final = 10
"""Steps that achieve less than a tenth of their prediction before a run gives up: the likelihood is rough."""
GAIN: Final = 1e-6
STALLED_GAIN: Final = 1e-3
"""Predicted gains in log-likelihood below which a run has converged: outright; when no step achieves it."""
BASIN: Final = 6.0
"""Log-likelihood (and half the squared distance) within which two runs share an optimum."""


@numba.njit(error_model="numpy", fastmath=FAST)
def tangents(theta: Vector, model: Model, work: Vector) -> None:
    """Write d s2 / d (mu, omega, alpha, gamma, beta), of ln s2 for an EGARCH, into rows 5-9."""
    spec, _, backcast = model
    _, _, alpha, gamma, beta = native(theta, spec)
    e, s2, log_s2, rows = work[0], work[1], work[4], work[5:]
    half = 0.0 if spec == EGARCH else 0.5 * backcast
    rows[0, 0], rows[1, 0], rows[2, 0], rows[3, 0], rows[4, 0] = 0.0, 1.0, 2.0 * half, half, backcast
    for t in range(1, len(e)):
        x = e[t - 1]
        if spec == EGARCH:
            inverse = 1.0 / math.sqrt(s2[t - 1])
            z = x * inverse
            slope = (alpha if z > 0.0 else -alpha) + gamma
            keep = beta - 0.5 * z * slope
            d_mu, d_alpha, d_gamma, d_beta = -slope * inverse, abs(z) - MEAN_ABS, z, log_s2[t - 1]
        else:
            keep, d_alpha, d_beta = beta, x * x, s2[t - 1]
            d_gamma = d_alpha if x < 0.0 else 0.0
            d_mu = -2.0 * x * (alpha + gamma if x < 0.0 else alpha)
        rows[0, t] = d_mu + keep * rows[0, t - 1]
        rows[1, t] = 1.0 + keep * rows[1, t - 1]
        rows[2, t] = d_alpha + keep * rows[2, t - 1]
        rows[3, t] = d_gamma + keep * rows[3, t - 1]
        rows[4, t] = d_beta + keep * rows[4, t - 1]


@numba.njit(error_model="numpy", fastmath=FAST)
def dot(a: Vector, b: Vector) -> float:
    """Return the inner product, summed in vector lanes."""
    total = 0.0
    for t in range(len(a)):
        total += a[t] * b[t]
    return total


@numba.njit(error_model="numpy", fastmath=FAST)
def information(theta: Vector, model: Model, work: Vector, out: Vector) -> None:
    """Write the mean Fisher information in theta, shape (7, 7), at the point last evaluated."""
    spec, errors, _ = model
    tangents(theta, model, work)
    e, s2, rows = work[0], work[1], work[5:]
    nu = 1e6 if errors == NORMAL else 1.0 / theta[5]
    of_scale, of_mean = 0.5 * nu / (nu + 3.0), nu * (nu + 1.0) / ((nu - 2.0) * (nu + 3.0))
    inner = np.zeros((5, 5))
    weight, weighted = work[2], work[3]
    for t in range(len(e)):
        inverse = 1.0 / s2[t]
        inner[0, 0] += of_mean * inverse
        weight[t] = of_scale * inverse * inverse
        if spec == EGARCH:
            weight[t] = of_scale
    for i in range(5):
        for t in range(len(e)):
            weighted[t] = weight[t] * rows[i, t]
        for j in range(i + 1):
            inner[i, j] += dot(weighted, rows[j])
            inner[j, i] = inner[i, j]
    transform(inner, theta, spec, out)
    for i in range(SIZE):
        for j in range(SIZE):
            out[i, j] /= len(e)
        out[i, i] = out[i, i] * (1.0 + 1e-9) + 1e-9
    out[5, 5], out[6, 6] = 1.5 + 60.0 * theta[5] ** 2, 1.0


@numba.njit(error_model="numpy")
def transform(inner: Vector, theta: Vector, spec: int, out: Vector) -> None:
    """Write the information in theta, J' I J, from that in mu, omega, alpha, gamma, beta; the rest is 0."""
    chain = np.empty((5, 5))
    jacobian(theta, spec, chain)
    for i in range(SIZE):
        for j in range(SIZE):
            out[i, j] = 0.0
    for row in range(25):
        i, j = row // 5, row % 5
        for k in range(5):
            for m in range(5):
                out[i, j] += chain[k, i] * inner[k, m] * chain[m, j]


@numba.njit(error_model="numpy")
def factorise(matrix: Vector, index: npt.NDArray[np.int64], factor: Vector) -> bool:
    """Write the Cholesky factor of the rows and columns in ``index``; False unless positive definite."""
    for i in range(len(index)):
        for j in range(i + 1):
            value = matrix[index[i], index[j]]
            for k in range(j):
                value -= factor[i, k] * factor[j, k]
            if i > j:
                factor[i, j] = value / factor[j, j]
            elif value > 1e-14 * matrix[index[i], index[i]]:
                factor[i, i] = math.sqrt(value)
            else:
                return False
    return True


@numba.njit(error_model="numpy")
def solve_free(hessian: Vector, gradient: Vector, free: npt.NDArray[np.bool_], out: Vector) -> bool:
    """Write minus the Newton step on the free coordinates, 0 elsewhere; False unless positive definite."""
    order, n = np.empty(SIZE, np.int64), 0
    for i in range(SIZE):
        out[i] = 0.0
        if free[i]:
            order[n] = i
            n += 1
    index, factor, x = order[:n], np.empty((SIZE, SIZE)), np.empty(SIZE)
    if not factorise(hessian, index, factor):
        return False
    for i in range(n):
        x[i] = -gradient[index[i]]
        for k in range(i):
            x[i] -= factor[i, k] * x[k]
        x[i] /= factor[i, i]
    for i in range(n - 1, -1, -1):
        for k in range(i + 1, n):
            x[i] -= factor[k, i] * x[k]
        x[i] /= factor[i, i]
        out[index[i]] = x[i]
    return True


@numba.njit(error_model="numpy")
def direction(theta: Vector, gradient: Vector, hessian: Vector, box: Vector, out: Vector) -> float:
    """Write a descent direction that no bound blocks; return the predicted decrease times two."""
    free = np.empty(SIZE, np.bool_)
    for i in range(SIZE):
        low, high = theta[i] <= box[0, i], theta[i] >= box[1, i]
        free[i] = not ((low and high) or (low and gradient[i] >= 0.0) or (high and gradient[i] <= 0.0))
    for _ in range(SIZE):
        if not solve_free(hessian, gradient, free, out):
            for i in range(SIZE):
                out[i] = -gradient[i] / max(hessian[i, i], 1e-8) if free[i] else 0.0
        blocked = False
        for i in range(SIZE):
            outward = (theta[i] <= box[0, i] and out[i] < 0.0) or (theta[i] >= box[1, i] and out[i] > 0.0)
            if free[i] and outward:
                free[i] = False
                blocked = True
        if not blocked:
            break
    predicted: float = -dot(gradient, out)
    return predicted


@numba.njit(error_model="numpy")
def minus(a: Vector, b: Vector) -> Vector:
    """Return a - b for two thetas."""
    out = np.empty(SIZE)
    for i in range(SIZE):
        out[i] = a[i] - b[i]
    return out


@numba.njit(error_model="numpy")
def update_hessian(hessian: Vector, step: Vector, change: Vector) -> None:
    """Apply Powell's damped BFGS update in place: the matrix stays positive definite."""
    image = np.zeros(SIZE)
    for i in range(SIZE):
        for j in range(SIZE):
            image[i] += hessian[i, j] * step[j]
    curvature = dot(step, image)
    if not curvature > 0.0:
        return
    slope = dot(step, change)
    mix = 1.0 if slope >= 0.2 * curvature else 0.8 * curvature / (curvature - slope)
    r = np.empty(SIZE)
    for i in range(SIZE):
        r[i] = mix * change[i] + (1.0 - mix) * image[i]
    slope = dot(step, r)
    for i in range(SIZE):
        for j in range(SIZE):
            hessian[i, j] += r[i] * r[j] / slope - image[i] * image[j] / curvature


@numba.njit(error_model="numpy")
def line_search(
    start: tuple[Vector, float, Vector], move: Vector, box: Vector, problem: Problem, most: int
) -> tuple[Vector, float, Vector]:
    """Shorten a projected step until it decreases the objective enough; give up after ``most`` trials."""
    theta, value, gradient = start
    y, model, work = problem
    trial, slope = np.empty(SIZE), np.empty(SIZE)
    length = 1.0 / max(1.0, abs(move[1]))  # ln omega moves by at most one
    for _ in range(most):
        gain = 0.0
        for i in range(SIZE):
            trial[i] = min(max(theta[i] + length * move[i], box[0, i]), box[1, i])
            gain += gradient[i] * (trial[i] - theta[i])
        if gain < 0.0:
            reached = objective(trial, y, model, work, slope)
            if reached <= value + 1e-4 * gain:
                return trial, reached, slope
        length *= 0.4
    return theta, value, gradient


@numba.njit(error_model="numpy")
def in_basin(theta: Vector, value: float, known: tuple[Vector, Vector, float], n: int) -> bool:
    """Return whether a point lies above a known optimum and within a few standard errors of it."""
    optimum, hessian, least = known
    if not least <= value <= least + BASIN / n or value == math.inf:
        return False
    distance = 0.0
    for i in range(SIZE):
        for j in range(SIZE):
            distance += (theta[i] - optimum[i]) * hessian[i, j] * (theta[j] - optimum[j])
    return 0.5 * n * distance < BASIN


@numba.njit(error_model="numpy", fastmath=FAST)
def growth(theta: Vector, work: Vector) -> float:
    """Return the mean log growth per row of an error in an EGARCH's log variance (point last evaluated).

    Above 0 the recursion is not invertible: it never forgets where it started, and its likelihood is chaotic
    in the parameters and in the first row of the window.
    """
    alpha, gamma, beta = theta[3], theta[4], theta[2]
    e, s2 = work[0], work[1]
    total, product = 0.0, 1.0
    for t in range(len(e)):
        z = e[t] / math.sqrt(s2[t])
        product *= max(abs(beta - 0.5 * (alpha * abs(z) + gamma * z)), 1e-12)
        if t % 8 == 7:
            total += math.log(product)
            product = 1.0
    return (total + math.log(product)) / len(e)


@numba.njit(error_model="numpy")
def copy_into(target: Vector, source: Vector) -> None:
    """Copy one theta or gradient over another."""
    for i in range(SIZE):
        target[i] = source[i]


@numba.njit(error_model="numpy")
def has_left(theta: Vector, model: Model, work: Vector, most_growth: float) -> bool:
    """Return whether the point last evaluated is an EGARCH that is less invertible than allowed."""
    suspect = model[0] == EGARCH and theta[3] < 0.0 and most_growth < math.inf
    return suspect and not growth(theta, work) <= most_growth


@numba.njit(error_model="numpy")
def minimise(
    theta: Vector,
    hessian: Vector,
    problem: Problem,
    box: Vector,
    known: tuple[Vector, Vector, float],
    most_growth: float,
) -> tuple[float, int, int]:
    """Run BFGS in the box from ``theta`` (overwritten); return value, status and steps.

    ``hessian`` is overwritten too; all zero, it starts as the Fisher information. A run that enters the
    basin of ``known``, an optimum with its Hessian and value, ends there; one whose :func:`growth` at a
    negative alpha exceeds ``most_growth`` ends at infinity.
    """
    y, model, work = problem
    gradient, move = np.empty(SIZE), np.empty(SIZE)
    value = objective(theta, y, model, work, gradient)
    age = -1 if hessian[0, 0] == 0.0 else 0  # updates since the Hessian was the information
    if age < 0:
        information(theta, model, work, hessian)
    fisher, most = LIMITS[model[0]]
    trials = MAX_TRIALS if most_growth == math.inf else FEW_TRIALS
    poor = 0
    for step in range(most):
        if in_basin(theta, value, known, len(y)):
            return known[2], CONVERGED, step
        gain = 0.5 * len(y) * direction(theta, gradient, hessian, box, move)
        if poor > MAX_POOR or value == math.inf or not gain >= GAIN:  # the latter is true for NaN, too
            return value, CONVERGED if gain < GAIN and value < math.inf else NOT_CONVERGED, step
        trial, reached, slope = line_search((theta, value, gradient), move, box, problem, trials)
        if reached < value and age < 0 and step < fisher:
            information(trial, model, work, hessian)
        elif reached < value:
            update_hessian(hessian, minus(trial, theta), minus(slope, gradient))
            age += 1
        elif age > 0:
            objective(theta, y, model, work, slope)
            information(theta, model, work, hessian)
            age = 0
        else:
            return value, CONVERGED if gain < STALLED_GAIN else NOT_CONVERGED, step
        poor += (value - reached) * len(y) < 0.1 * gain
        value = reached if not has_left(trial, model, work, most_growth) else math.inf
        copy_into(theta, trial)
        copy_into(gradient, slope)
    return value, NOT_CONVERGED, most
