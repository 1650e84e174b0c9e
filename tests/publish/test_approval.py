"""The second key: which moves need it, who may hold it, how far it reaches."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner

from calibrator.errors import ApprovalError, SignatureError
from calibrator.publish.approval import Approval, moves
from calibrator.publish.client import Audience
from calibrator.publish.document import (
    CollateralParameters,
    HaircutParameters,
    ParameterDocument,
    decode,
    encode,
)
from calibrator.publish.keys import load_signers
from calibrator.publish.repository import publish
from calibrator.publish.rotation import Keyring, rotate
from pipelines.benchmarks.attack_stage import Stage
from pipelines.benchmarks.documents import NOW, sample_document

RULE = Approval(max_tightening_ppm=500_000, max_loosening_ppm=100_000)


def after(stage: Stage, move_ppm: int) -> ParameterDocument:
    return sample_document(previous=decode(stage.payload), move_ppm=move_ppm)


def key_of(stage: Stage, role: str) -> CryptoSigner:
    return load_signers((stage.home / "keys",), role)[0]


def with_key(key: CryptoSigner) -> Approval:
    return Approval(RULE.max_tightening_ppm, RULE.max_loosening_ppm, key)


@pytest.mark.parametrize("move", [100, 5_000, 24_900, -4_900])
def test_a_small_move_needs_no_second_key(stage: Stage, move: int) -> None:
    assert publish(stage.home, encode(after(stage, move)), now=NOW, approval=RULE)
    assert stage.check().approved_by is None


@pytest.mark.parametrize(
    ("move", "match"),
    [
        (25_300, r"M00000-USD initial margin 10.02% -> 15.06% tightens by more than 50.00% of itself"),
        (-5_100, r"M00000-USD initial margin 10.02% -> 8.98% loosens by more than 10.00% of itself"),
    ],
)
def test_a_large_move_needs_the_second_key(stage: Stage, move: int, match: str) -> None:
    payload = encode(after(stage, move))
    with pytest.raises(ApprovalError, match=match):
        publish(stage.home, payload, now=NOW, approval=RULE)
    assert stage.check().document.sequence == 2
    key = key_of(stage, "approver")
    assert publish(stage.home, payload, now=NOW, approval=with_key(key))
    assert stage.check().approved_by == key.public_key.keyid
    assert not publish(stage.home, payload, now=NOW, approval=RULE)


@pytest.mark.parametrize("role", ["targets", "root"])
def test_another_key_is_no_second_key(stage: Stage, role: str) -> None:
    with pytest.raises(SignatureError, match="is not one of the approvers that the root names"):
        publish(stage.home, encode(after(stage, -5_100)), now=NOW, approval=with_key(key_of(stage, role)))
    assert stage.check().document.sequence == 2


def test_a_consumer_may_ask_for_the_second_key(stage: Stage, tmp_path: Path) -> None:
    away = stage.copy(tmp_path / "away")
    payload = encode(after(stage, -6_000))
    for here in (stage, away):
        here.audience = Audience(max_loosening=0.1)
    publish(away.home, payload, now=NOW)
    with pytest.raises(ApprovalError, match="and no second key approved it"):
        away.check()
    publish(stage.home, payload, now=NOW, approval=with_key(key_of(stage, "approver")))
    assert stage.check().document.sequence == 3


def test_an_approval_is_for_one_document(stage: Stage) -> None:
    key = key_of(stage, "approver")
    publish(stage.home, encode(after(stage, -5_100)), now=NOW, approval=with_key(key))
    stage.check()
    custom = stage.read("3.targets.json")
    assert b'"approval"' in custom
    approval = json.loads(custom)["signed"]["targets"]["parameters.json"]["custom"]["approval"]
    other = sample_document(previous=after(stage, -5_100), move_ppm=-40_000)
    stage.offer(encode(other), version=4, custom={"approval": approval})
    with pytest.raises(SignatureError, match="the approval of sequence 4 does not verify"):
        stage.check()


@given(before=st.integers(1, 200_000), change=st.integers(-200_000, 200_000))
def test_the_rule_is_exact(before: int, change: int) -> None:
    """The oracle is the sentence of the rule, in fractions of whole numbers."""
    new = max(1, before + change)
    old_document = sample_document(move_ppm=before - 50_000)
    new_document = sample_document(previous=old_document, move_ppm=new - 50_000)
    found = [text for text in moves(old_document, new_document, RULE) if "maintenance" in text]
    needs = []
    for floor in (0, 500, 1_000):
        low, high = before + floor, new + floor
        limit = RULE.max_tightening_ppm if high > low else RULE.max_loosening_ppm
        needs.append(abs(high - low) * 1_000_000 > limit * low)
    assert len(found) == sum(needs)


def collateral(ltv: int, threshold: int) -> HaircutParameters:
    return HaircutParameters(
        haircut_ppm=200_000,
        loan_to_value_ppm=ltv,
        liquidation_threshold_ppm=threshold,
        liquidation_penalty_ppm=50_000,
        debt="USDC",
        location="mainnet",
    )


@pytest.mark.parametrize(
    ("ltv", "threshold", "count"),
    [(690_000, 720_000, 0), (720_000, 720_000 + 10_000, 0), (722_000, 750_000, 2), (500_000, 560_000, 2)],
)
def test_of_a_loan_the_buffer_counts(
    make_document: Callable[..., ParameterDocument],
    make_collateral: Callable[..., CollateralParameters],
    ltv: int,
    threshold: int,
    count: int,
) -> None:
    """What matters is what a loan-to-value or a threshold leaves of the collateral."""
    old = make_document(markets=(make_collateral(haircut=collateral(690_000, 720_000)),))
    new = make_document(markets=(make_collateral(haircut=collateral(ltv, threshold)),))
    assert len(moves(old, new, RULE)) == count


def test_a_document_outlives_the_approver_who_approved_it(stage: Stage) -> None:
    payload = encode(after(stage, -6_000))
    publish(stage.home, payload, now=NOW, approval=with_key(key_of(stage, "approver")))
    rotate(Keyring(stage.home, NOW), "approver")
    strict = stage.copy(stage.place.parent / "strict")
    strict.audience = Audience(max_loosening=0.1)
    with pytest.raises(ApprovalError, match="and no second key approved it"):
        strict.check()
    seen = stage.check()
    assert (seen.document.sequence, seen.approved_by) == (3, None)
