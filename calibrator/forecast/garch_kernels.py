r"""Compiled likelihoods of the GARCH engine, each with its gradient by the adjoint of the recursion.

Everything works on a standardised window ``y`` (mean 0, variance 1) and on seven box-constrained coordinates

====== ===================================== =================
index  GARCH, GJR                            EGARCH
====== ===================================== =================
0      mu                                    mu
1      ln omega                              omega
2      persistence p                         beta
3      share s of the news in p              alpha
4      share d of negative news in the news  gamma
5, 6   1 / nu and skew                       1 / nu and skew
====== ===================================== =================

so that :math:`\alpha = 2ps(1-d)`, :math:`\gamma = 2ps(2d-1)`, :math:`\beta = p(1-s)`: positivity and
stationarity are bounds. The gradient takes one sweep forward and one backward. Each kernel has its plain
numpy twin in the tests. ``model`` is (specification, errors, backcast), the first two as the integers below;
``work`` has ``WORK_ROWS`` rows of the window's length: residuals, variances, d likelihood / d variance,
d likelihood / d residual, log variances (EGARCH), and scratch.
"""

import math
from typing import Any, Final, TypeAlias

import numba
import numpy as np
import numpy.typing as npt

Vector: TypeAlias = npt.NDArray[np.float64]
Model: TypeAlias = tuple[int, int, float]

EGARCH: Final = 2
NORMAL, STUDENT, SKEWED = 0, 1, 2
SIZE: Final = 7
WORK_ROWS: Final = 10
LOG_2PI: Final = math.log(2.0 * math.pi)
MEAN_ABS: Final = math.sqrt(2.0 / math.pi)
LOG_LIMIT: Final = 16.0
FAST: Final[Any] = {
    "reassoc",
    "contract",
    "arcp",
    "nsz",
}  # NaN and infinity keep their meaning: guards need them


@numba.njit(cache=True, error_model="numpy")
def digamma(x: float) -> float:
    """Return the derivative of the log gamma function for x >= 1; a NaN passes through without looping."""
    shift = 0.0
    for _ in range(8):
        shift -= 1.0 / x
        x += 1.0
    r = 1.0 / (x * x)
    return shift + math.log(x) - 0.5 / x - r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r / 240)))


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def sum_log(x: Vector) -> float:
    """Return the sum of logarithms through products of sixteen factors (each within 1e-18..1e18)."""
    whole = len(x) - len(x) % 16
    total = 0.0
    for start in range(0, whole, 16):
        product = 1.0
        for j in range(16):
            product *= x[start + j]
        total += math.log(product)
    for t in range(whole, len(x)):
        total += math.log(x[t])
    return total


@numba.njit(cache=True, error_model="numpy")
def native(theta: Vector, spec: int) -> tuple[float, float, float, float, float]:
    """Return mu, omega, alpha, gamma, beta."""
    mu, level, p, s, d = theta[0], theta[1], theta[2], theta[3], theta[4]
    if spec == EGARCH:
        return mu, level, s, d, p
    return mu, math.exp(level), 2.0 * p * s * (1.0 - d), 2.0 * p * s * (2.0 * d - 1.0), p * (1.0 - s)


@numba.njit(cache=True, error_model="numpy")
def jacobian(theta: Vector, spec: int, out: Vector) -> None:
    """Write d native / d theta, shape (5, 5): rows are mu, omega, alpha, gamma, beta."""
    for i in range(5):
        for j in range(5):
            out[i, j] = 0.0
    out[0, 0] = 1.0
    if spec == EGARCH:
        out[1, 1] = out[4, 2] = out[2, 3] = out[3, 4] = 1.0
        return
    p, s, d = theta[2], theta[3], theta[4]
    out[1, 1] = math.exp(theta[1])
    out[2, 2], out[2, 3], out[2, 4] = 2.0 * s * (1.0 - d), 2.0 * p * (1.0 - d), -2.0 * p * s
    out[3, 2], out[3, 3], out[3, 4] = 2.0 * s * (2.0 * d - 1.0), 2.0 * p * (2.0 * d - 1.0), 4.0 * p * s
    out[4, 2], out[4, 3] = 1.0 - s, -p


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def square_forward(y: Vector, theta: Vector, backcast: float, work: Vector) -> None:
    """Write residuals (row 0) and conditional variances (row 1) of a GARCH or GJR."""
    mu, omega, alpha, gamma, beta = native(theta, 0)
    e, s2 = work[0], work[1]
    n = len(y)
    s2[0] = omega + (alpha + 0.5 * gamma) * backcast
    for t in range(n):
        x = y[t] - mu
        e[t] = x
        if t + 1 < n:
            s2[t + 1] = omega + (alpha + gamma if x < 0.0 else alpha) * x * x
    variance = backcast
    whole = n - n % 2
    for t in range(0, whole, 2):  # two steps at a time: the loop waits for one product instead of two
        first, second = s2[t], s2[t + 1] + beta * s2[t]
        s2[t] = first + beta * variance
        variance = second + beta * beta * variance
        s2[t + 1] = variance
    if whole < n:
        s2[whole] += beta * variance


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def square_backward(theta: Vector, backcast: float, work: Vector, out: Vector) -> None:
    """Write the gradient in mu, omega, alpha, gamma, beta from rows 2 (overwritten) and 3."""
    _, _, alpha, gamma, beta = native(theta, 0)
    e, s2, adjoint, de = work[0], work[1], work[2], work[3]
    total = 0.0
    for t in range(len(e) - 1, -1, -1):
        total = adjoint[t] + beta * total
        adjoint[t] = total
    d_mu, d_omega, d_alpha, d_gamma = -de[0], total, total * backcast, 0.5 * total * backcast
    d_beta = total * backcast
    for t in range(1, len(e)):
        a, x = adjoint[t], e[t - 1]
        square = a * x * x
        negative = square if x < 0.0 else 0.0
        d_omega += a
        d_alpha += square
        d_gamma += negative
        d_beta += a * s2[t - 1]
        d_mu -= de[t] + 2.0 * a * x * (alpha + gamma if x < 0.0 else alpha)
    out[0], out[1], out[2], out[3], out[4] = d_mu, d_omega, d_alpha, d_gamma, d_beta


@numba.njit(cache=True, error_model="numpy", fastmath={"contract"})
def small_exp(x: float) -> float:
    """Return exp(x) within 3e-16 for x within 0.25 of 0: its series in Estrin's order, no call."""
    x2 = x * x
    x4 = x2 * x2
    low = (1.0 + x) + x2 * (1 / 2 + x * (1 / 6))
    middle = (1 / 24 + x * (1 / 120)) + x2 * (1 / 720 + x * (1 / 5040))
    high = (1 / 40320 + x * (1 / 362880)) + x2 * (1 / 3628800 + x * (1 / 39916800))
    return (low + x4 * middle) + (x4 * x4) * high


@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})
def log_forward(y: Vector, theta: Vector, backcast: float, work: Vector) -> None:
    """Write residuals (row 0), variances (row 1) and log variances (row 4) of an EGARCH.

    The loop waits for the news of the row before. What is known without them has its exponential at once, so
    that only a short series stands between one row and the next.
    """
    mu, omega, alpha, gamma, beta = native(theta, EGARCH)
    e, s2, log_s2 = work[0], work[1], work[4]
    positive, negative = -0.5 * (alpha + gamma), -0.5 * (gamma - alpha)
    constant = omega - alpha * MEAN_ABS
    level = min(max(omega + beta * backcast, -LOG_LIMIT), LOG_LIMIT)
    inverse = math.exp(-0.5 * level)
    for t in range(len(y)):
        log_s2[t] = level
        s2[t] = inverse
        drift = constant + beta * level
        scale = math.exp(-0.5 * drift)
        x = y[t] - mu
        e[t] = x
        half = x * (positive if x > 0.0 else negative) * inverse  # minus half the news
        level = drift - 2.0 * half
        if abs(half) < 0.25 and abs(level) < LOG_LIMIT:
            inverse = scale * small_exp(half)
        else:
            level = min(max(level, -LOG_LIMIT), LOG_LIMIT)
            inverse = math.exp(-0.5 * level)
    for t in range(len(y)):
        s2[t] = 1.0 / (s2[t] * s2[t])


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def log_backward(theta: Vector, backcast: float, work: Vector, out: Vector) -> None:
    """Write the gradient in mu, omega, alpha, gamma, beta of an EGARCH (rows as in ``square_backward``).

    Rows 6 to 9 are scratch: d news / d residual, residual / volatility, d log variance / d that of the row
    before, and d likelihood / d log variance of the next row. Only the last one needs its neighbour.
    """
    _, _, alpha, gamma, beta = native(theta, EGARCH)
    e, s2, ds2, de, log_s2 = work[0], work[1], work[2], work[3], work[4]
    by_residual, z, keep, adjoint = work[6], work[7], work[8], work[9]
    for t in range(len(e)):
        inverse = 1.0 / math.sqrt(s2[t])
        z[t] = e[t] * inverse
        slope = (alpha if z[t] > 0.0 else -alpha) + gamma
        inside = 1.0 if abs(log_s2[t]) < LOG_LIMIT else 0.0
        by_residual[t] = slope * inverse
        keep[t] = inside * (beta - 0.5 * z[t] * slope)
        adjoint[t] = inside * ds2[t] * s2[t]
    later = 0.0
    for t in range(len(e) - 1, -1, -1):
        own = adjoint[t]
        adjoint[t] = later
        later = own + later * keep[t]
    d_mu = d_omega = d_alpha = d_gamma = d_beta = 0.0
    for t in range(len(e)):
        a = adjoint[t]
        d_omega += a
        d_alpha += a * (abs(z[t]) - MEAN_ABS)
        d_gamma += a * z[t]
        d_beta += a * log_s2[t]
        d_mu -= de[t] + a * by_residual[t]
    out[0], out[1], out[2], out[3] = d_mu, d_omega + later, d_alpha, d_gamma
    out[4] = d_beta + later * backcast


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def normal_density(work: Vector) -> float:
    """Return the log-likelihood; write dl/ds2 (row 2) and dl/de (row 3)."""
    e, s2, ds2, de = work[0], work[1], work[2], work[3]
    total: float = len(e) * LOG_2PI + sum_log(s2)
    for t in range(len(e)):
        inverse = 1.0 / s2[t]
        u = e[t] * inverse
        total += e[t] * u
        ds2[t] = 0.5 * (u * u - inverse)
        de[t] = -u
    return -0.5 * total


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def student_density(work: Vector, nu: float, out: Vector) -> float:
    """Return the log-likelihood; write dl/ds2, dl/de and dl/dnu (``out[5]``)."""
    e, s2, ds2, de, ratio = work[0], work[1], work[2], work[3], work[5]
    weighted = 0.0
    for t in range(len(e)):
        inverse = 1.0 / s2[t]
        u = e[t] * inverse
        x = e[t] * u
        w = (nu + 1.0) / (nu - 2.0 + x)
        ratio[t] = 1.0 + x / (nu - 2.0)
        weighted += w * x
        ds2[t] = 0.5 * (w * x - 1.0) * inverse
        de[t] = -w * u
    n, logs = len(e), sum_log(ratio)
    constant = math.lgamma(0.5 * (nu + 1.0)) - math.lgamma(0.5 * nu) - 0.5 * math.log(math.pi * (nu - 2.0))
    slope = digamma(0.5 * (nu + 1.0)) - digamma(0.5 * nu) - 1.0 / (nu - 2.0)
    out[5] = 0.5 * (n * slope - logs + weighted / (nu - 2.0))
    value: float = n * constant - 0.5 * sum_log(s2) - 0.5 * (nu + 1.0) * logs
    return value


@numba.njit(cache=True, error_model="numpy")
def skewed_constants(nu: float, skew: float) -> tuple[float, float, float, float]:
    """Return ln c, a, b of Hansen's density and d ln c / d nu."""
    log_c = math.lgamma(0.5 * (nu + 1.0)) - math.lgamma(0.5 * nu) - 0.5 * math.log(math.pi * (nu - 2.0))
    slope = 0.5 * (digamma(0.5 * (nu + 1.0)) - digamma(0.5 * nu) - 1.0 / (nu - 2.0))
    a = 4.0 * skew * math.exp(log_c) * (nu - 2.0) / (nu - 1.0)
    return log_c, a, math.sqrt(1.0 + 3.0 * skew * skew - a * a), slope


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def skewed_density(work: Vector, nu: float, skew: float, out: Vector) -> float:
    """Return the log-likelihood; write dl/ds2, dl/de, dl/dnu (``out[5]``) and dl/dskew (``out[6]``)."""
    e, s2, ds2, de, ratio = work[0], work[1], work[2], work[3], work[5]
    log_c, a, b, slope = skewed_constants(nu, skew)
    weighted = by_b = by_a = by_skew = 0.0
    for t in range(len(e)):
        inverse = 1.0 / math.sqrt(s2[t])
        z = e[t] * inverse
        side = 1.0 if b * z + a >= 0.0 else -1.0
        scale = 1.0 / (1.0 + side * skew)
        u = (b * z + a) * scale
        w = (nu + 1.0) / (nu - 2.0 + u * u)
        ratio[t] = 1.0 + u * u / (nu - 2.0)
        weighted += w * u * u
        by_b += w * u * z * scale
        by_a += w * u * scale
        by_skew += w * u * u * side * scale
        dz = -w * u * b * scale
        ds2[t] = -0.5 * (1.0 + dz * z) * inverse * inverse
        de[t] = dz * inverse
    n, logs = len(e), sum_log(ratio)
    a_nu = a * (slope + 1.0 / (nu - 2.0) - 1.0 / (nu - 1.0))
    a_skew = 4.0 * math.exp(log_c) * (nu - 2.0) / (nu - 1.0)
    b_nu, b_skew = -a * a_nu / b, (3.0 * skew - a * a_skew) / b
    out[5] = n * (b_nu / b + slope) - 0.5 * logs + 0.5 * weighted / (nu - 2.0) - b_nu * by_b - a_nu * by_a
    out[6] = n * b_skew / b - b_skew * by_b - a_skew * by_a + by_skew
    value: float = n * (math.log(b) + log_c) - 0.5 * sum_log(s2) - 0.5 * (nu + 1.0) * logs
    return value


@numba.njit(cache=True, error_model="numpy")
def objective(theta: Vector, y: Vector, model: Model, work: Vector, gradient: Vector) -> float:
    """Return minus the mean log-likelihood and write its gradient in theta; infinity where not finite."""
    spec, errors, backcast = model
    score = np.zeros(SIZE)
    if spec == EGARCH:
        log_forward(y, theta, backcast, work)
    else:
        square_forward(y, theta, backcast, work)
    if errors == NORMAL:
        value = normal_density(work)
    elif errors == STUDENT:
        value = student_density(work, 1.0 / theta[5], score)
    else:
        value = skewed_density(work, 1.0 / theta[5], theta[6], score)
    if spec == EGARCH:
        log_backward(theta, backcast, work, score)
    else:
        square_backward(theta, backcast, work, score)
    chain = np.empty((5, 5))
    jacobian(theta, spec, chain)
    finite = math.isfinite(value)
    for j in range(SIZE):
        if j < 5:
            slope = 0.0
            for i in range(5):
                slope += score[i] * chain[i, j]
        else:
            slope = score[j] if j == 6 else -score[5] / (theta[5] * theta[5])
        gradient[j] = -slope / len(y)
        finite = finite and math.isfinite(slope)
    return -value / len(y) if finite else math.inf
