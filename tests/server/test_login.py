"""The sign-in machine: every state with every event."""

from __future__ import annotations

import datetime as dt
import itertools
from dataclasses import replace

import pytest

from tokenbridge.errors import RejectReason, UndecidedReason
from tokenbridge.rp.assurance import assess
from tokenbridge.rp.policy import Decision, Outcome
from tokenbridge.rp.proof import Factor, Method, Proof
from tokenbridge.server import login
from tokenbridge.server.login import (
    ApprovalPresented,
    AwaitingCode,
    AwaitingPassword,
    Cancel,
    Cancelled,
    CardPresented,
    CodePresented,
    Dead,
    Denied,
    Expired,
    Judged,
    Judging,
    KeyPresented,
    MethodAsked,
    PasswordPresented,
    Recorded,
    Refusal,
    Refused,
    SignedIn,
    Started,
    TimeIsUp,
)
from tokenbridge.server.login_machine import step
from tokenbridge.server.store import sign_ins

AT = dt.datetime(2026, 11, 24, 3, 0, tzinfo=dt.UTC)
ALICE, BOB = 1, 2
CARD = Proof(
    method=Method.CARD,
    factors=frozenset({Factor.POSSESSION, Factor.KNOWLEDGE}),
    hardware_bound=True,
    phishing_resistant=True,
    user_verified=True,
    credential="c" * 64,
    certificate=b"\x30\x00",
    at=AT,
)
PWD = Proof(method=Method.PASSWORD, factors=frozenset({Factor.KNOWLEDGE}), credential="password:1", at=AT)
OTP = Proof(method=Method.TOTP, factors=frozenset({Factor.POSSESSION}), credential="totp:1", at=AT)
KEY = Proof(
    method=Method.KEY,
    factors=frozenset({Factor.POSSESSION}),
    phishing_resistant=True,
    user_present=True,
    credential="key:1",
    aaguid=bytes(16),
    at=AT,
)
CODE = Proof(method=Method.RECOVERY, factors=frozenset({Factor.POSSESSION}), credential="recovery:1", at=AT)
TEXT = Proof(method=Method.SMS, factors=frozenset({Factor.POSSESSION}), credential="sms:1", at=AT)
CALL = Proof(method=Method.VOICE, factors=frozenset({Factor.POSSESSION}), credential="voice:1", at=AT)
PROOFS = {
    Method.SMS: (PWD, TEXT),
    Method.VOICE: (PWD, CALL),
    Method.CARD: (CARD,),
    Method.KEY: (KEY,),
    Method.PASSWORD: (PWD,),
    Method.TOTP: (PWD, OTP),
    Method.RECOVERY: (PWD, CODE),
}
THEN = (Method.KEY, Method.TOTP, Method.RECOVERY)
PHONE = (Method.SMS, Method.VOICE)
DOUBT = (UndecidedReason.REVOCATION_UNREACHABLE,)


def judged(
    by: Method, outcome: Outcome, methods: tuple[Method, ...] = (), account: int = ALICE, *, doubts=()
) -> Judged:
    proofs = () if doubts else PROOFS[by]
    decision = Decision(outcome=outcome, reasons=(), methods=methods, sentence="said so")
    return Judged(by=by, account=account, proofs=proofs, doubts=doubts, assurance=assess(proofs), decision=decision)


STATES = {
    "started": Started(),
    "started, tries spent": Started(attempts=login.MAX_ATTEMPTS),
    "started for Alice": Started(expected=ALICE),
    "started for nobody": Started(expected=login.NOBODY),
    "judging": Judging(),
    "judging a key": Judging(by=Method.KEY),
    "judging Alice's key": Judging(by=Method.KEY, account=ALICE, proofs=(PWD,), doubts=DOUBT),
    "judging nobody's key": Judging(by=Method.KEY, account=login.NOBODY),
    "password": AwaitingPassword(account=ALICE, doubts=DOUBT),
    "password, tries spent": AwaitingPassword(account=ALICE, attempts=login.MAX_ATTEMPTS),
    "code": AwaitingCode(account=ALICE, proofs=(PWD,)),
    "code, tries spent": AwaitingCode(account=ALICE, attempts=login.MAX_ATTEMPTS),
    "second step": AwaitingCode(account=ALICE, proofs=(PWD,), methods=THEN),
    "phone": AwaitingCode(account=ALICE, proofs=(PWD,), methods=PHONE),
    "message sent": AwaitingCode(account=ALICE, proofs=(PWD,), methods=PHONE, started=Method.SMS, starts=1),
    "called": AwaitingCode(account=ALICE, proofs=(PWD,), methods=PHONE, started=Method.VOICE, starts=1),
    "too many messages": AwaitingCode(
        account=ALICE, proofs=(PWD,), methods=PHONE, started=Method.SMS, starts=login.MAX_STARTS
    ),
    "signed in": SignedIn(account=ALICE),
    "denied": Denied(account=ALICE),
    "dead": Dead(reason="signature-invalid"),
    "expired": Expired(),
    "cancelled": Cancelled(),
}
EVENTS = {
    "card": CardPresented(),
    "password": PasswordPresented(),
    "key": KeyPresented(),
    "code": CodePresented(),
    "recovery code": CodePresented(by=Method.RECOVERY),
    "ask for a message": MethodAsked(by=Method.SMS),
    "ask for a call": MethodAsked(by=Method.VOICE),
    "ask for the app": MethodAsked(by=Method.TOTP),
    "message's code": CodePresented(by=Method.SMS),
    "call's code": CodePresented(by=Method.VOICE),
    "approval": ApprovalPresented(),
    "cancel": Cancel(),
    "time": TimeIsUp(),
    "card allows": judged(Method.CARD, Outcome.ALLOW),
    "card in doubt": judged(Method.CARD, Outcome.CHALLENGE, (Method.PASSWORD, Method.TOTP), doubts=DOUBT),
    "card lacks a password": judged(Method.CARD, Outcome.CHALLENGE, (Method.PASSWORD,)),
    "card lacks a code": judged(Method.CARD, Outcome.CHALLENGE, (Method.TOTP,)),
    "card denied": judged(Method.CARD, Outcome.DENY),
    "card refused": Refused(by=Method.CARD, reason=RejectReason.SIGNATURE_INVALID),
    "key allows": judged(Method.KEY, Outcome.ALLOW),
    "key lacks a password": judged(Method.KEY, Outcome.CHALLENGE, (Method.PASSWORD,)),
    "key refused": Refused(by=Method.KEY, reason=RejectReason.SIGNATURE_INVALID),
    "key of Bob": judged(Method.KEY, Outcome.ALLOW, account=BOB),
    "password allows": judged(Method.PASSWORD, Outcome.ALLOW),
    "password lacks a code": judged(Method.PASSWORD, Outcome.CHALLENGE, (Method.TOTP,)),
    "password lacks a second step": judged(Method.PASSWORD, Outcome.CHALLENGE, THEN),
    "password lacks a card": judged(Method.PASSWORD, Outcome.CHALLENGE, (Method.CARD,)),
    "password denied": judged(Method.PASSWORD, Outcome.DENY),
    "password refused": Refused(by=Method.PASSWORD, reason=RejectReason.CREDENTIALS_WRONG),
    "password of Bob": judged(Method.PASSWORD, Outcome.ALLOW, account=BOB),
    "code allows": judged(Method.TOTP, Outcome.ALLOW),
    "code of Bob": judged(Method.TOTP, Outcome.ALLOW, account=BOB),
    "code refused": Refused(by=Method.TOTP, reason=RejectReason.CODE_WRONG),
    "recovery code allows": judged(Method.RECOVERY, Outcome.ALLOW),
    "recovery code refused": Refused(by=Method.RECOVERY, reason=RejectReason.CODE_WRONG),
    "message allows": judged(Method.SMS, Outcome.ALLOW),
    "message refused": Refused(by=Method.SMS, reason=RejectReason.CODE_WRONG),
    "call allows": judged(Method.VOICE, Outcome.ALLOW),
    "call of Bob": judged(Method.VOICE, Outcome.ALLOW, account=BOB),
    "call declined": Refused(by=Method.VOICE, reason=RejectReason.DECLINED, ends=True),
}

FINAL = ("signed in", "denied", "dead", "expired", "cancelled")
OPEN = tuple(name for name in STATES if name not in FINAL)

SENT = ("message sent", "too many messages")

# (state, event) -> the state that follows. What is not here is illegal: refused, and nothing changes.
AFTER_PASSWORD = {
    "password allows": SignedIn(account=ALICE),
    "password lacks a code": AwaitingCode(account=ALICE, proofs=(PWD,)),
    "password lacks a second step": AwaitingCode(account=ALICE, proofs=(PWD,), methods=THEN),
    "password lacks a card": Denied(account=ALICE),
    "password denied": Denied(account=ALICE),
}
WAITING = ("code", "second step", "phone", "message sent", "called", "too many messages")
ASKING = {
    "code": Method.TOTP,
    "recovery code": Method.RECOVERY,
    "ask for a message": Method.SMS,
    "ask for a call": Method.VOICE,
    "ask for the app": Method.TOTP,
    "message's code": Method.SMS,
    "call's code": Method.VOICE,
}
DOWNGRADES = {
    (state, event): replace(STATES[state], attempts=1)
    for state in WAITING
    for event, by in ASKING.items()
    if by not in STATES[state].methods
}
STARTED = ("started", "started, tries spent", "started for Alice", "started for nobody")
LEGAL = {
    **{(name, "card"): Judging() for name in STARTED},
    ("started", "key"): Judging(by=Method.KEY),
    ("started, tries spent", "key"): Judging(by=Method.KEY),
    ("started for Alice", "key"): Judging(by=Method.KEY, account=ALICE),
    ("started for nobody", "key"): Judging(by=Method.KEY, account=login.NOBODY),
    ("started", "password"): Started(attempts=1),
    ("started for Alice", "password"): Started(attempts=1, expected=ALICE),
    ("started for nobody", "password"): Started(attempts=1, expected=login.NOBODY),
    ("started, tries spent", "password"): Dead(reason="too-many-attempts"),
    ("password", "password"): AwaitingPassword(account=ALICE, doubts=DOUBT, attempts=1),
    ("password, tries spent", "password"): Dead(reason="too-many-attempts"),
    ("code", "code"): AwaitingCode(account=ALICE, proofs=(PWD,), attempts=1),
    ("code, tries spent", "code"): Dead(reason="too-many-attempts"),
    ("judging", "card allows"): SignedIn(account=ALICE),
    ("judging", "card in doubt"): AwaitingPassword(account=ALICE, doubts=DOUBT),
    ("judging", "card lacks a password"): AwaitingPassword(account=ALICE, proofs=(CARD,)),
    ("judging", "card lacks a code"): AwaitingCode(account=ALICE, proofs=(CARD,)),
    ("judging", "card denied"): Denied(account=ALICE),
    ("judging", "card refused"): Dead(reason="signature-invalid"),
    ("judging a key", "key of Bob"): SignedIn(account=BOB),
    **{(name, "key allows"): SignedIn(account=ALICE) for name in ("judging a key", "judging Alice's key")},
    **{
        (name, "key lacks a password"): AwaitingPassword(account=ALICE, proofs=(KEY,))
        for name in ("judging a key", "judging Alice's key")
    },
    **{
        (name, "key refused"): Dead(reason="signature-invalid")
        for name in ("judging a key", "judging Alice's key", "judging nobody's key")
    },
    ("second step", "key"): Judging(by=Method.KEY, account=ALICE, proofs=(PWD,)),
    ("second step", "code"): AwaitingCode(account=ALICE, proofs=(PWD,), methods=THEN, attempts=1),
    ("second step", "recovery code"): AwaitingCode(account=ALICE, proofs=(PWD,), methods=THEN, attempts=1),
    ("second step", "recovery code allows"): SignedIn(account=ALICE),
    ("second step", "recovery code refused"): STATES["second step"],
    **DOWNGRADES,
    **{
        ("code, tries spent", event): Dead(reason="too-many-attempts") for event in ASKING if event != "ask for the app"
    },
    **{
        (name, "ask for a message"): replace(STATES[name], started=Method.SMS, starts=STATES[name].starts + 1)
        for name in ("phone", "message sent", "called")
    },
    **{
        (name, "ask for a call"): replace(STATES[name], started=Method.VOICE, starts=STATES[name].starts + 1)
        for name in ("phone", "message sent", "called")
    },
    **{("too many messages", event): STATES["too many messages"] for event in ("ask for a message", "ask for a call")},
    **{(name, "message's code"): replace(STATES[name], attempts=1) for name in SENT},
    **{(name, "message allows"): SignedIn(account=ALICE) for name in SENT},
    **{(name, "message refused"): STATES[name] for name in SENT},
    ("called", "approval"): STATES["called"],
    ("called", "call allows"): SignedIn(account=ALICE),
    # Whoever declines ends the sign-in, also one that has gone on to something else since.
    **{
        (name, "call declined"): Dead(reason="declined")
        for name in ("phone", "message sent", "called", "too many messages")
    },
    **{(name, "cancel"): Cancelled() for name in OPEN},
    **{(name, "time"): Expired() for name in OPEN},
    **{
        (name, event): state
        for name in (*STARTED, "password", "password, tries spent")
        for event, state in AFTER_PASSWORD.items()
    },
    **{(name, "password refused"): STATES[name] for name in (*STARTED, "password", "password, tries spent")},
    **{(name, "password of Bob"): SignedIn(account=BOB) for name in STARTED},
    **{(name, "code allows"): SignedIn(account=ALICE) for name in ("code", "code, tries spent", "second step")},
    **{(name, "code refused"): STATES[name] for name in ("code", "code, tries spent", "second step")},
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(STATES, EVENTS)))
def test_every_pair(state: str, event: str):
    before, result = STATES[state], step(STATES[state], EVENTS[event])
    if (state, event) in LEGAL:
        assert result.state == LEGAL[state, event]
        assert not any(e == login.Refuse(why=Refusal.NOT_NOW) for e in result.effects)
    else:
        assert result.state == before
        why = Refusal.EXPIRED if state == "expired" else Refusal.NOT_NOW
        assert result.effects == (login.Refuse(why=why),)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(STATES, EVENTS)))
def test_a_session_needs_an_allowing_verdict_and_its_record(state: str, event: str):
    result, happened = step(STATES[state], EVENTS[event]), EVENTS[event]
    opened = [e for e in result.effects if isinstance(e, login.OpenSession)]
    assert bool(opened) == (isinstance(result.state, SignedIn) and state not in FINAL)
    if opened:
        assert isinstance(happened, Judged)
        assert happened.decision.outcome is Outcome.ALLOW
        recorded = [e for e in result.effects if isinstance(e, login.Record)]
        assert [e.what for e in recorded] == [Recorded.SIGNED_IN]
        assert recorded[0].account == opened[0].account == happened.account


@pytest.mark.parametrize("name", STATES)
def test_states_survive_being_stored(name: str):
    assert sign_ins.parse(*sign_ins.dump(STATES[name])) == STATES[name]


@pytest.mark.parametrize(
    ("name", "data", "state"),
    [
        ("Judging", {}, Judging()),
        ("Started", {"attempts": 2}, Started(attempts=2)),
        (
            "AwaitingCode",
            {"account": ALICE, "proofs": [], "doubts": [], "attempts": 1},
            AwaitingCode(account=ALICE, attempts=1),
        ),
    ],
)
def test_what_an_older_version_stored_is_read(name: str, data: dict, state: login.State):
    assert sign_ins.parse(name, data) == state


def test_denied_for_want_of_a_card_is_told_as_denied():
    result = step(Started(), EVENTS["password lacks a card"])
    answer = next(e for e in result.effects if isinstance(e, login.Answer))
    assert answer.decision.outcome is Outcome.DENY
