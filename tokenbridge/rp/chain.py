"""The path from a card's certificate to a trusted anchor (RFC 5280, section 6). Revocation is judged elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from asn1crypto import algos, keys
from cryptography.exceptions import InvalidSignature
from pyhanko_certvalidator.authority import AuthorityWithCert
from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.errors import (
    DisallowedAlgorithmError,
    ExpiredError,
    NotYetValidError,
    ValidationError,
)
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import (
    NO_REVOCATION,
    AlgorithmUsageConstraint,
    CertRevTrustPolicy,
    DisallowWeakAlgorithmsPolicy,
)
from pyhanko_certvalidator.sig_validate import (
    DEFAULT_VALIDATION_CONTEXT,
    DefaultSignatureValidator,
    SignatureValidationContext,
)
from pyhanko_certvalidator.validate import async_validate_path

from tokenbridge.errors import Rejected, RejectReason
from tokenbridge.rp.certificate import PARSER_ERRORS, Certificate, parsing
from tokenbridge.rp.certs import TrustAnchor, TrustStore
from tokenbridge.rp.paths import run

MAX_PATHS: Final = 8
MIN_RSA_BITS: Final = 2048
LEGACY_RSA_BITS: Final = 1024
MIN_EC_BITS: Final = 256


class AlgorithmRule(DisallowWeakAlgorithmsPolicy):
    """No MD5 or SHA-1, RSA from 2048 bits, curves from 256 bits; the legacy switch lets SHA-1 and RSA-1024 in."""

    def __init__(self, *, legacy: bool) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # the library leaves it untyped
            weak_hash_algos=frozenset({"md2", "md5"} if legacy else {"md2", "md5", "sha1"}),
            rsa_key_size_threshold=LEGACY_RSA_BITS if legacy else MIN_RSA_BITS,
        )

    def signature_algorithm_allowed(
        self, algo: algos.SignedDigestAlgorithm, moment: datetime | None, public_key: keys.PublicKeyInfo | None
    ) -> AlgorithmUsageConstraint:
        if public_key is not None and public_key.algorithm == "ec" and public_key.bit_size < MIN_EC_BITS:
            return AlgorithmUsageConstraint(allowed=False, failure_reason=f"curve of {public_key.bit_size} bits")
        return super().signature_algorithm_allowed(algo, moment, public_key)


class SignatureRule(DefaultSignatureValidator):
    """Holds the signatures of CRLs and OCSP responses to the same algorithm rule as those of certificates."""

    def __init__(self, algorithms: AlgorithmRule) -> None:
        self._algorithms = algorithms

    def validate_signature(
        self,
        signature: bytes,
        signed_data: bytes,
        public_key_info: keys.PublicKeyInfo,
        signature_algorithm: algos.SignedDigestAlgorithm,
        context: SignatureValidationContext = DEFAULT_VALIDATION_CONTEXT,
    ) -> None:
        """Raises InvalidSignature, also for a key that can't be read."""
        if not self._algorithms.signature_algorithm_allowed(signature_algorithm, None, public_key_info):
            raise InvalidSignature("weak algorithm")
        try:
            super().validate_signature(signature, signed_data, public_key_info, signature_algorithm, context)
        except PARSER_ERRORS as err:
            raise InvalidSignature(str(err)) from err


_ALGORITHMS: Final = {legacy: AlgorithmRule(legacy=legacy) for legacy in (False, True)}
_NO_REVOCATION: Final = CertRevTrustPolicy(NO_REVOCATION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A path that leads to `anchor`. `links` holds (certificate, its issuer), from the anchor down to the card's."""

    anchor: TrustAnchor
    path: ValidationPath
    links: tuple[tuple[Certificate, Certificate], ...]

    @property
    def algorithms(self) -> AlgorithmRule:
        return _ALGORITHMS[self.anchor.rule.legacy_weak]


def find_chain(certificate: Certificate, trust: TrustStore, *, now: datetime) -> Chain:
    """The first path that is valid at `now` under its anchor's rule.

    Rejected with ISSUER_UNKNOWN, PATH_INVALID, ALGORITHM_WEAK, CERTIFICATE_EXPIRED, CERTIFICATE_NOT_YET_VALID or
    CERTIFICATE_POLICY: the reason of the first path that failed.
    """
    failures: list[Rejected] = []
    for path in _paths(certificate, trust):
        try:
            chain = _chain(path, certificate, trust)
            _validate(chain, trust, now)
            _check_policies(chain, certificate)
        except Rejected as failure:
            failures.append(failure)
        else:
            return chain
    raise failures[0]


def signed_chain(certificate: Certificate, trust: TrustStore) -> Chain:
    """The first path whose signatures are right, whatever the time; otherwise as `find_chain`."""
    for path in _paths(certificate, trust):
        chain = _chain(path, certificate, trust)
        if all(_signed(cert, issuer, chain.algorithms) for cert, issuer in chain.links):
            return chain
    raise _unknown_issuer(certificate)


def _paths(certificate: Certificate, trust: TrustStore) -> list[ValidationPath]:
    with parsing("certificate's extensions"):
        paths = trust.index.paths(certificate)[:MAX_PATHS]
    if not paths:
        raise _unknown_issuer(certificate)
    return paths


def _unknown_issuer(certificate: Certificate) -> Rejected:
    text = "The card's certificate comes from an issuer that is not trusted here."
    return Rejected(RejectReason.ISSUER_UNKNOWN, text, detail=f"issuer {certificate.issuer}")


def _chain(path: ValidationPath, certificate: Certificate, trust: TrustStore) -> Chain:
    authority = path.trust_anchor.authority
    if not isinstance(authority, AuthorityWithCert):
        raise _unknown_issuer(certificate)
    chosen = [authority.certificate, *(path[place] for place in range(1, path.pkix_len))]
    cas = [trust.ca_by_sha256[asn1.sha256] for asn1 in chosen]
    below = [*cas[1:], certificate]
    return Chain(anchor=trust.anchor_of(path), path=path, links=tuple(zip(below, cas, strict=True)))


def _signed(cert: Certificate, issuer: Certificate, algorithms: AlgorithmRule) -> bool:
    try:
        SignatureRule(algorithms).validate_signature(
            signature=cert.asn1["signature_value"].native,
            signed_data=cert.asn1["tbs_certificate"].dump(),
            public_key_info=issuer.asn1.public_key,
            signature_algorithm=cert.asn1["signature_algorithm"],
        )
    except (InvalidSignature, *PARSER_ERRORS):
        return False
    return True


def _validate(chain: Chain, trust: TrustStore, now: datetime) -> None:
    context = ValidationContext(
        moment=now,
        allow_fetching=False,
        revinfo_policy=_NO_REVOCATION,
        time_tolerance=timedelta(0),
        certificate_registry=trust.registry,
        trust_manager=trust.manager,
        algorithm_usage_policy=chain.algorithms,
        signature_validator=SignatureRule(chain.algorithms),
    )
    try:
        with parsing("certificate"):
            run(async_validate_path(context, chain.path))
    except ValidationError as err:
        reason, text = _translate(err)
        raise Rejected(reason, text, detail=str(err)) from err


def _translate(err: ValidationError) -> tuple[RejectReason, str]:
    match err:
        case DisallowedAlgorithmError():
            return RejectReason.ALGORITHM_WEAK, "The certificate's signature is too weak to be trusted."
        case ExpiredError():
            return RejectReason.CERTIFICATE_EXPIRED, "A certificate between the card and its issuer has expired."
        case NotYetValidError():
            return RejectReason.CERTIFICATE_NOT_YET_VALID, "A certificate of the card's issuer is not valid yet."
        case _:
            return RejectReason.PATH_INVALID, "The card's certificate was not properly issued."


def _check_policies(chain: Chain, certificate: Certificate) -> None:
    rule = chain.anchor.rule
    disallowed = rule.disallowed_policy_oids & certificate.policy_oids()
    granted = chain.path.qualified_policies()
    if disallowed or (rule.policy_oids and not granted):
        detail = f"disallowed {sorted(disallowed)}" if disallowed else f"none of {sorted(rule.policy_oids)}"
        text = "The card's certificate was issued under a policy that is not accepted here."
        raise Rejected(RejectReason.CERTIFICATE_POLICY, text, detail=detail)
