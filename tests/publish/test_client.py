"""The consumer: what it accepts, when, from whom, and what it remembers."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from calibrator.errors import ConstraintError, ExpiredError, LockError, PublishError, SignatureError
from calibrator.publish.client import Audience, anchor, anchor_on_first_use, verify
from calibrator.publish.document import ParameterDocument, encode
from calibrator.publish.keys import create_keys
from calibrator.publish.repository import publish
from calibrator.publish.storage import lock
from pipelines.benchmarks.attack_stage import Stage, served

NOW = datetime(2025, 1, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
EXPIRY = datetime(2025, 1, 8, tzinfo=UTC)


def check(
    stage: Stage, *, trusted: Path | None = None, now: datetime = NOW, **options: Any
) -> ParameterDocument:
    return verify(stage.folder, trusted=trusted or stage.trusted, now=now, **options)


def test_freeze_is_noticed_when_the_timestamp_expires(stage: Stage) -> None:
    check(stage, now=NOW + 6.9 * DAY, as_of=NOW)
    with pytest.raises(ExpiredError, match=r"timestamp\.json is expired; nothing newer was offered"):
        check(stage, now=NOW + 7.1 * DAY, as_of=NOW)


def test_an_expired_document_says_what_to_do(stage: Stage) -> None:
    with pytest.raises(ExpiredError, match="keep the last good parameters, flagged stale; never loosen"):
        check(stage, as_of=EXPIRY)
    assert check(stage, as_of=EXPIRY - timedelta(seconds=1)).sequence == 2


def test_another_audience_is_refused(stage: Stage) -> None:
    assert check(stage, audience=Audience(protocol="demo")).sequence == 2
    with pytest.raises(
        ConstraintError, match=r"parameters\.json must be meant for protocol aave, is for demo"
    ):
        check(stage, audience=Audience(protocol="aave"))


@pytest.mark.parametrize("name", ["../../keys/root.pem", "/etc/passwd", "documents/../x"])
def test_a_name_cannot_leave_the_repository(stage: Stage, name: str) -> None:
    with pytest.raises(PublishError, match="a target name must be a plain relative path"):
        check(stage, name=name)


def test_trust_needs_an_origin(stage: Stage, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    with pytest.raises(SignatureError, match="has no trusted root yet"):
        check(stage, trusted=fresh)
    with pytest.raises(SignatureError, match="root must be root metadata"):
        anchor(fresh, stage.read("timestamp.json"))
    with pytest.raises(SignatureError, match="metadata do not verify"):
        anchor(fresh, b"{}")
    anchor_on_first_use(fresh, stage.folder)
    anchor(fresh, stage.read("1.root.json"))
    assert check(stage, trusted=fresh).sequence == 2


def test_an_anchor_is_for_good(stage: Stage, tmp_path: Path) -> None:
    create_keys(tmp_path / "other" / "keys")
    publish(tmp_path / "other", stage.older, now=NOW)
    root = (tmp_path / "other" / "published" / "metadata" / "1.root.json").read_bytes()
    with pytest.raises(SignatureError, match="trusts another root already"):
        anchor(stage.trusted, root)
    with pytest.raises(SignatureError, match="metadata do not verify"):
        verify(tmp_path / "other" / "published", trusted=stage.trusted, now=NOW)


def test_a_consumer_killed_while_relinking_its_root_recovers(stage: Stage) -> None:
    (stage.trusted / "metadata" / "root.json").unlink()
    assert check(stage).sequence == 2


def test_two_consumers_of_one_memory_do_not_meet(stage: Stage) -> None:
    with lock(stage.trusted / ".lock"), pytest.raises(LockError, match="held by another process"):
        check(stage)


def test_a_place_that_is_no_repository_is_named(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="must be a published folder"):
        verify(tmp_path / "nothing", trusted=stage.trusted, now=NOW)


def test_times_need_a_zone(stage: Stage) -> None:
    with pytest.raises(ValueError, match="need their zone"):
        check(stage, now=datetime(2025, 1, 1))  # noqa: DTZ001


def test_any_web_server_will_do(stage: Stage, tmp_path: Path) -> None:
    with served(stage.folder) as server:
        anchor_on_first_use(tmp_path / "remote", server)
        assert encode(verify(server, trusted=tmp_path / "remote", now=NOW)) == stage.payload
        assert encode(verify(server + "/", trusted=tmp_path / "remote", now=NOW)) == stage.payload
