"""From PC/SC's event to the PIN prompt, and from the PIN to "signed in" without the card's own time."""

from __future__ import annotations

import threading
import time

from benchmarks.bench import ALGORITHMS, PIN, Bench, percentile, summary, workplace
from tokenbridge.rig.vpcd import VpcdConnection
from tokenbridge.transport.base import DeviceEvent, EventKind
from tokenbridge.transport.monitor import Monitor

INSERTIONS = 100
SIGN_INS = 200


def run(*, insertions: int = INSERTIONS, sign_ins: int = SIGN_INS) -> None:
    with workplace() as bench:
        for name, algorithm in ALGORITHMS.items():
            connection = bench.insert(bench.card(algorithm))
            bench.sign_in()  # from here on the card is known, connections are warm
            spent = _pin_to_signed_in(bench, connection, sign_ins)
            verdict = "ok" if percentile(spent, 0.95) <= 0.025 else "ABOVE"
            print(f"PIN -> signed in, {name}, card time subtracted:  {summary(spent)}   goal p95 25 ms: {verdict}")
            connection.stop()
        waits = _event_to_prompt(bench, insertions)
        verdict = "ok" if percentile(waits, 0.5) <= 0.020 and percentile(waits, 0.99) <= 0.050 else "ABOVE"
        print(f"PC/SC event -> PIN prompt, P-256, known card:    {summary(waits)}   goal 20 / p99 50 ms: {verdict}")


def _pin_to_signed_in(bench: Bench, connection: VpcdConnection, count: int) -> list[float]:
    spent = []
    for _ in range(count):
        with bench.begin() as stream:
            for line in stream:
                if line["event"] == "prompt":
                    connection.reset_counters()
                    started = time.monotonic()
                    stream.answer(line["id"], PIN)
            total = time.monotonic() - started
        if line["event"] != "done":
            raise RuntimeError(f"sign-in failed: {line}")
        spent.append(total - sum(exchange.seconds for exchange in connection.trace))
    return spent


class _Watcher:
    """Hears of insertions in this process, by the same blocking call as the bridge does in its own."""

    def __init__(self) -> None:
        self.at = 0.0
        self.inserted = threading.Event()
        self.removed = threading.Event()

    def __call__(self, event: DeviceEvent) -> None:
        if event.kind is EventKind.CARD_INSERTED:
            self.at = event.at
            self.inserted.set()
        elif event.kind is EventKind.CARD_REMOVED:
            self.removed.set()


def _event_to_prompt(bench: Bench, count: int) -> list[float]:
    """The time of the event is that of an independent observer; the prompt's is when the caller has read it."""
    watcher = _Watcher()
    monitor = Monitor(watcher)
    monitor.start()
    connection = VpcdConnection(bench.card(ALGORITHMS["P-256"]), bench.pcscd.ports[0]).start()
    bench.sign_in()
    waits = []
    for _ in range(count):
        watcher.removed.clear()
        connection.stop()
        watcher.removed.wait(5)
        watcher.inserted.clear()
        with bench.begin() as stream:
            for line in stream:
                if line.get("step") == "waiting-for-device":
                    connection.start(timeout=None)
                elif line["event"] == "prompt":
                    prompted = time.monotonic()
                    watcher.inserted.wait(5)
                    waits.append(max(prompted - watcher.at, 0.0))
                    break
    connection.stop()
    monitor.stop()
    return waits
