"""Debian's Chromium, spoken to over a pipe (DevTools protocol), and our server for it to sign in at."""

from __future__ import annotations

import json
import os
import queue
import select
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tokenbridge.server import settings
from tokenbridge.server.operator import office, people, security_keys
from tokenbridge.server.run import assemble
from tokenbridge.server.store.accounts import NewAccount

START_SECONDS = 150
"""On an emulated processor a browser takes its time."""
STEP_SECONDS = 60
MAX_MESSAGE = 1 << 24
FLAGS = (
    "--headless",
    "--no-sandbox",  # the tests run as root
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of a Chromium that trusts the authority in `ca`."""

    def __init__(self, home: Path, ca: Path) -> None:
        self._log = home / "chromium.log"
        _trust(home, ca)
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # Chromium wants commands at descriptor 3 and answers at 4.
        script = f'exec "$@" 3<&{to_read} 4>&{to_write} {to_read}<&- {to_write}>&-'
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "bash",
                    "-c",
                    script,
                    "bash",
                    "chromium",
                    *FLAGS,
                    f"--user-data-dir={home / 'profile'}",
                    "about:blank",
                ],
                env={**os.environ, "HOME": str(home)},
                pass_fds=(to_read, to_write),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        os.close(to_read)
        os.close(to_write)
        self._number = 0
        self._buffer = b""
        self._session = ""

    def open(self, address: str) -> None:
        """Load `address` in a page that has the focus, as WebAuthn wants it."""
        pages = self._call("Target.getTargets", seconds=START_SECONDS)["targetInfos"]
        page = next(target["targetId"] for target in pages if target["type"] == "page")
        attached = self._call("Target.attachToTarget", {"targetId": page, "flatten": True}, seconds=START_SECONDS)
        self._session = attached["sessionId"]
        self._call("Emulation.setFocusEmulationEnabled", {"enabled": True}, seconds=START_SECONDS)
        gone = self._call("Page.navigate", {"url": address}, seconds=START_SECONDS)
        assert "errorText" not in gone, f"{address}: {gone}\n{self._log.read_text()[-2000:]}"
        assert self.run("location.href", seconds=START_SECONDS) == address

    def run(self, script: str, *, seconds: float = STEP_SECONDS) -> Any:
        """The value of `script`, awaited if it is a promise, as if the person had clicked."""
        done = self._call(
            "Runtime.evaluate",
            {"expression": script, "awaitPromise": True, "returnByValue": True, "userGesture": True},
            seconds=seconds,
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def _call(self, method: str, parameters: dict[str, Any] | None = None, *, seconds: float) -> Any:
        self._number += 1
        order = {"id": self._number, "method": method, "params": parameters or {}}
        if self._session:
            order["sessionId"] = self._session
        os.write(self._write, json.dumps(order).encode() + b"\0")
        until = time.monotonic() + seconds
        while True:
            answer = json.loads(self._message(until, method))
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]

    def _message(self, until: float, method: str) -> bytes:
        while b"\0" not in self._buffer:
            ready = select.select([self._read], [], [], max(until - time.monotonic(), 0))[0]
            data = os.read(self._read, 1 << 16) if ready else b""
            if not data or len(self._buffer) > MAX_MESSAGE:
                why = "has ended" if ready else "does not answer"
                pytest.fail(f"Chromium {why}: {method}\n{self._log.read_text()[-2000:]}", pytrace=False)
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return message

    def close(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait(STEP_SECONDS)
        os.close(self._write)
        os.close(self._read)


def _trust(home: Path, ca: Path) -> None:
    """Chromium keeps what it trusts in NSS's database below the home folder."""
    database = home / ".pki" / "nssdb"
    database.mkdir(parents=True)
    for words in (("-N", "--empty-password"), ("-A", "-n", "test bench", "-t", "C,,", "-i", str(ca))):
        command = ["certutil", "-d", f"sql:{database}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=STEP_SECONDS, check=False)
        assert done.returncode == 0, done.stderr


@dataclass(frozen=True, slots=True)
class Site:
    """Our server, running; `http` is its JSON API."""

    origin: str
    data: Path
    http: httpx.Client

    def newcomer(self, username: str) -> str:
        """An account that has nothing yet; gives its enrolment code."""
        with office.opened(self.data) as opened:
            people.add(opened, NewAccount(username=username, display_name=username.title()), None)
            return security_keys.new_enrolment_code(opened, username, 24).code

    def post(self, path: str, body: dict[str, Any], status: int) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()


@dataclass(frozen=True, slots=True)
class Workplace:
    site: Site
    browser: Browser


@pytest.fixture(scope="session")
def workplace(kernel_keys: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """The browser comes up meanwhile: it takes many seconds on an emulated processor."""
    for program in ("chromium", "certutil"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: scripts/setup vm")
    data = tmp_path_factory.mktemp("server")
    office.initialise(data, name="Test Hospital", port=0)
    with ExitStack() as stack:
        browser = Browser(tmp_path_factory.mktemp("browser"), data / "tls" / "ca.pem")
        stack.callback(browser.close)
        site = stack.enter_context(_serving(data))
        browser.open(f"{site.origin}/healthz")
        yield Workplace(site, browser)


@contextmanager
def _serving(data: Path) -> Iterator[Site]:
    ready: queue.Queue[str] = queue.Queue()
    server, listener = assemble(settings.load(data), ready.put)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        # what it listens at is 127.0.0.1; its name is localhost, with the port that the system has chosen
        origin = f"https://localhost:{ready.get(timeout=STEP_SECONDS).rpartition(':')[2]}"
        trusted = ssl.create_default_context(cafile=data / "tls" / "ca.pem")
        with httpx.Client(base_url=origin, verify=trusted, timeout=STEP_SECONDS) as http:
            yield Site(origin, data, http)
    finally:
        server.should_exit = True
        thread.join(STEP_SECONDS)


@pytest.fixture
def site(workplace: Workplace) -> Site:
    return workplace.site


@pytest.fixture
def browser(workplace: Workplace) -> Browser:
    return workplace.browser
