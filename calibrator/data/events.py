"""A catalogue of dated stress events: what happened, who says so, and which assets it concerns.

Backtests report coverage in each event apart. ``expected_miss`` marks events that left no trace in earlier
prices (an attack, an exploit, a wrong oracle price, a failed bank): no volatility model can see them coming,
and a report that hides that would be wrong. Dates are calendar days, UTC, both inclusive.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Final

_GROUPS: Final = {"SPX": "EQUITY", "NASDAQ": "EQUITY", "WTI": "OIL"}
_QUOTES: Final = ("USDT", "USDC", "BUSD", "USD")


@dataclass(frozen=True, slots=True)
class StressEvent:
    """One event.

    Attributes
    ----------
    name : str
        Short, unique.
    start, end : datetime.date
        First and last day (UTC), inclusive.
    what : str
        What happened.
    source : str
        Public source of the date and the facts.
    affects : tuple of str
        Groups ``EQUITY``, ``OIL``, ``CRYPTO``, or base assets such as ``USDC``.
    expected_miss : bool
        No volatility model can see it coming.

    Raises
    ------
    ValueError
        The event ends before it starts or concerns nothing.

    Examples
    --------
    >>> next(e for e in EVENTS if e.name == "Lehman").start.isoformat()
    '2008-09-15'
    """

    name: str
    start: date
    end: date
    what: str
    source: str
    affects: tuple[str, ...]
    expected_miss: bool = False

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError(f"event {self.name!r} ends on {self.end}, before it starts on {self.start}")
        if not self.affects:
            raise ValueError(f"event {self.name!r} must affect something")


def events_between(start: date, end: date, assets: Collection[str]) -> tuple[StressEvent, ...]:
    """Return the events that touch a period and concern one of the assets, oldest first.

    Parameters
    ----------
    start, end : datetime.date
        Period, both inclusive.
    assets : collection of str
        Market names (``SPX``, ``BTCUSDT``), base assets (``USDC``) or groups (``CRYPTO``). A market that
        is not an index or oil counts as crypto; a pair (``WTI/USD@demo``) counts as both its legs.

    Raises
    ------
    ValueError
        The period ends before it starts.

    Examples
    --------
    >>> [e.name for e in events_between(date(2023, 3, 1), date(2023, 3, 31), ["USDCUSDT"])]
    ['USDC depeg']
    """
    if end < start:
        raise ValueError(f"end must not be before start, were {end} and {start}")
    legs = [leg for asset in assets for leg in asset.partition("@")[0].split("/") if leg != "USD"]
    wanted = {tag for leg in legs for tag in _tags(leg)}
    return tuple(e for e in EVENTS if e.start <= end and e.end >= start and wanted.intersection(e.affects))


def _tags(asset: str) -> set[str]:
    """Return the names under which an asset may be listed."""
    if asset in {*_GROUPS, *_GROUPS.values()}:
        return {asset, _GROUPS.get(asset, asset)}
    quote = next((q for q in _QUOTES if asset.endswith(q) and asset != q), "")
    return {asset.removesuffix(quote), "CRYPTO"}


def _event(
    name: str, days: str, affects: str, what: str, source: str, *, expected_miss: bool = False
) -> StressEvent:
    """Build an event from ``first..last`` and a blank-separated list of assets."""
    first, _, last = days.partition("..")
    return StressEvent(
        name=name,
        start=date.fromisoformat(first),
        end=date.fromisoformat(last or first),
        what=what,
        source=source,
        affects=tuple(affects.split()),
        expected_miss=expected_miss,
    )


EVENTS: Final[tuple[StressEvent, ...]] = (
    _event(
        "OPEC price collapse", "1986-01-02..1986-03-31", "OIL",
        "Saudi Arabia gives up its role as swing producer; crude more than halves within a quarter",
        "US Energy Information Administration, oil price chronology",
    ),
    _event(
        "Invasion of Kuwait", "1990-08-02..1990-10-11", "OIL",
        "Iraq invades Kuwait; crude doubles until October",
        "UN Security Council resolution 660; EIA, oil price chronology",
        expected_miss=True,
    ),
    _event(
        "Gulf War air campaign", "1991-01-16..1991-01-18", "OIL",
        "The air campaign starts, strategic reserves are released; crude loses a third in a day",
        "US Department of Energy, history of Strategic Petroleum Reserve releases",
    ),
    _event(
        "Russia and LTCM", "1998-08-17..1998-10-08", "EQUITY",
        "Russia devalues and defaults; Long-Term Capital Management is rescued in September",
        "President's Working Group on Financial Markets, report on LTCM, April 1999",
    ),
    _event(
        "Dot-com crash", "2000-04-03..2000-04-14", "EQUITY",
        "NASDAQ Composite loses a quarter in a week, 9.7 % on the last day",
        "NASDAQ Composite closing levels",
    ),
    _event(
        "September 11", "2001-09-11..2001-09-21", "EQUITY OIL",
        "Attacks on the United States; US exchanges stay closed until 17 September",
        "The 9/11 Commission Report, 2004",
        expected_miss=True,
    ),
    _event(
        "WorldCom", "2002-07-08..2002-07-24", "EQUITY",
        "Accounting scandals; WorldCom files for bankruptcy on 21 July",
        "US Bankruptcy Court S.D.N.Y., WorldCom Inc., petition of 21 July 2002",
    ),
    _event(
        "Lehman", "2008-09-15..2008-11-20", "EQUITY OIL",
        "Lehman Brothers files for bankruptcy; a global banking crisis follows",
        "Financial Crisis Inquiry Commission, final report, 2011",
    ),
    _event(
        "Flash crash", "2010-05-06", "EQUITY",
        "US equities lose and regain about 5 % within minutes",
        "CFTC and SEC, Findings regarding the market events of May 6, 2010, September 2010",
        expected_miss=True,
    ),
    _event(
        "US downgrade", "2011-08-04..2011-08-10", "EQUITY OIL",
        "Standard & Poor's takes AAA from the United States on 5 August; S&P 500 -6.7 % on 8 August",
        "Standard & Poor's, rating action of 5 August 2011",
    ),
    _event(
        "OPEC keeps output", "2014-11-27..2014-12-01", "OIL",
        "OPEC does not cut into a glut; crude falls by about 10 % on the next trading day",
        "OPEC, press release of the 166th meeting, 27 November 2014",
    ),
    _event(
        "August 2015", "2015-08-20..2015-08-26", "EQUITY",
        "China devalues in the weeks before; US equities open limit-down on 24 August",
        "SEC, Research note: Equity market volatility on August 24, 2015",
    ),
    _event(
        "Brexit vote", "2016-06-24..2016-06-27", "EQUITY OIL",
        "The United Kingdom votes to leave the European Union",
        "UK Electoral Commission, EU referendum results, 24 June 2016",
    ),
    _event(
        "Volmageddon", "2018-02-05..2018-02-09", "EQUITY",
        "The VIX doubles in a day; inverse volatility products are wound up",
        "BIS Quarterly Review, March 2018",
    ),
    _event(
        "Bitcoin Cash fork", "2018-11-14..2018-11-25", "CRYPTO",
        "Bitcoin leaves a months-long quiet range and loses more than a third",
        "Bitcoin Cash network upgrade of 15 November 2018; exchange candles",
    ),
    _event(
        "Pandemic", "2020-02-24..2020-03-23", "EQUITY OIL",
        "COVID-19 spreads; equity trading halts four times; OPEC+ breaks up on 6 March",
        "WHO, statement of 11 March 2020; Financial Stability Board, Holistic review, November 2020",
    ),
    _event(
        "Black Thursday", "2020-03-12..2020-03-13", "CRYPTO",
        "Bitcoin and ether lose about half in a day; Maker auctions clear at zero",
        "Maker Foundation, The market collapse of March 12-13, 2020",
    ),
    _event(
        "Negative oil", "2020-04-20..2020-04-21", "OIL",
        "The expiring WTI future settles at -37.63 USD",
        "CFTC, Interim staff report on NYMEX WTI crude, November 2020",
    ),
    _event(
        "DAI oracle spike", "2020-11-26", "DAI COMP",
        "One exchange prints DAI at 1.30 USD; Compound's oracle follows and liquidates sound loans",
        "Compound governance forum, DAI liquidation event, November 2020",
        expected_miss=True,
    ),
    _event(
        "May 2021", "2021-05-19..2021-05-23", "CRYPTO",
        "Chinese financial associations forbid their members crypto services; bitcoin -30 % within the day",
        "Joint notice of China's internet finance, banking and payment associations, 18 May 2021",
    ),
    _event(
        "December 2021", "2021-12-03..2021-12-04", "CRYPTO",
        "A weekend cascade of liquidations; bitcoin loses a fifth within hours",
        "Exchange candles of 4 December 2021",
    ),
    _event(
        "Ronin bridge", "2022-03-29..2022-03-30", "AXS",
        "A theft from the Ronin bridge on 23 March becomes known",
        "Ronin Network, community alert of 29 March 2022; FBI statement of 14 April 2022",
        expected_miss=True,
    ),
    _event(
        "Terra", "2022-05-07..2022-05-13", "LUNA UST CRYPTO",
        "TerraUSD loses its peg and LUNA all of its value",
        "Liu, Makarov and Schoar, Anatomy of a run: the Terra Luna crash, NBER working paper 31160, 2023",
    ),
    _event(
        "Celsius and Three Arrows", "2022-06-12..2022-06-18", "CRYPTO",
        "Celsius stops withdrawals; Three Arrows Capital cannot meet margin calls",
        "Celsius Network, notice of 12 June 2022; Eastern Caribbean Supreme Court, order of 27 June 2022",
    ),
    _event(
        "Mango Markets", "2022-10-11..2022-10-12", "MNGO",
        "The price of a thin collateral is driven up to borrow against it",
        "CFTC complaint against A. Eisenberg, S.D.N.Y., January 2023",
        expected_miss=True,
    ),
    _event(
        "FTX", "2022-11-06..2022-11-14", "FTT SOL SRM CRYPTO",
        "A run on FTX ends in bankruptcy on 11 November",
        "FTX Trading Ltd., Chapter 11 petition, D. Del. 22-11068",
    ),
    _event(
        "USDC depeg", "2023-03-10..2023-03-13", "USDC DAI CRYPTO",
        "Reserves of USDC are caught in Silicon Valley Bank; USDC trades below 0.90 USD",
        "FDIC, press release of 10 March 2023; Circle, statement of 11 March 2023",
        expected_miss=True,
    ),
    _event(
        "SEC suits", "2023-06-05..2023-06-10", "CRYPTO",
        "The SEC sues Binance and Coinbase and names tokens as securities",
        "SEC, press releases of 5 and 6 June 2023",
    ),
    _event(
        "Curve exploit", "2023-07-30..2023-08-01", "CRV",
        "A compiler bug drains Curve pools; large loans against CRV come near liquidation",
        "Vyper project, post-mortem of the reentrancy lock vulnerability, 2023",
        expected_miss=True,
    ),
    _event(
        "August 2023", "2023-08-17..2023-08-18", "CRYPTO",
        "Out of very low volatility bitcoin loses about 8 % within minutes",
        "Exchange candles of 17 August 2023",
    ),
    _event(
        "ezETH depeg", "2024-04-24", "EZETH",
        "A restaked ether without redemptions trades far below its reference; leveraged loops are liquidated",
        "Public on-chain trades of 24 April 2024",
        expected_miss=True,
    ),
    _event(
        "Carry unwind", "2024-08-02..2024-08-06", "EQUITY CRYPTO",
        "The yen carry trade is unwound; the VIX rises above 60 before the opening on 5 August",
        "BIS Bulletin 90, The market turbulence and carry trade unwind of August 2024",
    ),
    _event(
        "North American tariffs", "2025-02-01..2025-02-03", "CRYPTO EQUITY",
        "Tariffs on Canada, Mexico and China are ordered on a Saturday; ether loses a quarter by Monday",
        "The White House, executive orders of 1 February 2025",
    ),
    _event(
        "Bybit theft", "2025-02-21..2025-02-22", "ETH",
        "About 1.5 billion USD of ether are stolen from Bybit",
        "FBI, public service announcement of 26 February 2025",
        expected_miss=True,
    ),
    _event(
        "Reciprocal tariffs", "2025-04-02..2025-04-09", "EQUITY OIL CRYPTO",
        "Tariffs on nearly all imports of the United States; S&P 500 loses 10 % in two days",
        "Executive Order 14257 of 2 April 2025",
    ),
    _event(
        "Israel strikes Iran", "2025-06-13..2025-06-23", "OIL CRYPTO",
        "War between Israel and Iran; crude rises by about 7 % on the first day",
        "International Atomic Energy Agency, statement of 13 June 2025",
        expected_miss=True,
    ),
)  # fmt: skip
"""Events ordered by their first day."""
