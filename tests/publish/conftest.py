"""Documents that the tests of publishing share, built from plain integers."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from calibrator.publish.canonical import digest
from calibrator.publish.document import (
    CollateralParameters,
    HaircutParameters,
    ParameterDocument,
    PerpetualParameters,
    PlannedHaircut,
    PlannedMargin,
    TierParameters,
    encode,
)
from pipelines.benchmarks.attack_stage import Stage

START = datetime(2025, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
Perpetual = Callable[..., PerpetualParameters]
Collateral = Callable[..., CollateralParameters]
Document = Callable[..., ParameterDocument]


def perpetual(symbol: str = "BTC-USD", maintenance: int = 50_000, **changes: object) -> PerpetualParameters:
    fields: dict[str, object] = {
        "symbol": symbol,
        "regime": "CALM",
        "stress_probability_ppm": 12_000,
        "volatility_ppm": 31_000,
        "status": "fresh",
        "reasons": (),
        "close_out_bars": 24,
        "level_ppm": 990_000,
        "previous_ppm": None,
        "attribution": {"volatility": maintenance - 1_000, "tail": 1_000},
        "margins": (
            TierParameters(
                notional_floor=0, initial_margin_ppm=2 * maintenance, maintenance_margin_ppm=maintenance
            ),
            TierParameters(
                notional_floor=10**18, initial_margin_ppm=3 * maintenance, maintenance_margin_ppm=maintenance
            ),
        ),
        "plan": (
            PlannedMargin(
                effective_from=START + 2 * DAY,
                initial_margin_ppm=2 * maintenance + 10,
                maintenance_margin_ppm=maintenance + 5,
            ),
        ),
    }
    return PerpetualParameters.model_validate(fields | changes)


def collateral(symbol: str = "ETH", haircut_ppm: int = 200_000, **changes: object) -> CollateralParameters:
    fields: dict[str, object] = {
        "symbol": symbol,
        "regime": "STRESS",
        "stress_probability_ppm": 512_000,
        "volatility_ppm": 81_000,
        "status": "fresh",
        "reasons": ("speed limit",),
        "close_out_bars": 24,
        "level_ppm": 990_000,
        "previous_ppm": 190_000,
        "attribution": {"volatility": haircut_ppm - 190_000},
        "haircut": HaircutParameters(
            haircut_ppm=haircut_ppm,
            loan_to_value_ppm=690_000,
            liquidation_threshold_ppm=720_000,
            liquidation_penalty_ppm=50_000,
            debt="USDC",
            location="mainnet",
        ),
        "plan": (
            PlannedHaircut(
                effective_from=START + 3 * DAY, loan_to_value_ppm=685_000, liquidation_threshold_ppm=715_000
            ),
        ),
    }
    return CollateralParameters.model_validate(fields | changes)


def document(sequence: int = 1, **changes: object) -> ParameterDocument:
    fields: dict[str, object] = {
        "sequence": sequence,
        "protocol": "demo",
        "issued_at": START,
        "valid_from": START,
        "expires_at": START + 7 * DAY,
        "previous_digest": None if sequence == 1 else "a" * 64,
        "config_digest": "b" * 64,
        "data_digest": "c" * 64,
        "model_digests": {"har": "d" * 64},
        "bar_seconds": 3_600,
        "horizon_bars": 24,
        "markets": (perpetual(), collateral()),
    }
    return ParameterDocument.model_validate(fields | changes)


@pytest.fixture
def make_perpetual() -> Perpetual:
    return perpetual


@pytest.fixture
def make_collateral() -> Collateral:
    return collateral


@pytest.fixture
def make_document() -> Document:
    return document


@pytest.fixture
def payload() -> bytes:
    return encode(document())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def follow() -> Callable[[ParameterDocument], ParameterDocument]:
    def make(previous: ParameterDocument) -> ParameterDocument:
        return document(previous.sequence + 1, previous_digest=digest(encode(previous)))

    return make


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage.build(tmp_path_factory.mktemp("template"))


@pytest.fixture
def stage(template: Stage, tmp_path: Path) -> Stage:
    return template.copy(tmp_path / "stage")
