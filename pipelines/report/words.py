"""Numbers and changes in plain words."""

import math
from collections.abc import Mapping
from typing import Final

from calibrator.domain import PPM
from calibrator.publish.document import MarketParameters

MISSING: Final = "-"
LEAST_TOLD: Final = 50
"""ppm of a change that is worth a phrase: half a basis point, what two decimals of a percent can show."""
PHRASES: Final = {
    "volatility": ("higher forecast volatility", "lower forecast volatility"),
    "tail": ("a fatter tail of losses", "a thinner tail of losses"),
    "anti_procyclical": ("long-run level and floor ask for more", "long-run level and floor ask for less"),
    "regime": ("a more stressed regime", "a calmer regime"),
    "liquidity": ("thinner liquidity", "deeper liquidity"),
    "concentration": ("more crowded positions", "less crowded positions"),
    "constraint": ("limits on moves hold it up", "limits on moves hold the increase back"),
    "first_level": ("forecast volatility times the tail quantile gives",) * 2,
    "held": ("held at the last good value",) * 2,
}


def percent(value: object, digits: int = 2) -> str:
    """Spell a fraction in percent.

    Examples
    --------
    >>> print(percent(0.0712), percent(None), percent(float("nan")), percent(0.99, 0))
    7.12 % - - 99 %
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return MISSING
    return f"{100 * value:.{digits}f} %"


def ppm(value: int | None, digits: int = 2) -> str:
    """Spell parts per million in percent.

    Examples
    --------
    >>> print(ppm(71_234), ppm(None))
    7.12 % -
    """
    return MISSING if value is None else percent(value / PPM, digits)


def number(value: object, digits: int = 0) -> str:
    """Spell a number with thousands separators.

    Examples
    --------
    >>> number(12345.6), number(0.1234, 3), number(None)
    ('12,346', '0.123', '-')
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return MISSING
    return f"{value:,.{digits}f}"


def p_value(value: object) -> str:
    """Spell a p-value.

    Examples
    --------
    >>> p_value(0.2345), p_value(1e-6), p_value(float("nan"))
    ('0.234', '< 0.001', '-')
    """
    if not isinstance(value, int | float) or not math.isfinite(value):
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def points(change_ppm: int) -> str:
    """Spell a change in percentage points, with its sign.

    Examples
    --------
    >>> points(2_500), points(-12_000), points(0)
    ('+0.25 points', '-1.20 points', '±0.00 points')
    """
    if round(change_ppm / 100) == 0:
        return "±0.00 points"
    return f"{'+' if change_ppm > 0 else '-'}{abs(change_ppm) / 10_000:.2f} points"


def explain(value_ppm: int, previous_ppm: int | None, attribution: Mapping[str, int], *, what: str) -> str:
    """Say in one sentence how a published value came about.

    Parameters
    ----------
    value_ppm : int
        The value published now.
    previous_ppm : int or None
        The value before; None at the first publication.
    attribution : mapping of str to int
        Terms in ppm that add up to the change.
    what : str
        Name of the value.

    Examples
    --------
    >>> terms = {"volatility": 5_000, "tail": 0, "constraint": -3_000}
    >>> print(explain(71_000, 69_000, terms, what="Margin"))
    Margin rises from 6.90 % to 7.10 %: higher forecast volatility +0.50 points; limits on moves hold the
    increase back -0.30 points.
    >>> print(explain(71_000, 71_000, {"held": 0}, what="Margin"))
    Margin stays at 7.10 %.
    """
    change = value_ppm - (previous_ppm or 0)
    if previous_ppm is None:
        head = f"{what} is published for the first time, at {ppm(value_ppm)}"
    elif change == 0:
        head = f"{what} stays at {ppm(value_ppm)}"
    else:
        verb = "rises" if change > 0 else "falls"
        head = f"{what} {verb} from {ppm(previous_ppm)} to {ppm(value_ppm)}"
    told = {term: value for term, value in attribution.items() if abs(value) >= LEAST_TOLD}
    parts = [f"{_phrase(term, value)} {points(value)}" for term, value in told.items()]
    return f"{head}: {'; '.join(parts)}." if parts else f"{head}."


def explain_market(market: MarketParameters) -> str:
    """Say how the published value of a market came about."""
    what = "Haircut" if market.role == "collateral" else "Maintenance margin of the first tier"
    return explain(market.value_ppm, market.previous_ppm, market.attribution, what=what)


def _phrase(term: str, value: int) -> str:
    up, down = PHRASES.get(term, (term.replace("_", " "),) * 2)
    return up if value > 0 else down
