"""Whether the certificates of a chain are revoked, from CRLs and OCSP responses that the caller brings.

Three answers only: returns when each is shown good, raises Rejected when one is revoked, Undecided otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from asn1crypto import crl, ocsp, x509
from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.errors import (
    CRLNoMatchesError,
    CRLValidationError,
    CRLValidationIndeterminateError,
    OCSPNoMatchesError,
    OCSPValidationError,
    OCSPValidationIndeterminateError,
    RevokedError,
    ValidationError,
)
from pyhanko_certvalidator.ltv.types import ValidationTimingInfo, ValidationTimingParams
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import REQUIRE_REVINFO, CertRevTrustPolicy
from pyhanko_certvalidator.revinfo.archival import CRLContainer, OCSPContainer
from pyhanko_certvalidator.revinfo.validate_crl import verify_crl
from pyhanko_certvalidator.revinfo.validate_ocsp import verify_ocsp_response

from tokenbridge.errors import Rejected, RejectReason, Undecided, UndecidedReason
from tokenbridge.rp.certificate import PARSER_ERRORS, Certificate
from tokenbridge.rp.certs import MAX_CRL_BYTES, MAX_OCSP_BYTES, IssuerRule, RevocationData, RevocationMode, TrustStore
from tokenbridge.rp.chain import Chain, SignatureRule
from tokenbridge.rp.paths import run
from tokenbridge.rp.reasons import Reason

CLOCK_SKEW: Final = timedelta(minutes=2)
MAX_ITEMS: Final = 64
NOT_OFFERED: Final = "revocation-not-offered"

T = TypeVar("T")
_Finding = UndecidedReason | None  # None: shown to be good
# The reason told when several sources failed differently: what was seen beats what was missing.
_FOREMOST: Final = (UndecidedReason.REVOCATION_STALE, UndecidedReason.REVOCATION_UNKNOWN)
_TEXT: Final = {
    UndecidedReason.REVOCATION_STALE: "What is known about revoked certificates is out of date.",
    UndecidedReason.REVOCATION_UNKNOWN: "The issuer's answer on whether the certificate is revoked can't be relied on.",
    UndecidedReason.REVOCATION_UNREACHABLE: "The issuer could not be asked whether the certificate is revoked.",
    UndecidedReason.NO_REVOCATION_SOURCE: "Nothing tells whether the certificate is revoked, and none is configured.",
}


class _AnchoredPath(ValidationPath):
    """A path whose anchor may be an intermediate CA and still signs its own CRLs.

    The validator looks for the issuer of the CRL's signer; above an anchor there is none, and none is needed.
    """

    def truncate_to_issuer_and_append(self, cert: x509.Certificate) -> ValidationPath:
        own = self.first
        if own is not None and cert.sha256 == own.sha256:
            return ValidationPath(self.trust_anchor, interm=[], leaf=None)
        path: ValidationPath = super().truncate_to_issuer_and_append(cert)
        return path


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """The usable items, and whether some were dropped as unreadable or too old."""

    crls: tuple[CRLContainer, ...]
    ocsps: tuple[OCSPContainer, ...]
    unreadable: bool
    outdated: bool


def check_revocation(chain: Chain, data: RevocationData, trust: TrustStore, *, now: datetime) -> tuple[Reason, ...]:
    """Judge every certificate of `chain`, the CA's first. Returns notes for the record.

    Rejected(CERTIFICATE_REVOKED) or Undecided; an issuer declared to offer no revocation is noted, not judged.
    """
    rule = chain.anchor.rule
    if rule.revocation is RevocationMode.NONE_DECLARED:
        text = f"Revocation was not checked: the configuration says that issuer {chain.anchor.name!r} offers none."
        return (Reason(code=NOT_OFFERED, text=text),)
    evidence = _evidence(chain, data, now)
    context = _context(chain, evidence, trust, now)
    path = _AnchoredPath(chain.path.trust_anchor, [cert.asn1 for cert, _ in chain.links[:-1]], chain.links[-1][0].asn1)
    above = ValidationPath(chain.path.trust_anchor, interm=[], leaf=None)
    _record(context, path.first, above)
    for cert, _ in chain.links:
        _judge(cert, path, context, evidence, rule)
        # Whoever signs a CRL or an OCSP response for the next certificate has been judged by now.
        above = above.copy_and_append(cert.asn1)
        _record(context, cert.asn1, above)
    return ()


def _record(context: ValidationContext, cert: x509.Certificate, path: ValidationPath) -> None:
    context.record_validation(cert, path)  # type: ignore[no-untyped-call]  # the library leaves it untyped


def _judge(
    cert: Certificate, path: ValidationPath, context: ValidationContext, evidence: _Evidence, rule: IssuerRule
) -> None:
    findings = [
        _ask(lambda: verify_ocsp_response(cert.asn1, path, context)),
        _ask(lambda: verify_crl(cert.asn1, path, context, use_deltas=False)),
    ]
    if None in findings:
        return
    seen = set(findings)
    if evidence.outdated:
        seen.add(UndecidedReason.REVOCATION_STALE)
    if evidence.unreadable:
        seen.add(UndecidedReason.REVOCATION_UNKNOWN)
    reason = next((reason for reason in _FOREMOST if reason in seen), None) or _nothing_seen(cert, rule)
    raise Undecided(reason, _TEXT[reason], detail=f"{reason}: certificate {cert.serial:x} of {cert.issuer}")


def _nothing_seen(cert: Certificate, rule: IssuerRule) -> UndecidedReason:
    named = rule.crl_urls or rule.ocsp_urls or cert.crl_urls() or cert.ocsp_urls()
    return UndecidedReason.REVOCATION_UNREACHABLE if named else UndecidedReason.NO_REVOCATION_SOURCE


def _ask(question: Callable[[], Coroutine[Any, Any, None]]) -> _Finding:
    """Both sources are always asked: a certificate that either calls revoked is revoked."""
    try:
        run(question())
    except RevokedError as err:
        text = "The card's certificate has been revoked."
        raise Rejected(RejectReason.CERTIFICATE_REVOKED, text, detail=str(err)) from err
    except (CRLNoMatchesError, OCSPNoMatchesError):
        return UndecidedReason.NO_REVOCATION_SOURCE
    except (CRLValidationIndeterminateError, OCSPValidationIndeterminateError) as err:
        return UndecidedReason.REVOCATION_STALE if err.suspect_stale else UndecidedReason.REVOCATION_UNKNOWN
    except (CRLValidationError, OCSPValidationError, ValidationError, *PARSER_ERRORS):
        return UndecidedReason.REVOCATION_UNKNOWN
    return None


def _context(chain: Chain, evidence: _Evidence, trust: TrustStore, now: datetime) -> ValidationContext:
    context = ValidationContext(
        moment=now,
        allow_fetching=False,
        crls=evidence.crls,
        ocsps=evidence.ocsps,
        revinfo_policy=CertRevTrustPolicy(REQUIRE_REVINFO),
        # A registry of its own: the validator adds the certificates that OCSP responses carry.
        certificate_registry=trust.new_registry(),
        trust_manager=trust.manager,
        algorithm_usage_policy=chain.algorithms,
        signature_validator=SignatureRule(chain.algorithms),
    )
    # With "point in time" off, a revocation dated in the future (a clock that is ahead) counts at once.
    info = ValidationTimingInfo(validation_time=now, best_signature_time=now, point_in_time_validation=False)
    context.timing_params = ValidationTimingParams(info, time_tolerance=CLOCK_SKEW)
    return context


def _evidence(chain: Chain, data: RevocationData, now: datetime) -> _Evidence:
    rule = chain.anchor.rule
    serials = [cert.asn1["tbs_certificate"]["serial_number"].dump() for cert, _ in chain.links]
    crls, bad_crls = _read((*rule.crls, *data.crls), MAX_CRL_BYTES, lambda der: _read_crl(der, serials))
    ocsps, bad_ocsps = _read(data.ocsps, MAX_OCSP_BYTES, _read_ocsp)
    responses = [response for several in ocsps for response in several]
    recent = tuple(response for response in responses if _recent(response, now - rule.ocsp_max_age))
    return _Evidence(
        crls=tuple(crls),
        ocsps=recent,
        unreadable=bad_crls or bad_ocsps,
        outdated=len(recent) < len(responses),
    )


def _read(items: Iterable[bytes], limit: int, reader: Callable[[bytes], T]) -> tuple[list[T], bool]:
    """What can be read of at most 64 distinct `items`, and whether something could not."""
    read: list[T] = []
    distinct = tuple(dict.fromkeys(items))
    bad = len(distinct) > MAX_ITEMS
    for der in distinct[:MAX_ITEMS]:
        try:
            if len(der) > limit:
                raise ValueError("too large")
            read.append(reader(der))
        except PARSER_ERRORS:
            bad = True
    return read, bad


def _read_crl(der: bytes, serials: Sequence[bytes]) -> CRLContainer:
    container = CRLContainer(crl.CertificateList.load(der, strict=True))
    if container.issuance_date is None or not container.crl_data.issuer.hashable:
        raise ValueError("not a CRL")
    # The validator compares encoded serial numbers, entry by entry (10 ms for a thousand). Where none of ours stands
    # anywhere in the CRL there is nothing to find; the signed bytes stay as they came.
    if not any(serial in der for serial in serials):
        signed = container.crl_data["tbs_cert_list"]
        signed.children[list(signed).index("revoked_certificates")] = crl.RevokedCertificates.load(b"\x30\x00")
    return container


def _read_ocsp(der: bytes) -> list[OCSPContainer]:
    containers: list[OCSPContainer] = OCSPContainer.load_multi(ocsp.OCSPResponse.load(der, strict=True))
    if not containers or len(containers) > MAX_ITEMS or any(item.issuance_date is None for item in containers):
        raise ValueError("no answer in the OCSP response")
    return containers


def _recent(response: OCSPContainer, oldest: datetime) -> bool:
    issued = response.issuance_date
    return issued is not None and issued >= oldest
