"""The server's TLS files: the operator's own, or a self-made certificate for this machine. It opens no sockets."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tokenbridge.errors import SetupError
from tokenbridge.server.settings import Settings

LIFETIME = dt.timedelta(days=825)
RENEW_BEFORE = dt.timedelta(days=14)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files. `ca` is what clients must trust, and None when the certificate is the operator's own."""

    certificate: Path
    key: Path
    ca: Path | None


def prepare(settings: Settings, now: dt.datetime) -> TlsFiles | None:
    """The files to serve with, made if needed; None for plain HTTP. Raises `SetupError` when they can't be used."""
    if settings.plain_http:
        return None
    if settings.tls_cert and settings.tls_key:
        files = TlsFiles(certificate=settings.tls_cert, key=settings.tls_key, ca=None)
    else:
        files = self_made(settings, now)
    _check(files)
    return files


def self_made(settings: Settings, now: dt.datetime) -> TlsFiles:
    """The self-made certificate of the data directory, renewed in time."""
    folder = settings.tls_dir
    files = TlsFiles(certificate=folder / "server.pem", key=folder / "server-key.pem", ca=folder / "ca.pem")
    if not _still_good(files, settings, now):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(files, _names(settings), now)
    return files


def _check(files: TlsFiles) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as err:
        raise SetupError(
            f"The TLS certificate {files.certificate} and its key can't be used.",
            next_step="Give a PEM certificate chain and its unencrypted PEM key.",
            detail=str(err),
        ) from err


def _names(settings: Settings) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
    ]
    host = urlsplit(settings.site).hostname or "localhost"
    try:
        own: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        own = x509.DNSName(host)
    return names if own in names else [*names, own]


def _still_good(files: TlsFiles, settings: Settings, now: dt.datetime) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    there = files.key.exists() and files.ca is not None and files.ca.exists()
    return there and certificate.not_valid_after_utc - now > RENEW_BEFORE and set(_names(settings)) <= set(names)


def _make(files: TlsFiles, names: list[x509.GeneralName], now: dt.datetime) -> None:
    # The authority signs this one certificate and its key is then forgotten: nobody can make another in its name.
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokenbridge server, self-made authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokenbridge server")])
    ski = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    authority = (
        _builder(ca_name, ca_name, ca_key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.NameConstraints(permitted_subtrees=_constraints(names), excluded_subtrees=None), True)
        .add_extension(ski, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    certificate = (
        _builder(name, ca_name, key.public_key(), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(files.key, private, 0o600)
    _write(files.certificate, certificate.public_bytes(pem), 0o644)
    if files.ca is not None:
        _write(files.ca, authority.public_bytes(pem), 0o644)


def _builder(
    name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _constraints(names: list[x509.GeneralName]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        if isinstance(name, x509.IPAddress):
            found.append(x509.IPAddress(ipaddress.ip_network(str(name.value))))
        else:
            found.append(name)
    return found


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
    temporary.replace(path)
