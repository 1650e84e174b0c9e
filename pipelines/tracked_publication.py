"""What ``publish`` and ``refresh`` log: what changes, who signed it, who approved it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from calibrator.publish.approval import FIELD, Approval, moves
from calibrator.publish.changes import changes
from calibrator.publish.document import ParameterDocument, encode
from pipelines.publishing import DOCUMENT
from pipelines.tracked import columns_of_rows, track_document
from pipelines.tracking import Run

ROLES: Final = ("root", "timestamp", "snapshot", "targets")
NEEDS: Final = "moves that need approval"


def track_proposal(
    tracked: Run, document: ParameterDocument, previous: ParameterDocument | None, rule: Approval
) -> None:
    """Log what is about to be published and what it changes: before, so that a refusal can be understood."""
    track_document(tracked, document)
    tracked.log_artifacts({DOCUMENT: encode(document)})
    if previous is None:
        return
    tracked.set_tags({"previous_sequence": previous.sequence})
    needed = moves(previous, document, rule)
    tracked.log_metrics({NEEDS: float(len(needed))})
    tracked.log_table(NEEDS, {"move": needed})
    found = changes(previous, document)
    tracked.log_metrics({"changes": float(len(found))})
    tracked.log_table("changes", columns_of_rows([asdict(change) for change in found]))


def track_signatures(tracked: Run, home: Path) -> None:
    """Log who signed what is in force: key ids by role, the approver, when each role's metadata expire."""
    if not tracked.listens:
        return
    files = in_force_files(home / "published" / "metadata")
    contents = {role: json.loads(path.read_bytes()) for role, path in files.items()}
    rows = [
        {"role": role, "file": files[role].name, "keyid": s["keyid"], "expires": content["signed"]["expires"]}
        for role, content in contents.items()
        for s in content["signatures"]
    ]
    tracked.log_table("signers", columns_of_rows(rows))
    target: dict[str, Any] = contents["targets"]["signed"]["targets"][DOCUMENT]
    approval = target.get("custom", {}).get(FIELD)
    signers = dict.fromkeys(r["keyid"][:16] for r in rows if r["role"] == "targets")
    tracked.set_tags(
        {
            "signers": ", ".join(signers),
            "approved_by": approval["keyid"][:16] if approval else "nobody",
            "expires": contents["timestamp"]["signed"]["expires"],
        }
    )
    tracked.log_artifacts({f"metadata/{path.name}": path.read_bytes() for path in files.values()})


def in_force_files(folder: Path) -> dict[str, Path]:
    """Return the metadata in force by role: the newest root, and what the timestamp leads to.

    Examples
    --------
    >>> in_force_files(Path("no-such-folder"))
    Traceback (most recent call last):
    ...
    FileNotFoundError: [Errno 2] No such file or directory: 'no-such-folder/timestamp.json'
    """
    stamp = folder / "timestamp.json"
    snapshot = folder / f"{_version(stamp, 'snapshot.json')}.snapshot.json"
    targets = folder / f"{_version(snapshot, 'targets.json')}.targets.json"
    root = max(folder.glob("*.root.json"), key=lambda path: int(path.name.partition(".")[0]))
    return dict(zip(ROLES, (root, stamp, snapshot, targets), strict=True))


def _version(path: Path, of: str) -> int:
    return int(json.loads(path.read_bytes())["signed"]["meta"][of]["version"])
