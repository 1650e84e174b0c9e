"""A small market and its walk-forward design, made once."""

import pandas as pd
import pytest

from calibrator.config import Config
from calibrator.data.synthetic import synthetic_bars

SMALL = {
    "data": {"source": "embedded", "bar": "1d"},
    "forecast": {
        "horizon": 1, "cadence": 1, "har_window": 400, "garch_window": 300, "learner_refit": 150,
        "garch_refit": 120, "learner_seeds": 1,
    },
    "regime": {"window": 365, "min_window": 120},
    "margin": {"close_out": 1, "tail_window": 300, "tail_min": 60, "plan_steps": 3},
}  # fmt: skip


@pytest.fixture(scope="session")
def config() -> Config:
    return Config.model_validate(SMALL)


@pytest.fixture(scope="session")
def daily() -> pd.DataFrame:
    """Daily bars of three markets; the third is listed in the middle."""
    bars = synthetic_bars(["AAA", "BBB", "CCC"], periods=640, bar="1D", seed=11)
    late = (bars["market"] == "CCC") & (bars["time"] < bars["time"].min() + pd.Timedelta("200D"))
    return bars[~late].reset_index(drop=True)


@pytest.fixture(scope="session")
def no_options() -> pd.DataFrame:
    none = pd.DataFrame({"market": pd.Series(dtype="str"), "implied_volatility": pd.Series(dtype="float64")})
    return none.assign(time=pd.Series(dtype="datetime64[us, UTC]"))
