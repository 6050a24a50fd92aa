"""The virtual PIV card judged by OpenSC's programs on a real pcscd, signatures by openssl."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tokenbridge.rig.card_state import CardProfile
from tokenbridge.rig.piv_crypto import Algorithm
from tokenbridge.rig.plugin import CardMaker, Slots
from tokenbridge.rig.provision import Staff

pytestmark = [pytest.mark.pcscd, pytest.mark.foreign]

MESSAGE = b"what is signed here " * 20
ALL_SLOTS = {0x9A: Algorithm.P256, 0x9C: Algorithm.RSA2048, 0x9D: Algorithm.P384, 0x9E: Algorithm.P256}
IDS = {0x9A: "01", 0x9C: "02"}
MECHANISMS = {
    Algorithm.RSA2048: ("SHA256-RSA-PKCS",),
    Algorithm.RSA3072: ("SHA256-RSA-PKCS",),
    Algorithm.P256: ("ECDSA-SHA256", "--signature-format", "openssl"),
}
PUBLISHED = {Algorithm.RSA2048: (36, 31), Algorithm.P256: (33, 29)}
"""APDUs of a sign-in by OpenSC 0.23 with a card not seen before, and with one whose certificate is cached."""


def public_key_file(certificate: x509.Certificate, path: Path) -> Path:
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(certificate.public_key().public_bytes(serialization.Encoding.PEM, spki))
    return path


@pytest.fixture
def pkcs11(run_tool, opensc_module: Path) -> Callable[..., str]:
    def run(*arguments: str | Path, ok: bool = True) -> str:
        return run_tool("pkcs11-tool", "--module", opensc_module, *arguments, ok=ok)

    return run


@pytest.fixture
def sign(pkcs11, tmp_path: Path) -> Callable[..., bytes]:
    """Signs MESSAGE by pkcs11-tool; ECDSA signatures in DER."""

    def run(ref: int, mechanism: str, *more: str) -> bytes:
        (tmp_path / "message").write_bytes(MESSAGE)
        files = ("-i", tmp_path / "message", "-o", tmp_path / "signature")
        pkcs11("-l", "-p", "123456", "--id", IDS[ref], "--sign", "-m", mechanism, *more, *files)
        return (tmp_path / "signature").read_bytes()

    return run


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("algorithm", sorted(MECHANISMS))
def test_signature(
    slots: Slots, make_card: CardMaker, sign, verify_with_openssl, tmp_path: Path, algorithm: Algorithm, extended: bool
) -> None:
    made = make_card(Staff(keys={0x9A: algorithm}), CardProfile(extended_length=extended))
    slots.insert(made.card)
    signature = sign(0x9A, *MECHANISMS[algorithm])
    verify_with_openssl(MESSAGE, signature, public_key_file(made.certificates[0x9A], tmp_path / "key.pem"))


def test_signature_key_wants_its_pin_each_time(
    slots: Slots, make_card: CardMaker, sign, verify_with_openssl, tmp_path: Path
) -> None:
    made = make_card(Staff(keys={0x9C: Algorithm.RSA2048}))
    slots.insert(made.card)
    signature = sign(0x9C, "SHA256-RSA-PKCS")
    verify_with_openssl(MESSAGE, signature, public_key_file(made.certificates[0x9C], tmp_path / "key.pem"))


def test_slots_and_objects(slots: Slots, make_card: CardMaker, pkcs11) -> None:
    made = make_card(Staff(keys=ALL_SLOTS, uid="000987654321"))
    slots.insert(made.card)
    listed = pkcs11("-L")
    assert "Virtual PCD 00 00" in listed
    assert "000987654321" in listed
    assert "login required" in listed
    objects = pkcs11("-O")
    assert objects.count("Certificate Object") == 4
    for name in ("PIV AUTH", "SIGN", "KEY MAN", "CARD AUTH"):
        assert f"{name} pubkey" in objects


@pytest.mark.parametrize("compressed", [False, True])
def test_certificate_comes_out_as_it_went_in(
    slots: Slots, make_card: CardMaker, run_tool, tmp_path: Path, compressed: bool
) -> None:
    made = make_card(profile=CardProfile(gzip_certificates=compressed))
    slots.insert(made.card)
    run_tool("pkcs15-tool", "--read-certificate", "01", "-o", tmp_path / "out.pem")
    assert x509.load_pem_x509_certificate((tmp_path / "out.pem").read_bytes()) == made.certificates[0x9A]


def test_dump(slots: Slots, make_card: CardMaker, run_tool) -> None:
    made = make_card(Staff(keys=ALL_SLOTS))
    slots.insert(made.card)
    dump = run_tool("pkcs15-tool", "-D")
    assert dump.count("X.509 Certificate [Certificate for") == 4
    assert dump.count("Private EC Key") == 3
    assert dump.count("Private RSA Key") == 1
    assert "Reference      : 128 (0x80)" in dump


def test_piv_tool_reads_name_serial_and_objects(slots: Slots, make_card: CardMaker, run_tool) -> None:
    made = make_card()
    slots.insert(made.card)
    assert "Personal Identity Verification Card" in run_tool("piv-tool", "-n")
    serial = run_tool("piv-tool", "--serial").upper()
    assert made.card.guid.hex(" ").upper() in serial
    discovery = run_tool("piv-tool", "-s", "00:CB:3F:FF:03:5C:01:7E:00")
    assert "SW1=0x90, SW2=0x00" in discovery


def test_piv_tool_writes_a_certificate_with_the_management_key(
    slots: Slots, make_card: CardMaker, run_tool, tmp_path: Path
) -> None:
    made = make_card()
    other = make_card(Staff(uid="000111222333")).certificates[0x9A]
    slots.insert(made.card)
    (tmp_path / "other.pem").write_bytes(other.public_bytes(serialization.Encoding.PEM))
    write = ("piv-tool", "-C", "9A", "-i", tmp_path / "other.pem")
    key = tmp_path / "management.key"
    key.write_text(bytes(24).hex(":"))
    run_tool("env", f"PIV_EXT_AUTH_KEY={key}", *write, "-A", "M:9B:03", ok=False)
    key.write_text(made.card.state.management_key.hex(":"))
    # on success this program exits with the number of bytes written, modulo 256
    run_tool("env", f"PIV_EXT_AUTH_KEY={key}", *write, "-A", "M:9B:03", ok=None)
    run_tool("pkcs15-tool", "--read-certificate", "01", "-o", tmp_path / "out.pem")
    assert x509.load_pem_x509_certificate((tmp_path / "out.pem").read_bytes()) == other


def test_wrong_pin_through_opensc_costs_one_try(slots: Slots, make_card: CardMaker, pkcs11) -> None:
    made = make_card()
    slots.insert(made.card)
    assert "CKR_PIN_INCORRECT" in pkcs11("-l", "-p", "999999", "-O", ok=False)
    assert made.card.tries_left() == 2


def test_change_and_unblock_through_opensc(slots: Slots, make_card: CardMaker, run_tool) -> None:
    made = make_card()
    slots.insert(made.card)
    run_tool("pkcs15-tool", "--change-pin", "--auth-id", "01", "--pin", "123456", "--new-pin", "654321")
    assert made.card.state.pins[0x80].value == b"654321"
    run_tool("pkcs15-tool", "--unblock-pin", "--auth-id", "01", "--puk", "12345678", "--new-pin", "111222")
    assert made.card.state.pins[0x80].value == b"111222"


@pytest.mark.parametrize("algorithm", sorted(PUBLISHED))
def test_cost_of_a_sign_in_as_published(
    slots: Slots, make_card: CardMaker, run_tool, opensc_module: Path, tmp_path: Path, algorithm: Algorithm
) -> None:
    """The figures that our own are compared with; later versions of OpenSC need less."""
    made = make_card(Staff(keys={0x9A: algorithm}))
    connection = slots.insert(made.card)
    (tmp_path / "message").write_bytes(MESSAGE)
    files = ("-i", tmp_path / "message", "-o", tmp_path / "signature")
    command = ("pkcs11-tool", "--module", opensc_module, "-l", "-p", "123456", "--id", "01", "--sign")
    counts = []
    for caching in ("no", "yes", "yes"):
        settings = f"use_file_caching = {caching}; file_cache_dir = {tmp_path / 'cache'};"
        (tmp_path / "opensc.conf").write_text(f"app default {{ framework pkcs15 {{ {settings} }} }}")
        made.card.reset()
        connection.reset_counters()
        run_tool("env", f"OPENSC_CONF={tmp_path / 'opensc.conf'}", *command, "-m", MECHANISMS[algorithm][0], *files)
        counts.append(connection.apdus)
    new, known = PUBLISHED[algorithm]
    if run_tool("opensc-tool", "--info").startswith("OpenSC 0.23"):
        assert (counts[0], counts[2]) == (new, known)
    assert counts[2] < counts[0] <= new
