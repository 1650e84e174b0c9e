"""The error tree: every way the world can be wrong, and the exit code a command ends with.

A wrong *argument* is the caller's bug and raises :class:`ValueError`. A wrong *world* (a file, a market, a
key, a protocol's rule) raises one of the classes below. Every message names the thing, the rule, the actual
value and the place.
"""

from typing import ClassVar


class CalibratorError(Exception):
    """Base of every error that the calibrator raises about the world.

    Attributes
    ----------
    exit_code : int
        What a command returns when it ends with this error.

    Examples
    --------
    >>> CalibratorError.exit_code, ConfigError.exit_code, StaleDataError.exit_code
    (9, 2, 4)
    """

    exit_code: ClassVar[int] = 9


class ConfigError(CalibratorError):
    """The configuration cannot be used: unknown key, value out of bounds, missing file."""

    exit_code = 2


class DataError(CalibratorError):
    """Input data break a rule of their frame."""

    exit_code = 3


class StaleDataError(DataError):
    """The newest bar is older than the configuration allows; the last good parameters stay in force."""

    exit_code = 4


class FetchError(DataError):
    """A venue cannot be reached or refuses; what was fetched before is as it was."""

    exit_code = 4


class ChangedError(DataError):
    """Bytes are not those of their checksum, or a venue changed a file that is in use."""


class ForecastError(CalibratorError):
    """A forecaster cannot produce a forecast."""

    exit_code = 5


class ConvergenceError(ForecastError):
    """An estimator did not converge and has no earlier parameters to fall back to."""


class InfeasibleScheduleError(CalibratorError):
    """Floors, caps, ordering and limits leave no schedule; the message names the binding rules."""

    exit_code = 5


class LockError(CalibratorError):
    """Another process holds the home folder."""

    exit_code = 6


class DeadlineError(CalibratorError):
    """A job was not done in time; nothing was published, the last good parameters stay in force."""

    exit_code = 10


class PublishError(CalibratorError):
    """A document cannot be written or read."""

    exit_code = 8


class SignatureError(PublishError):
    """A signature is missing, wrong, or by an unknown or revoked key."""

    exit_code = 7


class ExpiredError(PublishError):
    """A document or the repository's metadata is past its expiry."""

    exit_code = 7


class RollbackError(PublishError):
    """The offered version is older than one that was trusted, or implausibly far ahead of it."""

    exit_code = 7


class ConstraintError(PublishError):
    """The target protocol would refuse, clip or distort the update; the message names the rule."""

    exit_code = 5


class ApprovalError(PublishError):
    """A move of the published parameters needs the approval of a second key."""

    exit_code = 5
