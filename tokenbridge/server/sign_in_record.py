"""How a sign-in is put on record: what the audit trail keeps of each step and decision. It writes nothing itself."""

from __future__ import annotations

from typing import Any

from tokenbridge.rp.policy import Decision
from tokenbridge.server import login
from tokenbridge.server.store import audit, sessions
from tokenbridge.server.store.sign_ins import Pending


def event(record: login.Record, pending: Pending, username: str, request: str) -> audit.Event:
    """What `record` says of the sign-in `pending`. `username`: whom it concerns, empty when nobody knows."""
    detail: dict[str, Any] = {"client": pending.client}
    if pending.where.address:
        detail["address"] = pending.where.address
    if record.detail:
        detail["detail"] = record.detail
    if record.assurance is not None:
        detail["assurance"] = sessions.describe(record.assurance)
        detail["methods"] = [str(method) for method in record.assurance.methods]
    if record.decision is not None:
        detail |= decided(record.decision)
    return audit.Event(event=record.what, account=username, sign_in=pending.ref, request=request, detail=detail)


def decided(decision: Decision) -> dict[str, Any]:
    """A decision of the policy and why, in JSON types."""
    return {
        "decision": str(decision.outcome),
        "sentence": decision.sentence,
        "reasons": [reason.code for reason in decision.reasons],
        "rule": decision.rule,
        "policy": decision.policy,
        "suppressed": [str(method) for method in decision.suppressed],
        "signals": [str(signal) for signal in decision.signals],
    }
