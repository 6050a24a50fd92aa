"""A server, a person and a mail server that checks app passwords."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.server.conftest import Bench, Person, Server, running
from tests.server.test_cli import Cli
from tests.server.test_policy_cli import put
from tokenbridge.rig.pki import RigPki

MAIL = '[[rule]]\nname = "mail"\nclients = ["mail"]\naal = 1\n\n[[rule]]\nname = "rest"\n'


class Desk:
    """A server, a person who is signed in strongly, and a mail server."""

    def __init__(self, bench: Bench, server: Server) -> None:
        self.bench, self.server = bench, server
        self.cli = Cli(bench.data)
        self.person = bench.person()
        self.token = self.sign_in(self.person)
        self.secret = json.loads(self.cli("app-client", "add", "mail", "--json"))["secret"]

    def sign_in(self, person: Person) -> str:
        ticket = self.server.begin()
        answer = self.server.card(ticket, person.card.token(ticket["nonce"])).json()
        return str(answer["session"]["token"])

    def make(self, name: str = "Outlook", client: str = "mail", token: str | None = None) -> httpx.Response:
        return self.server.http.post(
            "/api/app-passwords",
            json={"client": client, "name": name},
            headers={"Authorization": f"Bearer {token or self.token}"},
        )

    def made(self, name: str = "Outlook") -> dict[str, Any]:
        answer = self.make(name)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def check(self, password: str, **changes: Any) -> httpx.Response:
        given = {"username": self.person.username, "client": "mail", "secret": self.secret, **changes}
        body = {"username": given["username"], "password": password}
        return self.server.http.post("/api/app-password/check", json=body, auth=(given["client"], given["secret"]))

    def events(self) -> list[str]:
        return [entry["event"] for entry in self._entries()]

    def denied(self) -> list[dict[str, Any]]:
        """What the audit trail holds of those whom policy did not let in."""
        return self._entries("--event", "denied")

    def _entries(self, *options: str) -> list[dict[str, Any]]:
        lines = self.cli("audit", "--json", "--user", self.person.username, *options).splitlines()
        return [json.loads(line) for line in lines]


@contextmanager
def app_desk(data: Path, pki: RigPki) -> Iterator[Desk]:
    """In a fresh data directory."""
    bench = Bench(data=data, pki=RigPki(pki.root, pki.issuing))
    bench.trust()
    put(bench.data, MAIL)
    with running(bench.data) as server:
        yield Desk(bench, server)
