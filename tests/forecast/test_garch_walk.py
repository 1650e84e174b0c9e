"""A walk of EGARCH estimates: where the recursion is invertible it is followed, elsewhere the fit is held."""

import math

import numpy as np
import pandas as pd
import pytest
from arch import arch_model
from arch.data import sp500

from calibrator.forecast.garch_estimation import EngineEstimator, fit_windows
from calibrator.forecast.garch_filter import filter_variance
from calibrator.forecast.garch_parameters import GarchParameters, Status


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    return 100 * np.diff(np.log(sp500.load()["Adj Close"].to_numpy()))


def growth_of(fit: pd.Series, window: np.ndarray) -> float:
    """Spell out how an EGARCH's filter magnifies an error, per row."""
    variance = filter_variance(
        window,
        GarchParameters("egarch", "t", *(fit[n] for n in ("mu", "omega", "alpha", "gamma", "beta"))),
        start=float(np.var(window)),
    )
    z = (window[1:] - fit["mu"]) / np.sqrt(variance[:-1])
    return float(np.mean(np.log(np.abs(fit["beta"] - 0.5 * (fit["alpha"] * np.abs(z) + fit["gamma"] * z)))))


def test_an_egarch_walk_stays_where_the_recursion_is_invertible(returns: np.ndarray) -> None:
    starts = np.arange(600, 1000, 4)
    cold = fit_windows(returns, starts, length=1000, choice=("egarch", "t"))
    walk = fit_windows(returns, starts, length=1000, choice=("egarch", "t"), restart=25)
    rough = cold["status"] == Status.NOT_CONVERGED
    held = walk["status"] == Status.CONSTRAINED
    assert rough.sum() > 30
    assert (walk["status"].eq(Status.CONVERGED) | held).all()
    assert walk.loc[held, "alpha"].eq(0.0).all()
    assert not walk.loc[~held, "alpha"].eq(0.0).any()
    gap = (walk["loglikelihood"] - cold["loglikelihood"]) / cold["loglikelihood"].abs()
    assert gap[~rough].min() > -1e-3
    assert (gap[~rough] > -1e-5).mean() > 0.9
    assert gap[rough].min() > -0.02  # what a chaotic likelihood seems to offer on top
    assert walk["steps"].sum() < 0.15 * cold["steps"].sum()
    for table, wanted in ((walk, 0.0), (cold[~rough], 0.0), (cold[rough], math.inf)):
        for place, fit in table.iterrows():
            assert growth_of(fit, returns[starts[place] : starts[place] + 1000]) < wanted


def test_a_chaotic_end_means_nothing_one_day_later(returns: np.ndarray) -> None:
    starts = np.arange(800, 900, 10)
    ends = {
        restart: fit_windows(returns, starts, length=1000, choice=("egarch", "t"), restart=restart)
        for restart in (1, 25)
    }
    lost = {}
    for restart, fits in ends.items():
        names = ["mu", "omega", "alpha", "gamma", "beta", "nu"]
        later = [
            arch_model(returns[s + 1 : s + 1001], vol="EGARCH", o=1, dist="t", rescale=False)
            .fix(fits.loc[i, names].to_numpy())
            .loglikelihood
            for i, s in enumerate(starts)
        ]
        lost[restart] = np.median(fits["loglikelihood"] - later)
    assert lost[25] < 20 < lost[1]


def test_an_egarch_without_an_optimum_is_estimated_with_alpha_at_or_above_zero(
    returns: np.ndarray,
) -> None:
    calm = returns[800:1800]
    free = fit_windows(calm, np.array([0]), length=1000, choice=("egarch", "t")).iloc[0]
    kept = EngineEstimator()(calm, spec="egarch", errors="t")
    assert free["status"] == Status.NOT_CONVERGED
    assert free["alpha"] < 0
    assert kept.status is Status.CONSTRAINED
    assert kept.converged
    assert kept.alpha == 0
    assert kept.loglikelihood == pytest.approx(free["loglikelihood"], rel=0.01)
