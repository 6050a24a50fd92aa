"""python-fido2 as the host of a virtual key: an implementation that is not ours, down to the packets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fido2.client import DefaultClientDataCollector, Fido2Client, UserInteraction
from fido2.hid import CtapHidDevice
from fido2.hid.base import CtapHidConnection, HidDescriptor
from fido2.server import Fido2Server
from fido2.webauthn import AttestedCredentialData

from tests.patience import SECONDS
from tokenbridge.transport.packets import PacketSocket

ORIGIN = "https://example.org"
RP = {"id": "example.org", "name": "Example"}
PIN = "1234"
DESCRIPTOR = HidDescriptor("virtual", 0x1209, 1, 64, 64, "virtual key", None)


class Connection(CtapHidConnection):
    """python-fido2's port over our socket."""

    def __init__(self, link: PacketSocket) -> None:
        self.link = link

    def read_packet(self) -> bytes:
        packet = self.link.receive(SECONDS)
        if packet is None:
            raise OSError("the key is silent")
        return packet

    def write_packet(self, data: bytes) -> None:
        self.link.send(data)

    def close(self) -> None:
        self.link.close()


OPEN: list[PacketSocket] = []
"""Host's ends that tests have opened."""


def close_all() -> None:
    while OPEN:
        OPEN.pop().close()


def device(link: PacketSocket) -> CtapHidDevice:
    """Opens a channel; `close_all` closes the link."""
    OPEN.append(link)
    return CtapHidDevice(DESCRIPTOR, Connection(link))


class Person(UserInteraction):
    """Types the PIN; `prompted` is called when the key wants to be touched."""

    def __init__(self, pin: str = PIN, prompted: Callable[[], None] = lambda: None) -> None:
        self.pin = pin
        self.prompted = prompted

    def prompt_up(self) -> None:
        self.prompted()

    def request_pin(self, permissions: Any, rp_id: str | None) -> str:
        return self.pin

    def request_uv(self, permissions: Any, rp_id: str | None) -> bool:
        return True


def client(link: PacketSocket, person: Person | None = None, **options: Any) -> Fido2Client:
    collector = DefaultClientDataCollector(ORIGIN)
    return Fido2Client(device(link), collector, user_interaction=person or Person(), **options)


class Site:
    """A relying party on python-fido2's server."""

    def __init__(self, attestation: str = "direct") -> None:
        self.server = Fido2Server(RP, attestation=attestation)
        self.known: list[AttestedCredentialData] = []

    def register(self, with_client: Fido2Client, *, user: bytes = b"user-1", **options: Any) -> Any:
        extensions = options.pop("extensions", None)
        entity = {"id": user, "name": user.decode(), "displayName": user.decode()}
        request, state = self.server.register_begin(entity, self.known, extensions=extensions, **options)
        answer = with_client.make_credential(request.public_key)
        data = self.server.register_complete(state, answer)
        assert data.credential_data is not None
        self.known.append(data.credential_data)
        return answer

    def sign_in(self, with_client: Fido2Client, *, listed: bool = True, **options: Any) -> list[Any]:
        """All assertions of one sign-in, each verified."""
        request, state = self.server.authenticate_begin(self.known if listed else None, **options)
        selection = with_client.get_assertion(request.public_key)
        answers = [selection.get_response(i) for i in range(len(selection.get_assertions()))]
        for answer in answers:
            self.server.authenticate_complete(state, self.known, answer)
        return answers
