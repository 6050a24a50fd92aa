"""pytest plugin: a private PC/SC daemon for the session, and virtual cards that a test inserts and pulls.

Enable it by `-p tokenbridge.rig.plugin`, or by `pytest_plugins` in the top conftest. It is a composition root: it wires
the rig, no more.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from datetime import UTC, datetime

import pytest

from tokenbridge.errors import SetupError
from tokenbridge.rig.card_state import CardProfile
from tokenbridge.rig.faults import FaultPlan
from tokenbridge.rig.pcscd import ENVIRONMENT, PrivatePcscd
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.provision import Staff, StaffCard, staff_card
from tokenbridge.rig.virtual_card import VirtualCard
from tokenbridge.rig.vpcd import VpcdConnection


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rig", "virtual and real cards")
    group.addoption("--rig-platform", choices=("virtual", "real"), default="virtual", help="what the tests run on")
    group.addoption(
        "--rig-device",
        default="",
        help="real platform: what may be used: part of the reader's name, or the key's path or serial number",
    )
    group.addoption("--rig-allow-wipe", action="store_true", help="allow tests that erase the real card or key")
    group.addoption("--rig-must-run", action="store_true", help="a test that would be skipped has failed")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--rig-platform") == "real" and not config.getoption("--rig-device"):
        raise pytest.UsageError("--rig-platform real needs --rig-device, so that no other card is touched")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With --rig-must-run, what can't run here is a failure: a suite that skips everything would pass otherwise."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and item.config.getoption("--rig-must-run"):
        report.outcome = "failed"
    return report


class Slots:
    """The session's reader slots: inserts cards and takes all of them out again at the end of a test."""

    def __init__(self, pcscd: PrivatePcscd) -> None:
        self.pcscd = pcscd
        self._connections: list[VpcdConnection] = []

    def insert(self, card: VirtualCard, slot: int = 0, faults: FaultPlan | None = None) -> VpcdConnection:
        """Put `card` into slot 0 or 1 and wait until whoever connects to the reader finds it there."""
        connection = VpcdConnection(card, self.pcscd.ports[slot], faults, reader=self.pcscd.readers[slot])
        self._connections.append(connection)
        return connection.start()

    def clear(self) -> None:
        for connection in self._connections:
            connection.stop()
        self._connections.clear()


class CardMaker:
    """Makes cards of one test PKI."""

    def __init__(self, pki: RigPki, now: datetime) -> None:
        self.pki = pki
        self.now = now

    def __call__(self, staff: Staff | None = None, profile: CardProfile | None = None) -> StaffCard:
        return staff_card(self.pki, staff or Staff(), now=self.now, profile=profile)


@pytest.fixture(scope="session")
def rig_platform(request: pytest.FixtureRequest) -> str:
    """virtual or real."""
    return str(request.config.getoption("--rig-platform"))


@pytest.fixture(scope="session")
def rig_device(request: pytest.FixtureRequest) -> str:
    """Part of the name of the one reader that tests on real cards may use."""
    return str(request.config.getoption("--rig-device"))


@pytest.fixture
def rig_wipe(request: pytest.FixtureRequest, rig_platform: str) -> None:
    """Asked for by tests that erase keys: skips them on a real card unless that was allowed."""
    if rig_platform == "real" and not request.config.getoption("--rig-allow-wipe"):
        pytest.skip("erases keys of the card: --rig-allow-wipe")


@pytest.fixture(scope="session")
def pcscd(tmp_path_factory: pytest.TempPathFactory, rig_platform: str) -> Iterator[PrivatePcscd]:
    """A daemon of the session's own; this process and its children are pointed to it."""
    if rig_platform == "real":
        pytest.skip("needs virtual readers")
    daemon = PrivatePcscd(tmp_path_factory.mktemp("pcscd"))
    before = os.environ.get(ENVIRONMENT)
    try:
        daemon.start()
    except SetupError as err:
        pytest.fail(f"{err.message} {err.hint} {err.detail}", pytrace=False)
    os.environ.update(daemon.environ)
    yield daemon
    if before is None:
        del os.environ[ENVIRONMENT]
    else:
        os.environ[ENVIRONMENT] = before
    daemon.stop()


@pytest.fixture
def slots(pcscd: PrivatePcscd) -> Iterator[Slots]:
    """Reader slots that are empty again after the test."""
    held = Slots(pcscd)
    yield held
    held.clear()


@pytest.fixture(scope="session")
def rig_pki() -> RigPki:
    """A test PKI, valid now."""
    return RigPki.create(now=datetime.now(UTC))


@pytest.fixture(scope="session")
def make_card(rig_pki: RigPki) -> CardMaker:
    """Makes staff cards of `rig_pki`."""
    return CardMaker(rig_pki, datetime.now(UTC))


@pytest.fixture
def rig_card(slots: Slots, make_card: CardMaker) -> VpcdConnection:
    """A staff card with one RSA-2048 key in 9A, inserted in slot 0."""
    return slots.insert(make_card().card)
