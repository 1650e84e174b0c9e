"""The review page of the last retraining."""

import json
from hashlib import sha256
from pathlib import Path

from calibrator.config_jobs import JobsConfig
from calibrator.errors import DataError
from pipelines.jobs import Now, job
from pipelines.report.contest import build_review
from pipelines.retrain import CONTEST
from pipelines.store import save
from pipelines.terminal import parse_time
from pipelines.tracked_review import retraining_of, settings_of, track_review

SETTINGS = sha256(b"the page has no settings").hexdigest()


def write_review(home: Path, *, now: Now) -> Path:
    """Write ``review.html`` beside the newest ``contest.json`` of a home, and return its path.

    The page is logged in MLflow where its retraining was.

    Parameters
    ----------
    home : pathlib.Path
    now : callable
        The clock.

    Raises
    ------
    DataError
        Nothing was retrained yet, or the file cannot be read.
    """
    with job("review", JobsConfig(), home=home, as_of=None, now=now) as work:
        found = sorted((home / "reviews").glob(f"*/{CONTEST}"))
        if not found:
            raise DataError(f"review: {home / 'reviews'} has no {CONTEST}; run `retrain` first")
        raw, path = found[-1].read_bytes(), found[-1].with_name("review.html")
        history, alarms = work.ledger.decisions(), work.ledger.standing()
        try:
            content = json.loads(raw)
            as_of = parse_time(content["as_of"])
            data = sha256(raw + json.dumps([history, alarms]).encode()).hexdigest()
            if work.identify(SETTINGS, as_of=as_of, data=data) is not None:
                return path
            page = build_review(content, history=history, alarms=alarms)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise DataError(f"{found[-1]}: not the outcome of a retraining: {error!r}") from error
        row = retraining_of(work.ledger, as_of)
        with work.track(settings_of(row)) as tracked:
            work.fence()
            save(path, page)
            work.facts["files"] = [str(path.relative_to(home))]
            tracked.log_artifacts({path.name: page.encode(), CONTEST: raw})
            track_review(tracked, content, row)
        return path
