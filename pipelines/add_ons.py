"""What a tail loss is before the anti-procyclical layer: with gaps, delays and the size of the crowd."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.gap import jump_add_on, oracle_lag
from calibrator.calibrate.margin import Liquidity
from calibrator.calibrate.pairs import delayed_haircut
from calibrator.config import Config, MarketConfig
from calibrator.domain import SIDES
from calibrator.features import Clock
from pipelines.starts import close_out

Array = NDArray[np.float64]


def book_of(
    table: pd.DataFrame, market: str, terms: MarketConfig, *, config: Config, clock: Clock
) -> Liquidity:
    """Return how size widens a market's margins at each of its decisions.

    Parameters
    ----------
    table : pandas.DataFrame
        ``turnover`` (over one cadence) and ``volatility_bar`` per decision.
    market : str
        Whose open interest counts.
    terms : MarketConfig
    config : Config
    clock : Clock
    """
    margin, stress = config.margin, config.margin.stress
    own = config.markets.get(market)
    crowd = stress.crowded_share * own.open_interest if own and own.open_interest else 0.0
    return Liquidity(
        turnover=table["turnover"].to_numpy(float) / clock.cadence,
        volatility=table["volatility_bar"].to_numpy(float),
        close_out=close_out(config, terms),
        participation=margin.participation,
        impact=margin.impact,
        crowded=np.full(len(table), crowd) if crowd > 0 else None,
        depth_stress=stress.depth,
        volatility_stress=stress.volatility,
    )


def jumps_of(bars: pd.DataFrame, market: str, times: pd.DatetimeIndex, config: Config) -> dict[str, Array]:
    """Return the add-on for jumps between bars, per side and decision; zero unless a level is set."""
    level = config.margin.stress.jump_level
    if level is None:
        return {side: np.zeros(len(times)) for side in SIDES}
    window = config.margin.tail_window * config.forecast.cadence
    own = bars[bars["market"] == market]
    return jump_add_on(own, list(times), level=level, window=max(window, 100))


def before_crowd(loss: Array, jump: Array, book: Liquidity, terms: MarketConfig, config: Config) -> Array:
    """Return a tail loss with everything that a position of any size loses beyond it.

    Added in this order: the jump between bars and the constant add-on, the move while the oracle's price is
    old, the wait for an oracle that may not move faster, what the bars do not show.
    """
    lag = oracle_lag(loss, close_out=book.close_out, delay=config.margin.stress.oracle_delay)
    gap = loss + config.margin.gap_add_on + jump + lag
    return delayed_haircut(gap, cap=terms.oracle_cap, bars=book.close_out) + (terms.add_on or 0.0)


def side_columns(
    side: str,
    estimates: tuple[Array, ...],
    volatility: Array,
    jump: Array,
    terms: tuple[Liquidity, MarketConfig, Config],
) -> dict[str, Array]:
    """Return one side's tail, expected shortfall, unlimited margin, its part for the crowd, and floor."""
    tail, shortfall, floor = estimates
    book, market, config = terms
    loss = before_crowd(tail * volatility, jump, book, market, config)
    beyond = before_crowd(shortfall * volatility, jump, book, market, config)
    unlimited = book.widen(loss, 0.0)
    columns = {
        "tail": tail,
        "shortfall": book.widen(beyond, 0.0),
        "unlimited": unlimited,
        "crowd": unlimited - loss,
        "floor": floor,
    }
    return {f"{name}_{side}": values for name, values in columns.items()}
