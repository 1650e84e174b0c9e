"""The values that a simulated state holds, under the names that the oracles use."""

from typing import Any

Values = dict[str, int]
WAD = 10**18


def aave(s: Any) -> Values:
    """Reserve in basis points, cap in tokens."""
    m = s.markets["WTI"]
    return {"ltv": m.ltv, "lt": m.liq_threshold, "bonus": m.liq_bonus, "supply": m.supply_cap}


def compound(s: Any) -> Values:
    """Deployed factors and cap, in the setters' units."""
    m = s.markets["WTI"]
    return {
        "borrowCollateralFactor": m.borrow_factor * 10**14,
        "liquidateCollateralFactor": m.liquidate_factor * 10**14,
        "liquidationFactor": m.liquidation_factor * 10**14,
        "supplyCap": m.supply_cap * 10**m.decimals,
    }


def euler(s: Any) -> Values:
    """Limits and raw supply cap."""
    m = s.markets["WTI"]
    supply = s.vaults[m.collateral].supply_cap
    return {"borrow": m.borrow_ltv, "liquidation": m.liquidation_ltv, "supply": supply}


def kamino(s: Any) -> Values:
    """Reserve fields."""
    m = s.markets["WTI"]
    names = ("loan_to_value", "liquidation_threshold", "min_bonus", "max_bonus", "deposit_limit")
    return {n: getattr(m, n) for n in names}


def marginfi(s: Any) -> Values:
    """Bank fields."""
    m = s.markets["WTI"]
    names = ("asset_weight_init", "asset_weight_maint", "liability_weight_init", "liability_weight_maint")
    return {n: getattr(m, n) for n in (*names, "deposit_limit")}


def maker(s: Any) -> Values:
    """Ratio that holds, penalty, ceiling."""
    m = s.markets["WTI"]
    return {"ratio": m.poked * 10**23, "chop": WAD + m.chop * 10**14, "line": m.line * 10**45}


def morpho(s: Any) -> Values:
    """Caps in force and waiting."""
    m = s.markets["WTI"]
    waiting = {f"waiting {k}": x.cap for k, x in m.submitted.items()}
    return {f"cap {k}": x for k, x in m.caps.items()} | waiting


def dydx(s: Any) -> Values:
    """Margins and caps of every market through its tier."""
    v: Values = {}
    for name, m in s.markets.items():
        t = s.tiers[str(m.liquidity_tier)]
        v[f"{name} initial"] = t.initial_margin_ppm
        v[f"{name} maintenance"] = t.initial_margin_ppm * t.maintenance_fraction_ppm // 1_000_000
        v[f"{name} upper"] = t.open_interest_upper_cap
    return v


def gmx(s: Any) -> Values:
    """Factors and caps."""
    v: Values = {}
    for name, m in s.markets.items():
        v |= {
            f"{name} open": m.min_collateral_factor,
            f"{name} close": m.min_collateral_factor_for_liquidation,
        }
        v |= {f"{name} long": m.max_open_interest_long, f"{name} short": m.max_open_interest_short}
    return v


def synthetix(s: Any) -> Values:
    """Ratios and caps."""
    v: Values = {}
    for m in s.markets.values():
        p = m.liquidation
        v[f"{m.market} initial"] = p.minimum_initial_margin_ratio
        v[f"{m.market} maintenance"] = p.minimum_initial_margin_ratio * p.maintenance_margin_scalar // WAD
        v[f"{m.market} cap"] = m.max_market_value
    return v


def derive(s: Any) -> Values:
    """Both numbers of every market."""
    v: Values = {}
    for m in s.markets.values():
        a, b = (m.maintenance, m.initial) if m.kind == "perp" else (m.factor, m.scale)
        v |= {f"{m.kind} {m.market} a": a, f"{m.kind} {m.market} b": b}
    return v


def drift(s: Any) -> Values:
    """Ratios, weights and caps."""
    v: Values = {}
    for name, m in s.markets.items():
        if m.kind == "perp":
            v |= {f"{name} i": m.initial, f"{name} m": m.maintenance, f"{name} oi": m.max_open_interest}
        else:
            v |= {f"{name} i": m.initial_asset, f"{name} m": m.maintenance_asset}
    return v


def hyperliquid(s: Any) -> Values:
    """Leverage of the first and the last tier, and the cap."""
    v: Values = {}
    for m in s.markets.values():
        levers = [t.max_leverage for t in s.tables[str(m.table)]] if str(m.table) in s.tables else [m.table]
        v |= {f"{m.coin} first": levers[0], f"{m.coin} last": levers[-1]}
        v[f"{m.coin} cap"] = m.open_interest_cap or 0
    return v


def brackets(s: Any) -> Values:
    """Leverage and maintenance of every bracket."""
    v: Values = {}
    for m in s.markets.values():
        for i, x in enumerate(m.brackets):
            v |= {f"{m.symbol} {i} leverage": x.leverage, f"{m.symbol} {i} maintenance": x.maintenance_ppm}
    return v
