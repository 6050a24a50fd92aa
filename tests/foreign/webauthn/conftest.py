"""A server at an address of its own, and a page of it in headless Chromium with virtual authenticators."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserType, CDPSession, Page, sync_playwright

from tests.server.conftest import Bench, make_bench, now, serving
from tests.server.key_bench import KeyBench
from tests.software_key import Maker
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.ports import free_port
from tokenbridge.server import settings

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
    with serving(data, port=port) as server, _browser(data) as browser:
        page = browser.new_page()
        page.goto(f"{origin}/healthz")
        devtools = page.context.new_cdp_session(page)
        devtools.send("WebAuthn.enable")
        yield Site(KeyBench(bench=bench, server=server, maker=Maker(), origin=origin), origin, page, devtools)


@contextmanager
def _browser(data: Path) -> Iterator[Browser]:
    """Debian's Chromium, which trusts this server's certificate and nothing else beside the usual.

    While it runs, playwright's event loop counts as running in this thread: no test with a loop of its own may come
    before its end.
    """
    with sync_playwright() as playwright:
        browser = launch(playwright.chromium, data)
        try:
            yield browser
        finally:
            browser.close()


def launch(kind: BrowserType, data: Path, *more: str) -> Browser:
    """As `_browser`, with further arguments; the caller closes it."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "scripts/setup test installs Chromium"
    certificate = x509.load_pem_x509_certificate((settings.load(data).tls_dir / "server.pem").read_bytes())
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pinned = base64.b64encode(hashlib.sha256(public).digest()).decode()
    # In a container there is no sandbox to be had; the only page that is opened is our own.
    arguments = ["--no-sandbox", f"--ignore-certificate-errors-spki-list={pinned}", *more]
    return kind.launch(executable_path=chromium, args=arguments)
