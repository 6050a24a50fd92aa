"""CTAP1 (U2F): registration and sign-in by APDUs, with python-fido2's classes as the judge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from fido2.ctap1 import RegistrationData, SignatureData

from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.authenticator.ports import StoreFault
from tokenbridge.authenticator.steps import Result, Slow, Wait
from tokenbridge.wire.apdu import SW, Command, Response

from .conftest import DIGEST, RP_HASH, Bench, credential_id, descriptor, register, sign_in

CHALLENGE = bytes([7]) * 32


def send(bench: Bench, raw: bytes, result: Result = Result.GRANTED) -> Response:
    operation = bench.device.start_ctap1(raw)
    while operation.answer is None:
        match operation.step:
            case Wait() as wait:
                assert not wait.patient
                bench.waits.append(wait)
                operation.resume(result)
            case Slow(job=job):
                try:
                    operation.resume(job())
                except StoreFault as err:
                    operation.fail(err)
    return Response.parse(operation.answer)


def command(ins: int, p1: int = 0, data: bytes = b"", *, extended: bool = True) -> bytes:
    made = Command(0, ins, p1, 0, data, 65536 if extended else 256)
    return made.extended() if extended else made.short()


def authenticate(handle: bytes, control: int = 3, application: bytes = RP_HASH) -> bytes:
    return command(2, control, CHALLENGE + application + bytes([len(handle)]) + handle)


def registered(bench: Bench) -> RegistrationData:
    return RegistrationData(send(bench, command(1, 0, CHALLENGE + RP_HASH)).data)


@pytest.mark.parametrize("extended", [True, False])
def test_registration_and_sign_in(bench: Bench, extended: bool) -> None:
    answer = send(bench, command(1, 0, CHALLENGE + RP_HASH, extended=extended))
    assert answer.ok
    data = RegistrationData(answer.data)
    data.verify(RP_HASH, CHALLENGE)
    x509.load_der_x509_certificate(data.certificate)
    signed = SignatureData(send(bench, authenticate(data.key_handle)).data)
    signed.verify(RP_HASH, CHALLENGE, data.public_key)
    assert (signed.user_presence, signed.counter) == (1, 1)


def test_no_touch_yet_is_an_answer(bench: Bench) -> None:
    data = registered(bench)
    for raw in (command(1, 0, CHALLENGE + RP_HASH), authenticate(data.key_handle)):
        assert send(bench, raw, Result.TIMED_OUT).sw == SW.CONDITIONS_NOT_SATISFIED
        assert send(bench, raw, Result.DENIED).sw == SW.CONDITIONS_NOT_SATISFIED


def test_asking_whose_handle_it_is_asks_nobody(bench: Bench) -> None:
    handle = registered(bench).key_handle
    bench.waits.clear()
    assert send(bench, authenticate(handle, 7)).sw == SW.CONDITIONS_NOT_SATISFIED
    assert send(bench, authenticate(handle[:-1] + b"?", 7)).sw == SW.WRONG_DATA
    assert send(bench, authenticate(handle, 7, bytes(32))).sw == SW.WRONG_DATA
    quiet = SignatureData(send(bench, authenticate(handle, 8)).data)
    assert quiet.user_presence == 0
    assert bench.waits == []


@pytest.mark.parametrize(
    ("raw", "sw"),
    [
        (b"", SW.WRONG_LENGTH),
        (bytes([0, 1, 0]), SW.WRONG_LENGTH),
        (bytes([0x80, 3, 0, 0]), SW.CLA_UNSUPPORTED),
        (bytes([0, 9, 0, 0]), SW.INS_UNSUPPORTED),
        (command(1, 0, bytes(63)), SW.WRONG_LENGTH),
        (command(1, 0, bytes(65)), SW.WRONG_LENGTH),
        (command(2, 3, bytes(64)), SW.WRONG_LENGTH),
        (command(2, 3, bytes(64) + b"\x05abc"), SW.WRONG_LENGTH),
        (command(2, 3, bytes(64) + b"\x00"), SW.WRONG_DATA),
        (command(3, 0, b"x"), SW.WRONG_LENGTH),
    ],
)
def test_bad_commands(bench: Bench, raw: bytes, sw: SW) -> None:
    assert send(bench, raw).sw == sw


def test_an_unknown_control_byte(bench: Bench) -> None:
    assert send(bench, authenticate(registered(bench).key_handle, 9)).sw == SW.INCORRECT_P1P2


@pytest.mark.parametrize("raw", ["00030000", "00030000 00", "00030000 000000", "00030000 000000 0000"])
def test_version(bench: Bench, raw: str) -> None:
    assert send(bench, bytes.fromhex(raw)).data == b"U2F_V2"


def test_credentials_of_both_kinds_serve_the_other(bench: Bench) -> None:
    handle = registered(bench).key_handle
    bench.ok(CommandByte.GET_ASSERTION, sign_in(allow=[descriptor(handle)]))
    identity = credential_id(bench.ok(CommandByte.MAKE_CREDENTIAL, register())[2])
    assert send(bench, authenticate(identity)).ok


def test_a_credential_that_wants_verification_or_another_algorithm_is_none_here(bench: Bench) -> None:
    wishes = [
        register(extensions={"credProtect": 3}),
        register(algorithms=[{"alg": -8, "type": "public-key"}]),
    ]
    for wish in wishes:
        identity = credential_id(bench.ok(CommandByte.MAKE_CREDENTIAL, wish)[2])
        assert send(bench, authenticate(identity)).sw == SW.WRONG_DATA


def test_always_uv_takes_it_away(bench: Bench, make_bench: Callable[..., Bench]) -> None:
    bench.memory.always_uv = True
    assert send(bench, command(3)).sw == SW.INS_UNSUPPORTED
    assert send(make_bench(u2f=False), command(3)).sw == SW.INS_UNSUPPORTED


def test_hash_of_the_client_data_is_not_looked_into(bench: Bench) -> None:
    assert send(bench, command(1, 0, DIGEST + RP_HASH)).ok
