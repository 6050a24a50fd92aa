"""Credential management, configuration, fingerprints, reset and selection."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from fido2 import cbor
from fido2.ctap2.pin import PinProtocolV2

from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.authenticator.status import Status
from tokenbridge.authenticator.steps import Result

from .conftest import RP_HASH, Bench, Platform, credential_id, descriptor, register, sign_in

MAKE, MANAGE, CONFIG = CommandByte.MAKE_CREDENTIAL, CommandByte.CREDENTIAL_MANAGEMENT, CommandByte.CONFIG
BIO, RESET = CommandByte.BIO_ENROLLMENT, CommandByte.RESET
OTHER = hashlib.sha256(b"other.org").digest()
CONFIG_PREFIX = b"\xff" * 32 + b"\x0d"
Maker = Callable[..., Bench]


def stored(bench: Bench) -> list[bytes]:
    """Two credentials at example.org, one at other.org."""
    requests = [
        register(options={"rk": True}, user={"id": b"1", "name": "ada"}),
        register(options={"rk": True}, user={"id": b"2", "name": "bob", "displayName": "Bob"}),
        register(options={"rk": True}, rp={"id": "other.org"}, extensions={"largeBlobKey": True, "credProtect": 2}),
    ]
    return [credential_id(bench.ok(MAKE, request)[2]) for request in requests]


# --- credentials -------------------------------------------------------------------------------------------------


def test_metadata_counts(bench: Bench, platform: Platform) -> None:
    stored(bench)
    platform.set_pin()
    assert platform.manage(MANAGE, platform.token(4), 1) == (Status.OK, {1: 3, 2: 47})


def test_relying_parties_are_listed_one_by_one(bench: Bench, platform: Platform) -> None:
    stored(bench)
    platform.set_pin()
    status, first = platform.manage(MANAGE, platform.token(4), 2)
    second = bench.ok(MANAGE, {1: 3})
    assert status is Status.OK
    assert first == {3: {"id": "example.org"}, 4: RP_HASH, 5: 2}
    assert second == {3: {"id": "other.org"}, 4: OTHER}
    assert bench.call(MANAGE, {1: 3})[0] is Status.NOT_ALLOWED


def test_credentials_are_listed_one_by_one(bench: Bench, platform: Platform) -> None:
    ids = stored(bench)
    platform.set_pin()
    token = platform.token(4)
    _, first = platform.manage(MANAGE, token, 4, {1: RP_HASH})
    second = bench.ok(MANAGE, {1: 5})
    assert (first[6], first[7], first[9]) == ({"id": b"2", "name": "bob", "displayName": "Bob"}, descriptor(ids[1]), 2)
    assert (second[6], second[7], second[10]) == ({"id": b"1", "name": "ada"}, descriptor(ids[0]), 1)
    assert bench.call(MANAGE, {1: 5})[0] is Status.NOT_ALLOWED
    _, other = platform.manage(MANAGE, token, 4, {1: OTHER})
    assert (other[9], other[10], len(other[11])) == (1, 2, 32)
    assert other[8][3] == -7


def test_a_series_ends_with_any_other_command_and_on_other_channels(bench: Bench, platform: Platform) -> None:
    stored(bench)
    platform.set_pin()
    token = platform.token(4)
    platform.manage(MANAGE, token, 2)
    bench.ok(CommandByte.GET_INFO)
    assert bench.call(MANAGE, {1: 3})[0] is Status.NOT_ALLOWED
    platform.manage(MANAGE, token, 2)
    assert bench.call(MANAGE, {1: 3}, channel=2)[0] is Status.NOT_ALLOWED
    platform.manage(MANAGE, token, 2)
    assert bench.call(MANAGE, {1: 5})[0] is Status.NOT_ALLOWED


def test_an_empty_device_has_nothing_to_list(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    token = platform.token(4)
    assert platform.manage(MANAGE, token, 1) == (Status.OK, {1: 0, 2: 50})
    assert platform.manage(MANAGE, token, 2)[0] is Status.NO_CREDENTIALS
    assert platform.manage(MANAGE, token, 4, {1: RP_HASH})[0] is Status.NO_CREDENTIALS


def test_delete_and_rename(bench: Bench, platform: Platform) -> None:
    ids = stored(bench)
    platform.set_pin()
    token = platform.token(4)
    renamed = {2: descriptor(ids[1]), 3: {"id": b"2", "name": "robert"}}
    assert platform.manage(MANAGE, token, 7, renamed)[0] is Status.OK
    assert bench.memory.credentials[1].user.name == "robert"
    assert bench.memory.credentials[1].user.display_name == ""
    other_user = {2: descriptor(ids[1]), 3: {"id": b"3", "name": "eve"}}
    assert platform.manage(MANAGE, token, 7, other_user)[0] is Status.INVALID_PARAMETER
    assert platform.manage(MANAGE, token, 6, {2: descriptor(ids[0])})[0] is Status.OK
    assert platform.manage(MANAGE, token, 6, {2: descriptor(ids[0])})[0] is Status.NO_CREDENTIALS
    bench.power_cycle()
    assert [one.id for one in bench.memory.credentials] == ids[1:]
    assert bench.call(CommandByte.GET_ASSERTION, sign_in(allow=[descriptor(ids[0])]))[0] is Status.NO_CREDENTIALS


def test_a_token_for_one_site_manages_that_site_only(bench: Bench, platform: Platform) -> None:
    ids = stored(bench)
    platform.set_pin()
    token = platform.token(4, "example.org")
    assert platform.manage(MANAGE, token, 1)[0] is Status.PIN_AUTH_INVALID
    assert platform.manage(MANAGE, token, 2)[0] is Status.PIN_AUTH_INVALID
    assert platform.manage(MANAGE, token, 4, {1: OTHER})[0] is Status.PIN_AUTH_INVALID
    assert platform.manage(MANAGE, token, 6, {2: descriptor(ids[2])})[0] is Status.PIN_AUTH_INVALID
    assert platform.manage(MANAGE, token, 4, {1: RP_HASH})[0] is Status.OK
    assert platform.manage(MANAGE, token, 6, {2: descriptor(ids[0])})[0] is Status.OK


@pytest.mark.parametrize(
    ("request_map", "status"),
    [
        ({}, Status.MISSING_PARAMETER),
        ({1: 99}, Status.INVALID_SUBCOMMAND),
        ({1: 1}, Status.PUAT_REQUIRED),
        ({1: 3}, Status.NOT_ALLOWED),
        ({1: 1, 4: bytes(32)}, Status.MISSING_PARAMETER),
        ({1: 1, 3: 9, 4: bytes(32)}, Status.INVALID_PARAMETER),
        ({1: 1, 3: 2, 4: bytes(32)}, Status.PIN_AUTH_INVALID),
    ],
)
def test_unauthorised_requests(bench: Bench, request_map: dict[int, Any], status: Status) -> None:
    assert bench.call(MANAGE, request_map)[0] is status


def test_bad_parameters_with_a_good_token(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    token = platform.token(4)
    for sub, params, status in [
        (4, None, Status.MISSING_PARAMETER),
        (4, {1: b"short"}, Status.INVALID_LENGTH),
        (6, {}, Status.MISSING_PARAMETER),
        (6, {2: {"id": b"x"}}, Status.MISSING_PARAMETER),
        (7, {2: descriptor(b"x")}, Status.MISSING_PARAMETER),
    ]:
        assert platform.manage(MANAGE, token, sub, params)[0] is status
    assert platform.manage(MANAGE, platform.token(0x20), 1)[0] is Status.PIN_AUTH_INVALID


def test_commands_from_before_the_standard(make_bench: Maker) -> None:
    bench = make_bench(preview=True)
    platform = Platform(bench, PinProtocolV2())
    stored(bench)
    platform.set_pin()
    info = bench.ok(CommandByte.GET_INFO)
    assert "FIDO_2_1_PRE" in info[1]
    assert info[4]["credentialMgmtPreview"] is True
    assert platform.manage(CommandByte.CREDENTIAL_MANAGEMENT_PREVIEW, platform.token(4), 1)[1][1] == 3
    assert make_bench().call(CommandByte.CREDENTIAL_MANAGEMENT_PREVIEW, {1: 1})[0] is Status.INVALID_COMMAND


# --- configuration -----------------------------------------------------------------------------------------------


def configure(platform: Platform, sub: int, params: Any = None) -> Status:
    return platform.manage(CONFIG, platform.token(0x20), sub, params, prefix=CONFIG_PREFIX)[0]


def test_always_uv_is_toggled_and_takes_u2f_away(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    assert configure(platform, 2) is Status.OK
    info = bench.ok(CommandByte.GET_INFO)
    assert (info[4]["alwaysUv"], info[4]["makeCredUvNotRqd"]) == (True, False)
    assert "U2F_V2" not in info[1]
    assert configure(platform, 2) is Status.OK
    assert bench.ok(CommandByte.GET_INFO)[4]["alwaysUv"] is False


def test_the_least_length_of_pins_only_grows(bench: Bench, platform: Platform) -> None:
    platform.set_pin("1234")
    assert configure(platform, 3, {1: 3}) is Status.PIN_POLICY_VIOLATION
    assert configure(platform, 3, {1: 64}) is Status.PIN_POLICY_VIOLATION
    assert configure(platform, 3, {1: 4}) is Status.OK
    assert bench.memory.force_pin_change is False
    assert configure(platform, 3, {1: 6}) is Status.OK
    info = bench.ok(CommandByte.GET_INFO)
    assert (info[12], info[13]) == (True, 6)
    assert platform.change_pin("1234", "12345") is Status.PIN_POLICY_VIOLATION
    assert platform.change_pin("1234", "123456") is Status.OK


def test_a_change_of_the_pin_can_be_forced(bench: Bench, platform: Platform) -> None:
    assert bench.call(CONFIG, {1: 3, 2: {3: True}})[0] is Status.PIN_NOT_SET
    platform.set_pin()
    assert configure(platform, 3, {3: True}) is Status.OK
    assert bench.ok(CommandByte.GET_INFO)[12] is True


def test_a_forced_change_ends_the_token(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    token = platform.token(0x20)
    assert platform.manage(CONFIG, token, 3, {3: True}, prefix=CONFIG_PREFIX)[0] is Status.OK
    assert platform.manage(CONFIG, token, 2, prefix=CONFIG_PREFIX)[0] is Status.PIN_AUTH_INVALID


def test_sites_that_may_know_the_least_length(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    assert configure(platform, 3, {2: ["example.org"] * 9}) is Status.KEY_STORE_FULL
    assert configure(platform, 3, {2: ["example.org"]}) is Status.OK
    assert bench.memory.min_pin_rp_ids == ["example.org"]


def test_a_protected_device_is_configured_with_a_token_only(bench: Bench, platform: Platform) -> None:
    bench.ok(CONFIG, {1: 2})
    bench.ok(CommandByte.GET_INFO)
    assert bench.call(CONFIG, {1: 2})[0] is Status.PUAT_REQUIRED
    platform.set_pin()
    assert bench.call(CONFIG, {1: 2, 3: platform.number, 4: bytes(32)})[0] is Status.PIN_AUTH_INVALID
    token = platform.token(4)
    assert platform.manage(CONFIG, token, 2, prefix=CONFIG_PREFIX)[0] is Status.PIN_AUTH_INVALID
    assert platform.manage(CONFIG, platform.token(0x20), 2)[0] is Status.PIN_AUTH_INVALID


@pytest.mark.parametrize("sub", [0, 1, 4, 0xFF])
def test_what_the_model_can_not_be_configured_for(bench: Bench, sub: int) -> None:
    assert bench.call(CONFIG, {1: sub})[0] is Status.INVALID_SUBCOMMAND


# --- fingerprints ------------------------------------------------------------------------------------------------


class Enroller:
    """The host's half of bioEnrollment."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.platform = Platform(bench, PinProtocolV2())
        self.platform.set_pin()
        self.token = self.platform.token(8)

    def call(self, sub: int, params: Any = None) -> tuple[Status, dict[int, Any]]:
        body = b"" if params is None else cbor.encode(params)
        param = self.platform.sign(self.token, bytes([1, sub]) + body)
        request = {1: 1, 2: sub, 4: 2, 5: param, **({} if params is None else {3: params})}
        return self.bench.call(BIO, request)

    def enrol(self) -> bytes:
        answer = self.call(1)[1]
        template: bytes = answer[4]
        while answer[6]:
            answer = self.call(2, {1: template})[1]
        return template


@pytest.fixture
def enroller(make_bench: Maker) -> Enroller:
    return Enroller(make_bench(fingerprints=True))


def test_the_sensor_tells_about_itself(enroller: Enroller) -> None:
    assert enroller.bench.ok(BIO, {6: True}) == {1: 1}
    assert enroller.bench.ok(BIO, {1: 1, 2: 7}) == {2: 1, 3: 3, 8: 64}


def test_a_finger_is_learnt_and_recognised(enroller: Enroller) -> None:
    bench = enroller.bench
    assert bench.ok(CommandByte.GET_INFO)[4]["uv"] is False
    status, answer = enroller.call(1)
    template = answer[4]
    assert (status, answer[5], answer[6]) == (Status.OK, 0, 2)
    bench.person.poor_samples = 1
    assert enroller.call(2, {1: template})[1] == {5: 0x0B, 6: 2}
    bench.results = [Result.TIMED_OUT]
    assert enroller.call(2, {1: template, 3: 500})[1] == {5: 0x0D, 6: 2}
    assert bench.waits[-1].seconds == 0.5
    assert enroller.call(2, {1: template})[1] == {5: 0, 6: 1}
    assert enroller.call(2, {1: template})[1] == {5: 0, 6: 0}
    assert bench.ok(CommandByte.GET_INFO)[4]["uv"] is True
    bench.ok(MAKE, register(options={"uv": True}))
    assert enroller.call(4)[1] == {7: [{1: template}]}


def test_names_and_removal(enroller: Enroller) -> None:
    template = enroller.enrol()
    assert enroller.call(5, {1: template, 2: "thumb"})[0] is Status.OK
    assert enroller.call(4)[1] == {7: [{1: template, 2: "thumb"}]}
    assert enroller.call(5, {1: template, 2: "x" * 65})[0] is Status.INVALID_LENGTH
    assert enroller.call(5, {1: b"??", 2: "thumb"})[0] is Status.INVALID_OPTION
    assert enroller.call(6, {1: template})[0] is Status.OK
    assert enroller.call(4)[0] is Status.INVALID_OPTION
    assert enroller.bench.state.fingers == {}


def test_a_cancelled_enrolment_leaves_nothing(enroller: Enroller) -> None:
    template = enroller.call(1)[1][4]
    enroller.bench.ok(BIO, {1: 1, 2: 3})
    assert enroller.call(2, {1: template})[0] is Status.NOT_ALLOWED
    assert enroller.bench.memory.fingerprints == {}
    enroller.bench.results = [Result.CANCELLED]
    assert enroller.call(1)[0] is Status.KEEPALIVE_CANCEL
    enroller.bench.results = [Result.DENIED]
    assert enroller.call(1)[0] is Status.OPERATION_DENIED
    assert enroller.bench.memory.fingerprints == {}


def test_the_sensor_has_room_for_five(enroller: Enroller) -> None:
    for _ in range(5):
        enroller.enrol()
    assert enroller.call(1)[0] is Status.FP_DATABASE_FULL


@pytest.mark.parametrize(
    ("request_map", "status"),
    [
        ({}, Status.MISSING_PARAMETER),
        ({1: 2, 2: 1}, Status.INVALID_PARAMETER),
        ({1: 1}, Status.MISSING_PARAMETER),
        ({1: 1, 2: 9}, Status.INVALID_SUBCOMMAND),
        ({1: 1, 2: 1}, Status.PUAT_REQUIRED),
        ({1: 1, 2: 4, 4: 2, 5: bytes(32)}, Status.PIN_AUTH_INVALID),
    ],
)
def test_unauthorised_enrolment(enroller: Enroller, request_map: dict[int, Any], status: Status) -> None:
    assert enroller.bench.call(BIO, request_map)[0] is status


def test_a_model_without_sensor_has_no_such_command(bench: Bench) -> None:
    assert bench.call(BIO, {6: True})[0] is Status.INVALID_COMMAND


# --- reset and selection -----------------------------------------------------------------------------------------


def test_reset_erases_everything_soon_after_power_up(enroller: Enroller) -> None:
    bench = enroller.bench
    enroller.enrol()
    kept = credential_id(bench.ok(MAKE, register(options={"uv": True, "rk": True}))[2])
    sealed = credential_id(bench.ok(MAKE, register())[2])
    bench.clock.advance(11)
    assert bench.call(RESET)[0] is Status.NOT_ALLOWED
    bench.power_cycle()
    bench.clock.advance(9)
    bench.results = [Result.DENIED]
    assert bench.call(RESET)[0] is Status.OPERATION_DENIED
    bench.results = [Result.TIMED_OUT]
    assert bench.call(RESET)[0] is Status.USER_ACTION_TIMEOUT
    assert bench.memory.pin is not None
    bench.ok(RESET)
    for identity in (kept, sealed):
        assert bench.call(CommandByte.GET_ASSERTION, sign_in(allow=[descriptor(identity)]))[0] is Status.NO_CREDENTIALS
    info = bench.ok(CommandByte.GET_INFO)
    assert (info[4]["clientPin"], info[4]["uv"], info[0x14]) == (False, False, 50)
    bench.power_cycle()
    assert bench.memory.pin is None


def test_reset_lifts_a_block_and_its_window_stays_the_same(bench: Bench, platform: Platform) -> None:
    platform.set_pin()
    for _ in range(3):
        platform.try_token("0000")
    bench.ok(RESET)
    assert platform.tries() == {3: 8, 4: False}
    bench.clock.advance(11)
    assert bench.call(RESET)[0] is Status.NOT_ALLOWED


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Result.GRANTED, Status.OK),
        (Result.DENIED, Status.OPERATION_DENIED),
        (Result.TIMED_OUT, Status.USER_ACTION_TIMEOUT),
        (Result.CANCELLED, Status.KEEPALIVE_CANCEL),
    ],
)
def test_selection_is_a_touch(bench: Bench, result: Result, status: Status) -> None:
    bench.results = [result]
    assert bench.call(CommandByte.SELECTION)[0] is status


# --- getInfo and the frame of requests ---------------------------------------------------------------------------


def test_get_info_of_a_plain_model(make_bench: Maker) -> None:
    bench = make_bench(client_pin=False, credential_management=False, config=False, large_blobs=False, u2f=False)
    info = bench.ok(CommandByte.GET_INFO)
    assert info[1] == ["FIDO_2_0", "FIDO_2_1"]
    assert info[4] == {"plat": False, "rk": True, "up": True}
    assert {6, 0x0B, 0x0C, 0x0D}.isdisjoint(info)


def test_requests_that_are_none(bench: Bench) -> None:
    assert bench.raw(b"") == bytes([Status.INVALID_LENGTH])
    assert bench.raw(b"\x05") == bytes([Status.INVALID_COMMAND])
    assert bench.raw(b"\x01\x80") == bytes([Status.CBOR_UNEXPECTED_TYPE])
    assert bench.raw(b"\x01\xa1\x01") == bytes([Status.INVALID_CBOR])
    assert bench.raw(bytes([1]) + bytes(7609)) == bytes([Status.REQUEST_TOO_LARGE])
    assert bench.raw(b"\x04")[0] == Status.OK


def test_a_device_that_verifies_people_in_its_own_way(make_bench: Maker) -> None:
    """A bridge that asks for a card's PIN itself: no PIN of the authenticator's, no sensor."""
    bench = make_bench(client_pin=False, verifies_itself=True)
    info = bench.ok(CommandByte.GET_INFO)
    assert (info[4]["uv"], info[0x12]) == (True, 0x04)
    assert "bioEnroll" not in info[4]
    assert bench.call(MAKE, register(options={"rk": True}))[0] is Status.OPERATION_DENIED
    bench.ok(MAKE, register(options={"rk": True, "uv": True}))
    assert bench.waits[-1].need == "verification"
    platform = Platform(bench, PinProtocolV2())
    token = platform.uv_token(2, "example.org")
    bench.ok(CommandByte.GET_ASSERTION, sign_in(param=platform.sign(token), protocol=2))
    bench.results = [Result.NO_MATCH] * 3
    assert platform.try_uv_token(4)[0] is Status.UV_INVALID
    assert platform.try_uv_token(8)[0] is Status.UNAUTHORIZED_PERMISSION
