"""The PIN: set, changed, wrong, blocked; tokens with permissions. By both protocols, judged by python-fido2's half."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from fido2.ctap2.pin import PinProtocolV2

from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.authenticator.pin_protocol import KeyAgreement, SecretOne
from tokenbridge.authenticator.profile import PinProtocol
from tokenbridge.authenticator.status import Status
from tokenbridge.authenticator.steps import Result
from tokenbridge.authenticator.token import Permission

from .conftest import Bench, Counting, Platform

PIN_COMMAND = CommandByte.CLIENT_PIN


def info(bench: Bench) -> dict[int, Any]:
    return bench.ok(CommandByte.GET_INFO)


def test_a_pin_is_set_once(bench: Bench, platform: Platform) -> None:
    assert info(bench)[4]["clientPin"] is False
    assert platform.set_pin("1234") is Status.OK
    assert info(bench)[4]["clientPin"] is True
    assert bench.memory.pin.digest == hashlib.sha256(b"1234").digest()[:16]
    assert platform.set_pin("5678") is Status.PIN_AUTH_INVALID


@pytest.mark.parametrize(
    ("padded", "status"),
    [
        (b"123".ljust(64, b"\0"), Status.PIN_POLICY_VIOLATION),
        ("ééé".encode().ljust(64, b"\0"), Status.PIN_POLICY_VIOLATION),
        (b"1" * 64, Status.PIN_POLICY_VIOLATION),
        (b"\xff" * 10 + bytes(54), Status.PIN_POLICY_VIOLATION),
        (bytes(64), Status.PIN_POLICY_VIOLATION),
        (b"1234".ljust(48, b"\0"), Status.INVALID_PARAMETER),
        (b"1234".ljust(80, b"\0"), Status.INVALID_PARAMETER),
        (b"1" * 63 + b"\0", Status.OK),
        ("éééé".encode().ljust(64, b"\0"), Status.OK),
    ],
)
def test_rules_for_new_pins(bench: Bench, platform: Platform, padded: bytes, status: Status) -> None:
    assert platform.set_pin(padded=padded) is status
    assert (bench.memory.pin is not None) is (status is Status.OK)


def test_a_param_that_does_not_fit_sets_nothing(bench: Bench, platform: Platform) -> None:
    agreement, secret = platform.agree()
    sealed = platform.protocol.encrypt(secret, b"1234".ljust(64, b"\0"))
    request = {1: platform.number, 2: 3, 3: agreement, 4: bytes(32), 5: sealed}
    assert bench.call(PIN_COMMAND, request)[0] is Status.PIN_AUTH_INVALID
    assert bench.memory.pin is None


@pytest.mark.parametrize("left_out", [1, 3, 4, 5])
def test_missing_members_of_set_pin(bench: Bench, platform: Platform, left_out: int) -> None:
    agreement, secret = platform.agree()
    sealed = platform.protocol.encrypt(secret, b"1234".ljust(64, b"\0"))
    request = {1: platform.number, 2: 3, 3: agreement, 4: platform.protocol.authenticate(secret, sealed), 5: sealed}
    del request[left_out]
    assert bench.call(PIN_COMMAND, request)[0] is Status.MISSING_PARAMETER


def test_a_point_off_the_curve_is_refused(bench: Bench, platform: Platform) -> None:
    agreement, _ = platform.agree()
    bad_keys = [
        {**agreement, -3: bytes(32)},
        {**agreement, -2: b"short"},
        {**agreement, -2: agreement[-2][:31], -3: agreement[-2][31:] + agreement[-3]},
        {**agreement, -1: 2},
        {**agreement, 1: 1},
        {},
    ]
    for bad in bad_keys:
        request = {1: platform.number, 2: 3, 3: bad, 4: bytes(16), 5: bytes(64)}
        assert bench.call(PIN_COMMAND, request)[0] is Status.INVALID_PARAMETER


def test_changing_needs_the_old_pin(bench: Bench, platform: Platform) -> None:
    assert platform.change_pin("1234", "5678") is Status.PIN_NOT_SET
    platform.set_pin("1234")
    assert platform.change_pin("0000", "5678") is Status.PIN_INVALID
    assert platform.tries()[3] == 7
    assert platform.change_pin("1234", "12") is Status.PIN_POLICY_VIOLATION
    assert platform.change_pin("1234", "5678") is Status.OK
    assert platform.tries() == {3: 8, 4: False}
    assert platform.try_token("5678")[0] is Status.OK


def test_changing_the_pin_ends_the_token(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    token = platform.token(4)
    platform.change_pin("1234", "5678")
    status, _ = platform.manage(CommandByte.CREDENTIAL_MANAGEMENT, token, 1)
    assert status is Status.PIN_AUTH_INVALID


def test_three_wrong_in_a_row_close_the_pin_until_power_up(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    assert [platform.try_token("0000")[0] for _ in range(3)] == [
        Status.PIN_INVALID,
        Status.PIN_INVALID,
        Status.PIN_AUTH_BLOCKED,
    ]
    assert platform.tries() == {3: 5, 4: True}
    assert platform.try_token("1234")[0] is Status.PIN_AUTH_BLOCKED
    assert platform.change_pin("1234", "5678") is Status.PIN_AUTH_BLOCKED
    assert platform.tries()[3] == 5
    bench.power_cycle()
    assert platform.tries() == {3: 5, 4: False}
    assert platform.try_token("1234")[0] is Status.OK
    assert platform.tries()[3] == 8


def test_a_right_pin_starts_the_row_anew(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    for _ in range(3):
        platform.try_token("0000")
        platform.try_token("0000")
        assert platform.try_token("1234")[0] is Status.OK


def test_after_eight_wrong_the_pin_is_blocked_for_good(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    statuses = []
    for i in range(8):
        if i % 2 == 0:
            bench.power_cycle()
        statuses.append(platform.try_token("0000")[0])
    assert statuses == [Status.PIN_INVALID] * 7 + [Status.PIN_BLOCKED]
    bench.power_cycle()
    assert platform.tries()[3] == 0
    assert platform.try_token("1234")[0] is Status.PIN_BLOCKED
    assert platform.change_pin("1234", "5678") is Status.PIN_BLOCKED


def test_the_try_is_spent_before_the_comparison_is_known(bench: Bench, platform: Platform) -> None:
    """Whoever cuts the power at the moment of the answer saves no try."""
    platform.set_pin()
    saved: list[int] = []
    keep = bench.store.save
    bench.store.save = lambda memory: (saved.append(memory.pin_tries), keep(memory))[1]  # type: ignore[method-assign]
    platform.try_token("0000")
    assert saved == [7]
    platform.try_token("1234")
    assert saved == [7, 6, 8]


def test_a_wrong_pin_makes_a_new_key_agreement(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    before = bench.ok(PIN_COMMAND, {1: platform.number, 2: 2})[1]
    platform.try_token("0000")
    assert bench.ok(PIN_COMMAND, {1: platform.number, 2: 2})[1] != before


def test_a_pin_hash_that_is_no_block_spends_a_try(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    agreement, _ = platform.agree()
    request = {1: platform.number, 2: 5, 3: agreement, 6: b"short"}
    assert bench.call(PIN_COMMAND, request)[0] is Status.PIN_INVALID
    assert platform.tries()[3] == 7


def test_without_a_pin_there_is_no_token(bench: Bench, platform: Platform) -> None:
    assert platform.try_token()[0] is Status.PIN_NOT_SET
    assert platform.try_token(permissions=4)[0] is Status.PIN_NOT_SET


@pytest.mark.parametrize(
    ("permissions", "rp_id", "status"),
    [
        (0, None, Status.INVALID_PARAMETER),
        (1, None, Status.MISSING_PARAMETER),
        (2, None, Status.MISSING_PARAMETER),
        (1, "example.org", Status.OK),
        (3, "example.org", Status.OK),
        (4, None, Status.OK),
        (4, "example.org", Status.OK),
        (8, None, Status.UNAUTHORIZED_PERMISSION),
        (0x10, None, Status.OK),
        (0x20, None, Status.OK),
        (0x44, None, Status.OK),
    ],
)
def test_permissions(bench: Bench, platform: Platform, permissions: int, rp_id: str | None, status: Status) -> None:
    platform.set_pin()
    assert platform.try_token(permissions=permissions, rp_id=rp_id)[0] is status


def test_permissions_of_what_the_model_lacks(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(credential_management=False, config=False, large_blobs=False)
    platform = Platform(bench, PinProtocolV2())
    platform.set_pin()
    for permission in (4, 0x10, 0x20):
        assert platform.try_token(permissions=permission)[0] is Status.UNAUTHORIZED_PERMISSION
    assert platform.tries()[3] == 8


def test_the_old_way_takes_no_permissions(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    agreement, _ = platform.agree()
    request = {1: platform.number, 2: 5, 3: agreement, 6: bytes(16), 9: 1}
    assert bench.call(PIN_COMMAND, request)[0] is Status.INVALID_PARAMETER


def test_a_new_token_ends_the_one_before_whatever_its_protocol(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    other = Platform(bench, PinProtocolV2())
    first = platform.token(4)
    other.token(4)
    assert platform.manage(CommandByte.CREDENTIAL_MANAGEMENT, first, 1)[0] is Status.PIN_AUTH_INVALID


@pytest.mark.parametrize(
    ("request_map", "status"),
    [
        ({}, Status.MISSING_PARAMETER),
        ({2: "x"}, Status.CBOR_UNEXPECTED_TYPE),
        ({2: 99}, Status.INVALID_SUBCOMMAND),
        ({2: -1}, Status.INVALID_SUBCOMMAND),
        ({2: 2}, Status.MISSING_PARAMETER),
        ({1: 3, 2: 2}, Status.INVALID_PARAMETER),
        ({2: 7}, Status.INVALID_SUBCOMMAND),
        ({1: 2, 2: 6, 3: {}, 9: 4}, Status.INVALID_PARAMETER),
    ],
)
def test_bad_requests(bench: Bench, request_map: dict[int, Any], status: Status) -> None:
    assert bench.call(PIN_COMMAND, request_map)[0] is status


def test_a_forced_change_comes_before_everything_else(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    bench.memory.force_pin_change = True
    assert info(bench)[12] is True
    assert platform.try_token()[0] is Status.PIN_INVALID
    assert platform.try_token(permissions=4)[0] is Status.PIN_INVALID
    assert platform.change_pin("1234", "1234") is Status.PIN_POLICY_VIOLATION
    assert platform.change_pin("1234", "5678") is Status.OK
    assert info(bench)[12] is False
    assert platform.try_token("5678")[0] is Status.OK


# --- by finger ---------------------------------------------------------------------------------------------------


@pytest.fixture
def fingers(finger_bench: Bench) -> Platform:
    return Platform(finger_bench, PinProtocolV2())


def test_a_finger_gives_a_token(fingers: Platform) -> None:
    assert fingers.try_uv_token(Permission.BIO_ENROLLMENT)[0] is Status.OK
    assert fingers.bench.ok(PIN_COMMAND, {2: 7}) == {5: 5}


def test_a_strange_finger_gives_none(fingers: Platform) -> None:
    bench = fingers.bench
    bench.person.finger = "stranger's"
    assert fingers.try_uv_token(4)[0] is Status.UV_INVALID
    assert bench.ok(PIN_COMMAND, {2: 7}) == {5: 2}
    assert fingers.try_uv_token(4)[0] is Status.UV_BLOCKED
    assert fingers.try_uv_token(4)[0] is Status.UV_BLOCKED
    bench.power_cycle()
    assert fingers.try_uv_token(4)[0] is Status.UV_BLOCKED
    fingers.set_pin()
    fingers.token(4)
    assert bench.ok(PIN_COMMAND, {2: 7}) == {5: 5}


def test_the_second_look_may_know_the_finger(fingers: Platform) -> None:
    fingers.bench.results = [Result.NO_MATCH]
    assert fingers.try_uv_token(4)[0] is Status.OK
    assert fingers.bench.ok(PIN_COMMAND, {2: 7}) == {5: 5}


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Result.TIMED_OUT, Status.USER_ACTION_TIMEOUT),
        (Result.DENIED, Status.OPERATION_DENIED),
        (Result.CANCELLED, Status.KEEPALIVE_CANCEL),
    ],
)
def test_a_finger_that_does_not_come(fingers: Platform, result: Result, status: Status) -> None:
    fingers.bench.results = [result]
    assert fingers.try_uv_token(4)[0] is status
    assert fingers.bench.ok(PIN_COMMAND, {2: 7}) == {5: 5}


def test_without_enrolled_fingers_there_is_no_such_token(make_bench: Callable[..., Bench]) -> None:
    platform = Platform(make_bench(fingerprints=True), PinProtocolV2())
    assert platform.try_uv_token(4)[0] is Status.NOT_ALLOWED


def test_a_model_without_pin_has_the_sensors_commands_only(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(client_pin=False, fingerprints=True)
    assert bench.call(PIN_COMMAND, {2: 1})[0] is Status.INVALID_SUBCOMMAND
    assert bench.ok(PIN_COMMAND, {2: 7}) == {5: 5}
    assert make_bench(client_pin=False).call(PIN_COMMAND, {2: 1})[0] is Status.INVALID_COMMAND


# --- arithmetic --------------------------------------------------------------------------------------------------


def test_key_agreement_comes_from_the_given_randomness_alone() -> None:
    first, second = (KeyAgreement(PinProtocol.TWO, Counting()) for _ in range(2))
    assert first.public() == second.public()
    assert set(first.public()) == {1, 3, -1, -2, -3}
    before = first.public()
    first.regenerate()
    assert first.public() != before


def test_protocol_one_by_exact_bytes() -> None:
    """AES-256-CBC of NIST SP 800-38A F.2.5's first block would need its own vector; ours is zero: ECB's F.1.5."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    clear = bytes.fromhex("6bc1bee22e409f96e93d7e117393172a")
    secret = SecretOne(key)
    assert secret.encrypt(clear).hex() == "f3eed1bdb5d2a03c064b5a7e3db181f8"
    assert secret.decrypt(secret.encrypt(clear)) == clear
    assert secret.decrypt(b"") is None
    assert secret.decrypt(bytes(17)) is None
