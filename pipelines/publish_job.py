"""``publish`` and ``refresh`` as jobs: once per document, and never by who was overtaken."""

from datetime import datetime
from pathlib import Path

from calibrator.config import Config
from calibrator.publish.canonical import digest as sha256
from calibrator.publish.document import encode
from pipelines.alarms import as_live
from pipelines.jobs import Now, job, log
from pipelines.publishing import Published, approval_rule, in_force, made_by_run, publish_run, renew
from pipelines.tracked_publication import track_proposal, track_signatures


def publish(
    config: Config, *, home: Path, as_of: datetime | None, now: Now, approver: Path | None
) -> Published:
    """Publish what a run has made and not published, as a job of the ledger.

    Parameters
    ----------
    config : Config
        The run's configuration; champion and standing alarms are put over it, as the run did.
    home : pathlib.Path
    as_of : datetime, optional
        Of which run; default: the newest.
    now : callable
        The clock.
    approver : pathlib.Path, optional
        The second key's PEM file.

    Raises
    ------
    CalibratorError
        As :func:`pipelines.publishing.publish_run`; what was published stays in force.
    """
    with job("publish", config, home=home, as_of=as_of, now=now) as work:
        live = as_live(config, home, work.ledger)
        source, document = made_by_run(live, home, as_of)
        content = sha256(encode(document))
        before = work.identify(
            live, as_of=document.issued_at, data=content, valid=lambda _: in_force(home) == document
        )
        if before is not None:
            return Published(document, new=False, source=source)
        work.facts |= {"document": content, "sequence": document.sequence}
        last = in_force(home)
        with work.track(config.tracking) as tracked:
            try:
                work.fence()
                done = publish_run(live, document, source=source, home=home, clock=now(), approver=approver)
            finally:
                track_proposal(tracked, document, last, approval_rule(config))
            track_signatures(tracked, home)
        work.facts |= {"files": [str(source.relative_to(home))], "published": True}
        work.gauges["calibrator_document_sequence"] = float(document.sequence)
        work.gauges["calibrator_document_expires_timestamp_seconds"] = document.expires_at.timestamp()
        log(
            "published" if done.new else "unchanged",
            job="publish",
            row=work.token,
            sequence=document.sequence,
        )
        return done


def refresh(config: Config, *, home: Path, now: Now) -> None:
    """Sign what is in force once more, as a job of the ledger.

    Raises
    ------
    PublishError
        Nothing is published, or as :func:`pipelines.publishing.renew`.
    """
    with (
        job("refresh", config, home=home, as_of=None, now=now) as work,
        work.track(config.tracking) as tracked,
    ):
        work.fence()
        renew(config, home=home, clock=now())
        document = in_force(home)
        if document is not None:
            work.facts |= {"document": sha256(encode(document)), "sequence": document.sequence}
        track_signatures(tracked, home)
