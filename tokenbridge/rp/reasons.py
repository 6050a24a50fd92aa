"""Reasons: a stable word for programs and a sentence for people. They explain a decision and decide nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class ReasonCode(StrEnum):
    """Stable words for programs; `Reason.text` is for people."""

    SATISFIED = "satisfied"
    SUPPRESSED = "challenge-suppressed"
    TOO_WEAK = "assurance-too-low"
    UNDECIDED = "undecided"
    UNUSUAL = "unusual"
    MODEL_REFUSED = "model-refused"
    TOO_OLD = "evidence-too-old"
    RULE_REFUSES = "rule-refuses"
    NO_RULE = "no-rule"
    NO_FALLBACK = "no-fallback-enrolled"
    ENROL = "enrolment-due"
    ENROL_OVERDUE = "enrolment-overdue"
    EXCEPTION = "exception"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One step of the argument. `code` is a `ReasonCode`, alone or followed by a colon and what exactly: `undecided:`
    and the `UndecidedReason`, `unusual:` and the `Signal`."""

    code: str
    text: str
