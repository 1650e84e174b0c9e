"""Changes of keys: who may sign what from now on, without a moment at which a consumer is refused.

Whatever the new root will demand is signed before that root appears: timestamp, snapshot and targets carry
the signatures of the old keys and of the new ones, then ``<n+1>.root.json`` is written, last of all.

References
----------
The Update Framework specification 1.0.34, section 6.1 (key management and migration).
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root

from calibrator.errors import PublishError
from calibrator.publish.approval import approvers, set_approvers
from calibrator.publish.keys import APPROVER, ROLES, add_key, create_keys, has_keys, load_signers, retire_keys
from calibrator.publish.metadata import Publication, load_publication, load_roots, tuf_errors
from calibrator.publish.signing import (
    METADATA_LIFE,
    ROOT_LIFE,
    Signing,
    check_clock,
    commit,
    new_root,
    signing_time,
    write_root,
)
from calibrator.publish.storage import lock, sweep


@dataclass(frozen=True, slots=True)
class Keyring:
    """Where keys and the repository are, and when they change.

    Attributes
    ----------
    home : pathlib.Path
        Holds ``keys/`` and ``published/``.
    now : datetime
        The publishing clock, with a zone.
    root_keys : pathlib.Path, optional
        Folder of the root's private keys, if they are kept elsewhere.
    """

    home: Path
    now: datetime
    root_keys: Path | None = None

    @property
    def keys(self) -> Path:
        """Folder of the daily private keys."""
        return self.home / "keys"

    @property
    def published(self) -> Path:
        """Folder of the repository."""
        return self.home / "published"

    def folders(self) -> tuple[Path, ...]:
        """Return every folder that holds private keys."""
        return (self.keys,) if self.root_keys is None else (self.keys, self.root_keys)


def create(ring: Keyring, thresholds: Mapping[str, int]) -> Path:
    """Create all keys and the root that trusts them: what consumers have to receive.

    Parameters
    ----------
    ring : Keyring
    thresholds : mapping of str to int
        Signatures that a role needs, and keys that it gets; default one.

    Returns
    -------
    pathlib.Path
        ``published/metadata/1.root.json``.

    Raises
    ------
    PublishError
        If there are keys or a root already, or something cannot be written.
    """
    with lock(ring.home / "publish.lock"), tuf_errors(str(ring.published)):
        if load_roots(ring.published):
            raise PublishError(f"{ring.published} has a root already; name a --role to add a key to it")
        create_keys(ring.keys, thresholds)
        root = new_root(ring.keys, ring.now)
        for role, threshold in thresholds.items():
            if role in ROLES:
                root.roles[role].threshold = threshold
        write_root(ring.published, Signing((ring.keys,), (root,), ring.now, METADATA_LIFE))
    return ring.published / "metadata" / "1.root.json"


def add(ring: Keyring, role: str, *, threshold: int | None = None) -> str:
    """Add a key to a role, and say how many signatures the role needs from now on.

    Returns
    -------
    str
        Id of the new key.

    Raises
    ------
    PublishError
        If the role would have fewer keys than it needs, and as `rotate` does.
    """
    with lock(ring.home / "publish.lock"), tuf_errors(str(ring.published)):
        new, signer = deepcopy(_newest(ring)), _fresh(ring, role, 1)[0]
        if role == APPROVER:
            set_approvers(new, [*approvers(new).values(), signer.public_key])
        else:
            new.add_key(signer.public_key, role)
            new.roles[role].threshold = threshold or new.roles[role].threshold
            _check_enough(new, role)
        _change(ring, new)
    return signer.public_key.keyid


def rotate(ring: Keyring, role: str) -> tuple[list[str], list[str]]:
    """Replace every key of a role by a new one; the old ones are trusted no more.

    After rotating ``timestamp`` and ``snapshot`` a consumer also forgets the versions that the old keys
    signed, and after rotating ``targets`` the sequence: that undoes what a thief may have signed far ahead.

    Returns
    -------
    tuple of list of str
        Ids of the keys that are gone, and of those that came.

    Raises
    ------
    SignatureError
        If a key that has to sign is missing.
    LockError
        If another process is publishing.
    PublishError
        If there is no root yet, the clock went back or a write fails.
    """
    with lock(ring.home / "publish.lock"), tuf_errors(str(ring.published)):
        root = _newest(ring)
        new = deepcopy(root)
        old = list(approvers(root) if role == APPROVER else root.roles[role].keyids)
        signers = _fresh(ring, role, max(1, len(old)))
        if role == APPROVER:
            set_approvers(new, [signer.public_key for signer in signers])
        else:
            for keyid in old:
                new.revoke_key(keyid, role)
            for signer in signers:
                new.add_key(signer.public_key, role)
        _change(ring, new)
        _retire(ring, set(old))
    return old, [signer.public_key.keyid for signer in signers]


def revoke(ring: Keyring, keyid: str) -> list[str]:
    """Trust a key no more, in any role, without a replacement.

    Parameters
    ----------
    ring : Keyring
    keyid : str
        Its id, or an unmistakable beginning of it of at least eight digits.

    Returns
    -------
    list of str
        The roles that it had.

    Raises
    ------
    PublishError
        If no key or several are meant, or a role would be left with too few keys; and as `rotate` does.
    """
    with lock(ring.home / "publish.lock"), tuf_errors(str(ring.published)):
        new = deepcopy(_newest(ring))
        found = {known for known in {*new.keys, *approvers(new)} if known.startswith(keyid)}
        if len(keyid) < 8 or len(found) != 1:
            raise PublishError(
                f"a key id must be 8 digits or more and match one trusted key, {keyid!r} matches {len(found)}"
            )
        (gone,) = found
        roles = [role for role in ROLES if gone in new.roles[role].keyids]
        for role in roles:
            new.revoke_key(gone, role)
            _check_enough(new, role)
        named = approvers(new)
        if named.pop(gone, None) is not None:
            set_approvers(new, list(named.values()))
            roles.append(APPROVER)
        _change(ring, new)
        _retire(ring, found)
    return roles


def trusted_keys(home: Path) -> tuple[Root, dict[str, list[str]]]:
    """Return the newest root of a home, and the ids of the keys that it trusts, by role.

    Raises
    ------
    PublishError
        If there is none, or it does not verify.
    """
    folder = home / "published"
    with tuf_errors(str(folder)):
        roots = load_roots(folder)
        if not roots:
            raise PublishError(f"{folder} has no root yet; `keys create` makes one")
        root = roots[-1]
        return root, {role: root.roles[role].keyids for role in ROLES} | {APPROVER: list(approvers(root))}


def _newest(ring: Keyring) -> Root:
    roots = load_roots(ring.published)
    if not roots:
        raise PublishError(f"{ring.published} has no root yet; `keys create` makes one")
    return roots[-1]  # an expired one too: its successor is how trust goes on


def _fresh(ring: Keyring, role: str, count: int) -> list[CryptoSigner]:
    """Return keys that no root has ever trusted: those that an interrupted change left, then new ones."""
    known = {keyid for root in load_roots(ring.published) for keyid in (*root.keys, *approvers(root))}
    folder = ring.folders()[-1] if role == Root.type else ring.keys
    left: Sequence[CryptoSigner] = load_signers((folder,), role) if has_keys(folder, role) else ()
    found = [signer for signer in left if signer.public_key.keyid not in known][:count]
    return found + [add_key(folder, role) for _ in range(count - len(found))]


def _check_enough(root: Root, role: str) -> None:
    keys, threshold = len(root.roles[role].keyids), root.roles[role].threshold
    if keys < threshold or threshold < 1:
        raise PublishError(
            f"role {role} needs {threshold} signatures and would have {keys} keys: rotate it, or add a key"
        )


def _change(ring: Keyring, new: Root) -> None:
    """Sign what is in force once more, for the old root and the new one; then write the new root."""
    root, current = load_publication(ring.published)
    if root is None:  # pragma: no cover - _newest() has refused it
        raise PublishError(f"{ring.published} has no root")
    check_clock(current, ring.now)
    sweep(ring.published)
    new.version, new.expires = root.version + 1, ring.now + ROOT_LIFE
    signing = Signing(ring.folders(), (root, new), ring.now, _life(current))
    signing.sign(Root.type, new)  # a missing key is noticed before anything is written
    if current is not None:
        commit(ring.published, signing, current.targets.targets, current)
    write_root(ring.published, signing)


def _life(current: Publication | None) -> timedelta:
    signed = None if current is None else signing_time(current.timestamp)
    return METADATA_LIFE if current is None or signed is None else current.timestamp.expires - signed


def _retire(ring: Keyring, gone: set[str]) -> None:
    for folder in ring.folders():
        retire_keys(folder, gone)
