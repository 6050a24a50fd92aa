"""Origins from addresses, and answers of a site that may be anything."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenbridge.daemon.site import MAX_ANSWER, MAX_ISSUERS, Offer, Site, Sites, origin_of
from tokenbridge.errors import (
    BadRequest,
    OriginRefused,
    RelyingPartyUnavailable,
    RemoteError,
    SetupError,
    TokenbridgeError,
)
from tokenbridge.interaction import Secret

from .conftest import NONCE, ORIGIN, TOKEN, run

# --- origins ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://portal.example.org", "https://portal.example.org"),
        ("https://portal.example.org/", "https://portal.example.org"),
        ("https://portal.example.org/a/b?c=d#e", "https://portal.example.org"),
        ("HTTPS://Portal.EXAMPLE.org:443/", "https://portal.example.org"),
        ("https://portal.example.org:8443", "https://portal.example.org:8443"),
        ("https://portal.example.org:80", "https://portal.example.org:80"),
        ("portal.example.org", "https://portal.example.org"),
        ("localhost:8443", "https://localhost:8443"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://example\u3002org", "https://example.org"),
        ("https://[::1]:8443/x", "https://[::1]:8443"),
        ("https://[2001:DB8::1]", "https://[2001:db8::1]"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://localhost:80/", "http://localhost"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.8.9.10", "http://127.8.9.10"),
        ("http://[::1]", "http://[::1]"),
    ],
)
def test_origin_as_browsers_write_it(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://",
        "https:///path",
        "https://:8443",
        "https://portal.example.org:port",
        "https://portal.example.org:99999",
        "https://ada@portal.example.org",
        "https://ada:secret@portal.example.org",
        "https://@portal.example.org",
        "https://good.example\\@evil.example",
        "ftp://portal.example.org",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://portal.example.org",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "http://127.1",
        "http://0x7f000001",
        "http://10.0.0.1",
        "http://[fe80::1]",
        "https://[::1",
        "https://" + "a" * 64 + ".example",
        "https://portal example.org",
        "https://portal.example.org%00.evil.example",
        "https://portal%2eexample.org",
        "https://a..example.org",
        "https://portal\u202e.example",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadRequest):
        origin_of(url)


@settings(deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_an_origin_or_a_bad_request(text: str) -> None:
    try:
        origin = origin_of(text)
    except BadRequest:
        return
    assert origin_of(origin) == origin
    assert origin.isascii()


# --- answers ---------------------------------------------------------------------------------------------------

Handler = Callable[[httpx.Request], httpx.Response]


def offer_data(**changes: Any) -> dict[str, Any]:
    return {
        "transaction": "abc_DEF-123",
        "rp": {"name": "Test Hospital", "origin": ORIGIN},
        "nonce": NONCE,
        "expires_at": "2026-06-01T12:05:00+00:00",
        "accepts": [
            {"method": "card", "format": "web-eid:1", "algorithms": ["ES256", "RS256"], "issuers": ["MAA="]},
            {"method": "password", "then": ["totp"]},
        ],
        **changes,
    }


class Far:
    """A site that answers as told and notes what it was asked."""

    def __init__(self, handler: Handler) -> None:
        self.asked: list[httpx.Request] = []

        def note(request: httpx.Request) -> httpx.Response:
            self.asked.append(request)
            return handler(request)

        self.client = httpx.AsyncClient(transport=httpx.MockTransport(note))
        self.site = Site(self.client, ORIGIN)

    def open(self) -> Offer:
        async def work() -> Offer:
            async with self.client:
                return await self.site.open()

        return run(work())


def answers(data: Any, status: int = 201) -> Far:
    return Far(lambda _: httpx.Response(status, json=data))


def test_a_good_offer() -> None:
    far = answers(offer_data())
    offer = far.open()
    assert offer == Offer(
        transaction="abc_DEF-123",
        name="Test Hospital",
        origin=ORIGIN,
        nonce=NONCE,
        expires_at=datetime(2026, 6, 1, 12, 5, tzinfo=UTC),
        issuers=(b"\x30\0",),
        algorithms=("ES256", "RS256"),
        takes_card=True,
    )
    (request,) = far.asked
    assert (request.method, str(request.url)) == ("POST", f"{ORIGIN}/api/sign-in")


def test_times_of_other_zones_are_utc() -> None:
    offer = answers(offer_data(expires_at="2026-06-01T14:05:00+02:00")).open()
    assert offer.expires_at == datetime(2026, 6, 1, 12, 5, tzinfo=UTC)
    assert offer.expires_at.utcoffset() == timedelta(0)


def test_a_site_without_card() -> None:
    assert not answers(offer_data(accepts=[{"method": "password"}])).open().takes_card


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "https://localhost", "http://localhost:8443", f"{ORIGIN}/", "", "HTTPS://LOCALHOST:8443"],
)
def test_a_site_that_says_it_is_another_one(origin: str) -> None:
    with pytest.raises(OriginRefused) as caught:
        answers(offer_data(rp={"name": "Test Hospital", "origin": origin})).open()
    assert "Nothing was signed" in caught.value.message


def test_bounds_of_an_offer() -> None:
    card = {"method": "card", "algorithms": [], "issuers": ["MAA="] * (MAX_ISSUERS + 9)}
    offer = answers(offer_data(rp={"name": "n" * 9999, "origin": ORIGIN}, accepts=[card])).open()
    assert len(offer.issuers) == MAX_ISSUERS
    assert len(offer.name) == 200


BAD_OFFERS: dict[str, Any] = {
    "list": [],
    "text": "hello",
    "null": None,
    "empty": {},
    "no rp": {k: v for k, v in offer_data().items() if k != "rp"},
    "rp is text": offer_data(rp="x"),
    "no origin": offer_data(rp={"name": "x"}),
    "accepts is text": offer_data(accepts="card"),
    "accepts holds text": offer_data(accepts=["card"]),
    "accepts without method": offer_data(accepts=[{"format": "x"}]),
    "issuers no base64": offer_data(accepts=[{"method": "card", "issuers": ["***"]}]),
    "issuers no text": offer_data(accepts=[{"method": "card", "issuers": [5]}]),
    "issuers an object": offer_data(accepts=[{"method": "card", "issuers": {"a": 1}}]),
    "algorithms a number": offer_data(accepts=[{"method": "card", "algorithms": 5}]),
    "time is no time": offer_data(expires_at="soon"),
    "time is a number": offer_data(expires_at=5),
    "time out of range": offer_data(expires_at="0001-01-01T00:00:00+14:00"),
    "time out of range above": offer_data(expires_at="9999-12-31T23:59:59-14:00"),
    "transaction empty": offer_data(transaction=""),
    "transaction a path": offer_data(transaction="../../etc"),
    "transaction a query": offer_data(transaction="a?b=c"),
    "transaction too long": offer_data(transaction="a" * 201),
    "transaction a number": offer_data(transaction=7),
}


@pytest.mark.parametrize("data", BAD_OFFERS.values(), ids=BAD_OFFERS.keys())
def test_offers_that_cannot_be_understood(data: Any) -> None:
    with pytest.raises(RelyingPartyUnavailable):
        answers(data).open()


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"\xff\xfe", b"{", b"[" * 100_000, b'{"a":' * 40_000, b"1" * 5000],
    ids=["empty", "html", "bytes", "cut", "deep list", "deep object", "number"],
)
@pytest.mark.parametrize("status", [200, 404, 502])
def test_what_is_not_the_protocol(content: bytes, status: int) -> None:
    with pytest.raises(RelyingPartyUnavailable) as caught:
        Far(lambda _: httpx.Response(status, content=content)).open()
    assert caught.value.code == "rp-unavailable"


def test_an_oversized_answer_is_not_read_to_its_end() -> None:
    class Endless(httpx.AsyncByteStream):
        sent = 0

        async def __aiter__(self) -> Any:
            while True:
                Endless.sent += 65536
                yield b" " * 65536

    with pytest.raises(RelyingPartyUnavailable) as caught:
        Far(lambda _: httpx.Response(200, stream=Endless())).open()
    assert "too large" in caught.value.message
    assert Endless.sent < 3 * MAX_ANSWER


def test_a_compressed_answer_is_not_inflated() -> None:
    class Bomb(httpx.AsyncByteStream):
        sent = 0

        async def __aiter__(self) -> Any:
            while True:
                Bomb.sent += 1
                yield gzip.compress(bytes(10 << 20))

    with pytest.raises(RelyingPartyUnavailable, match="compressed"):
        Far(lambda _: httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Bomb())).open()
    assert Bomb.sent == 0


def test_redirects_are_not_followed(tmp_path: Path) -> None:
    async def work() -> None:
        sites = Sites(5, None)
        assert not sites.client(None).follow_redirects
        assert not sites.client(None).trust_env
        assert sites.client(None) is sites.client(None)
        await sites.close()

    run(work())
    far = Far(lambda _: httpx.Response(302, headers={"location": "https://evil.example"}))
    with pytest.raises(RelyingPartyUnavailable):
        far.open()
    assert len(far.asked) == 1


def test_a_site_that_does_not_answer_says_so_without_the_details() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] at 10.0.0.7", request=request)

    with pytest.raises(RelyingPartyUnavailable) as caught:
        Far(fail).open()
    assert "10.0.0.7" in caught.value.detail
    assert "10.0.0.7" not in json.dumps(caught.value.as_dict())


def test_an_untrusted_certificate_says_what_to_do() -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed", request=request)

    with pytest.raises(RelyingPartyUnavailable) as caught:
        Far(fail).open()
    assert "not trusted" in caught.value.message
    assert "--ca" in caught.value.hint


def test_an_address_that_httpx_does_not_take_is_a_typed_error() -> None:
    async def work() -> None:
        async with httpx.AsyncClient() as client:
            with pytest.raises(TokenbridgeError):
                await Site(client, "https://exa mple.org:99999").open()

    run(work())


def test_refusals_keep_their_code() -> None:
    error = {"code": "too-many", "message": "Too many attempts.", "next_step": "Wait.", "retry": "again", "seconds": 30}
    with pytest.raises(RemoteError) as caught:
        answers({"error": error}, 429).open()
    assert caught.value.remote_code == "too-many"
    assert caught.value.as_dict() == error
    assert caught.value.hint == "Wait."


@pytest.mark.parametrize("error", [{}, {"code": 5, "message": ["x"]}, {"message": None}])
def test_odd_refusals_are_refusals(error: dict[str, Any]) -> None:
    with pytest.raises(RemoteError) as caught:
        answers({"error": error}, 400).open()
    assert caught.value.message


@pytest.mark.parametrize("data", [{"error": "x"}, {"error": None}, [], "x", None])
def test_failures_without_an_error_are_not_the_protocol(data: Any) -> None:
    with pytest.raises(RelyingPartyUnavailable):
        answers(data, 500).open()


# --- proofs ----------------------------------------------------------------------------------------------------


def test_proofs_go_where_they_belong() -> None:
    allow = {"decision": "allow", "methods": None, "sentence": "AAL3"}

    async def work() -> None:
        far = Far(
            lambda request: httpx.Response(204) if request.method == "DELETE" else httpx.Response(200, json=allow)
        )
        async with far.client:
            site = far.site
            verdict = await site.send_card("t1", TOKEN)
            assert (verdict.decision, verdict.methods, verdict.data) == ("allow", (), allow)
            await site.send_password("t1", "ada", Secret("p\u00e4ss".encode()))
            await site.send_code("t1", "totp", Secret(b"123456"))
            await site.cancel("t1")
        assert [(request.method, request.url.path) for request in far.asked] == [
            ("POST", "/api/sign-in/t1/card"),
            ("POST", "/api/sign-in/t1/password"),
            ("POST", "/api/sign-in/t1/code"),
            ("DELETE", "/api/sign-in/t1"),
        ]
        bodies = [json.loads(request.content) for request in far.asked[:3]]
        assert bodies == [
            {"token": TOKEN},
            {"username": "ada", "password": "p\u00e4ss"},
            {"method": "totp", "code": "123456"},
        ]

    run(work())


@pytest.mark.parametrize("data", [{}, [], "x", {"methods": []}, {"decision": "allow", "methods": 5}])
def test_verdicts_that_cannot_be_understood(data: Any) -> None:
    async def work() -> None:
        far = answers(data, 200)
        async with far.client:
            with pytest.raises(RelyingPartyUnavailable):
                await far.site.send_card("t1", TOKEN)

    run(work())


@pytest.mark.parametrize("content", [None, b"no certificate"])
def test_an_authority_file_that_cannot_be_used(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SetupError) as caught:
        Sites(5, None).client(path)
    assert "ca.pem" in caught.value.message
