"""The document: one spelling, consistent or refused."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from calibrator.errors import PublishError
from calibrator.publish.canonical import MAX_BYTES, decode_value, encode_value, plain
from calibrator.publish.document import (
    CONSUMER_RULE,
    CollateralParameters,
    ParameterDocument,
    PerpetualParameters,
    TierParameters,
    _decode_slowly,
    decode,
    encode,
    json_schema,
)
from pipelines.benchmarks.documents import sample_document

T = TypeVar("T")
Make = Callable[..., T]
SYMBOLS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=12)


@st.composite
def perpetuals(draw: st.DrawFn) -> PerpetualParameters:
    maintenance = draw(st.integers(1, 400_000))
    floors = [0, *sorted(draw(st.sets(st.integers(1, 10**60), max_size=3)))]
    tail = draw(st.integers(-(2**52), 2**52))
    previous = draw(st.none() | st.integers(0, 10**6))
    return PerpetualParameters(
        symbol=draw(SYMBOLS),
        regime=draw(st.sampled_from(["CALM", "ELEVATED", "STRESS"])),
        stress_probability_ppm=draw(st.integers(0, 10**6)),
        volatility_ppm=draw(st.integers(0, 2**53 - 1)),
        status="held",
        reasons=(draw(SYMBOLS),),
        close_out_bars=draw(st.integers(1, 2**53 - 1)),
        level_ppm=draw(st.integers(1, 10**6 - 1)),
        previous_ppm=previous,
        attribution={"tail": tail, "volatility": maintenance - (previous or 0) - tail},
        margins=tuple(
            TierParameters(
                notional_floor=floor,
                initial_margin_ppm=maintenance + 1 + i,
                maintenance_margin_ppm=maintenance + (i > 0),
            )
            for i, floor in enumerate(floors)
        ),
        plan=(),
    )


@settings(max_examples=60, deadline=None)
@given(
    markets=st.lists(perpetuals(), min_size=1, max_size=4, unique_by=lambda m: m.key),
    sequence=st.integers(1, 99),
)
def test_decode_undoes_encode_and_the_schema_accepts_it(
    make_doc_fields: Make[dict[str, object]], markets: list[PerpetualParameters], sequence: int
) -> None:
    fields = make_doc_fields(sequence) | {"markets": tuple(sorted(markets, key=lambda m: m.key))}
    written = ParameterDocument.model_validate(fields)
    payload = encode(written)
    assert decode(payload) == written
    assert encode(decode(payload)) == payload
    Draft202012Validator(json_schema()).validate(json.loads(payload))


@pytest.fixture(scope="module")
def make_doc_fields() -> Make[dict[str, object]]:
    start = datetime(2025, 1, 1, tzinfo=UTC)

    def fields(sequence: int) -> dict[str, object]:
        return {
            "sequence": sequence,
            "protocol": "demo",
            "issued_at": start,
            "valid_from": start,
            "expires_at": start + timedelta(days=7),
            "previous_digest": None if sequence == 1 else "a" * 64,
            "config_digest": "b" * 64,
            "data_digest": "c" * 64,
            "model_digests": {},
            "bar_seconds": 3_600,
            "horizon_bars": 24,
        }

    return fields


RULE = b'"consumer_rule":"' + CONSUMER_RULE.encode() + b'",'
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**53, 2**53 - 1) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=6), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_the_fast_spelling_is_the_one_of_rfc_8785(value: object) -> None:
    payload = encode_value(value)
    assert plain(value) == payload
    assert decode_value(payload) == value


def test_encoding_is_theplain_json_with_sorted_keys(payload: bytes) -> None:
    plain = json.dumps(json.loads(payload), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert payload == plain.encode()
    assert b'"notional_floor":"1000000000000000000"' in payload


def test_times_in_another_zone_are_the_same_document(make_document: Make[ParameterDocument]) -> None:
    local = datetime(2025, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert encode(make_document(issued_at=local)) == encode(make_document())


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b'"sequence":1,', b'"sequence":1,"sequence":1,', "duplicate key 'sequence'"),
        (b'"sequence":1,', b'"sequence": 1,', "RFC 8785 form differs"),
        (b'"sequence":1,', b'"sequence":1.0,', "numbers are integers, was 1.0"),
        (b'"sequence":1,', b'"sequence":1e0,', "numbers are integers, was 1e0"),
        (b'"sequence":1,', b'"sequence":NaN,', "numbers are integers, was NaN"),
        (b'"sequence":1,', b'"sequence":-Infinity,', "numbers are integers, was -Infinity"),
        (b'"sequence":1,', b'"sequence":true,', "sequence: Input should be a valid integer"),
        (b'"sequence":1,', b'"sequence":"1",', "sequence: Input should be a valid integer"),
        (b'"sequence":1,', b'"sequence":0,', "sequence: .*greater than or equal to 1"),
        (b'"sequence":1,', b'"sequence":9007199254740992,', "an integer beyond 2\\*\\*53 - 1 is a string"),
        (b'"sequence":1,', b"", "sequence: Field required"),
        (b'"sequence":1,', b'"sequence":1,"serial":1,', "serial: Extra inputs are not permitted"),
        (b'"sequence":1,', b'"sequence":2,', "previous_digest is null exactly when sequence is 1"),
        (b'"schema_version":1,', b'"schema_version":2,', "has schema_version 2, this version reads 1"),
        (b'"schema_version":1,', b'"schema_version":true,', "has schema_version True"),
        (b'"schema_version":1,', b"", "has schema_version None"),
        (b'"role":"perpetual"', b'"role":"option"', "markets.0: .*does not match any of the expected tags"),
        (b'"regime":"CALM"', b'"regime":"calm"', "regime: Input should be 'CALM', 'ELEVATED' or 'STRESS'"),
        (b"2025-01-01T00:00:00Z", b"2025-01-01T00:00:00.5Z", "RFC 8785|must look like"),
        (b"2025-01-01T00:00:00Z", b"2025-01-01T00:00:00+00:00", "must look like 2026-01-31T00:00:00Z"),
        (b"2025-01-08T", b"2024-01-08T", "issued_at <= valid_from < expires_at"),
        (b'"tail":1000', b'"tail":999', "attribution must add up to the change of 50000 ppm, was 49999"),
        (b'_ppm":50000,"notional_floor":0', b'_ppm":100000,"notional_floor":0', "0 < maintenance < initial"),
        (b'"liquidation_threshold_ppm":720000', b'"liquidation_threshold_ppm":780000', "must not exceed 1"),
        (b'"1000000000000000000"', b'"01000000000000000000"', "above 2\\*\\*53 - 1"),
        (b'"1000000000000000000"', b'"7"', "above 2\\*\\*53 - 1"),
        (b'"1000000000000000000"', b'"-1000000000000000000"', "1 to 78 decimal digits"),
        (b'"1000000000000000000"', b'"' + b"9" * 79 + b'"', "1 to 78 decimal digits"),
        (b'"BTC-USD"', b'"BTC\\u001b[31m"', "text must be printable"),
        (b'"BTC-USD"', b'"BTC\xe2\x80\xaeUSD"', "text must be printable"),
        (b'"BTC-USD"', b'"ZZZ"', "markets must be sorted"),
        (b'"BTC-USD"', b'"\xff"', "utf-8"),
        (b'"BTC-USD"', b'"\\ud800"', "surrogates not allowed"),
        (RULE, b"", "another spelling or is left out"),
        (b"never loosen", b"always loosen", "consumer_rule: Input should be"),
        (b"2025-01-03T00:00:00Z", b"2025-01-01T00:00:00Z", "plan must rise in time"),
    ],
)  # fmt: skip
def test_decode_refuses(
    make_document: Make[ParameterDocument],
    make_collateral: Make[CollateralParameters],
    make_perpetual: Make[PerpetualParameters],
    old: bytes,
    new: bytes,
    match: str,
) -> None:
    payload = encode(make_document(markets=(make_perpetual(), make_collateral())))
    assert old in payload
    with pytest.raises(PublishError, match=match):
        decode(payload.replace(old, new, 2 if b"T" in old and b"2025" in old else 1))


@pytest.mark.parametrize(
    ("payload", "match"),
    [
        (b"", "Expecting value"),
        (b"[]", "must be a JSON object, was list"),
        (b"[" * 100_000, "recursion|Expecting value"),
        (b'"' + b"a" * MAX_BYTES + b'"', "must not exceed 1000000 bytes, has 1000002"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"1" * 5_000, "is a string, was 1111"),
    ],
)
def test_decode_refuses_what_is_no_document(payload: bytes, match: str) -> None:
    with pytest.raises(PublishError, match=match):
        decode(payload)


@settings(max_examples=150, deadline=None)
@given(
    place=st.integers(0, 10**6),
    kind=st.sampled_from(["flip", "drop", "twice", "swap"]),
    bit=st.integers(0, 7),
)
def test_judging_at_once_is_judging_rule_by_rule(place: int, kind: str, bit: int) -> None:
    """The fast path accepts exactly what the slow one accepts, whatever happens to one byte."""
    good = encode(sample_document(2))
    at = place % (len(good) - 1)
    payload = {
        "flip": good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :],
        "drop": good[:at] + good[at + 1 :],
        "twice": good[:at] + good[at : at + 1] + good[at:],
        "swap": good[:at] + good[at + 1 : at + 2] + good[at : at + 1] + good[at + 2 :],
    }[kind]
    verdicts = []
    for judge in (decode, _decode_slowly):
        try:
            verdicts.append(judge(payload))
        except PublishError as error:
            verdicts.append(str(error))
    assert verdicts[0] == verdicts[1]


def test_the_chain_is_part_of_the_audience(make_document: Make[ParameterDocument]) -> None:
    assert make_document().chain == "off-chain"
    assert make_document(chain="eip155:1").chain == "eip155:1"
    for wrong in ("mainnet", "eip155:", "eip155:1\n", ""):
        with pytest.raises(ValidationError, match="should match pattern"):
            make_document(chain=wrong)


def test_truncation_is_refused_wherever_it_falls(payload: bytes) -> None:
    for length in range(0, len(payload), 97):
        with pytest.raises(PublishError):
            decode(payload[:length])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"issued_at": datetime(2025, 1, 1)}, "needs its zone"),  # noqa: DTZ001
        ({"issued_at": datetime(2025, 1, 1, 0, 0, 0, 5, tzinfo=UTC)}, "whole second"),
        ({"sequence": 1.0}, "valid integer"),
        ({"protocol": "Demo Protocol"}, "should match pattern"),
        ({"config_digest": "B" * 64}, "should match pattern"),
        ({"markets": ()}, "at least 1 item"),
    ],
)
def test_an_inconsistent_document_cannot_exist(
    make_document: Make[ParameterDocument], changes: dict[str, object], match: str
) -> None:
    with pytest.raises(ValidationError, match=match):
        make_document(**changes)


def test_a_held_market_says_why(make_perpetual: Make[PerpetualParameters]) -> None:
    with pytest.raises(ValidationError, match="a held market needs a reason"):
        make_perpetual(status="held")


def test_a_market_appears_once(
    make_document: Make[ParameterDocument], make_perpetual: Make[PerpetualParameters]
) -> None:
    with pytest.raises(ValidationError, match="sorted and unique"):
        make_document(markets=(make_perpetual(), make_perpetual()))


def test_encode_refuses_what_was_altered_past_the_validators(make_document: Make[ParameterDocument]) -> None:
    with pytest.raises(PublishError, match="previous_digest is null"):
        encode(make_document().model_copy(update={"sequence": 5}))


def test_canonical_values_refuse_floats_and_big_integers() -> None:
    assert decode_value(encode_value({"e": ["\u20ac", -1]})) == {"e": ["\u20ac", -1]}
    with pytest.raises(PublishError, match="no canonical JSON form"):
        encode_value(2**53)
