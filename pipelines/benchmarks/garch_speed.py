"""Speed and agreement of the GARCH engine beside the cold ``arch`` loop, measured side by side in one run."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.forecast.garch_arch import ArchEstimator
from calibrator.forecast.garch_estimation import STATUS, fit_windows
from calibrator.forecast.garch_filter import filter_variance
from calibrator.forecast.garch_parameters import Errors, GarchParameters, Spec, Status

Vector = npt.NDArray[np.float64]
CHOICES: Final[tuple[tuple[Spec, Errors], ...]] = (
    ("garch", "normal"),
    ("garch", "t"),
    ("gjr", "t"),
    ("egarch", "t"),
    ("gjr", "skewt"),
)
LENGTHS: Final = (500, 1000, 2000)
BATCH: Final = 20
"""Windows of one series and length that are timed together."""
REFIT_LENGTH: Final = 1000
REFIT_RESTART: Final = 50
REFIT_ROUNDS: Final = 5
TOLERANCE: Final = 1e-4
"""Relative shortfall of the log-likelihood that counts as worse."""


class Batch(NamedTuple):
    """Windows of one series and length: what both estimators said, and how long they took (seconds)."""

    ours: pd.DataFrame
    theirs: list[GarchParameters]
    forecasts: Vector
    engine_seconds: float
    arch_seconds: float


def simulated_returns(*, nu: float, rows: int, seed: int) -> Vector:
    """Return percent returns of a GARCH(1,1) with Student-t errors: omega 0.02, alpha 0.1, beta 0.88.

    Examples
    --------
    >>> simulated_returns(nu=3.0, rows=3, seed=1).round(3).tolist()
    [0.161, -0.56, -0.252]
    """
    rng = np.random.default_rng(seed)
    out, variance = np.empty(rows), 1.0
    for t, z in enumerate(rng.standard_t(nu, rows) * math.sqrt((nu - 2.0) / nu)):
        out[t] = math.sqrt(variance) * z
        variance = 0.02 + 0.1 * out[t] ** 2 + 0.88 * variance
    return out


def default_returns(*, seed: int) -> dict[str, Vector]:
    """Return percent returns of ``arch``'s S&P 500, NASDAQ and WTI and of simulated heavy tails.

    Examples
    --------
    >>> {name: len(r) for name, r in default_returns(seed=1).items()}
    {'S&P 500': 5030, 'NASDAQ': 5030, 'WTI': 8320, 'simulated t(3)': 6000, 'simulated t(2.5)': 6000}
    """
    from arch.data import nasdaq, sp500, wti  # noqa: PLC0415 - importing arch takes seconds

    prices = {
        "S&P 500": sp500.load()["Adj Close"],
        "NASDAQ": nasdaq.load()["Adj Close"],
        "WTI": wti.load().iloc[:, 0],
    }
    out = {name: 100.0 * np.diff(np.log(p[p > 0].to_numpy())) for name, p in prices.items()}
    for nu in (3.0, 2.5):
        out[f"simulated t({nu:g})"] = simulated_returns(nu=nu, rows=6000, seed=seed)
    return out


def market_returns(bars: pd.DataFrame, *, markets: int) -> dict[str, Vector]:
    """Return percent returns per bar of the markets with the most bars, in alphabetical order among equals.

    Parameters
    ----------
    bars : pandas.DataFrame
        Conforming ``Bars``.
    markets : int
        How many; those with fewer than 2,002 bars are left out.

    Examples
    --------
    >>> from calibrator.data.synthetic import synthetic_bars
    >>> bars = synthetic_bars(["A", "B"], periods=2500, seed=1)
    >>> {name: len(r) for name, r in market_returns(bars, markets=1).items()}
    {'A': 2499}
    """
    count = bars.groupby("market")["close"].count().sort_index()
    enough = count[count > max(LENGTHS) + 1].sort_values(ascending=False, kind="stable")
    return {
        str(name): 100.0 * np.diff(np.log(bars.loc[bars["market"] == name, "close"].to_numpy(float)))
        for name in enough.index[:markets]
    }


def run(
    returns: Mapping[str, Vector] | None = None,
    *,
    windows: int = 2000,
    refits: int = 1000,
    seed: int = 20_080_915,
    clock: Callable[[], float] = time.process_time,
) -> pd.DataFrame:
    """Measure every model on random windows and on daily refits.

    Batches of 20 windows alternate between ``arch`` (a loop of cold fits) and the engine (one call, three
    starts, one thread); ratios are medians over the batches. The refits slide a window of 1,000 rows day by
    day over the first series, warm with a cold restart every 50; the ``arch`` loop is extrapolated from
    20 evenly spaced cold fits, half-way between the restarts.

    Parameters
    ----------
    returns : mapping of str to ndarray, optional
        Series added to :func:`default_returns`, in percent, more than 2,000 rows each (crypto, for example).
    windows : int
        Random windows per model, rounded up to whole batches; lengths 500, 1000 and 2000 in turn.
    refits : int
        Daily refits per model, at least 5, at most the first series' length less 1,001.
    seed : int
        Of the windows and of the simulated series.
    clock : callable
        Seconds; the engine's counts do not depend on it (arch's vary a little from run to run: SLSQP).

    Returns
    -------
    pandas.DataFrame
        One row per model: sample, milliseconds, ratios, shares of windows whose log-likelihood is below and
        above arch's by more than 1e-4 relative, windows not converged (both), median and 99 % relative gap of
        the next-day variance where both converged at the same likelihood, and the same for the refits.

    Examples
    --------
    >>> table = run(windows=20, refits=5)
    >>> print(table[["model", "windows", "below_arch", "refits"]].tail(1).to_string(index=False))
        model  windows  below_arch  refits
    gjr_skewt       20         0.0       5
    """
    series = {**default_returns(seed=seed), **(returns or {})}
    rows = []
    for spec, errors in CHOICES:
        rng = np.random.default_rng(seed)  # the same windows for every model
        _ = fit_windows(next(iter(series.values())), np.zeros(1, np.int64), length=500, choice=(spec, errors))
        batches = []
        for number in range(-(-windows // BATCH)):
            values = list(series.values())[number % len(series)]
            length = LENGTHS[(number // len(series)) % len(LENGTHS)]
            starts = rng.integers(0, len(values) - length, BATCH)
            batches.append(_measure(values, starts, length, (spec, errors), clock))
        first = next(iter(series.values()))
        rows.append(
            {
                "model": f"{spec}_{errors}",
                **_summary(batches),
                **_refits(first, refits, (spec, errors), clock),
            }
        )
    return pd.DataFrame(rows)


def _measure(
    values: Vector,
    starts: npt.NDArray[np.int64],
    length: int,
    choice: tuple[Spec, Errors],
    clock: Callable[[], float],
) -> Batch:
    spec, errors = choice
    reference = ArchEstimator()
    begin = clock()
    theirs = [reference(values[s : s + length], spec=spec, errors=errors) for s in starts]
    middle = clock()
    ours = fit_windows(values, starts, length=length, choice=choice)
    end = clock()
    forecasts = np.array(
        [
            (_next_variance(window, _parameters(row, choice)), _next_variance(window, fit))
            for window, row, fit in zip(
                (values[s : s + length] for s in starts), ours.to_numpy(), theirs, strict=True
            )
        ]
    )
    return Batch(ours, theirs, forecasts, end - middle, middle - begin)


def _parameters(row: Vector, choice: tuple[Spec, Errors]) -> GarchParameters:
    mu, omega, alpha, gamma, beta, nu, skew, loglikelihood = row[:STATUS].tolist()
    status = Status(int(row[STATUS]))
    return GarchParameters(*choice, mu, omega, alpha, gamma, beta, nu, skew, loglikelihood, status)


def _next_variance(window: Vector, parameters: GarchParameters) -> float:
    return float(filter_variance(window, parameters, start=float(np.var(window)))[-1])


def _summary(batches: list[Batch]) -> dict[str, float]:
    ours = pd.concat([b.ours for b in batches], ignore_index=True)
    theirs = [fit for b in batches for fit in b.theirs]
    reference = np.array([fit.loglikelihood for fit in theirs])
    gap = (ours["loglikelihood"].to_numpy() - reference) / np.abs(reference)
    converged = np.array([fit.converged for fit in theirs])
    forecasts = np.concatenate([b.forecasts for b in batches])
    same = converged & (ours["status"] == Status.CONVERGED).to_numpy() & (np.abs(gap) < 1e-6)
    apart = np.abs(forecasts[same, 0] / forecasts[same, 1] - 1.0)
    return {
        "windows": len(ours),
        "arch_ms": 1e3 * float(np.median([b.arch_seconds / BATCH for b in batches])),
        "engine_ms": 1e3 * float(np.median([b.engine_seconds / BATCH for b in batches])),
        "ratio": float(np.median([b.arch_seconds / max(b.engine_seconds, 1e-12) for b in batches])),
        "below_arch": float(np.mean(gap < -TOLERANCE)),
        "above_arch": float(np.mean(gap > TOLERANCE)),
        "not_converged": int((ours["status"] != Status.CONVERGED).sum()),
        "arch_not_converged": int((~converged).sum()),
        "same_optimum": float(np.mean(same)),
        "forecast_gap_median": float(np.median(apart)),
        "forecast_gap_99": float(np.quantile(apart, 0.99)),
    }


def _refits(
    values: Vector, refits: int, choice: tuple[Spec, Errors], clock: Callable[[], float]
) -> dict[str, float]:
    spec, errors = choice
    starts = np.arange(refits)
    every = max(refits // BATCH, 1)
    sample = starts[every // 2 :: every]  # between the cold restarts
    reference, cold, warm = ArchEstimator(), [], []
    walk = pd.DataFrame()
    theirs: dict[int, GarchParameters] = {}
    for part in np.array_split(sample, REFIT_ROUNDS):
        begin = clock()
        for s in part:
            theirs[int(s)] = reference(values[s : s + REFIT_LENGTH], spec=spec, errors=errors)
        middle = clock()
        walk = fit_windows(values, starts, length=REFIT_LENGTH, choice=choice, restart=REFIT_RESTART)
        warm.append((clock() - middle) / refits)
        cold.append((middle - begin) / len(part))
    ours = {s: _parameters(walk.iloc[s].to_numpy(), choice) for s in theirs}
    reached = np.array([[ours[s].loglikelihood, theirs[s].loglikelihood] for s in theirs])
    gap = (reached[:, 0] - reached[:, 1]) / np.abs(reached[:, 1])
    return {
        "refits": refits,
        "refit_ms": 1e3 * float(np.median(warm)),
        "refit_ratio": float(np.median(cold) / max(float(np.median(warm)), 1e-12)),
        "refit_constrained": int((walk["status"] == Status.CONSTRAINED).sum()),
        "refit_not_converged": int((~walk["status"].isin([Status.CONVERGED, Status.CONSTRAINED])).sum()),
        "refit_sample": len(sample),
        "refit_below_arch": float(np.mean(gap < -TOLERANCE)),
        "refit_lost_next_day": _lost_next_day(values, ours),
        "arch_lost_next_day": _lost_next_day(values, theirs),
    }


def _lost_next_day(values: Vector, fits: Mapping[int, GarchParameters]) -> float:
    """Share of estimates whose log-likelihood falls by more than 5 % when their window moves by a day."""
    lost = [
        not _loglikelihood(values[s + 1 : s + 1 + REFIT_LENGTH], fit)
        >= fit.loglikelihood - 0.05 * abs(fit.loglikelihood)
        for s, fit in fits.items()
    ]
    return float(np.mean(lost))


def _loglikelihood(window: Vector, fit: GarchParameters) -> float:
    """Log-likelihood of given parameters, by ``arch``; NaN where the recursion overflows."""
    from arch import arch_model  # noqa: PLC0415 - importing arch takes seconds

    volatility = "EGARCH" if fit.spec == "egarch" else "GARCH"
    model = arch_model(window, vol=volatility, o=int(fit.spec != "garch"), dist=fit.errors, rescale=False)
    asymmetry = [] if fit.spec == "garch" else [fit.gamma]
    shape = {"normal": [], "t": [fit.nu], "skewt": [fit.nu, fit.skew]}[fit.errors]
    with np.errstate(all="ignore"):
        fixed = model.fix([fit.mu, fit.omega, fit.alpha, *asymmetry, fit.beta, *shape])
    return float(fixed.loglikelihood)
