"""What changes between two portfolio sections, as values of which more is always tighter."""

from collections.abc import Iterator

from calibrator.domain import PPM
from calibrator.netting import PortfolioRules

Value = tuple[str, str, str, int, int]
"""Market, what, whom, old and new."""


def portfolio_changes(old: PortfolioRules, new: PortfolioRules) -> Iterator[Value]:
    """List what differs between two sections; more of every value asks more of an account.

    An underlying is compared by its outermost moves of full weight, its volatility shifts and its add-ons, a
    pair by how much of a hedge and of diversification does not count (of a pair that is left out: all of it),
    and collateral by its haircut. Underlyings and assets that only one of them names are left out.

    Parameters
    ----------
    old, new : PortfolioRules

    Yields
    ------
    (str, str, str, int, int)
        Market, what, whom it concerns, old and new value in ppm.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from calibrator.netting import Scenario, UnderlyingRules, VolatilityTerm
    >>> btc = UnderlyingRules("BTC", (-100_000, 0, 90_000), 300_000, 200_000, 86_400, 2_000, 500, 10_000, ())
    >>> grid = tuple(Scenario(i, "same", 0, 1_000_000) for i in range(3))
    >>> old = PortfolioRules("USD", 1_250_000, VolatilityTerm(0, 0, 1), grid, (btc,), (), ())
    >>> new = replace(old, underlyings=(replace(btc, moves_ppm=(-90_000, 0, 90_000)),))
    >>> list(portfolio_changes(old, new))
    [('BTC', 'portfolio: largest fall', 'accounts', 100000, 90000)]
    """
    if old.initial_multiple_ppm != new.initial_multiple_ppm:
        multiples = (old.initial_multiple_ppm, new.initial_multiple_ppm)
        yield ("*", "portfolio: initial multiple", "new positions", *multiples)
    before = {u.symbol: _values(old, u.symbol) for u in old.underlyings}
    for u in new.underlyings:
        after = _values(new, u.symbol)
        for what, value in after.items():
            last = before.get(u.symbol, after)[what]
            if last != value:
                yield (u.symbol, f"portfolio: {what}", "accounts", last, value)
    yield from _pairs(old, new)
    pool = {(c.asset, c.location): c.haircut_ppm for c in old.collateral}
    for c in new.collateral:
        last = pool.get((c.asset, c.location), c.haircut_ppm)
        if last != c.haircut_ppm:
            place = f"{c.asset} @ {c.location}"
            yield (place, "portfolio: haircut", "value of the collateral", last, c.haircut_ppm)


def _values(rules: PortfolioRules, symbol: str) -> dict[str, int]:
    own = rules.underlying(symbol)
    full = [own.moves_ppm[s.move] for s in rules.scenarios if s.weight_ppm == PPM]
    return {
        "largest fall": -min(full),
        "largest rise": max(full),
        "volatility up": own.volatility_up_ppm,
        "volatility down": own.volatility_down_ppm,
        "basis": own.basis_ppm,
        "funding": own.funding_ppm,
        "naked options": own.naked_option_ppm,
    }


def _pairs(old: PortfolioRules, new: PortfolioRules) -> Iterator[Value]:
    """Compare what of a correlation does not count: 1 - low for hedges, 1 + high for diversification."""
    before = {(c.first, c.second): (PPM - c.low_ppm, PPM + c.high_ppm) for c in old.correlations}
    after = {(c.first, c.second): (PPM - c.low_ppm, PPM + c.high_ppm) for c in new.correlations}
    nothing = (2 * PPM, 2 * PPM)
    known = {u.symbol for u in old.underlyings}
    for pair in sorted(p for p in before.keys() | after.keys() if known.issuperset(p)):
        first, second = before.get(pair, nothing), after.get(pair, nothing)
        names = ("hedge that does not count", "diversification that does not count")
        for what, low, high in zip(names, first, second, strict=True):
            if low != high:
                yield (f"{pair[0]}, {pair[1]}", f"portfolio: {what}", "accounts", low, high)
