"""What a fetch logs: what was asked for, what came, and what is wrong with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from calibrator.config_fetch import FetchSource
from pipelines.fetch import Fetched
from pipelines.fetch_report import quality
from pipelines.tracked import columns_of, columns_of_rows
from pipelines.tracking import Run

SECRET: Final = {"headers", "base", "options", "files"}
"""What of a source may hold a key or a path of this machine."""


def track_sources(tracked: Run, sources: Sequence[FetchSource]) -> None:
    """Log a child per source with what is asked of it; no addresses, headers or options (keys)."""
    for source in sources:
        child = tracked.child(f"source {source.name}", tags={"kind": "source", "feed": source.feed})
        names = {"files": ", ".join(Path(path).name for path in source.files)}
        child.log_params(source.model_dump(mode="json", by_alias=True, exclude=SECRET) | names)


def track_fetched(tracked: Run, fetched: Sequence[Fetched], folder: Path) -> None:
    """Log rows and digest of every source, findings by rule, and the manifests."""
    if not tracked.listens:
        return
    rows = [_row(one) for one in fetched]
    for one, row in zip(fetched, rows, strict=True):
        profile = {k: row[k] for k in ("rows", "markets", "first", "last")}
        tracked.log_dataset(one.source, digest=one.digest, source=one.feed, profile=profile)
        counts = {f"rows/{one.source}": float(row["rows"]), f"asked/{one.source}": float(one.asked)}
        tracked.log_metrics(counts)
    found = pd.concat([quality(one) for one in fetched], ignore_index=True)
    by_rule = found.groupby("rule")["count"].sum()
    tracked.log_metrics({f"findings/{rule}": float(count) for rule, count in by_rule.items()})
    tracked.log_metrics({"findings": float(len(found)), "rows": float(sum(r["rows"] for r in rows))})
    tracked.log_table("sources", columns_of_rows(rows))
    tracked.log_table("findings", columns_of(found))
    manifests = [folder / "manifests" / f"{one.source}.json" for one in fetched]
    tracked.log_artifacts({f"manifests/{path.name}": path.read_bytes() for path in manifests})


def _row(one: Fetched) -> dict[str, Any]:
    times = one.frame["time"]
    first, last = (f"{t:%Y-%m-%d %H:%M}" if len(times) else "" for t in (times.min(), times.max()))
    return {
        "source": one.source,
        "feed": one.feed,
        "rows": len(one.frame),
        "markets": int(one.frame["market"].nunique()),
        "first": first,
        "last": last,
        "asked": one.asked,
        "digest": one.digest,
        "file": one.path.name,
    }
