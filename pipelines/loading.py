"""What every job reads first: bars, implied volatility, what the gate found, and a digest of it all."""

from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from calibrator.config import Config
from calibrator.config_challenge import EVERY
from calibrator.data.rows import Finding, findings_frame
from calibrator.data.sources import digest, load_bars, load_fitted, load_inputs
from calibrator.errors import ConfigError
from calibrator.feeds import Feeds
from calibrator.publish.canonical import digest as sha256
from pipelines.pairs import Member, members


@dataclass(frozen=True, slots=True)
class Loaded:
    """The input of a job.

    Attributes
    ----------
    bars, implied : pandas.DataFrame
        Conforming ``Bars`` and ``ImpliedVolatility``.
    findings : pandas.DataFrame
        ``Findings`` of the gate.
    as_of : datetime
        Asked for, or the last bar.
    data : str
        SHA-256 of everything that was read.
    feeds : Feeds, optional
        Funding, open interest and liquidations.
    fitted : pandas.DataFrame, optional
        ``Bars`` that variances are fitted on, where they are not ``bars``: without denied wicks.
    """

    bars: pd.DataFrame
    implied: pd.DataFrame
    findings: pd.DataFrame
    as_of: datetime
    data: str
    feeds: Feeds | None = None
    fitted: pd.DataFrame | None = None

    @property
    def stale(self) -> set[str]:
        """Markets whose newest bar is too old."""
        return set(self.findings.loc[self.findings["rule"] == "stale", "market"])


def load(config: Config, *, as_of: datetime | None) -> Loaded:
    """Read the input of a job.

    Parameters
    ----------
    config : Config
    as_of : datetime, optional
        Later rows are not looked at; default: the last bar.

    Raises
    ------
    DataError
        The gate refuses the input.
    ConfigError
        Settings, or a move of a stress scenario, for a market that has no bars.
    """
    bars, found = load_bars(config, as_of=as_of)
    inputs = load_inputs(config, as_of=as_of)
    check_markets(config, set(bars["market"]))
    check_scenarios(config, set(bars["market"]))
    at = as_of or bars["time"].max().to_pydatetime()
    calm, denied = load_fitted(config, bars, as_of=as_of)
    fitted = None if calm is bars else calm
    frames = [frame for frame in (bars, *inputs.frames, fitted) if frame is not None]
    data = sha256("".join(digest(frame) for frame in frames).encode())
    assumed = findings_frame(uncrowded(config, set(bars["market"]), inputs.open_interest))
    findings = pd.concat([found, inputs.findings, denied, assumed], ignore_index=True)
    return Loaded(bars, inputs.implied_volatility, findings, at, data, inputs.feeds, fitted)


def uncrowded(config: Config, known: set[str], open_interest: pd.DataFrame) -> list[Finding]:
    """Say for which calibrated series a crowd is asked for of which nothing is known.

    Parameters
    ----------
    config : Config
    known : set of str
        Markets with bars.
    open_interest : pandas.DataFrame
        ``OpenInterest``.

    Examples
    --------
    >>> crowd = {"stress": {"crowded_share": 0.5}}
    >>> config = Config.model_validate({"data": {"source": "embedded"}, "margin": crowd})
    >>> [(f.market, f.rule) for f in uncrowded(config, {"ETH"}, pd.DataFrame({"market": ["BTC"]}))]
    [('ETH', 'no open interest')]
    """
    if config.margin.stress.crowded_share == 0:
        return []
    figures = {m for m, own in config.markets.items() if own.open_interest is not None}
    there = figures | set(open_interest["market"])
    action = "crowd taken as 0: margin.stress.crowded_share adds nothing"
    lacking = sorted({m.series for m in _calibrated(config, known)} - there)
    return [Finding(series, "no open interest", 1, None, None, action) for series in lacking]


def _calibrated(config: Config, known: set[str]) -> list[Member]:
    series = sorted(known | {pair.series for pair in config.haircut.pairs})
    return members(config, pd.DataFrame({"market": sorted(known)}), series, frozenset())


def check_markets(config: Config, known: set[str]) -> None:
    """Refuse settings for a market that has no bars: a typo must not turn a collateral into a perpetual.

    Raises
    ------
    ConfigError
        Names the first such market.
    """
    unknown = sorted(set(config.markets) - known)
    if unknown:
        some = ", ".join(sorted(known)[:8])
        raise ConfigError(f"markets.{unknown[0]}: no bars of this market; there are {some}")


def check_scenarios(config: Config, known: set[str]) -> None:
    """Refuse a stress scenario that moves a market which is not calibrated: it would have no effect.

    Raises
    ------
    ConfigError
        Names the scenario, the market, and what there is.

    Examples
    --------
    >>> crash = {"stress": {"moves": {"crash": {"ETH": -0.3}}}}
    >>> config = Config.model_validate({"data": {"source": "embedded"}, "backtest": crash})
    >>> check_scenarios(config, {"BTC"})
    Traceback (most recent call last):
    ...
    calibrator.errors.ConfigError: backtest.stress.moves.crash: no market 'ETH' is calibrated; there are BTC
    """
    if not config.backtest.stress.moves:
        return
    names = {name for m in _calibrated(config, known) for name in (m.key, m.series)}
    for scenario, moves in config.backtest.stress.moves.items():
        for market in sorted(set(moves) - names - {EVERY}):
            some = ", ".join(sorted(names)[:8])
            raise ConfigError(
                f"backtest.stress.moves.{scenario}: no market {market!r} is calibrated; there are {some}"
            )
