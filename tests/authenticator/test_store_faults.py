"""A key store that fails, as a smartcard may that is pulled: a status of the specification, and nothing half done."""

from __future__ import annotations

from typing import Any

import pytest
from fido2 import cbor

from tokenbridge.authenticator.commands import CommandByte
from tokenbridge.authenticator.ports import KeyGone, StoreFault, StoreFull
from tokenbridge.authenticator.status import Status
from tokenbridge.rig.key_person import Touch
from tokenbridge.rig.key_pki import BatchKey
from tokenbridge.wire.apdu import SW
from tokenbridge.wire.ctaphid import HidCommand

from .conftest import RP_HASH, Bench, credential_id, descriptor, register, sign_in
from .test_ctap1 import authenticate, command, send
from .test_hid import Host

MAKE, GET = CommandByte.MAKE_CREDENTIAL, CommandByte.GET_ASSERTION


def break_store(bench: Bench, method: str, error: Exception) -> None:
    def fail(*_args: Any, **_options: Any) -> Any:
        raise error

    setattr(bench.store, method, fail)


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoreFull(), Status.KEY_STORE_FULL), (StoreFault(), Status.OTHER), (KeyGone(), Status.OTHER)],
)
def test_no_key_could_be_made(bench: Bench, error: Exception, status: Status) -> None:
    break_store(bench, "generate", error)
    assert bench.call(MAKE, register(options={"rk": True}))[0] is status
    assert bench.memory.credentials == []


@pytest.mark.parametrize(("error", "status"), [(KeyGone(), Status.NO_CREDENTIALS), (StoreFault(), Status.OTHER)])
def test_no_signature_could_be_made(bench: Bench, error: Exception, status: Status) -> None:
    identity = credential_id(bench.ok(MAKE, register())[2])
    break_store(bench, "sign", error)
    assert bench.call(GET, sign_in(allow=[descriptor(identity)]))[0] is status


def test_the_memory_could_not_be_kept(bench: Bench) -> None:
    break_store(bench, "save", StoreFault())
    assert bench.call(MAKE, register(options={"rk": True}))[0] is Status.OTHER


def test_ctap1_has_words_for_it_too(bench: Bench) -> None:
    identity = credential_id(bench.ok(MAKE, register())[2])
    break_store(bench, "sign", StoreFault())
    assert send(bench, authenticate(identity)).sw == SW.UNKNOWN
    break_store(bench, "save", StoreFault())
    assert send(bench, authenticate(identity, 8)).sw == SW.UNKNOWN


@pytest.mark.parametrize(("error", "sw"), [(StoreFull(), SW.NOT_ENOUGH_MEMORY), (StoreFault(), SW.UNKNOWN)])
def test_ctap1_registration_without_a_key(bench: Bench, error: Exception, sw: SW) -> None:
    break_store(bench, "generate", error)
    host = Host(bench)
    bench.person.mode = Touch.ALWAYS
    [answer] = host.send(host.open(), HidCommand.MSG, command(1, 0, bytes(32) + RP_HASH))
    assert answer.payload == sw.to_bytes(2, "big")


def test_over_hid_the_next_request_works(bench: Bench) -> None:
    host = Host(bench)
    channel = host.open()
    break_store(bench, "generate", StoreFault())
    request = bytes([MAKE]) + cbor.encode(register())
    assert host.send(channel, HidCommand.CBOR, request)[-1].payload == bytes([Status.OTHER])
    assert host.send(channel, HidCommand.CBOR, bytes([CommandByte.GET_INFO]))[-1].payload[0] == Status.OK


def test_an_answer_too_long_for_any_message_is_none(bench: Bench, batch: BatchKey) -> None:
    chain = BatchKey(key=batch.key, certificates=batch.certificates * 20)
    bench.batch = chain
    bench.power_cycle()
    assert bench.call(MAKE, register())[0] is Status.OTHER
