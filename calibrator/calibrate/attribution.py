"""Why a margin changed: terms in integer ppm that add up exactly."""

from collections.abc import Sequence
from typing import Final

import numpy as np

TERMS: Final = ("volatility", "tail", "anti_procyclical")


def attribute(
    before: Sequence[float], after: Sequence[float], *, published: tuple[int, int]
) -> dict[str, int]:
    """Split a published change into volatility, tail and anti-procyclical parts.

    The unlimited margin is volatility times tail quantile; its change is split by their logarithms (the
    logarithmic-mean split, which leaves no residual). What the floor and the speed limits did to the rest is
    the anti-procyclical part.

    Parameters
    ----------
    before, after : sequence of (volatility, quantile)
        Forecast volatility over the close-out and standardised quantile at the two decisions (positive).
    published : (int, int)
        Published margins in ppm at the two decisions.

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
    >>> attribute((0.04, 2.5), (0.05, 2.5), published=(100_000, 110_000))
    {'volatility': 25000, 'tail': 0, 'anti_procyclical': -15000}
    """
    old, new = float(np.prod(before)), float(np.prod(after))
    mean = old if np.isclose(old, new, rtol=1e-12, atol=0) else (new - old) / np.log(new / old)
    parts = [round(1e6 * mean * float(np.log(b / a))) for a, b in zip(before, after, strict=True)]
    rest = published[1] - published[0] - sum(parts)
    return dict(zip(TERMS, [*parts, rest], strict=True))
