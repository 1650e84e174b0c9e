"""Why a margin changed: terms in integer ppm that add up exactly."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from calibrator.domain import PPM

TERMS: Final = (
    "volatility",
    "tail",
    "liquidity",
    "concentration",
    "anti_procyclical",
    "regime",
    "constraint",
)
FIRST: Final = "first_level"


@dataclass(frozen=True, slots=True)
class Drivers:
    """What a margin is made of at one decision (fractions of notional unless said otherwise).

    Attributes
    ----------
    volatility : float
        Forecast over the close-out (positive).
    tail : float
        Standardised loss quantile (positive); ``volatility * tail`` is the margin before everything else.
    liquidity : float
        Add-on for size and for jumps while the oracle lags.
    concentration : float
        Add-on for crowded open interest.
    goal : float
        What is asked after the anti-procyclical tools and the floor.
    held : float
        What a regime hold adds to the lowest margin that the limits allow.
    """

    volatility: float
    tail: float
    goal: float
    liquidity: float = 0.0
    concentration: float = 0.0
    held: float = 0.0

    @property
    def unlimited(self) -> float:
        """Margin before the anti-procyclical layer."""
        return self.volatility * self.tail + self.liquidity + self.concentration


def attribute(before: Drivers | None, after: Drivers, *, published: tuple[int, int]) -> dict[str, int]:
    """Split a published change into what caused it.

    The product of volatility and tail is split by their logarithms (the logarithmic-mean split, which leaves
    no residual). ``anti_procyclical`` is the change of what tools and floor add to the forecast, ``regime``
    that of what a regime hold adds, and ``constraint`` the rest: what speed limits and the target's own rules
    hold back or make up for.

    Parameters
    ----------
    before : Drivers or None
        At the decision published last; None for a market that is published for the first time, whose level
        then is the term ``first_level``.
    after : Drivers
        At this decision.
    published : (int, int)
        Published margins in ppm at the two decisions (0 for a new market).

    Returns
    -------
    dict of str to int
        ppm per term; the values sum to ``published[1] - published[0]``.

    References
    ----------
    Ang, B.W. (2004). Decomposition analysis for policymaking in energy: the logarithmic mean Divisia index.
    Energy Policy 32.

    Examples
    --------
    >>> now = Drivers(volatility=0.05, tail=2.5, goal=0.125)
    >>> parts = attribute(Drivers(volatility=0.04, tail=2.5, goal=0.1), now, published=(100_000, 110_000))
    >>> {name: value for name, value in parts.items() if value}
    {'volatility': 25000, 'constraint': -15000}
    """
    if before is None:
        out = {FIRST: round(PPM * after.volatility * after.tail)}
        before = Drivers(after.volatility, after.tail, goal=after.volatility * after.tail)
    else:
        out = _product(before, after)
    change = {
        "liquidity": after.liquidity - before.liquidity,
        "concentration": after.concentration - before.concentration,
        "anti_procyclical": (after.goal - after.unlimited) - (before.goal - before.unlimited),
        "regime": after.held - before.held,
    }
    out |= {name: round(PPM * value) for name, value in change.items()}
    return out | {"constraint": published[1] - published[0] - sum(out.values())}


def _product(before: Drivers, after: Drivers) -> dict[str, int]:
    old, new = before.volatility * before.tail, after.volatility * after.tail
    mean = old if np.isclose(old, new, rtol=1e-12, atol=0) else (new - old) / np.log(new / old)
    return {
        "volatility": round(PPM * mean * float(np.log(after.volatility / before.volatility))),
        "tail": round(PPM * mean * float(np.log(after.tail / before.tail))),
    }
