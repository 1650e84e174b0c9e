"""Maximum-likelihood estimation of many GARCH windows at once: the fast twin of ``arch``."""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from calibrator.forecast.garch_engine import OUT_COLUMNS, fit_block
from calibrator.forecast.garch_parameters import (
    ERRORS,
    SPECS,
    Errors,
    GarchParameters,
    Spec,
    Status,
    check_choice,
)

COLUMNS: Final = ["mu", "omega", "alpha", "gamma", "beta", "nu", "skew", "loglikelihood", "status", "steps"]
STATUS: Final = COLUMNS.index("status")
MIN_LENGTH: Final = 20


def fit_windows(
    returns: npt.NDArray[np.float64],
    starts: npt.NDArray[np.int64],
    *,
    length: int,
    choice: tuple[Spec, Errors],
    restart: int = 1,
    threads: int = 1,
) -> pd.DataFrame:
    """Estimate one model on many windows of a series.

    Each window is standardised, so units do not matter; a cold estimation runs from three starts (persistence
    0.985, 0.92 and 0.50) and keeps the best. The likelihood is that of ``arch``: constant mean, the variance
    recursion started from its backcast. No window can hang: loops are capped, NaN fails every comparison.

    Parameters
    ----------
    returns : ndarray, shape (n,)
        One series; percent by convention.
    starts : ndarray of int, shape (w,)
        First row of each window.
    length : int
        Rows in a window, at least 20.
    choice : (spec, errors)
        ``"garch" | "gjr" | "egarch"`` and ``"normal" | "t" | "skewt"``.
    restart : int
        A cold estimation every ``restart`` windows; those between start from the optimum of the window before
        (and are redone cold where that fails). Above 1 only for windows that move in small steps, a walk.
        With 1 every window stands alone and an EGARCH is the highest likelihood found, like that of ``arch``:
        where it is not invertible it is chaotic, its status is ``NOT_CONVERGED`` and it should not be used. A
        walk holds it at an invertible optimum, or at the best one with alpha >= 0 (``CONSTRAINED``).
    threads : int
        Worker threads; the result does not depend on them.

    Returns
    -------
    pandas.DataFrame
        One row per window: mu, omega, alpha, gamma, beta (units of ``returns``), nu and skew (0 where the
        density has none), loglikelihood, status (:class:`Status`) and steps of the optimiser, all float64. A
        degenerate window (not finite, constant, overflowing) has NaN parameters.

    Examples
    --------
    >>> from arch.data import sp500
    >>> r = 100 * np.log(sp500.load()["Adj Close"]).diff().to_numpy()[1:]
    >>> fit = fit_windows(r, np.array([0, 2000]), length=1000, choice=("gjr", "t"))
    >>> fit[["alpha", "gamma", "beta", "nu", "status"]].round(2).to_numpy().tolist()
    [[0.0, 0.18, 0.89, 24.48, 0.0], [0.0, 0.15, 0.91, 6.04, 0.0]]
    """
    spec, errors = choice
    check_choice("spec", spec, SPECS)
    check_choice("errors", errors, ERRORS)
    values = np.ascontiguousarray(returns, dtype=float)
    first = np.ascontiguousarray(starts, dtype=np.int64)
    if length < MIN_LENGTH:
        raise ValueError(f"length must be at least {MIN_LENGTH} rows, was {length}")
    if restart < 1 or threads < 1:
        raise ValueError(f"restart and threads must be at least 1, were {restart} and {threads}")
    if len(first) and not 0 <= first.min() <= first.max() <= len(values) - length:
        raise ValueError(f"windows must lie within the {len(values)} returns")
    out = np.empty((len(first), OUT_COLUMNS))
    code = (SPECS.index(spec), ERRORS.index(errors))
    blocks = -(-len(first) // restart)  # a block starts cold, so blocks do not depend on each other
    cuts = restart * np.linspace(0, blocks, min(threads, max(blocks, 1)) + 1).astype(int)

    def work(part: int) -> None:
        rows = slice(cuts[part], cuts[part + 1])
        fit_block(values, first[rows], length, code, restart, out[rows])

    if threads == 1:
        work(0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(len(cuts) - 1)))
    return pd.DataFrame(out, columns=COLUMNS)


class EngineEstimator:
    """One cold multi-start estimation by the engine, in the shape of :class:`ArchEstimator`.

    An EGARCH without an optimum where it is invertible is the best one with ``alpha >= 0``, and says so
    (:attr:`Status.CONSTRAINED`).

    Examples
    --------
    >>> from arch.data import sp500
    >>> returns = 100 * np.log(sp500.load()["Adj Close"]).diff().to_numpy()[-1000:]
    >>> fit = EngineEstimator()(returns, spec="garch", errors="normal")
    >>> fit.status.name, round(fit.persistence, 2), round(fit.loglikelihood, 1)
    ('CONVERGED', 0.95, -1107.4)
    """

    def __call__(self, returns: npt.NDArray[np.float64], *, spec: Spec, errors: Errors) -> GarchParameters:
        """Estimate one window of returns in percent, shape (n,)."""
        fit = fit_windows(
            returns, np.zeros(1, np.int64), length=len(returns), choice=(spec, errors), restart=2
        )
        values = fit.to_numpy()
        named = {name: float(v) for name, v in zip(COLUMNS[:STATUS], values[0], strict=False)}
        return GarchParameters(spec, errors, **named, status=Status(int(values[0, STATUS])))
