"""The fuzzer guided by coverage, for runs by hand where atheris is installed (`pip install atheris`):

    python -m tests.authenticator.guided -max_total_time=600 CORPUS_DIRECTORY

Arguments are libFuzzer's. It takes the input apart into requests and packets for one device.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import atheris  # type: ignore[import-not-found]

with atheris.instrument_imports(include=["tokenbridge.authenticator", "tokenbridge.wire"]):
    from tests.authenticator import fuzzing
    from tests.authenticator.conftest import AAGUID
    from tests.authenticator.test_hid import Host
    from tokenbridge.rig.key_person import Touch
    from tokenbridge.rig.key_pki import KeyPki

NOW = datetime.now(UTC)
BATCH = KeyPki.create(now=NOW).batch(AAGUID, now=NOW)
MAX_PARTS = 16


def one_input(data: bytes) -> None:
    """An exception is a finding."""
    source = atheris.FuzzedDataProvider(data)
    bench = fuzzing.make_bench(BATCH)
    bench.person.mode = list(Touch)[source.ConsumeIntInRange(0, len(Touch) - 1)]
    if source.ConsumeBool():
        packets = [source.ConsumeBytes(64) for _ in range(source.ConsumeIntInRange(0, MAX_PARTS))]
        fuzzing.check_packets(Host(bench), packets)
    else:
        for _ in range(source.ConsumeIntInRange(1, MAX_PARTS)):
            fuzzing.check_request(bench, source.ConsumeBytes(source.ConsumeIntInRange(0, 300)))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
