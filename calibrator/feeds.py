"""Frames that venues and protocols fill beside bars: funding, open interest, books, quotes, accounts, rules.

Every row carries ``time``, when it happened, and ``known_at``, when it could first be known: a stage that
decides at some time reads rows with ``known_at`` up to that time, whatever ``time`` says.
"""

from dataclasses import dataclass
from typing import Final, Self

import pandas as pd
import pandera.pandas as pa

from calibrator.frames import _TEXT, _TIME, TIME, _column, _finite, _positive, _ppm, _schema

_NAME: Final = _column("str", pa.Check.str_length(min_value=1, max_value=96))
_KNOWN: Final = pa.Check(lambda f: f["known_at"] >= f["time"], name="known_at >= time")


def _real(*, nullable: bool = False) -> pa.Column:
    return _column("float64", pa.Check(_finite, name="finite"), nullable=nullable)


def _amount(*, nullable: bool = False) -> pa.Column:
    """Not negative."""
    return _column("float64", pa.Check.ge(0), pa.Check(_finite, name="finite"), nullable=nullable)


FUNDING: Final = _schema(
    "Funding",
    {
        "market": _TEXT,
        "time": _TIME,
        "known_at": _TIME,
        "rate": _column("float64", pa.Check.in_range(-1, 1)),
        "interval_hours": _positive(nullable=True),
    },
    ["market", "time"],
    _KNOWN,
)
"""Funding paid by longs to shorts at ``time``: fraction of notional per interval of ``interval_hours``."""

OPEN_INTEREST: Final = _schema(
    "OpenInterest",
    {
        "market": _TEXT,
        "time": _TIME,
        "known_at": _TIME,
        "open_interest": _amount(nullable=True),
        "open_interest_notional": _amount(nullable=True),
    },
    ["market", "time"],
    _KNOWN,
    pa.Check(
        lambda f: f[["open_interest", "open_interest_notional"]].notna().any(axis=1),
        name="open interest in units or as notional",
    ),
)
"""Open interest in base units (contracts where the venue counts contracts) and in quote units."""

LIQUIDATIONS: Final = _schema(
    "Liquidations",
    {
        "market": _TEXT,
        "time": _TIME,
        "known_at": _TIME,
        "event_id": _NAME,
        "liquidated_side": _column("str", pa.Check.isin(["long", "short"])),
        "quantity": _amount(nullable=True),
        "price": _positive(nullable=True),
        "notional": _amount(),
        "multiplicity": _column("int64", pa.Check.ge(1)),
    },
    ["market", "event_id"],
    _KNOWN,
)
"""Liquidated positions, or totals of a period (then zero is a value): ``liquidated_side`` is the side of the
position, never of the order; ``multiplicity`` is how often the source repeated the row."""

HISTORICAL_VOLATILITY: Final = _schema(
    "HistoricalVolatility",
    {"market": _TEXT, "time": _TIME, "known_at": _TIME, "volatility": _positive()},
    ["market", "time"],
    _KNOWN,
)
"""Realized volatility as a venue publishes it: annualised fraction."""

DEPTH: Final = _schema(
    "Depth",
    {
        "market": _TEXT,
        "time": _TIME,
        "known_at": _TIME,
        "distance": _column("float64", pa.Check.in_range(-1, 1), pa.Check.ne(0)),
        "quantity": _amount(),
        "notional": _amount(),
    },
    ["market", "time", "distance"],
    _KNOWN,
)
"""Cumulative book depth between the middle and ``distance`` (fraction of it; bids below zero)."""

OPTION_QUOTES: Final = _schema(
    "OptionQuotes",
    {
        "market": _NAME,
        "time": _TIME,
        "known_at": _TIME,
        "underlying": _TEXT,
        "expiry": _TIME,
        "strike": _positive(),
        "option_type": _column("str", pa.Check.isin(["call", "put"])),
        "bid": _amount(nullable=True),
        "ask": _amount(nullable=True),
        "mark": _amount(nullable=True),
        "implied_volatility": _positive(nullable=True),
        "underlying_price": _positive(nullable=True),
        "open_interest": _amount(nullable=True),
    },
    ["market", "time"],
    _KNOWN,
)
"""Option chains: prices in the venue's own unit (Deribit's inverse options: the coin), volatility as an
annualised fraction, missing where nobody quotes."""

VAULT_EVENTS: Final = _schema(
    "VaultEvents",
    {
        "account": _NAME,
        "collateral": _TEXT,
        "debt": _TEXT,
        "time": _TIME,
        "known_at": _TIME,
        "event_id": _NAME,
        "kind": _column("str", pa.Check.isin(["deposit", "withdraw", "borrow", "repay", "liquidation"])),
        "collateral_amount": _amount(),
        "debt_amount": _amount(),
        "collateral_price": _positive(nullable=True),
        "debt_price": _positive(nullable=True),
    },
    ["event_id"],
    _KNOWN,
)
"""What happened to collateralised accounts: amounts in whole units of their asset, prices in USD."""

VENUE_TIERS: Final = _schema(
    "VenueTiers",
    {
        "market": _TEXT,
        "time": _TIME,
        "known_at": _TIME,
        "notional_floor": _amount(),
        "notional_cap": _positive(nullable=True),
        "max_leverage": _positive(),
        "maintenance_margin_ppm": _ppm(),
    },
    ["market", "time", "notional_floor"],
    _KNOWN,
)
"""A venue's own margin tiers as they were at ``time``: brackets, risk limits, margin tables."""

RESERVES: Final = _schema(
    "Reserves",
    {
        "market": _TEXT,
        "time": _TIME,
        "known_at": _TIME,
        "loan_to_value_ppm": _ppm(),
        "liquidation_threshold_ppm": _ppm(),
        "liquidation_penalty_ppm": _ppm(),
        "active": _column("int64", pa.Check.isin([0, 1])),
        "frozen": _column("int64", pa.Check.isin([0, 1])),
    },
    ["market", "time"],
    _KNOWN,
)
"""A lending reserve's parameters from ``time`` on, until its next row."""

FEEDS: Final = (
    FUNDING, OPEN_INTEREST, LIQUIDATIONS, HISTORICAL_VOLATILITY, DEPTH, OPTION_QUOTES, VAULT_EVENTS,
    VENUE_TIERS, RESERVES,
)  # fmt: skip
"""Every frame of this module."""


def empty(schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Return a frame without rows that conforms to a schema.

    Parameters
    ----------
    schema : pandera.DataFrameSchema
        Any schema of this module or of :mod:`calibrator.frames`.

    Examples
    --------
    >>> list(empty(FUNDING).columns), len(empty(FUNDING))
    (['market', 'time', 'known_at', 'rate', 'interval_hours'], 0)
    """
    kinds = {str(name): str(column.dtype) for name, column in schema.columns.items()}
    return pd.DataFrame(
        {name: pd.Series(dtype=TIME if d.startswith("datetime64") else d) for name, d in kinds.items()}
    )


def known(frame: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Return the rows that could be known at a time.

    Parameters
    ----------
    frame : pandas.DataFrame
        Any frame of this project; without ``known_at`` its ``time`` says when a row was known.
    as_of : pandas.Timestamp
        Time of the decision, UTC.

    Examples
    --------
    >>> t = pd.to_datetime(["2024-01-01"], utc=True)
    >>> len(known(pd.DataFrame({"time": t, "known_at": t + pd.Timedelta("1D")}), t[0]))
    0
    """
    column = "known_at" if "known_at" in frame else "time"
    return frame[frame[column] <= as_of].reset_index(drop=True)


@dataclass(frozen=True, slots=True)
class Feeds:
    """What a model may read beside bars and implied volatility; each frame may be empty.

    Attributes
    ----------
    funding, open_interest, liquidations : pandas.DataFrame
        Conforming ``Funding``, ``OpenInterest`` and ``Liquidations``.

    Examples
    --------
    >>> Feeds.none().known(pd.Timestamp("2024-01-01", tz="UTC")).funding.empty
    True
    """

    funding: pd.DataFrame
    open_interest: pd.DataFrame
    liquidations: pd.DataFrame

    @classmethod
    def none(cls) -> Self:
        """Return feeds without any row."""
        return cls(*(empty(schema) for schema in (FUNDING, OPEN_INTEREST, LIQUIDATIONS)))

    def known(self, cut: pd.Timestamp) -> Self:
        """Return the rows that were knowable at ``cut``."""
        frames = (self.funding, self.open_interest, self.liquidations)
        return type(self)(*(f[f["known_at"] <= cut] for f in frames))
