"""The virtual machine's parts that need no virtual machine: the talk between host and agent, the kernel's packing."""

from __future__ import annotations

import gzip
import lzma
import os
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.vm import agent, kernel
from scripts.vm.machine import Machine, Shape, share
from scripts.vm.session import Session
from tokenbridge.errors import SetupError, TimedOut

AGENT = Path(agent.__file__)
SERVE = """
import os, runpy, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGIO])
names = runpy.run_path(sys.argv[1])
names["serve"](names["Port"](int(sys.argv[2])))
"""


class Guest:
    """The agent as a process on this machine, a pair of sockets in place of the virtio port."""

    def __init__(self) -> None:
        host, guest = socket.socketpair()
        with guest:
            command = [sys.executable, "-c", SERVE, str(AGENT), str(guest.fileno())]
            self.process = subprocess.Popen(command, pass_fds=(guest.fileno(),))
        self.session = Session(host)
        self.said: dict[int, bytes] = {1: b"", 2: b""}

    def run(self, *command: str, seconds: float = 20, **options: object) -> int:
        return self.session.run(command, self._listen, seconds=seconds, **options)  # type: ignore[arg-type]

    def _listen(self, stream: int, data: bytes) -> None:
        self.said[stream] += data


@pytest.fixture
def guest() -> Iterator[Guest]:
    made = Guest()
    yield made
    made.process.kill()
    made.process.wait()
    made.session.close()


def test_output_and_exit_code_come_back(guest: Guest) -> None:
    assert guest.run("sh", "-c", "echo out; echo err >&2; exit 7") == 7
    assert guest.said == {1: b"out\n", 2: b"err\n"}


def test_one_session_runs_many_commands_with_folder_and_environment(guest: Guest, tmp_path: Path) -> None:
    assert guest.run("sh", "-c", "pwd; echo $WORD", cwd=tmp_path, environ={"WORD": "two words"}) == 0
    assert guest.run("true") == 0
    assert guest.said[1].decode() == f"{tmp_path}\ntwo words\n"


def test_much_output_comes_whole(guest: Guest) -> None:
    assert guest.run(sys.executable, "-c", "import sys; sys.stdout.write('x' * 3_000_000)") == 0
    assert guest.said[1] == b"x" * 3_000_000


def test_a_signal_is_told_as_a_shell_tells_it(guest: Guest) -> None:
    assert guest.run("sh", "-c", "kill -9 $$") == 128 + 9


def test_what_can_not_be_started_is_said(guest: Guest) -> None:
    assert guest.run("/no/such/program") == agent.NOT_STARTED
    assert b"/no/such/program" in guest.said[2]


def test_a_command_that_takes_too_long_is_ended_with_its_children(guest: Guest, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")
    held = os.open(tmp_path / "held", os.O_RDONLY | os.O_NONBLOCK)
    assert guest.run("sh", "-c", "sleep 600 >held & sleep 600", seconds=1, cwd=tmp_path) == agent.LATE
    assert select.select([held], [], [], 20)[0]
    assert os.read(held, 1) == b""  # nobody holds the other end any more
    os.close(held)
    assert guest.run("true") == 0


def test_what_a_command_leaves_behind_does_not_hold_the_next_one_up(guest: Guest) -> None:
    assert guest.run("sh", "-c", "sleep 600 & exit 0") == 0
    assert guest.run("true") == 0


def test_a_machine_that_dies_is_no_success(guest: Guest) -> None:
    with pytest.raises(SetupError, match="ended before its command did"):
        guest.run("sh", "-c", "kill -9 $PPID")


def test_a_machine_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.vm.session.GRACE_SECONDS", 0.1)
    host, mute = socket.socketpair()
    with mute:
        session = Session(host)
        with pytest.raises(TimedOut):
            session.run(["true"], lambda *_: None, seconds=0.1)
        session.close()


def test_off_ends_the_agent(guest: Guest) -> None:
    guest.session.power_off()
    assert guest.process.wait(20) == 0


def test_no_machine_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No virtual machine is running"):
        Session.connect(tmp_path / "agent.sock")


def _image(payload: bytes) -> bytes:
    """A bzImage of protocol 2.08 with three sectors of set-up and `payload` 64 bytes into what follows."""
    image = bytearray(4 * 512 + 64)
    image[0x1F1] = 3
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", image, 0x248, 64, len(payload))
    return bytes(image) + payload + b"what follows the payload"


@pytest.mark.parametrize("pack", [lzma.compress, gzip.compress], ids=["xz", "gzip"])
def test_the_kernel_is_taken_out_of_its_packing(pack: object) -> None:
    elf = b"\x7fELF" + os.urandom(5000)
    size = struct.pack("<I", len(elf))  # the build appends the size
    assert kernel.uncompressed(_image(pack(elf) + size)) == elf  # type: ignore[operator]


@pytest.mark.parametrize("image", [_image(b"\x28\xb5\x2f\xfd zstd"), b"no kernel at all", b""])
def test_what_can_not_be_unpacked_is_started_as_it_is(image: bytes) -> None:
    assert kernel.uncompressed(image) == image


def test_another_architecture_is_said_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(SetupError, match=r"x86_64 only, and this is aarch64") as caught:
        kernel.prepare(tmp_path)
    assert "--rig-platform real" in caught.value.hint


def test_without_qemu_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    nothing = kernel.Kernel(version="6.1", image=tmp_path / "vmlinux", root=tmp_path)
    with pytest.raises(SetupError, match="not installed") as caught:
        Machine(nothing, tmp_path, tmp_path / "out", Shape()).start()
    assert "scripts/setup vm" in caught.value.hint


def test_a_comma_in_a_folder_does_not_end_the_option() -> None:
    assert "path=/a,,b," in share("out", Path("/a,b"), read_only=False)[1]
