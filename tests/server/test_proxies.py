"""nginx and Caddy in front of the server, by the configuration of docs/deployment.md: addresses and files are changed.

The client has an address of its own (127.0.0.3), since the proxy's (127.0.0.1) is one that the server trusts.
"""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.foreign_programs import UNPACKED, block, program, wait_for
from tests.patience import until
from tests.postgresql import Cluster
from tests.server.conftest import Bench, Person, Server, make_bench, now, running
from tests.server.test_workers import alive, children
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.ports import free_port
from tokenbridge.server import tls
from tokenbridge.server.settings import Settings
from tokenbridge.server.store import audit

pytestmark = pytest.mark.foreign

PAGE = "deployment.md"
NAME = "sign-in.hospital.example"
SITE = f"https://{NAME}"
FRONT, CLIENT, FORGED = "127.0.0.2", "127.0.0.3", "203.0.113.9"


class Named(httpx.HTTPTransport):
    """Connects to the proxy, whatever the name resolves to, from an address of the client's own."""

    def __init__(self, port: int, authority: Path) -> None:
        super().__init__(verify=ssl.create_default_context(cafile=str(authority)), local_address=CLIENT)
        self._port = port

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, "sni_hostname": NAME}
        request.url = request.url.copy_with(host=FRONT, port=self._port)
        return super().handle_request(request)


@dataclass(kw_only=True)
class Front:
    """A proxy that runs: where it listens, who vouches for it, what it has logged."""

    port: int
    authority: Path
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=SITE, transport=Named(self.port, self.authority), timeout=20)


@dataclass(kw_only=True)
class Behind:
    """The server behind it: one command with two processes, or two commands on ports of their own."""

    bench: Bench
    workers: int
    ports: tuple[int, ...]
    running: dict[int, tuple[ExitStack, Server]] = field(default_factory=dict)

    def start(self, port: int) -> None:
        stack = ExitStack()
        server = stack.enter_context(
            running(self.bench.data, "--port", str(port), "--workers", str(self.workers), "--log-level", "info")
        )
        self.running[port] = stack, server

    def stop(self, port: int) -> None:
        self.running.pop(port)[0].close()

    @contextmanager
    def one_gone(self) -> Iterator[None]:
        """One process ends, and afterwards there are as many as before."""
        port = self.ports[0]
        process = self.running[port][1].process
        if self.workers == 1:
            self.stop(port)
            yield
            self.start(port)
            return
        assert process is not None
        ended = min(children(process))
        os.kill(ended, signal.SIGTERM)
        until(lambda: not alive({ended}))
        yield
        until(lambda: len(children(process) - {ended}) == self.workers)


@dataclass(kw_only=True)
class Site:
    front: Front
    behind: Behind
    proxy: str

    @contextmanager
    def visit(self) -> Iterator[Server]:
        with self.front.client() as client:
            yield Server(process=None, url=SITE, http=client)

    def addresses(self) -> list[str]:
        """From where sign-ins came, the latest last."""
        with self.behind.bench.office() as opened, opened.database.read() as tx:
            found = [entry for entry in audit.entries(tx) if entry.event == "signed-in"]
        return [str(entry.detail.get("address")) for entry in found]


@contextmanager
def nginx(place: Path, behind: Behind) -> Iterator[Front]:
    files, port = tls.self_made(Settings(data=place / "front", origin=SITE), now()), free_port()
    shown = block(PAGE, "nginx")
    for before, after in (
        ("    server 127.0.0.1:8443;", "\n".join(f"    server 127.0.0.1:{port};" for port in behind.ports)),
        ("listen 443 ssl;", f"listen {FRONT}:{port} ssl;"),
        ("/etc/ssl/hospital/chain.pem", str(files.certificate)),
        ("/etc/ssl/hospital/key.pem", str(files.key)),
        ("/srv/tokenbridge/tls/ca.pem", str(behind.bench.data / "tls" / "ca.pem")),
    ):
        assert shown.count(before) == 1, before
        shown = shown.replace(before, after)
    folders = "\n".join(f"{kind}_temp_path {place}/{kind};" for kind in ("proxy", "fastcgi", "uwsgi", "scgi"))
    log = place / "access.log"
    (place / "nginx.conf").write_text(
        f"pid {place}/nginx.pid;\nerror_log {place}/error.log;\nevents {{}}\nhttp {{\n"
        f"log_format upstream '$request_method $uri $upstream_addr $status';\naccess_log {log} upstream;\n"
        f"client_body_temp_path {place}/body;\n{folders}\n{shown}}}\n",
        "utf-8",
    )
    command = [program("nginx"), "-p", str(place), "-c", str(place / "nginx.conf"), "-g", "daemon off;"]
    with _until_stopped(command, port, place / "error.log"):
        yield Front(port=port, authority=place / "front" / "tls" / "ca.pem", log=log)


@contextmanager
def caddy(place: Path, behind: Behind) -> Iterator[Front]:
    """Caddy gets its certificates by ACME; here its own authority issues them."""
    port = free_port()
    shown = block(PAGE, "caddy")
    for before, after in (
        ("https://127.0.0.1:8443", " ".join(f"https://127.0.0.1:{port}" for port in behind.ports)),
        ("/srv/tokenbridge/tls/ca.pem", str(behind.bench.data / "tls" / "ca.pem")),
    ):
        assert shown.count(before) == 1, before
        shown = shown.replace(before, after)
    general = f"admin off\nskip_install_trust\nlocal_certs\nauto_https disable_redirects\ndefault_bind {FRONT}\n"
    general += f"https_port {port}\nstorage file_system {place}/storage\nlog {{\noutput file {place}/error.log\n}}\n"
    (place / "Caddyfile").write_text(f"{{\n{general}}}\n{shown}", "utf-8")
    command = [program("caddy"), "run", "--config", str(place / "Caddyfile"), "--adapter", "caddyfile"]
    with _until_stopped(command, port, place / "error.log"):
        authority = place / "storage" / "pki" / "authorities" / "local" / "root.crt"
        until(authority.exists)
        yield Front(port=port, authority=authority, log=place / "error.log")


@contextmanager
def _until_stopped(command: list[str], port: int, log: Path) -> Iterator[None]:
    with log.with_suffix(".out").open("wb") as told:
        process = subprocess.Popen(command, stdout=told, stderr=told, env={"HOME": str(log.parent), "PATH": ""})
    try:
        wait_for((FRONT, port), process, log.with_suffix(".out"))
        yield
    finally:
        process.terminate()
        process.wait(20)


WAYS: dict[str, tuple[Any, int, int]] = {
    "nginx before one command": (nginx, 1, 2),
    "nginx before two": (nginx, 2, 1),
    "caddy before one command": (caddy, 1, 2),
}
"""The proxy, how many commands are behind it, and how many processes each of them starts."""


@pytest.fixture(scope="module", params=WAYS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pki: RigPki, postgresql: Cluster
) -> Iterator[Site]:
    proxy, commands, workers = WAYS[request.param]
    if proxy is caddy and not (UNPACKED / "usr/bin/caddy").exists():
        pytest.skip("this release of the distribution has no Caddy")
    data = tmp_path_factory.mktemp("behind") / "data"
    bench = make_bench(data, pki, origin=SITE, database=postgresql.url(postgresql.create()))
    bench.trust()
    trusted = re.findall("(?m)^trusted_proxies = .*$", block(PAGE, "toml"))
    with (data / "server.toml").open("a") as file:
        file.write("\n".join(trusted) + "\n")
    behind = Behind(bench=bench, workers=workers, ports=tuple(free_port() for _ in range(commands)))
    with tempfile.TemporaryDirectory(prefix="proxy") as name, ExitStack() as stack:
        Path(name).chmod(0o755)  # nginx's own processes are another user
        for port in behind.ports:
            behind.start(port)
            stack.callback(lambda port=port: behind.stop(port))
        front = stack.enter_context(proxy(Path(name), behind))
        yield Site(front=front, behind=behind, proxy=proxy.__name__)


def by_card(server: Server, person: Person, **headers: str) -> httpx.Response:
    begun = server.http.post("/api/sign-in", json={"client": "cli"}, headers=headers)
    assert begun.status_code == 201, begun.text
    token = person.card.token(begun.json()["nonce"], origin=SITE)
    answer = server.http.post(
        f"/api/sign-in/{begun.json()['transaction']}/card", json={"token": token}, headers=headers
    )
    assert answer.status_code == 200, answer.text
    return answer


def test_a_session_holds_at_every_process(site: Site):
    person = site.behind.bench.person()
    with site.visit() as visitor:
        answer = by_card(visitor, person)
    assert answer.json()["decision"] == "allow"
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    token = answer.json()["session"]["token"]
    for _ in range(8):  # each on a connection of its own
        with site.visit() as visitor:
            assert visitor.session(token).json()["account"]["username"] == person.username
    if len(site.behind.ports) > 1:
        lines = [line.split() for line in site.front.log.read_text().splitlines()]
        asked = {upstream for method, path, upstream, status in lines if path == "/api/session"}
        assert asked == {f"127.0.0.1:{port}" for port in site.behind.ports}


@pytest.mark.parametrize("forged", [FORGED, f"{FORGED}, 127.0.0.1", "127.0.0.1", f"127.0.0.1, {FORGED}"])
def test_the_clients_address_is_the_one_that_the_proxy_saw(site: Site, forged: str):
    with site.visit() as visitor:
        person = site.behind.bench.person()
        headers = {"X-Forwarded-For": forged, "X-Real-IP": FORGED, "Forwarded": f"for={FORGED}"}
        by_card(visitor, person, **headers)
    assert site.addresses()[-1] == CLIENT


def test_a_host_that_is_not_the_sites_reaches_nothing(site: Site):
    with site.visit() as visitor:
        usual = visitor.http.get("/sign-in")
        assert usual.status_code == 200
        tricks = {"X-Forwarded-Host": "evil.example", "X-Host": "evil.example", "Forwarded": "host=evil.example"}
        assert "evil.example" not in visitor.http.get("/sign-in", headers=tricks).text
        answer = visitor.http.get("/sign-in", headers={"host": "evil.example"})
    if site.proxy == "caddy":
        assert (answer.status_code, answer.text) == (200, "")  # Caddy's own: it has no such site
    else:
        assert answer.status_code in (400, 403)
    assert "evil.example" not in answer.text
    assert "evil.example" not in str(answer.headers)


def test_a_body_that_an_administrator_may_send_gets_through(site: Site):
    """Who it is, is asked before it is read; that the server answers, and not the proxy, is what counts here."""
    with site.visit() as visitor:
        answer = visitor.http.post("/admin/models", content=bytes(3 << 20), headers={"origin": SITE})
        assert answer.status_code != 413
        assert "x-request-id" in answer.headers


def test_one_process_that_is_started_again_loses_nothing(site: Site):
    person = site.behind.bench.person()
    with site.visit() as visitor:
        ticket = visitor.begin()
        with site.behind.one_gone():
            assert visitor.password(ticket, person.username).json()["decision"] == "challenge"
        with site.behind.one_gone():
            done = visitor.code(ticket, person.code())
        assert done.json()["decision"] == "allow"
        with site.behind.one_gone():
            for _ in range(4):
                assert visitor.session(done.json()["session"]["token"]).status_code == 200
        for _ in range(4):
            assert visitor.session(done.json()["session"]["token"]).status_code == 200
