"""Real option chains: what an exchange marks is what Black-76 says, and back."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calibrator.portfolio.black76 import greeks, price
from calibrator.portfolio.contracts import Contract, table
from calibrator.portfolio.implied import MOST_STEPS, implied_volatility
from calibrator.portfolio.surface import surface

pytestmark = pytest.mark.realdata
YEAR = 365 * 86_400


@pytest.fixture(scope="module")
def chain() -> pd.DataFrame:
    folder = os.environ.get("CALIBRATOR_DATA")
    if not folder:
        pytest.skip("CALIBRATOR_DATA names no folder of historical files")
    quotes = pd.read_parquet(Path(folder) / "options" / "deribit_chains_daily.parquet")
    quotes = quotes.assign(
        years=(quotes["expiry"] - quotes["time"]).dt.total_seconds() / YEAR,
        call=quotes["option_type"] == "call",
        **{c: quotes[c].astype(float) for c in ("mark_iv", "mark_price", "delta", "vega")},
    )
    return quotes[quotes["years"] > 0]


def test_marks_in_coin_are_black_76_over_the_forward(chain: pd.DataFrame) -> None:
    forward = chain["underlying_price"]
    ours = price(forward, chain["strike"], chain["mark_iv"], chain["years"], call=chain["call"]) / forward
    apart = np.abs(ours - chain["mark_price"])
    assert (apart < 1e-3).mean() > 0.999
    assert apart.quantile(0.95) < 1.05e-4  # the marks move between the fields of one snapshot


def test_an_inverse_contract_is_worth_its_mark_in_coin_times_the_price(chain: pd.DataFrame) -> None:
    near = chain[(chain["mark_price"] > 0.01) & (chain["currency"] == "BTC")].iloc[:200]
    contracts = tuple(
        Contract(
            "BTC",
            "call" if q.call else "put",
            q.underlying_price,
            strike=q.strike,
            years=q.years,
            volatility=q.mark_iv,
            coin=q.index_price,
        )
        for q in near.itertuples()
    )
    made = table(contracts, ("BTC",))
    assert made.value == pytest.approx((near["mark_price"] * near["index_price"]).to_numpy(), rel=0.02)


def test_published_greeks_agree(chain: pd.DataFrame) -> None:
    ours = greeks(
        chain["underlying_price"], chain["strike"], chain["mark_iv"], chain["years"], call=chain["call"]
    )
    assert np.abs(ours.delta - chain["delta"]).quantile(0.99) < 0.01
    large = chain["vega"] > 1  # quote currency per volatility point
    ratio = (ours.vega / 100)[large.to_numpy()] / chain["vega"][large]
    assert ratio.quantile([0.01, 0.99]).to_numpy() == pytest.approx([1.0, 1.0], abs=0.03)


def test_marks_invert_to_the_published_volatility(chain: pd.DataFrame) -> None:
    forward = chain["underlying_price"]
    value = chain["mark_price"] * forward
    found = implied_volatility(value, forward, chain["strike"], chain["years"], call=chain["call"])
    assert found.steps.max() <= MOST_STEPS
    assert (found.solved == np.isfinite(found.volatility)).all()
    outside = np.where(chain["call"], chain["strike"] >= forward, chain["strike"] <= forward)
    clear = found.solved & outside & (chain["mark_price"] > 1e-3).to_numpy()
    assert clear.sum() > 15_000
    apart = np.abs(found.volatility - chain["mark_iv"])[clear]
    assert (apart.median() < 1e-4, apart.quantile(0.99) < 5e-3) == (True, True)


def test_a_days_chain_makes_a_surface_that_meets_its_marks(chain: pd.DataFrame) -> None:
    day = chain[(chain["currency"] == "BTC") & (chain["time"] == chain["time"].min())]
    made = surface(day["years"], day["strike"], day["mark_iv"], day["underlying_price"])
    assert len(made.smiles) >= 8
    for smile in made.smiles:
        assert made.volatility(smile.years, smile.strikes, forward=smile.forward) == pytest.approx(
            smile.volatilities
        )
    assert len(made.findings()) <= 10  # a handful among hundreds of quotes, reported and not repaired
