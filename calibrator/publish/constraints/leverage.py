"""Rules of leverage tables: Hyperliquid's margin tables and the brackets of centralised venues."""

from datetime import datetime
from fractions import Fraction
from itertools import pairwise
from typing import Final

from calibrator.domain import PPM
from calibrator.publish.adapters.brackets import Bracket, BracketState, SetBrackets
from calibrator.publish.adapters.hyperliquid import (
    IMPLICIT,
    MOST_TIERS,
    AnyAction,
    HyperliquidState,
    InsertTable,
    SetCaps,
    SetTables,
    Tiers,
    tiers_of,
)
from calibrator.publish.constraints.rules import (
    INITIAL,
    MAINTENANCE,
    OPEN_INTEREST,
    UNLIMITED,
    Key,
    Rules,
    require,
)

MOST_LEVERAGE: Final = 50


def apply_table(state: HyperliquidState, action: AnyAction, _: datetime) -> HyperliquidState:
    """Return the dex's state after one `perpDeploy` action."""
    if isinstance(action, InsertTable):
        _table(action.tiers)
        tables = {**state.tables, str(state.next_table): action.tiers}
        return state.model_copy(update={"tables": tables, "next_table": state.next_table + 1})
    rows = action.tables if isinstance(action, SetTables) else action.caps
    coins = [coin for coin, _ in rows]
    require(bool(rows), "hyperliquid.empty", "a list must not be empty")
    require(
        coins == sorted(set(coins)),
        "hyperliquid.sorted",
        f"coins must be sorted and unique before signing, were {', '.join(coins)}",
    )
    markets = dict(state.markets)
    by_coin = {market.coin: symbol for symbol, market in markets.items()}
    for coin, value in rows:
        require(coin in by_coin, "hyperliquid.known", f"{coin}: is not in the state file")
        symbol = by_coin[coin]
        if isinstance(action, SetCaps):
            require(
                value > 0, "hyperliquid.cap-zero", f"{symbol}: an open-interest cap of 0 closes the market"
            )
            markets[symbol] = markets[symbol].model_copy(update={"open_interest_cap": value})
        else:
            require(
                0 < value < IMPLICIT or str(value) in state.tables,
                "hyperliquid.table",
                f"{symbol}: margin table {value} does not exist",
            )
            markets[symbol] = markets[symbol].model_copy(update={"table": value})
    return state.model_copy(update={"markets": markets})


def _table(tiers: Tiers) -> None:
    require(
        1 <= len(tiers) <= MOST_TIERS,
        "hyperliquid.tiers",
        f"a margin table has 1 to {MOST_TIERS} tiers, was {len(tiers)}",
    )
    require(tiers[0].lower_bound == 0, "hyperliquid.first", "the first tier must start at 0")
    for tier in tiers:
        require(
            1 <= tier.max_leverage <= MOST_LEVERAGE,
            "hyperliquid.leverage",
            f"leverage must lie in 1 to {MOST_LEVERAGE}, was {tier.max_leverage} at {tier.lower_bound}",
        )
    for low, high in pairwise(tiers):
        require(
            low.lower_bound < high.lower_bound and low.max_leverage > high.max_leverage,
            "hyperliquid.order",
            f"bounds must rise and leverage fall, they do not at {high.lower_bound}",
        )


def effective_table(state: HyperliquidState, _: datetime) -> dict[Key, Fraction]:
    """Return 1/leverage and half of it from every tier's lower bound on."""
    out: dict[Key, Fraction] = {}
    for symbol, coin in state.markets.items():
        for tier in tiers_of(coin.table, state):
            out[symbol, INITIAL, tier.lower_bound] = Fraction(1, tier.max_leverage)
            out[symbol, MAINTENANCE, tier.lower_bound] = Fraction(1, 2 * tier.max_leverage)
        cap = coin.open_interest_cap
        out[symbol, OPEN_INTEREST, 0] = UNLIMITED if cap is None else Fraction(-cap)
    return out


def apply_brackets(state: BracketState, action: SetBrackets, _: datetime) -> BracketState:
    """Return the venue's state after the brackets of one symbol are replaced."""
    found = [(s, v) for s, v in state.markets.items() if v.symbol == action.symbol]
    require(bool(found), "brackets.known", f"{action.symbol}: is not in the state file")
    symbol, venue = found[0]
    rows = action.brackets
    require(bool(rows), "brackets.empty", f"{symbol}: needs a bracket")
    require(rows[0].floor == 0, "brackets.first", f"{symbol}: the first bracket must start at 0")
    require(
        rows[-1].cap == venue.max_notional,
        "brackets.max-notional",
        f"{symbol}: the last bracket must end at {venue.max_notional}, ended at {rows[-1].cap}",
    )
    for one in rows:
        _bracket(one, symbol, state.most_leverage)
    for low, high in pairwise(rows):
        require(
            low.cap == high.floor, "brackets.gap", f"{symbol}: brackets must meet, {low.cap} and {high.floor}"
        )
        require(
            high.maintenance_ppm >= low.maintenance_ppm and high.leverage <= low.leverage,
            "brackets.order",
            f"{symbol}: from {high.floor} on the maintenance ratio falls or the leverage rises",
        )
    new = venue.model_copy(update={"brackets": rows})
    return state.model_copy(update={"markets": {**state.markets, symbol: new}})


def _bracket(one: Bracket, symbol: str, most: int) -> None:
    require(one.floor < one.cap, "brackets.width", f"{symbol}: bracket {one.floor} to {one.cap} is empty")
    require(
        1 <= one.leverage <= most,
        "brackets.leverage",
        f"{symbol}: leverage must lie in 1 to {most}, was {one.leverage} from {one.floor}",
    )
    require(
        one.maintenance_ppm > 0 and one.maintenance_ppm * one.leverage <= PPM,
        "brackets.maintenance",
        f"{symbol}: maintenance must be positive and at most 1/leverage, was {one.maintenance_ppm} ppm at "
        f"{one.leverage} times",
    )


def effective_brackets(state: BracketState, _: datetime) -> dict[Key, Fraction]:
    """Return 1/leverage and the maintenance ratio from every bracket's floor on."""
    out: dict[Key, Fraction] = {}
    for symbol, venue in state.markets.items():
        for one in venue.brackets:
            out[symbol, INITIAL, one.floor] = Fraction(1, one.leverage) if one.leverage else UNLIMITED
            out[symbol, MAINTENANCE, one.floor] = Fraction(one.maintenance_ppm, PPM)
    return out


TABLES: Final = Rules(apply_table, effective_table, atomic=False, tiered=True)
BRACKETS: Final = Rules(apply_brackets, effective_brackets, tiered=True)
