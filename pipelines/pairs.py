"""Which pairs of collateral and debt a run calibrates, and the price series they need."""

from dataclasses import dataclass

import pandas as pd

from calibrator.calibrate.pairs import pair_bars
from calibrator.config import Config, MarketConfig
from calibrator.config_collateral import HaircutPair
from calibrator.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Member:
    """One published entry and the price series that it is calibrated on.

    Attributes
    ----------
    key : str
        Its name in frames and reports: the market, or ``collateral/debt@location``.
    series : str
        Market of its bars; several places may share one.
    terms : MarketConfig
        Close-out, level, kind of loss.
    pair : HaircutPair or None
        Resolved; None for a perpetual.
    """

    key: str
    series: str
    terms: MarketConfig
    pair: HaircutPair | None


def with_pairs(bars: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Append the price series of every listed pair to the bars.

    A market that is called ``collateral/debt`` is the pair's own history and is used as it is.

    Raises
    ------
    ConfigError
        A pair names a market that has no bars.
    DataError
        The legs of a pair have no bar in common.
    """
    known = {str(market): own for market, own in bars.groupby("market", sort=False)}
    made: dict[str, pd.DataFrame] = {}
    for pair in config.haircut.pairs:
        series = _series(pair, set(known), config)
        if series in known or series in made:
            continue
        collateral = known[pair.reference or pair.collateral]
        basis = known[pair.basis] if pair.basis else None
        debt = known.get(pair.debt)
        made[series] = pair_bars(series, collateral, basis=basis, debt=debt)
    if not made:
        return bars
    return pd.concat([bars, *made.values()], ignore_index=True)


def _series(pair: HaircutPair, known: set[str], config: Config) -> str:
    """Return the market of a pair's price; the collateral's own where the debt is the unit of account."""
    if pair.series in known:
        return pair.series
    for leg in (pair.reference or pair.collateral, pair.basis, pair.debt):
        if leg is not None and leg not in known and leg != config.haircut.debt:
            some = ", ".join(sorted(known)[:8])
            raise ConfigError(f"haircut.pairs: {pair.key}: no bars of market {leg!r}; there are {some}")
    if (pair.reference or pair.collateral) not in known:
        raise ConfigError(f"haircut.pairs: {pair.key}: the collateral must have bars")
    plain = pair.basis is None and pair.debt not in known
    return pair.collateral if plain else pair.series


def members(
    config: Config, bars: pd.DataFrame, forecast: list[str], closes_only: frozenset[str]
) -> list[Member]:
    """List everything that is published: perpetuals, single collaterals, and the listed pairs.

    Parameters
    ----------
    config : Config
    bars : pandas.DataFrame
        The ``Bars`` that were loaded, without the pairs' series.
    forecast : list of str
        Markets with a forecast, the pairs' series among them.
    closes_only : frozenset of str
        Series without highs and lows: their loss is terminal whatever the settings say.
    """
    known = set(map(str, bars["market"].unique()))
    listed = {pair.collateral for pair in config.haircut.pairs}
    out = []
    for market in forecast:
        terms = config.market(market)
        if (
            market not in known
            or terms.role == "reference"
            or (terms.role == "collateral" and market in listed)
        ):
            continue
        pair = config.haircut.single(market) if terms.role == "collateral" else None
        out.append(Member(market, market, terms, pair))
    for given in config.haircut.pairs:
        pair, series = config.haircut.resolved(given), _series(given, known, config)
        if series in forecast:
            out.append(Member(pair.key, series, config.pair(pair), pair))
    terminal = {"loss": "terminal"}
    return [
        Member(m.key, m.series, m.terms.model_copy(update=terminal), m.pair) if m.series in closes_only else m
        for m in out
    ]


def with_debt_price(table: pd.DataFrame, pair: HaircutPair | None, bars: pd.DataFrame) -> pd.DataFrame:
    """Append ``debt_price``: what a unit of the debt is worth in the unit of account.

    Parameters
    ----------
    table : pandas.DataFrame
        Index ``origin``.
    pair : HaircutPair or None
        None, or a debt without bars, owes the unit of account.
    bars : pandas.DataFrame
        The ``Bars`` that were loaded; the debt's last close at each decision is its price.

    Examples
    --------
    >>> t = pd.date_range("2024-01-01", periods=2, tz="UTC").as_unit("us")
    >>> bars = pd.DataFrame({"market": "BTC", "time": t[:1], "close": [200.0]})
    >>> pair = HaircutPair(collateral="ETH", debt="BTC", location="base")
    >>> with_debt_price(pd.DataFrame(index=t), pair, bars)["debt_price"].tolist()
    [200.0, 200.0]
    """
    own = bars[bars["market"] == pair.debt] if pair is not None else bars[:0]
    if own.empty:
        return table.assign(debt_price=1.0)
    return table.assign(debt_price=own.set_index("time")["close"].reindex(table.index, method="ffill"))


@dataclass(frozen=True, slots=True)
class Group:
    """Entries with equal terms, and the price series that their tails are pooled with.

    Attributes
    ----------
    terms : MarketConfig
        Role, close-out, level, delay, kind of loss.
    members : list of Member
    peers : list of str
        Series of every entry of the role: their losses are measured on these terms, whatever their own are,
        so that nobody gets other peers by other terms.
    """

    terms: MarketConfig
    members: list[Member]
    peers: list[str]

    @property
    def series(self) -> list[str]:
        """Series of the members, each once."""
        return list(dict.fromkeys(m.series for m in self.members))


def by_terms(listed: list[Member]) -> list[Group]:
    """Group entries by their terms, shorter close-outs first.

    Examples
    --------
    >>> slow, fast = MarketConfig(close_out=5), MarketConfig(close_out=2)
    >>> groups = by_terms([Member("A", "A", slow, None), Member("B", "B", fast, None)])
    >>> [(group.series, group.peers) for group in groups]
    [(['B'], ['A', 'B']), (['A'], ['A', 'B'])]
    """
    out: dict[MarketConfig, list[Member]] = {}
    roles: dict[str, dict[str, None]] = {}
    for member in listed:
        out.setdefault(member.terms, []).append(member)
        roles.setdefault(member.terms.role, {})[member.series] = None
    groups = [Group(terms, own, list(roles[terms.role])) for terms, own in out.items()]
    return sorted(groups, key=lambda g: (g.terms.close_out or 0) + (g.terms.delay or 0))


def under_keys(frame: pd.DataFrame, listed: list[Member]) -> pd.DataFrame:
    """Return the rows of each entry's series under the entry's key; column ``market``.

    Examples
    --------
    >>> terms = MarketConfig()
    >>> two = [Member("A/USD@x", "A", terms, None), Member("A/USD@y", "A", terms, None)]
    >>> under_keys(pd.DataFrame({"market": ["A"], "loss": [0.1]}), two)["market"].tolist()
    ['A/USD@x', 'A/USD@y']
    """
    if all(m.key == m.series for m in listed):
        return frame[frame["market"].isin({m.key for m in listed})].reset_index(drop=True)
    parts = [frame[frame["market"] == m.series].assign(market=m.key) for m in listed]
    return pd.concat(parts, ignore_index=True).astype({"market": "str"})
