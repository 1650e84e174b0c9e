"""Integer conversions between ppm and the units of the targets; the direction is part of the name.

Requirements (margins) go up, promises (loan-to-value, thresholds, caps) go down. No floats.
"""

from calibrator.domain import PPM


def up(ppm: int, one: int) -> int:
    """Scale ``ppm`` to a unit in which 100 % is ``one``, rounding up.

    Examples
    --------
    >>> up(83_333, 10_000), up(50_000, 10**18)
    (834, 50000000000000000)
    """
    return -(-ppm * one // PPM)


def down(ppm: int, one: int) -> int:
    """Scale ``ppm`` to a unit in which 100 % is ``one``, rounding down.

    Examples
    --------
    >>> down(749_999, 10_000), down(749_999, 100)
    (7499, 74)
    """
    return ppm * one // PPM


def ratio_up(numerator: int, denominator: int, one: int) -> int:
    """Return ``numerator / denominator`` in a unit in which 1 is ``one``, rounding up.

    Examples
    --------
    >>> ratio_up(40_000, 70_000, 1_000_000)
    571429
    """
    return -(-numerator * one // denominator)


def ratio_down(numerator: int, denominator: int, one: int) -> int:
    """Return ``numerator / denominator`` in a unit in which 1 is ``one``, rounding down.

    Examples
    --------
    >>> ratio_down(40_000, 70_000, 1_000_000)
    571428
    """
    return numerator * one // denominator
