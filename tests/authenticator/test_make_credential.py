"""Registration at the authenticator: parameters, options, verification, exclusion, storage, attestation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.attestation import PackedAttestation
from fido2.cose import CoseKey
from fido2.ctap2.pin import PinProtocolV2
from fido2.webauthn import AuthenticatorData

from tokenbridge.authenticator.authenticator import Operation
from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.authenticator.profile import Algorithm, AttestationFormat
from tokenbridge.authenticator.status import Status
from tokenbridge.authenticator.steps import Result, Slow, Wait
from tokenbridge.rig.key_pki import KeyPki

from .conftest import AAGUID, DIGEST, RP_HASH, Bench, Platform, credential_id, descriptor, register, sign_in

MAKE = CommandByte.MAKE_CREDENTIAL
Maker = Callable[..., Bench]


@pytest.mark.parametrize("algorithm", list(Algorithm))
@pytest.mark.parametrize("attestation", [AttestationFormat.PACKED_SELF, AttestationFormat.PACKED_BATCH])
def test_every_algorithm_is_attested_and_signs_in(
    make_bench: Maker, algorithm: Algorithm, attestation: AttestationFormat
) -> None:
    bench = make_bench(attestation=attestation)
    answer = bench.ok(MAKE, register(algorithms=[{"alg": int(algorithm), "type": "public-key"}]))
    data = AuthenticatorData(answer[2])
    assert data.credential_data is not None
    assert (answer[1], data.rp_id_hash) == ("packed", RP_HASH)
    assert data.credential_data.aaguid == AAGUID
    assert data.credential_data.public_key[3] == algorithm
    PackedAttestation().verify(answer[3], data, DIGEST)
    signed = bench.ok(CommandByte.GET_ASSERTION, sign_in(allow=[descriptor(data.credential_data.credential_id)]))
    CoseKey.parse(data.credential_data.public_key).verify(signed[2] + DIGEST, signed[3])


def test_batch_attestation_leads_to_the_makers_root(bench: Bench, key_pki: KeyPki) -> None:
    answer = bench.ok(MAKE, register())
    leaf = x509.load_der_x509_certificate(answer[3]["x5c"][0])
    leaf.verify_directly_issued_by(key_pki.root)
    public = leaf.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(answer[3]["sig"], answer[2] + DIGEST, ec.ECDSA(hashes.SHA256()))


def test_attestation_none_says_nothing(make_bench: Maker) -> None:
    answer = make_bench(attestation=AttestationFormat.NONE).ok(MAKE, register())
    assert (answer[1], answer[3]) == ("none", {})


def test_first_known_algorithm_of_the_list_is_taken(bench: Bench) -> None:
    wanted = [
        {"alg": number, "type": kind} for number, kind in [(-65535, "public-key"), (-7, "other"), (-8, "public-key")]
    ]
    data = AuthenticatorData(bench.ok(MAKE, register(algorithms=wanted))[2])
    assert data.credential_data is not None
    assert data.credential_data.public_key[3] == Algorithm.EDDSA


def test_flags_and_counter(bench: Bench) -> None:
    first, second = (AuthenticatorData(bench.ok(MAKE, register())[2]) for _ in range(2))
    assert first.flags == AuthenticatorData.FLAG.UP | AuthenticatorData.FLAG.AT
    assert second.counter == first.counter + 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"hash": None}, Status.MISSING_PARAMETER),
        ({"hash": b"short"}, Status.INVALID_LENGTH),
        ({"hash": "text"}, Status.CBOR_UNEXPECTED_TYPE),
        ({"rp": None}, Status.MISSING_PARAMETER),
        ({"rp": {"name": "no id"}}, Status.MISSING_PARAMETER),
        ({"rp": {"id": 1}}, Status.CBOR_UNEXPECTED_TYPE),
        ({"rp": {"id": "example.org", "name": 5}}, Status.CBOR_UNEXPECTED_TYPE),
        ({"rp": {"id": "x" * 2000}}, Status.INVALID_LENGTH),
        ({"user": None}, Status.MISSING_PARAMETER),
        ({"user": {"name": "no id"}}, Status.MISSING_PARAMETER),
        ({"user": {"id": bytes(65)}}, Status.INVALID_LENGTH),
        ({"user": {"id": b"1", "name": b"bytes"}}, Status.CBOR_UNEXPECTED_TYPE),
        ({"algorithms": None}, Status.MISSING_PARAMETER),
        ({"algorithms": {}}, Status.CBOR_UNEXPECTED_TYPE),
        ({"algorithms": []}, Status.UNSUPPORTED_ALGORITHM),
        ({"algorithms": [{"alg": -65535, "type": "public-key"}]}, Status.UNSUPPORTED_ALGORITHM),
        ({"algorithms": [{"alg": -7}]}, Status.MISSING_PARAMETER),
        ({"algorithms": [{"alg": "ES256", "type": "public-key"}]}, Status.CBOR_UNEXPECTED_TYPE),
        ({"algorithms": [1]}, Status.CBOR_UNEXPECTED_TYPE),
        ({"exclude": [{"id": b"x"}]}, Status.MISSING_PARAMETER),
        ({"exclude": [{"id": bytes(4), "type": "public-key"}] * 17}, Status.LIMIT_EXCEEDED),
        ({"extensions": 1}, Status.CBOR_UNEXPECTED_TYPE),
        ({"options": {"up": False}}, Status.INVALID_OPTION),
        ({"options": {"uv": True}}, Status.INVALID_OPTION),
        ({"options": {"rk": 1}}, Status.CBOR_UNEXPECTED_TYPE),
        ({"param": bytes(16)}, Status.MISSING_PARAMETER),
        ({"param": bytes(16), "protocol": 3}, Status.INVALID_PARAMETER),
        ({"param": bytes(16), "protocol": 1}, Status.PIN_AUTH_INVALID),
        ({"enterprise": 1}, Status.INVALID_PARAMETER),
    ],
)
def test_bad_requests_are_refused_in_the_words_of_the_specification(
    bench: Bench, changes: dict[str, Any], status: Status
) -> None:
    assert bench.call(MAKE, register(**changes))[0] is status
    assert bench.waits == []


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Result.DENIED, Status.OPERATION_DENIED),
        (Result.TIMED_OUT, Status.USER_ACTION_TIMEOUT),
        (Result.CANCELLED, Status.KEEPALIVE_CANCEL),
    ],
)
def test_without_a_touch_nothing_is_made(bench: Bench, result: Result, status: Status) -> None:
    bench.results = [result]
    assert bench.call(MAKE, register(options={"rk": True}))[0] is status
    assert bench.memory.credentials == []
    assert bench.memory.counter == 0


def test_the_touch_is_asked_for_in_the_name_of_the_site(bench: Bench) -> None:
    bench.ok(MAKE, register())
    [wait] = bench.waits
    assert (wait.purpose, wait.rp_id, wait.user) == ("makeCredential", "example.org", "ada")


def test_a_request_cancelled_while_its_key_is_made_leaves_nothing(bench: Bench) -> None:
    operation: Operation = bench.device.start(bytes([MAKE]) + cbor.encode(register(options={"rk": True})))
    assert isinstance(operation.step, Wait)
    operation.resume(Result.GRANTED)
    assert isinstance(operation.step, Slow)
    operation.cancel()
    assert operation.answer == bytes([Status.KEEPALIVE_CANCEL])
    assert bench.memory.credentials == []


def test_a_discoverable_credential_replaces_the_one_of_the_same_user(bench: Bench) -> None:
    first = bench.ok(MAKE, register(options={"rk": True}))
    second = bench.ok(MAKE, register(options={"rk": True}))
    bench.ok(MAKE, register(options={"rk": True}, user={"id": b"user-2"}))
    ids = [one.id for one in bench.memory.credentials]
    assert credential_id(first[2]) not in ids
    assert credential_id(second[2]) in ids
    assert len(ids) == 2


def test_the_key_of_a_replaced_credential_is_forgotten(bench: Bench) -> None:
    rsa = [{"alg": -257, "type": "public-key"}]
    for _ in range(2):
        bench.ok(MAKE, register(options={"rk": True}, algorithms=rsa))
    assert len(bench.state.kept) == 1


def test_a_full_device_takes_replacements_only(make_bench: Maker) -> None:
    bench = make_bench(max_credentials=1)
    bench.ok(MAKE, register(options={"rk": True}))
    full = bench.call(MAKE, register(options={"rk": True}, user={"id": b"user-2"}))
    assert full[0] is Status.KEY_STORE_FULL
    bench.ok(MAKE, register(options={"rk": True}))
    bench.ok(MAKE, register())


def test_a_device_without_room_for_any_says_so(make_bench: Maker) -> None:
    assert make_bench(discoverable=False).call(MAKE, register(options={"rk": True}))[0] is Status.UNSUPPORTED_OPTION


@pytest.mark.parametrize("rk", [True, False])
def test_excluded_credentials_are_told_to_who_touches(bench: Bench, rk: bool) -> None:
    identity = credential_id(bench.ok(MAKE, register(options={"rk": rk}))[2])
    bench.waits.clear()
    request = register(exclude=[descriptor(b"unknown"), descriptor(identity)])
    assert bench.call(MAKE, request)[0] is Status.CREDENTIAL_EXCLUDED
    assert len(bench.waits) == 1
    bench.results = [Result.TIMED_OUT]
    assert bench.call(MAKE, request)[0] is Status.CREDENTIAL_EXCLUDED
    bench.results = [Result.CANCELLED]
    assert bench.call(MAKE, request)[0] is Status.KEEPALIVE_CANCEL


def test_a_protected_credential_excludes_for_verified_people_only(bench: Bench, platform: Platform) -> None:
    identity = credential_id(bench.ok(MAKE, register(extensions={"credProtect": 3}))[2])
    exclude = [descriptor(identity)]
    bench.ok(MAKE, register(exclude=exclude))
    platform.set_pin()
    param = platform.sign(platform.token(1, "example.org"))
    request = register(exclude=exclude, param=param, protocol=platform.number)
    assert bench.call(MAKE, request)[0] is Status.CREDENTIAL_EXCLUDED


def test_another_sites_credential_excludes_nothing(bench: Bench) -> None:
    identity = credential_id(bench.ok(MAKE, register())[2])
    bench.ok(MAKE, register(rp={"id": "other.org"}, exclude=[descriptor(identity)]))
    bench.ok(MAKE, register(exclude=[{"id": identity, "type": "another type"}]))


def test_long_names_are_cut_at_a_character(make_bench: Maker) -> None:
    bench = make_bench(max_name=7)
    bench.ok(MAKE, register(user={"id": b"1", "name": "ééééé"}, options={"rk": True}))
    assert bench.memory.credentials[0].user.name == "ééé"


# --- verification ------------------------------------------------------------------------------------------------


def test_a_device_with_a_pin_wants_it_for_discoverable_credentials_only(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    assert bench.call(MAKE, register(options={"rk": True}))[0] is Status.PUAT_REQUIRED
    data = AuthenticatorData(bench.ok(MAKE, register())[2])
    assert not data.is_user_verified()


def test_a_strict_device_wants_its_pin_always(make_bench: Maker) -> None:
    bench = make_bench(uv_not_required=False)
    platform = Platform(bench, PinProtocolV2())
    bench.ok(MAKE, register())
    platform.set_pin()
    assert bench.call(MAKE, register())[0] is Status.PUAT_REQUIRED


def test_the_token_verifies_and_serves_one_registration(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    token = platform.token(1, "example.org")
    request = register(param=platform.sign(token), protocol=platform.number, options={"rk": True})
    assert AuthenticatorData(bench.ok(MAKE, request)[2]).is_user_verified()
    assert bench.call(MAKE, request)[0] is Status.PIN_AUTH_INVALID


def test_a_token_for_other_things_does_not_register(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    for permissions, rp_id in [(2, "example.org"), (1, "other.org")]:
        token = platform.token(permissions, rp_id)
        request = register(param=platform.sign(token), protocol=platform.number)
        assert bench.call(MAKE, request)[0] is Status.PIN_AUTH_INVALID
    token = platform.token(1, "example.org")
    other = register(param=platform.sign(token, hashlib.sha256(b"other").digest()), protocol=platform.number)
    assert bench.call(MAKE, other)[0] is Status.PIN_AUTH_INVALID


def test_a_token_of_one_protocol_is_none_of_the_other(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    request = register(param=platform.sign(platform.token()), protocol=3 - platform.number)
    assert bench.call(MAKE, request)[0] is Status.PIN_AUTH_INVALID


def test_the_old_token_is_bound_to_the_first_site(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    token = platform.token()
    bench.results = [Result.DENIED]
    param = platform.sign(token)
    assert bench.call(MAKE, register(param=param, protocol=platform.number))[0] is Status.OPERATION_DENIED
    elsewhere = register(param=param, protocol=platform.number, rp={"id": "other.org"})
    assert bench.call(MAKE, elsewhere)[0] is Status.PIN_AUTH_INVALID
    bench.ok(MAKE, register(param=param, protocol=platform.number))


@pytest.mark.parametrize("with_pin", [False, True])
def test_an_empty_param_asks_for_a_touch_and_tells_whether_there_is_a_pin(
    bench: Bench, platform: Platform, with_pin: bool
) -> None:
    if with_pin:
        platform.set_pin()
    status, _ = bench.call(MAKE, register(param=b"", protocol=platform.number))
    assert status is (Status.PIN_INVALID if with_pin else Status.PIN_NOT_SET)
    assert len(bench.waits) == 1
    bench.results = [Result.TIMED_OUT]
    assert bench.call(MAKE, register(param=b"", protocol=platform.number))[0] is Status.USER_ACTION_TIMEOUT


def test_a_recognised_finger_verifies_and_is_the_touch_too(finger_bench: Bench) -> None:
    answer = finger_bench.ok(MAKE, register(options={"uv": True, "rk": True}))
    assert AuthenticatorData(answer[2]).is_user_verified()
    assert [wait.need for wait in finger_bench.waits] == ["verification"]


def test_strange_fingers_cost_tries_until_the_sensor_is_closed(finger_bench: Bench) -> None:
    finger_bench.person.finger = "stranger's"
    request = register(options={"uv": True})
    assert finger_bench.call(MAKE, request)[0] is Status.OPERATION_DENIED
    assert finger_bench.memory.uv_tries == 2
    assert finger_bench.call(MAKE, request)[0] is Status.OPERATION_DENIED
    assert finger_bench.memory.uv_tries == 0
    finger_bench.person.finger = "right index"
    assert finger_bench.call(MAKE, request)[0] is Status.OPERATION_DENIED


def test_a_finger_that_is_late_or_cancelled_costs_no_try(finger_bench: Bench) -> None:
    for result, status in [
        (Result.TIMED_OUT, Status.USER_ACTION_TIMEOUT),
        (Result.CANCELLED, Status.KEEPALIVE_CANCEL),
        (Result.DENIED, Status.OPERATION_DENIED),
    ]:
        finger_bench.results = [result]
        assert finger_bench.call(MAKE, register(options={"uv": True}))[0] is status
    assert finger_bench.memory.uv_tries == finger_bench.profile.uv_tries


def test_enterprise_attestation_where_it_is_allowed(make_bench: Maker) -> None:
    bench = make_bench(enterprise=True, enterprise_rp_ids=frozenset({"corp.example"}))
    assert bench.call(MAKE, register(enterprise=1))[0] is Status.INVALID_PARAMETER
    bench.ok(CommandByte.CONFIG, {1: 1})
    assert 4 not in bench.ok(MAKE, register(enterprise=1))
    assert bench.ok(MAKE, register(enterprise=2))[4] is True
    assert bench.ok(MAKE, register(enterprise=1, rp={"id": "corp.example"}))[4] is True
    assert bench.call(MAKE, register(enterprise=3))[0] is Status.INVALID_OPTION
