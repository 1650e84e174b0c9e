"""Rules with everything in them, and random books of every kind of contract."""

from collections.abc import Callable

import numpy as np
import pytest

from calibrator.netting import (
    AddOnTier,
    CollateralRule,
    CorrelationRange,
    PortfolioRules,
    Scenario,
    UnderlyingRules,
    VolatilityTerm,
)
from calibrator.portfolio.contracts import Contract

SYMBOLS = ("BTC", "ETH", "SOL")
SPOT = {"BTC": 60_000.0, "ETH": 3_000.0, "SOL": 150.0}
MakeRules = Callable[..., PortfolioRules]
MakeContracts = Callable[[np.random.Generator, int], tuple[Contract, ...]]


def rules(*, low_ppm: int = 0, high_ppm: int = 1_000_000, multiple_ppm: int = 1_250_000) -> PortfolioRules:
    moves = (-300_000, -120_000, -80_000, -40_000, 0, 40_000, 80_000, 120_000, 400_000)
    inner = [Scenario(i, state, 0 if state != "down" else 1_000_000, 1_000_000) for i in range(1, 8) for state in ("up", "same", "down")]  # fmt: skip # noqa: E501
    ends = [Scenario(i, "up", 0, 350_000) for i in (0, 8)]
    own = tuple(
        UnderlyingRules(
            symbol=symbol,
            moves_ppm=moves,
            volatility_up_ppm=400_000,
            volatility_down_ppm=250_000,
            close_out_seconds=86_400,
            basis_ppm=2_000,
            funding_ppm=1_000,
            naked_option_ppm=10_000,
            concentration=(AddOnTier(0, 0), AddOnTier(1_000_000, 20_000), AddOnTier(5_000_000, 50_000)),
        )
        for symbol in SYMBOLS
    )
    pairs = tuple(
        CorrelationRange(a, b, low_ppm, high_ppm)
        for a, b in (("BTC", "ETH"), ("BTC", "SOL"))  # ETH and SOL: no offset
    )
    pool = (
        CollateralRule("ETH", "arbitrum", 150_000, "ETH"),
        CollateralRule("ETH", "mainnet", 100_000, "ETH"),
        CollateralRule("USDC", "mainnet", 10_000, None),
    )
    return PortfolioRules(
        "USD", multiple_ppm, VolatilityTerm(300_000, 130_000, 1), (*inner, *ends), own, pairs, pool
    )


def contract(rng: np.random.Generator) -> Contract:
    symbol = SYMBOLS[rng.integers(3)]
    kind = ("spot", "perpetual", "future", "call", "put")[rng.integers(5)]
    price = SPOT[symbol] * float(1 + rng.normal(0, 0.005))
    years = float(rng.choice([2 / 365, 30 / 365, 0.25]))
    if kind in {"spot", "perpetual"}:
        return Contract(symbol, kind, price)
    if kind == "future":
        return Contract(symbol, kind, price, years=years)
    strike = SPOT[symbol] * float(np.exp(rng.normal(0, 0.15)))
    coin = SPOT[symbol] if rng.random() < 0.5 else None
    return Contract(
        symbol, kind, price, strike=strike, years=years, volatility=float(rng.uniform(0.3, 1.2)), coin=coin
    )


@pytest.fixture(scope="session")
def make_rules() -> MakeRules:
    return rules


@pytest.fixture(scope="session")
def make_contracts() -> MakeContracts:
    return lambda rng, count: tuple(contract(rng) for _ in range(count))
