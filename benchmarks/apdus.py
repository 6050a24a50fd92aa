"""APDUs of a sign-in, ours and OpenSC's, on the same card under the same pcscd, counted by the card."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from benchmarks.bench import ALGORITHMS, Bench, table, workplace
from tokenbridge.rig.vpcd import VpcdConnection

LIMITS = {"RSA-2048": (12, 8), "P-256": (9, 6)}
MECHANISMS = {"RSA-2048": "SHA256-RSA-PKCS", "P-256": "ECDSA-SHA256"}
CACHING = 'app default {\n framework pkcs15 {\n  use_file_caching = %s;\n  file_cache_dir = "%s";\n }\n}\n'


def run() -> None:
    rows = []
    with workplace() as bench:
        for name, algorithm in ALGORITHMS.items():
            card = bench.card(algorithm)
            connection = bench.insert(card)
            theirs = _opensc(bench, connection, name)
            ours = _ours(bench, connection)
            certificate = len(card.state.objects[0x5FC105])
            limit = LIMITS[name]
            verdict = "ok" if ours[0] <= limit[0] and ours[1] <= limit[1] else "TOO MANY"
            rows.append((name, certificate, f"{theirs[0]} / {theirs[1]}", f"{ours[0]} / {ours[1]}",
                         f"{limit[0]} / {limit[1]}", verdict))  # fmt: skip
            connection.stop()
    print(f"APDUs of a sign-in with slot 9A, short APDUs, new / known card; reference: {_version()}\n")
    print(table(("key", "certificate object, bytes", "OpenSC", "tokenbridge", "at most", ""), rows))


def _ours(bench: Bench, connection: VpcdConnection) -> tuple[int, int]:
    counts = []
    for _ in range(2):
        connection.reset_counters()
        bench.sign_in()
        counts.append(connection.apdus)
    return counts[0], counts[1]


def _opensc(bench: Bench, connection: VpcdConnection, name: str) -> tuple[int, int]:
    """pkcs11-tool without, and then with a filled file cache. The card is pulled before, so no state is left over."""
    with tempfile.TemporaryDirectory() as home:
        new = _opensc_sign(bench, connection, name, Path(home), "no")
        _opensc_sign(bench, connection, name, Path(home), "yes")
        return new, _opensc_sign(bench, connection, name, Path(home), "yes")


def _opensc_sign(bench: Bench, connection: VpcdConnection, name: str, home: Path, caching: str) -> int:
    configuration, data, signature = home / "opensc.conf", home / "data", home / "signature"
    configuration.write_text(CACHING % (caching, home / "cache"))
    data.write_bytes(b"benchmark")
    connection.stop()
    connection.start()
    connection.reset_counters()
    subprocess.run(
        ["pkcs11-tool", "--module", str(module()), "-l", "-p", "123456", "--id", "01", "--sign", "-m", MECHANISMS[name],
         "-i", str(data), "-o", str(signature)],
        env=bench.place.environ | {"OPENSC_CONF": str(configuration), "HOME": str(home)},
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return connection.apdus


def module() -> Path:
    """OpenSC's PKCS#11 module."""
    for root in (Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib")):
        for found in sorted(root.glob("**/opensc-pkcs11.so")):
            return found
    raise SystemExit("OpenSC is not installed: apt-get install opensc")


def _version() -> str:
    done = subprocess.run(["opensc-tool", "--info"], capture_output=True, text=True, check=False, env=os.environ)
    return done.stdout.splitlines()[0].split("[")[0].strip() if done.stdout else "OpenSC"
