"""One small production run, challenged and documented, for the tests of what is made from it."""

import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars
from calibrator.frames import FINDINGS, conform
from pipelines.backtesting import backtest
from pipelines.capital import capital
from pipelines.document import Identity, build_document
from pipelines.models import model_digests, model_texts
from pipelines.production import produce
from pipelines.report.page import Review
from pipelines.sensitivity import sensitivity
from pipelines.stress import stress_tests
from pipelines.validation import Validation, tail_tests

HOSTILE = "<b>&$x_1$"
"""A market's name that would break a page, a picture or a path that trusts it."""


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


@pytest.fixture(scope="session")
def review() -> Review:
    """Daily bars of two margined markets and a collateral, 2021 to 2024, and what the run made of them."""
    bars = synthetic_bars(["BTCUSDT", "SOLUSDT", HOSTILE], periods=1250, seed=7, bar="1d")
    config = Config.model_validate(
        {
            "data": {"source": "embedded", "bar": "1d"},
            "forecast": {
                "horizon": 1, "cadence": 1, "learner_refit": 600, "garch_refit": 600, "learner_seeds": 1
            },
            "margin": {"close_out": 1, "tiers": [0, 10_000, 50_000, 200_000]},
            "markets": {"SOLUSDT": {"role": "collateral"}},
            "backtest": {"accounts": {"count": 200}},
        }
    )  # fmt: skip
    none = pd.DataFrame({"market": pd.Series(dtype="str"), "implied_volatility": pd.Series(dtype="float64")})
    implied = none.assign(time=pd.Series(dtype="datetime64[us, UTC]"))
    production = produce(bars, implied, config=config, progress=silent)
    first, last = bars["time"].min(), bars["time"].max()
    found = {"market": "BTCUSDT", "rule": "missing price", "count": 3, "action": "dropped"}
    findings = conform(pd.DataFrame([found | {"first": first, "last": last}]), FINDINGS, source="tests")
    document = build_document(
        production,
        as_of=last.to_pydatetime(),
        stale=set(),
        previous=None,
        identity=Identity("a" * 64, "b" * 64, model_digests(model_texts(production.forecasts))),
    )
    challenged = backtest(production, bars, progress=silent)
    return Review(production, document, challenged, findings, bars, "0.1.0")


@pytest.fixture(scope="session")
def checked(review: Review) -> Validation:
    """The stress tests and the sampled sensitivities of the small run."""
    funds = capital(review.production, review.backtest, review.bars)
    moved_table = sensitivity(review.production, review.backtest, review.bars, progress=silent)
    stressed = stress_tests(review.production, review.backtest, funds)
    return Validation(stressed, moved_table, tail_tests(review.production))
