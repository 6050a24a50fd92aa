"""python-fido2's own client on our key, through the kernel's hidraw, judged by its own server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fido2.client import ClientError, DefaultClientDataCollector, Fido2Client, UserInteraction
from fido2.ctap2 import ClientPin, CredentialManagement, Ctap2
from fido2.ctap2.pin import PinProtocolV1, PinProtocolV2
from fido2.hid import CtapHidDevice, open_device
from fido2.server import Fido2Server
from fido2.webauthn import PublicKeyCredentialRpEntity, PublicKeyCredentialUserEntity

from tokenbridge.wire.ctaphid import MAX_MESSAGE

pytestmark = pytest.mark.foreign

ORIGIN, RP_ID = "https://login.hospital.example", "hospital.example"
UHID_BYTES = 57 + 25 * 59
"""uhid.c of the kernel keeps 32 events for the device and drops what does not fit; USB would make the host wait."""


class Person(UserInteraction):
    def __init__(self, key: Any) -> None:
        self._key = key

    def prompt_up(self) -> None:
        self._key.touch()

    def request_pin(self, permissions: Any, rp_id: str | None) -> str | None:
        return str(self._key.pin)


@pytest.fixture
def device(key: Any) -> Iterator[CtapHidDevice]:
    with open_device(key.path) as found:
        yield found


@pytest.fixture
def device_with_pin(key_with_pin: Any) -> Iterator[CtapHidDevice]:
    with open_device(key_with_pin.path) as found:
        yield found


@pytest.fixture
def server() -> Fido2Server:
    return Fido2Server(PublicKeyCredentialRpEntity(id=RP_ID, name="Hospital"), attestation="direct")


def _client(device: CtapHidDevice, key: Any) -> Fido2Client:
    return Fido2Client(device, DefaultClientDataCollector(ORIGIN), Person(key))


def _register(server: Fido2Server, client: Fido2Client, **wanted: Any) -> Any:
    user = PublicKeyCredentialUserEntity(id=b"user", name="ada", display_name="Ada Lovelace")
    options, state = server.register_begin(user, **wanted)
    return server.register_complete(state, client.make_credential(options.public_key)).credential_data


def test_it_is_found(key: Any) -> None:
    found = {device.descriptor.path: device for device in CtapHidDevice.list_devices()}
    assert found[key.path].version == 2
    for device in found.values():
        device.close()


@pytest.mark.parametrize("size", [0, 1, 57, 58, 1024, MAX_MESSAGE])
def test_ping_comes_back_whatever_its_length(device: CtapHidDevice, rig_platform: str, size: int) -> None:
    if rig_platform == "virtual":
        size = min(size, UHID_BYTES)
    data = bytes(number % 251 for number in range(size))
    assert device.ping(data) == data


def test_it_winks(device: CtapHidDevice) -> None:
    device.wink()


def test_registering_and_signing_in_without_pin(server: Fido2Server, device: CtapHidDevice, key: Any) -> None:
    client = _client(device, key)
    made = _register(server, client, user_verification="discouraged")
    options, state = server.authenticate_begin([made], user_verification="discouraged")
    answer = client.get_assertion(options.public_key).get_response(0)
    assert server.authenticate_complete(state, [made], answer) == made


def test_registering_and_signing_in_by_pin_and_without_a_user_name(
    server: Fido2Server, device_with_pin: CtapHidDevice, key_with_pin: Any
) -> None:
    client = _client(device_with_pin, key_with_pin)
    made = _register(server, client, user_verification="required", resident_key_requirement="required")
    options, state = server.authenticate_begin(user_verification="required")
    answer = client.get_assertion(options.public_key).get_response(0)
    assert answer.response.user_handle == b"user"
    assert server.authenticate_complete(state, [made], answer) == made


def test_the_same_key_is_not_registered_twice(server: Fido2Server, device: CtapHidDevice, key: Any) -> None:
    client = _client(device, key)
    made = _register(server, client, user_verification="discouraged")
    with pytest.raises(ClientError) as caught:
        _register(server, client, credentials=[made], user_verification="discouraged")
    assert caught.value.code == ClientError.ERR.DEVICE_INELIGIBLE


@pytest.mark.parametrize("protocol", [PinProtocolV1, PinProtocolV2])
def test_both_pin_protocols_give_a_token(device_with_pin: CtapHidDevice, key_with_pin: Any, protocol: Any) -> None:
    ctap = Ctap2(device_with_pin)
    pins = ClientPin(ctap, protocol())
    token = pins.get_pin_token(key_with_pin.pin, ClientPin.PERMISSION.CREDENTIAL_MGMT)
    metadata = CredentialManagement(ctap, pins.protocol, token).get_metadata()
    assert metadata[CredentialManagement.RESULT.EXISTING_CRED_COUNT] == 0
