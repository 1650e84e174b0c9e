"""Where a run puts its files, how they are digested, and how they are written so that none is ever torn."""

import hashlib
import io
import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from calibrator.config import Config
from calibrator.config_data import FEED_KINDS
from calibrator.errors import PublishError
from calibrator.publish.storage import write_atomically


def run_name(as_of: datetime) -> str:
    """Return the name of a run's folder.

    Examples
    --------
    >>> run_name(datetime(2019, 1, 4, tzinfo=UTC))
    '20190104T000000Z'
    """
    return as_of.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def run_folder(home: Path, as_of: datetime) -> Path:
    """Return (and create) ``home/runs/<as-of>``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as home:
    ...     run_folder(Path(home), datetime(2019, 1, 4, tzinfo=UTC)).name
    '20190104T000000Z'
    """
    folder = home / "runs" / run_name(as_of)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublishError(f"{folder}: cannot be created: {error.strerror}") from error
    return folder


def save(path: Path, content: bytes | str) -> Path:
    """Write a file atomically (temporary file, sync, rename)."""
    write_atomically(path, content.encode() if isinstance(content, str) else content)
    return path


def save_json(path: Path, content: object) -> Path:
    """Write a JSON file with sorted keys."""
    return save(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def save_frame(path: Path, frame: pd.DataFrame) -> Path:
    """Write a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return save(path, buffer.getvalue())


def config_digest(config: Config) -> str:
    """Digest a configuration and the software's version; files count by name (their content has a digest).

    Examples
    --------
    >>> config = Config.model_validate({"data": {"source": "embedded", "bar": "1d"}})
    >>> len(config_digest(config))
    64
    """
    spelled = config.model_dump(mode="json", by_alias=True)
    for kind in ("bars", "confirm", *FEED_KINDS):
        for entry in spelled["data"][kind]:
            entry["path"] = Path(entry["path"]).name
    for entry in (*spelled["backtest"]["liquidations"], *(spelled["backtest"]["vaults"] or {}).values()):
        if isinstance(entry, dict):
            entry["path"] = Path(entry["path"]).name
    for section in ("tracking", "fetch", "jobs", "compute", "retrain"):  # how it runs, not what comes out
        spelled.pop(section)
    spelled["software"] = version("calibrator")
    text = json.dumps(spelled, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
