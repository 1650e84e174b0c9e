"""The consumer's side: fetch a document, believe it only if every rule holds, remember what was believed.

The ``trusted`` folder is the consumer's memory: ``anchor.json`` (the root it started from), ``metadata``
(the newest that it verified, which is what makes a rollback visible), ``documents`` (the last good ones, to
be kept in force when a newer one cannot be had) and ``vouchers`` (the metadata that vouched for them). Every
file in it is replaced atomically, the document last: wherever a process dies, the next one goes on.

References
----------
The Update Framework specification 1.0.34, section 5 (client workflow).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile, Targets
from tuf.ngclient import FetcherInterface, UpdaterConfig

from calibrator.domain import PPM
from calibrator.errors import (
    ApprovalError,
    ConstraintError,
    ExpiredError,
    PublishError,
    RollbackError,
    SignatureError,
)
from calibrator.publish.approval import Approval, check_approval, moves
from calibrator.publish.canonical import MAX_BYTES, digest
from calibrator.publish.document import ParameterDocument, decode
from calibrator.publish.fetch import BoundedUpdater, open_location
from calibrator.publish.metadata import MAX_METADATA_BYTES, check_name, hashed_path, tuf_errors
from calibrator.publish.repository import DOCUMENT
from calibrator.publish.signing import signing_time
from calibrator.publish.storage import lock, write_atomically

MAX_ROOT_BYTES: Final = 512_000
CLOCK_TOLERANCE: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Audience:
    """What a consumer accepts beyond a valid signature.

    Attributes
    ----------
    protocol, chain : str, optional
        The audience that the document must name; None accepts any.
    max_loosening : float, optional
        Largest share by which one value may loosen against the last accepted document, unless a second key
        has approved it; None leaves that to the publisher.

    Examples
    --------
    >>> Audience(protocol="aave-v3", chain="eip155:1", max_loosening=0.1).chain
    'eip155:1'
    """

    protocol: str | None = None
    chain: str | None = None
    max_loosening: float | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """A document that a consumer may apply, with everything that was signed for it.

    Attributes
    ----------
    document : ParameterDocument
    payload : bytes
        The document's bytes, as signed.
    targets : dict of str to bytes
        The protocol payloads that were made from it, by name.
    approved_by : str or None
        Id of the second key that approved it.
    """

    document: ParameterDocument
    payload: bytes
    targets: dict[str, bytes]
    approved_by: str | None


def anchor(trusted: Path, root: bytes) -> None:
    """Make ``root`` the origin of all trust of this consumer; once, and for good.

    Parameters
    ----------
    trusted : pathlib.Path
        This consumer's memory, one folder per repository; created at the first use.
    root : bytes
        Root metadata (``<n>.root.json``) received by a way that is itself trusted.

    Raises
    ------
    SignatureError
        If ``root`` is not root metadata signed by itself, or another root is the anchor already.
    LockError
        If another process uses ``trusted``.
    PublishError
        If ``trusted`` cannot be written.
    """
    path = trusted / "anchor.json"
    with lock(trusted / ".lock"), tuf_errors(str(path)):
        metadata = Metadata[Root].from_bytes(root)
        if not isinstance(metadata.signed, Root):
            raise SignatureError("root must be root metadata, is of another role")
        metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
        if path.exists() and path.read_bytes() != root:
            raise SignatureError(f"{trusted} trusts another root already; a new one is a new folder")
        write_atomically(path, root)


def anchor_on_first_use(trusted: Path, location: str | Path) -> None:
    """Believe the root that ``location`` offers, unless ``trusted`` has an anchor already.

    Whoever controls ``location`` at that moment controls this consumer from then on.

    Raises
    ------
    PublishError
        If it cannot be fetched, and as `anchor` does.
    """
    if (trusted / "anchor.json").exists():
        return
    with tuf_errors(str(location)), open_location(location) as (base, fetcher):
        root = fetcher.download_bytes(f"{base}metadata/1.root.json", MAX_ROOT_BYTES)
    anchor(trusted, root)


def verify(
    location: str | Path,
    *,
    trusted: Path,
    now: datetime,
    as_of: datetime | None = None,
    name: str = DOCUMENT,
    audience: Audience | None = None,
) -> ParameterDocument:
    """Fetch, verify and remember the newest document of a repository.

    Parameters
    ----------
    location : str or pathlib.Path
        The ``published`` folder, or its http(s) address.
    trusted : pathlib.Path
        This consumer's memory, which `anchor` has prepared.
    now : datetime
        The clock, with a zone: metadata that expired before it are refused.
    as_of : datetime, optional
        When the document is to be applied; default `now`.
    name : str, optional
        Which document.
    audience : Audience, optional
        What the document must be meant for.

    Returns
    -------
    ParameterDocument
        Signed, unexpired, and not older than what was accepted before.

    Raises
    ------
    SignatureError
        If a signature is missing or wrong, a file is not the one that was signed, or there is no anchor.
    ExpiredError
        If metadata (freeze) or the document have expired.
    RollbackError
        If anything is older than what was trusted before, or implausibly far ahead of it.
    ConstraintError
        If the document is meant for another protocol or chain.
    ApprovalError
        If it loosens by more than ``audience.max_loosening`` and no second key approved it.
    LockError
        If another process uses ``trusted``.
    PublishError
        If something cannot be fetched, stored or decoded, or the clock is behind the publication.
    """
    as_of = _checked_time(now, as_of)
    place = str(location)
    with lock(trusted / ".lock"), tuf_errors(place), open_location(location) as (base, fetcher):
        session = _Session(base, fetcher, trusted, now)
        return session.accept(name, as_of, audience or Audience()).document


def verify_all(
    location: str | Path,
    *,
    trusted: Path,
    now: datetime,
    as_of: datetime | None = None,
    name: str = DOCUMENT,
    audience: Audience | None = None,
) -> Verified:
    """Do what `verify` does, and fetch the protocol payloads that were signed together with the document.

    Raises
    ------
    PublishError
        As `verify`; also if a payload is not the one that was signed.
    """
    as_of = _checked_time(now, as_of)
    place = str(location)
    with lock(trusted / ".lock"), tuf_errors(place), open_location(location) as (base, fetcher):
        session = _Session(base, fetcher, trusted, now)
        verified = session.accept(name, as_of, audience or Audience())
        for path in session.made_from(name, verified.document):
            verified.targets[path] = session.fetch(path)
    return verified


def last_good(trusted: Path, *, name: str = DOCUMENT) -> ParameterDocument | None:
    """Return the document that `verify` accepted last, or None; it may have expired since.

    Raises
    ------
    PublishError
        If it cannot be read.
    """
    try:
        return decode((trusted / "documents" / name).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PublishError(f"{trusted} cannot be read: {error.strerror}") from error


def _checked_time(now: datetime, as_of: datetime | None) -> datetime:
    as_of = now if as_of is None else as_of
    if now.utcoffset() is None or as_of.utcoffset() is None:
        raise ValueError(f"now and as_of need their zone, were {now} and {as_of}")
    return as_of


class _Session:
    """One visit to a repository, with metadata that verify."""

    def __init__(self, base: str, fetcher: FetcherInterface, trusted: Path, now: datetime) -> None:
        self._base, self._fetcher, self._trusted = base, fetcher, trusted
        try:
            root = (trusted / "anchor.json").read_bytes()
        except FileNotFoundError as error:
            raise SignatureError(f"{trusted} has no trusted root yet: give one (--root FILE)") from error
        self._set = _refreshed(self._base, self._fetcher, trusted / "metadata", root=root, now=now)
        signed_at = signing_time(self._set.timestamp)
        if signed_at is not None and now < signed_at - CLOCK_TOLERANCE:
            raise PublishError(f"the clock went back: it is {now}, the publication was signed at {signed_at}")

    def accept(self, name: str, as_of: datetime, audience: Audience) -> Verified:
        """Judge the document called ``name`` and remember it."""
        payload = self.fetch(name)
        document = decode(payload)
        _check_audience(name, document, audience)
        last = self._last(name)
        approved_by = check_approval(
            self._set.root, document, payload, self._set.targets.targets[name].custom
        )
        if payload != last:
            self._check_follows(name, document, payload, last)
            if last is not None and approved_by is None:
                _check_loosening(decode(last), document, audience)
        if as_of >= document.expires_at:
            raise ExpiredError(
                f"{name} expired at {document.expires_at:%Y-%m-%d %H:%M}, as-of is {as_of:%Y-%m-%d %H:%M}. "
                + document.consumer_rule
            )
        if payload != last:
            voucher = (self._trusted / "metadata" / "targets.json").read_bytes()
            write_atomically(self._trusted / "vouchers" / name, voucher)
            write_atomically(self._trusted / "documents" / name, payload)
        return Verified(document, payload, {}, approved_by)

    def fetch(self, name: str) -> bytes:
        """Fetch a target: the bytes that were signed, no more of them than that."""
        target = self._target(name)
        address = f"{self._base}targets/{hashed_path(target)}"
        data: bytes = self._fetcher.download_bytes(address, target.length)
        target.verify_length_and_hashes(data)
        return data

    def made_from(self, name: str, document: ParameterDocument) -> list[str]:
        """List the payloads that were made from a document."""
        wanted = {"document": name, "sequence": document.sequence}
        stated = {path: target.custom or {} for path, target in self._set.targets.targets.items()}
        return [path for path, custom in stated.items() if path != name and wanted.items() <= custom.items()]

    def _target(self, name: str) -> TargetFile:
        check_name(name)
        target: TargetFile | None = self._set.targets.targets.get(name)
        if target is None:
            raise PublishError(f"the repository holds no document called {name}")
        if target.length > MAX_BYTES:
            raise PublishError(f"{name} must not exceed {MAX_BYTES} bytes, is said to have {target.length}")
        return target

    def _last(self, name: str) -> bytes | None:
        try:
            return (self._trusted / "documents" / name).read_bytes()
        except FileNotFoundError:
            return None

    def _check_follows(
        self, name: str, document: ParameterDocument, payload: bytes, last: bytes | None
    ) -> None:
        """Compare with the last accepted document: metadata cannot show that its *content* went back."""
        if document.sequence > (publications := self._set.targets.version):
            raise RollbackError(
                f"sequence must not exceed the {publications} publications that there were, "
                f"was {document.sequence} (fast-forward)"
            )
        if last is None or self._disowned(name):
            return
        known = decode(last).sequence
        if document.sequence <= known:
            raise RollbackError(
                f"sequence {known} ({digest(last)[:12]}) was accepted before, offered was "
                f"{document.sequence} ({digest(payload)[:12]})"
            )

    def _disowned(self, name: str) -> bool:
        """Say whether the keys that vouched for the last document have been revoked since."""
        try:
            voucher = Metadata[Targets].from_bytes((self._trusted / "vouchers" / name).read_bytes())
            self._set.root.verify_delegate(Targets.type, voucher.signed_bytes, voucher.signatures)
        except FileNotFoundError:
            return False
        except RepositoryError:
            return True
        return False


def _refreshed(base: str, fetcher: FetcherInterface, memory: Path, *, root: bytes, now: datetime) -> Any:
    """Bring the memory up to date and return python-tuf's set of trusted metadata."""
    memory.mkdir(exist_ok=True)
    updater = BoundedUpdater(
        metadata_dir=str(memory),
        metadata_base_url=f"{base}metadata/",
        fetcher=fetcher,
        config=UpdaterConfig(root_max_length=MAX_ROOT_BYTES, targets_max_length=MAX_METADATA_BYTES),
        bootstrap=root,
    )
    # python-tuf has no argument for the time; its own clock is read when the set is created.
    updater._trusted_set.reference_time = now  # noqa: SLF001
    updater.refresh()
    return updater._trusted_set  # noqa: SLF001


def _check_audience(name: str, document: ParameterDocument, audience: Audience) -> None:
    for what in ("protocol", "chain"):
        wanted, found = getattr(audience, what), getattr(document, what)
        if wanted is not None and found != wanted:
            raise ConstraintError(f"{name} must be meant for {what} {wanted}, is for {found}")


def _check_loosening(last: ParameterDocument, document: ParameterDocument, audience: Audience) -> None:
    if audience.max_loosening is None:
        return
    rule = Approval(max_tightening_ppm=PPM**2, max_loosening_ppm=round(audience.max_loosening * PPM))
    found = moves(last, document, rule)
    if found:
        raise ApprovalError(f"{found[0]} ({len(found)} in all), and no second key approved it")
