"""What a report is made of, and which markets it shows in detail."""

from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from calibrator.data.events import StressEvent, events_between
from calibrator.publish.document import MarketParameters, ParameterDocument
from pipelines.backtesting import Backtest
from pipelines.capital import Capital
from pipelines.production import Decisions, Production

ALL_IN_DETAIL: Final = 8
"""Up to so many markets each gets its own figures."""
LARGEST: Final = 3
WORST: Final = 3


@dataclass(frozen=True, slots=True)
class Review:
    """Everything a report shows; nothing is computed anew that the run has already decided.

    Attributes
    ----------
    production : Production
        The walk-forward that the document was made from.
    document : ParameterDocument
        What is proposed.
    backtest : Backtest
        The challenge of the same walk-forward.
    findings : pandas.DataFrame
        ``frames.FINDINGS`` of the data gate.
    bars : pandas.DataFrame
        ``frames.BARS``; only described (counts, dates, last price).
    version : str
        Of the software.
    capital : Capital or None
        Exposure caps, risk per unit, ladder and fund; None leaves their sections out.
    """

    production: Production
    document: ParameterDocument
    backtest: Backtest
    findings: pd.DataFrame
    bars: pd.DataFrame
    version: str = ""
    capital: Capital | None = None

    @property
    def markets(self) -> list[str]:
        """Markets of the backtest, by name."""
        return sorted(self.backtest.margins["market"].unique())

    @property
    def window(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """First and last origin of the backtest."""
        origins = self.backtest.margins["origin"]
        return origins.min(), origins.max()

    def decisions(self, market: str) -> Decisions | None:
        """Return a market's decisions; None for one that is only held over from an earlier document."""
        return self.production.decisions.get(market)

    def made(self, market: MarketParameters) -> Decisions | None:
        """Return the decisions behind an entry of the document; None for one that is held over."""
        found = [d for d in self.production.decisions.values() if d.key == market.key]
        return found[0] if found else None

    def events(self, *markets: str) -> tuple[StressEvent, ...]:
        """Return the catalogue's events within the window that concern one of the markets."""
        first, last = self.window
        return events_between(first.date(), last.date(), markets)

    def detailed(self) -> list[str]:
        """Return the markets with figures of their own: all, or the largest and the worst covered few.

        Size is the last known turnover; worst means the smallest p-value of too many breaches.
        """
        if len(self.markets) <= ALL_IN_DETAIL:
            return self.markets
        size = {m: self._turnover(m) for m in self.markets}
        largest = sorted(self.markets, key=lambda m: (-size[m], m))[:LARGEST]
        order = self.backtest.coverage.sort_values(["excess_p_value", "market"], kind="stable")["market"]
        worst = [m for m in dict.fromkeys(order) if m not in largest][:WORST]
        return largest + worst

    def _turnover(self, market: str) -> float:
        made = self.decisions(market)
        known = made.table["turnover"].dropna() if made else pd.Series(dtype=float)
        return float(known.iloc[-1]) if len(known) else 0.0

    def section(self, name: str) -> dict[str, Any]:
        """Return one section of the backtest's summary, empty when it was not made."""
        found = self.backtest.summary.get(name)
        return found if isinstance(found, dict) else {}
