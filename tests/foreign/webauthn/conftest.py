"""A server at an address of its own, and a page of it in headless Chromium with virtual authenticators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import CDPSession, Page

from tests.browsing import chromium
from tests.server.conftest import Bench, make_bench, now, serving
from tests.server.key_bench import KeyBench
from tests.software_key import Maker
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.ports import free_port

CREATE = """async (options) => {
    const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options);
    return (await navigator.credentials.create({publicKey})).toJSON();
}"""
GET = """async (options) => {
    const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
    return (await navigator.credentials.get({publicKey})).toJSON();
}"""


@dataclass
class Authenticator:
    """One virtual authenticator of Chromium (DevTools protocol, domain WebAuthn)."""

    page: Page
    devtools: CDPSession
    id: str

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """`RegistrationResponseJSON`, as the browser makes it."""
        found: dict[str, Any] = self.page.evaluate(CREATE, options)
        return found

    def get(self, options: dict[str, Any]) -> dict[str, Any]:
        """`AuthenticationResponseJSON`, as the browser makes it."""
        found: dict[str, Any] = self.page.evaluate(GET, options)
        return found

    def verified(self, yes: bool) -> None:
        """Whether the person passes its check from now on."""
        self.devtools.send("WebAuthn.setUserVerified", {"authenticatorId": self.id, "isUserVerified": yes})


@dataclass
class Site:
    """The server, and a browser's page on its origin."""

    keys: KeyBench
    origin: str
    page: Page
    devtools: CDPSession

    @contextmanager
    def authenticator(self, **options: Any) -> Iterator[Authenticator]:
        """Plugged in for as long as the block lasts."""
        usual = {
            "protocol": "ctap2",
            "ctap2Version": "ctap2_1",
            "transport": "usb",
            "automaticPresenceSimulation": True,
        }
        added = self.devtools.send(
            "WebAuthn.addVirtualAuthenticator", {"options": {**usual, **options, "automaticPresenceSimulation": True}}
        )
        try:
            yield Authenticator(self.page, self.devtools, added["authenticatorId"])
        finally:
            self.devtools.send("WebAuthn.removeVirtualAuthenticator", added)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("site") / "data"
    port = free_port()
    origin = f"https://localhost:{port}"
    bench: Bench = make_bench(data, RigPki.create(now=now()), origin=origin)
    with serving(data, port=port) as server, chromium(data) as browser:
        page = browser.new_page()
        page.goto(f"{origin}/healthz")
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        yield Site(KeyBench(bench=bench, server=server, maker=Maker(), origin=origin), origin, page, devtools)
