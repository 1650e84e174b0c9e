"""The report's tables of exposure caps, risk per unit, the ladder and the fund."""

from collections.abc import Iterator
from typing import Any

from calibrator.domain import PPM
from pipelines.capital import Capital
from pipelines.report.tables import Table
from pipelines.report.words import MISSING, number, percent

LADDER = {"all_at_once": "all at once at the maintenance margin", "ladder": "by the ladder"}


def caps(capital: Capital) -> Table:
    """Return the caps of every entry."""
    rows = [
        [
            _entry(r),
            *(
                number(r[name])
                for name in (
                    "open_interest_cap", "supply_cap", "borrow_cap", "manipulation_bound", "least_liquidation"
                )
            ),
            percent(r["stress_move"]),
        ]
        for r in capital.exposures.to_dict("records")
    ]  # fmt: skip
    head = (
        "entry", "open interest cap", "supply cap", "borrow cap", "bound by manipulation",
        "least liquidation", "stressed move",
    )  # fmt: skip
    return Table(head, rows)


def _entry(row: dict[Any, Any]) -> str:
    if row["role"] == "perpetual":
        return str(row["market"])
    why = "" if row["reason"] == "-" else f": {row['reason']}"
    return f"{row['market']}/{row['debt']} @ {row['location']}{why}"


def per_unit(capital: Capital) -> Table:
    """Return the risk per unit of collateral at the last decision of every market and side."""
    last = capital.units.drop_duplicates(["market", "side"], keep="last")
    names = (
        "value_at_risk", "expected_shortfall", "risk_weight", "delta_adjusted_collateral",
        "implied_volatility_margin",
    )  # fmt: skip
    rows = [
        [f"{r['market']}, {r['side']}", *(percent(r[name]) for name in names)]
        for r in last.to_dict("records")
    ]
    head = (
        "market and side", "value at risk", "expected shortfall", "risk weight", "a unit afterwards",
        "margin by implied volatility",
    )  # fmt: skip
    return Table(head, rows)


def ladder(capital: Capital) -> Table:
    """Return the simulated accounts closed by parts and all at once."""
    if capital.ladder is None:
        return Table((), [])
    names = (
        "accounts", "liquidations", "partial_closings", "accounts_with_shortfall", "shortfall", "penalty",
        "liquidated_notional",
    )  # fmt: skip
    rows = [
        [LADDER[str(how)], *(number(r[name]) for name in names)]
        for how, r in capital.ladder.to_dict("index").items()
    ]
    head = (
        "how", "accounts", "whole liquidations", "partial closings", "accounts with shortfall",
        "shortfall (quote units)", "penalties", "notional closed",
    )  # fmt: skip
    return Table(head, rows)


def rungs(capital: Capital) -> Table:
    """Return the ladder of the published margins: when a part is closed, how much, and what it restores."""
    rows = [
        [
            f"{r['market']}, from {number(r['notional_floor'])}",
            str(r["rung"]),
            *(percent(r[f"{name}_ppm"] / PPM) for name in ("threshold", "fraction", "restores")),
        ]
        for r in capital.rungs.to_dict("records")
    ]
    head = ("market and tier", "rung", "equity / notional below", "part that is closed", "ratio afterwards")
    return Table(head, rows)


def stress(capital: Capital) -> Table:
    """Return what the fund must bear: Cover-2, hypothetical moves, reverse stress test, simulation."""
    return Table(("what", "figure"), [list(row) for row in _stress(capital.buffer or {})], text=1)


def _stress(buffer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    configured = "configured" if buffer["fund_is_configured"] else "none configured: what Cover-2 requires"
    yield f"fund ({configured})", number(buffer["fund"])
    cover = buffer["cover"]
    yield "two largest shortfalls, worst past decision", number(cover["two_largest_historical"])
    worst = str(cover["worst_origin"])[:10]
    yield (
        f"with the crowded side, worst past decision ({worst})",
        number(cover["with_crowded_side_historical"]),
    )
    for name, value in cover["hypothetical_with_crowded_side"].items():
        yield f"with the crowded side, if {name} by the stressed move", number(value)
    reverse = buffer["reverse_stress"]
    if reverse is None:
        yield "smallest joint move that exhausts the fund", "none does"
    else:
        moves = ", ".join(f"{market} {percent(move, 1)}" for market, move in reverse["moves"].items())
        deviations = number(reverse["standard_deviations"], 1)
        yield "smallest joint move that exhausts the fund", f"{moves} ({deviations} standard deviations)"
    simulated = buffer["simulated"]
    if simulated is not None:
        figure = number(simulated["worst_drawdown_of_a_year"])
        interval = f"{number(simulated['low'])} to {number(simulated['high'])}"
        yield "for information only: 99.9 % of simulated years lose at most", f"{figure} ({interval})"


def events(capital: Capital) -> Table:
    """Return how a full fund fares in each catalogued event."""
    rows = [
        [
            f"{e['event']} ({e['start']})",
            number(e["payments"]),
            number(e["paid_net"]),
            number(e["lowest_balance"]),
            MISSING if e["hours_to_exhaustion"] is None else number(e["hours_to_exhaustion"]),
        ]
        for e in (capital.buffer or {}).get("exhaustion", [])  # type: ignore[attr-defined]
    ]
    head = ("event", "liquidations", "shortfalls less penalties", "lowest balance", "hours to exhaustion")
    return Table(head, rows)
