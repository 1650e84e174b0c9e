"""One act of signing: from the targets of a publication to the timestamp that puts it in force.

A publication exists from the moment its ``timestamp.json`` replaces the old one, the last write of all:
whatever fails before leaves the old one.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from calibrator.errors import ExpiredError, PublishError
from calibrator.publish.approval import set_approvers
from calibrator.publish.keys import ROLES, has_keys, load_signers
from calibrator.publish.metadata import Publication
from calibrator.publish.storage import sweep, write_atomically

METADATA_LIFE: Final = timedelta(days=7)
ROOT_LIFE: Final = timedelta(days=365)
ROOT_RENEWAL: Final = timedelta(days=60)
SIGNED_AT: Final = "x-signed-at"


@dataclass(frozen=True, slots=True)
class Signing:
    """By which keys, trusted by which roots, when and for how long.

    Attributes
    ----------
    keys : tuple of pathlib.Path
        Folders of private keys.
    roots : tuple of Root
        The newest root, and while keys change the one about to follow: what is signed verifies under each.
    now : datetime
        The publishing clock.
    life : timedelta
        Until timestamp, snapshot and targets expire.
    """

    keys: tuple[Path, ...]
    roots: tuple[Root, ...]
    now: datetime
    life: timedelta

    def sign(self, role: str, signed: Root | Targets | Snapshot | Timestamp) -> bytes:
        """Sign with every key of ``role`` that a root trusts; fail below the threshold of any root."""
        metadata: Metadata[Any] = Metadata(signed)
        trusted = {keyid for root in self.roots for keyid in root.roles[role].keyids}
        for signer in load_signers(self.keys, role):
            if signer.public_key.keyid in trusted:
                metadata.sign(signer, append=True)
        for root in self.roots:
            root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        return metadata.to_bytes(JSONSerializer(compact=False))


def prepare(
    home: Path, root: Root | None, current: Publication | None, *, now: datetime, life: timedelta
) -> Signing:
    """Check the clock, sweep what a crash left, and create the root or renew it when it is due.

    Raises
    ------
    PublishError
        If the clock is before the last publication.
    ExpiredError
        If the root has expired (or the clock is far ahead).
    SignatureError
        If keys are missing.
    """
    check_clock(current, now)
    folder, keys = home / "published", (home / "keys",)
    sweep(folder)
    if root is None:
        root = new_root(keys[0], now)
        write_root(folder, Signing(keys, (root,), now, life))
    elif root.expires <= now:
        raise ExpiredError(f"{folder}: root metadata expired on {root.expires}, the clock says {now}")
    elif root.expires - now < ROOT_RENEWAL and has_keys(keys[0], Root.type):
        root.version += 1
        root.expires = now + ROOT_LIFE
        write_root(folder, Signing(keys, (root,), now, life))
    return Signing(keys, (root,), now, life)


def check_clock(current: Publication | None, now: datetime) -> None:
    """Refuse to sign before the last publication was signed.

    Raises
    ------
    PublishError
        If ``now`` is before it.
    """
    if now.utcoffset() is None:
        raise ValueError(f"now needs its zone, was {now}")
    signed_at = None if current is None else signing_time(current.timestamp)
    if signed_at is not None and now < signed_at:
        raise PublishError(f"the clock went back: it is {now}, the last publication is of {signed_at}")


def signing_time(timestamp: Timestamp) -> datetime | None:
    """Return when a timestamp was signed; None if it does not say so in UTC."""
    try:
        time = datetime.fromisoformat(timestamp.unrecognized_fields.get(SIGNED_AT, ""))
    except (TypeError, ValueError):
        return None
    return time if time.utcoffset() is not None else None


def new_root(keys: Path, now: datetime) -> Root:
    """Return the first root: it trusts every key in ``keys``, one signature of each role is enough."""
    root = Root(expires=now + ROOT_LIFE)
    for role in ROLES:
        for signer in load_signers((keys,), role):
            root.add_key(signer.public_key, role)
    if has_keys(keys, "approver"):
        set_approvers(root, [signer.public_key for signer in load_signers((keys,), "approver")])
    return root


def write_root(folder: Path, signing: Signing) -> None:
    """Sign the last of ``signing.roots`` and write it as ``<n>.root.json``."""
    root = signing.roots[-1]
    write_atomically(folder / "metadata" / f"{root.version}.root.json", signing.sign(Root.type, root))


def commit(
    folder: Path, signing: Signing, targets: dict[str, TargetFile], current: Publication | None
) -> None:
    """Write targets, snapshot and, last of all, the timestamp that makes them the publication in force."""
    expires, metadata = signing.now + signing.life, folder / "metadata"
    version = 1 if current is None else current.targets.version + 1
    data = signing.sign(Targets.type, Targets(version=version, expires=expires, targets=targets))
    write_atomically(metadata / f"{version}.targets.json", data)
    meta = {"targets.json": MetaFile.from_data(version, data, ["sha256"])}
    version = 1 if current is None else current.snapshot.version + 1
    data = signing.sign(Snapshot.type, Snapshot(version=version, expires=expires, meta=meta))
    write_atomically(metadata / f"{version}.snapshot.json", data)
    timestamp = Timestamp(
        version=1 if current is None else current.timestamp.version + 1,
        expires=expires,
        snapshot_meta=MetaFile.from_data(version, data, ["sha256"]),
        unrecognized_fields={SIGNED_AT: signing.now.astimezone(UTC).isoformat()},
    )
    write_atomically(metadata / "timestamp.json", signing.sign(Timestamp.type, timestamp))
