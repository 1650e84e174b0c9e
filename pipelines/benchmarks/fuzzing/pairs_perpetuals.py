"""Random states and updates of the perpetual protocols."""

from random import Random
from typing import Any

from calibrator.publish.adapters import brackets, derive, drift, dydx, gmx, hyperliquid, synthetix
from pipelines.benchmarks.fuzzing.values import Pair, market, near

SYMBOLS = ("NASDAQ", "SPX")


def of_dydx(rng: Random, state: Any) -> Pair:
    """Tiers and moves of markets between them."""

    def call() -> Any:
        if rng.random() < 0.2:
            held = state.markets[rng.choice(SYMBOLS)]
            changed = {"liquidity_tier": rng.choice((0, 7, 8, 9))}
            if rng.random() < 0.1:
                changed["market_id"] = 1
            return dydx.Move(perpetual=held.model_copy(update=changed))
        number = rng.choice(("0", "7", "8"))
        lower = near(rng, 0, 2**64, low=0, high=10**13)
        fields = {
            "name": state.tiers[number].name if rng.random() < 0.95 else "other",
            "initial_margin_ppm": near(rng, 0, 1_000_000, 1, low=0, high=1_000_000),
            "maintenance_fraction_ppm": near(rng, 0, 1_000_000, 1, low=0, high=1_000_000),
            "impact_notional": near(rng, 0, 1, 2**64, low=1, high=10**10),
            "open_interest_lower_cap": lower,
            "open_interest_upper_cap": near(rng, 0, lower, low=lower, high=lower + 10**14),
        }
        id_ = int(number) if rng.random() < 0.95 else 9
        return dydx.SetTier(id=id_, tier=state.tiers["7"].model_copy(update=fields))

    return state, tuple(call() for _ in range(rng.choice((1, 1, 2))))


def of_gmx(rng: Random, state: Any) -> Pair:
    """Factors and caps through both roads."""
    state = state.model_copy(update={"route": rng.choice(("keeper", "keeper", "oracle"))})
    one = gmx.ONE
    for symbol in SYMBOLS:
        opening = rng.randint(1, 50) * one // 1_000
        closing = min(opening, one // 100) * rng.randint(1, 10) // 10
        fields = {"min_collateral_factor": opening, "min_collateral_factor_for_liquidation": closing}
        state = market(state, symbol, **fields)

    def call() -> Any:
        held = state.markets[rng.choice(SYMBOLS)]
        key = rng.choice(list(gmx.KEYS))
        bounds: tuple[int, ...] = (
            0,
            one // 100,
            one // 20,
            held.min_collateral_factor,
            held.min_collateral_factor_for_liquidation,
        )
        if key.startswith("MAX"):
            bounds = (0, 1, 2**256)
        value = near(rng, *bounds, low=0, high=one * 6 // 100)
        return gmx.SetUint(to=state.executor, market=held.market, key=key, value=value)

    return state, tuple(call() for _ in range(rng.choice((1, 1, 2))))


def of_synthetix(rng: Random, state: Any) -> Pair:
    """Liquidation parameters and caps."""
    one = synthetix.ONE

    def call() -> Any:
        held = state.markets[rng.choice(SYMBOLS)]
        if rng.random() < 0.25:
            value = near(rng, 0, 2**256, low=0, high=10**26)
            return synthetix.SetMaxValue(to=state.proxy, market=held.market, value=value)
        fields = {
            "minimum_initial_margin_ratio": near(rng, 0, one, low=0, high=one),
            "maintenance_margin_scalar": near(rng, 0, one, low=0, high=one),
        }
        if rng.random() < 0.05:
            fields["flag_reward_ratio"] = 0
        parameters = held.liquidation.model_copy(update=fields)
        return synthetix.SetLiquidation(to=state.proxy, market=held.market, parameters=parameters)

    return state, tuple(call() for _ in range(rng.choice((1, 1, 2))))


def of_derive(rng: Random, state: Any) -> Pair:
    """Set requirements of perpetuals and factors of base assets."""
    one = derive.ONE

    def call() -> Any:
        if rng.random() < 0.3:
            factor, scale = (near(rng, 0, one, low=0, high=one) for _ in range(2))
            return derive.SetBase(to=state.manager, market=30, factor=factor, scale=scale)
        initial = near(rng, 0, one, low=0, high=one)
        maintenance = near(rng, 0, initial, low=0, high=initial)
        market_ = state.markets[rng.choice(SYMBOLS)].market
        return derive.SetPerp(to=state.manager, market=market_, maintenance=maintenance, initial=initial)

    return state, tuple(call() for _ in range(rng.choice((1, 1, 2))))


def of_drift(rng: Random, state: Any) -> Pair:
    """Ratios, weights and caps, beside fees, spreads and the high-leverage mode."""
    for symbol in SYMBOLS:
        high = rng.choice((0, 300))
        fields = {
            "liquidator_fee": rng.choice((0, 10_000, 60_000)),
            "max_spread": rng.choice((0, 10_000, 90_000)),
            "high_leverage_initial": high,
            "high_leverage_maintenance": high // 2,
        }
        state = market(state, symbol, **fields)
    state = market(state, "WTI", index=0 if rng.random() < 0.1 else 40)

    def call() -> Any:
        kind = rng.choice(("margin", "margin", "weights", "interest"))
        held = state.markets[rng.choice(SYMBOLS)]
        if kind == "margin":
            bounds = (125, 300, 100, 600, 900, 10_000)
            initial = near(rng, *bounds, low=0, high=10_000)
            maintenance = near(rng, 150, initial, *bounds, low=0, high=initial)
            return drift.SetMargin(market=held.market, initial=initial, maintenance=maintenance)
        if kind == "interest":
            amount = near(rng, 0, held.step_size, 2**64, low=0, high=10**8) * rng.choice((1, held.step_size))
            return drift.SetInterest(market=held.market, amount=amount)
        spot = state.markets["WTI"]
        initial = near(rng, 0, 7_000, 10_000, low=0, high=10_000)
        return drift.SetWeights(
            market=spot.market,
            initial_asset=initial,
            maintenance_asset=near(rng, initial, 10_000, low=initial, high=10_001),
            initial_liability=rng.choice((13_000, 13_000, 13_000, 11_000, 10_000)),
            maintenance_liability=rng.choice((12_000, 12_000, 12_000, 10_000, 9_999)),
            imf=rng.choice((3_000, 3_000, 3_000, 1_000_000)),
        )

    return state, tuple(call() for _ in range(rng.choice((1, 1, 2))))


def of_hyperliquid(rng: Random, state: Any) -> Pair:
    """Insert tables, assign them, set caps."""
    coins = ["cal:NASDAQ", "cal:SPX", "cal:OTHER"]

    def call() -> Any:
        kind = rng.choice(("insert", "assign", "caps"))
        if kind == "insert":
            count = near(rng, 0, 3, low=1, high=3)
            bounds = sorted(rng.sample(range(1, 100), count))
            bounds[:1] = [near(rng, 0, low=0, high=0)] if bounds else []
            levers = sorted((near(rng, 1, 50, low=1, high=50) for _ in bounds), reverse=True)
            rows = zip(bounds, levers, strict=True)
            tiers = tuple(hyperliquid.Leverage(lower_bound=b, max_leverage=x) for b, x in rows)
            return hyperliquid.InsertTable(description="", tiers=tiers)
        chosen = rng.sample(coins[: 3 if rng.random() < 0.1 else 2], rng.choice((1, 2)))
        chosen = sorted(chosen) if rng.random() < 0.9 else chosen
        if kind == "caps":
            return hyperliquid.SetCaps(caps=tuple((c, near(rng, 0, low=0, high=10**8)) for c in chosen))
        tables = tuple((c, near(rng, 0, 50, 51, 52, low=1, high=60)) for c in chosen)
        return hyperliquid.SetTables(tables=tables)

    return state, tuple(call() for _ in range(rng.choice((1, 1, 2, 3))))


def of_brackets(rng: Random, state: Any) -> Pair:
    """One symbol's brackets, mostly contiguous and ordered."""
    count = rng.randint(1, 4)
    ends = [*sorted(rng.sample(range(1, 50_000_000), count - 1)), 50_000_000]
    floor, rows = near(rng, 0, low=0, high=0) if rng.random() < 0.1 else 0, []
    leverage, maintenance = near(rng, 0, 125, low=1, high=125), rng.randint(0, 9_000)
    for end in ends:
        limit = 1_000_000 // max(leverage, 1)
        maintenance = near(rng, maintenance, limit, low=maintenance, high=max(maintenance, limit))
        cap = end if rng.random() < 0.97 else end + 1
        rows.append(brackets.Bracket(floor=floor, cap=cap, leverage=leverage, maintenance_ppm=maintenance))
        floor, leverage = end, near(rng, leverage, low=1, high=max(1, leverage))
    symbol = state.markets[rng.choice(SYMBOLS)].symbol
    return state, (brackets.SetBrackets(symbol=symbol, brackets=tuple(rows)),)
