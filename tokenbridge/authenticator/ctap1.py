"""CTAP1, also known as U2F: registration and sign-in by APDUs (FIDO U2F Raw Message Formats 1.2; CTAP 2.1 section 7).

The host asks again and again until the device is touched, so nothing waits here: no touch yet is an answer.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final

from tokenbridge.authenticator import cbor, credentials
from tokenbridge.authenticator.core import Core
from tokenbridge.authenticator.credentials import Wish
from tokenbridge.authenticator.memory import Credential, Protection
from tokenbridge.authenticator.ports import StoreFault
from tokenbridge.authenticator.profile import Algorithm
from tokenbridge.authenticator.status import Refusal, Status
from tokenbridge.authenticator.steps import Need, Result, Steps, Wait, ask, slowly
from tokenbridge.wire.apdu import SW, ApduError, Command, Response

VERSION: Final = b"U2F_V2"
DIGEST: Final = 32
REGISTERED: Final = b"\x05"
RESERVED: Final = b"\x00"
MAX_HANDLE: Final = 255


@unique
class Ins(IntEnum):
    """Section 3.1.3 of the raw message formats."""

    REGISTER = 0x01
    AUTHENTICATE = 0x02
    VERSION = 0x03


@unique
class Control(IntEnum):
    """P1 of AUTHENTICATE."""

    ENFORCE_PRESENCE = 0x03
    CHECK_ONLY = 0x07
    DONT_ENFORCE_PRESENCE = 0x08


class _Word(Exception):
    """A command's way to answer with a status word; never leaves this module."""

    def __init__(self, sw: SW) -> None:
        self.sw = sw
        super().__init__(f"{sw:04X}")


def ctap1(core: Core, request: bytes) -> Steps[bytes]:
    """The response APDU for a command APDU, whatever its bytes are."""
    try:
        data = yield from _command(core, request)
    except _Word as word:
        return Response(b"", word.sw).encode()
    except StoreFault:
        return Response(b"", SW.UNKNOWN).encode()
    except Refusal as refusal:
        sw = SW.NOT_ENOUGH_MEMORY if refusal.status is Status.KEY_STORE_FULL else SW.UNKNOWN
        return Response(b"", sw).encode()
    return Response(data, SW.OK).encode()


def _command(core: Core, request: bytes) -> Steps[bytes]:
    try:
        command = Command.parse(_without_empty_lc(request))
    except ApduError as err:
        raise _Word(SW.WRONG_LENGTH) from err
    if command.cla != 0:
        raise _Word(SW.CLA_UNSUPPORTED)
    core.forget_following()
    match command.ins if core.speaks_u2f else None:
        case Ins.REGISTER:
            return (yield from _register(core, command))
        case Ins.AUTHENTICATE:
            return (yield from _authenticate(core, command))
        case Ins.VERSION:
            return _version(command)
        case _:
            raise _Word(SW.INS_UNSUPPORTED)


def _without_empty_lc(request: bytes) -> bytes:
    """Hosts send an extended Lc of zero where there is no data, which ISO/IEC 7816-4 does not have, before the Le."""
    empty = len(request) == 9 and request[4:7] == b"\0\0\0"
    return request[:4] + b"\0" + request[7:] if empty else request


def _version(command: Command) -> bytes:
    if command.data:
        raise _Word(SW.WRONG_LENGTH)
    return VERSION


def _register(core: Core, command: Command) -> Steps[bytes]:
    """Challenge parameter and application parameter in; public key, key handle, certificate and signature out."""
    attestation = core.world.attestation
    if len(command.data) != 2 * DIGEST or attestation is None:
        raise _Word(SW.WRONG_LENGTH)
    challenge, application = command.data[:DIGEST], command.data[DIGEST:]
    yield from _touched("U2F register", application)
    credential = yield from credentials.make(core, Wish(rp_id="", rp_id_hash=application, algorithm=Algorithm.ES256))
    public = _raw_point(credential)
    signed = RESERVED + application + challenge + credential.id + public
    signature = yield from slowly(lambda: attestation.sign(signed))
    handle = bytes([len(credential.id)]) + credential.id
    return REGISTERED + public + handle + attestation.certificates[0] + signature


def _authenticate(core: Core, command: Command) -> Steps[bytes]:
    data = command.data
    if len(data) < 2 * DIGEST + 1 or len(data) != 2 * DIGEST + 1 + data[2 * DIGEST]:
        raise _Word(SW.WRONG_LENGTH)
    challenge, application, handle = data[:DIGEST], data[DIGEST : 2 * DIGEST], data[2 * DIGEST + 1 :]
    credential = credentials.by_id(core, application, handle)
    usable = credential is not None and credential.algorithm is Algorithm.ES256
    # a credential that wants verification is none for CTAP1, which has none (section 12.1)
    if credential is None or not usable or credential.protection is Protection.UV_REQUIRED:
        raise _Word(SW.WRONG_DATA)
    present = yield from _controlled(command.p1, application)
    counter = core.counted()
    core.save()
    head = bytes([present]) + counter.to_bytes(4, "big")
    store, message = core.world.store, application + head + challenge
    signature = yield from slowly(lambda: store.sign(credential.handle, credential.algorithm, message))
    return head + signature


def _controlled(control: int, application: bytes) -> Steps[bool]:
    """Whether presence was proved; CHECK_ONLY says "it is mine" by asking for presence (section 3.1.4)."""
    match control:
        case Control.ENFORCE_PRESENCE:
            yield from _touched("U2F authenticate", application)
            return True
        case Control.DONT_ENFORCE_PRESENCE:
            return False
        case Control.CHECK_ONLY:
            raise _Word(SW.CONDITIONS_NOT_SATISFIED)
        case _:
            raise _Word(SW.INCORRECT_P1P2)


def _touched(purpose: str, application: bytes) -> Steps[None]:
    """CTAP1 names the application by its hash only."""
    wait = Wait(need=Need.TOUCH, purpose=purpose, rp_id=application.hex(), patient=False)
    if (yield from ask(wait)) is not Result.GRANTED:
        raise _Word(SW.CONDITIONS_NOT_SATISFIED)


def _raw_point(credential: Credential) -> bytes:
    """The public key as an uncompressed point (section 4.3 of the raw message formats)."""
    cose = cbor.decode(credential.public_key)
    x, y = cose[-2], cose[-3]
    return b"\x04" + bytes(x) + bytes(y)
