"""Black-76: values and Greeks of European options on a forward, in units of the forward's currency."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from calibrator.errors import DataError
from calibrator.portfolio import black76_kernels as kernels

Array = NDArray[np.float64]
ROOT_2PI: Final = float(np.sqrt(2.0 * np.pi))


@dataclass(frozen=True, slots=True)
class Greeks:
    """Sensitivities of an option's value, arrays of one shape.

    Attributes
    ----------
    delta, gamma : numpy.ndarray
        First and second derivative by the forward.
    vega, theta : numpy.ndarray
        Derivative by volatility (per 1.0 = 100 points) and by passing time (per year; the value's change when
        the expiry comes closer).
    vanna, volga : numpy.ndarray
        Derivative of delta, and of vega, by volatility.

    Examples
    --------
    >>> Greeks(*[np.zeros(1)] * 6).vega
    array([0.])
    """

    delta: Array
    gamma: Array
    vega: Array
    theta: Array
    vanna: Array
    volga: Array


def price(
    forward: ArrayLike,
    strike: ArrayLike,
    volatility: ArrayLike,
    time: ArrayLike,
    *,
    call: ArrayLike,
    discount: ArrayLike = 1.0,
) -> Array:
    """Return the value of European options on a forward.

    Parameters
    ----------
    forward, strike : array_like
        Positive, broadcast against each other.
    volatility : array_like
        Of the forward's logarithm, per square root of a year; not negative.
    time : array_like
        To expiry, years; positive.
    call : array_like of bool
        True for calls, False for puts.
    discount : array_like
        Factor from expiry to today, positive.

    Returns
    -------
    numpy.ndarray
        ``discount * (F Phi(d1) - K Phi(d2))`` for calls; within 1e-12 of it, relative to the larger of
        forward and strike.

    Raises
    ------
    DataError
        A value that is missing, infinite or out of bounds, a zero or negative time; names the first.

    References
    ----------
    Black, F. (1976). The pricing of commodity contracts. Journal of Financial Economics 3.

    Examples
    --------
    >>> price(100.0, [90.0, 100.0, 110.0], 0.5, 0.25, call=True).round(6).tolist()
    [15.272058, 9.947645, 6.190426]
    >>> price(100.0, 100.0, 0.5, 0.0, call=True)
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: option 0: time must be positive and finite, was 0.0
    """
    f, k, v, t, calls = _inputs(forward, strike, volatility, time, call)
    out = np.empty(f.size)
    if kernels.prices((f.ravel(), k.ravel(), v.ravel(), t.ravel()), calls.ravel(), out):
        check_options(f, k, v, t)
        raise DataError("options: forward / strike or volatility * sqrt(time) is beyond double precision")
    d = _discount(discount)
    return out.reshape(f.shape) if (d == 1.0).all() else out.reshape(f.shape) * d


def greeks(
    forward: ArrayLike,
    strike: ArrayLike,
    volatility: ArrayLike,
    time: ArrayLike,
    *,
    call: ArrayLike,
    discount: ArrayLike = 1.0,
) -> Greeks:
    """Return delta, gamma, vega, theta, vanna and volga; arguments as for :func:`price`.

    ``theta`` includes the discount factor's own change, ``discount = exp(-rate * time)``.

    Raises
    ------
    DataError
        As :func:`price`; also a zero volatility, whose Greeks jump.

    Examples
    --------
    >>> x = greeks(100.0, 110.0, 0.5, 0.25, call=True)
    >>> [round(float(v), 4) for v in (x.delta, x.gamma, x.vega, x.theta, x.vanna, x.volga)]
    [0.3989, 0.0154, 19.3029, -19.3029, 0.3909, 5.0079]
    """
    f, k, v, t, calls = _inputs(forward, strike, volatility, time, call)
    sign = np.where(calls, 1.0, -1.0)
    check_options(f, k, v, t)
    if (v == 0).any():
        raise DataError(f"{_place(v == 0)}: volatility must be positive for Greeks, was 0.0")
    d = _discount(discount)
    s = v * np.sqrt(t)
    d1 = np.log(f / k) / s + 0.5 * s
    d2 = d1 - s
    density = np.exp(-0.5 * d1 * d1) / ROOT_2PI
    vega = d * f * density * np.sqrt(t)
    rate = -np.log(d) / t
    value = d * sign * (f * ndtr(sign * d1) - k * ndtr(sign * d2))
    return Greeks(
        delta=d * sign * ndtr(sign * d1),
        gamma=d * density / (f * s),
        vega=vega,
        theta=rate * value - 0.5 * d * f * density * v / np.sqrt(t),
        vanna=-d * density * d2 / v,
        volga=vega * d1 * d2 / v,
    )


def check_options(forward: Array, strike: Array, volatility: Array, time: Array) -> None:
    """Refuse options that have no value, naming the first.

    Raises
    ------
    DataError
        Forward, strike or time not positive and finite, volatility negative or missing.

    Examples
    --------
    >>> check_options(*np.array([[100.0], [100.0], [np.nan], [0.5]]))
    Traceback (most recent call last):
    ...
    calibrator.errors.DataError: option 0: volatility must be finite and not negative, was nan
    """
    named = {"forward": forward, "strike": strike, "time": time}
    for name, values in named.items():
        wrong = ~((values > 0) & np.isfinite(values))
        if wrong.any():
            first = float(np.ravel(values)[np.flatnonzero(wrong)[0]])
            raise DataError(f"{_place(wrong)}: {name} must be positive and finite, was {first}")
    wrong = ~((volatility >= 0) & np.isfinite(volatility))
    if wrong.any():
        first = float(np.ravel(volatility)[np.flatnonzero(wrong)[0]])
        raise DataError(f"{_place(wrong)}: volatility must be finite and not negative, was {first}")


def _place(wrong: NDArray[np.bool_]) -> str:
    return f"option {int(np.flatnonzero(wrong)[0])}"


def _inputs(
    forward: ArrayLike, strike: ArrayLike, volatility: ArrayLike, time: ArrayLike, call: ArrayLike
) -> tuple[Array, Array, Array, Array, NDArray[np.bool_]]:
    arrays = (np.asarray(x, np.float64) for x in (forward, strike, volatility, time))
    f, k, v, t, calls = np.broadcast_arrays(*arrays, np.asarray(call, bool))
    return f, k, v, t, calls


def _discount(discount: ArrayLike) -> Array:
    d = np.asarray(discount, np.float64)
    if not ((d > 0) & np.isfinite(d)).all():
        raise DataError(f"discount must be positive and finite, was {d.ravel()[:3].tolist()}")
    return d
