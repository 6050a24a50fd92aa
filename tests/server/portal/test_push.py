"""Web Push: where pushes may go, what they say, and what a push service that is not ours makes of them."""

from __future__ import annotations

import http.server
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import http_ece
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid02

from tests.patience import until
from tests.server.conftest import Databases, Person, listening
from tests.server.portal.conftest import Portal, Visitor, with_outbox
from tests.server.portal.test_number_match import Owner, begin, confirm
from tests.server.soft_phone import SoftPhone, base64url
from tokenbridge.errors import BadRequest, SendFailed, SetupError
from tokenbridge.server import settings
from tokenbridge.server.keys import KeyBook
from tokenbridge.server.operator import office
from tokenbridge.server.push_keys import PushKeys, PushServices, services_of
from tokenbridge.server.senders.web_push import WebPush
from tokenbridge.server.store import accounts, phone_apps

SERVICES = PushServices(hosts=("fcm.googleapis.com", "*.notify.windows.com"))
KEYS = {"p256dh": base64url(b"\4" + bytes(64)), "auth": base64url(bytes(16))}


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory, _pattern, databases: Databases) -> Iterator[Portal]:
    with with_outbox(_pattern, tmp_path_factory.mktemp("push") / "data", databases) as made:
        yield made


@pytest.fixture
def owner(portal: Portal) -> Iterator[Owner]:
    visitor: Visitor = portal.visitor()
    with visitor.http:
        person: Person = portal.bench.person(enrol=False, email=f"p{time.time_ns()}@example.org")
        visitor.sign_in(person)
        phone = SoftPhone(http=portal.server.http, origin=portal.origin)
        code = begin(visitor)
        confirm(visitor, code, phone.enrol(code).json()["number"])
        yield Owner(portal=portal, person=person, visitor=visitor, phone=phone)


def messages(portal: Portal) -> list[dict[str, Any]]:
    return portal.server.http.get("/api/outbox").json()["messages"]


def subscription(portal: Portal) -> dict[str, Any]:
    return portal.server.http.post("/outbox/push").json()


@contextmanager
def push_service(*answers: int) -> Iterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A stranger's push service on loopback: it answers with these statuses, and keeps what it got."""
    got: list[tuple[dict[str, str], bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(answers[min(len(got), len(answers)) - 1])
            self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as url:
        yield url, got


@contextmanager
def sender(portal: Portal, own: str) -> Iterator[WebPush]:
    with portal.bench.office() as opened, httpx.Client(trust_env=False) as client:
        keys = PushKeys(database=opened.database, keys=KeyBook(opened.settings.key_file))
        services = PushServices(hosts=(), own=own)
        yield WebPush(http=client, keys=keys, services=services, contact="mailto:it@example.org")


def receiver(endpoint: str) -> tuple[ec.EllipticCurvePrivateKey, bytes, dict[str, Any]]:
    key, auth = ec.generate_private_key(ec.SECP256R1()), b"sixteen octets!!"
    point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    return key, auth, {"endpoint": endpoint, "keys": {"p256dh": base64url(point), "auth": base64url(auth)}}


class TestWhereTo:
    @pytest.mark.parametrize(
        "endpoint", ["https://fcm.googleapis.com/fcm/send/x", "https://db5p.notify.windows.com:443/w/?token=x"]
    )
    def test_known_services(self, endpoint: str):
        assert SERVICES.knows(endpoint)

    @pytest.mark.parametrize(
        "endpoint",
        [
            "",
            "x",
            "http://fcm.googleapis.com/x",
            "https://evil.example/x",
            "https://fcm.googleapis.com.evil.example/x",
            "https://evilfcm.googleapis.com/x",
            "https://fcm.googleapis.com@evil.example/x",
            "https://evil.example#@fcm.googleapis.com/x",
            "https://evil.example\\@fcm.googleapis.com/x",
            "https://user@fcm.googleapis.com/x",
            "https://fcm.googleapis.com:8443/x",
            "https://fcm.googleapis.com:x/x",
            "https://notify.windows.com/x",
            "https://evilnotify.windows.com/x",
            "https://127.0.0.1/x",
            "https://[::1]/x",
            "https://localhost/x",
            "https://169.254.169.254/latest/meta-data",
            "https://fcm.googleapis.com\r\nhost: evil.example/x",
            "https://fcm.google\u0430pis.com/x",
            "file:///etc/passwd",
            "gopher://fcm.googleapis.com/x",
            "https://fcm.googleapis.com/" + "x" * 1024,
        ],
    )
    def test_nothing_else(self, endpoint: str):
        assert not SERVICES.knows(endpoint)
        with pytest.raises(BadRequest):
            SERVICES.read({"endpoint": endpoint, "keys": KEYS})

    @pytest.mark.parametrize("raw", [None, [], {}, {"endpoint": 1}, {"endpoint": "https://fcm.googleapis.com/x"}])
    def test_what_is_no_subscription(self, raw: object):
        with pytest.raises(BadRequest):
            SERVICES.read(raw)

    @pytest.mark.parametrize("name", ["p256dh", "auth"])
    @pytest.mark.parametrize("value", [None, "", "x", "A" * 5000, base64url(bytes(65)), "\u00e9" * 22, 5])
    def test_keys_that_are_none(self, name: str, value: object):
        with pytest.raises(BadRequest):
            SERVICES.read({"endpoint": "https://fcm.googleapis.com/x", "keys": {**KEYS, name: value}})

    def test_a_phone_cannot_make_the_server_call_anybody(self, owner: Owner):
        for endpoint in ("https://evil.example/x", "https://127.0.0.1:1/x", "http://localhost/x"):
            _, _, raw = receiver(endpoint)
            assert owner.phone.subscribe(raw).status_code == 400
        assert owner.phone.look().json()["push"]["subscribed"] is False

    def test_the_settings_name_hosts_and_nothing_else(self, portal: Portal):
        known = settings.load(portal.bench.data)
        for wrong in ("https://x.org", "*", "*.", "x.org/", "X.org", "x.org:443", ""):
            with pytest.raises(SetupError, match="push_services"):
                services_of(settings.changed(known, push_services=(wrong,)))
        with pytest.raises(SetupError, match="push_contact"):
            services_of(settings.changed(known, push_contact="it@example.org"))


class TestSending:
    def test_strangers_verify_and_read_it(self, portal: Portal):
        with push_service(201) as (url, got), sender(portal, url) as push:
            key, auth, raw = receiver(f"{url}/x")
            assert push.send(raw, b'{"kind":"sign-in"}')
            headers, body = got[0]
            assert http_ece.decrypt(body, private_key=key, auth_secret=auth) == b'{"kind":"sign-in"}'
            assert Vapid02.verify(headers["authorization"].replace(", k=", ",k="))
            token = headers["authorization"].split("t=")[1].split(",")[0]
            claims = jwt.decode(token, options={"verify_signature": False})
            assert (claims["aud"], claims["sub"]) == (url, "mailto:it@example.org")
            assert claims["exp"] <= time.time() + 24 * 3600
            assert headers["authorization"].endswith(push.keys.public())
            assert (headers["content-encoding"], headers["ttl"], headers["urgency"]) == ("aes128gcm", "180", "high")

    @pytest.mark.parametrize("status", [404, 410])
    def test_a_subscription_that_is_gone(self, portal: Portal, status: int):
        with push_service(status) as (url, _), sender(portal, url) as push:
            assert not push.send(receiver(f"{url}/x")[2], b"x")

    @pytest.mark.parametrize("status", [301, 307, 308])
    def test_no_redirect_is_followed(self, portal: Portal, status: int):
        with push_service(status, 201) as (url, got), sender(portal, url) as push:
            with pytest.raises(SendFailed):
                push.send(receiver(f"{url}/x")[2], b"x")
            assert len(got) == 1

    def test_a_service_that_is_not_allowed_any_more_is_not_called(self, portal: Portal):
        with push_service(201) as (url, got), sender(portal, "https://other.example") as push:
            assert not push.send(receiver(f"{url}/x")[2], b"x")
            assert got == []

    def test_one_key_for_all(self, portal: Portal):
        with sender(portal, "") as first, sender(portal, "") as second:
            assert first.keys.public() == second.keys.public()


class TestTheWholeWay:
    def test_a_request_is_pushed_and_the_push_tells_nothing(self, owner: Owner):
        assert owner.phone.subscribe(subscription(owner.portal)).status_code == 204
        before = len(messages(owner.portal))
        asked = owner.ask()

        def pushes() -> list[dict[str, Any]]:
            """A notice by mail about the set-up may still be on its way."""
            found = messages(owner.portal)
            return [message for message in found[: len(found) - before] if message["channel"] == "push"]

        pushed = until(pushes, "a push")
        assert len(pushed) == 1
        text = json.dumps(pushed)
        for secret in (owner.person.username, asked["number"] + " ", asked["approval"], "127.0.0.1"):
            assert secret not in text

    def test_a_subscription_that_is_gone_is_forgotten_and_stops_nothing(self, owner: Owner):
        raw = subscription(owner.portal)
        raw["endpoint"] = raw["endpoint"][:-6] + "AAAAAA"
        assert owner.phone.subscribe(raw).status_code == 204
        asked = owner.ask()
        assert until(lambda: not owner.phone.look().json()["push"]["subscribed"])
        assert owner.phone.answer(asked["approval"], number=asked["number"]).status_code == 204
        assert owner.go_on().json()["decision"] == "allow"

    def test_a_subscription_is_taken_back(self, owner: Owner):
        owner.phone.subscribe(subscription(owner.portal))
        assert owner.phone.subscribe(None).status_code == 204
        assert owner.phone.look().json()["push"]["subscribed"] is False

    def test_setting_up_and_declining_are_told_by_mail(self, owner: Owner):
        asked = owner.ask()
        owner.phone.answer(asked["approval"], "deny")

        def mails() -> list[str]:
            with owner.portal.bench.office() as opened, opened.database.read() as tx:
                address = accounts.get(tx, owner.person.username).email
            found = [message["text"] for message in messages(owner.portal) if message["to"] == address]
            return found if len(found) > 1 else []

        declined, added = until(mails, "two notices")
        assert "was set up" in added
        assert "declined on your phone" in declined

    def test_pushes_outlive_the_rotation_of_keys(self, owner: Owner):
        owner.phone.subscribe(subscription(owner.portal))
        public = owner.phone.look().json()["push"]["key"]
        with owner.portal.bench.office() as opened:
            office.rotate_keys(opened)
            ring = KeyBook(opened.settings.key_file).ring()
            with opened.database.read() as tx:
                (row,) = phone_apps.of(tx, accounts.get(tx, owner.person.username).id)
                assert row.subscription is not None
                assert ring.is_current(row.subscription)
        assert owner.phone.look().json()["push"]["key"] == public

    def test_a_stolen_database_tells_neither_address_nor_number_nor_key(self, owner: Owner, databases: Databases):
        raw = subscription(owner.portal)
        owner.phone.subscribe(raw)
        with owner.portal.bench.office() as opened:
            secret = PushKeys(database=opened.database, keys=KeyBook(opened.settings.key_file)).key()
        private = secret.private_numbers().private_value.to_bytes(32, "big")
        stolen = databases.stolen(owner.portal.bench.data)
        for text in (raw["keys"]["auth"].encode(), raw["endpoint"][-40:].encode(), private):
            assert text not in stolen


class TestTheLocalService:
    def test_it_takes_signed_pushes_only(self, portal: Portal):
        raw = subscription(portal)
        path = raw["endpoint"].removeprefix(portal.origin)
        headers = {"content-encoding": "aes128gcm", "ttl": "60"}
        assert portal.server.http.post(path, content=b"x", headers=headers).status_code == 400
        for header in ("vapid", "vapid t=x", "vapid t=x, k=y", "Bearer x", "vapid =,=,"):
            sent = {**headers, "authorization": header}
            assert portal.server.http.post(path, content=b"x", headers=sent).status_code == 400

    def test_it_takes_readable_pushes_only(self, portal: Portal):
        with sender(portal, portal.origin) as push:
            raw = subscription(portal)
            headers = push._headers(raw["endpoint"])
            for body in (b"", b"x", bytes(200), bytes(9000)):
                answer = portal.server.http.post(raw["endpoint"], content=body, headers=headers)
                assert answer.status_code == 400
            assert portal.server.http.post(f"{portal.origin}/outbox/push/x", headers=headers).status_code == 404

    def test_it_is_not_there_without_the_outbox(self, server):
        assert server.http.post("/outbox/push").status_code == 404
