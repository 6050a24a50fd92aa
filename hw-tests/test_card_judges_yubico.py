"""The virtual PIV card provisioned, used and unblocked by yubico-piv-tool on a real pcscd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tokenbridge.rig.piv_crypto import Algorithm, generate
from tokenbridge.rig.pki import RigPki
from tokenbridge.rig.plugin import Slots
from tokenbridge.rig.virtual_card import VirtualCard

pytestmark = [pytest.mark.pcscd, pytest.mark.foreign]

NAMES = {Algorithm.RSA2048: "RSA2048", Algorithm.P256: "ECCP256", Algorithm.P384: "ECCP384"}
PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
PLAIN = serialization.NoEncryption()
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo


@pytest.fixture
def card(slots: Slots) -> VirtualCard:
    empty = VirtualCard.create()
    slots.insert(empty)
    return empty


@pytest.fixture
def piv(run_tool, card: VirtualCard) -> Callable[..., str]:
    """yubico-piv-tool on the inserted card; it looks for readers called Yubikey unless told otherwise."""

    def run(*arguments: str | Path, ok: bool = True) -> str:
        return run_tool("yubico-piv-tool", "-r", "Virtual PCD 00 00", *arguments, ok=ok)

    return run


@pytest.fixture
def certify(run_tool, rig_pki: RigPki, tmp_path: Path) -> Callable[[Path], Path]:
    """A certificate of the test PKI for a PEM public key, made by openssl."""

    def run(public: Path) -> Path:
        (tmp_path / "ca.pem").write_bytes(rig_pki.issuing.certificate.public_bytes(PEM))
        (tmp_path / "ca.key").write_bytes(rig_pki.issuing.key.private_bytes(PEM, PKCS8, PLAIN))
        (tmp_path / "any.key").write_bytes(generate(Algorithm.P256).private_bytes(PEM, PKCS8, PLAIN))
        subject = ("-subj", "/O=nhs/OU=people/CN=000123456789")
        run_tool("openssl", "req", "-new", "-key", tmp_path / "any.key", *subject, "-out", tmp_path / "r.csr")
        issuer = ("-CA", tmp_path / "ca.pem", "-CAkey", tmp_path / "ca.key", "-CAcreateserial")
        files = ("-in", tmp_path / "r.csr", "-out", tmp_path / "ee.pem", "-days", "30")
        run_tool("openssl", "x509", "-req", *issuer, "-force_pubkey", public, *files)
        return tmp_path / "ee.pem"

    return run


@pytest.mark.parametrize("algorithm", sorted(NAMES))
def test_generate_certify_import_and_sign(
    card: VirtualCard, piv, certify, tmp_path: Path, algorithm: Algorithm
) -> None:
    public = tmp_path / "public.pem"
    piv("-a", "generate", "-s", "9a", "-A", NAMES[algorithm], "-o", public)
    loaded = serialization.load_pem_public_key(public.read_bytes())
    assert loaded == card.state.keys[0x9A].private.public_key()
    certificate = certify(public)
    piv("-a", "import-certificate", "-s", "9a", "-i", certificate)
    read = piv("-a", "read-certificate", "-s", "9a")
    assert x509.load_pem_x509_certificate(read[read.index("-----BEGIN") :].encode()).public_key() == loaded
    text = piv("-a", "verify-pin", "-P", "123456", "-a", "test-signature", "-s", "9a", "-i", certificate)
    assert "Successful" in text


@pytest.mark.parametrize("algorithm", sorted(NAMES))
def test_import_key_and_decipher(card: VirtualCard, piv, certify, tmp_path: Path, algorithm: Algorithm) -> None:
    key = generate(algorithm)
    (tmp_path / "key.pem").write_bytes(key.private_bytes(PEM, PKCS8, PLAIN))
    (tmp_path / "public.pem").write_bytes(key.public_key().public_bytes(PEM, SPKI))
    piv("-a", "import-key", "-s", "9d", "-i", tmp_path / "key.pem")
    assert card.state.keys[0x9D].private.public_key() == key.public_key()
    certificate = certify(tmp_path / "public.pem")
    piv("-a", "import-certificate", "-s", "9d", "-i", certificate)
    text = piv("-a", "verify-pin", "-P", "123456", "-a", "test-decipher", "-s", "9d", "-i", certificate)
    assert "success" in text.lower()


def test_set_chuid_and_status(card: VirtualCard, piv) -> None:
    piv("-a", "set-chuid", "-a", "set-ccc")
    status = piv("-a", "status")
    assert "PIN tries left:\t3" in status
    assert str(card.state.serial) in status
    assert "5.4.3" in piv("-a", "version")


def test_wrong_pin(card: VirtualCard, piv) -> None:
    assert "2 tries left" in piv("-a", "verify-pin", "-P", "999999", ok=False)
    assert card.tries_left() == 2


def test_change_pin_and_puk(card: VirtualCard, piv) -> None:
    piv("-a", "change-pin", "-P", "123456", "-N", "24681357")
    assert card.state.pins[0x80].value == b"24681357"
    piv("-a", "change-puk", "-P", "12345678", "-N", "87654321")
    assert card.state.pins[0x81].value == b"87654321"


def test_block_and_unblock(card: VirtualCard, piv) -> None:
    for _ in range(3):
        piv("-a", "verify-pin", "-P", "999999", ok=False)
    assert card.tries_left() == 0
    piv("-a", "verify-pin", "-P", "123456", ok=False)
    piv("-a", "unblock-pin", "-P", "12345678", "-N", "777777")
    piv("-a", "verify-pin", "-P", "777777")
    assert card.tries_left() == 3


def test_management_key_and_retries(card: VirtualCard, piv) -> None:
    new = "0102030405060708090A0B0C0D0E0F101112131415161718"
    piv("-a", "set-mgm-key", "-n", new)
    assert card.state.management_key.hex().upper() == new
    piv("-a", "generate", "-s", "9a", "-A", "ECCP256", ok=False)
    retries = ("-a", "pin-retries", "--pin-retries", "6", "--puk-retries", "5")
    piv("-k" + new, "-P", "123456", "-a", "verify-pin", *retries)
    assert card.state.pins[0x80].limit == 6


def test_reset_of_a_blocked_card(card: VirtualCard, piv) -> None:
    piv("-a", "reset", ok=False)
    for _ in range(3):
        piv("-a", "verify-pin", "-P", "999999", ok=False)
        piv("-a", "unblock-pin", "-P", "00000000", "-N", "777777", ok=False)
    piv("-a", "reset")
    piv("-a", "verify-pin", "-P", "123456")
