"""The transport against every fault that a venue has; nothing leaves loopback."""

import ast
import gzip
import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from calibrator.data.asking import Request
from calibrator.data.transport import Limits, Transport
from calibrator.errors import CalibratorError, ChangedError, ConfigError, DataError, FetchError

UNTIL = pd.Timestamp("2024-01-01", tz="UTC")
QUICK = Limits(step=0.3, whole=0.5, attempts=3, wait=0.01, max_wait=0.05, max_bytes=1_000)
BODY = b"1,2,3\n"
SHA = hashlib.sha256(BODY).hexdigest()
ROOT = Path(__file__).parents[2]


def _get(url: str, *, checksum: bool = False, **headers: str) -> bytes | None:
    with Transport(QUICK, headers) as client:
        return client.get(Request("k", url, UNTIL, checksum=f"{url}.CHECKSUM" if checksum else None))


PASSING: dict[str, list[dict[str, Any]]] = {
    "busy": [{"status": 429, "headers": {"Retry-After": "0"}}, {"body": BODY}],
    "broken once": [{"status": 500}, {"status": 503}, {"body": BODY}],
    "cut once": [{"body": BODY[:3], "lacking": 3}, {"body": BODY}],
    "silent once": [{"body": BODY, "delay": 0.6}, {"body": BODY}],
    "date": [
        {
            "status": 503,
            "headers": {
                "Date": "Mon, 01 Jan 2024 00:00:00 GMT",
                "Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT",
            },
        },
        {"body": BODY},
    ],
}


@pytest.mark.parametrize("replies", PASSING.values(), ids=PASSING.keys())
def test_what_passes_is_asked_again(venue: Any, reply: Any, replies: list[dict[str, Any]]) -> None:
    venue.routes["/x.csv"] = [reply(**r) for r in replies]
    assert _get(f"{venue.url}/x.csv") == BODY
    assert len([p for p in venue.asked if p == "/x.csv"]) >= len(replies)


STAYING: dict[str, tuple[dict[str, Any], type[CalibratorError], str, int]] = {
    "broken": ({"status": 500}, FetchError, "the venue answers 500", 3),
    "busy for an hour": (
        {"status": 429, "headers": {"Retry-After": "3600"}}, FetchError, "the venue answers 429", 1
    ),
    "cut": ({"body": BODY, "lacking": 9}, FetchError, "remote protocol error", 3),
    "slow loris": ({"body": BODY * 9, "drip": 0.05}, FetchError, "took more than 0.5 s", 3),
    "silent": ({"body": BODY, "delay": 0.6}, FetchError, "read timeout", 3),
    "forbidden": ({"status": 403, "body": b"no key"}, FetchError, "answers 403: 'no key'", 1),
    "redirect": ({"status": 302, "headers": {"Location": "http://evil/"}}, FetchError, "answers 302", 1),
    "too large": ({"body": b"1" * 1_001}, DataError, "must not exceed 1000 bytes", 1),
    "bomb by encoding": (
        {"body": gzip.compress(b"0" * 100_000), "headers": {"Content-Encoding": "gzip"}},
        DataError, "must not exceed 1000 bytes", 1,
    ),
    "torn encoding": (
        {"body": b"no gzip at all", "headers": {"Content-Encoding": "gzip"}}, FetchError, "decoding error", 3
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fault", "error", "match", "asked"), STAYING.values(), ids=STAYING.keys())
def test_what_stays_is_an_error_after_few_attempts(
    venue: Any, reply: Any, fault: dict[str, Any], error: type[CalibratorError], match: str, asked: int
) -> None:
    venue.routes["/x.csv"] = reply(**fault)
    with pytest.raises(error, match=match) as caught:
        _get(f"{venue.url}/x.csv")
    assert f"{venue.url}/x.csv" in str(caught.value)
    assert len(venue.asked) == asked


def test_what_is_not_there_is_none_and_nobody_home_is_an_error(venue: Any) -> None:
    assert _get(f"{venue.url}/x.csv") is None
    assert _get(f"{venue.url}/x.csv", checksum=True) is None
    with pytest.raises(FetchError, match="connect error"):
        _get("http://127.0.0.1:9/x.csv")
    with pytest.raises(ConfigError, match="must be an http or https address"):
        _get("file:///etc/passwd")


CHECKSUMS: dict[str, tuple[bytes | None, type[CalibratorError] | None, str]] = {
    "right": (f"{SHA}  x.csv\n".encode(), None, ""),
    "binary mark": (f"{SHA} *x.csv".encode(), None, ""),
    "wrong": (f"{'0' * 64}  x.csv\n".encode(), ChangedError, f"must be 0000.*, was {SHA}: refused"),
    "other file": (f"{SHA}  y.csv\n".encode(), DataError, "one line with a SHA-256 and 'x.csv'"),
    "page": (b"<html>", DataError, "one line with a SHA-256"),
    "none": (None, DataError, "has no checksum at .*: refused"),
}


@pytest.mark.parametrize(("line", "error", "match"), CHECKSUMS.values(), ids=CHECKSUMS.keys())
def test_an_archive_has_its_checksum_or_is_refused(
    venue: Any, reply: Any, line: bytes | None, error: type[CalibratorError] | None, match: str
) -> None:
    venue.routes["/x.csv"] = reply(BODY)
    if line is not None:
        venue.routes["/x.csv.CHECKSUM"] = reply(line)
    if error is None:
        assert _get(f"{venue.url}/x.csv", checksum=True) == BODY
        return
    with pytest.raises(error, match=match):
        _get(f"{venue.url}/x.csv", checksum=True)


def test_keys_come_from_the_environment_and_are_never_shown(
    venue: Any, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VENUE_KEY", "s3cret")
    venue.routes["/api/s3cret/x"] = [reply(BODY), reply(status=403)]
    assert _get(f"{venue.url}/api/${{VENUE_KEY}}/x", Authorization="Bearer ${VENUE_KEY}") == BODY
    assert venue.headers[0]["authorization"] == "Bearer s3cret"
    with pytest.raises(FetchError) as caught:
        _get(f"{venue.url}/api/${{VENUE_KEY}}/x")
    assert "s3cret" not in str(caught.value)
    assert "${VENUE_KEY}" in str(caught.value)
    with pytest.raises(ConfigError, match="the environment must have NO_KEY"):
        _get(f"{venue.url}/${{NO_KEY}}")


def test_nothing_else_of_the_project_opens_a_connection() -> None:
    """The import contract holds for httpx; the standard library's clients are looked for here."""
    clients = {
        "urllib.request",
        "http.client",
        "socket",
        "ftplib",
        "smtplib",
        "aiohttp",
        "requests",
        "websockets",
    }
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("calibrator/data", "calibrator/features.py", "calibrator/forecast")
        for path in ([ROOT / folder] if folder.endswith(".py") else (ROOT / folder).rglob("*.py"))
        for name in _imported(path) & clients
    }
    assert found == set()


def _imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names
