"""A server to test: a data directory, people with cards made of software, and a real process over real TLS.

Everything that has a database is there twice: once on SQLite, once on PostgreSQL.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import gc
import hashlib
import http.server
import itertools
import os
import queue
import shutil
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
from argon2 import PasswordHasher
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from sqlalchemy import make_url

from tests.patience import SECONDS, ended
from tests.postgresql import Cluster, cluster
from tokenbridge.rig.pki import Profile, RigPki, Variant
from tokenbridge.rp.certificate import Certificate
from tokenbridge.server import passwords, settings
from tokenbridge.server.operator import authorities, office, people
from tokenbridge.server.run import assemble
from tokenbridge.server.store import accounts
from tokenbridge.server.store.accounts import NewAccount
from tokenbridge.server.store.anchors import Anchor

ORIGIN = "https://localhost:8443"
PASSWORD = "correct horse battery"
DER = serialization.Encoding.DER
RUN = "from tokenbridge.cli.server import server; server()"


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, kw_only=True)
class SoftCard:
    """A P-256 key with a certificate: signs as a card does, and wrongly when told to."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(DER)

    def token(self, nonce: str, *, origin: str = ORIGIN, **changes: Any) -> dict[str, Any]:
        message = hashlib.sha256(origin.encode()).digest() + hashlib.sha256(nonce.encode()).digest()
        r, s = decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        token = {
            "unverifiedCertificate": base64.b64encode(self.der).decode(),
            "algorithm": "ES256",
            "signature": base64.b64encode(signature).decode(),
            "format": "web-eid:1.0",
            "appVersion": "https://web-eid.eu/web-eid-app/releases/2.9.0",
        }
        return {**token, **changes}


@dataclass(frozen=True, kw_only=True)
class Person:
    username: str
    card: SoftCard
    totp: pyotp.TOTP
    password: str = PASSWORD

    def code(self, steps: int = 0) -> str:
        """The code of now, or of `steps` time steps from now."""
        return self.totp.at(now() + dt.timedelta(seconds=30 * steps))


@dataclass(kw_only=True)
class Databases:
    """Where databases of one kind come from. Their address is a URL, or nothing: SQLite in the data directory."""

    cluster: Cluster | None = None

    def new(self) -> str:
        return self.cluster.url(self.cluster.create()) if self.cluster is not None else ""

    def copy(self, data: Path) -> str:
        """Give a copied data directory a copy of its database as well; that of SQLite came along with the files."""
        if self.cluster is None:
            return ""
        file, before = data / settings.FILE_NAME, settings.load(data).database
        copied = self.cluster.url(self.cluster.create(template=self._name(before)))
        file.write_text(file.read_text().replace(before, copied))
        return copied

    def drop(self, url: str) -> None:
        if self.cluster is not None:
            self.cluster.drop(self._name(url))

    def stolen(self, data: Path) -> bytes:
        """What lies on the disk: everything that is stored, and what was written on the way."""
        if self.cluster is None:
            return b"".join(path.read_bytes() for path in data.glob("server.db*"))
        name = self._name(settings.load(data).database)
        self.cluster.execute("CHECKPOINT")
        with self.cluster.connect() as connection:
            found = connection.execute("SELECT oid FROM pg_database WHERE datname = %s", [name]).fetchone()
        assert found is not None
        folders = (self.cluster.folder / "data" / "base" / str(found[0]), self.cluster.folder / "data" / "pg_wal")
        return b"".join(path.read_bytes() for folder in folders for path in folder.iterdir() if path.is_file())

    @staticmethod
    def _name(url: str) -> str:
        return str(make_url(url).database)


@dataclass(kw_only=True)
class Bench:
    """One data directory with its authority; the CRL lies in a file that the tests may change."""

    data: Path
    pki: RigPki
    counter: Iterator[int] = field(default_factory=itertools.count)

    @property
    def crl(self) -> Path:
        return self.data / "issuing.crl"

    def office(self) -> Any:
        return office.opened(self.data)

    def sql(self, *statements: str) -> list[Any]:
        """Run statements past the server, in one transaction; returns the rows of the last one."""
        with self.office() as opened, opened.database.connection() as connection:
            for statement in statements:
                result = connection.exec_driver_sql(statement)
            return list(result) if result.returns_rows else []

    def card(self, uid: str = "", variant: Variant = Variant.GOOD, **profile: Any) -> SoftCard:
        key = ec.generate_private_key(ec.SECP256R1())
        uid = uid or f"{next(self.counter):012d}"
        certificate = self.pki.issue(key.public_key(), Profile(uid=uid, **profile), now=now(), variant=variant)
        return SoftCard(key=key, certificate=certificate)

    def person(self, *, enrol: bool = True, card: SoftCard | None = None, **facts: Any) -> Person:
        """Somebody with a password, an app and a card. The address comes last: no notice tells of what is set up."""
        username = f"person{next(self.counter)}"
        card, email = card or self.card(), facts.pop("email", None)
        with self.office() as opened:
            people.add(opened, NewAccount(username=username, display_name="A Person", **facts), PASSWORD)
            app = people.new_app(opened, username)
            if enrol:
                people.enrol(opened, username, Certificate.parse(card.der), "", unchecked=True)
            with opened.database.write() as tx:
                accounts.get(tx, username).email = email
        return Person(username=username, card=card, totp=pyotp.TOTP(app.secret))

    def distrust(self) -> None:
        """Other tests of the same bench may have left authorities."""
        with self.office() as opened:
            for known in authorities.listed(opened):
                authorities.remove(opened, known.name)

    def trust(self, **rule: Any) -> None:
        """Trust the bench's authority, and no other, by this rule; with CRL files unless told otherwise."""
        self.distrust()
        files = () if rule.get("crl_urls") or rule.get("ocsp_urls") else (str(self.crl), str(self.data / "root.crl"))
        values = {"hardware": True, "pin_enforced": True, "crl_files": files, **rule}
        with self.office() as opened:
            authorities.add(
                opened,
                Anchor(
                    name="bench",
                    certificate=self.pki.root.certificate.public_bytes(DER),
                    intermediates=(self.pki.issuing.certificate.public_bytes(DER),),
                    **values,
                ),
            )


@dataclass(kw_only=True)
class Server:
    """A running server and a client that trusts its certificate; `process` where it is one of its own."""

    process: subprocess.Popen[str] | None
    url: str
    http: httpx.Client

    def begin(self, client: str = "cli") -> dict[str, Any]:
        answer = self.http.post("/api/sign-in", json={"client": client})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def card(self, ticket: dict[str, Any], token: dict[str, Any]) -> httpx.Response:
        return self.http.post(f"/api/sign-in/{ticket['transaction']}/card", json={"token": token})

    def password(self, ticket: dict[str, Any], username: str, password: str = PASSWORD) -> httpx.Response:
        body = {"username": username, "password": password}
        return self.http.post(f"/api/sign-in/{ticket['transaction']}/password", json=body)

    def code(self, ticket: dict[str, Any], code: str) -> httpx.Response:
        body = {"method": "totp", "code": code}
        return self.http.post(f"/api/sign-in/{ticket['transaction']}/code", json=body)

    def session(self, token: str) -> httpx.Response:
        return self.http.get("/api/session", headers={"Authorization": f"Bearer {token}"})

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(SECONDS)


def make_bench(data: Path, pki: RigPki, **options: Any) -> Bench:
    office.initialise(data, name="Test Hospital", **{"origin": ORIGIN, **options})
    pki.write_crls(data, now=now())
    return Bench(data=data, pki=pki)


@contextmanager
def running(data: Path, *options: str) -> Iterator[Server]:
    """A server process on a free port. Its log goes to `server.log` of the data directory."""
    with (data / "server.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", RUN, "--data", str(data), "run", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    with ended(process):
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.endswith(" ready\n"), (data / "server.log").read_text()
            url = ready.split()[2]
            with _client(data, url) as client:
                yield Server(process=process, url=url, http=client)
        finally:
            process.terminate()
            process.wait(SECONDS)


@contextmanager
def serving(data: Path, *, port: int = 0) -> Iterator[Server]:
    """The same server over the same TLS, in a thread: it starts in no time, and can't be killed."""
    ready: queue.Queue[str] = queue.Queue()
    server, listener = assemble(dataclasses.replace(settings.load(data), port=port), ready.put)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        url = ready.get(timeout=SECONDS)
        with _client(data, url) as client:
            yield Server(process=None, url=url, http=client)
    finally:
        server.should_exit = True
        thread.join(20)
        gc.unfreeze()


def _client(data: Path, url: str) -> httpx.Client:
    authority = data / "tls" / "ca.pem"
    context = ssl.create_default_context(cafile=str(authority) if authority.exists() else None)
    return httpx.Client(base_url=url, verify=context, timeout=SECONDS, trust_env=False)


@contextmanager
def listening(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of an HTTP server on loopback whose requests `handler` answers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def web(answers: dict[str, Callable[[bytes], tuple[str, bytes]]]) -> Iterator[tuple[str, list[str]]]:
    """A small HTTP server on loopback: path -> (content type, body); also the list of paths asked for.

    The content type "location" makes the body the address of a redirect.
    """
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            kind, data = answers[self.path](body)
            self.send_response(302 if kind == "location" else 200)
            if kind == "location":
                self.send_header("location", data.decode())
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as url:
        yield url, asked


@contextmanager
def copied(pattern: Path, data: Path, databases: Databases) -> Iterator[Path]:
    """A copy of a data directory, with a database of its own."""
    shutil.copytree(pattern, data)
    url = databases.copy(data)
    yield data
    databases.drop(url)


@pytest.fixture(scope="session", autouse=True)
def _quick_hashes() -> Iterator[None]:
    """Hashes made by the tests are cheap, and so are their comparisons, since a hash tells what it costs. What the
    server hashes by itself costs what it costs; test_connections.py says how much that is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        yield


@pytest.fixture(scope="session")
def pki() -> RigPki:
    return RigPki.create(now=now())


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """One cluster for the whole run. Where PostgreSQL is missing this fails, and says what to install."""
    with cluster() as started:
        yield started


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Databases:
    return Databases(cluster=request.getfixturevalue("postgresql") if request.param == "postgresql" else None)


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, pki: RigPki, databases: Databases) -> Bench:
    """The data directory behind `server`: the authority vouches for hardware and PIN, its CRL is a file."""
    made = make_bench(tmp_path_factory.mktemp("server"), pki, database=databases.new())
    made.trust()
    return made


@pytest.fixture(scope="session")
def server(bench: Bench) -> Iterator[Server]:
    with running(bench.data) as started:
        yield started


@pytest.fixture(scope="session")
def _pattern(tmp_path_factory: pytest.TempPathFactory, pki: RigPki, databases: Databases) -> Path:
    return make_bench(tmp_path_factory.mktemp("pattern") / "data", pki, database=databases.new()).data


@pytest.fixture
def fresh(tmp_path: Path, pki: RigPki, databases: Databases, _pattern: Path) -> Iterator[Bench]:
    """A data directory of the test's own, without any trust anchor yet: a copy, since making one takes a while."""
    with copied(_pattern, tmp_path / "data", databases) as data:
        yield Bench(data=data, pki=RigPki(pki.root, pki.issuing))
