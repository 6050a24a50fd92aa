"""Grades proofs: authenticator assurance level, `acr` and `amr` (NIST SP 800-63B-4, RFC 8176, OpenID EAP ACR Values).

Pure: it neither verifies evidence nor decides what to do with the grade.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum, unique
from typing import Final

from tokenbridge.rp.proof import FALLBACK_METHODS, RESTRICTED_METHODS, Factor, Method, Proof


@unique
class AAL(IntEnum):
    """Authenticator assurance levels (SP 800-63B-4, section 2); NONE when nothing was proved."""

    NONE = 0
    AAL1 = 1
    AAL2 = 2
    AAL3 = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """What one proof, or a password together with one proof, is worth."""

    aal: AAL
    factors: frozenset[Factor]
    phishing_resistant: bool = False
    hardware: bool = False
    restricted: bool = False

    @property
    def rank(self) -> tuple[int, bool, bool, bool, tuple[str, ...]]:
        facts = (self.phishing_resistant, self.hardware, not self.restricted)
        return (self.aal, *facts, tuple(sorted(self.factors)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assurance:
    """The graded sum of proofs.

    `factors`, `phishing_resistant`, `hardware` and `restricted` describe the proofs that reached `aal`;
    `amr` and `methods` name everything that was proved, in a fixed order; `verified_by` holds the devices that
    checked the person (PIN or fingerprint) and are believed. `grades` holds everything that the proofs amount to, the
    best first: a rule may ask for something that the highest level lacks. `proofs` are the proofs themselves.
    """

    aal: AAL
    acr: str
    amr: tuple[str, ...]
    phishing_resistant: bool = False
    hardware: bool = False
    restricted: bool = False
    factors: frozenset[Factor] = frozenset()
    methods: tuple[Method, ...] = ()
    verified_by: frozenset[Method] = frozenset()
    grades: tuple[Grade, ...] = ()
    proofs: tuple[Proof, ...] = ()

    @property
    def phishing_acr(self) -> str:
        """`phrh`, `phr` or nothing (OpenID Connect EAP ACR Values 1.0)."""
        if not self.phishing_resistant:
            return ""
        return "phrh" if self.hardware else "phr"


NOTHING: Final = Assurance(aal=AAL.NONE, acr="aal0", amr=())

# One order for every combination, so that the same proofs always give the same claim.
_AMR_ORDER: Final = ("sc", "hwk", "swk", "pin", "fpt", "user", "pwd", "otp", "sms", "tel", "mfa")
# RFC 8176 has no value for WhatsApp: it is a text message to a telephone number, hence `sms`.
# A recovery code is a look-up secret (SP 800-63B-4, section 3.1.2), used once: `otp`.
_FALLBACK_AMR: Final = {
    Method.TOTP: "otp",
    Method.NUMBER_MATCH: "otp",
    Method.RECOVERY: "otp",
    Method.SMS: "sms",
    Method.WHATSAPP: "sms",
    Method.VOICE: "tel",
}
_METHOD_ORDER: Final = {method: place for place, method in enumerate(Method)}
_POSSESSION: Final = frozenset({Factor.POSSESSION})
_KNOWLEDGE: Final = frozenset({Factor.KNOWLEDGE})
PASSWORD_ALONE: Final = Grade(aal=AAL.AAL1, factors=_KNOWLEDGE)


def assess(proofs: Iterable[Proof]) -> Assurance:
    """The best that `proofs` amount to together. Order does not matter; one proof more never lowers the result."""
    given = tuple(proofs)
    grades = {proof: _grade(proof) for proof in given}
    counted = [proof for proof, grade in grades.items() if grade.aal is not AAL.NONE]
    if not counted:
        return NOTHING
    candidates = {grade for grade in _candidates(grades) if grade.aal is not AAL.NONE}
    ways = tuple(sorted(candidates, key=lambda grade: grade.rank, reverse=True))
    best = ways[0]
    values = {value for proof in counted for value in _amr(proof)}
    if len(best.factors) > 1:
        values.add("mfa")
    return Assurance(
        aal=best.aal,
        acr=f"aal{int(best.aal)}",
        amr=tuple(value for value in _AMR_ORDER if value in values),
        phishing_resistant=best.phishing_resistant,
        hardware=best.hardware,
        restricted=best.restricted,
        factors=best.factors,
        methods=tuple(sorted({proof.method for proof in counted}, key=_METHOD_ORDER.__getitem__)),
        verified_by=frozenset(proof.method for proof, grade in grades.items() if grade.aal > AAL.AAL1),
        grades=ways,
        proofs=tuple(sorted(grades, key=_in_order)),
    )


def _in_order(proof: Proof) -> tuple[int, str, str]:
    return _METHOD_ORDER[proof.method], proof.credential, repr(proof)


def _candidates(grades: dict[Proof, Grade]) -> Iterator[Grade]:
    yield from grades.values()
    if any(proof.method is Method.PASSWORD for proof in grades):
        yield from with_password(grades.values())


def with_password(grades: Iterable[Grade]) -> Iterator[Grade]:
    """What a password makes of `grades`: itself, and two factors with whatever proved possession only."""
    yield PASSWORD_ALONE
    for grade in grades:
        if grade.factors == _POSSESSION:
            yield replace(grade, aal=AAL.AAL2, factors=grade.factors | _KNOWLEDGE)


def _grade(proof: Proof) -> Grade:
    match proof.method:
        case Method.CARD:
            return _device(proof, AAL.AAL3 if _card_is_strong(proof) else AAL.AAL1)
        case Method.KEY:
            return _device(proof, _key_level(proof))
        case Method.PASSWORD | Method.APP_PASSWORD:
            return PASSWORD_ALONE
        case _:
            return Grade(aal=AAL.AAL1, factors=_POSSESSION, restricted=proof.method in RESTRICTED_METHODS)


def _device(proof: Proof, aal: AAL) -> Grade:
    if aal is AAL.NONE or Factor.POSSESSION not in proof.factors:
        return Grade(aal=AAL.NONE, factors=frozenset())
    return Grade(
        aal=aal,
        factors=proof.factors if aal > AAL.AAL1 else _POSSESSION,
        phishing_resistant=proof.phishing_resistant,
        hardware=proof.hardware_bound and not proof.synced,
    )


def _card_is_strong(proof: Proof) -> bool:
    vouched = proof.hardware_bound and proof.user_verified and proof.phishing_resistant
    return vouched and not proof.synced and Factor.KNOWLEDGE in proof.factors


def _key_level(proof: Proof) -> AAL:
    # WebAuthn level 3, section 7.2: without the UP flag an assertion proves nothing about a person.
    if not proof.user_present:
        return AAL.NONE
    if not (proof.user_verified and proof.factors & {Factor.KNOWLEDGE, Factor.INHERENCE}):
        return AAL.AAL1
    # SP 800-63B-4, section 2.3: syncable authenticators never reach AAL3.
    strong = proof.hardware_bound and proof.phishing_resistant and not proof.synced
    return AAL.AAL3 if strong else AAL.AAL2


def _amr(proof: Proof) -> Iterator[str]:
    match proof.method:
        case Method.CARD:
            yield from ("sc", "hwk", "pin") if _card_is_strong(proof) else ("sc", "hwk")
        case Method.KEY:
            yield "hwk" if proof.hardware_bound and not proof.synced else "swk"
            yield "user"
            if proof.user_verified:
                yield from (value for factor, value in _VERIFIED_BY.items() if factor in proof.factors)
        case Method.PASSWORD | Method.APP_PASSWORD:
            yield "pwd"
        case _:
            yield _FALLBACK_AMR[proof.method]


_VERIFIED_BY: Final = {Factor.KNOWLEDGE: "pin", Factor.INHERENCE: "fpt"}

if frozenset(_FALLBACK_AMR) != FALLBACK_METHODS:
    raise AssertionError("every fallback method needs its amr value")
