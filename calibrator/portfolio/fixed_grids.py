"""Fixed scenario grids in the shape that exchanges use, to compare with an exchange's own margin.

The numbers of a grid are arguments or come from a file: an exchange changes them without notice.
"""

import json
from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from calibrator.domain import PPM
from calibrator.errors import DataError
from calibrator.netting import PortfolioRules, Scenario, UnderlyingRules, VolatilityState, VolatilityTerm

FLAT: Final = VolatilityTerm(0, 0, 1)
EXCHANGE_TERM: Final = VolatilityTerm(300_000, 130_000, 1)
DAY: Final = 86_400
MOST_BYTES: Final = 1_000_000


def span_16(
    symbols: Sequence[str],
    *,
    price_range: float,
    volatility_range: float,
    extreme: float = 3.0,
    covered: float = 0.33,
    close_out_seconds: int = DAY,
) -> PortfolioRules:
    """Return the sixteen scenarios of a SPAN risk array.

    Price moves of 0, 1/3, 2/3 and 3/3 of the range, each with volatility up and down, and two extreme moves
    of which only a fraction is covered; the look-ahead time has passed in all of them.

    Parameters
    ----------
    symbols : sequence of str
        Underlyings; all get the same grid, no offset between them and no add-on.
    price_range, volatility_range : float
        Scan ranges, fractions of the price and of the volatility.
    extreme, covered : float
        Multiple of the range, and the share of its loss that counts (data of an exchange's file).
    close_out_seconds : int
        Look-ahead time.

    References
    ----------
    CME Group, SPAN: the risk array (scenarios in the order of its table, volatility up first).

    Examples
    --------
    >>> rules = span_16(("BTC",), price_range=0.12, volatility_range=0.25)
    >>> len(rules.scenarios), rules.underlyings[0].moves_ppm
    (16, (-360000, -120000, -80000, -40000, 0, 40000, 80000, 120000, 360000))
    """
    multiples = (-extreme, -1.0, -2 / 3, -1 / 3, 0.0, 1 / 3, 2 / 3, 1.0, extreme)
    order = (4, 5, 3, 6, 2, 7, 1)
    states: tuple[VolatilityState, VolatilityState] = ("up", "down")
    scan = [Scenario(i, state, PPM, PPM) for i in order for state in states]
    ends = [Scenario(i, "same", PPM, round(covered * PPM)) for i in (8, 0)]
    moves = tuple(round(m * price_range * PPM) for m in multiples)
    shift = round(volatility_range * PPM)
    return _rules(symbols, moves, (shift, shift), (tuple(scan + ends), FLAT), close_out_seconds)


def exchange_24(
    symbols: Sequence[str],
    *,
    price_range: float,
    volatility_up: float,
    volatility_down: float,
    close_out_seconds: int = DAY,
) -> PortfolioRules:
    """Return a stress table of eight price moves in four even steps each way, times three volatilities.

    Volatility shifts grow towards expiry with powers 0.30 below and 0.13 above 30 days.

    Parameters
    ----------
    symbols : sequence of str
    price_range : float
        The largest move, a fraction.
    volatility_up, volatility_down : float
        Relative shifts of a 30-day volatility.
    close_out_seconds : int

    Examples
    --------
    >>> rules = exchange_24(("BTC",), price_range=0.16, volatility_up=0.5, volatility_down=0.25)
    >>> len(rules.scenarios), rules.underlyings[0].moves_ppm[0]
    (24, -160000)
    """
    moves = tuple(round(step * price_range / 4 * PPM) for step in range(-4, 5))
    states: tuple[VolatilityState, ...] = ("up", "same", "down")
    scenarios = tuple(Scenario(i, state, 0, PPM) for i in range(9) if i != 4 for state in states)
    shifts = (round(volatility_up * PPM), round(volatility_down * PPM))
    return _rules(symbols, moves, shifts, (scenarios, EXCHANGE_TERM), close_out_seconds)


def _rules(
    symbols: Sequence[str],
    moves: tuple[int, ...],
    shifts: tuple[int, int],
    grid: tuple[tuple[Scenario, ...], VolatilityTerm],
    close_out_seconds: int,
) -> PortfolioRules:
    scenarios, term = grid
    own = tuple(
        UnderlyingRules(
            symbol=symbol,
            moves_ppm=moves,
            volatility_up_ppm=shifts[0],
            volatility_down_ppm=shifts[1],
            close_out_seconds=close_out_seconds,
            basis_ppm=0,
            funding_ppm=0,
            naked_option_ppm=0,
            concentration=(),
        )
        for symbol in sorted(symbols)
    )
    return PortfolioRules("USD", 5 * PPM // 4, term, scenarios, own, (), ())


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    price: float = Field(gt=0, le=20)
    volatility: VolatilityState
    weight: float = Field(1.0, gt=0, le=1)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    volatility_up: float = Field(ge=0, le=20)
    volatility_down: float = Field(ge=0, le=1)
    short_power: float = Field(0.0, ge=0, le=1)
    long_power: float = Field(0.0, ge=0, le=1)
    close_out_seconds: int = Field(DAY, gt=0)
    scenarios: tuple[_Row, ...] = Field(min_length=2, max_length=256)


def read_grid(payload: bytes, symbols: Sequence[str]) -> PortfolioRules:
    """Read a grid from JSON: an exchange's own table, typed off its margin page.

    Parameters
    ----------
    payload : bytes
        ``{"volatility_up": 0.5, "volatility_down": 0.25, "short_power": 0.3, "long_power": 0.13,
        "scenarios": [{"price": 0.84, "volatility": "up", "weight": 1.0}, ...]}``; ``price`` is what the price
        is multiplied by, 0.84 for a fall of 16 %.
    symbols : sequence of str
        Underlyings that get the grid.

    Raises
    ------
    DataError
        Not JSON, an unknown key, a value out of bounds, or a grid that does not go both ways.

    Examples
    --------
    >>> text = b'''{"volatility_up": 0.5, "volatility_down": 0.25, "scenarios": [
    ... {"price": 0.84, "volatility": "up"}, {"price": 1.16, "volatility": "up"},
    ... {"price": 1.5, "volatility": "up", "weight": 0.3}]}'''
    >>> read_grid(text, ["BTC"]).underlyings[0].moves_ppm
    (-160000, 0, 160000, 500000)
    """
    if len(payload) > MOST_BYTES:
        raise DataError(f"grid: must not exceed {MOST_BYTES} bytes, has {len(payload)}")
    try:
        file = _File.model_validate(json.loads(payload))
        moves = sorted({round((r.price - 1) * PPM) for r in file.scenarios} | {0})
        scenarios = tuple(
            Scenario(moves.index(round((r.price - 1) * PPM)), r.volatility, 0, max(round(r.weight * PPM), 1))
            for r in file.scenarios
        )
        term = VolatilityTerm(round(file.short_power * PPM), round(file.long_power * PPM), 1)
        shifts = (round(file.volatility_up * PPM), round(file.volatility_down * PPM))
        return _rules(symbols, tuple(moves), shifts, (scenarios, term), file.close_out_seconds)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "grid"
        raise DataError(f"grid: {place}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"grid: {error}") from error
