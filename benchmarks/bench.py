"""What the benchmarks share: a workplace on the real pcscd, and how figures are summed up and printed."""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tokenbridge.daemon.client import BridgeClient, Stream
from tokenbridge.rig.card_state import CardProfile
from tokenbridge.rig.pcscd import PrivatePcscd
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.provision import DEFAULT_UID, Staff, staff_card
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.rig.vpcd import VpcdConnection
from tokenbridge.rig.workplace import Workplace

PIN = b"123456"
ALGORITHMS = {"RSA-2048": Algorithm.RSA2048, "P-256": Algorithm.P256}


@dataclass
class Bench:
    """A running workplace."""

    place: Workplace
    pki: RigPki
    pcscd: PrivatePcscd

    def card(self, algorithm: Algorithm) -> VirtualCard:
        """A card as in the table: slot 9A, short APDUs, one certificate."""
        staff = Staff(keys={0x9A: algorithm})
        return staff_card(self.pki, staff, now=datetime.now(UTC), profile=CardProfile()).card

    def insert(self, card: VirtualCard) -> VpcdConnection:
        return VpcdConnection(card, self.pcscd.ports[0]).start()

    def begin(self) -> Stream:
        body = {"url": self.place.origin, "ca": str(self.place.ca_file), "wait_seconds": 30}
        return BridgeClient(self.place.socket).stream("POST", "/v1/sign-in", body)

    def sign_in(self) -> None:
        """A whole sign-in; raises if it does not end well."""
        with self.begin() as stream:
            for line in stream:
                if line["event"] == "prompt":
                    stream.answer(line["id"], PIN)
                last = line
        if last["event"] != "done" or last["outcome"]["decision"] != "allow":
            raise RuntimeError(f"sign-in failed: {last}")


@contextmanager
def workplace() -> Iterator[Bench]:
    """Bridge and relying party on a PC/SC daemon of their own."""
    with tempfile.TemporaryDirectory(prefix="tokenbridge-bench-") as name:
        directory = Path(name)
        pki = RigPki.create(now=datetime.now(UTC))
        pki.save(directory / "pki")
        with PrivatePcscd(directory / "pcscd") as pcscd:
            os.environ.update(pcscd.environ)
            place = Workplace(directory, pcscd)
            place.init_server()
            place.trust("bench", directory / "pki", "--map-nhs-uid")
            place.add_user("ada", "Ada Lovelace", "--nhs-uid", DEFAULT_UID)
            place.start_server()
            place.must("status")
            try:
                yield Bench(place, pki, pcscd)
            finally:
                place.stop()


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * len(ordered) + 0.5) - 1)]


def summary(values: Sequence[float]) -> str:
    """Median, 95th and 99th percentile of seconds, as milliseconds."""
    return (
        f"median {statistics.median(values) * 1000:6.1f} ms   p95 {percentile(values, 0.95) * 1000:6.1f} ms   "
        f"p99 {percentile(values, 0.99) * 1000:6.1f} ms   (n={len(values)})"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join(lines)
