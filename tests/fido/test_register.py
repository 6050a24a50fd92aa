"""Registering a key: what is asked of it and what comes back, verified by a relying party that is not ours."""

from __future__ import annotations

from typing import Any

import pytest
from fido2.webauthn import AttestationObject, RegistrationResponse

from tokenbridge.errors import CredentialExists, KeyFull, KeyPinMissing, KeyUnsupported
from tokenbridge.fido.info import Verification
from tokenbridge.fido.register import _extensions, create
from tokenbridge.fido.request import creation_request

from .conftest import KeyBench, Site, challenge, pin


def attestation_of(response: Any) -> AttestationObject:
    return RegistrationResponse.from_dict(response).response.attestation_object


def test_a_key_with_pin_makes_a_verified_discoverable_credential(pin_bench: KeyBench, site: Site) -> None:
    made = site.register(pin_bench)
    found = attestation_of(made.response)
    assert made.discoverable
    assert found.fmt == "packed"
    assert found.auth_data.is_user_verified()
    assert pin_bench.heard() == ["getKeyAgreement", "getPinToken", "makeCredential"]


def test_a_key_without_pin_makes_one_by_touch(bench: KeyBench, site: Site) -> None:
    assert not bench.session.facts.has_pin
    bench.heard()
    made = site.register(bench)
    assert not attestation_of(made.response).auth_data.is_user_verified()
    assert bench.heard() == ["makeCredential"]


def test_verification_that_is_required_wants_a_pin_first(bench: KeyBench, site: Site) -> None:
    with pytest.raises(KeyPinMissing):
        site.register(bench, need="required")


def test_the_same_key_twice(pin_bench: KeyBench, site: Site) -> None:
    site.register(pin_bench)
    with pytest.raises(CredentialExists):
        site.register(pin_bench)


def test_the_same_key_twice_in_a_list_longer_than_it_takes(make_bench: Any, site: Site) -> None:
    bench, others = make_bench(with_pin=True, max_credentials_in_list=2), make_bench(with_pin=True)
    for number in range(5):
        site.register(others, user=b"u%d" % number, exclude=False, resident="discouraged")
    site.register(bench, exclude=False)
    with pytest.raises(CredentialExists):
        site.register(bench)


def test_a_full_key_registers_without_keeping_the_credential(make_bench: Any, site: Site) -> None:
    bench = make_bench(with_pin=True, max_credentials=1)
    assert site.register(bench, user=b"ada", exclude=False).discoverable
    assert not site.register(bench, user=b"grace", exclude=False).discoverable
    with pytest.raises(KeyFull):
        site.register(bench, user=b"joan", exclude=False, resident="required")


def test_a_key_that_keeps_nothing(make_bench: Any, site: Site) -> None:
    bench = make_bench(with_pin=True, discoverable=False)
    assert not site.register(bench).discoverable
    with pytest.raises(KeyUnsupported):
        site.register(bench, resident="required", exclude=False)


def test_no_algorithm_in_common(bench: KeyBench, site: Site) -> None:
    with pytest.raises(KeyUnsupported):
        site.register(bench, algorithms=(-65535,))


def test_cred_props_says_whether_the_credential_is_kept(bench: KeyBench, site: Site) -> None:
    kept = site.register(bench, extensions={"credProps": True}, exclude=False).response
    loose = site.register(bench, extensions={"credProps": True}, exclude=False, resident="discouraged").response
    assert kept["clientExtensionResults"] == {"credProps": {"rk": True}}
    assert loose["clientExtensionResults"] == {"credProps": {"rk": False}}
    assert kept["response"]["transports"] == ["usb"]


def test_protection_and_pin_length_reach_the_key(pin_bench: KeyBench, site: Site) -> None:
    asked = {"credentialProtectionPolicy": "userVerificationRequired", "minPinLength": True}
    found = attestation_of(site.register(pin_bench, extensions=asked).response)
    assert found.auth_data.extensions == {"credProtect": 3}


def test_protection_that_is_insisted_on_and_not_known() -> None:
    data = options() | {
        "extensions": {
            "credentialProtectionPolicy": "userVerificationRequired",
            "enforceCredentialProtectionPolicy": True,
        }
    }
    with pytest.raises(KeyUnsupported):
        _extensions(creation_request(data, "https://portal.example.org"), ["hmac-secret"])


def test_without_conveyance_the_model_is_not_told(pin_bench: KeyBench) -> None:
    request = creation_request(options(), "https://portal.example.org")
    made = create(pin_bench.session, request, Verification.PIN, pin())
    found = attestation_of(made.response)
    assert found.fmt == "none"
    assert found.auth_data.credential_data is not None
    assert not any(found.auth_data.credential_data.aaguid)


def test_long_names_are_cut_to_what_keys_take(pin_bench: KeyBench) -> None:
    data = options()
    data["user"]["displayName"] = "ü" * 200
    request = creation_request(data, "https://portal.example.org")
    assert len(request.user_display_name.encode()) == 64
    create(pin_bench.session, request, Verification.PIN, pin())


def options() -> dict[str, Any]:
    return {
        "rp": {"id": "portal.example.org", "name": "Test Hospital"},
        "user": {"id": "YWRh", "name": "ada", "displayName": "Ada Lovelace"},
        "challenge": challenge(),
        "pubKeyCredParams": [{"type": "public-key", "alg": -7}],
        "authenticatorSelection": {"residentKey": "preferred", "userVerification": "preferred"},
    }
