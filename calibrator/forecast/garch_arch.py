"""The reference estimator: one cold fit through the ``arch`` package."""

import warnings
from typing import Final

import numpy as np
import numpy.typing as npt

from calibrator.forecast.garch_parameters import Errors, GarchParameters, Spec, Status

_VOLATILITY: Final = {"garch": ("GARCH", 0), "gjr": ("GARCH", 1), "egarch": ("EGARCH", 1)}


def is_degenerate(returns: npt.NDArray[np.float64]) -> bool:
    """Return whether a series carries no variance to model: not finite, constant, or overflowing.

    Examples
    --------
    >>> is_degenerate(np.ones(300)), is_degenerate(np.array([1.0, -1.0, 2.0])), is_degenerate(np.array([]))
    (True, False, True)
    """
    if len(returns) == 0 or not np.isfinite(returns).all():
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        variance = np.var(returns)
        size = np.max(np.abs(returns)) ** 2
    return not (np.isfinite(variance) and variance > 1e-18 * size)


class ArchEstimator:
    """Maximum likelihood by ``arch``: SLSQP with numerical derivatives from the best point of a grid.

    The returns should be in percent; nothing is rescaled. The convergence flag is checked, never ignored.

    Examples
    --------
    >>> from arch.data import sp500
    >>> returns = 100 * np.log(sp500.load()["Adj Close"]).diff().to_numpy()[-1000:]
    >>> fit = ArchEstimator()(returns, spec="garch", errors="normal")
    >>> fit.status.name, round(fit.persistence, 2), round(fit.loglikelihood, 1)
    ('CONVERGED', 0.95, -1107.4)
    """

    def __call__(self, returns: npt.NDArray[np.float64], *, spec: Spec, errors: Errors) -> GarchParameters:
        """Estimate one window of returns in percent, shape (n,)."""
        nan = float("nan")
        if is_degenerate(returns):
            return GarchParameters(spec, errors, nan, nan, nan, nan, nan, status=Status.DEGENERATE)
        from arch import arch_model  # noqa: PLC0415 - importing arch takes seconds

        volatility, asymmetric = _VOLATILITY[spec]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arch warns where it does not converge; the flag says the same
            model = arch_model(
                returns, mean="Constant", vol=volatility, o=asymmetric, dist=errors, rescale=False
            )
            result = model.fit(disp="off", show_warning=False)
        values = dict(zip(result.params.index, result.params.to_numpy(), strict=True))
        finite = all(np.isfinite(v) for v in values.values()) and np.isfinite(result.loglikelihood)
        return GarchParameters(
            spec,
            errors,
            mu=float(values["mu"]),
            omega=float(values["omega"]),
            alpha=float(values["alpha[1]"]),
            gamma=float(values.get("gamma[1]", 0.0)),
            beta=float(values["beta[1]"]),
            nu=float(values.get("eta" if errors == "skewt" else "nu", 0.0)),
            skew=float(values.get("lambda", 0.0)),
            loglikelihood=float(result.loglikelihood),
            status=Status.CONVERGED if result.convergence_flag == 0 and finite else Status.NOT_CONVERGED,
        )
