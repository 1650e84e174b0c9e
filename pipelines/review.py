"""The review page of the last retraining."""

import json
from pathlib import Path

from calibrator.errors import DataError
from pipelines.ledger import open_ledger
from pipelines.report.contest import build_review
from pipelines.retrain import CONTEST
from pipelines.store import save


def write_review(home: Path) -> Path:
    """Write ``review.html`` beside the newest ``contest.json`` of a home, and return its path.

    Raises
    ------
    DataError
        Nothing was retrained yet, or the file cannot be read.
    """
    found = sorted((home / "reviews").glob(f"*/{CONTEST}"))
    if not found:
        raise DataError(f"review: {home / 'reviews'} has no {CONTEST}; run `retrain` first")
    with open_ledger(home) as ledger:
        history, alarms = ledger.decisions(), ledger.standing()
    try:
        page = build_review(json.loads(found[-1].read_bytes()), history=history, alarms=alarms)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{found[-1]}: not the outcome of a retraining: {error!r}") from error
    return save(found[-1].with_name("review.html"), page)
