"""What the perpetual protocols themselves do with an update: refuse it (None), or hold these values."""

from datetime import datetime
from itertools import pairwise
from typing import Any

Values = dict[str, int]
WAD = 10**18


def dydx(state: Any, actions: Any, _: datetime) -> Values | None:
    """Return the tiers: `LiquidityTier.Validate` and nothing else."""
    v: Values = {}
    tiers = {k: t.model_dump() for k, t in state.tiers.items()}
    on = {s: m.liquidity_tier for s, m in state.markets.items()}
    for a in actions:
        if a.kind == "move":
            if str(a.perpetual.liquidity_tier) not in tiers:
                return None
            on |= {s: a.perpetual.liquidity_tier for s, m in state.markets.items() if m.id == a.perpetual.id}
            continue
        t = a.tier
        if t.initial_margin_ppm > 1_000_000 or t.maintenance_fraction_ppm > 1_000_000:
            return None
        if t.impact_notional == 0 or t.open_interest_lower_cap > t.open_interest_upper_cap:
            return None
        amounts = (t.impact_notional, t.open_interest_lower_cap, t.open_interest_upper_cap)
        if max(amounts) >= 2**64:
            return None
        tiers[str(a.id)] = t.model_dump()
    for s, k in on.items():
        t = tiers[str(k)]
        v[f"{s} initial"] = t["initial_margin_ppm"]
        v[f"{s} maintenance"] = t["initial_margin_ppm"] * t["maintenance_fraction_ppm"] // 1_000_000
        v[f"{s} upper"] = int(t["open_interest_upper_cap"])
    return v


def gmx(state: Any, actions: Any, _: datetime) -> Values | None:
    """Return the data store's values: ceilings for the keeper, an allow list for the oracle."""
    v: Values = {}
    for s, m in state.markets.items():
        v[f"{s} open"] = m.min_collateral_factor
        v[f"{s} close"] = m.min_collateral_factor_for_liquidation
        v[f"{s} long"], v[f"{s} short"] = m.max_open_interest_long, m.max_open_interest_short
    keys = {
        "MIN_COLLATERAL_FACTOR": ("open", 10**30 // 20),
        "MIN_COLLATERAL_FACTOR_FOR_LIQUIDATION": ("close", 10**30 // 100),
        "MAX_OPEN_INTEREST_LONG": ("long", 2**256 - 1),
        "MAX_OPEN_INTEREST_SHORT": ("short", 2**256 - 1),
    }
    for a in actions:
        name, ceiling = keys[a.key]
        symbols = [s for s, m in state.markets.items() if m.market == a.market]
        if not symbols or a.value > ceiling:
            return None
        if state.route == "oracle" and name in {"open", "close"}:
            return None
        v[f"{symbols[0]} {name}"] = a.value
    return v


def synthetix(state: Any, actions: Any, _: datetime) -> Values | None:
    """Return the ratios: the contract takes anything."""
    v: Values = {}
    held = {m.market: (m.liquidation, m.max_market_value) for m in state.markets.values()}
    for a in actions:
        if a.market not in held:
            return None
        parameters, cap = held[a.market]
        held[a.market] = (a.parameters, cap) if a.kind == "liquidation" else (parameters, a.value)
    for number, (p, cap) in held.items():
        v[f"{number} initial"] = p.minimum_initial_margin_ratio
        v[f"{number} maintenance"] = p.minimum_initial_margin_ratio * p.maintenance_margin_scalar // WAD
        v[f"{number} cap"] = cap
    return v


def derive(state: Any, actions: Any, _: datetime) -> Values | None:
    """Return the standard manager's requirements."""
    v: Values = {}
    for m in state.markets.values():
        a, b = (m.maintenance, m.initial) if m.kind == "perp" else (m.factor, m.scale)
        v[f"{m.kind} {m.market} a"], v[f"{m.kind} {m.market} b"] = a, b
    for x in actions:
        if x.kind == "perp":
            if not (0 < x.maintenance <= x.initial < WAD):
                return None
            v[f"perp {x.market} a"], v[f"perp {x.market} b"] = x.maintenance, x.initial
        else:
            if x.factor > WAD or x.scale > WAD:
                return None
            v[f"base {x.market} a"], v[f"base {x.market} b"] = x.factor, x.scale
    return v


def drift(state: Any, actions: Any, _: datetime) -> Values | None:  # noqa: C901, PLR0911, PLR0912 - a plain chain
    """Return the program's ratios and weights: `validate_margin` and `validate_margin_weights`."""
    v: Values = {}
    by = {m.market: (s, m) for s, m in state.markets.items()}
    for s, m in state.markets.items():
        if m.kind == "perp":
            v |= {f"{s} i": m.initial, f"{s} m": m.maintenance, f"{s} oi": m.max_open_interest}
        else:
            v |= {f"{s} i": m.initial_asset, f"{s} m": m.maintenance_asset}
    for a in actions:
        s, m = by[a.market]
        if (a.kind == "weights") != (m.kind == "spot"):
            return None
        if a.kind == "margin":
            i, mm = a.initial, a.maintenance
            if not (125 <= i <= 10_000 and 125 <= mm <= 10_000) or i <= mm:
                return None
            if mm * 100 <= m.liquidator_fee or i * 100 <= m.max_spread:
                return None
            hi, hm = m.high_leverage_initial, m.high_leverage_maintenance
            if hi and (hi >= i or hm >= mm):
                return None
            v[f"{s} i"], v[f"{s} m"] = i, mm
        elif a.kind == "interest":
            if a.amount >= 2**64 or a.amount % m.step_size:
                return None
            v[f"{s} oi"] = a.amount
        else:
            ia, ma, il, ml = (
                a.initial_asset,
                a.maintenance_asset,
                a.initial_liability,
                a.maintenance_liability,
            )
            if m.index == 0 and not ia == ma == il == ml == 10_000:
                return None
            if ia > ma or not 0 < ma <= 10_000 or il < ml or ml < 10_000 or a.imf >= 1_000_000:
                return None
            v[f"{s} i"], v[f"{s} m"] = ia, ma
    return v


def hyperliquid(state: Any, actions: Any, _: datetime) -> Values | None:  # noqa: C901 - a plain chain
    """Return the leverage at 0 and far out of every coin, after every action."""
    tables = {int(k): [(t.lower_bound, t.max_leverage) for t in x] for k, x in state.tables.items()}
    on = {m.coin: m.table for m in state.markets.values()}
    caps = {m.coin: m.open_interest_cap for m in state.markets.values()}
    number = state.next_table
    for a in actions:
        if a.kind == "insert":
            rows = [(t.lower_bound, t.max_leverage) for t in a.tiers]
            if not 1 <= len(rows) <= 3 or rows[0][0] != 0:
                return None
            if any(not 1 <= x <= 50 for _, x in rows):
                return None
            if any(b[0] <= c[0] or b[1] >= c[1] for c, b in pairwise(rows)):
                return None
            tables[number] = rows
            number += 1
            continue
        pairs = a.tables if a.kind == "assign" else a.caps
        coins = [c for c, _ in pairs]
        if coins != sorted(coins) or len(set(coins)) != len(coins) or any(c not in on for c in coins):
            return None
        for c, x in pairs:
            if a.kind == "caps":
                caps[c] = x
            elif x in tables or 0 < x < 50:
                on[c] = x
            else:
                return None
    v: Values = {}
    for c, k in on.items():
        rows = tables.get(k, [(0, k)])
        v[f"{c} first"], v[f"{c} last"], v[f"{c} cap"] = rows[0][1], rows[-1][1], caps[c] or 0
    return v


def brackets(state: Any, actions: Any, _: datetime) -> Values | None:  # noqa: C901 - a plain chain
    """Return the brackets: contiguous, maintenance never falls, leverage never rises, never above 1/x."""
    v: Values = {}
    held = {m.symbol: m.brackets for m in state.markets.values()}
    for a in actions:
        b = a.brackets
        if a.symbol not in held or not b or b[0].floor != 0:
            return None
        for x in b:
            if x.floor >= x.cap or not 1 <= x.leverage <= 125 or x.maintenance_ppm * x.leverage > 1_000_000:
                return None
        for x, y in pairwise(b):
            if x.cap != y.floor or y.maintenance_ppm < x.maintenance_ppm or y.leverage > x.leverage:
                return None
        held[a.symbol] = b
    for s, b in held.items():
        for i, x in enumerate(b):
            v[f"{s} {i} leverage"], v[f"{s} {i} maintenance"] = x.leverage, x.maintenance_ppm
    return v
