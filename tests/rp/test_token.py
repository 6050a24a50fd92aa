"""Parsing of tokens: bounds, types, encodings; nothing but Rejected ever comes out of bad bytes."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenbridge.errors import Rejected, RejectReason, Undecided
from tokenbridge.rp.webeid import Algorithm, Token

LONG = "A" * 4000


def encoded(raw: dict[str, Any]) -> bytes:
    return json.dumps(raw).encode()


def reason_of(raw: Any) -> RejectReason:
    with pytest.raises(Rejected) as caught:
        Token.parse(raw)
    return caught.value.reason


def test_a_good_token_is_read_from_text_and_from_its_object(pki: Any) -> None:
    raw = pki.raw_token("bare")
    token = Token.parse(encoded(raw))
    assert token == Token.parse(raw)
    assert (token.algorithm, token.format, len(token.signature)) == (Algorithm.ES256, "web-eid:1.0", 64)
    assert token.unverified_certificate == pki.der("bare")


@pytest.mark.parametrize("version", ["web-eid:1", "web-eid:1.0", "web-eid:1.1", "web-eid:1.12.3"])
def test_later_minor_versions_and_unknown_fields_are_accepted(pki: Any, version: str) -> None:
    assert Token.parse(encoded(pki.raw_token("bare", format=version, news=[1]))).format == version


def test_the_earlier_name_of_app_version_is_accepted(pki: Any) -> None:
    raw = pki.raw_token("bare")
    raw["issuerApp"] = raw.pop("appVersion")
    assert Token.parse(encoded(raw)).app_version == raw["issuerApp"]


@pytest.mark.parametrize(
    "version", ["web-eid:2.0", "web-eid:10", "web-eid:", "WEB-EID:1.0", "x web-eid:1.0", "web-eid:1.0\n"]
)
def test_other_formats_are_refused(pki: Any, version: str) -> None:
    assert reason_of(encoded(pki.raw_token("bare", format=version))) is RejectReason.FORMAT_UNSUPPORTED


@pytest.mark.parametrize("name", ["ES256K", "HS256", "none", "es256", "RS1", "EdDSA", " ES256"])
def test_other_algorithms_are_refused(pki: Any, name: str) -> None:
    assert reason_of(encoded(pki.raw_token("bare") | {"algorithm": name})) is RejectReason.ALGORITHM_UNSUPPORTED


FIELDS = ["unverifiedCertificate", "algorithm", "signature", "format", "appVersion"]
WRONG = [None, 1, True, 1.5, "", [], ["ES256"], {}, {"a": "b"}]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_fields_of_the_wrong_type_are_refused(pki: Any, field: str, value: Any) -> None:
    raw = pki.raw_token("bare") | {field: value}
    assert reason_of(raw) is RejectReason.MALFORMED
    assert reason_of(encoded(raw)) is RejectReason.MALFORMED


@pytest.mark.parametrize("field", FIELDS)
def test_missing_and_doubled_fields_are_refused(pki: Any, field: str) -> None:
    raw = pki.raw_token("bare")
    without = {name: value for name, value in raw.items() if name != field}
    assert reason_of(encoded(without)) is RejectReason.MALFORMED
    doubled = encoded(raw)[:-1] + b"," + encoded({field: raw[field]})[1:]
    assert reason_of(doubled) is RejectReason.MALFORMED


@pytest.mark.parametrize("field", ["unverifiedCertificate", "signature"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1],
        lambda text: text + "=",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text[:40] + "\n" + text[40:],
        lambda text: "-_" + text[2:],
        lambda text: "é" + text[1:],
        lambda text: "\ud800" + text[1:],
        lambda text: "====",
    ],
)
def test_base64_has_one_spelling(pki: Any, field: str, spoil: Callable[[str], str]) -> None:
    raw = pki.raw_token("bare")
    assert reason_of(raw | {field: spoil(raw[field])}) is RejectReason.MALFORMED


def test_ignored_bits_of_base64_are_refused(pki: Any) -> None:
    raw = pki.raw_token("bare")
    assert raw["signature"].endswith("==")  # 64 bytes: four bits of the last character mean nothing
    for last in "BCDEFGHIJKLMNOP":
        changed = raw["signature"][:-3] + last + "=="
        if changed[-3] not in "AQgw":
            assert reason_of(raw | {"signature": changed}) is RejectReason.MALFORMED


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"{" + b" " * 200 + b"}",
        b"[" * 9000,
        b'{"a":' * 1500 + b"1" + b"}" * 1500,
        b"[" + b"1," * 100 + b"1]",
        b'"' + b"a" * 200 + b'"',
        b"\xff\xfe" + b" " * 200,
        b"1" * 9999,
        b"-" + b"9" * 5000,
        b"NaN" + b" " * 200,
        b"null" + b" " * 200,
    ],
)
def test_what_is_no_token_is_malformed(raw: bytes) -> None:
    assert reason_of(raw) is RejectReason.MALFORMED


def test_length_bounds(pki: Any) -> None:
    raw = pki.raw_token("bare")
    assert reason_of(encoded(raw) + b" " * 10_001) is RejectReason.MALFORMED
    assert reason_of(raw | {"unverifiedCertificate": LONG * 3}) is RejectReason.MALFORMED
    assert reason_of(raw | {"appVersion": "x" * 256}) is RejectReason.MALFORMED
    short = {"unverifiedCertificate": "AAAA", "algorithm": "ES256", "signature": "AAAA", "format": "web-eid:1"}
    assert reason_of({**short, "appVersion": "x"}) is RejectReason.MALFORMED


# --- fuzz ----------------------------------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
SAME_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@settings(deadline=None)
@given(st.binary(max_size=400) | st.binary(min_size=100, max_size=400))
def test_random_bytes_are_rejected(raw: bytes) -> None:
    with pytest.raises(Rejected):
        Token.parse(raw)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(), ANYTHING))
def test_random_objects_are_rejected(raw: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        Token.parse(raw)


@SAME_FIXTURE
@given(certificate=st.binary(max_size=600), signature=st.binary(max_size=300), algorithm=st.sampled_from(Algorithm))
def test_random_contents_never_verify(
    verify: Callable[..., Any], certificate: bytes, signature: bytes, algorithm: Algorithm
) -> None:
    raw = {
        "unverifiedCertificate": b64encode(certificate).decode(),
        "algorithm": algorithm.value,
        "signature": b64encode(signature).decode(),
        "format": "web-eid:1.0",
        "appVersion": "https://example.org/" + "x" * 100,
    }
    with pytest.raises(Rejected):
        verify(Token.parse(raw))


@SAME_FIXTURE
@given(data=st.data(), edits=st.integers(1, 6))
def test_mutated_certificates_never_verify(pki: Any, verify: Callable[..., Any], data: Any, edits: int) -> None:
    certificate = bytearray(pki.der("both"))
    for _ in range(edits):
        place = data.draw(st.integers(0, len(certificate) - 1))
        match data.draw(st.sampled_from(["replace", "insert", "delete"])):
            case "replace":
                certificate[place] ^= data.draw(st.integers(1, 255))
            case "insert":
                certificate.insert(place, data.draw(st.integers(0, 255)))
            case _:
                del certificate[place : place + data.draw(st.integers(1, 8))]
    raw = pki.raw_token("both") | {"unverifiedCertificate": b64encode(certificate).decode()}
    if bytes(certificate) != pki.der("both"):
        with pytest.raises((Rejected, Undecided)):
            verify(Token.parse(raw))
