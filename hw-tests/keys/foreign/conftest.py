"""Foreign programs as judges: libfido2's tools, python-fido2, PAM. They ask for PINs on a terminal, so they get one."""

from __future__ import annotations

import base64
import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import pytest

SECONDS = 60
PACKAGES = "fido2-tools libpam-u2f pamu2fcfg pamtester"


class Tool(Protocol):
    """Runs a program on a terminal of its own; what it asks there is answered by `answers`, one after the other.

    Gives its standard output. Fails the test unless it exits as expected and asks exactly that often.
    """

    def __call__(self, *command: str | Path, answers: Sequence[str] = (), ok: bool = True) -> str: ...


@dataclass(slots=True)
class Dialogue:
    """What a program said, by source."""

    output: bytearray = field(default_factory=bytearray)
    errors: bytearray = field(default_factory=bytearray)
    asked: bytearray = field(default_factory=bytearray)

    def __str__(self) -> str:
        parts = {"output": self.output, "errors": self.errors, "terminal": self.asked}
        return "\n".join(f"{name}: {bytes(said).decode(errors='replace')}" for name, said in parts.items() if said)


def _converse(child: subprocess.Popen[bytes], terminal: int, answers: list[str]) -> Dialogue:
    assert child.stdout is not None
    assert child.stderr is not None
    said = Dialogue()
    sinks = {child.stdout.fileno(): said.output, child.stderr.fileno(): said.errors, terminal: said.asked}
    open_ends = {child.stdout.fileno(), child.stderr.fileno()}
    until = time.monotonic() + SECONDS
    answered = 0
    while open_ends:
        ready = select.select([*open_ends, terminal], [], [], max(until - time.monotonic(), 0))[0]
        if not ready:
            child.kill()
            pytest.fail(f"{child.args} did not end\n{said}", pytrace=False)
        for descriptor in ready:
            data = os.read(descriptor, 65536)
            sinks[descriptor] += data
            if not data:
                open_ends.discard(descriptor)
        # Each question ends in a colon; the echo of line ends follows the answers.
        questions = sum(line.rstrip().endswith(b":") for line in [*said.asked.splitlines(), *said.errors.splitlines()])
        if questions > answered and answers:
            os.write(terminal, answers.pop(0).encode() + b"\n")
            answered += 1
    return said


@pytest.fixture
def tool() -> Tool:
    def run(*command: str | Path, answers: Sequence[str] = (), ok: bool = True) -> str:
        words = [str(word) for word in command]
        if shutil.which(words[0]) is None:
            pytest.fail(f"{words[0]} is not installed: apt-get install {PACKAGES}", pytrace=False)
        master, slave = pty.openpty()
        left = list(answers)
        pipe = subprocess.PIPE
        # setsid: libfido2's tools ask at /dev/tty, the controlling terminal
        with subprocess.Popen(["setsid", "--ctty", *words], stdin=slave, stdout=pipe, stderr=pipe) as child:
            said = _converse(child, master, left)
            code = child.wait(SECONDS)
        os.close(slave)
        os.close(master)
        assert (code == 0) == ok, f"{words} -> {code}\n{said}"
        assert not left, f"{words} asked {len(answers) - len(left)} times, not {len(answers)}\n{said}"
        return bytes(said.output).decode()

    return run


@dataclass(frozen=True, slots=True)
class Credential:
    """What fido2-cred -M printed, and after verification the public key."""

    lines: tuple[str, ...]
    rp_id: str
    user_id: str
    public_key: str = ""

    @property
    def credential_id(self) -> str:
        return self.lines[4]

    def with_id(self, credential_id: str) -> Credential:
        return replace(self, lines=(*self.lines[:4], credential_id, *self.lines[5:]))


def _random(size: int = 32) -> str:
    return base64.b64encode(os.urandom(size)).decode()


@pytest.fixture
def make_credential(tool: Tool, tmp_path: Path) -> Callable[..., Credential]:
    """`make_credential(key, "-r", ...)` by fido2-cred -M."""

    def make(
        key: Any, *flags: str, rp_id: str = "site.example", user: str = "ada", algorithm: str = "es256", **how: Any
    ) -> Credential:
        user_id = _random(16)
        (tmp_path / "make").write_text(f"{_random()}\n{rp_id}\n{user}\n{user_id}\n")
        key.touch()
        said = tool("fido2-cred", "-M", *flags, "-i", tmp_path / "make", key.path, algorithm, **how)
        return Credential(tuple(said.splitlines()), rp_id, user_id)

    return make


@pytest.fixture
def verify_credential(tool: Tool, tmp_path: Path) -> Callable[..., Credential]:
    """By fido2-cred -V: attestation and flags; gives the credential with its public key."""

    def verify(made: Credential, *flags: str, algorithm: str = "es256") -> Credential:
        (tmp_path / "made").write_text("\n".join(made.lines) + "\n")
        said = tool("fido2-cred", "-V", *flags, "-i", tmp_path / "made", algorithm)
        credential_id, _, pem = said.partition("\n")
        assert credential_id == made.credential_id
        return replace(made, public_key=pem)

    return verify


@pytest.fixture
def sign_in_by_tool(tool: Tool, tmp_path: Path) -> Callable[..., list[str]]:
    """By fido2-assert -G, then -V with the public key; gives the lines of the assertion."""

    def sign(
        key: Any,
        made: Credential,
        *flags: str,
        algorithm: str = "es256",
        salt: str = "",
        check: Sequence[str] = (),
        ok: bool = True,
        **how: Any,
    ) -> list[str]:
        wanted = [_random(), made.rp_id, *([] if "-r" in flags else [made.credential_id]), *([salt] if salt else [])]
        (tmp_path / "wanted").write_text("\n".join(wanted) + "\n")
        (tmp_path / "public.pem").write_text(made.public_key)
        key.touch()
        said = tool("fido2-assert", "-G", *flags, "-i", tmp_path / "wanted", key.path, ok=ok, **how)
        if ok:
            (tmp_path / "signed").write_text(said)
            tool("fido2-assert", "-V", "-p", *check, "-i", tmp_path / "signed", tmp_path / "public.pem", algorithm)
        return said.splitlines()

    return sign
