"""GARCH forecasters: causality, memory, missing rows, horizons; the filter beside its plain twin."""

import math

import numpy as np
import pandas as pd
import pytest
from arch import arch_model
from arch.data import nasdaq, sp500
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrator.forecast.base import walk_forward
from calibrator.forecast.garch import Garch, GarchState
from calibrator.forecast.garch_filter import filter_variance, horizon_variance, shock_growth
from calibrator.forecast.garch_parameters import ERRORS, SPECS, GarchParameters

C = math.sqrt(2 / math.pi)


def market_rows(name: str, close: pd.Series, rows: int) -> pd.DataFrame:
    log_return = np.log(close).diff().tail(rows)
    time = log_return.index.tz_localize("UTC").as_unit("us")
    return pd.DataFrame(
        {"market": name, "time": time, "log_return": log_return.to_numpy(), "realized_variance": 1e-4}
    )


@pytest.fixture(scope="module")
def history() -> pd.DataFrame:
    spx = market_rows("SPX", sp500.load()["Adj Close"], 700)
    ixic = market_rows("IXIC", nasdaq.load()["Adj Close"], 600)
    ixic.loc[ixic.index[[50, 400, 401, 599]], "log_return"] = np.nan
    return pd.concat([ixic, spx], ignore_index=True)


def plain_filter(returns: np.ndarray, p: GarchParameters, start: float) -> list[float]:
    """Spell the recursion out, one row at a time."""
    out, s2 = [], start
    for r in returns:
        e = r - p.mu
        if p.spec == "egarch":
            z = e / math.sqrt(s2)
            news = 0.0 if math.isnan(e) else p.alpha * (abs(z) - C) + p.gamma * z
            s2 = math.exp(p.omega + news + p.beta * math.log(s2))
        elif math.isnan(e):
            s2 = p.omega + p.persistence * s2
        else:
            s2 = p.omega + p.alpha * e**2 + p.gamma * e**2 * (e < 0) + p.beta * s2
        out.append(s2)
    return out


PARAMETERS = {
    "garch": GarchParameters("garch", "normal", mu=0.05, omega=0.02, alpha=0.08, gamma=0.0, beta=0.9),
    "gjr": GarchParameters("gjr", "t", mu=0.02, omega=0.03, alpha=0.01, gamma=0.15, beta=0.88, nu=6.0),
    "egarch": GarchParameters("egarch", "t", mu=0.0, omega=0.01, alpha=0.15, gamma=-0.1, beta=0.97, nu=6.0),
}


@pytest.mark.parametrize("spec", SPECS)
def test_compiled_filter_equals_the_plain_loop(spec: str) -> None:
    returns = np.random.default_rng(1).standard_t(4, 300)
    returns[[3, 4, 100]] = np.nan
    fast = filter_variance(returns, PARAMETERS[spec], start=1.5)
    np.testing.assert_allclose(fast, plain_filter(returns, PARAMETERS[spec], 1.5), rtol=1e-12)


@pytest.mark.parametrize("spec", ["garch", "gjr"])
def test_horizon_variance_equals_archs_analytic_forecast(spec: str) -> None:
    returns = np.random.default_rng(2).standard_t(5, 400)
    p = PARAMETERS[spec]
    model = arch_model(returns, mean="Constant", o=int(spec == "gjr"), rescale=False)
    values = [p.mu, p.omega, p.alpha] + ([p.gamma] if spec == "gjr" else []) + [p.beta]
    expected = model.fix(values).forecast(horizon=7, reindex=False).variance.to_numpy()[0]
    last = filter_variance(returns, p, start=1.0)[-1:]
    assert horizon_variance(last, p, steps=7)[0] == pytest.approx(expected.sum(), rel=1e-9)
    assert horizon_variance(last, p, steps=2.25)[0] == pytest.approx(
        expected[:2].sum() + expected[2] / 4, rel=1e-9
    )


def test_egarch_horizon_variance_equals_the_average_over_bootstrapped_paths() -> None:
    p = PARAMETERS["egarch"]
    returns = np.random.default_rng(3).standard_t(6, 500)
    before = np.concatenate([[1.0], filter_variance(returns, p, start=1.0)[:-1]])
    z = returns / np.sqrt(before)
    growth = shock_growth(returns, p, start=1.0, steps=4)
    expected = horizon_variance(np.array([2.0]), p, steps=5, growth=growth)[0]
    draws = np.random.default_rng(4).choice(z, (4, 200_000))
    log_variance = np.full(200_000, math.log(2.0))
    paths = [np.exp(log_variance)]
    for d in draws:
        log_variance = p.omega + p.alpha * (np.abs(d) - C) + p.gamma * d + p.beta * log_variance
        paths.append(np.exp(log_variance))
    total = np.sum(paths, axis=0)
    assert expected == pytest.approx(total.mean(), abs=5 * total.std() / math.sqrt(200_000))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(SPECS),
    st.floats(0.05, 60.0),
    st.floats(0.05, 60.0),
    st.floats(1e-3, 1e3),
)
def test_variance_rises_with_the_horizon(spec: str, first: float, second: float, variance: float) -> None:
    p = PARAMETERS[spec]
    growth = (0.01,) * 60
    low, high = (
        horizon_variance(np.array([variance]), p, steps=s, growth=growth)[0] for s in sorted((first, second))
    )
    assert 0 < low <= high
    one = horizon_variance(np.array([variance]), p, steps=min(first, 1.0))[0]
    assert one == pytest.approx(variance * min(first, 1.0))


@pytest.mark.parametrize("spec", SPECS)
def test_forecast_at_t_is_bit_identical_without_later_rows(history: pd.DataFrame, spec: str) -> None:
    early = history[history["time"] <= history["time"].iloc[500]]
    model = Garch(spec=spec, errors="t", horizon_steps=3.5).fit(early, early["realized_variance"])
    whole = model.forecast(history)
    for cut in (history["time"].iloc[300], history["time"].iloc[550]):
        seen = history[history["time"] <= cut]
        pd.testing.assert_series_equal(model.forecast(seen), whole[seen.index], check_exact=True)
    assert whole.notna().all()
    assert (whole > 0).all()


def test_walk_forward_is_bit_identical_without_later_rows(history: pd.DataFrame) -> None:
    targets = pd.DataFrame({"future_variance": 1e-4, "known_at": history["time"]})

    def run(rows: pd.DataFrame) -> pd.Series:
        memory: dict[str, GarchState] = {}
        return walk_forward(
            lambda: Garch(spec="gjr", memory=memory), rows, targets.loc[rows.index], refit=100, start=400
        )

    seen = history[history["time"] <= history["time"].iloc[560]]
    whole, part = run(history), run(seen)
    assert part.notna().sum() > 100
    pd.testing.assert_series_equal(part, whole[seen.index], check_exact=True)


def test_markets_do_not_influence_each_other(history: pd.DataFrame) -> None:
    both = Garch(spec="gjr").fit(history, history["realized_variance"]).forecast(history)
    alone = history[history["market"] == "SPX"]
    single = Garch(spec="gjr").fit(alone, alone["realized_variance"]).forecast(alone)
    pd.testing.assert_series_equal(both[alone.index], single, check_exact=True)


def test_a_short_market_has_no_forecast_and_is_no_failure(history: pd.DataFrame) -> None:
    short = history.groupby("market").head(249)
    model = Garch().fit(short, short["realized_variance"])
    assert model.forecast(short).isna().all()
    assert model.failures == {}


def test_a_failed_refit_keeps_the_last_good_parameters_and_says_so(history: pd.DataFrame) -> None:
    memory: dict[str, GarchState] = {}
    target = history["realized_variance"]
    good = Garch(spec="garch", memory=memory).fit(history, target)
    broken = history.assign(log_return=history["log_return"].where(history["market"] != "SPX", 0.01))
    bad = Garch(spec="garch", memory=memory).fit(broken, target)
    assert good.failures == {}
    assert bad.failures == {"SPX": "degenerate: kept the last good parameters"}
    pd.testing.assert_series_equal(bad.forecast(history), good.forecast(history), check_exact=True)
    fresh = Garch(spec="garch").fit(broken, target)
    assert fresh.failures == {"SPX": "degenerate: no parameters"}
    assert fresh.forecast(broken)[broken["market"] == "SPX"].isna().all()


def test_an_estimate_that_did_not_converge_is_never_used(history: pd.DataFrame) -> None:
    tiny = history.assign(log_return=1e-5 * history["log_return"])  # arch loses its way on tiny returns
    model = Garch(estimator="arch").fit(tiny, history["realized_variance"])
    assert model.failures == dict.fromkeys(("IXIC", "SPX"), "not_converged: no parameters")
    assert model.forecast(history).isna().all()


def test_scale_of_the_forecast_is_that_of_the_realized_variance(history: pd.DataFrame) -> None:
    squared = history["log_return"] ** 2
    for spec in SPECS:
        model = Garch(spec=spec, errors="normal", horizon_steps=1.0).fit(history, squared)
        ratio = squared.mean() / model.forecast(history).mean()
        assert ratio == pytest.approx(1.0, abs=0.25), spec


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"spec": "figarch"}, "spec must be one of garch, gjr, egarch, was 'figarch'"),
        ({"errors": "cauchy"}, "errors must be one of normal, t, skewt, was 'cauchy'"),
        ({"horizon_steps": 0.0}, "horizon_steps must be positive and finite, was 0.0"),
        ({"horizon_steps": math.inf}, "horizon_steps must be positive"),
        ({"window": 100}, "window must be at least 250 rows, was 100"),
        ({"estimator": "rugarch"}, "estimator must be one of"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Garch(**options)


def test_names_tell_specification_and_errors() -> None:
    assert {Garch(spec=s, errors=e).name for s in SPECS for e in ERRORS} >= {"gjr_t", "egarch_skewt"}
