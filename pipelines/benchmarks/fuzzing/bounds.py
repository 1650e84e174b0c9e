"""Values that no update may pass, whatever a protocol accepts: what the publisher's rules promise.

Each function names the first bound that the held values break, or None.
"""

from collections.abc import Callable
from typing import Any, Final

Values = dict[str, int]


def loans(ltv: str, threshold: str, one: int) -> Callable[[Any, Values], str | None]:
    """Return the bound of a loan: 0 < ltv <= threshold < 100 %."""

    def check(_: Any, v: Values) -> str | None:
        return None if 0 <= v[ltv] <= v[threshold] < one else f"{ltv} {v[ltv]}, {threshold} {v[threshold]}"

    return check


def pairs_of(initial: str, maintenance: str, one: int) -> Callable[[Any, Values], str | None]:
    """Return the bound of perpetuals: 0 < maintenance <= initial <= 100 %, of every market that changed."""

    def check(_: Any, v: Values) -> str | None:
        for name, value in v.items():
            if name.endswith(f" {initial}"):
                low = v[name.removesuffix(initial) + maintenance]
                if not 0 < low <= value <= one:
                    return f"{name} {value}, {maintenance} {low}"
        return None

    return check


def _steward(s: Any, v: Values) -> str | None:
    """Bound of a steward: at most 50 basis points from what was held, threshold and bonus within 100 %."""
    if v["lt"] * (10_000 + v["bonus"]) > 10_000 * 10_000 or v["ltv"] > v["lt"]:
        return f"product of {v['lt']} and {v['bonus']}"
    m = s.markets["WTI"]
    moves = [abs(v["ltv"] - m.ltv), abs(v["lt"] - m.liq_threshold), abs(v["bonus"] - m.liq_bonus)]
    if s.route.startswith("steward") and max(moves) > 50:
        return f"moves of {moves}"
    return None


def _maker(_: Any, v: Values) -> str | None:
    """Bound of a vault: what is liquidated pays the debt and the penalty."""
    return None if v["ratio"] >= v["chop"] * 10**9 else f"ratio {v['ratio']}, chop {v['chop']}"


def _none(_: Any, v: Values) -> str | None:
    """Bound of tables: a leverage of at least 1, a maintenance margin of more than 0."""
    for name, value in v.items():
        if name.endswith((" first", " last", " leverage")) and not 1 <= value <= 125:
            return f"{name} {value}"
        if name.endswith(" maintenance") and value <= 0:
            return f"{name} {value}"
    return None


def _kamino(_: Any, v: Values) -> str | None:
    used = v["liquidation_threshold"] * (10_000 + v["max_bonus"])
    fits = 0 < v["loan_to_value"] <= v["liquidation_threshold"] and used <= 1_000_000
    return None if fits else f"{v}"


def _compound(_: Any, v: Values) -> str | None:
    borrow, liquidate, left, _cap = v.values()
    return None if 0 < borrow < liquidate < left <= 10**18 else f"{v}"


def _morpho(s: Any, v: Values) -> str | None:
    lent = [int(name.rpartition(" ")[2]) for name, cap in v.items() if cap]
    known = {*map(int, s.markets["WTI"].caps), *map(int, s.markets["WTI"].submitted), *s.enabled}
    return None if set(lent) <= known else f"{lent}"


def _derive(_: Any, v: Values) -> str | None:
    for name, value in v.items():
        other = v[name[:-1] + "b"]
        if name.startswith("perp") and name.endswith(" a") and not 0 < value <= other < 10**18:
            return f"{name} {value}, initial {other}"
        if name.startswith("base") and not 0 < value <= 10**18:
            return f"{name} {value}"
    return None


def _drift(s: Any, v: Values) -> str | None:
    for symbol, m in s.markets.items():
        initial, maintenance = v[f"{symbol} i"], v[f"{symbol} m"]
        ordered = (
            125 <= maintenance < initial <= 10_000 if m.kind == "perp" else initial <= maintenance <= 10_000
        )
        changed = (initial, maintenance) != (
            (m.initial, m.maintenance) if m.kind == "perp" else (m.initial_asset, m.maintenance_asset)
        )
        if changed and not ordered:
            return f"{symbol} {initial}, {maintenance}"
    return None


BOUNDS: Final[dict[str, Callable[[Any, Values], str | None]]] = {
    "aave-v3": _steward,
    "compound-v3": _compound,
    "derive-v2": _derive,
    "drift-v2": _drift,
    "dydx-v4": pairs_of("initial", "maintenance", 1_000_000),
    "euler-v2": loans("borrow", "liquidation", 10_000),
    "gmx-v2": pairs_of("open", "close", 10**30 // 20),
    "hyperliquid": _none,
    "kamino": _kamino,
    "leverage-brackets": _none,
    "maker": _maker,
    "marginfi-v2": loans("asset_weight_init", "asset_weight_maint", 2**48),
    "morpho-blue": _morpho,
    "synthetix-v3": pairs_of("initial", "maintenance", 10**18),
}
