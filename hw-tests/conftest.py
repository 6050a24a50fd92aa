"""Hardware tier: the rig's plugin, foreign programs and the foreign card. Run as `pytest hw-tests`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.patience import SECONDS
from tokenbridge.rig.pcscd import PrivatePcscd

from .demo_kept import Kept, kept_demo

CAC_PIN = "77777777"
CAC_CERTIFICATES = ("cert1", "cert2", "cert3")
MODULE_NAME = "opensc-pkcs11.so"


class RunTool(Protocol):
    """Runs a program against the private daemon; fails the test unless it exits as expected (None: anyhow)."""

    def __call__(self, *command: str | Path, ok: bool | None = True) -> str: ...


@pytest.fixture
def run_tool(pcscd: PrivatePcscd, tmp_path: Path) -> RunTool:
    """`run_tool(program, arguments...)` gives its standard output and error together, with a home of its own."""
    environ = {**os.environ, **pcscd.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(*command: str | Path, ok: bool | None = True) -> str:
        program = shutil.which(str(command[0]))
        if program is None:
            pytest.fail(f"{command[0]} is not installed: apt-get install opensc yubico-piv-tool openssl", pytrace=False)
        done = subprocess.run(
            [program, *map(str, command[1:])],
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        output = done.stdout + done.stderr
        assert ok is None or (done.returncode == 0) == ok, f"{command} -> {done.returncode}\n{output}"
        return output

    return run


@pytest.fixture(scope="session")
def opensc_module() -> Path:
    """OpenSC's PKCS#11 module, wherever this distribution keeps it."""
    roots = [Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib")]
    patterns = (MODULE_NAME, f"pkcs11/{MODULE_NAME}", f"*/{MODULE_NAME}", f"*/pkcs11/{MODULE_NAME}")
    for root in roots:
        for pattern in patterns:
            for found in sorted(root.glob(pattern)):
                return found
    pytest.fail(f"{MODULE_NAME} is not installed: apt-get install opensc", pytrace=False)


@pytest.fixture(scope="session")
def cac_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An NSS database with three self-signed RSA certificates, as libcacard wants it."""
    if shutil.which("certutil") is None:
        pytest.fail("certutil is not installed: apt-get install libnss3-tools libcacard0", pytrace=False)
    directory = tmp_path_factory.mktemp("cac")
    pin, noise = directory / "pin", directory / "noise"
    pin.write_text(CAC_PIN + "\n")
    noise.write_bytes(os.urandom(2048))
    common = ["certutil", "-d", f"sql:{directory}", "-f", str(pin)]
    subprocess.run([*common, "-N"], check=True, capture_output=True)
    for number, name in enumerate(CAC_CERTIFICATES, start=1):
        # explicit serial numbers: NSS makes them of the time in seconds, and equal ones are refused
        subject = f"CN=CAC user {number},O=Test"
        key = ["-S", "-z", str(noise), "-k", "rsa", "-g", "2048", "-m", str(number), "-v", "60"]
        subprocess.run([*common, *key, "-s", subject, "-x", "-t", ",,", "-n", name], check=True, capture_output=True)
    return directory


class CacCard:
    """The foreign card's process: in the second slot while it runs."""

    pin = CAC_PIN

    def __init__(self, port: int, database: Path) -> None:
        script = Path(__file__).with_name("cac_card.py")
        command = [sys.executable, str(script), str(port), str(database), *CAC_CERTIFICATES]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def wait_ready(self) -> None:
        """Until pcscd has asked the card for its ATR; fails the test if the process ends instead."""
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line)
            if line == "recognised\n":
                return
        pytest.fail(f"the CAC card did not come up: {''.join(lines)}", pytrace=False)

    def remove(self) -> None:
        self._process.terminate()
        self._process.wait(SECONDS)
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def cac_card(pcscd: PrivatePcscd, cac_database: Path) -> Iterator[CacCard]:
    """libcacard's Common Access Card, without PIV, in slot 1 of the private daemon ("Virtual PCD 00 01")."""
    card = CacCard(pcscd.ports[1], cac_database)
    try:
        card.wait_ready()
        yield card
    finally:
        card.remove()


@pytest.fixture
def verify_with_openssl(run_tool: RunTool, tmp_path: Path) -> Callable[[bytes, bytes, Path], None]:
    """Checks a SHA-256 signature (PKCS#1 or DER ECDSA) over a message by `openssl dgst` with a PEM public key."""

    def verify(message: bytes, signature: bytes, key: Path) -> None:
        (tmp_path / "judged.bin").write_bytes(message)
        (tmp_path / "judged.sig").write_bytes(signature)
        command = ("openssl", "dgst", "-sha256", "-verify", key, "-signature", tmp_path / "judged.sig")
        assert "Verified OK" in run_tool(*command, tmp_path / "judged.bin")

    return verify


@pytest.fixture(scope="session")
def kept() -> Iterator[Kept]:
    """One demo for all tests of this process: they have accounts of their own, or leave things as they were."""
    with kept_demo() as made:
        yield made
