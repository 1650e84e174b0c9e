"""What the lending protocols themselves do with an update: refuse it (None), or hold these values."""

from datetime import datetime
from typing import Any

DAY = 86_400
WAD = 10**18
Values = dict[str, int]


def aave(state: Any, actions: Any, at: datetime) -> Values | None:  # noqa: C901, PLR0911, PLR0912 - a plain chain
    """Return the reserve after the calls: steward (limits, delays), engine (skips), pool (product)."""
    m = state.markets["WTI"]
    v = {"ltv": m.ltv, "lt": m.liq_threshold, "bonus": m.liq_bonus, "supply": m.supply_cap}
    last = {k: t.timestamp() for k, t in m.changed.items()}
    names = {"ltv": "ltv", "lt": "liq_threshold", "bonus": "liq_bonus"}
    steward = state.route.startswith("steward")
    for a in actions:
        if a.kind == "caps":
            if a.supply_cap is None:
                continue
            if steward:
                if a.supply_cap == 0 or m.restricted:
                    return None
                if at.timestamp() - last.get("supply_cap", 0) < 3 * DAY:
                    return None
                if abs(a.supply_cap - v["supply"]) > v["supply"]:
                    return None
                last["supply_cap"] = at.timestamp()
            if a.supply_cap > 68_719_476_735:
                return None
            v["supply"] = a.supply_cap
            continue
        new = {"ltv": a.limits.ltv, "lt": a.limits.liq_threshold, "bonus": a.limits.liq_bonus}
        if steward:
            if a.liq_protocol_fee is not None or m.restricted:
                return None
            for k, x in new.items():
                if x is None:
                    continue
                if x == 0 or at.timestamp() - last.get(names[k], 0) < 3 * DAY or abs(x - v[k]) > 50:
                    return None
                last[names[k]] = at.timestamp()
        if new["lt"] == 0:
            continue  # the engine skips the whole update
        if new["bonus"] is None and v["bonus"] == 0:
            return None
        w = {k: v[k] if x is None else x for k, x in new.items()}
        if w["ltv"] > w["lt"] or max(w["lt"], w["ltv"], 10_000 + w["bonus"]) > 65_535:
            return None
        if w["bonus"] == 0 or (w["lt"] * (10_000 + w["bonus"]) + 5_000) // 10_000 > 10_000:
            return None
        if m.frozen:
            w["ltv"] = 0  # parked, effective ltv is 0
        v.update(w)
    return v


def compound(state: Any, actions: Any, _: datetime) -> Values | None:
    """Return what the Comet holds: nothing changes before the deployment, which truncates to 4 decimals."""
    m = state.markets["WTI"]
    scale = 10**m.decimals
    v = {
        "borrowCollateralFactor": m.borrow_factor * 10**14,
        "liquidateCollateralFactor": m.liquidate_factor * 10**14,
        "liquidationFactor": m.liquidation_factor * 10**14,
        "supplyCap": m.supply_cap * scale,
    }
    live = dict(v)
    for a in actions:
        if a.kind == "set":
            if a.value >= (2**128 if a.field == "supplyCap" else 2**64):
                return None
            v[a.field] = a.value
            continue
        if v["borrowCollateralFactor"] >= v["liquidateCollateralFactor"]:
            return None
        if v["liquidateCollateralFactor"] > WAD:
            return None
        packed = {k: x // 10**14 * 10**14 for k, x in v.items()}
        packed["supplyCap"] = v["supplyCap"] // scale * scale
        if packed["borrowCollateralFactor"] >= packed["liquidateCollateralFactor"]:
            return None
        if packed["liquidationFactor"] // 10**14 >= 2**16 or packed["supplyCap"] // scale >= 2**64:
            return None
        live = packed
    return live


def euler(state: Any, actions: Any, at: datetime) -> Values | None:  # noqa: C901 - a plain chain
    """Return what the vault holds; a ramp upwards is refused, the current value is on its ramp."""
    m, now = state.markets["WTI"], int(at.timestamp())
    v = {"borrow": m.borrow_ltv, "liquidation": m.liquidation_ltv}
    start, target, end, ramp = m.initial_ltv, m.liquidation_ltv, m.target_time, m.ramp
    vault = state.vaults[m.collateral]
    v["supply"] = vault.supply_cap
    for a in actions:
        if a.kind == "caps":
            if max(a.supply_cap, a.borrow_cap) >= 2**16:
                return None
            for raw in (a.supply_cap, a.borrow_cap):
                if raw and 10 ** (raw % 64) * (raw // 64) // 100 > 2**112 - 1:
                    return None
            v["supply"] = a.supply_cap
            continue
        current = target
        if now < end and target < start:
            current = target + (start - target) * (end - now) // ramp
        if a.borrow_ltv > a.liquidation_ltv or a.liquidation_ltv > 10_000:
            return None
        if a.liquidation_ltv >= current and a.ramp > 0:
            return None
        if a.ramp >= 2**32:
            return None
        start, target, end, ramp = current, a.liquidation_ltv, now + a.ramp, a.ramp
        v["borrow"], v["liquidation"] = a.borrow_ltv, a.liquidation_ltv
    return v


def kamino(state: Any, actions: Any, _: datetime) -> Values | None:
    """Return the reserve after one instruction per field, each of which is validated alone."""
    m = state.markets["WTI"]
    v = {
        "loan_to_value": m.loan_to_value,
        "liquidation_threshold": m.liquidation_threshold,
        "min_bonus": m.min_bonus,
        "max_bonus": m.max_bonus,
        "deposit_limit": m.deposit_limit,
    }
    widths = {
        "loan_to_value": 1,
        "liquidation_threshold": 1,
        "min_bonus": 2,
        "max_bonus": 2,
        "deposit_limit": 8,
    }
    for a in actions:
        if a.value >= 256 ** widths[a.field]:
            return None
        v[a.field] = a.value
        if v["loan_to_value"] >= 100 or v["loan_to_value"] > v["liquidation_threshold"]:
            return None
        if v["liquidation_threshold"] > 100 or v["min_bonus"] > v["max_bonus"] or v["max_bonus"] > 10_000:
            return None
    return v


def marginfi(state: Any, actions: Any, _: datetime) -> Values | None:  # noqa: C901 - a plain chain
    """Return the bank after each partial configuration."""
    m = state.markets["WTI"]
    names = ("asset_weight_init", "asset_weight_maint", "liability_weight_init", "liability_weight_maint")
    v = {n: getattr(m, n) for n in (*names, "deposit_limit")}
    one = 2**48
    for a in actions:
        for n in v:
            if getattr(a, n) is not None:
                v[n] = getattr(a, n)
        if v["deposit_limit"] >= 2**64:
            return None
        if v["asset_weight_init"] > one or v["asset_weight_init"] > v["asset_weight_maint"]:
            return None
        if v["asset_weight_maint"] > 2 * one or v["liability_weight_maint"] < one:
            return None
        if v["liability_weight_init"] < v["liability_weight_maint"]:
            return None
        if m.risk_tier == "Isolated" and (v["asset_weight_init"] or v["asset_weight_maint"]):
            return None
    return v


def maker(state: Any, actions: Any, _: datetime) -> Values | None:
    """Return what holds: the poked ratio, the penalty and the ceiling; bounds of the helper library."""
    m = state.markets["WTI"]
    filed = m.mat * 10**23
    v = {"ratio": m.poked * 10**23, "chop": 10**18 + m.chop * 10**14, "line": m.line * 10**45}
    for a in actions:
        if a.kind == "poke":
            v["ratio"] = filed
        elif a.what == "mat":
            if not 10**27 <= a.value < 10**28:
                return None
            filed = a.value
        elif a.what == "chop":
            if not 10**18 <= a.value < 2 * 10**18:
                return None
            v["chop"] = a.value
        else:
            if a.value >= 2**256:
                return None
            v["line"] = a.value
    return v


def morpho(state: Any, actions: Any, at: datetime) -> Values | None:
    """Return the vault's caps, those that wait for the timelock included."""
    m = state.markets["WTI"]
    caps, waiting = dict(m.caps), {}
    for k, s in m.submitted.items():
        if s.valid_at <= at:
            caps[k] = s.cap
        else:
            waiting[k] = s.cap
    for a in actions:
        k = str(a.lltv)
        if a.lltv not in state.enabled or k in waiting or a.cap == caps.get(k, 0) or a.cap >= 2**184:
            return None
        if a.cap < caps.get(k, 0) or state.timelock_seconds == 0:
            caps[k] = a.cap
        else:
            waiting[k] = a.cap
    return {f"cap {k}": x for k, x in caps.items()} | {f"waiting {k}": x for k, x in waiting.items()}
