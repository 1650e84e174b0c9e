"""Structured logs: one event per line, as text or as JSON."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

Style = Literal["text", "json", "none"]


class Lines(logging.Formatter):
    """Formats a record and its fields.

    Examples
    --------
    >>> record = logging.LogRecord("pipelines", logging.INFO, "", 0, "started", (), None)
    >>> record.created, record.fields = 0.0, {"job": "run", "row": 3}
    >>> Lines("json").format(record)
    '{"time": "1970-01-01T00:00:00+00:00", "level": "INFO", "event": "started", "job": "run", "row": 3}'
    >>> Lines("text").format(record)
    '1970-01-01T00:00:00+00:00 INFO started job=run row=3'
    """

    def __init__(self, style: Style) -> None:
        super().__init__()
        self.kind = style

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds")
        fields = {k: _plain(v) for k, v in getattr(record, "fields", {}).items()}
        if record.exc_info:
            fields["error"] = repr(record.exc_info[1])
        if self.kind == "json":
            head = {"time": time, "level": record.levelname, "event": record.getMessage()}
            return json.dumps(head | fields)
        told = "".join(f" {k}={v}" for k, v in fields.items())
        return f"{time} {record.levelname} {record.getMessage()}{told}".replace("\n", " ")


def start_logs(style: str) -> None:
    """Send the product's log to stderr (``text``, ``json`` or ``none``); a second call replaces the first."""
    root = logging.getLogger("pipelines")
    root.handlers = [h for h in root.handlers if not isinstance(h.formatter, Lines)]
    if style == "none":
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines("json" if style == "json" else "text"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float | bool | list | dict) else str(value)
