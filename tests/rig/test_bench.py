"""The bench and its commands; inserted cards are served by real background processes to a reader played here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509

from tokenbridge.cli.rig import rig
from tokenbridge.errors import BadRequest, NotAllowedNow, PinUnfit, SetupError
from tokenbridge.rig.bench import Bench, default_home, slot_port
from tokenbridge.rig.card_state import CardProfile, TriesWord
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.piv_objects import PinRef, Tag
from tokenbridge.rig.provision import Staff
from tokenbridge.rig.virtual_card import VirtualCard

from .conftest import Host
from .test_vpcd import Reader

PINS = (b"123456", b"12345678")
P256 = Staff(keys={0x9A: Algorithm.P256})


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    it = Bench(tmp_path / "rig")
    yield it
    for entry in it.entries():
        it.remove(entry.name)


def run(bench: Bench, *arguments: str) -> dict:
    """The JSON that a command prints; its error is raised."""
    result = CliRunner().invoke(rig, [*arguments, "--home", str(bench.home), "--json"], catch_exceptions=True)
    if result.exception is not None:
        raise result.exception
    return json.loads(result.output)


class PlayedReader(Reader):
    """Powers up each card that comes, then polls it once more each time it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.Thread(target=self._power_up)
        self.thread.start()

    def _power_up(self) -> None:
        self.accept()
        self.ask(b"\x04")
        self.send(b"\x01")
        self.ask(b"\x04")


def test_new_card_is_complete(bench: Bench) -> None:
    made = run(bench, "card", "new", "ada", "--nhs-uid", "000987654321", "--key", "9A:p256", "--key", "9c:RSA2048")
    assert made["card"]["keys"] == {"9A": "p256", "9C": "rsa2048"}
    assert made["card"]["uid"] == "000987654321"
    assert made["card"]["inserted"] is None
    assert made["card"]["pin_tries"] == 3
    issuing = x509.load_pem_x509_certificate(Path(made["pki"]["issuing"]).read_bytes())
    host = Host(VirtualCard.load(Path(made["card"]["file"])))
    host.select()
    assert host.verify() == 0x9000
    entry = host.get(Tag.CERT_AUTHENTICATION).data
    certificate = x509.load_der_x509_certificate(entry[entry.index(b"\x30\x82", 4) : -5])
    certificate.verify_directly_issued_by(issuing)


def test_options_reach_the_card(bench: Bench) -> None:
    made = run(bench, "card", "new", "x", "--key", "9A:p256", "--extended", "--gzip", "--tries", "5",
               "--tries-word", "630x", "--discovery", "both-global-primary")  # fmt: skip
    card = VirtualCard.load(Path(made["card"]["file"]))
    assert card.state.profile.extended_length
    assert card.state.profile.gzip_certificates
    assert card.state.profile.tries_word is TriesWord.SHORT
    assert card.tries_left(PinRef.GLOBAL) == 5


def test_pins_from_descriptors(bench: Bench) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"24681357\n")
    os.close(writer)
    made = run(bench, "card", "new", "x", "--key", "9A:p256", "--pin-fd", str(reader))
    os.close(reader)
    assert VirtualCard.load(Path(made["card"]["file"])).state.pins[0x80].value == b"24681357"


def test_unfit_pin(bench: Bench) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"abc\n")
    os.close(writer)
    with pytest.raises(PinUnfit):
        run(bench, "card", "new", "x", "--pin-fd", str(reader))
    os.close(reader)
    assert bench.entries() == []


@pytest.mark.parametrize("key", ["9A", "9A:", "9B:p256", "F9:p256", "9A:p521", "9A:aes128", "zz:p256"])
def test_keys_that_there_are_not(bench: Bench, key: str) -> None:
    with pytest.raises(BadRequest):
        run(bench, "card", "new", "x", "--key", key)


@pytest.mark.parametrize("name", ["../x", ".hidden", "", "a/b", "x" * 65])
def test_names_that_can_not_be(bench: Bench, name: str) -> None:
    with pytest.raises(BadRequest):
        bench.new(name, P256, CardProfile(), PINS)


def test_a_name_is_taken_once(bench: Bench) -> None:
    bench.new("ada", P256, CardProfile(), PINS)
    with pytest.raises(NotAllowedNow):
        bench.new("ada", P256, CardProfile(), PINS)
    assert [card["name"] for card in run(bench, "card", "list")["cards"]] == ["ada"]


def test_unknown_card(bench: Bench) -> None:
    for command in ("insert", "remove", "revoke"):
        with pytest.raises(SetupError):
            run(bench, "card", command, "nobody")


def test_revoke(bench: Bench) -> None:
    made = run(bench, "card", "new", "ada", "--key", "9A:p256")
    serials = run(bench, "card", "revoke", "ada")["revoked"]
    crl = x509.load_der_x509_crl(Path(made["pki"]["issuing_crl"]).read_bytes())
    assert [f"{entry.serial_number:x}" for entry in crl] == serials
    run(bench, "pki")
    assert len(x509.load_der_x509_crl(Path(made["pki"]["issuing_crl"]).read_bytes())) == 1, "kept when written anew"


def test_insert_and_remove_are_idempotent(bench: Bench) -> None:
    bench.new("ada", P256, CardProfile(), PINS)
    bench.new("bob", P256, CardProfile(), PINS)
    reader = PlayedReader()
    port = str(reader.port)
    first = run(bench, "card", "insert", "ada", "--port", port)["card"]["inserted"]
    assert first["port"] == reader.port
    assert run(bench, "card", "insert", "ada", "--port", port)["card"]["inserted"] == first
    with pytest.raises(NotAllowedNow, match="another slot"):
        bench.insert("ada", reader.port + 1)
    with pytest.raises(NotAllowedNow, match="ada is in that slot"):
        bench.insert("bob", reader.port)
    watching = threading.Thread(target=reader.receive)  # closes its half when the card leaves
    watching.start()
    assert run(bench, "card", "remove", "ada")["card"]["inserted"] is None
    assert run(bench, "card", "remove", "ada")["card"]["inserted"] is None
    watching.join()
    reader.thread.join()
    reader.close()


def test_insert_where_no_daemon_listens(bench: Bench) -> None:
    bench.new("ada", P256, CardProfile(), PINS)
    reader = Reader()
    reader.close()
    with pytest.raises(SetupError, match=str(reader.port)):
        bench.insert("ada", reader.port)
    assert bench.entry("ada").port is None


def test_slot_ports(tmp_path: Path) -> None:
    assert [slot_port(0, {}), slot_port(1, {})] == [35963, 35964]
    (tmp_path / "rig.json").write_text('{"ports": [40000, 40001]}')
    environ = {"PCSCLITE_CSOCK_NAME": str(tmp_path / "pcscd.comm")}
    assert slot_port(1, environ) == 40001
    with pytest.raises(BadRequest):
        slot_port(2, environ)


def test_home_follows_xdg() -> None:
    assert default_home({"XDG_DATA_HOME": "/data", "HOME": "/h"}) == Path("/data/tokenbridge/rig")
    assert default_home({"HOME": "/h"}) == Path("/h/.local/share/tokenbridge/rig")


@pytest.mark.parametrize("path", [(), ("pcscd",), ("pki",), ("card", "new"), ("card", "insert"), ("card", "list")])
def test_every_help_has_an_example(path: tuple[str, ...]) -> None:
    text = CliRunner().invoke(rig, [*path, "--help"]).output
    assert "Example" in text


def test_importing_the_commands_is_cheap() -> None:
    script = "import sys, tokenbridge.cli.rig; print({'cryptography', 'pytest', 'asn1crypto'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
