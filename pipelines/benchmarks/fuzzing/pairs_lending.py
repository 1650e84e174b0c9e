"""Random states and updates of the lending protocols."""

from datetime import timedelta
from random import Random
from typing import Any

from calibrator.publish.adapters import (
    aave,
    compound,
    euler,
    kamino,
    maker,
    marginfi,
    morpho,
)
from pipelines.benchmarks.fuzzing.values import AT, Pair, market, near


def of_aave(rng: Random, state: Any) -> Pair:
    """Make a reserve and a steward's clock; calls of some fields, and caps."""
    bonus = rng.choice((0, 1, 500, 1_000))
    threshold = rng.randint(1_000, 10_000 * 10_000 // (10_000 + bonus))
    held: dict[str, Any] = {
        "liq_threshold": threshold,
        "ltv": threshold - rng.randint(0, 900),
        "liq_bonus": bonus,
        "supply_cap": rng.choice((0, 1, 1_000_000)),
        "restricted": rng.random() < 0.05,
        "frozen": rng.random() < 0.05,
        "changed": {
            k: AT - timedelta(seconds=near(rng, 259_200, low=0, high=600_000))
            for k in ("ltv", "liq_threshold", "liq_bonus", "supply_cap")
            if rng.random() < 0.3
        },
    }
    state = market(state, "WTI", **held).model_copy(
        update={"route": rng.choice(("steward-3.7", "engine-3.7"))}
    )
    move = 50 if state.route.startswith("steward") else 1_000

    def value(name: str) -> int | None:
        old = int(held[name])
        bounds = (old - move, old, old + move, 0)
        return None if rng.random() < 0.4 else near(rng, *bounds, low=max(0, old - move), high=old + move)

    def call() -> Any:
        if rng.random() < 0.25:
            supply = near(rng, 0, 2_000_000, 2**36, low=1, high=2_500_000)
            return aave.Caps(to=state.executor, asset=state.markets["WTI"].asset, supply_cap=supply)
        names = ("ltv", "liq_threshold", "liq_bonus")
        limits = aave.Limits(**{n: value(n) for n in names})
        fee = 0 if rng.random() < 0.03 else None
        asset = state.markets["WTI"].asset
        return aave.Collateral(to=state.executor, asset=asset, limits=limits, liq_protocol_fee=fee)

    return state, tuple(call() for _ in range(rng.choice((1, 1, 2))))


def of_compound(rng: Random, state: Any) -> Pair:
    """Factors in order; setters of some fields, mostly with the deployment."""
    borrow = rng.randint(1, 9_000)
    liquidate = borrow + rng.randint(1, 800)
    held = {
        "borrow_factor": borrow,
        "liquidate_factor": liquidate,
        "liquidation_factor": min(10_000, liquidate + rng.randint(1, 900)),
        "supply_cap": rng.randint(0, 10**6),
    }
    state = market(state, "WTI", **held)
    asset = state.markets["WTI"].asset
    unit = 10**14

    def call() -> Any:
        field: Any = rng.choice(list(compound.SETTERS))
        if field == "supplyCap":
            amount = near(rng, 0, 2**64 * 10**18, 10**18, low=0, high=10**6) * rng.choice((1, 10**18))
            return compound.Set(
                to=state.configurator, comet=state.comet, asset=asset, field=field, value=amount
            )
        steps = near(rng, borrow, liquidate, held["liquidation_factor"], 10_000, low=1, high=10_000)
        amount = steps * unit + (rng.choice((0, 1, unit - 1)) if rng.random() < 0.1 else 0)
        return compound.Set(to=state.configurator, comet=state.comet, asset=asset, field=field, value=amount)

    calls = [call() for _ in range(rng.choice((1, 1, 2)))]
    if rng.random() < 0.9:
        calls.append(
            compound.Deploy(to=state.proxy_admin, configurator=state.configurator, comet=state.comet)
        )
    return state, tuple(calls)


def of_euler(rng: Random, state: Any) -> Pair:
    """Make a pair, perhaps on a ramp; one or two settings."""
    target = rng.randint(100, 9_900)
    end = int(AT.timestamp()) + rng.choice((-1, 0, 1, rng.randint(1, 2_592_000)))
    held = {
        "liquidation_ltv": target,
        "borrow_ltv": rng.randint(1, target),
        "initial_ltv": rng.choice((target, min(10_000, target + rng.randint(0, 900)))),
        "target_time": end,
        "ramp": 2_592_000,
    }
    state = market(state, "WTI", **held)
    pair = state.markets["WTI"]
    now = euler.liquidation_ltv_at(pair, AT)

    def call() -> Any:
        if rng.random() < 0.2:
            raw = near(rng, 0, 64_022, 2**16, low=0, high=2**16)
            return euler.SetCaps(vault=pair.collateral, supply_cap=raw, borrow_cap=6_422)
        liquidation = near(rng, now, target, 10_000, low=1, high=10_000)
        ramp = near(rng, 0, 2_592_000, 2**32, low=0, high=2_592_000) if rng.random() < 0.7 else 0
        return euler.SetLtv(
            vault=pair.vault,
            collateral=pair.collateral,
            borrow_ltv=near(rng, 0, liquidation, low=0, high=liquidation),
            liquidation_ltv=liquidation,
            ramp=ramp,
        )

    return state, tuple(call() for _ in range(rng.choice((1, 1, 2))))


def of_kamino(rng: Random, state: Any) -> Pair:
    """Make a valid reserve; one to three fields."""
    threshold = rng.randint(2, 95)
    bonus = rng.randint(0, (100 * 10_000) // threshold - 10_000)
    held = {
        "loan_to_value": rng.randint(1, min(threshold, 99)),
        "liquidation_threshold": threshold,
        "min_bonus": rng.randint(0, min(bonus, 10_000)),
        "max_bonus": min(bonus, 10_000),
    }
    state = market(state, "WTI", **held)

    def call() -> Any:
        field: Any = rng.choice(
            ("loan_to_value", "liquidation_threshold", "min_bonus", "max_bonus", "deposit_limit")
        )
        bounds = {
            "loan_to_value": (0, held["loan_to_value"], threshold, 100, 256),
            "liquidation_threshold": (0, held["loan_to_value"], threshold, 100, 256),
            "min_bonus": (0, held["min_bonus"], held["max_bonus"]),
            "max_bonus": (held["min_bonus"], held["max_bonus"], 10_000, 65_536),
            "deposit_limit": (0, 2**64),
        }[field]
        high = 100 if field in {"loan_to_value", "liquidation_threshold"} else 1_200
        value = near(rng, *bounds, low=0, high=high)
        return kamino.SetField(reserve=state.markets["WTI"].reserve, field=field, value=value)

    return state, tuple(call() for _ in range(rng.choice((1, 1, 2, 3))))


def of_marginfi(rng: Random, state: Any) -> Pair:
    """Make a bank; some of its fields."""
    one = marginfi.ONE
    tier = "Isolated" if rng.random() < 0.05 else "Collateral"
    state = market(state, "WTI", risk_tier=tier)

    def call() -> Any:
        fields: dict[str, int] = {}
        for name in (*marginfi.WEIGHTS, "deposit_limit"):
            if rng.random() < 0.35:
                bounds: tuple[int, ...] = (
                    0,
                    one * 7 // 10,
                    one * 8 // 10,
                    one,
                    one * 12 // 10,
                    one * 13 // 10,
                    2 * one,
                )
                if name == "deposit_limit":
                    bounds = (0, 2**64, 2**64 - 1)
                fields[name] = near(rng, *bounds, low=0, high=one * 3 // 2)
        return marginfi.Configure(bank=state.markets["WTI"].bank, **fields)

    return state, tuple(call() for _ in range(rng.choice((1, 1, 2))))


def of_maker(rng: Random, state: Any) -> Pair:
    """Make an ilk; files, mostly poked."""
    mat = rng.randint(11_500, 30_000)
    state = market(state, "WTI", mat=mat, poked=mat)

    def call() -> list[Any]:
        what = rng.choice(("mat", "mat", "chop", "line"))
        if what == "mat":
            value = near(rng, 10_000, 11_300, mat, 100_000, low=10_000, high=40_000) * 10**23
            value += rng.choice((0, 0, 0, 1))
            made = [maker.FileIlk(to=state.spotter, ilk="WTI-A", what="mat", value=value)]
            return made + ([maker.Poke(to=state.spotter, ilk="WTI-A")] if rng.random() < 0.9 else [])
        if what == "chop":
            value = 10**18 + near(rng, 0, 10_000, mat - 10_000, low=0, high=5_000) * 10**14
            return [
                maker.FileIlk(to=state.dog, ilk="WTI-A", what="chop", value=value - rng.choice((0, 0, 0, 1)))
            ]
        value = near(rng, 0, low=0, high=10**9) * 10**45
        return [maker.FileIlk(to=state.vat, ilk="WTI-A", what="line", value=value)]

    calls = [one for _ in range(rng.choice((1, 1, 2))) for one in call()]
    return state, tuple(calls)


def of_morpho(rng: Random, state: Any) -> Pair:
    """Caps and pending caps of a few markets; one to three submissions."""
    values = [str(x) for x in (*morpho.ENABLED[1:5], 780 * 10**15)]
    caps = {k: rng.choice((0, 5, 10**12)) for k in rng.sample(values[:4], 2)}
    waiting = {
        k: morpho.Submitted(cap=7, valid_at=AT + timedelta(seconds=rng.choice((-1, 0, 1, 90_000))))
        for k in values[:4]
        if rng.random() < 0.15
    }
    state = market(state, "WTI", caps=caps, submitted=waiting)
    state = state.model_copy(update={"timelock_seconds": rng.choice((0, 86_400))})
    m = state.markets["WTI"]

    def call() -> Any:
        lltv, amount = int(rng.choice(values)), near(rng, 0, 5, 7, 2**184, low=0, high=10**13)
        return morpho.SubmitCap(
            to=state.vault,
            loan=m.loan,
            collateral=m.collateral,
            oracle=m.oracle,
            irm=m.irm,
            lltv=lltv,
            cap=amount,
        )

    return state, tuple(call() for _ in range(rng.choice((1, 1, 2, 3))))
