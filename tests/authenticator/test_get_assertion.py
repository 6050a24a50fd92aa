"""Sign-in at the authenticator: which credential, which flags, what the answer tells, and what follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fido2.cose import CoseKey
from fido2.ctap2.pin import PinProtocolV2
from fido2.webauthn import AuthenticatorData

from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.authenticator.status import Status
from tokenbridge.authenticator.steps import Result

from .conftest import DIGEST, Bench, Platform, credential_id, descriptor, register, sign_in

MAKE, GET, NEXT = CommandByte.MAKE_CREDENTIAL, CommandByte.GET_ASSERTION, CommandByte.GET_NEXT_ASSERTION


def made(bench: Bench, **changes: Any) -> bytes:
    return credential_id(bench.ok(MAKE, register(**changes))[2])


def users(bench: Bench, count: int) -> list[bytes]:
    """Discoverable credentials of as many users, in this order."""
    return [made(bench, user={"id": b"user-%d" % i, "name": f"name {i}"}, options={"rk": True}) for i in range(count)]


def test_signature_covers_authenticator_data_and_client_data(bench: Bench) -> None:
    data = AuthenticatorData(bench.ok(MAKE, register())[2])
    assert data.credential_data is not None
    answer = bench.ok(GET, sign_in(allow=[descriptor(data.credential_data.credential_id)]))
    CoseKey.parse(data.credential_data.public_key).verify(answer[2] + DIGEST, answer[3])
    assert answer[1] == descriptor(data.credential_data.credential_id)
    assert AuthenticatorData(answer[2]).counter == data.counter + 1
    assert AuthenticatorData(answer[2]).flags == AuthenticatorData.FLAG.UP
    assert set(answer) == {1, 2, 3}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"rp_id": None}, Status.MISSING_PARAMETER),
        ({"hash": None}, Status.MISSING_PARAMETER),
        ({"hash": b"x"}, Status.INVALID_LENGTH),
        ({"options": {"rk": True}}, Status.UNSUPPORTED_OPTION),
        ({"options": {"uv": True}}, Status.INVALID_OPTION),
        ({"options": {"up": 0}}, Status.CBOR_UNEXPECTED_TYPE),
        ({"options": {"unheard-of": True}}, Status.NO_CREDENTIALS),
        ({"allow": "text"}, Status.CBOR_UNEXPECTED_TYPE),
        ({"allow": [{"type": "public-key"}]}, Status.MISSING_PARAMETER),
        ({"allow": [descriptor(b"unknown")]}, Status.NO_CREDENTIALS),
        ({"allow": [descriptor(bytes(500))]}, Status.NO_CREDENTIALS),
        ({"allow": [descriptor(b"1")] * 17}, Status.LIMIT_EXCEEDED),
        ({}, Status.NO_CREDENTIALS),
        ({"param": bytes(16), "protocol": 1}, Status.PIN_AUTH_INVALID),
    ],
)
def test_bad_requests_are_refused_without_asking_anybody(bench: Bench, changes: dict[str, Any], status: Status) -> None:
    assert bench.call(GET, sign_in(**changes))[0] is status
    assert bench.waits == []


def test_a_sealed_id_serves_its_own_site_on_its_own_device_only(bench: Bench) -> None:
    identity = made(bench)
    assert bench.call(GET, sign_in(rp_id="other.org", allow=[descriptor(identity)]))[0] is Status.NO_CREDENTIALS
    for i in range(len(identity)):
        damaged = identity[:i] + bytes([identity[i] ^ 1]) + identity[i + 1 :]
        assert bench.call(GET, sign_in(allow=[descriptor(damaged)]))[0] is Status.NO_CREDENTIALS
    bench.state.device_key = bytes([1]) * 32
    assert bench.call(GET, sign_in(allow=[descriptor(identity)]))[0] is Status.NO_CREDENTIALS


def test_the_counter_is_kept_without_power(bench: Bench) -> None:
    identity = made(bench)
    last = AuthenticatorData(bench.ok(GET, sign_in(allow=[descriptor(identity)]))[2]).counter
    bench.power_cycle()
    assert AuthenticatorData(bench.ok(GET, sign_in(allow=[descriptor(identity)]))[2]).counter == last + 1


def test_a_question_without_touch_says_so_in_the_flags(bench: Bench) -> None:
    identity = made(bench)
    bench.waits.clear()
    answer = bench.ok(GET, sign_in(allow=[descriptor(identity)], options={"up": False}))
    assert AuthenticatorData(answer[2]).flags == AuthenticatorData.FLAG(0)
    assert bench.waits == []


def test_the_latest_credential_comes_first_and_the_others_follow(bench: Bench) -> None:
    ids = users(bench, 3)
    answer = bench.ok(GET, sign_in())
    assert (answer[5], answer[1]["id"]) == (3, ids[2])
    rest = [bench.ok(NEXT), bench.ok(NEXT)]
    assert [one[1]["id"] for one in rest] == [ids[1], ids[0]]
    assert all(5 not in one for one in rest)
    assert bench.call(NEXT)[0] is Status.NOT_ALLOWED


def test_names_are_for_verified_people_who_have_to_choose(bench: Bench, platform: Platform) -> None:
    users(bench, 2)
    assert bench.ok(GET, sign_in())[4] == {"id": b"user-1"}
    assert bench.ok(NEXT)[4] == {"id": b"user-0"}
    platform.set_pin()
    request = sign_in(param=platform.sign(platform.token(2, "example.org")), protocol=platform.number)
    assert bench.ok(GET, request)[4] == {"id": b"user-1", "name": "name 1"}
    assert bench.ok(NEXT)[4] == {"id": b"user-0", "name": "name 0"}


def test_a_single_credential_tells_the_user_id_and_no_names(bench: Bench, platform: Platform) -> None:
    users(bench, 1)
    platform.set_pin()
    request = sign_in(param=platform.sign(platform.token(2, "example.org")), protocol=platform.number)
    answer = bench.ok(GET, request)
    assert answer[4] == {"id": b"user-0"}
    assert 5 not in answer


def test_a_list_chooses_and_its_length_is_not_told(bench: Bench) -> None:
    ids = users(bench, 2)
    answer = bench.ok(GET, sign_in(allow=[descriptor(one) for one in ids]))
    assert answer[1]["id"] == ids[0]
    assert 5 not in answer
    assert bench.call(NEXT)[0] is Status.NOT_ALLOWED


def test_an_empty_list_is_none(bench: Bench) -> None:
    [identity] = users(bench, 1)
    assert bench.ok(GET, sign_in(allow=[]))[1]["id"] == identity


@pytest.mark.parametrize("between", [CommandByte.GET_INFO, CommandByte.SELECTION, CommandByte.RESET])
def test_any_other_command_ends_the_series(bench: Bench, between: CommandByte) -> None:
    users(bench, 2)
    bench.ok(GET, sign_in())
    bench.clock.advance(20)
    bench.call(between)
    assert bench.call(NEXT)[0] is Status.NOT_ALLOWED


def test_the_series_ends_after_thirty_seconds_and_belongs_to_its_channel(bench: Bench) -> None:
    users(bench, 4)
    bench.ok(GET, sign_in())
    bench.clock.advance(29)
    bench.ok(NEXT)
    bench.clock.advance(29)
    bench.ok(NEXT)
    bench.clock.advance(31)
    assert bench.call(NEXT)[0] is Status.NOT_ALLOWED
    bench.ok(GET, sign_in(), channel=1)
    assert bench.call(NEXT, channel=2)[0] is Status.NOT_ALLOWED


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Result.DENIED, Status.OPERATION_DENIED),
        (Result.TIMED_OUT, Status.USER_ACTION_TIMEOUT),
        (Result.CANCELLED, Status.KEEPALIVE_CANCEL),
    ],
)
def test_without_a_touch_nothing_is_signed(bench: Bench, result: Result, status: Status) -> None:
    identity = made(bench)
    bench.results = [result]
    counter = bench.memory.counter
    assert bench.call(GET, sign_in(allow=[descriptor(identity)]))[0] is status
    assert bench.memory.counter == counter


def test_the_token_verifies_one_sign_in(bench: Bench, platform: Platform) -> None:
    users(bench, 1)
    platform.set_pin()
    token = platform.token(2, "example.org")
    request = sign_in(param=platform.sign(token), protocol=platform.number)
    assert AuthenticatorData(bench.ok(GET, request)[2]).is_user_verified()
    assert bench.call(GET, request)[0] is Status.PIN_AUTH_INVALID


def test_a_question_without_touch_does_not_spend_the_token(bench: Bench, platform: Platform) -> None:
    users(bench, 1)
    platform.set_pin()
    token = platform.token(2, "example.org")
    param = platform.sign(token)
    bench.ok(GET, sign_in(param=param, protocol=platform.number, options={"up": False}))
    bench.ok(GET, sign_in(param=param, protocol=platform.number))


def test_tokens_run_out(bench: Bench, platform: Platform) -> None:
    users(bench, 1)
    platform.set_pin()
    quiet = {"up": False}
    token = platform.token(2, "example.org")
    bench.clock.advance(31)
    late = sign_in(param=platform.sign(token), protocol=platform.number, options=quiet)
    assert bench.call(GET, late)[0] is Status.PIN_AUTH_INVALID
    token = platform.token(2, "example.org")
    used = sign_in(param=platform.sign(token), protocol=platform.number, options=quiet)
    bench.ok(GET, used)
    bench.clock.advance(599)
    bench.ok(GET, used)
    bench.clock.advance(2)
    assert bench.call(GET, used)[0] is Status.PIN_AUTH_INVALID


def test_a_finger_gives_a_token_that_is_the_touch_as_well(finger_bench: Bench) -> None:
    platform = Platform(finger_bench, PinProtocolV2())
    token = platform.uv_token(1, "example.org")
    finger_bench.waits.clear()
    request = register(param=platform.sign(token), protocol=2, options={"rk": True})
    finger_bench.ok(MAKE, request)
    assert finger_bench.waits == []
    token = platform.uv_token(2, "example.org")
    finger_bench.clock.advance(25)
    quiet = sign_in(param=platform.sign(token), protocol=2, options={"up": False})
    finger_bench.ok(GET, quiet)
    finger_bench.clock.advance(6)
    finger_bench.waits.clear()
    answer = finger_bench.ok(GET, sign_in(param=platform.sign(token), protocol=2))
    assert AuthenticatorData(answer[2]).is_user_verified()
    assert [wait.need for wait in finger_bench.waits] == ["touch"]


def test_with_always_uv_nothing_is_signed_unverified(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(fingerprints=True)
    identity = made(bench)
    bench.memory.always_uv = True
    request = sign_in(allow=[descriptor(identity)])
    assert bench.call(GET, request)[0] is Status.PUAT_REQUIRED
    assert bench.call(MAKE, register())[0] is Status.PUAT_REQUIRED
    bench.ok(GET, sign_in(allow=[descriptor(identity)], options={"up": False}))
    bench.memory.fingerprints[b"\x01\x01"] = ""
    bench.state.fingers[b"\x01\x01"] = bench.person.finger
    assert AuthenticatorData(bench.ok(GET, request)[2]).is_user_verified()
    assert AuthenticatorData(bench.ok(MAKE, register())[2]).is_user_verified()
