"""What a site asks, checked before any key sees it: its address decides what may be signed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenbridge.errors import OriginRefused, RelyingPartyUnavailable, TokenbridgeError
from tokenbridge.fido.request import Need, assertion_request, creation_request

from .conftest import challenge
from .test_register import options

ORIGIN = "https://portal.trust.example.org:8443"


@pytest.mark.parametrize(
    ("origin", "rp_id"),
    [
        (ORIGIN, "portal.trust.example.org"),
        (ORIGIN, "trust.example.org"),
        (ORIGIN, "example.org"),
        (ORIGIN, None),
        ("https://localhost:8443", "localhost"),
        ("http://localhost:8080", "localhost"),
        ("https://portal", "portal"),
    ],
)
def test_the_address_itself_and_its_parents_may_be_signed_for(origin: str, rp_id: str | None) -> None:
    data = {"challenge": challenge()} | ({"rpId": rp_id} if rp_id else {})
    request = assertion_request(data, origin)
    assert request.rp_id == (rp_id or "portal.trust.example.org")
    assert json.loads(request.client_data.json)["origin"] == origin
    assert json.loads(request.client_data.json)["type"] == "webauthn.get"


@pytest.mark.parametrize(
    ("origin", "rp_id"),
    [
        (ORIGIN, "org"),
        (ORIGIN, "other.example.org"),
        (ORIGIN, "rust.example.org"),
        (ORIGIN, "evil.portal.trust.example.org"),
        (ORIGIN, "portal.trust.example.org."),
        (ORIGIN, ""),
        ("https://a.co.uk", "co.uk"),
        ("https://portal.hospital", "hospital"),
        ("http://portal.example.org", "portal.example.org"),
        ("https://127.0.0.1:8443", "127.0.0.1.example"),
    ],
)
def test_nothing_else_is(origin: str, rp_id: str) -> None:
    if rp_id == "":
        # An empty name is no name: the host itself is meant.
        assert assertion_request({"challenge": challenge(), "rpId": ""}, origin).rp_id == "portal.trust.example.org"
        return
    with pytest.raises(OriginRefused):
        assertion_request({"challenge": challenge(), "rpId": rp_id}, origin)
    data = options()
    data["rp"]["id"] = rp_id
    with pytest.raises(OriginRefused):
        creation_request(data, origin)


@pytest.mark.parametrize(
    "change",
    [
        {"challenge": "AAAA"},
        {"challenge": 7},
        {"challenge": None},
        {"challenge": "A" * 4000},
        {"rpId": 7},
        {"allowCredentials": [{"type": "public-key", "id": ""}]},
        {"allowCredentials": [{"type": "public-key", "id": "A" * 3000}]},
        {"allowCredentials": [{"type": "public-key", "id": "AAAA"}] * 300},
        {"allowCredentials": "all of them"},
        {"allowCredentials": [{"id": "AAAA"}]},
    ],
)
def test_malformed_requests_for_an_assertion(change: dict[str, Any]) -> None:
    with pytest.raises((RelyingPartyUnavailable, OriginRefused)):
        assertion_request({"challenge": challenge(), "rpId": "example.org"} | change, ORIGIN)


@pytest.mark.parametrize(
    "change",
    [
        {"user": {}},
        {"user": {"id": "", "name": "x", "displayName": "x"}},
        {"user": {"id": "A" * 100, "name": "x", "displayName": "x"}},
        {"user": None},
        {"rp": None},
        {"pubKeyCredParams": [{"type": "public-key", "alg": "ES256"}]},
        {"pubKeyCredParams": [{"type": "public-key", "alg": -7}] * 300},
        {"pubKeyCredParams": 3},
        {"excludeCredentials": [7]},
        {"authenticatorSelection": []},
        {"challenge": "AAAA"},
    ],
)
def test_malformed_requests_for_a_credential(change: dict[str, Any]) -> None:
    with pytest.raises((RelyingPartyUnavailable, OriginRefused)):
        creation_request(options() | change, "https://portal.example.org")


def test_unknown_words_count_as_not_given() -> None:
    request = assertion_request({"challenge": challenge(), "userVerification": "telepathy"}, ORIGIN)
    assert request.verification is Need.PREFERRED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = ("challenge", "rpId", "rp", "user", "allowCredentials", "excludeCredentials", "pubKeyCredParams",
           "authenticatorSelection", "userVerification", "extensions", "attestation", "timeout", "hints")  # fmt: skip


@given(st.dictionaries(st.sampled_from(MEMBERS), JSON))
def test_whatever_a_site_sends_gives_a_request_or_a_typed_error(members: dict[str, Any]) -> None:
    for read in (assertion_request, creation_request):
        try:
            read({**options(), **members}, ORIGIN)
        except TokenbridgeError:
            continue
