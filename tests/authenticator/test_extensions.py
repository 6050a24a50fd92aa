"""Extensions and large blobs."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Any

import pytest
from fido2.ctap2.pin import PinProtocolV2
from fido2.webauthn import AuthenticatorData

from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.authenticator.memory import EMPTY_LARGE_BLOBS
from tokenbridge.authenticator.status import Status

from .conftest import DIGEST, Bench, Platform, credential_id, descriptor, register, sign_in

MAKE, GET, BLOBS = CommandByte.MAKE_CREDENTIAL, CommandByte.GET_ASSERTION, CommandByte.LARGE_BLOBS
SALT, SALT_2 = bytes(range(32)), bytes(range(32, 64))


def outputs(answer: dict[int, Any]) -> dict[str, Any]:
    return dict(AuthenticatorData(answer[2]).extensions or {})


def verified(platform: Platform, permissions: int = 2) -> dict[str, Any]:
    """The members that make a sign-in a verified one."""
    token = platform.token(permissions, "example.org")
    return {"param": platform.sign(token), "protocol": platform.number}


# --- credProtect -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "by_rp", "by_list"),
    [
        (None, Status.OK, Status.OK),
        (1, Status.OK, Status.OK),
        (2, Status.NO_CREDENTIALS, Status.OK),
        (3, Status.NO_CREDENTIALS, Status.NO_CREDENTIALS),
    ],
)
def test_protected_credentials_hide_from_the_unverified(
    bench: Bench, platform: Platform, level: int | None, by_rp: Status, by_list: Status
) -> None:
    asked = {} if level is None else {"credProtect": level}
    answer = bench.ok(MAKE, register(options={"rk": True}, extensions=asked))
    assert outputs(answer) == asked
    listed = [descriptor(credential_id(answer[2]))]
    assert bench.call(GET, sign_in())[0] is by_rp
    assert bench.call(GET, sign_in(allow=listed))[0] is by_list
    platform.set_pin()
    bench.ok(GET, sign_in(**verified(platform)))
    bench.ok(GET, sign_in(allow=listed, **verified(platform)))


def test_protection_of_sealed_ids_is_inside_them(bench: Bench) -> None:
    identity = credential_id(bench.ok(MAKE, register(extensions={"credProtect": 3}))[2])
    assert bench.call(GET, sign_in(allow=[descriptor(identity)]))[0] is Status.NO_CREDENTIALS
    bench.ok(MAKE, register(exclude=[descriptor(identity)]))


@pytest.mark.parametrize(
    ("extensions", "status"),
    [
        ({"credProtect": 0}, Status.INVALID_OPTION),
        ({"credProtect": 4}, Status.INVALID_OPTION),
        ({"credProtect": True}, Status.CBOR_UNEXPECTED_TYPE),
        ({"hmac-secret": 1}, Status.CBOR_UNEXPECTED_TYPE),
        ({"largeBlobKey": True}, Status.INVALID_OPTION),
        ({"largeBlobKey": False}, Status.INVALID_OPTION),
        ({"credBlob": "text"}, Status.CBOR_UNEXPECTED_TYPE),
        ({"minPinLength": 1}, Status.CBOR_UNEXPECTED_TYPE),
        ({"unheard-of": [1, 2]}, Status.OK),
    ],
)
def test_values_that_extensions_do_not_have(bench: Bench, extensions: dict[str, Any], status: Status) -> None:
    assert bench.call(MAKE, register(extensions=extensions))[0] is status


# --- credBlob, minPinLength --------------------------------------------------------------------------------------


def test_a_blob_is_kept_in_discoverable_credentials(bench: Bench) -> None:
    answer = bench.ok(MAKE, register(options={"rk": True}, extensions={"credBlob": b"blob"}))
    assert outputs(answer) == {"credBlob": True}
    assert outputs(bench.ok(GET, sign_in(extensions={"credBlob": True}))) == {"credBlob": b"blob"}
    assert outputs(bench.ok(GET, sign_in())) == {}


def test_a_blob_that_is_too_long_or_has_no_place_is_not_kept(bench: Bench) -> None:
    answer = bench.ok(MAKE, register(options={"rk": True}, extensions={"credBlob": bytes(33)}))
    assert outputs(answer) == {"credBlob": False}
    assert outputs(bench.ok(GET, sign_in(extensions={"credBlob": True}))) == {"credBlob": b""}
    assert outputs(bench.ok(MAKE, register(extensions={"credBlob": b"blob"}))) == {"credBlob": False}


def test_the_least_length_of_pins_is_told_to_configured_sites(bench: Bench) -> None:
    wish = register(extensions={"minPinLength": True})
    assert outputs(bench.ok(MAKE, wish)) == {}
    bench.ok(CommandByte.CONFIG, {1: 3, 2: {2: ["example.org"]}})
    assert outputs(bench.ok(MAKE, wish)) == {"minPinLength": 4}


# --- hmac-secret -------------------------------------------------------------------------------------------------


def secret_wish(platform: Platform, salts: bytes) -> tuple[bytes, dict[int, Any]]:
    agreement, secret = platform.agree()
    sealed = platform.protocol.encrypt(secret, salts)
    wish = {1: agreement, 2: sealed, 3: platform.protocol.authenticate(secret, sealed)}
    return secret, wish | ({4: 2} if platform.number == 2 else {})


def secrets(platform: Platform, identity: bytes, salts: bytes, **changes: Any) -> bytes:
    secret, wish = secret_wish(platform, salts)
    request = sign_in(allow=[descriptor(identity)], extensions={"hmac-secret": wish}, **changes)
    sealed = outputs(platform.bench.ok(GET, request))["hmac-secret"]
    return platform.protocol.decrypt(secret, sealed)


@pytest.mark.parametrize("rk", [True, False])
def test_secrets_belong_to_credential_and_salt(bench: Bench, platform: Platform, rk: bool) -> None:
    answer = bench.ok(MAKE, register(options={"rk": rk}, extensions={"hmac-secret": True}))
    assert outputs(answer) == {"hmac-secret": True}
    identity = credential_id(answer[2])
    one = secrets(platform, identity, SALT)
    two = secrets(platform, identity, SALT + SALT_2)
    assert len(one) == 32
    assert two[:32] == one
    assert two[32:] not in (one, bytes(32))
    other = credential_id(bench.ok(MAKE, register(extensions={"hmac-secret": True}, user={"id": b"2"}))[2])
    assert secrets(platform, other, SALT) != one
    bench.power_cycle()
    assert secrets(platform, identity, SALT) == one


def test_the_secret_of_the_verified_is_another(bench: Bench, platform: Platform) -> None:
    identity = credential_id(bench.ok(MAKE, register(extensions={"hmac-secret": True}))[2])
    plain = secrets(platform, identity, SALT)
    platform.set_pin()
    assert secrets(platform, identity, SALT, **verified(platform)) != plain
    key = bench.store.derive(b"hmac-secret" + identity)
    assert plain == hmac.new(key, SALT, hashlib.sha256).digest()


def test_bad_salts(bench: Bench, platform: Platform) -> None:
    identity = credential_id(bench.ok(MAKE, register(extensions={"hmac-secret": True}))[2])
    listed = [descriptor(identity)]
    _, good = secret_wish(platform, SALT)
    _, short = secret_wish(platform, SALT[:16])
    cases: list[tuple[dict[str, Any], Any, Status]] = [
        ({}, {**good, 3: bytes(32)}, Status.PIN_AUTH_INVALID),
        ({}, short, Status.INVALID_PARAMETER),
        ({}, {1: good[1]}, Status.MISSING_PARAMETER),
        ({}, {**good, 4: 7}, Status.INVALID_PARAMETER),
        ({"options": {"up": False}}, good, Status.UNSUPPORTED_OPTION),
        ({}, True, Status.CBOR_UNEXPECTED_TYPE),
    ]
    for changes, wish, status in cases:
        request = sign_in(allow=listed, extensions={"hmac-secret": wish}, **changes)
        assert bench.call(GET, request)[0] is status


def test_credentials_made_without_it_have_no_secret(bench: Bench, platform: Platform) -> None:
    identity = credential_id(bench.ok(MAKE, register())[2])
    _, wish = secret_wish(platform, SALT)
    request = sign_in(allow=[descriptor(identity)], extensions={"hmac-secret": wish})
    assert outputs(bench.ok(GET, request)) == {}


# --- large blobs -------------------------------------------------------------------------------------------------


def test_the_key_of_a_large_blob_is_the_same_each_time(bench: Bench) -> None:
    made = bench.ok(MAKE, register(options={"rk": True}, extensions={"largeBlobKey": True}))
    assert len(made[5]) == 32
    assert bench.ok(GET, sign_in(extensions={"largeBlobKey": True}))[7] == made[5]
    assert 7 not in bench.ok(GET, sign_in())
    assert bench.call(GET, sign_in(extensions={"largeBlobKey": False}))[0] is Status.INVALID_OPTION


def with_checksum(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()[:16]


class Writer:
    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def read(self) -> bytes:
        data: bytes = self.bench.ok(BLOBS, {1: 4096, 3: 0})[1]
        return data

    def write(self, data: bytes, *, step: int = 1024, **extra: Any) -> list[Status]:
        statuses = []
        for offset in range(0, len(data), step):
            first = {4: len(data)} if offset == 0 else {}
            statuses.append(self.bench.call(BLOBS, {2: data[offset : offset + step], 3: offset, **first})[0])
        return statuses


@pytest.fixture
def writer(bench: Bench) -> Writer:
    return Writer(bench)


def test_the_array_begins_empty_and_is_written_in_fragments(bench: Bench, writer: Writer) -> None:
    assert writer.read() == EMPTY_LARGE_BLOBS
    data = with_checksum(bytes(3000))
    assert writer.write(data) == [Status.OK] * 3
    assert writer.read() == data
    assert bench.ok(BLOBS, {1: 10, 3: 3010}) == {1: data[3010:]}
    assert bench.ok(BLOBS, {1: 10, 3: 3016}) == {1: b""}
    bench.power_cycle()
    assert writer.read() == data


def test_a_wrong_checksum_changes_nothing(writer: Writer) -> None:
    assert writer.write(bytes(100)) == [Status.INTEGRITY_FAILURE]
    assert writer.read() == EMPTY_LARGE_BLOBS


def test_writing_that_was_begun_anew_or_lost_its_power_leaves_the_old(bench: Bench, writer: Writer) -> None:
    data = with_checksum(bytes(2000))
    bench.ok(BLOBS, {2: data[:1024], 3: 0, 4: len(data)})
    bench.power_cycle()
    assert bench.call(BLOBS, {2: data[1024:], 3: 1024})[0] is Status.INVALID_SEQ
    assert writer.read() == EMPTY_LARGE_BLOBS
    bench.ok(BLOBS, {2: data[:1024], 3: 0, 4: len(data)})
    assert writer.write(data) == [Status.OK] * 2


@pytest.mark.parametrize(
    ("request_map", "status"),
    [
        ({}, Status.INVALID_PARAMETER),
        ({1: 1}, Status.INVALID_PARAMETER),
        ({1: 1, 2: b"x", 3: 0}, Status.INVALID_PARAMETER),
        ({1: 1, 3: 0, 4: 5}, Status.INVALID_PARAMETER),
        ({1: 1, 3: 0, 5: bytes(32), 6: 2}, Status.INVALID_PARAMETER),
        ({1: 1, 3: 18}, Status.INVALID_PARAMETER),
        ({1: 7546, 3: 0}, Status.INVALID_LENGTH),
        ({1: -1, 3: 0}, Status.CBOR_UNEXPECTED_TYPE),
        ({2: b"x", 3: 0}, Status.INVALID_PARAMETER),
        ({2: b"x", 3: 0, 4: 16}, Status.INVALID_PARAMETER),
        ({2: b"x", 3: 0, 4: 4097}, Status.LARGE_BLOB_STORAGE_FULL),
        ({2: b"x", 3: 1}, Status.INVALID_SEQ),
        ({2: b"x", 3: 2**63}, Status.INVALID_SEQ),
        ({2: b"x", 3: 1, 4: 20}, Status.INVALID_PARAMETER),
        ({2: bytes(21), 3: 0, 4: 20}, Status.INVALID_PARAMETER),
        ({2: bytes(7546), 3: 0, 4: 20}, Status.INVALID_LENGTH),
    ],
)
def test_bad_requests(bench: Bench, request_map: dict[int, Any], status: Status) -> None:
    assert bench.call(BLOBS, request_map)[0] is status


def test_a_protected_device_is_written_with_a_token_only(bench: Bench, platform: Platform, writer: Writer) -> None:
    platform.set_pin()
    data = with_checksum(b"\x80" * 10)
    assert writer.write(data) == [Status.PUAT_REQUIRED]
    message = b"\xff" * 32 + b"\x0c\x00" + bytes(4) + hashlib.sha256(data).digest()
    request = {2: data, 3: 0, 4: len(data), 6: platform.number}
    wrong = platform.sign(platform.token(4), message)
    assert bench.call(BLOBS, {**request, 5: wrong})[0] is Status.PIN_AUTH_INVALID
    other = platform.sign(platform.token(0x10), message[:-1] + b"?")
    assert bench.call(BLOBS, {**request, 5: other})[0] is Status.PIN_AUTH_INVALID
    bench.ok(BLOBS, {**request, 5: platform.sign(platform.token(0x10), message)})
    assert writer.read() == data


def test_the_permission_to_write_blobs_outlives_a_sign_in(bench: Bench, platform: Platform) -> None:
    bench.ok(MAKE, register(options={"rk": True}))
    platform.set_pin()
    token = platform.token(0x12, "example.org")
    bench.ok(GET, sign_in(param=platform.sign(token, DIGEST), protocol=platform.number))
    data = with_checksum(b"\x80")
    message = b"\xff" * 32 + b"\x0c\x00" + bytes(4) + hashlib.sha256(data).digest()
    request = {2: data, 3: 0, 4: len(data), 5: platform.sign(token, message), 6: platform.number}
    bench.ok(BLOBS, request)


def test_a_model_without_large_blobs(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(large_blobs=False)
    assert bench.call(BLOBS, {1: 1, 3: 0})[0] is Status.INVALID_COMMAND
    assert Platform(bench, PinProtocolV2()).number == 2
