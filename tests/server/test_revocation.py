"""Revocation as the server fetches it: files, CRL and OCSP over HTTP, and what happens when nobody answers."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import gzip
import socket

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp

from tests.server.conftest import DER, Bench, Server, now, serving, web
from tokenbridge.rig.pki import RigPki
from tokenbridge.server import revocation
from tokenbridge.server.revocation import RevocationFetcher, Source

CRL = "application/pkix-crl"


def dead_url() -> str:
    """An address on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"http://127.0.0.1:{taken.getsockname()[1]}/issuing.crl"


def sign_in(bench: Bench, server: Server, person=None) -> httpx.Response:
    person, ticket = person or bench.person(), server.begin()
    return server.card(ticket, person.card.token(ticket["nonce"]))


class TestFiles:
    def test_a_new_crl_file_counts_at_once(self, fresh: Bench):
        fresh.trust()
        person = fresh.person()
        with serving(fresh.data) as server:
            assert sign_in(fresh, server, person).json()["decision"] == "allow"
            fresh.pki.revoke(person.card.certificate, at=now())
            fresh.pki.write_crls(fresh.data, now=now())
            answer = sign_in(fresh, server, person)
            assert answer.status_code == 403
            assert answer.json()["error"]["reason"] == "certificate-revoked"

    def test_missing_crl_file_leaves_it_undecided(self, fresh: Bench):
        fresh.trust()
        fresh.crl.unlink()
        with serving(fresh.data) as server:
            assert sign_in(fresh, server).json()["decision"] == "challenge"


class TestOverHttp:
    def test_crl_server_up_allows_and_is_asked_once(self, fresh: Bench):
        lists = {
            "/issuing.crl": lambda _: (CRL, fresh.pki.crl(now=now())),
            "/root.crl": lambda _: (CRL, fresh.pki.root_crl(now=now())),
        }
        with web(lists) as (url, asked):
            fresh.trust(crl_urls=(f"{url}/issuing.crl", f"{url}/root.crl"))
            people = [fresh.person() for _ in range(3)]
            asked.clear()  # enrolling asks as well
            with serving(fresh.data) as server:
                for person in people:
                    answer = sign_in(fresh, server, person)
                    assert answer.json()["decision"] == "allow", answer.text
        assert sorted(asked) == ["/issuing.crl", "/root.crl"]

    def test_redirects_are_followed_on_the_same_host_only(self, pki: RigPki):
        """The addresses are plain HTTP: who alters an answer must not send this server where they like."""

        async def fetch(url: str) -> tuple[bytes, ...]:
            fetcher = RevocationFetcher(revocation.client(), now)
            try:
                return (await fetcher.fetch([Source(url)])).crls
            finally:
                await fetcher.close()

        found = pki.crl(now=now())
        with web({"/secret": lambda _: (CRL, found)}) as (inside, asked_inside):
            answers = {
                "/moved": lambda _: ("location", b"/crl"),
                "/crl": lambda _: (CRL, found),
                "/away": lambda _: ("location", f"{inside}/secret".encode()),
                "/file": lambda _: ("location", b"file:///etc/passwd"),
                "/round": lambda _: ("location", b"/round"),
            }
            with web(answers) as (url, asked):
                assert asyncio.run(fetch(f"{url}/moved")) == (found,)
                for path in ("away", "file", "round"):
                    assert asyncio.run(fetch(f"{url}/{path}")) == ()
        assert asked_inside == []
        assert asked.count("/round") == 3

    def test_pem_is_taken_too(self, fresh: Bench):
        def pem(_: bytes) -> tuple[str, bytes]:
            return "text/plain", b"-----BEGIN X509 CRL-----\n%s-----END X509 CRL-----\n" % base64.encodebytes(
                fresh.pki.crl(now=now())
            )

        with web({"/crl": pem, "/root": lambda _: (CRL, fresh.pki.root_crl(now=now()))}) as (url, _):
            fresh.trust(crl_urls=(f"{url}/crl", f"{url}/root"))
            with serving(fresh.data) as server:
                assert sign_in(fresh, server).json()["decision"] == "allow"

    def test_ocsp_good_and_revoked(self, fresh: Bench):
        revoked: set[int] = set()

        def respond(body: bytes) -> tuple[str, bytes]:
            request = ocsp.load_der_ocsp_request(body)
            bad = request.serial_number in revoked
            builder = ocsp.OCSPResponseBuilder().add_response_by_hash(
                issuer_name_hash=request.issuer_name_hash,
                issuer_key_hash=request.issuer_key_hash,
                serial_number=request.serial_number,
                algorithm=hashes.SHA1(),
                cert_status=ocsp.OCSPCertStatus.REVOKED if bad else ocsp.OCSPCertStatus.GOOD,
                this_update=now() - dt.timedelta(minutes=1),
                next_update=now() + dt.timedelta(hours=1),
                revocation_time=now() - dt.timedelta(minutes=2) if bad else None,
                revocation_reason=None,
            )
            issuing = fresh.pki.issuing
            signed = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuing.certificate)
            return "application/ocsp-response", signed.sign(issuing.key, hashes.SHA256()).public_bytes(DER)

        with web({"/ocsp": respond, "/root": lambda _: (CRL, fresh.pki.root_crl(now=now()))}) as (url, _):
            fresh.trust(ocsp_urls=(f"{url}/ocsp",), crl_urls=(f"{url}/root",))
            person, thief = fresh.person(), fresh.person()
            revoked.add(thief.card.certificate.serial_number)
            with serving(fresh.data) as server:
                assert sign_in(fresh, server, person).json()["decision"] == "allow"
                answer = sign_in(fresh, server, thief)
                assert answer.json()["error"]["reason"] == "certificate-revoked"


class TestUnreachable:
    def test_card_is_not_enough_then_password_and_code_of_its_owner_are(self, fresh: Bench):
        fresh.trust(crl_urls=(dead_url(),))
        alice, bob = fresh.person(), fresh.person()
        with serving(fresh.data) as server:
            ticket = server.begin()
            outcome = server.card(ticket, alice.card.token(ticket["nonce"])).json()
            assert outcome["decision"] == "challenge"
            assert outcome["methods"] == ["password", "totp"]
            assert outcome["reasons"][0]["code"] == "undecided:revocation-unreachable"
            assert outcome["suppressed"] == []

            other = server.password(ticket, bob.username)
            assert other.json()["error"]["reason"] == "credentials-wrong"
            first = server.password(ticket, alice.username).json()
            assert (first["decision"], first["methods"]) == ("challenge", ["totp"])
            assert server.code(ticket, bob.code()).json()["error"]["reason"] == "code-wrong"
            last = server.code(ticket, alice.code()).json()
            assert last["decision"] == "allow"
            assert last["account"]["username"] == alice.username
            assert last["assurance"]["aal"] == 2
            assert last["assurance"]["amr"] == ["pwd", "otp", "mfa"]

    def test_server_back_again_is_believed_without_a_restart(self, fresh: Bench):
        answers = {"/issuing": lambda _: ("text/html", b"<h1>down</h1>")}
        answers["/root"] = lambda _: (CRL, fresh.pki.root_crl(now=now()))
        with web(answers) as (url, _):
            fresh.trust(crl_urls=(f"{url}/issuing", f"{url}/root"))
            with serving(fresh.data) as server:
                assert sign_in(fresh, server).json()["decision"] == "challenge"
                answers["/issuing"] = lambda _: (CRL, fresh.pki.crl(now=now()))
                assert sign_in(fresh, server).json()["decision"] == "allow"

    def test_nobodys_card_stays_nobodys(self, fresh: Bench):
        fresh.trust(crl_urls=(dead_url(),))
        with serving(fresh.data) as server:
            ticket = server.begin()
            answer = server.card(ticket, fresh.card().token(ticket["nonce"]))
            assert answer.json()["error"]["reason"] == "subject-unknown"


class TestFetcher:
    """The fetcher by itself, on a transport that plays the network."""

    @staticmethod
    def fetcher(handler, clock=now) -> RevocationFetcher:
        return RevocationFetcher(httpx.AsyncClient(transport=httpx.MockTransport(handler)), clock)

    @staticmethod
    def run(coroutine):
        return asyncio.run(coroutine)

    def test_many_at_once_make_one_request(self, pki: RigPki):
        seen: list[str] = []

        def handler(request: httpx.Request) -> httpx.Response:
            seen.append(str(request.url))
            return httpx.Response(200, content=pki.crl(now=now()))

        async def many() -> None:
            fetcher = self.fetcher(handler)
            found = await asyncio.gather(*(fetcher.fetch([Source("http://x/a")]) for _ in range(10)))
            assert all(len(item.crls) == 1 for item in found)
            await fetcher.close()

        self.run(many())
        assert len(seen) == 1

    def test_remembered_until_next_update_and_an_hour_at_most(self, pki: RigPki):
        times, seen = [now()], []

        def handler(request: httpx.Request) -> httpx.Response:
            seen.append(request.url.path)
            hours = dt.timedelta(minutes=10) if request.url.path == "/short" else dt.timedelta(days=30)
            return httpx.Response(200, content=pki.crl(now=times[0], validity=hours))

        async def play() -> None:
            fetcher = self.fetcher(handler, lambda: times[0])
            for minutes in (0, 9, 2, 40, 20):
                times[0] += dt.timedelta(minutes=minutes)
                await fetcher.fetch([Source("http://x/short"), Source("http://x/long")])
            await fetcher.close()

        self.run(play())
        # At 0, 9, 11, 51 and 71 minutes: the short one is stale at 11, 51 and 71, the long one at 71.
        assert seen.count("/short") == 4
        assert seen.count("/long") == 2

    @pytest.mark.parametrize(
        "response",
        [
            httpx.Response(500),
            httpx.Response(404, content=b"no"),
            httpx.Response(200, content=b""),
            httpx.Response(200, content=b"<html>"),
            httpx.Response(200, content=b"\x30\x03\x02\x01\x01"),
            httpx.Response(302, headers={"location": "http://x/"}),
            httpx.Response(200, headers={"content-encoding": "gzip"}, content=gzip.compress(b"x")),
        ],
    )
    def test_what_is_no_crl_is_nothing(self, response: httpx.Response):
        async def play() -> None:
            fetcher = RevocationFetcher(
                httpx.AsyncClient(transport=httpx.MockTransport(lambda _: response), follow_redirects=True), now
            )
            assert (await fetcher.fetch([Source("http://x/")])).crls == ()
            await fetcher.close()

        self.run(play())

    def test_endless_answers_are_cut(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(revocation, "MAX_CRL_BYTES", 100_000)
        given = 0

        async def endless():
            nonlocal given
            while True:
                given += 10_000
                yield bytes(10_000)

        async def play() -> None:
            fetcher = self.fetcher(lambda _: httpx.Response(200, content=endless()))
            assert (await fetcher.fetch([Source("http://x/")])).crls == ()
            await fetcher.close()

        self.run(play())
        assert given <= 200_000

    def test_silence_is_cut_by_the_deadline(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(revocation, "DEADLINE_SECONDS", 0.05)

        async def play() -> None:
            async def never(_: httpx.Request) -> httpx.Response:
                await asyncio.Event().wait()
                raise AssertionError

            fetcher = self.fetcher(never)
            assert (await fetcher.fetch([Source("http://x/")])).crls == ()
            await fetcher.close()

        self.run(play())

    def test_x509_import_is_the_judge(self, pki: RigPki):
        """The bytes that come through are those of the authority."""

        async def play() -> bytes:
            fetcher = self.fetcher(lambda _: httpx.Response(200, content=pki.crl(now=now())))
            found = await fetcher.fetch([Source("http://x/")])
            await fetcher.close()
            return found.crls[0]

        crl = x509.load_der_x509_crl(self.run(play()))
        assert crl.issuer == pki.issuing.name
