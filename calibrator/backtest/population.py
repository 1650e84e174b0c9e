"""A **simulated** population of isolated accounts: nobody's positions, drawn from stated distributions.

It lets two schedules be compared on the same accounts. What it says about any real venue depends on how close
the stated leverage is to that venue's; every output therefore carries ``simulated: true``.
"""

import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from calibrator.backtest.terms import Prices, Terms, prices_by_market, terms_by_market
from calibrator.config_backtest import AccountsConfig
from calibrator.errors import DataError
from calibrator.frames import ACCOUNTS, conform

NOTIONAL_SPREAD: Final = 1.5
MOST: Final = 6_000
"""Accounts of a :meth:`Population.sample`."""


@dataclass(frozen=True, slots=True)
class Population:
    """Simulated accounts.

    Attributes
    ----------
    accounts : pandas.DataFrame
        ``frames.ACCOUNTS``, sorted by market and opening.
    drawn : int
        Accounts drawn.
    raised : int
        Accounts that wanted more leverage than the initial margin allows and opened with exactly it.
    refused : int
        Accounts that could not open: no initial margin was in force at their bar.
    simulated : bool
        Always true.
    """

    accounts: pd.DataFrame
    drawn: int
    raised: int
    refused: int
    simulated: bool = True

    @property
    def every(self) -> int:
        """Take every so many accounts where all would take too long."""
        return max(-(-len(self.accounts) // MOST), 1)

    def sample(self) -> pd.DataFrame:
        """Return at most ``MOST`` accounts, of all markets alike.

        Examples
        --------
        >>> many = Population(pd.DataFrame({"account": range(13_000)}), drawn=13_000, raised=0, refused=0)
        >>> many.every, len(many.sample()), many.sample()["account"].tolist()[:3]
        (3, 4334, [0, 3, 6])
        """
        return self.accounts.iloc[:: self.every]

    def summary(self) -> dict[str, object]:
        """Return the counts as plain values.

        Examples
        --------
        >>> Population(pd.DataFrame(), drawn=5, raised=2, refused=5).summary()
        {'simulated': True, 'drawn': 5, 'opened': 0, 'raised': 2, 'refused': 5}
        """
        return {
            "simulated": self.simulated,
            "drawn": self.drawn,
            "opened": len(self.accounts),
            "raised": self.raised,
            "refused": self.refused,
        }


def simulate_accounts(
    bars: pd.DataFrame, schedules: dict[str, pd.DataFrame], config: AccountsConfig
) -> Population:
    """Draw isolated positions that could have been opened under every given schedule.

    Each of ``config.count`` accounts per market opens at the close of a uniformly drawn bar (not the last).
    Side is long with ``long_share``; notional is log-normal (median ``notional_median``, sigma 1.5); leverage
    is log-normal (``leverage_median``, ``leverage_spread``), at least 1; the holding time is exponential with
    median ``holding_median``, at least one bar. Collateral is notional / leverage, raised to the largest
    initial margin that any schedule asks at that moment.

    Parameters
    ----------
    bars : pandas.DataFrame
        ``frames.BARS``.
    schedules : dict of str to pandas.DataFrame
        ``frames.SCHEDULE_HISTORY`` by name; all must know every market of ``bars``.
    config : AccountsConfig
        Distribution and seed. Each market has its own stream: adding one leaves the others as they were.

    Returns
    -------
    Population

    Raises
    ------
    DataError
        A schedule does not know a market, or a market has fewer than two bars.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=50, tz="UTC").as_unit("us")
    >>> bars = pd.DataFrame({"market": "A", "time": t, "open": 10.0, "high": 10.0, "low": 10.0,
    ...                      "close": 10.0, "volume": 1.0})
    >>> schedule = pd.DataFrame({"market": "A", "effective_from": t[:1], "notional_floor": 0, "regime": 0,
    ...                          "initial_margin_ppm": 200_000, "maintenance_margin_ppm": 100_000})
    >>> population = simulate_accounts(bars, {"ours": schedule}, AccountsConfig(count=100, seed=1))
    >>> a = population.accounts
    >>> bool((a.collateral >= 0.2 * a.quantity * a.entry_price * (1 - 1e-12)).all()), population.drawn
    (True, 100)
    """
    prices = prices_by_market(bars)
    terms = {name: terms_by_market(schedule, prices) for name, schedule in schedules.items()}
    frames, raised, refused = [], 0, 0
    for market, path in prices.items():
        for name, known in terms.items():
            if market not in known:
                raise DataError(f"schedule {name!r} does not know market {market!r}")
        if len(path.time) < 2:
            raise DataError(f"bars of {market}: at least two are needed to open a position, were 1")
        opened, lifted, rejected = _draw(market, path, [known[market] for known in terms.values()], config)
        frames.append(opened)
        raised, refused = raised + lifted, refused + rejected
    accounts = conform(pd.concat(frames, ignore_index=True), ACCOUNTS, source="simulated population")
    return Population(accounts, config.count * len(prices), raised, refused)


def _draw(
    market: str, path: Prices, terms: list[Terms], config: AccountsConfig
) -> tuple[pd.DataFrame, int, int]:
    rng = np.random.default_rng([config.seed, zlib.crc32(market.encode())])
    n, last = config.count, len(path.time) - 1
    bar = np.sort(rng.integers(0, last, n))
    side = np.where(rng.random(n) < config.long_share, "long", "short")
    notional = config.notional_median * np.exp(NOTIONAL_SPREAD * rng.standard_normal(n))
    leverage = np.maximum(
        config.leverage_median * np.exp(config.leverage_spread * rng.standard_normal(n)), 1.0
    )
    holding = np.ceil(rng.exponential(config.holding_median / np.log(2), n)).clip(1, 2 * last + 1)
    asked = np.zeros(n)
    allowed = np.ones(n, bool)
    for one in terms:
        # A schedule that takes effect at the opening bar's end already applies to a position opened then.
        fraction = one.initial_at(bar + 1, notional)
        allowed &= fraction > 0
        asked = np.maximum(asked, fraction)
    wanted = notional / leverage
    collateral = np.maximum(wanted, asked * notional)
    end = bar + holding.astype("int64")
    closed = pd.Series(path.time[np.minimum(end, last)]).where(end <= last)
    # The checksum keeps names apart whose first letters agree.
    label = f"{market[:40]}-{zlib.crc32(market.encode()):08x}"
    opened = pd.DataFrame(
        {
            "account": [f"{label}#{i:06d}" for i in range(n)],
            "market": market,
            "side": side,
            "quantity": notional / path.close[bar],
            "entry_price": path.close[bar],
            "collateral": collateral,
            "opened": pd.Series(path.time[bar]).dt.tz_localize("UTC"),
            "closed": closed.dt.tz_localize("UTC"),
        }
    )
    return opened[allowed], int(np.sum((collateral > wanted) & allowed)), int(np.sum(~allowed))
