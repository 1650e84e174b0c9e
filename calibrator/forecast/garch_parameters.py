"""What a GARCH estimate is: specification, error density, parameters, and how the estimation ended."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Literal, get_args

Spec = Literal["garch", "gjr", "egarch"]
Errors = Literal["normal", "t", "skewt"]
SPECS: Final[tuple[Spec, ...]] = get_args(Spec)
ERRORS: Final[tuple[Errors, ...]] = get_args(Errors)


class Status(IntEnum):
    """How an estimation ended.

    ``CONSTRAINED`` is an EGARCH whose likelihood rises from alpha = 0 towards a negative alpha until the
    recursion is not invertible: the estimate is the best one with alpha >= 0.

    Examples
    --------
    >>> Status.CONVERGED.name, int(Status.DEGENERATE)
    ('CONVERGED', 2)
    """

    CONVERGED = 0
    NOT_CONVERGED = 1
    DEGENERATE = 2
    CONSTRAINED = 3


@dataclass(frozen=True, slots=True)
class GarchParameters:
    r"""Parameters of a GARCH(1,1), GJR(1,1,1) or EGARCH(1,1,1) with a constant mean, named as in ``arch``.

    With :math:`\epsilon_t = r_t - \mu` and :math:`z_t = \epsilon_t / \sigma_t`,

    .. math::

        \sigma_{t+1}^2 &= \omega + (\alpha + \gamma 1[\epsilon_t < 0]) \epsilon_t^2 + \beta \sigma_t^2 \\
        \ln \sigma_{t+1}^2 &= \omega + \alpha (|z_t| - \sqrt{2 / \pi}) + \gamma z_t + \beta \ln \sigma_t^2

    Attributes
    ----------
    spec : {"garch", "gjr", "egarch"}
        The recursion; the first line above (``gamma`` = 0 for "garch") or the second.
    errors : {"normal", "t", "skewt"}
        Density of ``z``: normal, Student-t, or Hansen's skewed Student-t, all with unit variance.
    mu, omega, alpha, gamma, beta : float
        In units of the returns they were estimated from.
    nu, skew : float
        Degrees of freedom and asymmetry; 0 where the density has none.
    loglikelihood : float
        At these parameters.
    status : Status
        How the estimation ended.

    References
    ----------
    Bollerslev (1986); Glosten, Jagannathan and Runkle (1993); Nelson (1991); Hansen (1994).

    Examples
    --------
    >>> GarchParameters("gjr", "normal", mu=0.0, omega=0.1, alpha=0.05, gamma=0.1, beta=0.85).persistence
    0.95
    """

    spec: Spec
    errors: Errors
    mu: float
    omega: float
    alpha: float
    gamma: float
    beta: float
    nu: float = 0.0
    skew: float = 0.0
    loglikelihood: float = float("nan")
    status: Status = Status.CONVERGED

    @property
    def persistence(self) -> float:
        """Decay of a variance shock per step: ``beta`` (EGARCH) or ``alpha + gamma / 2 + beta``."""
        return self.beta if self.spec == "egarch" else self.alpha + self.gamma / 2 + self.beta

    @property
    def converged(self) -> bool:
        """Whether the estimation ended at an optimum, of the constrained problem where it says so."""
        return self.status in {Status.CONVERGED, Status.CONSTRAINED}


def check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise :class:`ValueError` unless ``value`` is one of ``known``.

    Examples
    --------
    >>> check_choice("spec", "figarch", SPECS)
    Traceback (most recent call last):
    ...
    ValueError: spec must be one of garch, gjr, egarch, was 'figarch'
    """
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, was {value!r}")
