"""Whose address a request has, and that nobody chooses it for himself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import Depends
from hypothesis import given
from hypothesis import strategies as st

from tests.server.conftest import Bench
from tokenbridge.errors import SetupError
from tokenbridge.server import app, settings
from tokenbridge.server.client_address import MOST_HOPS, ClientAddresses, client_address

PROXIES = ("10.0.0.0/24", "127.0.0.1", "2001:db8:1::/64")


def of(peer: str, *forwarded: str, trusted: tuple[str, ...] = PROXIES) -> str:
    return str(ClientAddresses(trusted).of(peer, forwarded))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.7", [], "192.0.2.7"),
        ("192.0.2.7", ["10.0.0.9"], "192.0.2.7"),  # no proxy: what it says of itself counts for nothing
        ("192.0.2.7", ["127.0.0.1", "10.0.0.1"], "192.0.2.7"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.3"], "198.51.100.3"),
        ("10.0.0.1", ["10.0.0.2, 198.51.100.3"], "198.51.100.3"),  # the client wrote the first one
        ("10.0.0.1", ["10.9.9.9", "198.51.100.3"], "198.51.100.3"),  # in a header of its own
        ("10.0.0.1", ["198.51.100.3, 10.0.0.2"], "198.51.100.3"),  # two proxies in a row
        ("10.0.0.1", ["1.1.1.1, 198.51.100.3, 10.0.0.2, 10.0.0.3"], "198.51.100.3"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),  # a client inside: its own address is a proxy's
        ("10.0.0.1", ["198.51.100.3, nonsense"], "10.0.0.1"),  # what can't be read ends the trust
        ("10.0.0.1", ["198.51.100.3,"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.3:4711"], "198.51.100.3"),
        ("10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["fe80::1%eth0"], "fe80::1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.3"], "198.51.100.3"),
        ("2001:db8:1::5", ["198.51.100.3"], "198.51.100.3"),
        ("2001:db8:2::5", ["198.51.100.3"], "2001:db8:2::5"),
        ("", ["198.51.100.3"], "None"),
        ("10.0.0.1", ["1" * 65], "10.0.0.1"),
        ("10.0.0.1", [", ".join(["198.51.100.3"] + ["10.0.0.2"] * MOST_HOPS)], "10.0.0.2"),
    ],
)
def test_the_client_is_who_the_last_trusted_proxy_saw(peer: str, forwarded: list[str], client: str):
    assert of(peer, *forwarded) == client


def test_by_default_nobody_is_believed():
    assert of("127.0.0.1", "198.51.100.3", trusted=()) == "127.0.0.1"


@given(st.lists(st.text(max_size=80), max_size=5))
def test_whatever_a_client_writes_its_address_stays(headers: list[str]):
    assert of("192.0.2.7", *headers) == "192.0.2.7"
    assert of("10.0.0.1", *headers, "192.0.2.7") == "192.0.2.7"


@pytest.mark.parametrize("proxy", ["proxy.example", "10.0.0.1/24", "10.0.0.0/33", "", "::1/129"])
def test_a_setting_that_is_no_network(tmp_path: Path, proxy: str):
    with pytest.raises(SetupError, match="trusted_proxies"):
        settings.check(settings.Settings(data=tmp_path, trusted_proxies=(proxy,)))


def test_a_request_of_the_application(fresh: Bench):
    """Through the application as it is served; the peer is what the ASGI server says."""
    built = app.build(settings.changed(settings.load(fresh.data), trusted_proxies=("10.0.0.1",)))
    seen = []

    @built.get("/seen")
    def see(address: Annotated[str, Depends(client_address)]) -> None:
        seen.append(address)

    async def ask(peer: str) -> None:
        transport = httpx.ASGITransport(app=built, client=(peer, 1))
        async with httpx.AsyncClient(transport=transport, base_url="https://localhost:8443") as client:
            await client.get("/seen", headers=[("X-Forwarded-For", "1.1.1.1"), ("x-forwarded-for", "198.51.100.3")])

    async def both() -> None:
        await ask("10.0.0.1")
        await ask("192.0.2.7")
        await built.state.parts.revocation.close()

    asyncio.run(both())
    built.state.parts.hashing.shutdown()
    built.state.database.close()
    assert seen == ["198.51.100.3", "192.0.2.7"]
