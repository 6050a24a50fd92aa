"""How clients are told no in a sign-in: the error for each refusal of the machine, with its next step. It decides
nothing."""

from __future__ import annotations

from typing import Final

from tokenbridge.errors import MethodNotOffered, NotAllowedNow, Rejected, RejectReason, Retry, TokenbridgeError, TooMany
from tokenbridge.server import login

_MESSAGES: Final = {
    RejectReason.CREDENTIALS_WRONG: "The user name or the password is wrong.",
    RejectReason.CODE_WRONG: "The code is wrong, or it was used before.",
    RejectReason.SUBJECT_UNKNOWN: "The card is good, but it belongs to no account here.",
    RejectReason.SUSPENDED: "This card or key is suspended, because it was said to be lost.",
    RejectReason.DECLINED: "The sign-in was declined on the telephone.",
    RejectReason.APPROVAL_FAILED: "The request to the telephone was not answered in time, or with wrong numbers.",
}
_START_AGAIN: Final = "Start the sign-in again."
_STEPS: Final = {
    RejectReason.CREDENTIALS_WRONG: "Type both again with care.",
    RejectReason.SUSPENDED: "Sign in in another way, and lift that under Self-Service; or ask your IT service desk.",
    RejectReason.CODE_WRONG: "Type the newest code with care; of an app, wait for the next one.",
    RejectReason.DECLINED: "If it was not you who declined, change your password and tell your IT service desk.",
    RejectReason.APPROVAL_FAILED: "Send another request, or use another method.",
    RejectReason.SUBJECT_UNKNOWN: "Ask your IT service desk to enrol the card.",
}


def error(refuse: login.Refuse) -> TokenbridgeError:
    """What the client is told."""
    match refuse.why:
        case login.Refusal.TOO_MANY:
            return TooMany("Too many attempts in this sign-in.", seconds=None, next_step=_START_AGAIN)
        case login.Refusal.EXPIRED:
            return Rejected(RejectReason.CHALLENGE_EXPIRED, "The sign-in took too long.")
        case login.Refusal.NOT_NOW:
            return NotAllowedNow("This sign-in does not take that now: it has ended or awaits something else.")
        case login.Refusal.DOWNGRADE:
            return MethodNotOffered()
        case login.Refusal.STARTS:
            return TooMany("No more messages or calls in this sign-in.", seconds=None, next_step=_START_AGAIN)
        case login.Refusal.EVIDENCE:
            return _evidence_error(refuse)


def declined() -> Rejected:
    """What a client is told whose sign-in was ended by the person."""
    return _evidence_error(login.Refuse(why=login.Refusal.EVIDENCE, reason=RejectReason.DECLINED))


def _evidence_error(refuse: login.Refuse) -> Rejected:
    reason = refuse.reason or RejectReason.MALFORMED
    rejected = Rejected(reason, refuse.message or _MESSAGES.get(reason))
    if reason in (RejectReason.CREDENTIALS_WRONG, RejectReason.CODE_WRONG, RejectReason.APPROVAL_FAILED):
        rejected.retry = Retry.AGAIN  # may be tried again in the same sign-in; other bad evidence ends it
    rejected.hint = refuse.next_step or _STEPS.get(reason, rejected.hint)
    return rejected
