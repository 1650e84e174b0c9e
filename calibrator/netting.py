"""Frozen domain types of portfolio margin: scenarios, moves, correlations and add-ons, in integer ppm.

They are decided by the pipeline, signed by ``publish`` and read by ``portfolio``; nothing here computes a
margin. A move is a signed fraction of the price, a weight the share of a scenario's loss that counts.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

from calibrator.domain import PPM

VolatilityState = Literal["up", "same", "down"]
STATES: Final[tuple[VolatilityState, VolatilityState, VolatilityState]] = ("up", "same", "down")
MOST_MOVES: Final = 64
MOST_SCENARIOS: Final = 256
LARGEST_MOVE: Final = 20 * PPM


@dataclass(frozen=True, slots=True)
class Scenario:
    """One joint move of price, volatility and time.

    Attributes
    ----------
    move : int
        Which of an underlying's moves, counted from 0.
    volatility : {"up", "same", "down"}
        State of implied volatility.
    elapsed_ppm : int
        Share of the close-out that has passed when options are revalued.
    weight_ppm : int
        Share of the loss that counts; below one million for extended moves.

    Examples
    --------
    >>> Scenario(0, "up", 0, 1_000_000).weight_ppm
    1000000
    """

    move: int
    volatility: VolatilityState
    elapsed_ppm: int
    weight_ppm: int

    def __post_init__(self) -> None:
        if self.move < 0:
            raise ValueError(f"move must not be negative, was {self.move}")
        if self.volatility not in STATES:
            raise ValueError(f"volatility must be up, same or down, was {self.volatility!r}")
        if not (0 <= self.elapsed_ppm <= PPM and 0 < self.weight_ppm <= PPM):
            raise ValueError(
                "elapsed must lie in 0..1000000 ppm and weight in 1..1000000 ppm, were "
                f"{self.elapsed_ppm} and {self.weight_ppm}"
            )


@dataclass(frozen=True, slots=True)
class VolatilityTerm:
    """How a 30-day volatility shift grows and shrinks with the time to expiry.

    The shift is multiplied by ``(30 days / max(expiry, floor)) ** power``, with the short power below 30 days
    and the long one above.

    Examples
    --------
    >>> VolatilityTerm(300_000, 130_000, 1).floor_days
    1
    """

    short_power_ppm: int
    long_power_ppm: int
    floor_days: int

    def __post_init__(self) -> None:
        if not (0 <= self.short_power_ppm <= PPM and 0 <= self.long_power_ppm <= PPM):
            raise ValueError(
                f"powers must lie in 0..1000000 ppm, were {self.short_power_ppm} and {self.long_power_ppm}"
            )
        if not 1 <= self.floor_days <= 30:
            raise ValueError(f"floor_days must lie in 1..30, was {self.floor_days}")


@dataclass(frozen=True, slots=True)
class AddOnTier:
    """An add-on for the part of a position's notional above ``notional_floor`` (quote units).

    Examples
    --------
    >>> AddOnTier(1_000_000, 5_000).add_on_ppm
    5000
    """

    notional_floor: int
    add_on_ppm: int

    def __post_init__(self) -> None:
        if self.notional_floor < 0 or self.add_on_ppm < 0:
            raise ValueError(
                f"floor and add-on must not be negative, were {self.notional_floor} and {self.add_on_ppm}"
            )


@dataclass(frozen=True, slots=True)
class UnderlyingRules:
    """What one underlying may do, and what it costs beyond its scenarios.

    Attributes
    ----------
    symbol : str
    moves_ppm : tuple of int
        Signed price moves, rising, with 0 among them.
    volatility_up_ppm, volatility_down_ppm : int
        Relative shift of a 30-day implied volatility.
    close_out_seconds : int
    basis_ppm : int
        Of the notional that is netted between spot, perpetual and expiries.
    funding_ppm : int
        Of a perpetual's notional.
    naked_option_ppm : int
        Of the notional of options sold beyond those bought, calls and puts apart.
    concentration : tuple of AddOnTier
        Add-on by notional, floors rising, add-ons never falling; may be empty.

    Examples
    --------
    >>> UnderlyingRules("BTC", (-100_000, 0, 90_000), 300_000, 200_000, 86_400, 2_000, 500, 10_000, ()).symbol
    'BTC'
    """

    symbol: str
    moves_ppm: tuple[int, ...]
    volatility_up_ppm: int
    volatility_down_ppm: int
    close_out_seconds: int
    basis_ppm: int
    funding_ppm: int
    naked_option_ppm: int
    concentration: tuple[AddOnTier, ...]

    def __post_init__(self) -> None:
        self._check_moves()
        self._check_charges()
        for low, high in pairwise(self.concentration):
            if high.notional_floor <= low.notional_floor or high.add_on_ppm < low.add_on_ppm:
                raise ValueError(
                    f"{self.symbol}: concentration floors must rise and add-ons not fall, they do at "
                    f"{high.notional_floor}"
                )

    def _check_moves(self) -> None:
        moves = self.moves_ppm
        if not 3 <= len(moves) <= MOST_MOVES or any(b <= a for a, b in pairwise(moves)):
            raise ValueError(f"{self.symbol}: 3 to {MOST_MOVES} moves must rise, were {moves}")
        if 0 not in moves or moves[0] >= 0 or moves[-1] <= 0:
            raise ValueError(f"{self.symbol}: moves must go down, stay and go up, were {moves}")
        if moves[0] <= -PPM or moves[-1] > LARGEST_MOVE:
            raise ValueError(
                f"{self.symbol}: moves must lie above -100 % and at most at 2000 %, were {moves}"
            )

    def _check_charges(self) -> None:
        charges = (self.basis_ppm, self.funding_ppm, self.naked_option_ppm)
        if not all(0 <= x <= PPM for x in (*charges, self.volatility_down_ppm)):
            raise ValueError(
                f"{self.symbol}: add-ons and volatility down must lie in 0..1000000 ppm, were "
                f"{charges} and {self.volatility_down_ppm}"
            )
        if not 0 <= self.volatility_up_ppm <= LARGEST_MOVE:
            raise ValueError(
                f"{self.symbol}: volatility up must lie in 0..20000000 ppm, was {self.volatility_up_ppm}"
            )
        if self.close_out_seconds <= 0:
            raise ValueError(
                f"{self.symbol}: close_out_seconds must be positive, was {self.close_out_seconds}"
            )


@dataclass(frozen=True, slots=True)
class CorrelationRange:
    """Correlations between which the worse one counts; a pair without a range has -1 to 1 (no offset).

    Attributes
    ----------
    first, second : str
        Underlyings, in alphabetical order.
    low_ppm : int
        Counts where the two exposures are opposite: a hedge.
    high_ppm : int
        Counts where they are the same: diversification.

    Examples
    --------
    >>> CorrelationRange("BTC", "ETH", 0, 1_000_000).low_ppm
    0
    """

    first: str
    second: str
    low_ppm: int
    high_ppm: int

    def __post_init__(self) -> None:
        if self.first >= self.second:
            raise ValueError(f"a pair is spelled in order, was {self.first!r}, {self.second!r}")
        if not -PPM <= self.low_ppm <= self.high_ppm <= PPM:
            raise ValueError(
                f"{self.first}, {self.second}: correlations must satisfy -1000000 <= low <= high <= 1000000 "
                f"ppm, were {self.low_ppm} and {self.high_ppm}"
            )


@dataclass(frozen=True, slots=True)
class CollateralRule:
    """What one unit of an asset in one place counts.

    Attributes
    ----------
    asset, location : str
    haircut_ppm : int
    underlying : str or None
        Whose price moves it inside the scenarios; None for an asset that is worth its price whatever happens
        to the underlyings (a stablecoin: its own risk is its haircut).

    Examples
    --------
    >>> CollateralRule("WBTC", "ethereum", 150_000, "BTC").underlying
    'BTC'
    """

    asset: str
    location: str
    haircut_ppm: int
    underlying: str | None

    def __post_init__(self) -> None:
        if not 0 <= self.haircut_ppm <= PPM:
            raise ValueError(
                f"{self.asset} at {self.location}: haircut must lie in 0..1000000 ppm, was {self.haircut_ppm}"
            )


@dataclass(frozen=True, slots=True)
class PortfolioRules:
    """Everything that decides a portfolio's requirement.

    Attributes
    ----------
    quote : str
        Currency of prices and requirements.
    initial_multiple_ppm : int
        Moves, volatility shifts and add-ons of the initial level relative to the maintenance level.
    term : VolatilityTerm
    scenarios : tuple of Scenario
        Shared by all underlyings, so that a scenario is the same joint state everywhere.
    underlyings : tuple of UnderlyingRules
        Sorted by symbol, all with the same number of moves.
    correlations : tuple of CorrelationRange
        Sorted; pairs that are left out have no offset.
    collateral : tuple of CollateralRule
        Sorted by asset and location.

    Raises
    ------
    ValueError
        Names the first thing that contradicts another.

    Examples
    --------
    >>> btc = UnderlyingRules("BTC", (-100_000, 0, 90_000), 300_000, 200_000, 86_400, 2_000, 500, 10_000, ())
    >>> scenarios = tuple(Scenario(i, "same", 0, 1_000_000) for i in range(3))
    >>> term = VolatilityTerm(300_000, 130_000, 1)
    >>> rules = PortfolioRules("USD", 1_250_000, term, scenarios, (btc,), (), ())
    >>> rules.underlying("BTC").moves_ppm
    (-100000, 0, 90000)
    """

    quote: str
    initial_multiple_ppm: int
    term: VolatilityTerm
    scenarios: tuple[Scenario, ...]
    underlyings: tuple[UnderlyingRules, ...]
    correlations: tuple[CorrelationRange, ...]
    collateral: tuple[CollateralRule, ...]

    def __post_init__(self) -> None:
        if not PPM <= self.initial_multiple_ppm <= 5 * PPM:
            raise ValueError(
                f"initial_multiple_ppm must lie in 1000000..5000000, was {self.initial_multiple_ppm}"
            )
        _rising("underlyings", [(u.symbol,) for u in self.underlyings])
        _rising("correlations", [(c.first, c.second) for c in self.correlations])
        _rising("collateral", [(c.asset, c.location) for c in self.collateral])
        self._check_scenarios()
        known = {u.symbol for u in self.underlyings}
        named = {s for c in self.correlations for s in (c.first, c.second)}
        named |= {c.underlying for c in self.collateral if c.underlying is not None}
        if named - known:
            raise ValueError(f"{min(named - known)!r} is not among the underlyings {sorted(known)}")

    def _check_scenarios(self) -> None:
        if not self.underlyings or not 1 <= len(self.scenarios) <= MOST_SCENARIOS:
            raise ValueError(f"portfolio rules need an underlying and 1 to {MOST_SCENARIOS} scenarios")
        moves = {len(u.moves_ppm) for u in self.underlyings}
        if len(moves) != 1:
            raise ValueError(f"every underlying needs the same number of moves, were {sorted(moves)}")
        if len(set(self.scenarios)) != len(self.scenarios):
            raise ValueError("a scenario is named once")
        used = {s.move for s in self.scenarios if s.weight_ppm == PPM}
        for u in self.underlyings:
            if max(s.move for s in self.scenarios) >= len(u.moves_ppm):
                raise ValueError(f"{u.symbol}: a scenario names a move beyond its {len(u.moves_ppm)}")
            signs = {(m > 0) - (m < 0) for i, m in enumerate(u.moves_ppm) if i in used}
            if not {-1, 1} <= signs:
                raise ValueError(f"{u.symbol}: no scenario of full weight goes both ways")

    def underlying(self, symbol: str) -> UnderlyingRules:
        """Return the rules of one underlying.

        Raises
        ------
        KeyError
            No such underlying.
        """
        return next((u for u in self.underlyings if u.symbol == symbol), None) or _missing(symbol)


def _missing(symbol: str) -> UnderlyingRules:
    raise KeyError(symbol)


def _rising(what: str, keys: list[tuple[str, ...]]) -> None:
    for first, second in pairwise(keys):
        if second <= first:
            raise ValueError(f"{what} must be sorted and unique, {second} follows {first}")
