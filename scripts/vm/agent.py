"""The guest's side: runs what the host orders over a virtio port, one command at a time. Standard library only.

Both sides send lines of JSON. Host: `{"id", "ping": true}`, `{"id", "off": true}` or `{"id", "command", "cwd",
"environ", "seconds"}`. Guest: `{"id", "ready": true}`, `{"id", "stream": 1|2, "data": base64}` and at the end
`{"id", "code": int}`. A host that goes away ends its command; a command without its code (the machine died) has failed.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PORT_NAME = "tokenbridge.agent"
LATE = 124
"""Exit code of a command that took too long, as timeout(1) has it."""
NOT_STARTED = 127
CHUNK = 32768
MAX_LINE = 1 << 20
PORTS = Path("/sys/class/virtio-ports")


def main() -> int:
    """Serve the port of this machine."""
    # Blocked first, so that a host that comes between a look and the wait is not missed.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
    serve(Port(os.open(find_port(), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)))
    return 0


def serve(port: Port) -> None:
    """Do what hosts order, until one says off."""
    while True:
        order = port.receive()
        if order.get("off"):
            return
        if order.get("ping"):
            _settle()
            port.send(id=order["id"], ready=True)
        elif "command" in order:
            port.send(id=order["id"], code=run(order, port))


def find_port() -> Path:
    """The device node of the port that the host named."""
    for entry in PORTS.iterdir():
        if (entry / "name").read_text().strip() == PORT_NAME:
            return Path("/dev") / entry.name
    sys.exit(f"no virtio port called {PORT_NAME}")


def _settle() -> None:
    """What was coldplugged at boot has been dealt with."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(["udevadm", "settle", "--timeout=60"], check=False, timeout=90, stdout=subprocess.DEVNULL)


class Port:
    """Lines of JSON over the virtio port, which must never block for a host that is not there."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_RDWR | os.O_NONBLOCK | os.O_ASYNC)
        self._buffer = b""

    def receive(self) -> dict[str, Any]:
        """The next order, whichever host it comes from."""
        while True:
            line, newline, rest = self._buffer.partition(b"\n")
            if newline:
                self._buffer = rest
                with contextlib.suppress(ValueError):
                    order = json.loads(line)
                    if isinstance(order, dict):
                        return order
                continue
            self._fill()

    def _fill(self) -> None:
        try:
            data = os.read(self.descriptor, CHUNK)
        except BlockingIOError:
            _poll(self.descriptor, select.POLLIN)
            return
        if not data or len(self._buffer) > MAX_LINE:
            self._buffer = b""
        if data:
            self._buffer += data
        else:  # no host: the kernel sends SIGIO when one connects
            signal.sigwait([signal.SIGIO])

    def send(self, **answer: Any) -> None:
        """Drops the answer if the host has gone."""
        data = json.dumps(answer).encode() + b"\n"
        while data:
            try:
                data = data[os.write(self.descriptor, data) :]
            except BlockingIOError:
                if _poll(self.descriptor, select.POLLOUT) & select.POLLHUP:
                    return


def _poll(descriptor: int, events: int) -> int:
    poller = select.poll()
    poller.register(descriptor, events)
    return poller.poll()[0][1]


def run(order: dict[str, Any], port: Port) -> int:
    """Run one command and pass on what it prints; its exit code (128 + n for signal n)."""
    try:
        child = subprocess.Popen(
            order["command"],
            cwd=order.get("cwd") or "/",
            env={**os.environ, **order.get("environ", {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as err:
        port.send(id=order["id"], stream=2, data=base64.b64encode(f"{err}\n".encode()).decode())
        return NOT_STARTED
    with child:
        code = _follow(child, order, port)
        with contextlib.suppress(ProcessLookupError):  # what it left behind in its group
            os.killpg(child.pid, signal.SIGKILL)
    return code


def _follow(child: subprocess.Popen[bytes], order: dict[str, Any], port: Port) -> int:
    assert child.stdout is not None
    assert child.stderr is not None
    streams = {child.stdout.fileno(): 1, child.stderr.fileno(): 2}
    ended = os.pidfd_open(child.pid)
    poller = select.poll()
    for descriptor in streams:
        os.set_blocking(descriptor, False)
        poller.register(descriptor, select.POLLIN)
    poller.register(ended, select.POLLIN)
    poller.register(port.descriptor, 0)  # POLLHUP alone: the host has gone
    until = time.monotonic() + float(order["seconds"])
    late = False
    while True:
        ready = {descriptor for descriptor, _ in poller.poll(max(until - time.monotonic(), 0) * 1000)}
        for descriptor in streams.keys() & ready:
            if not _pass_on(descriptor, streams[descriptor], order["id"], port):
                poller.unregister(descriptor)
        late = not ready or time.monotonic() >= until
        if late or port.descriptor in ready:
            os.killpg(child.pid, signal.SIGKILL)
        if late or ready & {ended, port.descriptor}:
            break
    code = child.wait()
    for descriptor, stream in streams.items():
        while _pass_on(descriptor, stream, order["id"], port):
            pass
    os.close(ended)
    if late:
        return LATE
    return code if code >= 0 else 128 - code


def _pass_on(descriptor: int, stream: int, of: str, port: Port) -> bool:
    """Whether there may be more."""
    try:
        data = os.read(descriptor, CHUNK)
    except BlockingIOError:
        return False
    if data:
        port.send(id=of, stream=stream, data=base64.b64encode(data).decode())
    return bool(data)


if __name__ == "__main__":
    sys.exit(main())
