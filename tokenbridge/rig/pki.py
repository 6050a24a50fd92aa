"""A small test PKI: root, issuing authority, staff certificates like those of the NHS, revocation lists.

Its keys lie in plain files and its names say "test": nothing here may be trusted by anything but a test bench.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID, ObjectIdentifier

from tokenbridge.errors import SetupError
from tokenbridge.rig.piv_crypto import PrivateKey, PublicKey

STAFF_POLICY: Final = ObjectIdentifier("1.2.826.0.1275.101.0.3.1.1")
"""Certificate policy seen on NHS smartcards."""
UPN: Final = ObjectIdentifier("1.3.6.1.4.1.311.20.2.3")
"""Microsoft's user principal name in otherName."""
SIGN_ONLY: Final = frozenset({"digital_signature"})
KEY_ENCIPHERMENT_ONLY: Final = frozenset({"key_encipherment"})
CA_USAGE: Final = frozenset({"key_cert_sign", "crl_sign"})
USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
CA_VALIDITY: Final = timedelta(days=3650)
STAFF_VALIDITY: Final = timedelta(days=730)
CRL_VALIDITY: Final = timedelta(days=7)


@unique
class Variant(StrEnum):
    """Certificates that are right but for one thing."""

    GOOD = "good"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    WRONG_USAGE = "wrong-usage"
    UNKNOWN_ISSUER = "unknown-issuer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a staff certificate says. `uid` is the 12-digit user id; None for a time means the usual one."""

    uid: str
    upn: str = ""
    email: str = ""
    usages: frozenset[str] = SIGN_ONLY
    extended_usages: tuple[ObjectIdentifier, ...] = ()
    policy: ObjectIdentifier | None = STAFF_POLICY
    ocsp_url: str = ""
    crl_url: str = ""
    crl_directory_name: bool = False
    not_before: datetime | None = None
    not_after: datetime | None = None
    hash: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate authority with its key."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def name(self) -> x509.Name:
        return self.certificate.subject


class RigPki:
    """Root and issuing authority. Times come from `now` at creation or are given, so that results can be repeated."""

    def __init__(self, root: Authority, issuing: Authority, revoked: Mapping[int, datetime] | None = None) -> None:
        self.root = root
        self.issuing = issuing
        self.revoked: dict[int, datetime] = dict(revoked or {})
        self._stranger: RigPki | None = None

    @classmethod
    def create(cls, *, now: datetime, label: str = "Test") -> RigPki:
        """New keys: RSA-2048 for both authorities, valid from a day before `now` for ten years."""
        root_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        root_name = _name(f"{label} RootCA", unit="CA")
        root = Authority(
            certificate=_authority(root_name, root_key.public_key(), root_name, root_key, now=now), key=root_key
        )
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = _name(f"{label} SubCA01", unit="CA")
        issuing = Authority(certificate=_authority(name, key.public_key(), root_name, root_key, now=now), key=key)
        return cls(root, issuing)

    @classmethod
    def load(cls, directory: Path) -> RigPki:
        """What `save` wrote; raises `SetupError`."""
        try:
            root, issuing = (_load_authority(directory, name) for name in ("root", "issuing"))
            lines = (directory / "revoked.txt").read_text(encoding="utf-8").split("\n")
            pairs = (line.split() for line in lines if line)
            revoked = {int(serial): datetime.fromisoformat(when) for serial, when in pairs}
        except (OSError, ValueError) as err:
            raise SetupError(f"There is no usable test PKI in {directory}.", detail=repr(err)) from err
        return cls(root, issuing, revoked)

    def save(self, directory: Path) -> None:
        """Keys (0600), certificates and the list of revoked serial numbers, and the two CRLs as of now."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, authority in (("root", self.root), ("issuing", self.issuing)):
            (directory / f"{name}.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
            path = directory / f"{name}.key"
            path.touch(mode=0o600)
            path.write_bytes(authority.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        lines = [f"{serial} {when.isoformat()}\n" for serial, when in self.revoked.items()]
        (directory / "revoked.txt").write_text("".join(lines), encoding="utf-8")
        self.write_crls(directory, now=datetime.now(UTC))

    def issue(
        self,
        public: PublicKey,
        profile: Profile,
        *,
        now: datetime,
        variant: Variant = Variant.GOOD,
        serial: int | None = None,
    ) -> x509.Certificate:
        """A staff certificate for `public`, with the one fault that `variant` names."""
        if variant is Variant.UNKNOWN_ISSUER:
            self._stranger = self._stranger or RigPki.create(now=now, label="Unknown")
            return self._stranger.issue(public, profile, now=now, serial=serial)
        return _staff(self.issuing, public, _faulty(profile, variant, now), now=now, serial=serial)

    def revoke(self, certificate: x509.Certificate, *, at: datetime) -> None:
        """From the next CRL on, `certificate` is revoked."""
        self.revoked[certificate.serial_number] = at.replace(microsecond=0)

    def crl(self, *, now: datetime, validity: timedelta = CRL_VALIDITY) -> bytes:
        """The issuing authority's revocation list, DER."""
        return _crl(self.issuing, self.revoked, now=now, validity=validity)

    def root_crl(self, *, now: datetime, validity: timedelta = CRL_VALIDITY) -> bytes:
        """The root's revocation list (always empty), DER."""
        return _crl(self.root, {}, now=now, validity=validity)

    def write_crls(self, directory: Path, *, now: datetime) -> None:
        """issuing.crl and root.crl in `directory`."""
        (directory / "issuing.crl").write_bytes(self.crl(now=now))
        (directory / "root.crl").write_bytes(self.root_crl(now=now))


def _faulty(profile: Profile, variant: Variant, now: datetime) -> Profile:
    match variant:
        case Variant.EXPIRED:
            return replace(profile, not_before=now - STAFF_VALIDITY, not_after=now - timedelta(days=1))
        case Variant.NOT_YET_VALID:
            return replace(profile, not_before=now + timedelta(days=1), not_after=now + STAFF_VALIDITY)
        case Variant.WRONG_USAGE:
            return replace(profile, usages=KEY_ENCIPHERMENT_ONLY)
    return profile


def _name(common: str, *, unit: str) -> x509.Name:
    pairs = (
        (NameOID.ORGANIZATION_NAME, "nhs"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        (NameOID.COMMON_NAME, common),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


def _key_usage(usages: frozenset[str]) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in usages for name in USAGES})


def _authority(
    name: x509.Name, public: PublicKey, issuer: x509.Name, issuer_key: PrivateKey, *, now: datetime
) -> x509.Certificate:
    issuer_public = issuer_key.public_key()
    builder = (
        _builder(name, public, issuer, (now - timedelta(days=1), now + CA_VALIDITY))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1 if name == issuer else 0), critical=True)
        .add_extension(_key_usage(CA_USAGE), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256())


def _builder(
    name: x509.Name,
    public: PublicKey,
    issuer: x509.Name,
    validity: tuple[datetime, datetime],
    serial: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
    )


def _staff(
    issuing: Authority, public: PublicKey, profile: Profile, *, now: datetime, serial: int | None
) -> x509.Certificate:
    start = profile.not_before or now - timedelta(hours=1)
    validity = (start, profile.not_after or start + STAFF_VALIDITY)
    builder = _builder(_name(profile.uid, unit="people"), public, issuing.name, validity, serial)
    for extension, critical in _staff_extensions(issuing, public, profile):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuing.key, profile.hash)  # type: ignore[arg-type]  # SHA-1 is wanted by tests of weakness


def _staff_extensions(issuing: Authority, public: PublicKey, profile: Profile) -> list[tuple[x509.ExtensionType, bool]]:
    extensions: list[tuple[x509.ExtensionType, bool]] = [
        (_key_usage(profile.usages), True),
        (x509.SubjectKeyIdentifier.from_public_key(public), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuing.key.public_key()), False),
    ]
    if profile.policy is not None:
        extensions.append((x509.CertificatePolicies([x509.PolicyInformation(profile.policy, None)]), False))
    if profile.extended_usages:
        extensions.append((x509.ExtendedKeyUsage(profile.extended_usages), False))
    if names := _alternative_names(profile):
        extensions.append((x509.SubjectAlternativeName(names), False))
    if profile.ocsp_url:
        where = x509.UniformResourceIdentifier(profile.ocsp_url)
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)
        extensions.append((x509.AuthorityInformationAccess([access]), False))
    if points := _crl_points(issuing, profile):
        extensions.append((x509.CRLDistributionPoints(points), False))
    return extensions


def _alternative_names(profile: Profile) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    if profile.upn:
        text = profile.upn.encode("utf-8")
        names.append(x509.OtherName(UPN, b"\x0c" + bytes([len(text)]) + text))
    if profile.email:
        names.append(x509.RFC822Name(profile.email))
    return names


def _crl_points(issuing: Authority, profile: Profile) -> list[x509.DistributionPoint]:
    """By URL, or as on real NHS cards by a directory name below the issuer's own."""
    names: list[x509.GeneralName] = []
    if profile.crl_url:
        names.append(x509.UniformResourceIdentifier(profile.crl_url))
    if profile.crl_directory_name:
        crl = x509.NameAttribute(NameOID.COMMON_NAME, "CRL1")
        names.append(x509.DirectoryName(x509.Name([*issuing.name, crl])))
    return [x509.DistributionPoint([name], None, None, None) for name in names]


def _crl(issuer: Authority, revoked: Mapping[int, datetime], *, now: datetime, validity: timedelta) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.name)
        .last_update(now)
        .next_update(now + validity)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
        .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
    )
    for serial, when in revoked.items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def _load_authority(directory: Path, name: str) -> Authority:
    certificate = x509.load_pem_x509_certificate((directory / f"{name}.pem").read_bytes())
    key = load_pem_private_key((directory / f"{name}.key").read_bytes(), password=None)
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise ValueError("not a key of an authority")
    return Authority(certificate=certificate, key=key)
