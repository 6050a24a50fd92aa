"""A portal at an address of its own, and a visitor who behaves as a browser does without scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.patience import until
from tests.server.conftest import PASSWORD, Bench, Databases, Person, Server, _client, copied, make_bench, now, serving
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.ports import free_port
from tokenbridge.server.operator import people
from tokenbridge.server.store import accounts
from tokenbridge.server.store.accounts import NewAccount

SESSION = "__Host-tokenbridge-session"
SELF_ENROL = """
[[rule]]
name = "self-enrol"
clients = ["portal"]
groups = ["@unenrolled"]
aal = 1

[[rule]]
name = "default"
aal = 2
"""


@dataclass(kw_only=True)
class Visitor:
    """A browser without scripts: it keeps cookies, follows redirects of forms, and sends forms as they stand."""

    origin: str
    http: httpx.Client
    last: httpx.Response | None = field(default=None)

    def get(self, path: str) -> httpx.Response:
        self.last = self.http.get(path, follow_redirects=True)
        return self.last

    def post(self, path: str, fields: dict[str, str] | None = None, **headers: str) -> httpx.Response:
        """Send the form of the page that was seen last, with its hidden fields; no redirect is followed."""
        sent = {**self.hidden(), **(fields or {})}
        usual = {"origin": self.origin, "sec-fetch-site": "same-origin"}
        return self.http.post(path, data=sent, headers={**usual, **headers})

    def upload(self, path: str, files: dict[str, bytes], fields: dict[str, str] | None = None) -> httpx.Response:
        """As `post`, with files."""
        sent = {**self.hidden(), **(fields or {})}
        parts = [(name, (None, value.encode())) for name, value in sent.items()]
        parts += [(name, (f"{name}.bin", data, "application/octet-stream")) for name, data in files.items()]
        return self.http.post(path, files=parts, headers={"origin": self.origin, "sec-fetch-site": "same-origin"})

    def send(self, path: str, fields: dict[str, str] | None = None) -> httpx.Response:
        """As `post`, and go where it leads."""
        answer = self.post(path, fields)
        self.last = self.get(answer.headers["location"]) if answer.is_redirect else answer
        return self.last

    def hidden(self) -> dict[str, str]:
        text = self.last.text if self.last is not None else ""
        found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', text)
        return {name: unescape(value) for name, value in found}

    def sign_in(self, person: Person) -> httpx.Response:
        """By password and the app's code; to the page that comes after it."""
        self.get("/sign-in")
        step = self.send("/sign-in", {"username": person.username, "password": person.password})
        assert step.url.path == "/sign-in/step", step.text
        self.get("/sign-in/step?by=totp")
        return self.send("/sign-in/step", {"code": person.code()})

    def sign_in_by_password(self, username: str, password: str = PASSWORD) -> httpx.Response:
        self.get("/sign-in")
        return self.send("/sign-in", {"username": username, "password": password})


@dataclass(kw_only=True)
class Portal:
    bench: Bench
    server: Server
    origin: str

    def visitor(self) -> Visitor:
        client = _client(self.bench.data, self.origin)
        client.headers["accept"] = "text/html,application/xhtml+xml,*/*;q=0.8"
        return Visitor(origin=self.origin, http=client)

    def newcomer(self, *, mfa: bool = True, **facts: Any) -> str:
        """Somebody with nothing but a password; `mfa` False: an account from before the portal."""
        name = f"newcomer{next(self.bench.counter)}"
        with self.bench.office() as office:
            people.add(office, NewAccount(username=name, **{"display_name": "New Comer", **facts}), PASSWORD)
            if not mfa:
                with office.database.write() as tx:
                    accounts.get(tx, name).mfa_since = None
        return name


@pytest.fixture(scope="session")
def portal(tmp_path_factory: pytest.TempPathFactory, databases: Databases) -> Iterator[Portal]:
    with portal_at(tmp_path_factory.mktemp("portal") / "data", database=databases.new()) as made:
        yield made


@contextmanager
def portal_at(data: Path, **options: Any) -> Iterator[Portal]:
    """A portal with these settings."""
    port = free_port()
    origin = f"https://localhost:{port}"
    bench = make_bench(data, RigPki.create(now=now()), origin=origin, **options)
    (data / "policy.toml").write_text(SELF_ENROL)
    with serving(data, port=port) as server:
        yield Portal(bench=bench, server=server, origin=origin)


@contextmanager
def with_outbox(pattern: Path, data: Path, databases: Databases) -> Iterator[Portal]:
    """A portal with a development outbox, in a copy of the data directory `pattern`."""
    port = free_port()
    origin = f"https://localhost:{port}"
    with copied(pattern, data, databases) as folder:
        file = folder / "server.toml"
        file.write_text(re.sub(r"(?m)^origin = .*$", f'origin = "{origin}"\noutbox = true', file.read_text()))
        (folder / "policy.toml").write_text(SELF_ENROL)
        with serving(folder, port=port) as server:
            yield Portal(bench=Bench(data=folder, pki=RigPki.create(now=now())), server=server, origin=origin)


@pytest.fixture
def visitor(portal: Portal) -> Iterator[Visitor]:
    made = portal.visitor()
    with made.http:
        yield made


def noticed(visitor: Visitor, words: str) -> bool:
    """Whether somebody gets a notice with these words: it goes out by itself, a moment later."""
    return until(lambda: words in visitor.http.get("/outbox").text.lower(), f"a notice: {words}")
