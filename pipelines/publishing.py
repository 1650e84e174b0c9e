"""From a document to the signed repository: its payloads, the second key, the clock."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from calibrator.config import Config
from calibrator.domain import PPM
from calibrator.errors import ApprovalError, ConfigError, PublishError
from calibrator.publish.approval import Approval
from calibrator.publish.constraints import check_update
from calibrator.publish.document import ParameterDocument, decode, encode
from calibrator.publish.keys import create_keys, load_signer
from calibrator.publish.repository import latest, publish, refresh
from pipelines.payloads import payloads_for
from pipelines.store import config_digest, run_name

DOCUMENT = "parameters.json"


@dataclass(frozen=True, slots=True)
class Published:
    """What is in force after publishing.

    Attributes
    ----------
    document : ParameterDocument
    new : bool
        False if it was in force before.
    source : pathlib.Path
        The file that it came from.
    """

    document: ParameterDocument
    new: bool
    source: Path


def publish_document(
    config: Config,
    document: ParameterDocument,
    *,
    home: Path,
    clock: datetime,
    approver: Path | None = None,
) -> bool:
    """Sign a document together with the payloads of the protocol, and publish it.

    Parameters
    ----------
    config : Config
        Says for how long, and which moves need a second key.
    document : ParameterDocument
    home : pathlib.Path
        Keys are made in an empty one.
    clock : datetime
        The publishing clock.
    approver : pathlib.Path, optional
        The second key's PEM file.

    Returns
    -------
    bool
        False if the document was in force before.

    Raises
    ------
    ApprovalError
        A move needs a second key; what was published stays in force.
    ConstraintError
        The target would refuse, clip or misread the update or its plan.
    PublishError
        As `calibrator.publish.repository.publish`.
    """
    if not (home / "keys").exists():
        create_keys(home / "keys")
    if in_force(home) == document:
        return False
    rules, targets = config.publish, payloads_for(config, document)
    approval = replace(approval_rule(config), key=None if approver is None else load_signer(approver))
    try:
        return publish(
            home,
            encode(document),
            now=clock,
            metadata_life=timedelta(days=rules.metadata_days),
            targets=targets,
            approval=approval,
        )
    except ApprovalError as error:
        raise ApprovalError(
            f"{error}. Nothing is published; review it, then `python -m pipelines publish --approve KEY`"
        ) from error


def approval_rule(config: Config) -> Approval:
    """Return which moves need a second key, without one."""
    return Approval(
        max_tightening_ppm=round(config.publish.approve_tightening * PPM),
        max_loosening_ppm=round(config.publish.approve_loosening * PPM),
        min_base_ppm=round(config.margin.limits.min_base * PPM),
    )


def made_by_run(config: Config, home: Path, as_of: datetime | None) -> tuple[Path, ParameterDocument]:
    """Return the document that a run has made, and its file; by default the newest run's.

    Raises
    ------
    ConfigError
        The document was made with another configuration.
    PublishError
        There is no such run.
    """
    source = _newest(home) if as_of is None else home / "runs" / run_name(as_of) / DOCUMENT
    try:
        document = decode(source.read_bytes())
    except OSError as error:
        raise PublishError(f"{source} cannot be read: {error.strerror}") from error
    if document.config_digest != config_digest(config):
        raise ConfigError(f"{source} was made with another configuration or version than the one given")
    return source, document


def publish_run(
    config: Config,
    document: ParameterDocument,
    *,
    source: Path,
    home: Path,
    clock: datetime,
    approver: Path | None,
) -> Published:
    """Publish what a run has made and not published.

    Parameters
    ----------
    config : Config
        The run's.
    document : ParameterDocument
    source : pathlib.Path
        Where it comes from.
    home : pathlib.Path
    clock : datetime
    approver : pathlib.Path, optional

    Raises
    ------
    ConstraintError
        It breaks a rule of updates.
    PublishError
        As `publish_document` says.
    """
    last = in_force(home)
    if document != last:
        limits = config.margin.limits.to_domain()
        check_update(last, document, limits, decisions=_decisions(config, last, document))
    new = publish_document(config, document, home=home, clock=clock, approver=approver)
    return Published(document, new, source)


def renew(config: Config, *, home: Path, clock: datetime) -> None:
    """Sign what is in force once more, so that its metadata do not expire.

    Raises
    ------
    PublishError
        Nothing is published, or as `calibrator.publish.repository.refresh`.
    """
    refresh(home, now=clock, metadata_life=timedelta(days=config.publish.metadata_days))


def in_force(home: Path) -> ParameterDocument | None:
    """Return the document that is published, or None."""
    return latest(home) if (home / "published").exists() else None


def _newest(home: Path) -> Path:
    found = sorted((home / "runs").glob(f"*/{DOCUMENT}"))
    if not found:
        raise PublishError(f"{home / 'runs'} holds no {DOCUMENT}; `python -m pipelines run` makes one")
    return found[-1]


def _decisions(config: Config, last: ParameterDocument | None, document: ParameterDocument) -> int:
    if last is None:
        return 1
    passed = (document.issued_at - last.issued_at).total_seconds()
    return max(1, -int(-passed // (document.bar_seconds * config.forecast.cadence)))
