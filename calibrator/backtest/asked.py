"""What maintenance margin positions were asked while they were exposed."""

import numba
import numpy as np

from calibrator.backtest.events import Events, Positions
from calibrator.backtest.terms import Floats, Integers, Prices, Terms
from calibrator.domain import PPM


def average_margin(prices: Prices, terms: Terms, positions: Positions, events: Events) -> Floats:
    """Return the average maintenance requirement over notional (fraction) while each position was exposed.

    From the bar after its opening to its settlement, at the closes; 0 for one that never was exposed.

    Parameters
    ----------
    prices : Prices
    terms : Terms
    positions : Positions
    events : Events
        Of these positions.

    Examples
    --------
    >>> t, price, whole = np.arange(3).astype("M8[D]"), np.array([1.0, 1.0, 2.0]), np.array([0, 0])
    >>> rates = np.array([[50_000] * 3, [100_000] * 3])
    >>> held = Positions(whole + 1, np.array([100.0, 1_000.0]), np.ones(2), np.ones(2), whole, whole + 3)
    >>> ended = Events(whole - 1, whole + 2, whole > 0)
    >>> terms = Terms(np.array([0, 1_000]), rates, rates, 0)
    >>> average_margin(Prices(t, price, price, price), terms, held, ended).tolist()
    [0.05, 0.0625]
    """
    bars = events.settled - positions.opened
    # Integer sums of ppm from the bar after opening to the settlement: exact, whatever the length.
    running = np.cumsum(np.concatenate([[0], terms.maintenance[0]]), dtype=np.int64)
    asked = running[events.settled + 1] - running[positions.opened + 1]
    average: Floats = asked / np.maximum(bars, 1) / PPM
    large = terms.tier(positions.quantity * prices.close.max()) > 0
    if large.any():
        first, last = positions.opened[large] + 1, events.settled[large]
        average[large] = _averages(
            prices.close, terms.maintenance / PPM, terms.deduction(), terms.notional_floor,
            positions.quantity[large], first, last,
        )  # fmt: skip
    return average


@numba.njit(cache=True)
def _averages(  # noqa: PLR0913, PLR0917 - compiled: arrays, one by one
    close: Floats, margins: Floats, spared: Floats, floors: Integers, quantity: Floats,
    first: Integers, last: Integers,
) -> Floats:  # fmt: skip
    out = np.zeros(len(quantity))
    for i in range(len(quantity)):
        for t in range(first[i], last[i] + 1):
            value = quantity[i] * close[t]
            k = np.searchsorted(floors, value, side="right") - 1
            out[i] += margins[k, t] - spared[k, t] / value
        out[i] /= max(last[i] + 1 - first[i], 1)
    return out
