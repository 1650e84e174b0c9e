"""A Prometheus textfile about the jobs of a home: ``home/metrics.prom``, for node_exporter's collector."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from pipelines.ledger import Ledger
from pipelines.store import save

NAME: Final = "metrics.prom"
HELP: Final = {
    "calibrator_job_last_start_timestamp_seconds": "When a job last started.",
    "calibrator_job_last_success_timestamp_seconds": "When a job last ended well.",
    "calibrator_job_last_exit_code": "How a job last ended (0 well, see the README).",
    "calibrator_job_last_duration_seconds": "How long a job last took.",
    "calibrator_jobs_total": "Jobs by how they ended.",
    "calibrator_data_as_of_timestamp_seconds": "As-of of the last job that ended well.",
    "calibrator_alarms": "Alarms that stand, by kind and consequence.",
    "calibrator_document_sequence": "Sequence of the published document.",
    "calibrator_document_expires_timestamp_seconds": "When the published document expires.",
    "calibrator_coverage_ratio": "Share of losses that the margin covered in the backtest.",
    "calibrator_stale_markets": "Markets whose input is stale.",
    "calibrator_metrics_timestamp_seconds": "When this file was written.",
}


def label(name: str, **labels: str) -> str:
    r"""Return a series' name with its labels, escaped as the text format wants.

    Examples
    --------
    >>> label("calibrator_alarms", kind='a"b')
    'calibrator_alarms{kind="a\\"b"}'
    """
    if not labels:
        return name
    escaped = {k: v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for k, v in labels.items()}
    return name + "{" + ",".join(f'{k}="{v}"' for k, v in escaped.items()) + "}"


def write_metrics(home: Path, ledger: Ledger, gauges: Mapping[str, float], *, now: datetime) -> Path:
    """Write the file; gauges that this job did not measure keep their last value.

    Parameters
    ----------
    home : pathlib.Path
    ledger : Ledger
        Source of everything about jobs and alarms.
    gauges : mapping
        Series with labels (see :func:`label`) to values; their names are keys of :data:`HELP`.
    now : datetime
    """
    series = _kept(home / NAME) | dict(gauges) | dict(_jobs(ledger)) | dict(_alarms(ledger))
    series["calibrator_metrics_timestamp_seconds"] = now.timestamp()
    lines = []
    for name, text in HELP.items():
        own = {k: v for k, v in sorted(series.items()) if k.partition("{")[0] == name}
        if own:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
            lines += [f"{k} {float(v)!r}" for k, v in own.items()]
    return save(home / NAME, "\n".join(lines) + "\n")


def _kept(path: Path) -> dict[str, float]:
    """Return the gauges of the file as it is, less those that the ledger tells anew."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = [line.rsplit(" ", 1) for line in lines if line and not line.startswith("#")]
    return {k: float(v) for k, v in pairs if not k.startswith(("calibrator_job", "calibrator_alarms"))}


def _jobs(ledger: Ledger) -> Iterator[tuple[str, float]]:
    rows = ledger.rows()
    for state in sorted({r.state for r in rows}):
        for name in sorted({r.job for r in rows if r.state == state}):
            count = sum(r.state == state and r.job == name for r in rows)
            yield label("calibrator_jobs_total", job=name, state=state), count
    for name in sorted({r.job for r in rows}):
        own = [r for r in rows if r.job == name]
        yield label("calibrator_job_last_start_timestamp_seconds", job=name), own[0].started.timestamp()
        ended = [r for r in own if r.ended is not None and r.exit_code is not None]
        for row in ended[:1]:
            yield label("calibrator_job_last_exit_code", job=name), float(row.exit_code or 0)
            seconds = (row.ended or row.started) - row.started
            yield label("calibrator_job_last_duration_seconds", job=name), seconds.total_seconds()
        for row in [r for r in ended if r.exit_code == 0][:1]:
            when = (row.ended or row.started).timestamp()
            yield label("calibrator_job_last_success_timestamp_seconds", job=name), when
            if row.as_of is not None:
                yield label("calibrator_data_as_of_timestamp_seconds", job=name), row.as_of.timestamp()


def _alarms(ledger: Ledger) -> Iterator[tuple[str, float]]:
    for alarm in ledger.standing():
        yield label("calibrator_alarms", kind=alarm["kind"], action=alarm["action"]), 1.0
