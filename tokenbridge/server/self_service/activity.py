"""What happened with somebody's account, from the audit trail, and reporting what was not them. It blocks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from tokenbridge.errors import NotFound
from tokenbridge.rp.wording import NAMES
from tokenbridge.server.changes import Changes
from tokenbridge.server.store import audit, enrolment, sessions
from tokenbridge.server.store.audit import Entry

MOST: Final = 50

WHAT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "signed-in": "Signed in",
        "challenged": "Asked for one more step",
        "denied": "Not let in by policy",
        "refused": "Sign-in refused",
        "method-not-offered": "Tried a method that was not offered",
        "too-many-attempts": "Too many attempts in one sign-in",
        "cancelled": "Sign-in given up",
        "expired": "Sign-in took too long",
        "rate-limited": "Too many attempts in a short time",
        "signed-out": "Signed out",
        "signed-out-elsewhere": "Signed out on other devices",
        "step-up-wanted": "Asked to sign in again before a change",
        "key-registered": "Security key registered",
        "key-refused": "Security key not accepted",
        "key-renamed": "Security key renamed",
        "key-removed": "Security key removed",
        "key-copied": "Security key may have been copied",
        "method-begun": "Setting a method up was begun",
        "method-added": "Method set up",
        "method-changed": "Method changed",
        "method-refused": "Wrong code while a method was set up",
        "method-removed": "Method removed",
        "totp-set": "Authenticator app set up",
        "totp-removed": "Authenticator app removed",
        "recovery-codes-made": "New recovery codes made",
        "password-set": "Password set by the organisation",
        "password-changed": "Password changed",
        "password-reset": "Password reset with two methods",
        "password-reset-proved": "One of two methods shown for a password reset",
        "password-reset-refused": "Wrong code while a password was to be reset",
        "password-change-refused": "Password change refused",
        "enrolment-code-made": "One-time enrolment code made",
        "enrolment-code-refused": "Enrolment code refused",
        "mfa-enabled": "Multi-factor authentication enabled",
        "sessions-revoked": "Signed out everywhere by the organisation",
        "card-added": "Card added under Self-Service",
        "card-refused": "Somebody else's card not added",
        "card-enrolled": "Card added by the organisation",
        "card-removed": "Card removed by the organisation",
        "card-withdrawn": "Card removed under Self-Service",
        "card-suspended": "Card suspended",
        "key-suspended": "Security key suspended",
        "suspension-lifted": "Suspension of a card or key lifted",
        "app-password-made": "App password made",
        "app-password-used": "App password used for the first time that day",
        "app-password-revoked": "App password revoked",
        "message-asked": "A code was sent to the phone",
        "message-not-sent": "A code could not be sent to the phone",
        "message-undelivered": "A message to the phone could not be delivered",
        "call-not-taken": "Nobody took a call to the phone",
        "approval-asked": "Asked on the phone",
        "approval-given": "Approved on the phone",
        "approval-denied": "Declined on the phone",
        "approval-wrong-number": "Wrong number typed on the phone",
        "phone-removed": "Phone number removed by the organisation",
        "phone-app-removed": "Phone app removed by the organisation",
        "phone-app-scanned": "A phone has scanned the QR code",
        "user-added": "Account made",
        "user-changed": "Account brought up to date by the organisation",
        "user-disabled": "Account disabled",
        "user-enabled": "Account enabled",
        "organisation-set": "Organisation changed",
        "group-joined": "Joined a group",
        "group-left": "Left a group",
        "role-granted": "Role in administration granted",
        "role-revoked": "Role in administration taken back",
        "reported": "Reported as lost, or as somebody else's doing",
        "account-reset": "Reset by the help desk",
        "users-imported": "Accounts imported",
        "enrolment-codes-saved": "Sheet of one-time enrolment codes saved",
        "app-client-added": "Program for app passwords added",
        "app-client-renewed": "New secret for a program that checks app passwords",
        "app-client-removed": "Program for app passwords removed",
        "trust-added": "Trust in an authority added",
        "trust-changed": "Trust in an authority changed",
        "trust-removed": "Trust in an authority removed",
        "metadata-loaded": "Metadata of security keys loaded",
        "policy-applied": "Policy applied on the pages of administration",
        "policy-changed": "Another policy in force",
        "policy-refused": "Policy file not accepted",
        "keys-rotated": "Keys of the server renewed",
        "audit-sealed": "Audit trail sealed for the first time",
        "audit-exported": "Audit trail taken out",
    }
)
"""Events in words, for the person and for those who administer. Some were written by earlier versions only."""

_METHODS: Final = {str(method): name for method, name in NAMES.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One event. `text` says more, in a sentence where there is one; `here`: of the session that asks."""

    number: int
    at: dt.datetime
    what: str
    text: str
    here: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """Nobody sees events of others: a number of somebody else's is `NotFound`. `NoSession` is raised everywhere."""

    changes: Changes

    def recent(self, session_token: str) -> list[Happening]:
        """The newest first."""
        with self.changes.looking(session_token) as (tx, live):
            found = audit.entries(tx, account=live.account.username, limit=MOST)
            return [_told(entry, live.sign_in_ref) for entry in reversed(found)]

    def one(self, session_token: str, number: int) -> Happening:
        with self.changes.looking(session_token) as (tx, live):
            found = audit.between(tx, number - 1, number, search=audit.Search(account=live.account.username))
            if not found:
                raise NotFound("There is no such event on your account.", next_step="See your recent activity.")
            return _told(found[0], live.sign_in_ref)

    def sentence(self, sign_in_ref: str) -> str:
        """The newest decision of a sign-in, as it was told; empty when there is none."""
        with self.changes.database.read() as tx:
            found = audit.of_sign_in(tx, sign_in_ref)
        told = [str(entry.detail["sentence"]) for entry in found if "sentence" in entry.detail]
        return told[-1] if told else ""

    def report(self, session_token: str, number: int, request: str) -> int:
        """Put on record that an event was not the person's doing, end the account's other sessions, and void an
        enrolment code that is out; returns how many sessions there were."""
        happening = self.one(session_token, number)
        with self.changes.database.write() as tx:
            live = self.changes.live(tx, session_token)
            enrolment.void(tx, live.account.id)
            ended = sessions.end_others(tx, live, self.changes.clock())
            self.changes.record(
                tx, "reported", live, request, number=number, detail=happening.what, sessions_ended=ended
            )
        return ended


def in_words(entry: Entry) -> str:
    """What happened, and with which method where that matters. An event of a later version is told by its name."""
    what = WHAT.get(entry.event, entry.event.replace("-", " ").capitalize())
    method = (
        _METHODS.get(str(entry.detail.get("method")))
        if entry.event.startswith(("method-", "password-reset-"))
        else None
    )
    return f"{what}: {method}" if method else what


def _told(entry: Entry, sign_in_ref: str) -> Happening:
    return Happening(
        number=entry.seq,
        at=dt.datetime.fromisoformat(entry.at),
        what=in_words(entry),
        text=gist(entry.detail),
        here=bool(entry.sign_in) and entry.sign_in == sign_in_ref,
    )


def gist(detail: Mapping[str, Any]) -> str:
    """What the detail of an event says in words, empty when it says nothing so."""
    for name in ("sentence", "name", "detail"):
        if detail.get(name):
            return str(detail[name])
    return ""
