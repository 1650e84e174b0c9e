"""The second key: which moves a document may make only when somebody else has approved them.

Approvers are named by the root, so that whoever holds the keys of daily publishing cannot become one. An
approval is a signature over the digest of one document; it travels in the signed metadata beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from securesystemslib.exceptions import FormatError, UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Key, Signature
from tuf.api.metadata import Root

from calibrator.domain import PPM
from calibrator.errors import ApprovalError, SignatureError
from calibrator.publish.canonical import digest, encode_value
from calibrator.publish.changes import Change, changes, percent
from calibrator.publish.document import ParameterDocument

APPROVERS: Final = "x-approvers"
FIELD: Final = "approval"


@dataclass(frozen=True, slots=True)
class Approval:
    """How far a document may move on the daily keys alone, and the second key when it goes further.

    Attributes
    ----------
    max_tightening_ppm, max_loosening_ppm : int
        Largest move of one value, relative to what is published, that needs no approval.
    key : CryptoSigner, optional
        The approver's private key.
    min_base_ppm : int
        Tightening counts relative to at least this much, as in `calibrator.domain.ChangeLimits`.
    """

    max_tightening_ppm: int
    max_loosening_ppm: int
    key: CryptoSigner | None = None
    min_base_ppm: int = 0


def moves(old: ParameterDocument, new: ParameterDocument, rule: Approval) -> list[str]:
    """List, one sentence each, the changes from ``old`` to ``new`` that need an approval.

    A move is relative: of a margin, haircut or penalty to its old value, of a loan-to-value or threshold to
    what it left of the collateral. A value that was zero moves without bound. Exposure caps follow depth and
    fund from day to day; they are shown by `changes` and need no approval.
    """
    found = []
    for change in changes(old, new):
        if change.old is None or change.new is None or change.tightens is None or change.unit != "ppm":
            continue
        limit = rule.max_tightening_ppm if change.tightens else rule.max_loosening_ppm
        if _exceeds(change, limit, rule.min_base_ppm if change.tightens else 0):
            what = "tightens" if change.tightens else "loosens"
            found.append(
                f"{change.market} {change.what} {percent(change.old)} -> {percent(change.new)} {what} by "
                f"more than {percent(limit)} of itself"
            )
    return found


def _exceeds(change: Change, limit: int, base: int) -> bool:
    before, after = change.old or 0, change.new or 0
    if (after > before) != change.tightens:  # more of it is looser: compare what is left of the collateral
        before, after = PPM - before, PPM - after
    return abs(after - before) * PPM > limit * max(before, base)


def set_approvers(root: Root, keys: Sequence[Key]) -> None:
    """Name the approvers in a root that is about to be signed."""
    root.unrecognized_fields[APPROVERS] = {key.keyid: key.to_dict() for key in keys}


def approvers(root: Root) -> dict[str, Key]:
    """Return the approvers that ``root`` names, by key id; a key that also signs daily is none.

    Raises
    ------
    SignatureError
        If the root names them in a way that cannot be read.
    """
    daily = {keyid for role, trusted in root.roles.items() if role != Root.type for keyid in trusted.keyids}
    try:
        named = root.unrecognized_fields.get(APPROVERS, {}).items()
        return {keyid: Key.from_dict(keyid, dict(value)) for keyid, value in named if keyid not in daily}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SignatureError(f"the root's approvers cannot be read: {error!r}") from error


def approve(
    root: Root,
    document: ParameterDocument,
    payload: bytes,
    *,
    needed: Sequence[str],
    key: CryptoSigner | None,
) -> dict[str, Any]:
    """Sign the approval of a document, if there is a key.

    Parameters
    ----------
    root : Root
        Names the approvers.
    document : ParameterDocument
    payload : bytes
        Its bytes.
    needed : sequence of str
        What makes an approval necessary, from `moves`.
    key : CryptoSigner or None
        The approver's.

    Returns
    -------
    dict
        For the metadata of the document; empty without a key.

    Raises
    ------
    ApprovalError
        If an approval is needed and there is no key.
    SignatureError
        If the root does not name ``key`` as an approver.
    """
    if key is None:
        if needed:
            raise ApprovalError(f"{needed[0]} ({len(needed)} in all): needs the approval of a second key")
        return {}
    keyid = key.public_key.keyid
    if keyid not in approvers(root):
        raise SignatureError(f"key {keyid[:16]} is not one of the approvers that the root names")
    return {FIELD: {"keyid": keyid, "sig": key.sign(_statement(document, payload)).signature}}


def check_approval(
    root: Root, document: ParameterDocument, payload: bytes, custom: Mapping[str, Any] | None
) -> str | None:
    """Return the id of the key that approved a document, or None if no approver of today did.

    An approval by a key that the root does not name (any more) is none: after a change of approvers a
    document in force stays in force, but not for a consumer that asks for an approval.

    Raises
    ------
    SignatureError
        If it carries an approver's approval of something else, or one that cannot be read.
    """
    stated = (custom or {}).get(FIELD)
    if stated is None:
        return None
    try:
        keyid, signature = stated["keyid"], Signature(stated["keyid"], stated["sig"])
        key = approvers(root).get(keyid)
        if key is None:
            return None
        key.verify_signature(signature, _statement(document, payload))
    except (KeyError, TypeError, ValueError, FormatError, UnverifiedSignatureError) as error:
        raise SignatureError(f"the approval of sequence {document.sequence} does not verify") from error
    return str(keyid)


def _statement(document: ParameterDocument, payload: bytes) -> bytes:
    return encode_value(
        {
            "approves": digest(payload),
            "chain": document.chain,
            "protocol": document.protocol,
            "sequence": document.sequence,
        }
    )
