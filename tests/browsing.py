"""Debian's Chromium, for tests that look at pages as people see them."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserType, expect, sync_playwright

from tokenbridge.server import settings

EXPECT_MILLISECONDS = 30_000
"""As long as playwright waits for anything else: a busy machine is no failure."""


@contextmanager
def chromium(data: Path) -> Iterator[Browser]:
    """A browser that trusts this server's certificate and nothing else beside the usual.

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
    """As `chromium`, with further arguments; the caller closes it."""
    expect.set_options(timeout=EXPECT_MILLISECONDS)
    program = shutil.which("chromium")
    assert program is not None, "scripts/setup test installs Chromium"
    certificate = x509.load_pem_x509_certificate((settings.load(data).tls_dir / "server.pem").read_bytes())
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    pinned = base64.b64encode(hashlib.sha256(public).digest()).decode()
    # In a container there is no sandbox to be had; the only page that is opened is our own.
    arguments = ["--no-sandbox", f"--ignore-certificate-errors-spki-list={pinned}", *more]
    return kind.launch(executable_path=program, args=arguments)
