"""What a tail loss is before the anti-procyclical layer: with gaps, delays and the size of the crowd."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from calibrator.calibrate.crowd import crowd_at
from calibrator.calibrate.gap import jump_add_on, oracle_lag
from calibrator.calibrate.margin import Liquidity
from calibrator.calibrate.pairs import delayed_haircut
from calibrator.calibrate.tiers import upper_borders
from calibrator.config import Config, MarketConfig
from calibrator.domain import SIDES
from calibrator.features import Clock
from pipelines.starts import close_out

Array = NDArray[np.float64]


def book_of(table: pd.DataFrame, terms: MarketConfig, *, config: Config, clock: Clock) -> Liquidity:
    """Return how size widens a market's margins at each of its decisions.

    Parameters
    ----------
    table : pandas.DataFrame
        ``turnover`` (over one cadence), ``volatility_bar`` and ``crowd`` per decision.
    terms : MarketConfig
    config : Config
    clock : Clock
    """
    margin, stress = config.margin, config.margin.stress
    return Liquidity(
        turnover=table["turnover"].to_numpy(float) / clock.cadence,
        volatility=table["volatility_bar"].to_numpy(float),
        close_out=close_out(config, terms),
        participation=margin.participation,
        impact=margin.impact,
        crowded=table["crowd"].to_numpy(float) if stress.crowded_share > 0 else None,
        depth_stress=stress.depth,
        volatility_stress=stress.volatility,
    )


@dataclass(frozen=True, slots=True)
class Observed:
    """What was observed of a group of markets.

    Attributes
    ----------
    bars : pandas.DataFrame
        ``Bars``.
    open_interest : pandas.DataFrame or None
        ``OpenInterest``.
    """

    bars: pd.DataFrame
    open_interest: pd.DataFrame | None


def first_border(terms: MarketConfig, config: Config) -> float:
    """Return up to which notional the first tier of a margined market goes; 0 where it goes on for ever.

    Examples
    --------
    >>> raw = {"data": {"source": "embedded"}, "margin": {"tiers": [0, 1_000_000]}}
    >>> config = Config.model_validate(raw)
    >>> first_border(config.market("A"), config)
    1000000.0
    """
    return float(upper_borders(config.margin.tiers)[0]) if terms.role == "perpetual" else 0.0


def crowd_of(seen: Observed, market: str, times: pd.DatetimeIndex, config: Config) -> Array:
    """Return what may be closed together at each decision: by the feed, else by the configured figure.

    Zero where the configuration asks for no crowd, NaN where nothing is known of the open interest.
    """
    share, own = config.margin.stress.crowded_share, config.markets.get(market)
    if share == 0:
        return np.zeros(len(times))
    fed = seen.open_interest
    fed = None if fed is None else fed[fed["market"] == market]
    if fed is not None and len(fed):
        closes = seen.bars[seen.bars["market"] == market].set_index("time")["close"].reindex(times)
        age = config.data.stale_after * config.data.step
        return crowd_at(fed, closes, share=share, max_age=age)
    figure = own.open_interest if own is not None else None
    return np.full(len(times), np.nan if figure is None else share * figure)


def jumps_of(bars: pd.DataFrame, market: str, times: pd.DatetimeIndex, config: Config) -> dict[str, Array]:
    """Return the add-on for jumps between bars, per side and decision; zero unless a level is set.

    ``bars`` are those of the market and its peers, which stand in for a newcomer's own.
    """
    level = config.margin.stress.jump_level
    if level is None:
        return {side: np.zeros(len(times)) for side in SIDES}
    window = config.margin.tail_window * config.forecast.cadence
    own = bars[bars["market"] == market]
    return jump_add_on(own, list(times), level=level, window=max(window, 100), peers=bars)


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
    """Return one side's tail, expected shortfall, unlimited margin, its part for the crowd, and floor.

    ``beyond`` is the expected shortfall in units of the volatility, ``jump`` what jumps between bars add.
    """
    tail, shortfall, floor = estimates
    book, market, config = terms
    loss = before_crowd(tail * volatility, jump, book, market, config)
    beyond = before_crowd(shortfall * volatility, jump, book, market, config)
    border = first_border(market, config)
    columns = {
        "tail": tail,
        "beyond": shortfall,
        "jump": jump,
        "shortfall": book.widen_first(beyond, border),
        "unlimited": book.widen_first(loss, border),
        "crowd": book.widen_first(loss, 0.0) - loss,
        "floor": floor,
    }
    return {f"{name}_{side}": values for name, values in columns.items()}
