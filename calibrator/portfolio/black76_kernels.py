"""Compiled Black-76 values: no branch inside the loop, so that the processor prices several options at once.

The time value of an option is that of the out-of-the-money one of its strike,

    sqrt(F K) exp(-(h^2 + t^2) / 2) (M(-h - t) - M(t - h)),   h = -abs(log(F / K)) / s,   t = s / 2,

with ``s = volatility * sqrt(time)`` and ``M(x) = exp(x^2 / 2) Phi(-x)``; where ``h + t > 0`` the first term
is replaced by ``min(F, K)`` less its mirror image. One exponential, one logarithm and two evaluations of
``M`` make a price, and the difference of two nearly equal normal distributions never appears.

``exp`` and ``log`` are written out (Cody and Waite's reduction; series) because a call into the system's
library would keep the loop scalar. ``M`` is a polynomial in ``(x - 5) / (x + 5)``, fitted at Chebyshev nodes
in 60-digit arithmetic, relative error below 1e-15 on [0, 60]. The tests compare all of it with 50 digits.

Everything compiled that prices options stands in this file: numba's cache does not notice a changed callee in
another one.

References
----------
Black, F. (1976). The pricing of commodity contracts. Journal of Financial Economics 3.
Shepherd, M. M. and Laframboise, J. G. (1981). Chebyshev approximation of (1 + 2x) exp(x^2) erfc(x) in
0 <= x < infinity. Mathematics of Computation 36.
"""

import math
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SMALLEST: Final = 1e-10
"""Total volatility below which an option is worth its intrinsic value (the error is 4e-11 of the forward)."""
FARTHEST: Final = 37.0
"""Standard deviations beyond which a density is zero in double precision."""
FAST: Final[Any] = {
    "contract",
    "nsz",
    "arcp",
}  # NaN and infinity keep their meaning: inputs are checked by it
MONTH: Final = 30 / 365
_MAGIC: Final = (
    6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer, which the low bits then hold
)
_LOG2E: Final = 1.4426950408889634
_LN2_HIGH: Final = 0.693147180369123816490
_LN2_LOW: Final = 1.90821492927058770002e-10
_ROOT_HALF: Final = 4604544271217802189  # the bits of sqrt(1/2)


@numba.njit(cache=True, error_model="numpy", fastmath=FAST, inline="always")
def exponential(x: float) -> float:
    """Return exp(x) for -700 <= x <= 700."""
    shifted = x * _LOG2E + _MAGIC
    n = shifted - _MAGIC
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = 2.08767569878681e-09
    p = p * r + 2.505210838544172e-08
    p = p * r + 2.755731922398589e-07
    p = p * r + 2.7557319223985893e-06
    p = p * r + 2.48015873015873e-05
    p = p * r + 0.0001984126984126984
    p = p * r + 0.001388888888888889
    p = p * r + 0.008333333333333333
    p = p * r + 0.041666666666666664
    p = p * r + 0.16666666666666666
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    power = (np.float64(shifted).view(np.int64) + 1023) << 52
    return p * np.int64(power).view(np.float64)


@numba.njit(cache=True, error_model="numpy", fastmath=FAST, inline="always")
def logarithm(x: float) -> float:
    """Return log(x) for a positive normal number."""
    bits = np.float64(x).view(np.int64)
    n = (bits - _ROOT_HALF) >> 52
    m = np.int64(bits - (n << 52)).view(np.float64)
    f = (m - 1.0) / (m + 1.0)
    u = f * f
    p = 0.047619047619047616
    p = p * u + 0.05263157894736842
    p = p * u + 0.058823529411764705
    p = p * u + 0.06666666666666667
    p = p * u + 0.07692307692307693
    p = p * u + 0.09090909090909091
    p = p * u + 0.1111111111111111
    p = p * u + 0.14285714285714285
    p = p * u + 0.2
    p = p * u + 0.3333333333333333
    p = p * u + 1.0
    e = np.float64(n)
    return e * _LN2_HIGH + (2.0 * f * p + e * _LN2_LOW)


@numba.njit(cache=True, error_model="numpy", fastmath=FAST, inline="always")
def mills(x: float) -> float:
    """Return exp(x^2 / 2) Phi(-x) for x >= 0."""
    scale = 1.0 / ((x + 5.0) * (x + 1.0))
    t = (x - 5.0) * (x + 1.0) * scale
    u = t * t
    even = 2.073662750040497e-09
    even = even * u - 2.259203483500774e-08
    even = even * u + 1.229141439739449e-07
    even = even * u - 6.620403698987988e-08
    even = even * u - 9.898318575913656e-06
    even = even * u + 0.00018233490984533469
    even = even * u - 0.0016760725087475205
    even = even * u - 0.01517041538194447
    even = even * u - 0.026401042967630357
    even = even * u + 0.031030368425996862
    even = even * u + 0.46151582985003764
    odd = 2.3024606783118014e-09
    odd = odd * u - 2.5968687674955503e-08
    odd = odd * u + 1.8959363906611324e-07
    odd = odd * u - 1.301884245997781e-06
    odd = odd * u + 9.056851908150505e-06
    odd = odd * u - 5.3606562714923135e-05
    odd = odd * u + 7.791380510422396e-06
    odd = odd * u + 0.006522000694585162
    odd = odd * u + 0.024536963242002205
    odd = odd * u + 0.010002352385268561
    odd = odd * u - 0.09155228183400914
    return (even + t * odd) * (x + 5.0) * scale


@numba.njit(cache=True, error_model="numpy", fastmath=FAST, inline="always")
def time_value(forward: float, strike: float, spread: float) -> float:
    """Return what an option is worth beyond its intrinsic value; ``spread`` = volatility * sqrt(time)."""
    s = max(spread, SMALLEST)
    h = -abs(logarithm(forward / strike)) / s
    t = 0.5 * s
    p = h + t
    q = t - h
    near = min(abs(p), FARTHEST)
    far = min(q, FARTHEST)
    density = exponential(-0.5 * min(h * h + t * t, 1390.0)) * math.sqrt(forward * strike)
    base = min(forward, strike) if p > 0.0 else 0.0
    sign = -1.0 if p > 0.0 else 1.0
    value: float = max(base + density * (sign * mills(near) - mills(far)), 0.0)
    return value


@numba.njit(cache=True, error_model="numpy", fastmath=FAST)
def prices(marks: tuple[Array, Array, Array, Array], call: NDArray[np.bool_], out: Array) -> int:
    """Write the undiscounted value of every option; return how many cannot be valued.

    ``marks``: forward, strike, volatility, time, shape (n,) each. Forward, strike and time must be positive,
    volatility zero or positive, all finite: what is not counts.
    """
    forward, strike, volatility, time = marks
    bad = 0
    for i in range(len(out)):
        f, k, t = forward[i], strike[i], time[i]
        s = volatility[i] * math.sqrt(t)
        fine = (f > 0.0) & (f < np.inf) & (k > 0.0) & (k < np.inf) & (t > 0.0) & (s >= 0.0) & (s < np.inf)
        bad += 0 if fine else 1
        paid = f - k if call[i] else k - f
        out[i] = time_value(f, k, s) + max(paid, 0.0)
    return bad


Marks = tuple[Array, Array, Array, Array, Array]
States = tuple[Array, Array, Array, Array]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=FAST)
def revalue(
    underlying: NDArray[np.int64], sign: Array, marks: Marks, states: States, rest: tuple[Array, Array]
) -> None:
    """Write what one long unit of every contract gains in every scenario, (contracts, scenarios).

    ``marks``: price, strike, volatility, years, scale; ``states``: move, shift, elapsed, weight; ``rest``:
    short and long power and floor of the volatility term, and the result.
    """
    price, strike, volatility, years, scale = marks
    move, shift, elapsed, weight = states
    term, out = rest
    for c in range(len(sign)):
        u = underlying[c]
        if sign[c] == 0.0:
            for s in range(len(weight)):
                out[c, s] = price[c] * move[u, s] * weight[s]
            continue
        power = term[0] if years[c] <= MONTH else term[1]
        stretch = (MONTH / max(years[c], term[2])) ** power
        before = time_value(price[c], strike[c], volatility[c] * np.sqrt(years[c]))
        before += max(sign[c] * (price[c] - strike[c]), 0.0)
        for s in range(len(weight)):
            moved = price[c] * (1.0 + move[u, s])
            left = np.sqrt(max(years[c] - elapsed[u, s], 0.0))
            shifted = volatility[c] * max(1.0 + shift[u, s] * stretch, 0.0)
            after = time_value(moved, strike[c], shifted * left) + max(sign[c] * (moved - strike[c]), 0.0)
            out[c, s] = (after - before) * weight[s] * scale[c]
