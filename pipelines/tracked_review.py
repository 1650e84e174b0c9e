"""What ``review`` logs: the page, what was decided, and every gate; and where."""

from datetime import datetime
from typing import Any

from calibrator.config_tracking import TrackingConfig
from pipelines.ledger import Ledger, Row
from pipelines.report.contest import draw_contest
from pipelines.report.figures import png_files
from pipelines.tracked import columns_of_rows
from pipelines.tracking import Run


def retraining_of(ledger: Ledger, as_of: datetime) -> Row | None:
    """Return the row of the job that held the last retraining of a date; None for one of another home."""
    rows = ledger.rows(state="done") + ledger.rows(state="lost")
    return max(
        (row for row in rows if row.as_of == as_of and "promoted" in row.facts),
        key=lambda row: row.id,
        default=None,
    )


def settings_of(row: Row | None) -> TrackingConfig:
    """Return where a job was logged; nowhere if it was not, or if its address holds a password."""
    kept = None if row is None else row.facts.get("tracking")
    return TrackingConfig(enabled=False) if kept is None else TrackingConfig.model_validate(kept)


def track_review(tracked: Run, content: dict[str, Any], row: Row | None) -> None:
    """Log the decision and what it rests on.

    Parameters
    ----------
    tracked : Run
    content : dict
        Of ``contest.json``.
    row : Row or None
        Of the retraining.
    """
    if not tracked.listens:
        return
    winner, champion = content["winner"], content["champion"] or {}
    tracked.set_tags(
        {
            "decision": f"promoted {winner}" if winner else "the champion stays",
            "champion": champion.get("id", ""),
            "retraining_row": "" if row is None else row.id,
            "retraining_run": "" if row is None else row.facts.get("mlflow_run") or "",
        }
    )
    tracked.log_params({k: content[k] for k in ("first", "last", "decisions")})
    bars = content["bars"]
    profile = {k: bars[k] for k in ("rows", "markets", "first", "last")}
    tracked.log_dataset("bars", digest=bars["digest"], source="configuration", profile=profile)
    tracked.log_figures(png_files(draw_contest(content)))
    for verdict in content["verdicts"]:
        name = verdict["name"]
        child = tracked.child(f"challenger {name}", tags={"kind": "challenger", "model_id": verdict["model"]})
        child.log_metrics({"qlike": verdict["qlike"], "champion qlike": verdict["champion_qlike"]})
        child.log_table("gates", columns_of_rows(verdict["gates"]))
        child.log_table("changes", columns_of_rows([_flat(c) for c in verdict["changes"]]))


def _flat(change: dict[str, Any]) -> dict[str, Any]:
    terms = {f"{name} bps": value for name, value in change["terms_bps"].items()}
    return {k: v for k, v in change.items() if k != "terms_bps"} | terms
