"""What tests of dialogues with security keys share: virtual keys, and sites that verify what they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fido2.server import Fido2Server
from fido2.webauthn import PublicKeyCredentialRpEntity, PublicKeyCredentialUserEntity

from tokenbridge.daemon.account_site import Registration
from tokenbridge.daemon.key_management import KeyManagement
from tokenbridge.daemon.key_registration import KeyRegistration, RegistrationWish
from tokenbridge.fido import pin as key_pin
from tokenbridge.fido import register, verification
from tokenbridge.fido.request import creation_request
from tokenbridge.fido.session import KeySession
from tokenbridge.interaction import Secret
from tokenbridge.rig.virtual_key import Profile, VirtualKey
from tokenbridge.transport.base import KeyPlace

from .conftest import ORIGIN, WISH
from .workstation import Desk, LocalSite

PIN = b"4711"
KEY_WISH = replace(WISH, method="key")


class KeySite(LocalSite):
    """A site that takes keys, and keeps what it needs to verify them."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Fido2Server(PublicKeyCredentialRpEntity(id="localhost", name="Test Hospital"))
        self.keys: list[Any] = []
        self.challenge()

    def challenge(self) -> None:
        options, self._state = self.server.authenticate_begin(user_verification="preferred")  # type: ignore[arg-type]
        self.key_options = dict(dict(options)["publicKey"])

    def verify(self) -> None:
        """Whether what was sent last is good."""
        self.server.authenticate_complete(self._state, self.keys, self.credentials[-1])

    def enrol(self, key: VirtualKey, *, typed: bytes | None = None, user: bytes = b"ada") -> None:
        """Register `key` beforehand, and leave it unplugged."""
        options, state = self.server.register_begin(
            PublicKeyCredentialUserEntity(id=user, name=user.decode(), display_name="Ada"),
            resident_key_requirement="required",  # type: ignore[arg-type]
        )
        request = creation_request(dict(dict(options)["publicKey"]), ORIGIN)
        session = KeySession(key.plug_in_process(), KeyPlace(path="/x"), lambda *_: None)
        how = verification.to_register(session.facts, request.verification)
        made = register.create(session, request, how, None if typed is None else Secret(typed))
        self.keys.append(self.server.register_complete(state, made.response).credential_data)
        session.close()
        key.unplug()
        key.counts.clear()


class Keys:
    """Makes virtual keys, with or without PIN, and keeps account of them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[VirtualKey] = []

    def __call__(self, *, with_pin: bool = False, **profile: Any) -> VirtualKey:
        key = VirtualKey.create(Profile(**profile), serial=f"S{len(self.made)}")
        self.made.append(key)
        if with_pin:
            session = KeySession(key.plug_in_process(), KeyPlace(path="/x"), lambda *_: None)
            key_pin.set_first(session, Secret(PIN))
            session.close()
            key.unplug()
        return key

    def path(self, number: int = 0) -> Path:
        return self.directory / f"k{number}.key"


def pin_key(keys: Keys, site: KeySite) -> VirtualKey:
    key = keys(with_pin=True)
    site.enrol(key, typed=PIN)
    return key


class KeyAccountSite:
    """The account's part of a site, as `daemon.account_site.AccountSite` shows it; it verifies what it is sent."""

    origin = ORIGIN

    def __init__(self, need: str = "preferred") -> None:
        self.server = Fido2Server(PublicKeyCredentialRpEntity(id="localhost", name="Test Hospital"))
        self.need = need
        self.keys: list[Any] = []
        self.cancelled: list[str] = []
        self.codes: list[tuple[str, bytes]] = []
        self.sessions: list[bytes] = []
        self.signed_out = 0
        self.names: list[str] = []

    def _begin(self) -> Registration:
        options, self._state = self.server.register_begin(
            PublicKeyCredentialUserEntity(id=b"ada", name="ada", display_name="Ada"),
            credentials=self.keys,
            user_verification=self.need,  # type: ignore[arg-type]
            resident_key_requirement="preferred",  # type: ignore[arg-type]
        )
        data = dict(dict(options)["publicKey"])
        return Registration(id="r1", rp_name="Test Hospital", account="ada", options=data)

    async def begin_registration(self, session: Secret) -> Registration:
        self.sessions.append(bytes(session.reveal()))
        return self._begin()

    async def begin_registration_by_code(self, username: str, code: Secret) -> Registration:
        self.codes.append((username, bytes(code.reveal())))
        return self._begin()

    async def complete_registration(self, begun: str, response: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        made = self.server.register_complete(self._state, response)
        self.keys.append(made.credential_data)
        self.names.append(name)
        return {"key": {"id": 1}, "verified": made.is_user_verified()}

    async def cancel_registration(self, begun: str) -> None:
        self.cancelled.append(begun)

    async def sign_out(self, session: Secret) -> None:
        self.signed_out += 1


REGISTRATION = RegistrationWish(program="tokenbridge (42)", name="blue", wait_seconds=3)


def registration(desk: Desk, site: KeyAccountSite, wish: RegistrationWish = REGISTRATION) -> KeyRegistration:
    return KeyRegistration(desk.station.devices, site, desk.person.interaction(), wish)  # type: ignore[arg-type]


async def signed_in() -> Secret:
    return Secret(b"session")


def management(desk: Desk, wanted: str = "") -> KeyManagement:
    return KeyManagement(desk.station.devices, desk.person.interaction(), "tokenbridge (42)", wanted)
