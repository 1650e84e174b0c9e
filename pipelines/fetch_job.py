"""``fetch`` as a job: its folder is its home, with a ledger of its own beside the snapshots."""

import json
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from calibrator.config_fetch import FetchConfig
from calibrator.config_jobs import JobsConfig
from calibrator.config_tracking import TrackingConfig
from calibrator.data.sources import utc
from calibrator.errors import CalibratorError
from pipelines.fetch import Fetched, run
from pipelines.forecasting import Progress
from pipelines.jobs import Now, job
from pipelines.tracked_fetch import track_fetched, track_sources


def fetch(config: FetchConfig, *, as_of: datetime, now: Now, progress: Progress) -> list[Fetched]:
    """Bring in every source, as a job of the folder's ledger.

    A venue must be asked before anybody knows what it has. A fetch is therefore repeated, not skipped; where
    it ends with the very same rows for the same as-of, settings and code, its row says ``repeated`` and
    nothing has changed. What came, or why nothing did, is logged in MLflow as ``config.tracking`` says; by
    default beside the snapshots.

    Parameters
    ----------
    config : FetchConfig
    as_of : datetime
        Nothing later is asked for.
    now : callable
        The clock.
    progress : callable
        Called with (source, requests done, requests).

    Raises
    ------
    CalibratorError
        What was recorded before is as it was; a rerun goes on from there.
    """
    limits = JobsConfig(lease=config.lease, deadline=config.deadline)
    with job("fetch", limits, home=config.folder, as_of=as_of, now=now) as work:

        def told(what: str, done: int, total: int) -> None:
            """Watch deadline and lease; both strictly before a source's rows are pointed to."""
            if done == total:
                work.fence()
            else:
                work.check()
            progress(what, done, total)

        settings = config.tracking or TrackingConfig()
        try:
            fetched = run(config, now=utc(as_of), progress=told)
        except CalibratorError:
            with work.track(settings) as tracked:
                track_sources(tracked, config.sources)
                raise
        digests = {one.source: one.digest for one in fetched}
        before = work.identify(
            settings_digest(config),
            as_of=as_of,
            data=sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest(),
        )
        paths = [one.path for one in fetched]
        work.facts |= {"files": sorted(str(p.relative_to(config.folder)) for p in paths), "digests": digests}
        if before is None:
            with work.track(settings) as tracked:
                track_sources(tracked, config.sources)
                track_fetched(tracked, fetched, config.folder)
        return fetched


def settings_digest(config: FetchConfig) -> str:
    """Digest what is asked for, not how patiently; files count by name (their content has a digest).

    Examples
    --------
    >>> source = {"name": "x", "feed": "f", "markets": ["A"], "from": "2024-01-01"}
    >>> one, other = (FetchConfig(sources=[source], attempts=n) for n in (1, 2))
    >>> settings_digest(one) == settings_digest(other)
    True
    """
    sources = [source.model_dump(mode="json", by_alias=True) for source in config.sources]
    for spelled in sources:
        spelled["files"] = [Path(path).name for path in spelled["files"]]
    return sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()
