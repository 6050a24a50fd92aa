"""What tests of security keys do again and again at a running server."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import httpx

from tests.server.conftest import ORIGIN, PASSWORD, Bench, Person, Server, now
from tests.software_key import AAGUID, Maker, SoftwareKey
from tokenbridge.rp.key_metadata import Metadata, Model, Report
from tokenbridge.rp.proof import Factor
from tokenbridge.server.operator import people, security_keys
from tokenbridge.server.store import metadata
from tokenbridge.server.store.accounts import NewAccount


def hardware_model(maker: Maker, *reports: Report, aaguid: bytes = AAGUID) -> Model:
    return Model(
        name="Test Key 5",
        aaguid=aaguid,
        roots=(maker.der,),
        reports=(Report(status="FIDO_CERTIFIED_L1"), *reports),
        protection=frozenset({"hardware", "secure_element"}),
        verified_by=(frozenset({Factor.KNOWLEDGE}),),
    )


@dataclass(kw_only=True)
class KeyBench:
    """A server, its data directory, and a maker whose model is in the server's metadata."""

    bench: Bench
    server: Server
    maker: Maker
    origin: str = ORIGIN

    def load(self, *models: Model, next_update: dt.date | None = None, number: int = 1) -> None:
        """Put metadata in force, as `server metadata load` does once a blob's signature is checked."""
        with self.bench.office() as office, office.database.write() as tx:
            date = next_update or (now().date() + dt.timedelta(days=30))
            metadata.replace(tx, Metadata(number=number, next_update=date, models=models), "test", now())

    def key(self, **how: Any) -> SoftwareKey:
        """A key of the known model."""
        return SoftwareKey(**{"maker": self.maker, "fmt": "packed", **how})

    def newcomer(self, password: str | None = PASSWORD) -> str:
        """Somebody without anything but (perhaps) a password."""
        name = f"new{next(self.bench.counter)}"
        with self.bench.office() as office:
            people.add(office, NewAccount(username=name, display_name="A Newcomer"), password)
        return name

    def enrolment_code(self, name: str) -> str:
        with self.bench.office() as office:
            return security_keys.new_enrolment_code(office, name, 24).code

    def begin_by_code(self, name: str, code: str | None = None) -> httpx.Response:
        body = {"username": name, "enrolment_code": code or self.enrolment_code(name)}
        return self.server.http.post("/api/keys/registration", json=body)

    def begin_by_session(self, token: str) -> httpx.Response:
        return self.server.http.post("/api/keys/registration", json={}, headers=bearer(token))

    def finish(self, begun: dict[str, Any], credential: dict[str, Any], name: str | None = None) -> httpx.Response:
        body = {"credential": credential, **({"name": name} if name else {})}
        return self.server.http.post(f"/api/keys/registration/{begun['registration']}", json=body)

    def register(self, name: str, key: SoftwareKey | None = None, **bent: Any) -> SoftwareKey:
        """Register a key by code and return it."""
        key = key or self.key()
        begun = self.begin_by_code(name)
        assert begun.status_code == 201, begun.text
        done = self.finish(begun.json(), key.register(begun.json()["options"], self.origin, **bent))
        assert done.status_code == 201, done.text
        return key

    def start(self, username: str | None = None) -> dict[str, Any]:
        body = {"client": "cli", **({"username": username} if username else {})}
        answer = self.server.http.post("/api/sign-in", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def present(self, ticket: dict[str, Any], credential: dict[str, Any]) -> httpx.Response:
        return self.server.http.post(f"/api/sign-in/{ticket['transaction']}/key", json={"credential": credential})

    def sign_in(self, key: SoftwareKey, username: str | None = None, **bent: Any) -> httpx.Response:
        ticket = self.start(username)
        return self.present(ticket, key.answer(key_options(ticket), self.origin, **bent))

    def session(self, key: SoftwareKey) -> str:
        answer = self.sign_in(key)
        assert answer.status_code == 200, answer.text
        return answer.json()["session"]["token"]

    def session_by_code(self, person: Person) -> str:
        """A session at AAL2."""
        ticket = self.start()
        assert self.server.password(ticket, person.username).json()["decision"] == "challenge"
        answer = self.server.code(ticket, person.code())
        assert answer.status_code == 200, answer.text
        return answer.json()["session"]["token"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def key_options(ticket: dict[str, Any]) -> dict[str, Any]:
    return next(way for way in ticket["accepts"] if way["method"] == "key")["options"]


def reason(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    assert error["message"].endswith("."), error
    assert error["next_step"], error
    return str(error.get("reason", error["code"]))
