"""What must hold whatever the host sends: no exception, and no answer outside the specification.

By hand, for as long as you like (figures at the end; Ctrl-C ends it early):

    python -m tests.authenticator.fuzzing --seconds 600
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.authenticator import conversations
from tests.authenticator.conftest import AAGUID, Bench
from tests.authenticator.test_hid import Host
from tokenbridge.authenticator import cbor
from tokenbridge.authenticator.profile import Profile
from tokenbridge.authenticator.status import Status
from tokenbridge.rig.key_person import Touch
from tokenbridge.rig.key_pki import BatchKey, KeyPki
from tokenbridge.wire.ctaphid import BROADCAST, HidCommand, HidError, Message

STATUSES = {int(status) for status in Status}
HID_ERRORS = {int(error) for error in HidError}
ANSWER_COMMANDS = {int(command) for command in HidCommand} - {HidCommand.CANCEL}


def make_bench(batch: BatchKey) -> Bench:
    """A device with everything that can be asked for."""
    return Bench(Profile(aaguid=AAGUID, fingerprints=True, preview=True, enterprise=True, max_credentials=5), batch)


def check_request(bench: Bench, request: bytes) -> int:
    """Send one CTAP2 request; its status. The answer is a status of the specification and, if good, canonical CBOR."""
    answer = bench.raw(request)
    assert answer[0] in STATUSES, answer.hex()
    if answer[0] != Status.OK:
        assert len(answer) == 1, answer.hex()
    elif len(answer) > 1:
        value = cbor.decode(answer[1:])
        assert isinstance(value, dict)
        assert cbor.encode(value) == answer[1:]
    return answer[0]


def check_packets(host: Host, packets: list[bytes]) -> list[int]:
    """Send packets, whose first channels are those that the device gave; the commands of its answers."""
    channels = [BROADCAST, host.open(), host.open(), host.open()]
    seen: list[int] = []
    for packet in packets:
        number = int.from_bytes(packet[:4], "big")
        known = number < len(channels) and len(packet) >= 4
        raw = channels[number].to_bytes(4, "big") + packet[4:] if known else packet
        seen += [check_message(message) for message in [*host.packet(raw), *host.tick(0.05)]]
    host.tick(60.0)
    ping = host.send(channels[1], HidCommand.PING, b"still there")
    assert ping[-1].payload == b"still there"
    return seen


def check_message(message: Message) -> int:
    """What a device may say (section 11.2.9)."""
    assert message.command in ANSWER_COMMANDS, message
    match message.command:
        case HidCommand.ERROR:
            assert message.payload[0] in HID_ERRORS
            assert len(message.payload) == 1
        case HidCommand.KEEPALIVE:
            assert message.payload in (b"\x01", b"\x02")
        case HidCommand.CBOR:
            assert message.payload[0] in STATUSES
    return message.command


def main(arguments: list[str]) -> int:
    """Fuzz for so many seconds, new devices all the time, and print the figures."""
    seconds = float(arguments[arguments.index("--seconds") + 1]) if "--seconds" in arguments else 60.0
    now = datetime.now(UTC)
    batch = KeyPki.create(now=now).batch(AAGUID, now=now)
    statuses: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        _round(batch, statuses, answers)
    spent = time.monotonic() - started
    total, heard = statuses.total(), answers.total()
    print(f"{total} requests, {heard} answers to packets in {spent:.0f} s, no crash, none outside the specification")
    print("statuses:", ", ".join(f"{name} {count}" for name, count in statuses.most_common()))
    print("packets:", ", ".join(f"{name} {count}" for name, count in answers.most_common()))
    return 0


def _round(batch: BatchKey, statuses: Counter[str], answers: Counter[str]) -> None:
    lax: Any = settings(
        max_examples=300, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )

    @lax
    @given(st.lists(conversations.requests, min_size=1, max_size=12))
    def ask(requests: list[bytes]) -> None:
        bench = make_bench(batch)
        statuses.update(Status(check_request(bench, request)).name for request in requests)

    @lax
    @given(conversations.streams, st.sampled_from(list(Touch)))
    def talk(packets: list[bytes], mode: Touch) -> None:
        bench = make_bench(batch)
        bench.person.mode = mode
        answers.update(HidCommand(command).name for command in check_packets(Host(bench), packets))

    ask()
    talk()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
