"""The bridge as a process: its socket, its lock, who may talk to it, its end. PC/SC is absent on purpose."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from pytest_mock import MockerFixture

from tests.patience import SECONDS, ended
from tokenbridge.daemon import app, client
from tokenbridge.daemon.api import Services, make_app
from tokenbridge.daemon.app import AlreadyRunning, SameUserProtocol
from tokenbridge.daemon.client import BridgeClient
from tokenbridge.errors import DaemonUnavailable, RemoteError

from .conftest import run
from .workstation import Workstation


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directories of a bridge's own, also for the processes that are started."""
    for variable, value in {
        "TOKENBRIDGE_RUNTIME_DIR": tmp_path / "run",
        "TOKENBRIDGE_STATE_DIR": tmp_path / "state",
        "XDG_CONFIG_HOME": tmp_path / "config",
        "PCSCLITE_CSOCK_NAME": tmp_path / "pcscd.comm",
    }.items():
        monkeypatch.setenv(variable, str(value))
    return tmp_path


class Bridge:
    """A bridge that is running."""

    def __init__(self, place: Path) -> None:
        self.socket = place / "run" / "bridge.sock"
        ready, told = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tokenbridge", "daemon", "run", "--ready-fd", str(told)],
            pass_fds=(told,),
            stderr=subprocess.PIPE,
            text=True,
        )
        os.close(told)
        with os.fdopen(ready) as pipe:
            if not select.select([pipe], [], [], SECONDS)[0]:
                self.process.kill()
                pytest.fail(f"the bridge did not come up: {self.end()[1]}")
            self.ready = pipe.readline()

    @property
    def client(self) -> BridgeClient:
        return BridgeClient(self.socket)

    def end(self) -> tuple[int, str]:
        """Exit code and what it logged."""
        _, log = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, log


@pytest.fixture
def bridge(place: Path) -> Iterator[Bridge]:
    started = Bridge(place)
    yield started
    if started.process.poll() is None:
        started.process.kill()
    started.process.communicate()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_bridge_without_pcsc_answers_and_its_files_are_private(place: Path, bridge: Bridge) -> None:
    assert bridge.ready == "ready\n"
    status = bridge.client.get("/v1/status")
    assert (status["pcsc"], status["readers"], status["pid"]) == ("down", [], bridge.process.pid)
    assert mode(bridge.socket) == 0o600
    assert mode(bridge.socket.parent) == 0o700
    assert mode(place / "state") == 0o700
    with pytest.raises(RemoteError) as caught:
        bridge.client.get("/v1/card")
    assert caught.value.remote_code == "pcsc-service-gone"


def test_there_is_one_bridge_per_user(bridge: Bridge) -> None:
    second = command("daemon", "run")
    with ended(second):
        _, told = second.communicate(timeout=SECONDS)
    assert second.returncode == 7
    assert "running already" in told
    assert bridge.client.get("/v1/status")["pid"] == bridge.process.pid


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "request"])
def test_it_ends_when_told_and_leaves_no_socket(bridge: Bridge, how: str) -> None:
    with bridge.client.stream("GET", "/v1/events") as stream:
        lines = iter(stream)
        assert next(lines)["event"] == "now"
        if how == "request":
            bridge.client.request("POST", "/v1/stop")
        else:
            bridge.process.send_signal(signal.Signals[how])
        last = next(lines)
        assert (last["event"], last["error"]["by"]) == ("error", "shutdown")
    code, log = bridge.end()
    assert code == 0
    assert "stopped" in log
    assert "Traceback" not in log
    assert not bridge.socket.exists()


def test_a_socket_left_over_from_a_crash_is_replaced(place: Path, bridge: Bridge) -> None:
    bridge.process.kill()
    bridge.process.wait()
    assert bridge.socket.exists()
    with pytest.raises(DaemonUnavailable):
        bridge.client.get("/v1/status")
    after = Bridge(place)
    try:
        assert after.client.get("/v1/status")["pid"] == after.process.pid
    finally:
        after.process.terminate()
        after.end()


def command(*arguments: str) -> subprocess.Popen[str]:
    start = [sys.executable, "-m", "tokenbridge", *arguments]
    return subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_it_is_started_on_demand_by_many_at_once_and_only_once(place: Path) -> None:
    callers = [command("status", "--json") for _ in range(3)]
    with ended(*callers):
        answers = [caller.communicate(timeout=2 * SECONDS)[0] for caller in callers]
    assert [caller.returncode for caller in callers] == [0, 0, 0]
    assert len({json.loads(answer)["pid"] for answer in answers}) == 1
    stopped, _ = command("daemon", "stop", "--json").communicate(timeout=SECONDS)
    assert json.loads(stopped) == {"stopped": True}
    assert mode(place / "state" / "bridge.log") == 0o600


def test_it_is_not_started_unless_wanted(place: Path) -> None:
    with pytest.raises(DaemonUnavailable):
        client.connect(start=False)
    assert not (place / "run").exists()


def test_a_bridge_that_cannot_start_says_where_to_look(place: Path) -> None:
    (place / "config" / "tokenbridge").mkdir(parents=True)
    (place / "config" / "tokenbridge" / "bridge.toml").write_text("nonsense = 1\n")
    caller = command("status")
    _, told = caller.communicate(timeout=2 * SECONDS)
    assert caller.returncode == 7
    assert "bridge.log" in told
    assert "nonsense" in (place / "state" / "bridge.log").read_text()


# --- parts -----------------------------------------------------------------------------------------------------


def test_the_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    with app._single(tmp_path):
        with pytest.raises(AlreadyRunning), app._single(tmp_path):
            pass
        assert mode(tmp_path / "bridge.lock") == 0o600
    with app._single(tmp_path):
        pass


def test_a_socket_is_never_open_to_others_not_even_for_a_moment(tmp_path: Path, mocker: MockerFixture) -> None:
    modes: list[int] = []
    listen = socket.socket.listen

    def look(self: socket.socket, backlog: int) -> None:
        modes.append(mode(tmp_path / "bridge.sock"))
        listen(self, backlog)

    mocker.patch.object(socket.socket, "listen", look)
    before = os.umask(0)
    try:
        with app._listener(tmp_path) as listener:
            assert modes == [0o600]
            assert listener.getsockname() == str(tmp_path / "bridge.sock")
            assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert not (tmp_path / "bridge.sock").exists()


def test_a_socket_that_systemd_passed_is_used_and_left_alone(tmp_path: Path) -> None:
    """In a process of its own: descriptor 3 is the agreed one."""
    path = tmp_path / "passed.sock"
    code = (
        "import os, sys; os.dup2(int(sys.argv[2]), 3)\n"
        "os.environ['LISTEN_PID'] = str(os.getpid()); os.environ['LISTEN_FDS'] = '1'\n"
        "from pathlib import Path; from tokenbridge.daemon import app\n"
        "with app._listener(Path(sys.argv[1])) as listener: print(listener.getsockname())\n"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        start = [sys.executable, "-c", code, str(tmp_path), str(listener.fileno())]
        done = subprocess.run(
            start, pass_fds=(listener.fileno(),), capture_output=True, text=True, timeout=SECONDS, check=True
        )
    assert done.stdout.strip() == str(path)
    assert path.exists()
    assert not (tmp_path / "bridge.sock").exists()


def test_peer_is_what_the_kernel_says() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert app.peer(ours) == (os.getpid(), os.getuid())


def test_names_of_programs() -> None:
    assert app.program_name(os.getpid()) == Path("/proc/self/comm").read_text().strip()
    assert app.program_name(2**22 + 1) == "a program"


async def ask(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(b"GET /v1/status HTTP/1.1\r\nhost: bridge\r\nconnection: close\r\n\r\n")
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("same_user", [True, False])
def test_another_user_is_hung_up_on(tmp_path: Path, mocker: MockerFixture, same_user: bool) -> None:
    mocker.patch.object(app, "peer", return_value=(os.getpid(), os.getuid() + (0 if same_user else 1)))

    async def work() -> bytes:
        station = Workstation()
        services: Any = Services(
            settings=station.settings, bridge=station.bridge, sites=mocker.Mock(), stopping=asyncio.Event()
        )
        config = uvicorn.Config(make_app(services), http=SameUserProtocol, lifespan="off", log_config=None)
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        path = tmp_path / "bridge.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        await server.startup(sockets=[listener])
        try:
            return await ask(path)
        finally:
            await server.shutdown(sockets=[listener])

    answer = run(work())
    if same_user:
        assert b"200 OK" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["pcsc"] == "up"
    else:
        assert answer == b""
